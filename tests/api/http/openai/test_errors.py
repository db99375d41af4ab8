"""Errors in OpenAI's envelope, with the statuses that tell its clients whether to retry."""

from __future__ import annotations

from typing import ClassVar

import httpx
import pytest

from cesar.api.http.errors import problem_response
from cesar.api.http.openai.errors import status_of
from cesar.api.queue.api_keys import Scope
from cesar.errors import BY_CODE, BadRequest, InputError, ModelError, UsageError
from tests.api.http.openai.support import TRANSCRIPTIONS, OpenAICase, form, require_envelope
from tests.api.http.support import require_problem

TRIED_AGAIN = {408, 409, 429, *range(500, 600)}


@pytest.mark.parametrize("code", BY_CODE)
def test_errors_that_would_recur_have_statuses_that_are_not_retried(code):
    error = BY_CODE[code]("what happened")
    status = status_of(error, problem_response(error))
    assert status >= 400
    if isinstance(error, InputError | UsageError | BadRequest):
        assert status == 400
    elif not isinstance(error, ModelError):
        assert status == problem_response(error).problem.status or status not in TRIED_AGAIN or status == 409


class TestProblems(OpenAICase):
    overrides: ClassVar = {"max_upload_bytes": 1000}

    async def test_field_errors_name_the_field(self):
        for field, value in (("temperature", "2"), ("response_format", "docx"), ("stream", "perhaps")):
            assert require_envelope(await self.post((field, value)), 400, "bad_request")["param"] == field

    async def test_unknown_models_are_model_not_found(self):
        error = require_envelope(await self.post(("model", "whisper-9")), 404, "model_not_found")
        assert error["param"] == "model"
        assert "whisper-9" in error["message"]
        diarizing = ("model", "gpt-4o-transcribe-diarize")
        assert "speakers" in require_envelope(await self.post(diarizing), 400, "bad_request")["message"]

    async def test_form_errors_have_openais_envelope(self):
        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        for body in (b"", b"nonsense", form(("model", "whisper-1"))[:-20], b"--b--\r\n"):
            require_envelope(await self.client.post(TRANSCRIPTIONS, content=body, headers=kind), 400, "bad_request")
        answer = await self.client.post(TRANSCRIPTIONS, files={"model": (None, "whisper-1")})
        assert require_envelope(answer, 400, "bad_request")["param"] == "file"
        assert require_envelope(await self.post(content=b""), 400, "bad_request")["param"] == "file"
        answer = await self.client.post(TRANSCRIPTIONS, json={"model": "whisper-1"})
        require_envelope(answer, 400, "unsupported_media_type")

    async def test_size_errors_have_openais_envelope(self):
        require_envelope(await self.post(content=bytes(1001)), 413, "upload_too_large")
        assert self.kept_files() == []

    async def test_endless_fields_take_no_memory(self):
        many = [("keywords[]", "word" * 10_000)] * 100
        require_envelope(await self.post(*many), 400, "bad_request")
        require_envelope(await self.post(*[("keywords[]", "a")] * 2000), 400, "bad_request")

    async def test_unknown_paths_and_methods_have_openais_envelope(self):
        require_envelope(await self.client.get("/v1/chat/completions"), 404, "not_found")
        require_envelope(await self.client.get("/v1/models/whisper-9"), 404, "model_not_found")
        answer = await self.client.get(TRANSCRIPTIONS)
        require_envelope(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == "POST"

    async def test_unexpected_errors_have_openais_envelope(self):
        @self.app.get("/v1/broken")
        async def broken() -> None:
            raise ValueError("the secret words")

        with self.assertLogs("cesar.api.http.errors", "ERROR"):
            error = require_envelope(await self.client.get("/v1/broken"), 500, "internal")
        assert error["type"] == "server_error"
        assert "secret" not in error["message"]

    async def test_errors_outside_v1_are_problems(self):
        answer = await self.client.get("/nowhere")
        require_problem(answer, 404, "not_found")
        assert "x-request-id" not in answer.headers


class TestRateLimit(OpenAICase):
    overrides: ClassVar = {"requests_per_minute": 60}

    async def test_rate_limit_errors_have_retry_after(self):
        answers = [await self.client.get("/v1/models") for _ in range(30)]
        refused = next(answer for answer in answers if answer.status_code != 200)
        assert require_envelope(refused, 429, "rate_limit_exceeded")["type"] == "rate_limit_error"
        assert int(refused.headers["retry-after"]) >= 1


class TestScopes(OpenAICase):
    overrides: ClassVar = {"require_key": True}

    async def test_a_key_that_only_reads_may_list_models_and_no_more(self):
        reader = await self.key("reader", Scope.READ)
        assert (await self.client.get("/v1/models", headers=reader)).status_code == 200
        require_envelope(await self.post(headers=reader), 403, "not_permitted")
        require_envelope(await self.client.get("/v1/models"), 401, "invalid_api_key")

    async def test_every_response_has_its_own_request_id(self):
        reader = await self.key("reader", Scope.READ)
        answers: list[httpx.Response] = [await self.client.get("/v1/models", headers=reader) for _ in range(3)]
        assert len({answer.headers["x-request-id"] for answer in answers}) == 3
