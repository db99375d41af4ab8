"""What a job is: its states, its transitions, and the value that repository and worker exchange."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import PurePath
from typing import Annotated, Any, Self
from uuid import uuid4

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo

from cesar.argument_checks import is_encodable
from cesar.limits import MAX_KEY_LENGTH, PRIORITIES
from cesar.models.catalog import CATALOG, script_of
from cesar.options import TranscribeOptions
from cesar.transcript import Phase


class JobStatus(StrEnum):
    """The state of a job."""

    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    ERROR = "error"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether the job is finished, unless someone retries it."""
        return self in (JobStatus.COMPLETED, JobStatus.ERROR, JobStatus.CANCELLED)


TRANSITIONS: Mapping[JobStatus, frozenset[JobStatus]] = {
    JobStatus.QUEUED: frozenset({JobStatus.PROCESSING, JobStatus.CANCELLED}),
    JobStatus.PROCESSING: frozenset({JobStatus.QUEUED, JobStatus.COMPLETED, JobStatus.ERROR, JobStatus.CANCELLED}),
    JobStatus.COMPLETED: frozenset(),
    JobStatus.ERROR: frozenset({JobStatus.QUEUED}),
    JobStatus.CANCELLED: frozenset({JobStatus.QUEUED}),
}
"""Every valid transition. A trigger in the database rejects all others too (see `migrations`)."""


def _storable(text: str) -> str:
    """Return the text unless no database accepts it."""
    if not is_encodable(text):
        raise ValueError("not text")
    return text


STORED = object()
"""The validation context of a job read from the database."""


def utc_now() -> datetime:
    """Return the current time, timezone-aware in UTC."""
    return datetime.now(UTC)


def _known_model(name: str, validation: ValidationInfo) -> str:
    """Accept a model's name, the absolute path of its folder, or `scripted:FILE`; in a stored job, any name."""
    if validation.context is STORED:
        return name
    if name in CATALOG or script_of(name) or PurePath(name).is_absolute():
        return name
    raise ValueError(f"no model is called {name!r}; there are {', '.join(CATALOG)}")


UtcTime = Annotated[AwareDatetime, AfterValidator(lambda time: time.astimezone(UTC))]
Text = Annotated[str, AfterValidator(_storable)]
NonEmpty = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(_storable)]


LEASE_TTL_S = 60.0
"""A claim expires after this many seconds without a heartbeat; its worker sends six in that time."""


class Claim(BaseModel):
    """The right to write a job's outcome, held by one owner for one attempt; void once either changes."""

    model_config = ConfigDict(frozen=True)

    owner: str
    attempt: int
    lease_ttl_s: float = LEASE_TTL_S
    """How long the claim lasts without a heartbeat."""


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far the work on a job is; every heartbeat and checkpoint stores it."""

    phase: Phase | None = None
    position: float = 0.0
    """Everything before this second of the recording is done."""
    duration: float | None = None
    """Length of the recording in seconds; None while it is unknown."""
    fetched_bytes: int = 0
    """Number of bytes fetched from the job's `source_url`."""
    audio_bytes: int | None = None
    """Size of the recording, if Cesar stores it or the server announced it."""

    @classmethod
    def of(cls, job: Job) -> Self:
        """Return a job's progress."""
        return cls(job.phase, job.position, job.duration, job.fetched_bytes, job.audio_bytes)


@dataclass(frozen=True, slots=True)
class JobResult:
    """The result of a completed job."""

    result_text: str | None = None
    detected_language: str | None = None
    outcome: Mapping[str, Any] | None = None
    """The transcript without its text."""


@dataclass(frozen=True, slots=True)
class JobFailure:
    """Why a job failed, or the latest attempt of one that is to be retried."""

    error_code: str | None = None
    error_message: str | None = None
    error_hint: str | None = None

    @classmethod
    def of(cls, job: Job) -> Self:
        """Return a job's failure."""
        return cls(job.error_code, job.error_message, job.error_hint)


