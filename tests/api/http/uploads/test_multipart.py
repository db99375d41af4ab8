"""Uploads: names that are never paths, blocks on disk, and nothing left behind by failures."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import random
import shutil
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cesar.api.http.uploads import multipart
from cesar.api.http.uploads.file_writer import BLOCK_BYTES, UploadWriter, require_free_space
from cesar.api.http.uploads.multipart import clean_name
from cesar.api.storage.recordings import AudioStore
from cesar.errors import DiskFull, OutputError
from tests.api.http.support import ServiceCase, require_problem
from tests.api.support import eventually

FORM = {"Content-Type": "multipart/form-data; boundary=b"}
HEAD = b'--b\r\nContent-Disposition: form-data; name="file"; filename="talk.wav"\r\n\r\n'
TAIL = b"\r\n--b--\r\n"


@pytest.mark.parametrize(
    ("given_name", "shown"),
    [
        ("talk.mp3", "talk.mp3"),
        ("C:\\talks\\monday.mp3", "monday.mp3"),
        ("../../etc/passwd", "passwd"),
        ("/etc/cron.d/evil", "evil"),
        ("talk\x00.mp3\r\n", "talk.mp3"),
        ("..", "recording"),
        ("", "recording"),
        ("a/", "recording"),
        ("\u202e3pm.exe", "3pm.exe"),
        ("  Käse – 会議.wav ", "Käse – 会議.wav"),
        ("\ud800.wav", ".wav"),
        ("a" * 300, "a" * 255),
    ],
)
def test_a_name_is_cleaned_to_the_visible_characters_of_its_last_part(given_name: str, shown: str) -> None:
    assert clean_name(given_name) == shown


@given(st.text())
def test_no_cleaned_name_is_a_path_empty_or_too_long(name: str) -> None:
    shown = clean_name(name)
    assert 1 <= len(shown) <= 255
    assert Path(shown).name == shown
    assert clean_name(shown) == shown
    shown.encode()


class TestUploadWriter(ServiceCase):
    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.threads = self.enterContext(ThreadPoolExecutor(2))

    def arrival(self, path: Path, min_free_bytes: int = 0) -> UploadWriter:
        return UploadWriter(path, self.threads, min_free_bytes)

    async def test_a_finished_upload_is_on_disk_with_its_digest(self) -> None:
        chance = random.Random(5)
        pieces = [chance.randbytes(chance.randrange(1, 300_000)) for _ in range(40)]
        file = self.folder / "a"
        arrival = self.arrival(file)
        for piece in pieces:
            await arrival.add(piece)
        digest = await arrival.finish()
        content = b"".join(pieces)
        assert (file.read_bytes(), digest) == (content, hashlib.sha256(content).hexdigest())
        assert arrival.size_bytes == len(content)
        await arrival.discard()
        assert not file.exists()

    async def test_discard_leaves_a_moved_file_alone(self) -> None:
        arrival = self.arrival(self.folder / "a")
        await arrival.add(b"abc")
        await arrival.finish()
        (self.folder / "a").replace(self.folder / "b")
        await arrival.discard()
        assert (self.folder / "b").read_bytes() == b"abc"

    async def test_a_full_disk_is_reported_as_disk_full(self) -> None:
        (self.folder / "full").symlink_to("/dev/full")
        arrival = self.arrival(self.folder / "full")
        with pytest.raises(DiskFull):
            await arrival.add(bytes(BLOCK_BYTES))
        await arrival.discard()
        assert not (self.folder / "full").is_symlink()

    async def test_writing_stops_before_the_disk_is_full(self) -> None:
        arrival = self.arrival(self.folder / "a", min_free_bytes=10**18)
        with pytest.raises(DiskFull):
            await arrival.add(bytes(BLOCK_BYTES))
        await arrival.discard()

    async def test_a_missing_folder_is_reported_without_its_path(self) -> None:
        with pytest.raises(OutputError) as error:
            self.arrival(self.folder / "gone" / "a")
        assert str(self.folder) not in error.value.message
        assert os.strerror(errno.ENOENT) in error.value.message

    async def test_discarding_during_a_write_leaves_nothing(self) -> None:
        arrival = self.arrival(self.folder / "a")
        for _ in range(20):
            writing = asyncio.ensure_future(arrival.add(bytes(BLOCK_BYTES)))
            await asyncio.sleep(0)
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
        await arrival.discard()
        assert not (self.folder / "a").exists()


def test_free_space_is_checked_on_the_disk_of_a_folder_to_be_created(tmp_path: Path) -> None:
    require_free_space(tmp_path / "not" / "yet", 1, 1)
    with pytest.raises(DiskFull):
        require_free_space(tmp_path / "not" / "yet", 10**18, 1)


class _FullStore(AudioStore):
    """A store on a disk without room: a real one, the kernel's."""

    def new_upload(self, owner: str) -> Path:
        path = super().new_upload(owner)
        path.symlink_to("/dev/full")
        return path


