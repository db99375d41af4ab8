"""Which database a folder of recordings belongs to: both store a number, and are refused together if it differs.

A database determines which recordings are needed, so the wrong one (another, a new one, an old copy) would have the
others deleted. Every process that adds or removes recordings checks this first.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from cesar.api.queue.recording_references import has_audio
from cesar.api.storage.database import read_identity, set_identity
from cesar.api.storage.location import DatabaseLocation
from cesar.api.storage.migrate import APPLICATION_ID
from cesar.api.storage.recordings import AudioStore
from cesar.errors import DatabaseMissing, ForeignRecordings
from cesar.files.disk import put_in_place, sync_folder
from cesar.files.private import make_folder, opener

MARKER = "database"
"""In a folder of recordings: the database they belong to, as `NUMBER:PATH`. A dangling link, so that the folder's files
are all recordings; a file where there are no links."""
RETAINED = "kept-without-a-job.json"
"""Beside it: the digests of recordings that are kept though no job has them."""
_ADOPT = "`cesar doctor --adopt-recordings`"


@dataclass(frozen=True, slots=True)
class FolderMarker:
    """The database that a folder names as its own."""

    identity: int
    database: Path


def require_database(location: DatabaseLocation, store: AudioStore, *, for_recordings: bool) -> None:
    """Refuse to create a database where an existing one is missing, before anything is changed.

    for_recordings: whether it will store recordings in that folder. Raises `DatabaseMissing`.
    """
    if location.path is None or not _is_missing(location.path):
        return
    marker = read_marker(store)
    is_missed = marker is not None and marker.database == location.path
    if (is_missed or for_recordings) and not store.is_empty():
        hint = (
            "Restore it, or a copy of it: its disk may not be mounted. To start over without the recordings, move that "
            "folder elsewhere. Nothing was changed."
        )
        raise DatabaseMissing(
            f"the database {location} does not exist, but there are recordings in {store.folder}", hint=hint
        )


def is_owner(connection: sa.Connection, location: DatabaseLocation, store: AudioStore) -> bool:
    """Whether the folder's recordings belong to this database; changes nothing."""
    marker = read_marker(store)
    return marker is not None and _is_same(marker, read_identity(connection), location)


def claim(connection: sa.Connection, location: DatabaseLocation, store: AudioStore) -> None:
    """Claim the folder's recordings for this database. Raises `ForeignRecordings` if they belong to another.

    A folder without a database (a new one, or one of an earlier version) is adopted if it is empty, or if any job here
    has one of its recordings.
    """
    if location.path is None or is_owner(connection, location, store):
        return
    marker, identity = read_marker(store), read_identity(connection)
    if _may_claim(connection, location, store, marker, identity):
        adopt(connection, location, store)
        return
    theirs = "another database" if marker is None else f"the database {marker.database}"
    if marker is not None and marker.database == location.path:
        theirs = "an earlier database at this path"
    hint = (
        f"Start Cesar with that database, or give this one a data folder of its own (--data-dir). {_ADOPT} assigns "
        "the recordings to this one. Nothing was changed."
    )
    raise ForeignRecordings(f"the recordings in {store.folder} belong to {theirs}, not to {location}", hint=hint)


def adopt(connection: sa.Connection, location: DatabaseLocation, store: AudioStore) -> None:
    """Adopt the folder for this database; recordings without a job are kept."""
    assert location.path is not None
    identity = read_identity(connection)
    marker = read_marker(store)
    if identity == 0:
        identity = secrets.randbelow(2**31 - 1) + 1
        set_identity(connection, identity)
    if marker is None or marker.identity != identity:
        retain(store, (digest for digest in store.digests() if not has_audio(connection, digest)))
    _write_marker(store.folder / MARKER, f"{identity}:{location.path}")


def read_marker(store: AudioStore) -> FolderMarker | None:
    """Return the database that a folder names; None if there is no marker, or it can't be read."""
    file = store.folder / MARKER
    try:
        text = str(file.readlink()) if file.is_symlink() else file.read_text(encoding="utf-8")
        identity, colon, database = text.partition(":")
        return FolderMarker(int(identity), Path(database)) if colon else None
    except (OSError, ValueError):
        return None


def retained_digests(store: AudioStore) -> frozenset[str]:
    """Return the digests of the recordings that are kept though no job has them."""
    with suppress(OSError, ValueError):
        return frozenset(map(str, json.loads((store.folder / RETAINED).read_text(encoding="utf-8"))))
    return frozenset()


def retain(store: AudioStore, digests: Iterable[str]) -> None:
    """Record that these recordings are kept though no job has them."""
    before = retained_digests(store)
    there = {digest for digest in before.union(digests) if store.path_of(digest).exists()}
    if there != before:
        _write(store.folder / RETAINED, json.dumps(sorted(there), indent=1))


def _may_claim(
    connection: sa.Connection, location: DatabaseLocation, store: AudioStore, marker: FolderMarker | None, identity: int
) -> bool:
    assert location.path is not None
    if store.is_empty():
        return marker is None or marker.database == location.path or not _may_exist(marker.database)
    if marker is not None and marker.identity == identity:
        # It was moved here, or is reached by a link; otherwise this one is a copy.
        return _is_same_file(marker.database, location.path) or not _is_database(marker.database, identity)
    if marker is not None and marker.database != location.path:
        return False
    return any(has_audio(connection, digest) for digest in store.digests())


def _is_same(marker: FolderMarker, identity: int, location: DatabaseLocation) -> bool:
    return marker.identity == identity and marker.database == location.path


def _is_missing(path: Path) -> bool:
    try:
        return path.stat().st_size == 0
    except FileNotFoundError:
        return True
    except OSError:
        return False  # something is there that can't be inspected: opening it will tell


def _may_exist(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return True


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _is_database(path: Path, identity: int) -> bool:
    """Whether there is a database with this number, or something unreadable that may be it."""
    if not _may_exist(path):
        return False
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=1.0)) as other:
            (mark,) = other.execute("PRAGMA application_id").fetchone()
            (found,) = other.execute("PRAGMA user_version").fetchone()
    except (sqlite3.Error, OSError, ValueError):
        return True
    return bool(mark == APPLICATION_ID and found == identity)


def _write_marker(path: Path, text: str) -> None:
    make_folder(path.parent)
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.unlink(missing_ok=True)
    try:
        unfinished.symlink_to(text)
    except (OSError, NotImplementedError):
        _write(path, text)
        return
    unfinished.replace(path)
    sync_folder(path.parent)


def _write(path: Path, content: str) -> None:
    """Write a private file atomically, and flush it."""
    make_folder(path.parent)
    unfinished = path.with_name(f"{path.name}.part")
    with open(unfinished, "w", encoding="utf-8", opener=opener) as file:
        file.write(content)
    put_in_place(unfinished, path)
