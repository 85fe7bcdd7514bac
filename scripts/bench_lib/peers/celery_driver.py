"""Submit Celery tasks and wait for them; runs in the peers' environment.

usage: python celery_driver.py BROKER BACKEND

Each line of standard input is an order, {"jobs": N, "calls": [[argument, …], …]} or without calls
for tasks that do nothing; each is answered by one line when all its tasks are done.
"""

from __future__ import annotations

import json
import sys

from bench_lib.peers.celery_tasks import app, nothing, thumbnail

TIMEOUT_S = 300


def main() -> None:
    """Answer orders until standard input ends."""
    app.conf.update(broker_url=sys.argv[1], result_backend=sys.argv[2])
    for line in sys.stdin:
        order = json.loads(line)
        try:
            if "calls" in order:
                waiting = [thumbnail.delay(*call) for call in order["calls"]]
            else:
                waiting = [nothing.delay() for _ in range(order["jobs"])]
            for each in waiting:
                each.get(timeout=TIMEOUT_S)
            answer = {"done": len(waiting)}
        except Exception as error:  # noqa: BLE001 (whatever a task raised, the bench must hear it)
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
