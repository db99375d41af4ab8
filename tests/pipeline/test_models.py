"""The pipeline with real weights on real speech, and on what is none."""

import re
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest

from cesar.engines.base import DecodeSettings, EncodedWindow, Window
from cesar.engines.hardware import Plan, choose, probe
from cesar.engines.whisper.engine import WhisperEngine
from cesar.models.store import locate
from cesar.options import TranscribeOptions
from cesar.pipeline.audio.decode import Recording
from cesar.pipeline.audio.log_mel import log_mel
from cesar.pipeline.request import Outcome, Request
from cesar.pipeline.run import transcribe
from cesar.pipeline.samples import SAMPLE_RATE, Samples
from cesar.transcript import Chunk, ModelIdentity, Segment
from tests.support import media

pytestmark = pytest.mark.model


class Load(Protocol):
    def __call__(self, name: str, *, own_decoder: bool = True) -> WhisperEngine: ...


@pytest.fixture(scope="module")
def plan() -> Plan:
    return choose(probe(), device="cpu", compute_type="auto", workers=2, model_bytes=2**27)


@pytest.fixture(scope="module")
def load(plan, tmp_path_factory) -> Load:
    """Models by name, from the packages of weights, each loaded once."""
    store = tmp_path_factory.mktemp("models")
    loaded: dict[tuple[str, bool], WhisperEngine] = {}

    def get(name: str, *, own_decoder: bool = True) -> WhisperEngine:
        key = (name, own_decoder and plan.own_decoder)
        if key not in loaded:
            model = locate(name, store=store, allow_network=False)
            identity = ModelIdentity(model.name, model.revision, model.digest, plan.device, plan.compute_type)
            loaded[key] = WhisperEngine(model.directory, identity, replace(plan, own_decoder=key[1]))
        return loaded[key]

    return get


class Collected:
    def __init__(self) -> None:
        self.chunks: list[Chunk] = []

    def opened(self, duration: float | None) -> None: ...

    def alive(self) -> None: ...

    def progressed(self, reached: float) -> None: ...

    def finished(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)

    def skipped(self, start: float, end: float) -> None: ...

    @property
    def text(self) -> str:
        return " ".join(segment.text for chunk in self.chunks for segment in chunk.segments)


def run(path, engine, plan, options: TranscribeOptions | None = None) -> tuple[Outcome, Collected]:
    collected = Collected()
    return transcribe(Request(path, options or TranscribeOptions()), engine, plan, collected), collected


def speech(name: str) -> Samples:
    recording = Recording(media.AUDIO / name)
    samples = np.concatenate(list(recording.blocks()))
    recording.close()
    return samples


def heard(engine: WhisperEngine, sound: Samples) -> EncodedWindow:
    seconds = len(sound) / SAMPLE_RATE
    return engine.encode(Window(log_mel(sound, frames=2250, n_mels=engine.n_mels), 0.0, seconds))


@pytest.mark.parametrize("name", ["base", "tiny.en"])
def test_a_famous_sentence_has_its_words_at_their_times(load, plan, name):
    outcome, collected = run(media.AUDIO / "jfk.m4a", load(name), plan, TranscribeOptions(word_timestamps=True))
    assert "what your country can do for you" in collected.text
    assert collected.text.endswith("what you can do for your country.")
    assert outcome.language == "en"
    words = [word for chunk in collected.chunks for segment in chunk.segments for word in segment.words]
    spoken = {word.text: word.start for word in words}  # the last time, where it is said twice
    assert spoken["fellow"] == pytest.approx(1.3, abs=0.3)
    assert spoken["not"] == pytest.approx(4.1, abs=0.3)
    assert spoken["country."] == pytest.approx(10.0, abs=0.3)
    assert words[-1].end <= 11.01


@pytest.mark.parametrize(
    "sound",
    [media.silence(60), media.white_noise(60), media.tone(60), media.chords(60)],
    ids=["silence", "white noise", "pure tone", "chords"],
)
def test_what_is_not_speech_gives_no_text(load, plan, tmp_path, sound):
    outcome, collected = run(media.write_wav(tmp_path / "a.wav", sound), load("base"), plan)
    assert collected.text == ""
    assert outcome.duration == 60


