"""Repairs a damaged database: what is readable goes into a new one, which replaces it; the damaged file is kept."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa
from filelock import FileLock, Timeout

from cesar.api.models import JobStatus
from cesar.api.queue.leases import LeaseOwner
from cesar.api.recovery import ownership
from cesar.api.recovery.salvage import PageReader, SalvagedRow
from cesar.api.storage.location import DatabaseLocation
from cesar.api.storage.migrate import APPLICATION_ID, upgrade
from cesar.api.storage.recordings import AudioStore
from cesar.errors import DatabaseError, DatabaseMissing, DatabaseUnavailable, NotADatabase
from cesar.failpoints import failpoint
from cesar.files.disk import put_in_place
from cesar.files.private import FILE_MODE, file_mode_in
from cesar.transcript import chunk_from_dict

_STATUSES = {status.value for status in JobStatus}
_REQUEST = ("id", "status", "priority", "name", "audio_path", "model_size", "options", "created_at")
"""The columns that a job needs; those after them may be lost."""
_FRESH: dict[str, Any] = {
    "status": JobStatus.QUEUED.value,
    **dict.fromkeys(
        ("owner", "started_at", "completed_at", "run_after", "heartbeat_at", "cancel_requested_at", "phase")
    ),
    **dict.fromkeys(("result_text", "detected_language", "outcome", "error_code", "error_message", "error_hint")),
    "failures": 0,
    "lost": 0,
    "losses": 0,
    "beat": 0,
}
"""The columns that are reset when a job is queued again."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LOCK_TIMEOUT_S = 10.0
Record = dict[str, Any]


@dataclass
class RepairReport:
    """The result of a repair."""

    jobs: int = 0
    requeued: list[str] = field(default_factory=list)
    """The ids of jobs queued again: they were running, or their results could not be read completely."""
    lost_jobs: int = 0
    """Number of jobs of which only traces were found."""
    chunks: int = 0
    keys: int = 0
    orphaned_recordings: int = 0
    """Number of recordings in the folder that no saved job has."""
    damaged_copy: Path = Path()
    """The damaged file."""


def repair(location: DatabaseLocation, store: AudioStore) -> RepairReport | None:
    """Repair a database; return None, and do nothing, if it is undamaged.

    Raises `DatabaseMissing`, `DatabaseUnavailable` while a program uses it, and `NotADatabase` if the file has nothing
    readable of Cesar's; nothing was changed then.
    """
    path = location.path
    if path is None or not path.is_file():
        raise DatabaseMissing(f"the database {location} does not exist, so there is nothing to repair")
    with _exclusive_access(path):
        _undo_swap(path)
        if _is_undamaged(location, path):
            return None
        pages = PageReader(path)
        new = path.with_name(f"{path.name}.repaired")
        _remove(new)
        try:
            report = _save(pages, new)
            if not (report.jobs or report.keys or report.chunks):
                hint = f"Move {path} elsewhere and restore a copy of it. Nothing was changed."
                raise NotADatabase(f"{location} has nothing readable of Cesar's", hint=hint)
            _set_identity(new, _identity_of(pages, location, store))
            _verify(new)
            report.damaged_copy = _swap(path, new)
        finally:
            _remove(new)
        report.orphaned_recordings = _retain_recordings(location, store)
    return report


@contextmanager
def _exclusive_access(path: Path) -> Iterator[None]:
    """Lock the database exclusively. Raises `DatabaseUnavailable` if another program uses it."""
    owner = LeaseOwner(path.with_name(f"{path.name}-owners"))
    busy = DatabaseUnavailable(f"another program is using {path}", hint="Stop `cesar serve` and `cesar worker` first.")
    try:
        with FileLock(f"{path}-lock", timeout=_LOCK_TIMEOUT_S, mode=file_mode_in(path.parent)):
            owners = path.with_name(f"{path.name}-owners")
            if owners.is_dir() and not all(owner.is_dead(lock.stem) for lock in owners.iterdir()):
                raise busy
            yield
    except Timeout:
        raise busy from None


def _is_undamaged(location: DatabaseLocation, path: Path) -> bool:
    if path.stat().st_size == 0:
        return False
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=_LOCK_TIMEOUT_S)) as connection:
            found = [text for (text,) in connection.execute("PRAGMA integrity_check(1)")]
            (mark,) = connection.execute("PRAGMA application_id").fetchone()
            broken = connection.execute("PRAGMA foreign_key_check").fetchone()
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise DatabaseUnavailable(f"{location} does not respond: {error}") from error
        return False
    if found == ["ok"] and mark != APPLICATION_ID and tables != (0,):
        raise NotADatabase(f"{location} belongs to another program")
    return found == ["ok"] and broken is None and mark == APPLICATION_ID


