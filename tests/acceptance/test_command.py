"""`cesar transcribe` on real recordings, from outside: inputs, formats, times, events, Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.faults.jobs import pace
from tests.runner.support import is_running, recognisers, wait_until
from tests.support import media

pytestmark = pytest.mark.slow

TEXT = "Ask not."
SPEECH = media.AUDIO / "jfk.m4a"
SPEECH_S = 11.005
FORMATS = ("txt", "srt", "vtt", "json", "tsv", "md")
SAID = {
    "chinese.flac": ("zh", "自己的"),
    "french.aiff": ("fr", "dictée"),
    "german.ogg": ("de", "dinosaurier"),
    "japanese.mp3": ("ja", "キャンプ"),
    "jfk.m4a": ("en", "what your country can do for you"),
    "phone-prompt-8k.wav": ("en", "you have successfully installed and executed"),
    "short-video.mp4": ("en", "experience proves this"),
    "sonnet-1-opening.webm": ("en", "from fairest creatures we desire"),
    "stereo-two-talkers.wav": ("en", "the wizard"),
}
"""By recording, each in another container: its language, and words that even a small model recognises."""


def content(text: str) -> str:
    """Return the words of a text without its layout."""
    return re.sub(r"[\W_]+", "", text).lower()


def read_json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def assert_covers(ledger: list[dict[str, Any]], duration: float) -> None:
    """See that the ledger goes from start to end without gap or overlap."""
    assert ledger[0]["start"] == 0
    assert ledger[-1]["end"] == duration
    assert all(span["start"] < span["end"] for span in ledger)
    assert all(before["end"] == after["start"] for before, after in pairwise(ledger))


# The words come from a script.


def test_a_piped_recording_gives_outputs_named_stdin(program, samples_of):
    """The index of this MP4 comes last, so the program has to go back in what it was sent."""
    recording = media.write_media(program.folder / "talk.mp4", samples_of(SPEECH))
    assert recording.read_bytes().rfind(b"moov") > recording.stat().st_size / 2
    with subprocess.Popen(["cat", recording], stdout=subprocess.PIPE) as recorder:
        done = program.run("transcribe", "-", "-d", "out", "-f", "txt,json", "-q", stdin=recorder.stdout)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (program.folder / "out" / "stdin.txt").read_text(encoding="utf-8") == f"{TEXT}\n"
    assert read_json(program.folder / "out" / "stdin.json")["text"] == TEXT


def test_standard_output_has_the_text_and_standard_error_one_line(program):
    done = program.run("transcribe", SPEECH)
    assert (done.returncode, done.stdout) == (0, f"{TEXT}\n")
    [line] = [line for line in done.stderr.splitlines() if "gave no text" not in line]  # the script says but little
    assert re.fullmatch(r".*jfk\.m4a: 11\.0 s in [\d.]+ s \([\d.]+x\), en", line)


def test_times_count_from_the_start_of_the_recording_whatever_the_part(program):
    program.run("transcribe", SPEECH, "--start", "1.5", "--end", "0:06", "-o", "part.json")
    part = read_json(program.folder / "part.json")
    assert [(line["start"], line["end"]) for line in part["segments"]] == [(2.0, 4.0)]
    assert part["duration"] == pytest.approx(SPEECH_S, abs=0.1)
    assert_covers(part["ledger"], part["duration"])
    first, *_, last = part["ledger"]
    assert (first["end"], first["kind"], first["reason"]) == (1.5, "dropped", "not asked for")
    assert (last["start"], last["kind"], last["reason"]) == (6.0, "dropped", "not asked for")


def test_events_cover_every_file_in_order(program):
    media.write_text(program.folder / "bad.mp3")
    done = program.run("transcribe", "bad.mp3", SPEECH, "--json-lines", "-d", "out")
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 3
    assert {event["event"] for event in events} == {
        "file_started",
        "progress",
        "segment",
        "file_finished",
        "file_failed",
    }
    bad = [event for event in events if event["file"] == "bad.mp3"]
    good = [event for event in events if event["file"] == str(SPEECH)]
    assert events == bad + good
    assert (bad[0]["event"], bad[-1]["event"]) == ("file_started", "file_failed")
    assert (bad[-1]["code"], bad[-1]["exit_code"]) == ("not_media", 3)
    assert (good[0]["event"], good[-1]["event"]) == ("file_started", "file_finished")
    assert [event["text"] for event in good if event["event"] == "segment"] == [TEXT]
    positions = [event["position"] for event in good if event["event"] == "progress"]
    assert positions == sorted(positions)
    assert positions[-1] == good[-1]["duration"] == SPEECH_S


# Real weights, real words.


@pytest.fixture(scope="module")
def texts(program_in, tmp_path_factory):
    """Every recording in every format: the folder of what one run made of them all."""
    folder = tmp_path_factory.mktemp("texts")
    recordings = [media.AUDIO / name for name in SAID]
    arguments = ["-m", "base", "-d", folder, "-f", ",".join(FORMATS), "--word-timestamps", "--offline", "-q"]
    done = program_in(folder).run("transcribe", *recordings, *arguments, timeout=400)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder


@pytest.mark.model
@pytest.mark.parametrize("name", SAID)
def test_every_container_is_transcribed(name, texts):
    transcript = read_json(texts / f"{Path(name).stem}.json")
    language, words = SAID[name]
    assert transcript["language"] == language
    assert content(words) in content(transcript["text"])


@pytest.mark.model
@pytest.mark.parametrize("name", SAID)
def test_every_format_has_the_same_words(name, texts):
    form = {ending: (texts / f"{Path(name).stem}.{ending}").read_text(encoding="utf-8") for ending in FORMATS}
    spoken = content(form["txt"])
    assert spoken
    assert content(json.loads(form["json"])["text"]) == spoken
    assert content(cues(form["srt"])) == spoken
    assert form["vtt"].startswith("WEBVTT\n\n")
    assert content(re.sub(r"<[^>]*>", "", cues(form["vtt"].removeprefix("WEBVTT")))) == spoken
    header, *rows = form["tsv"].splitlines()
    assert header == "start\tend\ttext"
    assert content("".join(row.split("\t")[2] for row in rows)) == spoken
    paragraphs = form["md"].split("\n\n")[2:]  # after the title and the line of facts
    assert content("".join(re.sub(r"^\[[\d:]+\]", "", text) for text in paragraphs)) == spoken


def cues(subtitles: str) -> str:
    """Return the displayed lines: neither numbers nor times."""
    blocks = [block.splitlines() for block in subtitles.strip().split("\n\n")]
    return "".join(line for block in blocks for line in block[[" --> " in each for each in block].index(True) + 1 :])


@pytest.mark.model
@pytest.mark.parametrize("name", SAID)
def test_words_lie_in_their_segments_and_segments_in_the_recording_in_order(name, texts):
    transcript = read_json(texts / f"{Path(name).stem}.json")
    assert_covers(transcript["ledger"], transcript["duration"])
    assert_in_order(transcript["segments"], 0.0, transcript["duration"])
    for segment in transcript["segments"]:
        assert_in_order(segment["words"], segment["start"], segment["end"])
        assert content("".join(word["text"] for word in segment["words"])) == content(segment["text"])


def assert_in_order(parts: list[dict[str, Any]], start: float, end: float) -> None:
    """See that the parts follow one another between start and end, and that each takes some time."""
    assert parts
    edges = [start, *(edge for part in parts for edge in (part["start"], part["end"])), end]
    assert edges == sorted(edges)
    assert all(part["start"] < part["end"] for part in parts)


@pytest.mark.model
def test_a_part_has_the_times_of_the_whole(program, texts):
    """The second half of the sentence is the same, transcribed with the whole or alone."""
    arguments = ["-m", "base", "--start", "7.9", "--word-timestamps", "-o", "part.json", "-q"]
    assert program.run("transcribe", SPEECH, *arguments, timeout=200).returncode == 0
    part = read_json(program.folder / "part.json")
    assert content("ask what you can do for your country") == content(part["text"])
    assert_covers(part["ledger"], SPEECH_S)
    whole = read_json(texts / "jfk.json")
    assert starts_of("country.", part)[-1] == pytest.approx(starts_of("country.", whole)[-1], abs=0.3)


def starts_of(word: str, transcript: dict[str, Any]) -> list[float]:
    words = [word for segment in transcript["segments"] for word in segment["words"]]
    return [each["start"] for each in words if each["text"] == word]


@pytest.mark.model
def test_french_is_transcribed_in_french_and_translated_into_english(program):
    french = media.AUDIO / "french.aiff"
    written = program.run("transcribe", french, "-m", "base", "-l", "fr", "-q", timeout=200)
    translated = program.run("transcribe", french, "-m", "base", "--translate", "-q", timeout=200)
    assert (written.returncode, translated.returncode) == (0, 0)
    assert content("la dictée numéro") in content(written.stdout)
    assert content("the dictation number") in content(translated.stdout)


@pytest.mark.model
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it looks for the children in /proc")
@pytest.mark.parametrize("moment", ["loading", "recognising", "segment"])
def test_ctrl_c_ends_real_work_within_a_second_without_half_a_file_or_a_child(moment, program):
    (program.folder / "out").mkdir()
    (program.folder / "out" / "sonnet-1.srt").write_text("mine", encoding="utf-8")
    arguments = ["-m", "tiny.en", "-d", "out", "-f", "srt,txt", "--json-lines"]
    within_s = 1.0 * pace()
    with program.start("transcribe", media.AUDIO / "sonnet-1.mp3", *arguments) as running:
        assert running.stderr is not None
        events = (json.loads(line) for line in running.stderr)
        next(event for event in events if moment in (event["event"], event.get("phase")))
        wait_until(lambda: recognisers(running.pid))
        children = recognisers(running.pid)
        begun = time.monotonic()
        os.killpg(running.pid, signal.SIGINT)
        *_, last = events
        assert running.wait(timeout=60) == 130
        wait_until(lambda: not any(map(is_running, children)))
        assert time.monotonic() - begun < within_s
    assert last["code"] == "interrupted"
    written = {path.name: path.read_text(encoding="utf-8") for path in (program.folder / "out").iterdir()}
    assert written == {"sonnet-1.srt": "mine"}
