import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cesar.errors import UnknownLanguage, UsageError
from cesar.options import TranscribeOptions


def test_the_default_options_transcribe_the_whole_recording_in_any_language():
    options = TranscribeOptions()
    assert (options.language, options.task, options.start, options.end) == (None, "transcribe", 0.0, None)


@pytest.mark.parametrize(("given", "code"), [("en", "en"), ("German", "de"), ("JA", "ja"), (None, None)])
def test_a_language_is_stored_as_its_code(given, code):
    assert TranscribeOptions(language=given).language == code


@pytest.mark.parametrize("given", ["en,nl", " English, dut ,eng", ["en", "nl"], ("nld", "en", "nl")])
def test_candidate_languages_are_stored_as_unique_codes(given):
    assert set(TranscribeOptions(languages=given).languages) == {"en", "nl"}


def test_a_single_candidate_is_the_language():
    options = TranscribeOptions(languages=("German", "deu"))
    assert (options.language, options.languages) == ("de", ())


@pytest.mark.parametrize("given", ["en,", ",", "en,klingon"])
def test_an_unknown_candidate_language_is_rejected(given):
    with pytest.raises(UnknownLanguage):
        TranscribeOptions(languages=given)


def test_language_and_languages_are_mutually_exclusive():
    with pytest.raises(UsageError, match="together"):
        TranscribeOptions(language="de", languages=("de", "en"))


def test_an_unknown_language_is_rejected_by_name():
    with pytest.raises(UnknownLanguage, match="klingon"):
        TranscribeOptions(language="klingon")


@pytest.mark.parametrize(
    "wrong",
    [
        {"task": "summarise"},
        {"beam_size": 0},
        {"beam_size": 33},
        {"temperature": -0.1},
        {"temperature": 1.1},
        {"temperature": math.nan},
        {"track": 0},
        {"track": -1},
        {"track": True},
        {"track": 1.5},
        {"track": "both"},
        {"start": -1.0},
        {"start": math.nan},
        {"start": math.inf},
        {"start": 1e308},
        {"start": 1e9 + 1},
        {"end": 1e308},
        {"start": 1e300, "end": 1e308},
        {"end": 0.0},
        {"start": 5.0, "end": 5.0},
        {"start": 5.0, "end": 4.0},
        {"end": math.nan},
        {"end": math.inf},
    ],
    ids=str,
)
def test_an_invalid_option_is_rejected_with_a_hint(wrong):
    with pytest.raises(UsageError) as caught:
        TranscribeOptions(**wrong)
    assert caught.value.code == "bad_option"
    assert caught.value.hint


@given(st.floats(0, 1e6), st.floats(0.001, 1e6), st.integers(1, 32))
def test_any_reasonable_range_is_accepted(start, length, beam_size):
    options = TranscribeOptions(start=start, end=start + length + 0.001, beam_size=beam_size)
    assert options.end is not None
    assert options.start < options.end


def test_options_are_immutable_but_can_be_copied():
    options = TranscribeOptions(language="en")
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.task = "translate"  # type: ignore[misc]
    assert dataclasses.replace(options, task="translate").language == "en"


def test_a_changed_copy_is_checked_too():
    with pytest.raises(UsageError):
        dataclasses.replace(TranscribeOptions(), beam_size=0)


def test_options_survive_conversion_to_a_dictionary():
    options = TranscribeOptions(language="german", prompt="Namen: Čapek", start=1.5, end=3)
    assert TranscribeOptions(**dataclasses.asdict(options)) == options
