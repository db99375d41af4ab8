"""The values of a transcript: frozen, and convertible to plain JSON and back.

Every time is in seconds from the start of the recording, rounded to milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

SpanKind = Literal["speech", "silence", "dropped"]
Phase = Literal["fetching", "loading", "recognising"]
NOT_ASKED_FOR = "not asked for"
"""The reason of a dropped span outside the requested start and end."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word as it is written in its segment, without the spaces around it."""

    start: float
    end: float
    text: str
    probability: float
    """The model's probability of the word's tokens, geometric mean, 0 to 1."""


@dataclass(frozen=True, slots=True, repr=False)
class Segment:
    """A sentence, or the part of one that was spoken without a long pause."""

    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()
    """Empty unless word timestamps were requested."""
    avg_logprob: float = 0.0
    """Mean log-probability of the tokens of the decoding pass that produced this segment."""
    compression_ratio: float = 0.0
    """Length of that pass's text divided by its compressed (zlib) length; above 2.4 the text repeats itself."""
    no_speech_prob: float = 0.0
    temperature: float = 0.0
    """The temperature at which its tokens were sampled; 0 means greedy or beam search."""
    seek: int = 0
    """The frame (100 per second) at which that pass's window begins in the recording."""
    tokens: tuple[int, ...] = ()
    """The text as the model's tokens, without timestamps."""
    token_logprobs: tuple[float, ...] = ()
    """The log-probability of each token, given the preceding ones; empty unless requested."""
    token_bytes: tuple[str, ...] = ()
    """The UTF-8 bytes of each token in hexadecimal; empty unless log-probabilities were requested."""
    language: str = ""
    """Code of the spoken language, also where the text is a translation; empty in transcripts of older versions."""

    def __repr__(self) -> str:
        words = f", {len(self.words)} words" if self.words else ""
        return f"<Segment {self.start:g} to {self.end:g} s{words}: {_shorten(self.text)}>"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the recording, and whether it was transcribed, silent or dropped."""

    start: float
    end: float
    kind: SpanKind
    reason: str | None = None
    """Why the stretch was dropped; None for speech and silence."""
    text: str | None = None
    """The dropped text, if there was any: nothing is discarded invisibly."""


@dataclass(frozen=True, slots=True, repr=False)
class Chunk:
    """The result for one stretch of the recording, independent of every other stretch.

    A resumed run passes finished chunks in (`done=`) to skip their recognition.
    """

    start: float
    end: float
    segments: tuple[Segment, ...]
    ledger: tuple[Span, ...]
    """Covers start to end without gaps or overlaps."""
    warnings: tuple[str, ...] = ()
    language_probability: float = 0.0
    """Probability that the text is in the spoken language; 0 where it was not determined."""
    other_language: str = ""
    """The language clearly spoken here, if the text is in another one; "unknown" if it is unlikely to be that of the
    text; else empty."""

    def __repr__(self) -> str:
        text = " ".join(segment.text for segment in self.segments[:_MAX_REPR_CHARACTERS])
        return f"<Chunk {self.start:g} to {self.end:g} s, {_count_segments(self.segments)}: {_shorten(text)}>"


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a transcription."""

    phase: Phase
    position: float
    """Everything before this position, in seconds, is done."""
    duration: float | None
    """Length of the recording in seconds; None while it is unknown."""
    worked: float = 0.0
    """The amount of work done, in seconds of the recording: what is encoded or recognised beyond `position`
    counts by its share of the work. Never less than `position` in what a transcription reports."""

    @property
    def fraction(self) -> float | None:
        """Fraction of the work that is done, 0 to 1; None while the length is unknown."""
        return min(1.0, max(self.position, self.worked) / self.duration) if self.duration else None


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Exactly which weights were used, and how they were run."""

    name: str
    revision: str
    """The publisher's revision if known, else "unknown"."""
    digest: str
    """SHA-256 of model.bin, hexadecimal."""
    device: str
    compute_type: str


@dataclass(frozen=True, slots=True)
class Origin:
    """Which program made a transcript, when, and from which recording; None means unknown."""

    program: str = "Cesar"
    version: str | None = None
    transcribed_at: str | None = None
    """When the transcription ended: ISO 8601, UTC."""
    recording: str | None = None
    """The recording's name, without its folder."""
    recorded_at: str | None = None
    """When the recording was made, ISO 8601: in UTC if the source states a time zone; a date if it states no time."""
    recorded_at_source: Literal["media", "file"] | None = None
    """`media`: the file's own tags; `file`: its modification time, which copying may have changed."""


