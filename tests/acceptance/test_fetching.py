"""Recordings from addresses, fetched by real workers that are killed meanwhile."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from cesar.api.models import Job
from tests.api.media_server import MediaServer
from tests.faults.jobs import chunks_of, is_over, model, require_sound, row_of, submit, working, write_sentences
from tests.faults.support import wait_until

pytestmark = pytest.mark.slow

PATIENCE_S = 120.0
_MIB = 1024**2
_LARGE_BYTES = 24 * _MIB
_SYNCED_BYTES = 16 * _MIB
"""This much of a recording is certainly on disk once more than that has arrived."""


@pytest.fixture
def recording(tmp_path: Path) -> bytes:
    """Speech in a file that is made large by a chunk that no player looks at."""
    sound = Path(write_sentences(tmp_path / "talk.wav", 3)).read_bytes()
    padding = b"JUNK" + struct.pack("<I", _LARGE_BYTES) + bytes(_LARGE_BYTES)
    return b"RIFF" + struct.pack("<I", len(sound) + len(padding) - 8) + sound[8:] + padding


def options(folder: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    return {"CESAR_ALLOW_PRIVATE_URLS": "true"}, ("--audio", str(folder / "audio"))


def test_a_fetch_resumes_after_its_worker_is_killed(tmp_path, recording):
    database = tmp_path / "queue.db"
    environ, flags = options(tmp_path)
    with MediaServer(recording) as server:
        server.hold_at = _SYNCED_BYTES + _MIB
        [job] = submit(database, Job(source_url=server.url, model_size=model(tmp_path)))
        with working(database, *flags, environ=environ) as first:
            wait_until(lambda: row_of(database, job)["fetched_bytes"] > _SYNCED_BYTES, PATIENCE_S)
            assert row_of(database, job)["phase"] == "fetching"
            first.kill()
        server.go_on()
        with working(database, *flags, environ=environ) as second:
            wait_until(lambda: is_over(database, job), PATIENCE_S)
            assert row_of(database, job)["status"] == "completed", second.log.read_text()
    [whole, rest] = server.ranges
    assert whole is None
    assert rest is not None
    assert int(rest.removeprefix("bytes=").removesuffix("-")) >= _SYNCED_BYTES
    row = row_of(database, job)
    assert (row["audio_digest"], row["attempt"], row["audio_bytes"]) == (server.digest, 2, len(recording))
    assert Path(row["audio_path"]).read_bytes() == recording
    assert len(chunks_of(database, job)) == 3
    assert row["result_text"].startswith("Word 0.")
    assert list((tmp_path / "audio/incoming").iterdir()) == []
    require_sound(database, [job])


def test_a_fetched_recording_that_is_too_long_fails_with_its_error(tmp_path):
    database = tmp_path / "queue.db"
    talk = write_sentences(tmp_path / "talk.wav", 2)
    [job] = submit(database, Job(audio_path=talk, model_size=model(tmp_path)))
    with working(database, environ={"CESAR_MAX_DURATION_S": "5"}):
        wait_until(lambda: is_over(database, job), PATIENCE_S)
    row = row_of(database, job)
    assert (row["status"], row["error_code"]) == ("error", "recording_too_long")
    assert (row["error_message"], row["attempt"]) == ("talk.wav is longer than 5 s", 1)
    require_sound(database, [job])
