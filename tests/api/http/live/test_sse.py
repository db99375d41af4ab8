"""A job's events, cut and resumed anywhere: whatever its history, each event is sent once and in order."""

from __future__ import annotations

import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from cesar.api.http.live.sse import event_batch
from cesar.api.models import Job, JobEvent, JobStatus, utc_now
from cesar.api.queries.cursor import Cursor, Tail
from cesar.transcript import Chunk, Segment, Span

NOW = utc_now()


def history(job: Job, count: int) -> tuple[JobEvent, ...]:
    """Return state changes, with gaps between their ids; the last one leads to the status of the job."""
    changes = [
        JobEvent(id=3 * n, job_id=job.id, at=NOW, before=None, after=JobStatus.QUEUED, attempt=0, owner=None, reason="")
        for n in range(1, count + 1)
    ]
    return (*changes[:-1], changes[-1].model_copy(update={"after": job.status}))


def chunks_with(counts: list[int]) -> tuple[Chunk, ...]:
    return tuple(
        Chunk(
            start=at * 10.0 + 0.123,
            end=at * 10.0 + 10.123,
            segments=tuple(Segment(at * 10.0 + n, at * 10.0 + n + 1, f"{at}.{n}") for n in range(count)),
            ledger=(Span(at * 10.0, at * 10.0 + 10, "speech"),),
        )
        for at, count in enumerate(counts)
    )


def tail_of(whole: Tail, after: Cursor, limit: int) -> Tail:
    """Return what `JobRepository.tail` would return."""
    if after.generation != whole.job.generation:
        after = Cursor(after.event)
    events = tuple(event for event in whole.events if event.id > after.event)[:limit]
    chunks = tuple(chunk for chunk in whole.chunks if chunk.start > after.chunk_start)[:limit]
    return replace(whole, events=events, chunks=chunks)


def events_after(whole: Tail, after: Cursor, limit: int) -> list[bytes]:
    """Return all events after a cursor, one by one."""
    written = b""
    while True:
        batch = event_batch(tail_of(whole, after, limit), after, limit)
        written += batch.data
        after = batch.cursor
        if batch.is_complete:
            return [event for event in written.split(b"\n\n") if event]


def cursor_of(event: bytes) -> Cursor:
    found = re.search(rb"^id: (.+)$", event, re.MULTILINE)
    assert found is not None
    return Cursor.parse(found[1].decode())


@given(
    status=st.sampled_from(JobStatus),
    event_count=st.integers(1, 7),
    counts=st.lists(st.integers(0, 3), max_size=7),
    limit=st.integers(2, 5),
    generation=st.integers(0, 2),
)
def test_events_are_the_same_wherever_they_are_cut(status, event_count, counts, limit, generation):
    job = Job(audio_path="/talk.wav", status=status, generation=generation)
    whole = Tail(job, history(job, event_count), chunks_with(counts))
    events = events_after(whole, Cursor(), limit)
    assert len(events) == event_count + sum(counts) + status.is_final
    cursors = [cursor_of(event) for event in events]
    assert cursors == sorted(set(cursors))
    for number, cursor in enumerate(cursors):
        assert events_after(whole, cursor, limit) == events[number + 1 :]


@given(limit=st.integers(2, 5), cut=st.integers(0, 9))
def test_segments_of_an_earlier_generation_are_reset_once(limit, cut):
    job = Job(audio_path="/talk.wav", status=JobStatus.PROCESSING)
    whole = Tail(job, history(job, 2), chunks_with([2, 0, 3]))
    place = ([Cursor()] + [cursor_of(event) for event in events_after(whole, Cursor(), limit)])[min(cut, 7)]
    again = replace(whole, job=job.model_copy(update={"generation": 1}))
    events = events_after(again, place, limit)
    resets = [event for event in events if event.startswith(b"event: reset")]
    assert len(resets) == (place.segments > 0)
    assert [event for event in events if b"segment" in event] == [
        event for event in events_after(again, Cursor(), limit) if b"segment" in event
    ]
    for number, event in enumerate(events):
        assert events_after(again, cursor_of(event), limit) == events[number + 1 :]


def test_the_end_comes_after_everything_else():
    job = Job(audio_path="/talk.wav", status=JobStatus.COMPLETED)
    events = events_after(Tail(job, history(job, 3), chunks_with([1] * 9)), Cursor(), 2)
    assert [event.partition(b"\n")[0] for event in events[-3:]] == [b"event: segment", b"event: status", b"event: end"]
