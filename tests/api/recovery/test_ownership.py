"""A folder of recordings belongs to one database: whichever other database is opened, no recording is lost."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cesar.api.models import Job
from cesar.api.recovery import ownership
from cesar.api.repository import JobRepository
from cesar.api.storage.recordings import AudioStore
from cesar.errors import DatabaseMissing, ForeignRecordings, IdempotencyConflict, JobNotFound
from tests.api.support import QueueCase

SOUND = b"not really sound"


class FolderCase(QueueCase):
    """A service's database and recordings, closed unless a test opens them."""

    in_memory = False

    def setUp(self) -> None:
        super().setUp()
        self.store = AudioStore(self.folder / "audio")

    async def open(self, db: str | Path | None = None, **options: Any) -> JobRepository:
        """Open a database as a service does."""
        repository = JobRepository(self.file if db is None else db, audio=self.store, **options)
        self.addAsyncCleanup(repository.close)
        await repository.connect(for_recordings=True, check=True)
        return repository

    async def submit(self, content: bytes = SOUND, repository: JobRepository | None = None, **fields: Any) -> Job:
        repository = repository or self.repository
        digest = hashlib.sha256(content).hexdigest()
        upload = await repository.new_upload()
        upload.write_bytes(content)
        job = Job(audio_path=str(self.store.path_of(digest)), audio_digest=digest, **fields)
        job = await repository.create(job, upload=upload)
        upload.unlink(missing_ok=True)
        return job

    async def restart(self, db: Path | None = None) -> JobRepository:
        """Stop the service; start it again, with another database, and let it sweep."""
        await self.repository.close()
        self.repository = await self.open(db)
        await self.repository.sweep()
        return self.repository

    async def is_refused(self, db: Path, error: type[Exception] = ForeignRecordings) -> None:
        before = self.everything()
        await self.repository.close()
        with pytest.raises(error) as refused:
            await self.open(db)
        assert str(self.store.folder) in str(refused.value)
        after = self.everything()
        assert {path: after.get(path) for path in before} == before

    def everything(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.store.folder.rglob("*") if path.is_file()}

    def recordings(self) -> set[str]:
        return set(self.store.digests())

    def forget_note(self) -> None:
        """Make the folder and the database what they were in an earlier version."""
        (self.store.folder / ownership.MARKER).unlink()
        with closing(sqlite3.connect(self.file)) as connection:
            connection.execute("PRAGMA user_version = 0")


