"""The sources of settings: flags, environment variables and the settings file. Values are not checked here."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import platformdirs

from cesar.errors import UsageError

PREFIX = "CESAR_"
CONFIG_VARIABLE = "CESAR_CONFIG"
FLAG = "flag"
"""The origin of values from flags."""

Found = dict[str, tuple[object, str]]
"""Value and origin by the setting's name."""


def settings_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the settings file to read, if it exists: the one named by CESAR_CONFIG, otherwise the user's own."""
    named = environ.get(CONFIG_VARIABLE)
    return Path(named) if named else platformdirs.user_config_path("cesar", appauthor=False) / "config.toml"


def from_flags(overrides: Mapping[str, object | None], known: Collection[str]) -> Found:
    """Return the values of the flags; None means not given. Raises `UsageError` for a flag that is not a setting."""
    given = {key: value for key, value in overrides.items() if value is not None}
    _refuse_unknown(given, FLAG, known)
    return {key: (value, FLAG) for key, value in given.items()}


def from_environment(environ: Mapping[str, str], known: Collection[str]) -> Found:
    """Return the values of variables; an empty one counts as unset. Raises `UsageError` for a misspelt setting."""
    variables = {PREFIX + name.upper(): name for name in known}
    # Other CESAR_ variables may belong to other parts, so only a likely misspelling of a setting is rejected.
    for key in environ:
        if key.startswith(PREFIX) and key not in variables and key != CONFIG_VARIABLE:
            near = _similar(key.removeprefix(PREFIX), [name.upper() for name in variables.values()])
            if near:
                raise UsageError(f"the variable {key} is not a setting", hint=f"Did you mean {PREFIX}{near}?")
    return {name: (environ[key], key) for key, name in variables.items() if environ.get(key)}


def from_file(config_file: Path | None, environ: Mapping[str, str], known: Collection[str]) -> Found:
    """Return the values in the settings file, if there is one. Raises `UsageError`."""
    named = config_file or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    path = named or settings_file(environ)
    try:
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if named is None:
            return {}
        raise UsageError(f"there is no settings file {path}", hint=f"Check {CONFIG_VARIABLE}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the settings file {path} can't be read: {error}", hint="Make it UTF-8 text.") from error
    values = _parse(content, path)
    _refuse_unknown(values, str(path), known)
    return {key: (value, str(path)) for key, value in values.items()}


def _parse(content: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            f"the settings file {path} is not TOML: {error}", hint='Write lines such as model = "base".'
        ) from error


def _refuse_unknown(given: Mapping[str, object], origin: str, known: Collection[str]) -> None:
    for key in given:
        if key not in known:
            near = _similar(key, known)
            hint = f"Did you mean {near}?" if near else f"Settings: {', '.join(known)}."
            raise UsageError(f"{key} (from {origin}) is not a setting", hint=hint)


def _similar(key: str, known: Collection[str]) -> str | None:
    return next(iter(difflib.get_close_matches(key, known, n=1, cutoff=0.75)), None)