def _save(pages: PageReader, new: Path) -> RepairReport:
    """Create a new database from what can be read."""
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE_MODE))
    engine = sa.create_engine(DatabaseLocation(new).url, connect_args={"isolation_level": None})
    with _closing_pool(engine):
        upgrade(engine, DatabaseLocation(new), None)
    with closing(sqlite3.connect(new)) as connection, connection:
        columns = [name for _, name, *_ in connection.execute("PRAGMA table_info(jobs)")]
        found = _Salvaged(columns)
        for row in pages.rows():
            found.add(row)
        return _insert(connection, found)


@contextmanager
def _closing_pool(engine: sa.Engine) -> Iterator[None]:
    """Dispose of an engine at the end."""
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    try:
        yield
    finally:
        engine.dispose()


class _Salvaged:
    """The rows by table, which is inferred from their values."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.jobs: dict[int, Record] = {}
        self.damaged: set[int] = set()
        """The jobs whose rows could be read only in part."""
        self.events: dict[int, tuple[Any, ...]] = {}
        self.chunks: dict[tuple[int, float], tuple[Any, ...]] = {}
        self.keys: dict[str, tuple[Any, ...]] = {}
        self._columns = columns

    def add(self, row: SalvagedRow) -> None:
        """Add a row to its table; skip it if that can't be inferred."""
        values = row.values
        with suppress(ValueError, TypeError, KeyError, IndexError, AttributeError):
            if row.rowid is None:
                self._add_chunk(row)
            elif len(values) == 8 and row.is_whole and values[0] is None and values[4] in _STATUSES:
                datetime.fromisoformat(_text(values[2]))
                self.events[row.rowid] = (row.rowid, *values[1:])
            elif len(values) == 6 and row.is_whole and _DIGEST.fullmatch(_text(values[2])):
                json.loads(_text(values[3]))
                self.keys[str(values[0])] = values
            elif len(values) > len(_REQUEST) and values[0] is None and values[2] in _STATUSES:
                self._add_job(row)

    def _add_chunk(self, row: SalvagedRow) -> None:
        seq, start, end, attempt, payload = row.values
        if row.is_whole and isinstance(seq, int) and isinstance(attempt, int):
            chunk = chunk_from_dict(json.loads(_text(payload)))
            if (chunk.start, chunk.end) == (start, end):
                earlier = self.chunks.get((seq, chunk.start))
                if earlier is None or earlier[3] < attempt:
                    self.chunks[seq, chunk.start] = row.values

    def _add_job(self, row: SalvagedRow) -> None:
        seq = cast("int", row.rowid)
        job = dict(zip(self._columns, row.values, strict=False)) | {"seq": seq}
        datetime.fromisoformat(_text(job["created_at"]))
        if not isinstance(json.loads(_text(job["options"])), dict) or not all(
            isinstance(job[name], str) for name in ("id", "name", "audio_path", "model_size")
        ):
            raise ValueError("not a job")
        is_whole = row.is_whole and (job.get("outcome") is None or isinstance(json.loads(_text(job["outcome"])), dict))
        earlier = self.jobs.get(seq)
        if earlier is None or (is_whole, job.get("version", -1)) >= (
            seq not in self.damaged,
            earlier.get("version", -1),
        ):
            self.jobs[seq] = job
            self.damaged.discard(seq)
            if not is_whole:
                self.damaged.add(seq)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _insert(connection: sqlite3.Connection, found: _Salvaged) -> RepairReport:
    report = RepairReport()
    for seq, found_job in sorted(found.jobs.items()):
        must_requeue = _must_requeue(found, seq, found_job)
        job = (_restored(found_job) if seq in found.damaged else found_job) | (_FRESH if must_requeue else {})
        if _insert_job(connection, job):
            report.jobs += 1
            if must_requeue:
                report.requeued.append(job["id"])
    known = {seq for (seq,) in connection.execute("SELECT seq FROM jobs")}
    chunks = [values for (seq, _), values in sorted(found.chunks.items()) if seq in known]
    connection.executemany(
        'INSERT INTO job_chunks (job_seq, start, "end", attempt, payload) VALUES (?, ?, ?, ?, ?)', chunks
    )
    events = [values for _, values in sorted(found.events.items()) if values[1] in known]
    connection.executemany("INSERT INTO job_events VALUES (?, ?, ?, ?, ?, ?, ?, ?)", events)
    _record_requeued(connection, report.requeued)
    for key in found.keys.values():
        with suppress(sqlite3.IntegrityError):
            connection.execute(
                "INSERT INTO api_keys (id, name, digest, scopes, created_at, revoked_at) VALUES (?, ?, ?, ?, ?, ?)", key
            )
            report.keys += 1
    traces = {values[1] for values in found.events.values()} | {seq for seq, _ in found.chunks}
    report.lost_jobs, report.chunks = len(traces - known), len(chunks)
    _advance_counters(connection, max(traces | known, default=0), max(found.events, default=0))
    return report


