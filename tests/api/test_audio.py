"""The store of recordings: each once, under its digest, and gone when nobody needs it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from cesar.api.audio import AudioStore


@pytest.fixture
def store(tmp_path: Path) -> AudioStore:
    return AudioStore(tmp_path / "audio")


def arrive(store: AudioStore, content: bytes, owner: str = "us") -> tuple[Path, str]:
    """Have a recording arrive; give its file and its digest."""
    file = store.new_upload(owner)
    file.write_bytes(content)
    return file, hashlib.sha256(content).hexdigest()


def files(store: AudioStore) -> set[Path]:
    return {path for path in store.folder.rglob("*") if path.is_file()}


def sweep(store: AudioStore, wanted: str = "", dead: str = "", job: str = "") -> int:
    return store.sweep(
        is_wanted=lambda digest: digest == wanted, is_dead=lambda owner: owner == dead, has_job=lambda id_: id_ == job
    )


def test_a_recording_is_kept_under_its_digest(store: AudioStore) -> None:
    file, digest = arrive(store, b"sound")
    place = store.keep(file, digest)
    assert place == store.path_of(digest) == store.folder / digest[:2] / digest
    assert (place.read_bytes(), file.exists()) == (b"sound", False)


def test_the_same_bytes_are_kept_once(store: AudioStore) -> None:
    places = {store.keep(*arrive(store, b"sound")) for _ in range(3)}
    assert files(store) == places


def test_no_two_uploads_have_the_same_file(store: AudioStore) -> None:
    assert len({store.new_upload("us") for _ in range(100)}) == 100


def test_what_is_removed_is_gone_and_may_be_removed_again(store: AudioStore) -> None:
    file, digest = arrive(store, b"sound")
    store.keep(file, digest)
    store.part_of("job").write_bytes(b"half")
    for _ in range(2):
        store.remove(digest)
        store.remove_part("job")
    assert files(store) == set()


def test_a_sweep_keeps_what_a_job_has(store: AudioStore) -> None:
    kept, gone = arrive(store, b"one"), arrive(store, b"two")
    store.keep(*kept)
    store.keep(*gone)
    assert sweep(store, wanted=kept[1]) == 1
    assert files(store) == {store.path_of(kept[1])}


def test_a_sweep_keeps_what_arrives_for_the_living(store: AudioStore) -> None:
    ours, _ = arrive(store, b"one", "us")
    arrive(store, b"two", "them")
    assert sweep(store, dead="them") == 1
    assert files(store) == {ours}


def test_a_sweep_keeps_what_was_fetched_for_a_job_that_still_needs_it(store: AudioStore) -> None:
    for job in ("kept", "gone"):
        store.part_of(job).write_bytes(b"half")
    assert sweep(store, job="kept") == 1
    assert files(store) == {store.part_of("kept")}


def test_a_sweep_leaves_alone_what_is_not_ours(store: AudioStore) -> None:
    (store.folder / "notes").mkdir(parents=True)
    (store.folder / "notes" / "readme.txt").write_text("mine")
    assert sweep(store) == 0
    assert len(files(store)) == 1


def test_a_sweep_of_a_folder_that_is_not_there_does_nothing(store: AudioStore) -> None:
    assert sweep(store) == 0
    assert not store.folder.exists()
