"""Server-sent events, over real connections."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import asdict
from unittest.mock import patch

import pytest

from cesar.api.models import Job, JobStatus
from cesar.api.queue.api_keys import KeyRing, Scope
from cesar.api.repository import JobRepository
from cesar.transcript import Chunk, Segment, Span, Word
from tests.api.http.live_support import LiveCase, ReceivedEvent, until
from tests.api.http.support import require_problem
from tests.api.support import PATIENCE_S, chunk, eventually


def chunk_of(start: float, *texts: str) -> Chunk:
    """A chunk of 10 s with as many segments as texts."""
    segments = tuple(Segment(start + n, start + n + 1, text) for n, text in enumerate(texts))
    return Chunk(start, start + 10, segments, (Span(start, start + 10, "speech"),))


CHUNKS = (chunk_of(0, "One.", "Two."), chunk_of(10), chunk_of(20, "Three."), chunk_of(30, "Four.", "Five.", "Six."))


def texts(events: list[ReceivedEvent]) -> list[str]:
    return [told.data["text"] for told in events if told.kind == "segment"]


class TestJobStream(LiveCase):
    async def running_job(self, *chunks: Chunk) -> Job:
        """Queue a job, claim it, and commit these chunks of it."""
        await self.queue()
        job = await self.repository.get_next_queued()
        assert job is not None
        await self.repository.resume(job, "this work")
        for finished in chunks:
            await self.repository.checkpoint(job, finished)
        return job

    async def end(self, job: Job, status: JobStatus = JobStatus.COMPLETED) -> None:
        job.status, job.result_text = status, "All of the text."
        await self.repository.update(job)

    async def with_history(self) -> Job:
        """A completed job that was given back in its middle."""
        job = await self.running_job(*CHUNKS[:2])
        await self.repository.release(job)
        again = await self.repository.get_next_queued()
        assert again is not None
        for finished in CHUNKS[2:]:
            await self.repository.checkpoint(again, finished)
        await self.end(again)
        return again

    async def test_a_job_is_streamed_from_its_creation_to_its_end(self):
        job = await self.with_history()
        events = await self.all_events(f"/jobs/{job.id}/events")
        assert [told.kind for told in events] == ["status"] * 4 + ["segment"] * 6 + ["status", "end"]
        assert [told.data["after"] for told in events if told.kind == "status"] == [
            "queued",
            "processing",
            "queued",
            "processing",
            "completed",
        ]
        assert [told.data["n"] for told in events if told.kind == "segment"] == list(range(6))
        assert texts(events) == ["One.", "Two.", "Three.", "Four.", "Five.", "Six."]
        assert events[-1].data["status"] == "completed"
        assert "text" not in events[-1].data, "it may be long, and was told"
        assert str(self.folder) not in str(events)

    async def test_a_cut_after_any_event_loses_and_repeats_nothing(self):
        path = f"/jobs/{(await self.with_history()).id}/events"
        whole = await self.stored_events(path)
        assert len({told.last_id for told in whole}) == len(whole) == 12
        for number, told in enumerate(whole[:-1]):
            assert await self.stored_events(path, told.last_id) == whole[number + 1 :], told

    @pytest.mark.slow
    async def test_a_client_cut_after_every_event_of_a_running_job_receives_each_once(self):
        job = await self.running_job()
        path = f"/jobs/{job.id}/events"

        async def follow() -> list[ReceivedEvent]:
            heard = [await self.first_stored(path)]
            while heard[-1].kind != "end":
                heard.append(await self.first_stored(path, heard[-1].last_id))
            return heard

        following = asyncio.create_task(follow())
        for finished in CHUNKS:
            await self.repository.checkpoint(job, finished)
            await asyncio.sleep(0)
        await self.end(job)
        assert await following == await self.stored_events(path)

    async def test_a_segment_is_sent_with_its_words_once_committed(self):
        job = await self.running_job()
        async with aclosing(self.events(f"/jobs/{job.id}/events")) as events:
            await until(events, "progress")
            words = (Word(0.0, 0.5, "Some", 0.9), Word(0.5, 1.0, "words.", 0.8))
            segment = Segment(0.0, 1.0, "Some words.\nTwo lines\u2028and more.", words)
            await self.repository.checkpoint(job, Chunk(0, 1, (segment,), (Span(0, 1, "speech"),)))
            told = await until(events, "segment")
        assert told.data == {"n": 0, **json.loads(json.dumps(asdict(segment)))}

    async def test_progress_has_no_id_and_is_sent_only_when_changed(self):
        job = await self.running_job()
        async with aclosing(self.events(f"/jobs/{job.id}/events")) as events:
            first = await until(events, "progress")
            assert not first.has_id
            await self.repository.heartbeat(job)
            job.phase, job.position, job.duration = "recognising", 5.0, 40.0
            await self.repository.heartbeat(job)
            second = await until(events, "progress")
        assert second.data == first.data | {
            "phase": "recognising",
            "position": 5.0,
            "duration": 40.0,
            "progress": 0.125,
        }

    async def test_a_restarted_job_resets_its_segments(self):
        job = await self.running_job(CHUNKS[0])
        path = f"/jobs/{job.id}/events"
        async with aclosing(self.events(path)) as events:
            last = await until(events, "segment", n=1)
            await self.repository.resume(job, "other work")
            reset = await until(events, "reset")
            assert reset.data == {"job_id": job.id, "generation": 1}
            await self.repository.checkpoint(job, chunk_of(0, "Another one."))
            told = await until(events, "segment")
            assert (told.data["n"], told.data["text"]) == (0, "Another one.")
        await self.end(job)
        kinds = ["reset", "segment", "status", "end"]
        assert [told.kind for told in await self.stored_events(path, last.last_id)] == kinds
        assert [told.kind for told in await self.stored_events(path, reset.last_id)] == kinds[1:]
        assert "reset" not in [told.kind for told in await self.stored_events(path)], "who comes new need not know"

    async def test_a_client_that_has_received_the_end_gets_204_which_stops_a_browser(self):
        job = await self.running_job()
        await self.end(job, JobStatus.ERROR)
        path = f"/jobs/{job.id}/events"
        *_, last = await self.stored_events(path)
        answer = await self.client.get(path, headers={"Last-Event-ID": last.last_id})
        assert (answer.status_code, answer.content) == (204, b"")
        await self.repository.retry(job.id)
        told = await self.first_stored(path, last.last_id)
        assert told.data["reason"] == "retried by hand", "it goes on with a job that goes on"

    async def test_a_deleted_job_sends_deleted_and_is_then_404(self):
        job = await self.queue()
        path = f"/jobs/{job.id}/events"
        async with aclosing(self.events(path)) as events:
            told = await until(events, "status")
            await self.repository.delete(job.id)
            deleted = await until(events, "deleted")
            assert (deleted.data, deleted.has_id) == ({"job_id": job.id}, False)
            assert [told async for told in events] == []
        answer = await self.client.get(path, headers={"Last-Event-ID": told.last_id})
        require_problem(answer, 404, "job_not_found")

    async def test_a_queued_job_reports_its_queue_position(self):
        _, second, third = [await self.queue() for _ in range(3)]
        async with aclosing(self.events(f"/jobs/{third.id}/events")) as events:
            await until(events, "progress", queue_position=2)
            await self.repository.get_next_queued()
            await until(events, "progress", queue_position=1)
            await self.repository.delete(second.id)
            told = await until(events, "progress", queue_position=0)
            assert told.data["status"] == "queued"
            await self.repository.get_next_queued()
            await until(events, "progress", status="processing", queue_position=None)

    async def test_the_stream_of_an_unfinished_job_ends_when_the_service_stops(self):
        job = await self.running_job()
        async with aclosing(self.events(f"/jobs/{job.id}/events")) as events:
            await until(events, "progress")
            await self.service.stop()
            async with asyncio.timeout(PATIENCE_S):
                assert [told async for told in events] == []

    async def test_the_cursor_may_be_in_the_query_and_the_header_takes_precedence(self):
        job = await self.with_history()
        path = f"/jobs/{job.id}/events"
        whole = await self.stored_events(path)
        assert await self.stored_events(f"{path}?last_event_id={whole[7].last_id}") == whole[8:]
        assert await self.stored_events(f"{path}?last_event_id={whole[7].last_id}", whole[9].last_id) == whole[10:]

    @pytest.mark.slow
    async def test_an_invalid_cursor_is_refused(self):
        job = await self.queue()
        for wrong in ("12", "x-0-0-0-0", "1-0-0-0-0-0", "9" * 19 + "-0-0-0-0"):
            answer = await self.client.get(f"/jobs/{job.id}/events", headers={"Last-Event-ID": wrong})
            require_problem(answer, 400, "bad_request")
        require_problem(await self.client.get("/events?last_event_id=1-0"), 400, "bad_request")
        require_problem(await self.client.get("/jobs/none/events"), 404, "job_not_found")

    async def test_a_disconnected_client_has_no_subscription(self):
        job = await self.queue()
        async with aclosing(self.events(f"/jobs/{job.id}/events")) as events:
            await until(events, "status")
            assert self.service.hub._wakes
        await eventually(lambda: not self.service.hub._wakes)

    async def test_head_returns_the_headers_and_subscribes_to_nothing(self):
        job = await self.queue()
        answer = await self.client.head(f"/jobs/{job.id}/events")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        assert not self.service.hub._wakes

    @pytest.mark.slow
    async def test_two_hundred_subscribers_of_a_job_receive_every_event(self):
        job = await self.running_job(CHUNKS[0])
        path = f"/jobs/{job.id}/events"
        async with asyncio.TaskGroup() as group:
            watching = [group.create_task(self.stored_events(path)) for _ in range(200)]
            await eventually(lambda: len(self.service.hub._wakes.get(job.id, ())) == 200)
            for finished in CHUNKS[1:]:
                await self.repository.checkpoint(job, finished)
            await self.end(job)
        assert {tuple(texts(task.result())) for task in watching} == {
            ("One.", "Two.", "Three.", "Four.", "Five.", "Six.")
        }


class TestIdleStream(LiveCase):
    def setUp(self) -> None:
        super().setUp()
        self.enterContext(patch("cesar.api.http.live.streams.PING_EVERY_S", 0.05))

    async def test_an_idle_stream_sends_comments(self):
        job = await self.queue()
        async with self.client.stream("GET", f"/jobs/{job.id}/events") as answer, asyncio.timeout(PATIENCE_S):
            async for line in answer.aiter_lines():
                if line == ": ping":
                    break
            else:
                raise AssertionError("no comment came")


class TestKeys(LiveCase):
    overrides = {"require_key": True}  # noqa: RUF012 - as in ServiceCase

    def setUp(self) -> None:
        super().setUp()
        self.enterContext(patch("cesar.api.http.live.streams.PING_EVERY_S", 0.05))

    @pytest.mark.slow
    async def test_jobs_of_others_are_not_streamed(self):
        mine, theirs = await self.key("mine"), await self.key("theirs")
        admin = await self.key("admin", Scope.ADMIN)
        my_id, their_id = [key.id for key in await self.service.keys.list()][:2]
        async with (
            aclosing(self.events("/events", headers=mine)) as my_events,
            aclosing(self.events("/events", headers=admin)) as all_events,
        ):
            reading = asyncio.gather(anext(my_events), anext(all_events))
            await eventually(lambda: len(self.service.hub._wakes.get(None, ())) == 2)
            other = await self.queue(submitter=their_id)
            own = await self.queue(submitter=my_id)
            told, told_admin = await asyncio.wait_for(reading, PATIENCE_S)
            assert told.data["job_id"] == own.id
            assert told_admin.data["job_id"] == other.id
            assert (await until(all_events, "status", job_id=own.id)).last_id == told.last_id
        answer = await self.client.get(f"/jobs/{other.id}/events", headers=mine)
        require_problem(answer, 404, "job_not_found")
        assert (await self.client.head(f"/jobs/{other.id}/events", headers=theirs)).status_code == 200

    async def test_the_idle_stream_of_a_revoked_key_ends_before_the_next_ping(self):
        self.enterContext(patch("cesar.api.http.live.streams.PING_EVERY_S", 3600.0))
        mine = await self.key("mine")
        async with self.client.stream("GET", "/events", headers=mine) as answer:
            lines = answer.aiter_lines()
            await anext(lines)
            elsewhere = JobRepository(self.settings.database_location)  # as `cesar keys revoke` has it
            await elsewhere.connect()
            await KeyRing(elsewhere.database).revoke("mine")
            await elsewhere.close()
            async with asyncio.timeout(PATIENCE_S):
                assert "event: end" not in [line async for line in lines]

    async def test_a_revoked_key_receives_no_more_events(self):
        mine = await self.key("mine")
        [key] = await self.service.keys.list()
        job = await self.queue(submitter=key.id)
        async with aclosing(self.events(f"/jobs/{job.id}/events", headers=mine)) as events:
            await until(events, "status")
            await self.service.keys.revoke("mine")
            async with asyncio.timeout(PATIENCE_S):
                assert "end" not in [told.kind async for told in events]


class TestStreamOfAllJobs(LiveCase):
    async def test_all_jobs_are_streamed_from_now_on_and_resumed_after_a_cut(self):
        before = await self.queue()
        async with aclosing(self.events("/events")) as events:
            reading = asyncio.ensure_future(anext(events))
            await eventually(lambda: self.service.hub._wakes.get(None))
            job = await self.queue()
            told = await asyncio.wait_for(reading, PATIENCE_S)
            assert (told.kind, told.data["job_id"], told.data["after"]) == ("status", job.id, "queued")
        await self.repository.request_cancel(before.id)
        await self.repository.request_cancel(job.id)
        async with aclosing(self.events("/events", told.last_id)) as events:
            assert [(await anext(events)).data["job_id"] for _ in range(2)] == [before.id, job.id]
        async with aclosing(self.events("/events", "0")) as events:
            found = [await anext(events) for _ in range(4)]
        assert [int(told.last_id) for told in found] == sorted({told.data["id"] for told in found})

    async def test_more_events_than_one_batch_are_all_sent(self):
        job = await self.queue()
        with patch("cesar.api.http.live.streams._EVENTS_AT_ONCE", 2):
            for _ in range(3):
                await self.repository.request_cancel(job.id)
                await self.repository.retry(job.id)
            async with aclosing(self.events("/events", "0")) as events:
                found = [await anext(events) for _ in range(7)]
        assert [told.data["after"] for told in found] == ["queued", *["cancelled", "queued"] * 3]

    async def test_a_cursor_is_sent_before_the_first_event(self):
        await self.queue()
        async with self.client.stream("GET", "/events") as answer:
            async for line in answer.aiter_lines():
                if line.startswith("id: "):
                    break
        assert line == f"id: {await self.repository.last_event()}"

    async def test_running_jobs_send_their_progress(self):
        await self.queue()
        async with aclosing(self.events("/events")) as events:
            reading = asyncio.ensure_future(until(events, "progress"))
            await eventually(lambda: self.service.hub._wakes.get(None))
            job = await self.repository.get_next_queued()
            assert job is not None
            told = await reading
            assert (told.data["job_id"], told.has_id) == (job.id, False)
            job.position, job.duration = 5.0, 40.0
            await self.repository.checkpoint(job, chunk(0, 5))
            await until(events, "progress", position=5.0)
