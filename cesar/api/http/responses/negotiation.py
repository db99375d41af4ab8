"""Content negotiation by `Accept` (RFC 9110, 12.5.1), and `If-None-Match` (13.1.2). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

_ELEMENT = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+')
_PARAMETER = re.compile(r'(?:[^;"]|"(?:[^"\\]|\\.)*")+')
_RANGE = re.compile(r"([!#$%&'*+.^_`|~0-9a-z-]+)/([!#$%&'*+.^_`|~0-9a-z-]+)")
_QUALITY = re.compile(r"q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)", re.IGNORECASE)
_TAG = re.compile(r'(?:W/)?("[^"]*")')


def choose(accept: str, offers: Mapping[str, str]) -> str | None:
    """Return the name of the offer with the highest quality, the first of equals; None if none is acceptable.

    accept: the header; invalid parts are ignored. offers: media types by name, preferred ones first.

    >>> choose("text/*;q=0.5, application/json", {"txt": "text/plain", "json": "application/json"})
    'json'
    """
    if not accept.strip():
        return next(iter(offers))
    qualities = _qualities(accept)
    scores = {name: _quality_of(media_type, qualities) for name, media_type in offers.items()}
    best = max(scores, key=scores.__getitem__)
    return best if scores[best] > 0 else None


def etag_matches(if_none_match: str, tag: str) -> bool:
    """Whether `If-None-Match` shows that the caller has the version with this tag.

    >>> etag_matches('"a", W/"b"', '"b"'), etag_matches("*", '"b"'), etag_matches("", '"b"')
    (True, True, False)
    """
    return if_none_match.strip() == "*" or tag in _TAG.findall(if_none_match)


def _qualities(accept: str) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], float] = {}
    for element in _ELEMENT.findall(accept):
        media_range, *parameters = [part.strip() for part in _PARAMETER.findall(element)] or [""]
        is_range = _RANGE.fullmatch(media_range.lower())
        quality = _weight(parameters)
        if is_range is not None and quality is not None:
            found[is_range[1], is_range[2]] = max(quality, found.get((is_range[1], is_range[2]), 0.0))
    return found


def _weight(parameters: list[str]) -> float | None:
    """Return the quality in a range's parameters: 1 if there is none, None if it is invalid."""
    for parameter in parameters:
        if parameter.partition("=")[0].strip().lower() == "q":
            quality = _QUALITY.fullmatch(parameter)
            return float(quality[1]) if quality is not None else None
    return 1.0


def _quality_of(media_type: str, qualities: Mapping[tuple[str, str], float]) -> float:
    """Return the quality of a media type: that of the most specific matching range."""
    kind, _, subtype = media_type.partition("/")
    candidates = ((kind, subtype), (kind, "*"), ("*", "*"))
    return next((qualities[candidate] for candidate in candidates if candidate in qualities), 0.0)
