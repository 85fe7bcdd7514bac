"""Run a real worker in this process: `python -m tests.support.worker_main SETTINGS`."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys

from imgserve.config import load_settings
from imgserve.worker.agent import serve


async def main(flags: dict[str, object]) -> int:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    return await serve(load_settings(flags), stop=stop)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(relativeCreated)d %(levelname)s %(message)s")
    sys.exit(asyncio.run(main(json.loads(sys.argv[1]))))
