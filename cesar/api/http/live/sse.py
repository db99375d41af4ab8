"""The history of a job since a cursor, encoded as server-sent events (WHATWG HTML, 9.2).

Pure: values in, bytes out. The id of each stored event is the cursor after it, so that a client resumes exactly there,
even in the middle of a chunk.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from pydantic import BaseModel, Field

from cesar.api.http.schemas import event_view, job_view
from cesar.api.models import Job, JobEvent, JobStatus
from cesar.api.queries.cursor import Cursor, Tail
from cesar.transcript import Chunk, Phase

PING = b": ping\n\n"
RETRY = b"retry: 1000\n\n"
"""Tells clients to reconnect a second after a connection breaks."""
_LINE_ENDS = {ord(mark): f"\\u{ord(mark):04x}" for mark in "\x85\u2028\u2029"}
"""Characters that many programs take for line ends, against the standard. In JSON they occur in strings only."""


class WordView(BaseModel):
    """A word, with its times in seconds from the start of the recording."""

    start: float
    end: float
    text: str
    probability: float


class SegmentView(BaseModel):
    """A recognised segment: the data of the event `segment`."""

    n: int = Field(description="Number of the segment in the job, from 0; from 0 again after `reset`.")
    start: float = Field(description="In seconds from the start of the recording.")
    end: float
    text: str
    words: list[WordView] = Field(description="Empty unless word timestamps were requested.")
    avg_logprob: float = Field(description="Mean log-probability of its tokens.")
    compression_ratio: float = Field(description="Above 2.4 the text repeats itself.")
    no_speech_prob: float
    temperature: float = Field(description="The sampling temperature; 0: greedy or beam search.")
    seek: int = Field(description="The frame, at 100 a second, at which its decoding window starts.")
    tokens: list[int] = Field(description="The text as token ids of the model.")
    token_logprobs: list[float] = Field(description="One for each token; empty unless requested.")
    token_bytes: list[str] = Field(description="The bytes of each token, in hexadecimal; empty unless requested.")
    language: str = Field(description="The language of its text; empty if an earlier version recognised it.")


class ProgressView(BaseModel):
    """The progress of a job: the data of the event `progress`."""

    job_id: str
    status: JobStatus
    phase: Phase | None = Field(description="The current step, while the status is `processing`.")
    progress: float = Field(description="The fraction that has been recognised, 0 to 1.")
    position: float = Field(description="Everything before this second of the recording has been recognised.")
    duration: float | None = Field(description="Length of the recording in seconds; null while it is unknown.")
    fetched_bytes: int = Field(description="How much has been fetched from `source_url`.")
    audio_bytes: int | None = Field(description="Size of the recording; null while it is unknown.")
    queue_position: int | None = Field(description="Number of jobs ahead of it; null if it isn't waiting.")


class ResetView(BaseModel):
    """The job was restarted: the data of the event `reset`."""

    job_id: str
    generation: int


class DeletedView(BaseModel):
    """The job was deleted: the data of the event `deleted`."""

    job_id: str


@dataclass(frozen=True, slots=True)
class EventBatch:
    """The events of a job since a cursor."""

    data: bytes
    """The encoded events."""
    cursor: Cursor
    """The cursor after them."""
    progress: ProgressView
    is_complete: bool
    """Whether these are all events so far."""

    @property
    def is_finished(self) -> bool:
        """Whether no more events can follow: the job has finished, and its end is among those sent."""
        return self.is_complete and self.cursor.is_end


def format_event(
    name: str, view: BaseModel, event_id: object = None, *, without: frozenset[str] = frozenset()
) -> bytes:
    r"""Return one encoded event. Compact JSON has no line breaks, as those in strings are escaped.

    >>> format_event("deleted", DeletedView(job_id="7"), 12)
    b'event: deleted\nid: 12\ndata: {"job_id":"7"}\n\n'
    """
    id_line = f"id: {event_id}\n" if event_id is not None else ""
    data = view.model_dump_json(exclude=set(without)).translate(_LINE_ENDS)
    return f"event: {name}\n{id_line}data: {data}\n\n".encode()


def event_batch(tail: Tail, after: Cursor, limit: int) -> EventBatch:
    """Encode what follows a cursor, as read by `JobRepository.tail` with this limit (at least 2).

    State changes come first, then segments; the change that ended the job, and `end`, come after everything else.
    """
    job, events = tail.job, tail.events
    last = events[-1:] if job.status.is_final else ()
    is_complete = len(events) < limit and len(tail.chunks) < limit
    encoder = _Encoder(after)
    encoder.require_generation(job)
    for event in events[: len(events) - len(last)]:
        encoder.write_event(event)
    for chunk in tail.chunks if len(events) < limit else ():  # so that the order does not depend on the limit
        encoder.write_chunk(chunk)
    if is_complete and job.status.is_final:
        for event in last:
            encoder.write_event(event)
        encoder.write_end(job)
    return EventBatch(bytes(encoder.data), encoder.cursor, progress_of(job), is_complete)


def progress_of(job: Job) -> ProgressView:
    """Return the progress of a job, without its queue position."""
    return ProgressView(
        job_id=job.id,
        status=job.status,
        phase=job.phase if job.status is JobStatus.PROCESSING else None,
        progress=round(job.progress, 4),
        position=job.position,
        duration=job.duration,
        fetched_bytes=job.fetched_bytes,
        audio_bytes=job.audio_bytes,
        queue_position=None,
    )


class _Encoder:
    """Encodes events, and keeps the cursor after them."""

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.data = bytearray()

    def require_generation(self, job: Job) -> None:
        """Write `reset` if segments of an earlier generation were sent."""
        if job.generation == self.cursor.generation:
            return
        has_segments = self.cursor.segments > 0
        self.cursor = Cursor(self.cursor.event, job.generation)
        if has_segments:
            self._write("reset", ResetView(job_id=job.id, generation=job.generation))

    def write_event(self, event: JobEvent) -> None:
        self.cursor = replace(self.cursor, event=event.id, is_end=False)
        self._write("status", event_view(event))

    def write_chunk(self, chunk: Chunk) -> None:
        """Write the segments after the cursor."""
        finished = replace(self.cursor, chunk_start=chunk.start, segment_offset=0)
        for segment in chunk.segments[self.cursor.segment_offset :]:
            n, segment_offset = self.cursor.segments, self.cursor.segment_offset + 1
            after = (
                finished
                if segment_offset == len(chunk.segments)
                else replace(self.cursor, segment_offset=segment_offset)
            )
            self.cursor = replace(after, segments=n + 1)
            self._write("segment", SegmentView.model_validate({"n": n, **asdict(segment)}))
        self.cursor = replace(finished, segments=self.cursor.segments)

    def write_end(self, job: Job) -> None:
        if not self.cursor.is_end:
            self.cursor = replace(self.cursor, is_end=True)
            self._write("end", job_view(job), without=frozenset({"text"}))

    def _write(self, name: str, view: BaseModel, *, without: frozenset[str] = frozenset()) -> None:
        self.data += format_event(name, view, self.cursor, without=without)
