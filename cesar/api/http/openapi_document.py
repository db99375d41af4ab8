"""`Description`: the interface's own description, written down once, for programs and for people."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from starlette.requests import Request
from starlette.responses import Response

from cesar.api.http import openapi_page
from cesar.api.http.responses.negotiation import has_it


@dataclass(frozen=True, slots=True)
class Document:
    """Bytes that are the same for every caller, and the headers they are sent with."""

    content: bytes
    media_type: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def answer(self, request: Request) -> Response:
        """Return the document, or 304 if the caller has it already."""
        headers = {**self.headers, "ETag": self.tag, "Cache-Control": "no-cache"}  # kept, but asked for again
        if has_it(request.headers.get("If-None-Match", ""), self.tag):
            return Response(status_code=304, headers=headers)
        return Response(self.content, headers=headers, media_type=self.media_type)

    @property
    def tag(self) -> str:
        """The entity tag."""
        return f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'


@dataclass(frozen=True, slots=True)
class Description:
    """The interface, described."""

    openapi: Document
    page: Document

    @classmethod
    def of(cls, openapi: Mapping[str, Any]) -> Self:
        """Write down an OpenAPI description."""
        policy = {"Content-Security-Policy": openapi_page.CONTENT_SECURITY_POLICY}
        return cls(
            Document(json.dumps(openapi, ensure_ascii=False, separators=(",", ":")).encode(), "application/json"),
            Document(openapi_page.page(openapi).encode(), "text/html", policy),
        )


def inlined(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Put a schema's own definitions where it refers to them, so that it stands anywhere in a document.

    >>> inlined({"items": {"$ref": "#/$defs/Word"}, "$defs": {"Word": {"type": "string"}}})
    {'items': {'type': 'string'}}
    """
    definitions = schema.get("$defs", {})

    def resolved(part: Any) -> Any:
        if isinstance(part, dict):
            name = str(part.get("$ref", "")).removeprefix("#/$defs/")
            others = {key: resolved(value) for key, value in part.items() if key not in ("$ref", "$defs")}
            return {**resolved(definitions[name]), **others} if name in definitions else {**part, **others}
        return [resolved(each) for each in part] if isinstance(part, list) else part

    whole: dict[str, Any] = resolved({key: value for key, value in schema.items() if key != "$defs"})
    return whole