@pytest.fixture(scope="module")
def changing(tmp_path_factory) -> Path:
    """An English sentence, then a German one."""
    pause = media.silence(4)
    sound = np.concatenate([speech("jfk.m4a"), pause, speech("german.ogg")])
    return media.write_wav(tmp_path_factory.mktemp("changing") / "changing.wav", sound)


def test_each_part_of_a_recording_is_written_in_its_own_language(load, plan, changing):
    _, collected = run(changing, load("base"), plan)
    segments = [segment for chunk in collected.chunks for segment in chunk.segments]
    assert [segment.language for segment in segments] == sorted((s.language for s in segments), reverse=True)
    assert "country" in " ".join(segment.text for segment in segments if segment.language == "en")
    assert "Wasser kam" in " ".join(segment.text for segment in segments if segment.language == "de")


JOINT_S = 5.2


@pytest.fixture(scope="module")
def changing_soon(tmp_path_factory) -> Path:
    """English, then German, without a long pause: they make one chunk."""
    sound = np.concatenate(
        [speech("jfk.m4a")[: round(JOINT_S * SAMPLE_RATE)], speech("german.ogg")[-9 * SAMPLE_RATE :]]
    )
    return media.write_wav(tmp_path_factory.mktemp("soon") / "a.wav", sound)


def test_a_change_in_the_middle_of_a_chunk_is_found(load, plan, changing_soon):
    _, collected = run(changing_soon, load("base"), plan)
    [chunk] = collected.chunks
    assert [segment.language for segment in chunk.segments] == ["en", *["de"] * (len(chunk.segments) - 1)]
    assert chunk.segments[1].start == pytest.approx(JOINT_S, abs=1.5)
    assert "fellow America" in chunk.segments[0].text
    assert "Dinosaurier" in chunk.segments[-1].text


@pytest.mark.parametrize(
    "options",
    [TranscribeOptions(language="en"), TranscribeOptions(languages=("en", "fr"))],
    ids=["named", "not to choose from"],
)
def test_a_change_in_the_middle_of_a_chunk_to_a_language_that_is_not_allowed_is_marked(
    load, plan, changing_soon, options
):
    _, collected = run(changing_soon, load("base"), plan, options)
    [chunk] = collected.chunks
    assert "de" not in {segment.language for segment in chunk.segments}
    assert chunk.other_language == "de"


def test_a_named_language_stays_and_a_part_in_another_is_reported(load, plan, changing):
    _, collected = run(changing, load("base"), plan, TranscribeOptions(language="en"))
    assert {segment.language for chunk in collected.chunks for segment in chunk.segments} <= {"en"}
    assert [chunk.other_language for chunk in collected.chunks] == ["", "de"]


HOWTO = TranscribeOptions(
    language="en",
    prompt="A talk by Jane Roe of Foobar Ltd. about Kubernetes.",
    hotwords="Roe, Foobar, Kubernetes",
)
"""The words of the how-to on subtitles."""


@pytest.mark.parametrize("options", [HOWTO, replace(HOWTO, prompt=None)], ids=["prompt and hotwords", "hotwords"])
def test_unspoken_words_of_the_prompt_are_not_recognised_in_a_meeting(load, plan, options):
    _, collected = run(media.AUDIO / "meeting-es2003a-0-30s.wav", load("base"), plan, options)
    assert "marketing expert" in collected.text
    assert not {"roe", "foobar", "kubernetes", "ltd"} & set(re.findall(r"\w+", collected.text.lower()))


@pytest.mark.parametrize(
    "sound", [media.silence(20), media.white_noise(20), media.chords(20)], ids=["silence", "white noise", "chords"]
)
def test_a_prompt_gives_no_text_where_nobody_speaks(load, plan, tmp_path, sound):
    assert run(media.write_wav(tmp_path / "a.wav", sound), load("base"), plan, HOWTO)[1].text == ""


@pytest.mark.parametrize("name", ["base", "tiny.en"])
def test_words_of_the_prompt_that_are_spoken_are_kept(load, plan, name):
    options = TranscribeOptions(language="en", prompt="Arts and crafts.", hotwords="Kubernetes, printing", end=8.0)
    _, collected = run(media.AUDIO / "printing-lj.m4a", load(name), plan, options)
    text = " ".join(re.findall(r"\w+", collected.text.lower()))
    assert text.startswith("printing in the only sense")
    assert "all the arts and crafts" in text


