"""What the service answers: a job as callers see it. Nothing of it tells a path of this machine."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Literal

from pydantic import AwareDatetime, BaseModel, Field

from cesar.api.models import Job, JobEvent, JobStatus
from cesar.models.catalog import CATALOG
from cesar.transcript import Phase

_PATH = re.compile(
    r"(?<=')(?:/|[A-Za-z]:\\)[^'\n]*[/\\][^'\n]*(?=')"
    r"|(?<![\w:/.\]])(?:/|[A-Za-z]:\\)[^\s'\"`:,;)/\\]+[/\\][^\s'\"`:,;)]*"
)
"""A whole path of at least two parts, with blanks if it is quoted; not what comes after the host in an address."""


class OptionsView(BaseModel):
    """What was asked for."""

    language: str | None = Field(description="ISO code of the language spoken; null: it is detected.")
    languages: list[str] = Field(description="What it may be, when it is detected; empty: any.")
    task: Literal["transcribe", "translate"]
    prompt: str | None
    hotwords: str | None
    word_timestamps: bool
    track: int | Literal["all"] | None = Field(
        description="The audio track; `all`: all of them; null: the one that holds speech."
    )
    start: float = Field(description="Where it begins, in seconds.")
    end: float | None = Field(description="Where it stops, in seconds; null: at the recording's end.")
    beam_size: int
    temperature: float


class ErrorView(BaseModel):
    """Why a job failed; for a job that is queued again, why its last attempt did."""

    code: str = Field(description="Stable: programs may rely on it.")
    message: str
    hint: str


class JobView(BaseModel):
    """A job."""

    id: str
    name: str = Field(description="What the recording is called.")
    status: JobStatus
    phase: Phase | None = Field(description="What is being done, while the status is `processing`.")
    progress: float = Field(description="The part that is recognised, 0 to 1.")
    position: float = Field(description="Everything before this second of the recording is recognised.")
    duration: float | None = Field(description="Length of the recording in seconds; null while it is unknown.")
    queue_position: int | None = Field(
        default=None, description="How many jobs go before it; null if it isn't waiting."
    )
    fetches_before: int | None = Field(
        default=None,
        description="How many other recordings are being fetched while its own waits to be, and others may pass it; "
        "null if it isn't waiting, or its recording is here.",
    )
    eta_s: float | None = Field(default=None, description="Seconds until it is done, estimated; null if unknown.")
    model: str
    options: OptionsView
    priority: int
    source_url: str | None = Field(description="Where the recording is fetched from.")
    audio_bytes: int | None = Field(description="Size of the recording.")
    audio_sha256: str | None
    fetched_bytes: int = Field(description="How much of it has been fetched from `source_url`.")
    attempts: int = Field(description="How often a worker has begun it.")
    failures: int = Field(description="How often it failed and was tried again.")
    created_at: AwareDatetime
    started_at: AwareDatetime | None
    completed_at: AwareDatetime | None
    run_after: AwareDatetime | None = Field(description="Not before this time.")
    cancel_requested: bool
    language: str | None = Field(description="What is spoken; null until the job is completed.")
    text: str | None = Field(
        description="The text; null until the job is completed, and in lists without `include=text`."
    )
    error: ErrorView | None
    cached_from: str | None = Field(description="The job whose result this one was given at once.")
    timings: dict[str, float] = Field(description="Seconds of work for each stage.")
    warnings: list[str] = Field(description="What is to be known of the text: above all, what was dropped, and why.")
    dropped_s: float | None = Field(
        default=None, description="Seconds with speech that gave no text; null until the job is completed."
    )


class JobsView(BaseModel):
    """Some jobs of a list."""

    jobs: list[JobView]
    next_cursor: str | None = Field(description="Ask with it for the next page; null at the end.")


class EventView(BaseModel):
    """A change of a job's status."""

    id: int
    job_id: str
    at: AwareDatetime
    before: JobStatus | None
    after: JobStatus
    attempt: int
    reason: str


def view_of(job: Job, *, queue_position: int | None = None, eta_s: float | None = None) -> JobView:
    """Show a job to a caller."""
    outcome = job.outcome or {}
    fields = OptionsView.model_fields
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
        options=OptionsView(**{name: getattr(job.options, name) for name in fields}),
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
    """Show a change of a job's status to a caller."""
    return EventView.model_validate(event.model_dump(exclude={"owner"}))


def model_name(model_size: str) -> str:
    """Give what a model is called; of one that lies in a folder, the folder's name."""
    return model_size if model_size in CATALOG else PurePath(model_size).name


def without_paths(text: str, job: Job) -> str:
    """Write the recording's name where a text has its path, and `a file` for any other whole path."""
    model = job.model_size.removeprefix("scripted:")
    hidden = text.replace(job.audio_path, job.name) if job.audio_path != job.name else text
    name = PurePath(job.audio_path).name
    hidden = hidden.replace(name, job.name) if job.audio_digest else hidden
    hidden = hidden.replace(model, model_name(job.model_size)) if PurePath(model).is_absolute() else hidden
    return _PATH.sub("a file", hidden)


def _error_of(job: Job) -> ErrorView | None:
    if job.error_code is None and job.error_message is None:
        return None
    message = without_paths(job.error_message or "", job)
    return ErrorView(code=job.error_code or "internal", message=message, hint=without_paths(job.error_hint or "", job))
