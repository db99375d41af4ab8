"""MPEG audio stored within larger files, found by the structure of its frames.

Frame headers are described in ISO/IEC 11172-3 and 13818-3; only layer III is supported.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import av
import numpy as np
from numpy.typing import NDArray

_SYNC = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb]")
"""Layer III in versions 2.5, 2 and 1, with and without checksum."""
_KBIT = {
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
"""By the two bits of the version."""
_FEWEST_FRAMES = 8
"""Two bytes that look like a header are common by chance; that many consecutive headers are not."""


@dataclass(frozen=True)
class Frame:
    """The position of a frame."""

    start: int
    end: int
    form: tuple[int, int]
    """Version and sampling rate: constant within a recording."""
    begins_anew: bool
    """It uses no bits of preceding frames (`main_data_begin` is 0): usually the start of a recording."""


def lines(content: bytes) -> Iterator[bytes]:
    """Yield each recording: consecutive frames of one kind, from the start of an encoding."""
    at = 0
    while found := _SYNC.search(content, at):
        frames = _run(content, found.start())
        at = frames[-1].end if frames else found.start() + 1
        begins = [frame.start for frame in frames if frame.begins_anew or frame is frames[0]]
        for start, end in pairwise([*begins, at]):
            yield content[start:end]


def decode(line: bytes, rate: int) -> NDArray[np.int16]:
    """Decode a recording to mono samples at a rate."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=rate)
    with av.open(io.BytesIO(line), "r", format="mp3") as container:
        frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    return np.concatenate([part.to_ndarray()[0] for part in [*frames, *resampler.resample(None)]])


def _run(content: bytes, start: int) -> list[Frame]:
    """Return the consecutive frames from here; none if they are too few."""
    frames: list[Frame] = []
    frame = _frame(content, start)
    while frame and frame.end <= len(content) and (not frames or frame.form == frames[0].form):
        frames.append(frame)
        frame = _frame(content, frame.end)
    return frames if len(frames) >= _FEWEST_FRAMES else []


def _frame(content: bytes, at: int) -> Frame | None:
    """Return the frame that begins here, or None."""
    header = content[at : at + 7]
    if len(header) < 7 or not _SYNC.match(header):
        return None
    version, rate_index = header[1] >> 3 & 3, header[2] >> 2 & 3
    kbit_index, padding = header[2] >> 4, header[2] >> 1 & 1
    if rate_index == 3 or not 0 < kbit_index < 15:
        return None
    hz = _HZ[version][rate_index]
    kbit = _KBIT[1 if version == 3 else 2][kbit_index]
    length = (144 if version == 3 else 72) * kbit * 1000 // hz + padding
    reservoir = header[4 if header[1] & 1 else 6]  # after the checksum, if there is one
    return Frame(at, at + length, (version, hz), begins_anew=reservoir == 0)