def test_a_prompted_run_gives_the_same_bytes_with_other_threads_and_batches(load, plan):
    path = media.AUDIO / "meeting-es2003a-0-30s.wav"
    first = run(path, load("base"), plan, HOWTO)[1].chunks
    assert run(path, load("base"), replace(plan, workers=1, batch_size=1), HOWTO)[1].chunks == first


def test_two_runs_give_the_same_bytes_with_other_threads_and_batches(load, plan):
    path = media.AUDIO / "meeting-es2003a-0-30s.wav"
    first = run(path, load("tiny.en"), plan)[1].chunks
    assert run(path, load("tiny.en"), replace(plan, workers=1, batch_size=1))[1].chunks == first
    assert first


def test_german_speech_is_detected_as_german(load, plan):
    outcome, collected = run(media.AUDIO / "german.ogg", load("base"), plan)
    assert outcome.language == "de"
    assert "wasser" in collected.text.lower()


@pytest.mark.parametrize("beam_size", [1, 5])
def test_a_result_does_not_depend_on_the_length_of_others_in_the_batch(load, beam_size):
    """A text that runs on is cut short somewhere: not where another window of the batch would be."""
    engine = load("base")
    short, long = heard(engine, media.white_noise(4)), heard(engine, speech("printing-lj.m4a")[: 15 * SAMPLE_RATE])
    settings = DecodeSettings("en", prompt="la la la la la la la la", beam_size=beam_size)
    assert engine.decode([short, long], settings)[0] == engine.decode([short], settings)[0]


@pytest.mark.parametrize("name", ["base", "tiny.en"])
def test_windows_of_one_batch_change_no_bit_of_each_other(load, name):
    engine, sound = load(name), speech("printing-lj.m4a")
    windows = [
        heard(engine, sound[at * SAMPLE_RATE :][: length * SAMPLE_RATE]) for at, length in [(0, 9), (9, 20), (30, 3)]
    ]
    settings = DecodeSettings("en", beam_size=1)
    assert engine.decode(windows, settings) == [engine.decode([window], settings)[0] for window in windows]


@pytest.mark.parametrize(
    ("name", "prompt"), [("base", None), ("tiny.en", None), ("tiny.en", "On the history of the art of printing.")]
)
def test_our_own_decoder_gives_the_text_of_ctranslate2(load, plan, name, prompt):
    """Both are in int8, and round in other places: of a hundred words two or three are others."""
    if not plan.own_decoder:
        pytest.skip("this processor is not one for it")
    engine, sound = load(name), speech("printing-lj.m4a")
    windows = [heard(engine, sound[start * SAMPLE_RATE :][: 20 * SAMPLE_RATE]) for start in range(0, 160, 10)]
    settings = DecodeSettings("en", prompt=prompt, beam_size=1)
    own = engine.decode(windows, settings)
    other = load(name, own_decoder=False).decode(windows, settings)
    words, expected = (" ".join(hypothesis.text for hypothesis in texts).split() for texts in (own, other))
    assert len(words) > 600
    assert SequenceMatcher(None, words, expected, autojunk=False).ratio() > 0.93
    apart = [
        (abs(ours.avg_logprob - theirs.avg_logprob), abs(ours.no_speech_prob - theirs.no_speech_prob))
        for ours, theirs in zip(own, other, strict=True)
    ]
    assert max(np.median(apart, axis=0)) < 0.03


@pytest.mark.parametrize("own_decoder", [True, False])
def test_a_prompt_of_any_length_is_accepted(load, own_decoder):
    """Whisper has 448 places for prompt and text together: a text that runs on must stop before the last."""
    settings = DecodeSettings("en", prompt="la " * 400, beam_size=1)
    engine = load("base", own_decoder=own_decoder)
    (hypothesis,) = engine.decode([heard(engine, media.white_noise(16))], settings)
    assert hypothesis.token_count < 448 - 220


def test_fast_speech_is_not_cut_off_in_the_middle(load):
    """Whisper may write 224 tokens: a quick talker, or a language in small pieces, needs more than half of them."""
    sound = speech("printing-lj.m4a")
    faster = np.interp(np.arange(17 * SAMPLE_RATE) * 1.9 + 22 * SAMPLE_RATE, np.arange(len(sound)), sound)
    engine = load("base")
    (hypothesis,) = engine.decode([heard(engine, faster.astype(np.float32))], DecodeSettings("en"))
    assert hypothesis.token_count > 113


