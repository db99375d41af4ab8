import dataclasses
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cesar.transcript import (
    Chunk,
    ModelIdentity,
    Progress,
    Segment,
    Span,
    Transcript,
    Word,
    chunk_from_dict,
    segment_from_dict,
)

times = st.integers(0, 10**7).map(lambda ms: ms / 1000)
texts = st.text(max_size=20)
ratios = st.floats(-10, 10)
words = st.builds(Word, times, times, texts, st.floats(0, 1))
segments = st.builds(
    Segment,
    *(times, times, texts, st.lists(words, max_size=3).map(tuple), ratios, ratios, ratios, st.floats(0, 1)),
    seek=st.integers(0, 10**7),
    tokens=st.lists(st.integers(0, 51_865), max_size=3).map(tuple),
    token_logprobs=st.lists(ratios, max_size=3).map(tuple),
)
spans = st.builds(
    Span, times, times, st.sampled_from(["speech", "silence", "dropped"]), st.none() | texts, st.none() | texts
)
chunks = st.builds(
    Chunk,
    times,
    times,
    st.lists(segments, max_size=3).map(tuple),
    st.lists(spans, max_size=3).map(tuple),
    st.lists(texts, max_size=2).map(tuple),
)
transcripts = st.builds(
    Transcript,
    segments=st.lists(segments, max_size=3).map(tuple),
    language=st.sampled_from(["en", "zh", "unknown"]),
    language_probability=st.floats(0, 1),
    duration=times,
    model=st.builds(ModelIdentity, texts, texts, texts, st.just("cpu"), st.just("int8")),
    settings=st.just({"language": None, "beam_size": 5}),
    timings=st.dictionaries(st.sampled_from(["decode", "total"]), times),
    warnings=st.lists(texts, max_size=2).map(tuple),
    ledger=st.lists(spans, max_size=3).map(tuple),
    is_partial=st.booleans(),
)


def made_of(*parts: str, language: str = "en") -> Transcript:
    model = ModelIdentity("base", "unknown", "0" * 64, "cpu", "int8")
    return Transcript(tuple(Segment(i, i + 1, text) for i, text in enumerate(parts)), language, 1.0, 9.0, model)


@given(transcripts)
def test_a_transcript_survives_json(transcript):
    assert Transcript.from_dict(json.loads(json.dumps(transcript.to_dict()))) == transcript


@given(chunks)
def test_a_chunk_survives_json(chunk):
    assert chunk_from_dict(json.loads(json.dumps(dataclasses.asdict(chunk)))) == chunk


@given(segments)
def test_a_segment_survives_json(segment):
    assert segment_from_dict(json.loads(json.dumps(dataclasses.asdict(segment)))) == segment


@given(chunks)
def test_a_chunk_stored_before_tokens_existed_is_read_without_them(chunk):
    stored = json.loads(json.dumps(dataclasses.asdict(chunk)))
    for segment in stored["segments"]:
        for name in ("seek", "tokens", "token_logprobs"):
            del segment[name]
    read = chunk_from_dict(stored)
    assert all((segment.seek, segment.tokens, segment.token_logprobs) == (0, (), ()) for segment in read.segments)
    assert [segment.text for segment in read.segments] == [segment.text for segment in chunk.segments]


def test_the_dictionary_of_a_transcript_includes_the_running_text():
    assert made_of("One.", "Two.").to_dict()["text"] == "One. Two."


@pytest.mark.parametrize(
    ("language", "text"), [("en", "A. B."), ("de", "A. B."), ("zh", "A.B."), ("ja", "A.B."), ("ko", "A. B.")]
)
def test_segments_are_joined_as_the_language_is_written(language, text):
    assert made_of("A.", "B.", language=language).text == text


def test_silence_is_an_empty_transcript():
    assert made_of(language="unknown").text == ""


def test_transcripts_are_immutable():
    transcript = made_of("One.")
    for value, name in [(transcript, "language"), (transcript.segments[0], "text"), (Span(0, 1, "speech"), "kind")]:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, "other")


def test_a_transcript_can_be_sent_to_another_process():
    transcript = made_of("One.")
    assert pickle.loads(pickle.dumps(transcript)) == transcript


@pytest.mark.parametrize(
    ("position", "duration", "fraction"), [(0, 10, 0), (5, 10, 0.5), (11, 10, 1), (5, None, None), (5, 0, None)]
)
def test_progress_has_a_fraction_once_the_duration_is_known(position, duration, fraction):
    assert Progress("recognising", position, duration).fraction == fraction


def test_a_translation_is_joined_as_english_whatever_the_spoken_language():
    model = ModelIdentity("base", "r", "d", "cpu", "int8")
    segments = (Segment(0.0, 1.0, "One."), Segment(1.0, 2.0, "Two."))
    spoken = Transcript(segments, "ja", 1.0, 2.0, model, settings={"task": "transcribe"})
    translated = Transcript(segments, "ja", 1.0, 2.0, model, settings={"task": "translate"})
    assert (spoken.text, translated.text) == ("One.Two.", "One. Two.")


MODEL = ModelIdentity("base", "unknown", "0" * 64, "cpu", "int8")
LONG = "It was the best of times, it was the worst of times."


def test_the_repr_of_a_long_transcript_is_one_short_line() -> None:
    words = tuple(Word(0.0, 1.0, "times", 0.5) for _ in range(1000))
    segments = tuple(Segment(n, n + 1, LONG, words, tokens=(1,) * 500) for n in range(500))
    transcript = Transcript(segments, "en", 0.9, 3725.5, MODEL, warnings=("one", "two"), is_partial=True)
    assert repr(transcript) == (
        "<Transcript 3725.5 s, en, 500 segments, 2 warnings, unfinished: "
        "'It was the best of times, it was the worst of times. It was…'>"
    )
    assert repr(segments[0]) == (
        "<Segment 0 to 1 s, 1000 words: 'It was the best of times, it was the worst of times.'>"
    )
    assert len(repr(Chunk(0.0, 15.0, segments, ()))) < 120
    assert len(repr([transcript])) < 200


def test_the_repr_of_an_empty_transcript_and_of_one_segment_are_readable() -> None:
    assert repr(Transcript((), "unknown", 0.0, 1.0, MODEL)) == "<Transcript 1 s, unknown, 0 segments: ''>"
    assert repr(Chunk(0.0, 1.5, (Segment(0.25, 1.0, "Hm."),), ())) == "<Chunk 0 to 1.5 s, 1 segment: 'Hm.'>"


def test_the_texts_of_several_languages_are_joined_as_each_is_written() -> None:
    texts = [("en", "One."), ("en", "Two."), ("zh", "今天。"), ("zh", "明天。"), ("en", "Three."), ("", "四。")]
    segments = tuple(Segment(n, n + 1, text, language=code) for n, (code, text) in enumerate(texts))
    assert Transcript(segments, "zh", 1.0, 9.0, MODEL).text == "One. Two.今天。明天。 Three.四。"
    translated = Transcript(segments[:2], "zh", 1.0, 9.0, MODEL, settings={"task": "translate"})
    assert translated.text == "One. Two."
