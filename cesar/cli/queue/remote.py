"""A service's queue, as one command uses it: jobs that the service tells of, in the shape that the commands show.

Its verbs are coroutines, as those of the local queue, but none of them ever waits in a loop: each request blocks, and
Ctrl-C ends it at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import SerializerFunctionWrapHandler, model_serializer

from cesar.api.models import STORED, Job, JobEvent, JobFilter, JobPage, JobStatus
from cesar.cli.queue.id_prefix import require_length, require_text, the_only
from cesar.cli.transcription.reporters import write_stderr
from cesar.client import Client, Event, EventView, JobView
from cesar.errors import CesarError, JobNotFound

if TYPE_CHECKING:
    from cesar.formats.subtitles.cues import SubtitleOptions
    from cesar.settings.config import Settings

T = TypeVar("T")
_PAGE = 100
_UNTOLD = (
    *("audio_path", "idempotency_key", "no_cache", "submitter", "seq", "version", "lost", "begun", "losses"),
    *("heartbeat_at", "cancel_requested_at", "generation"),
)
"""The fields of a job that a service keeps to itself."""


class RemoteJob(Job):
    """A job as a service tells of it. Fields that it keeps to itself are null for programs."""

    @model_serializer(mode="wrap")
    def _without_guesses(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {**serialize(self), **dict.fromkeys(_UNTOLD)}


class RemoteQueue:
    """The queue of the service that a client talks to."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def find(self, beginning: str) -> Job:
        """Give the job whose id is this, or the one whose id begins so.

        Raises `JobNotFound` if there is none, `QueueError` if there are several.
        """
        require_text(beginning)
        if exact := await self.get(beginning):
            return exact
        require_length(beginning)
        page = self._client.jobs(id_prefix=beginning, limit=3)
        ids = [view.id for view in page.jobs if view.id.startswith(beginning)]
        return job_of(self._client.job(the_only(ids, beginning)))

    async def get(self, job_id: str) -> Job | None:
        """Give a job, or None if there is none of that id."""
        if "/" in job_id or not job_id:
            return None  # no address could tell it from another page
        try:
            return job_of(self._client.job(job_id))
        except JobNotFound:
            return None

    async def list_jobs(self, wanted: JobFilter, *, cursor: str | None, limit: int | None) -> JobPage:
        """Give up to `limit` jobs, the newest first; all of them without a limit."""
        found: list[Job] = []
        while True:
            page = self._client.jobs(
                status=sorted(wanted.status),
                model=wanted.model_size,
                name=wanted.name_contains,
                cursor=cursor,
                limit=_PAGE if limit is None else min(_PAGE, limit - len(found)),
                include_text=True,
            )
            found += map(job_of, page.jobs)
            cursor = page.next_cursor
            if cursor is None or len(found) == limit:
                return JobPage(jobs=tuple(found), next_cursor=cursor)

    async def waiting_before(self, job_id: str) -> int | None:
        """Count the jobs that go before a waiting one; None if it does not wait."""
        return self._client.job(job_id).queue_position

    async def fetches_before(self, job_ids: Collection[str]) -> Mapping[str, int]:
        """Return the number of fetches under way, for each of the jobs whose own recording waits to be fetched."""
        known = {job_id: self._client.job(job_id).fetches_before for job_id in job_ids}
        return {job_id: count for job_id, count in known.items() if count is not None}

    async def events(self, job_id: str) -> Sequence[JobEvent]:
        """Give the changes of a job's status, the oldest first."""
        return [_event_of(view) for view in self._client.history(job_id)]

    async def text_of(self, job: Job, format_name: str | None, subtitles: SubtitleOptions) -> str:
        """Give a job's transcript in a format, or as plain text; what there is of it, if it is not completed."""
        if format_name is None and job.result_text is not None:
            return f"{job.result_text}\n" if job.result_text else ""
        return self._client.transcript(job.id, format_name or "txt", subtitles=subtitles)

    async def states(self, job_id: str) -> AsyncIterator[tuple[Job, Sequence[JobEvent]]]:
        """Give a job whenever it has changed, with what has happened to it, until it is over."""
        job = job_of(self._client.job(job_id))
        untold: list[JobEvent] = []
        for event in self._client.events(job_id):
            match event.kind:
                case "status":
                    untold.append(_event_of(EventView.model_validate(event.data)))
                    job = job_of(self._client.job(job_id))
                    if untold[-1].after is job.status:  # else the job is further by now, and the next events tell how
                        yield job, untold
                        untold = []
                case "progress":
                    job = with_progress(job, event)
                    yield job, untold
                    untold = []
                case "deleted":
                    raise JobNotFound(f"the job {job_id} was deleted")
        yield job_of(self._client.job(job_id)), untold

    async def has_worker(self) -> bool:
        """Whether anybody does the jobs; true also where that can't be told."""
        return self._client.has_worker()

    async def request_cancel(self, job_id: str) -> Job:
        """Cancel a waiting job at once, a running one as soon as its worker hears of it."""
        return job_of(self._client.cancel(job_id))

    async def retry(self, job_id: str) -> Job:
        """Queue a failed or cancelled job again. Raises `IllegalMove` for others."""
        return job_of(self._client.retry(job_id))

    async def delete(self, job_id: str) -> None:
        """Remove a job and all that is stored of it. Raises `IllegalMove` while it is being processed."""
        self._client.delete(job_id)


