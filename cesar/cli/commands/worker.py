"""`cesar worker`: its options. The running is in `working`, which is imported when it runs."""

from __future__ import annotations

from typing import Any

import click

from cesar.cli.commands.jobs import database_option, with_transcribe_params
from cesar.settings.config import load

log_format_option = click.option(
    "--log-format", type=click.Choice(("text", "json")), help="How to write the log. [default: text]"
)


@with_transcribe_params("device", "compute_type", "offline")
@click.command("worker")
@click.option("--until-empty", is_flag=True, help="End when no job is waiting.")
@database_option
@log_format_option
def command(*, offline: bool, until_empty: bool, **flags: Any) -> None:
    """Do the jobs of the queue, one after the other.

    The highest priority goes first, and the oldest among equals.

    Ctrl-C or SIGTERM: the job at work may go on for as long as CESAR_SHUTDOWN_GRACE_S says (8 s); then it is put
    back with all that is recognised. A second one stops at once. Several workers may share a queue.
    """
    settings = load({**flags, "offline": offline or None})
    import asyncio

    from cesar.cli.server.working import run_worker

    asyncio.run(run_worker(settings, until_empty=until_empty))
