"""Every field and format of the audio endpoints, through the official Python package."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from openai import OpenAI
from openai.types import Model
from openai.types.audio import Transcription, TranscriptionVerbose

from tests.acceptance.openai.support import LINES, LONG, SPEECH, TEXT, create_async_client, jobs, require_complete

pytestmark = pytest.mark.slow

SEGMENT = {
    "id",
    "seek",
    "start",
    "end",
    "text",
    "tokens",
    "temperature",
    "avg_logprob",
    "compression_ratio",
    "no_speech_prob",
}
OTHER_MODELS = ["gpt-transcribe", "gpt-4o-transcribe", "gpt-4o-mini-transcribe", "gpt-4o-mini-transcribe-2025-12-15"]


def create(client: OpenAI, **fields: Any) -> Any:
    """Call the endpoint as a program would."""
    return client.audio.transcriptions.create(**{"file": SPEECH, "model": "whisper-1", **fields})


def raw(client: OpenAI, **fields: Any) -> dict[str, Any]:
    """Return the JSON as received, before the client parses it into objects."""
    answer = client.audio.transcriptions.with_raw_response.create(**{"file": SPEECH, "model": "whisper-1", **fields})
    return cast("dict[str, Any]", answer.http_response.json())


def test_json_is_the_default_format(client):
    answer = create(client)
    assert isinstance(answer, Transcription)
    require_complete(answer)
    assert answer.text == TEXT
    assert raw(client).keys() == {"text", "usage"}
    assert raw(client) == raw(client, response_format="json")


def test_text_is_the_text_and_a_line_feed(client):
    assert create(client, response_format="text") == TEXT + "\n"


def test_srt_numbers_its_cues(client):
    answer = create(client, response_format="srt")
    assert answer.startswith("1\n00:00:0"), answer
    assert answer.count(" --> ") >= 1
    assert ",".join(answer.split(" --> ")[0].split(",")[-1:]).isdigit()


def test_vtt_starts_with_its_signature(client):
    answer = create(client, response_format="vtt")
    assert answer.startswith("WEBVTT\n\n00:00:0"), answer


def test_verbose_json_has_segments_with_all_ten_fields(client):
    answer = create(client, response_format="verbose_json")
    assert isinstance(answer, TranscriptionVerbose)
    require_complete(answer)
    assert (answer.text, answer.language) == (TEXT, "english")
    assert answer.duration == pytest.approx(11.0, abs=0.05)
    assert answer.segments
    assert [segment.text for segment in answer.segments] == [f" {line}" for line in LINES.values()]
    assert [segment.id for segment in answer.segments] == list(range(len(answer.segments)))
    told = raw(client, response_format="verbose_json")
    assert told.keys() == {"task", "language", "duration", "text", "segments", "usage"}
    assert told["task"] == "transcribe"
    assert all(segment.keys() == SEGMENT for segment in told["segments"])


@pytest.mark.parametrize(
    ("wanted", "parts"),
    [(["segment"], {"segments"}), (["word"], {"words"}), (["word", "segment"], {"words", "segments"})],
    ids=lambda value: "+".join(sorted(value)),
)
def test_only_the_requested_granularities_are_returned(wanted, parts, client):
    answer = create(client, response_format="verbose_json", timestamp_granularities=wanted)
    require_complete(answer)
    told = raw(client, response_format="verbose_json", timestamp_granularities=wanted)
    assert told.keys() & {"words", "segments"} == parts
    if "word" in wanted:
        assert [word.keys() for word in told["words"]] == [{"word", "start", "end"}] * len(TEXT.split())
        assert [word["word"] for word in told["words"]] == [word.strip(",.:;") for word in TEXT.split()]


@pytest.mark.parametrize("language", ["en", "english", "English"])
def test_a_language_may_be_a_code_or_a_name(language, client):
    assert create(client, response_format="verbose_json", language=language).language == "english"


def test_several_candidate_languages_may_be_given(client):
    assert create(client, model="gpt-transcribe", languages=["en", "de"]).text == TEXT


@pytest.mark.parametrize("model", OTHER_MODELS)
def test_openais_other_model_names_mean_the_same_model(model, client):
    answer = create(client, model=model)
    require_complete(answer)
    assert answer.text == TEXT


def test_a_prompt_and_words_to_expect_reach_the_job(client, service):
    answer = client.audio.transcriptions.with_raw_response.create(
        file=SPEECH, model="whisper-1", prompt="A speech.", extra_body={"hotwords": "fellow, country"}
    )
    options = service.job(answer.headers["X-Cesar-Job"])["options"]
    assert (options["prompt"], options["hotwords"]) == ("A speech.", "fellow, country")


def test_keywords_become_hotwords(client, service):
    answer = client.audio.transcriptions.with_raw_response.create(
        file=SPEECH, model="gpt-transcribe", keywords=["fellow", "New York"]
    )
    hotwords = service.job(answer.headers["X-Cesar-Job"])["options"]["hotwords"]
    assert "fellow" in hotwords
    assert "New York" in hotwords


def test_a_temperature_reaches_the_segments(client):
    answer = create(client, response_format="verbose_json", temperature=0.4)
    assert {segment.temperature for segment in answer.segments} == {0.4}


@pytest.mark.parametrize("strategy", ["auto", {"type": "server_vad", "threshold": 0.4, "silence_duration_ms": 300}])
def test_a_chunking_strategy_is_accepted(strategy, client):
    assert create(client, model="gpt-4o-transcribe", chunking_strategy=strategy).text == TEXT


def test_unknown_fields_are_ignored(client):
    assert create(client, extra_body={"vad_filter": True, "foo": {"bar": [1, 2]}}).text == TEXT


def test_whisper_1_ignores_stream(client):
    """As it does at OpenAI."""
    assert create(client, extra_body={"stream": True}).text == TEXT


def test_usage_is_in_seconds_or_tokens_by_model(client):
    assert raw(client)["usage"] == {"type": "duration", "seconds": 12}
    usage = raw(client, model="gpt-4o-transcribe")["usage"]
    assert usage["type"] == "tokens"
    assert usage["output_tokens"] > 0
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert usage["input_tokens"] == sum(usage["input_token_details"].values())


def test_log_probabilities_are_of_the_texts_tokens(client):
    answer = create(client, model="gpt-4o-transcribe", include=["logprobs"])
    require_complete(answer)
    text = bytes(int(byte) for token in answer.logprobs for byte in token.bytes).decode()
    assert text.split() == TEXT.split()
    assert all(token.logprob <= 0 for token in answer.logprobs)
    assert "logprobs" not in raw(client, model="gpt-4o-transcribe")


def test_headers_name_the_request_and_its_job(client, service):
    answers = [client.audio.transcriptions.with_raw_response.create(file=SPEECH, model="whisper-1") for _ in range(2)]
    first, second = (answer.headers["x-request-id"] for answer in answers)
    assert first != second
    assert service.job(answers[0].headers["X-Cesar-Job"])["status"] == "completed"
    assert answers[0].parse().text == TEXT


@pytest.mark.parametrize("response_format", ["json", "text"])
def test_a_header_warns_of_speech_without_text(client, service, response_format):
    """The words end long before the longer recording does."""
    headers = client.audio.transcriptions.with_raw_response.create(
        file=LONG, model="whisper-1", response_format=response_format
    ).headers
    assert "gave no text: no words heard at 0:" in headers["X-Cesar-Warnings"]
    job = service.job(headers["X-Cesar-Job"])
    assert headers["X-Cesar-Warnings"] == "; ".join(job["warnings"])
    assert job["dropped_s"] > 20


def test_a_file_may_be_bytes_a_stream_or_a_path(client):
    content = SPEECH.read_bytes()
    with SPEECH.open("rb") as stream:
        forms: list[Any] = [("talk.m4a", content), ("talk.m4a", content, "audio/mp4"), stream, SPEECH]
        assert {create(client, file=form).text for form in forms} == {TEXT}


# Models


def test_models_are_listed_with_openais_names(client):
    listed = client.models.list().data
    assert {"whisper-1", "gpt-4o-transcribe", "base"} <= {model.id for model in listed}
    for model in listed:
        require_complete(model)
        assert (model.object, client.models.retrieve(model.id)) == ("model", model)


def test_a_models_shutdown_date_is_null(client):
    """It is what OpenAI switches off on 2027-02-26; here nothing is."""
    model = client.models.retrieve("whisper-1")
    assert isinstance(model, Model)
    assert model.model_dump()["shutdown_date"] is None


# The client for asyncio


@pytest.mark.parametrize("form", ["json", "verbose_json", "text", "srt", "vtt"])
def test_the_async_client_gets_the_same(form, client, service):
    async def ask() -> object:
        async with create_async_client(service) as other:
            return await other.audio.transcriptions.create(file=SPEECH, model="whisper-1", response_format=form)

    assert asyncio.run(ask()) == create(client, response_format=form)


def test_a_repeated_request_is_the_same_job(client, service):
    before = {job["id"] for job in jobs(service)}
    create(client, prompt="Nobody else says this.")
    create(client, prompt="Nobody else says this.", response_format="srt")
    assert len({job["id"] for job in jobs(service)} - before) == 1