class TestFailedUploads(ServiceCase):
    async def asyncTearDown(self) -> None:
        assert self.kept_files() == []
        assert await self.repository.list_all() == []

    async def post(self, body: AsyncIterator[bytes]) -> httpx.Response:
        return await self.client.post("/transcribe", content=body, headers=FORM)

    async def test_an_upload_without_room_is_507_and_the_next_one_is_accepted(self) -> None:
        store = self.service.audio
        self.repository.audio = _FullStore(store.folder)
        answer = await self.client.post("/transcribe", files={"file": ("a", bytes(3_000_000))})
        require_problem(answer, 507, "disk_full")
        self.repository.audio = store
        job = await self.submit()
        assert (await self.client.delete(f"/jobs/{job['id']}")).status_code == 204

    async def test_a_missing_upload_folder_is_not_reported_as_a_database_error(self) -> None:
        in_the_way = self.settings.audio_dir / "incoming"
        shutil.rmtree(in_the_way)
        in_the_way.write_bytes(b"no folder")
        answer = await self.client.post("/transcribe", files={"file": ("a", b"sound")})
        require_problem(answer, 503, "recordings_not_writable")
        in_the_way.unlink()

    async def test_an_upload_that_cannot_be_moved_leaves_nothing(self) -> None:
        in_the_way = self.settings.audio_dir / hashlib.sha256(b"sound").hexdigest()[:2]
        in_the_way.touch()
        answer = await self.client.post("/transcribe", files={"file": ("a", b"sound")})
        require_problem(answer, 503, "recordings_not_writable")
        assert await self.repository.list_all() == []
        in_the_way.unlink()

    async def test_an_upload_whose_client_disconnects_leaves_nothing(self) -> None:
        [status] = await self.break_off(after=[HEAD, bytes(3_000_000)])
        assert status == 400

    async def test_an_upload_that_stalls_times_out(self) -> None:
        async def silent() -> AsyncIterator[bytes]:
            yield HEAD + bytes(2_000_000)
            await asyncio.Event().wait()

        with self.stall_window(0.2):
            require_problem(await self.post(silent()), 408, "upload_stalled")

    async def test_an_upload_that_trickles_times_out(self) -> None:
        async def dripping() -> AsyncIterator[bytes]:
            yield HEAD
            while True:
                await asyncio.sleep(0.02)
                yield b"a"

        with self.stall_window(0.2):
            require_problem(await self.post(dripping()), 408, "upload_stalled")

    async def test_an_upload_during_shutdown_gets_service_stopping(self) -> None:
        async def overtaken() -> AsyncIterator[bytes]:
            yield HEAD + bytes(2_000_000)
            self.service.stopping.set()
            yield bytes(1000)
            yield TAIL

        require_problem(await self.post(overtaken()), 503, "service_stopping")

    async def test_a_cancelled_upload_leaves_nothing(self) -> None:
        async def waiting() -> AsyncIterator[bytes]:
            yield HEAD + bytes(2_000_000)
            await asyncio.Event().wait()

        sending = asyncio.create_task(self.post(waiting()))
        await eventually(lambda: [file for file in self.kept_files() if file.stat().st_size >= BLOCK_BYTES])
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)

    def stall_window(self, seconds: float) -> Any:
        from unittest.mock import patch

        return patch.object(multipart, "_STALL_WINDOW_S", seconds)

    async def break_off(self, after: list[bytes]) -> list[int]:
        """Send a part of an upload and disconnect; return the statuses that would have been sent."""
        messages = [{"type": "http.request", "body": part, "more_body": True} for part in after]
        messages.append({"type": "http.disconnect"})
        told: list[int] = []

        async def receive() -> Any:
            return messages.pop(0) if len(messages) > 1 else messages[0]

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                told.append(message["status"])

        headers = [
            (b"host", b"cesar"),
            (b"content-type", FORM["Content-Type"].encode()),
            (b"content-length", b"9000000"),
        ]
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/transcribe",
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("cesar", 80),
            "asgi": {"version": "3.0"},
            "state": {},
        }
        await self.app(scope, receive, send)
        return told
