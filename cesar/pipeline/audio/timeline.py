"""One audio track on its way to samples: channels in phase, frames at their time, 16 kHz."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import av
import numpy as np

from cesar.errors import BadAudio
from cesar.pipeline.audio.clock import Clock, Stamp
from cesar.pipeline.audio.downmix import Downmix
from cesar.pipeline.audio.packing import Packer
from cesar.pipeline.channels.phase import PhaseGuard
from cesar.pipeline.samples import SAMPLE_RATE, Channels

_FRAMES_AHEAD = 8
"""So many frames are looked at before a jump of the clock is believed: one wrong timestamp is no jump."""
_MAX_CHANNELS = 64
"""FFmpeg's resampler takes no more."""
_MAX_SQUEEZED = 0.05
_SILENCE_AT_ONCE = 4 * SAMPLE_RATE


class Timeline:
    """Frames of one track in; mix and channels out, each sample at its time. `given` counts them."""

    def __init__(self, name: str, clock: Clock | None = None) -> None:
        """name: of the file. clock: None leaves timestamps alone."""
        self.clock = clock
        self.given = 0
        self._name = name
        self._packer = Packer()
        self._phase = PhaseGuard()
        self._downmix = Downmix()
        self._waiting: deque[av.AudioFrame] = deque()
        self._positions: dict[int, int] = {}
        self._surplus = 0
        """Samples by which the sound still has to be squeezed."""

    @property
    def seconds(self) -> float:
        """Length so far."""
        return self.given / SAMPLE_RATE

    def feed(self, frame: av.AudioFrame, position: int | None = None) -> Iterator[Channels]:
        """Yield what the frame adds; position: of its packet in the file."""
        if (channels := frame.layout.nb_channels) > _MAX_CHANNELS:
            raise BadAudio(f"{self._name} has {channels} channels, more than can be mixed")
        if frame.pts is not None and position is not None:
            self._positions[frame.pts] = position
        for aligned in self._phase.feed(self._packer.packed(frame)):
            self._waiting.append(aligned)
            if len(self._waiting) > _FRAMES_AHEAD:
                yield from self._place(self._waiting.popleft())

    def release(self) -> Iterator[Channels]:
        """Yield the frames that are still held back; more may follow, for example after a pause."""
        self._waiting.extend(self._phase.flush())
        while self._waiting:
            yield from self._place(self._waiting.popleft())

    def flush(self) -> Iterator[Channels]:
        """Yield what is still held back, when the last frame has been fed."""
        yield from self.release()
        yield from self._counted(self._downmix.flush())

    def warnings(self) -> list[str]:
        """Return what was wrong with the clock."""
        return self.clock.warnings() if self.clock else []

    def _place(self, frame: av.AudioFrame) -> Iterator[Channels]:
        lead = self._lead(frame)
        if lead > 0:
            self._surplus = 0
            yield from self._counted(_silence(round(lead * SAMPLE_RATE)))
        elif lead < 0:
            self._surplus = round(-lead * SAMPLE_RATE)
        yield from self._counted(self._downmix.feed(frame))

    def _lead(self, frame: av.AudioFrame) -> float:
        stamp = self._stamp(frame)
        if self.clock is None or stamp is None:
            return 0.0
        following = [time for waiting in self._waiting if (time := waiting.time) is not None]
        return self.clock.lead(stamp, following, self.seconds)

    def _stamp(self, frame: av.AudioFrame) -> Stamp | None:
        if frame.time is None or frame.pts is None:
            return None
        return Stamp(frame.time, frame.samples / frame.sample_rate, self._positions.pop(frame.pts, None))

    def _counted(self, pieces: Iterator[Channels]) -> Iterator[Channels]:
        for piece in pieces:
            out = self._squeezed(piece) if self._surplus else piece
            self.given += out.shape[1]
            yield out

    def _squeezed(self, piece: Channels) -> Channels:
        """Make the piece a little shorter, so that the sound doesn't run ahead of its clock."""
        surplus = min(self._surplus, int(piece.shape[1] * _MAX_SQUEEZED))
        self._surplus -= surplus
        if not surplus:
            return piece
        count = piece.shape[1]
        at = np.linspace(0, count - 1, count - surplus)
        return np.stack([np.interp(at, np.arange(count), row) for row in piece]).astype(np.float32)


def _silence(samples: int) -> Iterator[Channels]:
    while samples > 0:
        yield np.zeros((1, min(samples, _SILENCE_AT_ONCE)), dtype=np.float32)
        samples -= _SILENCE_AT_ONCE