def connect(settings: Settings) -> Client:
    """Give a client of the service that the settings name; it says when it has to wait."""
    assert settings.server is not None
    return Client(settings.server, settings.api_key, on_wait=_tell_of_wait)


def in_service(settings: Settings, work: Callable[[RemoteQueue], Awaitable[T]]) -> T:
    """Do some work with the queue of the service that the settings name."""
    with connect(settings) as client:
        step = cast("Coroutine[Any, Any, T]", work(RemoteQueue(client)))
        try:
            step.send(None)
        except StopIteration as end:
            return cast("T", end.value)
    raise AssertionError("a verb of a service's queue waited for a loop")


def job_of(view: JobView) -> RemoteJob:
    """Give a job in the shape that the commands show."""
    failed = view.error
    told: dict[str, Any] = {
        **view.model_dump(include=_SAME),
        "options": view.options.model_dump(),
        "audio_path": view.source_url or view.name.strip() or view.id,
        "model_size": view.model,
        "attempt": view.attempts,
        "audio_digest": view.audio_sha256,
        "result_text": view.text,
        "detected_language": view.language,
        "outcome": _outcome_of(view),
        # When it was asked for is not told, only that it was.
        "cancel_requested_at": view.created_at if view.cancel_requested else None,
        "error_code": failed and failed.code,
        "error_message": failed and failed.message,
        "error_hint": (failed and failed.hint) or None,
    }
    return RemoteJob.model_validate(told, context=STORED)


def with_progress(job: RemoteJob, event: Event) -> RemoteJob:
    """Bring a job up to date with a `progress` event."""
    told: dict[str, Any] = {name: event.data[name] for name in ("phase", "position", "duration") if name in event.data}
    return job.model_copy(update=told)


def _outcome_of(view: JobView) -> Mapping[str, object] | None:
    if view.status is not JobStatus.COMPLETED:
        return None
    return {
        "duration": view.duration,
        "timings": view.timings,
        "warnings": view.warnings,
        "dropped_s": view.dropped_s,
    }


def _event_of(view: EventView) -> JobEvent:
    return JobEvent(**view.model_dump(), owner=None)


def _tell_of_wait(error: CesarError, seconds: float) -> None:
    write_stderr(f"cesar: {error.message}; trying again in {seconds:.0f} s")


_SAME = set(JobView.model_fields) & set(RemoteJob.model_fields) - {"options"}
