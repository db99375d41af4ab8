"""Lists, objects and truth values in every way in which clients write them."""

from __future__ import annotations

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
def test_a_list_is_read_in_every_encoding(fields):
    assert Form(fields).listed("wanted") == ("word", "segment")


def test_an_item_of_a_repeated_field_may_have_commas_and_brackets():
    assert Form([("wanted[]", "Smith, John"), ("wanted[]", "[sic]")]).listed("wanted") == ("Smith, John", "[sic]")


@pytest.mark.parametrize(
    "fields",
    [
        [("wanted[type]", "server_vad"), ("wanted[threshold]", "0.5")],
        [("wanted", '{"type": "server_vad", "threshold": "0.5"}')],
    ],
)
def test_an_object_is_read_in_every_encoding(fields):
    assert Form(fields).structure("wanted") == {"type": "server_vad", "threshold": "0.5"}


def test_a_word_may_stand_in_the_place_of_an_object():
    assert Form([("wanted", "auto")]).structure("wanted") == "auto"
    assert Form([]).structure("wanted") is None


@pytest.mark.parametrize(
    ("text", "is_true"), [("true", True), ("True", True), ("1", True), ("false", False), ("null", False), ("", False)]
)
def test_a_truth_value_is_read(text, is_true):
    assert Form([("stream", text)]).flag("stream") is is_true


def test_what_is_no_truth_value_is_refused_by_its_name():
    with pytest.raises(BadRequest) as refused:
        Form([("stream", "perhaps")]).flag("stream")
    assert refused.value.field == "stream"


def test_of_a_field_that_is_there_twice_the_last_counts_and_an_empty_one_does_not():
    assert Form([("language", "en"), ("language", "de"), ("language", " ")]).text("language") == "de"


def test_json_that_is_too_deep_is_a_text_like_any_other():
    deep = "[" * 30_000
    assert Form([("wanted[]", deep)]).listed("wanted") == (deep,)
