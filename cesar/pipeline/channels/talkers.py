"""Whether two channels hold two people: a telephone's two sides, an interview with a microphone each.

Their mix has both voices at once, and what is recognised in it may be neither's. Channels of one room carry the same
sound, a little later or weaker; those of two talkers don't: they are alike at no delay, and each is speech.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cesar.pipeline.channels.sources import Window
from cesar.pipeline.samples import SAMPLE_RATE, averaged
from cesar.pipeline.speech.vad import FRAME_S

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
_RANGE_DB = 5.0
"""Between loud and soft moments of a channel, at least: with less, noise may hide what it has in common with the other.
In noises as loud as a far voice there are 2 dB, in the speech of two people 7 and more."""
_AUDIBLE = 1e-6
"""Mean square of a channel in which somebody may speak: -60 dB."""

_WARNING = (
    "a different person speaks in each of the two channels: where they speak at the same time or in quick turns their "
    "words are mixed up, so transcribe the channels one by one"
)

Channels = npt.NDArray[np.float32]


class TwoTalkers:
    """Hears both channels, half a second at a time, and knows whether two people speak in them."""

    def __init__(self) -> None:
        self.at_once_s = 0.0
        self.alike_s = 0.0
        self.alone_s = [0.0, 0.0]

    @property
    def are_two(self) -> bool:
        """Whether each channel has a talker of its own."""
        return self.at_once_s >= max(_AT_ONCE_S, _PART * self.alike_s) or min(self.alone_s) >= _IN_TURN_S

    def observe(self, window: Window) -> None:
        """Update with a window of mix and channels."""
        sound = window.sound[1:]
        if self.are_two or len(sound) != 2 or sound.shape[1] < SAMPLE_RATE // 10:
            return
        channel_speech_frames = [window.channel_speech_frames(1), window.channel_speech_frames(2)]
        if not any(channel_speech_frames):
            return
        if min(channel_speech_frames) == 0:
            self.alone_s[int(np.argmax(channel_speech_frames))] += max(channel_speech_frames) * FRAME_S
        elif not _are_unlike(sound, SAMPLE_RATE):
            self.alike_s += sound.shape[1] / SAMPLE_RATE
        else:
            self.at_once_s += min(channel_speech_frames) * FRAME_S

    def warnings(self) -> list[str]:
        """Return a warning if there are two."""
        if not self.are_two:
            return []
        return [_WARNING]


def _are_unlike(sound: Channels, rate: int) -> bool:
    step = max(1, rate // _MEASURED_RATE)
    lean = np.diff(averaged(sound, step), axis=1)
    lean -= lean.mean(axis=1, keepdims=True)
    if _instant_similarity(lean) >= _UNLIKE or _similarity(lean, round(_LONGEST_DELAY_S * rate / step)) >= _UNLIKE:
        return False
    windows = lean.shape[1] // _ENVELOPE_SAMPLES
    parts = lean[:, : windows * _ENVELOPE_SAMPLES].reshape(2, windows, _ENVELOPE_SAMPLES)
    envelopes = np.log10(np.mean(np.square(parts), axis=2) + 1e-9)
    soft, loud = np.percentile(envelopes, (10, 90), axis=1)
    if 10 * float(np.min(loud - soft)) < _RANGE_DB:
        return False
    envelopes -= envelopes.mean(axis=1, keepdims=True)
    scale = float(np.sqrt(np.prod(np.sum(np.square(envelopes), axis=1))))
    return scale == 0 or float(np.dot(envelopes[0], envelopes[1])) / scale < _UNLIKE_ENVELOPES


def _instant_similarity(lean: Channels) -> float:
    """Absolute correlation without a delay: of ordinary stereo that is enough, and a hundredth of the work."""
    scale = float(np.sqrt(np.dot(lean[0], lean[0]) * np.dot(lean[1], lean[1])))
    return abs(float(np.dot(lean[0], lean[1]))) / scale if scale else 1.0


def _similarity(lean: Channels, delay: int) -> float:
    """Highest absolute correlation at any delay up to that many samples."""
    size = 1 << (2 * lean.shape[1] - 1).bit_length()
    spectra = np.fft.rfft(lean, size, axis=1)
    correlation = np.abs(np.fft.irfft(spectra[0] * np.conj(spectra[1]), size))
    scale = float(np.sqrt(np.prod(np.sum(np.square(lean.astype(np.float64)), axis=1))))
    near = max(float(correlation[: delay + 1].max()), float(correlation[-delay:].max()))
    return near / scale if scale else 1.0
