"""Files that change under a worker, and jobs that can't be done: each job ends, and the worker continues."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest

from cesar.api.models import Job
from cesar.api.repository import JobRepository
from cesar.errors import DatabaseUnavailable
from tests.faults.jobs import (
    SENTENCE,
    ask,
    child_of,
    chunks_of,
    is_over,
    middle,
    model,
    reasons,
    require_sound,
    row_of,
    submit,
    working,
    write_sentences,
)
from tests.faults.support import ROOT, WorkerProcess, all_over, is_stopped, statuses, wait_until
from tests.support.media import write_cut_off, write_text

pytestmark = pytest.mark.slow


def unusable(folder: Path) -> dict[str, tuple[Path, str]]:
    """Recordings that can't be transcribed, with their error codes."""
    (folder / "empty.wav").touch()
    locked = Path(shutil.copy(SENTENCE, folder / "locked.mp4"))
    locked.chmod(0)
    found = {
        "gone": (folder / "gone.wav", "file_not_found"),
        "empty": (folder / "empty.wav", "empty_recording"),
        "text": (write_text(folder / "text.mp3"), "not_media"),
        "folder": (folder, "not_media"),
        "too long": (folder / ("x" * 300), "file_not_found"),
        "cut off": (write_cut_off(folder / "cut.mp4", SENTENCE, keep=0.01), "not_media"),
        "locked": (locked, "file_not_readable"),
    }
    if os.access(locked, os.R_OK):  # nothing is locked for root
        del found["locked"]
    return found


def test_an_unreadable_recording_fails_at_once_and_the_worker_continues(tmp_path):
    database = tmp_path / "queue.db"
    name = model(tmp_path)
    wanted = unusable(tmp_path)
    bad = dict(zip(wanted, submit(database, *(new(path, name) for path, _ in wanted.values())), strict=True))
    [unknown] = submit(database, new(SENTENCE, "/no/such/model"))
    [good] = submit(database, new(SENTENCE, name))
    with working(database) as worker:
        wait_until(lambda: all_over(database))
        worker.drain()
    for what, job in bad.items():
        told = row_of(database, job)
        assert (told["status"], told["error_code"], told["attempt"]) == ("error", wanted[what][1], 1), what
        assert told["error_message"], what
        assert told["error_hint"], what
        assert told["completed_at"], what
    assert row_of(database, unknown)["error_code"] == "unknown_model"
    assert row_of(database, good)["status"] == "completed"
    require_sound(database, [*bad.values(), good])


def new(path: Path, name: str) -> Job:
    return Job(audio_path=str(path), model_size=name)


@pytest.mark.parametrize("what", ["pipe", "device"])
def test_a_file_that_is_not_regular_is_refused_at_once(tmp_path, what):
    """Reading it would never end."""
    database = tmp_path / "queue.db"
    os.mkfifo(tmp_path / "pipe")
    path = {"pipe": tmp_path / "pipe", "device": Path("/dev/zero")}[what]
    [job] = submit(database, new(path, model(tmp_path)))
    with working(database) as worker:
        wait_until(lambda: is_over(database, job))
        worker.drain()
    assert row_of(database, job)["error_code"] == "not_media"


def test_a_job_of_another_version_does_not_delay_the_others(tmp_path):
    """A job of another version, whose models had other names."""
    database = tmp_path / "queue.db"
    name = model(tmp_path)
    bad, good = submit(database, new(SENTENCE, "tiny.en"), new(SENTENCE, name))
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE jobs SET model_size = 'of-old' WHERE id = ?", [bad])
    with working(database) as worker:
        wait_until(lambda: is_over(database, good))
        worker.drain()
    assert row_of(database, bad)["error_code"] == "unknown_model"


def hung_job(folder: Path, database: Path, recording: str) -> str:
    """A job that hangs at its second chunk, once."""
    hang = {"at": middle(1), "do": "hang", "unless": str(folder / "hung")}
    [job] = submit(database, Job(audio_path=recording, model_size=model(folder, hang)))
    return job


