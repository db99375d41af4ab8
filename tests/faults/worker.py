"""A worker process for the fault tests: `python -m tests.faults.worker DATABASE [options]`. SIGTERM drains it."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import time
from pathlib import Path

from cesar.api.repository import JobRepository
from cesar.api.storage.recordings import AudioStore
from cesar.api.worker import BackgroundWorker


async def work(arguments: argparse.Namespace) -> None:
    repository = JobRepository(
        arguments.database,
        lease_ttl_s=arguments.lease_ttl_s,
        retry_delay_s=arguments.retry_delay_s,
        audio=None if arguments.audio is None else AudioStore(arguments.audio),
    )
    await repository.connect()
    worker = BackgroundWorker(repository, arguments.poll_interval, grace_s=arguments.grace_s)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: loop.create_task(worker.shutdown()))
    print(f"ready {time.time()}", flush=True)
    await worker.run()
    await repository.close()
    print("drained", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("database")
    parser.add_argument("--audio", type=Path)
    parser.add_argument("--lease-ttl-s", type=float, default=60.0)
    parser.add_argument("--retry-delay-s", type=float, default=0.1)
    parser.add_argument("--poll-interval", type=float, default=0.1)
    parser.add_argument("--grace-s", type=float, default=8.0)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    asyncio.run(work(parser.parse_args()))


if __name__ == "__main__":
    main()
