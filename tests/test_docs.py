"""The documentation covers exactly what exists; its links and examples work."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields
from itertools import groupby
from pathlib import Path
from xml.etree import ElementTree as ET

import click
import pytest

import cesar
from cesar.api.http.app import create_app
from cesar.cli import exits, group
from cesar.cli.exits import EXIT_CODES, describe, exit_code, report_error
from cesar.cli.transcription import reporters
from cesar.cli.transcription.model_download import format_size
from cesar.cli.transcription.outputs import choose_destination
from cesar.cli.transcription.reporters import FileResult, JsonReporter
from cesar.client import Client, Event
from cesar.errors import BY_CODE, CesarError, UnknownFormat
from cesar.formats import FORMATS
from cesar.formats.subtitles.cues import SubtitleOptions
from cesar.models.catalog import CATALOG
from cesar.options import TranscribeOptions
from cesar.settings import config
from cesar.settings.config import Settings
from cesar.settings.sources import CONFIG_VARIABLE, PREFIX
from cesar.transcriber import AudioTranscriber
from cesar.transcript import Chunk, ModelIdentity, Origin, Progress, Segment, Span, Transcript, Word
from tests.support.option_tables import TABLES
from tests.support.pages import anchors, blocks, code_in, headings, inline_code, links, names, read, rows

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
CLI, SETTINGS, ERRORS, FORMATS_PAGE, LIBRARY, CLIENT, HTTP = (
    ROOT / "docs" / "reference" / f"{name}.md"
    for name in ("cli", "settings", "errors", "formats", "library", "client", "http")
)
PAGES = sorted(page for folder in (".", "docs/**", "samples", "tests/audio") for page in ROOT.glob(f"{folder}/*.md"))
EACH_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")


def field_names(kind: type) -> list[str]:
    return [field.name for field in fields(kind)]


# Commands and options


def walk(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """Yield every command that is not a group, and the program itself."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    if command is group:
        yield path, command
    context = click.Context(command)
    for name in command.list_commands(context):
        if found := command.get_command(context, name):
            yield from walk(f"{path} {name}", found)


COMMANDS = dict(walk("cesar", group))
EACH_COMMAND = pytest.mark.parametrize("path", COMMANDS)


def options_of(command: click.Command) -> dict[str, click.Option]:
    options = [param for param in command.params if isinstance(param, click.Option)]
    return {name: option for option in options for name in (*option.opts, *option.secondary_opts)}


def test_every_command_has_a_section_and_every_section_a_command():
    assert {title for title in headings(CLI, 2) if title.split()[0] == "cesar"} == set(COMMANDS)


@EACH_COMMAND
def test_the_section_of_a_command_lists_exactly_its_options(path):
    documented = [name for row in rows(CLI, "Option", path) for name in OPTION.findall(row.name)]
    assert sorted(documented) == sorted(options_of(COMMANDS[path]))


@EACH_COMMAND
def test_all_choices_of_an_option_are_named(path):
    for row in rows(CLI, "Option", path):
        option = options_of(COMMANDS[path])[OPTION.findall(row.name)[0]]
        if isinstance(option.type, click.Choice):
            assert set(option.type.choices) <= set(code_in(row.cells[1]))


@EACH_COMMAND
def test_the_section_of_a_command_begins_with_its_usage(path):
    usage = next(token.content for section, token in read(CLI) if path in section and token.type == "fence")
    arguments = [param for param in COMMANDS[path].params if isinstance(param, click.Argument)]
    assert usage.startswith(path)
    assert all(argument.human_readable_name in usage for argument in arguments)


@EACH_PAGE
def test_a_url_with_shell_metacharacters_is_quoted_in_examples(page):
    """Zsh parses an unquoted ? as a pattern, and every shell an unquoted & as the end of the command."""
    for line in page.read_text(encoding="utf-8").splitlines():
        if "curl " in line:
            assert not re.search(r"""(?<!['"`\w:/.?=&-])https?://[^\s'"`]*[?&*\[]""", line), line


def test_every_exit_code_is_listed():
    signals = {128 + number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}
    assert {int(name) for name in names(CLI, "Exit code")} == {0, *EXIT_CODES.values(), *signals}


def recording_events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    """Report every event once; a file that is left out gives the same event as one that is not."""
    golden = json.loads((ROOT / "tests" / "golden" / "lighthouse.json").read_text(encoding="utf-8"))
    transcript = Transcript.from_dict(golden)
    error = UnknownFormat("no such format")
    lines = JsonReporter()
    lines.left_out(Path("talks"), ["notes.xyz", "older/"])
    lines.started("a.mp3", 1, 2)
    lines.uploaded(1, 2)
    lines.progressed("a.mp3", Progress("recognising", 1.0, 2.0))
    lines.recognised("a.mp3", Chunk(0.0, 1.0, transcript.segments[:1], ()))
    lines.finished("a.mp3", FileResult(transcript, 1.0, (Path("a.txt"),)))
    lines.skipped("a.mp3", [Path("a.txt")], 1, 2)
    lines.failed("a.mp3", error)
    report_error(describe(error), error, as_json=True, with_traceback=False)
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    first = next(event for event in events if event["event"] == "file_started")
    return [event for event in events if event["event"] != "file_started" or event is first]


