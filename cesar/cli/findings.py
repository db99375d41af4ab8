"""The findings of `cesar doctor` and their layout: what is missing first, each with a remedy, in 80 columns."""

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
    """The result of one check."""

    subject: str
    state: State
    detail: str
    hint: str = ""
    exit_code: int = 0
    """Exit code of the run if nothing worse is found; 0 if the subject works or is optional."""


def format_findings(findings: Iterable[Finding], width: int = WIDTH) -> list[str]:
    """Return lines no longer than the width: what is missing, then notes, then what works.

    Continuation lines are indented; a hint starts on a line of its own.
    """
    in_order = sorted(findings, key=lambda finding: _ORDER.index(finding.state))
    return [line for finding in in_order for line in _lines(finding, width)]


def _lines(finding: Finding, width: int) -> list[str]:
    first = f"{finding.state:<{_INDENT}}{finding.subject}: {one_line(finding.detail)}"
    indent = " " * _INDENT
    lines = textwrap.wrap(first, width, subsequent_indent=indent, break_on_hyphens=False)
    if finding.hint:
        lines += textwrap.wrap(
            one_line(finding.hint), width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
        )
    return lines
