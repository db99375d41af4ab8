"""What `cesar doctor` finds, and how it is shown: what is missing first, each with what to do, in 80 columns."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cesar.cli.exits import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

State = Literal["ok", "note", "MISSING"]
WIDTH = 80
_ORDER: tuple[State, ...] = ("MISSING", "note", "ok")
_INDENT = 9


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    state: State
    found: str
    hint: str = ""
    exit_code: int = 0
    """Of a run of doctor, if nothing worse is found; 0: it works, or can be done without."""


def format_findings(findings: Iterable[Finding], width: int = WIDTH) -> list[str]:
    """Return lines no longer than the width: what is missing, then what is to be noted, then what works.

    A finding goes on in indented lines, and its hint begins one.
    """
    in_order = sorted(findings, key=lambda finding: _ORDER.index(finding.state))
    return [line for finding in in_order for line in _lines(finding, width)]


def _lines(finding: Finding, width: int) -> list[str]:
    first = f"{finding.state:<{_INDENT}}{finding.what}: {one_line(finding.found)}"
    rest = " " * _INDENT
    lines = textwrap.wrap(first, width, subsequent_indent=rest, break_on_hyphens=False)
    if finding.hint:
        lines += textwrap.wrap(
            one_line(finding.hint), width, initial_indent=rest, subsequent_indent=rest, break_on_hyphens=False
        )
    return lines
