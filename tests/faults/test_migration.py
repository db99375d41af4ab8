"""Databases of earlier and later versions: every row is kept, whatever happens on the way.

The Cesar of tomorrow is a copy of this one with one migration more, of the hardest kind: it makes the table of jobs
anew. So what a migration goes through is tested before there is a second one.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cesar.api.models import Job, JobStatus
from cesar.api.repository import JobRepository
from cesar.api.storage import migrate
from cesar.errors import DatabaseTooNew, NotADatabase
from tests.faults import power
from tests.faults.schemas import FOLDER, build, revisions, schema_by_migrations, schema_of
from tests.faults.support import ROOT, faults_found, rows

pytestmark = pytest.mark.slow

TABLES = {"jobs": "seq", "job_events": "id", "job_chunks": "job_seq, start"}
TOMORROW = """
from alembic import op

revision = "tomorrow"
down_revision = "{head}"


def upgrade():
    ask = op.get_bind().exec_driver_sql
    laws = "SELECT sql FROM sqlite_master WHERE tbl_name = 'jobs' AND type <> 'table' AND sql IS NOT NULL"
    kept = ask(laws).scalars().all()
    (table,) = ask("SELECT sql FROM sqlite_master WHERE name = 'jobs'").scalars()
    columns = ", ".join(row[1] for row in ask("PRAGMA table_info(jobs)"))
    highest = ask("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'").scalar() or 0
    ask(table.replace("TABLE jobs (", "TABLE new_jobs (shelf VARCHAR NOT NULL DEFAULT 'top', "))
    ask(f"INSERT INTO new_jobs ({{columns}}) SELECT {{columns}} FROM jobs")
    ask("DROP TABLE jobs")
    ask("ALTER TABLE new_jobs RENAME TO jobs")
    ask(f"UPDATE sqlite_sequence SET seq = {{highest}} WHERE name = 'jobs'")
    for law in kept:
        ask(law)
    ask("UPDATE jobs SET shelf = 'bottom' WHERE priority < 1")
"""
"""Recreates a table as https://sqlite.org/lang_altertable.html describes."""


@pytest.fixture(scope="module")
def tomorrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a future version."""
    folder = tmp_path_factory.mktemp("tomorrow")
    shutil.copytree(ROOT / "cesar", folder / "cesar", ignore=shutil.ignore_patterns("__pycache__"))
    module = folder / "cesar/api/storage/migrate.py"
    code, count = re.subn(r'^HEAD = ".*"$', 'HEAD = "tomorrow"', module.read_text(), flags=re.MULTILINE)
    assert count == 1
    module.write_text(code)
    (folder / "cesar/api/storage/migrations/versions/tomorrow.py").write_text(TOMORROW.format(head=migrate.HEAD))
    return folder


def starter(code: Path, *arguments: object) -> subprocess.Popen[str]:
    """Run `tests.faults.starter` with the version in that folder."""
    command = [sys.executable, "-m", "tests.faults.starter", *map(str, arguments)]
    environ = os.environ | {"PYTHONPATH": f"{code}{os.pathsep}{ROOT}"}
    return subprocess.Popen(command, cwd=code, env=environ, text=True, stdout=subprocess.PIPE)


def run(code: Path, *arguments: object) -> None:
    with starter(code, *arguments) as process:
        process.communicate()
    assert process.returncode == 0


def steps_of(code: Path, template: Path, folder: Path) -> int:
    """Return the number of file operations of an undisturbed start."""
    folder.mkdir()
    run(code, "kill", template, folder, 10**9)
    return int((folder / f"{10**9}/done").read_text())


def killed_at(code: Path, template: Path, folder: Path, steps: list[int]) -> list[Path]:
    """Kill starts at these steps; return the databases that they leave."""
    folder.mkdir()
    run(code, "kill", template, folder, *steps)
    assert not list(folder.glob("*/done"))
    return [folder / f"{step}/queue.db" for step in steps]


def content(database: Path) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of all tables."""
    return {table: [dict(row) for row in rows(database, f"SELECT * FROM {table} ORDER BY {order}")]
            for table, order in TABLES.items()}  # fmt: skip


