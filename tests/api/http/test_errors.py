"""Errors as callers see them."""

from __future__ import annotations

import pytest
from starlette.responses import StreamingResponse

from cesar.api.http import errors
from cesar.api.http.errors import problem_json, problem_response, redact_paths, status_of
from cesar.errors import (
    BY_CODE,
    CesarError,
    DatabaseUnavailable,
    DiskFull,
    ModelCorrupt,
    NotADatabase,
    TooManyRequests,
    Unauthorised,
)
from tests.api.http.support import PROBLEM, ServiceCase, require_problem


@pytest.mark.parametrize("code", BY_CODE)
def test_every_error_has_a_status_and_a_body_with_its_code(code):
    error = BY_CODE[code]("what happened")
    answer = problem_json(problem_response(error))
    assert answer.status_code == status_of(error) >= 400
    assert answer.media_type == PROBLEM
    assert f'"code":"{code}"'.encode() in bytes(answer.body)


@pytest.mark.parametrize("kind", [NotADatabase, DatabaseUnavailable, DiskFull, CesarError])
def test_internal_errors_reveal_no_paths_of_this_machine(kind):
    error = kind("/home/me/secret.db is broken", hint="Look at /home/me.")
    assert b"/home/me" not in bytes(problem_json(problem_response(error)).body)


def test_paths_in_the_services_folders_are_redacted():
    error = ModelCorrupt("model.bin in /srv/cesar/models/base is damaged", hint="Remove '/srv/cesar/models/base'.")
    body = bytes(problem_json(problem_response(error, ["/srv/cesar"])).body)
    assert b"/srv" not in body
    assert b"is damaged" in body
    assert redact_paths("see /srv/cesarean, /srv/cesar, (/srv/cesar/x y)", ["/srv/cesar"]) == (
        "see /srv/cesarean, a file, (a file y)"
    )


def test_retry_after_and_www_authenticate_are_sent():
    error = TooManyRequests("too many")
    error.retry_after_s = 0.2
    assert problem_json(problem_response(error)).headers["retry-after"] == "1"
    assert problem_json(problem_response(DatabaseUnavailable("busy"))).headers["retry-after"] == "5"
    assert problem_json(problem_response(Unauthorised("no key"))).headers["www-authenticate"] == "Bearer"


class TestProblems(ServiceCase):
    async def test_a_request_with_thousands_of_mistakes_gets_a_short_response(self):
        url = "/transcribe/url"
        for answer in (
            await self.client.post(url, json={f"field{number}": 1 for number in range(10_000)}),
            await self.client.post(url, json={"x" * 200_000: 1}),
            await self.client.get("/jobs", params={"status": ["no such status"] * 1000}),
        ):
            require_problem(answer, 422, "bad_option")
            assert len(answer.content) < 4000

    async def test_an_unknown_path_is_404(self):
        for path in ("/no/such/thing", "/jobs/", "//", "/%00", "/jobs/%2e%2e%2fx/y"):
            require_problem(await self.client.get(path), 404, "not_found")

    async def test_an_unsupported_method_is_405_with_allow(self):
        for method, path, allowed in (
            ("PUT", "/models", {"GET", "HEAD"}),
            ("GET", "/transcribe", {"POST"}),
            ("PATCH", "/jobs/x", {"GET", "HEAD", "DELETE"}),
            ("FROBNICATE", "/livez", {"GET", "HEAD"}),
        ):
            answer = await self.client.request(method, path)
            require_problem(answer, 405, "method_not_allowed")
            assert set(answer.headers["allow"].split(", ")) == allowed

    async def test_an_invalid_value_is_422(self):
        problem = require_problem(await self.client.get("/jobs", params={"limit": "many"}), 422, "bad_option")
        assert "limit" in problem["detail"]

    async def test_a_body_that_is_not_json_is_400(self):
        for body in (b"{", b"", b"\xff\xfe", b'{"url": '):
            answer = await self.client.post(
                "/transcribe/url", content=body, headers={"Content-Type": "application/json"}
            )
            assert answer.status_code in (400, 422)
            assert answer.headers["content-type"] == PROBLEM

    async def test_an_unexpected_error_is_logged_and_gets_a_general_message(self):
        @self.app.get("/broken")
        async def broken():
            raise ValueError("the secret words")

        errors._bugs.logged_at.clear()  # another test may have logged an error of this kind within the minute
        with self.assertLogs("cesar.api.http.errors", "ERROR") as log:
            answer = await self.client.get("/broken")
        problem = require_problem(answer, 500, "internal")
        assert "secret" not in str(problem)
        assert "the secret words" in log.output[0]

    @pytest.mark.slow
    async def test_a_database_error_is_logged_and_gets_a_general_message(self):
        @self.app.get("/broken")
        async def broken():
            raise NotADatabase(f"{self.data_dir}/cesar.db is damaged")

        with self.assertLogs("cesar.api.http.errors", "ERROR") as log:
            answer = await self.client.get("/broken")
        problem = require_problem(answer, 500, "not_a_database")
        assert str(self.folder) not in str(problem)
        assert str(self.data_dir) in log.output[0]

    async def test_a_response_cut_off_by_an_error_is_not_ended_normally(self):
        @self.app.get("/broken")
        async def broken():
            async def parts():
                yield b"one"
                raise NotADatabase("gone")

            return StreamingResponse(parts())

        with self.assertLogs("cesar.api.http.errors", "ERROR") as log, pytest.raises(RuntimeError):
            await self.client.get("/broken")
        assert "a response was cut off: NotADatabase" in log.output[0]

    async def test_every_operation_documents_problems(self):
        for path, methods in self.app.openapi()["paths"].items():
            for operation in methods.values():
                kind = "application/json" if path.startswith("/v1/") else PROBLEM
                assert [*operation["responses"]["default"]["content"]] == [kind]
                assert "422" not in operation["responses"]
