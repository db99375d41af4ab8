"""`ApiDescription`: the API's documentation for programs and for people, rendered once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from starlette.requests import Request
from starlette.responses import Response

from cesar.api.http import openapi_page
from cesar.api.http.responses.negotiation import etag_matches


@dataclass(frozen=True, slots=True)
class Document:
    """Content that is the same for every caller, and its headers."""

    content: bytes
    media_type: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def respond(self, request: Request) -> Response:
        """Return the document, or 304 if the caller has it."""
        headers = {**self.headers, "ETag": self.tag, "Cache-Control": "no-cache"}  # cached, but revalidated
        if etag_matches(request.headers.get("If-None-Match", ""), self.tag):
            return Response(status_code=304, headers=headers)
        return Response(self.content, headers=headers, media_type=self.media_type)

    @property
    def tag(self) -> str:
        """The entity tag."""
        return f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'


@dataclass(frozen=True, slots=True)
class ApiDescription:
    """The API's documentation."""

    openapi: Document
    page: Document

    @classmethod
    def from_openapi(cls, openapi: Mapping[str, Any]) -> Self:
        """Build both documents from an OpenAPI description."""
        policy = {"Content-Security-Policy": openapi_page.CONTENT_SECURITY_POLICY}
        return cls(
            Document(json.dumps(openapi, ensure_ascii=False, separators=(",", ":")).encode(), "application/json"),
            Document(openapi_page.page(openapi).encode(), "text/html", policy),
        )


def inline_refs(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Replace references to a schema's own definitions by the definitions, so that it can be used anywhere.

    >>> inline_refs({"items": {"$ref": "#/$defs/Word"}, "$defs": {"Word": {"type": "string"}}})
    {'items': {'type': 'string'}}
    """
    definitions = schema.get("$defs", {})

    def resolve(part: Any) -> Any:
        if isinstance(part, dict):
            name = str(part.get("$ref", "")).removeprefix("#/$defs/")
            others = {key: resolve(value) for key, value in part.items() if key not in ("$ref", "$defs")}
            return {**resolve(definitions[name]), **others} if name in definitions else {**part, **others}
        return [resolve(each) for each in part] if isinstance(part, list) else part

    whole: dict[str, Any] = resolve({key: value for key, value in schema.items() if key != "$defs"})
    return whole
