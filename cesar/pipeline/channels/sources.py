"""What can be listened to in a stretch of several channels: their mix, each channel, and the rest of each.

The rest of a channel is what the others don't explain (least squares, from the inverse of their covariance): in "the
same music in both, and a voice in opposite phase" or "…in one of them", it is the voice.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cesar.pipeline.samples import Channels, Samples, averaged
from cesar.pipeline.speech.vad import Probabilities

_SPEECH = 0.5
_AUDIBLE = 1e-7
"""Mean square below which nothing is listened to: -70 dB."""
_SAME = 0.96
"""A channel with this part of its energy in common with the mix is no better than it."""
_DROWNED = 0.6
"""One with less than this may be drowned by others: they are within 2 dB of it, or louder…"""
_LOUD = 0.2
"""…which takes at least this much of its energy…"""
_SILENT = 0.3
"""…in a channel with less than this part of its speech."""
_SHARED = (0.5, 1 - 1e-5)
"""Part of a channel that the others explain. With less the channel itself does as well; more leaves rounding errors."""
_ALIKE = 0.9
_REGULAR = 1e-6
_STEP = 4
"""Covariances are measured at 4 kHz: what matters of speech."""

Matrix = npt.NDArray[np.float64]


class Source(NamedTuple):
    """A channel, counted from 1, or the rest of it."""

    channel: int
    is_rest: bool = False

    @property
    def is_channel(self) -> bool:
        """Whether it is a channel as it stands."""
        return self.channel > 0 and not self.is_rest


MIX = Source(0)
DIFFERENCE = Source(-1)
"""Of two channels: what cancels itself out in their mix."""


class Sources:
    """The sources of a stretch: float32[1 + channels, n], the mix first."""

    def __init__(self, energies: Matrix, lean: Matrix) -> None:
        """energies, lean: covariances of mix and channels; the second of what matters of speech."""
        self._lean = lean
        self._energies = energies
        self.channels = range(1, len(energies))

    def is_audible(self, channel: int) -> bool:
        """Whether there is anything in the channel."""
        return bool(self._energies[channel, channel] >= _AUDIBLE)

    def energy(self, channel: int) -> float:
        """Return the channel's energy, high sounds counted for more."""
        return float(self._lean[channel, channel])

    def in_mix(self, channel: int) -> float:
        """Return the part of a channel's energy that it has in common with the mix, 0…1."""
        scale = self._lean[channel, channel] * self._lean[0, 0]
        return float(self._lean[channel, 0] ** 2 / scale) if scale > 0 else 0.0

    def worth_examining(self, *, is_lacking: bool) -> list[Source]:
        """Return the sources that may hold speech which the mix lacks; is_lacking: whether there is little in it."""
        most = _SAME if is_lacking else _DROWNED
        audible = [channel for channel in self.channels if self.is_audible(channel)]
        apart = [Source(channel) for channel in audible if self.in_mix(channel) < most]
        if not is_lacking and apart:  # whether it is drowned depends on what is said in those that drown it
            loudest = max(audible, key=self.energy)
            return apart if Source(loudest) in apart else [*apart, Source(loudest)]
        if not is_lacking or len(audible) < 2:
            return apart
        rests = [Source(channel, is_rest=True) for channel in audible if self._has_rest(channel)]
        return [*apart, *rests, *([DIFFERENCE] if self._differ() else [])]

    def sound(self, source: Source, stretch: Channels) -> Samples:
        """Return the sound of a source."""
        if source == DIFFERENCE:
            difference: Samples = (stretch[1] - stretch[2]) / np.float32(2)
            return difference
        sound: Samples = stretch[source.channel if source.channel < len(stretch) else MIX.channel]
        if source.is_rest and len(stretch) == len(self._energies):
            sound = self._weights[source.channel - 1].astype(np.float32) @ stretch[1:]
        return sound

    def _differ(self) -> bool:
        """Whether the difference of two channels may hold more than the rest of one."""
        if len(self.channels) != 2:
            return False
        scale = self._lean[1, 1] * self._lean[2, 2]
        return bool(self._lean[1, 2] ** 2 < _ALIKE * scale)

    def _has_rest(self, channel: int) -> bool:
        if len(self.channels) == 2 and channel == 1:
            return False  # nearly that of the second
        if not self._lean[channel, channel]:
            return False  # an offset
        own = self._weights[channel - 1]
        left = own @ self._lean[1:, 1:] @ own / self._lean[channel, channel]
        is_shared = _SHARED[0] <= 1 - left <= _SHARED[1]
        return bool(is_shared and own @ self._energies[1:, 1:] @ own >= _AUDIBLE)

    @cached_property
    def _weights(self) -> Matrix:
        """By row: how the rest of a channel is made of all of them."""
        own = self._lean[1:, 1:]
        inverse = np.linalg.inv(own + np.eye(len(own)) * max(_REGULAR * np.trace(own) / len(own), 1e-20))
        weights: Matrix = inverse / np.diag(inverse)[:, np.newaxis]
        return weights


def sources_of(stretch: Channels) -> Sources:
    """Return the sources in a stretch of mix and channels."""
    return Sources(_covariance(stretch), _covariance(np.diff(averaged(stretch, _STEP), axis=1)))


def _covariance(stretch: Channels) -> Matrix:
    covariance: Matrix = (stretch @ stretch.T).astype(np.float64) / max(1, stretch.shape[1])
    return covariance


class Detection:
    """A source's sound, possibly amplified, and the speech probability of its frames."""

    def __init__(self, sound: Samples, probabilities: Probabilities) -> None:
        self.sound = sound
        self.probabilities = probabilities
        self.speech_frames = int((probabilities > _SPEECH).sum())
        """Frames with speech."""


class Window:
    """A short stretch of mix and channels, and the speech detected in them."""

    def __init__(self, sound: Channels, sources: Sources) -> None:
        """sources: of the longer stretch that this is a part of."""
        self.sound = sound
        self.sources = sources
        self.heard: dict[Source, Detection] = {}

    def speech_frames(self, source: Source) -> int:
        """Return the number of frames with speech in a source; 0 if it was not examined."""
        return self.heard[source].speech_frames if source in self.heard else 0

    def sound_of(self, source: Source) -> Samples:
        """Return the sound of a source, or the mix if it was not examined."""
        return self.heard.get(source, self.heard[MIX]).sound

    def mix_lacks(self, source: Source, part: float) -> bool:
        """Whether the mix has less than this share of the source's speech."""
        return self.speech_frames(MIX) < part * self.speech_frames(source)

    def channel_speech_frames(self, channel: int) -> int:
        """Return the number of frames with speech in a channel: the mix's if the channel was not examined."""
        if not self.sources.is_audible(channel):
            return 0
        return self.speech_frames(Source(channel) if Source(channel) in self.heard else MIX)

    def is_drowned(self, source: Source) -> bool:
        """Whether others that don't speak are so loud in the mix that the speech of the source suffers."""
        own = self._own
        if not source.is_channel or own.in_mix(source.channel) >= _DROWNED:
            return False
        energy = own.energy(source.channel)
        loud = [other for other in own.channels if other != source.channel and own.energy(other) >= _LOUD * energy]
        return bool(loud) and all(
            self.channel_speech_frames(other) < _SILENT * self.speech_frames(source) for other in loud
        )

    @cached_property
    def _own(self) -> Sources:
        return sources_of(self.sound)
