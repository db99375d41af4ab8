"""What a repair saves of a damaged database: real files, damaged in many ways."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from cesar.api.models import Job, JobStatus
from cesar.api.queue.api_keys import KeyRing, Scope
from cesar.api.recovery.repair import RepairReport, repair
from cesar.api.repository import JobRepository
from cesar.api.storage.location import DatabaseLocation
from cesar.api.storage.recordings import AudioStore
from cesar.errors import DatabaseDamaged, DatabaseError, DatabaseMissing, DatabaseUnavailable, NotADatabase
from cesar.transcript import Chunk
from tests.api.support import chunk

PAGE = 4096
COUNT = 60
STATUSES = (JobStatus.QUEUED, JobStatus.COMPLETED, JobStatus.COMPLETED, JobStatus.ERROR, JobStatus.PROCESSING)
LONG = "words and words " * 700
"""More than a page."""


def words_of(number: int, part: int) -> str:
    return f"Job {number} says {part}. " + (LONG if number % 7 == 0 else "")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with jobs of all kinds, a key, and a non-empty log."""
    file = tmp_path_factory.mktemp("original") / "cesar.db"

    async def fill() -> None:
        repository = JobRepository(file)
        await repository.connect()
        await KeyRing(repository.database).create("ann", [Scope.SUBMIT])
        for number in range(COUNT):
            job = await repository.create(Job(audio_path=f"/talks/{number}.wav", priority=number % 3 - 1))
            await bring_to(repository, job, number)
        await repository.close()
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA user_version = 4711")

    asyncio.run(fill())
    return file


async def bring_to(repository: JobRepository, job: Job, number: int) -> None:
    wanted = STATUSES[number % len(STATUSES)]
    if wanted is JobStatus.QUEUED:
        return
    job.status = JobStatus.PROCESSING
    await repository.update(job)
    await repository.resume(job, f"work {number}")
    for part in range(3):
        await repository.checkpoint(job, chunk(10.0 * part, 10.0 * part + 9.5, words_of(number, part).strip()))
    if wanted is JobStatus.COMPLETED:
        job.result_text = " ".join(words_of(number, part).strip() for part in range(3))
        job.detected_language, job.outcome = "en", {"duration": 30.0}
    if wanted is not JobStatus.PROCESSING:
        job.status = wanted
        await repository.update(job)


@pytest.fixture
def file(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(original, tmp_path / "cesar.db"))


def mend(file: Path) -> RepairReport | None:
    return repair(DatabaseLocation(file), AudioStore(file.with_name("audio")))


def read(file: Path) -> tuple[list[Job], dict[str, list[Chunk]], list[str]]:
    """Open a database as Cesar does; return its jobs, their chunks, and the names of its keys."""

    async def look() -> tuple[list[Job], dict[str, list[Chunk]], list[str]]:
        repository = JobRepository(file)
        await repository.connect(check=True)
        jobs = await repository.list_all()
        chunks = {job.id: await repository.chunks(job.id) for job in jobs}
        keys = [key.name for key in await KeyRing(repository.database).list()]
        await repository.close()
        return jobs, chunks, keys

    return asyncio.run(look())


def require_truth(file: Path, original: Path) -> int:
    """Check that everything saved is unchanged, or queued again; return the number of jobs."""
    before = {job.id: job for job in read(original)[0]}
    chunks_before = read(original)[1]
    jobs, chunks, _ = read(file)
    for job in jobs:
        was = before[job.id]
        assert (job.audio_path, job.model_size, job.seq) == (was.audio_path, was.model_size, was.seq)
        if job.status is JobStatus.COMPLETED:
            assert job.result_text == was.result_text
            assert not chunks[job.id] or chunks[job.id] == chunks_before[job.id]
        elif was.status in (JobStatus.COMPLETED, JobStatus.PROCESSING):
            assert job.status is JobStatus.QUEUED
            assert all(piece in chunks_before[job.id] for piece in chunks[job.id])
        else:
            assert job.status is was.status
    return len(jobs)


def zero_header(content: bytearray) -> None:
    content[:100] = bytes(100)


def zero_first_page(content: bytearray) -> None:
    content[:PAGE] = bytes(PAGE)


def spoil_the_schema(content: bytearray) -> None:
    content[100:PAGE] = random.Random(3).randbytes(PAGE - 100)


ALL_STAYS: list[Callable[[bytearray], None]] = [zero_header, zero_first_page, spoil_the_schema]


