"""What a caller may ask of one transcription: `TranscribeOptions`, checked when it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from cesar.argument_checks import settle_types
from cesar.engines.languages import language_code
from cesar.errors import UsageError

MOST_SECONDS = 10**9
"""The latest time in a recording that may be asked for: 30 years. Beyond it, counting samples would overflow."""
Task = Literal["transcribe", "translate"]
Track = int | Literal["all"]


@dataclass(frozen=True, slots=True)
class TranscribeOptions:
    """How one recording is to be transcribed.

    Raises `UsageError` (or `UnknownLanguage`) when a value can't be used.
    """

    language: str | None = None
    """The language spoken: an ISO 639 code, a tag or a name; None detects it, chunk by chunk."""
    languages: tuple[str, ...] = ()
    """The languages to choose from when it is detected, as a sequence or a text with commas; empty: all."""
    task: Task = "transcribe"
    """`translate` gives English text whatever is spoken (multilingual models only)."""
    prompt: str | None = None
    """Text in the style to be followed: names, spelling, punctuation. Put before every chunk."""
    hotwords: str | None = None
    """Words to be expected, separated by spaces or commas."""
    word_timestamps: bool = False
    track: Track | None = None
    """Which audio track of several, counted from 1; `all` mixes them. None takes the one that holds speech."""
    start: float = 0.0
    """Where to begin, in seconds; times in the transcript still count from the start of the recording."""
    end: float | None = None
    """Where to stop, in seconds; None is the end of the recording."""
    beam_size: int = 1
    """Hypotheses kept while decoding. 1 is greedy: what the model is unsure of is looked for again with 5. More costs
    more time, and gives hardly fewer errors."""
    temperature: float = 0.0
    """0: the likeliest text. Above, to 1: draw each token, the more freely the higher; the same recording and
    temperature draw the same."""
    token_logprobs: bool = False
    """Whether the log-probability of each token is wanted."""

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain JSON values."""
        return {**asdict(self), "languages": list(self.languages)}

    def __post_init__(self) -> None:
        settle_types(self)
        if self.language is not None:
            object.__setattr__(self, "language", language_code(self.language))
        self._read_languages()
        if self.task not in ("transcribe", "translate"):
            raise UsageError(f"the task {self.task!r} is not known", hint="Use transcribe or translate.")
        for what, text in (("prompt", self.prompt), ("hotwords", self.hotwords)):
            if text and any("\ud800" <= letter <= "\udfff" for letter in text):  # bytes that are no UTF-8
                raise UsageError(f"the {what} {text!r} is not text", hint="Set the terminal's encoding to UTF-8.")
        if not 1 <= self.beam_size <= 32:
            raise UsageError(f"a beam size of {self.beam_size} can't be used", hint="Use 1 to 32; 1 is usual.")
        if not 0 <= self.temperature <= 1:
            raise UsageError(f"a temperature of {self.temperature} can't be used", hint="Use 0 to 1; 0 is usual.")
        _require_track(self.track)
        if not 0 <= self.start <= MOST_SECONDS:  # also not for NaN
            hint = f"Use 0 to {MOST_SECONDS} seconds."
            raise UsageError(f"a start of {self.start} s can't be used", hint=hint)
        if self.end is not None and not self.start < self.end:
            raise UsageError(f"the end ({self.end} s) must come after the start ({self.start} s)")
        if self.end is not None and self.end > MOST_SECONDS:
            hint = f"Leave it out, or use up to {MOST_SECONDS} seconds."
            raise UsageError(f"an end of {self.end} s can't be used", hint=hint)

    def _read_languages(self) -> None:
        """Write the candidates as codes, each once; a single one is the language."""
        given: Sequence[str] | str = self.languages
        names = given.split(",") if isinstance(given, str) else given
        codes = tuple(dict.fromkeys(map(language_code, names)))
        if codes and self.language is not None:
            raise UsageError("language and languages can't be used together", hint="Leave one of them out.")
        if len(codes) == 1:
            object.__setattr__(self, "language", codes[0])
        object.__setattr__(self, "languages", codes if len(codes) > 1 else ())


def _require_track(track: object) -> None:
    if not (track in (None, "all") or (type(track) is int and track >= 1)):
        raise UsageError(f"the track {track!r} can't be used", hint="Use 1, 2, 3 and so on, or all.")
