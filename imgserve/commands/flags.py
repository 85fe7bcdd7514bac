"""Settings as flags: one flag for each field of `config.Settings`, and back again."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

from imgserve.config import Settings, load_settings

_WITHOUT_UNIT = (
    "death_timeout_s",
    "lifetime_s",
    "stagger_s",
    "drain_timeout_s",
    "max_rss_bytes",
)
"""Their values take a unit (55m, 4G), so their flags may leave it out."""


_METAVARS = {
    "network": "CIDR",
    "tags": "TAG",
    "allow_host": "PATTERN",
    "deny_host": "PATTERN",
    "root": "DIR",
    "state": "DIR",
}


def add_settings(parser: argparse.ArgumentParser, names: Iterable[str] | None = None) -> None:
    """Add --config and a flag for each setting named, or for every one.

    The values stay text: `load_settings` checks them, whatever source they come from.
    """
    group = parser.add_argument_group("settings (flags, else IMGSERVE_NAME, else the TOML file)")
    group.add_argument("--config", type=Path, metavar="FILE", help="TOML file of settings")
    for name in Settings.model_fields if names is None else names:
        _add_setting(group, name)


def settings_from(namespace: argparse.Namespace) -> Settings:
    """Merge the flags given with the environment, the TOML file and the defaults.

    Raises: ConfigError when a setting is wrong.
    """
    flags = {
        name: value
        for name, value in vars(namespace).items()
        if name in Settings.model_fields and value is not None
    }
    settings = load_settings(flags, namespace.config)
    # The daemon works in /: make relative paths absolute while they still mean something.
    absolute = {
        name: value.expanduser().absolute() for name, value in settings if isinstance(value, Path)
    }
    return settings.model_copy(update=absolute)


def to_flags(settings: Settings, **changed: object) -> list[str]:
    """Write every setting that did not come from its default as flags, for a part's process."""
    values = {name: getattr(settings, name) for name in sorted(settings.model_fields_set)} | changed
    words: list[str] = []
    for name, value in values.items():
        if isinstance(value, bool):
            words.append(flag(name) if value else flag(f"no_{name}"))
        elif isinstance(value, tuple):
            words += [f"{flag(name)}={','.join(map(str, value))}"] if value else []
        elif value is not None:
            words.append(f"{flag(name)}={value}")
    return words


def flag(name: str) -> str:
    """Return the flag of a setting: its name with dashes."""
    return "--" + name.replace("_", "-")


def _add_setting(group: argparse._ArgumentGroup, name: str) -> None:
    field = Settings.model_fields[name]
    text = (field.description or "").replace("%", "%%")
    if field.default is not None and field.default != () and "default" not in text:
        text += f" (default: {_shown(field.default)})"
    options: dict[str, Any] = {"dest": name, "default": None, "help": text}
    if isinstance(field.default, bool):
        options["action"] = argparse.BooleanOptionalAction
    elif isinstance(field.default, tuple):
        options |= {"action": "append", "metavar": _metavar(name, field.annotation)}
    else:
        options["metavar"] = _metavar(name, field.annotation)
    spellings = [flag(name)]
    if name in _WITHOUT_UNIT:
        spellings.append(flag(name.rpartition("_")[0]))
    group.add_argument(*spellings, **options)


def _shown(default: object) -> str:
    return ("yes" if default else "no") if isinstance(default, bool) else str(default)


def _metavar(name: str, annotation: Any) -> str:
    """What stands for the value in --help: a unit where the name ends in one, else a kind."""
    for ending, kind in _METAVARS.items():
        if name.endswith(ending):
            return kind
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    kinds = get_args(annotation) if get_origin(annotation) is UnionType else (annotation,)
    if Path in kinds:
        return "FILE"
    unit = name.rpartition("_")[2]
    if unit in ("s", "bytes", "pixels"):
        return {"s": "SECONDS"}.get(unit, unit.upper())
    return "TEXT" if str in kinds else "N"