def lost(before: dict[str, list[dict[str, Any]]], after: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Return the differences in the columns that existed before."""
    found = []
    for table, its_rows in before.items():
        kept = [{name: row.get(name, "no such column") for name in its_rows[0]} for row in after[table]]
        found += [f"{table}: {row} became {now}" for row, now in zip(its_rows, kept, strict=False) if row != now]
        if len(its_rows) != len(after[table]):
            found.append(f"{table}: {len(its_rows)} rows became {len(after[table])}")
    return found


def opened(database: Path) -> list[Job]:
    async def open_and_list() -> list[Job]:
        repository = JobRepository(database)
        await repository.connect()
        try:
            return await repository.list_all()
        finally:
            await repository.close()

    return asyncio.run(open_and_list())


def laws(database: Path) -> set[str]:
    """Return the indexes and triggers, as created."""
    kinds = "SELECT sql FROM sqlite_master WHERE type IN ('index', 'trigger') AND sql IS NOT NULL"
    return {row["sql"] for row in rows(database, kinds)}


@pytest.mark.parametrize("revision", revisions())
def test_a_published_schema_never_changes(revision):
    """If this fails for a new migration, run `python -m tests.faults.schemas`; for an old one, take the change back."""
    assert (FOLDER / f"{revision}.sql").read_text(encoding="utf-8") == schema_by_migrations(revision)


def test_the_newest_migration_is_head():
    assert revisions()[-1] == migrate.HEAD


@pytest.mark.parametrize("revision", revisions())
def test_an_earlier_versions_database_opens_with_every_row_and_works(revision, tmp_path, rounds, note):
    database, count = tmp_path / "queue.db", rounds(500, 10_000)
    build(database, revision, count)
    before = content(database)
    jobs = opened(database)
    assert lost(before, content(database)) == []
    assert [job.seq for job in jobs] == list(range(count, 0, -1))
    opened(tmp_path / "fresh.db")
    assert laws(database) == laws(tmp_path / "fresh.db")

    async def go_on() -> None:
        repository = JobRepository(database)
        await repository.connect()
        assert set((await repository.counts()).values()) == {count // 5}
        claimed = await repository.get_next_queued()
        counts = await repository.counts()
        assert counts[JobStatus.PROCESSING] == 1  # the owners of all others are long dead
        assert counts[JobStatus.ERROR] + counts[JobStatus.QUEUED] == 3 * count // 5 - 1
        assert claimed is not None
        kept = before["job_chunks"] and [row for row in before["job_chunks"] if row["job_seq"] == claimed.seq]
        assert len(await repository.resume(claimed, f"work {claimed.seq}")) == len(kept)
        new = await repository.create(Job(audio_path="/new.wav"))
        assert new.seq == count + 1
        assert await repository.prune(timedelta(), limit=count) >= 3 * count // 5
        await repository.close()

    asyncio.run(go_on())
    assert faults_found(database, []) == []
    note(f"rows of revision {revision} kept", count)


def test_killing_a_start_while_it_creates_the_database_leaves_one_that_opens(tmp_path, rounds, rng, note):
    power.require()
    none = tmp_path / "none.db"
    steps = steps_of(ROOT, none, tmp_path / "count")
    chosen = sorted(rng.sample(range(1, steps + 1), min(steps, rounds(15, steps))))
    for database in killed_at(ROOT, none, tmp_path / "killed", chosen):
        assert opened(database) == [], f"killed at step {database.parent.name} of {steps}"
        assert schema_of(database) == (FOLDER / f"{migrate.HEAD}.sql").read_text(encoding="utf-8")
    note("starts killed while they make the database", len(chosen), steps=steps)


def test_a_migration_killed_at_any_step_loses_no_row(tomorrow, tmp_path, rounds, rng, note):
    power.require()
    yesterday, count = tmp_path / "yesterday.db", rounds(100, 10_000)
    build(yesterday, migrate.HEAD, count)
    before = content(yesterday)
    steps = steps_of(tomorrow, yesterday, tmp_path / "count")
    chosen = some_of(steps, rounds(16, 150), rng)
    databases = killed_at(tomorrow, yesterday, tmp_path / "killed", chosen)
    run(tomorrow, "open", *databases)
    for database in databases:
        step = f"killed at step {database.parent.name} of {steps}"
        assert lost(before, content(database)) == [], step
        assert {row["shelf"] for row in rows(database, "SELECT shelf FROM jobs")} == {"top", "bottom"}, step
        assert faults_found(database, [f"job-{seq}" for seq in range(1, count + 1)]) == [], step
        copy = database.with_name("queue.db.before-tomorrow")
        assert lost(before, content(copy)) == [], f"the copy, {step}"
        assert len(opened(copy)) == count
    note("migrations killed", len(chosen), steps=steps, rows=count)


def some_of(steps: int, count: int, rng: random.Random) -> list[int]:
    """Choose steps: more of the first and the last, where transactions begin and end."""
    edges = [*range(1, min(steps, 15)), *range(max(1, steps - 25), steps + 1)]
    half = min(count // 2, len(edges))
    return sorted({*rng.sample(edges, half), *(rng.randint(1, steps) for _ in range(count - half))})


def test_recreating_a_table_keeps_rows_that_reference_it(tomorrow, tmp_path):
    database = tmp_path / "queue.db"
    build(database, migrate.HEAD, 50)
    before, its_laws = content(database), laws(database)
    run(tomorrow, "open", database)
    assert lost(before, content(database)) == []
    assert laws(database) == its_laws


@pytest.mark.parametrize("exists", [False, True], ids=["a new database", "an old database"])
def test_of_several_processes_one_creates_the_schema_and_the_others_wait(exists, tomorrow, tmp_path, rounds, note):
    for number in range(rounds(1, 40)):
        database, go = tmp_path / f"{number}.db", tmp_path / f"go-{number}"
        if exists:
            build(database, migrate.HEAD, 200)
        processes = [starter(tomorrow, "wait", go, database) for _ in range(rounds(3, 6))]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "waiting\n"
        go.touch()
        told = [process.communicate(timeout=60)[0] for process in processes]
        assert [text.splitlines()[-1] for text in told] == ["opened"] * len(processes)
        assert "".join(told).count("now has schema tomorrow") == 1
        assert "".join(told).count("a backup of the database before the migration") == exists
        assert faults_found(database, []) == []
    note(f"starts at once, exists={exists}", rounds(1, 40), starters=rounds(3, 6))


@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
def test_a_later_versions_database_is_refused_and_left_alone(journal, tmp_path):
    database = tmp_path / "queue.db"
    build(database, migrate.HEAD, 20)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"PRAGMA journal_mode={journal}")
        connection.execute("UPDATE alembic_version SET version_num = 'later'")
        connection.execute("ALTER TABLE jobs ADD COLUMN later")
        connection.commit()
    before = database.read_bytes()
    with pytest.raises(DatabaseTooNew, match="later"):
        opened(database)
    assert database.read_bytes() == before
    assert not list(tmp_path.glob("*.before-*"))


def test_another_programs_database_is_refused_and_left_alone(tmp_path):
    database = tmp_path / "places.sqlite"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE bookmarks (url)")
        connection.commit()
    before = database.read_bytes()
    with pytest.raises(NotADatabase, match="another program"):
        opened(database)
    assert database.read_bytes() == before
