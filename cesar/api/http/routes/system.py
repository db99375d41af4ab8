"""The service itself: models, health, metrics, and the API's documentation."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal, cast

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

import cesar
from cesar.api.http.dependencies import Service, ServiceDep
from cesar.api.http.middleware.auth import Caller, Reader, get_caller
from cesar.api.http.monitoring import health
from cesar.api.http.monitoring.health import Health
from cesar.api.http.monitoring.monitor import Fault
from cesar.api.http.openapi_document import ApiDescription
from cesar.api.http.schemas import model_name
from cesar.api.models import utc_now
from cesar.api.queue.api_keys import Scope
from cesar.models.catalog import CATALOG
from cesar.models.store import ModelStatus, list_models

router = APIRouter()


class ModelView(BaseModel):
    """A model that a job may ask for."""

    name: str
    languages: Literal["multilingual", "en"] | None = Field(
        description="`en`: English only. Null: not a model of Cesar's catalogue."
    )
    size_bytes: int | None
    licence: str | None
    installed: bool = Field(description="Whether it is on this machine; others are fetched when first needed.")
    default: bool = Field(description="Whether jobs that name no model use it.")


class ModelsView(BaseModel):
    """The models."""

    models: list[ModelView]


class Liveness(BaseModel):
    """The process is alive."""

    status: Literal["alive"] = "alive"


class Readiness(BaseModel):
    """Whether requests can be served now."""

    status: Literal["ready", "starting", "stopping", "database_away"] | Fault


@router.get("/models", summary="List the models", tags=["system"])
async def models(service: ServiceDep, _caller: Annotated[Caller, Reader]) -> ModelsView:
    """List the models of Cesar's catalogue, and others installed here."""
    found = await asyncio.to_thread(list_models, service.settings.models_dir)
    views = [_model_view(status, service) for status in found]
    if not any(view.default for view in views):
        name = model_name(service.settings.model)
        views.append(ModelView(name=name, languages=None, size_bytes=None, licence=None, installed=True, default=True))
    return ModelsView(models=views)


def _model_view(status: ModelStatus, service: Service) -> ModelView:
    entry = status.entry
    return ModelView(
        name=status.name,
        languages=entry.languages if entry else None,
        size_bytes=entry.size_bytes if entry else None,
        licence=entry.licence if entry else None,
        installed=status.directory is not None,
        default=status.name == service.settings.model and (entry is None or status.name in CATALOG),
    )


@router.get(
    "/health",
    summary="Check the service's health",
    tags=["system"],
    responses={503: {"model": Health, "description": "The service is unhealthy; `reasons` says why."}},
)
async def ask_health(request: Request, service: ServiceDep, response: Response) -> Health:
    """Report the health of the worker, the database and the disk; 503 if the service is unhealthy.

    Callers without a key get no `details`.
    """
    sample = await health.take_sample(service)
    reasons = health.reasons(service, sample)
    response.status_code = 503 if reasons else 200
    is_working = health.is_working(service, sample) or await health.has_idle_worker(service)
    may_know = Scope.READ in get_caller(request).scopes
    return Health(
        status="unhealthy" if reasons else "ok",
        worker="running" if is_working else "stopped",
        reasons=reasons,
        details=health.health_details(sample, cesar.__version__, utc_now()) if may_know else None,
    )


@router.get("/livez", summary="Check that the process is alive", tags=["system"])
async def livez() -> Liveness:
    """Return 200, always. Open to all."""
    return Liveness()


@router.get(
    "/readyz",
    summary="Check whether requests can be served",
    tags=["system"],
    responses={503: {"model": Readiness, "description": "Not now."}},
)
async def readyz(service: ServiceDep, response: Response) -> Readiness:
    """Return 503 while the service starts or stops, and while nothing can be written. Open to all."""
    reason = health.unready_reason(service, await health.take_sample(service))
    response.status_code = 200 if reason is None else 503
    return Readiness.model_validate({"status": reason or "ready"})


@router.get(
    "/metrics",
    summary="Read the metrics",
    tags=["system"],
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "For Prometheus."}},
)
async def metrics(request: Request, service: ServiceDep, _caller: Annotated[Caller, Reader]) -> Response:
    """Return counts, times and sizes in Prometheus's format. They cover all jobs, and name none."""
    await health.take_sample(service)
    content, media_type = service.metrics.exposition(request.headers.get("Accept", ""))
    return Response(content, headers={"Content-Type": media_type})


@router.get("/docs", include_in_schema=False)
async def read_docs(request: Request) -> Response:
    """Return the documentation as a page."""
    return _description(request).page.respond(request)


@router.get("/openapi.json", include_in_schema=False)
async def read_openapi(request: Request) -> Response:
    """Return the OpenAPI document."""
    return _description(request).openapi.respond(request)


def _description(request: Request) -> ApiDescription:
    """Return the API description, built on the first request."""
    state = request.app.state
    if not hasattr(state, "description"):
        state.description = ApiDescription.from_openapi(request.app.openapi())
    return cast("ApiDescription", state.description)
