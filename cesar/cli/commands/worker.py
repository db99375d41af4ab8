"""`cesar worker`: its options. The worker itself is in `cesar.cli.server.working`, imported when it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cesar.cli.flags.settings import setting_flags

if TYPE_CHECKING:
    from cesar.settings.config import Settings


@click.command("worker")
@setting_flags("device", "compute_type", "offline", "database", "log_format")
@click.option("--until-empty", is_flag=True, help="Exit when no job is waiting.")
def command(*, settings: Settings, until_empty: bool) -> None:
    """Run the jobs in the queue, one after the other.

    The highest priority runs first, and the oldest job among equals. Several workers can share a queue.

    On Ctrl-C or SIGTERM, the running job has CESAR_SHUTDOWN_GRACE_S (8 s) to finish; then it goes back to the
    queue with all that is recognised. A second signal stops at once.
    """
    import asyncio

    from cesar.cli.server.signals import Watchdog
    from cesar.cli.server.working import run_worker

    with Watchdog() as watchdog:
        asyncio.run(run_worker(settings, until_empty=until_empty, watchdog=watchdog))
