"""The layers, the architecture page and the glossary name exactly what exists."""

import configparser
import re
from pathlib import Path

import pytest

import cesar
import cesar.api

ROOT = Path(__file__).parents[1]
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGES = sorted(
    init.parent.relative_to(ROOT)
    for init in (ROOT / "cesar").rglob("__init__.py")
    if sum(path.suffix == ".py" or (path / "__init__.py").exists() for path in init.parent.iterdir()) > 1
)


def exhaustive_contracts() -> set[str]:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter", encoding="utf-8")
    layers = [section for section in contracts.values() if section.get("type") == "layers"]
    return {section["containers"] for section in layers if section.getboolean("exhaustive")}


@pytest.mark.parametrize("package", PACKAGES, ids=str)
def test_every_folder_has_a_contract_on_all_of_its_modules(package):
    assert ".".join(package.parts) in exhaustive_contracts()


@pytest.mark.parametrize("package", PACKAGES, ids=str)
def test_every_folder_is_on_the_architecture_page(package):
    assert package == Path("cesar") or f"`{package.as_posix()}/`" in PAGE


def test_everything_named_on_the_architecture_page_exists():
    named = re.findall(r"`((?:cesar|tests|benchmarks|scripts|docs)/[\w./-]*)`", PAGE)
    assert len(named) > 40
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_functions_named_in_the_walk_through_exist():
    section = PAGE.partition("## One request")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(?:\w+\.)?([A-Za-z_]+)`", section))
    assert len(named) > 20
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "cesar").rglob("*.py"))
    assert [name for name in sorted(named) if not re.search(rf"(def|class) {name}\b", code)] == []


def test_modules_named_next_to_a_folder_are_in_it():
    """In the tables, `cli.py` in the row of a folder stands for a module of that folder."""
    rows = re.findall(r"^\| (`cesar/[\w/]+/`) \| (.*) \|$", PAGE, re.MULTILINE)
    assert len(rows) > 20
    missing = [
        f"{folder}: {name}"
        for folder, text in rows
        for name in re.findall(r"`(\w+\.py)`", text)
        if not (ROOT / folder.strip("`") / name).exists()
    ]
    assert missing == []


def test_the_glossary_has_every_public_name():
    named = set(re.findall(r"`(\w+)`", GLOSSARY))
    assert {*cesar.__all__, *cesar.api.__all__, "Client"} - {"__version__"} <= named


def test_modules_in_the_glossary_exist():
    named = re.findall(r"`(cesar/[\w/]+\.py)`", GLOSSARY)
    assert len(named) > 30
    assert [name for name in named if not (ROOT / name).exists()] == []
