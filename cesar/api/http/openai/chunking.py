"""`chunking_strategy`: checked, and without effect, as Cesar always detects speech and cuts at pauses by itself."""

from __future__ import annotations

import math
from typing import Any

from cesar.api.http.openai.forms import refused

_FIELD = "chunking_strategy"
_TYPE = "server_vad"
_LIMITS = {"threshold": 1.0, "prefix_padding_ms": math.inf, "silence_duration_ms": math.inf}
"""What an object may have besides its type, and how much that may be."""
_HINT = 'Use auto, or {"type": "server_vad"} with threshold, prefix_padding_ms and silence_duration_ms.'


def check_chunking(strategy: str | dict[str, Any] | None) -> None:
    """Raise `BadRequest` unless it is one that OpenAI takes."""
    if strategy is None or (isinstance(strategy, str) and strategy.strip() in ("auto", "null")):
        return
    if not isinstance(strategy, dict) or strategy.get("type") != _TYPE:
        raise refused(_FIELD, f"there is no such {_FIELD}", _HINT)
    for name, value in strategy.items():
        if name in _LIMITS and not _is_within(value, _LIMITS[name]):
            raise refused(_FIELD, f"{name} of {_FIELD} is {str(value)[:64]!r}, which can't be used", _HINT)


def _is_within(value: Any, most: float) -> bool:
    try:
        return 0 <= float(value) <= most and math.isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        return False
