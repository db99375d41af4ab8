"""The order of the middleware."""

from __future__ import annotations

from starlette.middleware import Middleware

from cesar.api.http.dependencies import Service
from cesar.api.http.errors import ProblemMiddleware
from cesar.api.http.middleware.auth import AuthMiddleware
from cesar.api.http.middleware.limits import BodyLimitMiddleware
from cesar.api.http.middleware.lingering_close import LingeringCloseMiddleware
from cesar.api.http.middleware.request_id import RequestIdMiddleware
from cesar.api.http.middleware.same_origin import SameOriginMiddleware
from cesar.api.http.middleware.security_headers import HeadMiddleware, SecurityHeadersMiddleware, add_cors
from cesar.api.http.monitoring.metrics import MetricsMiddleware


def middleware(service: Service) -> list[Middleware]:
    """Return the middleware, outermost first: a request passes from top to bottom, a response from bottom to top."""
    settings = service.settings
    return [
        Middleware(MetricsMiddleware, metrics=service.metrics),
        Middleware(RequestIdMiddleware),
        Middleware(SecurityHeadersMiddleware),
        Middleware(add_cors, settings=settings),
        Middleware(LingeringCloseMiddleware),
        Middleware(ProblemMiddleware),
        *([] if service.requires_key else [Middleware(SameOriginMiddleware, settings=settings)]),
        Middleware(HeadMiddleware),
        Middleware(AuthMiddleware, service=service),
        Middleware(BodyLimitMiddleware),
    ]