def _must_requeue(found: _Salvaged, seq: int, job: Record) -> bool:
    """Whether a job must be queued again: it was running, or its result is incomplete."""
    if job["status"] == JobStatus.PROCESSING:
        return True
    if job["status"] != JobStatus.COMPLETED:
        return False
    text = job.get("result_text")
    if seq in found.damaged or text is None:
        return True
    its = [json.loads(values[4]) for (owner, _), values in sorted(found.chunks.items()) if owner == seq]
    stored_text = "".join(segment["text"] for chunk in its for segment in chunk["segments"])
    return bool(its) and "".join(stored_text.split()) != "".join(text.split())


def _restored(job: Record) -> Record:
    """Fill in the missing columns of a job that was read only in part."""
    name = Path(job["audio_path"]).name
    kept = {"audio_digest": name} if _DIGEST.fullmatch(name) else {}
    url = {"source_url": job["audio_path"]} if "://" in job["audio_path"] else {}
    defaults = {"version": 0, "attempt": 0, "position": 0.0, "failures": 0, "lost": 0, "beat": 0}
    return defaults | kept | url | job


def _insert_job(connection: sqlite3.Connection, job: Record) -> bool:
    if job["status"] != JobStatus.PROCESSING and job.get("owner") is not None:
        job = job | {"owner": None}
    for less in ({}, {"idempotency_key": None}):
        values = job | less
        names = ", ".join(f'"{name}"' for name in values)
        with suppress(sqlite3.IntegrityError):
            placeholders = ", ".join("?" * len(values))
            connection.execute(f"INSERT INTO jobs ({names}) VALUES ({placeholders})", [*values.values()])  # noqa: S608
            return True
    return False


def _record_requeued(connection: sqlite3.Connection, ids: list[str]) -> None:
    now = datetime.now(UTC).replace(tzinfo=None).isoformat(" ")
    connection.executemany(
        'INSERT INTO job_events (job_seq, at, "before", "after", attempt, reason) '
        "SELECT seq, ?, NULL, 'queued', attempt, 'queued again by a repair' FROM jobs WHERE id = ?",
        [(now, job_id) for job_id in ids],
    )


def _advance_counters(connection: sqlite3.Connection, last_job: int, last_event: int) -> None:
    """Advance the counters, so that no number is used twice."""
    for table, last in (("jobs", last_job), ("job_events", last_event)):
        connection.execute(
            "INSERT INTO sqlite_sequence (name, seq) SELECT ?1, 0 "
            "WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = ?1)",
            (table,),
        )
        connection.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (last, table))


def _identity_of(pages: PageReader, location: DatabaseLocation, store: AudioStore) -> int:
    """Return the database's identifying number, from its header, or else from its folder of recordings."""
    head = pages.page(1)
    marker = ownership.read_marker(store)
    if head.startswith(b"SQLite format 3\0") and int.from_bytes(head[68:72]) == APPLICATION_ID:
        return int.from_bytes(head[60:64])
    return marker.identity if marker is not None and marker.database == location.path else 0


def _set_identity(new: Path, identity: int) -> None:
    with closing(sqlite3.connect(new)) as connection:
        connection.execute(f"PRAGMA user_version = {identity & 0x7FFFFFFF:d}")
        connection.execute("PRAGMA journal_mode = DELETE")


def _verify(new: Path) -> None:
    with closing(sqlite3.connect(new)) as connection:
        found = [text for (text,) in connection.execute("PRAGMA integrity_check")]
        if found != ["ok"] or connection.execute("PRAGMA foreign_key_check").fetchone() is not None:
            raise DatabaseError(f"the repaired database would be damaged: {found[0]}", hint="Nothing was changed.")


def _swap(path: Path, new: Path) -> Path:
    """Replace the damaged database, which is kept with its log under another name."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    kept = path.with_name(f"{path.name}.damaged-{stamp}")
    try:
        os.link(path, kept)
    except OSError:  # the file system has no links
        shutil.copy2(path, kept)
    for suffix in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(kept.with_name(kept.name + suffix))
    failpoint("repair:set aside")
    put_in_place(new, path)
    return kept


def _undo_swap(path: Path) -> None:
    """Undo the file changes of a repair that was killed before the new database was in place."""
    log = path.with_name(f"{path.name}-wal")
    for kept in [file for file in path.parent.glob(f"{path.name}.damaged-*") if file.samefile(path)]:
        kept_log = kept.with_name(f"{kept.name}-wal")
        if kept_log.exists() and not log.exists():
            kept_log.rename(log)
        kept.unlink()


def _retain_recordings(location: DatabaseLocation, store: AudioStore) -> int:
    """Keep the recordings whose jobs were lost; return their number."""
    assert location.path is not None
    marker = ownership.read_marker(store)
    if marker is not None and marker.database != location.path:
        return 0
    with closing(sqlite3.connect(location.path)) as connection:
        named = {
            digest for (digest,) in connection.execute("SELECT audio_digest FROM jobs WHERE audio_digest IS NOT NULL")
        }
    lost = set(store.digests()) - named
    if lost:
        ownership.retain(store, lost)
    return len(lost)


def _remove(new: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        new.with_name(new.name + suffix).unlink(missing_ok=True)
