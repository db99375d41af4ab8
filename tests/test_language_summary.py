"""What a recording is spoken in, and what the reader is told about it."""

import pytest

from cesar.language_summary import Spoken, spoken_in, warnings
from cesar.options import TranscribeOptions
from cesar.transcript import Chunk, Segment, Span

DETECTED = TranscribeOptions()


def chunk(start: float, end: float, language: str, probability: float = 0.9, other: str = "") -> Chunk:
    text = Segment(start, end, "Words.", language=language)
    return Chunk(start, end, (text,), (), language_probability=probability, other_language=other)


def told(*chunks: Chunk, spoken: Spoken | None = None, options: TranscribeOptions = DETECTED) -> list[str]:
    return list(warnings(chunks, spoken or Spoken("en", 0.99), options))


def test_a_recording_is_in_the_language_of_most_of_its_text():
    chunks = [chunk(0, 20, "en"), chunk(20, 80, "de", 0.9), chunk(80, 140, "de", 0.8)]
    assert spoken_in(chunks, Spoken("en", 0.99)) == Spoken("de", 0.85)


def test_a_recording_in_one_language_keeps_the_first_guess():
    assert spoken_in([chunk(0, 20, "en", 0.5)], Spoken("en", 0.99)) == Spoken("en", 0.99)


def test_without_any_text_the_first_guess_is_all_there_is():
    assert spoken_in([Chunk(0, 9, (), ())], Spoken("cy", 0.4)) == Spoken("cy", 0.4)


def test_chunks_that_an_older_version_stored_tell_no_language():
    assert spoken_in([chunk(0, 9, "", 0.0)], Spoken("de", 0.9)) == Spoken("de", 0.9)
    assert told(chunk(0, 9, "", 0.0)) == []


def test_a_sure_recording_in_one_language_has_no_warning():
    assert told(chunk(0, 20, "en"), chunk(20, 40, "en")) == []


def test_an_unsure_guess_is_called_one():
    [warning] = told(chunk(0, 20, "en"), spoken=Spoken("en", 0.3))
    assert "English (en), is a guess" in warning
    assert "0.30" in warning
    assert told(spoken=Spoken("unknown", 0.0)) == []


def test_a_named_language_is_no_guess():
    assert told(chunk(0, 9, "en"), spoken=Spoken("en", 0.1), options=TranscribeOptions(language="en")) == []


def test_a_change_of_language_is_told_with_its_places():
    chunks = [
        chunk(0, 20, "en"),
        chunk(20, 35, "de"),
        chunk(35, 50, "de"),
        chunk(50, 70, "en"),
        chunk(3700, 3760, "de"),
    ]
    [warning] = told(*chunks)
    assert "German (de) at 0:20-0:50, 1:01:40-1:02:40" in warning
    assert "English (en)" in warning


def test_many_changes_are_counted_instead_of_named():
    chunks = [chunk(10 * at, 10 * at + 10, "de" if at % 2 else "en") for at in range(30)]
    [warning] = told(*chunks)
    assert warning.count("-") == 5
    assert "10 more" in warning


@pytest.mark.parametrize(
    ("options", "remedy"),
    [(TranscribeOptions(language="en"), "leave the language out"), (DETECTED, "--language")],
    ids=["named", "detected"],
)
def test_speech_that_is_clearly_in_another_language_than_its_text_is_told(options, remedy):
    [warning] = told(
        chunk(0, 20, "en"), chunk(20, 50, "en", other="de"), chunk(50, 60, "en", other="de"), options=options
    )
    assert "0:20-1:00" in warning
    assert "German (de)" in warning
    assert remedy in warning


def test_a_text_whose_language_is_hardly_spoken_may_be_false():
    [warning] = told(chunk(0, 20, "en"), chunk(20, 35, "en", 0.02, other="unknown"))
    assert warning == (
        "the language of the speech at 0:20-0:35 is not clear, and its text may be false: "
        "if you know it, name it (--language)"
    )


def test_where_the_text_in_the_wrong_language_was_dropped_the_right_one_is_told():
    dropped = Span(1, 8, "dropped", "the text repeated itself", "Rétoulam a un grand")
    [warning] = told(Chunk(0, 9, (), (dropped,), other_language="de"), options=TranscribeOptions(language="fr"))
    assert "0:00-0:09" in warning
    assert "German (de)" in warning


def test_where_there_is_no_text_there_is_nothing_to_be_told():
    assert told(Chunk(0, 9, (), (), other_language="de")) == []