class TestAnotherDatabase(FolderCase):
    async def test_a_new_database_is_refused_and_not_even_created(self) -> None:
        await self.submit()
        await self.is_refused(self.folder / "other.db", DatabaseMissing)
        assert not (self.folder / "other.db").exists()

    async def test_another_database_with_its_own_jobs_is_refused(self) -> None:
        await self.submit()
        other = JobRepository(self.folder / "other.db")
        await other.connect()
        await other.create(Job(audio_path="/talk.wav"))
        await other.close()
        await self.is_refused(self.folder / "other.db")

    async def test_a_copy_is_refused_while_the_original_exists(self) -> None:
        await self.submit()
        await self.repository.close()
        shutil.copy(self.file, self.folder / "copy.db")
        self.repository = await self.open()
        await self.submit(b"more sound")
        await self.is_refused(self.folder / "copy.db")

    async def test_deleting_a_job_in_a_copy_leaves_the_recording_to_the_original(self) -> None:
        job = await self.submit()
        await self.repository.close()
        shutil.copy(self.file, self.folder / "copy.db")
        copy = JobRepository(self.folder / "copy.db", audio=self.store)
        self.addAsyncCleanup(copy.close)
        await copy.connect()
        await copy.delete(job.id)
        with pytest.raises(JobNotFound):
            await copy.delete(job.id)
        assert self.recordings() == {job.audio_digest}

    async def test_another_database_may_have_jobs_of_users_own_files(self) -> None:
        await self.submit()
        other = JobRepository(self.folder / "other.db", audio=self.store)
        self.addAsyncCleanup(other.close)
        await other.connect_for_work()
        job = await other.create(Job(audio_path="/talk.wav"))
        await other.delete(job.id)
        assert len(self.recordings()) == 1

    async def test_an_upload_to_another_database_is_refused(self) -> None:
        await self.submit()
        other = JobRepository(self.folder / "other.db", audio=self.store)
        self.addAsyncCleanup(other.close)
        await other.connect()
        with pytest.raises(ForeignRecordings):
            await other.new_upload()

    async def test_an_empty_folder_is_not_taken_from_an_existing_database(self) -> None:
        await self.is_refused(self.folder / "other.db")

    async def test_an_empty_folder_is_taken_over_from_a_missing_database(self) -> None:
        await self.repository.close()
        self.file.unlink()
        self.repository = await self.open(self.folder / "other.db")
        assert (await self.submit()).audio_digest in self.recordings()

    async def test_an_empty_folder_is_claimed_again_after_its_database_was_deleted(self) -> None:
        await self.repository.close()
        for file in self.file.parent.glob(f"{self.file.name}*"):
            if file.is_file():
                file.unlink()
        self.repository = await self.open()
        assert (await self.submit()).audio_digest in self.recordings()

    async def test_an_empty_folder_is_claimed_again_after_a_crash_before_the_commit(self) -> None:
        await self.repository.close()
        with closing(sqlite3.connect(self.file)) as connection:
            connection.execute("PRAGMA user_version = 0")
        self.repository = await self.open()
        assert (await self.submit()).audio_digest in self.recordings()

    async def test_a_database_in_memory_never_sweeps_the_folder(self) -> None:
        job = await self.submit()
        memory = JobRepository(":memory:", audio=self.store)
        self.addAsyncCleanup(memory.close)
        await memory.connect(for_recordings=True)
        await memory.sweep()
        assert self.recordings() == {job.audio_digest}


class TestAMissingDatabase(FolderCase):
    async def test_a_missing_database_is_not_recreated_beside_recordings(self) -> None:
        job = await self.submit()
        await self.repository.close()
        away = self.file.rename(self.folder / "away.db")
        await self.is_refused(self.file, DatabaseMissing)
        assert not self.file.exists()
        away.rename(self.file)
        self.repository = await self.open()
        assert (await self.read(job)).id == job.id

    async def test_job_commands_do_not_recreate_a_missing_database(self) -> None:
        await self.submit()
        await self.repository.close()
        self.file.unlink()
        command = JobRepository(self.file, audio=self.store)
        self.addAsyncCleanup(command.close)
        with pytest.raises(DatabaseMissing):
            await command.connect()

    async def test_an_empty_file_counts_as_a_missing_database(self) -> None:
        await self.submit()
        await self.repository.close()
        self.file.write_bytes(b"")
        await self.is_refused(self.file, DatabaseMissing)

    async def test_another_database_at_the_same_path_is_refused(self) -> None:
        """As an earlier version created it when the disk was not mounted."""
        await self.submit()
        await self.repository.close()
        self.file.unlink()
        other = JobRepository(self.file)
        await other.connect()
        await other.close()
        await self.is_refused(self.file)

    async def test_a_moved_database_keeps_its_folder(self) -> None:
        job = await self.submit()
        await self.repository.close()
        (self.folder / "elsewhere").mkdir()
        moved = self.file.rename(self.folder / "elsewhere" / "moved.db")
        await self.restart(moved)
        assert self.recordings() == {job.audio_digest}
        note = ownership.read_marker(self.store)
        assert note is not None
        assert note.database == moved


