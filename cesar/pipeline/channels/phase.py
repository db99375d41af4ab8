"""Channels that would cancel each other in a mix are turned round before it.

A plug with two wires swapped gives right = −left: the mean of both is silence. Such a channel is recognised by its
correlation with the others, half a second at a time, and negated. All other sound passes untouched, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from cesar.pipeline.samples import averaged

_WINDOW_S = 0.5
_MEASURED_RATE = 4000
_OPPOSITE = -0.5
"""Correlation below which a channel is turned round…"""
_ALIKE = 0.0
"""…and above which it is no more."""
_FADING = 0.98
_QUIET = 1e-3
"""Windows with less than this part of the usual energy decide nothing."""
_FULL_SCALE = {"int16": 2.0**15, "int32": 2.0**31}
_SILENT_OTHERS = 0.01
_FORMATS = frozenset({"u8", "u8p", "s16", "s16p", "s32", "s32p", "flt", "fltp", "dbl", "dblp"})
"""Those that PyAV gives as arrays and takes back."""

Channels = npt.NDArray[np.float32]
"""float32[channels, n]"""


class Signs:
    """Remembers which of some channels are opposite to those before them."""

    def __init__(self) -> None:
        self._turned: frozenset[int] = frozenset()
        self._usual = 0.0

    def opposite(self, sound: Channels, rate: int) -> frozenset[int]:
        """Return the channels to be negated in this window, by their index, never the first."""
        lean = _lean(sound, rate)
        energy = float(np.sum(np.square(lean)))
        self._usual = max(energy, self._usual * _FADING)
        if energy <= _QUIET * self._usual or energy == 0:
            return self._turned
        turned = set[int]()
        total = lean[0].astype(np.float64)
        for index, channel in enumerate(lean[1:], start=1):
            both = float(np.sum(np.square(total)) + np.sum(np.square(channel)))
            alike = 2 * float(np.dot(total, channel)) / both if both else 0.0
            if alike < (_ALIKE if index in self._turned else _OPPOSITE):
                turned.add(index)
            total += -channel if index in turned else channel
        self._turned = frozenset(turned)
        return self._turned


class PhaseGuard:
    """Frames in, the same frames out half a second later, with channels negated where they would cancel others."""

    def __init__(self) -> None:
        self._frames: list[av.AudioFrame] = []
        self._held = 0
        self._shape: tuple[str, str, int] | None = None
        self._signs = Signs()

    def feed(self, frame: av.AudioFrame) -> Iterator[av.AudioFrame]:
        """Yield the frames of a window that is full."""
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape:
            yield from self.flush()
            self._shape, self._signs = shape, Signs()
        if not _mixed(frame.layout) or frame.format.name not in _FORMATS or not frame.samples:
            yield frame
            return
        self._frames.append(frame)
        self._held += frame.samples
        if self._held >= _WINDOW_S * frame.sample_rate:
            yield from self.flush()

    def flush(self) -> Iterator[av.AudioFrame]:
        """Yield the frames that are still held back."""
        frames, self._frames, self._held = self._frames, [], 0
        if not frames:
            return
        mixed = _mixed(frames[0].layout)
        others = [index for index in range(frames[0].layout.nb_channels) if index not in mixed]
        sound = _as_float(frames)
        turned = [mixed[index] for index in self._signs.opposite(sound[mixed], frames[0].sample_rate)]
        if turned and others and _energy(sound[others]) > _SILENT_OTHERS * _energy(sound[mixed]):
            turned = []  # there is dialogue in the centre
        for frame in frames:
            yield _negated(frame, turned) if turned else frame


def _mixed(layout: av.AudioLayout) -> list[int]:
    """The channels that are added up as equals: all of a recorder's, the two in front of a surround mix."""
    names = [channel.name for channel in layout.channels]
    if layout.nb_channels == 2 or layout.name == f"{layout.nb_channels} channels":
        return list(range(layout.nb_channels)) if layout.nb_channels > 1 else []
    return [names.index("FL"), names.index("FR")] if {"FL", "FR"} <= set(names) else []


def _as_float(frames: list[av.AudioFrame]) -> Channels:
    """The sound of frames of one shape, by channel."""
    found = np.concatenate([frame.to_ndarray() for frame in frames], axis=1)
    if not frames[0].format.is_planar:
        found = found.reshape(-1, frames[0].layout.nb_channels).T
    if found.dtype == np.uint8:
        return (found.astype(np.float32) - np.float32(128)) / np.float32(128)
    if found.dtype.kind == "i":
        return found.astype(np.float32) / np.float32(_FULL_SCALE[found.dtype.name])
    with np.errstate(invalid="ignore", over="ignore"):
        scaled: Channels = np.clip(found, -1e3, 1e3).astype(np.float32, copy=False)
    return np.nan_to_num(scaled, copy=False)


def _energy(sound: Channels) -> float:
    return float(np.sum(np.square(sound)))


def _lean(sound: Channels, rate: int) -> Channels:
    """What speech is in: a few thousand samples a second, without hum and offset."""
    step = max(1, rate // _MEASURED_RATE)
    means = averaged(sound, step)
    lean: Channels = np.diff(means, axis=1, prepend=means[:, :1])
    return lean


def _negated(frame: av.AudioFrame, channels: Iterable[int]) -> av.AudioFrame:
    samples = frame.to_ndarray().copy()
    by_channel = samples if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels).T
    for channel in channels:
        by_channel[channel] = _opposite(by_channel[channel])
    turned = av.AudioFrame.from_ndarray(samples, format=frame.format.name, layout=frame.layout.name)
    turned.sample_rate, turned.pts, turned.time_base = frame.sample_rate, frame.pts, frame.time_base
    return turned


def _opposite(samples: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if samples.dtype == np.uint8:
        return np.clip(256 - samples.astype(np.int16), 0, 255).astype(np.uint8)
    if samples.dtype.kind == "f":
        return -samples
    opposite: npt.NDArray[Any] = -np.maximum(samples, np.iinfo(samples.dtype).min + 1)  # the lowest has none
    return opposite
