"""Forms, parsed by OpenAI's rules."""

from __future__ import annotations

import pytest

from cesar.api.http.openai.forms import Form
from cesar.api.http.openai.request import OpenAIRequest, ResponseFormat, parse_request
from cesar.errors import BadRequest


def read(*fields: tuple[str, str], task="transcribe") -> OpenAIRequest:
    return parse_request(Form([("model", "gpt-4o-transcribe"), *fields]), task)


def test_a_minimal_request_has_default_options():
    asked = read()
    assert asked.response_format is ResponseFormat.JSON
    assert asked.granularities == {"segment"}
    assert not asked.is_stream
    assert not asked.options.word_timestamps
    assert not asked.options.token_logprobs
    assert asked.options.temperature == 0


@pytest.mark.parametrize("name", ["en", "EN", "english", "English", "en-US"])
def test_a_language_is_a_code_or_a_name(name):
    assert read(("language", name)).options.language == "en"


def test_one_candidate_is_the_language_and_among_several_it_is_detected():
    assert read(("languages[]", "de")).options.language == "de"
    assert read(("languages", '["de", "German"]')).options.language == "de"
    options = read(("languages[]", "de"), ("languages[]", "French")).options
    assert (options.language, options.languages) == (None, ("de", "fr"))


def test_keywords_become_hotwords_beside_cesars_own():
    fields = [("keywords[]", "Cesar"), ("keywords[]", "Frau Müller"), ("hotwords", "queue")]
    assert read(*fields).options.hotwords == "Cesar, Frau Müller, queue"


def test_word_timestamps_are_computed_only_where_they_are_returned():
    word = ("timestamp_granularities[]", "word")
    assert read(word, ("response_format", "verbose_json")).options.word_timestamps
    assert not read(word).options.word_timestamps


def test_whisper_1_ignores_stream_and_other_models_stream():
    assert not parse_request(
        Form([("model", "whisper-1"), ("stream", "true"), ("response_format", "srt")]), "transcribe"
    ).is_stream
    assert read(("stream", "true"), ("response_format", "text")).is_stream


def test_a_translation_ignores_the_fields_of_transcriptions():
    asked = read(("language", "de"), ("stream", "true"), ("include[]", "nonsense"), task="translate")
    assert (asked.options.task, asked.options.language, asked.is_stream) == ("translate", None, False)


@pytest.mark.parametrize(
    "fields",
    [
        [("chunking_strategy", "auto")],
        [("chunking_strategy", "null")],
        [("chunking_strategy[type]", "server_vad"), ("chunking_strategy[threshold]", "0.5")],
        [("chunking_strategy", '{"type": "server_vad", "silence_duration_ms": 200}')],
        [("nonsense", "1"), ("nonsense", "2"), ("user[name]", "me")],
        [("known_speaker_names[]", "")],
    ],
)
def test_fields_without_effect_are_accepted(fields):
    assert read(*fields) == read()


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("response_format", [("response_format", "docx")]),
        ("response_format", [("response_format", "diarized_json")]),
        ("temperature", [("temperature", "1.5")]),
        ("temperature", [("temperature", "nan")]),
        ("temperature", [("temperature", "hot")]),
        ("language", [("language", "klingon")]),
        ("languages", [("languages[]", "klingon")]),
        ("languages", [("language", "en"), ("languages[]", "de")]),
        ("keywords", [("keywords[]", "<b>")]),
        ("keywords", [("keywords[]", "one\ntwo")]),
        ("include", [("include[]", "everything")]),
        ("include", [("include[]", "logprobs"), ("response_format", "verbose_json")]),
        ("timestamp_granularities", [("timestamp_granularities[]", "letter")]),
        ("stream", [("stream", "perhaps")]),
        ("stream", [("stream", "true"), ("response_format", "srt")]),
        ("chunking_strategy", [("chunking_strategy", "by hand")]),
        ("chunking_strategy", [("chunking_strategy", '{"type": "client_vad"}')]),
        ("chunking_strategy", [("chunking_strategy[type]", "server_vad"), ("chunking_strategy[threshold]", "2")]),
        ("chunking_strategy", [("chunking_strategy", '{"type": "server_vad", "prefix_padding_ms": "soon"}')]),
        ("known_speaker_names", [("known_speaker_names[]", "Anna")]),
    ],
)
def test_invalid_fields_are_refused_by_name(field, fields):
    with pytest.raises(BadRequest) as refused:
        read(*fields)
    assert refused.value.field == field
    assert refused.value.hint


def test_the_model_is_required():
    with pytest.raises(BadRequest, match="model"):
        parse_request(Form([]), "transcribe")
