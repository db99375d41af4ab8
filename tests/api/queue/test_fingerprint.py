"""The fingerprint of work: other audio, model, options or code change it; the file's name does not."""

from __future__ import annotations

import ast
import os
from dataclasses import asdict, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

import cesar
from cesar.api.queue import fingerprint as module
from cesar.api.queue.fingerprint import fingerprint
from cesar.errors import Interrupted
from cesar.options import TranscribeOptions
from cesar.runner.messages import EngineSpec

ENGINE = EngineSpec("/models/base", "base", "r1", "d1")
OPTIONS = TranscribeOptions()
OTHER_OPTIONS = TranscribeOptions(
    language="de",
    task="translate",
    prompt="Köln",
    hotwords="Rhein",
    word_timestamps=True,
    track="all",
    start=1.0,
    end=2.0,
    beam_size=3,
    temperature=0.4,
    token_logprobs=True,
)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "talk.wav"
    path.write_bytes(b"the sound" * 100_000)
    return path


def test_the_same_work_has_the_same_fingerprint(recording: Path) -> None:
    print_ = fingerprint(recording, ENGINE, OPTIONS)
    assert print_ == fingerprint(recording, ENGINE, TranscribeOptions())
    assert len(print_) == 64


def test_name_time_and_folder_of_the_file_do_not_change_the_fingerprint(recording: Path) -> None:
    before = fingerprint(recording, ENGINE, OPTIONS)
    os.utime(recording, (1, 1))
    assert fingerprint(recording, ENGINE, OPTIONS) == before
    (recording.parent / "below").mkdir()
    moved = recording.rename(recording.parent / "below" / "other.mp3")
    assert fingerprint(moved, ENGINE, OPTIONS) == before


@pytest.mark.parametrize("at", [0, 450_000, -1])
def test_one_changed_byte_changes_the_fingerprint(recording: Path, at: int) -> None:
    before = fingerprint(recording, ENGINE, OPTIONS)
    sound = bytearray(recording.read_bytes())
    sound[at] ^= 1
    recording.write_bytes(sound)
    assert fingerprint(recording, ENGINE, OPTIONS) != before


def test_a_recording_that_grew_has_another_fingerprint(recording: Path) -> None:
    before = fingerprint(recording, ENGINE, OPTIONS)
    with recording.open("ab") as file:
        file.write(b"\0")
    assert fingerprint(recording, ENGINE, OPTIONS) != before


def test_the_last_byte_of_a_long_recording_counts(tmp_path: Path) -> None:
    """It is read in blocks of 4 MiB."""
    long = tmp_path / "long.wav"
    long.write_bytes(bytes(10 << 20))
    before = fingerprint(long, ENGINE, OPTIONS)
    long.write_bytes(bytes((10 << 20) - 1) + b"\1")
    assert fingerprint(long, ENGINE, OPTIONS) != before


@pytest.mark.parametrize("field", ["name", "revision", "digest", "device", "compute_type"])
def test_the_model_and_how_it_is_run_change_the_fingerprint(recording: Path, field: str) -> None:
    changes: dict[str, Any] = {field: "other"}
    other = replace(ENGINE, **changes)
    assert fingerprint(recording, other, OPTIONS) != fingerprint(recording, ENGINE, OPTIONS)


def test_the_models_folder_and_the_thread_count_do_not_change_the_fingerprint(recording: Path) -> None:
    other = replace(ENGINE, directory="/elsewhere", workers=7)
    assert fingerprint(recording, other, OPTIONS) == fingerprint(recording, ENGINE, OPTIONS)


@pytest.mark.parametrize("field", [field.name for field in fields(TranscribeOptions)])
def test_every_option_changes_the_fingerprint(recording: Path, field: str) -> None:
    others = {**asdict(OTHER_OPTIONS), "languages": ("en", "nl")}
    other = replace(OPTIONS, **{field: others[field]})
    assert fingerprint(recording, ENGINE, other) != fingerprint(recording, ENGINE, OPTIONS)


def test_the_contents_of_a_script_change_the_fingerprint(recording: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text("one")
    engine = EngineSpec(str(script), "scripted", "unknown", "", scripted=True)
    before = fingerprint(recording, engine, OPTIONS)
    assert fingerprint(recording, engine, OPTIONS) == before
    script.write_text("two")
    assert fingerprint(recording, engine, OPTIONS) != before


def test_changed_code_changes_the_fingerprint(recording: Path) -> None:
    before = fingerprint(recording, ENGINE, OPTIONS)
    with patch.object(module, "_code_version", lambda: "other"):
        assert fingerprint(recording, ENGINE, OPTIONS) != before


def test_the_code_is_every_file_that_turns_audio_into_text(tmp_path: Path) -> None:
    package = tmp_path / "cesar"
    for part in ("pipeline", "engines", "assets", "cli"):
        (package / part / "__pycache__").mkdir(parents=True)
        (package / part / "file").write_text("as it was")
    (package / "ledger.py").write_text("as it was")
    (package / "__init__.py").touch()

    def code() -> str:
        with patch("cesar.__file__", str(package / "__init__.py")):
            return module._code_version.__wrapped__()

    before = code()
    for part in ("pipeline", "engines", "assets"):
        (package / part / "file").write_text("changed")
        assert code() != before
        (package / part / "file").write_text("as it was")
        assert code() == before
        (package / part / "new").touch()
        assert code() != before
        (package / part / "new").unlink()
    (package / "ledger.py").write_text("changed")
    assert code() != before
    (package / "ledger.py").write_text("as it was")
    (package / "cli" / "file").write_text("changed")
    (package / "pipeline" / "__pycache__" / "new").touch()
    assert code() == before


def test_what_the_pipeline_imports_from_elsewhere_is_part_of_the_code() -> None:
    """Except what does not affect the text: argument checks, and errors."""
    package = Path(cesar.__file__).parent
    inside = ("cesar.pipeline", "cesar.engines")
    imported = {
        node.module
        for part in ("pipeline", "engines")
        for path in (package / part).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("cesar")
    }
    elsewhere = {name for name in imported if not name.startswith(inside)}
    files = {f"{name.removeprefix('cesar.').replace('.', '/')}.py" for name in elsewhere}
    assert files - set(module._CODE) == {"errors.py", "options.py", "files/readable.py"}
    assert all((package / part).exists() for part in module._CODE)


def test_the_version_of_every_computing_library_changes_the_fingerprint() -> None:
    before = module._code_version.__wrapped__()
    for library in ("av", "ctranslate2", "numpy", "onnxruntime", "tokenizers"):

        def another(name: str, library: str = library) -> str:
            return "0" if name == library else version(name)

        with patch("cesar.api.queue.fingerprint.version", another):
            assert module._code_version.__wrapped__() != before


def test_hashing_a_long_recording_can_be_stopped(recording: Path) -> None:
    with pytest.raises(Interrupted):
        fingerprint(recording, ENGINE, OPTIONS, lambda: True)
    assert fingerprint(recording, ENGINE, OPTIONS, lambda: False) == fingerprint(recording, ENGINE, OPTIONS)


def test_a_missing_recording_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fingerprint(tmp_path / "nothing.wav", ENGINE, OPTIONS)
