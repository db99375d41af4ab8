"""An option that is added to `TranscribeOptions` is checked, and has a flag, fields and rows, without another line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import click
import pytest
from pydantic import BaseModel, ValidationError, create_model

from cesar.api.http.option_fields import request_field, response_field
from cesar.api.http.schemas import OptionsView
from cesar.api.http.uploads.options import FORM_FIELDS
from cesar.cli.flags.options import flag_of
from cesar.errors import UsageError
from cesar.option_declarations import declared_options, option
from cesar.options import OPTIONS, SHARED_OPTIONS, TranscribeOptions
from tests.support.option_tables import command_row, field_row, library_row, transcript_row


@dataclass(frozen=True, slots=True)
class MoreOptions(TranscribeOptions):
    """What `TranscribeOptions` would be with two more options."""

    quality: Literal["fast", "balanced", "best"] = option("balanced", "How much care to take.")
    speakers: int | None = option(
        None, "Number of speakers.", unset="estimated", minimum=1, maximum=20, metavar="N", example="2"
    )


DECLARED = declared_options(MoreOptions)
QUALITY, SPEAKERS = DECLARED["quality"], DECLARED["speakers"]


def model_of(field: Any) -> type[BaseModel]:
    return create_model("Model", field=field)


def test_the_options_so_far_come_first():
    assert list(DECLARED) == [*OPTIONS, "quality", "speakers"]


def test_requests_and_jobs_have_every_option():
    assert SHARED_OPTIONS.keys() <= FORM_FIELDS
    assert list(OptionsView.model_fields) == list(SHARED_OPTIONS)
    assert list(OPTIONS) == [*SHARED_OPTIONS, "token_logprobs"]


@pytest.mark.parametrize(
    ("declared", "value", "message", "hint"),
    [
        (QUALITY, "good", "the quality 'good' can't be used", "Use fast, balanced or best."),
        (SPEAKERS, 0, "the speakers 0 can't be used", "Use 1 to 20."),
    ],
)
def test_its_limits_are_checked(declared, value, message, hint):
    with pytest.raises(UsageError) as caught:
        declared.check(value)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_it_has_a_flag():
    quality, speakers = flag_of(QUALITY), flag_of(SPEAKERS)
    assert isinstance(quality.type, click.Choice)
    assert tuple(quality.type.choices) == ("fast", "balanced", "best")
    assert (quality.opts, quality.help) == (["--quality"], "How much care to take. [default: balanced]")
    assert (speakers.opts, speakers.type, speakers.metavar) == (["--speakers"], click.INT, "N")
    assert speakers.help == "Number of speakers. [1 to 20; default: estimated]"


def test_requests_have_it_within_its_limits():
    request = model_of(request_field(SPEAKERS))
    assert request.model_validate({}).model_dump() == {"field": None}
    with pytest.raises(ValidationError, match="less than or equal to 20"):
        request.model_validate({"field": 21})
    schema = model_of(request_field(QUALITY)).model_json_schema()["properties"]["field"]
    assert (schema["enum"], schema["default"]) == (["fast", "balanced", "best"], "balanced")
    assert schema["description"] == "How much care to take."


def test_jobs_have_it():
    schema = model_of(response_field(SPEAKERS)).model_json_schema()
    assert schema["required"] == ["field"]
    assert schema["properties"]["field"]["description"] == "Number of speakers. Null: estimated."


def test_the_tables_have_it():
    assert command_row(SPEAKERS) == "| `--speakers N` | Number of speakers. 1 to 20. Default: estimated. |"
    assert field_row(QUALITY) == (
        "| `quality` | How much care to take. `fast`, `balanced` or `best`. Default: `balanced`. |"
    )
    assert library_row(SPEAKERS) == "| `speakers` | `None` | Number of speakers. 1 to 20. None: estimated. |"
    assert transcript_row(QUALITY) == "| `quality` | How much care to take. |"
