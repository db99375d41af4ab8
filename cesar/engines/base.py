"""The one seam to models: what the pipeline asks of any recogniser, and the values that cross it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cesar.transcript import ModelIdentity


@dataclass(frozen=True, slots=True)
class Window:
    """Sound as a model takes it: the log-mel of one stretch, filled up with silence to the window's length."""

    log_mel: npt.NDArray[np.float32]
    """float32[n_mels, frames], 100 frames a second."""
    start: float
    """Where the window begins, in seconds from the start of the recording."""
    duration: float
    """Seconds of real sound in it; the rest is filling."""


@dataclass(frozen=True, slots=True)
class EncodedWindow:
    """A window after the encoder: opaque to all but the engine that made it, which need not keep the log-mel."""

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
    """Make it costly to say the same again: for a second attempt at a window whose text ran in circles."""
    max_tokens: int | None = None
    """Where to give up, if that is before the model's own limit: speech has so many tokens a second, a loop more."""
    temperature: float = 0.0
    """Above 0: draw each token from its distribution, sharpened by this, with dice that depend on the window alone."""
    token_logprobs: bool = False
    """Whether the log-probability of each token is wanted."""

    @property
    def text_language(self) -> str:
        """The language of the text: the one that is spoken, or English if it is to be translated."""
        return "en" if self.task == "translate" else self.language


@dataclass(frozen=True, slots=True)
class Utterance:
    """Text between two time stamps, in seconds from the start of its window."""

    start: float
    end: float
    text: str
    tokens: tuple[int, ...] = ()
    """The text in the model's own tokens, as it wrote them."""
    token_ends: tuple[int, ...] = ()
    """Where each token ends in the text, in bytes of UTF-8."""
    token_logprobs: tuple[float, ...] = ()
    """The log-probability of each token after those before it; empty unless wanted."""
    token_bytes: tuple[str, ...] = ()
    """What each token says, in bytes of UTF-8, hexadecimal; empty unless log-probabilities are wanted."""
    is_open: bool = False
    """The model gave no closing time stamp: `end` is the end of the window's sound."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What the model makes of one window."""

    utterances: tuple[Utterance, ...]
    avg_logprob: float
    no_speech_prob: float
    token_count: int
    is_cut_off: bool = False
    """The model ran out of room for tokens before it had said everything."""
    temperature: float = 0.0
    """What its tokens were drawn at; 0: without dice."""
    weakest_avg_logprob: float | None = None
    """Mean log-probability of the least likely utterance; None where decoding doesn't tell."""
    languages: Mapping[str, float] = field(default_factory=dict)
    """The probability of each language, as `Engine.language_of` gives it; empty where decoding doesn't tell."""

    @property
    def text(self) -> str:
        """All of it, as one string."""
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
    """Mel bands the model was trained on."""
    languages: frozenset[str]
    """Codes of the languages it knows; one of them means that there is nothing to detect."""

    def encode(self, window: Window) -> EncodedWindow:
        """Run the encoder on one window."""

    def language_of(self, encoded: EncodedWindow, part: tuple[float, float] | None = None) -> Mapping[str, float]:
        """Return the probability of each language; part: in that alone, in seconds from the window's start."""

    def decode(self, batch: Sequence[EncodedWindow], settings: DecodeSettings) -> list[Hypothesis]:
        """Return the text of each window. All windows of a batch have the same number of frames."""

    def align(
        self, encoded: EncodedWindow, utterances: Sequence[Utterance], settings: DecodeSettings
    ) -> list[list[TimedWord]]:
        """Find when each word of the utterances, which were decoded from this window, is spoken.

        Gives a list of words for each utterance.
        """
