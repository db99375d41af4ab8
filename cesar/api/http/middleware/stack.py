"""What every request passes through on its way to an endpoint, and every answer on its way out."""

from __future__ import annotations

from fastapi import FastAPI

from cesar.api.http.dependencies import Service
from cesar.api.http.errors import Problems
from cesar.api.http.middleware.auth import Gate
from cesar.api.http.middleware.limits import SmallBodies
from cesar.api.http.middleware.lingering_close import Parting
from cesar.api.http.middleware.request_id import Numbered
from cesar.api.http.middleware.same_origin import OwnSites
from cesar.api.http.middleware.security_headers import HeadAsGet, SafeHeaders, add_cors
from cesar.api.http.monitoring.metrics import Observed


def install(app: FastAPI, service: Service) -> None:
    """Wrap the application. Last named is outermost, so that it sees what all others answer."""
    app.add_middleware(SmallBodies)
    app.add_middleware(Gate, service=service)
    app.add_middleware(HeadAsGet)
    if not service.needs_key:
        app.add_middleware(OwnSites, settings=service.settings)
    app.add_middleware(Problems)
    app.add_middleware(Parting)
    app.add_middleware(add_cors, settings=service.settings)
    app.add_middleware(SafeHeaders)
    app.add_middleware(Numbered)
    app.add_middleware(Observed, metrics=service.metrics)
