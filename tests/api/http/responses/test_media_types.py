"""The recording itself over HTTP: its kind, its parts, its name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cesar.api.http.responses.media_types import detect_media_type, is_satisfiable, is_usable_range
from cesar.api.models import Job
from tests.api.http.support import ServiceCase, require_problem
from tests.runner.support import AUDIO

CONTENT = bytes(range(256)) * 1000


@pytest.mark.parametrize(
    ("file", "media_type"),
    [
        ("jfk.m4a", "audio/mp4"),
        ("short-video.mp4", "video/mp4"),
        ("sonnet-1.mp3", "audio/mpeg"),
        ("chinese.flac", "audio/flac"),
        ("french.aiff", "audio/aiff"),
        ("german.ogg", "audio/ogg"),
        ("phone-prompt-8k.wav", "audio/wav"),
        ("sonnet-1-opening.webm", "video/webm"),
    ],
)
def test_real_recordings_are_detected_by_their_first_bytes(file, media_type):
    with (AUDIO / file).open("rb") as recording:
        assert detect_media_type(recording.read(64), "no name") == media_type


@given(
    head=st.binary(max_size=64), name=st.sampled_from(["a.html", "a.svg", "a.xml", "a.js", "a.pdf", "a", "", "a.mp3"])
)
def test_a_detected_type_is_always_a_media_type(head, name):
    media_type = detect_media_type(head, name)
    assert media_type.startswith(("audio/", "video/")) or media_type == "application/octet-stream"


@given(st.text(alphabet="bytes=0123456789- ,", max_size=30))
def test_any_range_header_is_parsed(wanted):
    if is_usable_range(wanted, "", "tag"):
        assert is_satisfiable(wanted, 1000) in (True, False)


class TestRecording(ServiceCase):
    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.job = await self.queue(CONTENT, name="Café.wav")
        self.path = f"/jobs/{self.job.id}/audio"

    async def test_a_recording_is_returned_as_uploaded(self):
        answer = await self.client.get(self.path)
        assert (answer.status_code, answer.content) == (200, CONTENT)
        assert answer.headers["content-type"] == "audio/wav"
        assert answer.headers["content-length"] == str(len(CONTENT))
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["etag"] == f'"{self.job.audio_digest}"'
        assert answer.headers["x-content-type-options"] == "nosniff"
        wanted = "inline; filename=\"Cafe.wav\"; filename*=UTF-8''Caf%C3%A9.wav"
        assert answer.headers["content-disposition"] == wanted
        assert str(self.folder) not in str(answer.headers)

    async def test_byte_ranges_are_returned(self):
        size = len(CONTENT)
        for wanted, start, end in (
            ("bytes=0-0", 0, 1),
            ("bytes=100-199", 100, 200),
            (f"bytes={size - 1}-", size - 1, size),
            ("bytes=-5", size - 5, size),
            (f"bytes=-{size * 2}", 0, size),
            (f"bytes=10-{size * 2}", 10, size),
            ("Bytes=7-9", 7, 10),
        ):
            answer = await self.client.get(self.path, headers={"Range": wanted})
            assert (answer.status_code, answer.content) == (206, CONTENT[start:end]), wanted
            assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"

    async def test_an_unsatisfiable_range_is_416_with_the_size(self):
        for wanted in (f"bytes={len(CONTENT)}-", "bytes=999999999-", "bytes=-0"):
            answer = await self.client.get(self.path, headers={"Range": wanted})
            require_problem(answer, 416, "range_not_satisfiable")
            assert answer.headers["content-range"] == f"bytes */{len(CONTENT)}"

    async def test_an_invalid_range_is_ignored(self):
        for wanted in ("bytes=", "bytes=5-2", "lines=1-2", "bytes=a-b", "bytes=1-2,5-6", "bytes=--5", "x", "bytes=٣-"):
            answer = await self.client.get(self.path, headers=[(b"Range", wanted.encode())])
            assert (answer.status_code, answer.content) == (200, CONTENT), wanted

    async def test_a_range_of_another_version_returns_the_whole(self):
        tag = f'"{self.job.audio_digest}"'
        for told, status in ((tag, 206), ('"other"', 200), (f"W/{tag}", 200), ("Tue, 24 Nov 2026 10:00:00 GMT", 200)):
            answer = await self.client.get(self.path, headers={"Range": "bytes=0-9", "If-Range": told})
            assert answer.status_code == status, told
        beyond = {"Range": "bytes=999999999-", "If-Range": '"other"'}
        assert (await self.client.get(self.path, headers=beyond)).status_code == 200

    async def test_an_unchanged_recording_is_304(self):
        answer = await self.client.get(self.path, headers={"If-None-Match": f'"{self.job.audio_digest}"'})
        assert (answer.status_code, answer.content) == (304, b"")

    async def test_head_returns_the_headers_of_get(self):
        got, head = await self.client.get(self.path), await self.client.head(self.path)
        assert (head.status_code, head.content, head.headers) == (200, b"", got.headers)
        part = await self.client.head(self.path, headers={"Range": "bytes=0-9"})
        assert (part.status_code, part.headers["content-length"]) == (206, "10")

    async def test_a_file_that_is_not_media_is_never_rendered_as_a_page(self):
        page = b"<!doctype html><script>alert(1)</script>"
        for name in ("a.html", "a.svg", "a.xhtml", "a"):
            job = await self.queue(page, name=name)
            answer = await self.client.get(f"/jobs/{job.id}/audio")
            assert answer.headers["content-type"] == "application/octet-stream"
            assert answer.headers["content-disposition"].startswith("attachment; ")

    async def test_a_recording_that_is_not_stored_is_404(self):
        own = self.folder / "own.wav"
        own.write_bytes(CONTENT)
        job = await self.repository.create(Job(audio_path=str(own), model_size=self.model))
        require_problem(await self.client.get(f"/jobs/{job.id}/audio"), 404, "recording_not_kept")
        assert self.job.audio_digest is not None
        self.service.audio.remove(self.job.audio_digest)
        require_problem(await self.client.get(self.path), 404, "recording_not_kept")
        require_problem(await self.client.get("/jobs/none/audio"), 404, "job_not_found")


class TestRecordingsOfOthers(ServiceCase):
    overrides = {"require_key": True}  # noqa: RUF012 - as in ServiceCase

    async def test_recordings_of_others_are_404(self):
        mine = await self.key("mine")
        job = await self.queue(submitter="somebody else")
        for what in ("audio", "transcript"):
            answer = await self.client.get(f"/jobs/{job.id}/{what}", headers=mine)
            require_problem(answer, 404, "job_not_found")