def test_every_event_has_an_example_with_its_real_keys(capsys):
    events = recording_events(capsys)
    examples = [json.loads(line) for block in blocks(CLI, "json") for line in block.splitlines()]
    assert [(event["event"], list(event)) for event in examples] == [(event["event"], list(event)) for event in events]
    assert headings(CLI, 3, under="Events") == list(dict.fromkeys(event["event"] for event in events))


def test_the_examples_cover_every_event(capsys):
    """Guard the test above: it must cover a new event too."""
    sources = inspect.getsource(reporters) + inspect.getsource(exits)
    in_program = set(re.findall(r"""_emit\(\s*"(\w+)"|"event": "(\w+)\"""", sources))
    assert {one or other for one, other in in_program} == {event["event"] for event in recording_events(capsys)}


# Settings, errors, formats, models


def test_every_setting_has_a_row_with_its_variable_and_default():
    default = Settings()

    def written(name: str) -> str:
        match value := getattr(default, name):
            case None:
                return "auto" if name in ("database", "require_key", "workers") else "none"
            case ():
                return "none"
            case bool():
                return str(value).lower()
            case float():
                return f"{value:g}"
            case _:
                return str(value)

    documented = {row.name: row.cells for row in rows(SETTINGS, "Setting")}
    assert list(documented) == list(config.SETTINGS)
    for name, (_, variable, value, _) in documented.items():
        assert variable == f"`{PREFIX}{name.upper()}`"
        assert name == "data_dir" or value == f"`{written(name)}`"


def first_words(name: str) -> str:
    """Return the beginning of a setting's description, up to a mark or `instead`."""
    return re.split(r"[:;,.]( |$)| instead ", config.SETTINGS[name].doc.replace("`", ""))[0]


def test_the_row_of_a_setting_begins_as_its_description_and_names_its_flag():
    params = [param for command in COMMANDS.values() for param in command.params if isinstance(param, click.Option)]
    flags = {name: [flag for param in params if param.name == name for flag in param.opts] for name in config.SETTINGS}
    for row in rows(SETTINGS, "Setting"):
        meaning = row.cells[3]
        assert meaning.replace("`", "").startswith(first_words(row.name))
        assert bool(flags[row.name]) == ("Flag: " in meaning)
        assert not flags[row.name] or code_in(meaning.partition("Flag: ")[2])[0] in flags[row.name]


@EACH_COMMAND
def test_the_row_of_a_settings_flag_begins_as_its_description(path):
    for row in rows(CLI, "Option", path):
        name = str(options_of(COMMANDS[path])[OPTION.findall(row.name)[0]].name)
        is_other = (path, name) == ("cesar jobs list", "model") or name == "require_key"  # a filter; `--insecure`
        if name in config.SETTINGS and not is_other:
            assert row.cells[1].replace("`", "").startswith(first_words(name))


@EACH_PAGE
def test_every_variable_named_on_a_page_is_a_setting(page):
    known = {PREFIX + name.upper() for name in config.SETTINGS} | {CONFIG_VARIABLE}
    assert set(re.findall(r"\bCESAR_[A-Z_]*[A-Z]\b", page.read_text(encoding="utf-8"))) <= known


def test_every_error_has_a_row_with_its_exit_code_and_class():
    documented = {row.name: row.cells for row in rows(ERRORS, "Code")}
    assert set(documented) == set(BY_CODE)
    for code, (_, exit_, class_name, *_) in documented.items():
        assert (exit_, class_name) == (str(exit_code(BY_CODE[code](""))), f"`{BY_CODE[code].__name__}`")


def test_every_format_has_a_row_with_its_extensions_and_media_type():
    documented = {
        row.name: (tuple(code_in(row.cells[1])), code_in(row.cells[2])[0]) for row in rows(FORMATS_PAGE, "Name")
    }
    assert documented == {known.name: (known.extensions, known.media_type) for known in FORMATS.values()}


def test_the_readme_lists_every_format():
    documented = {row.name: code_in(row.cells[1])[0] for row in rows(README, "`-f`")}
    assert documented == {known.name: known.extensions[0] for known in FORMATS.values()}


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("Transcript", ["origin", "text", *(name for name in field_names(Transcript) if name != "origin")]),
        ("Origin", field_names(Origin)),
        ("Segment", field_names(Segment)),
        ("Word", field_names(Word)),
        ("Model", field_names(ModelIdentity)),
        ("Settings", field_names(TranscribeOptions)),
        ("Ledger", field_names(Span)),
    ],
)
def test_the_json_fields_are_documented_in_order(section, expected):
    assert names(FORMATS_PAGE, "Field", section) == expected


