"""Keeps a job's claim while a worker has it, and notices when its work has to stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from cesar.api.execution.job_run import JobRun
from cesar.api.queue.leases import monotonic_clock
from cesar.api.repository import JobRepository
from cesar.errors import ClaimLost

_CANCEL_POLL_S = 0.5
_REPORT_INTERVAL_S = 1.0
"""Interval of progress reports while a recording is fetched."""


@asynccontextmanager
async def claim_kept(
    run: JobRun, repository: JobRepository, report: Callable[[Exception], None]
) -> AsyncIterator[None]:
    """Keep the claim until the end of the block; stop the run if it is cancelled or its claim can't be renewed.

    The block includes writing the outcome, so that no worker takes a job that is still being written.
    """
    keeping = asyncio.create_task(_keep(run, repository, report))
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.wait({keeping})


async def _keep(run: JobRun, repository: JobRepository, report: Callable[[Exception], None]) -> None:
    claim = run.job.claim
    if claim is None:
        return  # a repository without claims: there is nothing to renew or to lose
    heartbeat_interval_s, give_up_after_s = claim.lease_ttl_s / 6, claim.lease_ttl_s * 2 / 3
    renewed_at, reported = monotonic_clock(), run.progress
    while True:
        await asyncio.sleep(min(_CANCEL_POLL_S, heartbeat_interval_s / 2))
        asked_at, job = monotonic_clock(), run.snapshot()
        is_report_due = run.progress.phase == "fetching" and run.progress != reported
        interval_s = min(heartbeat_interval_s, _REPORT_INTERVAL_S) if is_report_due else heartbeat_interval_s
        is_heartbeat_due = asked_at - renewed_at >= interval_s
        if is_heartbeat_due:
            reported = run.progress
        ask = repository.heartbeat if is_heartbeat_due else repository.is_cancel_requested
        try:
            if await asyncio.wait_for(ask(job), heartbeat_interval_s / 2):
                run.stop("cancelled")
            renewed_at = asked_at if is_heartbeat_due else renewed_at
        except ClaimLost:
            run.stop("claim lost")
        except Exception as error:  # noqa: BLE001 - the claim lasts a while; the next heartbeat may succeed
            report(error)
        if monotonic_clock() - renewed_at > give_up_after_s:
            run.stop("claim not kept")
