"""A job's transcript from what is stored: exactly the one that transcribing without a queue returns."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from cesar.api.models import Job, JobStatus
from cesar.api.queries.transcripts import transcript_of
from cesar.api.repository import JobRepository
from cesar.api.worker import BackgroundWorker
from cesar.errors import QueueError
from cesar.formats import FORMATS, render
from cesar.options import TranscribeOptions
from cesar.transcriber import AudioTranscriber
from cesar.transcript import Chunk, Segment, Span, Transcript
from tests.api.support import eventually
from tests.runner.support import SONNET, plain, write_script
from tests.support.media import silence, write_cut_off, write_wav

OPTIONS = {
    "as it is": TranscribeOptions(),
    "with words": TranscribeOptions(language="en", word_timestamps=True),
    "a part": TranscribeOptions(start=7.5, end=33.25, beam_size=1),
    "translated": TranscribeOptions(task="translate", prompt="Shakespeare"),
}
CHUNKS = (
    Chunk(2.0, 9.0, (Segment(2.5, 8.0, "One."),), (Span(2.0, 9.0, "speech"),)),
    Chunk(12.0, 20.0, (Segment(13.0, 19.0, "Two."),), (Span(12.0, 20.0, "speech"),)),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_script(tmp_path_factory.mktemp("script") / "script.json")


async def queued_and_done(folder: Path, *jobs: Job) -> list[tuple[Job, list[Chunk]]]:
    """Have a worker process the jobs; return them as they are read back, with their chunks."""
    repository = JobRepository(folder / "queue.db")
    await repository.connect()
    worker = BackgroundWorker(repository, poll_interval=0.05)
    for job in jobs:
        await repository.create(job)
    running = asyncio.create_task(worker.run())

    async def all_over() -> bool:
        return all(job.status.is_final for job in await repository.list_all())

    try:
        await eventually(all_over)
        read = [job for job in await repository.list_all() if job.status is JobStatus.COMPLETED]
        return [(job, await repository.chunks(job.id)) for job in reversed(read)]
    finally:
        await worker.shutdown(now=True)
        await running
        await repository.close()


@pytest.fixture(scope="module")
def pairs(model: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Transcript, Transcript]]:
    """By the options' name: the queue's transcript of the sonnet, and the transcriber's."""
    folder = tmp_path_factory.mktemp("queue")
    done = asyncio.run(
        queued_and_done(
            folder, *(Job(audio_path=str(SONNET), model_size=model, options=wish) for wish in OPTIONS.values())
        )
    )
    direct = AudioTranscriber(model)
    return {
        name: (transcript_of(*stored), direct.transcribe(SONNET, wish))
        for (name, wish), stored in zip(OPTIONS.items(), done, strict=True)
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_a_completed_jobs_transcript_equals_the_transcribers(name, pairs):
    queued, direct = pairs[name]
    assert plain(queued) == plain(direct)
    assert queued.timings.keys() == direct.timings.keys()
    assert len(queued.segments) > 5, "there must be something to compare"


@pytest.mark.slow
@pytest.mark.parametrize("format_name", FORMATS)
def test_a_completed_jobs_transcript_renders_the_same_in_every_format(format_name, pairs):
    queued, direct = (
        replace(transcript, timings={}, origin=replace(transcript.origin, transcribed_at=None))
        for transcript in pairs["with words"]
    )
    assert render(queued, format_name) == render(direct, format_name)


@pytest.mark.slow
def test_silence_is_a_transcript_without_segments(model, tmp_path):
    recording = write_wav(tmp_path / "silence.wav", silence(2.0))
    [(job, chunks)] = asyncio.run(queued_and_done(tmp_path, Job(audio_path=str(recording), model_size=model)))
    assert plain(transcript_of(job, chunks)) == plain(AudioTranscriber(model).transcribe(recording))
    assert chunks == []


@pytest.mark.slow
def test_a_jobs_transcript_has_the_transcribers_warnings(model, tmp_path):
    recording = write_cut_off(tmp_path / "cut.mp3", SONNET, keep=0.3)
    [(job, chunks)] = asyncio.run(queued_and_done(tmp_path, Job(audio_path=str(recording), model_size=model)))
    transcript = transcript_of(job, chunks)
    assert plain(transcript) == plain(AudioTranscriber(model).transcribe(recording))
    assert transcript.warnings


@pytest.mark.parametrize("status", [status for status in JobStatus if status is not JobStatus.COMPLETED])
def test_an_unfinished_jobs_transcript_is_partial_and_covers_finished_chunks(status):
    """What has not been recognised yet is not silence."""
    job = Job(audio_path="/talk.wav", status=status, duration=60.0, position=20.0)
    transcript = transcript_of(job, CHUNKS)
    assert transcript.is_partial
    assert transcript.text == "One. Two."
    assert transcript.duration == 60.0
    assert [(span.start, span.end, span.kind) for span in transcript.ledger] == [
        (0.0, 2.0, "silence"),
        (2.0, 9.0, "speech"),
        (9.0, 12.0, "silence"),
        (12.0, 20.0, "speech"),
    ]


def test_a_partial_transcript_starts_at_the_requested_start():
    job = Job(audio_path="/talk.wav", options=TranscribeOptions(start=1.5, end=30.0))
    first, *others = transcript_of(job, CHUNKS).ledger
    assert (first.start, first.end, first.reason) == (0.0, 1.5, "not asked for")
    assert others[-1].end == 20.0
    assert all(before.end == after.start for before, after in pairwise([first, *others]))


def test_a_partial_transcript_is_at_least_as_long_as_its_chunks():
    assert transcript_of(Job(audio_path="/talk.wav", duration=3.0), CHUNKS).duration == 20.0


def test_a_partial_transcript_has_the_requested_language_and_the_models_name():
    asked = Job(audio_path="/talk.wav", model_size="tiny", options=TranscribeOptions(language="de"))
    assert transcript_of(asked, CHUNKS).language == "de"
    assert transcript_of(asked, CHUNKS).model.name == "tiny"
    assert transcript_of(Job(audio_path="/talk.wav"), CHUNKS).language == "unknown"


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize("chunks", [(), CHUNKS], ids=["nothing", "something"])
def test_a_partial_transcript_renders_in_every_format(format_name, chunks):
    text = render(transcript_of(Job(audio_path="/talk.wav"), chunks), format_name)
    assert ("One." in text) == bool(chunks)


def test_a_text_without_chunks_is_not_mistaken_for_silence():
    job = Job(audio_path="/talk.wav", status=JobStatus.COMPLETED, result_text="Somebody said so.")
    with pytest.raises(QueueError, match="only the text"):
        transcript_of(job, [])
