"""Removes hum, rumble, wind and offset: sound below speech, which blinds the detector if it is louder."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cesar.pipeline.samples import SAMPLE_RATE, Samples, averaged

_CUTOFF_HZ = 150.0
_TAPS = 799
"""50 ms: steep enough to remove hum and its first harmonic, and keep deep voices."""
_DELAY = _TAPS // 2
_STEP = 64
"""The mean of this many samples keeps what is below 125 Hz."""
_DOMINATES = 0.5


class LowCut:
    """A high-pass filter. Its output is 25 ms late, so that it needs no later samples."""

    def __init__(self) -> None:
        self._before: Samples | None = None

    def feed(self, block: Samples, where: npt.NDArray[np.bool_]) -> tuple[Samples, bool]:
        """Return the block without low sound, and true; or unchanged, and false, if low sound does not dominate.

        where: the samples in which it must dominate.
        """
        if self._before is None:
            self._before = np.full(_TAPS - 1, block[:1].sum(), np.float32)
        sound = np.concatenate([self._before, block])
        self._before = sound[-(_TAPS - 1) :]
        if not is_low(block[where]):
            return block, False
        size = len(sound) + _TAPS
        low = np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(_LOW_PASS, size), size)[_TAPS - 1 : len(sound)]
        cut: Samples = (sound[_DELAY : _DELAY + len(block)] - low).astype(np.float32)
        return cut, True


def is_low(sound: Samples) -> bool:
    """Whether most of the energy lies below speech."""
    if len(sound) < _STEP:
        return False
    low = averaged(sound[np.newaxis], _STEP)
    return bool(np.mean(np.square(low)) > _DOMINATES * np.mean(np.square(sound)))


def _low_pass() -> npt.NDArray[np.float64]:
    places = np.arange(_TAPS) - _DELAY
    taps = np.sinc(2 * _CUTOFF_HZ / SAMPLE_RATE * places) * np.blackman(_TAPS)
    normalised: npt.NDArray[np.float64] = taps / taps.sum()
    return normalised


_LOW_PASS = _low_pass()
