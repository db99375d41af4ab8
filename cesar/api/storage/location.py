"""The location of the queue's database, and whether a database can be there."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path

import sqlalchemy as sa

from cesar.errors import DatabaseError, DatabaseNotWritable, NetworkFileSystem
from cesar.files.private import file_mode_in, is_for_group, make_folder, tighten, tighten_data_folder

MEMORY = ":memory:"
_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPE = re.compile(r"\\([0-7]{3})")
_NETWORK_TYPES = frozenset(
    {"9p", "afs", "ceph", "cifs", "glusterfs", "lustre", "nfs", "nfs4", "smb2", "smb3", "smbfs", "virtiofs"}
)
_BESIDE = ("audio", "models", "tmp")
"""The other folders that Cesar keeps in a data folder."""
_LOCAL_FUSE = frozenset({"fuse.fuse-overlayfs", "fuseblk"})
"""Disks of rootless containers, and local disks such as NTFS. Any other FUSE may be a network file system."""


_LOG_SUFFIXES = ("-wal", "-shm")


@dataclass(frozen=True, slots=True)
class DatabaseLocation:
    """A database file, or memory."""

    path: Path | None
    """None: in memory, gone when it is closed."""
    allow_network: bool = False

    @classmethod
    def parse(cls, where: str | os.PathLike[str], *, allow_network: bool = False) -> DatabaseLocation:
        """Parse a path, `:memory:` or a URL (`sqlite:///queue.db`). Raises `DatabaseError` if it can't be used."""
        text = os.fspath(where)
        if text == MEMORY:
            return cls(None)
        if "://" not in text:
            try:
                return cls(Path(text).expanduser().resolve(), allow_network)
            except RuntimeError as error:  # the home of an unknown user, as in ~nobody-here/queue.db
                raise DatabaseError(f"{text!r} can't be found: {error}", hint="Give the full path.") from None
        try:
            url = sa.make_url(text)
        except (sa.exc.ArgumentError, ValueError):
            raise DatabaseError(f"{text!r} is not the address of a database", hint="Give the path of a file.") from None
        if url.get_backend_name() != "sqlite":
            raise DatabaseError(
                f"{url.get_backend_name()} databases are not supported yet", hint="Give the path of a file."
            )
        if url.host:
            raise DatabaseError(f"{text!r} lacks a slash", hint=f"Write sqlite:///{url.host}, or just the path.")
        if url.database in (None, "", MEMORY):
            return cls(None)
        return cls(Path(url.database).resolve(), allow_network)

    def __str__(self) -> str:
        return MEMORY if self.path is None else str(self.path)

    @property
    def is_memory(self) -> bool:
        """Whether the database is in memory, and gone when it is closed."""
        return self.path is None

    @property
    def url(self) -> sa.URL:
        """SQLAlchemy's URL of the database."""
        return sa.URL.create("sqlite", database=str(self))

    @property
    def is_on_network(self) -> bool:
        """Whether its file system is a network file system; known only on Linux."""
        if self.path is None or sys.platform != "linux":
            return False
        try:
            mounts = os.fsdecode(_MOUNTS.read_bytes())
        except OSError:
            return False
        return is_network_type(file_system_type(self.path.parent, mounts))

    @property
    def file_identity(self) -> tuple[int, int] | None:
        """Device and inode, which identify the file whatever its name; None if there is no file."""
        return None if self.path is None else _identity_of(self.path)

    @property
    def log_identities(self) -> tuple[tuple[int, int] | None, ...]:
        """The same for the write-ahead log and its index."""
        if self.path is None:
            return ()
        return tuple(_identity_of(self.path.with_name(self.path.name + suffix)) for suffix in _LOG_SUFFIXES)

    def require_access(self) -> None:
        """Raise `DatabaseNotWritable` if this user may not even see whether the file exists."""
        try:
            if self.path is not None:
                self.path.stat()
        except PermissionError as error:
            hint = "Run Cesar as the user who owns it, or name another file with --database."
            raise DatabaseNotWritable(f"{self.path} can't be reached: permission denied", hint=hint) from error
        except OSError:
            pass  # opening it will tell

    def prepare(self) -> None:
        """Create the folder and an empty file, readable by their owner only.

        Raises `DatabaseNotWritable` or `NetworkFileSystem`.
        """
        if self.path is None:
            return
        self.require_access()
        try:
            make_folder(self.path.parent)
            tighten_data_folder(self.path.parent, (self.path.name, *_BESIDE))
        except OSError as error:
            raise DatabaseNotWritable(f"the folder {self.path.parent} can't be created: {error}") from error
        if self.path.is_dir():
            raise DatabaseError(f"{self.path} is a folder", hint="Name a file with --database.")
        if self.is_on_network and not self.allow_network:
            raise NetworkFileSystem(f"{self.path} is on a network file system")
        self._make_private(self.path)

    @staticmethod
    def _make_private(path: Path) -> None:
        """Create the file if it is missing, and make it and SQLite's files beside it private."""
        with suppress(OSError):  # opening it reports a file that can't be written
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, file_mode_in(path.parent)))
        if not is_for_group(path.parent):
            for file in path.parent.glob(f"{escape(path.name)}*"):
                tighten(file)


def _identity_of(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def file_system_type(folder: Path, mounts: str) -> str:
    r"""Return a folder's file system type, from the text of /proc/self/mountinfo (see proc_pid_mountinfo(5)).

    >>> file_system_type(Path("/srv/x"), "1 0 0:1 / / rw - ext4 /dev/a rw\n2 1 0:2 / /srv rw - nfs4 host:/ rw")
    'nfs4'
    """
    real = folder.resolve()
    best, found = -1, ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        mount_point = Path(_ESCAPE.sub(lambda octal: chr(int(octal[1], 8)), left.split(" ")[4]))
        if real.is_relative_to(mount_point) and len(mount_point.parts) >= best:  # a later mount hides an earlier one
            best, found = len(mount_point.parts), right.split(" ")[0]
    return found


def is_network_type(name: str) -> bool:
    """Whether locks and write-ahead logs are unreliable on this type of file system."""
    return name in _NETWORK_TYPES or (name.startswith("fuse") and name not in _LOCAL_FUSE)