@pytest.mark.parametrize("what", ["deleted", "replaced"])
def test_a_recording_changed_while_it_waits_is_used_as_it_is_when_claimed(tmp_path, what):
    database = tmp_path / "queue.db"
    recording = Path(write_sentences(tmp_path / "recording.wav", 1))
    [job] = submit(database, new(recording, model(tmp_path)))
    if what == "deleted":
        recording.unlink()
    else:
        write_sentences(recording, 2)
    with working(database) as worker:
        wait_until(lambda: is_over(database, job))
        worker.drain()
    told = row_of(database, job)
    if what == "deleted":
        assert (told["status"], told["error_code"]) == ("error", "file_not_found")
    else:
        assert (told["status"], told["result_text"]) == ("completed", "Word 0.\n\nWord 1.")


def test_a_recording_deleted_while_it_is_processed_is_transcribed_to_its_end(tmp_path):
    """The child has it open."""
    database = tmp_path / "queue.db"
    recording = Path(write_sentences(tmp_path / "recording.wav", 30))
    [job] = submit(database, new(recording, model(tmp_path)))
    with working(database) as worker:
        child = child_of(worker)
        wait_until(lambda: chunks_of(database, job))
        os.kill(child, signal.SIGSTOP)
        wait_until(lambda: is_stopped(child))
        assert len(chunks_of(database, job)) < 30, "it was to be deleted at work"
        recording.unlink()
        os.kill(child, signal.SIGCONT)
        wait_until(lambda: is_over(database, job))
        worker.drain()
    told = row_of(database, job)
    assert (told["status"], told["attempt"]) == ("completed", 1)
    assert told["result_text"].endswith("Word 29.")
    require_sound(database, [job])


def test_a_recording_deleted_while_its_worker_dies_ends_its_job(tmp_path):
    database = tmp_path / "queue.db"
    recording = Path(write_sentences(tmp_path / "recording.wav", 2))
    job = hung_job(tmp_path, database, str(recording))
    with working(database) as worker:
        wait_until(lambda: (tmp_path / "hung").exists() and len(chunks_of(database, job)) == 1)
        recording.unlink()
    with working(database) as worker:
        wait_until(lambda: is_over(database, job))
        worker.drain()
    assert row_of(database, job)["error_code"] == "file_not_found"
    require_sound(database, [job])


def test_a_missing_temporary_folder_ends_no_job(tmp_path):
    """Otherwise the queue would be emptied in a second, with nothing done."""
    database = tmp_path / "queue.db"
    name = model(tmp_path)
    folder = tmp_path / "temporary"
    folder.mkdir()
    with working(database, "--retry-delay-s", "3", environ={"TMPDIR": str(folder)}) as worker:
        [first] = submit(database, new(SENTENCE, name))
        wait_until(lambda: is_over(database, first))
        assert list(folder.iterdir()) == [], "nothing is left there"
        folder.rmdir()
        [second] = submit(database, new(SENTENCE, name))
        wait_until(lambda: len(reasons(database, second)) > 2)
        folder.mkdir()
        wait_until(lambda: is_over(database, second))
        worker.drain()
    assert row_of(database, second)["status"] == "completed"