class TestAFolderElsewhere(FolderCase):
    """The data folder has another path than when its recordings arrived: moved, restored, mounted in a container."""

    async def move(self) -> None:
        await self.repository.close()
        old = self.folder
        self.folder = old.with_name(f"{old.name}-moved")
        self.addCleanup(shutil.rmtree, self.folder)
        shutil.move(old, self.folder)
        old.mkdir()  # whoever made it removes it
        self.file, self.store = self.folder / self.file.name, AudioStore(self.folder / "audio")

    async def test_a_waiting_job_finds_its_recording_in_a_moved_folder(self) -> None:
        await self.submit()
        await self.move()
        self.repository = await self.open()
        job = await self.repository.get_next_queued()
        assert job is not None
        assert Path(job.location).read_bytes() == SOUND
        assert Path(job.location).is_relative_to(self.folder)
        written = await self.repository.get(job.id)
        assert written is not None
        assert written.audio_path == job.audio_path

    @pytest.mark.slow
    async def test_the_folder_of_recordings_may_be_moved_alone(self) -> None:
        await self.submit()
        await self.repository.close()
        elsewhere = self.folder / "disk"
        shutil.move(self.store.folder, elsewhere)
        self.store = AudioStore(elsewhere)
        self.repository = await self.open()
        job = await self.repository.get_next_queued()
        assert job is not None
        assert Path(job.location).read_bytes() == SOUND

    async def test_an_idempotency_key_finds_its_job_after_a_move(self) -> None:
        job = await self.submit(idempotency_key="monday")
        await self.move()
        self.repository = await self.open()
        assert (await self.submit(idempotency_key="monday")).id == job.id
        with pytest.raises(IdempotencyConflict):
            await self.submit(b"more sound", idempotency_key="monday")

    async def test_deleting_a_job_deletes_its_recording_in_a_moved_folder(self) -> None:
        job, other = await self.submit(), await self.submit(b"more sound")
        await self.move()
        self.repository = await self.open()
        await self.repository.delete(job.id)
        assert self.recordings() == {other.audio_digest}

    async def test_a_worker_with_another_data_folder_finds_the_recording(self) -> None:
        job = await self.submit()
        elsewhere = JobRepository(self.file, audio=AudioStore(self.folder / "another"))
        self.addAsyncCleanup(elsewhere.close)
        await elsewhere.connect()
        claimed = await elsewhere.get_next_queued()
        assert claimed is not None
        assert claimed.audio_path == job.audio_path

    async def test_a_link_to_the_database_is_the_same_database(self) -> None:
        await self.submit()
        await self.repository.close()
        moved = self.folder / "disk" / "queue.db"
        moved.parent.mkdir()
        self.file.rename(moved)
        self.file.symlink_to(moved)
        self.repository = await self.open()
        assert (await self.submit(b"more sound")).audio_digest in self.recordings()
        await self.restart(moved)
        assert len(self.recordings()) == 2


class TestAnOlderCopy(FolderCase):
    async def test_an_older_copy_retains_newer_recordings_at_every_start(self) -> None:
        old = await self.submit()
        await self.repository.close()
        copy = shutil.copy(self.file, self.folder / "yesterday.db")
        self.repository = await self.open()
        new = await self.submit(b"newer sound")
        await self.repository.close()
        shutil.copy(copy, self.file)
        both: set[str | None] = {old.audio_digest, new.audio_digest}
        for _ in range(3):
            await self.restart()
            assert self.recordings() == both
            await self.submit(f"sound of a later day {_}".encode())
            both = {*self.recordings()}
        assert ownership.retained_digests(self.store) == {new.audio_digest}

    async def test_an_older_copy_without_a_number_is_recognised_by_its_jobs(self) -> None:
        old = await self.submit()
        await self.repository.close()
        copy = shutil.copy(self.file, self.folder / "yesterday.db")
        with closing(sqlite3.connect(copy)) as connection:
            connection.execute("PRAGMA user_version = 0")
        self.repository = await self.open()
        new = await self.submit(b"newer sound")
        await self.repository.close()
        shutil.copy(copy, self.file)
        for _ in range(2):
            await self.restart()
            assert self.recordings() == {old.audio_digest, new.audio_digest}

    async def test_recordings_set_aside_are_restored_with_the_right_database(self) -> None:
        await self.submit()
        await self.repository.close()
        copy = shutil.copy(self.file, self.folder / "yesterday.db")
        self.repository = await self.open()
        new = await self.submit(b"newer sound")
        os.utime(new.location, (0, 0))  # as if a clock had jumped
        await self.repository.close()
        right = self.file.rename(self.folder / "right.db")
        shutil.copy(copy, self.file)
        await self.restart()
        assert new.audio_digest not in self.recordings()
        await self.repository.close()
        right.replace(self.file)
        self.repository = await self.open()
        assert (await self.repository.sweep()).restored == 1
        assert new.audio_digest in self.recordings()


