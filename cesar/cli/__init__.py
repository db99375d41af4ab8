"""The entry point of the command line: the command group and the one error handler.

Commands are imported when they are called, so `cesar --version` imports little more than click.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

import click

from cesar.cli.exits import abandon_stdout, describe, report_error, unwind_on_signals

if TYPE_CHECKING:
    from collections.abc import Sequence

COMPLETION_VARIABLE = "_CESAR_COMPLETE"
COMMANDS = {
    "transcribe": "cesar.cli.commands.transcribe",
    "jobs": "cesar.cli.commands.jobs",
    "serve": "cesar.cli.commands.serve",
    "worker": "cesar.cli.commands.worker",
    "keys": "cesar.cli.commands.keys",
    "models": "cesar.cli.commands.models",
    "config": "cesar.cli.commands.config",
    "doctor": "cesar.cli.commands.doctor",
    "completion": "cesar.cli.commands.completion",
}
"""The module of each command; the command itself is its attribute `command`."""


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the commands in the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name]).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments name. A typo or the name of a recording gets a hint."""
        name = args[0]
        if name in COMMANDS or name.startswith("-"):
            return super().resolve_command(ctx, args)
        if os.path.exists(name):  # noqa: PTH110 - unlike Path.exists it never raises
            raise click.UsageError(f"{name} is not a command; use `cesar transcribe {name}`", ctx)
        from difflib import get_close_matches

        near = get_close_matches(name, COMMANDS, n=1)
        raise click.UsageError(f"no such command {name!r}{f'; did you mean {near[0]}?' if near else ''}", ctx)


def _show_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted:
        version = importlib.import_module("cesar").__version__
        click.echo(f"cesar {version}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
@click.option("-v", "--verbose", is_flag=True, expose_value=False, help="Show the traceback of an internal error.")
def group() -> None:
    """Transcribe recordings on this machine, without a network.

    Exit codes: 0 success; 1 a bug; 2 wrong usage; 3 a recording can't be read or a result can't be written;
    4 the model; 5 recognition failed; 6 the queue; 7 the service; 130 interrupted (143 by SIGTERM, 129 by
    SIGHUP).
    """


def run(arguments: Sequence[str]) -> int:
    """Run the program with these arguments and return its exit code. Errors end here, as one line each."""
    os.umask(os.umask(0o077) & ~0o700)  # a umask that denies users their own files would stop us midway
    try:
        return _dispatch(list(arguments))
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the one place where every error ends
        status = describe(error)
        verbose = "-v" in arguments or "--verbose" in arguments
        report_error(status, error, as_json="--json-lines" in arguments, with_traceback=verbose)
        if isinstance(error, OSError) or status.code == 3:
            abandon_stdout()
        return status.code


def _dispatch(arguments: list[str]) -> int:
    instruction = os.environ.get(COMPLETION_VARIABLE)
    if instruction:
        from click.shell_completion import shell_complete

        return shell_complete(group, {}, "cesar", COMPLETION_VARIABLE, instruction)
    with group.make_context("cesar", arguments) as context:
        return group.invoke(context) or 0


def main() -> None:
    """Run the program with the process's arguments and exit."""
    unwind_on_signals()
    sys.exit(run(sys.argv[1:]))
