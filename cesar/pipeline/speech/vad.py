"""Second stage: speech detection. Silero's detector gives a probability per frame; hysteresis makes regions.

Detector: Silero VAD 6.2 at 16 kHz (MIT, see cesar/assets), run by onnxruntime.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from onnxruntime import InferenceSession

from cesar.pipeline.samples import SAMPLE_RATE, Channels, Samples, joined
from cesar.pipeline.speech.silero_graph import HOP_SAMPLES, HOPS, STATE_SIZE, vad_graph

FRAME_SAMPLES = 512
FRAME_S = FRAME_SAMPLES / SAMPLE_RATE
"""32 ms: the detector's step."""
_CONTEXT_SAMPLES = 64
"""Samples of the previous frame that precede each frame in the detector's input, and as many after it."""

Probabilities = npt.NDArray[np.float32]
"""float32[frames], 0…1: the probability of speech in each frame."""


@dataclass(frozen=True, slots=True)
class VadSettings:
    """When frames count as speech. The defaults favour recall: missed speech is lost, noise does no harm."""

    onset: float = 0.3
    """A region starts at a frame with at least this probability…"""
    offset: float = 0.15
    """…and continues until frames stay below this one…"""
    min_silence_s: float = 0.3
    """…for this long."""
    min_speech_s: float = 0.06
    """Shorter regions are clicks, not speech."""
    max_region_s: float = 14.0
    """A longer region is cut at its least speech-like moment."""


@dataclass(frozen=True, slots=True)
class Region:
    """A stretch of speech, in samples from the start of the recording."""

    start: int
    end: int
    confidence: float
    """The highest probability of its frames."""


def speech_between(regions: Iterable[Region], start: int, end: int) -> float:
    """Return the seconds of speech between two samples."""
    samples = sum(max(0, min(region.end, end) - max(region.start, start)) for region in regions)
    return samples / SAMPLE_RATE


class SpeechDetector:
    """Silero's recurrent network with its state: takes sound in order, returns probabilities."""

    def __init__(self, network: InferenceSession | None = None) -> None:
        """network: that of another detector, to share it."""
        self.network = network or vad_graph().session()
        self.reset()

    def reset(self) -> None:
        """Reset the state: what follows is unrelated to what came before."""
        self._state = [np.zeros((1, 1, STATE_SIZE), np.float32)] * 2
        self._tail = np.zeros(_CONTEXT_SAMPLES, np.float32)

    def feed(self, sound: Samples) -> Probabilities:
        """Return the speech probability of each frame; the last, incomplete frame is padded with silence."""
        frames = np.pad(sound, (0, -len(sound) % FRAME_SAMPLES)).reshape(-1, FRAME_SAMPLES)
        before = np.vstack([self._tail, frames[:-1, -_CONTEXT_SAMPLES:]])
        after = frames[:, -2 : -2 - _CONTEXT_SAMPLES : -1]  # its own end once more, backwards
        hops = np.concatenate([before, frames, after], axis=1).reshape(-1, HOPS, HOP_SAMPLES)
        result: Probabilities
        result, *self._state = self.network.run(
            ["probabilities", "new_hidden", "new_cell"],
            {"hops": hops, "hidden": self._state[0], "cell": self._state[1]},
        )
        self._tail = frames[-1, -_CONTEXT_SAMPLES:]
        return result

    def probabilities(self, blocks: Iterable[Samples]) -> Iterator[Probabilities]:
        """Yield the speech probabilities of a recording from its start, for blocks of any size."""
        self.reset()
        for block in whole_frames(block[np.newaxis] for block in blocks):
            yield self.feed(block[0])


def whole_frames(blocks: Iterable[Channels]) -> Iterator[Channels]:
    """Regroup blocks of any size into blocks of whole frames; only the last may end with a part of one."""
    left: list[Channels] = []
    for block in blocks:
        all_of_it = joined([*left, block])
        whole = all_of_it.shape[1] // FRAME_SAMPLES * FRAME_SAMPLES
        left = [all_of_it[:, whole:]] if whole < all_of_it.shape[1] else []
        if whole:
            yield all_of_it[:, :whole]
    yield from left


@dataclass(frozen=True, slots=True)
class VadUpdate:
    """What one more block of sound has settled."""

    regions: tuple[Region, ...]
    """Regions that ended, in order."""
    until: int
    """No later region starts before this sample."""


def detect_regions(probabilities: Iterable[Probabilities], settings: VadSettings) -> Iterator[VadUpdate]:
    """Turn frame probabilities into speech regions, in order and never overlapping, each as soon as its end is known.

    The last region may end up to one frame after the recording: the detector sees whole frames only.
    """
    state = _Hysteresis(settings)
    for block in probabilities:
        found = [region for probability in block.tolist() if (region := state.feed(probability))]
        yield VadUpdate(tuple(found), state.settled_until)
    last = state.finish()
    yield VadUpdate((last,) if last else (), state.settled_until)


class _Hysteresis:
    def __init__(self, settings: VadSettings) -> None:
        self._settings = settings
        self._frame = 0
        self._speech: list[float] = []
        """Probabilities of the frames of the open region; empty outside a region."""
        self._quiet = 0
        """How many frames at the end of `_speech` are below the offset."""
        self._continues = False
        """Whether the open region continues one that was cut."""

    @property
    def settled_until(self) -> int:
        return (self._frame - len(self._speech)) * FRAME_SAMPLES

    def feed(self, probability: float) -> Region | None:
        settings = self._settings
        self._frame += 1
        if not self._speech and probability < settings.onset:
            return None
        self._speech.append(probability)
        self._quiet = self._quiet + 1 if probability < settings.offset else 0
        if self._quiet * FRAME_S >= settings.min_silence_s:
            return self._close()
        if len(self._speech) * FRAME_S >= settings.max_region_s:
            return self._cut()
        return None

    def finish(self) -> Region | None:
        return self._close() if self._speech else None

    def _close(self) -> Region | None:
        spoken = self._speech[: len(self._speech) - self._quiet]
        start = self._frame - len(self._speech)
        is_click = len(spoken) * FRAME_S < self._settings.min_speech_s and not self._continues
        self._speech, self._quiet, self._continues = [], 0, False
        return None if is_click or not spoken else _region(start, spoken)

    def _cut(self) -> Region:
        """End the region at the least speech-like moment of its second half, and open the next one there."""
        at = _quietest(self._speech)
        region = _region(self._frame - len(self._speech), self._speech[:at])
        self._speech, self._continues = self._speech[at:], True
        self._quiet = min(self._quiet, len(self._speech))
        return region


def _region(first_frame: int, probabilities: list[float]) -> Region:
    end = first_frame + len(probabilities)
    return Region(first_frame * FRAME_SAMPLES, end * FRAME_SAMPLES, round(max(probabilities), 3))


def _quietest(speech: list[float]) -> int:
    """Return the index in the second half around which 5 frames are least like speech."""
    half = len(speech) // 2
    smooth = np.convolve(np.array(speech, np.float64), np.ones(5) / 5, mode="same")[half:-2]
    return half + int(np.argmin(smooth))
