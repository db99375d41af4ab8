"""A job whose worker is killed resumes at the first uncommitted chunk, and gives the same bytes."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cesar.api.models import Job
from cesar.options import TranscribeOptions
from cesar.pipeline.samples import SAMPLE_RATE
from tests.faults.conftest import IS_LONG
from tests.faults.jobs import (
    chunks_of,
    is_over,
    killed,
    middle,
    model,
    reasons,
    require_sound,
    row_of,
    start,
    submit,
    working,
    write_sentences,
)
from tests.faults.support import wait_until
from tests.support.media import AUDIO, speech, white_noise, write_wav

pytestmark = pytest.mark.slow

WITH_WORDS = [False, True] if IS_LONG else [True]
DIE_AFTER_A_CHUNK = {"CESAR_FAILPOINT": "checkpoint:committed=kill"}


def result_of(database: Path, job: str) -> dict[str, Any]:
    """Return a job's whole output, except times and durations."""
    row = row_of(database, job)
    outcome = json.loads(row["outcome"])
    del outcome["timings"], outcome["origin"]
    chunks = [(start, end, payload) for start, end, _, payload in chunks_of(database, job)]
    fields = ("status", "result_text", "detected_language", "duration", "failures", "error_code")
    return {name: row[name] for name in fields} | {"outcome": outcome, "chunks": chunks}


def uninterrupted(database: Path, job: Job) -> dict[str, Any]:
    """Return the output of an uninterrupted job with the same options; waiting jobs are done first."""
    [one] = submit(database, Job(audio_path=job.audio_path, model_size=job.model_size, options=job.options))
    with working(database) as worker:
        wait_until(lambda: is_over(database, one), timeout_s=300)
        worker.drain()
    assert row_of(database, one)["attempt"] == 1
    return result_of(database, one)


def kill_after_every_chunk(database: Path, job: str, *, look: Callable[[int], None] = lambda _: None) -> int:
    """Have one worker after another finish a chunk and die, until all are finished; return the number of kills.

    Whatever is committed must stay as it is.
    """
    kills = 0
    before: list[tuple[Any, ...]] = []
    while True:
        with start(database, environ=DIE_AFTER_A_CHUNK) as worker:
            if not killed(worker, lambda: is_over(database, job)):
                worker.drain()
                return kills
        kills += 1
        after = chunks_of(database, job)
        assert after[:-1] == before, "a chunk is committed once"
        assert after[-1][2] == kills, "each worker has done one chunk"
        before = after
        look(len(after))


@dataclass
class Recognised:
    """Counts how often each chunk was recognised, by marks that the scripted model leaves."""

    folder: Path
    count: int
    total: int = 0
    committed: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir()

    @property
    def faults(self) -> list[dict[str, Any]]:
        """Only the mark is made at them."""
        return [{"at": middle(n), "do": "nothing", "unless": str(self.folder / str(n))} for n in range(self.count)]

    def look(self, committed: int) -> None:
        """Count what one worker has recognised; this many chunks are committed now."""
        marks = list(self.folder.iterdir())
        assert all(int(mark.name) >= self.committed for mark in marks), "what is committed is not done again"
        for mark in marks:
            mark.unlink()
        self.total += len(marks)
        self.committed = committed


