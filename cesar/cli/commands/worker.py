"""`cesar worker`: its options. The worker itself is in `cesar.cli.server.working`, imported when it runs."""

from __future__ import annotations

from typing import Any

import click

from cesar.cli.commands.jobs import database_option, with_transcribe_params
from cesar.settings.config import load

log_format_option = click.option(
    "--log-format", type=click.Choice(("text", "json")), help="Format of the log. [default: text]"
)


@with_transcribe_params("device", "compute_type", "offline")
@click.command("worker")
@click.option("--until-empty", is_flag=True, help="Exit when no job is waiting.")
@database_option
@log_format_option
def command(*, offline: bool, until_empty: bool, **flags: Any) -> None:
    """Run the jobs in the queue, one after the other.

    The highest priority runs first, and the oldest job among equals. Several workers can share a queue.

    On Ctrl-C or SIGTERM, the running job has CESAR_SHUTDOWN_GRACE_S (8 s) to finish; then it goes back to the
    queue with all that is recognised. A second signal stops at once.
    """
    settings = load({**flags, "offline": offline or None})
    import asyncio

    from cesar.cli.server.working import run_worker

    asyncio.run(run_worker(settings, until_empty=until_empty))
