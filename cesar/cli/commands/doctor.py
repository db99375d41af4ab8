"""`cesar doctor`: what works on this machine and what does not, with what to do about it.

Native libraries are imported in a subprocess each, so that one that crashes does not take the doctor with it.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import click

import cesar
from cesar.cli.commands.config import setting_value
from cesar.cli.exits import EXIT_CODES, describe, exit_code
from cesar.cli.findings import Finding, format_findings
from cesar.cli.transcription.model_download import format_size
from cesar.cli.transcription.writing import check_folder, write_stdout
from cesar.engines.hardware import usable_cores
from cesar.errors import CesarError, ModelError, OutputError, RecognitionError, UsageError
from cesar.models import store
from cesar.settings.config import DEFAULT, Settings, documentation, load

if TYPE_CHECKING:
    from collections.abc import Iterator

NATIVE_LIBRARIES = ("av", "ctranslate2", "numpy", "onnxruntime", "tokenizers")
PACKAGES = (*NATIVE_LIBRARIES, "click", "huggingface-hub", "platformdirs", "pydantic", "rich", "sqlalchemy")
PROBE_TIMEOUT_S = 120.0
FREE_BYTES_WANTED = 2_000_000_000
"""Below this there is no room for a middling model."""
PROBE = """
import importlib, json, sys
library = importlib.import_module(sys.argv[1])
found = {}
if sys.argv[1] == "ctranslate2":
    found["cuda_devices"] = library.get_cuda_device_count()
    found["cpu"] = sorted(library.get_supported_compute_types("cpu"))
    if found["cuda_devices"]:
        found["cuda"] = sorted(library.get_supported_compute_types("cuda"))
