"""Fourth stage: samples become the log-mel spectrogram that Whisper was trained on.

Numbers as in openai/whisper `audio.py`: 25 ms Hann windows every 10 ms, Slaney-scaled mel filters, log10 clipped to
8 below the maximum, then (x + 4) / 4. Each window is normalised by itself, so a chunk's features depend on nothing
but its own samples.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from cesar.pipeline.samples import SAMPLE_RATE, Samples

LogMel = npt.NDArray[np.float32]
"""float32[n_mels, frames], 100 frames a second."""

HOP_SAMPLES = 160
FRAMES_PER_SECOND = SAMPLE_RATE // HOP_SAMPLES
_FFT_SAMPLES = 400
_BLOCK_FRAMES = 256
"""Frames transformed at once: the working set then stays in the processor's cache."""


def log_mel(samples: Samples, *, frames: int, n_mels: int) -> LogMel:
    """Return the log-mel spectrogram of the samples, filled up with silence (or cut) to exactly `frames` frames."""
    wanted = frames * HOP_SAMPLES
    padded = np.pad(samples[:wanted], (0, max(0, wanted - len(samples))))
    framed = np.pad(padded, _FFT_SAMPLES // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(framed, _FFT_SAMPLES)[::HOP_SAMPLES][:frames]
    filters = _mel_filters(n_mels)
    mel = np.empty((n_mels, frames), np.float32)
    for at in range(0, frames, _BLOCK_FRAMES):
        spectrum = np.fft.rfft(windows[at : at + _BLOCK_FRAMES] * _hann(), axis=1)
        power = spectrum.real**2 + spectrum.imag**2
        mel[:, at : at + _BLOCK_FRAMES] = filters @ power.T
    np.maximum(mel, 1e-10, out=mel)
    np.log10(mel, out=mel)
    np.maximum(mel, mel.max() - 8.0, out=mel)
    return (mel + np.float32(4.0)) / np.float32(4.0)


@lru_cache(maxsize=1)
def _hann() -> npt.NDArray[np.float32]:
    """The periodic Hann window."""
    return np.hanning(_FFT_SAMPLES + 1)[:-1].astype(np.float32)


@lru_cache(maxsize=2)
def _mel_filters(n_mels: int) -> npt.NDArray[np.float32]:
    """float32[n_mels, 201]: triangles on Slaney's mel scale, each of unit area (librosa's `filters.mel`)."""
    bins = np.fft.rfftfreq(_FFT_SAMPLES, 1 / SAMPLE_RATE)
    edges = _mel_to_hertz(np.linspace(0.0, _hertz_to_mel(SAMPLE_RATE / 2), n_mels + 2))
    slopes = edges[:, None] - bins[None, :]
    widths = np.diff(edges)
    rising = -slopes[:-2] / widths[:-1, None]
    falling = slopes[2:] / widths[1:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))
    area = 2.0 / (edges[2:] - edges[:-2])
    return (triangles * area[:, None]).astype(np.float32)


_LINEAR_HERTZ_PER_MEL = 200.0 / 3
_LOG_FROM_HERTZ = 1000.0
_LOG_FROM_MEL = _LOG_FROM_HERTZ / _LINEAR_HERTZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27.0


def _hertz_to_mel(hertz: float) -> float:
    if hertz < _LOG_FROM_HERTZ:
        return hertz / _LINEAR_HERTZ_PER_MEL
    return float(_LOG_FROM_MEL + np.log(hertz / _LOG_FROM_HERTZ) / _LOG_STEP)


def _mel_to_hertz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    logarithmic = _LOG_FROM_HERTZ * np.exp(_LOG_STEP * (mel - _LOG_FROM_MEL))
    return np.where(mel < _LOG_FROM_MEL, mel * _LINEAR_HERTZ_PER_MEL, logarithmic)
