"""Unresponsive name servers delay only the callers that need their names."""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from unittest import IsolatedAsyncioTestCase
from unittest.mock import patch

import httpx
import pytest

from cesar.api.execution.download import address_policy
from cesar.api.execution.download.address_policy import PUBLIC, resolve_allowed
from cesar.api.execution.download.resolver import MAX_LOOKUPS, resolve
from cesar.errors import FetchFailed
from tests.api.support import PATIENCE_S, eventually


class TestSilentNameServers(IsolatedAsyncioTestCase):
    """Make the system's lookup block until the test ends it, as it does while name servers are silent."""

    def setUp(self) -> None:
        self.over = threading.Event()
        self.under_way = threading.Semaphore(0)
        self.addCleanup(self.over.set)
        self.enterContext(patch.object(socket, "getaddrinfo", self._block))
        self.enterContext(patch.object(address_policy, "_RESOLVE_TIMEOUT_S", 0.0))

    def _block(self, *_: object, **__: object) -> list[object]:
        self.under_way.release()
        self.over.wait(PATIENCE_S)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    async def _ask(self, count: int) -> None:
        for number in range(count):
            with pytest.raises(FetchFailed, match=r"name resolution (timed out|failed)"):
                await resolve_allowed(httpx.URL(f"http://host{number}.example/"), PUBLIC, resolve)

    async def test_silent_name_servers_take_no_shared_threads(self) -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        await self._ask(3)
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), PATIENCE_S) == "free"

    async def test_the_number_of_concurrent_lookups_is_limited(self) -> None:
        await self._ask(MAX_LOOKUPS + 5)
        with pytest.raises(socket.gaierror, match="too many"):
            await resolve("host.example", 80)
        self.over.set()
        assert all(self.under_way.acquire(timeout=PATIENCE_S) for _ in range(MAX_LOOKUPS))
        await eventually(self._has_room)

    async def _has_room(self) -> bool:
        try:
            await resolve("host.example", 80)
        except socket.gaierror as error:
            return "too many" not in str(error)
        return True

    async def test_a_shutdown_does_not_wait_for_name_servers(self) -> None:
        await self._ask(2)
        asking = [thread for thread in threading.enumerate() if thread.name == "cesar-resolve"]
        assert len(asking) == 2
        assert all(thread.daemon for thread in asking)
