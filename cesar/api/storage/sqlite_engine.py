"""How SQLite's file is opened: the pragmas of each connection, and how its transactions begin."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from cesar.api.storage.location import DatabaseLocation

BUSY_TIMEOUT_S = 10.0


def writing_engine(location: DatabaseLocation, busy_timeout_s: float) -> sa.Engine:
    """Return the engine of the writing connection. What its transactions acknowledge has reached the disk."""
    return _engine(location, "BEGIN IMMEDIATE", _writer_pragmas(location, busy_timeout_s))


def reading_engine(location: DatabaseLocation) -> sa.Engine:
    """Return the engine of the reading connection, which can't write."""
    return _engine(location, "BEGIN", (f"busy_timeout={milliseconds(BUSY_TIMEOUT_S)}", "query_only=ON"))


def open_files(engine: sa.Engine) -> None:
    """Open all files of the connection now: SQLite creates missing files, and later they could be another process's."""
    with engine.begin() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")


def _writer_pragmas(location: DatabaseLocation, busy_timeout_s: float) -> tuple[str, ...]:
    """Return the pragmas of the writing connection."""
    return (
        f"busy_timeout={milliseconds(busy_timeout_s)}",
        # A write-ahead log needs shared memory, which network file systems lack.
        f"journal_mode={'TRUNCATE' if location.is_on_network else 'WAL'}",
        "synchronous=FULL",  # what is acknowledged has reached the disk
        "fullfsync=ON",  # macOS: fsync alone does not reach the disk
        "foreign_keys=ON",
        "secure_delete=ON",  # overwrite deleted data: transcripts are private
        "mmap_size=0",
        f"journal_size_limit={64 * 2**20}",
    )


def _engine(location: DatabaseLocation, begin: str, pragmas: tuple[str, ...]) -> sa.Engine:
    """Return an engine with one connection, opened on first use and kept; each transaction starts with `begin`."""
    engine = sa.create_engine(
        location.url,
        poolclass=StaticPool,
        json_serializer=_to_json,
        hide_parameters=True,  # they may be transcripts, and errors are logged
        connect_args={"isolation_level": None, "check_same_thread": False, "timeout": BUSY_TIMEOUT_S},
    )

    @sa.event.listens_for(engine, "connect")
    def set_pragmas(connection: sqlite3.Connection, _record: object) -> None:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")
        connection.create_function("lower", 1, _lower, deterministic=True)  # SQLite's own lowers only A to Z

    @sa.event.listens_for(engine, "begin")
    def begin_transaction(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def milliseconds(seconds: float) -> int:
    """Return a time as SQLite's pragmas take it."""
    return round(seconds * 1000)
