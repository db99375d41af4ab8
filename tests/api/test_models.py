"""What a job may contain, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cesar.api.models import TRANSITIONS, Claim, Job, JobFilter, JobStatus
from cesar.errors import UnknownLanguage
from cesar.models.catalog import CATALOG
from cesar.options import TranscribeOptions

TIMES = ("created_at", "started_at", "completed_at", "run_after", "heartbeat_at", "cancel_requested_at")


def refused(**fields: Any) -> list[tuple[str, str]]:
    """Return the refused fields, with the reasons."""
    with pytest.raises(ValidationError) as caught:
        Job(**{"audio_path": "/talk.wav", **fields})
    return [(str(error["loc"][0]), error["msg"]) for error in caught.value.errors()]


def test_a_new_job_is_queued_without_progress_or_outcome() -> None:
    before = datetime.now(UTC)
    job = Job(audio_path="/recordings/talk.wav")
    assert (job.status, job.model_size, job.name) == (JobStatus.QUEUED, "base", "talk.wav")
    assert before <= job.created_at <= datetime.now(UTC)
    unknown = ("started_at", "completed_at", "result_text", "detected_language", "error_message", "claim", "owner")
    assert [getattr(job, name) for name in unknown] == [None] * len(unknown)
    assert (job.options, job.priority, job.attempt, job.failures, job.lost) == (TranscribeOptions(), 0, 0, 0, 0)


def test_every_job_has_its_own_id() -> None:
    ids = {Job(audio_path="/talk.wav").id for _ in range(100)}
    assert len(ids) == 100
    assert {UUID(id_).version for id_ in ids} == {4}


def test_a_status_is_a_string() -> None:
    assert [str(status) for status in JobStatus] == ["queued", "processing", "completed", "error", "cancelled"]
    assert JobStatus("error") is JobStatus.ERROR
    assert json.dumps(JobStatus.ERROR) == '"error"'
    assert Job(audio_path="/talk.wav", status="error").status is JobStatus.ERROR  # type: ignore[arg-type]
    assert refused(status="paused")[0][0] == "status"


def test_final_statuses_have_no_transition_but_back_to_queued() -> None:
    assert set(TRANSITIONS) == set(JobStatus)
    for status, afters in TRANSITIONS.items():
        assert status not in afters
        assert status.is_final == (afters <= {JobStatus.QUEUED})


@pytest.mark.parametrize("path", ["", " ", "\t\n"])
def test_a_blank_path_is_refused(path: str) -> None:
    assert refused(audio_path=path)[0][0] == "audio_path"


def test_a_path_is_stripped() -> None:
    assert Job(audio_path="  /my talk.wav\n").audio_path == "/my talk.wav"


def test_a_job_needs_a_path_or_an_address() -> None:
    for missing in ({}, {"audio_path": None}, {"source_url": ""}):
        with pytest.raises(ValidationError, match="audio_path or a source_url"):
            Job(**missing)


def test_a_remote_recording_has_no_path_until_it_has_been_fetched() -> None:
    address = "https://example.org/talk.mp3"
    job = Job(source_url=address)
    assert (job.audio_path, job.location, job.name) == (None, address, "talk.mp3")
    job.audio_path = "/data/talk"
    assert job.location == "/data/talk"


def test_unknown_fields_are_refused() -> None:
    assert refused(colour="red") == [("colour", "Extra inputs are not permitted")]
    with pytest.raises(ValidationError, match="Extra inputs"):
        JobFilter(colour="red")  # type: ignore[call-arg]


@pytest.mark.parametrize("model", [*CATALOG, "/models/mine", "scripted:answers.json"])
def test_a_model_may_be_a_name_a_folder_or_a_script(model: str) -> None:
    assert Job(audio_path="/talk.wav", model_size=model).model_size == model


@pytest.mark.parametrize("model", ["", "huge", "Base", "base ", "models/mine", "../base"])
def test_an_unknown_model_is_refused_and_the_known_ones_are_named(model: str) -> None:
    ((field, why),) = refused(model_size=model)
    assert field == "model_size"
    assert repr(model) in why
    assert "large-v3-turbo" in why


@pytest.mark.parametrize("field", TIMES)
def test_naive_times_are_refused(field: str) -> None:
    assert refused(**{field: datetime(2030, 1, 1)})[0][0] == field  # noqa: DTZ001 - that is the point
    job = Job(audio_path="/talk.wav")
    with pytest.raises(ValidationError):
        setattr(job, field, datetime(2030, 1, 1))  # noqa: DTZ001


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(2199, 1, 1)),  # noqa: DTZ001 - hypothesis adds the zone
    st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
def test_times_are_converted_to_utc(naive: datetime, zone: timezone) -> None:
    local = naive.replace(tzinfo=zone)
    kept = Job(audio_path="/talk.wav", created_at=local).created_at
    assert kept == local
    assert kept.tzinfo is UTC


@pytest.mark.parametrize(
    ("field", "value"), [("status", "paused"), ("audio_path", " "), ("model_size", "huge"), ("priority", 1001)]
)
def test_assignments_are_validated_like_new_jobs(field: str, value: object) -> None:
    job = Job(audio_path="/talk.wav")
    before = job.model_copy()
    with pytest.raises(ValidationError):
        setattr(job, field, value)
    assert job == before


@pytest.mark.parametrize("priority", [-1001, 1001, "high", 1.5])
def test_a_priority_has_its_limits(priority: object) -> None:
    assert refused(priority=priority)[0][0] == "priority"


def test_an_idempotency_key_has_its_limits() -> None:
    assert refused(idempotency_key="")[0][0] == "idempotency_key"
    assert refused(idempotency_key="k" * 256)[0][0] == "idempotency_key"
    assert Job(audio_path="/talk.wav", idempotency_key="k" * 255).idempotency_key


def test_options_are_validated() -> None:
    job = Job(audio_path="/talk.wav", options={"language": "German"})  # type: ignore[arg-type]
    assert job.options == TranscribeOptions(language="de")
    with pytest.raises(UnknownLanguage):
        Job(audio_path="/talk.wav", options={"language": "klingon"})  # type: ignore[arg-type]
    assert refused(options={"colour": "red"})[0][0] == "options"


@given(st.floats(0, 1e6), st.none() | st.floats(0, 1e6), st.sampled_from(JobStatus))
def test_progress_is_a_fraction_of_the_whole(position: float, duration: float | None, status: JobStatus) -> None:
    job = Job(audio_path="/talk.wav", position=position, duration=duration, status=status)
    assert 0 <= job.progress <= 1
    if status is JobStatus.COMPLETED or (duration and position >= duration):
        assert job.progress == 1
    elif not duration:
        assert job.progress == 0


texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(texts, texts, st.integers(-1000, 1000))
def test_a_job_survives_json(path: str, text: str, priority: int) -> None:
    job = Job(audio_path=f"/{path}.wav", name=text, result_text=text, priority=priority)
    assert Job.model_validate_json(job.model_dump_json()) == job


def test_a_claim_is_neither_serialised_nor_printed() -> None:
    job = Job(audio_path="/talk.wav", claim=Claim(owner="me", attempt=1))
    assert "claim" not in job.model_dump()
    assert "claim" not in repr(job)


@pytest.mark.slow
def test_importing_the_models_loads_neither_database_nor_web() -> None:
    code = "import sys, cesar.api.models; print(*{'sqlalchemy', 'alembic', 'fastapi', 'av'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "\n"


def test_the_package_exports_exactly_four_names() -> None:
    import cesar.api

    for name in cesar.api.__all__:
        assert getattr(cesar.api, name).__name__ == name
        assert name in dir(cesar.api)
    assert sorted(cesar.api.__all__) == ["BackgroundWorker", "Job", "JobRepository", "JobStatus"]
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        cesar.api.Nothing  # noqa: B018
