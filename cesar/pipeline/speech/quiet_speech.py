"""Speech too quiet for the detector and the model: at -60 dB, 15 dB and more below what came before, or below hum.

The detector misses the beginning of such speech, or all of it: after louder speech it takes anything much quieter for
silence. So a quiet recording is amplified as a whole, and what the detector takes for silence is heard once more by
itself, amplified, by a detector that knows nothing of what came before. If hum, rumble or an offset are most of it,
they are removed first. What is loud enough stays as it is, to the bit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cesar.pipeline.samples import Channels, Samples
from cesar.pipeline.speech.low_cut import LowCut, is_low
from cesar.pipeline.speech.vad import FRAME_S, FRAME_SAMPLES, Probabilities, SpeechDetector

_QUIET_DB = -45.0
"""Level of the loudest moments of a recording: if they are below this, they are amplified up to it…"""
_MAX_DB = 40.0
"""…but never by more than this."""
_RELEASE_DB = 0.1
"""By frame: so slowly is what was loud forgotten, 3 dB a second."""
_NOTHING_DB = -120.0

_TARGET_DB = -30.0
"""Level of the loudest moments of what is heard once more…"""
_AHEAD = round(1.0 / FRAME_S)
"""…within so many frames: pauses are not amplified more than words."""
_ONSET, _SPEECH, _OFFSET = 0.3, 0.5, 0.15
"""Probabilities: where speech begins, where it is clear, and below which it ends."""
_MIN_FRAMES_IN_A_ROW = 10
"""Frames of speech that are no accident: 0.3 s."""
_MARGIN = round(0.3 / FRAME_S)
"""Frames around speech that are taken with it, and of the longest pause in it."""
_TAIL = round(0.15 / FRAME_S)
"""Frames after speech that belong to it."""

_Frames = npt.NDArray[np.float64]
_Flags = npt.NDArray[np.bool_]


class Amplifier:
    """Amplifies what is quiet for longer."""

    def __init__(self) -> None:
        self._level = _NOTHING_DB

    def feed(self, block: Channels) -> Channels:
        """Return mix and channels, all amplified alike where the loudest of them is quiet."""
        levels = np.max([_levels(row) for row in block], axis=0)
        loudest = float(levels.max(initial=_NOTHING_DB))
        gains = np.empty(len(levels))
        for at, level in enumerate(levels.tolist()):
            self._level = max(loudest if at == 0 else level, self._level - _RELEASE_DB)
            gains[at] = np.clip(_QUIET_DB - self._level, 0.0, _MAX_DB)
        if not gains.any():
            return block
        amplified: Channels = block * _factors(gains, block.shape[1])
        return amplified


class SecondHearing:
    """Hears what the detector takes for silence once more."""

    def __init__(self, detector: SpeechDetector) -> None:
        """detector: of the sound as it is, whose network is shared."""
        self._detector = SpeechDetector(detector.network)
        self._low_cut = LowCut()
        self._tail = -1
        self._is_open = False
        """Whether the last block ended in silence, so that the detector goes on where it was…"""
        self._count = 0
        """…and how many frames of speech it had found there, in a stretch that goes on."""

    def hear(self, sound: Samples, found: Probabilities) -> tuple[Samples, Probabilities]:
        """Return a block with quiet speech amplified, and the probability of speech in its frames."""
        silent = self._silent(found)
        if is_low(sound):
            silent[:] = True  # what is found all the same is fragments
        clear, is_cut = self._low_cut.feed(sound, np.repeat(silent, FRAME_SAMPLES)[: len(sound)])
        gains, heard, taken = np.zeros(len(found)), found.copy(), np.zeros(len(found), np.bool_)
        for start, end in _stretches(silent):
            if start > 0 or not self._is_open:
                self._detector.forget()
                self._count = 0
            if start > 0 and end < len(found) and end - start < _MIN_FRAMES_IN_A_ROW:
                continue
            stretch = clear[start * FRAME_SAMPLES : end * FRAME_SAMPLES]
            gains[start:end] = _gains(stretch)
            louder = stretch * _factors(gains[start:end], len(stretch))
            heard[start:end] = self._detector.feed(louder)
            taken[start:end] = self._taken(heard[start:end])
        self._is_open = bool(silent[-1:].any())
        if not taken.any():
            return sound, found
        faded: Samples = sound * _factors(np.where(taken, gains, 0.0), len(sound))
        if is_cut:
            faded = _blended(sound, clear * _factors(gains, len(sound)), taken)
        return faded, np.where(taken, np.maximum(heard, found), found)

    def _silent(self, found: Probabilities) -> _Flags:
        """Return which frames hold no speech, nor the end of a word."""
        silent = np.zeros(len(found), np.bool_)
        for at, probability in enumerate(found.tolist()):
            is_spoken = probability >= (_OFFSET if self._tail == _TAIL else _ONSET)
            self._tail = _TAIL if is_spoken else self._tail - 1
            silent[at] = self._tail < 0
        return silent

    def _taken(self, heard: Probabilities) -> _Flags:
        """Return which frames are quiet speech, or close to it."""
        taken = np.zeros(len(heard), np.bool_)
        start, pause, count = (0, 0, self._count) if self._count else (None, 0, 0)
        for at, probability in enumerate(heard.tolist()):
            if start is None and probability >= _ONSET:
                start, pause, count = at, 0, 0
            if start is None:
                continue
            pause = 0 if probability >= _OFFSET else pause + 1
            count += probability > _SPEECH
            if pause > _MARGIN:
                _mark(taken, start, at, count)
                start = None
        self._count = 0
        if start is not None:
            _mark(taken, start, len(heard), count)
            self._count = count
        return taken


def _stretches(flags: _Flags) -> list[tuple[int, int]]:
    """Return start and end of each stretch of frames that are marked."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def _mark(taken: _Flags, start: int, end: int, count: int) -> None:
    if count >= _MIN_FRAMES_IN_A_ROW:
        taken[max(0, start - _MARGIN) : end + _MARGIN] = True


def _levels(sound: Samples) -> _Frames:
    """Return the level of each frame in decibels."""
    frames = np.pad(sound, (0, -len(sound) % FRAME_SAMPLES)).reshape(-1, FRAME_SAMPLES)
    levels: _Frames = 10 * np.log10(np.einsum("ij,ij->i", frames, frames) / FRAME_SAMPLES + 1e-12)
    return levels


def _gains(sound: Samples) -> _Frames:
    """Return by how many decibels each frame is amplified to be heard once more."""
    ahead = np.pad(_levels(sound), (0, _AHEAD), constant_values=_NOTHING_DB)
    loudest = np.lib.stride_tricks.sliding_window_view(ahead, _AHEAD + 1).max(axis=1)
    gains: _Frames = np.clip(_TARGET_DB - loudest, 0.0, _MAX_DB)
    return gains


def _blended(sound: Samples, other: Samples, taken: _Flags) -> Samples:
    """Return the sound, and the other where it is taken, without steps."""
    places = (np.arange(len(sound)) + 0.5) / FRAME_SAMPLES - 0.5
    part = np.interp(places, np.arange(len(taken)), taken.astype(np.float64)).astype(np.float32)
    blended: Samples = sound * (1 - part) + other * part
    return blended


def _factors(gains: _Frames, samples: int) -> Samples:
    """Return a factor for each sample, without steps; exactly 1 where there is nothing to gain."""
    places = (np.arange(samples) + 0.5) / FRAME_SAMPLES - 0.5
    factors: Samples = (10 ** (np.interp(places, np.arange(len(gains)), gains) / 20)).astype(np.float32)
    return factors
