"""Migrates a database to the current schema: each step is atomic, and a backup is made first."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from cesar.api.storage.location import DatabaseLocation
from cesar.errors import DatabaseTooNew, NotADatabase
from cesar.files.disk import put_in_place
from cesar.files.private import FILE_MODE

HEAD = "0005"
"""The newest migration, which this version needs."""
APPLICATION_ID = 0x43657361
"""Marks a SQLite file as ours: "Cesa" (the pragma application_id, written by the first migration)."""
_BUSY_TIMEOUT_S = 10.0
_one_at_a_time = threading.Lock()
"""Held during a migration: Alembic keeps its state in global variables."""
_log = logging.getLogger(__name__)


def current_revision(location: DatabaseLocation) -> str | None:
    """Return a database's latest migration, without changing anything; None if the database does not exist yet.

    Raises `NotADatabase` for another program's database.
    """
    if location.path is None or not location.path.exists() or location.path.stat().st_size == 0:
        return None
    with closing(sqlite3.connect(f"{location.path.as_uri()}?mode=rw", uri=True, timeout=_BUSY_TIMEOUT_S)) as connection:
        tables = sorted(name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'"))
        (mark,) = connection.execute("PRAGMA application_id").fetchone()
        if mark == APPLICATION_ID:
            return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])
    if tables:
        raise NotADatabase(f"{location} belongs to another program: it has the tables {', '.join(tables)}")
    return None


def upgrade(engine: sa.Engine, location: DatabaseLocation, schema: str | None) -> None:
    """Migrate the database from its schema to `HEAD`, or create it. The caller must hold the database lock.

    Raises `DatabaseTooNew` for a newer version's database.
    """
    if schema == HEAD:
        return
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if schema is not None and schema not in known:
        raise DatabaseTooNew(f"{location} was written by a newer Cesar (its schema is {schema}, ours {HEAD})")
    if schema is not None and location.path is not None:
        _back_up(engine, location.path.with_name(f"{location.path.name}.before-{HEAD}"))
    with _one_at_a_time, engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.execute("PRAGMA foreign_keys=OFF")  # recreating a table drops the old one, and cascades
        try:
            config.attributes["connection"] = connection
            command.upgrade(config, HEAD)
        finally:
            driver.execute("PRAGMA foreign_keys=ON")
    _log.info("%s now has schema %s (it had %s)", location, HEAD, schema or "none")


def _back_up(engine: sa.Engine, target: Path) -> None:
    """Back up the database to a file, which appears once it is complete and on the disk."""
    unfinished = target.with_name(target.name + ".part")
    unfinished.unlink(missing_ok=True)
    os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE_MODE))
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.execute("VACUUM INTO ?", (str(unfinished),))
    put_in_place(unfinished, target)
    _log.info("a backup of the database before the migration is in %s", target)
