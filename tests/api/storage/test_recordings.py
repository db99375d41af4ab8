"""The store of recordings: each once, under its digest, and deleted when no job needs it."""

from __future__ import annotations

import hashlib
import os
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cesar.api.storage.recordings import ASIDE_DAYS, AudioStore, SweepResult, try_lock
from cesar.errors import RecordingsNotWritable


@pytest.fixture
def store(tmp_path: Path) -> AudioStore:
    return AudioStore(tmp_path / "audio")


def arrive(store: AudioStore, content: bytes, owner: str = "us") -> tuple[Path, str]:
    """Create an upload; return its file and its digest."""
    file = store.new_upload(owner)
    file.write_bytes(content)
    return file, hashlib.sha256(content).hexdigest()


def files(store: AudioStore) -> set[Path]:
    return {path for path in store.folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("place", [".", "ab", "incoming"])
def test_a_folder_without_write_permission_is_noticed(store: AudioStore, place: str) -> None:
    (store.folder / "ab").mkdir(parents=True)
    store.probe()
    closed = store.folder / place
    closed.chmod(0o555)
    try:
        if os.access(closed, os.W_OK):
            pytest.skip("this user may write anywhere")
        with pytest.raises(RecordingsNotWritable, match="Permission denied"):
            store.probe()
    finally:
        closed.chmod(0o755)
    store.probe()


@pytest.mark.parametrize("place", ["ab", "incoming"])
def test_a_file_in_the_way_of_a_folder_is_noticed(store: AudioStore, place: str) -> None:
    store.folder.mkdir()
    (store.folder / place).touch()
    with pytest.raises(RecordingsNotWritable):
        store.probe()


LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)
IN_FUTURE = datetime(2101, 1, 1, tzinfo=UTC)


def sweep(
    store: AudioStore,
    wanted: str = "",
    dead: str = "",
    job: str = "",
    known_until: datetime | None = IN_FUTURE,
    **more: Any,
) -> SweepResult:
    return store.sweep(
        is_needed=lambda digest: digest == wanted,
        is_dead=lambda owner: owner == dead,
        has_job=lambda id_: id_ == job,
        known_until=known_until,
        **more,
    )


def add(store: AudioStore, content: bytes) -> str:
    """Store a recording whose job is committed; return its digest."""
    file, digest = arrive(store, content)
    store.add(file, digest)
    file.unlink(missing_ok=True)
    return digest


def test_a_recording_is_stored_under_its_digest(store: AudioStore) -> None:
    file, digest = arrive(store, b"sound")
    place = store.add(file, digest)
    assert place == store.path_of(digest) == store.folder / digest[:2] / digest
    assert place.read_bytes() == b"sound"
    assert (place.stat().st_mode & 0o777) == 0o600
    assert not file.exists() or file.samefile(place)  # its caller removes it when the job is written


def test_the_same_bytes_are_stored_once(store: AudioStore) -> None:
    digests = {add(store, b"sound") for _ in range(3)}
    assert files(store) == {store.path_of(digest) for digest in digests}
    assert len(digests) == 1


def test_no_two_uploads_share_a_file(store: AudioStore) -> None:
    assert len({store.new_upload("us") for _ in range(100)}) == 100


def test_a_recording_can_be_removed_twice(store: AudioStore) -> None:
    digest = add(store, b"sound")
    store.partial_path("job").write_bytes(b"half")
    for _ in range(2):
        store.remove(digest)
        store.remove_partial("job")
    assert files(store) == set()


def test_removing_a_recording_removes_copies_set_aside(store: AudioStore) -> None:
    digest = add(store, b"sound")
    store.partial_path("job").write_bytes(b"half")
    assert sweep(store).set_aside == 2
    store.remove(digest)
    store.remove_partial("job")
    assert files(store) == set()


