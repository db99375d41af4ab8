"""Errors as the caller sees them: the table from error class to HTTP status, and RFC 9457's way to write them down."""

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
from cesar.api.http.dependencies import service_of
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
    IllegalMove,
    InputError,
    Interrupted,
    JobNotFound,
    ModelError,
    NotAcceptable,
    NotPermitted,
    QueueError,
    RecognitionError,
    RecordingNotKept,
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
    IllegalMove: 409,
    IdempotencyConflict: 409,
    Interrupted: 409,
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
"""The status by class; a class that is not named here has its nearest parent's."""
MEDIA_TYPE = "application/problem+json"
_OF_FRAMEWORK = {
    404: "not_found",
    405: "method_not_allowed",
    413: "upload_too_large",
    415: "unsupported_media_type",
    416: "range_not_satisfiable",
}
_MENDED_S = 60.0
"""When to ask again while somebody has to mend something."""
_NO_THREAD = "can't start new thread"
"""What Python says, without a class of its own."""
_BROKEN = "Something went wrong in the service"
_FOR_OPERATORS = "Try again later; whoever runs the service finds more in its log."
_log = logging.getLogger(__name__)
_failures = ThrottledLog(_log)
_bugs = ThrottledErrorLog(_log, "a request failed")
_MAX_PROBLEMS = 5
_MAX_PLACE_CHARS, _MAX_PROBLEM_CHARS = 64, 300
"""A caller may have them as often as they like: one who keeps as much as they may, for instance."""


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
class Told:
    """A problem, and the headers that belong to it."""

    problem: Problem
    headers: dict[str, str]


RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {"description": "What went wrong", "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}}
}


