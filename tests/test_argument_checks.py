"""Arguments of the wrong type: the error says what to pass, and no work starts."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from cesar import AudioTranscriber, SubtitleOptions, TranscribeOptions
from cesar.errors import RecordingNotFound, UsageError
from cesar.settings.config import Settings

SPEECH = Path(__file__).parent / "audio" / "jfk.m4a"


@pytest.fixture
def transcriber() -> AudioTranscriber:
    return AudioTranscriber("scripted:there-is-none.json", settings=Settings())


@pytest.mark.parametrize(
    ("path", "message", "hint"),
    [
        (b"talk.mp3", "path is bytes", "os.fsdecode(path)"),
        (bytearray(100_000), "path is bytearray", "must be written to a file first"),
        (io.BytesIO(b"RIFF"), "path is an open file", "Pass its path"),
        (["a.mp3", "b.mp3"], "path is a list", "one path per call"),
        (None, "path is None", "Pass text or a Path"),
        (7, "path is 7, an int", "Pass text or a Path"),
    ],
)
def test_a_path_of_the_wrong_type_raises_an_error_that_says_what_to_pass(
    transcriber, path: Any, message: str, hint: str
) -> None:
    with pytest.raises(UsageError) as error:
        transcriber.transcribe(path)
    assert error.value.message == message
    assert hint in error.value.hint
    with pytest.raises(UsageError):
        next(transcriber.stream(path))


def test_an_output_path_of_the_wrong_type_is_named_in_the_error(transcriber) -> None:
    with pytest.raises(UsageError, match="output_path is bytes"):
        transcriber.transcribe_file(SPEECH, b"out.txt")
    with pytest.raises(UsageError, match="input_path is None"):
        transcriber.transcribe_file(None, "out.txt")


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"language": "en"}, "options is a dict", "Pass TranscribeOptions(**options)."),
        ("en", "options is 'en', a str", "Pass TranscribeOptions(...)."),
        ([], "options is [], a list", "Pass TranscribeOptions(...)."),
        (False, "options is False, a bool", "Pass TranscribeOptions(...)."),
    ],
)
def test_options_of_the_wrong_type_raise_an_error_that_says_what_to_pass(
    transcriber, options: Any, message: str, hint: str
) -> None:
    with pytest.raises(UsageError) as error:
        transcriber.transcribe(SPEECH, options)
    assert (error.value.message, error.value.hint) == (message, hint)


def test_settings_as_a_dict_raise_an_error_that_says_what_to_pass() -> None:
    with pytest.raises(UsageError, match="settings is a dict") as error:
        AudioTranscriber("base", settings={"offline": True})  # type: ignore[arg-type]
    assert error.value.hint == "Pass cesar.settings.config.load(**settings)."


def test_a_model_may_be_a_path_object() -> None:
    assert AudioTranscriber(Path("my-model"), settings=Settings()).model_size == "my-model"  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="model_size is None"):
        AudioTranscriber(None)  # type: ignore[arg-type]


def test_subtitle_options_as_a_dict_are_rejected_before_anything_is_written(transcriber, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="subtitles is a dict"):
        transcriber.transcribe_file(SPEECH, tmp_path / "a.srt", subtitles={"max_lines": 1})
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("name", ["on_progress", "on_chunk", "should_stop"])
def test_a_callback_must_be_callable(transcriber, name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} is True, a bool"):
        transcriber.transcribe(SPEECH, **{name: True})


def test_done_accepts_only_chunks(transcriber) -> None:
    with pytest.raises(UsageError, match="something other than chunks"):
        transcriber.transcribe(SPEECH, done=[{"start": 0}])


@pytest.mark.parametrize(
    ("field", "value", "hint"),
    [
        ("language", 5, "Pass text or None."),
        ("language", ["en"], "Pass text or None."),
        ("prompt", b"Jane Roe", "Pass text or None."),
        ("hotwords", ["Roe", "Foobar"], "Pass text or None."),
        ("word_timestamps", "yes", "Pass True or False."),
        ("word_timestamps", 1, "Pass True or False."),
        ("token_logprobs", None, "Pass True or False."),
        ("start", "1:30", "Pass a number."),
        ("start", None, "Pass a number."),
        ("end", "10", "Pass a number or None."),
        ("beam_size", "5", "Pass a whole number."),
        ("beam_size", 2.5, "Pass a whole number."),
        ("beam_size", True, "Pass a whole number."),
        ("temperature", (0.0, 0.2), "Pass a number."),
    ],
)
def test_an_option_of_the_wrong_type_raises_an_error_that_says_what_to_pass(field: str, value: Any, hint: str) -> None:
    with pytest.raises(UsageError, match=f"^{field} is ") as error:
        TranscribeOptions(**{field: value})
    assert error.value.hint == hint


def test_numpy_numbers_are_converted_to_plain_numbers() -> None:
    import numpy as np

    given: dict[str, Any] = {"beam_size": np.int64(3), "start": np.float32(1.5), "end": 4}
    options = TranscribeOptions(**given)
    assert [type(value) for value in (options.beam_size, options.start, options.end)] == [int, float, int]
    assert (options.beam_size, options.start, options.end) == (3, 1.5, 4)


def test_none_means_the_default_options(transcriber) -> None:
    with pytest.raises(RecordingNotFound):
        transcriber.transcribe("missing.mp3", None)
    assert SubtitleOptions() == SubtitleOptions(42, 2, 7)
