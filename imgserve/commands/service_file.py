"""STATE/service.json: what the supervisor says of itself and its parts, for `status` and `stop`."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from imgserve.commands.origin import Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRecord:
    """One state of the running service.

    Args:
        pid: the supervisor's.
        version: the program version it runs.
        url: where HTTP listens.
        host, port: the same, as bound; port 0 is resolved.
        probe_url: where health, readiness and metrics are asked, apart from HTTP's clients.
        started_at: when, as ISO 8601, for display.
        phase: starting, running, or what a stop waits for.
        parts: part name -> pids of its live processes.
        restarts: how often a part was started again.
        origin: where its settings came from, for `restart`.
    """

    pid: int
    version: str
    url: str
    host: str
    port: int
    started_at: str
    probe_url: str = ""
    phase: str = "starting"
    parts: dict[str, list[int]] = field(default_factory=dict)
    restarts: int = 0
    origin: Origin = field(default_factory=Origin)

    def write(self, path: Path) -> None:
        """Write the file beside its place, readable by its owner alone, then rename it there.

        Raises: OSError when it cannot be written; the former file is still there then.
        """
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump(asdict(self), file, indent=2)
            draft.rename(path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise

    @classmethod
    def read(cls, path: Path) -> ServiceRecord | None:
        """Return the record, or None where there is none that this version can read."""
        try:
            return cls.of(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError, KeyError):
            return None

    @classmethod
    def of(cls, document: dict[str, Any]) -> ServiceRecord:
        """Return the record of its JSON.

        Raises: TypeError, KeyError when it has other fields.
        """
        return cls(**document | {"origin": Origin(**document["origin"])})


def service_file(state_dir: Path) -> Path:
    """Return where the record of a service with this state folder is."""
    return state_dir / "service.json"
