"""`Outlook`: shows jobs with what lies before them, their place in the queue and when they will be done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from cesar.api.http.schemas import JobView, view_of
from cesar.api.models import Job, JobStatus, utc_now
from cesar.api.queue.eta import Pace, Prospect, eta_s, left_s, pace_of
from cesar.api.repository import JobRepository

_PACE_LASTS_S = 10.0


class Outlook:
    """Asks the queue for each answer, and measures the pace of each model now and then."""

    def __init__(
        self,
        repository: JobRepository,
        *,
        clock: Callable[[], datetime] = utc_now,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._repository = repository
        self._clock = clock
        self._steady = steady
        self._paces: dict[str, tuple[float, Pace | None]] = {}
        """When each model's pace was measured, and what it was."""

    async def view(self, job: Job) -> JobView:
        """Show a job."""
        [shown] = await self.views([job])
        return shown

    async def views(self, jobs: Sequence[Job]) -> list[JobView]:
        """Show jobs, in their order."""
        if all(job.status.is_final for job in jobs):
            return [view_of(job) for job in jobs]
        line = await self._repository.line()
        paces = await self._known_paces(line.models)
        now = self._clock()
        busy = {job.id: left_s(job, paces.get(job.model_size), now) for job in line.at_work}
        waiting = [job.id for job in jobs if job.status is JobStatus.QUEUED]
        places = await self._repository.waiting(waiting, paces) if waiting else {}
        to_fetch = [job.id for job in jobs if job.id in places and job.source_url is not None]
        fetches = await self._repository.fetches_before(to_fetch) if to_fetch else {}
        shown = []
        for job in jobs:
            place = places.get(job.id)  # None as well if it has just moved on
            eta = busy.get(job.id) if place is None else eta_s(place, busy.values(), now)
            position = None if place is None else place.queue_position
            view = view_of(job, queue_position=position, eta_s=None if eta is None else round(eta, 1))
            shown.append(view.model_copy(update={"fetches_before": fetches.get(job.id)}))
        return shown

    async def prospect(self, model_size: str) -> Prospect | None:
        """Estimate when a new job for a model would be done; None if nothing is known."""
        line = await self._repository.line()
        paces = await self._known_paces({*line.models, model_size})
        now = self._clock()
        busy = [left_s(job, paces.get(job.model_size), now) for job in line.at_work]
        place = await self._repository.ahead(model_size, paces)
        eta = eta_s(place, busy, now)
        return None if eta is None or place.own_s is None else Prospect(eta - place.own_s, eta)

    async def _known_paces(self, models: Iterable[str]) -> dict[str, Pace]:
        found = {model: await self._pace(model) for model in models}
        return {model: pace for model, pace in found.items() if pace is not None}

    async def _pace(self, model: str) -> Pace | None:
        now = self._steady()
        at, pace = self._paces.get(model, (-_PACE_LASTS_S, None))
        if now - at >= _PACE_LASTS_S:
            pace = pace_of(await self._repository.recent_outcomes(model))
            self._paces[model] = now, pace
        return pace
