"""Whether two channels hold two people: a telephone's two sides, an interview with a microphone each.

Their mix has both voices at once, and what is recognised in it may be neither's. Channels of one room carry the same
sound, a little later or weaker; those of two talkers don't: they are alike at no delay, and each is speech.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cesar.pipeline.samples import SAMPLE_RATE, Samples
from cesar.pipeline.vad import FRAME_S, SpeechDetector

_AT_ONCE_S = 1.0
"""Seconds in which both talk at once before it is said…"""
_PART = 0.1
"""…and this part of the time in which both channels carry the same: by chance, a room's channels differ for moments…"""
_IN_TURN_S = 3.0
"""…or in which each talks while the other's channel has nothing of it."""
_MEASURED_RATE = 8000
_LONGEST_DELAY_S = 0.03
"""Between two microphones of one room: ten metres."""
_UNLIKE = 0.25
"""Highest correlation at any delay of two channels that have nothing in common."""
_UNLIKE_ENVELOPES = 0.5
_ENVELOPE_SAMPLES = 160
_ACTIVE = 0.01
"""Energy of one channel over the other's from which both are at work: within 20 dB."""
_AUDIBLE = 1e-6
"""Mean square of a channel in which somebody may speak: -60 dB."""
_SPEECH = 0.5

_WARNING = (
    "a different person speaks in each of the two channels: what they say at the same time is mixed up, so transcribe "
    "the channels one by one"
)

Channels = npt.NDArray[np.float32]


class TwoTalkers:
    """Hears both channels, half a second at a time, and knows whether two people speak in them."""

    def __init__(self) -> None:
        self.at_once_s = 0.0
        self.alike_s = 0.0
        self.alone_s = [0.0, 0.0]
        self._detector: SpeechDetector | None = None

    @property
    def are_two(self) -> bool:
        """Whether each channel has a talker of its own."""
        return self.at_once_s >= max(_AT_ONCE_S, _PART * self.alike_s) or min(self.alone_s) >= _IN_TURN_S

    def hear(self, sound: Channels, rate: int) -> None:
        """Take in a window: float32[2, n]."""
        if self.are_two or sound.shape[1] < rate // 10:
            return
        energies = np.mean(np.square(sound), axis=1)
        louder = int(np.argmax(energies))
        if energies[louder] < _AUDIBLE:
            return
        if energies[1 - louder] < _ACTIVE * energies[louder]:
            if self.alone_s[louder] < _IN_TURN_S:
                self.alone_s[louder] += float(self._speech(sound[louder], rate).sum()) * FRAME_S
        elif min(energies) < _AUDIBLE:
            return
        elif not _are_unlike(sound, rate):
            self.alike_s += sound.shape[1] / rate
        else:
            first, second = (self._speech(channel, rate) for channel in sound)
            self.at_once_s += float((first & second).sum()) * FRAME_S

    def warnings(self) -> list[str]:
        """Return a warning if there are two."""
        if not self.are_two:
            return []
        return [_WARNING]

    def _speech(self, channel: Samples, rate: int) -> npt.NDArray[np.bool_]:
        self._detector = self._detector or SpeechDetector()
        return np.concatenate(list(self._detector.probabilities([_resampled(channel, rate)]))) > _SPEECH


def _are_unlike(sound: Channels, rate: int) -> bool:
    step = max(1, rate // _MEASURED_RATE)
    whole = sound.shape[1] // step * step
    lean = np.diff(sound[:, :whole].reshape(2, -1, step).mean(axis=2), axis=1)
    lean -= lean.mean(axis=1, keepdims=True)
    if _likeness(lean, round(_LONGEST_DELAY_S * rate / step)) >= _UNLIKE:
        return False
    windows = lean.shape[1] // _ENVELOPE_SAMPLES
    parts = lean[:, : windows * _ENVELOPE_SAMPLES].reshape(2, windows, _ENVELOPE_SAMPLES)
    envelopes = np.log10(np.mean(np.square(parts), axis=2) + 1e-9)
    envelopes -= envelopes.mean(axis=1, keepdims=True)
    scale = float(np.sqrt(np.prod(np.sum(np.square(envelopes), axis=1))))
    return scale == 0 or float(np.dot(envelopes[0], envelopes[1])) / scale < _UNLIKE_ENVELOPES


def _likeness(lean: Channels, delay: int) -> float:
    """Highest absolute correlation at any delay up to that many samples."""
    size = 1 << (2 * lean.shape[1] - 1).bit_length()
    spectra = np.fft.rfft(lean, size, axis=1)
    correlation = np.abs(np.fft.irfft(spectra[0] * np.conj(spectra[1]), size))
    scale = float(np.sqrt(np.prod(np.sum(np.square(lean.astype(np.float64)), axis=1))))
    near = max(float(correlation[: delay + 1].max()), float(correlation[-delay:].max()))
    return near / scale if scale else 1.0


def _resampled(channel: Samples, rate: int) -> Samples:
    """Roughly at 16 kHz: good enough to tell whether it is speech."""
    step = max(1, rate // SAMPLE_RATE)
    lean = channel[: len(channel) // step * step].reshape(-1, step).mean(axis=1)
    at = np.arange(int(len(lean) * SAMPLE_RATE * step / rate)) * (rate / step / SAMPLE_RATE)
    resampled: Samples = np.interp(at, np.arange(len(lean)), lean).astype(np.float32)
    return resampled
