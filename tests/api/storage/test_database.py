"""The database file: its state while it is open, and the translation of SQLite's errors."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import sqlalchemy as sa
from filelock import FileLock

from cesar.api.models import Job
from cesar.api.storage.database import Database
from cesar.api.storage.location import DatabaseLocation
from cesar.api.storage.sqlite_errors import translate_errors
from cesar.errors import (
    DatabaseDamaged,
    DatabaseError,
    DatabaseFull,
    DatabaseNotWritable,
    DatabaseUnavailable,
    NotADatabase,
)
from tests.api.support import QueueCase, eventually


def threads_of(prefix: str) -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith(prefix)}


class TestConnections(QueueCase):
    in_memory = False

    async def ask(self, pragma: str, *, writer: bool = True) -> Any:
        database = self.repository.database
        if writer:
            return await database.write("test", lambda c: c.exec_driver_sql(f"PRAGMA {pragma}").scalar())
        return await database.read(lambda c: c.exec_driver_sql(f"PRAGMA {pragma}").scalar())

    async def test_the_writer_flushes_what_it_acknowledges(self) -> None:
        expected = {
            "journal_mode": "wal",
            "synchronous": 2,
            "fullfsync": 1,
            "foreign_keys": 1,
            "secure_delete": 1,
            "mmap_size": 0,
            "busy_timeout": 10_000,
            "journal_size_limit": 64 * 2**20,
            "query_only": 0,
        }
        assert {pragma: await self.ask(pragma) for pragma in expected} == expected

    async def test_the_reader_waits_as_long_and_cannot_write(self) -> None:
        assert await self.ask("query_only", writer=False) == 1
        assert await self.ask("busy_timeout", writer=False) == 10_000

    async def test_a_write_holds_the_write_lock_from_its_start(self) -> None:
        def lock_out(_connection: sa.Connection) -> None:
            with closing(sqlite3.connect(self.file, timeout=0)) as other, pytest.raises(sqlite3.OperationalError):
                other.execute("BEGIN IMMEDIATE")

        await self.repository.database.write("test", lock_out)

    async def test_a_reader_sees_one_state_throughout(self) -> None:
        await self.queue()

        def count_twice(connection: sa.Connection) -> tuple[int, int]:
            count = sa.text("SELECT count(*) FROM jobs")
            before = connection.execute(count).scalar_one()
            self.sql("DELETE FROM jobs")
            return before, connection.execute(count).scalar_one()

        assert await self.repository.database.read(count_twice) == (1, 1)
        assert await self.repository.list_all() == []

    async def test_the_last_to_close_leaves_one_whole_file(self) -> None:
        job = await self.queue()
        await self.repository.close()
        assert sorted(path.name for path in self.folder.iterdir() if path.is_file()) == ["queue.db", "queue.db-lock"]
        assert self.sql("SELECT id FROM jobs") == [(job.id,)]

    async def test_a_closed_database_says_so(self) -> None:
        await self.repository.close()
        for call in (self.repository.list_all, self.repository.get_next_queued):
            with pytest.raises(DatabaseError, match="has been closed"):
                await call()

    async def test_opening_twice_is_harmless(self) -> None:
        repository = await self.open(":memory:")
        await repository.create(Job(audio_path="/talk.wav"))
        await repository.connect()
        assert len(await repository.list_all()) == 1

    async def test_the_change_counter_counts_only_other_connections(self) -> None:
        counter = self.repository.database.change_counter
        before = await counter()
        await self.queue()
        assert await counter() == before
        other = await self.open()
        await other.create(Job(audio_path="/talk.wav"))
        assert await counter() != before


class TestTroubles(QueueCase):
    in_memory = False

    def setUp(self) -> None:
        super().setUp()
        self.enterContext(patch("cesar.api.storage.database.BUSY_TIMEOUT_S", 0.05))

    async def fails_only_while(self, trouble: Callable[[], Any], match: str) -> None:
        """Test that writes fail during the failure, change nothing, and succeed afterwards."""
        job = await self.queue()
        with trouble():
            for _ in range(2):
                with pytest.raises(DatabaseUnavailable, match=match):
                    await self.queue("/other.wav")
        assert await self.repository.list_all() == [job]
        assert (await self.queue()).seq == job.seq + 1

    async def test_a_lock_held_by_another_program_makes_the_database_unavailable(self) -> None:
        def lock() -> closing[sqlite3.Connection]:
            other = sqlite3.connect(self.file, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            return closing(other)

        await self.fails_only_while(lock, "does not respond: .*database is locked")

    async def test_a_program_that_holds_the_write_lock_makes_the_database_unavailable(self) -> None:
        await self.fails_only_while(FileLock(f"{self.file}-lock").acquire, "another program has kept .* busy")

    async def test_readers_are_not_blocked_by_a_lock(self) -> None:
        job = await self.queue()
        with FileLock(f"{self.file}-lock"), closing(sqlite3.connect(self.file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert await self.repository.get(job.id) == job

    async def test_a_broken_disk_makes_the_database_unavailable(self) -> None:
        def break_disk(_connection: sa.Connection) -> None:
            raise OSError(5, "Input/output error")

        with pytest.raises(DatabaseUnavailable, match="Input/output error"):
            await self.repository.database.write("test", break_disk)

    async def test_closing_releases_everything_while_another_program_holds_the_lock(self) -> None:
        await self.queue()
        await self.claim()
        with FileLock(f"{self.file}-lock"), suppress(DatabaseUnavailable):
            await self.repository.close()
        assert list((self.folder / "queue.db-owners").iterdir()) == []
        await eventually(lambda: not threads_of("cesar-db"))
        other = await self.open()
        assert await other.get_next_queued() is not None

    async def test_a_moved_file_is_not_recreated_by_the_next_read_or_write(self) -> None:
        job = await self.queue()
        other = await self.open()
        moved = [path.rename(self.folder / f"away-{path.name}") for path in self.folder.glob("queue.db*")]
        with pytest.raises(DatabaseUnavailable, match="deleted or replaced"):
            await other.get_next_queued()
        assert await other.get(job.id) == job
        assert not self.file.exists()
        for path in moved:
            path.rename(self.folder / path.name.removeprefix("away-"))
        assert await other.get_next_queued() is not None

    @pytest.mark.slow
    async def test_a_deleted_or_replaced_file_accepts_no_jobs(self) -> None:
        job = await self.queue()
        other = await self.open(self.folder / "other.db")
        await other.close()
        away = self.file.rename(self.folder / "away.db")
        for replacement in (None, self.folder / "other.db"):
            if replacement is not None:
                replacement.rename(self.file)
            with pytest.raises(DatabaseUnavailable, match="deleted or replaced"):
                await self.queue()
        away.replace(self.file)
        assert (await self.queue()).seq == job.seq + 1

    async def test_a_deleted_log_accepts_no_jobs_and_loses_none(self) -> None:
        for suffixes in (("-wal",), ("-shm",), ("-wal", "-shm")):
            with self.subTest(suffixes):
                file = self.folder / f"{''.join(suffixes)}.db"
                repository = await self.open(file)
                jobs = [await repository.create(Job(audio_path="/talk.wav")) for _ in range(3)]
                for suffix in suffixes:
                    file.with_name(file.name + suffix).unlink()
                with pytest.raises(DatabaseUnavailable, match=r"write-ahead log .* was deleted or replaced"):
                    await repository.create(Job(audio_path="/late.wav"))
                assert len(await repository.list_all()) == len(jobs)
                left = self.folder / f"killed{file.name}"  # what a kill would leave now: all but the deleted files
                for suffix in {"", "-wal", "-shm"} - set(suffixes):
                    if (beside := file.with_name(file.name + suffix)).exists():
                        shutil.copy(beside, left.with_name(left.name + suffix))
                after = await self.open(left)
                assert {job.id for job in await after.list_all()} == {job.id for job in jobs}

    async def test_a_full_disk_raises_database_full(self) -> None:
        job = await self.queue()

        def limit(connection: sa.Connection, pages: int) -> None:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

        pages = self.sql("PRAGMA page_count")[0][0]
        await self.repository.database.write("test", lambda c: limit(c, pages))
        with pytest.raises(DatabaseFull, match="no space"):
            await self.queue(name="x" * 100_000)
        assert await self.repository.list_all() == [job]
        await self.repository.database.write("test", lambda c: limit(c, 2**30))
        assert (await self.queue(name="x" * 100_000)).seq == job.seq + 1

    async def test_concurrent_work_on_two_connections_never_fails_as_locked(self) -> None:
        with patch("cesar.api.storage.database.BUSY_TIMEOUT_S", 60):
            repositories = [await self.open() for _ in range(3)]
            jobs = [Job(audio_path=f"/{number}.wav") for number in range(60)]
            await asyncio.gather(*(repositories[n % 3].create(job) for n, job in enumerate(jobs)))
        assert len(await self.repository.list_all()) == 60


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_BUSY, DatabaseUnavailable),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, DatabaseUnavailable),
        (sqlite3.SQLITE_LOCKED, DatabaseUnavailable),
        (sqlite3.SQLITE_IOERR, DatabaseUnavailable),
        (sqlite3.SQLITE_IOERR_FSYNC, DatabaseUnavailable),
        (sqlite3.SQLITE_ERROR, DatabaseUnavailable),
        (sqlite3.SQLITE_FULL, DatabaseFull),
        (sqlite3.SQLITE_READONLY, DatabaseNotWritable),
        (sqlite3.SQLITE_READONLY_DBMOVED, DatabaseNotWritable),
        (sqlite3.SQLITE_PERM, DatabaseNotWritable),
        (sqlite3.SQLITE_CANTOPEN, DatabaseNotWritable),
        (sqlite3.SQLITE_NOTADB, NotADatabase),
        (sqlite3.SQLITE_CORRUPT, DatabaseDamaged),
        (sqlite3.SQLITE_CORRUPT_INDEX, DatabaseDamaged),
    ],
)
def test_sqlite_errors_are_translated(code: int, kind: type[DatabaseError]) -> None:
    error = sqlite3.OperationalError("what SQLite says")
    error.sqlite_errorcode = code
    with pytest.raises(kind) as translated, translate_errors(DatabaseLocation(Path("/data/queue.db"))):
        raise error
    assert translated.type is kind
    assert "/data/queue.db" in translated.value.message


def test_closing_waits_for_readers(tmp_path: Path) -> None:
    async def close_meanwhile() -> int:
        database = Database(DatabaseLocation(tmp_path / "queue.db"))
        await database.connect()
        begun, may_go_on = threading.Event(), threading.Event()

        def count(connection: sa.Connection) -> int:
            begun.set()
            may_go_on.wait(5)
            return int(connection.execute(sa.text("SELECT count(*) FROM jobs")).scalar_one())

        reading = asyncio.create_task(database.read(count))
        await eventually(begun.is_set)
        closing = asyncio.create_task(database.close())
        await asyncio.wait({closing}, timeout=0.2)  # it may, wrongly, come to its end
        may_go_on.set()
        await closing
        return await reading

    assert asyncio.run(close_meanwhile()) == 0


def test_closing_waits_for_running_work(tmp_path: Path) -> None:
    async def close_meanwhile() -> None:
        database = Database(DatabaseLocation(tmp_path / "queue.db"))
        await database.connect()
        slow = asyncio.create_task(database.write("test", lambda c: c.execute(sa.text("DELETE FROM jobs")).rowcount))
        await asyncio.sleep(0)
        await database.close()
        assert await slow == 0

    asyncio.run(close_meanwhile())
