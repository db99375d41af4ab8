"""Errors as callers see them: the table from error class to HTTP status, and problem details (RFC 9457)."""

from __future__ import annotations

import logging
import math
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cesar.api.execution.throttled_log import ThrottledErrorLog, ThrottledLog
from cesar.api.http.dependencies import get_service
from cesar.errors import (
    AddressRefused,
    BadRequest,
    BodyStalled,
    CesarError,
    DatabaseDamaged,
    DatabaseError,
    DatabaseFull,
    DatabaseMissing,
    DatabaseNotWritable,
    DatabaseUnavailable,
    DiskFull,
    ForeignRecordings,
    HeadTooLarge,
    IdempotencyConflict,
    InputError,
    Interrupted,
    InvalidTransition,
    JobNotFound,
    ModelError,
    NotAcceptable,
    NotPermitted,
    QueueError,
    RecognitionError,
    RecordingNotKept,
    RecordingsNotWritable,
    ServiceError,
    ServiceOverloaded,
    ServiceStopping,
    StaleJob,
    StorageLimitReached,
    TooManyJobs,
    TooManyRequests,
    Unauthorised,
    UnknownFormat,
    UnsupportedMedia,
    UploadStalled,
    UploadTooLarge,
    UsageError,
)

STATUSES: dict[type[CesarError], int] = {
    CesarError: 500,
    UsageError: 422,
    UnknownFormat: 422,
    InputError: 422,
    AddressRefused: 422,
    ModelError: 422,
    RecognitionError: 500,
    QueueError: 422,
    JobNotFound: 404,
    StaleJob: 409,
    InvalidTransition: 409,
    IdempotencyConflict: 409,
    Interrupted: 409,
    RecordingsNotWritable: 503,
    DiskFull: 507,
    DatabaseError: 500,
    DatabaseDamaged: 503,
    DatabaseMissing: 503,
    DatabaseNotWritable: 503,
    DatabaseUnavailable: 503,
    ForeignRecordings: 503,
    DatabaseFull: 507,
    ServiceError: 500,
    BadRequest: 400,
    Unauthorised: 401,
    NotPermitted: 403,
    UploadTooLarge: 413,
    UploadStalled: 408,
    BodyStalled: 408,
    HeadTooLarge: 431,
    StorageLimitReached: 507,
    UnsupportedMedia: 415,
    ServiceStopping: 503,
    ServiceOverloaded: 503,
    TooManyRequests: 429,
    TooManyJobs: 429,
    NotAcceptable: 406,
    RecordingNotKept: 404,
}
"""The status of each class; a class not listed here has that of its nearest ancestor."""
MEDIA_TYPE = "application/problem+json"
_FRAMEWORK_CODES = {
    404: "not_found",
    405: "method_not_allowed",
    413: "upload_too_large",
    415: "unsupported_media_type",
    416: "range_not_satisfiable",
}
_REPAIR_RETRY_S = 60.0
"""When to retry while an operator has to repair something."""
_NO_THREAD = "can't start new thread"
"""The message of Python's error, which has no class of its own."""
_INTERNAL = "Something went wrong in the service"
_FOR_OPERATORS = "Try again later; the service's log has more for its operator."
_log = logging.getLogger(__name__)
_failures = ThrottledLog(_log)
"""Throttled, as a caller can cause errors at will, for instance by staying at a limit."""
_bugs = ThrottledErrorLog(_log, "a request failed")
_MAX_PROBLEMS = 5
_MAX_LOCATION_CHARS, _MAX_PROBLEM_CHARS = 64, 300