def test_every_model_has_a_row_with_its_languages_and_size():
    documented = [row.cells[:3] for row in rows(ROOT / "docs" / "howto" / "pick-a-model.md", "Model")]
    assert documented == [(f"`{it.name}`", it.languages, format_size(it.size_bytes)) for it in CATALOG.values()]


# The library


def signature(function: object) -> str:
    """Return a signature without types and self."""
    found = inspect.signature(function)  # type: ignore[arg-type]
    bare = [param.replace(annotation=param.empty) for param in found.parameters.values() if param.name != "self"]
    text = str(found.replace(parameters=bare, return_annotation=inspect.Signature.empty)).replace("'", '"')
    return text.replace("<built-in function sleep>", "time.sleep")


def test_every_public_name_has_a_section():
    assert set(headings(LIBRARY, 2)) == set(cesar.__all__)


EACH_CLASS = pytest.mark.parametrize(("page", "cls"), [(LIBRARY, AudioTranscriber), (CLIENT, Client)])


def methods_of(cls: type) -> dict[str, Callable[..., object]]:
    return {name: member for name, member in vars(cls).items() if name[0] != "_" and inspect.isfunction(member)}


@EACH_CLASS
def test_every_public_method_has_a_section_with_its_signature(page, cls):
    methods = methods_of(cls)
    assert headings(page, 3, under=cls.__name__) == list(methods)
    expected = [f"{cls.__name__}{signature(cls)}"]
    expected += [f"{name}{signature(method)}" for name, method in methods.items()]
    assert [" ".join(block.split()) for block in blocks(page, "text")] == expected


@EACH_CLASS
def test_every_parameter_is_documented(page, cls):
    documented = {
        section: [row.name for row in its_rows]
        for section, its_rows in groupby(rows(page, "Parameter"), lambda row: row.section[-1])
    }
    functions = {cls.__name__: cls.__init__, **methods_of(cls)}
    expected = {name: list(inspect.signature(it).parameters)[1:] for name, it in functions.items()}
    assert documented == {name: names for name, names in expected.items() if names}


def test_the_fields_of_an_event_are_documented_in_order():
    assert names(CLIENT, "Field", "Event") == field_names(Event)


@pytest.mark.parametrize("kind", [TranscribeOptions, SubtitleOptions, Chunk, Progress])
def test_the_fields_of_a_class_are_documented_in_order(kind):
    assert names(LIBRARY, "Field", kind.__name__) == field_names(kind)


def test_the_documented_defaults_of_the_options_are_correct():
    for default in (TranscribeOptions(), SubtitleOptions()):
        for row in rows(LIBRARY, "Field", type(default).__name__):
            assert ast.literal_eval(code_in(row.cells[1])[0]) == getattr(default, row.name)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: f"{table.page}: {table.heading}")
def test_the_tables_of_options_are_made_from_their_declarations(table):
    assert table.is_current(), "run scripts/option-tables"


def test_an_error_has_the_documented_attributes():
    assert all(getattr(CesarError("what"), name) for name in names(LIBRARY, "Attribute"))


def test_transcribe_file_returns_the_documented_keys(tmp_path):
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"language": "en", "segments": []}))
    transcriber = AudioTranscriber(f"scripted:{script}", settings=Settings())
    result = transcriber.transcribe_file(ROOT / "samples" / "jfk.flac", tmp_path / "jfk.txt")
    assert names(LIBRARY, "Key") == list(result)


# Links, paths and examples


@EACH_PAGE
def test_links_lead_to_existing_files_and_headings(page):
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_every_page_can_be_reached_from_the_readme():
    reached: set[Path] = set()
    ahead = [README]
    while ahead:
        page = ahead.pop().resolve()
        if page.is_dir():
            ahead += page.glob("*.md")
        elif page.suffix == ".md" and page not in reached and page.exists():
            reached.add(page)
            ahead += [page.parent / target.partition("#")[0] for target in links(page)]
    assert {page for page in PAGES if ROOT / "docs" in page.parents} <= reached


@EACH_PAGE
def test_paths_named_on_a_page_exist(page):
    for code in inline_code(page):
        if re.fullmatch(r"(cesar|docs|scripts|tests|benchmarks|samples)/[\w./-]*", code):
            assert (ROOT / code).exists(), code


def test_pictures_are_well_formed_svg():
    assert {ET.parse(picture).getroot().tag for picture in (ROOT / "docs").rglob("*.svg")} == {
        "{http://www.w3.org/2000/svg}svg"
    }


