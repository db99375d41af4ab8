"""`AudioStore`: the recordings that Cesar stores itself, each once, under the digest of its contents.

Paths consist of digests and ids only; a recording's display name never becomes a path. Files are added and removed
within write transactions of the database (see `repository`), so that no job loses its recording when another ends.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import IO
from uuid import uuid4

from cesar.errors import DiskFull, RecordingsNotWritable
from cesar.files.disk import is_disk_full, sync_folder
from cesar.files.private import FILE_MODE, make_folder, opener, tighten

SIDECAR_SUFFIX = ".origin"
"""Suffix of the sidecar beside a partial download, which is deleted with it."""
NO_ROOM_HINT = "Try again later, or ask the service's administrator to free some space."
ASIDE_DAYS = 14
"""How long files without a job are kept in `aside`, from where they are restored if a job needs them."""
_INCOMING = "incoming"
_ASIDE = "aside"
_PART_SUFFIX = ".part"
_DIGEST_LENGTH = 64


@dataclass(frozen=True, slots=True)
class SweepResult:
    """The result of a sweep."""

    removed: int = 0
    """Unfinished uploads, and expired files in `aside`."""
    set_aside: int = 0
    restored: int = 0
    retained: frozenset[str] = frozenset()
    """Digests of recordings without a job that the database may not know about."""


class AudioStore:
    """A folder: `ab/abcdef...` are complete recordings by SHA-256, `incoming/` has those still arriving.

    `aside/DATE/` has files that no job needed, as far as the database knew on that day.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._incoming = folder / _INCOMING

    def path_of(self, digest: str) -> Path:
        """Return the path of a recording, whether or not it exists."""
        return self.folder / digest[:2] / digest

    def new_upload(self, owner: str) -> Path:
        """Return a new path for an upload to this owner; the file is deleted once the owner is dead.

        Raises `DiskFull` or `RecordingsNotWritable`.
        """
        with translate_os_errors():
            make_folder(self._incoming)
        return self._incoming / f"{owner}-{uuid4().hex}"

    def partial_path(self, job_id: str) -> Path:
        """Return the path of a job's partial download, which is kept across attempts."""
        make_folder(self._incoming)
        return self._incoming / f"{job_id}{_PART_SUFFIX}"

    def add(self, arrived: Path, digest: str) -> Path:
        """Move a complete, flushed file into the store; if its contents are already there, delete it.

        If the file system has links, the file also keeps its old name, which the caller removes once the job is stored.
        A sweep can then distinguish a recording whose job was never committed from one whose job this database has
        never seen.

        Raises `DiskFull` or `RecordingsNotWritable`.
        """
        target = self.path_of(digest)
        with translate_os_errors():
            if target.exists():
                arrived.unlink(missing_ok=True)
                return target
            make_folder(target.parent)
            arrived.chmod(FILE_MODE)
            _link_or_move(arrived, target)
            sync_folder(target.parent)
            sync_folder(self.folder)
        return target

    def remove(self, digest: str) -> None:
        """Delete a recording, including copies set aside."""
        self.path_of(digest).unlink(missing_ok=True)
        for copy in self.folder.glob(f"{_ASIDE}/*/{digest}"):
            copy.unlink(missing_ok=True)

    def remove_partial(self, job_id: str) -> None:
        """Delete a job's partial download."""
        partial = self.partial_path(job_id)
        for left in (partial, partial.with_suffix(SIDECAR_SUFFIX)):
            left.unlink(missing_ok=True)
        for left in self.folder.glob(f"{_ASIDE}/*/{job_id}.*"):
            left.unlink(missing_ok=True)

    def probe(self) -> None:
        """Test that a recording can be written here. Raises `DiskFull` or `RecordingsNotWritable`."""
        file = self.new_upload("probe")
        with translate_os_errors():
            try:
                with open(file, "xb", buffering=0, opener=opener) as opened:
                    opened.write(b"\0")
            finally:
                file.unlink(missing_ok=True)
            unwritable = next((folder for folder in self._shelves() if not os.access(folder, os.W_OK | os.X_OK)), None)
            if unwritable is not None:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(unwritable))

    def _shelves(self) -> Iterator[Path]:
        """Yield the folders that complete recordings are moved to, and this one, where such folders are created."""
        yield self.folder
        yield from self.folder.glob("??")

    def digests(self) -> Iterator[str]:
        """Yield the digests of all complete recordings."""
        for file in self.folder.glob("??/*"):
            if len(file.name) == _DIGEST_LENGTH and file.name.startswith(file.parent.name):
                yield file.name

    def is_empty(self) -> bool:
        """Whether there is no recording, and nothing that may become one."""
        patterns = ("??/*", f"{_INCOMING}/*", f"{_ASIDE}/*/*")
        return not any(path.is_file() for pattern in patterns for path in self.folder.glob(pattern))

    def sweep(
        self,
        *,
        is_needed: Callable[[str], bool],
        is_dead: Callable[[str], bool],
        has_job: Callable[[str], bool],
        known_until: datetime | None,
        retained: Iterable[str] = (),
        today: date | None = None,
    ) -> SweepResult:
        """Set aside files that no job needs, restore those that a job does, and delete incomplete uploads.

        is_needed: whether a job needs the recording with this digest. is_dead: whether the owner of this name is dead.
        has_job: whether there is an unfinished job with this id. known_until: time of the last write that the database
        knows of; a newer recording may belong to a job missing from an older copy. None: there was no write. retained:
        digests of recordings to leave in place in any case.
        """
        today = datetime.now(UTC).date() if today is None else today
        known = frozenset(retained)
        if not self.folder.is_dir():
            return SweepResult()
        restored = self._restore(is_needed)
        incomplete = [file for file in self._uploads() if _is_unlocked(file) and is_dead(file.name.partition("-")[0])]
        uncommitted = {_inode(file) for file in incomplete}
        unneeded = [digest for digest in self.digests() if not is_needed(digest)]
        left = {digest for digest in unneeded if _inode(self.path_of(digest)) not in uncommitted}
        left = {digest for digest in left if digest in known or is_newer(self.path_of(digest), known_until)}
        doomed = [self.path_of(digest) for digest in unneeded if digest not in left]
        doomed += [partial for partial in self._partials() if _is_unlocked(partial) and not has_job(partial.stem)]
        set_aside = sum(self._set_aside(file, today) for file in doomed)
        removed = sum(_remove(file) for file in incomplete) + self._empty_aside(today)
        self._tighten()
        return SweepResult(removed, set_aside, restored, frozenset(left))

    def _uploads(self) -> list[Path]:
        return [file for file in self._incoming.glob("*") if file.suffix not in (_PART_SUFFIX, SIDECAR_SUFFIX)]

    def _partials(self) -> list[Path]:
        return [file for file in self._incoming.glob("*") if file.suffix in (_PART_SUFFIX, SIDECAR_SUFFIX)]

    def _set_aside(self, file: Path, today: date) -> bool:
        target = self.folder / _ASIDE / today.isoformat()
        with suppress(OSError):
            make_folder(target)
            file.replace(target / file.name)
            return True
        return False

    def _restore(self, is_needed: Callable[[str], bool]) -> int:
        """Restore the files that a job needs after all; return the number of files."""
        count = 0
        for file in self.folder.glob(f"{_ASIDE}/*/*"):
            if len(file.name) == _DIGEST_LENGTH and is_needed(file.name):
                target = self.path_of(file.name)
                with suppress(OSError):
                    make_folder(target.parent)
                    if not target.exists():
                        file.rename(target)
                        count += 1
        return count

    def _empty_aside(self, today: date) -> int:
        """Delete expired files; return the number of files."""
        count = 0
        for folder in (self.folder / _ASIDE).glob("*"):
            with suppress(ValueError):
                if date.fromisoformat(folder.name) + timedelta(days=ASIDE_DAYS) < today:
                    count += sum(_remove(file) for file in folder.iterdir())
            with suppress(OSError):
                folder.rmdir()  # if it is empty
        return count

    def _tighten(self) -> None:
        """Make files private that an earlier version created readable."""
        if tighten(self.folder):
            for file in self.folder.glob("**/*"):
                tighten(file)


