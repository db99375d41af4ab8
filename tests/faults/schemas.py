"""Databases of every schema that Cesar ever had: `old_schemas/REVISION.sql` as created; `fill` adds rows.

A new migration needs a new file here: `python -m tests.faults.schemas` writes those that are missing.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from cesar.api.storage import migrate
from cesar.api.storage.location import DatabaseLocation

FOLDER = Path(__file__).with_name("old_schemas")
STATUSES = ("queued", "processing", "completed", "error", "cancelled")
_WAYS = {"queued": (), "processing": ("processing",)} | {end: ("processing", end) for end in STATUSES[2:]}
_TIME = "2026-01-02 03:04:05.000006"
_OBJECTS = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid"
_EVENT = "INSERT INTO job_events (job_seq, at, before, after, attempt, owner, reason) VALUES (?, ?, ?, ?, ?, ?, ?)"
_CHUNK = 'INSERT INTO job_chunks (job_seq, start, "end", attempt, payload) VALUES (?, ?, ?, ?, ?)'

JOB: dict[str, Callable[[int, str], Any]] = {
    "seq": lambda n, _: n,
    "id": lambda n, _: f"job-{n}",
    "status": lambda _, status: status,
    "priority": lambda n, _: n % 3,
    "name": lambda n, _: f"talk {n}.wav",
    "audio_path": lambda n, _: f"/recordings/talk {n}.wav",
    "model_size": lambda _n, _: "base",
    "options": lambda _n, _: json.dumps({"language": "de"}),
    "created_at": lambda _n, _: _TIME,
    "started_at": lambda _, status: None if status == "queued" else _TIME,
    "completed_at": lambda _, status: _TIME if status in STATUSES[2:] else None,
    "idempotency_key": lambda n, _: f"key {n}" if n % 4 == 0 else None,
    "idempotency_hash": lambda n, _: f"{n:064}",
    "version": lambda n, _: n % 7,
    "attempt": lambda _, status: len(_WAYS[status][:1]),
    "owner": lambda _, status: "0" * 32 if status == "processing" else None,
    "beat": lambda n, _: n % 11,
    "heartbeat_at": lambda _, status: _TIME if status == "processing" else None,
    "failures": lambda n, _: n % 3,
    "lost": lambda n, _: n % 2,
    "position": lambda n, _: n / 8,
    "fingerprint": lambda n, _: f"work {n}",
    "result_text": lambda n, status: f"Straße {n}" if status == "completed" else None,
    "error_code": lambda _, status: "bad_audio" if status == "error" else None,
}
"""The values of a job's columns, by the job's number and status; absent columns are left out."""


def revisions() -> list[str]:
    """All revisions, oldest first."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).with_name("migrations")))
    config.set_main_option("path_separator", "os")
    return [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()][::-1]


def schema_by_migrations(revision: str) -> str:
    """Run the migrations up to this one on an empty database; return its schema as SQL."""
    head, migrate.HEAD = migrate.HEAD, revision
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "queue.db")
            engine = sa.create_engine(f"sqlite:///{path}")
            migrate.upgrade(engine, DatabaseLocation(path), None)
            engine.dispose()
            return schema_of(path)
    finally:
        migrate.HEAD = head


def schema_of(database: Path) -> str:
    with closing(sqlite3.connect(database)) as connection:
        return "".join(f"{sql};\n" for (sql,) in connection.execute(_OBJECTS))


def build(database: Path, revision: str, count: int) -> None:
    """Create a database as a version with this revision would have left it, with jobs in all states."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript((FOLDER / f"{revision}.sql").read_text(encoding="utf-8"))
        connection.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
        connection.execute(f"PRAGMA application_id={migrate.APPLICATION_ID}")
        fill(connection, count)
        connection.commit()


def fill(connection: sqlite3.Connection, count: int) -> None:
    columns = [row[1] for row in connection.execute("PRAGMA table_info(jobs)")]
    columns = [column for column in columns if column in JOB]
    insert = f"INSERT INTO jobs ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
    for number in range(1, count + 1):
        status = STATUSES[number % len(STATUSES)]
        connection.execute(insert, [JOB[column](number, status) for column in columns])
        before, owner = None, None
        for after in ("queued", *_WAYS[status]):
            owner = "0" * 32 if before else None
            event = (number, _TIME, before, after, int(before is not None), owner, "as it was")
            connection.execute(_EVENT, event)
            before = after
        for start in range(2 if _WAYS[status] else 0):
            chunk = {"start": start, "end": start + 1, "segments": [], "ledger": [], "warnings": []}
            row = (number, start, start + 1, 1, json.dumps(chunk))
            connection.execute(_CHUNK, row)


def main() -> None:
    for revision in revisions():
        path = FOLDER / f"{revision}.sql"
        if not path.exists():
            FOLDER.mkdir(exist_ok=True)
            path.write_text(schema_by_migrations(revision), encoding="utf-8")


if __name__ == "__main__":
    main()
