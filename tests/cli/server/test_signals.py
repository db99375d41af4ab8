"""Shutdown by signals: the watchdog ends a process that is stuck, and no other."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading

import pytest

from cesar.cli.server.signals import SignalHandler, Watchdog, handle_signals

STUCK = """
import threading
from cesar.cli.server.signals import Watchdog
with Watchdog() as watchdog:
    watchdog.allow(0.1)
    watchdog.allow(60)  # a later deadline changes nothing
    threading.Event().wait(60)
"""


@pytest.mark.slow
def test_a_stuck_process_is_ended_at_the_earliest_deadline() -> None:
    ended = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, timeout=60, check=False)
    assert ended.returncode == 70
    assert b"no job is lost" in ended.stderr


def watchdog_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "cesar-watchdog"]


def test_leaving_the_context_ends_the_watch() -> None:
    with Watchdog() as watchdog:
        [watching] = watchdog_threads()
        watchdog.allow(60)
    watching.join(60)
    assert not watching.is_alive()


def test_a_program_that_stops_by_a_signal_leaves_nothing_behind_in_its_process() -> None:
    stopped: list[bool] = []

    async def run(watchdog: Watchdog) -> None:
        is_over = asyncio.Event()

        async def stop(is_urgent: bool) -> None:
            stopped.append(is_urgent)
            is_over.set()

        before = signal.getsignal(signal.SIGTERM)
        with handle_signals(SignalHandler(stop, 30.0, watchdog).on_signal):
            os.kill(os.getpid(), signal.SIGTERM)
            await is_over.wait()
        assert signal.getsignal(signal.SIGTERM) is before

    with Watchdog() as watchdog:
        [watching] = watchdog_threads()
        asyncio.run(run(watchdog))
    watching.join(60)
    assert not watching.is_alive()
    assert stopped == [False]
