"""The headers of every response, and responses to HEAD."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any, ClassVar

import pytest

from cesar.api.http.middleware.security_headers import SECURITY_HEADERS
from tests.api.http.support import ServiceCase


class TestHeaders(ServiceCase):
    overrides: ClassVar[dict[str, Any]] = {"requests_per_minute": 200}

    async def test_every_response_has_the_security_headers(self):
        @self.app.get("/broken")
        async def broken():
            raise ZeroDivisionError

        with self.assertLogs(level="ERROR"):
            answers = {
                200: await self.client.get("/models"),
                404: await self.client.get("/no/such/thing"),
                405: await self.client.put("/models"),
                422: await self.client.get("/jobs", params={"limit": "many"}),
                403: await self.client.get("/models", headers={"Host": "evil.example"}),
                500: await self.client.get("/broken"),
            }
        while (answer := await self.client.get("/models")).status_code == 200:
            pass
        answers[429] = answer
        for status, answer in answers.items():
            assert answer.status_code == status
            assert {name: answer.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS

    async def test_preflight_and_refusal_responses_have_the_security_headers(self):
        app = await self.start(self.settings_with(cors_origins=("https://app.example.org",), require_key=True))
        client = await self.connect(app)
        asked = {"Origin": "https://app.example.org", "Access-Control-Request-Method": "GET"}
        preflight = await client.options("/models", headers=asked)
        refused = await client.get("/models", headers={"Origin": "https://app.example.org"})
        assert (preflight.status_code, refused.status_code) == (200, 401)
        for answer in (preflight, refused):
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["access-control-allow-origin"] == "https://app.example.org"

    def settings_with(self, **changes):
        return type(self.settings)(model=self.model, data_dir=self.folder / "other", **changes)


class TestHead(ServiceCase):
    async def test_head_returns_the_headers_of_get_without_the_body(self):
        for path in ("/models", "/livez", "/docs", "/openapi.json", "/jobs", "/no/such/thing"):
            asked, headed = await self.client.get(path), await self.client.head(path)
            assert headed.content == b""
            assert headed.status_code == asked.status_code
            assert headed.headers["content-type"] == asked.headers["content-type"]
            assert headed.headers["content-length"] == asked.headers["content-length"]

    async def test_head_of_a_stream_ends(self):
        answer = await self.client.head("/events")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")


class TestThePage(ServiceCase):
    async def test_the_documentation_loads_nothing_and_runs_no_scripts(self):
        answer = await self.client.get("/docs")
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert not re.search(r"<script|<img|<link|@import|url\(|\son\w+=|\sstyle=|src=", answer.text)
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "http" not in policy
        assert set(re.findall(r"href=['\"]?([^'\"\s>]*)", answer.text)) - {"/openapi.json"} <= {
            f"#{name}" for name in self.app.openapi()["components"]["schemas"]
        }

    async def test_the_documentation_has_every_path_parameter_and_field(self):
        page, description = (await self.client.get("/docs")).text, self.app.openapi()
        for path, methods in description["paths"].items():
            for operation in methods.values():
                assert f"<code>{path}</code>" in page
                for parameter in operation.get("parameters", ()):
                    assert f"<code>{parameter['name']}</code>" in page
        for name, schema in description["components"]["schemas"].items():
            assert f"id='{name}'" in page
            assert all(f"<code>{field}</code>" in page for field in schema.get("properties", ()))

    @pytest.mark.slow
    async def test_every_operation_is_described(self):
        for path, methods in self.app.openapi()["paths"].items():
            for method, operation in methods.items():
                assert operation.get("description"), (method, path)
                assert operation.get("summary"), (method, path)

    async def test_the_pages_style_matches_its_policy(self):
        answer = await self.client.get("/docs")
        [style] = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in answer.headers["content-security-policy"]
