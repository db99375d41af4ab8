"""The interface between the pipeline and speech models: `Engine` and the values it takes and returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cesar.transcript import ModelIdentity


@dataclass(frozen=True, slots=True)
class Window:
    """Input of the encoder: the log-mel spectrogram of a stretch of audio, padded with silence."""

    log_mel: npt.NDArray[np.float32]
    """float32[n_mels, frames], 100 frames a second."""
    start: float
    """Seconds from the start of the recording."""
    duration: float
    """Seconds of audio in the window; the rest is padding."""


@dataclass(frozen=True, slots=True)
class EncodedWindow:
    """An encoded window. Only the engine that made it can read `encoding`; the log-mel may have been dropped."""

    window: Window
    encoding: object


@dataclass(frozen=True, slots=True)
class DecodeSettings:
    """Settings for decoding windows to text."""

    language: str
    task: str = "transcribe"
    prompt: str | None = None
    hotwords: str | None = None
    beam_size: int = 5
    avoid_repetition: bool = False
    """Penalise repetition, for a second pass over a window whose text repeated itself."""
    max_tokens: int | None = None
    """A limit below the model's own; a repetition loop exceeds the token rate of speech."""
    temperature: float = 0.0
    """Above 0, each token is sampled with a seed derived from the window alone."""
    token_logprobs: bool = False
    """Whether to return the log-probability of each token."""

    @property
    def text_language(self) -> str:
        """Language of the text: the spoken language, or English for a translation."""
        return "en" if self.task == "translate" else self.language


@dataclass(frozen=True, slots=True)
class Utterance:
    """Text between two timestamps, in seconds from the start of its window."""

    start: float
    end: float
    text: str
    tokens: tuple[int, ...] = ()
    """The model's tokens for the text."""
    token_ends: tuple[int, ...] = ()
    """End of each token in the text, as a UTF-8 byte offset."""
    token_logprobs: tuple[float, ...] = ()
    """Log-probability of each token given the previous ones; empty unless requested."""
    token_bytes: tuple[str, ...] = ()
    """Bytes of each token in hexadecimal; empty unless log-probabilities are requested."""
    is_open: bool = False
    """The model gave no closing timestamp: `end` is the end of the window's audio."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """The text of one window and the model's confidence in it."""

    utterances: tuple[Utterance, ...]
    avg_logprob: float
    no_speech_prob: float
    token_count: int
    is_cut_off: bool = False
    """The token limit was reached before the text ended."""
    temperature: float = 0.0
    """Sampling temperature; 0 for greedy or beam search."""
    min_utterance_logprob: float | None = None
    """Mean log-probability of the least likely utterance; None if unknown."""
    languages: Mapping[str, float] = field(default_factory=dict)
    """Probability of each language, as `Engine.language_probabilities` returns it; empty if unknown."""

    @property
    def text(self) -> str:
        """All utterances joined into one string."""
        return "".join(utterance.text for utterance in self.utterances).strip()


@dataclass(frozen=True, slots=True)
class TimedWord:
    """A word and its times in seconds from the window's start. `end` is the model's estimate and often late."""

    start: float
    end: float
    text: str
    probability: float


class Engine(Protocol):
    """A speech model. Every method may be called from several threads at once."""

    identity: ModelIdentity
    n_mels: int
    """Number of mel bands it expects."""
    languages: frozenset[str]
    """Codes of the languages it supports. With only one, no detection is needed."""

    def encode(self, window: Window) -> EncodedWindow:
        """Run the encoder on one window."""

    def language_probabilities(
        self, encoded: EncodedWindow, part: tuple[float, float] | None = None
    ) -> Mapping[str, float]:
        """Return the probability of each language; part: start and end in seconds from the window's start."""

    def decode(self, batch: Sequence[EncodedWindow], settings: DecodeSettings) -> list[Hypothesis]:
        """Return the text of each window. All windows of a batch must have the same number of frames."""

    def align(
        self, encoded: EncodedWindow, utterances: Sequence[Utterance], settings: DecodeSettings
    ) -> list[list[TimedWord]]:
        """Return the timed words of each utterance; the utterances must have been decoded from this window."""
