"""Where the settings of a running service came from, so that a restart keeps them."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from imgserve.config import ENV_PREFIX, Settings

_SEPARATOR: Final = ","


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The sources of a service's settings, each value as text.

    Args:
        flags: setting -> value, as given on the command line; paths are absolute.
        environment: the same of the environment.
        config: the TOML file, or nothing.
        effective: every setting that is in force, to show what a restart changes.
    """

    flags: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    config: str = ""
    effective: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, namespace: argparse.Namespace, settings: Settings) -> Self:
        """Tell the sources of settings apart that were just merged."""
        given = {
            name
            for name, value in vars(namespace).items()
            if name in Settings.model_fields and value is not None
        }
        in_environment = {
            name
            for name in Settings.model_fields
            if name not in given and os.environ.get(ENV_PREFIX + name.upper())
        }
        effective = {name: _text(getattr(settings, name)) for name in Settings.model_fields}
        config = str(namespace.config.expanduser().absolute()) if namespace.config else ""
        return cls(
            flags={name: effective[name] for name in sorted(given)},
            environment={name: effective[name] for name in sorted(in_environment)},
            config=config,
            effective=effective,
        )

    def under(self, namespace: argparse.Namespace) -> None:
        """Put this origin under new flags.

        New flags win over these flags, those over the environment of now, that over the
        environment of then, and that over the file: the new one, or the one of then.
        """
        for name, value in self.flags.items():
            if getattr(namespace, name, None) is None:
                setattr(namespace, name, value)
        for name, value in self.environment.items():
            if value:
                os.environ.setdefault(ENV_PREFIX + name.upper(), value)
        if namespace.config is None and self.config:
            namespace.config = Path(self.config)

    def changes(self, other: Origin) -> list[str]:
        """Return a line for each setting that is another now."""
        return [
            f"{name}: {self.effective[name] or 'none'} -> {value or 'none'}"
            for name, value in other.effective.items()
            if name in self.effective and self.effective[name] != value
        ]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return _SEPARATOR.join(map(str, value))
    return str(value)
