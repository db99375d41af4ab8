"""Lists: filters, pages that are stable while jobs are added, queue positions, counts."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest
import sqlalchemy as sa

from cesar.api.models import Job, JobFilter, JobStatus
from cesar.api.storage.schema import jobs
from cesar.errors import QueueError
from cesar.options import MAX_SECONDS
from tests.api.support import QueueCase


class TestListingInMemory(QueueCase):
    async def names(self, wanted: JobFilter) -> list[str]:
        page = await self.repository.list_page(wanted)
        return [job.name for job in page.jobs]

    async def pages(self, wanted: JobFilter = JobFilter(), *, limit: int, newest_first: bool) -> list[list[Job]]:  # noqa: B008
        """Return the jobs of all pages."""
        found, cursor = [], None
        while True:
            page = await self.repository.list_page(wanted, cursor=cursor, limit=limit, newest_first=newest_first)
            found.append(list(page.jobs))
            if page.next_cursor is None:
                return found
            cursor = page.next_cursor

    async def test_pages_return_every_job_once_in_either_order(self) -> None:
        jobs = [await self.queue(name=str(n)) for n in range(7)]
        for newest_first in (True, False):
            ordered = jobs[::-1] if newest_first else jobs
            for limit in (1, 2, 3, 6, 7, 8):
                pages = await self.pages(limit=limit, newest_first=newest_first)
                assert [job for page in pages for job in page] == ordered
                assert {len(page) for page in pages[:-1]} <= {limit}
                assert pages[-1], "no page after the last job"

    async def test_unlimited_times_from_earlier_versions_are_clamped(self) -> None:
        job = await self.queue()
        for start, end in ((1e308, None), (0.0, 1e308), (1e300, 1e308)):
            options = {"start": start, "end": end, "task": "transcribe"}
            change = sa.update(jobs).where(jobs.c.id == job.id).values(options=options)
            await self.repository.database.write("put in", partial(sa.Connection.execute, statement=change))
            [found] = (await self.repository.list_page()).jobs
            assert found.options.start <= MAX_SECONDS
            assert found.options.end is None or found.options.start < found.options.end <= MAX_SECONDS

    async def test_the_first_page_has_a_hundred_jobs_newest_first(self) -> None:
        jobs = [await self.queue() for _ in range(101)]
        page = await self.repository.list_page()
        assert list(page.jobs) == jobs[:0:-1]
        assert page.next_cursor is not None

    async def test_an_empty_queue_returns_an_empty_last_page(self) -> None:
        page = await self.repository.list_page()
        assert (page.jobs, page.next_cursor) == ((), None)

    async def test_jobs_added_meanwhile_do_not_shift_pages_newest_first(self) -> None:
        jobs = [await self.queue() for _ in range(6)]
        first = await self.repository.list_page(limit=3)
        for _ in range(4):
            await self.queue()
        second = await self.repository.list_page(cursor=first.next_cursor, limit=3)
        assert [*first.jobs, *second.jobs] == jobs[::-1]

    async def test_pages_oldest_first_reach_jobs_added_meanwhile(self) -> None:
        jobs = [await self.queue() for _ in range(3)]
        first = await self.repository.list_page(limit=2, newest_first=False)
        jobs.append(await self.queue())
        second = await self.repository.list_page(cursor=first.next_cursor, limit=10, newest_first=False)
        assert [*first.jobs, *second.jobs] == jobs

    async def test_a_cursor_survives_deleting_its_job(self) -> None:
        jobs = [await self.queue() for _ in range(4)]
        first = await self.repository.list_page(limit=2)
        await self.repository.delete(first.jobs[-1].id)
        second = await self.repository.list_page(cursor=first.next_cursor, limit=2)
        assert list(second.jobs) == [jobs[1], jobs[0]]

    async def test_jobs_can_be_listed_by_status(self) -> None:
        for status in JobStatus:
            await self.queue_as(status, name=status)
        for status in JobStatus:
            assert await self.names(JobFilter(status=frozenset({status}))) == [status]
        both = JobFilter(status=frozenset({JobStatus.QUEUED, JobStatus.ERROR}))
        assert await self.names(both) == ["error", "queued"]

    async def test_jobs_can_be_listed_by_model(self) -> None:
        for model in ("tiny", "tiny.en", "base"):
            await self.queue(model_size=model, name=model)
        assert await self.names(JobFilter(model_size="tiny")) == ["tiny"]

    async def test_jobs_can_be_listed_by_a_part_of_their_name_in_any_case(self) -> None:
        for name in ("Talk one", "second talk", "100%", "100 percent", "a_b", "acb"):
            await self.queue(name=name)
        assert await self.names(JobFilter(name_contains="TALK")) == ["second talk", "Talk one"]
        assert await self.names(JobFilter(name_contains="0%")) == ["100%"], "a sign is a sign, not a pattern"
        assert await self.names(JobFilter(name_contains="a_b")) == ["a_b"]
        assert await self.names(JobFilter(name_contains="")) == await self.names(JobFilter())

    async def test_names_match_regardless_of_case_beyond_ascii(self) -> None:
        await self.queue(name="Ärger in Łódź")
        assert await self.names(JobFilter(name_contains="ärger in łódź")) == ["Ärger in Łódź"]

    @pytest.mark.slow
    async def test_jobs_can_be_listed_by_creation_time(self) -> None:
        noon = self.clocks.now
        for hour in range(4):
            await self.queue(name=str(hour), created_at=noon + timedelta(hours=hour))
        after, before = noon + timedelta(minutes=1), noon + timedelta(hours=3)
        assert await self.names(JobFilter(created_after=after)) == ["3", "2", "1"]
        assert await self.names(JobFilter(created_before=before)) == ["2", "1", "0"]
        assert await self.names(JobFilter(created_after=after, created_before=before)) == ["2", "1"]

    async def test_filters_combine_and_apply_to_every_page(self) -> None:
        for number in range(12):
            await self.queue(name=f"{'even' if number % 2 == 0 else 'odd'} {number}", priority=number)
        for _ in range(3):
            await self.claim()
        wanted = JobFilter(status=frozenset({JobStatus.QUEUED}), name_contains="even")
        pages = await self.pages(wanted, limit=2, newest_first=False)
        assert [[job.name for job in page] for page in pages] == [
            ["even 0", "even 2"],
            ["even 4", "even 6"],
            ["even 8"],
        ]

    async def test_an_invalid_cursor_is_refused(self) -> None:
        for cursor in ("", "x", "-1", "1.5", "١", "1 OR 1"):
            with pytest.raises(QueueError, match="is not a cursor"):
                await self.repository.list_page(cursor=cursor)

    async def test_a_cursor_out_of_range_returns_the_end(self) -> None:
        jobs = [await self.queue()]
        assert (await self.repository.list_page(cursor="9" * 400)).jobs == tuple(jobs)
        assert (await self.repository.list_page(cursor="9" * 400, newest_first=False)).jobs == ()

    async def test_a_limit_below_one_is_refused(self) -> None:
        await self.queue()
        for limit in (0, -1, -2):
            with pytest.raises(QueueError, match="limit"):
                await self.repository.list_page(limit=limit)

    async def test_the_queue_position_is_the_number_of_jobs_ahead(self) -> None:
        low, usual, high, also_usual = [await self.queue(priority=priority) for priority in (-1, 0, 3, 0)]
        places = {job.id: await self.repository.waiting_before(job.id) for job in (low, usual, high, also_usual)}
        assert places == {high.id: 0, usual.id: 1, also_usual.id: 2, low.id: 3}
        await self.claim()
        assert await self.repository.waiting_before(high.id) is None
        assert await self.repository.waiting_before(usual.id) == 0
        assert await self.repository.waiting_before("nobody") is None

    async def test_running_fetches_are_counted_for_jobs_that_wait_to_be_fetched(self) -> None:
        elsewhere = {"source_url": "https://example.org/talk.mp3"}
        at_work = [await self.queue(**elsewhere) for _ in range(3)]
        for _ in at_work:
            assert await self.repository.get_next_queued() is not None
        waiting, here = await self.queue(**elsewhere), await self.queue()
        fetched = await self.queue(**elsewhere, audio_digest="0" * 64, audio_bytes=1)
        ids = [job.id for job in (*at_work, waiting, here, fetched)]
        assert await self.repository.fetches_before(ids) == {waiting.id: 3}

    async def test_jobs_are_counted_for_every_status(self) -> None:
        assert await self.repository.counts() == dict.fromkeys(JobStatus, 0)
        for number, status in enumerate(JobStatus):
            for _ in range(number):
                await self.queue_as(status)
        assert await self.repository.counts() == {status: number for number, status in enumerate(JobStatus)}


class TestListingFromFile(TestListingInMemory):
    in_memory = False