@pytest.mark.slow
@pytest.mark.parametrize("spoil", ALL_STAYS)
def test_nothing_is_lost_if_only_the_header_is_damaged(
    file: Path, original: Path, spoil: Callable[[bytearray], None]
) -> None:
    content = bytearray(file.read_bytes())
    spoil(content)
    file.write_bytes(content)
    saved = mend(file)
    assert saved is not None
    assert (saved.jobs, saved.keys, saved.lost_jobs) == (COUNT, 1, 0)
    assert require_truth(file, original) == COUNT
    assert saved.damaged_copy.read_bytes() == content
    assert len(saved.requeued) == COUNT // len(STATUSES)  # those that were at work


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_damaged_pages_lose_only_their_own_rows(file: Path, original: Path, seed: int) -> None:
    chance = random.Random(seed)
    content = bytearray(file.read_bytes())
    pages = len(content) // PAGE
    for number in chance.sample(range(pages), pages // 3):
        kind = chance.choice(["noise", "zeros", "part"])
        size = PAGE if kind != "part" else 512
        begin = number * PAGE + (0 if kind != "part" else chance.randrange(PAGE - size))
        content[begin : begin + size] = bytes(size) if kind == "zeros" else chance.randbytes(size)
    file.write_bytes(content)
    saved = mend(file)
    assert saved is not None
    assert saved.damaged_copy.read_bytes() == content
    assert require_truth(file, original) == saved.jobs > 0
    assert saved.jobs + saved.lost_jobs <= COUNT


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_the_rest_of_a_truncated_file_is_saved(file: Path, original: Path, share: float) -> None:
    content = file.read_bytes()[: int(file.stat().st_size * share)]
    file.write_bytes(content)
    saved = mend(file)
    assert saved is not None
    assert require_truth(file, original) == saved.jobs > 0


def damaged_with_a_log(original: Path, tmp_path: Path) -> tuple[Path, str]:
    """Return a damaged database, and the id of a job that is only in its log."""
    live = Path(shutil.copy(original, tmp_path / "live.db"))
    file = tmp_path / "cesar.db"

    async def submit() -> Job:
        repository = JobRepository(live)
        await repository.connect()
        job = await repository.create(Job(audio_path="/talks/newest.wav"))
        shutil.copy(live, file)
        shutil.copy(f"{live}-wal", f"{file}-wal")
        await repository.close()
        return job

    newest = asyncio.run(submit())
    content = bytearray(file.read_bytes())
    content[5 * PAGE : 8 * PAGE] = random.Random(1).randbytes(3 * PAGE)
    content[:100] = bytes(100)
    file.write_bytes(content)
    return file, newest.id


@pytest.mark.slow
def test_rows_only_in_the_write_ahead_log_are_saved(original: Path, tmp_path: Path) -> None:
    file, newest = damaged_with_a_log(original, tmp_path)
    mend(file)
    assert newest in {job.id for job in read(file)[0]}


def test_the_next_repair_reads_a_log_set_aside_by_a_killed_one(original: Path, tmp_path: Path) -> None:
    file, newest = damaged_with_a_log(original, tmp_path)
    kept = tmp_path / "cesar.db.damaged-20260102T030405"
    os.link(file, kept)
    Path(f"{file}-wal").rename(f"{kept}-wal")
    assert mend(file) is not None
    assert newest in {job.id for job in read(file)[0]}
    assert not kept.exists()


@pytest.mark.slow
def test_a_repair_killed_while_replacing_the_files_is_repeated(original: Path, tmp_path: Path) -> None:
    file, newest = damaged_with_a_log(original, tmp_path)
    program = (
        "import sys; from pathlib import Path; from cesar.api.storage.recordings import AudioStore; "
        "from cesar.api.storage.location import DatabaseLocation; from cesar.api.recovery.repair import repair; "
        "file = Path(sys.argv[1]); repair(DatabaseLocation(file), AudioStore(file.with_name('audio')))"
    )
    environ = os.environ | {"CESAR_FAILPOINT": "repair:set aside=kill"}
    assert subprocess.run([sys.executable, "-c", program, file], env=environ, check=False).returncode == -9
    saved = mend(file)
    assert saved is not None
    assert newest in {job.id for job in read(file)[0]}
    [kept] = tmp_path.glob("cesar.db.damaged-*")
    assert not kept.samefile(file)


def test_a_repaired_database_keeps_its_counters_and_its_number(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[100:PAGE] = bytes(PAGE - 100)
    file.write_bytes(content)
    mend(file)

    async def submit() -> Job:
        repository = JobRepository(file)
        await repository.connect()
        job = await repository.create(Job(audio_path="/talk.wav"))
        claimed = await repository.get_next_queued()
        assert claimed is not None
        await repository.close()
        return job

    assert asyncio.run(submit()).seq == COUNT + 1
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (4711,)


@pytest.mark.parametrize("change", ["result_text = NULL", "result_text = ''", "result_text = 'Job 1 says 0.'"])
def test_a_completed_job_with_an_incomplete_text_is_queued_again(file: Path, change: str) -> None:
    """Job 1 lost its text or a part of it; job 41 also has no chunks; job 2 is complete."""
    ids = {job.audio_path: job.id for job in read(file)[0]}
    one, bare, whole = (ids[f"/talks/{number}.wav"] for number in (1, 41, 2))
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(f"UPDATE jobs SET {change} WHERE id = ?", [one])
        connection.execute("UPDATE jobs SET result_text = NULL WHERE id = ?", [bare])
        connection.execute("DELETE FROM job_chunks WHERE job_seq = (SELECT seq FROM jobs WHERE id = ?)", [bare])
        connection.execute("PRAGMA application_id = 0")
    content = bytearray(file.read_bytes())
    zero_header(content)
    file.write_bytes(content)
    saved = mend(file)
    assert saved is not None
    found = {job.id: job for job in read(file)[0]}
    assert {one, bare} <= set(saved.requeued)
    assert [found[job].status for job in (one, bare)] == [JobStatus.QUEUED, JobStatus.QUEUED]
    assert (found[whole].status, whole in saved.requeued) == (JobStatus.COMPLETED, False)


def test_an_undamaged_database_is_left_alone(file: Path) -> None:
    before = file.read_bytes()
    assert mend(file) is None
    assert file.read_bytes() == before


def test_nothing_is_repaired_while_a_program_uses_the_database(file: Path) -> None:
    async def work() -> None:
        repository = JobRepository(file)
        await repository.connect()
        await repository.get_next_queued()
        with pytest.raises(DatabaseUnavailable, match="another program is using"):
            mend(file)
        await repository.close()

    asyncio.run(work())


@pytest.mark.parametrize("content", [b"not a database " * 1000, bytes(20 * PAGE), b""])
def test_a_file_with_nothing_readable_is_left_alone(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "cesar.db"
    file.write_bytes(content)
    with pytest.raises(NotADatabase, match="nothing readable of Cesar's"):
        mend(file)
    assert file.read_bytes() == content
    assert not list(tmp_path.glob("*repaired*"))


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "cesar.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE photos (id INTEGER)")
    with pytest.raises(NotADatabase, match="another program"):
        mend(file)


def test_a_missing_database_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(DatabaseMissing):
        mend(tmp_path / "cesar.db")
    assert not (tmp_path / "cesar.db").exists()


def test_damage_is_noticed_when_a_service_starts(file: Path) -> None:
    content = bytearray(file.read_bytes())
    for number in range(2, len(content) // PAGE, 3):
        content[number * PAGE : (number + 1) * PAGE] = random.Random(number).randbytes(PAGE)
    file.write_bytes(content)

    async def start() -> None:
        repository = JobRepository(file)
        try:
            await repository.connect(check=True)
        finally:
            await repository.close()

    with pytest.raises(DatabaseDamaged, match="damaged") as error:
        asyncio.run(start())
    assert "--repair" in error.value.hint


def test_after_the_first_sign_of_damage_nothing_is_acknowledged(file: Path) -> None:
    async def go_on() -> None:
        repository = JobRepository(file)
        await repository.connect()
        before = len(await repository.list_all())
        content = bytearray(file.read_bytes())
        for number in range(1, len(content) // PAGE):
            content[number * PAGE : (number + 1) * PAGE] = random.Random(number).randbytes(PAGE)
        with file.open("r+b") as spoiled:
            spoiled.write(content)
        await repository.database.check_integrity(2**30)
        for _ in range(3):
            with pytest.raises(DatabaseDamaged):
                await repository.create(Job(audio_path="/talk.wav"))
            with pytest.raises(DatabaseError):
                await repository.get_next_queued()
        assert before == COUNT
        await repository.close()

    asyncio.run(go_on())
