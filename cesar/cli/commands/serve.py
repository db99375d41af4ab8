"""`cesar serve`: its options. The running is in `serving`, which is imported when it runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from cesar.cli.commands.jobs import database_option, with_transcribe_params
from cesar.cli.commands.worker import log_format_option
from cesar.settings.config import DEFAULT, load

_NICENESS = 10
"""How far recognition gives way to whoever asks the service something."""


@with_transcribe_params("model", "device", "compute_type", "offline")
@click.command("serve")
@click.option("--host", metavar="ADDRESS", help="Where to listen. [default: 127.0.0.1]")
@click.option("--port", metavar="N", type=click.IntRange(0, 65535), help="0 takes a free one. [default: 5000]")
@click.option("--data-dir", metavar="DIR", help="The folder for recordings, queue and models.")
@database_option
@click.option("--no-worker", is_flag=True, help="Only answer; `cesar worker` does the jobs.")
@click.option("--insecure", is_flag=True, help="Let anybody who can reach it use it, without an API key.")
@log_format_option
def command(*, no_worker: bool, insecure: bool, offline: bool, **flags: Any) -> None:
    """Serve the queue over HTTP, and do its jobs.

    Recordings come in by POST /transcribe; /docs describes the whole interface. Whoever listens elsewhere than
    on this machine needs API keys: `cesar keys create NAME`.

    Ctrl-C or SIGTERM: the job at work may go on for as long as CESAR_SHUTDOWN_GRACE_S says (8 s); then it is put
    back with all that is recognised. A second one stops at once.
    """
    settings = load({**flags, "offline": offline or None, "require_key": False if insecure else None})
    if settings.origins["niceness"] == DEFAULT:
        settings = replace(settings, niceness=_NICENESS)
    import asyncio

    from cesar.api.http.server.fair_loop import FairLoop
    from cesar.cli.server.serving import serve

    with asyncio.Runner(loop_factory=FairLoop) as runner:
        runner.run(serve(settings, with_worker=not no_worker))
