"""Which of several audio tracks is transcribed: the one that holds speech.

A recorder writes the desktop and the microphone to a track each, a camera four inputs, a film its languages. The tracks
are listened to with the speech detector first; a file of one track costs nothing more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from cesar.errors import BadAudio, NoAudioTrack, TrackNotFound
from cesar.options import Track
from cesar.pipeline.audio.timeline import Timeline
from cesar.pipeline.channels.picker import ChannelPicker
from cesar.pipeline.media.containers import open_media
from cesar.pipeline.media.frames import Decoded, Frames
from cesar.pipeline.media.structure.pieces import Piece
from cesar.pipeline.samples import SAMPLE_RATE, Channels, joined
from cesar.pipeline.speech.vad import FRAME_S

OnStep = Callable[[], None]

MAX_TRACKS = 32
"""More are not listened to, nor mixed."""
_EXAMINED_S = 600.0
"""After this much, the choice is made once a track has…"""
_ENOUGH_SPEECH_S = 20.0
"""…this much speech. Where none has, listening goes on to the end."""
_MIN_SPEECH_S = 0.5
"""A track with less speech than this holds none."""
_PART = 0.25
"""The file's own first choice is taken if it has this part of the speech of the track that has most."""
_SPEECH = 0.5
_FEW_DAMAGED = 3
"""Packets: so many may be broken where a file is cut off."""
_BLOCK = 4 * SAMPLE_RATE

_LOWEST_RATE = 1_000
_HIGHEST_RATE = 50_000_000
"""Above any recorder's. Preparing to resample from an absurd rate takes minutes and gigabytes."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The audio tracks to be transcribed, counted from 0, and those to be listened to besides."""

    taken: tuple[int, ...]
    watched: tuple[int, ...] = ()
    """Tracks not taken that were not heard to their end before."""
    warnings: tuple[str, ...] = ()


class SpeechMeter:
    """Counts the seconds of speech in a track, in whichever of its channels."""

    def __init__(self) -> None:
        self.speech_s = 0.0
        self._picker = ChannelPicker()
        self._pending: list[Channels] = []
        self._count = 0

    def feed(self, piece: Channels) -> None:
        """Listen to a piece, once there are enough of them."""
        self._pending.append(piece)
        self._count += piece.shape[1]
        if self._count >= _BLOCK:
            self.flush()

    def flush(self) -> None:
        """Listen to what is left."""
        if self._count:
            sound = np.nan_to_num(np.clip(joined(self._pending), -1e3, 1e3)).astype(np.float32)
            for _, found in self._picker.pick([sound]):
                self.speech_s += float((found > _SPEECH).sum()) * FRAME_S
        self._pending, self._count = [], 0

    @property
    def has_speech(self) -> bool:
        """Whether somebody speaks in it."""
        return self.speech_s >= _MIN_SPEECH_S


class Watch:
    """Listens to tracks that are not taken, while the others are transcribed."""

    def __init__(self, name: str, watched: Sequence[int]) -> None:
        self._lines = {index: (Timeline(name), SpeechMeter()) for index in watched}

    def pass_on(self, frames: Iterable[Decoded]) -> Iterator[Decoded]:
        """Yield the frames of all other tracks."""
        for index, frame, position in frames:
            if index not in self._lines:
                yield index, frame, position
                continue
            line, meter = self._lines[index]
            for sound in line.feed(frame):
                meter.feed(sound)

    def with_speech(self) -> list[int]:
        """Return the tracks that hold speech, when all frames have passed."""
        for line, meter in self._lines.values():
            for sound in line.flush():
                meter.feed(sound)
            meter.flush()
        return [index for index, (_, meter) in self._lines.items() if meter.has_speech]


@dataclass(frozen=True, slots=True)
class Part:
    """The part of a recording that is transcribed, in seconds from its start."""

    start: float = 0.0
    end: float = math.inf

    def of(self, sound: Channels, begin: int) -> Channels:
        """Return what lies within the part of a sound that begins at that sample."""
        first, past = (min(max(0.0, time * SAMPLE_RATE - begin), sound.shape[1]) for time in (self.start, self.end))
        return sound[:, int(first) : int(past)]


def choose(
    path: Path,
    container: av.container.InputContainer,
    piece: Piece,
    wanted: Track | None,
    on_step: OnStep,
    part: Part = Part(),
) -> Choice:
    """Choose tracks to transcribe by the speech in a part of the recording; `on_step` is called often.

    Raises `NoAudioTrack`, `BadAudio`, `TrackNotFound`.
    """
    streams = container.streams.audio
    usable = [index for index, stream in enumerate(streams) if _is_usable(stream)]
    if not streams:
        raise NoAudioTrack(f"{path.name} has no audio track")
    if isinstance(wanted, int):
        if not 1 <= wanted <= len(streams):
            raise TrackNotFound(f"{path.name} has {_count(len(streams))}, and no track {wanted}")
        _require_usable(streams[wanted - 1], path)
        return Choice((wanted - 1,))
    best = container.streams.best("audio")
    if not usable:
        _require_usable(best if isinstance(best, av.AudioStream) else streams[0], path)
    first = next((index for index in usable if streams[index] is best or streams[index] == best), usable[0])
    if wanted == "all":
        said = [*_undecodable(streams, usable), *_too_many(usable)]
        return Choice(tuple(usable[:MAX_TRACKS]), warnings=tuple(said))
    if len(usable) == 1:
        return Choice((usable[0],), warnings=tuple(_undecodable(streams, usable)))
    tracks = usable[:MAX_TRACKS]
    said = [*_undecodable(streams, usable), *_too_many(usable)]
    return _chosen(streams, first, _listen(path, piece, tracks, on_step, part), said)


