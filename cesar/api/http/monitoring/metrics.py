"""What Prometheus is told. How jobs went is read from their events, so other processes' work is in it too."""

from __future__ import annotations

import time
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cesar.api.models import JobStatus
from cesar.api.queue.stats import QueueStats, Transition
from cesar.errors import ClaimLost, WorkerLost

_TAKEN_BACK = frozenset({"worker died", "lease expired", WorkerLost.code})
_METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH"})
_SHORT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
_LONG_S = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400, 86400)
_FACTORS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


class Metrics:
    """One service's metrics. Counters begin at 0 with the process."""

    def __init__(self) -> None:
        self.registry = to = CollectorRegistry()
        ProcessCollector(registry=to)
        self._jobs = Gauge("cesar_jobs", "Jobs by status.", ["status"], registry=to)
        self._oldest = Gauge(
            "cesar_queue_oldest_seconds", "Since when the oldest job waits that may begin; 0: none does.", registry=to
        )
        self._heartbeat_age = Gauge(
            "cesar_heartbeat_age_seconds", "How long ago the oldest heartbeat is of a job at work.", registry=to
        )
        self._checkpoints = Gauge(
            "cesar_checkpoint_bytes", "What is stored of the recordings that are at work.", registry=to
        )
        self._log_size = Gauge("cesar_wal_bytes", "Size of the database's write-ahead log.", registry=to)
        self._waits = Histogram(
            "cesar_job_wait_seconds", "How long jobs were queued before they began.", buckets=_LONG_S, registry=to
        )
        self._runs = Histogram(
            "cesar_job_run_seconds", "How long completed jobs were processed.", buckets=_LONG_S, registry=to
        )
        self._factor = Histogram(
            "cesar_realtime_factor",
            "Seconds of processing for a second of the recording, of jobs that were completed at the first attempt.",
            buckets=_FACTORS,
            registry=to,
        )
        self._transitions = Counter(
            "cesar_transitions",
            "Changes of jobs' statuses; new ones come from `new`.",
            ["from", "to", "reason"],
            registry=to,
        )
        self._takeovers = Counter(
            "cesar_takeovers", "Jobs taken from workers that died or stood still.", ["reason"], registry=to
        )
        self._fenced = Counter("cesar_fenced_writes", "Writes refused because the claim was lost by then.", registry=to)
        self._commits = Histogram(
            "cesar_db_commit_seconds",
            "How long a write took, from waiting for its turn until it was on the disk.",
            buckets=_SHORT_S,
            registry=to,
        )
        self._lag = Histogram(
            "cesar_loop_lag_seconds", "How late the event loop comes to what is due.", buckets=_SHORT_S, registry=to
        )
        self._requests = Counter("cesar_http_requests", "Answers.", ["method", "route", "status"], registry=to)
        self._answer_times = Histogram(
            "cesar_http_request_seconds",
            "From a request's headers to the answer's: an upload's arrival counts, a stream's length does not.",
            ["method", "route"],
            buckets=_SHORT_S,
            registry=to,
        )
        self._open = Gauge("cesar_http_open_requests", "Requests that are being answered, streams too.", registry=to)

    def show(self, vitals: QueueStats, now: datetime) -> None:
        """Take over how the queue does, and count what has happened in it."""
        for status, count in vitals.counts.items():
            self._jobs.labels(status.value).set(count)
        self._oldest.set(_seconds_since(vitals.waiting_since, now))
        self._heartbeat_age.set(_seconds_since(vitals.oldest_heartbeat_at, now))
        self._checkpoints.set(vitals.checkpoint_bytes)
        for transition in vitals.transitions:
            self._count(transition)

    def _count(self, transition: Transition) -> None:
        before = "new" if transition.before is None else transition.before.value
        self._transitions.labels(before, transition.after.value, transition.reason).inc()
        if transition.reason in _TAKEN_BACK:
            self._takeovers.labels(transition.reason).inc()
        match transition.before, transition.after, transition.time_in_state_s:
            case JobStatus.QUEUED, JobStatus.PROCESSING, float(waited_s) if transition.reason != "the result is known":
                self._waits.observe(waited_s)
            case JobStatus.PROCESSING, JobStatus.COMPLETED, float(took_s) if transition.reason != "cached":
                self._runs.observe(took_s)
                if transition.attempt == 1 and transition.audio_s:
                    self._factor.observe(took_s / transition.audio_s)

    def note_log_size(self, size_bytes: int) -> None:
        """Note how large the database's write-ahead log is."""
        self._log_size.set(size_bytes)

    def note_lag(self, late_s: float) -> None:
        """Note how late the event loop was."""
        self._lag.observe(max(0.0, late_s))

    def note_write(self, took_s: float, error: BaseException | None) -> None:
        """Note a write to the database; from any thread."""
        if error is None:
            self._commits.observe(took_s)
        elif isinstance(error, ClaimLost):
            self._fenced.inc()

    def note_answer(self, method: str, route: str, status: int, took_s: float) -> None:
        """Note an answer. Methods and routes that there are not are counted as one."""
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._answer_times.labels(method, route).observe(took_s)

    def page(self, accept: str) -> tuple[bytes, str]:
        """Write all down in the format that is accepted; give it with its media type."""
        write, media_type = choose_encoder(accept)
        return write(self.registry), media_type

    def is_open(self) -> Gauge:
        """Give the count of requests that are being answered."""
        return self._open


class Observed:
    """Counts requests and measures how long they wait for an answer."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()

        async def send_observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "other")
                self._metrics.note_answer(scope["method"], route, message["status"], time.perf_counter() - begun)
            await send(message)

        with self._metrics.is_open().track_inprogress():
            await self._app(scope, receive, send_observed)


def _seconds_since(then: datetime | None, now: datetime) -> float:
    return 0.0 if then is None else max(0.0, (now - then).total_seconds())
