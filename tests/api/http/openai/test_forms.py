"""Lists, objects and truth values in every way in which clients write them."""

from __future__ import annotations

import json

import pytest

from cesar.api.http.openai.forms import Form
from cesar.errors import BadRequest


@pytest.mark.parametrize(
    "fields",
    [
        [("wanted[]", "word"), ("wanted[]", "segment")],
        [("wanted[0]", "word"), ("wanted[1]", "segment")],
        [("wanted", '["word", "segment"]')],
        [("wanted[]", '["word", "segment"]')],
        [("wanted", "word,segment")],
        [("wanted", "word"), ("wanted", "segment")],
        [("wanted", " word , segment ,"), ("wanted[]", "")],
    ],
)
def test_a_list_is_parsed_in_every_encoding(fields):
    assert Form(fields).listed("wanted") == ("word", "segment")


def test_items_of_a_repeated_field_may_contain_commas_and_brackets():
    assert Form([("wanted[]", "Smith, John"), ("wanted[]", "[sic]")]).listed("wanted") == ("Smith, John", "[sic]")


@pytest.mark.parametrize(
    "fields",
    [
        [("wanted[type]", "server_vad"), ("wanted[threshold]", "0.5")],
        [("wanted", '{"type": "server_vad", "threshold": "0.5"}')],
    ],
)
def test_an_object_is_parsed_in_every_encoding(fields):
    assert Form(fields).structure("wanted") == {"type": "server_vad", "threshold": "0.5"}


def test_a_string_may_stand_in_for_an_object():
    assert Form([("wanted", "auto")]).structure("wanted") == "auto"
    assert Form([]).structure("wanted") is None


@pytest.mark.parametrize(
    ("text", "is_true"), [("true", True), ("True", True), ("1", True), ("false", False), ("null", False), ("", False)]
)
def test_a_boolean_is_parsed(text, is_true):
    assert Form([("stream", text)]).flag("stream") is is_true


def test_an_invalid_boolean_is_refused_with_its_field():
    with pytest.raises(BadRequest) as refused:
        Form([("stream", "perhaps")]).flag("stream")
    assert refused.value.field == "stream"


def test_the_last_value_of_a_repeated_field_counts_and_empty_ones_are_ignored():
    assert Form([("language", "en"), ("language", "de"), ("language", " ")]).text("language") == "de"


def test_json_that_is_nested_too_deeply_is_plain_text():
    deep = "[" * 30_000
    assert Form([("wanted[]", deep)]).listed("wanted") == (deep,)


@pytest.mark.parametrize(
    "fields",
    [
        [("wanted", "en," * 20_000)] * 31,
        [("wanted[]", "en")] * 1025,
        [("wanted", json.dumps(["en"] * 5000))],
        [("wanted[]", json.dumps(["en"] * 400))] * 5,
    ],
)
def test_a_list_of_thousands_is_refused_before_it_is_split(fields):
    with pytest.raises(BadRequest) as refused:
        Form(fields).listed("wanted")
    assert refused.value.field == "wanted"
    assert "more than 1024 items" in refused.value.message


def test_a_long_list_is_parsed():
    assert len(Form([("wanted", "en," * 1000)]).listed("wanted")) == 1000
