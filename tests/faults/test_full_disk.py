"""A disk that is full, or refuses to write: what can't be written is refused whole, and work goes on when it can.

The full disk is real: a small file system in memory, mounted for the test, which takes root. The disk that refuses
single writes and syncs is simulated, between SQLite and the operating system (see `power`).
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from cesar.api.models import Job
from cesar.api.repository import JobRepository
from cesar.api.storage.recordings import AudioStore
from cesar.errors import DatabaseFull
from cesar.options import TranscribeOptions
from tests.faults import power
from tests.faults.conftest import SEED
from tests.faults.jobs import model, row_of, submit, write_sentences
from tests.faults.support import ROOT, WorkerProcess, faults_found, is_stopped, rows, statuses, wait_until

pytestmark = pytest.mark.slow

DISK_KIB = 4096
WITHIN_S = 30.0
"""The time in which a job that waits for space must end once there is some."""
MOMENTS = ("checkpoint:written@2", "update:written@2", "claim:written@1", "resume:written@1", "update:written@1")
"""Where a worker is stopped inside a transaction, and finds the disk full when it continues; update 2 is the result."""


class SmallDisk:
    """A file system of 4 MiB."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, *, but_for_kib: int = 0) -> None:
        """Leave no free space, or just this much."""
        with self._ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                file.truncate(max(0, file.tell() - but_for_kib * 1024))

    def make_room(self) -> None:
        self._ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_KIB}k", "cesar-test", str(folder)]
    try:
        done = subprocess.run(mount, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount program here")
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_job_submitted_to_a_full_disk_is_refused_and_leaves_nothing(disk, rounds, note):
    """The disk is filled so that the transaction fails at its first page, at its second, and so on."""

    async def fill_and_submit() -> tuple[list[str], int]:
        acknowledged: list[str] = []
        refused = 0
        repository = JobRepository(disk.folder / "queue.db")
        await repository.connect()
        for kib in range(0, rounds(48, 400), 4):
            disk.fill(but_for_kib=kib % 100)
            while True:
                long = TranscribeOptions(prompt=f"{len(acknowledged)} " * 4000)
                try:
                    acknowledged.append((await repository.create(Job(audio_path="/a.wav", options=long))).id)
                except DatabaseFull:
                    break
            refused += 1
            assert [job.id for job in await repository.list_all()] == acknowledged[::-1]
            disk.make_room()
            acknowledged.append((await repository.create(Job(audio_path="/b.wav"))).id)
            for job in acknowledged[:-1]:
                await repository.delete(job)
            del acknowledged[:-1]
        await repository.close()
        return acknowledged, refused

    acknowledged, refused = asyncio.run(fill_and_submit())
    note("submissions to a full disk", refused)
    assert faults_found(disk.folder / "queue.db", acknowledged) == []
    assert len(acknowledged) == len(rows(disk.folder / "queue.db", "SELECT id FROM jobs"))


def test_jobs_can_be_deleted_on_a_full_disk(disk):
    """The first by the reserved space; once that is gone, those whose recordings nobody else needs."""

    async def fill_and_delete() -> None:
        repository = JobRepository(disk.folder / "queue.db", audio=AudioStore(disk.folder / "audio"))
        await repository.connect(for_recordings=True)
        first, mine, shared, other = [await keep(repository, content) for content in (b"b", b"a", b"b", b"b")]
        reserve = disk.folder / "queue.db-reserve"
        assert reserve.stat().st_size == 1024**2
        assert reserve.stat().st_mode & 0o777 == 0o600
        disk.fill()
        await repository.delete(first.id)
        assert not reserve.exists()
        disk.fill()
        with pytest.raises(DatabaseFull):
            await repository.create(Job(audio_path="/a.wav", options=TranscribeOptions(prompt="p" * 60_000)))
        with pytest.raises(DatabaseFull):
            await repository.delete(shared.id)
        assert Path(shared.location).exists()
        await repository.delete(mine.id)
        assert not Path(mine.location).exists()
        assert {job.id for job in await repository.list_all()} == {shared.id, other.id}
        disk.make_room()
        await repository.delete(other.id)
        assert reserve.exists()
        await repository.close()

    async def keep(repository: JobRepository, content: bytes) -> Job:
        arrived = await repository.new_upload()
        arrived.write_bytes(content * 300_000)
        digest = sha256(arrived.read_bytes()).hexdigest()
        place = AudioStore(disk.folder / "audio").path_of(digest)
        long = TranscribeOptions(prompt="p" * 60_000)  # so that its deletion does not fit into what is left
        job = Job(audio_path=str(place), audio_digest=digest, audio_bytes=300_000, options=long)
        await repository.create(job, upload=arrived)
        arrived.unlink(missing_ok=True)
        return job

    asyncio.run(fill_and_delete())


def test_a_worker_on_a_full_disk_resumes_once_there_is_space(disk, tmp_path, rounds, note):
    recording = write_sentences(tmp_path / "talk.wav", 4)
    text, slowest = "Word 0.\n\nWord 1.\n\nWord 2.\n\nWord 3.", 0.0
    for number in range(rounds(2, 50)):
        database = disk.folder / f"{number}.db"
        job = Job(audio_path=recording, model_size=model(tmp_path))
        submit(database, job)
        moment = MOMENTS[number % len(MOMENTS)]
        with WorkerProcess(database, environ={"CESAR_FAILPOINT": moment.replace("@", "=stop@")}) as worker:
            wait_until(lambda: is_stopped(worker.process.pid))
            disk.fill()
            worker.send(signal.SIGCONT)
            wait_until(lambda: b"no space is left" in worker.log.read_bytes())
            with pytest.raises(DatabaseFull):
                submit(database, Job(audio_path="/another.wav", options=TranscribeOptions(prompt="p" * 20_000)))
            disk.make_room()
            begun = time.monotonic()
            wait_until(lambda: statuses(database)[job.id] == "completed")  # noqa: B023
            slowest = max(slowest, time.monotonic() - begun)
            worker.drain()
        assert row_of(database, job.id)["result_text"] == text
        assert row_of(database, job.id)["attempt"] == 1
        assert faults_found(database, [job.id]) == []
        for file in disk.folder.glob(f"{number}.db*"):
            if file.is_file():
                file.unlink()
    note("workers on a full disk", rounds(2, 50), slowest_s=round(slowest, 1))
    assert slowest < WITHIN_S


def test_a_failed_write_changes_nothing_and_the_next_one_succeeds(tmp_path, rounds, note):
    """No space, or an error, at any write, truncation, sync or creation, in all operations; on the same connections."""
    power.require()
    verbs = rounds(80, 3000)
    command = [sys.executable, "-m", "tests.faults.workload", tmp_path / "queue.db", tmp_path / "told", "--break"]
    subprocess.run([*command, "--verbs", str(verbs), "--seed", str(SEED)], cwd=ROOT, check=True)
    told = json.loads((tmp_path / "told").read_text())
    note("verbs on a disk that breaks", verbs, refused=told["refused"], wrong=len(told["wrong"]))
    assert told["wrong"] == []
    assert told["refused"] >= verbs / 10
