"""The database behind the queue: a writing and a reading connection, each on its own thread.

Everything specific to SQLite is here: how it is opened, locked, and kept from losing what it has acknowledged. The
queue's operations are in `repository`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import sqlalchemy as sa
from filelock import FileLock, Timeout
from sqlalchemy.pool import StaticPool

from cesar.api.storage.integrity import find_damage
from cesar.api.storage.location import DatabaseLocation
from cesar.api.storage.migrate import current_revision, upgrade
from cesar.errors import (
    DatabaseDamaged,
    DatabaseError,
    DatabaseFull,
    DatabaseNotWritable,
    DatabaseUnavailable,
    NotADatabase,
)
from cesar.failpoints import failpoint
from cesar.files.private import file_mode_in

T = TypeVar("T")
Work = Callable[[sa.Connection], T]

BUSY_TIMEOUT_S = 10.0
CHECKED_BYTES = 2**30
"""Maximum size of a database that a service or worker checks for damage on opening it."""
_LOCK_POLL_S = 0.002
_REPAIR_HINT = "If it was Cesar's, run `cesar doctor --repair`; otherwise name another file with --database."
_log = logging.getLogger(__name__)


class Database:
    """A SQLite database for one process, used from any task of one event loop.

    Every piece of work is one transaction on a thread; cancelling its caller does not interrupt it. Once damage is
    seen, nothing more is written until another `Database` has opened the file and found it undamaged.

    busy_timeout_s: how long a write waits for another program; by default 10 s.
    """

    def __init__(self, location: DatabaseLocation, *, busy_timeout_s: float | None = None) -> None:
        self.location = location
        self.damage: str | None = None
        """A description of the damage; None: there is none."""
        self._busy_timeout_s = busy_timeout_s
        self._busy_at = -math.inf
        """When a write last failed because another program kept the database busy."""
        self.on_write: Callable[[float, BaseException | None], None] = lambda _duration_s, _error: None
        """Called after each write, on its thread, with its duration and its error, if any."""
        self._writer: sa.Engine | None = None
        self._reader: sa.Engine | None = None
        self._identity: object = None
        self._is_closed = False
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="cesar-db-write")
        self._reading = (
            self._writing if location.is_memory else ThreadPoolExecutor(1, thread_name_prefix="cesar-db-read")
        )
        # Processes take turns: SQLite before 3.51.3 can damage a WAL if one connection commits while another makes a
        # checkpoint, and a lock file polled steadily is fairer than SQLite's retries.
        self._lock = _lock_for(location)

    async def connect(self, *, check: bool = False) -> None:
        """Open the database, creating or migrating it if necessary. Raises `DatabaseError` if it can't be used.

        check: whether to check it for damage first, unless it is very large.
        """
        await self._run_on(self._writing, lambda: self._open(check=check))

    async def close(self) -> None:
        """Wait for running work, and close the file."""
        if self._is_closed:
            return
        closing = asyncio.ensure_future(self._run_on(self._writing, self._close))
        await asyncio.sleep(0)  # it is submitted; later work is refused
        self._is_closed = True
        await closing
        self._reading.shutdown()
        self._writing.shutdown()

    async def write(self, name: str, work: Work[T]) -> T:
        """Do the work in one transaction, which is durable once this returns.

        Raises what the work raises, and `DatabaseUnavailable` if the database can't be written to at present.
        """
        requested_at = time.monotonic()
        return await self._run_on(self._writing, lambda: self._write(name, work, requested_at))

    async def probe(self) -> None:
        """Test a durable write that changes nothing. Raises `DatabaseError` if it fails."""
        await self.write("probe", lambda connection: set_identity(connection, read_identity(connection)))

    async def check_integrity(self, max_bytes: int) -> None:
        """Check the file for damage, unless it is larger than `max_bytes`, and remember the result."""
        if self.damage is None and not self.location.is_memory and self.is_file_current:
            found = await asyncio.to_thread(find_damage, self.location, max_bytes)
            if found is not None:
                self._record_damage(f"{self.location} is damaged: {found}")

    async def read(self, work: Work[T]) -> T:
        """Do the work on one consistent state of the database, without waiting for writers."""
        return await self._run_on(self._reading, lambda: self._read(work))

    @property
    def is_file_current(self) -> bool:
        """Whether the opened file is still at its location."""
        return self.location.file_identity == self._identity

    async def change_counter(self) -> int:
        """Return a number that changes whenever another connection commits."""
        return await self._run_on(self._writing, self._data_version)

    async def truncate_wal(self) -> None:
        """Move committed data from the write-ahead log into the database, and truncate the log.

        Readers of an older state are not disturbed: the log may then keep some data.
        """
        if not self.location.is_memory:
            await self._run_on(self._writing, self._truncate_wal)

    async def _run_on(self, executor: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        if self._is_closed:
            raise DatabaseError("the database has been closed", hint="Create a new repository.")
        done = asyncio.get_running_loop().run_in_executor(executor, call)
        done.add_done_callback(_retrieve_exception)
        return await asyncio.shield(done)

    def _open(self, *, check: bool) -> None:
        if self._writer is not None:
            return
        self.location.prepare()
        with self._write_lock(BUSY_TIMEOUT_S), _translate_errors(self.location):
            if check and (found := find_damage(self.location, CHECKED_BYTES)) is not None:
                raise DatabaseDamaged(f"{self.location} is damaged: {found}")
            schema = current_revision(self.location)
            reader = writer = _engine(self.location, "BEGIN IMMEDIATE", _writer_pragmas(self.location, self._timeout_s))
            try:
                upgrade(writer, self.location, schema)
                _open_files(writer)
                if not self.location.is_memory:
                    reader = _engine(self.location, "BEGIN", (f"busy_timeout={_ms(BUSY_TIMEOUT_S)}", "query_only=ON"))
                    _open_files(reader)
            except BaseException:
                writer.dispose()
                raise
            self._writer, self._reader = writer, reader
            self._identity = self.location.file_identity

    def _close(self) -> None:
        if self._writer is None or self._reader is None:
            return
        if self._reader is not self._writer:
            self._reading.submit(self._reader.dispose).result()  # after running reads
        with suppress(DatabaseUnavailable), self._write_lock():  # the last to close moves the log into the database
            self._writer.dispose()
        self._writer.dispose()  # the holder of the lock has it open, so nothing is moved
        self._writer = self._reader = None

    @property
    def _timeout_s(self) -> float:
        """How long a write waits for another program, in seconds."""
        return BUSY_TIMEOUT_S if self._busy_timeout_s is None else self._busy_timeout_s

    def _write(self, name: str, work: Work[T], requested_at: float) -> T:
        started, error = time.perf_counter(), None
        try:
            if requested_at < self._busy_at:  # it has waited as long as the previous one, which failed
                raise self._busy_error()
            return self._commit(name, work)
        except BaseException as failure:
            error = failure
            raise
        finally:
            self.on_write(time.perf_counter() - started, error)

    def _commit(self, name: str, work: Work[T]) -> T:
        with self._write_lock(), self._recording_failures():
            self._require_file()
            self._require_undamaged()
            with self._require_open(self._writer).begin() as connection:
                result = work(connection)
                failpoint(f"{name}:written")
        failpoint(f"{name}:committed")
        return result

    def _read(self, work: Work[T]) -> T:
        with self._recording_failures(), self._require_open(self._reader).begin() as connection:
            return work(connection)

    @contextmanager
    def _recording_failures(self) -> Iterator[None]:
        try:
            with _translate_errors(self.location):
                yield
        except NotADatabase as error:
            self._record_damage(error.message)
            raise DatabaseDamaged(error.message) from error
        except DatabaseUnavailable as error:
            if _is_busy(error.__cause__):
                self._busy_at = time.monotonic()
            raise

    def _record_damage(self, found: str) -> None:
        if self.damage is None:
            self.damage = found
            _log.error("no more writes to the database: %s", found)

    def _require_undamaged(self) -> None:
        if self.damage is not None:
            raise DatabaseDamaged(self.damage)

    def _data_version(self) -> int:
        with _translate_errors(self.location), self._require_open(self._writer).connect() as connection:
            driver: Any = connection.connection.driver_connection
            return int(driver.execute("PRAGMA data_version").fetchone()[0])

    def _truncate_wal(self) -> None:
        with (
            self._write_lock(),
            _translate_errors(self.location),
            self._require_open(self._writer).connect() as connection,
        ):
            driver: Any = connection.connection.driver_connection
            driver.execute("PRAGMA busy_timeout=0")  # don't wait for readers of an older state
            try:
                driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                driver.execute(f"PRAGMA busy_timeout={_ms(self._timeout_s)}")

    def _require_file(self) -> None:
        """Raise `DatabaseUnavailable` if the file was deleted or replaced: writes to it would be lost."""
        if self.location.file_identity != self._identity:
            hint = "Stop Cesar, put the file back, and start it again."
            raise DatabaseUnavailable(f"{self.location} was deleted or replaced", hint=hint)

    def _require_open(self, engine: sa.Engine | None) -> sa.Engine:
        if engine is None:
            raise DatabaseError("the database is not open", hint="Await connect() first.")
        return engine

    def _busy_error(self) -> DatabaseUnavailable:
        return DatabaseUnavailable(f"another program has kept {self.location} busy for {self._timeout_s:g} s")

    @contextmanager
    def _write_lock(self, timeout_s: float | None = None) -> Iterator[None]:
        if self._lock is None:
            yield
            return
        try:
            self._lock.acquire(timeout=timeout_s or self._timeout_s, poll_interval=_LOCK_POLL_S)
        except Timeout:
            self._busy_at = time.monotonic()
            raise self._busy_error() from None
        except OSError as error:
            raise DatabaseNotWritable(f"{self.location} can't be locked: {error}") from error
        try:
            yield
        finally:
            self._lock.release()


def read_identity(connection: sa.Connection) -> int:
    """Return the number that identifies the database to its folder of recordings; 0: it has none yet.

    It is SQLite's `user_version`, which is part of the file's header, and so of every copy.
    """
    return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())


def set_identity(connection: sa.Connection, identity: int) -> None:
    """Write the database's identifying number, 31 bits, even if it does not change."""
    connection.exec_driver_sql(f"PRAGMA user_version = {identity:d}")


