"""Rate limits and body limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import httpx
import pytest
from starlette.responses import JSONResponse

from cesar.api.http.middleware import limits
from cesar.api.http.middleware.limits import BodyLimitMiddleware, RateLimit
from cesar.errors import BodyStalled, TooManyRequests
from tests.api.http.support import ServiceCase, require_problem
from tests.api.support import PATIENCE_S, Clocks


def asked(limit: RateLimit, caller: str = "alice") -> float | None:
    """Ask once; give how long to wait, or None if it was allowed."""
    try:
        limit.require(caller)
    except TooManyRequests as refused:
        return refused.retry_after_s
    return None


def test_a_tenth_of_a_minutes_requests_may_come_as_a_burst():
    limit = RateLimit(100, Clocks().monotonic)
    assert [asked(limit) for _ in range(11)] == [*[None] * 10, pytest.approx(0.6)]


def test_a_caller_that_waits_for_retry_after_is_accepted():
    clocks = Clocks()
    limit = RateLimit(60, clocks.monotonic)
    while (wait_s := asked(limit)) is None:
        pass
    clocks.advance(wait_s * 0.9)
    assert asked(limit)
    clocks.advance(wait_s * 0.11)
    assert asked(limit) is None


def test_the_long_term_rate_never_exceeds_the_limit():
    clocks = Clocks()
    limit = RateLimit(60, clocks.monotonic)
    allowed = 0
    for _ in range(6000):
        clocks.advance(0.1)
        allowed += asked(limit) is None
    assert 600 <= allowed <= 606


def test_one_request_a_minute_can_be_set():
    clocks = Clocks()
    limit = RateLimit(1, clocks.monotonic)
    assert [asked(limit), asked(limit)] == [None, pytest.approx(60)]


def test_callers_do_not_share_a_limit():
    limit = RateLimit(10, Clocks().monotonic)
    assert asked(limit, "alice") is None
    assert asked(limit, "alice")
    assert asked(limit, "bob") is None


def test_the_table_of_callers_is_bounded(monkeypatch):
    monkeypatch.setattr(limits, "MAX_CALLERS", 3)
    limit = RateLimit(10, Clocks().monotonic)
    for caller in "abcdefgh":
        limit.require(caller)
    assert len(limit) == 3
    assert asked(limit, "h")  # the newest are those that are remembered


class TestRateLimitOverHttp(ServiceCase):
    overrides: ClassVar[dict[str, Any]] = {"requests_per_minute": 40}

    async def test_too_many_requests_get_429_with_retry_after(self):
        answers = [await self.client.get("/models") for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 429]
        require_problem(answers[-1], 429, "too_many_requests")
        assert answers[-1].headers["retry-after"] == "2"

    async def test_probes_are_never_rate_limited(self):
        for _ in range(20):
            assert (await self.client.get("/livez")).status_code == 200
            assert (await self.client.get("/readyz")).status_code == 200

    async def test_each_key_has_its_own_limit(self):
        alice, bob = await self.key("alice"), await self.key("bob")
        while (await self.client.get("/models", headers=alice)).status_code == 200:
            pass
        assert (await self.client.get("/models", headers=bob)).status_code == 200


class TestBodies(ServiceCase):
    async def test_a_large_body_is_refused_where_no_recording_is_expected(self):
        too_much = b'{"url": "' + b"x" * 2**20 + b'"}'
        answer = await self.client.post(
            "/transcribe/url", content=too_much, headers={"Content-Type": "application/json"}
        )
        require_problem(answer, 413, "upload_too_large")

    async def test_a_large_body_without_a_length_is_refused_before_it_ends(self):
        sent = 0

        async def endless():
            nonlocal sent
            while True:
                sent += 2**16
                yield b"x" * 2**16

        answer = await self.client.post(
            "/transcribe/url", content=endless(), headers={"Content-Type": "application/json"}
        )
        assert answer.status_code in (400, 413)  # by the endpoint's own limit, or by that of all
        assert sent < 2**25  # what was on its way is still read for a while, and dropped

    async def test_a_small_body_that_stalls_or_trickles_times_out(self):
        limited = BodyLimitMiddleware(self.app, timeout_s=0.3)

        async def silent() -> AsyncIterator[bytes]:
            yield b'{"url": '
            await asyncio.Event().wait()

        async def dripping() -> AsyncIterator[bytes]:
            while True:
                yield b" "
                await asyncio.sleep(0.02)

        async def patient(scope: Any, receive: Any, send: Any) -> None:
            with pytest.raises(BodyStalled):
                await limited({**scope, "path": "/small"}, receive, send)
            await JSONResponse({}, 408)(scope, receive, send)

        async def reading(_scope: Any, receive: Any, _send: Any) -> None:
            while (await receive()).get("more_body"):
                pass

        limited._app = reading
        for body in (silent(), dripping()):
            transport = httpx.ASGITransport(app=patient)
            async with httpx.AsyncClient(transport=transport, base_url="http://cesar") as client:
                assert (await client.post("/small", content=body)).status_code == 408

    async def test_the_body_timeout_ends_once_the_body_has_arrived(self):
        async def waiting(_scope: Any, receive: Any, _send: Any) -> None:
            assert not (await receive())["more_body"]
            async with asyncio.timeout(PATIENCE_S):
                assert (await receive())["type"] == "http.disconnect"

        gone = asyncio.Event()
        messages = iter([{"type": "http.request", "body": b"", "more_body": False}])

        async def receive() -> Any:
            if (message := next(messages, None)) is not None:
                return message
            asyncio.get_running_loop().call_later(0.3, gone.set)
            await gone.wait()
            return {"type": "http.disconnect"}

        scope = {"type": "http", "path": "/events", "headers": []}
        await BodyLimitMiddleware(waiting, timeout_s=0.05)(scope, receive, receive)  # type: ignore[arg-type]  # it sends nothing
