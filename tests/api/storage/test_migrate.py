"""Migrations: atomic, with a backup first, and one process at a time.

There is one migration so far. Later ones are played by scripts that the tests write.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from cesar.api.models import Job
from cesar.api.repository import JobRepository
from cesar.api.storage import migrate
from cesar.api.storage.migrate import HEAD
from cesar.api.storage.schema import metadata
from cesar.errors import DatabaseUnavailable
from tests.api.support import QueueCase

SCRIPTS = Path(migrate.__file__).with_name("migrations")
NEXT = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "{revision}", "{before}"

def upgrade():
    op.create_table("made_by_{revision}", sa.Column("id", sa.Integer, primary_key=True))
    op.execute("UPDATE jobs SET priority = priority + 1")
    op.add_column("jobs", sa.Column("added_by_{revision}", sa.String))
    {last_step}
"""


@pytest.fixture(autouse=True)
def _quickly_made_databases() -> None:
    """Create every database by migrations."""


class MigrationCase(QueueCase):
    async def asyncSetUp(self) -> None:
        """Each test opens its database itself."""

    @contextmanager
    def later_cesar(self, **last_steps: str) -> Iterator[None]:
        """A version with these migrations after our last: `next1="pass"`, named by revision, with their last step."""
        folder = self.folder / f"cesar-{len(last_steps)}-{abs(hash(str(last_steps)))}"
        shutil.copytree(SCRIPTS, folder / "migrations", ignore=shutil.ignore_patterns("__pycache__"))
        before = HEAD
        for revision, last_step in last_steps.items():
            script = NEXT.format(revision=revision, before=before, last_step=last_step)
            (folder / "migrations" / "versions" / f"{revision}.py").write_text(script)
            before = revision
        with ExitStack() as patches:
            patches.enter_context(patch.object(migrate, "__file__", str(folder / "migrate.py")))
            patches.enter_context(patch.object(migrate, "HEAD", before))
            yield

    async def make_old(self, count: int = 3) -> list[Job]:
        """Create a database of the current schema with some jobs."""
        repository = await self.open()
        jobs = [await repository.create(Job(audio_path=f"/{number}.wav")) for number in range(count)]
        await repository.close()
        return jobs

    def schema(self, path: Path | None = None) -> tuple[Any, set[str], list[tuple[str, int]]]:
        """Return the revision, the tables of later migrations, and the jobs with their priorities."""
        with closing(sqlite3.connect(path or self.file)) as connection:
            (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            jobs = connection.execute("SELECT id, priority FROM jobs ORDER BY seq").fetchall()
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return revision, {name for name in tables if name.startswith("made_by")}, jobs


class TestSchema(MigrationCase):
    async def test_the_migrations_create_exactly_the_tables_of_the_schema(self) -> None:
        for db in (":memory:", self.file):
            repository = await self.open(db)

            def compare(connection: sa.Connection) -> list[Any]:
                context = MigrationContext.configure(connection, opts={"compare_type": True})
                return list(compare_metadata(context, metadata))

            assert await repository.database.write("test", compare) == []

    async def test_indexes_match_the_schema_exactly(self) -> None:
        await self.make_old()
        indexes = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        migrated = dict(self.sql(indexes))
        engine = sa.create_engine(f"sqlite:///{self.folder / 'by-code.db'}")
        metadata.create_all(engine)
        engine.dispose()
        with closing(sqlite3.connect(self.folder / "by-code.db")) as connection:
            assert migrated == dict(connection.execute(indexes).fetchall())

    async def test_the_last_migration_is_head(self) -> None:
        assert ScriptDirectory(str(SCRIPTS)).get_heads() == [HEAD]

    async def test_a_new_database_needs_no_backup(self) -> None:
        await self.make_old()
        assert self.schema()[0] == HEAD
        assert list(self.folder.glob("*before*")) == []

    async def test_a_current_database_is_opened_without_alembic(self) -> None:
        await self.make_old()
        with patch.dict(sys.modules, {"alembic": None, "alembic.command": None}):
            await (await self.open()).close()


class TestLaterSchemas(MigrationCase):
    async def test_an_older_database_is_migrated_with_all_its_rows(self) -> None:
        jobs = await self.make_old()
        with (
            self.later_cesar(next1="pass", next2="pass"),
            self.assertLogs("cesar.api.storage.migrate", logging.INFO) as logs,
        ):
            repository = await self.open()
        assert await repository.get(jobs[0].id) is not None
        assert self.schema() == ("next2", {"made_by_next1", "made_by_next2"}, [(job.id, 2) for job in jobs])
        assert f"now has schema next2 (it had {HEAD})" in logs.output[-1]

    async def test_a_backup_is_made_before_a_migration(self) -> None:
        jobs = await self.make_old()
        with self.later_cesar(next1="pass"):
            await (await self.open()).close()
        copy = self.folder / "queue.db.before-next1"
        assert self.schema(copy) == (HEAD, set(), [(job.id, 0) for job in jobs])
        assert await (await self.open(copy)).list_all() == jobs[::-1]
        assert list(self.folder.glob("*.part")) == []

    async def test_a_step_that_fails_leaves_the_database_as_it_was(self) -> None:
        jobs = await self.make_old()
        before = self.schema()
        with self.later_cesar(next1="raise ZeroDivisionError"), pytest.raises(ZeroDivisionError):
            await self.open()
        assert self.schema() == before
        assert self.schema(self.folder / "queue.db.before-next1") == before
        with self.later_cesar(next1="pass"):
            await (await self.open()).close()
        assert self.schema() == ("next1", {"made_by_next1"}, [(job.id, 1) for job in jobs])

    async def test_completed_steps_stay_when_a_later_one_fails(self) -> None:
        jobs = await self.make_old()
        with self.later_cesar(next1="pass", next2="raise ZeroDivisionError"), pytest.raises(ZeroDivisionError):
            await self.open()
        assert self.schema() == ("next1", {"made_by_next1"}, [(job.id, 1) for job in jobs])
        with self.later_cesar(next1="pass", next2="pass"):
            await (await self.open()).close()
        assert self.schema() == ("next2", {"made_by_next1", "made_by_next2"}, [(job.id, 2) for job in jobs])

    async def test_nothing_is_migrated_without_space_for_the_backup(self) -> None:
        await self.make_old()
        before = self.schema()
        (self.folder / "queue.db.before-next1.part").mkdir()
        with self.later_cesar(next1="pass"), pytest.raises(DatabaseUnavailable):
            await self.open()
        assert self.schema() == before

    async def test_of_several_processes_one_migrates_and_the_others_wait(self) -> None:
        jobs = await self.make_old()
        with self.later_cesar(next1="pass"), self.assertLogs("cesar.api.storage.migrate", logging.INFO) as logs:
            await asyncio.gather(*(self.open() for _ in range(5)))
        assert len([line for line in logs.output if "now has schema" in line]) == 1
        assert self.schema() == ("next1", {"made_by_next1"}, [(job.id, 1) for job in jobs])

    async def test_a_database_in_memory_runs_every_migration(self) -> None:
        with self.later_cesar(next1="pass"):
            repository = await self.open(":memory:")
        assert await repository.list_all() == []


class TestKilledWhileMigrating(MigrationCase):
    """A snapshot of the files before each statement is what `kill -9` there would leave behind."""

    async def snapshots(self) -> list[Path]:
        """Open the database, migrating it; return folders with its files as they were at each statement."""
        taken: list[Path] = []

        def take(*_: object) -> None:
            folder = self.folder / "snapshots" / str(len(taken))
            folder.mkdir(parents=True)
            for path in self.folder.glob("queue.db*"):
                if path.is_file() and not path.name.endswith("-lock"):
                    shutil.copy(path, folder)
            taken.append(folder)

        for event in ("before_cursor_execute", "commit"):
            sa.event.listen(sa.Engine, event, take)
        try:
            await (await self.open()).close()
        finally:
            for event in ("before_cursor_execute", "commit"):
                sa.event.remove(sa.Engine, event, take)
        return taken

    @pytest.mark.slow
    async def test_an_interrupted_creation_is_completed_by_the_next_process(self) -> None:
        snapshots = await self.snapshots()
        assert len(snapshots) > 10
        for snapshot in snapshots:
            repository = JobRepository(snapshot / "queue.db")
            await repository.connect()
            job = await repository.create(Job(audio_path="/talk.wav"))
            await repository.close()
            assert self.schema(snapshot / "queue.db") == (HEAD, set(), [(job.id, 0)])

    @pytest.mark.slow
    async def test_an_interrupted_migration_keeps_every_row_and_repeats_no_step(self) -> None:
        jobs = await self.make_old()
        with self.later_cesar(next1="pass", next2="pass"):
            snapshots = await self.snapshots()
            assert len(snapshots) > 10
            for snapshot in snapshots:
                repository = JobRepository(snapshot / "queue.db")
                await repository.connect()
                await repository.close()
                expected = ("next2", {"made_by_next1", "made_by_next2"}, [(job.id, 2) for job in jobs])
                assert self.schema(snapshot / "queue.db") == expected

    async def test_the_backup_is_complete_before_the_first_step(self) -> None:
        jobs = await self.make_old()
        with self.later_cesar(next1="pass", next2="pass"):
            snapshots = await self.snapshots()
        migrating = [snapshot for snapshot in snapshots if self.schema(snapshot / "queue.db")[0] == "next1"]
        assert migrating
        for snapshot in migrating:
            assert self.schema(snapshot / "queue.db.before-next2") == (HEAD, set(), [(job.id, 0) for job in jobs])


OPEN = """
import asyncio, sys
from cesar.api.repository import JobRepository

async def open_all(paths):
    repositories = [JobRepository(path) for path in paths]
    await asyncio.gather(*(repository.connect() for repository in repositories))
    for repository in repositories:
        await repository.close()

asyncio.run(open_all(sys.argv[1:]))
"""


def start(*paths: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", OPEN, *map(str, paths)], stderr=subprocess.PIPE)


def errors_of(*processes: subprocess.Popen[bytes]) -> list[tuple[int, bytes]]:
    found = []
    for process in processes:
        _, errors = process.communicate(timeout=60)
        found.append((process.returncode, errors))
    return [(code, errors) for code, errors in found if code or errors]


@pytest.mark.slow
def test_processes_that_create_the_same_database_at_once_do_not_interfere(tmp_path: Path) -> None:
    assert errors_of(*(start(tmp_path / "queue.db") for _ in range(3))) == []


@pytest.mark.slow
def test_a_process_may_create_many_databases_at_once(tmp_path: Path) -> None:
    assert errors_of(start(*(tmp_path / f"{number}.db" for number in range(40)))) == []
