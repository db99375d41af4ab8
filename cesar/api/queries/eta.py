"""Estimates of when a job will be done, from the throughput of the latest jobs and the work ahead of it.

Everything here is pure. What is unknown is None; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cesar.api.models import Job, JobStatus
from cesar.options import TranscribeOptions

_MIN_MEASURED_S = 10.0
"""Seconds of a recording that must be recognised before its own speed means anything."""


@dataclass(frozen=True, slots=True)
class RunningJob:
    """What an estimate needs to know about a job that is being processed."""

    id: str
    model_size: str
    position: float
    duration: float | None
    options: TranscribeOptions
    attempt: int
    started_at: datetime | None

    @property
    def done_s(self) -> float:
        """Seconds of the requested span that are done."""
        return max(0.0, self.position - self.options.start)


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """The running jobs, and the models of all unfinished ones."""

    running: tuple[RunningJob, ...]
    models: frozenset[str]
    """The models of all unfinished jobs."""


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """A waiting job's position in the queue."""

    jobs_ahead: int
    """Number of jobs ahead of it."""
    work_ahead_s: float | None
    """Seconds of work ahead of it; None: unknown."""
    own_work_s: float | None
    """Seconds of work of the job itself; None: unknown."""
    run_after: datetime | None


@dataclass(frozen=True, slots=True)
class WaitEstimate:
    """When a new job would start and end, in seconds from now."""

    starts_in_s: float
    ends_in_s: float


@dataclass(frozen=True, slots=True)
class Throughput:
    """The measured throughput of a model on this machine."""

    speed: float
    """Seconds of audio per second of work."""
    mean_duration_s: float
    """Mean length of the recordings, in seconds."""


def measure_throughput(outcomes: Iterable[Job]) -> Throughput | None:
    """Return the throughput of completed jobs: all their audio over all their time, including loading the model.

    Only jobs completed in one attempt count: how much the last of several attempts did is unknown.
    """
    spans = [
        (audio_s, (job.completed_at - job.started_at).total_seconds())
        for job in outcomes
        if job.attempt == 1 and job.started_at and job.completed_at and (audio_s := _requested_s(job)) is not None
    ]
    audio_s, work_s = sum(sound for sound, _ in spans), sum(work for _, work in spans)
    return Throughput(audio_s / work_s, audio_s / len(spans)) if audio_s > 0 and work_s > 0 else None


def remaining_s(job: RunningJob, throughput: Throughput | None, now: datetime) -> float | None:
    """Return the seconds that a running job still needs.

    If its model's throughput is unknown, its own speed is used once enough has been recognised.
    """
    speed = throughput.speed if throughput is not None else _measured_speed(job, now)
    if speed is None or job.duration is None:
        return None
    return max(0.0, job.options.requested_s(job.duration) - job.done_s) / speed


def eta_s(job: QueuePosition, running_s: Iterable[float | None], now: datetime) -> float | None:
    """Return the seconds until a waiting job is done.

    running_s: what each running job still needs; the number of jobs running at a time is assumed to stay the same. A
    job that waits for a retry does not start before its time.
    """
    busy = list(running_s)
    known = [part for part in (*busy, job.work_ahead_s) if part is not None]
    if len(known) <= len(busy) or job.own_work_s is None:
        return None
    until_due_s = (job.run_after - now).total_seconds() if job.run_after is not None else 0.0
    return max(sum(known) / max(1, len(busy)), until_due_s) + job.own_work_s


def _measured_speed(job: RunningJob, now: datetime) -> float | None:
    if job.attempt != 1 or job.started_at is None:
        return None
    taken_s = (now - job.started_at).total_seconds()
    return job.done_s / taken_s if job.done_s >= _MIN_MEASURED_S and taken_s > 0 else None


def _requested_s(job: Job) -> float | None:
    """Return the length of a completed job's requested span."""
    if job.status is not JobStatus.COMPLETED or not job.duration:
        return None
    return job.options.requested_s(job.duration)
