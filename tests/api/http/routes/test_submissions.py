"""`POST /transcribe` and `POST /transcribe/url`: what is taken becomes a job, what is not leaves nothing behind."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import httpx
import pytest

from cesar.api.queue.api_keys import Scope
from tests.api.http.support import ServiceCase, require_problem

SOUND = b"not really sound"


class UploadCase(ServiceCase):
    async def post(self, form: bytes | AsyncIterator[bytes], **headers: str) -> httpx.Response:
        """Post a form that was written by hand."""
        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        return await self.client.post("/transcribe", content=form, headers=kind | headers)


class TestUpload(UploadCase):
    async def test_an_upload_becomes_a_queued_job_with_a_location(self) -> None:
        answer = await self.client.post("/transcribe", files={"file": ("talk.wav", SOUND)})
        assert answer.status_code == 202
        job = answer.json()
        assert answer.headers["Location"] == f"/jobs/{job['id']}"
        assert (job["name"], job["status"], job["queue_position"]) == ("talk.wav", "queued", 0)
        assert job["audio_sha256"] == hashlib.sha256(SOUND).hexdigest()
        assert job["audio_bytes"] == len(SOUND)

    @pytest.mark.slow
    async def test_an_upload_is_stored_unchanged_under_its_digest(self) -> None:
        content = bytes(range(256)) * 12_000 + b"\r\n--" + bytes(1000)  # several blocks, and what looks like an end
        job = await self.submit(content)
        stored = self.service.audio.path_of(job["audio_sha256"])
        assert stored.read_bytes() == content
        assert (await self.read(job["id"])).audio_path == str(stored)
        assert self.kept_files() == [stored]

    async def test_identical_uploads_are_stored_once(self) -> None:
        first, second = await self.submit(name="a.wav"), await self.submit(name="b.wav")
        assert first["id"] != second["id"]
        assert first["audio_sha256"] == second["audio_sha256"]
        assert len(self.kept_files()) == 1

    async def test_a_job_has_the_options_of_its_upload(self) -> None:
        job = await self.submit(
            language="German",
            task="translate",
            prompt="Frau Müller",
            hotwords="Cesar",
            word_timestamps="true",
            start="1.5",
            end="9",
            beam_size="2",
            temperature="0.4",
            track="2",
            priority="-7",
        )
        assert job["priority"] == -7
        assert job["options"] == {
            "language": "de",
            "languages": [],
            "task": "translate",
            "prompt": "Frau Müller",
            "hotwords": "Cesar",
            "word_timestamps": True,
            "start": 1.5,
            "end": 9.0,
            "beam_size": 2,
            "temperature": 0.4,
            "track": 2,
        }

    async def test_an_upload_may_name_candidate_languages(self) -> None:
        job = await self.submit(languages="en, Dutch,eng")
        assert (job["options"]["language"], job["options"]["languages"]) == (None, ["en", "nl"])
        refused = await self.post(_form(("languages", b"en,klingon", None), ("file", SOUND, "talk.wav")))
        require_problem(refused, 422, "unknown_language")

    async def test_fields_may_follow_the_recording_or_be_empty(self) -> None:
        form = _form(("file", SOUND, "talk.wav"), ("priority", b"3", None), ("language", b"", None))
        answer = await self.post(form)
        assert (answer.status_code, answer.json()["priority"], answer.json()["options"]["language"]) == (202, 3, None)

    async def test_a_job_uses_the_services_model_unless_it_names_another(self) -> None:
        assert (await self.submit())["model"] == "words.json"
        assert (await self.submit(model="words.json"))["model"] == "words.json"
        assert (await self.submit(model="small"))["model"] == "small"

    async def test_an_upload_needs_neither_name_nor_type(self) -> None:
        form = b'--b\r\nContent-Disposition: form-data; name="file"\r\nContent-Type: audio/wav\r\n\r\nabc\r\n--b--\r\n'
        assert (await self.post(form)).json()["name"] == "recording"

    async def test_a_job_has_no_paths_of_this_machine(self) -> None:
        job = await self.submit()
        shown = [json.dumps(job), (await self.client.get("/jobs")).text]
        assert not [text for text in shown if str(self.folder) in text]

    async def test_repeating_an_idempotency_key_returns_the_same_job(self) -> None:
        headers = {"Idempotency-Key": "monday"}
        first = await self.submit(headers=headers)
        again = await self.client.post("/transcribe", files={"file": ("talk.wav", SOUND)}, headers=headers)
        assert (again.status_code, again.json()["id"]) == (202, first["id"])
        assert again.headers["Location"] == f"/jobs/{first['id']}"
        assert len(self.kept_files()) == 1

    async def test_the_idempotency_key_of_another_request_is_refused(self) -> None:
        headers = {"Idempotency-Key": "monday"}
        await self.submit(headers=headers)
        answer = await self.client.post("/transcribe", files={"file": ("talk.wav", b"other sound")}, headers=headers)
        require_problem(answer, 409, "idempotency_conflict")
        assert len(self.kept_files()) == 1

    @pytest.mark.slow
    async def test_twenty_concurrent_uploads_are_all_accepted(self) -> None:
        contents = [bytes([number]) * 3_000_000 for number in range(20)]
        jobs = await asyncio.gather(*map(self.submit, contents))
        for job, content in zip(jobs, contents, strict=True):
            assert self.service.audio.path_of(job["audio_sha256"]).read_bytes() == content
        assert len(self.kept_files()) == 20


class TestInvalidUploads(UploadCase):
    async def asyncTearDown(self) -> None:
        assert self.kept_files() == []
        assert await self.repository.list_all() == []

    async def test_a_form_without_a_recording_is_refused(self) -> None:
        answer = await self.client.post("/transcribe", files={"language": (None, "en")})
        assert "`file`" in require_problem(answer, 400, "bad_request")["hint"]

    async def test_an_empty_recording_is_refused(self) -> None:
        answer = await self.client.post("/transcribe", files={"file": ("a.wav", b"")})
        assert "is empty" in require_problem(answer, 400, "bad_request")["detail"]

    async def test_text_instead_of_a_file_is_refused(self) -> None:
        answer = await self.client.post("/transcribe", files={"file": (None, "talk.wav")})
        assert "@" in require_problem(answer, 400, "bad_request")["hint"]

    async def test_two_recordings_are_refused(self) -> None:
        answer = await self.client.post("/transcribe", files=[("file", ("a", SOUND)), ("file", ("b", SOUND))])
        assert "two recordings" in require_problem(answer, 400, "bad_request")["detail"]

    async def test_an_unknown_field_is_refused(self) -> None:
        answer = await self.client.post("/transcribe", files={"file": ("a", SOUND)}, data={"langauge": "en"})
        problem = require_problem(answer, 400, "bad_request")
        assert "'langauge'" in problem["detail"]
        assert "language" in problem["hint"]

    async def test_thousands_of_unknown_fields_are_only_counted(self) -> None:
        answer = await self.client.post("/transcribe/url", json={f"field {number}": 0 for number in range(10_000)})
        assert "10000 fields" in require_problem(answer, 422, "bad_option")["detail"]

    async def test_a_repeated_field_is_refused(self) -> None:
        form = _form(("task", b"translate", None), ("task", b"transcribe", None), ("file", SOUND, "a"))
        assert "twice" in require_problem(await self.post(form), 400, "bad_request")["detail"]

    async def test_a_field_that_is_too_long_is_refused(self) -> None:
        form = _form(("prompt", b"a" * 70_000, None), ("file", SOUND, "a"))
        assert "longer" in require_problem(await self.post(form), 400, "bad_request")["detail"]

    async def test_a_field_that_is_not_utf_8_is_refused(self) -> None:
        form = _form(("prompt", b"\xff\xfe", None), ("file", SOUND, "a"))
        assert "UTF-8" in require_problem(await self.post(form), 400, "bad_request")["detail"]

    async def test_too_many_fields_are_refused(self) -> None:
        form = _form(*[("prompt", b"", None)] * 40)
        require_problem(await self.post(form), 400, "bad_request")

    async def test_a_truncated_form_is_refused(self) -> None:
        whole = _form(("file", SOUND, "a"))
        for length in (1, 20, 60, len(whole) - 8):
            require_problem(await self.post(whole[:length]), 400, "bad_request")

    async def test_a_form_without_its_boundary_in_the_body_is_refused(self) -> None:
        sent = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal sent
            while True:
                sent += 10_000
                yield bytes(10_000)

        require_problem(await self.post(endless()), 400, "bad_request")
        assert sent < 20_000_000  # what came after the answer was dropped

    async def test_a_form_without_a_boundary_is_refused(self) -> None:
        answer = await self.client.post("/transcribe", content=b"x", headers={"Content-Type": "multipart/form-data"})
        require_problem(answer, 400, "bad_request")

    async def test_a_body_that_is_not_a_form_is_refused(self) -> None:
        for kind in ("application/json", "audio/wav", "application/x-www-form-urlencoded", ""):
            answer = await self.client.post("/transcribe", content=b"{}", headers={"Content-Type": kind})
            require_problem(answer, 415, "unsupported_media_type")

    async def test_a_compressed_body_is_refused(self) -> None:
        answer = await self.post(_form(("file", SOUND, "a")), **{"Content-Encoding": "gzip"})
        require_problem(answer, 415, "unsupported_media_type")

    async def test_invalid_options_are_refused(self) -> None:
        for field, value in [
            ("beam_size", "0"),
            ("beam_size", "many"),
            ("temperature", "1.1"),
            ("temperature", "nan"),
            ("track", "0"),
            ("track", "both"),
            ("start", "-1"),
            ("start", "nan"),
            ("end", "inf"),
            ("start", "1e308"),
            ("start", "1e10"),
            ("end", "1e308"),
            ("task", "sing"),
            ("priority", "1e9"),
            ("word_timestamps", "perhaps"),
        ]:
            answer = await self.client.post("/transcribe", files={"file": ("a", SOUND)}, data={field: value})
            assert field in require_problem(answer, 422, "bad_option")["detail"]

    async def test_an_end_before_the_start_is_refused(self) -> None:
        answer = await self.client.post("/transcribe", files={"file": ("a", SOUND)}, data={"start": "5", "end": "4"})
        require_problem(answer, 422, "bad_option")

    async def test_an_unknown_language_is_refused(self) -> None:
        answer = await self.client.post("/transcribe", files={"file": ("a", SOUND)}, data={"language": "klingon"})
        require_problem(answer, 422, "unknown_language")

    async def test_an_unknown_model_or_a_path_is_refused(self) -> None:
        for model in ("huge", "../../etc", str(self.folder), self.model, self.model.removeprefix("scripted:")):
            answer = await self.client.post("/transcribe", files={"file": ("a", SOUND)}, data={"model": model})
            require_problem(answer, 422, "unknown_model")

    async def test_every_submission_is_refused_during_shutdown(self) -> None:
        self.service.stopping.set()
        answer = await self.client.post("/transcribe", files={"file": ("a", SOUND)})
        require_problem(answer, 503, "service_stopping")
        assert int(answer.headers["Retry-After"]) > 0

    async def test_an_idempotency_key_that_is_too_long_is_refused(self) -> None:
        headers = {"Idempotency-Key": "k" * 256}
        answer = await self.client.post("/transcribe", files={"file": ("a", SOUND)}, headers=headers)
        require_problem(answer, 422, "bad_option")


class TestLimits(ServiceCase):
    overrides: ClassVar = {"max_upload_bytes": 3_000_000, "max_open_jobs": 2}

    async def test_a_recording_at_the_size_limit_is_accepted(self) -> None:
        assert (await self.submit(bytes(3_000_000)))["audio_bytes"] == 3_000_000

    async def test_a_recording_one_byte_over_the_limit_is_refused(self) -> None:
        answer = await self.client.post("/transcribe", files={"file": ("a", bytes(3_000_001))})
        require_problem(answer, 413, "upload_too_large")
        assert self.kept_files() == []

    async def test_a_retried_job_counts_as_unfinished(self) -> None:
        job = await self.submit()
        await self.client.post(f"/jobs/{job['id']}/cancel")
        other, _ = await self.submit(), await self.submit()
        require_problem(await self.client.post(f"/jobs/{job['id']}/retry"), 429, "too_many_jobs")
        require_problem(await self.client.post(f"/jobs/{other['id']}/retry"), 409, "illegal_move")
        await self.client.post(f"/jobs/{other['id']}/cancel")
        assert (await self.client.post(f"/jobs/{job['id']}/retry")).json()["status"] == "queued"

    async def test_a_length_over_the_limit_is_refused_before_the_body_is_read(self) -> None:
        asked: list[int] = []

        async def counted() -> AsyncIterator[bytes]:
            asked.append(len(self.kept_files()))
            yield b""

        headers = {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": str(10**10)}
        answer = await self.client.post("/transcribe", content=counted(), headers=headers)
        require_problem(answer, 413, "upload_too_large")

    async def test_a_body_without_a_length_is_refused_as_soon_as_it_is_too_large(self) -> None:
        sent = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal sent
            yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
            while True:
                sent += 100_000
                yield bytes(100_000)

        answer = await self.client.post(
            "/transcribe", content=endless(), headers={"Content-Type": "multipart/form-data; boundary=b"}
        )
        require_problem(answer, 413, "upload_too_large")
        assert sent < 30_000_000
        assert self.kept_files() == []

    async def test_each_caller_has_a_limit_of_unfinished_jobs(self) -> None:
        ann, bob = await self.key("ann"), await self.key("bob")
        for _ in range(2):
            await self.submit(headers=ann)
        answer = await self.client.post("/transcribe", files={"file": ("a", SOUND)}, headers=ann)
        require_problem(answer, 429, "too_many_jobs")
        assert int(answer.headers["Retry-After"]) > 0
        await self.submit(headers=bob)


class TestAFullDisk(ServiceCase):
    overrides: ClassVar = {"min_free_bytes": 10**18}

    async def test_a_full_disk_is_reported_before_the_body_is_read(self) -> None:
        answer = await self.client.post("/transcribe", files={"file": ("a", SOUND)})
        problem = require_problem(answer, 507, "disk_full")
        assert str(self.folder) not in problem["detail"]
        assert self.kept_files() == []


class TestAddressSubmission(ServiceCase):
    async def test_an_address_becomes_a_job_to_fetch(self) -> None:
        url = "https://example.org/talks/Monday%20talk.mp3?x=1"
        answer = await self.client.post("/transcribe/url", json={"url": url, "language": "en", "priority": 2})
        assert answer.status_code == 202
        job = answer.json()
        assert answer.headers["Location"] == f"/jobs/{job['id']}"
        told = {"source_url": url, "name": "Monday talk.mp3", "priority": 2, "status": "queued", "audio_bytes": None}
        assert {name: job[name] for name in told} == told
        stored = await self.read(job["id"])
        assert (stored.audio_path, stored.source_url) == (None, url)

    async def test_an_address_submission_has_a_given_name_or_its_hosts(self) -> None:
        named = await self.client.post("/transcribe/url", json={"url": "https://example.org/a.mp3", "name": "../b\\c"})
        bare = await self.client.post("/transcribe/url", json={"url": "https://example.org"})
        assert (named.json()["name"], bare.json()["name"]) == ("c", "example.org")

    async def test_repeating_an_idempotency_key_returns_the_same_job(self) -> None:
        headers = {"Idempotency-Key": "monday"}
        body = {"url": "https://example.org/a.mp3"}
        first, second = [await self.client.post("/transcribe/url", json=body, headers=headers) for _ in range(2)]
        assert first.json()["id"] == second.json()["id"]
        other = await self.client.post("/transcribe/url", json=body | {"url": "https://example.org/b"}, headers=headers)
        require_problem(other, 409, "idempotency_conflict")

    async def test_a_private_address_is_refused(self) -> None:
        for url in (
            "file:///etc/passwd",
            "ftp://example.org/a",
            "http://127.0.0.1/a",
            "http://[::1]/a",
            "http://user:word@example.org/a",
            "http://",
            "example.org/a.mp3",
            "http://[",
        ):
            answer = await self.client.post("/transcribe/url", json={"url": url})
            require_problem(answer, 422, "address_refused")
        assert await self.repository.list_all() == []

    @pytest.mark.slow
    async def test_an_invalid_json_body_is_refused(self) -> None:
        bodies: list[Any] = [
            b"",
            b"{",
            b"[]",
            b"null",
            b'{"url": 3}',
            b'{"url": "https://a.b", "word_timestamps": "yes"}',
        ]
        bodies += [b'{"url": "https://example.org/a", "nonsense": 1}', b"\xff", b'{"url": "\\ud800"}']
        for body in bodies:
            answer = await self.client.post("/transcribe/url", content=body)
            require_problem(answer, 422, "bad_option")

    async def test_an_oversized_json_body_is_refused(self) -> None:
        answer = await self.client.post("/transcribe/url", content=bytes(300_000))
        require_problem(answer, 400, "bad_request")


class TestScopes(ServiceCase):
    overrides: ClassVar = {"require_key": True}

    async def test_submitting_requires_the_submit_scope(self) -> None:
        reader = await self.key("reader", Scope.READ)
        submitter = await self.key("submitter", Scope.SUBMIT)
        for headers, expected in (({}, 401), (reader, 403), (submitter, 202)):
            answer = await self.client.post("/transcribe", files={"file": ("a", SOUND)}, headers=headers)
            assert answer.status_code == expected
            body = {"url": "https://example.org/a"}
            assert (await self.client.post("/transcribe/url", json=body, headers=headers)).status_code == expected

    async def test_idempotency_keys_are_scoped_to_a_caller(self) -> None:
        ann, bob = await self.key("ann"), await self.key("bob")
        same = {"Idempotency-Key": "monday"}
        assert (await self.submit(headers=ann | same))["id"] != (await self.submit(headers=bob | same))["id"]


def test_the_description_names_every_field_and_status() -> None:
    """The framework can't describe a body that it doesn't parse: we do."""
    from cesar.api.http.app import create_app
    from cesar.settings.config import Settings

    described = create_app(Settings(), with_worker=False).openapi()["paths"]["/transcribe"]["post"]
    schema = described["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert schema["required"] == ["file"]
    assert set(schema["properties"]) == {
        *("file", "model", "language", "languages", "task", "prompt", "hotwords", "word_timestamps", "start", "end"),
        *("beam_size", "temperature", "track", "priority", "no_cache"),
    }
    assert all(entry.get("description") for entry in schema["properties"].values())
    assert "Location" in described["responses"]["202"]["headers"]
    assert [entry["name"] for entry in described["parameters"]] == ["Idempotency-Key"]


def _form(*parts: tuple[str, bytes, str | None]) -> bytes:
    """Write a form by hand; boundary: b."""
    written = b""
    for name, content, filename in parts:
        told = f'; filename="{filename}"' if filename is not None else ""
        written += f'--b\r\nContent-Disposition: form-data; name="{name}"{told}\r\n\r\n'.encode() + content + b"\r\n"
    return written + b"--b--\r\n"
