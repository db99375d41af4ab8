import os
from pathlib import Path

import av
import pytest

from cesar.cli.transcription.folders import (
    AMBIGUOUS_SUFFIXES,
    MEDIA_SUFFIXES,
    SOUNDLESS_SUFFIXES,
    describe_left_out,
    scan_folder,
)
from cesar.cli.transcription.inputs import expand, left_out
from cesar.errors import RecordingNotFound


def make(folder, *names):
    for name in names:
        (folder / name).write_bytes(b"x")


def demuxer_suffixes():
    found = set()
    for name in av.formats_available:
        try:
            found |= {f".{ending.lower()}" for ending in av.format.ContainerFormat(name, "r").extensions}
        except ValueError:  # a muxer only
            continue
    return found


def test_every_extension_of_ffmpegs_demuxers_is_classified():
    assert demuxer_suffixes() - MEDIA_SUFFIXES - SOUNDLESS_SUFFIXES - AMBIGUOUS_SUFFIXES == set()


def test_no_extension_is_classified_twice():
    assert not MEDIA_SUFFIXES & (SOUNDLESS_SUFFIXES | AMBIGUOUS_SUFFIXES)
    assert not SOUNDLESS_SUFFIXES & AMBIGUOUS_SUFFIXES


@pytest.mark.parametrize("ending", ["asf", "mxf", "3ga", "dss", "awb", "rm", "WTV", "voc", "m2t", "bwf", "mp4a", "gxf"])
def test_extensions_of_recorders_count_as_media_in_a_folder(ending, tmp_path):
    make(tmp_path, f"talk.{ending}")
    assert [path.name for path in scan_folder(tmp_path).media] == [f"talk.{ending}"]


def test_left_out_files_that_may_have_sound_are_named(tmp_path):
    make(tmp_path, "a.mp3", "b.xyz", "no ending", ".hidden.mp3", "c.dat", "d.zip")
    (tmp_path / "older").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")
    assert scan_folder(tmp_path).left_out == (
        ".hidden.mp3",
        "b.xyz",
        "c.dat",
        "d.zip",
        "no ending",
        "older/",
        "pipe.wav",
    )


def test_texts_pictures_and_system_files_are_left_out_silently(tmp_path):
    make(tmp_path, "a.mp3", "a.txt", "a.srt", "a.json", "notes.PDF", "cover.jpg", "._a.mp3", ".DS_Store", "Thumbs.db")
    (tmp_path / ".git").mkdir()
    assert scan_folder(tmp_path).left_out == ()


def test_the_report_of_left_out_names_counts_files_and_folders_with_three_examples_each():
    names = ("a.x", "b.x", "c.x", "d.x", "old/")
    told = "talks: 4 files (a.x, b.x, c.x, …) and 1 folder (old/) left out; name them explicitly to transcribe them"
    assert describe_left_out(Path("talks"), names) == told


def test_only_folders_with_left_out_names_are_reported(tmp_path):
    whole, partly = tmp_path / "whole", tmp_path / "partly"
    for folder in (whole, partly):
        folder.mkdir()
        make(folder, "a.mp3")
    make(partly, "b.xyz")
    given = [str(whole), str(partly), str(tmp_path / "missing"), str(whole / "a.mp3"), "-", ""]
    assert left_out(given) == {partly: ("b.xyz",)}


def test_a_broken_link_in_a_folder_is_reported(tmp_path):
    make(tmp_path, "a.mp3")
    (tmp_path / "b.mp3").symlink_to(tmp_path / "gone.mp3")
    found, missing = expand([str(tmp_path)])
    assert found.problem is None
    assert isinstance(missing.problem, RecordingNotFound)
