"""A partial download from one worker to the next: only what is certainly on the disk counts."""

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
    """The path of a partial file of ten bytes."""
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


def test_a_partial_file_resumes_with_its_digest(part: PartialFile, path: Path) -> None:
    assert (part.size, part.source, part.can_resume, part.is_complete) == (10, WHOLE, True, False)
    part.write(b"abc")
    assert path.read_bytes() == b"0123456789abc"
    assert part.digest == hashlib.sha256(b"0123456789abc").hexdigest()


def test_bytes_not_recorded_in_the_sidecar_are_discarded(begun: Path) -> None:
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
def test_an_unreadable_sidecar_starts_over(begun: Path, note: str | bytes) -> None:
    begun.with_suffix(".origin").write_bytes(note if isinstance(note, bytes) else note.encode())
    assert size_when_opened(begun) == 0


@pytest.mark.parametrize("change", [{"file": 1}, {"bytes": 11}, {"bytes": -1}, {"validator": None}, {"more": 1}])
def test_a_sidecar_that_does_not_match_the_file_starts_over(begun: Path, change: dict[str, object]) -> None:
    note = begun.with_suffix(".origin")
    note.write_text(json.dumps(json.loads(note.read_text()) | change))
    assert size_when_opened(begun) == 0


def test_a_partial_file_without_a_sidecar_starts_over(begun: Path) -> None:
    begun.with_suffix(".origin").unlink()
    assert size_when_opened(begun) == 0


def test_a_complete_file_stays_complete_even_if_it_could_not_be_resumed(path: Path) -> None:
    part = PartialFile.open(path, never)
    part.restart(Source(WHOLE.place, None, None))
    part.write(b"all of it")
    part.finish()
    part.close()
    part = PartialFile.open(path, never)
    part.close()
    assert (part.is_complete, part.size) == (True, 9)


def test_a_hanging_worker_does_not_harm_its_successor(part: PartialFile, path: Path) -> None:
    other = PartialFile.open(path, never)
    assert other.size == 0
    other.restart(WHOLE)
    other.write(b"other")
    part.write(b"late")
    part.finish()
    part.discard()
    other.close()
    assert (path.read_bytes(), size_when_opened(path)) == (b"other", 5)


def test_loading_a_partial_file_can_be_stopped(begun: Path) -> None:
    with pytest.raises(Interrupted):
        PartialFile.open(begun, lambda: True)
    assert size_when_opened(begun) == 10


def test_discarding_leaves_no_files(begun: Path, path: Path) -> None:
    part = PartialFile.open(begun, never)
    part.discard()
    part.close()
    assert list(path.parent.iterdir()) == []


def test_large_writes_are_flushed_automatically(part: PartialFile, path: Path) -> None:
    part.write(bytes(17 * 1024**2))
    assert json.loads(path.with_suffix(".origin").read_text())["bytes"] == 10 + 17 * 1024**2
