"""Errors as OpenAI writes them down, and with the statuses that its clients act upon.

They send the same again after 408, 409, 429 and every 5xx, and give up after others: so nothing that would fail again
is any of these.
"""

from __future__ import annotations

from typing import Any

from fastapi import Request
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from cesar.api.http.errors import Told, tell
from cesar.api.http.openapi_document import inlined
from cesar.errors import (
    BadRequest,
    CesarError,
    InputError,
    Interrupted,
    JobNotFound,
    ModelError,
    ModelNotInstalled,
    UnknownModel,
    UnsupportedMedia,
    UsageError,
)

_STATUSES: dict[type[CesarError], int] = {
    UsageError: 400,
    InputError: 400,
    UnsupportedMedia: 400,
    ModelError: 500,
    UnknownModel: 404,
    ModelNotInstalled: 404,
    JobNotFound: 409,  # deleted while its caller waited: the same again makes a new one
    Interrupted: 409,
}
"""Where they differ from those of the rest of the service."""
_CODES = {
    "unauthorised": "invalid_api_key",
    "too_many_requests": "rate_limit_exceeded",
    "unknown_model": "model_not_found",
    "model_not_installed": "model_not_found",
}
"""OpenAI's own codes by Cesar's; the others stay."""
NOT_AGAIN = {"X-Should-Retry": "false"}
"""Tells OpenAI's clients not to send the same again, whatever the status."""


class Complaint(BaseModel):
    """What went wrong."""

    message: str
    type: str = Field(description="`invalid_request_error`, `rate_limit_error` or `server_error`.")
    param: str | None = Field(description="The field that is wrong.")
    code: str | None = Field(description="Stable: programs may rely on it.")


class Envelope(BaseModel):
    """An error, as OpenAI writes it."""

    error: Complaint


RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "What went wrong",
        "content": {"application/json": {"schema": inlined(Envelope.model_json_schema())}},
    }
}


def answer(request: Request, error: Exception) -> Response:
    """Write an error down for a caller under `/v1`."""
    told = tell(request, error)
    status = status_of(error, told)
    return JSONResponse(envelope(error, told, status).model_dump(), status, headers=told.headers)


def status_of(error: Exception, told: Told) -> int:
    """Give the status that makes OpenAI's clients do the right thing."""
    return next((_STATUSES[cls] for cls in type(error).__mro__ if cls in _STATUSES), told.problem.status)


def envelope(error: Exception, told: Told, status: int) -> Envelope:
    """Write an error down."""
    problem = told.problem
    return Envelope(
        error=Complaint(
            message=f"{problem.detail.rstrip('.')}. {problem.hint}".strip(),
            type=_type_of(status),
            param=_field_of(error),
            code=_CODES.get(problem.code, problem.code),
        )
    )


def _type_of(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"


def _field_of(error: Exception) -> str | None:
    if isinstance(error, BadRequest):
        return error.field
    return "model" if isinstance(error, UnknownModel | ModelNotInstalled) else None
