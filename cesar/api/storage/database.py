"""The database behind the queue: a writing and a reading connection, each on its own thread.

It locks the database, and loses nothing that it has acknowledged. `sqlite_engine` opens the file, `sqlite_errors`
translates its errors; the queue's operations are in `repository`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import sqlalchemy as sa
from filelock import FileLock, Timeout

from cesar.api.storage.integrity import find_damage
from cesar.api.storage.location import DatabaseLocation
from cesar.api.storage.migrate import current_revision, upgrade
from cesar.api.storage.sqlite_engine import BUSY_TIMEOUT_S, milliseconds, open_files, reading_engine, writing_engine
from cesar.api.storage.sqlite_errors import is_busy, translate_errors
from cesar.errors import (
    DatabaseDamaged,
    DatabaseError,
    DatabaseNotWritable,
    DatabaseUnavailable,
    NotADatabase,
)
from cesar.failpoints import failpoint
from cesar.files.private import file_mode_in

T = TypeVar("T")
Work = Callable[[sa.Connection], T]

CHECKED_BYTES = 2**30
"""Maximum size of a database that a service or worker checks for damage on opening it."""
_LOCK_POLL_S = 0.002
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
        self._log_identities: tuple[object, ...] = ()
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
        with self._write_lock(BUSY_TIMEOUT_S), translate_errors(self.location):
            if check and (found := find_damage(self.location, CHECKED_BYTES)) is not None:
                raise DatabaseDamaged(f"{self.location} is damaged: {found}")
            schema = current_revision(self.location)
            reader = writer = writing_engine(self.location, self._timeout_s)
            try:
                upgrade(writer, self.location, schema)
                open_files(writer)
                if not self.location.is_memory:
                    reader = reading_engine(self.location)
                    open_files(reader)
            except BaseException:
                writer.dispose()
                raise
            self._writer, self._reader = writer, reader
            self._identity = self.location.file_identity
            self._log_identities = self.location.log_identities

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
            with translate_errors(self.location):
                yield
        except NotADatabase as error:
            self._record_damage(error.message)
            raise DatabaseDamaged(error.message) from error
        except DatabaseUnavailable as error:
            if is_busy(error.__cause__):
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
        with translate_errors(self.location), self._require_open(self._writer).connect() as connection:
            driver: Any = connection.connection.driver_connection
            return int(driver.execute("PRAGMA data_version").fetchone()[0])

    def _truncate_wal(self) -> None:
        with (
            self._write_lock(),
            translate_errors(self.location),
            self._require_open(self._writer).connect() as connection,
        ):
            driver: Any = connection.connection.driver_connection
            driver.execute("PRAGMA busy_timeout=0")  # don't wait for readers of an older state
            try:
                driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                driver.execute(f"PRAGMA busy_timeout={milliseconds(self._timeout_s)}")

    def _require_file(self) -> None:
        """Raise `DatabaseUnavailable` if the file was deleted or replaced: writes to it would be lost."""
        if self.location.file_identity != self._identity:
            hint = "Stop Cesar, put the file back, and start it again."
            raise DatabaseUnavailable(f"{self.location} was deleted or replaced", hint=hint)
        if self.location.log_identities != self._log_identities:
            self._save_log()
            hint = "Stop Cesar, and start it again; while it runs, leave the files beside the database alone."
            raise DatabaseUnavailable(f"the write-ahead log of {self.location} was deleted or replaced", hint=hint)

    def _save_log(self) -> None:
        """Move what was committed to a deleted log into the database, before the process, and so the log, is gone.

        Not if there is another log: if another process has written to it, the pages in this one are out of date.
        """
        if self.location.log_identities[0] is not None:
            return
        with suppress(sa.exc.DBAPIError), self._require_open(self._writer).connect() as connection:
            driver: Any = connection.connection.driver_connection
            driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

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


def _retrieve_exception(done: asyncio.Future[Any]) -> None:
    """Retrieve an exception that may have no caller left, so that asyncio doesn't log it."""
    if not done.cancelled():
        done.exception()
