"""The OpenAPI document: it is complete, and generated once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.http.support import ServiceCase


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def found(document: Any, reference: str) -> Any:
    assert reference.startswith("#/"), reference
    for name in reference.removeprefix("#/").split("/"):
        document = document[name.replace("~1", "/").replace("~0", "~")]
    return document


class TestApiDescription(ServiceCase):
    async def test_every_reference_resolves(self) -> None:
        document = (await self.client.get("/openapi.json")).json()
        all_references = set(references(document))
        assert len(all_references) > 10
        for reference in all_references:
            assert found(document, reference), reference

    async def test_event_statuses_list_every_value(self) -> None:
        document = (await self.client.get("/openapi.json")).json()
        stream = document["paths"]["/events"]["get"]["responses"]["200"]["content"]["text/event-stream"]
        assert "queued" in stream["x-event-data"][0]["properties"]["after"]["enum"]

    @pytest.mark.slow
    async def test_documents_are_rendered_once_and_revalidated(self) -> None:
        for path in ("/openapi.json", "/docs"):
            first, second = await self.client.get(path), await self.client.get(path)
            assert first.content == second.content
            tag = first.headers["etag"]
            assert first.headers["cache-control"] == "no-cache"
            again = await self.client.get(path, headers={"If-None-Match": tag})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
