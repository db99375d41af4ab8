"""The values of recognition: a chunk's sound, the attempts to decode it, and their outcome.

All are plain values except `Recognized`, which collects the text of a chunk.
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
class PlacedUtterance:
    """An utterance with its times in the recording, in seconds from the start, and the statistics of its decoding."""

    start: float
    end: float
    text: str
    words: tuple[TimedWord, ...]
    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float
    temperature: float = 0.0
    seek: int = 0
    """Start of its window in the recording, in frames."""
    tokens: tuple[int, ...] = ()
    token_ends: tuple[int, ...] = ()
    """Where each token ends in the text, in UTF-8 bytes."""
    token_logprobs: tuple[float, ...] = ()
    token_bytes: tuple[str, ...] = ()
    language: str = ""


@dataclass(frozen=True, slots=True)
class RejectedSpan:
    """A stretch whose text was rejected, or that yielded none."""

    start: float
    end: float
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class LanguageEvidence:
    """The language spoken in a stretch, as far as it is known."""

    language: str
    """The language of its text."""
    probability: float
    other: str = ""
    """Another language that is clearly spoken; "unknown" if that of the text is unlikely and no other is clear."""
    start: int = 0
    """Start of the stretch, in samples from the start of the recording."""
    is_whole: bool = True
    """Whether the stretch is a whole chunk."""


@dataclass
class Recognized:
    """The result of one chunk."""

    chunk: PlannedChunk
    accepted: list[PlacedUtterance] = field(default_factory=list)
    rejected: list[RejectedSpan] = field(default_factory=list)
    all_evidence: list[LanguageEvidence] = field(default_factory=list)
    """Language evidence from the chunk and from parts of it."""

    @property
    def evidence(self) -> LanguageEvidence | None:
        """The language of the chunk, and another language if one is clearly spoken in any part of it."""
        whole = [one for one in self.all_evidence if one.is_whole][-1:]
        parts = sorted((one for one in self.all_evidence if not one.is_whole), key=lambda one: one.start)
        other = next((one.other for one in (*whole, *parts) if one.other), "")
        return replace(whole[0], other=other) if whole else None

    def add(self, evaluation: Evaluation) -> None:
        """Merge the evaluation of one attempt."""
        self.accepted = sorted([*self.accepted, *evaluation.accepted], key=lambda one: (one.start, one.end))
        self.rejected = sorted([*self.rejected, *evaluation.rejected], key=lambda one: (one.start, one.end))
        if evaluation.evidence:
            self.all_evidence.append(evaluation.evidence)


class DecodingPass(IntEnum):
    """How a stretch is decoded, the cheapest pass first."""

    GREEDY = 0
    """In a short window, with a beam narrower than `RecognizeSettings.fallback_beam_size`."""
    BEAM = 1
    """In the same window, with the fallback beam, or the caller's if it is wider."""
    FULL_WINDOW = 2
    """In the full 30 s window that Whisper was trained on."""
    NO_REPEAT = 3
    """In the full window, with a penalty on repetition."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to decode a part of a chunk; `start` and `end` are samples from the start of the recording."""

    sound: ChunkAudio
    start: int
    end: int
    decoding_pass: DecodingPass
    encoded: EncodedWindow | None = None
    """Its encoded window, once the encoder has run."""
    before: Decoded | None = None
    """The best earlier attempt at the same part."""
    language: str = ""
    """The language to decode in; empty: the recogniser's default."""
    rival: Rival | None = None
    """The attempt at the same part in another language, to compare this one with."""
    tried: tuple[str, ...] = ()
    """The languages tried for this part; empty: not checked yet."""
    is_prompted: bool = True
    """Whether to decode with the caller's prompt and hotwords, if any."""
    prompted: Decoded | None = None
    """The result with the prompt, which this attempt without it is to confirm."""

    @property
    def duration(self) -> float:
        return (self.end - self.start) / SAMPLE_RATE

    @property
    def is_whole(self) -> bool:
        """Whether it covers the whole chunk."""
        return (self.start, self.end) == (self.sound.chunk.start, self.sound.chunk.end)

    @property
    def samples(self) -> Samples:
        """The samples of this part."""
        offset = self.sound.chunk.start
        return self.sound.samples[self.start - offset : self.end - offset]


@dataclass(frozen=True, slots=True)
class Rival:
    """An attempt in one language, kept for comparison with an attempt in another."""

    decoded: Decoded
    probabilities: Mapping[str, float]
    """Probability by language."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """An attempt with its hypothesis."""

    attempt: Attempt
    hypothesis: Hypothesis

    @property
    def is_empty(self) -> bool:
        return not self.hypothesis.text


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was accepted and rejected of an attempt, and the attempts still to make."""

    accepted: Sequence[PlacedUtterance] = ()
    rejected: Sequence[RejectedSpan] = ()
    retries: Sequence[Attempt] = ()
    evidence: LanguageEvidence | None = None
