"""The request fields of `POST /transcribe` and `/transcribe/url`, and how they are read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json
from starlette.requests import ClientDisconnect, Request

from cesar.api.http.errors import list_problems
from cesar.api.http.option_fields import with_request_fields
from cesar.api.http.schemas import model_name
from cesar.errors import BadRequest, UnknownModel, UsageError
from cesar.limits import PRIORITIES
from cesar.models.catalog import CATALOG, absolute_script
from cesar.options import SHARED_OPTIONS, TranscribeOptions
from cesar.settings.config import Settings

_MAX_JSON_BYTES = 256 * 1024
_HINT = "See `/docs` for the fields and their values."
_MAX_JSON_FIELDS = 64
"""Beyond that they are only counted: describing thousands takes longer than finding them."""


class _ModelField(BaseModel):
    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(
        default=None,
        max_length=255,
        description="A name from `GET /models`. Default: the service's model.",
        examples=["base"],
    )


class TranscriptionRequest(with_request_fields(_ModelField), _ModelField):  # type: ignore[misc]  # and a field for each option
    """How to transcribe a recording."""

    priority: int = Field(
        default=0,
        ge=PRIORITIES[0],
        le=PRIORITIES[1],
        description="Higher runs first; equal priorities in order of arrival.",
    )
    no_cache: bool = Field(
        default=False, description="Transcribe again, even if a result for the same recording and options is stored."
    )

    def options(self) -> TranscribeOptions:
        """Return the options of the transcription itself. Raises `UsageError`."""
        given = {name: getattr(self, name) for name in SHARED_OPTIONS}
        return TranscribeOptions(**{name: value for name, value in given.items() if value is not None})


class UrlTranscriptionRequest(TranscriptionRequest):
    """A recording to fetch, and how to transcribe it."""

    url: str = Field(
        min_length=1,
        max_length=8192,
        description="The http or https address of a publicly reachable audio or video file.",
        examples=["https://example.org/talk.mp3"],
    )
    name: str | None = Field(
        default=None, max_length=1024, description="The recording's name. Default: the last part of the address."
    )


FORM_FIELDS = frozenset(TranscriptionRequest.model_fields)


def parse_form(fields: Mapping[str, str]) -> TranscriptionRequest:
    """Parse the fields of a form; empty ones are ignored. Raises `UsageError`."""
    try:
        return TranscriptionRequest.model_validate({name: value for name, value in fields.items() if value.strip()})
    except ValidationError as error:
        raise _invalid(error) from None


async def parse_json(request: Request) -> UrlTranscriptionRequest:
    """Read and parse a small JSON body. Raises `BadRequest` or `UsageError`."""
    body = bytearray()
    try:
        async for content in request.stream():
            body += content
            if len(body) > _MAX_JSON_BYTES:
                raise BadRequest(f"the body has more than {_MAX_JSON_BYTES} bytes", hint="Send a small JSON object.")
    except ClientDisconnect:
        raise BadRequest("the client disconnected") from None
    _require_few_fields(body)
    try:
        return UrlTranscriptionRequest.model_validate_json(bytes(body), strict=True)
    except ValidationError as error:
        raise _invalid(error) from None


def _require_few_fields(body: bytearray) -> None:
    try:
        content = from_json(body)
    except ValueError:
        return  # validation reports it
    if isinstance(content, dict) and len(content) > _MAX_JSON_FIELDS:
        raise UsageError(f"the body has {len(content)} fields, most of which are unknown", hint=_HINT)


def resolve_model(name: str | None, settings: Settings) -> str:
    """Return the model that a caller names: one of the catalog, or the configured one, whose path stays private.

    Raises `UnknownModel`.
    """
    if name is None or name == model_name(settings.model):
        return absolute_model_name(settings.model, settings)
    if name not in CATALOG:
        raise UnknownModel(f"no model is called {name!r}", hint=f"There are {', '.join(CATALOG)}. See GET /models.")
    return name


def body_schema(model: type[BaseModel], **more: Any) -> dict[str, Any]:
    """Return the OpenAPI schema of a body. Optional fields are left out, never null.

    more: further properties, which are required.
    """
    schema = model.model_json_schema()
    properties = {name: _without_null(field) for name, field in schema["properties"].items()}
    required = [*more, *schema.get("required", ())]
    return {"type": "object", "properties": more | properties, "required": required, "additionalProperties": False}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    types = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    kept = {key: value for key, value in schema.items() if key != "anyOf" and (key, value) != ("default", None)}
    return kept if not types else types[0] | kept


def absolute_model_name(name: str, settings: Settings) -> str:
    """Return the name of a configured model, a folder as an absolute path, as workers run in other directories."""
    if name in CATALOG:
        return name
    if script := absolute_script(name):
        return script
    imported = settings.models_dir / name
    return str((imported if imported.is_dir() and not Path(name).is_dir() else Path(name)).absolute())


def _invalid(error: ValidationError) -> UsageError:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    problems = list_problems([(".".join(map(str, item["loc"])) or "body", item["msg"]) for item in found])
    return UsageError(problems, hint=_HINT)
