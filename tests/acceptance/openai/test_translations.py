"""Translations into English, through the official Python package, which warns of their end at OpenAI."""

from __future__ import annotations

from typing import Any

import pytest
from openai import OpenAI
from openai.types.audio import Translation, TranslationVerbose

from tests.acceptance.openai.support import SPEECH, TEXT, require_complete

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")]


def translate(client: OpenAI, **fields: Any) -> Any:
    """Call the endpoint as a program would."""
    return client.audio.translations.create(**{"file": SPEECH, "model": "whisper-1", **fields})


def test_a_translation_is_json_by_default(client):
    answer = translate(client)
    assert isinstance(answer, Translation)
    require_complete(answer)
    assert answer.text == TEXT


def test_a_verbose_translation_is_english_whatever_the_spoken_language(client):
    answer = translate(client, response_format="verbose_json", prompt="A speech.", temperature=0.0)
    assert isinstance(answer, TranslationVerbose)
    require_complete(answer)
    assert (answer.language, answer.text) == ("english", TEXT)
    assert answer.segments


@pytest.mark.parametrize(("form", "beginning"), [("text", "And so"), ("srt", "1\n00:"), ("vtt", "WEBVTT\n\n00:")])
def test_a_translation_is_available_in_every_format(form, beginning, client):
    assert translate(client, response_format=form).startswith(beginning)


def test_a_translation_is_a_separate_job(client, service):
    answer = client.audio.translations.with_raw_response.create(file=SPEECH, model="whisper-1")
    assert service.job(answer.headers["X-Cesar-Job"])["options"]["task"] == "translate"
