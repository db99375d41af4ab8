"""`cesar serve`: its options. The service itself is in `cesar.cli.server.serving`, imported when it runs."""

from __future__ import annotations

from dataclasses import replace

import click

from cesar.cli.flags.settings import setting_flags
from cesar.settings.config import DEFAULT, Settings

_NICENESS = 10
"""Niceness of recognition, so that requests to the service come first."""
_INSECURE = click.Option(
    ["--insecure", "require_key"],
    flag_value=False,
    default=None,
    help="Let anyone who can reach the service use it without an API key.",
)


@click.command("serve")
@setting_flags(
    *("model", "device", "compute_type", "offline", "host", "port", "data_dir", "database", "log_format"), _INSECURE
)
@click.option("--no-worker", is_flag=True, help="Only answer requests; `cesar worker` runs the jobs.")
def command(*, settings: Settings, no_worker: bool) -> None:
    """Serve the queue over HTTP and run its jobs.

    Recordings are submitted by POST /transcribe; /docs describes the whole API. Listening beyond this machine
    requires API keys: `cesar keys create NAME`.

    On Ctrl-C or SIGTERM, the running job has CESAR_SHUTDOWN_GRACE_S (8 s) to finish; then it goes back to the
    queue with all that is recognised. A second signal stops at once.
    """
    if settings.origins["niceness"] == DEFAULT:
        settings = replace(settings, niceness=_NICENESS)
    import asyncio

    from cesar.api.http.server.fair_loop import FairLoop
    from cesar.cli.server.serving import serve
    from cesar.cli.server.signals import Watchdog

    with Watchdog() as watchdog, asyncio.Runner(loop_factory=FairLoop) as runner:
        runner.run(serve(settings, with_worker=not no_worker, watchdog=watchdog))
