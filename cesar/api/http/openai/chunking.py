"""`chunking_strategy`: checked, but without effect, as Cesar always detects speech and cuts at pauses."""

from __future__ import annotations

import math
from typing import Any

from cesar.api.http.openai.forms import invalid_field

_FIELD = "chunking_strategy"
_TYPE = "server_vad"
_LIMITS = {"threshold": 1.0, "prefix_padding_ms": math.inf, "silence_duration_ms": math.inf}
"""The fields of an object besides its type, and their upper limits."""
_HINT = 'Use auto, or {"type": "server_vad"} with threshold, prefix_padding_ms and silence_duration_ms.'


def check_chunking(strategy: str | dict[str, Any] | None) -> None:
    """Raise `BadRequest` unless OpenAI would accept the strategy."""
    if strategy is None or (isinstance(strategy, str) and strategy.strip() in ("auto", "null")):
        return
    if not isinstance(strategy, dict) or strategy.get("type") != _TYPE:
        raise invalid_field(_FIELD, f"there is no such {_FIELD}", _HINT)
    for name, value in strategy.items():
        if name in _LIMITS and not _is_within(value, _LIMITS[name]):
            raise invalid_field(_FIELD, f"{name} of {_FIELD} is {str(value)[:64]!r}, which can't be used", _HINT)


def _is_within(value: Any, maximum: float) -> bool:
    try:
        return 0 <= float(value) <= maximum and math.isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        return False
