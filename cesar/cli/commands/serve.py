"""`cesar serve`: its options. The service itself is in `cesar.cli.server.serving`, imported when it runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from cesar.cli.commands.jobs import database_option, with_transcribe_params
from cesar.cli.commands.worker import log_format_option
from cesar.settings.config import DEFAULT, load

_NICENESS = 10
"""Niceness of recognition, so that requests to the service come first."""


@with_transcribe_params("model", "device", "compute_type", "offline")
@click.command("serve")
@click.option("--host", metavar="ADDRESS", help="Where to listen. [default: 127.0.0.1]")
@click.option("--port", metavar="N", type=click.IntRange(0, 65535), help="0 chooses a free port. [default: 5000]")
@click.option("--data-dir", metavar="DIR", help="The folder for recordings, queue and models.")
@database_option
@click.option("--no-worker", is_flag=True, help="Only answer requests; `cesar worker` runs the jobs.")
@click.option("--insecure", is_flag=True, help="Let anyone who can reach the service use it without an API key.")
@log_format_option
def command(*, no_worker: bool, insecure: bool, offline: bool, **flags: Any) -> None:
    """Serve the queue over HTTP and run its jobs.

    Recordings are submitted by POST /transcribe; /docs describes the whole API. Listening beyond this machine
    requires API keys: `cesar keys create NAME`.

    On Ctrl-C or SIGTERM, the running job has CESAR_SHUTDOWN_GRACE_S (8 s) to finish; then it goes back to the
    queue with all that is recognised. A second signal stops at once.
    """
    settings = load({**flags, "offline": offline or None, "require_key": False if insecure else None})
    if settings.origins["niceness"] == DEFAULT:
        settings = replace(settings, niceness=_NICENESS)
    import asyncio

    from cesar.api.http.server.fair_loop import FairLoop
    from cesar.cli.server.serving import serve

    with asyncio.Runner(loop_factory=FairLoop) as runner:
        runner.run(serve(settings, with_worker=not no_worker))
