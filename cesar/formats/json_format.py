"""JSON: everything a transcript holds. `Transcript.from_dict` reads it back."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cesar.transcript import Transcript


def render(transcript: Transcript) -> str:
    """Write the whole transcript, its keys in the order of the fields.

    JSON has no word for NaN or infinity: a number that is not finite becomes null.
    """
    return json.dumps(_finite(transcript.to_dict()), ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {key: _finite(item) for key, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
        case _:
            return value
