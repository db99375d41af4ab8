"""`FrontEnd`: from a recording to chunks with their sound, just ahead of the recognition."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from cesar.errors import RangeOutsideRecording
from cesar.options import TranscribeOptions
from cesar.pipeline.audio.decode import Recording
from cesar.pipeline.audio.ring_buffer import RingBuffer
from cesar.pipeline.channels.picker import ChannelPicker
from cesar.pipeline.recognition.decoding_passes import ChunkAudio
from cesar.pipeline.samples import SAMPLE_RATE, Channels, Samples
from cesar.pipeline.speech.chunking import ChunkSettings, PlannedChunk, pack
from cesar.pipeline.speech.vad import Probabilities, VadSettings, detect_regions
from cesar.pipeline.stopwatch import Stopwatch


class FrontEnd:
    """Decodes, detects speech and plans chunks, as fast as chunks are consumed."""

    def __init__(self, recording: Recording, options: TranscribeOptions, stopwatch: Stopwatch) -> None:
        self._recording = recording
        self._stopwatch = stopwatch
        self._first = round(options.start * SAMPLE_RATE)
        self._last = None if options.end is None else round(options.end * SAMPLE_RATE)
        self._has_stopped = False
        self._buffer = RingBuffer(self._first)
        self._picker = ChannelPicker(recording.names, self._first)
        self._has_speech = False

    def sounds(self) -> Iterator[ChunkAudio]:
        """Yield the plan's chunks with their samples."""
        heard = self._stopwatch.each("speech detection", self._picker.pick(self._blocks()))
        for chunk in pack(detect_regions(self._recorded(heard), VadSettings()), ChunkSettings()):
            self._has_speech = True
            placed = _moved(chunk, self._first, self._buffer.end)
            yield ChunkAudio(placed, self._buffer.cut(placed.start, placed.end))

    @property
    def warnings(self) -> list[str]:
        """What is wrong with the recording, and which of its channels are transcribed."""
        return [*self._recording.warnings, *self._picker.warnings(has_speech=self._has_speech)]

    def _recorded(self, heard: Iterable[tuple[Samples, Probabilities]]) -> Iterator[Probabilities]:
        for sound, probabilities in heard:
            self._buffer.record(sound)
            yield probabilities

    @property
    def duration(self) -> float:
        """Length of the recording in seconds: as decoded, or as the header states it if decoding stopped at `end`."""
        reached = self._recording.samples_given / SAMPLE_RATE
        header = self._recording.stated_duration if self._has_stopped else None
        return round(max(reached, header or 0.0), 3)

    def _blocks(self) -> Iterator[Channels]:
        """Yield the requested part of the recording."""
        position = 0
        for block in self._stopwatch.each("decode", self._recording.channels()):
            begin, position = position, position + block.shape[1]
            if position > self._first:
                yield block[:, max(0, self._first - begin) : None if self._last is None else self._last - begin]
            if self._last is not None and position >= self._last:
                self._has_stopped = True
                return
        if position <= self._first:
            raise RangeOutsideRecording(
                f"the start ({self._first / SAMPLE_RATE:g} s) lies after the end of {self._recording.path.name} "
                f"({position / SAMPLE_RATE:.1f} s)"
            )


def _moved(chunk: PlannedChunk, by: int, end: int) -> PlannedChunk:
    """Return the chunk with its times shifted, and cut off at the end of the recording."""
    moved = (replace(region, start=region.start + by, end=min(region.end + by, end)) for region in chunk.regions)
    return PlannedChunk(chunk.start + by, min(chunk.end + by, end), tuple(moved))
