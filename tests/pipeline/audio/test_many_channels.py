"""Two channels are mixed as FFmpeg would, and eight and more are read, packed or planar; each stays itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction

import av
import av.error
import av.filter
import numpy as np
import pytest

from cesar.pipeline.audio.decode import Recording
from cesar.pipeline.audio.timeline import Timeline
from cesar.pipeline.samples import SAMPLE_RATE, Channels, Samples
from tests.support import media

_FRAME = 1024


def frames(sound: media.Sound, form: str) -> Iterator[av.AudioFrame]:
    """A decoder's frames: float32[channels, n] in that sample format, as FFmpeg lays them out."""
    graph = av.filter.Graph()
    layout = f"{len(sound)} channels"
    source = graph.add_abuffer(format="flt", sample_rate=SAMPLE_RATE, layout=layout, time_base=Fraction(1, SAMPLE_RATE))
    graph.link_nodes(source, graph.add("aformat", f"sample_fmts={form}"), graph.add("abuffersink")).configure()
    for at in range(0, sound.shape[1], _FRAME):
        part = np.ascontiguousarray(sound[:, at : at + _FRAME].T).reshape(1, -1)
        packed = av.AudioFrame.from_ndarray(part, format="flt", layout=layout)
        packed.sample_rate, packed.pts, packed.time_base = SAMPLE_RATE, at, Fraction(1, SAMPLE_RATE)
        graph.push(packed)
        frame = graph.pull()
        assert isinstance(frame, av.AudioFrame)
        yield frame


def read(sound: media.Sound, form: str) -> Channels:
    line = Timeline("a")
    parts = [part for frame in frames(sound, form) for part in line.feed(frame)]
    return np.concatenate([*parts, *line.flush()], axis=1)


@pytest.fixture(scope="module")
def talk() -> media.Sound:
    return media.speech()[: 3 * SAMPLE_RATE]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["fltp", "s16p", "s32p", "dblp", "u8p", "flt", "s16"])
@pytest.mark.parametrize("count", [7, 8, 9, 12, 16, 17, 33, 64])
def test_each_of_many_channels_is_read_and_an_opposite_one_is_turned_round(talk, count, form):
    shares = np.linspace(1, 0.5, count, dtype=np.float32)
    given = shares[:, np.newaxis] * talk
    turned = given.copy()
    turned[2] *= -1
    found = read(turned, form)
    tolerance = {"u8p": 0.05, "s16p": 1e-3, "s16": 1e-3}.get(form, 1e-4)
    np.testing.assert_allclose(found[1:], given, atol=tolerance)
    np.testing.assert_allclose(found[0], given.mean(axis=0), atol=tolerance)


@pytest.mark.parametrize("ending", ["m4a", "ogg", "flac", "wav"])
def test_a_film_in_seven_point_one_is_read(tmp_path, talk, ending):
    nothing = np.zeros_like(talk)
    sound = np.repeat(np.stack([talk, talk, *[nothing] * 6], axis=1), 3, axis=0)
    path = media.write_media(tmp_path / f"a.{ending}", sound, rate=48_000)
    with closing(Recording(path)) as recording:
        found = np.concatenate(list(recording.channels()), axis=1)
    assert len(found) == 9
    heard, said = found[0][: len(talk)], talk[: found.shape[1]]
    shift = int(np.argmax(np.correlate(heard[:SAMPLE_RATE], said[2000 : SAMPLE_RATE - 2000]))) - 2000
    aligned = np.roll(heard, -shift)[4000 : 2 * SAMPLE_RATE]
    assert float(np.corrcoef(aligned, said[4000 : 2 * SAMPLE_RATE])[0, 1]) > 0.9


def ffmpegs_mono(frames: list[av.AudioFrame]) -> Samples:
    """What FFmpeg itself makes of stereo when it is asked for one channel."""
    graph = av.filter.Graph()
    first = frames[0]
    source = graph.add_abuffer(
        format=first.format,
        sample_rate=first.sample_rate,
        layout=first.layout,
        time_base=Fraction(1, first.sample_rate),
    )
    resampled = graph.add("aresample", "rematrix_maxval=1")
    wanted = graph.add("aformat", f"sample_rates={SAMPLE_RATE}:sample_fmts=flt:channel_layouts=mono")
    graph.link_nodes(source, resampled, wanted, graph.add("abuffersink")).configure()
    parts = []
    for frame in [*frames, None]:
        graph.push(frame)
        while True:
            try:
                pulled = graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                break
            assert isinstance(pulled, av.AudioFrame)
            parts.append(pulled.to_ndarray()[0])
    return np.concatenate(parts)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("ending", ["flac", "wav", "mka"])
def test_the_mix_of_stereo_is_ffmpegs_own_to_the_bit(tmp_path, talk, rate, ending):
    sound = np.stack([talk, np.roll(talk, 2) * np.float32(0.6)], axis=1)
    path = media.write_media(tmp_path / f"a.{ending}", sound, rate=rate)
    with av.open(str(path)) as container:
        decoded = list(container.decode(audio=0))
    for frame in decoded:
        frame.pts = None
    with closing(Recording(path)) as recording:
        np.testing.assert_array_equal(np.concatenate(list(recording.blocks())), ffmpegs_mono(decoded))
