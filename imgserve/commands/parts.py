"""`imgserve gateway | broker | worker`: one part, in the foreground."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from imgserve.commands import checks, logs, runtime, several
from imgserve.commands.exit_codes import ExitCode
from imgserve.commands.flags import add_settings, settings_from, to_flags
from imgserve.commands.listening import address_of, listen, url_of
from imgserve.commands.parser import Command
from imgserve.commands.part import Part, first_finished
from imgserve.commands.processes import die_with
from imgserve.commands.supervisor import MARGIN_S
from imgserve.config import Settings
from imgserve.errors import ConfigError, StateUnwritable

Serve = Callable[[asyncio.Event], Awaitable[int]]

_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add every setting, and what only the supervisor says."""
    add_settings(parser)
    hidden = argparse.SUPPRESS
    parser.add_argument("--log-file", type=Path, default=None, help=hidden)
    parser.add_argument("--parent", type=int, default=None, help=hidden)
    parser.add_argument("--listen-fd", type=int, default=None, help=hidden)
    parser.add_argument("--probe-fd", type=int, default=None, help=hidden)


def run_broker(namespace: argparse.Namespace) -> int:
    """Run the broker until it is told to stop."""
    from imgserve.broker.server import serve  # noqa: PLC0415 (one part loads no other's libraries)

    settings = settings_from(namespace)
    checks.make_folder(settings.state_dir)
    return _run("broker", namespace, lambda stop: serve(settings, stop=stop))


def run_worker(namespace: argparse.Namespace) -> int:
    """Run a worker until it is told to stop."""
    from imgserve.worker.agent import serve  # noqa: PLC0415 (one part loads no other's libraries)
    from imgserve.worker.fence import FencedEventLoop  # noqa: PLC0415

    settings = settings_from(namespace)
    checks.check_file_roots(settings)
    if (count := several.how_many(settings)) > 1:
        return _run("worker", namespace, lambda stop: several.serve(settings, count, stop=stop))
    return _run(
        "worker", namespace, lambda stop: serve(settings, stop=stop), new_loop=FencedEventLoop
    )


def run_gateway(namespace: argparse.Namespace) -> int:
    """Run one gateway process, or several that share the port."""
    settings = settings_from(namespace)
    if namespace.listen_fd is not None:
        listener = socket.socket(fileno=namespace.listen_fd)
    else:
        listener = listen(settings.host, settings.port, "-port")
        tls = settings.tls_cert is not None
        print(f"imgserve gateway listens on {url_of(*address_of(listener), tls=tls)}", flush=True)
    probes = _probe_listener(settings, namespace.probe_fd)
    if settings.gateway_processes > 1:
        return _run("gateway", namespace, lambda stop: _several(settings, listener, probes, stop))

    from imgserve.gateway.app import serve  # noqa: PLC0415 (one part loads no other's libraries)

    return _run(
        "gateway",
        namespace,
        lambda stop: serve(
            settings,
            stop=stop,
            listen_fd=listener.detach(),
            probe_fd=probes.detach() if probes else None,
        ),
    )


def _probe_listener(settings: Settings, descriptor: int | None) -> socket.socket | None:
    if descriptor is not None:
        return socket.socket(fileno=descriptor)
    if settings.probe_port is None:
        return None
    probes = listen(settings.probe_host, settings.probe_port, "--probe-port")
    print(f"imgserve gateway answers probes on {url_of(*address_of(probes))}", flush=True)
    return probes


async def _several(
    settings: Settings,
    listener: socket.socket,
    probes: socket.socket | None,
    stop: asyncio.Event,
) -> int:
    """Keep several gateway processes alive on one socket."""
    descriptor = listener.fileno()
    passed = [descriptor]
    words = [*to_flags(settings, gateway_processes=1), f"--listen-fd={descriptor}"]
    if probes is not None:
        words.append(f"--probe-fd={probes.fileno()}")
        passed.append(probes.fileno())
    parts = [
        Part("gateway", words, changed=lambda: None, pass_fds=passed)
        for _ in range(settings.gateway_processes)
    ]
    for part in parts:
        part.start()
    stopped, broken = asyncio.create_task(stop.wait()), asyncio.create_task(first_finished(parts))
    await asyncio.wait([stopped, broken], return_when=asyncio.FIRST_COMPLETED)
    code = ExitCode.OK
    if not stop.is_set():
        _log.critical("%s: the command ends", broken.result())
        code = ExitCode.SOFTWARE
    stopped.cancel()
    listener.close()
    await asyncio.gather(*(part.stop(settings.answer_timeout_s + MARGIN_S) for part in parts))
    await broken
    return code


def _run(
    part: str,
    namespace: argparse.Namespace,
    serve: Serve,
    *,
    new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
) -> int:
    """Serve until the first signal drains the part; the second ends it at once."""
    if namespace.parent is not None and not die_with(namespace.parent):
        return ExitCode.SOFTWARE  # the supervisor died before this part began to live
    logs.configure(part, namespace.log_file)

    async def live() -> int:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def signalled() -> None:
            if stop.is_set():
                _log.warning("told to stop a second time: ending at once")
                os._exit(ExitCode.INTERRUPTED)
            _log.info("told to stop")
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, signalled)
        runtime.settle()
        return await serve(stop)

    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(live())
    except ConfigError as exc:
        _log.error("%s", exc)  # the sentence says it all
        return ExitCode.CONFIG
    except StateUnwritable as exc:
        _log.error("%s", exc)
        return ExitCode.CANNOT_CREATE
    except Exception:  # noqa: BLE001 (whatever it is, the log must have it)
        _log.exception("the %s ended by an error", part)
        return ExitCode.SOFTWARE


_DESCRIPTION: Final = """\
Run the {part} alone, in the foreground, and log to stderr. The first SIGTERM or Ctrl-C lets it
finish, the second ends it at once.

{text}"""
_GATEWAY: Final = """\
It answers HTTP and finds the broker through the connection file.

example:
  imgserve gateway --connection /srv/imgserve/connection.json -port 8602"""
_BROKER: Final = """\
It keeps the queue and the journal, and writes the connection file that the others find it by.

example:
  imgserve broker --state /srv/imgserve"""
_WORKER: Final = """\
It does the jobs. Any number of workers, on any hosts, may join one broker; each needs a copy of
its connection file.

Where nothing starts it again, or a scheduler ends it:
  --count auto                        one worker for every 8 CPUs, kept alive
  --lifetime 55m --stagger 3m         drain before a walltime ends, not all at once
  --max-jobs 100000 --max-rss 4G      drain and exit 0, to be started again
  --death-timeout 10m                 exit 68 when no broker is found for so long
  --liveness-file FILE                its age is the time since the broker last heard this worker

example:
  imgserve worker --connection /srv/imgserve/connection.json --processes 4"""

COMMANDS: Final = (
    Command(
        "gateway",
        "run one part alone: the HTTP gateway",
        _DESCRIPTION.format(part="gateway", text=_GATEWAY),
        add_arguments,
        run_gateway,
    ),
    Command(
        "broker",
        "run one part alone: the broker",
        _DESCRIPTION.format(part="broker", text=_BROKER),
        add_arguments,
        run_broker,
    ),
    Command(
        "worker",
        "run one part alone: a worker",
        _DESCRIPTION.format(part="worker", text=_WORKER),
        add_arguments,
        run_worker,
    ),
)