def _lock_for(location: DatabaseLocation) -> FileLock | None:
    if location.path is None:
        return None
    return FileLock(f"{location.path}-lock", thread_local=False, mode=file_mode_in(location.path.parent))


def _writer_pragmas(location: DatabaseLocation, busy_timeout_s: float) -> tuple[str, ...]:
    """Return the pragmas of the writing connection. FULL: what is acknowledged has reached the disk."""
    return (
        f"busy_timeout={_ms(busy_timeout_s)}",
        # A write-ahead log needs shared memory, which network file systems lack.
        f"journal_mode={'TRUNCATE' if location.is_on_network else 'WAL'}",
        "synchronous=FULL",
        "fullfsync=ON",  # macOS: fsync alone does not reach the disk
        "foreign_keys=ON",
        "secure_delete=ON",  # overwrite deleted data: transcripts are private
        "mmap_size=0",
        f"journal_size_limit={64 * 2**20}",
    )


def _open_files(engine: sa.Engine) -> None:
    """Open all files of the connection now: SQLite creates missing files, and later they could be another process's."""
    with engine.begin() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")


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


def _retrieve_exception(done: asyncio.Future[Any]) -> None:
    """Retrieve an exception that may have no caller left, so that asyncio doesn't log it."""
    if not done.cancelled():
        done.exception()


@contextmanager
def _translate_errors(location: DatabaseLocation) -> Iterator[None]:
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


def _is_busy(error: BaseException | None) -> bool:
    code = getattr(getattr(error, "orig", error), "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    return code == sqlite3.SQLITE_BUSY


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
