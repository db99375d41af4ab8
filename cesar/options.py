"""The options of a transcription: `TranscribeOptions`. Each option is declared once, here.

Derived from the declarations are the checks, the flags of the command line (`cesar.cli.flags.options`), the fields of
requests and jobs over HTTP (`cesar.api.http.option_fields`), and the tables in docs/reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from cesar.argument_checks import coerce_types
from cesar.engines.languages import language_code
from cesar.errors import UsageError
from cesar.option_declarations import Flag, Option, declared_options, option

MAX_SECONDS = 10**9
"""The latest allowed time in a recording: 30 years. Beyond it, counting samples would overflow."""
MAX_TEXT = 64 * 1024
"""Maximum number of characters of a text in a request."""
Task = Literal["transcribe", "translate"]
Track = int | Literal["all"]


@dataclass(frozen=True, slots=True)
class TranscribeOptions:
    """How to transcribe a recording.

    Raises `UsageError` (or `UnknownLanguage`) for an invalid value.
    """

    language: str | None = option(
        None,
        "The spoken language.",
        details="An ISO 639 code (`de`, `ger`), a tag (`pt-BR`) or a name (`German`, `Deutsch`).",
        unset="detected",
        max_length=64,
        example="en",
        metavar="CODE",
        short="-l",
    )
    languages: tuple[str, ...] = option(
        (),
        "Candidate languages, such as en,nl.",
        details="Separated by commas; the detected language is one of these.",
        unset="all that the model supports",
        max_length=1024,
        example="en,nl",
        metavar="CODES",
    )
    task: Task = option(
        "transcribe",
        "`transcribe`, or `translate` for English text.",
        details="Only multilingual models translate.",
        flag=Flag("translate", "Translate into English; multilingual models only."),
    )
    prompt: str | None = option(
        None,
        "Text in the style to follow: names, spelling, punctuation.",
        details="It precedes every chunk.",
        max_length=MAX_TEXT,
        metavar="TEXT",
    )
    hotwords: str | None = option(
        None,
        "Expected words, separated by spaces or commas.",
        details="If the text consists of nothing but them, or the prompt, and the audio does not confirm them, the "
        "chunk is recognised without them.",
        max_length=MAX_TEXT,
        metavar="TEXT",
    )
    word_timestamps: bool = option(
        False,
        "Time every word: listed in json, used for cues.",
        details="`srt` and `vtt` split long sentences by them.",
    )
    track: Track | None = option(
        None,
        "The audio track to transcribe.",
        details="Counted from 1; `all` mixes them. A warning names other tracks with speech.",
        unset="the one with speech",
        minimum=1,
        metavar="N|all",
    )
    start: float = option(
        0.0,
        "Start time.",
        details="Times in the transcript still count from the start of the recording.",
        minimum=0,
        maximum=MAX_SECONDS,
        unit="seconds",
        metavar="TIME",
    )
    end: float | None = option(
        None,
        "End time.",
        unset="the end of the recording",
        minimum=0,
        maximum=MAX_SECONDS,
        unit="seconds",
        metavar="TIME",
    )
    beam_size: int = option(
        1,
        "Hypotheses kept; more is slower.",
        details="With 1 (greedy), uncertain text is decoded again with 5.",
        minimum=1,
        maximum=32,
        metavar="N",
    )
    temperature: float = option(
        0.0,
        "Sample tokens instead of taking the likeliest.",
        details="Higher values are more random, and slower: a recording takes twice as long at 0.2, six times at 1. "
        "Sampling is reproducible.",
        minimum=0,
        maximum=1,
        metavar="T",
    )
    token_logprobs: bool = option(
        False,
        "Compute the log-probability of every token.",
        details="A recording takes a third to two thirds longer.",
        is_library_only=True,
    )

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain JSON values."""
        return {**asdict(self), "languages": list(self.languages)}

    def requested_s(self, duration_s: float) -> float:
        """Return the requested seconds of a recording of this length: all, unless start or end limits them."""
        end = duration_s if self.end is None else min(self.end, duration_s)
        return max(0.0, end - self.start)

    def __post_init__(self) -> None:
        coerce_types(self)
        if self.language is not None:
            object.__setattr__(self, "language", language_code(self.language))
        self._normalise_languages()
        for name, declared in OPTIONS.items():
            declared.check(getattr(self, name))
        if self.end is not None and not self.start < self.end:
            raise UsageError(f"the end ({self.end} s) must come after the start ({self.start} s)")

    def _normalise_languages(self) -> None:
        """Convert the candidates to unique codes; a single one becomes the language."""
        given: Sequence[str] | str = self.languages
        names = given.split(",") if isinstance(given, str) else given
        codes = tuple(dict.fromkeys(map(language_code, names)))
        if codes and self.language is not None:
            raise UsageError("language and languages can't be used together", hint="Omit one of them.")
        if len(codes) == 1:
            object.__setattr__(self, "language", codes[0])
        object.__setattr__(self, "languages", codes if len(codes) > 1 else ())


OPTIONS: Mapping[str, Option] = declared_options(TranscribeOptions)
"""Every option by name, in display order."""
SHARED_OPTIONS = {name: declared for name, declared in OPTIONS.items() if not declared.is_library_only}
"""The options that commands and requests also have."""
