"""The result cache from end to end: a recording that a worker has recognised is completed at once when resubmitted."""

from __future__ import annotations

import json

import pytest

from tests.api.http.support import JFK, ServiceCase

pytestmark = pytest.mark.slow  # a worker starts a child process


class TestKnownResults(ServiceCase):
    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.sound = JFK.read_bytes()
        self.first = await self.submit(self.sound)
        await self.work()
        await self.wait_until_finished(self.first["id"])

    async def test_a_repeated_submission_is_completed_at_once_from_the_cache(self) -> None:
        again = await self.submit(self.sound, name="again.m4a")
        known = (await self.client.get(f"/jobs/{self.first['id']}")).json()
        assert (again["status"], again["cached_from"], again["name"]) == ("completed", self.first["id"], "again.m4a")
        assert known["text"]
        for told in ("text", "language", "duration", "progress"):
            assert again[told] == known[told]

    async def test_no_cache_recognises_it_again(self) -> None:
        again = await self.submit(self.sound, no_cache="true")
        assert again["cached_from"] is None
        assert again["status"] in ("queued", "processing")
        await self.wait_until_finished(again["id"])

    async def test_other_options_miss_the_cache(self) -> None:
        assert (await self.submit(self.sound, word_timestamps="true"))["cached_from"] is None

    async def test_a_changed_model_misses_the_cache(self) -> None:
        script = self.folder / "words.json"
        script.write_text(json.dumps(json.loads(script.read_text()) | {"language": "de"}))
        assert (await self.submit(self.sound))["cached_from"] is None

    async def test_an_unreadable_model_is_left_to_the_worker(self) -> None:
        (self.folder / "words.json").unlink()
        again = await self.submit(self.sound)
        assert again["cached_from"] is None
        assert again["status"] in ("queued", "processing")
        await self.wait_until_finished(again["id"])
