"""When jobs will be done: measured, never guessed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from cesar.api.models import Job, JobStatus
from cesar.api.queries.eta import QueuePosition, RunningJob, Throughput, eta_s, measure_throughput, remaining_s
from cesar.options import TranscribeOptions

NOW = datetime(2030, 5, 17, 12, tzinfo=UTC)
TENFOLD = Throughput(speed=10.0, mean_duration_s=60.0)


def done(sound_s: float, work_s: float, **fields: Any) -> Job:
    times = {"started_at": NOW, "completed_at": NOW + timedelta(seconds=work_s)}
    usual: dict[str, Any] = {"status": JobStatus.COMPLETED, "duration": sound_s, "attempt": 1, **times, **fields}
    return Job(audio_path="/talk.wav", **usual)


def at_work(**fields: Any) -> RunningJob:
    usual: dict[str, Any] = {
        "id": "a",
        "model_size": "base",
        "position": 0.0,
        "duration": 100.0,
        "options": TranscribeOptions(),
        "attempt": 1,
        "started_at": NOW,
    }
    return RunningJob(**usual | fields)


def test_throughput_is_all_audio_over_all_work() -> None:
    assert measure_throughput([done(100, 10), done(20, 5)]) == Throughput(speed=8.0, mean_duration_s=60.0)


def test_only_the_requested_span_counts_for_throughput() -> None:
    part = TranscribeOptions(start=10, end=40)
    assert measure_throughput([done(100, 3, options=part)]) == Throughput(speed=10.0, mean_duration_s=30.0)


def test_resumed_jobs_and_jobs_without_a_length_do_not_count_for_throughput() -> None:
    assert measure_throughput([done(100, 1, attempt=2), done(0, 1), done(5, 0)]) is None
    assert measure_throughput([]) is None


def test_a_running_job_needs_the_time_for_its_remainder() -> None:
    assert remaining_s(at_work(position=70.0), TENFOLD, NOW) == 3.0


def test_only_the_requested_span_counts_for_the_remaining_time() -> None:
    assert remaining_s(at_work(options=TranscribeOptions(start=20.0, end=50.0)), TENFOLD, NOW) == 3.0
    assert remaining_s(at_work(options=TranscribeOptions(start=20.0, end=500.0), position=90.0), TENFOLD, NOW) == 1.0


def test_the_remaining_time_of_a_recording_of_unknown_length_is_unknown() -> None:
    assert remaining_s(at_work(duration=None), TENFOLD, NOW) is None


def test_a_jobs_own_speed_is_used_if_the_throughput_is_unknown() -> None:
    begun = NOW - timedelta(seconds=20)
    assert remaining_s(at_work(position=50.0, started_at=begun), None, NOW) == 20.0
    assert remaining_s(at_work(position=5.0, started_at=begun), None, NOW) is None
    assert remaining_s(at_work(position=50.0, started_at=begun, attempt=2), None, NOW) is None


def test_a_waiting_job_is_done_after_the_work_ahead_of_it() -> None:
    assert eta_s(QueuePosition(3, 10.0, 2.0, None), [], NOW) == 12.0
    assert eta_s(QueuePosition(3, 10.0, 2.0, None), [4.0], NOW) == 16.0


def test_two_running_jobs_share_the_work_ahead() -> None:
    assert eta_s(QueuePosition(3, 10.0, 2.0, None), [4.0, 6.0], NOW) == 12.0


def test_the_eta_behind_unknown_work_is_unknown() -> None:
    assert eta_s(QueuePosition(3, None, 2.0, None), [], NOW) is None
    assert eta_s(QueuePosition(3, 10.0, None, None), [], NOW) is None
    assert eta_s(QueuePosition(3, 10.0, 2.0, None), [None], NOW) is None


def test_a_job_waiting_for_a_retry_does_not_start_before_its_time() -> None:
    assert eta_s(QueuePosition(0, 0.0, 2.0, NOW + timedelta(seconds=30)), [4.0], NOW) == 32.0
    assert eta_s(QueuePosition(0, 0.0, 2.0, NOW - timedelta(seconds=30)), [4.0], NOW) == 6.0
