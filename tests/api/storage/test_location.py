"""Where a database may be: paths, addresses, and network file systems."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cesar.api.repository import JobRepository
from cesar.api.storage.location import DatabaseLocation, file_system_type, is_network_type
from cesar.errors import DatabaseError, DatabaseNotWritable, NetworkFileSystem

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:21 / /proc rw,nosuid - proc proc rw
24 22 0:40 / /home rw - nfs4 server:/home rw
25 24 8:2 / /home/ada/disk rw - xfs /dev/sdb1 rw
26 22 0:41 / /mnt/my\\040share rw - cifs //server/share rw
27 22 0:42 / /mnt/sync rw - fuse.sshfs ada@server: rw
28 22 0:43 / /mnt/usb rw - fuseblk /dev/sdc1 rw
29 22 8:3 / /mnt/twice rw - ext4 /dev/sdd1 rw
30 22 0:44 / /mnt/twice rw master:1 shared:2 - nfs server:/twice rw
31 22 0:45 / /mnt/größe rw - 9p host rw
"""


@pytest.mark.parametrize(
    ("where", "path"),
    [
        ("/data/queue.db", "/data/queue.db"),
        (Path("/data/queue.db"), "/data/queue.db"),
        ("sqlite:////data/queue.db", "/data/queue.db"),
        ("sqlite+pysqlite:////data/queue.db", "/data/queue.db"),
        ("/data/100% größe?#.db", "/data/100% größe?#.db"),
    ],
)
def test_paths_and_addresses_name_a_file(where: str | Path, path: str) -> None:
    place = DatabaseLocation.parse(where)
    assert (place.path, str(place), place.is_memory) == (Path(path), path, False)


def test_relative_paths_and_tildes_are_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert DatabaseLocation.parse("queue.db").path == Path.cwd() / "queue.db"
    assert DatabaseLocation.parse("sqlite:///queue.db").path == Path.cwd() / "queue.db"
    assert DatabaseLocation.parse("~/queue.db").path == Path("/home/ada/queue.db")


@pytest.mark.parametrize("where", [":memory:", "sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_memory_is_not_a_file(where: str) -> None:
    place = DatabaseLocation.parse(where)
    assert (place.path, str(place), place.is_memory, place.is_on_network) == (None, ":memory:", True, False)


@pytest.mark.parametrize(
    "where",
    [
        "postgresql://ada:secret@server/queue",
        "mysql://server/queue",
        "file:///data/queue.db",
        "https://example.org/queue.db",
        "://",
    ],
)
def test_unsupported_urls_are_refused_in_one_line_without_the_password(where: str) -> None:
    with pytest.raises(DatabaseError) as caught:
        DatabaseLocation.parse(where)
    assert "\n" not in caught.value.message
    assert "secret" not in caught.value.message
    assert caught.value.hint == "Give the path of a file."


@pytest.mark.parametrize("where", ["postgresql://server:port/queue", "~nobody-of-that-name/queue.db"])
def test_malformed_urls_are_refused(where: str) -> None:
    with pytest.raises(DatabaseError):
        DatabaseLocation.parse(where)


def test_a_url_without_its_third_slash_is_refused() -> None:
    with pytest.raises(DatabaseError):
        DatabaseLocation.parse("sqlite://queue.db")


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", "ext4"),
        ("/srv/queue", "ext4"),
        ("/homework", "ext4"),
        ("/home", "nfs4"),
        ("/home/ada", "nfs4"),
        ("/home/ada/disk/queue", "xfs"),
        ("/mnt/my share/queue", "cifs"),
        ("/mnt/sync", "fuse.sshfs"),
        ("/mnt/usb", "fuseblk"),
        ("/mnt/twice", "nfs"),
        ("/mnt/größe", "9p"),
    ],
)
def test_the_innermost_and_latest_mount_determines_the_file_system(folder: str, kind: str) -> None:
    assert file_system_type(Path(folder), MOUNTS) == kind


@pytest.mark.parametrize(("name", "escaped"), [("a\tb", r"a\011b"), ("a\nb", r"a\012b"), ("a\\b", r"a\134b")])
def test_mount_points_with_escaped_characters_are_read(name: str, escaped: str) -> None:
    mounts = f"{MOUNTS}32 22 0:46 / /mnt/{escaped} rw - nfs server:/odd rw\n"
    assert file_system_type(Path(f"/mnt/{name}"), mounts) == "nfs"


def test_a_link_is_followed_to_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    mounts = f"{MOUNTS}32 22 0:46 / {tmp_path / 'real'} rw - nfs server:/real rw\n"
    assert file_system_type(tmp_path / "link", mounts) == "nfs"


