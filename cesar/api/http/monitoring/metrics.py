"""Prometheus metrics. Job metrics are read from the jobs' events, so they cover other processes' work too."""

from __future__ import annotations

import time
from datetime import datetime
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cesar.api.models import JobStatus
from cesar.api.queries.stats import QueueStats, Transition
from cesar.errors import ClaimLost, WorkerLost

_TAKEOVER_REASONS = frozenset({"worker died", "lease expired", WorkerLost.code})
_METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH"})
_SHORT_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
_LONG_BUCKETS_S = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400, 86400)
_FACTOR_BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


class Metrics:
    """The metrics of one service. Counters start at 0 with the process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.queue = QueueMetrics(self._registry)
        self.database = DatabaseMetrics(self._registry)
        self.http = HttpMetrics(self._registry)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics in the accepted format, and its media type."""
        write, media_type = choose_encoder(accept)
        return write(self._registry), media_type


class QueueMetrics:
    """The jobs, and what has become of them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        gauge, counter = partial(Gauge, registry=registry), partial(Counter, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self._jobs = gauge("cesar_jobs", "Jobs by status.", ["status"])
        self._oldest = gauge(
            "cesar_queue_oldest_seconds", "Age of the oldest job that may start; 0: no job is waiting."
        )
        self._heartbeat_age = gauge("cesar_heartbeat_age_seconds", "Age of the oldest heartbeat of a running job.")
        self._checkpoints = gauge("cesar_checkpoint_bytes", "Size of the checkpoints of running jobs.")
        self._waits = histogram(
            "cesar_job_wait_seconds", "Time that jobs were queued before they started.", buckets=_LONG_BUCKETS_S
        )
        self._runs = histogram("cesar_job_run_seconds", "Processing time of completed jobs.", buckets=_LONG_BUCKETS_S)
        self._factor = histogram(
            "cesar_realtime_factor",
            "Seconds of processing per second of recording, of jobs completed at the first attempt.",
            buckets=_FACTOR_BUCKETS,
        )
        self._transitions = counter(
            "cesar_transitions", "Job status transitions; new jobs come from `new`.", ["from", "to", "reason"]
        )
        self._takeovers = counter("cesar_takeovers", "Jobs taken over from workers that died or stalled.", ["reason"])

    def update(self, stats: QueueStats, now: datetime) -> None:
        """Update the gauges, and count the transitions since the last update."""
        for status, count in stats.counts.items():
            self._jobs.labels(status.value).set(count)
        self._oldest.set(_seconds_since(stats.waiting_since, now))
        self._heartbeat_age.set(_seconds_since(stats.oldest_heartbeat_at, now))
        self._checkpoints.set(stats.checkpoint_bytes)
        for transition in stats.transitions:
            self._count(transition)

    def _count(self, transition: Transition) -> None:
        before = "new" if transition.before is None else transition.before.value
        self._transitions.labels(before, transition.after.value, transition.reason).inc()
        if transition.reason in _TAKEOVER_REASONS:
            self._takeovers.labels(transition.reason).inc()
        match transition.before, transition.after, transition.time_in_state_s:
            case JobStatus.QUEUED, JobStatus.PROCESSING, float(waited_s) if transition.reason != "the result is known":
                self._waits.observe(waited_s)
            case JobStatus.PROCESSING, JobStatus.COMPLETED, float(duration_s) if transition.reason != "cached":
                self._runs.observe(duration_s)
                if transition.attempt == 1 and transition.audio_s:
                    self._factor.observe(duration_s / transition.audio_s)


class DatabaseMetrics:
    """Writes to the database, and the size of its write-ahead log."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._wal_size = Gauge("cesar_wal_bytes", "Size of the database's write-ahead log.", registry=registry)
        self._fenced = Counter(
            "cesar_fenced_writes", "Writes refused because the claim had been lost.", registry=registry
        )
        self._commits = Histogram(
            "cesar_db_commit_seconds",
            "Duration of database writes, from waiting for their turn until they are on disk.",
            buckets=_SHORT_BUCKETS_S,
            registry=registry,
        )

    def record_wal_size(self, size_bytes: int) -> None:
        """Record the size of the write-ahead log."""
        self._wal_size.set(size_bytes)

    def record_write(self, duration_s: float, error: BaseException | None) -> None:
        """Record a write; from any thread."""
        if error is None:
            self._commits.observe(duration_s)
        elif isinstance(error, ClaimLost):
            self._fenced.inc()


class HttpMetrics:
    """Requests, and the event loop that serves them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._lag = Histogram(
            "cesar_loop_lag_seconds",
            "How late the event loop runs a timer.",
            buckets=_SHORT_BUCKETS_S,
            registry=registry,
        )
        self._requests = Counter("cesar_http_requests", "Responses.", ["method", "route", "status"], registry=registry)
        self._response_times = Histogram(
            "cesar_http_request_seconds",
            "Time from a request's headers to the response's: includes an upload, not the length of a stream.",
            ["method", "route"],
            buckets=_SHORT_BUCKETS_S,
            registry=registry,
        )
        self.in_progress = Gauge(
            "cesar_http_open_requests", "Requests in progress, streams included.", registry=registry
        )

    def record_lag(self, late_s: float) -> None:
        """Record how late the event loop was."""
        self._lag.observe(max(0.0, late_s))

    def record_response(self, method: str, route: str, status: int, duration_s: float) -> None:
        """Record a response. Unknown methods and routes are counted together."""
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._response_times.labels(method, route).observe(duration_s)


class MetricsMiddleware:
    """Counts requests and measures their response times."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics.http

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()

        async def send_and_record(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "other")
                self._metrics.record_response(scope["method"], route, message["status"], time.perf_counter() - started)
            await send(message)

        with self._metrics.in_progress.track_inprogress():
            await self._app(scope, receive, send_and_record)


def _seconds_since(then: datetime | None, now: datetime) -> float:
    return 0.0 if then is None else max(0.0, (now - then).total_seconds())
