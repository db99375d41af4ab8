"""The rendering of each format, read back by a strict parser of that format."""

from __future__ import annotations

import html
import json
import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from markdown_it import MarkdownIt

from cesar.formats import render
from cesar.formats.subtitles.cues import Cue, cues
from cesar.formats.typography import flatten
from cesar.transcript import Origin, Segment, Span, Transcript, Word
from tests.formats.strategies import MODEL, transcripts


def transcript_of(*segments: Segment, language: str = "en") -> Transcript:
    return Transcript(segments, language, 1.0, 100.0, MODEL)


def read_cue(block: str, decimal_mark: str) -> Cue:
    times, *lines = block.split("\n")
    found = re.fullmatch(
        rf"(\d\d):(\d\d):(\d\d){decimal_mark}(\d\d\d) --> (\d\d):(\d\d):(\d\d){decimal_mark}(\d\d\d)", times
    )
    assert found, times
    assert all(line.strip() for line in lines)
    assert lines
    hours, minutes, seconds, millis, *end = map(int, found.groups())
    start_ms = ((hours * 60 + minutes) * 60 + seconds) * 1000 + millis
    end_ms = ((end[0] * 60 + end[1]) * 60 + end[2]) * 1000 + end[3]
    return Cue(start_ms / 1000, end_ms / 1000, tuple(lines))


def read_srt(text: str) -> list[Cue]:
    found = []
    for number, block in enumerate(text.removesuffix("\n").split("\n\n") if text else [], start=1):
        counter, _, rest = block.partition("\n")
        assert counter == str(number)
        assert rest.count("-->") == 1
        found.append(read_cue(rest, ","))
    return found


def read_vtt(text: str) -> list[Cue]:
    header, *blocks = text.removesuffix("\n").split("\n\n")
    assert header == "WEBVTT"
    found = []
    for block in blocks:
        assert block.count("-->") == 1
        cue = read_cue(block, r"\.")
        assert not any(re.search(r"<|&(?!amp;|lt;|gt;)", line) for line in cue.lines)
        found.append(replace(cue, lines=tuple(html.unescape(line) for line in cue.lines)))
    return found


@given(transcripts())
def test_srt_reads_back_as_its_cues(transcript: Transcript) -> None:
    def shorten(line: str) -> str:
        return line.replace("-->", "->")

    expected = [replace(cue, lines=tuple(map(shorten, cue.lines))) for cue in cues(transcript)]
    assert read_srt(render(transcript, "srt")) == expected


@pytest.mark.slow
@given(transcripts())
def test_vtt_reads_back_as_its_cues(transcript: Transcript) -> None:
    assert read_vtt(render(transcript, "vtt")) == cues(transcript)


@pytest.mark.slow
@given(transcripts())
def test_txt_has_every_word_in_paragraphs_of_one_line(transcript: Transcript) -> None:
    text = render(transcript, "txt")
    shown = text.removesuffix("\n").split("\n\n") if text else []
    assert all(paragraph == flatten(paragraph) != "" for paragraph in shown)
    spoken = "".join(flatten(segment.text) for segment in transcript.segments)
    assert re.sub(r"[ .]", "", "".join(shown)) == re.sub(r"[ .]", "", spoken)


@given(transcripts())
def test_tsv_has_one_segment_a_row_in_milliseconds(transcript: Transcript) -> None:
    header, *rows, rest = render(transcript, "tsv").split("\n")
    assert (header, rest) == ("start\tend\ttext", "")
    assert [tuple(row.split("\t")) for row in rows] == [
        (str(round(segment.start * 1000)), str(round(segment.end * 1000)), flatten(segment.text))
        for segment in transcript.segments
        if flatten(segment.text)
    ]


@given(transcripts())
def test_json_reads_back_as_the_same_transcript(transcript: Transcript) -> None:
    read = Transcript.from_dict(json.loads(render(transcript, "json")))
    assert read == transcript
    assert read.origin == transcript.origin


def test_json_contains_every_field_of_a_transcript() -> None:
    segment = Segment(0.0, 1.5, "Grüße!", (Word(0.0, 1.5, "Grüße!", 0.75),), -0.2, 1.1, 0.01, 0.2)
    transcript = Transcript(
        segments=(segment,),
        language="de",
        language_probability=0.99,
        duration=3.0,
        model=MODEL,
        settings={"beam_size": 5, "prompt": None},
        timings={"total": 0.5},
        warnings=("a GPU is there, but can't be used",),
        ledger=(Span(0.0, 1.5, "speech"), Span(1.5, 3.0, "dropped", "repetition", "Grüße! Grüße!")),
        is_partial=True,
    )
    text = render(transcript, "json")
    assert Transcript.from_dict(json.loads(text)) == transcript
    assert "Grüße" in text