def find_command(words: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command that the words call, and the remaining words."""
    command: click.Command = group
    while isinstance(command, click.Group) and words and words[0][0] != "-":
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, f"there is no command {words[0]}"
        command, words = found, words[1:]
    return command, words


def command_lines(page: Path) -> Iterator[list[str]]:
    """Yield the arguments of every call of cesar in the page's shell examples."""
    prompted = (line[2:] for block in blocks(page, "console") for line in block.splitlines() if line[:2] == "$ ")
    plain = (line for block in blocks(page, "sh") for line in block.splitlines())
    for line in (*prompted, *plain):
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        for is_between, words in groupby(lexer, lambda word: set(word) <= set("|&;<>()")):
            call = re.sub(r"^(uvx --from \S+ |[A-Z_]+=\S* )*", "", shlex.join(words))
            if not is_between and call.split()[0] == "cesar":
                yield shlex.split(call)[1:]


CALLS = [pytest.param(call, id=f"{page.name}: {shlex.join(call)}") for page in PAGES for call in command_lines(page)]


@pytest.mark.parametrize("call", CALLS)
def test_every_command_line_in_an_example_parses(call, capsys):
    command, arguments = find_command(call)
    with suppress(click.exceptions.Exit):  # --help and --version end the program
        given = command.make_context("cesar", arguments).params
        if command.name == "transcribe":
            choose_destination(given["file"], given["folder"], given["formats"])
            TranscribeOptions(language=given["language"], start=given["start"] or 0.0, end=given["end"])
        model = given.get("model") or given.get("name")
        assert model is None or model in CATALOG or "/" in model


def test_the_pages_have_command_line_examples():
    """Guard the test above: it must not pass for lack of examples."""
    assert len(CALLS) > 30


@EACH_PAGE
def test_commands_and_options_in_running_text_exist(page):
    every_option = {name for command in COMMANDS.values() for name in options_of(command)} | {"-h", "--help"}
    for code in inline_code(page):
        if code.startswith("cesar "):
            command, arguments = find_command(code.split()[1:])
            known = {*options_of(command), "-h", "--help"}
            assert {word for word in arguments if word[0] == "-"} <= known, code
        elif OPTION.match(code):
            assert set(OPTION.findall(code)) <= every_option, code


@EACH_PAGE
def test_python_examples_compile_and_import_existing_names(page):
    for block in blocks(page, "python"):
        compile(block, str(page), "exec")
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module:
                if (framework := node.module.partition(".")[0]) in {"django", "flask"}:
                    pytest.importorskip(framework)
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names)


def test_every_endpoint_has_a_section_and_every_section_an_endpoint(tmp_path):
    app = create_app(Settings(data_dir=tmp_path), with_worker=False)
    endpoints = {f"{method.upper()} {path}" for path, methods in app.openapi()["paths"].items() for method in methods}
    assert {title for title in headings(HTTP, 3) if title.partition(" ")[0].isupper()} == endpoints


def test_every_submission_field_and_filter_is_documented(tmp_path):
    openapi = create_app(Settings(data_dir=tmp_path), with_worker=False).openapi()
    body = openapi["paths"]["/transcribe"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    explained = {name for row in rows(HTTP, "Field", "POST /transcribe") for name in code_in(row.cells[0])}
    assert explained == set(body["properties"])
    filters = {parameter["name"] for parameter in openapi["paths"]["/jobs"]["get"]["parameters"]}
    assert {name for row in rows(HTTP, "Parameter", "GET /jobs") for name in code_in(row.cells[0])} == filters


# OpenAI's endpoints

WHISPER_1 = ROOT / "docs" / "reference" / "whisper-1.md"
COMPARED = [
    row
    for column in ("Field", "Format", "Part", "Error", "Endpoint", "Case")
    for row in rows(WHISPER_1, column, "OpenAI's audio endpoints")
]


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/audio/translations"])
def test_every_field_of_openais_requests_is_compared(path, tmp_path):
    operation = create_app(Settings(data_dir=tmp_path), with_worker=False).openapi()["paths"][path]["post"]
    form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    compared = {name for row in rows(WHISPER_1, "Field") for name in code_in(row.cells[0])}
    assert set(form) <= compared
    assert set(form["response_format"]["enum"]) <= set(names(WHISPER_1, "Format"))


def test_every_comparison_names_a_test():
    assert all(code_in(row.cells[-1]) for row in COMPARED)


def test_the_stated_number_of_comparisons_is_correct():
    alike = [row.cells[3] for row in COMPARED]
    totals = [len(alike), *(alike.count(word) for word in ("yes", "more", "differs", "no"))]
    sentence = next(line for line in WHISPER_1.read_text(encoding="utf-8").splitlines() if line.startswith("Of "))
    assert [int(number) for number in re.findall(r"\d+", sentence)] == totals
