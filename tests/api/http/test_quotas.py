"""What one API key may take of shared resources: priority, and storage for recordings."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, ClassVar
from unittest.mock import patch

import httpx

from cesar.api.queue.api_keys import Scope
from tests.api.http.support import ServiceCase, require_problem
from tests.api.support import eventually

SOUND = b"not really sound"


class TestPriority(ServiceCase):
    overrides: ClassVar = {"require_key": True}

    async def submit_with(self, headers: dict[str, str], priority: int) -> httpx.Response:
        form = {"priority": str(priority)}
        return await self.client.post("/transcribe", files={"file": ("a", SOUND)}, data=form, headers=headers)

    async def test_a_key_may_go_after_others_but_not_before_them(self) -> None:
        mine = await self.key("mine")
        for priority in (-1000, -1, 0):
            assert (await self.submit_with(mine, priority)).status_code == 202
        for priority in (1, 1000):
            require_problem(await self.submit_with(mine, priority), 403, "not_permitted")
            wanted = {"url": "https://example.org/a", "priority": priority}
            answer = await self.client.post("/transcribe/url", json=wanted, headers=mine)
            require_problem(answer, 403, "not_permitted")
        assert len(self.kept_files()) == 1

    async def test_an_admin_may_use_any_priority(self) -> None:
        assert (await self.submit_with(await self.key("root", Scope.ADMIN), 1000)).status_code == 202


class TestRaisedPriorityLimit(TestPriority):
    overrides: ClassVar = {"require_key": True, "max_priority": 10}

    async def test_a_key_may_go_after_others_but_not_before_them(self) -> None:
        mine = await self.key("mine")
        assert (await self.submit_with(mine, 10)).status_code == 202
        require_problem(await self.submit_with(mine, 11), 403, "not_permitted")


class TestPriorityWithoutKeys(ServiceCase):
    async def test_priority_is_unlimited_without_keys(self) -> None:
        assert (await self.submit(priority=1000))["priority"] == 1000


class TestStorageQuota(ServiceCase):
    overrides: ClassVar = {"require_key": True, "max_stored_bytes": 250_000}

    async def hand_in(self, headers: dict[str, str], content: bytes) -> httpx.Response:
        return await self.client.post("/transcribe", files={"file": ("a", content)}, headers=headers)

    async def test_a_key_at_its_storage_limit_gets_507_until_it_deletes(self) -> None:
        mine, theirs, admin = await self.key("mine"), await self.key("theirs"), await self.key("root", Scope.ADMIN)
        first, second, third = (bytes([n]) * 100_000 for n in (1, 2, 3))
        ids = [(await self.hand_in(mine, content)).json()["id"] for content in (first, second)]
        require_problem(await self.hand_in(mine, third), 507, "storage_limit")
        assert (await self.hand_in(theirs, third)).status_code == 202
        for content in (b"x" * 300_000, b"y" * 300_000):
            assert (await self.hand_in(admin, content)).status_code == 202
        await self.client.delete(f"/jobs/{ids[0]}", headers=mine)
        assert (await self.hand_in(mine, third)).status_code == 202

    async def test_concurrent_uploads_cannot_exceed_the_quota(self) -> None:
        mine = await self.key("mine")
        answers = await asyncio.gather(*(self.hand_in(mine, bytes([n]) * 100_000) for n in range(20)))
        assert sorted(answer.status_code for answer in answers) == [202] * 2 + [507] * 18

    async def test_a_recording_stored_while_the_quota_is_recounted_counts(self) -> None:
        """The second upload's count is taken before the first one is stored, and returned after."""
        mine = await self.key("mine")
        create, count = self.service.repository.create, self.service.repository.stored_bytes
        counts, is_counted, is_stored = 0, asyncio.Event(), asyncio.Event()

        async def create_late(*args: Any, **kwargs: Any) -> Any:
            await is_counted.wait()
            return await create(*args, **kwargs)

        async def count_early(*args: Any, **kwargs: Any) -> int:
            nonlocal counts
            counts += 1
            found = await count(*args, **kwargs)
            if counts == 2:
                is_counted.set()
                await is_stored.wait()
            return found

        with (
            patch.object(self.service.repository, "create", create_late),
            patch.object(self.service.repository, "stored_bytes", count_early),
        ):
            first = asyncio.create_task(self.hand_in(mine, b"a" * 200_000))
            await eventually(lambda: counts == 1)
            second = asyncio.create_task(self.hand_in(mine, b"b" * 200_000))
            assert (await first).status_code == 202
            is_stored.set()
            require_problem(await second, 507, "storage_limit")

    async def test_repeated_quota_refusals_do_not_fill_the_log(self) -> None:
        mine = await self.key("mine")
        with self.assertLogs("cesar", "DEBUG") as logs:
            logging.getLogger("cesar").debug("there is a line at least")
            for n in range(10):
                require_problem(await self.hand_in(mine, bytes([n]) * 300_000), 507, "storage_limit")
        assert len([line for line in logs.output if "storage_limit" in line]) <= 1

    async def test_a_failed_submission_takes_no_quota(self) -> None:
        mine = await self.key("mine")
        for _ in range(5):
            wrong = await self.client.post(
                "/transcribe", files={"file": ("a", b"a" * 100_000)}, headers={**mine, "Idempotency-Key": "x" * 1000}
            )
            assert wrong.status_code == 422
        for content in (b"b" * 100_000, b"c" * 100_000):
            assert (await self.hand_in(mine, content)).status_code == 202

    async def test_an_identical_recording_is_stored_and_counted_once(self) -> None:
        mine = await self.key("mine")
        for _ in range(5):
            assert (await self.hand_in(mine, b"a" * 200_000)).status_code == 202
        require_problem(await self.hand_in(mine, b"b" * 200_000), 507, "storage_limit")
        answer = await self.client.post(
            "/v1/audio/transcriptions", files={"file": b"c" * 200_000}, data={"model": "whisper-1"}, headers=mine
        )
        assert answer.status_code == 507

    async def test_a_key_over_its_quota_cannot_submit_addresses(self) -> None:
        mine = await self.key("mine")
        assert (await self.hand_in(mine, b"a" * 240_000)).status_code == 202
        wanted = {"url": "https://example.org/a"}
        assert (await self.client.post("/transcribe/url", json=wanted, headers=mine)).status_code == 202
        self.service.settings = type(self.settings)(data_dir=self.data_dir, max_stored_bytes=200_000)
        require_problem(await self.client.post("/transcribe/url", json=wanted, headers=mine), 507, "storage_limit")

    async def test_requests_and_texts_count_towards_the_quota(self) -> None:
        mine = await self.key("mine")
        wanted = {"url": "https://example.org/a", "prompt": "p" * 60_000}
        for _ in range(3):
            assert (await self.client.post("/transcribe/url", json=wanted, headers=mine)).status_code == 202
        await asyncio.gather(*(self.client.post("/transcribe/url", json=wanted, headers=mine) for _ in range(5)))
        require_problem(await self.client.post("/transcribe/url", json=wanted, headers=mine), 507, "storage_limit")
        assert len((await self.client.get("/jobs", headers=mine)).json()["jobs"]) <= 4
        require_problem(await self.hand_in(mine, b"a" * 100_000), 507, "storage_limit")


class TestNearlyFullDisk(ServiceCase):
    overrides: ClassVar = {"min_free_bytes": 2**60}

    async def test_addresses_are_refused_as_uploads_are(self) -> None:
        answer = await self.client.post("/transcribe/url", json={"url": "https://example.org/a"})
        require_problem(answer, 507, "disk_full")