names = st.lists(st.sampled_from(["a", "b", "ab", "a b"]), max_size=4)


@given(st.dictionaries(names.map(tuple), st.sampled_from(["ext4", "nfs", "tmpfs"])), names)
def test_the_longest_mount_above_a_folder_determines_its_file_system(
    mounted: dict[tuple[str, ...], str], folder: list[str]
) -> None:
    mounted = {(): "root", **mounted}
    lines = [f"1 0 0:1 / /m/{'/'.join(at)} rw - {kind} x rw".replace("a b", r"a\040b") for at, kind in mounted.items()]
    above = [tuple(folder[:length]) for length in range(len(folder), -1, -1)]
    expected = next(mounted[at] for at in above if at in mounted)
    assert file_system_type(Path("/m", *folder), "\n".join(lines)) == expected


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "ceph", "fuse", "fuse.sshfs", "fuse.s3fs"]
)
def test_network_file_systems_are_known(kind: str) -> None:
    assert is_network_type(kind)


@pytest.mark.parametrize(
    "kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "vfat", "fuseblk", "fuse.fuse-overlayfs", ""]
)
def test_local_file_systems_are_known(kind: str) -> None:
    assert not is_network_type(kind)


class TestOnANetwork:
    """Make /proc/self/mountinfo say that the test's folder is on a network."""

    @pytest.fixture(autouse=True)
    def mounts(self, tmp_path: Path) -> Iterator[None]:
        mounts = tmp_path / "mountinfo"
        mounts.write_text(f"{MOUNTS}32 22 0:46 / {tmp_path} rw - nfs4 server:/ rw\n", encoding="utf-8")
        with patch("cesar.api.storage.location._MOUNTS", mounts):
            yield

    def test_a_database_on_a_network_file_system_is_refused_in_one_line(self, tmp_path: Path) -> None:
        with pytest.raises(NetworkFileSystem, match="is on a network file system") as caught:
            connect(tmp_path / "queue.db")
        assert "CESAR_ALLOW_NETWORK_FS" in caught.value.hint
        assert not (tmp_path / "queue.db").exists()

    def test_an_allowed_network_file_system_needs_no_shared_memory(self, tmp_path: Path) -> None:
        assert connect(tmp_path / "queue.db", allow_network_fs=True) == "truncate"
        assert not (tmp_path / "queue.db-wal").exists()


def test_a_local_database_has_a_write_ahead_log(tmp_path: Path) -> None:
    assert connect(tmp_path / "queue.db") == "wal"


def test_missing_folders_are_created(tmp_path: Path) -> None:
    connect(tmp_path / "a" / "b" / "queue.db")
    assert (tmp_path / "a" / "b" / "queue.db").is_file()


def test_a_folder_is_not_a_database(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="is a folder"):
        connect(tmp_path)


@pytest.mark.parametrize("place", ["file/queue.db", "file/below/queue.db"])
def test_a_path_below_a_file_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatabaseNotWritable, match="can't be created"):
        connect(tmp_path / place)


@pytest.mark.skipif(sys.platform != "linux", reason="/sys is Linux's")
def test_a_folder_that_is_not_writable_is_refused() -> None:
    with pytest.raises(DatabaseNotWritable):
        connect(Path("/sys/queue.db"))


def test_a_mount_point_whose_name_is_not_text_is_harmless(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_bytes(MOUNTS.encode() + b"32 22 0:46 / /mnt/\xff rw - ext4 /dev/sde1 rw\n")
    with patch("cesar.api.storage.location._MOUNTS", mounts):
        assert not DatabaseLocation.parse(tmp_path / "queue.db").is_on_network


def test_without_mount_information_a_disk_is_considered_local(tmp_path: Path) -> None:
    with patch("cesar.api.storage.location._MOUNTS", tmp_path / "nothing"):
        assert not DatabaseLocation.parse(tmp_path / "queue.db").is_on_network


@pytest.mark.parametrize("name", ["größe 東京.db", "a b?c=d#e%41.db", "x" * 200 + ".db", "-rf", "file:x.db"])
def test_a_database_may_have_any_name(tmp_path: Path, name: str) -> None:
    connect(tmp_path / name)
    assert (tmp_path / name).is_file()


def connect(db: Path, *, allow_network_fs: bool = False) -> str:
    """Open and close a database; return its journal mode."""

    async def open_it() -> str:
        repository = JobRepository(db, allow_network_fs=allow_network_fs)
        try:
            await repository.connect()
            return await repository.database.write(
                "test", lambda c: str(c.exec_driver_sql("PRAGMA journal_mode").scalar_one())
            )
        finally:
            await repository.close()

    return asyncio.run(open_it())
