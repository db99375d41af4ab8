"""What has happened to a job since a cursor, written down as server-sent events (WHATWG HTML, 9.2).

Pure: what is to be told comes in, bytes go out. Each event that is stored has an id, and the id is the cursor of what
somebody has who has got that event: so that it goes on exactly there, even in the middle of a chunk.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from pydantic import BaseModel, Field

from cesar.api.http.schemas import event_view, view_of
from cesar.api.models import Job, JobEvent, JobStatus
from cesar.api.queue.cursor import Cursor, Tail
from cesar.transcript import Chunk, Phase

PING = b": ping\n\n"
RETRY = b"retry: 1000\n\n"
"""A broken connection is to be opened again after a second."""
_ENDS_LINES = {ord(mark): f"\\u{ord(mark):04x}" for mark in "\x85\u2028\u2029"}
"""Marks that end a line for many programs, if not by the standard. In JSON they stand in strings only."""


class WordView(BaseModel):
    """A word, with its times in seconds from the start of the recording."""

    start: float
    end: float
    text: str
    probability: float


class SegmentView(BaseModel):
    """A segment that is recognised: the data of the event `segment`."""

    n: int = Field(description="Counts the job's segments, from 0; from 0 again after `reset`.")
    start: float = Field(description="In seconds from the start of the recording.")
    end: float
    text: str
    words: list[WordView] = Field(description="Empty unless words were asked for.")
    avg_logprob: float = Field(description="Mean log-probability of its tokens.")
    compression_ratio: float = Field(description="Above 2.4 the text repeats itself.")
    no_speech_prob: float
    temperature: float = Field(description="What its tokens were drawn at; 0: without dice.")
    seek: int = Field(description="The frame, of 100 a second, at which the window of its decoding begins.")
    tokens: list[int] = Field(description="The text in the model's own tokens.")
    token_logprobs: list[float] = Field(description="Of each token; empty unless asked for.")
    token_bytes: list[str] = Field(description="What each token says, in hexadecimal; empty unless asked for.")
    language: str = Field(description="The language of its text; empty if an earlier version recognised it.")


class ProgressView(BaseModel):
    """How far a job has come: the data of the event `progress`."""

    job_id: str
    status: JobStatus
    phase: Phase | None = Field(description="What is being done, while the status is `processing`.")
    progress: float = Field(description="The part that is recognised, 0 to 1.")
    position: float = Field(description="Everything before this second of the recording is recognised.")
    duration: float | None = Field(description="Length of the recording in seconds; null while it is unknown.")
    fetched_bytes: int = Field(description="How much has been fetched from `source_url`.")
    audio_bytes: int | None = Field(description="Size of the recording; null while it is unknown.")
    queue_position: int | None = Field(description="How many jobs go before it; null if it isn't waiting.")


class ResetView(BaseModel):
    """The job is begun anew: the data of the event `reset`."""

    job_id: str
    generation: int


class DeletedView(BaseModel):
    """The job is no more: the data of the event `deleted`."""

    job_id: str


@dataclass(frozen=True, slots=True)
class News:
    """What has happened to a job since a cursor."""

    written: bytes
    """The events, as they are sent."""
    cursor: Cursor
    """What somebody has who has got them."""
    progress: ProgressView
    is_whole: bool
    """Whether that is all."""

    @property
    def is_over(self) -> bool:
        """Whether nothing comes after that: the job is over, and that was told."""
        return self.is_whole and self.cursor.is_end


def written(name: str, view: BaseModel, event_id: object = None, *, without: frozenset[str] = frozenset()) -> bytes:
    r"""Write one event. JSON has no line breaks outside of its strings, and in them they are escaped.

    >>> written("deleted", DeletedView(job_id="7"), 12)
    b'event: deleted\nid: 12\ndata: {"job_id":"7"}\n\n'
    """
    told = f"id: {event_id}\n" if event_id is not None else ""
    data = view.model_dump_json(exclude=set(without)).translate(_ENDS_LINES)
    return f"event: {name}\n{told}data: {data}\n\n".encode()


def news_of(tail: Tail, after: Cursor, limit: int) -> News:
    """Write down what has come after a cursor, of which `JobRepository.tail` has given `limit` at most (2 at least).

    State changes come first, then segments; the change that ended the job, and `end`, come when all else is told.
    """
    job, events = tail.job, tail.events
    last = events[-1:] if job.status.is_final else ()
    is_whole = len(events) < limit and len(tail.chunks) < limit
    telling = _Telling(after)
    telling.require_generation(job)
    for event in events[: len(events) - len(last)]:
        telling.tell_event(event)
    for chunk in tail.chunks if len(events) < limit else ():  # so that the order is the same wherever it is cut
        telling.tell_chunk(chunk)
    if is_whole and job.status.is_final:
        for event in last:
            telling.tell_event(event)
        telling.tell_end(job)
    return News(bytes(telling.written), telling.cursor, progress_of(job), is_whole)


def progress_of(job: Job) -> ProgressView:
    """Say how far a job has come; its place in the queue is not known here."""
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


class _Telling:
    """The events so far, and the cursor after them."""

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.written = bytearray()

    def require_generation(self, job: Job) -> None:
        """Take back what was told of segments, if it is not of this generation."""
        if job.generation == self.cursor.generation:
            return
        has_segments = self.cursor.segments > 0
        self.cursor = Cursor(self.cursor.event, job.generation)
        if has_segments:
            self._tell("reset", ResetView(job_id=job.id, generation=job.generation))

    def tell_event(self, event: JobEvent) -> None:
        self.cursor = replace(self.cursor, event=event.id, is_end=False)
        self._tell("status", event_view(event))

    def tell_chunk(self, chunk: Chunk) -> None:
        """Tell the segments from where the cursor stands."""
        finished = replace(self.cursor, chunk_start=chunk.start, segment_offset=0)
        for segment in chunk.segments[self.cursor.segment_offset :]:
            n, segment_offset = self.cursor.segments, self.cursor.segment_offset + 1
            place = (
                finished
                if segment_offset == len(chunk.segments)
                else replace(self.cursor, segment_offset=segment_offset)
            )
            self.cursor = replace(place, segments=n + 1)
            self._tell("segment", SegmentView.model_validate({"n": n, **asdict(segment)}))
        self.cursor = replace(finished, segments=self.cursor.segments)

    def tell_end(self, job: Job) -> None:
        if not self.cursor.is_end:
            self.cursor = replace(self.cursor, is_end=True)
            self._tell("end", view_of(job), without=frozenset({"text"}))

    def _tell(self, name: str, view: BaseModel, *, without: frozenset[str] = frozenset()) -> None:
        self.written += written(name, view, self.cursor, without=without)
