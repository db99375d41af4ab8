"""`cesar doctor`: what works on this machine and what does not, with remedies.

Each native library is imported in its own subprocess, so that a crash does not end the doctor.
"""

from __future__ import annotations

import json
import os
import platform
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
from cesar.files.disk import existing_parent, free_bytes
from cesar.models import store
from cesar.settings.config import DEFAULT, SETTINGS, Settings, load

if TYPE_CHECKING:
    from collections.abc import Iterator

NATIVE_LIBRARIES = ("av", "ctranslate2", "numpy", "onnxruntime", "tokenizers")
PACKAGES = (*NATIVE_LIBRARIES, "click", "huggingface-hub", "platformdirs", "pydantic", "rich", "sqlalchemy")
PROBE_TIMEOUT_S = 120.0
MIN_FREE_BYTES = 2_000_000_000
"""Below this there is no space for a medium-sized model."""
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
@click.option(
    "--repair", is_flag=True, help="Salvage what can be read of a damaged database; the damaged file is kept."
)
@click.option("--adopt-recordings", "adopt", is_flag=True, help="Assign the data folder's recordings to the database.")
@click.option("--database", metavar="FILE", help="The queue's database. [default: cesar.db in the data folder]")
def command(*, repair: bool, adopt: bool, database: str | None) -> int:
    """Show what works here, what does not, and how to fix it.

    The exit code is 0 if recordings can be transcribed here, else that of the first problem: 2 settings,
    3 the data folder, 4 the model, 5 a library. If only the queue's database can't be used, it is 6.
    """
    if repair or adopt:
        from cesar.cli import repair as manual

        (manual.repair_database if repair else manual.adopt_recordings)(load({"database": database}))
        return 0
    settings, problems = _load_settings(database)
    findings = [
        *problems,
        *_models_or_denied(settings),
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
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf, and other systems lack these names
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
        found, problem = _finish_probe(running[package])
        if problem:
            hint = f"Reinstall it: pip install --force-reinstall {package}"
            yield Finding(package, "MISSING", problem, hint, EXIT_CODES[RecognitionError])
        else:
            yield Finding(package, "ok", _version(package))
        if package == "ctranslate2" and not problem:
            yield from _devices(found)


def _start_probe(library: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROBE, library],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},  # otherwise onnxruntime tries to use the network
    )


def _finish_probe(probe: subprocess.Popen[str]) -> tuple[dict[str, object], str]:
    """Return what a probe found, and why it failed if it did."""
    with probe:
        try:
            out, errors = probe.communicate(timeout=PROBE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            probe.kill()
            return {}, "importing it hangs"
        if probe.returncode < 0:
            return {}, f"importing it crashes (signal {-probe.returncode})"
        if probe.returncode:
            return {}, (errors.strip().splitlines() or ["it can't be imported"])[-1]
    found: dict[str, object] = json.loads(out.splitlines()[-1])
    return found, ""


def _devices(found: dict[str, object]) -> Iterator[Finding]:
    yield Finding("cpu", "ok", f"computes with {_listed(found.get('cpu'))}")
    if found.get("cuda_devices"):
        text = f"{found['cuda_devices']} device(s), computing with {_listed(found.get('cuda'))}"
        yield Finding("cuda", "ok", text)
    else:
        yield Finding("cuda", "note", "no device that CTranslate2 can use", "No action needed: the CPU is used.")


def _listed(names: object) -> str:
    return ", ".join(names) if isinstance(names, list) else "nothing"


def _data_folder(settings: Settings, *, is_needed: bool) -> Iterator[Finding]:
    folder = settings.data_dir.absolute()
    try:
        check_folder(existing_parent(folder))
    except CesarError as error:
        hint = "Set CESAR_DATA_DIR to a writable folder: models are kept there."
        code = EXIT_CODES[OutputError] if is_needed else 0
        yield Finding("data folder", "MISSING" if is_needed else "note", error.message, hint, code)
    else:
        yield Finding("data folder", "ok", str(folder))
    free = free_bytes(folder)
    if free >= MIN_FREE_BYTES:
        yield Finding("free space", "ok", format_size(free))
    else:
        yield Finding("free space", "note", format_size(free), "Free some space before you download a model.")


def _models_or_denied(settings: Settings) -> list[Finding]:
    """Return the findings on the models and the data folder, or that the folder may not be read."""
    try:
        return list(_models_and_folder(settings))
    except PermissionError as error:
        status = describe(error)
        return [Finding("data folder", "MISSING", status.message, status.hint, status.code)]


def _models_and_folder(settings: Settings) -> Iterator[Finding]:
    statuses = store.list_models(settings.models_dir)
    installed = [f"{status.name} ({status.source})" for status in statuses if status.source]
    yield Finding("models", "ok" if installed else "note", ", ".join(installed) or "none")
    chosen = next((status for status in statuses if status.name == settings.model), None)
    is_packaged = chosen is not None and chosen.source == "package"
    if is_packaged:  # locating it would assemble its parts in the store
        yield Finding("model", "ok", f"{settings.model} in its package")
    else:
        yield _model(settings)
    yield from _data_folder(settings, is_needed=is_packaged)
    use = "never used" if settings.offline else "used only to download a model"
    yield Finding("network", "ok", use)


def _model(settings: Settings) -> Finding:
    try:
        model = store.locate(settings.model, store=settings.models_dir, allow_network=False)
    except CesarError as error:
        return Finding("model", "MISSING", error.message, error.hint, EXIT_CODES[ModelError])
    return Finding("model", "ok", f"{model.name} in {model.directory}")


def _database(settings: Settings) -> Finding:
    """Open the queue's database as every command on jobs does, and check it for damage."""
    try:
        from cesar.cli.queue.local import check_database

        return Finding("database", "ok", check_database(settings))
    except ImportError as error:
        hint = "Reinstall Cesar: pip install --force-reinstall cesar-transcribe"
        return Finding("database", "MISSING", str(error), hint, EXIT_CODES[RecognitionError])
    except CesarError as error:
        return Finding("database", "MISSING", error.message, error.hint, exit_code(error))


def _changed_settings(settings: Settings) -> Finding:
    """List the settings that differ from the defaults, with their origins."""
    changed = [name for name in SETTINGS if settings.origins.get(name, DEFAULT) != DEFAULT]
    listed = ", ".join(f"{name} = {setting_value(settings, name)} ({settings.origins[name]})" for name in changed)
    return Finding("settings", "ok", f"{listed or 'all at their defaults'}; see `cesar config show`")
