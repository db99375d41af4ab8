"""`cesar keys`: API keys and what they allow."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cesar.cli.flags.settings import setting_flags
from cesar.cli.transcription.progress import show_table
from cesar.cli.transcription.reporters import write_stderr
from cesar.cli.transcription.writing import write_stdout
from cesar.errors import KeyNotFound
from cesar.settings.config import Settings

if TYPE_CHECKING:
    from cesar.api.queue.api_keys import ApiKey, KeyRing
    from cesar.cli.queue.local import LocalQueue

T = TypeVar("T")
_SCOPES = ("read", "submit", "admin")
_COLUMNS = ("NAME", "ID", "SCOPES", "MADE", "REVOKED")
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


@click.group("keys")
def command() -> None:
    """Create and revoke API keys for `cesar serve`."""


@command.command("create")
@click.argument("key_name", metavar="NAME")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(_SCOPES),
    default=("submit",),
    help="What the key allows; each scope includes those before it. Can be repeated. [default: submit]",
)
@setting_flags("database")
@_json_option
def create(key_name: str, *, scopes: tuple[str, ...], settings: Settings, as_json: bool) -> None:
    """Create a key and print it. It is shown only once: Cesar keeps only a digest of it.

    read: see the service's health and the key's own jobs. submit: also submit recordings, and cancel, retry and
    delete the key's own jobs. admin: all of this for everyone's jobs.
    """
    from cesar.api.queue.api_keys import Scope

    async def make(keys: KeyRing) -> tuple[ApiKey, str]:
        return await keys.create(key_name, [Scope(scope) for scope in scopes])

    key, token = _with_keys(settings, make, create=True)
    if as_json:
        _print_json({**_key_to_dict(key), "key": token})
        return
    write_stdout(f"{token}\n")
    write_stderr(f"Key {key.name} ({_scopes_of(key)}). It will not be shown again.")


@command.command("list")
@setting_flags("database")
@_json_option
def list_(*, settings: Settings, as_json: bool) -> None:
    """List all keys, oldest first, including revoked ones. The keys themselves can't be shown again."""
    from cesar.cli.queue.local import database_file

    keys = _with_keys(settings, lambda keys: keys.list()) if database_file(settings).exists() else []
    if as_json:
        _print_json([_key_to_dict(key) for key in keys])
    elif keys:
        show_table(_COLUMNS, [_row(key) for key in keys])
    else:
        write_stderr("There are no keys. Create one with `cesar keys create NAME`.")


@command.command("revoke")
@click.argument("key_name", metavar="NAME")
@setting_flags("database")
@_json_option
def revoke(key_name: str, *, settings: Settings, as_json: bool) -> None:
    """Revoke the key of that name or id. A running service applies it within two seconds."""
    from cesar.cli.queue.id_prefix import require_utf8
    from cesar.cli.queue.local import database_file

    require_utf8(key_name)
    if not database_file(settings).exists():
        raise KeyNotFound(f"there is no key {key_name!r}")
    key = _with_keys(settings, lambda keys: keys.revoke(key_name))
    if as_json:
        _print_json(_key_to_dict(key))
    else:
        write_stderr(f"Key {key.name} is revoked.")


def _with_keys(settings: Settings, work: Callable[[KeyRing], Awaitable[T]], *, create: bool = False) -> T:
    from cesar.api.queue.api_keys import KeyRing
    from cesar.cli.queue.local import with_queue

    async def with_ring(queue: LocalQueue) -> T:
        return await work(KeyRing(queue.database))

    return with_queue(settings, with_ring, create=create)


def _row(key: ApiKey) -> tuple[str, ...]:
    from cesar.cli.queue.tables import format_time

    return key.name, key.id, _scopes_of(key), format_time(key.created_at), format_time(key.revoked_at)


def _scopes_of(key: ApiKey) -> str:
    return ", ".join(scope for scope in _SCOPES if scope in key.scopes)


def _key_to_dict(key: ApiKey) -> dict[str, Any]:
    return {**key.model_dump(mode="json"), "scopes": [scope for scope in _SCOPES if scope in key.scopes]}


def _print_json(value: object) -> None:
    write_stdout(json.dumps(value, indent=2) + "\n")
