"""Parsing of Markdown pages: headings, tables, code and links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token


@dataclass(frozen=True)
class Row:
    """A row of a table."""

    section: tuple[str, ...]
    """The headings above it, from the title of the page down."""
    column: str
    """The heading of its first column."""
    cells: tuple[str, ...]

    @property
    def name(self) -> str:
        return code_in(self.cells[0])[0]


def code_in(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


@cache
def read(page: Path) -> list[tuple[tuple[str, ...], Token]]:
    """Yield the tokens of the page, each with the headings above it."""
    found: list[tuple[tuple[str, ...], Token]] = []
    section: tuple[str, ...] = ()
    level = 0
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8")):
        if token.type == "heading_open":
            level = int(token.tag[1])
        elif token.type == "inline" and level:
            section = (*section[: level - 1], "".join(child.content for child in token.children or []))
            level = 0
        found.append((section, token))
    return found


def headings(page: Path, level: int, *, under: str | None = None) -> list[str]:
    sections = [section for section, _ in groupby(section for section, _ in read(page))]
    return list(dict.fromkeys(s[level - 1] for s in sections if len(s) >= level and (under is None or under in s)))


def rows(page: Path, column: str, section: str | None = None) -> list[Row]:
    """Return the rows of tables whose first column has this heading, in a section and its subsections."""
    found: list[Row] = []
    cells: list[str] = []
    first_heading = ""
    for path, token in read(page):
        match token.type:
            case "table_open":
                first_heading = ""
            case "tr_open":
                cells = []
            case "inline":
                cells.append(token.content)
            case "thead_close":
                first_heading = cells[0]
            case "tr_close" if first_heading == column and (section is None or section in path):
                found.append(Row(path, column, tuple(cells)))
    return found


def names(page: Path, column: str, section: str | None = None) -> list[str]:
    return [row.name for row in rows(page, column, section)]


def blocks(page: Path, *languages: str) -> list[str]:
    return [token.content for _, token in read(page) if token.type == "fence" and token.info in languages]


def inline_code(page: Path) -> list[str]:
    children = (child for _, token in read(page) for child in token.children or [])
    return [child.content for child in children if child.type == "code_inline"]


def links(page: Path) -> list[str]:
    children = (child for _, token in read(page) for child in token.children or [])
    found = (str(child.attrs.get("href") or child.attrs.get("src") or "") for child in children)
    return [target for target in found if target and "://" not in target]


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings, as on GitHub."""
    titles = {section[-1] for section, _ in read(page) if section}
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