print(json.dumps(found))
"""


@click.command("doctor")
@click.option("--repair", is_flag=True, help="Save what can be read of a damaged database; the damaged file is kept.")
@click.option("--adopt-recordings", "adopt", is_flag=True, help="Let the data folder's recordings be the database's.")
@click.option("--database", metavar="FILE", help="The queue's database. [default: cesar.db in the data folder]")
def command(*, repair: bool, adopt: bool, database: str | None) -> int:
    """Show what works here, what does not, and what to do about it.

    The exit code is 0 when recordings can be transcribed here, else that of what is missing: 2 settings,
    3 the data folder, 4 the model, 5 a library. If only the queue's database can't be used, it is 6.
    """
    if repair or adopt:
        from cesar.cli import repair as by_hand

        (by_hand.repair_database if repair else by_hand.adopt_recordings)(load({"database": database}))
        return 0
    settings, trouble = _load_settings(database)
    findings = [
        *trouble,
        *_if_reachable(settings),
        _database(settings),
        *_libraries(),
        *_machine(),
        _changed_settings(settings),
    ]
    write_stdout("\n".join(format_findings(findings)) + "\n")
    return next((finding.exit_code for finding in findings if finding.exit_code), 0)


def _load_settings(database: str | None) -> tuple[Settings, list[Finding]]:
    try:
        return load({"database": database}), []
    except UsageError as error:
        finding = Finding("settings", "MISSING", error.message, error.hint, EXIT_CODES[UsageError])
        return Settings(), [finding]


def _machine() -> Iterator[Finding]:
    yield Finding("cesar", "ok", f"{cesar.__version__} in {Path(cesar.__file__).parent}")
    yield Finding("python", "ok", f"{platform.python_version()} in {sys.prefix}")
    yield Finding("system", "ok", f"{platform.platform()}, {platform.machine()}")
    memory = _memory_bytes()
    yield Finding("cores", "ok", str(usable_cores()))
    yield Finding("memory", "ok", format_size(memory) if memory else "unknown")


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf, other systems not these names
        return None


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed as a package"


def _libraries() -> Iterator[Finding]:
    running = {name: _start_probe(name) for name in NATIVE_LIBRARIES}
    for package in PACKAGES:
        if package not in running:
            yield Finding(package, "ok", _version(package))
            continue
        found, trouble = _finish_probe(running[package])
        if trouble:
            hint = f"Install it again: pip install --force-reinstall {package}"
            yield Finding(package, "MISSING", trouble, hint, EXIT_CODES[RecognitionError])
        else:
            yield Finding(package, "ok", _version(package))
        if package == "ctranslate2" and not trouble:
            yield from _devices(found)


def _start_probe(library: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROBE, library],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},  # else onnxruntime looks for a network
    )


def _finish_probe(probe: subprocess.Popen[str]) -> tuple[dict[str, object], str]:
    """Give what a probe found and, if it failed, why."""
    with probe:
        try:
            out, complaints = probe.communicate(timeout=PROBE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            probe.kill()
            return {}, "it hangs when it is imported"
        if probe.returncode < 0:
            return {}, f"it crashes when it is imported (signal {-probe.returncode})"
        if probe.returncode:
            return {}, (complaints.strip().splitlines() or ["it can't be imported"])[-1]
    found: dict[str, object] = json.loads(out.splitlines()[-1])
    return found, ""


def _devices(found: dict[str, object]) -> Iterator[Finding]:
    yield Finding("cpu", "ok", f"computes with {_listed(found.get('cpu'))}")
    if found.get("cuda_devices"):
        text = f"{found['cuda_devices']} device(s), computing with {_listed(found.get('cuda'))}"
        yield Finding("cuda", "ok", text)
    else:
        yield Finding("cuda", "note", "no device that CTranslate2 can use", "Nothing: the CPU is used.")


def _listed(names: object) -> str:
    return ", ".join(names) if isinstance(names, list) else "nothing"


def _data_folder(settings: Settings, *, is_needed: bool) -> Iterator[Finding]:
    folder = settings.data_dir.absolute()
    there = os.path.exists  # unlike Path.exists it never raises, whatever may not be looked into
    existing = next(parent for parent in (folder, *folder.parents) if there(parent))
    try:
        check_folder(existing)
    except CesarError as error:
        hint = "Let CESAR_DATA_DIR name a folder that may be written to: models are kept there."
        code = EXIT_CODES[OutputError] if is_needed else 0
        yield Finding("data folder", "MISSING" if is_needed else "note", error.message, hint, code)
    else:
        yield Finding("data folder", "ok", str(folder))
    free = shutil.disk_usage(existing).free
    if free >= FREE_BYTES_WANTED:
        yield Finding("free space", "ok", format_size(free))
    else:
        yield Finding("free space", "note", format_size(free), "Free some space before you fetch a model.")


def _if_reachable(settings: Settings) -> list[Finding]:
    """Return what is to be said of the models and the data folder, also where that may not be looked into."""
    try:
        return list(_models_and_folder(settings))
    except PermissionError as error:
        end = describe(error)
        return [Finding("data folder", "MISSING", end.message, end.hint, end.code)]


def _models_and_folder(settings: Settings) -> Iterator[Finding]:
    statuses = store.list_models(settings.models_dir)
    here = [f"{status.name} ({status.source})" for status in statuses if status.source]
    yield Finding("models", "ok" if here else "note", ", ".join(here) or "none")
    chosen = next((status for status in statuses if status.name == settings.model), None)
    is_packaged = chosen is not None and chosen.source == "package"
    if is_packaged:  # to look closer would join its parts into the store
        yield Finding("model", "ok", f"{settings.model} in its package")
    else:
        yield _model(settings)
    yield from _data_folder(settings, is_needed=is_packaged)
    use = "never used" if settings.offline else "used only to fetch a model"
    yield Finding("network", "ok", use)


def _model(settings: Settings) -> Finding:
    try:
        model = store.locate(settings.model, store=settings.models_dir, allow_network=False)
    except CesarError as error:
        return Finding("model", "MISSING", error.message, error.hint, EXIT_CODES[ModelError])
    return Finding("model", "ok", f"{model.name} in {model.directory}")


def _database(settings: Settings) -> Finding:
    """Look at the queue's database as every command on jobs does, and read it through for damage."""
    try:
        from cesar.cli.queue.local import check_database

        return Finding("database", "ok", check_database(settings))
    except ImportError as error:
        hint = "Install Cesar again: pip install --force-reinstall cesar-transcribe"
        return Finding("database", "MISSING", str(error), hint, EXIT_CODES[RecognitionError])
    except CesarError as error:
        return Finding("database", "MISSING", error.message, error.hint, exit_code(error))


def _changed_settings(settings: Settings) -> Finding:
    """Name the settings that are not the defaults, with where each came from."""
    changed = [name for name in documentation() if settings.origins.get(name, DEFAULT) != DEFAULT]
    listed = ", ".join(f"{name} = {setting_value(settings, name)} ({settings.origins[name]})" for name in changed)
    return Finding("settings", "ok", f"{listed or 'all as they are by default'}; see `cesar config show`")