class TestAFolderOfAnEarlierVersion(FolderCase):
    async def test_an_unmarked_folder_is_adopted_by_the_database_that_knows_its_recordings(self) -> None:
        job = await self.submit()
        await self.repository.close()
        self.forget_note()
        await self.restart()
        assert self.recordings() == {job.audio_digest}
        assert ownership.read_marker(self.store) is not None

    async def test_an_adopted_unmarked_folder_retains_recordings_without_a_job(self) -> None:
        await self.submit()
        await self.repository.close()
        self.forget_note()
        orphan = self.store.path_of("0" * 64)
        orphan.parent.mkdir(parents=True)
        orphan.write_bytes(SOUND)
        os.utime(orphan, (0, 0))
        for _ in range(2):
            await self.restart()
            assert orphan.exists()

    async def test_an_unmarked_folder_is_refused_to_a_database_that_knows_no_recording(self) -> None:
        await self.submit()
        await self.repository.close()
        self.forget_note()
        self.file.unlink()
        other = JobRepository(self.file)
        await other.connect()
        await other.create(Job(audio_path="/talk.wav"))
        await other.close()
        await self.is_refused(self.file)


class TestAdopting(FolderCase):
    async def test_adopting_assigns_the_recordings_to_another_database_without_loss(self) -> None:
        job = await self.submit()
        os.utime(job.location, (0, 0))
        await self.repository.close()
        other = JobRepository(self.folder / "other.db", audio=self.store)
        self.addAsyncCleanup(other.close)
        await other.connect()
        assert await other.adopt_recordings() == 1
        await other.close()
        for _ in range(2):
            await self.restart(self.folder / "other.db")
            assert self.recordings() == {job.audio_digest}
        await self.is_refused(self.file)

    async def test_the_marker_is_a_file_where_there_are_no_links(self) -> None:
        job = await self.submit()
        await self.repository.close()
        note = self.store.folder / ownership.MARKER
        text = str(note.readlink())
        note.unlink()
        note.write_text(text, encoding="utf-8")
        await self.restart()
        assert self.recordings() == {job.audio_digest}
        await self.is_refused(self.folder / "other.db", DatabaseMissing)

    async def test_an_unreadable_marker_loses_nothing(self) -> None:
        job = await self.submit()
        await self.repository.close()
        (self.store.folder / ownership.MARKER).unlink()
        (self.store.folder / ownership.MARKER).write_text("{", encoding="utf-8")
        await self.restart()
        assert self.recordings() == {job.audio_digest}


class TestDeleting(FolderCase):
    async def test_deleting_a_job_deletes_its_recording_whatever_the_commands_data_folder(self) -> None:
        job = await self.submit()
        command = JobRepository(self.file, audio=AudioStore(self.folder / "another"))
        self.addAsyncCleanup(command.close)
        await command.connect()
        await command.delete(job.id)
        assert self.recordings() == set()

    async def test_two_services_share_a_database_and_its_folder(self) -> None:
        second = await self.open()
        one, two = await self.submit(), await self.submit(b"more", second)
        for repository in (self.repository, second):
            await repository.sweep()
        assert self.recordings() == {one.audio_digest, two.audio_digest}
