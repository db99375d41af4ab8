"""When a job will be done: from the pace of the jobs that were done last, and the work that goes before it.

Everything here is pure. What nothing is known of is None; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cesar.api.models import Job, JobStatus

_MIN_MEASURED_S = 10.0
"""So much of a recording must be recognised before its own pace says anything."""


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that is being processed, as far as it matters for when it will be done."""

    id: str
    model_size: str
    position: float
    duration: float | None
    start: float
    end: float | None
    attempt: int
    started_at: datetime | None


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """What is unfinished."""

    running: tuple[RunningJob, ...]
    models: frozenset[str]
    """Those of all unfinished jobs."""


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """A job's place among those that wait."""

    jobs_ahead: int
    """How many go before it."""
    work_ahead_s: float | None
    """The seconds of work that those are; None: unknown."""
    own_work_s: float | None
    """The seconds of work that it is itself."""
    run_after: datetime | None


@dataclass(frozen=True, slots=True)
class WaitEstimate:
    """What a new job would have to expect, in seconds from now."""

    starts_in_s: float
    ends_in_s: float


@dataclass(frozen=True, slots=True)
class Throughput:
    """How fast a model does its work on this machine, as measured."""

    speed: float
    """Seconds of recording for each second of work."""
    mean_duration_s: float
    """The mean length of the recordings, in seconds."""


def measure_throughput(outcomes: Iterable[Job]) -> Throughput | None:
    """Measure the pace of completed jobs: all their sound over all their time, the model's loading included.

    Only jobs that were done in one go count: of others it isn't known how much their last attempt did.
    """
    spans = [
        (audio_s, (job.completed_at - job.started_at).total_seconds())
        for job in outcomes
        if job.attempt == 1 and job.started_at and job.completed_at and (audio_s := _requested_s(job)) is not None
    ]
    sound_s, work_s = sum(sound for sound, _ in spans), sum(work for _, work in spans)
    return Throughput(sound_s / work_s, sound_s / len(spans)) if sound_s > 0 and work_s > 0 else None


def remaining_s(job: RunningJob, throughput: Throughput | None, now: datetime) -> float | None:
    """Give the seconds that a job at work still needs.

    Without a pace of its model, its own counts, once it has come some way.
    """
    speed = throughput.speed if throughput is not None else _measured_speed(job, now)
    if speed is None or job.duration is None:
        return None
    end = min(job.end if job.end is not None else job.duration, job.duration)
    return max(0.0, end - max(job.start, job.position)) / speed


def eta_s(job: QueuePosition, running_s: Iterable[float | None], now: datetime) -> float | None:
    """Give the seconds until a waiting job is done.

    at_work_s: what each job at work still needs; as many are taken to be at work at a time as are now. A job that
    waits for another try is not done before its time has come.
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
    done_s, taken_s = job.position - job.start, (now - job.started_at).total_seconds()
    return done_s / taken_s if done_s >= _MIN_MEASURED_S and taken_s > 0 else None


def _requested_s(job: Job) -> float | None:
    """Give the length of what was to be recognised of a completed job's recording."""
    if job.status is not JobStatus.COMPLETED or not job.duration:
        return None
    return max(0.0, min(job.options.end or job.duration, job.duration) - job.options.start)