@pytest.mark.parametrize("with_words", WITH_WORDS)
def test_a_job_killed_after_every_chunk_gives_the_bytes_of_an_uninterrupted_run(tmp_path, with_words, rounds, note):
    chunks = rounds(4, 25)
    kills = computed = 0
    recording = write_sentences(tmp_path / "recording.wav", chunks)
    options = TranscribeOptions(word_timestamps=with_words)
    for number in range(rounds(1, 4)):
        database = tmp_path / f"queue-{number}.db"
        recognised = Recognised(tmp_path / f"recognised-{number}", chunks)
        name = model(tmp_path, *recognised.faults, word=f"round{number}")
        [job] = submit(database, wanted := Job(audio_path=recording, model_size=name, options=options))
        killed = kill_after_every_chunk(database, job, look=recognised.look)
        recognised.look(chunks)
        assert killed == chunks
        assert result_of(database, job) == uninterrupted(database, wanted)
        assert reasons(database, job) == ["submitted", *["claimed", "worker died"] * killed, "claimed", "completed"]
        require_sound(database, [job])
        kills += killed
        computed += recognised.total - chunks
    assert ('"words": [{' in str(chunks_of(database, job)).replace('":[', '": [')) == with_words
    note(f"resumes, words={with_words}", kills, unequal=0, chunks_done_again=computed)


@pytest.mark.model
@pytest.mark.parametrize("with_words", WITH_WORDS)
def test_a_real_model_gives_the_same_bytes_however_often_its_worker_is_killed(tmp_path, with_words, rounds, note):
    """Real speech of many sentences; which windows share a batch differs between attempts."""
    database = tmp_path / "queue.db"
    options = TranscribeOptions(end=rounds(22, 240), word_timestamps=with_words)
    wanted = Job(audio_path=str(AUDIO / "printing-lj.m4a"), model_size="tiny.en", options=options)
    [job] = submit(database, wanted)
    kills = kill_after_every_chunk(database, job)
    result = result_of(database, job)
    assert result == uninterrupted(database, wanted)
    assert "printing" in result["result_text"].lower()
    assert len(result["chunks"]) == kills
    require_sound(database, [job])
    note(f"resumes of tiny.en, words={with_words}", kills, unequal=0)


def test_a_job_killed_at_every_chunk_and_at_the_change_of_language_gives_the_same_bytes(tmp_path):
    """What an attempt knows about the recording's language does not depend on which chunks are left."""
    database = tmp_path / "queue.db"
    recording = write_sentences(tmp_path / "recording.wav", 5)
    spoken = ["en", "en", "de", "de", "en"]
    segments = [
        {"start": middle(n) - 0.3, "end": middle(n) + 0.3, "text": f"Sentence {n} in {language}.", "language": language}
        for n, language in enumerate(spoken)
    ]
    fault = {"at": middle(2), "do": "kill parent", "unless": str(tmp_path / "killed")}
    script = tmp_path / "changing.json"
    script.write_text(
        json.dumps({"language": "en", "languages": ["en", "de"], "segments": segments, "faults": [fault]})
    )
    wanted = Job(audio_path=recording, model_size=f"scripted:{script}")
    [job] = submit(database, wanted)
    with start(database) as worker:
        wait_until(lambda: not worker.is_running)
    while not is_over(database, job):
        with start(database, environ=DIE_AFTER_A_CHUNK) as worker:
            if not killed(worker, lambda: is_over(database, job)):
                worker.drain()
    result = result_of(database, job)
    assert result == uninterrupted(database, wanted)
    texts = [json.loads(payload)["segments"][0] for _, _, payload in result["chunks"]]
    assert [segment["language"] for segment in texts] == spoken
    assert "German (de)" in str(result["outcome"])
    require_sound(database, [job])


@pytest.mark.model
def test_a_real_model_writes_a_change_within_a_chunk_the_same_however_often_its_worker_is_killed(tmp_path):
    database = tmp_path / "queue.db"
    sounds = [speech(name) for name in ("jfk.m4a", "german.ogg", "jfk.m4a")]
    recording = write_wav(tmp_path / "changing.wav", np.concatenate(sounds))
    wanted = Job(audio_path=str(recording), model_size="base")
    [job] = submit(database, wanted)
    assert kill_after_every_chunk(database, job) > 1
    result = result_of(database, job)
    assert result == uninterrupted(database, wanted)
    segments = [segment for _, _, payload in result["chunks"] for segment in json.loads(payload)["segments"]]
    assert {segment["language"] for segment in segments} == {"en", "de"}
    require_sound(database, [job])


