"""The tables of options in docs/reference, made from the declarations in `cesar.options`.

    scripts/option-tables      writes them, after an option was added or changed

A row that names an option is made here; the other rows of a table, and all other text, are written by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from cesar.option_declarations import Option
from cesar.options import OPTIONS

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


@dataclass(frozen=True)
class Table:
    """The options in a section of a page."""

    page: str
    heading: str
    row: Callable[[Option], str]
    has_library_only: bool = False

    def is_current(self) -> bool:
        text = self.path.read_text(encoding="utf-8")
        return self.updated(text) == text

    def write(self) -> None:
        self.path.write_text(self.updated(self.path.read_text(encoding="utf-8")), encoding="utf-8")

    @property
    def path(self) -> Path:
        return REFERENCE / self.page

    def updated(self, text: str) -> str:
        """Return the page's text with the rows as they should be, where the first of them was."""
        before, heading, rest = text.partition(f"\n{self.heading}\n")
        level = self.heading.split()[0]
        end = min(
            (at for mark in range(1, len(level) + 1) if (at := rest.find(f"\n{'#' * mark} ")) >= 0), default=len(rest)
        )
        lines = rest[:end].split("\n")
        ours = [number for number, line in enumerate(lines) if self._names_an_option(line)]
        rows = [self.row(it) for it in OPTIONS.values() if self.has_library_only or not it.is_library_only]
        kept = [line for number, line in enumerate(lines) if number not in ours]
        return f"{before}{heading}{chr(10).join([*kept[: ours[0]], *rows, *kept[ours[0] :]])}{rest[end:]}"

    def _names_an_option(self, line: str) -> bool:
        first = line.removeprefix("| ").partition(" | ")[0] if line.startswith("| `") else ""
        return any(_first_cell(self.row(it)) == first or f"`{name}`" in first for name, it in OPTIONS.items())


def _first_cell(row: str) -> str:
    return row.removeprefix("| ").partition(" | ")[0]


def command_row(declared: Option) -> str:
    return (
        f"| `{_flags(declared)}` | {declared.flag.help if declared.flag else _meaning(declared, _default(declared))} |"
    )


def short_command_row(declared: Option) -> str:
    return command_row(replace(declared, details=""))


def field_row(declared: Option) -> str:
    return f"| `{declared.name}` | {_meaning(declared, _default(declared))} |"


def library_row(declared: Option) -> str:
    default = str(declared.default) if not isinstance(declared.default, str) else f'"{declared.default}"'
    unset = f"{'Empty' if declared.default == () else 'None'}: {declared.unset}." if declared.unset else ""
    return f"| `{declared.name}` | `{default}` | {_meaning(declared, unset)} |"


def transcript_row(declared: Option) -> str:
    unset = f"{'Empty' if declared.default == () else 'Null'}: {declared.unset}." if declared.unset else ""
    return f"| `{declared.name}` | {_sentences(declared.line, unset)} |"


def _flags(declared: Option) -> str:
    if declared.flag:
        return f"--{declared.flag.value}"
    name = f"--{declared.name.replace('_', '-')}"
    flags = f"{declared.short}, {name}" if declared.short else name
    return f"{flags} {declared.metavar.replace('|', chr(92) + '|')}" if declared.metavar else flags


def _meaning(declared: Option, default: str) -> str:
    return _sentences(declared.line, _range(declared), declared.details, default)


def _range(declared: Option) -> str:
    """Return the limits as a sentence, unless the text names them, or they are beyond any recording."""
    if declared.unit or (declared.choices and all(f"`{word}`" in declared.text for word in declared.choices)):
        return ""
    found = declared.range
    for word in declared.choices:
        found = found.replace(word, f"`{word}`")
    return f"{found[:1].upper()}{found[1:]}." if found else ""


def _default(declared: Option) -> str:
    default = declared.default_text
    return f"Default: {f'`{default}`' if default in declared.choices else default}." if default else ""


def _sentences(*sentences: str) -> str:
    return " ".join(sentence for sentence in sentences if sentence)


TABLES = (
    Table("cli.md", "## cesar transcribe", command_row),
    Table("cli.md", "## cesar jobs submit", short_command_row),
    Table("http.md", "### POST /transcribe", field_row),
    Table("library.md", "## TranscribeOptions", library_row, has_library_only=True),
    Table("formats.md", "### Settings", transcript_row, has_library_only=True),
)


if __name__ == "__main__":
    for table in TABLES:
        table.write()
