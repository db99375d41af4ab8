"""The database behind the queue: one writing connection, one reading one, each on a thread of its own.

What is special about SQLite is here: how it is opened, locked, and kept from losing what it has acknowledged. What the
queue does with the database is in `repository`.
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

from cesar.api.storage.integrity import damage_in
from cesar.api.storage.location import Place
from cesar.api.storage.migrate import bring_up_to_date, schema_of
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
"""A database of up to this size is read through for damage when it is opened to be served or worked on."""
_LOCK_POLL_S = 0.002
_IF_IT_WAS_OURS = "If it was Cesar's, run `cesar doctor --repair`; else name another file with --database."
_log = logging.getLogger(__name__)


class Database:
    """A SQLite database, for one program's use from any task of one event loop.

    Every piece of work is one transaction on a thread; cancelling who waits for it can't cut it in two. Once damage is
    seen, nothing more is written until another `Database` has opened the file and found it sound.

    patience_s: how long a write waits for another program; by default 10 s.
    """

    def __init__(self, place: Place, *, patience_s: float | None = None) -> None:
        self.place = place
        self.damage: str | None = None
        """A sentence that says what was found to be damaged; None: nothing was."""
        self._patience_s = patience_s
        self._stalled_at = -math.inf
        """When a write was last given up because another program kept the database busy."""
        self.on_write: Callable[[float, BaseException | None], None] = lambda _took_s, _error: None
        """Called after each write, on its thread: how long it took, and the error that came of it, if one did."""
        self._writer: sa.Engine | None = None
        self._reader: sa.Engine | None = None
        self._identity: object = None
        self._is_closed = False
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="cesar-db-write")
        self._reading = self._writing if place.is_memory else ThreadPoolExecutor(1, thread_name_prefix="cesar-db-read")
        # Programs take turns: SQLite before 3.51.3 can damage a WAL in which one connection commits while another
        # makes a checkpoint, and a queue of lockers is fairer than SQLite's retries.
        self._turn = _turn_of(place)

    async def connect(self, *, check: bool = False) -> None:
        """Open the database, making or migrating it if need be. Raises `DatabaseError` if it can't be used.

        check: whether it is read through for damage first, unless it is very large.
        """
        await self._on(self._writing, lambda: self._open(check=check))

    async def close(self) -> None:
        """Wait for what is under way and let go of the file."""
        if self._is_closed:
            return
        closing = asyncio.ensure_future(self._on(self._writing, self._shut))
        await asyncio.sleep(0)  # it is on its way; whatever comes from now on is refused
        self._is_closed = True
        await closing
        self._reading.shutdown()
        self._writing.shutdown()

    async def write(self, name: str, work: Work[T]) -> T:
        """Do the work in one transaction that is on the disk when this returns.

        Raises what the work raises, and `DatabaseUnavailable` if the database can't take it just now.
        """
        asked_at = time.monotonic()
        return await self._on(self._writing, lambda: self._write(name, work, asked_at))

    async def probe(self) -> None:
        """Write something that changes nothing, as far as to the disk. Raises `DatabaseError` if that fails."""
        await self.write("probe", lambda connection: set_identity(connection, identity_of(connection)))

    async def look_for_damage(self, most_bytes: int) -> None:
        """Read the file anew, unless it is larger than that, and remember what is damaged."""
        if self.damage is None and not self.place.is_memory and self.is_there:
            found = await asyncio.to_thread(damage_in, self.place, most_bytes)
            if found is not None:
                self._note_damage(f"{self.place} is damaged: {found}")

    async def read(self, work: Work[T]) -> T:
        """Do the work on one consistent state of the database, without waiting for writers."""
        return await self._on(self._reading, lambda: self._read(work))

    @property
    def is_there(self) -> bool:
        """Whether the file that was opened still lies in its place."""
        return self.place.file_identity == self._identity

    async def change_counter(self) -> int:
        """Give a number that changes when another connection has committed something."""
        return await self._on(self._writing, self._data_version)

    async def empty_log(self) -> None:
        """Move what is committed from the write-ahead log into the database and leave nothing in the log.

        As far as it can be done now: who is just reading an older state is not disturbed.
        """
        if not self.place.is_memory:
            await self._on(self._writing, self._empty_log)

    async def _on(self, executor: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        if self._is_closed:
            raise DatabaseError("the database is not open any more", hint="Make a new repository.")
        done = asyncio.get_running_loop().run_in_executor(executor, call)
        done.add_done_callback(_look_at)
        return await asyncio.shield(done)

    def _open(self, *, check: bool) -> None:
        if self._writer is not None:
            return
        self.place.prepare()
        with self._our_turn(BUSY_TIMEOUT_S), _translated(self.place):
            if check and (found := damage_in(self.place, CHECKED_BYTES)) is not None:
                raise DatabaseDamaged(f"{self.place} is damaged: {found}")
            schema = schema_of(self.place)
            reader = writer = _engine(self.place, "BEGIN IMMEDIATE", _writer_rules(self.place, self._waits_s))
            try:
                bring_up_to_date(writer, self.place, schema)
                _open_now(writer)
                if not self.place.is_memory:
                    reader = _engine(self.place, "BEGIN", (f"busy_timeout={_ms(BUSY_TIMEOUT_S)}", "query_only=ON"))
                    _open_now(reader)
            except BaseException:
                writer.dispose()
                raise
            self._writer, self._reader = writer, reader
            self._identity = self.place.file_identity

    def _shut(self) -> None:
        if self._writer is None or self._reader is None:
            return
        if self._reader is not self._writer:
            self._reading.submit(self._reader.dispose).result()  # after whatever is being read
        with suppress(DatabaseUnavailable), self._our_turn():  # the last one to close moves the log into the database
            self._writer.dispose()
        self._writer.dispose()  # who keeps the turn has it open, so that nothing is moved
        self._writer = self._reader = None

    @property
    def _waits_s(self) -> float:
        """How long a write waits for another program."""
        return BUSY_TIMEOUT_S if self._patience_s is None else self._patience_s

    def _write(self, name: str, work: Work[T], asked_at: float) -> T:
        begun, error = time.perf_counter(), None
        try:
            if asked_at < self._stalled_at:  # it has waited as long as the one before it, which failed
                raise self._stall()
            return self._commit(name, work)
        except BaseException as failure:
            error = failure
            raise
        finally:
            self.on_write(time.perf_counter() - begun, error)

    def _commit(self, name: str, work: Work[T]) -> T:
        with self._our_turn(), self._troubles_noted():
            self._require_file()
            self._require_soundness()
            with self._need(self._writer).begin() as connection:
                result = work(connection)
                failpoint(f"{name}:written")
        failpoint(f"{name}:committed")
        return result

    def _read(self, work: Work[T]) -> T:
        with self._troubles_noted(), self._need(self._reader).begin() as connection:
            return work(connection)

    @contextmanager
    def _troubles_noted(self) -> Iterator[None]:
        try:
            with _translated(self.place):
                yield
        except NotADatabase as error:
            self._note_damage(error.message)
            raise DatabaseDamaged(error.message) from error
        except DatabaseUnavailable as error:
            if _is_busy(error.__cause__):
                self._stalled_at = time.monotonic()
            raise

    def _note_damage(self, found: str) -> None:
        if self.damage is None:
            self.damage = found
            _log.error("nothing more is written to the database: %s", found)

    def _require_soundness(self) -> None:
        if self.damage is not None:
            raise DatabaseDamaged(self.damage)

    def _data_version(self) -> int:
        with _translated(self.place), self._need(self._writer).connect() as connection:
            driver: Any = connection.connection.driver_connection
            return int(driver.execute("PRAGMA data_version").fetchone()[0])

    def _empty_log(self) -> None:
        with self._our_turn(), _translated(self.place), self._need(self._writer).connect() as connection:
            driver: Any = connection.connection.driver_connection
            driver.execute("PRAGMA busy_timeout=0")  # a reader of an older state is not waited for
            try:
                driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                driver.execute(f"PRAGMA busy_timeout={_ms(self._waits_s)}")

    def _require_file(self) -> None:
        """What is written to a deleted file is gone with the last program that has it open."""
        if self.place.file_identity != self._identity:
            hint = "Stop Cesar, put the file back, and start it again."
            raise DatabaseUnavailable(f"{self.place} was deleted or replaced", hint=hint)

    def _need(self, engine: sa.Engine | None) -> sa.Engine:
        if engine is None:
            raise DatabaseError("the database is not open", hint="Await connect() first.")
        return engine

    def _stall(self) -> DatabaseUnavailable:
        return DatabaseUnavailable(f"another program has kept {self.place} busy for {self._waits_s:g} s")

    @contextmanager
    def _our_turn(self, timeout_s: float | None = None) -> Iterator[None]:
        if self._turn is None:
            yield
            return
        try:
            self._turn.acquire(timeout=timeout_s or self._waits_s, poll_interval=_LOCK_POLL_S)
        except Timeout:
            self._stalled_at = time.monotonic()
            raise self._stall() from None
        except OSError as error:
            raise DatabaseNotWritable(f"{self.place} can't be locked: {error}") from error
        try:
            yield
        finally:
            self._turn.release()


def identity_of(connection: sa.Connection) -> int:
    """Return the number by which a folder of recordings knows its database; 0: it has none yet.

    It is SQLite's `user_version`: part of the file's header, and so of every copy.
    """
    return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())


def set_identity(connection: sa.Connection, identity: int) -> None:
    """Write the number of the database, 31 bits, even if it is the one that it has."""
    connection.exec_driver_sql(f"PRAGMA user_version = {identity:d}")


def _turn_of(place: Place) -> FileLock | None:
    if place.path is None:
        return None
    return FileLock(f"{place.path}-lock", thread_local=False, mode=file_mode_in(place.path.parent))


def _writer_rules(place: Place, patience_s: float) -> tuple[str, ...]:
    """The pragmas of the writing connection. FULL: what is acknowledged has reached the disk."""
    return (
        f"busy_timeout={_ms(patience_s)}",
        # On a network there is no shared memory, which a write-ahead log needs.
        f"journal_mode={'TRUNCATE' if place.is_on_network else 'WAL'}",
        "synchronous=FULL",
        "fullfsync=ON",  # macOS: fsync alone does not reach the disk
        "foreign_keys=ON",
        "secure_delete=ON",  # what is deleted is overwritten: transcripts are private
        "mmap_size=0",
        f"journal_size_limit={64 * 2**20}",
    )


def _open_now(engine: sa.Engine) -> None:
    """Open all files of the connection: SQLite makes what is not there, and later that would be another's."""
    with engine.begin() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")