class OnSmallDisk(WorkerProcess):
    """A worker in its own mount namespace, where TMPDIR is a small disk."""

    def __init__(self, database: Path) -> None:
        self.log = database.with_name("small.log")
        self._folder = database.with_name("temporary")
        self._folder.mkdir()
        script = (
            'mount -t tmpfs -o size=64k none "$TMPDIR" && touch "$TMPDIR/small";'
            'exec "$1" -m tests.faults.worker "$0" --retry-delay-s 0.1'
        )
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["unshare", "-rm", "sh", "-c", script, str(database), sys.executable],
                cwd=ROOT,
                env=os.environ | {"TMPDIR": str(self._folder)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def temporary(self) -> Path:
        """The small disk, as seen from outside; the test is skipped if there is none."""
        folder = Path(f"/proc/{self.process.pid}/root{self._folder}")
        try:
            if (folder / "small").exists():
                return folder
        except OSError:
            pass
        pytest.skip("no mount namespaces here")


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs a mount namespace")
def test_a_job_waits_for_space_in_a_full_temporary_folder(tmp_path):
    database = tmp_path / "queue.db"
    name = model(tmp_path)
    with OnSmallDisk(database) as worker:
        worker.wait_until_ready()
        [first] = submit(database, new(SENTENCE, name))
        wait_until(lambda: is_over(database, first))
        filling = worker.temporary / "filling"
        with filling.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        [second] = submit(database, new(SENTENCE, name))
        wait_until(lambda: reasons(database, second)[2:] == ["to be retried"])
        assert row_of(database, second)["error_code"] == "disk_full"
        filling.unlink()
        wait_until(lambda: is_over(database, second))
        assert {path.name for path in worker.temporary.iterdir()} == {"small"}, "nothing is left there"
        worker.drain()
    assert [row_of(database, job)["status"] for job in (first, second)] == ["completed", "completed"]
    require_sound(database, [first, second])


def test_a_database_deleted_while_in_use_acknowledges_nothing(tmp_path):
    """What is written to a deleted file is lost with the last process that has it open."""
    database = tmp_path / "queue.db"
    name = model(tmp_path)

    async def submit_to_nowhere(repository: JobRepository) -> None:
        await repository.create(new(SENTENCE, name))
        delete_database(database)
        with pytest.raises(DatabaseUnavailable, match="deleted"):
            await repository.create(new(SENTENCE, name))

    ask(database, submit_to_nowhere)


def delete_database(database: Path) -> None:
    for path in database.parent.glob(f"{database.name}*"):
        if path.is_file():
            path.unlink()


@pytest.mark.parametrize("when", ["at rest", "at work"])
def test_a_worker_survives_its_database_disappearing_and_returning(tmp_path, when):
    database, away = tmp_path / "queue.db", tmp_path / "away"
    away.mkdir()
    recording = write_sentences(tmp_path / "recording.wav", 2)
    jobs = [hung_job(tmp_path, database, recording)] if when == "at work" else []
    with working(database) as worker:
        wait_until(lambda: not jobs or (tmp_path / "hung").exists())
        children = worker.children()
        for path in whole_database(tmp_path):  # the file itself first: without it nothing is made beside it
            path.rename(away / path.name)
        for child in children:
            os.kill(child, signal.SIGKILL)
        wait_until(lambda: b"was deleted or replaced" in worker.log.read_bytes())
        assert not database.exists(), "nobody makes a new one"
        for path in reversed(whole_database(away)):
            path.rename(tmp_path / path.name)
        jobs += submit(database, new(SENTENCE, model(tmp_path)))
        wait_until(lambda: is_over(database, *jobs))
        worker.drain()
    assert {row_of(database, job)["status"] for job in jobs} == {"completed"}
    require_sound(database, jobs)


def whole_database(folder: Path) -> list[Path]:
    """Return the database and its files."""
    return sorted(folder.glob("queue.db*"))


def test_deleting_the_owners_lock_files_ends_no_job(tmp_path):
    """As a cleaner of old files might."""
    database = tmp_path / "queue.db"
    recording = write_sentences(tmp_path / "recording.wav", 2)
    job = hung_job(tmp_path, database, recording)
    with working(database) as first, working(database) as second:
        wait_until((tmp_path / "hung").exists)
        for path in (tmp_path / "queue.db-owners").iterdir():
            path.unlink()
        wait_until(lambda: is_over(database, job), timeout_s=30)
        [other] = submit(database, Job(audio_path=recording, model_size=model(tmp_path, word="other")))
        wait_until(lambda: is_over(database, other), timeout_s=30)
        first.drain()
        second.drain()
    assert statuses(database) == {job: "completed", other: "completed"}
    assert reasons(database, other) == ["submitted", "claimed", "completed"]
