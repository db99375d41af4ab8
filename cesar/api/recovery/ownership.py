"""Which database a folder of recordings belongs to: a number that both keep, and what is refused if they differ.

A database says which recordings are needed, so the wrong one (another, a new one, a copy from yesterday) would have
the others deleted. Every process that removes recordings, or adds some, settles this first.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from cesar.api.queue import queries
from cesar.api.storage.database import identity_of, set_identity
from cesar.api.storage.location import Place
from cesar.api.storage.migrate import APPLICATION_ID, sync_folder
from cesar.api.storage.recordings import AudioStore
from cesar.errors import DatabaseMissing, ForeignRecordings
from cesar.files.private import make_folder, opener

NOTE = "database"
"""In a folder of recordings: which database they belong to, as `NUMBER:PATH`. A link that leads nowhere, so that the
folder's files are its recordings; a file where there are no links."""
SPARED = "kept-without-a-job.json"
"""Beside it: the digests of recordings that no job has and that stay all the same."""
_ADOPT = "`cesar doctor --adopt-recordings`"


@dataclass(frozen=True, slots=True)
class Note:
    """What a folder says of its database."""

    identity: int
    database: Path


def require_database(place: Place, store: AudioStore, *, for_recordings: bool) -> None:
    """Refuse to make a database anew where one is missed; nothing is touched before.

    for_recordings: whether it is to keep recordings in that folder. Raises `DatabaseMissing`.
    """
    if place.path is None or not _is_missing(place.path):
        return
    note = note_in(store)
    is_missed = note is not None and note.database == place.path
    if (is_missed or for_recordings) and not store.is_empty():
        hint = (
            "Bring it back, or a copy of it: its disk may not be mounted. To begin anew without them, move that folder "
            "elsewhere. Nothing was changed."
        )
        raise DatabaseMissing(
            f"the database {place} is not there, but there are recordings in {store.folder}", hint=hint
        )


def is_owner(connection: sa.Connection, place: Place, store: AudioStore) -> bool:
    """Whether the folder's recordings are this database's, without changing anything."""
    note = note_in(store)
    return note is not None and _is_same(note, identity_of(connection), place)


def claim(connection: sa.Connection, place: Place, store: AudioStore) -> None:
    """See to it that the folder's recordings are this database's. Raises `ForeignRecordings` if they are another's.

    A folder that belongs to none (a new one, or an earlier version's) becomes this database's if it is empty, or if
    some job here has one of its recordings.
    """
    if place.path is None or is_owner(connection, place, store):
        return
    note, mine = note_in(store), identity_of(connection)
    if _may_claim(connection, place, store, note, mine):
        adopt(connection, place, store)
        return
    theirs = "another database" if note is None else f"the database {note.database}"
    hint = (
        f"Start Cesar with that database, or give this one a data folder of its own (--data-dir). {_ADOPT} gives "
        "the recordings to this one. Nothing was changed."
    )
    raise ForeignRecordings(f"the recordings in {store.folder} belong to {theirs}, not to {place}", hint=hint)


def adopt(connection: sa.Connection, place: Place, store: AudioStore) -> None:
    """Make the folder this database's; recordings without a job stay there."""
    assert place.path is not None
    mine = identity_of(connection)
    note = note_in(store)
    if mine == 0:
        mine = secrets.randbelow(2**31 - 1) + 1
        set_identity(connection, mine)
    if note is None or note.identity != mine:
        spare(store, (digest for digest in store.digests() if not queries.has_audio(connection, digest)))
    _write_note(store.folder / NOTE, f"{mine}:{place.path}")


def note_in(store: AudioStore) -> Note | None:
    """Read which database a folder belongs to; None if it does not say, or not so that it can be read."""
    file = store.folder / NOTE
    try:
        told = str(file.readlink()) if file.is_symlink() else file.read_text(encoding="utf-8")
        identity, colon, database = told.partition(":")
        return Note(int(identity), Path(database)) if colon else None
    except (OSError, ValueError):
        return None


def spared_in(store: AudioStore) -> frozenset[str]:
    """Return the digests of the recordings that stay though no job has them."""
    with suppress(OSError, ValueError):
        return frozenset(map(str, json.loads((store.folder / SPARED).read_text(encoding="utf-8"))))
    return frozenset()


def spare(store: AudioStore, digests: Iterable[str]) -> None:
    """Remember that these recordings stay though no job has them."""
    before = spared_in(store)
    there = {digest for digest in before.union(digests) if store.path_of(digest).exists()}
    if there != before:
        _write(store.folder / SPARED, json.dumps(sorted(there), indent=1))


def _may_claim(connection: sa.Connection, place: Place, store: AudioStore, note: Note | None, mine: int) -> bool:
    assert place.path is not None
    if store.is_empty():
        return note is None or note.database == place.path or not _is_there(note.database)
    if note is not None and note.identity == mine:
        # It was moved here, or is reached by a link; else this one is a copy.
        return _is_same_file(note.database, place.path) or not _is_database(note.database, mine)
    if note is not None and note.database != place.path:
        return False
    return any(queries.has_audio(connection, digest) for digest in store.digests())


def _is_same(note: Note, identity: int, place: Place) -> bool:
    return note.identity == identity and note.database == place.path


def _is_missing(path: Path) -> bool:
    try:
        return path.stat().st_size == 0
    except FileNotFoundError:
        return True
    except OSError:
        return False  # something is there that may not be looked at: whoever opens it finds out


def _is_there(path: Path) -> bool:
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
    """Whether a database of that number lies there, or something that can't be read, which may be it."""
    if not _is_there(path):
        return False
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=1.0)) as other:
            (mark,) = other.execute("PRAGMA application_id").fetchone()
            (found,) = other.execute("PRAGMA user_version").fetchone()
    except (sqlite3.Error, OSError, ValueError):
        return True
    return bool(mark == APPLICATION_ID and found == identity)


def _write_note(path: Path, text: str) -> None:
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
    """Write a file, whole and on the disk, for our own eyes."""
    make_folder(path.parent)
    unfinished = path.with_name(f"{path.name}.part")
    with open(unfinished, "w", encoding="utf-8", opener=opener) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    sync_folder(path.parent)
