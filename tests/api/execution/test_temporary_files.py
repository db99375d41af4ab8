"""Temporary files of workers: private, and deleted by the next start whatever ended the worker."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
import time
from pathlib import Path

import pytest

from cesar.api.execution import temporary_files
from cesar.settings.config import Settings


def test_the_folder_is_private_and_in_the_data_folder(tmp_path: Path) -> None:
    folder = temporary_files.folder_of(Settings(data_dir=tmp_path / "data"))
    assert folder == tmp_path / "data" / "tmp"
    if sys.platform != "win32":
        assert [stat.S_IMODE(made.stat().st_mode) for made in (folder, folder.parent)] == [0o700, 0o700]


def test_without_settings_the_systems_folder_is_used_and_never_swept() -> None:
    assert temporary_files.folder_of(None) is None
    descriptor, name = tempfile.mkstemp(suffix=".txt")
    os.close(descriptor)
    temporary_files.sweep(None)
    Path(name).unlink()


def test_files_of_killed_workers_are_swept_and_files_in_use_are_not(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    folder = temporary_files.folder_of(settings)
    assert folder is not None
    (folder / "tmpempty.txt").touch()
    (folder / "tmpjust.txt").write_text("A result.")
    (folder / ".cesar-1.part").touch()
    old = folder / ".cesar-2.part"
    old.write_text("Half a res")
    long_ago = time.time() - 7200
    os.utime(old, (long_ago, long_ago))
    temporary_files.sweep(settings)
    assert sorted(file.name for file in folder.iterdir()) == [".cesar-1.part", "tmpjust.txt"]


def test_sweeping_a_missing_folder_is_harmless(tmp_path: Path) -> None:
    temporary_files.sweep(Settings(data_dir=tmp_path / "never"))


@pytest.mark.skipif(sys.platform == "win32", reason="files have no modes there")
def test_a_placeholder_is_readable_by_its_user_only(tmp_path: Path) -> None:
    descriptor, name = tempfile.mkstemp(suffix=".txt", dir=temporary_files.folder_of(Settings(data_dir=tmp_path)))
    os.close(descriptor)
    assert stat.S_IMODE(Path(name).stat().st_mode) == 0o600
