"""What passes between recognition's parts: a sound, the attempts at making text of it, and what became of it.

Plain values, but for `Recognized`, in which a chunk's text gathers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

from cesar.engines.base import EncodedWindow, Hypothesis, TimedWord
from cesar.pipeline.samples import SAMPLE_RATE, Samples
from cesar.pipeline.speech.chunking import PlannedChunk


@dataclass(frozen=True, slots=True)
class ChunkAudio:
    """A chunk of the plan with its samples."""

    chunk: PlannedChunk
    samples: Samples
    """From `chunk.start` to `chunk.end`."""


@dataclass(frozen=True, slots=True)
class Said:
    """An utterance placed in the recording (seconds from its start), with what is known of its decoding."""

    start: float
    end: float
    text: str
    words: tuple[TimedWord, ...]
    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float
    temperature: float = 0.0
    seek: int = 0
    """Where the window of its decoding begins in the recording, in frames."""
    tokens: tuple[int, ...] = ()
    token_ends: tuple[int, ...] = ()
    """Where each token ends in the text, in bytes of UTF-8."""
    token_logprobs: tuple[float, ...] = ()
    token_bytes: tuple[str, ...] = ()
    language: str = ""


@dataclass(frozen=True, slots=True)
class Doubt:
    """A stretch whose text was not believed, or that gave none."""

    start: float
    end: float
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Spoken:
    """What is known of the language that is spoken in a stretch."""

    language: str
    """That of its text."""
    probability: float
    other: str = ""
    """Another one that is clearly spoken, in spite of that; "unknown" if it is hardly that of the text, but unclear."""
    start: int = 0
    """Where the stretch begins, in samples from the start of the recording."""
    is_whole: bool = True
    """Whether the stretch is a whole chunk."""


@dataclass
class Recognized:
    """What became of one chunk."""

    chunk: PlannedChunk
    said: list[Said] = field(default_factory=list)
    doubts: list[Doubt] = field(default_factory=list)
    heard: list[Spoken] = field(default_factory=list)
    """What is known of the languages of the chunk and of parts of it."""

    @property
    def spoken(self) -> Spoken | None:
        """What is known of the language of the chunk, and of another one in any part of it."""
        whole = [one for one in self.heard if one.is_whole][-1:]
        parts = sorted((one for one in self.heard if not one.is_whole), key=lambda one: one.start)
        other = next((one.other for one in (*whole, *parts) if one.other), "")
        return replace(whole[0], other=other) if whole else None

    def add(self, weighed: Weighed) -> None:
        """Put in its place what one attempt gave."""
        self.said = sorted([*self.said, *weighed.said], key=lambda one: (one.start, one.end))
        self.doubts = sorted([*self.doubts, *weighed.doubts], key=lambda one: (one.start, one.end))
        if weighed.spoken:
            self.heard.append(weighed.spoken)


class Way(IntEnum):
    """How a stretch is tried, the cheapest first."""

    NARROW = 0
    """In a short window, by a search narrower than the usual one."""
    WIDE = 1
    """In the same window by the usual search, or by the caller's own."""
    FULL = 2
    """In the full window that Whisper was trained on."""
    UNREPEATING = 3
    """In a full window, and it is made costly to say the same again."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a part of a sound: `start` and `end` in samples from the start of the recording."""

    sound: ChunkAudio
    start: int
    end: int
    way: Way
    encoded: EncodedWindow | None = None
    """Its window after the encoder, once that has run."""
    before: Decoded | None = None
    """The best attempt at the same part before this one."""
    language: str = ""
    """What the text is looked for in; empty: the recogniser's usual one."""
    rival: Rival | None = None
    """The attempt at the same part in another language, beside which this one is to be judged."""
    tried: tuple[str, ...] = ()
    """The languages that were weighed for this part; empty: nobody has looked yet."""
    is_prompted: bool = True
    """Whether the caller's prompt and hotwords are put before the text, if there are any."""
    prompted: Decoded | None = None
    """What the prompt had made of the same part: this attempt goes without it, to see whether to believe that."""

    @property
    def duration(self) -> float:
        return (self.end - self.start) / SAMPLE_RATE

    @property
    def is_whole(self) -> bool:
        """Whether it is at all of its sound."""
        return (self.start, self.end) == (self.sound.chunk.start, self.sound.chunk.end)

    @property
    def samples(self) -> Samples:
        """The part's sound."""
        offset = self.sound.chunk.start
        return self.sound.samples[self.start - offset : self.end - offset]


@dataclass(frozen=True, slots=True)
class Rival:
    """An attempt in one language, kept until there is one in another."""

    decoded: Decoded
    heard: Mapping[str, float]
    """The probability of each language."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """An attempt with what came of it."""

    attempt: Attempt
    hypothesis: Hypothesis

    @property
    def is_empty(self) -> bool:
        return not self.hypothesis.text


@dataclass(frozen=True, slots=True)
class Weighed:
    """What is taken of an attempt, and what is still to be tried."""

    said: Sequence[Said] = ()
    doubts: Sequence[Doubt] = ()
    again: Sequence[Attempt] = ()
    spoken: Spoken | None = None