def named(stream: av.AudioStream, index: int) -> str:
    """Name a track as people know it: its number, language and title."""
    tags = [stream.metadata.get(key, "") for key in ("language", "title")]
    known = ", ".join(tag for tag in tags if tag and tag != "und")
    return f"track {index + 1} ({known})" if known else f"track {index + 1}"


def left_out(streams: Sequence[av.AudioStream], indices: Sequence[int]) -> str:
    """Return a warning that tracks which are not taken hold speech."""
    names = ", ".join(named(streams[index], index) for index in indices)
    verb = "holds" if len(indices) == 1 else "hold"
    return f"{names} also {verb} speech, which was not transcribed: choose with --track N, or --track all"


def _undecodable(streams: Sequence[av.AudioStream], usable: Sequence[int]) -> list[str]:
    """Return a warning about the tracks that can't be decoded."""
    names = ", ".join(named(stream, index) for index, stream in enumerate(streams) if index not in usable)
    return [f"{names} can't be decoded: whether there is speech is not known"] if names else []


@dataclass(frozen=True, slots=True)
class _TrackSpeech:
    speech_s: Mapping[int, float]
    """By track."""
    damaged: Mapping[int, int]
    """Packets that could not be decoded, by track."""
    is_through: bool
    """Whether all were heard to their end."""


def _chosen(streams: Sequence[av.AudioStream], first: int, heard: _TrackSpeech, warnings: Sequence[str]) -> Choice:
    speech, tracks = heard.speech_s, list(heard.speech_s)
    most = max(tracks, key=lambda index: (speech[index], index == first, -index))
    taken = first if first in speech and speech[first] >= _PART * speech[most] else most
    if speech[most] < _MIN_SPEECH_S:
        taken = first if first in speech else tracks[0]
    said = f"{named(streams[taken], taken)} of {len(streams)} audio tracks was transcribed"
    others = [index for index in tracks if index != taken]
    talking = [index for index in others if speech[index] >= _MIN_SPEECH_S]
    warnings = [said, *([left_out(streams, talking)] if talking else []), *warnings]
    damaged = [index for index in others if heard.damaged.get(index, 0) > _FEW_DAMAGED]
    if damaged:
        names = ", ".join(named(streams[index], index) for index in damaged)
        warnings.append(f"{names}: damaged, so that speech there may not have been noticed")
    watched = () if heard.is_through else tuple(index for index in others if index not in talking)
    return Choice((taken,), watched, tuple(warnings))


def _listen(path: Path, piece: Piece, tracks: Sequence[int], on_step: OnStep, part: Part) -> _TrackSpeech:
    meters = {index: SpeechMeter() for index in tracks}
    counts = dict.fromkeys(tracks, 0)

    def listen(index: int, sound: Channels) -> None:
        meters[index].feed(part.of(sound, counts[index]))
        counts[index] += sound.shape[1]

    with closing(open_media(path, piece)) as container:
        lines = {index: Timeline(path.name) for index in tracks}
        frames = Frames(container, tracks)
        for index, frame, _ in frames:
            on_step()
            for sound in lines[index].feed(frame):
                listen(index, sound)
            if lines[index].seconds > part.start + _EXAMINED_S and _is_enough(meters):
                return _heard(meters, frames, is_through=False)
            if min(counts.values()) > part.end * SAMPLE_RATE:
                break
        for index, line in lines.items():
            for sound in line.flush():
                listen(index, sound)
            meters[index].flush()
    return _heard(meters, frames, is_through=True)


def _heard(meters: Mapping[int, SpeechMeter], frames: Frames, *, is_through: bool) -> _TrackSpeech:
    speech_s = {track: meter.speech_s for track, meter in meters.items()}
    return _TrackSpeech(speech_s, dict(frames.damaged_in), is_through)


def _is_enough(meters: Mapping[int, SpeechMeter]) -> bool:
    return max(meter.speech_s for meter in meters.values()) >= _ENOUGH_SPEECH_S


def _is_usable(stream: av.AudioStream) -> bool:
    rate = stream.codec_context.sample_rate if stream.codec_context else -1
    return rate == 0 or _LOWEST_RATE <= rate <= _HIGHEST_RATE


def _require_usable(stream: av.AudioStream, path: Path) -> None:
    if stream.codec_context is None:
        raise BadAudio(f"the audio of {path.name} is in a format that can't be decoded")
    if not _is_usable(stream):
        rate = stream.codec_context.sample_rate
        raise BadAudio(f"{path.name} says it has {rate} samples a second, which can't hold speech")


def _too_many(tracks: Sequence[int]) -> list[str]:
    if len(tracks) <= MAX_TRACKS:
        return []
    return [f"only the first {MAX_TRACKS} of {len(tracks)} audio tracks were listened to"]


def _count(tracks: int) -> str:
    return "1 audio track" if tracks == 1 else f"{tracks} audio tracks"