def test_a_sweep_sets_aside_recordings_without_a_job(store: AudioStore) -> None:
    kept, gone = add(store, b"one"), add(store, b"two")
    assert sweep(store, wanted=kept, today=date(2030, 5, 17)).set_aside == 1
    assert files(store) == {store.path_of(kept), store.folder / "aside" / "2030-05-17" / gone}


def test_a_sweep_restores_a_recording_that_a_job_needs_after_all(store: AudioStore) -> None:
    digest = add(store, b"sound")
    sweep(store)
    assert sweep(store, wanted=digest).restored == 1
    assert store.path_of(digest).read_bytes() == b"sound"


def test_files_set_aside_expire(store: AudioStore) -> None:
    digest = add(store, b"sound")
    day = date(2030, 5, 17)
    sweep(store, today=day)
    assert sweep(store, today=day + timedelta(days=ASIDE_DAYS)).removed == 0
    assert [path.name for path in files(store)] == [digest]
    assert sweep(store, today=day + timedelta(days=ASIDE_DAYS + 1)).removed == 1
    assert files(store) == set()


@pytest.mark.parametrize("known_until", [None, LONG_AGO])
def test_a_recording_newer_than_the_last_write_is_retained(store: AudioStore, known_until: datetime | None) -> None:
    digest = add(store, b"sound")
    assert sweep(store, known_until=known_until) == SweepResult(retained=frozenset({digest}))
    assert files(store) == {store.path_of(digest)}


def test_a_retained_recording_stays_retained(store: AudioStore) -> None:
    digest = add(store, b"sound")
    assert sweep(store, retained=[digest]).retained == {digest}
    assert files(store) == {store.path_of(digest)}


def test_a_recording_whose_job_was_never_committed_is_set_aside_however_new(store: AudioStore) -> None:
    """As a crash leaves it between storing the file and the commit."""
    store.add(*arrive(store, b"sound", "them"))
    swept = sweep(store, dead="them", known_until=LONG_AGO)
    assert (swept.set_aside, swept.retained) == (1, frozenset())


def test_a_sweep_keeps_uploads_of_live_owners(store: AudioStore) -> None:
    ours, _ = arrive(store, b"one", "us")
    arrive(store, b"two", "them")
    assert sweep(store, dead="them").removed == 1
    assert files(store) == {ours}


@pytest.mark.skipif(sys.platform == "win32", reason="there, an open file can't be deleted")
def test_a_sweep_keeps_locked_files_even_of_dead_owners(store: AudioStore) -> None:
    file = store.new_upload("them")
    with file.open("wb") as opened:
        assert try_lock(opened)
        assert sweep(store, dead="them").removed == 0
    assert sweep(store, dead="them").removed == 1


def test_a_sweep_keeps_partial_files_of_unfinished_jobs(store: AudioStore) -> None:
    for job in ("kept", "gone"):
        store.partial_path(job).write_bytes(b"half")
    assert sweep(store, job="kept", today=date(2030, 5, 17)).set_aside == 1
    assert files(store) == {store.partial_path("kept"), store.folder / "aside" / "2030-05-17" / "gone.part"}


def test_a_sweep_leaves_other_files_alone(store: AudioStore) -> None:
    (store.folder / "notes").mkdir(parents=True)
    (store.folder / "notes" / "readme.txt").write_text("mine")
    assert sweep(store) == SweepResult()
    assert len(files(store)) == 1


def test_a_sweep_of_a_missing_folder_does_nothing(store: AudioStore) -> None:
    assert sweep(store) == SweepResult()
    assert not store.folder.exists()


def test_a_sweep_makes_readable_files_of_earlier_versions_private(store: AudioStore) -> None:
    digest = add(store, b"sound")
    for path in (store.folder, store.path_of(digest).parent, store.path_of(digest)):
        path.chmod(0o777)
    sweep(store, wanted=digest)
    assert {oct(path.stat().st_mode & 0o077) for path in (store.folder, *store.folder.rglob("*"))} == {"0o0"}
