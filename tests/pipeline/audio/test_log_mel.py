import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cesar.pipeline.audio.log_mel import FRAMES_PER_SECOND, HOP_SAMPLES, _mel_filters, log_mel
from cesar.pipeline.samples import SAMPLE_RATE, Samples
from tests.support import media


def reference(samples: Samples, *, frames: int, n_mels: int) -> npt.NDArray[np.float64]:
    """openai/whisper's `log_mel_spectrogram`, word by word, in float64 and with a plain DFT."""
    sound = np.concatenate([samples.astype(np.float64), np.zeros(30 * SAMPLE_RATE)])[: frames * 160]
    padded = np.concatenate([sound[200:0:-1], sound, sound[-2:-202:-1]])
    angles = 2 * np.pi * np.outer(np.arange(400), np.arange(201)) / 400
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    windows = np.stack([padded[160 * t : 160 * t + 400] * hann for t in range(frames)])
    power = (windows @ np.cos(angles)) ** 2 + (windows @ np.sin(angles)) ** 2
    spectrum = np.log10(np.maximum(power @ slaney_filters(n_mels).T, 1e-10)).T
    clipped: npt.NDArray[np.float64] = np.maximum(spectrum, spectrum.max() - 8.0)
    return (clipped + 4.0) / 4.0


def slaney_filters(n_mels: int) -> npt.NDArray[np.float64]:
    """Triangles in hertz, evenly spaced in mel (linear below 1 kHz, 27 steps for a factor of 6.4 above), area 1."""

    def mel(hertz: float) -> float:
        return hertz * 3 / 200 if hertz < 1000 else 15 + 27 * np.log(hertz / 1000) / np.log(6.4)

    def hertz(mel: float) -> float:
        return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)

    edges = [hertz(mel(8000) * i / (n_mels + 1)) for i in range(n_mels + 2)]
    filters = np.zeros((n_mels, 201))
    for band in range(n_mels):
        low, peak, high = edges[band : band + 3]
        for index in range(201):
            at = index * 40.0
            height = min((at - low) / (peak - low), (high - at) / (high - peak))
            filters[band, index] = max(0.0, height) * 2 / (high - low)
    return filters


def speech_like(length: int, seed: int) -> Samples:
    noise = np.random.default_rng(seed).normal(0, 0.1, length)
    sound: Samples = (noise * np.sin(np.arange(length) / 3_000) ** 2).astype(np.float32)
    return sound


@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize("sound", [media.tone(2), media.white_noise(2.5), speech_like(40_000, 3), media.silence(1)])
def test_features_are_those_of_openai_whisper(sound, n_mels):
    found = log_mel(sound, frames=300, n_mels=n_mels)
    assert found.dtype == np.float32
    assert found.shape == (n_mels, 300)
    np.testing.assert_allclose(found, reference(sound, frames=300, n_mels=n_mels), atol=2e-3)


@pytest.mark.slow
@given(length=st.integers(0, 20_000), frames=st.integers(2, 150), seed=st.integers(0, 9))
@settings(max_examples=20)
def test_any_length_gives_exactly_the_frames_asked_for(length, frames, seed):
    sound = speech_like(length, seed)
    found = log_mel(sound, frames=frames, n_mels=80)
    assert found.shape == (80, frames)
    np.testing.assert_allclose(found, reference(sound, frames=frames, n_mels=80), atol=5e-3)


@given(length=st.integers(0, 30_000), seed=st.integers(0, 9))
@settings(max_examples=25)
def test_filling_up_is_the_same_as_appended_silence(length, seed):
    sound = speech_like(length, seed)
    filled = np.concatenate([sound, np.zeros(32_000 - length, np.float32)])
    np.testing.assert_array_equal(log_mel(sound, frames=200, n_mels=80), log_mel(filled, frames=200, n_mels=80))


def test_sound_beyond_the_frames_asked_for_is_cut():
    sound = speech_like(64_000, 1)
    np.testing.assert_array_equal(log_mel(sound, frames=200, n_mels=80), log_mel(sound[:32_000], frames=200, n_mels=80))


def test_the_loudest_frame_lies_where_the_sound_is():
    sound = np.concatenate([media.silence(1), media.tone(0.1), media.silence(1)])
    loudest = int(log_mel(sound, frames=210, n_mels=80).max(axis=0).argmax())
    assert loudest / FRAMES_PER_SECOND == pytest.approx(1.05, abs=0.05)


def test_features_reach_exactly_two_below_their_maximum():
    """8 in log10, divided by 4."""
    found = log_mel(np.concatenate([media.tone(1), media.silence(1)]), frames=200, n_mels=80)
    assert found.max() - found.min() == pytest.approx(2.0, abs=1e-5)


def test_silence_gives_the_lowest_value_everywhere():
    np.testing.assert_allclose(log_mel(media.silence(1), frames=100, n_mels=80), -1.5, rtol=1e-6)


@pytest.mark.parametrize(
    ("band", "index", "value"),
    [
        (0, 1, 0.02486259490251541),
        (1, 1, 0.001990821911022067),
        (1, 2, 0.022871771827340126),
        (9, 10, 0.006945197004824877),
        (39, 41, 0.011486922390758991),
        (40, 50, 0.0),
        (69, 131, 0.00487553421407938),
        (79, 190, 0.0022320549469441175),
        (79, 192, 0.0031647116411477327),
        (79, 199, 0.0004487590049393475),
    ],
)
def test_mel_filters_are_those_that_librosa_makes(band, index, value):
    """Published values of `librosa.filters.mel(sr=16000, n_fft=400, n_mels=80)`."""
    assert _mel_filters(80)[band, index] == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("n_mels", [80, 128])
def test_mel_filters_are_narrow_triangles_in_rising_order(n_mels):
    filters = _mel_filters(n_mels)
    assert filters.shape == (n_mels, 201)
    assert (filters >= 0).all()
    peaks = filters.argmax(axis=1)
    assert (np.diff(peaks) >= 0).all()
    np.testing.assert_allclose(filters, slaney_filters(n_mels), atol=1e-6)


def test_hops_are_ten_milliseconds():
    assert HOP_SAMPLES / SAMPLE_RATE == 1 / FRAMES_PER_SECOND == 0.01
