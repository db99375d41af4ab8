"""The options of a transcription as fields of requests and responses, made from their declarations."""

from __future__ import annotations

import math
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, create_model

from cesar.option_declarations import Option
from cesar.options import SHARED_OPTIONS


def with_request_fields(base: type[BaseModel]) -> type[Any]:
    """Return a model with the base's fields and, for each option, one that may be left out."""
    fields: dict[str, Any] = {name: request_field(declared) for name, declared in SHARED_OPTIONS.items()}
    return create_model(base.__name__, __base__=base, **fields)


def with_response_fields(base: type[BaseModel]) -> type[Any]:
    """Return a model with the base's fields and a required one for each option."""
    fields: dict[str, Any] = {name: response_field(declared) for name, declared in SHARED_OPTIONS.items()}
    return create_model(base.__name__, __base__=base, **fields)


def request_field(declared: Option) -> tuple[Any, Any]:
    """Return the type of an option in a request, and its description for pydantic."""
    is_list = declared.default == ()  # in a form, text with commas
    field = Field(
        default=None if is_list else declared.default,
        description=f"{declared.text} Default: {declared.unset}." if declared.unset else declared.text,
        examples=[declared.example] if declared.example else None,
    )
    return (_bounded(str, declared) | None if is_list else _bounded_type(declared)), field


def response_field(declared: Option) -> tuple[Any, Any]:
    """Return the type of an option in a response, and its description for pydantic."""
    if declared.default == ():
        return list[str], Field(description=f"{declared.line} Empty: {declared.unset}.")
    return declared.type, Field(
        description=f"{declared.line} Null: {declared.unset}." if declared.unset else declared.line
    )


def _bounded_type(declared: Option) -> Any:
    parts = [_bounded(kind, declared) for kind in declared.kinds]
    parts += [Literal[declared.choices]] if declared.choices else []
    return reduce(or_, [*parts, None] if declared.default is None else parts)


def _bounded(kind: Any, declared: Option) -> Any:
    """Return a type with the option's limits."""
    if kind is str:
        return Annotated[str, Field(max_length=declared.max_length)]
    limits: dict[str, Any] = {"ge": _finite(declared.minimum), "le": _finite(declared.maximum)}
    if kind is float:
        return Annotated[float, Field(**limits, allow_inf_nan=False)]
    if kind is int:
        return Annotated[int, Field(**limits)]
    return kind


def _finite(limit: float) -> float | None:
    return limit if math.isfinite(limit) else None
