"""First stage: any media file becomes samples at 16 kHz, mix and channels, block by block, whatever its length.

FFmpeg's libraries do the decoding (through PyAV). containers.py opens, tracks.py chooses, timeline.py puts the sound of
a track in its place; here they are put together, and what was wrong with the file is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import av
import numpy as np

from cesar.errors import BadAudio, EmptyRecording, InputError, RecordingTooLong
from cesar.files.readable import require_readable
from cesar.options import Track
from cesar.pipeline.audio import tracks
from cesar.pipeline.audio.clock import Clock
from cesar.pipeline.audio.timeline import Timeline
from cesar.pipeline.audio.track_mixing import side_by_side
from cesar.pipeline.media.containers import expected_length, open_media, stated_end
from cesar.pipeline.media.frames import Frames
from cesar.pipeline.media.structure.pieces import Piece, cut_off_warning, find_pieces
from cesar.pipeline.media.tags import recorded_at
from cesar.pipeline.samples import SAMPLE_RATE, Channels, Samples, joined

BLOCK_SAMPLES = 4 * SAMPLE_RATE
_LOUDEST = 1e6
"""Full scale is 1. What is far beyond is no sound, and overflows in the spectrum."""


class Recording:
    """One opened media file: `channels` gives its sound, `warnings` what was wrong with it.

    Raises a subclass of `InputError` when the file can't be opened or has no sound. `RecordingTooLong` comes at once if
    the header states more than `max_duration_s`, else while reading, once there is more of sound and silence.
    """

    def __init__(
        self,
        path: Path,
        *,
        track: Track | None = None,
        part: tracks.Part | None = None,
        max_duration_s: float | None = None,
        on_step: tracks.OnStep = lambda: None,
    ) -> None:
        """part: by whose speech a track is chosen. on_step: called often while several are listened to."""
        self.path = path
        self.samples_given = 0
        self._max_duration_s = max_duration_s
        require_readable(path)
        content = find_pieces(path, on_step)
        self._pieces, self.warnings = content.pieces, list(content.warnings)
        self._suspicions, self._shortages = content.suspicions, content.shortages
        self._size = path.stat().st_size
        self._container = open_media(path, self._pieces[0])
        try:
            self._choice = tracks.choose(path, self._container, self._pieces[0], track, on_step, part or tracks.Part())
            self._require_short(self.stated_duration or 0.0)
        except BaseException:
            self._container.close()
            raise
        self.warnings += self._choice.warnings
        self._damaged = 0
        self._is_broken_off = False
        self._not_finite = 0
        self._track_warnings: list[str] = []
        """Warnings about clock and tracks."""
        self._shortfall: str | None = None
        self._has_losses = False

    @property
    def recorded_at(self) -> str | None:
        """When the recording was made, by the file's tags; see `cesar.pipeline.media.tags`."""
        return recorded_at([self._container.metadata, self._stream.metadata], now=datetime.now(UTC))

    @property
    def names(self) -> list[str]:
        """What the channels are called that `channels` gives: those of several tracks are the tracks."""
        taken = self._choice.taken
        if len(taken) > 1:
            return [f"track {index + 1}" for index in taken]
        return [f"channel {number}" for number in range(1, self._stream.channels + 1)]

    @property
    def header_duration(self) -> float | None:
        """The length in seconds by the file's header, or FFmpeg's guess, for showing progress. It may be wrong."""
        if len(self._pieces) > 1 or self._pieces[0].patches:
            return None
        return expected_length(self._container, self._stream)

    @property
    def stated_duration(self) -> float | None:
        """The length in seconds, where it is no guess."""
        is_known = self._container.format.name == "ogg" or self._stated_end is not None
        return self.header_duration if is_known else None

    @property
    def _stream(self) -> av.AudioStream:
        return self._container.streams.audio[self._choice.taken[0]]

    @property
    def _origin(self) -> float:
        """Where the recording begins by the file's own clock."""
        return (self._container.start_time or 0) / av.time_base

    @property
    def _stated_end(self) -> float | None:
        return self._stated_end_of(self._choice.taken[0])

    def _stated_end_of(self, track: int) -> float | None:
        if len(self._pieces) > 1 or self._pieces[0].patches:
            return None
        return stated_end(self._container, self._container.streams.audio[track], self.path)

    def blocks(self) -> Iterator[Samples]:
        """Yield the mix of the channels from first sample to last, in blocks as `channels` has them."""
        for block in self.channels():
            yield block[0]

    def channels(self) -> Iterator[Channels]:
        """Yield the mix and each channel, `BLOCK_SAMPLES` at a time; the last block has what is left."""
        pending: list[Channels] = []
        count = 0
        for sound in self._sound():
            pending.append(sound)
            count += sound.shape[1]
            if count >= BLOCK_SAMPLES:
                all_of_it = joined(pending)
                whole = count // BLOCK_SAMPLES * BLOCK_SAMPLES
                for at in range(0, whole, BLOCK_SAMPLES):
                    yield self._finite(all_of_it[:, at : at + BLOCK_SAMPLES])
                pending, count = [all_of_it[:, whole:]], count - whole
        if count:
            yield self._finite(joined(pending))
        self._conclude()

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _sound(self) -> Iterator[Channels]:
        """The sound of all pieces, one after the other, in FFmpeg's own portions."""
        for number, piece in enumerate(self._pieces):
            if number:
                self._container.close()
                try:
                    self._open(piece)
                except InputError:
                    self.warnings.append(f"the part of the file from byte {piece.start} on can't be read")
                    continue
            for sound in self._piece_sound(piece):
                self.samples_given += sound.shape[1]
                self._require_short(self.samples_given / SAMPLE_RATE)
                yield sound

    def _open(self, piece: Piece) -> None:
        """Open one of several pieces; one that lacks the tracks taken before may have others."""
        self._container = open_media(self.path, piece)
        if max(self._choice.taken) >= len(self._container.streams.audio):
            self._choice = tracks.choose(self.path, self._container, piece, None, lambda: None)
            self._track_warnings += self._choice.warnings

    def _piece_sound(self, piece: Piece) -> Iterator[Channels]:
        lines = {index: self._timeline(index, piece) for index in self._choice.taken}
        watch = tracks.Watch(self.path.name, self._choice.watched)
        frames = Frames(self._container, [*self._choice.taken, *self._choice.watched])
        yield from side_by_side(watch.pass_on(frames), lines)
        first = lines[self._choice.taken[0]]
        self._track_warnings += [said for line in lines.values() for said in line.warnings()]
        self._has_losses |= any(line.clock is not None and line.clock.has_losses for line in lines.values())
        if talking := watch.with_speech():
            self._track_warnings.append(tracks.left_out(self._container.streams.audio, talking))
        self._damaged += sum(frames.damaged_in[index] for index in self._choice.taken)
        self._is_broken_off |= frames.is_broken_off
        self._shortfall = self._cut_off(first, self._stated_end)

    def _timeline(self, track: int, piece: Piece) -> Timeline:
        end = self._stated_end_of(track)  # each has its own: one may go on long after another
        return Timeline(self.path.name, Clock(self._origin, self._container.format.name, end, piece.holes))

    def _cut_off(self, line: Timeline, stated: float | None) -> str | None:
        """Return a warning if the sound ends before the header says."""
        assert line.clock is not None
        end, promised = self._origin + line.seconds, None if stated is None else stated + line.clock.shift
        return None if promised is None else cut_off_warning(end, promised)

    def _require_short(self, seconds: float) -> None:
        longest = self._max_duration_s
        if longest is not None and seconds > longest:
            raise RecordingTooLong(f"{self.path.name} is longer than {longest:g} s")

    def _finite(self, block: Channels) -> Channels:
        """Put silence where a float file holds NaN, infinity or values that can't be sound."""
        finite = np.abs(block) <= _LOUDEST
        if finite.all():
            return block
        self._not_finite += int(finite.shape[1] - np.count_nonzero(finite[0]))
        return np.where(finite, block, np.float32(0))

    def _conclude(self) -> None:
        name = self.path.name
        if not self.samples_given:
            if self._damaged:
                raise BadAudio(f"nothing in the audio track of {name} could be decoded")
            raise EmptyRecording(f"the audio track of {name} is empty")
        if self._not_finite * 2 > self.samples_given:
            raise BadAudio(f"most samples of {name} are not numbers (NaN or infinite)")
        if self._not_finite:
            self.warnings.append(f"{self._not_finite} samples were not numbers (NaN) and taken as silence")
        self.warnings += self._track_warnings
        if self._damaged > int(self._shortfall is not None):  # a cut-off file's last packet is damaged: no news
            count = "1 damaged packet was" if self._damaged == 1 else f"{self._damaged} damaged packets were"
            self.warnings.append(f"{count} skipped")
        self.warnings += self._ending()
        if self.path.exists() and self.path.stat().st_size != self._size:
            self.warnings.append("the file changed while it was read: what was written meanwhile may be missing")

    def _ending(self) -> Sequence[str]:
        """Return what is to be said of the end of the file: the surest, and nothing twice."""
        if self._shortfall is not None:
            return [self._shortfall]
        if self._shortages:
            return self._shortages
        if self._is_broken_off:
            return ["the file is damaged or cut off: what could be read of it was transcribed"]
        return [] if self._has_losses else self._suspicions
