"""`kill -9` while jobs are deleted: after the next start each is gone with its recording, or there with it."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults.clerk import ClerkProcess
from tests.faults.support import statuses

pytestmark = pytest.mark.slow

PLACES = [f"{verb}:{step}" for verb in ("delete", "prune", "forget") for step in ("written", "committed")]


class Shop:
    """A database with its own recordings, whose process is killed and restarted."""

    def __init__(self, folder: Path) -> None:
        self.database, self.audio = folder / "cesar.db", folder / "audio"

    def clerk(self, failpoint: str = "") -> ClerkProcess:
        return ClerkProcess(self.database, "--audio", str(self.audio), failpoint=failpoint)

    def restart(self) -> list[int]:
        """Start like the service; return what the sweep removed, set aside and retained."""
        with self.clerk() as clerk:
            swept: list[int] = clerk.ask("sweep")
        return swept

    def recordings(self) -> int:
        """Return the number of recordings, wherever they are."""
        return sum(1 for file in self.audio.rglob("*") if file.is_file() and len(file.name) == 64)


@pytest.mark.parametrize("place", PLACES)
def test_an_interrupted_deletion_is_completed_or_undone_by_the_next_start(place: str, tmp_path: Path) -> None:
    """There is only one job: without it the database has no time of a last write."""
    shop = Shop(tmp_path)
    with shop.clerk(f"{place}=kill") as clerk:
        job = clerk.ask("upload", content="a recording")
        assert clerk.ask("cancel", job=job) == "cancelled"
        with pytest.raises(EOFError):
            clerk.ask("prune") if place.startswith("prune") else clerk.ask("delete", job=job)
    swept = shop.restart()
    is_there = job in statuses(shop.database)
    assert is_there == (place in ("delete:written", "prune:written"))
    assert shop.recordings() == is_there
    assert swept == [place in ("delete:committed", "prune:committed"), 0, 0]
    assert shop.restart() == [0, 0, 0]


def test_a_recording_submitted_again_after_an_interrupted_deletion_stays(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    with shop.clerk("delete:committed=kill") as clerk, suppress(EOFError):
        clerk.ask("delete", job=clerk.ask("upload", content="the same"))
    with shop.clerk() as clerk:
        again = clerk.ask("upload", content="the same")
    assert shop.restart() == [0, 0, 0]
    assert (list(statuses(shop.database)), shop.recordings()) == ([again], 1)


def test_a_recording_of_another_job_survives_an_interrupted_deletion(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    with shop.clerk("delete:committed=kill") as clerk, suppress(EOFError):
        other, job = clerk.ask("upload", content="the same"), clerk.ask("upload", content="the same")
        clerk.ask("delete", job=job)
    assert shop.restart() == [0, 0, 0]
    assert (list(statuses(shop.database)), shop.recordings()) == ([other], 1)


def test_deletions_killed_at_any_moment_lose_and_leave_nothing(
    tmp_path: Path, rng: random.Random, rounds: Callable[[int, int], int], note: Callable[..., None]
) -> None:
    shop, kept, kills = Shop(tmp_path), [], rounds(8, 100)
    for number in range(kills):
        with shop.clerk(f"{rng.choice(PLACES)}=kill@{rng.randint(1, 3)}") as clerk, suppress(EOFError):
            kept.append(clerk.ask("upload", content=f"kept {number}"))
            for one in range(4):
                job = clerk.ask("upload", content=f"{number} {one}")
                clerk.ask("cancel", job=job)
                clerk.ask("delete", job=job) if rng.random() < 0.7 else clerk.ask("prune")
    shop.restart()
    now = statuses(shop.database)
    assert set(kept) <= now.keys()
    assert shop.recordings() == len(now)
    note("kills while jobs were deleted", kills, lost=0, left=0, kept=len(kept))
