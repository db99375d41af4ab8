"""When a job will be done: from the pace of the jobs that were done last, and the work that goes before it.

Everything here is pure. What nothing is known of is None; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cesar.api.models import Job, JobStatus

_ENOUGH_S = 10.0
"""So much of a recording must be recognised before its own pace says anything."""


@dataclass(frozen=True, slots=True)
class AtWork:
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
class Line:
    """What is unfinished."""

    at_work: tuple[AtWork, ...]
    models: frozenset[str]
    """Those of all unfinished jobs."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job's place among those that wait."""

    queue_position: int
    """How many go before it."""
    before_s: float | None
    """The seconds of work that those are; None: unknown."""
    own_s: float | None
    """The seconds of work that it is itself."""
    run_after: datetime | None


@dataclass(frozen=True, slots=True)
class Prospect:
    """What a new job would have to expect, in seconds from now."""

    begins_in_s: float
    done_in_s: float


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a model does its work on this machine, as measured."""

    speed: float
    """Seconds of recording for each second of work."""
    usual_s: float
    """The mean length of the recordings, in seconds."""


def pace_of(outcomes: Iterable[Job]) -> Pace | None:
    """Measure the pace of completed jobs: all their sound over all their time, the model's loading included.

    Only jobs that were done in one go count: of others it isn't known how much their last attempt did.
    """
    spans = [
        (audio_s, (job.completed_at - job.started_at).total_seconds())
        for job in outcomes
        if job.attempt == 1 and job.started_at and job.completed_at and (audio_s := _wanted_s(job)) is not None
    ]
    sound_s, work_s = sum(sound for sound, _ in spans), sum(work for _, work in spans)
    return Pace(sound_s / work_s, sound_s / len(spans)) if sound_s > 0 and work_s > 0 else None


def left_s(job: AtWork, pace: Pace | None, now: datetime) -> float | None:
    """Give the seconds that a job at work still needs.

    Without a pace of its model, its own counts, once it has come some way.
    """
    speed = pace.speed if pace is not None else _own_speed(job, now)
    if speed is None or job.duration is None:
        return None
    end = min(job.end if job.end is not None else job.duration, job.duration)
    return max(0.0, end - max(job.start, job.position)) / speed


def eta_s(job: Waiting, at_work_s: Iterable[float | None], now: datetime) -> float | None:
    """Give the seconds until a waiting job is done.

    at_work_s: what each job at work still needs; as many are taken to be at work at a time as are now. A job that
    waits for another try is not done before its time has come.
    """
    busy = list(at_work_s)
    known = [part for part in (*busy, job.before_s) if part is not None]
    if len(known) <= len(busy) or job.own_s is None:
        return None
    until_due_s = (job.run_after - now).total_seconds() if job.run_after is not None else 0.0
    return max(sum(known) / max(1, len(busy)), until_due_s) + job.own_s


def _own_speed(job: AtWork, now: datetime) -> float | None:
    if job.attempt != 1 or job.started_at is None:
        return None
    done_s, taken_s = job.position - job.start, (now - job.started_at).total_seconds()
    return done_s / taken_s if done_s >= _ENOUGH_S and taken_s > 0 else None


def _wanted_s(job: Job) -> float | None:
    """Give the length of what was to be recognised of a completed job's recording."""
    if job.status is not JobStatus.COMPLETED or not job.duration:
        return None
    return max(0.0, min(job.options.end or job.duration, job.duration) - job.options.start)
