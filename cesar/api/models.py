"""What a job is: its states, the moves between them, and the value that travels between repository and worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import PurePath
from typing import Annotated, Any
from uuid import uuid4

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo

from cesar.models.catalog import CATALOG
from cesar.options import TranscribeOptions
from cesar.transcript import Phase


class JobStatus(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    ERROR = "error"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether the job is over, unless somebody has it tried again."""
        return self in (JobStatus.COMPLETED, JobStatus.ERROR, JobStatus.CANCELLED)


TRANSITIONS: Mapping[JobStatus, frozenset[JobStatus]] = {
    JobStatus.QUEUED: frozenset({JobStatus.PROCESSING, JobStatus.CANCELLED}),
    JobStatus.PROCESSING: frozenset({JobStatus.QUEUED, JobStatus.COMPLETED, JobStatus.ERROR, JobStatus.CANCELLED}),
    JobStatus.COMPLETED: frozenset(),
    JobStatus.ERROR: frozenset({JobStatus.QUEUED}),
    JobStatus.CANCELLED: frozenset({JobStatus.QUEUED}),
}
"""Every legal move. The database refuses all others too (see `migrations`)."""


def _storable(text: str) -> str:
    """Any text but half a character (a lone surrogate), which no database takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("not text") from None
    return text


STORED = object()
"""The context in which a job is validated that comes from the database."""


def utc_now() -> datetime:
    """Give the time, in UTC and saying so."""
    return datetime.now(UTC)


def _known_model(name: str, validation: ValidationInfo) -> str:
    """A model's name, an absolute folder of one, or `scripted:FILE`; in a stored job whatever it was once called."""
    if validation.context is STORED:
        return name
    if name in CATALOG or name.startswith("scripted:") or PurePath(name).is_absolute():
        return name
    raise ValueError(f"no model is called {name!r}; there are {', '.join(CATALOG)}")


UtcTime = Annotated[AwareDatetime, AfterValidator(lambda time: time.astimezone(UTC))]
Text = Annotated[str, AfterValidator(_storable)]
NonEmpty = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(_storable)]


class Claim(BaseModel):
    """The right to write a job's outcome: held by one owner for one attempt, and void once either has changed."""

    model_config = ConfigDict(frozen=True)

    owner: str
    attempt: int


class Job(BaseModel):
    """One recording to be transcribed, with all that became of it.

    A job that `JobRepository.get_next_queued` returned carries its claim; one that was merely read does not.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    id: str = Field(default_factory=lambda: str(uuid4()), min_length=1)
    status: JobStatus = JobStatus.QUEUED
    audio_path: NonEmpty
    model_size: Annotated[Text, AfterValidator(_known_model)] = "base"
    created_at: UtcTime = Field(default_factory=utc_now)
    started_at: UtcTime | None = None
    completed_at: UtcTime | None = None
    result_text: str | None = None
    detected_language: str | None = None
    error_message: str | None = None

    # What the submitter may ask for.
    name: Text = ""
    """What people call the recording; the file's name unless given."""
    options: TranscribeOptions = Field(default_factory=TranscribeOptions)
    priority: int = Field(default=0, ge=-1000, le=1000)
    """Higher goes first; jobs of the same priority go in the order in which they were queued."""
    idempotency_key: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = None
    """Submitting the same key and request again gives the same job."""

    no_cache: bool = False
    """Recognise it even if the same was recognised before."""

    # Where it comes from. Jobs that are queued on the machine itself have none of this.
    submitter: Text = ""
    """The id of the API key that it was submitted with."""
    source_url: Text | None = None
    """Where the worker is to fetch the recording; `audio_path` is the same until it is fetched."""
    audio_digest: str | None = None
    """SHA-256 of the recording, hexadecimal, if Cesar keeps it; None: it is the user's own file."""
    audio_bytes: int | None = None
    """Size of the recording, where Cesar keeps it or was told."""

    # What the worker tells.
    phase: Phase | None = None
    position: float = 0.0
    """Everything before this second of the recording is done."""
    duration: float | None = None
    """Length of the recording in seconds; None while it is unknown."""
    fetched_bytes: int = 0
    """How much of it has been fetched from `source_url`."""
    outcome: dict[str, Any] | None = None
    """What a transcript tells besides its text: duration, model, timings, warnings, language probability."""
    error_code: str | None = None
    error_hint: str | None = None

    # What the repository keeps; `update` writes none of it from here.
    seq: int = 0
    """The place in the queue: grows by every job, never reused."""
    version: int = 0
    """Grows by every change of the job but heartbeats and checkpoints."""
    attempt: int = 0
    """How often the job was claimed. It never shrinks: it is what a claim is checked by."""
    owner: str | None = None
    failures: int = 0
    """Transient failures since the job was queued."""
    lost: int = 0
    """How many lost workers count against this job: it ends in an error at six (see `cesar.api.queue.losses`)."""
    begun: int = 0
    """The latest attempt whose recogniser was given the recording."""
    losses: int = 0
    """Workers lost in a row, whether or not the job is to blame: it waits longer after each."""
    run_after: UtcTime | None = None
    """Not before this time: set when the job is to be tried again."""
    heartbeat_at: UtcTime | None = None
    cancel_requested_at: UtcTime | None = None
    generation: int = 0
    """How often its checkpoints were dropped, because the work was no longer the same."""
    cached_from: str | None = None
    """The job whose result this one was given at once."""
    claim: Claim | None = Field(default=None, exclude=True, repr=False)

    def model_post_init(self, _context: Any, /) -> None:
        """Name the recording after its file."""
        if not self.name:
            self.name = PurePath(self.audio_path).name

    @property
    def progress(self) -> float:
        """The part that is done of what was asked for, 0 to 1; 0 while the recording's length is unknown."""
        if self.status is JobStatus.COMPLETED:
            return 1.0
        if not self.duration:
            return 0.0
        start, end = self.options.start, min(self.options.end or self.duration, self.duration)
        return min(1.0, max(0.0, self.position - start) / (end - start)) if end > start else 0.0


class JobEvent(BaseModel):
    """One change of a job's state, as it was written together with that change."""

    model_config = ConfigDict(frozen=True)

    id: int
    """Grows over all jobs; never reused."""
    job_id: str
    at: UtcTime
    before: JobStatus | None
    """None: the job was new."""
    after: JobStatus
    attempt: int
    owner: str | None
    """Who held the claim that the change was made with, or that it gave."""
    reason: str


class JobFilter(BaseModel):
    """Which jobs to list; what is left out does not matter."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: frozenset[JobStatus] = frozenset()
    model_size: Text | None = None
    name_contains: Text | None = None
    created_after: UtcTime | None = None
    created_before: UtcTime | None = None
    submitter: str | None = None
    id_prefix: Text | None = None
    """How their ids begin."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of each job a page holds, and how much a page holds in all."""

    with_text: bool = True
    """Whether the jobs have their `result_text`; else it is not even read, and None."""
    most_bytes: int | None = None
    """A page ends early rather than hold more text than this, but has one job at least; None: it holds any amount."""


class JobPage(BaseModel):
    """Some jobs of a listing."""

    model_config = ConfigDict(frozen=True)

    jobs: tuple[Job, ...]
    next_cursor: str | None
    """What to ask with for the following page; None at the end."""