class Job(BaseModel):
    """One recording to be transcribed: the request, `JobProgress`, `JobResult` or `JobFailure`, and a `Claim`.

    A job returned by `JobRepository.get_next_queued` carries its claim; one that was only read does not.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    id: str = Field(default_factory=lambda: str(uuid4()), min_length=1)
    status: JobStatus = JobStatus.QUEUED
    audio_path: NonEmpty | None = None
    """The recording's file; None until it has been fetched from `source_url`."""
    model_size: Annotated[Text, AfterValidator(_known_model)] = "base"
    created_at: UtcTime = Field(default_factory=utc_now)
    started_at: UtcTime | None = None
    completed_at: UtcTime | None = None
    result_text: str | None = None
    detected_language: str | None = None
    error_message: str | None = None

    # The request.
    name: Text = ""
    """The recording's display name; by default the file's name."""
    options: TranscribeOptions = Field(default_factory=TranscribeOptions)
    priority: int = Field(default=0, ge=PRIORITIES[0], le=PRIORITIES[1])
    """Higher goes first; jobs of equal priority go in the order in which they were queued."""
    idempotency_key: Annotated[str, StringConstraints(min_length=1, max_length=MAX_KEY_LENGTH)] | None = None
    """Submitting the same key and request again returns the same job."""

    no_cache: bool = False
    """Recognise it even if the result of the same work is stored already."""

    # The origin. Jobs submitted on the machine itself have none of this.
    submitter: Text = ""
    """The id of the API key it was submitted with."""
    source_url: Text | None = None
    """The address from which the worker fetches the recording; it needs no `audio_path`."""
    audio_digest: str | None = None
    """SHA-256 of the recording, hexadecimal, if Cesar stores it; None: it is the user's own file."""
    audio_bytes: int | None = None
    """Size of the recording, if Cesar stores it or the server announced it."""

    # Progress, result and error: written by the worker.
    phase: Phase | None = None
    position: float = 0.0
    """Everything before this second of the recording is done."""
    duration: float | None = None
    """Length of the recording in seconds; None while it is unknown."""
    fetched_bytes: int = 0
    """Number of bytes fetched from `source_url`."""
    outcome: dict[str, Any] | None = None
    """The transcript without its text: duration, model, timings, warnings, language probability."""
    error_code: str | None = None
    error_hint: str | None = None

    # Maintained by the repository; `update` does not write these fields.
    seq: int = 0
    """The sequence number in the queue: grows with every job and is never reused."""
    version: int = 0
    """Grows with every change of the job except heartbeats and checkpoints."""
    attempt: int = 0
    """How often the job was claimed. It never shrinks: claims are checked against it."""
    owner: str | None = None
    failures: int = 0
    """Transient failures since the job was queued."""
    lost: int = 0
    """Lost workers in a row that count against this job; it can end in an error from six on (see `losses`)."""
    begun: int = 0
    """The latest attempt in which recognition began."""
    losses: int = 0
    """Workers lost in a row, whether or not the job is to blame; it waits longer after each."""
    run_after: UtcTime | None = None
    """The job is not claimed before this time; set when it is to be retried."""
    heartbeat_at: UtcTime | None = None
    cancel_requested_at: UtcTime | None = None
    generation: int = 0
    """How often its checkpoints were dropped because the work had changed."""
    cached_from: str | None = None
    """The job whose stored result this one received."""
    claim: Claim | None = Field(default=None, exclude=True, repr=False)

    def model_post_init(self, _context: Any, /) -> None:
        """Require a recording, and name it after its file."""
        if not self.location:
            raise ValueError("a job needs an audio_path or a source_url")
        if not self.name:
            self.name = PurePath(self.location).name

    @property
    def location(self) -> str:
        """Where the recording is: its path or, until it has been fetched, its address."""
        return self.audio_path or self.source_url or ""

    def refresh(self, stored: Job) -> Self:
        """Take over every value of the stored job; return this job."""
        self.__dict__.update(stored.__dict__)
        return self

    @property
    def progress(self) -> float:
        """The completed share of the requested span, 0 to 1; 0 while the recording's length is unknown."""
        if self.status is JobStatus.COMPLETED:
            return 1.0
        if not self.duration:
            return 0.0
        length = self.options.requested_s(self.duration)
        return min(1.0, max(0.0, self.position - self.options.start) / length) if length else 0.0


class JobEvent(BaseModel):
    """One transition of a job, written in the same transaction."""

    model_config = ConfigDict(frozen=True)

    id: int
    """Grows across all jobs; never reused."""
    job_id: str
    at: UtcTime
    before: JobStatus | None
    """None: the job was new."""
    after: JobStatus
    attempt: int
    owner: str | None
    """The holder of the claim under which the transition was made, or which it granted."""
    reason: str


class JobFilter(BaseModel):
    """Which jobs to list; an absent field matches every job."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: frozenset[JobStatus] = frozenset()
    model_size: Text | None = None
    name_contains: Text | None = None
    created_after: UtcTime | None = None
    created_before: UtcTime | None = None
    submitter: str | None = None
    id_prefix: Text | None = None
    """The first characters of their ids."""


@dataclass(frozen=True, slots=True)
class PageContent:
    """How much of each job a page holds, and its maximum size."""

    with_text: bool = True
    """Whether the jobs have their `result_text`; otherwise it is not read, and None."""
    max_bytes: int | None = None
    """Maximum size of a page's text; a longer page ends early, but has at least one job. None: unlimited."""


class JobPage(BaseModel):
    """One page of a list of jobs."""

    model_config = ConfigDict(frozen=True)

    jobs: tuple[Job, ...]
    next_cursor: str | None
    """The cursor of the next page; None at the end."""
