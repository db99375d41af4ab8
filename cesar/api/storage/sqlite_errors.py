"""SQLite's errors as ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from cesar.api.storage.location import DatabaseLocation
from cesar.errors import (
    DatabaseDamaged,
    DatabaseError,
    DatabaseFull,
    DatabaseNotWritable,
    DatabaseUnavailable,
    NotADatabase,
)

_REPAIR_HINT = "If it was Cesar's, run `cesar doctor --repair`; otherwise name another file with --database."


@contextmanager
def translate_errors(location: DatabaseLocation) -> Iterator[None]:
    """Translate SQLite's errors into ours."""
    try:
        yield
    except sa.exc.IntegrityError:
        raise  # a bug of ours: the statements respect every constraint
    except sa.exc.DBAPIError as error:
        raise _to_database_error(error.orig, location) from error
    except sqlite3.DatabaseError as error:
        raise _to_database_error(error, location) from error
    except OSError as error:
        raise DatabaseUnavailable(f"{location} can't be used: {error}") from error


def _to_database_error(error: BaseException | None, location: DatabaseLocation) -> DatabaseError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the low byte is the primary code
    match code:
        case sqlite3.SQLITE_FULL:
            return DatabaseFull(f"no space is left for {location}")
        case sqlite3.SQLITE_CORRUPT:
            return DatabaseDamaged(f"{location} is damaged ({error})")
        case sqlite3.SQLITE_NOTADB:
            return NotADatabase(f"{location} is not a database, or is damaged ({error})", hint=_REPAIR_HINT)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return DatabaseNotWritable(f"{location} is not writable")
        case sqlite3.SQLITE_CANTOPEN:
            return DatabaseNotWritable(f"{location} can't be opened, or its folder is not writable")
    return DatabaseUnavailable(f"{location} does not respond: {error}")


def is_busy(error: BaseException | None) -> bool:
    """Whether SQLite gave up because another program kept the database busy."""
    code = getattr(getattr(error, "orig", error), "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    return code == sqlite3.SQLITE_BUSY