def _engine(place: Place, begin: str, pragmas: tuple[str, ...]) -> sa.Engine:
    """One connection, opened on first use and kept; SQLAlchemy's "begin" becomes `begin`."""
    engine = sa.create_engine(
        place.url,
        poolclass=StaticPool,
        json_serializer=_to_json,
        hide_parameters=True,  # they may be transcripts, and errors are logged
        connect_args={"isolation_level": None, "check_same_thread": False, "timeout": BUSY_TIMEOUT_S},
    )

    @sa.event.listens_for(engine, "connect")
    def set_rules(connection: sqlite3.Connection, _record: object) -> None:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")
        connection.create_function("lower", 1, _lower, deterministic=True)  # SQLite's own knows A to Z only

    @sa.event.listens_for(engine, "begin")
    def begin_transaction(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _look_at(done: asyncio.Future[Any]) -> None:
    """Take note of an error that nobody may be left to hear, so that asyncio doesn't complain of it."""
    if not done.cancelled():
        done.exception()


@contextmanager
def _translated(place: Place) -> Iterator[None]:
    """Turn what SQLite reports into our errors."""
    try:
        yield
    except sa.exc.IntegrityError:
        raise  # a bug of ours: the statements see to it that no rule is broken
    except sa.exc.DBAPIError as error:
        raise _meaning(error.orig, place) from error
    except sqlite3.DatabaseError as error:
        raise _meaning(error, place) from error
    except OSError as error:
        raise DatabaseUnavailable(f"{place} can't be used: {error}") from error


def _meaning(error: BaseException | None, place: Place) -> DatabaseError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the low byte is the kind
    match code:
        case sqlite3.SQLITE_FULL:
            return DatabaseFull(f"no room is left for {place}")
        case sqlite3.SQLITE_CORRUPT:
            return DatabaseDamaged(f"{place} is damaged ({error})")
        case sqlite3.SQLITE_NOTADB:
            return NotADatabase(f"{place} is not a database, or is damaged ({error})", hint=_IF_IT_WAS_OURS)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return DatabaseNotWritable(f"{place} may not be written to")
        case sqlite3.SQLITE_CANTOPEN:
            return DatabaseNotWritable(f"{place} can't be opened, or nothing may be written beside it")
    return DatabaseUnavailable(f"{place} does not answer: {error}")


def _is_busy(error: BaseException | None) -> bool:
    code = getattr(getattr(error, "orig", error), "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    return code == sqlite3.SQLITE_BUSY


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
