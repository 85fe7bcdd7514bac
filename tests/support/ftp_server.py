"""A real FTP server for tests (pyftpdlib): plain, explicit TLS or implicit TLS."""

from __future__ import annotations

import logging
import threading
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.tls import Certificate

with warnings.catch_warnings():
    # It stands on asyncore, which Python deprecates in 3.11 (and it brings its own from 3.12).
    warnings.simplefilter("ignore", DeprecationWarning)
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import FTPHandler, TLS_FTPHandler
    from pyftpdlib.ioloop import IOLoop
    from pyftpdlib.servers import FTPServer as _Server

# pyftpdlib writes a line for each command.
logging.getLogger("pyftpdlib").setLevel(logging.CRITICAL)


class FtpServer:
    """Serve a folder on a free loopback port, as a context manager.

    Args:
        root: the login folder.
        credentials: user name and password.
        certificate: offer TLS.
        implicit: TLS from the first byte (ftps), not after AUTH.
        refuse: replies for commands that shall fail, such as {"STOR": "552 disk full"}.
        overwrites: whether RNTO may name a file that exists.
    """

    def __init__(
        self,
        root: Path,
        *,
        credentials: tuple[str, str] = ("user", "secret"),
        certificate: Certificate | None = None,
        implicit: bool = False,
        overwrites: bool = True,
    ) -> None:
        self.root = root
        self.credentials = credentials
        self.refuse: dict[str, str] = {}
        # Names (last parts of paths) that STOR refuses.
        self.refuse_names: set[str] = set()
        # The same by shell patterns, as servers are configured.
        self.refuse_patterns: list[str] = []
        # Replies, by their code, that are never sent.
        self.withheld: set[str] = set()
        self.overwrites = overwrites
        self.commands: list[tuple[str, str]] = []
        self.connections = 0
        self.implicit = implicit
        self._certificate = certificate
        self._stopping = threading.Event()

    def __enter__(self) -> Self:
        authorizer = DummyAuthorizer()
        authorizer.add_user(*self.credentials, str(self.root), perm="elradfmwMT")
        handler = _handler_class(self, self._certificate)
        handler.authorizer = authorizer
        self._loop = IOLoop()
        self._server = _Server(("127.0.0.1", 0), handler, ioloop=self._loop)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def _serve(self) -> None:
        try:
            while not self._stopping.is_set():
                self._loop.loop(timeout=0.02, blocking=False)
        finally:
            self._server.close_all()
            self._loop.close()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.address[1])

    def url(self, path: str = "/", *, userinfo: str | None = None) -> str:
        """Return the URL of a path, with the right credentials unless others are given."""
        scheme = "ftps" if self.implicit else "ftp"
        at = ":".join(self.credentials) if userinfo is None else userinfo
        return f"{scheme}://{at}{'@' if at else ''}127.0.0.1:{self.port}{path}"

    def refusal(self, command: str, argument: str) -> str | None:
        """Decide whether a command is to fail, and with which reply."""
        path = Path(argument)
        if command == "RNTO" and not self.overwrites and path.exists():
            return "553 the file exists"
        refused = path.name in self.refuse_names or any(map(path.match, self.refuse_patterns))
        if command == "STOR" and refused:
            return "553 this name is refused"
        return self.refuse.get(command)

    def said(self, command: str) -> list[str]:
        """Return the arguments with which a command came."""
        return [argument for name, argument in self.commands if name == command]


def _handler_class(owner: FtpServer, certificate: Certificate | None) -> Any:  # noqa: C901 (hooks)
    """Make a handler class of this server's own: pyftpdlib keeps settings in the class."""
    parent: Any = TLS_FTPHandler if certificate is not None else FTPHandler

    class Handler(parent):  # type: ignore[misc]
        use_sendfile = False
        auth_failed_timeout = 0

        def on_connect(self) -> None:
            owner.connections += 1

        def handle(self) -> None:
            if owner.implicit:
                self.secure_connection(self.ssl_context)
            else:
                super().handle()

        def handle_ssl_established(self) -> None:
            if owner.implicit:
                super().handle()

        def respond(self, resp: str, *args: Any, **kwargs: Any) -> None:
            if resp[:3] not in owner.withheld:
                super().respond(resp, *args, **kwargs)

        def pre_process_command(self, line: str, cmd: str, arg: str) -> None:
            owner.commands.append((cmd, arg))
            if refusal := owner.refusal(cmd, self.fs.ftp2fs(arg) if cmd == "RNTO" else arg):
                self.respond(refusal)
                return
            super().pre_process_command(line, cmd, arg)

    if certificate is not None:
        Handler.certfile = str(certificate.server_file)
    return Handler
