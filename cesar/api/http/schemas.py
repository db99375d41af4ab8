"""Response schemas: jobs as callers see them, without any paths of this machine."""

from __future__ import annotations

import re
from pathlib import PurePath

from pydantic import AwareDatetime, BaseModel, Field

from cesar.api.http.option_fields import with_response_fields
from cesar.api.models import Job, JobEvent, JobStatus
from cesar.models.catalog import CATALOG, script_of
from cesar.transcript import Phase

_PATH = re.compile(
    r"(?<=')(?:/|[A-Za-z]:\\)[^'\n]*[/\\][^'\n]*(?=')"
    r"|(?<![\w:/.\]])(?:/|[A-Za-z]:\\)[^\s'\"`:,;)/\\]+[/\\][^\s'\"`:,;)]*"
)
"""An absolute path of at least two parts, with spaces if it is quoted; not the path of a URL."""


class OptionsView(with_response_fields(BaseModel), BaseModel):  # type: ignore[misc]  # a field for each option
    """The options of the job."""


class ErrorView(BaseModel):
    """Why a job failed; for a job that was queued again, why its last attempt failed."""

    code: str = Field(description="Stable: programs may rely on it.")
    message: str
    hint: str


class JobView(BaseModel):
    """A job."""

    id: str
    name: str = Field(description="The recording's name.")
    status: JobStatus
    phase: Phase | None = Field(description="The current step, while the status is `processing`.")
    progress: float = Field(description="The fraction that has been recognised, 0 to 1.")
    position: float = Field(description="Everything before this second of the recording has been recognised.")
    duration: float | None = Field(description="Length of the recording in seconds; null while it is unknown.")
    queue_position: int | None = Field(
        default=None, description="Number of jobs ahead of it; null if it isn't waiting."
    )
    fetches_before: int | None = Field(
        default=None,
        description="Number of other recordings being fetched while this one waits to be; jobs behind it may overtake "
        "it meanwhile. Null if it isn't waiting, or its recording has been fetched.",
    )
    eta_s: float | None = Field(default=None, description="Estimated seconds until it has finished; null if unknown.")
    model: str
    options: OptionsView
    priority: int
    source_url: str | None = Field(description="The address that the recording is fetched from.")
    audio_bytes: int | None = Field(description="Size of the recording.")
    audio_sha256: str | None
    fetched_bytes: int = Field(description="How much of it has been fetched from `source_url`.")
    attempts: int = Field(description="Number of times that a worker has started it.")
    failures: int = Field(description="Number of times that it failed and was retried.")
    created_at: AwareDatetime
    started_at: AwareDatetime | None
    completed_at: AwareDatetime | None
    run_after: AwareDatetime | None = Field(description="It will not start before this time.")
    cancel_requested: bool
    language: str | None = Field(description="The spoken language; null until the job has completed.")
    text: str | None = Field(
        description="The text; null until the job has completed, and in lists without `include=text`."
    )
    error: ErrorView | None
    cached_from: str | None = Field(description="The job whose stored result this one got.")
    timings: dict[str, float] = Field(description="Seconds spent in each stage.")
    warnings: list[str] = Field(description="Warnings about the text: above all, what was dropped, and why.")
    dropped_s: float | None = Field(
        default=None, description="Seconds of speech without text; null until the job has completed."
    )


class JobsView(BaseModel):
    """A page of a list of jobs."""

    jobs: list[JobView]
    next_cursor: str | None = Field(description="The cursor of the next page; null on the last page.")


class EventView(BaseModel):
    """A change of a job's status."""

    id: int
    job_id: str
    at: AwareDatetime
    before: JobStatus | None
    after: JobStatus
    attempt: int
    reason: str


def job_view(job: Job, *, queue_position: int | None = None, eta_s: float | None = None) -> JobView:
    """Return the view of a job."""
    outcome = job.outcome or {}
    return JobView(
        id=job.id,
        name=job.name,
        status=job.status,
        phase=job.phase if job.status is JobStatus.PROCESSING else None,
        progress=round(job.progress, 4),
        position=job.position,
        duration=outcome.get("duration") or job.duration,
        queue_position=queue_position,
        eta_s=eta_s,
        model=model_name(job.model_size),
        options=OptionsView(**job.options.to_dict()),
        priority=job.priority,
        source_url=job.source_url,
        audio_bytes=job.audio_bytes,
        audio_sha256=job.audio_digest,
        fetched_bytes=job.fetched_bytes,
        attempts=job.attempt,
        failures=job.failures,
        created_at=job.created_at,
        started_at=job.started_at,
        completed_at=job.completed_at,
        run_after=job.run_after,
        cancel_requested=job.cancel_requested_at is not None,
        language=job.detected_language,
        text=job.result_text,
        error=_error_of(job),
        cached_from=job.cached_from,
        timings=outcome.get("timings") or {},
        warnings=[without_paths(warning, job) for warning in outcome.get("warnings") or ()],
        dropped_s=outcome.get("dropped_s"),
    )


def event_view(event: JobEvent) -> EventView:
    """Return the view of a change of a job's status."""
    return EventView.model_validate(event.model_dump(exclude={"owner"}))


def model_name(model_size: str) -> str:
    """Return the public name of a model; for a folder, the folder's name."""
    return model_size if model_size in CATALOG else PurePath(model_size).name


def without_paths(text: str, job: Job) -> str:
    """Replace the recording's path by its name in a text, and any other absolute path by `a file`."""
    model = str(script_of(job.model_size) or job.model_size)
    hidden = text.replace(job.location, job.name) if job.location != job.name else text
    name = PurePath(job.location).name
    hidden = hidden.replace(name, job.name) if job.audio_digest else hidden
    hidden = hidden.replace(model, model_name(job.model_size)) if PurePath(model).is_absolute() else hidden
    return _PATH.sub("a file", hidden)


def _error_of(job: Job) -> ErrorView | None:
    if job.error_code is None and job.error_message is None:
        return None
    message = without_paths(job.error_message or "", job)
    return ErrorView(code=job.error_code or "internal", message=message, hint=without_paths(job.error_hint or "", job))