@pytest.mark.model
def test_a_real_model_hears_a_drowned_channel_the_same_however_often_its_worker_is_killed(tmp_path):
    """A quiet voice that changes sides, beside noise: each attempt chooses the channels anew."""
    database = tmp_path / "queue.db"
    voice = speech("jfk.m4a") * np.float32(0.03)
    noise = white_noise(len(voice) / SAMPLE_RATE + 1, amplitude=0.1)[: len(voice)]
    sides = [np.stack([voice, noise], axis=1), np.stack([noise, voice], axis=1)]
    pause = np.zeros((2 * SAMPLE_RATE, 2), np.float32)
    recording = write_wav(tmp_path / "drowned.wav", np.concatenate([sides[0], pause, sides[1], pause, sides[0]]))
    wanted = Job(audio_path=str(recording), model_size="tiny.en")
    [job] = submit(database, wanted)
    assert kill_after_every_chunk(database, job) > 1
    result = result_of(database, job)
    assert result == uninterrupted(database, wanted)
    assert result["result_text"].lower().count("what your country can do for you") == 3
    assert "channel 2 was transcribed alone" in str(result["outcome"])
    require_sound(database, [job])


@pytest.mark.parametrize("what", ["the recording", "the options", "the model"])
def test_checkpoints_of_different_work_are_dropped(tmp_path, what):
    """The new recording is recognised from its start, with nothing of the old one."""
    database = tmp_path / "queue.db"
    recording = write_sentences(tmp_path / "recording.wav", 2)
    wanted = Job(audio_path=recording, model_size=model(tmp_path))
    [job] = submit(database, wanted)
    with start(database, environ=DIE_AFTER_A_CHUNK) as worker:
        wait_until(lambda: not worker.is_running)
    [old] = chunks_of(database, job)
    match what:
        case "the recording":
            with Path(recording).open("r+b") as file:  # one sample of the last pause
                file.seek(-1000, os.SEEK_END)
                file.write(b"\x07")
        case "the options":
            with closing(sqlite3.connect(database)) as connection, connection:
                connection.execute("""UPDATE jobs SET options = json_set(options, '$.word_timestamps', json('true'))""")
            wanted.options = TranscribeOptions(word_timestamps=True)
        case "the model":
            shutil.copy(model(tmp_path, word="other").removeprefix("scripted:"), tmp_path / "word.json")
    expected = uninterrupted(database, wanted)
    assert result_of(database, job) == expected
    assert [attempt for _, _, attempt, _ in chunks_of(database, job)] == [2, 2]
    assert (chunks_of(database, job)[0][3] == old[3]) == (what == "the recording"), "its beginning is the same"
    require_sound(database, [job])


def test_a_recording_replaced_while_it_is_processed_is_not_mixed_with_its_successor(tmp_path):
    """The child that has the old recording open dies, and the next one opens the new one."""
    database = tmp_path / "queue.db"
    old = Path(write_sentences(tmp_path / "recording.wav", 6))
    new = Path(write_sentences(tmp_path / "new.wav", 4))
    marker = tmp_path / "died"
    hang = {"at": middle(2), "do": "hang", "unless": str(marker)}
    [job] = submit(database, Job(audio_path=str(old), model_size=model(tmp_path, hang)))
    with working(database) as worker:
        wait_until(lambda: marker.exists() and len(chunks_of(database, job)) == 2)
        new.write_bytes(new.read_bytes()[:44] + bytes(60_000) + new.read_bytes()[60_044:])  # no first sentence
        new.replace(old)
        [child] = worker.children()
        os.kill(child, 9)
        wait_until(lambda: is_over(database, job))
        worker.drain()
    told = row_of(database, job)
    if told["status"] == "completed":
        assert "Word 0." not in told["result_text"], "that was said in the old one only"
    require_sound(database, [job])
