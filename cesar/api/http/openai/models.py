"""Model names at OpenAI's endpoints: OpenAI's, and Cesar's own."""

from __future__ import annotations

import asyncio
from typing import Literal

from pydantic import BaseModel, Field

from cesar.api.http.openai.forms import invalid_field
from cesar.api.http.schemas import model_name
from cesar.api.http.uploads.options import absolute_model_name, resolve_model
from cesar.errors import UnknownModel
from cesar.models.store import list_models
from cesar.settings.config import Settings

OPENAI_NAMES = (
    "whisper-1",
    "gpt-transcribe",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-4o-mini-transcribe-2025-12-15",
)
"""OpenAI's names, all served by the model of the setting `openai_model`."""
REPORTS_LANGUAGES = "gpt-transcribe"
"""Its responses list the spoken languages."""
DIARIZING = "gpt-4o-transcribe-diarize"


class OpenAIModel(BaseModel):
    """A model in OpenAI's format."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(default=0, description="Always 0: unknown.")
    owned_by: str = Field(description="`openai` for OpenAI's names, else `cesar`.")
    shutdown_date: str | None = Field(default=None, description="Always null: it is never shut down.")


class OpenAIModels(BaseModel):
    """The models in OpenAI's format."""

    object: Literal["list"] = "list"
    data: list[OpenAIModel]


async def list_all(settings: Settings) -> list[OpenAIModel]:
    """Return OpenAI's names, then those of `GET /models`."""
    cesar_names = [status.name for status in await asyncio.to_thread(list_models, settings.models_dir)]
    cesar_names += [name for name in [model_name(settings.model)] if name not in cesar_names]
    models = [OpenAIModel(id=name, owned_by="openai") for name in OPENAI_NAMES]
    return models + [OpenAIModel(id=name, owned_by="cesar") for name in cesar_names if name not in OPENAI_NAMES]


async def find(name: str, settings: Settings) -> OpenAIModel:
    """Return the model with that name. Raises `UnknownModel`."""
    found = next((model for model in await list_all(settings) if model.id == name), None)
    if found is None:
        raise unknown(name)
    return found


async def resolve(name: str, settings: Settings) -> str:
    """Return the model of a job, as stored in the queue. Raises `BadRequest` or `UnknownModel`."""
    if name == DIARIZING:
        raise invalid_field("model", f"{name} is not available", "Cesar does not distinguish speakers yet.")
    if name in OPENAI_NAMES:
        return absolute_model_name(settings.openai_model or settings.model, settings)
    try:
        return resolve_model(name, settings)
    except UnknownModel:
        await find(name, settings)  # an imported model
        return absolute_model_name(name, settings)


def unknown(name: str) -> UnknownModel:
    """Return the error for an unknown model name."""
    return UnknownModel(f"the model {name[:64]!r} does not exist", hint="See GET /v1/models.")