def test_json_has_each_list_of_tokens_on_one_line_and_every_other_item_on_its_own() -> None:
    words = (Word(0.0, 1.0, "Hm.", 0.5),)
    segment = Segment(
        0.0, 1.0, "Hm.", words, tokens=(1, 2, 3), token_logprobs=(-0.5, -0.25, 0.0), token_bytes=("48", "6d", "2e")
    )
    text = render(replace(transcript_of(segment), warnings=("one", "two")), "json")
    lines = text.splitlines()
    assert '      "tokens": [1, 2, 3],' in lines
    assert '      "token_logprobs": [-0.5, -0.25, 0.0],' in lines
    assert '      "token_bytes": ["48", "6d", "2e"],' in lines
    assert '    "one",' in lines
    assert '          "text": "Hm.",' in lines
    plain = json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    assert "".join(plain.split()) == "".join(text.split())


def test_json_has_null_for_nan() -> None:
    """NaN is not JSON: a strict parser would reject the whole file."""
    segment = Segment(0.0, 1.0, "Hm.", avg_logprob=-math.inf, compression_ratio=math.nan)
    data = json.loads(render(transcript_of(segment), "json"), parse_constant=lambda name: 1 / 0)
    assert data["segments"][0]["avg_logprob"] is None
    assert data["segments"][0]["compression_ratio"] is None


def test_hours_continue_after_the_first_day() -> None:
    late = transcript_of(Segment(90_061.5, 90_063.0, "Still here?"))
    assert "25:01:01,500 --> 25:01:03,000" in render(late, "srt")
    assert "25:01:01.500 --> 25:01:03.000" in render(late, "vtt")
    assert "[25:01:01] Still here?" in render(late, "md")


# Markdown, read by a CommonMark parser.


@given(transcripts())
def test_markdown_shows_every_text_as_it_is_and_nothing_as_markup(transcript: Transcript) -> None:
    parser = MarkdownIt("commonmark")
    blocks = parser.parse(render(transcript, "md"))
    assert [block.type for block in blocks[:3]] == ["heading_open", "inline", "heading_close"]
    assert {block.type for block in blocks[3:]} == {"paragraph_open", "inline", "paragraph_close"}
    inline = [block.children or [] for block in blocks if block.type == "inline"]
    assert "".join(child.content for child in inline[0]) == (flatten(transcript.origin.recording or "") or "Transcript")
    assert {child.type for children in inline for child in children} == {"text"}
    shown = ["".join(child.content for child in children) for children in inline[2:]]
    texts = [re.sub(r"^\[\d\d:\d\d:\d\d\] ", "", text) for text in shown]
    assert "".join(texts).split() == "".join(render(transcript, "txt").split("\n")).split()


def test_an_unfinished_transcript_says_so() -> None:
    partial = replace(transcript_of(Segment(0, 1, "Well,")), is_partial=True)
    assert render(partial, "md").startswith(
        "# Transcript\n\nDuration: 00:01:40 · Language: en · Model: base · unfinished\n\n[00:00:00] Well,"
    )


def test_markdown_begins_with_the_recordings_name_date_and_length() -> None:
    origin = Origin("Cesar", "0.1.0", "2026-11-28T12:00:00Z", "board_meeting.m4a", "2024-05-01T09:30:00Z", "media")
    assert render(replace(transcript_of(Segment(0, 1, "Well.")), origin=origin), "md") == (
        "# board\\_meeting.m4a\n\n"
        "Recorded: 2024-05-01 · Duration: 00:01:40 · Language: en · Model: base · Transcribed: 2026-11-28\n\n"
        "[00:00:00] Well.\n"
    )


def test_json_begins_with_the_origin() -> None:
    origin = Origin("Cesar", "0.1.0", "2026-11-28T12:00:00Z", "talk.m4a", "2024-05-01", "media")
    data = json.loads(render(replace(transcript_of(), origin=origin), "json"))
    assert next(iter(data)) == "origin"
    assert Transcript.from_dict(data).origin == origin


def test_json_of_an_earlier_version_can_be_read() -> None:
    """It has no origin, and each token on its own line."""
    transcript = transcript_of(Segment(0, 1, "Well.", tokens=(1, 2)))
    data = transcript.to_dict()
    del data["origin"]
    read = Transcript.from_dict(json.loads(json.dumps(data, indent=2)))
    assert read == transcript
    assert read.origin == Origin()


def test_markup_at_the_start_of_a_line_is_escaped() -> None:
    """Even after a time: the text may be copied without it, or rewrapped by an editor."""
    for text, escaped in [
        ("# one", r"\# one"),
        ("- one", r"\- one"),
        ("1. one", r"1\. one"),
        ("> one", r"\> one"),
    ]:
        assert f"[00:00:00] {escaped}\n" in render(transcript_of(Segment(0, 1, text)), "md")
