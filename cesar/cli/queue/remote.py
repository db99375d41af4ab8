"""A service's queue, opened for one command. The service's jobs are converted to the model that commands show.

Its methods are coroutines like those of the local queue, but none awaits an event loop: each request blocks, and
Ctrl-C ends it at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import SerializerFunctionWrapHandler, model_serializer

from cesar.api.models import STORED, Job, JobEvent, JobFilter, JobPage, JobStatus
from cesar.cli.queue.id_prefix import require_min_length, require_unique, require_utf8
from cesar.cli.transcription.reporters import write_stderr
from cesar.client import Client, Event, EventView, JobView
from cesar.errors import CesarError, JobNotFound

if TYPE_CHECKING:
    from cesar.formats.subtitles.cues import SubtitleOptions
    from cesar.settings.config import Settings

T = TypeVar("T")
_PAGE_SIZE = 100
_HIDDEN_FIELDS = (
    *("audio_path", "idempotency_key", "no_cache", "submitter", "seq", "version", "lost", "begun", "losses"),
    *("heartbeat_at", "cancel_requested_at", "generation"),
)
"""Fields of a job that a service does not disclose."""


class RemoteJob(Job):
    """A job from a service. Fields that the service does not disclose are null in JSON."""

    @model_serializer(mode="wrap")
    def _hide_fields(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {**serialize(self), **dict.fromkeys(_HIDDEN_FIELDS)}


class RemoteQueue:
    """The queue of a client's service."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def find(self, id_prefix: str) -> Job:
        """Return the job with this id, or the only one whose id begins with it.

        Raises `JobNotFound` if there is none, `QueueError` if there are several.
        """
        require_utf8(id_prefix)
        if exact := await self.get(id_prefix):
            return exact
        require_min_length(id_prefix)
        page = self._client.jobs(id_prefix=id_prefix, limit=3)
        ids = [view.id for view in page.jobs if view.id.startswith(id_prefix)]
        return job_from_view(self._client.job(require_unique(ids, id_prefix)))

    async def get(self, job_id: str) -> Job | None:
        """Return the job with this id, or None."""
        if "/" in job_id or not job_id:
            return None  # its URL would be that of another resource
        try:
            return job_from_view(self._client.job(job_id))
        except JobNotFound:
            return None

    async def list_jobs(self, filters: JobFilter, *, cursor: str | None, limit: int | None) -> JobPage:
        """Return up to `limit` jobs, newest first; all jobs without a limit."""
        found: list[Job] = []
        while True:
            page = self._client.jobs(
                status=sorted(filters.status),
                model=filters.model_size,
                name=filters.name_contains,
                cursor=cursor,
                limit=_PAGE_SIZE if limit is None else min(_PAGE_SIZE, limit - len(found)),
                include_text=True,
            )
            found += map(job_from_view, page.jobs)
            cursor = page.next_cursor
            if cursor is None or len(found) == limit:
                return JobPage(jobs=tuple(found), next_cursor=cursor)

    async def waiting_before(self, job_id: str) -> int | None:
        """Return the number of jobs ahead of a waiting job; None if it is not waiting."""
        return self._client.job(job_id).queue_position

    async def fetches_before(self, job_ids: Collection[str]) -> Mapping[str, int]:
        """Return the number of fetches in progress, for each of the jobs whose recording is waiting to be fetched."""
        known = {job_id: self._client.job(job_id).fetches_before for job_id in job_ids}
        return {job_id: count for job_id, count in known.items() if count is not None}

    async def events(self, job_id: str) -> Sequence[JobEvent]:
        """Return the changes of a job's status, oldest first."""
        return [_event_from_view(view) for view in self._client.history(job_id)]

    async def render_transcript(self, job: Job, format_name: str | None, subtitles: SubtitleOptions) -> str:
        """Return a job's transcript in a format, or as plain text; until it is completed, what is recognised so far."""
        if format_name is None and job.result_text is not None:
            return f"{job.result_text}\n" if job.result_text else ""
        return self._client.transcript(job.id, format_name or "txt", subtitles=subtitles)

    async def updates(self, job_id: str) -> AsyncIterator[tuple[Job, Sequence[JobEvent]]]:
        """Yield the job after each change, with its new events, until it is finished."""
        job = job_from_view(self._client.job(job_id))
        pending: list[JobEvent] = []
        for event in self._client.events(job_id):
            match event.kind:
                case "status":
                    pending.append(_event_from_view(EventView.model_validate(event.data)))
                    job = job_from_view(self._client.job(job_id))
                    if pending[-1].after is job.status:  # else the job has moved on, and later events will say how
                        yield job, pending
                        pending = []
                case "progress":
                    job = with_progress(job, event)
                    yield job, pending
                    pending = []
                case "deleted":
                    raise JobNotFound(f"the job {job_id} was deleted")
        yield job_from_view(self._client.job(job_id)), pending

    async def has_worker(self) -> bool:
        """Whether a worker is running; True if unknown."""
        return self._client.has_worker()

    async def request_cancel(self, job_id: str) -> Job:
        """Cancel a waiting job at once, a running one as soon as its worker notices."""
        return job_from_view(self._client.cancel(job_id))

    async def retry(self, job_id: str) -> Job:
        """Queue a failed or cancelled job again. Raises `InvalidTransition` for others."""
        return job_from_view(self._client.retry(job_id))

    async def delete(self, job_id: str) -> None:
        """Delete a job and all its data. Raises `InvalidTransition` while it is being processed."""
        self._client.delete(job_id)


