"""How the service is: models, health, metrics, and the page that explains the interface."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal, cast

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

import cesar
from cesar.api.http.dependencies import Service, service_of
from cesar.api.http.middleware.auth import Caller, Reader, caller_of
from cesar.api.http.monitoring import health
from cesar.api.http.monitoring.health import Health
from cesar.api.http.monitoring.monitor import Trouble
from cesar.api.http.openapi_document import Description
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
        description="`en`: it knows English only. Null: it is not one that Cesar knows."
    )
    size_bytes: int | None
    licence: str | None
    installed: bool = Field(description="Whether it is on this machine; others are fetched when they are first needed.")
    default: bool = Field(description="Whether jobs that name no model get it.")


class ModelsView(BaseModel):
    """The models."""

    models: list[ModelView]


class Liveness(BaseModel):
    """The process is alive."""

    status: Literal["alive"] = "alive"


class Readiness(BaseModel):
    """Whether requests can be answered now."""

    status: Literal["ready", "starting", "stopping", "database_away"] | Trouble


@router.get("/models", summary="List the models", tags=["system"])
async def models(request: Request, _caller: Annotated[Caller, Reader]) -> ModelsView:
    """Give every model that Cesar knows, and what else is installed here."""
    service = service_of(request)
    found = await asyncio.to_thread(list_models, service.settings.models_dir)
    views = [_view_of(status, service) for status in found]
    if not any(view.default for view in views):
        name = model_name(service.settings.model)
        views.append(ModelView(name=name, languages=None, size_bytes=None, licence=None, installed=True, default=True))
    return ModelsView(models=views)


def _view_of(status: ModelStatus, service: Service) -> ModelView:
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
    summary="Ask whether all is well",
    tags=["system"],
    responses={503: {"model": Health, "description": "The service is unhealthy; `reasons` says why."}},
)
async def ask_health(request: Request, response: Response) -> Health:
    """Say whether the service is well: its worker, the database, the disk. 503 if it is not.

    Callers without a key are answered too, without `details`.
    """
    service = service_of(request)
    sight = await health.look(service)
    reasons = health.reasons(service, sight)
    response.status_code = 503 if reasons else 200
    is_working = health.is_working(service, sight) or await health.has_idle_worker(service)
    may_know = Scope.READ in caller_of(request).scopes
    return Health(
        status="unhealthy" if reasons else "ok",
        worker="running" if is_working else "stopped",
        reasons=reasons,
        details=health.details_of(sight, cesar.__version__, utc_now()) if may_know else None,
    )


@router.get("/livez", summary="Ask whether the process is alive", tags=["system"])
async def livez() -> Liveness:
    """Answer 200, always. Open to all."""
    return Liveness()


@router.get(
    "/readyz",
    summary="Ask whether requests can be answered",
    tags=["system"],
    responses={503: {"model": Readiness, "description": "Not now."}},
)
async def readyz(request: Request, response: Response) -> Readiness:
    """Answer 503 while the service starts or stops, and while nothing can be written. Open to all."""
    service = service_of(request)
    reason = health.unready_reason(service, await health.look(service))
    response.status_code = 200 if reason is None else 503
    return Readiness.model_validate({"status": reason or "ready"})


@router.get(
    "/metrics",
    summary="Read the metrics",
    tags=["system"],
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "For Prometheus."}},
)
async def metrics(request: Request, _caller: Annotated[Caller, Reader]) -> Response:
    """Give counts, times and sizes as Prometheus reads them. They are of all jobs, and name none."""
    service = service_of(request)
    await health.look(service)
    content, media_type = service.metrics.page(request.headers.get("Accept", ""))
    return Response(content, headers={"Content-Type": media_type})


@router.get("/docs", include_in_schema=False)
async def read_docs(request: Request) -> Response:
    """Return this interface as a page."""
    return _description(request).page.answer(request)


@router.get("/openapi.json", include_in_schema=False)
async def read_openapi(request: Request) -> Response:
    """Return this interface as programs read it."""
    return _description(request).openapi.answer(request)


def _description(request: Request) -> Description:
    """Return the description, which is written down when it is first asked for."""
    state = request.app.state
    if not hasattr(state, "description"):
        state.description = Description.of(request.app.openapi())
    return cast("Description", state.description)