class Problems:
    """Answers with a problem where no endpoint has answered: also for what goes wrong in the layers below."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_begun = False

        async def send_noted(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except ClientDisconnect:
            _failures.info("broken off", "a caller broke off")
        except Exception as error:
            if has_begun:  # the server cuts the connection, so that half an answer is not taken for a whole one
                name = type(error.__cause__ or error).__name__
                _failures.error(f"broke off {name}", f"an answer broke off: {name}")
                raise
            await answer(Request(scope), error)(scope, receive, send)


def status_of(error: CesarError) -> int:
    """Give the status of an error: that of the nearest class in the table."""
    return next(STATUSES[cls] for cls in type(error).__mro__ if cls in STATUSES)


def told_of(error: CesarError, hidden: Sequence[str] = ()) -> Told:
    """Tell of an error.

    hidden: folders of this machine, whose paths are left out. What is wrong inside is told in general words only.
    """
    status, title = status_of(error), (type(error).__doc__ or "").splitlines()[0].rstrip(".")
    detail, hint = error.message, error.hint
    if status >= 500 and not isinstance(error, ServiceError):
        title = _BROKEN if type(error) is CesarError else title
        detail, hint = f"{title}.", _FOR_OPERATORS
    headers = {"Retry-After": str(max(1, math.ceil(wait_s)))} if (wait_s := _wait_s(error)) is not None else {}
    if isinstance(error, Unauthorised):
        headers["WWW-Authenticate"] = "Bearer"
    detail, hint = without(detail, hidden), without(hint, hidden)
    return Told(Problem(title=title, status=status, detail=detail, code=error.code, hint=hint), headers)


def without(text: str, folders: Sequence[str]) -> str:
    """Leave paths in these folders out of a text.

    >>> without("/srv/cesar/models/base is damaged", ["/srv/cesar"])
    'a file is damaged'
    """
    for folder in folders:
        text = re.sub(re.escape(folder) + r"(?![^/\s'\"`:,;)])[^\s'\"`:,;)]*", "a file", text)
    return text


Writer = Callable[[Request, Exception], Response]


def install(app: FastAPI, others: Mapping[str, Writer]) -> None:
    """Have every error of the application answered so.

    others: what writes errors down in another way, by how the paths begin for which it does.
    """
    app.state.problem_writers = others

    async def respond(request: Request, error: Exception) -> Response:
        return answer(request, error)

    for kind in (CesarError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, respond)


def answer(request: Request, error: Exception) -> Response:
    """Write an error down as the callers of this path expect it."""
    others: Mapping[str, Writer] = request.app.state.problem_writers
    for beginning, write in others.items():
        if request.url.path.startswith(beginning):
            return write(request, error)
    return written(tell(request, error))


def tell(request: Request, error: Exception) -> Told:
    """Tell of whatever has gone wrong with a request, without what no caller needs to know."""
    hidden = _folders_of(request)
    match error:
        case CesarError():
            if status_of(error) >= 500:
                _failures.error(error.code, f"a request failed: {error.code}: {error.message}")
            return told_of(error, hidden)
        case RequestValidationError():
            return told_of(_invalid(error), hidden)
        case HTTPException():
            return _of_framework(request, error)
        case RuntimeError() if str(error) == _NO_THREAD:
            _failures.error("no threads", "a request failed: the system gives no more threads")
            return told_of(ServiceOverloaded("the machine gives no more threads"))
    _bugs.report(error)
    return told_of(CesarError(_BROKEN), hidden)


def _invalid(error: RequestValidationError) -> CesarError:
    if unread := next((item for item in error.errors() if item["type"] == "json_invalid"), None):
        return BadRequest(f"the body is not JSON: {unread.get('ctx', {}).get('error', 'it breaks off')}")
    wrong = list_problems([(_place(item["loc"]), item["msg"]) for item in error.errors()])
    return UsageError(wrong or "the request can't be read", hint="See `/docs`.")


def list_problems(found: Sequence[tuple[str, str]]) -> str:
    """Name the first few places of a request that are wrong and why: a request may have thousands, and long ones.

    >>> list_problems([("a", "Unknown")] * 7)
    'a: Unknown; a: Unknown; a: Unknown; a: Unknown; a: Unknown; and 2 more'
    """
    shown = [f"{place[:_MAX_PLACE_CHARS]}: {why[:_MAX_PROBLEM_CHARS]}" for place, why in found[:_MAX_PROBLEMS]]
    return "; ".join([*shown, *([f"and {len(found) - len(shown)} more"] if len(found) > len(shown) else [])])


def _of_framework(request: Request, error: HTTPException) -> Told:
    code = _OF_FRAMEWORK.get(error.status_code, "bad_request" if error.status_code < 500 else CesarError.code)
    title, detail = HTTPStatus(error.status_code).phrase, str(error.detail)
    headers = dict(error.headers or {})
    if error.status_code == 404:
        detail = "there is nothing at this address"
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods_at(request)) or headers.get("Allow", "GET, HEAD")
        detail = f"this address takes {headers['Allow']} only"
    problem = Problem(title=title, status=error.status_code, detail=detail, code=code, hint="See `/docs`.")
    return Told(problem, headers)


def _methods_at(request: Request) -> list[str]:
    """Say what an address takes, by the interface's description: a route alone knows of its own methods only."""
    paths: dict[str, Any] = request.app.openapi().get("paths", {})
    found: set[str] = set()
    for template, operations in paths.items():
        if compile_path(template)[0].match(request.url.path):
            found |= {method.upper() for method in operations}
    return sorted(found | ({"HEAD"} if "GET" in found else set()))


def _folders_of(request: Request) -> list[str]:
    """Name the folders that no caller needs to know of; those within others first."""
    service = service_of(request)
    database = service.repository.database.location.path
    folders = {service.settings.data_dir, service.settings.data_dir.absolute(), Path(tempfile.gettempdir())}
    folders |= {Path.home()} | (set() if database is None else {database.parent})
    return sorted((str(folder) for folder in folders if len(folder.parts) > 1), key=len, reverse=True)


def written(told: Told) -> Response:
    """Write an error down for the caller (RFC 9457)."""
    return JSONResponse(told.problem.model_dump(), told.problem.status, headers=told.headers, media_type=MEDIA_TYPE)


def _wait_s(error: CesarError) -> float | None:
    if isinstance(error, ServiceError):
        return error.retry_after_s
    if isinstance(error, DatabaseDamaged | DatabaseMissing | DatabaseNotWritable | ForeignRecordings):
        return _MENDED_S
    return 5.0 if isinstance(error, DatabaseUnavailable) else None


def _place(where: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in where[1:]) or str(where[0])