def connect(settings: Settings) -> Client:
    """Return a client of the service that the settings name. It reports when it has to wait."""
    assert settings.server is not None
    return Client(settings.server, settings.api_key, on_wait=_report_wait)


def with_service(settings: Settings, work: Callable[[RemoteQueue], Awaitable[T]]) -> T:
    """Await the work with the queue of the service that the settings name."""
    with connect(settings) as client:
        step = cast("Coroutine[Any, Any, T]", work(RemoteQueue(client)))
        try:
            step.send(None)
        except StopIteration as end:
            return cast("T", end.value)
    raise AssertionError("a method of a service's queue awaited an event loop")


def job_from_view(view: JobView) -> RemoteJob:
    """Convert a service's job to the model that commands show."""
    failed = view.error
    fields: dict[str, Any] = {
        **view.model_dump(include=_SHARED_FIELDS),
        "options": view.options.model_dump(),
        "audio_path": None if view.source_url else view.name.strip() or view.id,
        "model_size": view.model,
        "attempt": view.attempts,
        "audio_digest": view.audio_sha256,
        "result_text": view.text,
        "detected_language": view.language,
        "outcome": _outcome_from_view(view),
        # The service says that it was requested, but not when.
        "cancel_requested_at": view.created_at if view.cancel_requested else None,
        "error_code": failed and failed.code,
        "error_message": failed and failed.message,
        "error_hint": (failed and failed.hint) or None,
    }
    return RemoteJob.model_validate(fields, context=STORED)


def with_progress(job: RemoteJob, event: Event) -> RemoteJob:
    """Return the job updated by a `progress` event."""
    names = ("phase", "position", "duration")
    fields: dict[str, Any] = {name: event.data[name] for name in names if name in event.data}
    return job.model_copy(update=fields)


def _outcome_from_view(view: JobView) -> Mapping[str, object] | None:
    if view.status is not JobStatus.COMPLETED:
        return None
    return {
        "duration": view.duration,
        "timings": view.timings,
        "warnings": view.warnings,
        "dropped_s": view.dropped_s,
    }


def _event_from_view(view: EventView) -> JobEvent:
    return JobEvent(**view.model_dump(), owner=None)


def _report_wait(error: CesarError, seconds: float) -> None:
    write_stderr(f"cesar: {error.message}; trying again in {seconds:.0f} s")


_SHARED_FIELDS = set(JobView.model_fields) & set(RemoteJob.model_fields) - {"options"}
