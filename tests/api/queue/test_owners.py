"""Owners show that they are alive by a lock that the kernel releases; a monitor sees whose heartbeats stop."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cesar.api.models import LEASE_TTL_S
from cesar.api.queue.leases import Heartbeat, LeaseMonitor, LeaseOwner, monotonic_clock

HOLD = """
import sys, pathlib
from cesar.api.queue.leases import LeaseOwner
owner = LeaseOwner(pathlib.Path(sys.argv[1]))
owner.ensure_lock()
print(owner.name, flush=True)
sys.stdin.read()
"""


def test_every_owner_has_its_own_name() -> None:
    assert len({LeaseOwner(None).name for _ in range(100)}) == 100


def test_an_owner_is_alive_until_it_is_released(tmp_path: Path) -> None:
    owner, other = LeaseOwner(tmp_path / "owners"), LeaseOwner(tmp_path / "owners")
    owner.ensure_lock()
    owner.ensure_lock()
    assert not other.is_dead(owner.name)
    owner.release()
    owner.release()
    assert other.is_dead(owner.name)
    assert list((tmp_path / "owners").iterdir()) == []


def test_no_owner_considers_itself_dead(tmp_path: Path) -> None:
    owner = LeaseOwner(tmp_path)
    assert not owner.is_dead(owner.name)


def test_an_unknown_owner_is_dead_and_asking_leaves_no_file(tmp_path: Path) -> None:
    assert LeaseOwner(tmp_path).is_dead("somebody")
    assert list(tmp_path.iterdir()) == []


def test_a_database_in_memory_has_no_other_owners() -> None:
    owner = LeaseOwner(None)
    owner.ensure_lock()
    assert not owner.is_dead("somebody")
    owner.release()


def test_an_unlocked_file_is_a_dead_owners_and_is_removed(tmp_path: Path) -> None:
    (tmp_path / "somebody.lock").touch()
    assert LeaseOwner(tmp_path).is_dead("somebody")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_stopped_process_is_alive_and_a_killed_one_is_dead(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        name = holder.stdout.readline().strip()
        us = LeaseOwner(tmp_path)
        assert not us.is_dead(name)
        holder.send_signal(signal.SIGSTOP)
        assert not us.is_dead(name)
        holder.kill()
        holder.wait()
        assert us.is_dead(name)
    assert list(tmp_path.iterdir()) == []


def test_checking_an_owner_does_not_disturb_it(tmp_path: Path) -> None:
    living = LeaseOwner(tmp_path)
    living.ensure_lock()
    askers = [LeaseOwner(tmp_path) for _ in range(5)]
    assert [asker.is_dead(living.name) for asker in askers * 10] == [False] * 50
    assert [path.stem for path in tmp_path.iterdir()] == [living.name]
    living.release()


def test_the_monotonic_clock_advances() -> None:
    first = monotonic_clock()
    assert first <= monotonic_clock() < first + LEASE_TTL_S


def beat(count: int, job: int = 1) -> Heartbeat:
    return Heartbeat(job, "owner", 1, count)


def test_a_heartbeat_unchanged_for_longer_than_the_lease_expires() -> None:
    watch = LeaseMonitor(ttl_s=10)
    seen = [watch.expired([beat(1)], now) for now in (0, 2, 4, 6, 8, 10, 10.1)]
    assert seen == [set()] * 6 + [{beat(1)}]


def test_any_change_of_a_heartbeat_renews_it() -> None:
    for changed in (beat(2), Heartbeat(1, "other", 1, 1), Heartbeat(1, "owner", 2, 1)):
        watch = LeaseMonitor(ttl_s=10)
        seen = [watch.expired([beat(1)], now) for now in (0, 2, 4, 6, 8, 10)]
        seen += [watch.expired([changed], now) for now in (10.5, 12.5, 14.5, 16.5, 18.5, 20.5)]
        assert seen == [set()] * 12
        assert watch.expired([changed], 21) == {changed}


def test_each_heartbeat_is_monitored_by_itself() -> None:
    watch = LeaseMonitor(ttl_s=10)
    for count in range(11):
        watch.expired([beat(1, job=1), beat(count, job=2)], count)
    assert watch.expired([beat(1, job=1), beat(10, job=2)], 10.5) == {beat(1, job=1)}


def test_a_claim_that_ended_is_no_longer_monitored() -> None:
    watch = LeaseMonitor(ttl_s=10)
    watch.expired([beat(1)], 0)
    watch.expired([], 3)
    for now in (6, 9, 12, 15):
        assert watch.expired([beat(1)], now) == set()


@pytest.mark.parametrize("pause", [4, 6, 11, 1000])
def test_a_rare_poller_notices_an_expired_heartbeat_but_not_at_once(pause: int) -> None:
    watch = LeaseMonitor(ttl_s=10)
    seen = [watch.expired([beat(1)], now) for now in range(0, 10 * pause, pause)]
    assert seen[:2] == [set(), set()], "it may have slept, and the other as well"
    assert seen[-1] == {beat(1)}


@given(st.lists(st.tuples(st.integers(1, 10).map(lambda quarters: quarters / 4), st.booleans()), max_size=40))
def test_timely_heartbeats_never_expire_and_late_ones_always_do(looks: list[tuple[float, bool]]) -> None:
    watch, now, count, since = LeaseMonitor(ttl_s=10), 0.0, 0, 0.0
    watch.expired([beat(0)], now)
    for pause, has_beaten in looks:
        now += pause
        if has_beaten:
            count, since = count + 1, now
        assert watch.expired([beat(count)], now) == ({beat(count)} if now - since > 10 else set())


def test_a_live_worker_is_seen_and_a_service_without_one_is_not(tmp_path):
    clerk, worker, looker = (LeaseOwner(tmp_path / "owners") for _ in range(3))
    assert not looker.sees_other_worker()
    clerk.ensure_lock()
    assert not looker.sees_other_worker()
    worker.mark_as_worker()
    assert looker.sees_other_worker()
    assert not worker.sees_other_worker()
    worker.release()
    assert not looker.sees_other_worker()
    assert {left.stem for left in (tmp_path / "owners").iterdir()} == {clerk.name}
    clerk.release()