class Problem(BaseModel):
    """What went wrong (RFC 9457), and what to do about it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    """Stable: programs may rely on it."""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class ProblemResponse:
    """A problem, and the headers of its response."""

    problem: Problem
    headers: dict[str, str]


RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {"description": "What went wrong", "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}}
}


class ProblemMiddleware:
    """Turns exceptions of the inner middleware into problem responses."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_started = False

        async def send_and_note(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except ClientDisconnect:
            _failures.info("disconnected", "a client disconnected")
        except Exception as error:
            if has_started:  # the server closes the connection, so that half a response is not taken for a whole one
                name = type(error.__cause__ or error).__name__
                _failures.error(f"cut off {name}", f"a response was cut off: {name}")
                raise
            await error_response(Request(scope), error)(scope, receive, send)


def status_of(error: CesarError) -> int:
    """Return the status of an error: that of its nearest class in the table."""
    return next(STATUSES[cls] for cls in type(error).__mro__ if cls in STATUSES)


def problem_response(error: CesarError, hidden: Sequence[str] = ()) -> ProblemResponse:
    """Return the problem response for an error. Internal errors get a general message only.

    hidden: folders of this machine whose paths are redacted.
    """
    status, title = status_of(error), (type(error).__doc__ or "").splitlines()[0].rstrip(".")
    detail, hint = error.message, error.hint
    if status >= 500 and not isinstance(error, ServiceError):
        title = _INTERNAL if type(error) is CesarError else title
        detail, hint = f"{title}.", _FOR_OPERATORS
    retry_after_s = _retry_after_s(error)
    headers = {} if retry_after_s is None else {"Retry-After": str(max(1, math.ceil(retry_after_s)))}
    if isinstance(error, Unauthorised):
        headers["WWW-Authenticate"] = "Bearer"
    detail, hint = redact_paths(detail, hidden), redact_paths(hint, hidden)
    return ProblemResponse(Problem(title=title, status=status, detail=detail, code=error.code, hint=hint), headers)


def redact_paths(text: str, folders: Sequence[str]) -> str:
    """Replace the paths in these folders by `a file`.

    >>> redact_paths("/srv/cesar/models/base is damaged", ["/srv/cesar"])
    'a file is damaged'
    """
    for folder in folders:
        text = re.sub(re.escape(folder) + r"(?![^/\s'\"`:,;)])[^\s'\"`:,;)]*", "a file", text)
    return text


Writer = Callable[[Request, Exception], Response]


def install(app: FastAPI, overrides: Mapping[str, Writer]) -> None:
    """Register the exception handlers.

    overrides: other error writers, by the prefix of the paths that they serve.
    """
    app.state.problem_writers = overrides

    async def respond(request: Request, error: Exception) -> Response:
        return error_response(request, error)

    for kind in (CesarError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, respond)


def error_response(request: Request, error: Exception) -> Response:
    """Return the response for an error in the form that callers of this path expect."""
    overrides: Mapping[str, Writer] = request.app.state.problem_writers
    for prefix, write in overrides.items():
        if request.url.path.startswith(prefix):
            return write(request, error)
    return problem_json(translate(request, error))


def translate(request: Request, error: Exception) -> ProblemResponse:
    """Translate an exception into a problem response, without details that are none of the caller's business."""
    hidden = _private_folders(request)
    match error:
        case CesarError():
            if status_of(error) >= 500:
                _failures.error(error.code, f"a request failed: {error.code}: {error.message}")
            return problem_response(error, hidden)
        case RequestValidationError():
            return problem_response(_invalid(error), hidden)
        case HTTPException():
            return _framework_problem(request, error)
        case RuntimeError() if str(error) == _NO_THREAD:
            _failures.error("no threads", "a request failed: the system can't start more threads")
            return problem_response(ServiceOverloaded("the machine can't start more threads"))
    _bugs.report(error)
    return problem_response(CesarError(_INTERNAL), hidden)


def _invalid(error: RequestValidationError) -> CesarError:
    if unread := next((item for item in error.errors() if item["type"] == "json_invalid"), None):
        return BadRequest(f"the body is not JSON: {unread.get('ctx', {}).get('error', 'it is cut off')}")
    problems = list_problems([(_location(item["loc"]), item["msg"]) for item in error.errors()])
    return UsageError(problems or "the request can't be read", hint="See `/docs`.")


def list_problems(problems: Sequence[tuple[str, str]]) -> str:
    """Return the first few problems of a request, each a location and a reason: there may be thousands of long ones.

    >>> list_problems([("a", "Unknown")] * 7)
    'a: Unknown; a: Unknown; a: Unknown; a: Unknown; a: Unknown; and 2 more'
    """
    first = problems[:_MAX_PROBLEMS]
    shown = [f"{location[:_MAX_LOCATION_CHARS]}: {reason[:_MAX_PROBLEM_CHARS]}" for location, reason in first]
    return "; ".join([*shown, *([f"and {len(problems) - len(shown)} more"] if len(problems) > len(shown) else [])])


def _framework_problem(request: Request, error: HTTPException) -> ProblemResponse:
    code = _FRAMEWORK_CODES.get(error.status_code, "bad_request" if error.status_code < 500 else CesarError.code)
    title, detail = HTTPStatus(error.status_code).phrase, str(error.detail)
    headers = dict(error.headers or {})
    if error.status_code == 404:
        detail = "there is nothing at this address"
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods_at(request)) or headers.get("Allow", "GET, HEAD")
        detail = f"this address allows {headers['Allow']} only"
    problem = Problem(title=title, status=error.status_code, detail=detail, code=code, hint="See `/docs`.")
    return ProblemResponse(problem, headers)


def _methods_at(request: Request) -> list[str]:
    """Return all methods of an address, from the OpenAPI document: a route knows only its own."""
    paths: dict[str, Any] = request.app.openapi().get("paths", {})
    found: set[str] = set()
    for template, operations in paths.items():
        if compile_path(template)[0].match(request.url.path):
            found |= {method.upper() for method in operations}
    return sorted(found | ({"HEAD"} if "GET" in found else set()))


def _private_folders(request: Request) -> list[str]:
    """Return the folders whose paths are kept from callers, nested ones first."""
    service = get_service(request)
    database = service.repository.database.location.path
    folders = {service.settings.data_dir, service.settings.data_dir.absolute(), Path(tempfile.gettempdir())}
    folders |= {Path.home()} | (set() if database is None else {database.parent})
    return sorted((str(folder) for folder in folders if len(folder.parts) > 1), key=len, reverse=True)


def problem_json(response: ProblemResponse) -> Response:
    """Return a problem as an HTTP response (RFC 9457)."""
    problem = response.problem
    return JSONResponse(problem.model_dump(), problem.status, headers=response.headers, media_type=MEDIA_TYPE)


def _retry_after_s(error: CesarError) -> float | None:
    if isinstance(error, ServiceError):
        return error.retry_after_s
    if isinstance(
        error, DatabaseDamaged | DatabaseMissing | DatabaseNotWritable | ForeignRecordings | RecordingsNotWritable
    ):
        return _REPAIR_RETRY_S
    return 5.0 if isinstance(error, DatabaseUnavailable) else None


def _location(where: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in where[1:]) or str(where[0])
