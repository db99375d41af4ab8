"""`JobPresenter`: presents jobs with their queue positions and estimated times."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from cesar.api.http.schemas import JobView, job_view
from cesar.api.models import Job, JobStatus, utc_now
from cesar.api.queries.eta import Throughput, WaitEstimate, eta_s, measure_throughput, remaining_s
from cesar.api.repository import JobRepository

_THROUGHPUT_TTL_S = 10.0


class JobPresenter:
    """Reads the queue for each response, and caches the measured throughput of each model."""

    def __init__(
        self,
        repository: JobRepository,
        *,
        clock: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._repository = repository
        self._clock = clock
        self._monotonic = monotonic
        self._throughputs: dict[str, tuple[float, Throughput | None]] = {}
        """When each model's throughput was measured, and the result."""

    async def view(self, job: Job) -> JobView:
        """Return the view of a job."""
        [shown] = await self.views([job])
        return shown

    async def views(self, jobs: Sequence[Job]) -> list[JobView]:
        """Return the views of jobs, in their order."""
        if all(job.status.is_final for job in jobs):
            return [job_view(job) for job in jobs]
        snapshot = await self._repository.queue_snapshot()
        throughputs = await self._known_throughputs(snapshot.models)
        now = self._clock()
        busy = {job.id: remaining_s(job, throughputs.get(job.model_size), now) for job in snapshot.running}
        waiting = [job.id for job in jobs if job.status is JobStatus.QUEUED]
        positions = await self._repository.positions(waiting, throughputs) if waiting else {}
        to_fetch = [job.id for job in jobs if job.id in positions and job.source_url is not None]
        fetches = await self._repository.fetches_before(to_fetch) if to_fetch else {}
        shown = []
        for job in jobs:
            position = positions.get(job.id)  # also None if it has just left the queue
            eta = busy.get(job.id) if position is None else eta_s(position, busy.values(), now)
            ahead = None if position is None else position.jobs_ahead
            view = job_view(job, queue_position=ahead, eta_s=None if eta is None else round(eta, 1))
            shown.append(view.model_copy(update={"fetches_before": fetches.get(job.id)}))
        return shown

    async def estimate(self, model_size: str) -> WaitEstimate | None:
        """Estimate when a new job for a model would be done; None if that is unknown."""
        snapshot = await self._repository.queue_snapshot()
        throughputs = await self._known_throughputs({*snapshot.models, model_size})
        now = self._clock()
        busy = [remaining_s(job, throughputs.get(job.model_size), now) for job in snapshot.running]
        position = await self._repository.next_position(model_size, throughputs)
        eta = eta_s(position, busy, now)
        return None if eta is None or position.own_work_s is None else WaitEstimate(eta - position.own_work_s, eta)

    async def _known_throughputs(self, models: Iterable[str]) -> dict[str, Throughput]:
        found = {model: await self._throughput(model) for model in models}
        return {model: throughput for model, throughput in found.items() if throughput is not None}

    async def _throughput(self, model: str) -> Throughput | None:
        now = self._monotonic()
        at, throughput = self._throughputs.get(model, (-_THROUGHPUT_TTL_S, None))
        if now - at >= _THROUGHPUT_TTL_S:
            throughput = measure_throughput(await self._repository.recent_outcomes(model))
            self._throughputs[model] = now, throughput
        return throughput
