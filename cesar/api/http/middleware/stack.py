"""The order of the middleware."""

from __future__ import annotations

from fastapi import FastAPI

from cesar.api.http.dependencies import Service
from cesar.api.http.errors import ProblemMiddleware
from cesar.api.http.middleware.auth import AuthMiddleware
from cesar.api.http.middleware.limits import BodyLimitMiddleware
from cesar.api.http.middleware.lingering_close import LingeringCloseMiddleware
from cesar.api.http.middleware.request_id import RequestIdMiddleware
from cesar.api.http.middleware.same_origin import SameOriginMiddleware
from cesar.api.http.middleware.security_headers import HeadMiddleware, SecurityHeadersMiddleware, add_cors
from cesar.api.http.monitoring.metrics import MetricsMiddleware


def install(app: FastAPI, service: Service) -> None:
    """Add the middleware. The last one added is outermost, and sees the responses of all others."""
    app.add_middleware(BodyLimitMiddleware)
    app.add_middleware(AuthMiddleware, service=service)
    app.add_middleware(HeadMiddleware)
    if not service.requires_key:
        app.add_middleware(SameOriginMiddleware, settings=service.settings)
    app.add_middleware(ProblemMiddleware)
    app.add_middleware(LingeringCloseMiddleware)
    app.add_middleware(add_cors, settings=service.settings)
    app.add_middleware(SecurityHeadersMiddleware)
    app.add_middleware(RequestIdMiddleware)
    app.add_middleware(MetricsMiddleware, metrics=service.metrics)