def _link_or_move(arrived: Path, target: Path) -> None:
    try:
        os.link(arrived, target)
    except OSError:  # the file system has no links
        arrived.replace(target)


def _inode(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_dev, status.st_ino


def is_newer(file: Path, moment: datetime | None) -> bool:
    """Whether a file was written after that time; None: before any file."""
    return moment is None or file.stat().st_mtime > moment.timestamp()


def _remove(file: Path) -> bool:
    with suppress(OSError):
        file.unlink()
        return True
    return False


def _is_unlocked(file: Path) -> bool:
    """Whether no process holds the lock of a file, and so none is writing to it."""
    with suppress(OSError), file.open("rb") as opened:
        return try_lock(opened)
    return False


if sys.platform == "win32":

    def try_lock(_file: IO[bytes]) -> bool:
        """Return True: on Windows, an open file can be neither moved nor deleted."""
        return True
else:
    import fcntl

    def try_lock(file: IO[bytes]) -> bool:
        """Lock an open file until it is closed or its process dies; return False if another process has the lock."""
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextmanager
def translate_os_errors() -> Iterator[None]:
    """Translate OSError about a recording's file into our errors, which name no path."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise DiskFull("no space is left for the recording", hint=NO_ROOM_HINT) from error
        raise RecordingsNotWritable(f"the recording can't be stored: {error.strerror}") from error
