"""The main program of the template: load everything once, then fork a pixel process on request.

Started by the worker as `python -m imgserve.worker.pixels.template SETTINGS PARENT`, with a socket
of packets as descriptor 0. It never sees a byte of a stranger's image.
"""

from __future__ import annotations

import errno
import gc
import os
import signal
import socket
import struct
import sys

from imgserve.worker.pixels.families import load_fonts
from imgserve.worker.pixels.forking import fork_sibling, require_machine
from imgserve.worker.pixels.operations import Tools, warm_up
from imgserve.worker.pixels.process import die_with, run
from imgserve.worker.pixels.settings import PixelSettings, Role

READY = b"ready"
# One byte of role; two descriptors come along: the new process's socket and its stderr.
REQUEST_BYTES = 1
# The new process's id, or the number of the error as a negative.
ANSWER = struct.Struct("!i")


def main(settings: PixelSettings, parent: int) -> int:
    """Warm up, say so, then fork until the worker closes its end."""
    die_with(parent)
    # A terminal and a service's stop signal reach the whole group; the worker decides when its
    # children end, so that a drain can finish its jobs.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    require_machine()
    control = socket.socket(fileno=0)
    tools = Tools(settings, load_fonts(settings.font_dirs))
    warm_up(tools)
    # What is there now stays: the collector need not write to it, so that it stays shared.
    gc.collect()
    gc.freeze()
    control.send(READY)
    while True:
        request, descriptors, _, _ = socket.recv_fds(control, REQUEST_BYTES, 2)
        if not request:
            return 0
        pid = _try_to_fork(descriptors)
        if pid == 0:
            control.detach()
            os._exit(_become(Role(request[0]), descriptors, tools, parent))
        for descriptor in descriptors:
            os.close(descriptor)
        control.send(ANSWER.pack(pid))


def _try_to_fork(descriptors: list[int]) -> int:
    """Fork as `fork_sibling` does; return the number of an error as a negative."""
    if len(descriptors) < 2:
        return -errno.EMFILE  # the kernel drops those for which this process has no room
    try:
        return fork_sibling()
    except OSError as exc:
        return -(exc.errno or errno.EAGAIN)


def _become(role: Role, descriptors: list[int], tools: Tools, parent: int) -> int:
    """Be a pixel process from now on."""
    die_with(parent)
    link, stderr = descriptors
    os.dup2(link, 0)  # in place of the template's own socket
    os.dup2(stderr, 2)
    os.close(link)
    os.close(stderr)
    return run(role, tools)


if __name__ == "__main__":
    # Nothing is worth tearing down.
    os._exit(main(PixelSettings.from_json(sys.argv[1]), int(sys.argv[2])))
