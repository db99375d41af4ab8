"""Full disks, free space and flushing."""

import errno
import shutil
from pathlib import Path

import pytest

from cesar.files.disk import existing_parent, free_bytes, is_disk_full, put_in_place, sync_folder


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (ValueError("28"), False),
    ],
)
def test_a_disk_is_full_if_it_or_the_users_quota_has_no_space_left(error: Exception, expected: bool) -> None:
    assert is_disk_full(error) is expected


def test_free_space_is_that_of_the_nearest_folder_that_exists(tmp_path: Path) -> None:
    assert existing_parent(tmp_path / "not" / "yet") == tmp_path
    assert 0 < free_bytes(tmp_path / "not" / "yet") <= shutil.disk_usage(tmp_path).total


def test_a_folder_can_be_flushed(tmp_path: Path) -> None:
    sync_folder(tmp_path)


def test_a_complete_file_replaces_the_one_at_its_place(tmp_path: Path) -> None:
    (tmp_path / "queue.db").write_text("old")
    (tmp_path / "queue.db.part").write_text("new")
    put_in_place(tmp_path / "queue.db.part", tmp_path / "queue.db")
    assert [path.name for path in tmp_path.iterdir()] == ["queue.db"]
    assert (tmp_path / "queue.db").read_text() == "new"
