"""Authentication and scopes: a middleware identifies the caller, and each endpoint's dependency requires a scope.

Endpoints read the body themselves, so a caller without the scope is refused before a byte of it is read.
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
from cesar.api.http.middleware.limits import RateLimit, client_network
from cesar.api.http.middleware.request_id import OPENAI_PREFIX
from cesar.api.models import Job
from cesar.api.queue.api_keys import Scope
from cesar.errors import JobNotFound, NotPermitted, Unauthorised

PUBLIC_PATHS = frozenset({"/livez", "/readyz", "/docs", "/openapi.json"})
"""Open to all and not rate-limited: they reveal nothing about the service's use."""
_OPTIONAL_KEY_PATHS = frozenset({"/health"})
"""These also answer callers without a key, with less detail."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_log = logging.getLogger(__name__)
_bearer = HTTPBearer(
    scheme_name="API key",
    description="`Authorization: Bearer KEY`, with a key from `cesar keys create NAME`. Not needed where the service "
    "listens on loopback only. Scopes: `read` (models, health, metrics, the key's own jobs), `submit` (also submit, "
    "cancel, retry and delete the key's own jobs), `admin` (also everyone's jobs).",
    auto_error=False,
)


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller."""

    key_id: str
    """The id of the API key; "" where none is required."""
    scopes: frozenset[Scope]
    """All scopes of the caller, implied ones included."""

    @property
    def sees_all(self) -> bool:
        """Whether the caller may see everyone's jobs."""
        return Scope.ADMIN in self.scopes

    def can_see(self, job: Job) -> bool:
        """Whether the caller may see a job: their own, or any as an admin."""
        return self.sees_all or job.submitter == self.key_id

    def require(self, scope: Scope) -> None:
        """Raise `NotPermitted` unless the caller has the scope."""
        if scope not in self.scopes:
            raise NotPermitted(
                f"this API key does not have the scope {scope.value!r}", hint=f"Use a key with the scope {scope.value}."
            )


class AuthMiddleware:
    """Identifies callers, and applies the rate limit. Raises `Unauthorised` or `TooManyRequests`."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        self._refusals = ThrottledLog(_log)
        # Only wrong keys count here. A key can't be guessed in any number of attempts, so the right one is always
        # accepted, and nobody can lock out others who share their address.
        self._wrong_keys = RateLimit(max(1, service.settings.requests_per_minute // 10))

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI)."""
        if scope["type"] == "http" and scope["path"] not in PUBLIC_PATHS:
            request = Request(scope)
            caller = await self._identify(request)
            self._service.rate_limit.require(caller.key_id or _client_address(request))
            request.state.caller = caller
        await self._app(scope, receive, send)

    async def _identify(self, request: Request) -> Caller:
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if not token or kind.lower() != "bearer":
            if not self._service.requires_key:
                return Caller("", frozenset(Scope))
            if request.url.path in _OPTIONAL_KEY_PATHS:
                return Caller("", frozenset())
            self._service.rate_limit.require(_client_address(request))
            raise Unauthorised("the service requires an API key")
        key = await self._service.keys.find(token.strip())
        # OpenAI's clients always send a key: where none is required, any value is accepted.
        if key is None and not self._service.requires_key and request.url.path.startswith(OPENAI_PREFIX):
            return Caller("", frozenset(Scope))
        if key is None:
            self._wrong_keys.require(_client_address(request))
            self._refusals.warning(
                "wrong key", f"wrong API key from {_client_address(request) or 'an unknown address'}"
            )
            raise Unauthorised("the API key is unknown or was revoked")
        return Caller(key.id, key.allowed)


def _client_address(request: Request) -> str:
    return client_network(request.client.host) if request.client else ""


def get_caller(request: Request) -> Caller:
    """Return the caller that the middleware has identified."""
    return cast("Caller", request.state.caller)


def requires_scope(scope: Scope) -> Callable[..., Awaitable[Caller]]:
    """Return a dependency that requires a scope; it raises `NotPermitted`."""

    async def caller(
        request: Request, _credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
    ) -> Caller:
        current = get_caller(request)
        current.require(scope)
        return current

    return caller


Reader = Depends(requires_scope(Scope.READ))
Submitter = Depends(requires_scope(Scope.SUBMIT))


async def find_job(service: Service, caller: Caller, job_id: str) -> Job:
    """Return a job that the caller may see. Raises `JobNotFound`, also for jobs of other callers."""
    job = await service.repository.get(job_id)
    if job is None or not caller.can_see(job):
        raise JobNotFound(f"there is no job {job_id}", hint="See GET /jobs.")
    return job
