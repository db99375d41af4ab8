"""Who calls, and what they may do: a layer around every endpoint, and a dependency of each.

The layer comes first: who may not call is answered before a byte of the body is read.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from cesar.api.execution.throttled_log import ThrottledLog
from cesar.api.http.dependencies import Service
from cesar.api.http.middleware.limits import RateLimit, address_of
from cesar.api.models import Job
from cesar.api.queue.api_keys import Scope
from cesar.errors import JobNotFound, NotPermitted, Unauthorised

PUBLIC = frozenset({"/livez", "/readyz", "/docs", "/openapi.json"})
"""Open to all, and not counted: they tell nothing of what the service is used for."""
_FOR_STRANGERS = frozenset({"/health"})
"""These answer callers without a key too, if with less."""
_ANY_KEY_WILL_DO = "/v1/"
"""OpenAI's clients can't be without a key: where none is needed, they may show what they like."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_log = logging.getLogger(__name__)
_bearer = HTTPBearer(
    scheme_name="API key",
    description="`Authorization: Bearer KEY`, with a key from `cesar keys create NAME`. Not needed where the service "
    "listens on loopback only. Scopes: `read` (models, health, metrics, the key's own jobs), `submit` (also hand in, "
    "cancel, retry and delete the key's own jobs), `admin` (also everybody's jobs).",
    auto_error=False,
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who calls the service."""

    key_id: str
    """The id of the API key; "" where none is needed."""
    scopes: frozenset[Scope]
    """All that the caller has, those that others include too."""

    @property
    def sees_all(self) -> bool:
        """Whether others' jobs are shown too."""
        return Scope.ADMIN in self.scopes

    def sees(self, job: Job) -> bool:
        """Whether a job is shown to this caller: their own are, and all to an admin."""
        return self.sees_all or job.submitter == self.key_id

    def require(self, scope: Scope) -> None:
        """Raise `NotPermitted` unless the caller has the scope."""
        if scope not in self.scopes:
            raise NotPermitted(
                f"this API key has no scope {scope.value!r}", hint=f"Use a key with the scope {scope.value}."
            )


class Gate:
    """Finds out who calls, counts it, and lets through who may call at all.

    Raises `Unauthorised`, `NotPermitted` or `TooManyRequests`.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        self._refusals = ThrottledLog(_log)
        # A secret can't be guessed in any number of attempts, so who has the right one is let in all the same: nobody
        # can shut others out who share their address.
        self._wrong_keys = RateLimit(max(1, service.settings.requests_per_minute // 10))

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI)."""
        if scope["type"] == "http" and scope["path"] not in PUBLIC:
            request = Request(scope)
            caller = await self._identify(request)
            self._service.rate_limit.require(caller.key_id or _address(request))
            if request.method not in SAFE_METHODS:
                caller.require(Scope.SUBMIT)
            request.state.caller = caller
        await self._app(scope, receive, send)

    async def _identify(self, request: Request) -> Caller:
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if not token or kind.lower() != "bearer":
            if not self._service.needs_key:
                return Caller("", frozenset(Scope))
            if request.url.path in _FOR_STRANGERS:
                return Caller("", frozenset())
            self._service.rate_limit.require(_address(request))
            raise Unauthorised("the service needs an API key")
        key = await self._service.keys.find(token.strip())
        if key is None and not self._service.needs_key and request.url.path.startswith(_ANY_KEY_WILL_DO):
            return Caller("", frozenset(Scope))
        if key is None:
            self._wrong_keys.require(_address(request))
            self._refusals.warning(
                "wrong key", f"a wrong API key came from {_address(request) or 'an unknown address'}"
            )
            raise Unauthorised("the service does not know this API key, or it was revoked")
        return Caller(key.id, key.allowed)


def _address(request: Request) -> str:
    return address_of(request.client.host) if request.client else ""


def caller_of(request: Request) -> Caller:
    """Give who calls, as the gate has found."""
    return cast("Caller", request.state.caller)


def needs(scope: Scope) -> Callable[..., Awaitable[Caller]]:
    """Make the dependency of an endpoint that takes this scope; it raises `NotPermitted`."""

    async def caller(
        request: Request, _shown: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
    ) -> Caller:
        found = caller_of(request)
        found.require(scope)
        return found

    return caller


Reader = Depends(needs(Scope.READ))
Submitter = Depends(needs(Scope.SUBMIT))
Admin = Depends(needs(Scope.ADMIN))


async def find_job(service: Service, caller: Caller, job_id: str) -> Job:
    """Give a job that the caller may see. Raises `JobNotFound`, also for others' jobs."""
    job = await service.repository.get(job_id)
    if job is None or not caller.sees(job):
        raise JobNotFound(f"there is no job {job_id}", hint="See GET /jobs.")
    return job