@dataclass(frozen=True, slots=True, repr=False)
class Transcript:
    """The transcript of a whole recording, and how it was made."""

    segments: tuple[Segment, ...]
    language: str
    """The spoken language: ISO 639-1 (639-3 where there is no such code), or "unknown" when nothing was said."""
    language_probability: float
    duration: float
    """Length of the recording in seconds."""
    model: ModelIdentity
    settings: Mapping[str, Any] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    """Seconds of work per stage; stages overlap, so they may add up to more than `total`."""
    warnings: tuple[str, ...] = ()
    ledger: tuple[Span, ...] = ()
    """Every second of the recording as speech, silence or dropped, without gaps or overlaps."""
    is_partial: bool = False
    """Whether the recording is still being transcribed."""
    origin: Origin = field(default=Origin(), compare=False)
    """How the transcript was made. Not compared: the same text recognised later is the same transcript."""

    def __repr__(self) -> str:
        """Return a summary short enough for a notebook; `to_dict` has everything."""
        facts = [f"{self.duration:g} s", self.language, _count_segments(self.segments)]
        if self.warnings:
            facts.append(f"{len(self.warnings)} warning{'s'[: len(self.warnings) > 1]}")
        if self.is_partial:
            facts.append("unfinished")
        return f"<Transcript {', '.join(facts)}: {_shorten(self.text)}>"

    @property
    def text(self) -> str:
        """The text of all segments as running text."""
        pieces = list[str]()
        for segment in self.segments:
            if pieces and self.language_of(segment) not in UNSPACED_LANGUAGES:
                pieces.append(" ")
            pieces.append(segment.text)
        return "".join(pieces)

    @property
    def text_language(self) -> str:
        """The language of the text: the spoken language, or English if it was translated."""
        return "en" if self.settings.get("task") == "translate" else self.language

    def language_of(self, segment: Segment) -> str:
        """Return the language of a segment's text, which may differ from that of the recording."""
        return "en" if self.settings.get("task") == "translate" else segment.language or self.language

    @property
    def duration_asked_for(self) -> float:
        """Seconds of the recording to transcribe: all of it, unless a start or end was requested."""
        left_out = sum(span.end - span.start for span in self.ledger if span.reason == NOT_ASKED_FOR)
        return round(self.duration - left_out, 3)

    def to_dict(self) -> dict[str, Any]:
        """Return the transcript as plain JSON values; `from_dict` is the inverse."""
        data = asdict(self)
        return {"origin": data.pop("origin"), "text": self.text, **data}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Transcript:
        """Build a transcript from the result of `to_dict`."""
        known = {key: value for key, value in data.items() if key != "text"}
        known["segments"] = tuple(segment_from_dict(item) for item in data["segments"])
        known["ledger"] = tuple(Span(**item) for item in data["ledger"])
        known["warnings"] = tuple(data["warnings"])
        known["model"] = ModelIdentity(**data["model"])
        known["origin"] = Origin(**data.get("origin", {}))  # older versions have none
        return cls(**known)


_MAX_REPR_CHARACTERS = 60
"""Maximum number of characters of text in a `repr`."""


def _shorten(text: str) -> str:
    return repr(text if len(text) <= _MAX_REPR_CHARACTERS else f"{text[: _MAX_REPR_CHARACTERS - 1].rstrip()}…")


def _count_segments(segments: Sequence[Segment]) -> str:
    return "1 segment" if len(segments) == 1 else f"{len(segments)} segments"


UNSPACED_LANGUAGES = frozenset({"zh", "ja", "th", "lo", "my", "km", "bo", "yue"})
"""Languages written without spaces between words or sentences."""


def segment_from_dict(data: Mapping[str, Any]) -> Segment:
    """Build a segment from its plain JSON form."""
    known = dict(data)
    known["words"] = tuple(Word(**word) for word in data["words"])
    for name in ("tokens", "token_logprobs", "token_bytes"):  # older versions have none
        known[name] = tuple(data.get(name, ()))
    return Segment(**known)


def chunk_from_dict(data: Mapping[str, Any]) -> Chunk:
    """Build a chunk from its plain JSON form (`dataclasses.asdict`)."""
    return Chunk(
        start=data["start"],
        end=data["end"],
        segments=tuple(segment_from_dict(item) for item in data["segments"]),
        ledger=tuple(Span(**item) for item in data["ledger"]),
        warnings=tuple(data["warnings"]),
        language_probability=data.get("language_probability", 0.0),
        other_language=data.get("other_language", ""),
    )
