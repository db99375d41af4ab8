"""What has arrived of a recording, from one worker to the next: only what is certain counts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cesar.api.execution.download.partial_file import PartialFile, Source
from cesar.errors import Interrupted

WHOLE = Source("http://media.example/talk.wav", '"one"', 100)


def never() -> bool:
    return False


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "job.part"


@pytest.fixture
def begun(path: Path) -> Path:
    """The place of a part of ten bytes."""
    part = PartialFile.open(path, never)
    part.restart(WHOLE)
    part.write(b"0123456789")
    part.close()
    return path


@pytest.fixture
def part(begun: Path) -> Iterator[PartialFile]:
    part = PartialFile.open(begun, never)
    yield part
    part.close()


def size_when_opened(path: Path) -> int:
    part = PartialFile.open(path, never)
    part.close()
    return part.size


def test_a_part_is_taken_up_with_its_digest(part: PartialFile, path: Path) -> None:
    assert (part.size, part.source, part.can_resume, part.is_complete) == (10, WHOLE, True, False)
    part.write(b"abc")
    assert path.read_bytes() == b"0123456789abc"
    assert part.digest == hashlib.sha256(b"0123456789abc").hexdigest()


def test_bytes_that_may_not_be_on_the_disk_do_not_count(begun: Path) -> None:
    with begun.open("ab") as file:
        file.write(b"written, yet not synced before the worker was killed")
    assert size_when_opened(begun) == 10
    assert begun.read_bytes() == b"0123456789"


@pytest.mark.parametrize(
    "note",
    [
        "",
        "{",
        "[]",
        "3",
        "{}",
        '{"bytes": "ten", "file": 1}',
        '{"bytes": -1}',
        "\udcff".encode(errors="surrogateescape"),
    ],
)
def test_a_note_that_cannot_be_read_has_the_recording_begun_anew(begun: Path, note: str | bytes) -> None:
    begun.with_suffix(".origin").write_bytes(note if isinstance(note, bytes) else note.encode())
    assert size_when_opened(begun) == 0


@pytest.mark.parametrize("change", [{"file": 1}, {"bytes": 11}, {"bytes": -1}, {"validator": None}, {"more": 1}])
def test_so_has_one_that_does_not_fit_the_file(begun: Path, change: dict[str, object]) -> None:
    note = begun.with_suffix(".origin")
    note.write_text(json.dumps(json.loads(note.read_text()) | change))
    assert size_when_opened(begun) == 0


def test_so_has_a_part_without_a_note(begun: Path) -> None:
    begun.with_suffix(".origin").unlink()
    assert size_when_opened(begun) == 0


def test_a_whole_one_is_whole_for_the_next_too_even_if_it_could_not_have_gone_on(path: Path) -> None:
    part = PartialFile.open(path, never)
    part.restart(Source(WHOLE.place, None, None))
    part.write(b"all of it")
    part.finish()
    part.close()
    part = PartialFile.open(path, never)
    part.close()
    assert (part.is_complete, part.size) == (True, 9)


def test_a_worker_that_hangs_does_no_harm_to_who_takes_over(part: PartialFile, path: Path) -> None:
    other = PartialFile.open(path, never)
    assert other.size == 0
    other.restart(WHOLE)
    other.write(b"other")
    part.write(b"late")
    part.finish()
    part.discard()
    other.close()
    assert (path.read_bytes(), size_when_opened(path)) == (b"other", 5)


def test_reading_what_is_there_can_be_stopped(begun: Path) -> None:
    with pytest.raises(Interrupted):
        PartialFile.open(begun, lambda: True)
    assert size_when_opened(begun) == 10


def test_what_is_discarded_leaves_nothing(begun: Path, path: Path) -> None:
    part = PartialFile.open(begun, never)
    part.discard()
    part.close()
    assert list(path.parent.iterdir()) == []


def test_much_is_synced_without_being_asked_for(part: PartialFile, path: Path) -> None:
    part.write(bytes(17 * 1024**2))
    assert json.loads(path.with_suffix(".origin").read_text())["bytes"] == 10 + 17 * 1024**2
