"""The models by the names that callers of OpenAI's endpoints know, and by Cesar's own."""

from __future__ import annotations

import asyncio
from typing import Literal

from pydantic import BaseModel, Field

from cesar.api.http.openai.forms import refused
from cesar.api.http.schemas import model_name
from cesar.api.http.uploads.options import lasting_name, model_for
from cesar.errors import UnknownModel
from cesar.models.store import list_models
from cesar.settings.config import Settings

STAND_INS = (
    "whisper-1",
    "gpt-transcribe",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-4o-mini-transcribe-2025-12-15",
)
"""OpenAI's names: the model of the setting `openai_model` answers to them."""
TELLS_LANGUAGES = "gpt-transcribe"
"""Its answers say which languages were spoken."""
DIARIZING = "gpt-4o-transcribe-diarize"


class OpenAIModel(BaseModel):
    """A model, as OpenAI shows it."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(default=0, description="Always 0: it is not known.")
    owned_by: str = Field(description="`openai` for a name of theirs that a model here answers to, else `cesar`.")
    shutdown_date: str | None = Field(default=None, description="Always null: nobody switches it off.")


class OpenAIModels(BaseModel):
    """The models, as OpenAI lists them."""

    object: Literal["list"] = "list"
    data: list[OpenAIModel]


async def list_all(settings: Settings) -> list[OpenAIModel]:
    """Give OpenAI's names, then those of `GET /models`."""
    own = [status.name for status in await asyncio.to_thread(list_models, settings.models_dir)]
    own += [name for name in [model_name(settings.model)] if name not in own]
    shown = [OpenAIModel(id=name, owned_by="openai") for name in STAND_INS]
    return shown + [OpenAIModel(id=name, owned_by="cesar") for name in own if name not in STAND_INS]


async def find(name: str, settings: Settings) -> OpenAIModel:
    """Give the model of that name. Raises `UnknownModel`."""
    found = next((model for model in await list_all(settings) if model.id == name), None)
    if found is None:
        raise unknown(name)
    return found


async def model_size_of(name: str, settings: Settings) -> str:
    """Say which model a job is to have, as the queue writes it. Raises `BadRequest` or `UnknownModel`."""
    if name == DIARIZING:
        raise refused("model", f"{name} can't be had", "Cesar does not tell speakers apart yet.")
    if name in STAND_INS:
        return lasting_name(settings.openai_model or settings.model, settings)
    try:
        return model_for(name, settings)
    except UnknownModel:
        await find(name, settings)  # one that was imported
        return lasting_name(name, settings)


def unknown(name: str) -> UnknownModel:
    """Make the error for a name that is no model's."""
    return UnknownModel(f"the model {name[:64]!r} does not exist", hint="See GET /v1/models.")
