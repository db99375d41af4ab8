"""Integrity checks of a database file, as far as SQLite can tell by reading it."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing

from cesar.api.storage.location import DatabaseLocation

_BUSY_TIMEOUT_S = 10.0


def find_damage(location: DatabaseLocation, max_bytes: float = math.inf) -> str | None:
    """Check a whole database; return a description of the damage, or None.

    Larger files are not checked, nor is a file that is missing or not a database: opening it will tell. A connection
    of its own reads the disk, not an earlier connection's cache.
    """
    if location.path is None or not location.path.is_file() or not 0 < location.path.stat().st_size <= max_bytes:
        return None
    try:
        with closing(sqlite3.connect(f"{location.path.as_uri()}?mode=rw", uri=True, timeout=_BUSY_TIMEOUT_S)) as reader:
            found = reader.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        return str(error) if code == sqlite3.SQLITE_CORRUPT else None
    return None if found is None or found[0] == "ok" else str(found[0]).splitlines()[-1]
