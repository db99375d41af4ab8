"""Clients take turns: each round of the event loop serves a few sockets and starts a few requests."""

from __future__ import annotations

import asyncio
import selectors
import socket
import sys
import time
from contextlib import ExitStack, closing
from functools import partial
from unittest import IsolatedAsyncioTestCase

import pytest

from cesar.api.http.server.fair_loop import FairLoop, FairSelector, fair_selector_of
from cesar.api.http.server.fair_queue import FairQueue
from cesar.api.http.server.pace import ROUND_S, Pace


def pace(most: int) -> Pace:
    """Allow so many in each round, however long rounds take on the machine of the tests."""
    return Pace(most, clock=lambda: 0.0)


BUSY, NEW = "192.0.2.1", "192.0.2.2"


class TestRequests(IsolatedAsyncioTestCase):
    async def test_a_few_requests_start_in_each_turn_of_the_loop(self) -> None:
        queue, begun = FairQueue(pace(3)), list[int]()
        for number in range(8):
            queue.run(BUSY, partial(begun.append, number))
        counts = [len(begun)]
        while len(begun) < 8:
            await asyncio.sleep(0)
            counts.append(len(begun))
        assert counts == [3, 6, 8]
        assert begun == list(range(8))

    async def test_a_second_address_waits_for_one_request_of_the_first_not_for_all(self) -> None:
        queue, begun = FairQueue(pace(1)), list[str]()
        for _ in range(100):
            queue.run(BUSY, lambda: begun.append(BUSY))
        queue.run(NEW, lambda: begun.append(NEW))
        while len(begun) < 101:
            await asyncio.sleep(0)
        assert begun.index(NEW) <= 2

    async def test_an_emptied_queue_runs_the_next_request_at_once(self) -> None:
        queue, begun = FairQueue(pace(1)), list[int]()
        for number in range(3):
            queue.run(BUSY, partial(begun.append, number))
            assert begun == list(range(number + 1))
            await asyncio.sleep(0)

    async def test_a_request_that_fails_to_start_delays_no_others(self) -> None:
        queue, begun, failures = FairQueue(pace(1)), [], []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failures.append(context["exception"]))

        def fail() -> None:
            raise RuntimeError

        queue.run(BUSY, lambda: begun.append(1))
        queue.run(BUSY, fail)
        queue.run(BUSY, lambda: begun.append(2))
        while len(begun) < 2:
            await asyncio.sleep(0)
        assert len(failures) == 1


class TestPace:
    """Rounds that take too long have less work in them."""

    def rounds(self, *, each_s: float, count: int) -> list[int]:
        now = iter(n // 2 * each_s + (n % 2) * each_s for n in range(2 * count))
        pace, allowed = Pace(4, round_s=0.002, clock=lambda: next(now)), []
        for _ in range(count):
            pace.begin()
            pace.end()
            allowed.append(pace.allowed)
        return allowed

    def test_long_rounds_lower_the_allowance_but_never_to_zero(self) -> None:
        assert self.rounds(each_s=0.003, count=4) == [2, 1, 1, 1]

    def test_short_rounds_keep_the_full_allowance(self) -> None:
        assert self.rounds(each_s=0.0005, count=3) == [4, 4, 4]

    def test_short_rounds_after_a_long_one_raise_the_allowance(self) -> None:
        now = iter([0.0, 0.1, 0.2, 0.2, 0.3, 0.3, 0.4, 0.4])
        pace, allowed = Pace(4, round_s=0.002, clock=lambda: next(now)), []
        for _ in range(4):
            pace.begin()
            pace.end()
            allowed.append(pace.allowed)
        assert allowed == [2, 3, 4, 4]

    def test_ending_a_round_that_was_not_begun_changes_nothing(self) -> None:
        pace = Pace(4)
        pace.end()
        assert pace.allowed == 4

    def test_slow_requests_start_one_at_a_time(self) -> None:
        """The real clock: each step computes for longer than a round may take."""

        async def run() -> list[int]:
            queue, begun, counts = FairQueue(), list[None](), list[int]()

            def compute() -> None:
                until = time.thread_time() + 3 * ROUND_S
                while time.thread_time() < until:
                    pass
                begun.append(None)

            for _ in range(12):
                queue.run(BUSY, compute)
            while len(begun) < 12:
                before = len(begun)
                await asyncio.sleep(0)
                counts.append(len(begun) - before)
            return counts

        assert asyncio.run(run())[-4:] == [1, 1, 1, 1]


@pytest.mark.skipif(sys.platform == "win32", reason="the loop has no selector there")
class TestSockets:
    def test_ready_sockets_are_returned_a_few_at_a_time_in_rotation(self) -> None:
        with ExitStack() as open_ones, FairSelector(selectors.DefaultSelector(), pace(3)) as selector:
            busy = {self.ready(selector, open_ones) for _ in range(10)}
            rounds = [{key.fd for key, _ in selector.select(0)} for _ in range(4)]
            assert [len(given) for given in rounds] == [3, 3, 3, 3]
            assert set.union(*rounds) == busy

    def test_a_new_socket_goes_before_those_already_served(self) -> None:
        with ExitStack() as open_ones, FairSelector(selectors.DefaultSelector(), pace(2)) as selector:
            for _ in range(10):
                self.ready(selector, open_ones)
            for _ in range(7):
                selector.select(0)
            new = self.ready(selector, open_ones)
            selector.forget(new)
            assert new in {key.fd for key, _ in selector.select(0)}

    def test_preferred_sockets_are_returned_in_every_round(self) -> None:
        with ExitStack() as open_ones, FairSelector(selectors.DefaultSelector(), pace(1)) as selector:
            listening = self.ready(selector, open_ones)
            selector.prefer_registered()
            for _ in range(5):
                self.ready(selector, open_ones)
            rounds = [{key.fd for key, _ in selector.select(0)} for _ in range(5)]
            assert all(listening in given and len(given) == 2 for given in rounds)

    def ready(self, selector: FairSelector, open_ones: ExitStack) -> int:
        """Register a socket that has something to read, and give its number."""
        near, far = socket.socketpair()
        open_ones.enter_context(near)
        open_ones.enter_context(far)
        far.send(b"x")
        selector.register(near, selectors.EVENT_READ)
        return near.fileno()


def test_only_a_fair_loop_has_a_fair_selector() -> None:
    """On Windows `FairLoop` is asyncio's own loop, and connections must not ask it for turns."""
    with closing(asyncio.SelectorEventLoop()) as usual, closing(FairLoop()) as fair:
        assert fair_selector_of(usual) is None
        assert (fair_selector_of(fair) is not None) == (sys.platform != "win32")
