"""Errors in OpenAI's format, with the statuses that its clients act upon.

Its clients retry after 408, 409, 429 and every 5xx, and give up after others. So these statuses are used only where a
retry may succeed.
"""

from __future__ import annotations

from typing import Any

from fastapi import Request
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from cesar.api.http.errors import ProblemResponse, translate
from cesar.api.http.openapi_document import inline_refs
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
    JobNotFound: 409,  # deleted while its caller waited: a retry creates a new job
    Interrupted: 409,
}
"""The statuses that differ from the rest of the service."""
_CODES = {
    "unauthorised": "invalid_api_key",
    "too_many_requests": "rate_limit_exceeded",
    "unknown_model": "model_not_found",
    "model_not_installed": "model_not_found",
}
"""OpenAI's codes by Cesar's; other codes are kept."""
NO_RETRY = {"X-Should-Retry": "false"}
"""Tells OpenAI's clients not to retry, whatever the status."""


class ErrorBody(BaseModel):
    """What went wrong."""

    message: str
    type: str = Field(description="`invalid_request_error`, `rate_limit_error` or `server_error`.")
    param: str | None = Field(description="The invalid field.")
    code: str | None = Field(description="Stable: programs may rely on it.")


class ErrorEnvelope(BaseModel):
    """An error in OpenAI's format."""

    error: ErrorBody


RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "What went wrong",
        "content": {"application/json": {"schema": inline_refs(ErrorEnvelope.model_json_schema())}},
    }
}


def error_response(request: Request, error: Exception) -> Response:
    """Return the response for an error under `/v1`."""
    response = translate(request, error)
    status = status_of(error, response)
    return JSONResponse(error_envelope(error, response, status).model_dump(), status, headers=response.headers)


def status_of(error: Exception, response: ProblemResponse) -> int:
    """Return the status that makes OpenAI's clients do the right thing."""
    return next((_STATUSES[cls] for cls in type(error).__mro__ if cls in _STATUSES), response.problem.status)


def error_envelope(error: Exception, response: ProblemResponse, status: int) -> ErrorEnvelope:
    """Return an error in OpenAI's format."""
    problem = response.problem
    return ErrorEnvelope(
        error=ErrorBody(
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
