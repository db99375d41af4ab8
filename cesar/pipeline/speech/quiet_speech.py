"""Speech too quiet for the detector and the model: at -60 dB, 15 dB or more below what came before, or under hum.

The detector misses the beginning of such speech, or all of it: after louder speech it takes anything much quieter for
silence. So a quiet recording is amplified as a whole, and what the detector takes for silence is amplified and
examined again by a detector without that history. If hum, rumble or an offset dominates, it is removed first. Sound
that is loud enough stays unchanged, to the bit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cesar.pipeline.samples import Channels, Samples
from cesar.pipeline.speech.low_cut import LowCut, is_low
from cesar.pipeline.speech.vad import FRAME_S, FRAME_SAMPLES, Probabilities, SpeechDetector

_QUIET_DB = -45.0
"""A recording whose loudest moments are below this level is amplified up to it…"""
_MAX_DB = 40.0
"""…but never by more than this."""
_RELEASE_DB_PER_FRAME = 0.1
"""How fast the loudest level decays: 3 dB a second."""
_SILENCE_DB = -120.0

_TARGET_DB = -30.0
"""Level to which the second examination amplifies the loudest moments…"""
_LOOKAHEAD = round(1.0 / FRAME_S)
"""…within this many frames, so that pauses are not amplified more than words."""
_ONSET, _SPEECH, _OFFSET = 0.3, 0.5, 0.15
"""Probabilities at which speech begins, is clear, and ends."""
_MIN_FRAMES_IN_A_ROW = 10
"""Fewer frames of speech may be an accident: 0.3 s."""
_MARGIN = round(0.3 / FRAME_S)
"""Frames kept around speech, and the longest pause within it."""
_TAIL = round(0.15 / FRAME_S)
"""Frames after speech that belong to it."""

_Frames = npt.NDArray[np.float64]
_Flags = npt.NDArray[np.bool_]


class Amplifier:
    """Amplifies sound that stays quiet."""

    def __init__(self) -> None:
        self._level = _SILENCE_DB

    def feed(self, block: Channels) -> Channels:
        """Return mix and channels, amplified by the same gain where the loudest of them is quiet."""
        levels = np.max([_levels(row) for row in block], axis=0)
        loudest = float(levels.max(initial=_SILENCE_DB))
        gains = np.empty(len(levels))
        for at, level in enumerate(levels.tolist()):
            self._level = max(loudest if at == 0 else level, self._level - _RELEASE_DB_PER_FRAME)
            gains[at] = np.clip(_QUIET_DB - self._level, 0.0, _MAX_DB)
        if not gains.any():
            return block
        amplified: Channels = block * _factors(gains, block.shape[1])
        return amplified


class QuietSpeechDetector:
    """Detects quiet speech in what the first detector takes for silence."""

    def __init__(self, detector: SpeechDetector) -> None:
        """detector: the first detector, whose network is shared."""
        self._detector = SpeechDetector(detector.network)
        self._low_cut = LowCut()
        self._tail = -1
        self._is_open = False
        """Whether the last block ended in silence, so that the detector continues…"""
        self._count = 0
        """…and the number of speech frames found there, in a stretch that continues."""

    def detect(self, sound: Samples, found: Probabilities) -> tuple[Samples, Probabilities]:
        """Return a block with quiet speech amplified, and the probability of speech in its frames."""
        silent = self._silent(found)
        if is_low(sound):
            silent[:] = True  # the first detector finds only fragments there
        clear, is_cut = self._low_cut.feed(sound, np.repeat(silent, FRAME_SAMPLES)[: len(sound)])
        gains, probabilities, is_quiet_speech = np.zeros(len(found)), found.copy(), np.zeros(len(found), np.bool_)
        for start, end in _runs(silent):
            if start > 0 or not self._is_open:
                self._detector.reset()
                self._count = 0
            if start > 0 and end < len(found) and end - start < _MIN_FRAMES_IN_A_ROW:
                continue
            stretch = clear[start * FRAME_SAMPLES : end * FRAME_SAMPLES]
            gains[start:end] = _gains(stretch)
            louder = stretch * _factors(gains[start:end], len(stretch))
            probabilities[start:end] = self._detector.feed(louder)
            is_quiet_speech[start:end] = self._quiet_speech(probabilities[start:end])
        self._is_open = bool(silent[-1:].any())
        if not is_quiet_speech.any():
            return sound, found
        faded: Samples = sound * _factors(np.where(is_quiet_speech, gains, 0.0), len(sound))
        if is_cut:
            faded = _crossfade(sound, clear * _factors(gains, len(sound)), is_quiet_speech)
        return faded, np.where(is_quiet_speech, np.maximum(probabilities, found), found)

    def _silent(self, found: Probabilities) -> _Flags:
        """Return which frames have neither speech nor the end of a word."""
        silent = np.zeros(len(found), np.bool_)
        for at, probability in enumerate(found.tolist()):
            is_spoken = probability >= (_OFFSET if self._tail == _TAIL else _ONSET)
            self._tail = _TAIL if is_spoken else self._tail - 1
            silent[at] = self._tail < 0
        return silent

    def _quiet_speech(self, probabilities: Probabilities) -> _Flags:
        """Return which frames are in or near quiet speech."""
        is_quiet_speech = np.zeros(len(probabilities), np.bool_)
        start, pause, count = (0, 0, self._count) if self._count else (None, 0, 0)
        for at, probability in enumerate(probabilities.tolist()):
            if start is None and probability >= _ONSET:
                start, pause, count = at, 0, 0
            if start is None:
                continue
            pause = 0 if probability >= _OFFSET else pause + 1
            count += probability > _SPEECH
            if pause > _MARGIN:
                _mark(is_quiet_speech, start, at, count)
                start = None
        self._count = 0
        if start is not None:
            _mark(is_quiet_speech, start, len(probabilities), count)
            self._count = count
        return is_quiet_speech


def _runs(flags: _Flags) -> list[tuple[int, int]]:
    """Return start and end of each run of marked frames."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def _mark(is_quiet_speech: _Flags, start: int, end: int, count: int) -> None:
    if count >= _MIN_FRAMES_IN_A_ROW:
        is_quiet_speech[max(0, start - _MARGIN) : end + _MARGIN] = True


