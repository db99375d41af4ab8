"""Files and folders private to the owner, under any umask."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cesar.api.execution.download.partial_file import PartialFile
from cesar.api.storage.location import DatabaseLocation
from cesar.files import private

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there, files have no modes")


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("umask")
def test_a_new_folder_and_its_new_parents_are_private(tmp_path: Path) -> None:
    private.make_folder(tmp_path / "one" / "two")
    assert {mode_of(tmp_path / "one"), mode_of(tmp_path / "one" / "two")} == {0o700}


def test_an_existing_folder_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    private.make_folder(tmp_path)
    assert mode_of(tmp_path) == 0o755


def test_a_file_where_a_folder_should_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"[Ff]ile exists|Not a directory"):
        private.make_folder(tmp_path / "file")


@pytest.mark.usefixtures("umask")
def test_a_new_database_is_private(tmp_path: Path) -> None:
    place = DatabaseLocation(tmp_path / "data" / "cesar.db")
    place.prepare()
    assert (mode_of(tmp_path / "data"), mode_of(tmp_path / "data" / "cesar.db")) == (0o700, 0o600)


@pytest.mark.usefixtures("umask")
def test_fetched_recordings_are_private(tmp_path: Path) -> None:
    part = PartialFile.open(tmp_path / "job.part", lambda: False)
    part._file.close()
    assert mode_of(tmp_path / "job.part") == 0o600


def test_a_database_in_a_folder_set_up_for_a_group_belongs_to_the_group(tmp_path: Path) -> None:
    tmp_path.chmod(0o2770)
    before = os.umask(0o002)
    try:
        DatabaseLocation(tmp_path / "cesar.db").prepare()
    finally:
        os.umask(before)
    assert (mode_of(tmp_path), mode_of(tmp_path / "cesar.db")) == (0o2770, 0o660)


def test_an_existing_database_and_the_files_beside_it_are_made_private(tmp_path: Path) -> None:
    names = ("cesar.db", "cesar.db-lock", "cesar.db.before-0002")
    for name in names:
        (tmp_path / name).write_bytes(b"")
        (tmp_path / name).chmod(0o644)
    for name in ("audio", "models", "tmp"):
        (tmp_path / name).mkdir()
    tmp_path.chmod(0o755)
    DatabaseLocation(tmp_path / "cesar.db").prepare()
    assert {mode_of(tmp_path / name) for name in names} == {0o600}
    assert mode_of(tmp_path) == 0o700


def test_a_folder_with_other_things_in_it_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("ours")
    (tmp_path / "notes.txt").chmod(0o644)
    tmp_path.chmod(0o755)
    DatabaseLocation(tmp_path / "cesar.db").prepare()
    assert (mode_of(tmp_path), mode_of(tmp_path / "notes.txt")) == (0o755, 0o644)
    assert mode_of(tmp_path / "cesar.db") == 0o600


def test_symbolic_links_are_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("")
    target.chmod(0o644)
    (tmp_path / "link").symlink_to(target)
    assert not private.tighten(tmp_path / "link")
    assert mode_of(target) == 0o644
