"""The one seam to models: `Engine`, which the pipeline uses, and the values that cross it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cesar.transcript import ModelIdentity


@dataclass(frozen=True, slots=True)
class Window:
    """The encoder's input: the log-mel of a stretch of sound, padded with silence to the window's length."""

    log_mel: npt.NDArray[np.float32]
    """float32[n_mels, frames], 100 frames a second."""
    start: float
    """In seconds from the start of the recording."""
    duration: float
    """Seconds of sound in it; the rest is padding."""


@dataclass(frozen=True, slots=True)
class EncodedWindow:
    """A window after the encoder. Only the engine that made it can read `encoding`; the log-mel may be gone."""

    window: Window
    encoding: object


@dataclass(frozen=True, slots=True)
class DecodeSettings:
    """How windows become text."""

    language: str
    task: str = "transcribe"
    prompt: str | None = None
    hotwords: str | None = None
    beam_size: int = 5
    avoid_repetition: bool = False
    """Penalise repetition: for a second pass over a window whose text repeated itself."""
    max_tokens: int | None = None
    """A limit below the model's own: speech has so many tokens a second, a loop has more."""
    temperature: float = 0.0
    """Above 0: sample each token, with a seed that depends on the window alone."""
    token_logprobs: bool = False
    """Whether to return the log-probability of each token."""

    @property
    def text_language(self) -> str:
        """The language of the text: the spoken one, or English for a translation."""
        return "en" if self.task == "translate" else self.language


@dataclass(frozen=True, slots=True)
class Utterance:
    """Text between two timestamps, in seconds from the start of its window."""

    start: float
    end: float
    text: str
    tokens: tuple[int, ...] = ()
    """The text as tokens of the model."""
    token_ends: tuple[int, ...] = ()
    """Where each token ends in the text, in bytes of UTF-8."""
    token_logprobs: tuple[float, ...] = ()
    """The log-probability of each token after those before it; empty unless requested."""
    token_bytes: tuple[str, ...] = ()
    """The bytes of each token, in hexadecimal; empty unless log-probabilities are requested."""
    is_open: bool = False
    """The model gave no closing timestamp: `end` is the end of the window's sound."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """The text of one window, and how sure the model is of it."""

    utterances: tuple[Utterance, ...]
    avg_logprob: float
    no_speech_prob: float
    token_count: int
    is_cut_off: bool = False
    """The limit of tokens was reached before the text ended."""
    temperature: float = 0.0
    """The sampling temperature; 0: greedy or beam search."""
    min_utterance_logprob: float | None = None
    """Mean log-probability of the least likely utterance; None if unknown."""
    languages: Mapping[str, float] = field(default_factory=dict)
    """The probability of each language, as `Engine.language_probabilities` returns it; empty if unknown."""

    @property
    def text(self) -> str:
        """All utterances as one string."""
        return "".join(utterance.text for utterance in self.utterances).strip()


@dataclass(frozen=True, slots=True)
class TimedWord:
    """A word found in a window, in seconds from the window's start. `end` is the model's guess, often late."""

    start: float
    end: float
    text: str
    probability: float


class Engine(Protocol):
    """A recogniser. Every method may be called from several threads at once."""

    identity: ModelIdentity
    n_mels: int
    """Number of mel bands."""
    languages: frozenset[str]
    """Codes of the languages it knows. If there is one, there is nothing to detect."""

    def encode(self, window: Window) -> EncodedWindow:
        """Run the encoder on one window."""

    def language_probabilities(
        self, encoded: EncodedWindow, part: tuple[float, float] | None = None
    ) -> Mapping[str, float]:
        """Return the probability of each language, in a part only if given: in seconds from the window's start."""

    def decode(self, batch: Sequence[EncodedWindow], settings: DecodeSettings) -> list[Hypothesis]:
        """Return the text of each window. All windows of a batch have the same number of frames."""

    def align(
        self, encoded: EncodedWindow, utterances: Sequence[Utterance], settings: DecodeSettings
    ) -> list[list[TimedWord]]:
        """Return the words of each utterance, which was decoded from this window, with their times."""
