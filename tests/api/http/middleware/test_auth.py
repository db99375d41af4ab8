"""Authentication, scopes, host names and origins."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest

from cesar.api.http.app import create_app, requires_key
from cesar.api.http.middleware.same_origin import cannot_be_rebound, hostname_of
from cesar.api.queue.api_keys import Scope
from cesar.settings.config import Settings
from tests.api.http.support import ServiceCase, require_problem

ANYWHERE = {"host": "0.0.0.0"}
OPEN_TO_ALL = {"/livez", "/readyz", "/health"}
UNKNOWN = f"cesar_{'0' * 12}_{'A' * 43}"


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ({"host": "127.0.0.1"}, False),
        ({"host": "::1"}, False),
        ({"host": "localhost"}, False),
        ({"host": "0.0.0.0"}, True),
        ({"host": "::"}, True),
        ({"host": "192.0.2.7"}, True),
        ({"host": "localhost.example.org"}, True),
        ({"host": "0.0.0.0", "require_key": False}, False),
        ({"host": "127.0.0.1", "require_key": True}, True),
    ],
)
def test_a_key_is_required_unless_the_service_listens_on_loopback(settings, needed, tmp_path):
    settings = Settings(data_dir=tmp_path, **settings)
    assert requires_key(settings) is needed
    assert create_app(settings, with_worker=False).state.service.requires_key is needed


class TestKeysOverHttp(ServiceCase):
    overrides = ANYWHERE

    async def test_every_path_except_probes_and_documentation_requires_a_key(self):
        for path, methods in self.app.openapi()["paths"].items():
            for method in methods:
                answer = await self.client.request(method, path.replace("{", "").replace("}", ""))
                if path in OPEN_TO_ALL:
                    assert answer.status_code in (200, 503), path
                    continue
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), path
                if path.startswith("/v1/"):
                    assert answer.json()["error"]["code"] == "invalid_api_key"
                else:
                    require_problem(answer, 401, "unauthorised")
        for path in ("/docs", "/openapi.json"):
            assert (await self.client.get(path)).status_code == 200

    async def test_an_unknown_path_is_401_without_a_key(self):
        require_problem(await self.client.get("/no/such/thing"), 401, "unauthorised")
        answer = await self.client.get("/no/such/thing", headers=await self.key("alice"))
        require_problem(answer, 404, "not_found")

    async def test_a_valid_key_is_accepted(self):
        for word in ("Bearer", "bearer", "BEARER"):
            _, token = await self.service.keys.create(word, [Scope.READ])
            answer = await self.client.get("/models", headers={"Authorization": f"{word} {token}"})
            assert answer.status_code == 200

    async def test_invalid_keys_are_refused(self):
        _, token = await self.service.keys.create("alice", [Scope.READ])
        for shown in ("", "Bearer", "Bearer ", token, f"Basic {token}", f"Bearer {UNKNOWN}", f"Bearer {token}x"):
            answer = await self.client.get("/models", headers={"Authorization": shown})
            require_problem(answer, 401, "unauthorised")
            assert token not in answer.text
        answer = await self.client.get("/models", params={"key": token}, headers={"Cookie": f"key={token}"})
        require_problem(answer, 401, "unauthorised")

    async def test_a_revoked_key_is_refused(self):
        headers = await self.key("alice")
        assert (await self.client.get("/models", headers=headers)).status_code == 200
        await self.service.keys.revoke("alice")
        require_problem(await self.client.get("/models", headers=headers), 401, "unauthorised")

    async def test_a_key_revoked_during_a_request_submits_nothing(self):
        form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nsound\r\n'
        fields = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--b--\r\n'
        multipart = "multipart/form-data; boundary=b"
        for path, kind, body in (
            ("/transcribe", multipart, form + b"--b--\r\n"),
            ("/v1/audio/transcriptions", multipart, form + fields),
            ("/transcribe/url", "application/json", b'{"url": "https://example.org/talk.mp3"}'),
        ):
            with self.subTest(path):
                name = path.strip("/").replace("/", ".")
                headers = await self.key(name) | {"Content-Type": kind}

                async def arriving(name: str = name, content: bytes = body) -> AsyncIterator[bytes]:
                    yield content[:20]
                    await self.service.keys.revoke(name)
                    yield content[20:]

                answer = await self.client.post(path, content=arriving(), headers=headers)
                assert answer.status_code == 401, answer.text
                assert await self.repository.list_all() == []
        assert not list(self.settings.audio_dir.glob("??/*"))

    async def test_health_has_no_details_without_a_key(self):
        assert (await self.client.get("/health")).json()["details"] is None
        answer = await self.client.get("/health", headers=await self.key("alice", Scope.READ))
        assert answer.json()["details"]["jobs"]["queued"] == 0

    async def test_a_read_key_cannot_change_anything(self):
        reader = await self.key("reader", Scope.READ)
        assert (await self.client.get("/metrics", headers=reader)).status_code == 200
        for path, methods in self.app.openapi()["paths"].items():
            for method in methods.keys() - {"get"}:
                answer = await self.client.request(method, path, headers=reader)
                assert answer.status_code == 403, (method, path)

    async def test_jobs_of_others_are_hidden_except_from_an_admin(self):
        alice, bob = await self.key("alice", Scope.SUBMIT), await self.key("bob", Scope.SUBMIT)
        admin = await self.key("admin", Scope.ADMIN)
        job = await self.submit(headers=alice)
        seen = {
            name: (await self.client.get(f"/jobs/{job['id']}", headers=headers)).status_code
            for name, headers in {"alice": alice, "bob": bob, "admin": admin}.items()
        }
        assert seen == {"alice": 200, "bob": 404, "admin": 200}

    async def test_jobs_of_others_cannot_be_read_or_changed(self):
        alice, bob = await self.key("alice", Scope.SUBMIT), await self.key("bob", Scope.SUBMIT)
        admin = await self.key("admin", Scope.ADMIN)
        job = (await self.submit(headers=alice))["id"]
        before = await self.repository.events(job)
        for method, path in (
            ("GET", f"/jobs/{job}"),
            ("GET", f"/jobs/{job}/history"),
            ("GET", f"/jobs/{job}/events"),
            ("GET", f"/jobs/{job}/transcript"),
            ("GET", f"/jobs/{job}/audio"),
            ("POST", f"/jobs/{job}/cancel"),
            ("POST", f"/jobs/{job}/retry"),
            ("DELETE", f"/jobs/{job}"),
        ):
            answer = await self.client.request(method, path, headers=bob)
            assert require_problem(answer, 404, "job_not_found")["detail"] == f"there is no job {job}", path
        assert await self.repository.events(job) == before
        for headers in (alice, admin):
            history = await self.client.get(f"/jobs/{job}/history", headers=headers)
            assert [change["after"] for change in history.json()] == ["queued"]

    async def test_unauthorised_callers_are_refused_before_the_body_is_read(self):
        reader = await self.key("reader", Scope.READ)
        for path in ("/transcribe", "/transcribe/url", "/v1/audio/transcriptions"):
            for headers, status in (({}, 401), ({"Authorization": f"Bearer {UNKNOWN}"}, 401), (reader, 403)):
                assert (await self.first_steps(path, headers))[0] == ("answered", status)

    async def first_steps(self, path: str, headers: dict[str, str]) -> list[tuple[str, Any]]:
        """Submit something; return the order in which the body was read and the response started."""
        steps: list[tuple[str, Any]] = []
        sent = {**headers, "Host": "cesar", "Transfer-Encoding": "chunked"}
        scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "client": ("192.0.2.1", 1)}
        scope["headers"] = [(name.lower().encode(), value.encode()) for name, value in sent.items()]

        async def receive() -> dict[str, Any]:
            steps.append(("read", None))
            return {"type": "http.request", "body": b"x", "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                steps.append(("answered", message["status"]))

        await self.app(scope, receive, send)
        return steps

    async def test_many_wrong_keys_are_rate_limited_but_valid_keys_are_not(self):
        alice = await self.key("alice")
        wrong = {"Authorization": f"Bearer {UNKNOWN}"}
        with self.assertLogs("cesar.api.http.middleware.auth") as log:
            statuses = [(await self.client.get("/models", headers=wrong)).status_code for _ in range(60)]
        assert statuses[:30] == [401] * 30
        assert 429 in statuses
        assert len(log.output) == 1
        assert not any(UNKNOWN in line for line in log.output)
        answer = await self.client.get("/models", headers=wrong)
        while answer.status_code == 401:
            answer = await self.client.get("/models", headers=wrong)
        require_problem(answer, 429, "too_many_requests")
        assert int(answer.headers["retry-after"]) >= 1
        assert (await self.client.get("/models", headers=alice)).status_code == 200


class TestHostNamesWithoutKeys(ServiceCase):
    """DNS rebinding: the attacker's name leads here, so that the browser takes us for the attacker's site."""

    async def test_an_unknown_host_name_is_refused(self):
        for host in (
            "evil.example",
            "evil.example:5000",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "[::1",
            "",
        ):
            for path in ("/models", "/livez", "/docs"):
                answer = await self.client.get(path, headers={"Host": host})
                require_problem(answer, 403, "not_permitted")

    async def test_host_names_that_no_public_name_server_answers_are_accepted(self):
        for host in (
            "localhost",
            "localhost:5000",
            "LOCALHOST",
            "127.0.0.1:5000",
            "[::1]:5000",
            "cesar",
            "a.localhost",
        ):
            assert (await self.client.get("/models", headers={"Host": host})).status_code == 200, host


class TestCrossOriginRequests(ServiceCase):
    overrides: ClassVar[dict[str, Any]] = {"cors_origins": ("https://app.example.org",)}

    async def test_a_page_of_another_site_cannot_use_the_service(self):
        strange = [
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://["},
            {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"},
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        ]
        for headers in strange:
            for method, path in (("GET", "/models"), ("POST", "/transcribe"), ("DELETE", "/jobs/x")):
                require_problem(await self.client.request(method, path, headers=headers), 403, "not_permitted")

    async def test_a_form_on_another_site_cannot_submit(self):
        headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        require_problem(await self.client.post("/transcribe", headers=headers), 403, "not_permitted")

    async def test_programs_own_pages_and_followed_links_are_accepted(self):
        own = [
            {},
            {"Origin": "http://cesar"},
            {"Sec-Fetch-Site": "same-origin"},
            {"Sec-Fetch-Site": "none"},
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
        ]
        for headers in own:
            assert (await self.client.get("/models", headers=headers)).status_code == 200, headers

    async def test_pages_of_configured_origins_may_call(self):
        asked = {"Origin": "https://app.example.org", "Sec-Fetch-Site": "cross-site"}
        answer = await self.client.get("/models", headers=asked)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://app.example.org"
        before = await self.client.options("/transcribe", headers={**asked, "Access-Control-Request-Method": "POST"})
        assert before.status_code == 200
        assert "POST" in before.headers["access-control-allow-methods"]

    async def test_a_proxy_may_use_the_host_name_of_a_configured_origin(self):
        assert (await self.client.get("/models", headers={"Host": "app.example.org"})).status_code == 200

    async def test_other_origins_get_no_cors_headers(self):
        asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        answer = await self.client.options("/transcribe", headers=asked)
        assert "access-control-allow-origin" not in answer.headers


class TestCorsOff(ServiceCase):
    overrides = ANYWHERE

    async def test_no_origin_is_allowed_unless_configured(self):
        headers = {**await self.key("alice"), "Origin": "https://app.example.org"}
        answer = await self.client.get("/models", headers=headers)
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("host", "name"),
    [("a:1", "a"), ("A.b", "a.b"), ("[::1]:5", "::1"), ("[::1", ""), ("", ""), ("a@b", "b"), (":80", "")],
)
def test_the_host_name_is_parsed_from_the_host_header(host, name):
    assert hostname_of(host) == name


@pytest.mark.parametrize("name", ["", ".", "evil.example", "1.2.3", "127.1.", "0x7f.1", "::1.example"])
def test_names_that_can_be_rebound_are_recognised(name):
    assert not cannot_be_rebound(name)