def segments_of(collected: Collected) -> list[Segment]:
    return [segment for chunk in collected.chunks for segment in chunk.segments]


@pytest.mark.parametrize("name", ["base", "tiny.en"])
def test_a_segments_tokens_decode_to_its_text(load, plan, name):
    engine = load(name)
    _, collected = run(media.AUDIO / "printing-lj.m4a", engine, plan, TranscribeOptions(end=40.0))
    segments = segments_of(collected)
    assert len(segments) > 1
    for segment in segments:
        assert engine._tokens._tokenizer.decode(list(segment.tokens)).strip() == segment.text
        assert 0 <= segment.start - segment.seek / 100 < 30
        assert segment.token_logprobs == ()


def test_token_logprobs_are_the_models_own(load, plan):
    """Without timestamps they are a part of what `avg_logprob` is the mean of."""
    path, options = media.AUDIO / "jfk.m4a", TranscribeOptions(token_logprobs=True)
    _, plain = run(path, load("tiny.en"), plan)
    _, collected = run(path, load("tiny.en"), plan, options)
    for segment, without in zip(segments_of(collected), segments_of(plain), strict=True):
        assert len(segment.token_logprobs) == len(segment.tokens) > 0
        assert all(-30 < logprob <= 0 for logprob in segment.token_logprobs)
        assert replace(segment, token_logprobs=(), token_bytes=()) == without
        assert len(segment.token_bytes) == len(segment.tokens)
        said = bytes.fromhex("".join(segment.token_bytes)).decode()
        assert said.split() == segment.text.split()
        assert sum(segment.token_logprobs) / len(segment.tokens) > segment.avg_logprob - 0.3


def test_token_logprobs_with_timestamps_add_up_to_the_score(load):
    engine = load("tiny.en", own_decoder=False)  # temperatures are CTranslate2's
    settings = DecodeSettings("en", beam_size=1, prompt="The art of the book.")
    sound = heard(engine, speech("printing-lj.m4a")[: 15 * SAMPLE_RATE])
    (hypothesis,) = engine.decode([sound], settings)
    (drawn,) = engine.decode([sound], replace(settings, temperature=1e-6))
    assert drawn.text == hypothesis.text
    assert drawn.utterances == hypothesis.utterances
    assert drawn.avg_logprob == pytest.approx(hypothesis.avg_logprob, abs=0.001)
    assert drawn.no_speech_prob == pytest.approx(hypothesis.no_speech_prob, abs=1e-6)


def test_sampled_text_is_the_same_with_other_threads_and_batches_and_after_resuming(load, plan):
    path, options = media.AUDIO / "printing-lj.m4a", TranscribeOptions(temperature=0.6, end=33.0)
    whole = run(path, load("tiny.en"), plan, options)[1].chunks
    assert run(path, load("tiny.en"), replace(plan, workers=1, batch_size=1), options)[1].chunks == whole
    collected = Collected()
    done = tuple((chunk.start, chunk.end) for chunk in whole[:1])
    transcribe(Request(path, options, done), load("tiny.en"), plan, collected)
    assert collected.chunks == whole[1:] != []
    assert {segment.temperature for chunk in whole for segment in chunk.segments} >= {0.6}


def test_a_higher_temperature_samples_another_text(load):
    engine, sound = load("tiny.en"), speech("printing-lj.m4a")[: 15 * SAMPLE_RATE]
    drawn = [
        engine.decode([heard(engine, sound)], DecodeSettings("en", temperature=temperature))[0]
        for temperature in (0.01, 0.6)
    ]
    assert drawn[0].text != drawn[1].text
    assert drawn[0].avg_logprob > drawn[1].avg_logprob
    assert [hypothesis.temperature for hypothesis in drawn] == [0.01, 0.6]


def test_a_senseless_sample_gives_no_text_and_is_soon_abandoned(load):
    engine, sound = load("tiny.en"), speech("meeting-es2003a-0-30s.wav")[: 15 * SAMPLE_RATE]
    (hypothesis,) = engine.decode([heard(engine, sound)], DecodeSettings("en", temperature=1.0))
    assert hypothesis.token_count < 60
    assert hypothesis.text == ""
