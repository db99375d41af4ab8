"""The language of a recording, and the warnings about it."""

import pytest

from cesar.language_summary import RecordingLanguage, recording_language, warnings
from cesar.options import TranscribeOptions
from cesar.transcript import Chunk, Segment, Span

DETECTED = TranscribeOptions()


def chunk(start: float, end: float, language: str, probability: float = 0.9, other: str = "") -> Chunk:
    text = Segment(start, end, "Words.", language=language)
    return Chunk(start, end, (text,), (), language_probability=probability, other_language=other)


def warnings_for(
    *chunks: Chunk, spoken: RecordingLanguage | None = None, options: TranscribeOptions = DETECTED
) -> list[str]:
    return list(warnings(chunks, spoken or RecordingLanguage("en", 0.99), options))


def test_the_language_of_a_recording_is_that_of_most_of_its_text():
    chunks = [chunk(0, 20, "en"), chunk(20, 80, "de", 0.9), chunk(80, 140, "de", 0.8)]
    assert recording_language(chunks, RecordingLanguage("en", 0.99)) == RecordingLanguage("de", 0.85)


def test_a_recording_in_one_language_keeps_the_initial_guess():
    assert recording_language([chunk(0, 20, "en", 0.5)], RecordingLanguage("en", 0.99)) == RecordingLanguage("en", 0.99)


def test_without_text_the_initial_guess_is_kept():
    assert recording_language([Chunk(0, 9, (), ())], RecordingLanguage("cy", 0.4)) == RecordingLanguage("cy", 0.4)


def test_chunks_stored_by_an_older_version_do_not_change_the_language():
    assert recording_language([chunk(0, 9, "", 0.0)], RecordingLanguage("de", 0.9)) == RecordingLanguage("de", 0.9)
    assert warnings_for(chunk(0, 9, "", 0.0)) == []


def test_a_confident_detection_of_one_language_gives_no_warning():
    assert warnings_for(chunk(0, 20, "en"), chunk(20, 40, "en")) == []


def test_an_uncertain_language_is_reported_as_a_guess():
    [warning] = warnings_for(chunk(0, 20, "en"), spoken=RecordingLanguage("en", 0.3))
    assert "English (en), is a guess" in warning
    assert "0.30" in warning
    assert warnings_for(spoken=RecordingLanguage("unknown", 0.0)) == []


def test_a_specified_language_is_not_reported_as_a_guess():
    assert (
        warnings_for(chunk(0, 9, "en"), spoken=RecordingLanguage("en", 0.1), options=TranscribeOptions(language="en"))
        == []
    )


def test_a_change_of_language_is_reported_with_its_times():
    chunks = [
        chunk(0, 20, "en"),
        chunk(20, 35, "de"),
        chunk(35, 50, "de"),
        chunk(50, 70, "en"),
        chunk(3700, 3760, "de"),
    ]
    [warning] = warnings_for(*chunks)
    assert "German (de) at 0:20-0:50, 1:01:40-1:02:40" in warning
    assert "English (en)" in warning


def test_only_the_first_changes_are_listed_and_the_rest_are_counted():
    chunks = [chunk(10 * at, 10 * at + 10, "de" if at % 2 else "en") for at in range(30)]
    [warning] = warnings_for(*chunks)
    assert warning.count("-") == 5
    assert "10 more" in warning


@pytest.mark.parametrize(
    ("options", "fix"),
    [(TranscribeOptions(language="en"), "omit the language"), (DETECTED, "--language")],
    ids=["named", "detected"],
)
def test_speech_clearly_in_a_different_language_from_its_text_is_reported(options, fix):
    [warning] = warnings_for(
        chunk(0, 20, "en"), chunk(20, 50, "en", other="de"), chunk(50, 60, "en", other="de"), options=options
    )
    assert "0:20-1:00" in warning
    assert "German (de)" in warning
    assert fix in warning


def test_text_in_a_language_that_is_hardly_spoken_there_is_reported():
    [warning] = warnings_for(chunk(0, 20, "en"), chunk(20, 35, "en", 0.02, other="unknown"))
    assert warning == (
        "the language of the speech at 0:20-0:35 is unclear, and its text may be wrong: "
        "if you know it, specify it (--language)"
    )


def test_the_spoken_language_is_reported_even_if_text_in_the_wrong_one_was_dropped():
    dropped = Span(1, 8, "dropped", "the text repeated itself", "Rétoulam a un grand")
    [warning] = warnings_for(Chunk(0, 9, (), (dropped,), other_language="de"), options=TranscribeOptions(language="fr"))
    assert "0:00-0:09" in warning
    assert "German (de)" in warning


def test_a_chunk_without_text_gives_no_language_warning():
    assert warnings_for(Chunk(0, 9, (), (), other_language="de")) == []
