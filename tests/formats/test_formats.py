"""The registry of formats: names, extensions, lists of names."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given

from cesar.errors import UnknownFormat
from cesar.formats import FORMATS, format_for_path, parse_formats, render
from cesar.transcript import Transcript
from tests.formats.strategies import MODEL, transcripts

SILENCE = Transcript((), "unknown", 0.0, 12.5, MODEL)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("talk.txt", "txt"),
        ("talk.text", "txt"),
        ("talk.srt", "srt"),
        ("talk.vtt", "vtt"),
        ("talk.json", "json"),
        ("talk.tsv", "tsv"),
        ("talk.md", "md"),
        ("talk.markdown", "md"),
        ("two.dots.SRT", "srt"),
        (Path("folder.json/talk.Vtt"), "vtt"),
        ("talk", None),
        ("talk.docx", None),
        (".srt", None),
    ],
)
def test_a_path_names_its_format_by_its_extension(path: str | Path, name: str | None) -> None:
    assert format_for_path(path) == name


def test_a_list_of_formats_keeps_its_order_without_repeats() -> None:
    assert parse_formats("vtt, SRT,vtt,,txt") == ("vtt", "srt", "txt")


@pytest.mark.parametrize(("names", "bad"), [("srt,docx,vtt", "'docx'"), ("", "no format"), (" , ", "no format")])
def test_an_invalid_list_of_formats_is_rejected_by_name(names: str, bad: str) -> None:
    with pytest.raises(UnknownFormat, match=bad) as caught:
        parse_formats(names)
    assert all(name in caught.value.hint for name in FORMATS)


def test_rendering_in_an_unknown_format_is_rejected() -> None:
    with pytest.raises(UnknownFormat, match="'docx'"):
        render(SILENCE, "docx")


def test_no_two_formats_share_an_extension() -> None:
    extensions = [extension for known in FORMATS.values() for extension in known.extensions]
    assert len(extensions) == len(set(extensions))


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
@given(transcript=transcripts())
def test_every_rendering_ends_with_exactly_one_newline_or_is_empty(name: str, transcript: Transcript) -> None:
    text = render(transcript, name)
    assert text == "" or (text.endswith("\n") and not text.endswith("\n\n"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("txt", ""),
        ("srt", ""),
        ("vtt", "WEBVTT\n"),
        ("tsv", "start\tend\ttext\n"),
        ("md", "# Transcript\n\nDuration: 00:00:12 · Language: unknown · Model: base\n"),
    ],
)
def test_silence_renders_as_a_valid_empty_transcript(name: str, text: str) -> None:
    assert render(SILENCE, name) == text
