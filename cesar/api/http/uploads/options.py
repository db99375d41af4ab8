"""What a caller may ask of a job: the fields of `POST /transcribe` and `/transcribe/url`, and what they mean here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect, Request

from cesar.api.http.errors import list_problems
from cesar.api.http.schemas import model_name
from cesar.errors import BadRequest, UnknownModel, UsageError
from cesar.models.catalog import CATALOG
from cesar.options import MOST_SECONDS, TranscribeOptions
from cesar.settings.config import Settings

_SCRIPTED = "scripted:"
_MOST_JSON_BYTES = 256 * 1024
Seconds = Annotated[float, Field(ge=0, le=MOST_SECONDS, allow_inf_nan=False)]
Words = Annotated[str, Field(max_length=64 * 1024)]


class Wishes(BaseModel):
    """How a recording is to be transcribed."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(
        default=None,
        max_length=255,
        description="A name from `GET /models`; left out: the service's default.",
        examples=["base"],
    )
    language: str | None = Field(
        default=None,
        max_length=64,
        description="ISO code, tag or name of the language spoken; left out: it is detected.",
        examples=["en"],
    )
    languages: str | None = Field(
        default=None,
        max_length=1024,
        description="What the language may be, with commas between them; left out: any that the model knows.",
        examples=["en,nl"],
    )
    task: Literal["transcribe", "translate"] = Field(
        default="transcribe", description="`translate` gives English text whatever is spoken."
    )
    prompt: Words | None = Field(
        default=None, description="Text in the style to be followed: names, spelling, punctuation."
    )
    hotwords: Words | None = Field(default=None, description="Words to be expected, separated by blanks or commas.")
    word_timestamps: bool = Field(default=False, description="Whether each word is to have its time.")
    track: Annotated[int, Field(ge=1)] | Literal["all"] | None = Field(
        default=None,
        description="Which audio track of several, counted from 1; `all` mixes them; left out: the one with speech.",
    )
    start: Seconds = Field(default=0.0, description="Where to begin, in seconds.")
    end: Seconds | None = Field(default=None, description="Where to stop, in seconds; left out: at the end.")
    beam_size: int = Field(default=1, ge=1, le=32, description="With 1, only what is unsure is heard with 5.")
    temperature: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="0: the likeliest text; above, tokens are drawn, the more freely the higher.",
    )
    priority: int = Field(
        default=0, ge=-1000, le=1000, description="Higher goes first; the same in the order in which they came."
    )
    no_cache: bool = Field(
        default=False, description="Recognise it anew even if the same was recognised before with the same wishes."
    )

    def options(self) -> TranscribeOptions:
        """Give the part that the recogniser wants. Raises `UsageError`."""
        names = TranscribeOptions.__dataclass_fields__.keys() & Wishes.model_fields.keys()
        return TranscribeOptions(**{name: getattr(self, name) for name in names if getattr(self, name) is not None})


class UrlWishes(Wishes):
    """A recording that is to be fetched, and how it is to be transcribed."""

    url: str = Field(
        min_length=1,
        max_length=8192,
        description="The http or https address of an audio or video file that anybody can reach.",
        examples=["https://example.org/talk.mp3"],
    )
    name: str | None = Field(
        default=None, max_length=1024, description="What to call the recording; left out: the address's last part."
    )


FIELDS = frozenset(Wishes.model_fields)


def wishes_of(fields: Mapping[str, str]) -> Wishes:
    """Read the fields of a form; an empty one counts as left out. Raises `UsageError`."""
    try:
        return Wishes.model_validate({name: value for name, value in fields.items() if value.strip()})
    except ValidationError as error:
        raise _unusable(error) from None


async def url_wishes_of(request: Request) -> UrlWishes:
    """Read a JSON body, which is small. Raises `BadRequest` or `UsageError`."""
    body = bytearray()
    try:
        async for content in request.stream():
            body += content
            if len(body) > _MOST_JSON_BYTES:
                raise BadRequest(f"the body has more than {_MOST_JSON_BYTES} bytes", hint="Send a small JSON object.")
    except ClientDisconnect:
        raise BadRequest("the client broke off") from None
    try:
        return UrlWishes.model_validate_json(bytes(body), strict=True)
    except ValidationError as error:
        raise _unusable(error) from None


def model_for(name: str | None, settings: Settings) -> str:
    """Say which model a caller means: one of the catalog, or that of the settings, whose path nobody needs to know.

    Raises `UnknownModel`.
    """
    if name is None or name == model_name(settings.model):
        return lasting_name(settings.model, settings)
    if name not in CATALOG:
        raise UnknownModel(f"no model is called {name!r}", hint=f"There are {', '.join(CATALOG)}. See GET /models.")
    return name


def schema_of(kind: type[BaseModel], **more: Any) -> dict[str, Any]:
    """Describe a body for OpenAPI: what may be left out is never null.

    more: further properties, which are required.
    """
    schema = kind.model_json_schema()
    properties = {name: _without_null(said) for name, said in schema["properties"].items()}
    required = [*more, *schema.get("required", ())]
    return {"type": "object", "properties": more | properties, "required": required, "additionalProperties": False}


def _without_null(said: dict[str, Any]) -> dict[str, Any]:
    kinds = [kind for kind in said.get("anyOf", ()) if kind != {"type": "null"}]
    kept = {key: value for key, value in said.items() if key != "anyOf" and (key, value) != ("default", None)}
    return kept if not kinds else kinds[0] | kept


def lasting_name(name: str, settings: Settings) -> str:
    """Name a model of the settings so that it is the same wherever the worker runs: a folder by its whole path."""
    if name in CATALOG:
        return name
    if name.startswith(_SCRIPTED):
        return _SCRIPTED + str(Path(name.removeprefix(_SCRIPTED)).absolute())
    imported = settings.models_dir / name
    return str((imported if imported.is_dir() and not Path(name).is_dir() else Path(name)).absolute())


def _unusable(error: ValidationError) -> UsageError:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    wrong = list_problems([(".".join(map(str, item["loc"])) or "body", item["msg"]) for item in found])
    return UsageError(wrong, hint="See `/docs` for the fields and what they may be.")