def _levels(sound: Samples) -> _Frames:
    """Return the level of each frame in decibels."""
    frames = np.pad(sound, (0, -len(sound) % FRAME_SAMPLES)).reshape(-1, FRAME_SAMPLES)
    levels: _Frames = 10 * np.log10(np.einsum("ij,ij->i", frames, frames) / FRAME_SAMPLES + 1e-12)
    return levels


def _gains(sound: Samples) -> _Frames:
    """Return the gain of each frame for the second examination, in decibels."""
    ahead = np.pad(_levels(sound), (0, _LOOKAHEAD), constant_values=_SILENCE_DB)
    loudest = np.lib.stride_tricks.sliding_window_view(ahead, _LOOKAHEAD + 1).max(axis=1)
    gains: _Frames = np.clip(_TARGET_DB - loudest, 0.0, _MAX_DB)
    return gains


def _crossfade(sound: Samples, other: Samples, is_quiet_speech: _Flags) -> Samples:
    """Return the sound, crossfaded to the other where frames are marked."""
    places = (np.arange(len(sound)) + 0.5) / FRAME_SAMPLES - 0.5
    part = np.interp(places, np.arange(len(is_quiet_speech)), is_quiet_speech.astype(np.float64)).astype(np.float32)
    blended: Samples = sound * (1 - part) + other * part
    return blended


def _factors(gains: _Frames, samples: int) -> Samples:
    """Return a smooth factor for each sample; exactly 1 where the gain is 0."""
    places = (np.arange(samples) + 0.5) / FRAME_SAMPLES - 0.5
    factors: Samples = (10 ** (np.interp(places, np.arange(len(gains)), gains) / 20)).astype(np.float32)
    return factors
