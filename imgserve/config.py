"""Every setting: its default, unit, check and the reason for its value.

A setting comes from a flag, else from `IMGSERVE_<NAME>` in the environment, else from the TOML
file, else from its default here. Lists are comma-separated in flags and in the environment.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from imgserve.errors import ConfigError


def _split(value: object) -> object:
    """Lists arrive as lists (flags, TOML) or as comma-separated text (environment, flags)."""
    entries = [value] if isinstance(value, str) else value
    if not isinstance(entries, list | tuple):
        return entries
    parts = tuple(
        part.strip()
        for entry in entries
        for part in (entry.split(",") if isinstance(entry, str) else [entry])
        if not isinstance(part, str) or part.strip()
    )
    if entries and not parts:
        # An empty list of what is permitted would permit everything.
        raise ValueError("it is empty; name one, or leave the setting out")
    return parts


def _network(value: str) -> str:
    """A network in CIDR notation (RFC 4632); a bare address means itself."""
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError as exc:
        raise ValueError(f"{value!r} is no network, such as 10.0.0.0/8 or fd00::/8") from exc


def _host_pattern(value: str) -> str:
    """A host name in which `*` stands for any characters; as URLs' hosts are compared."""
    pattern = value.lower().rstrip(".")
    if _HOST_PATTERN.fullmatch(pattern) is None:
        raise ValueError(
            f"{value!r} is no host name, such as images.example.com or *.example.com; "
            "letters outside ASCII are written as xn--…, and addresses are for the networks"
        )
    return pattern


_HOST_PATTERN = re.compile(r"[a-z0-9_*-]+(\.[a-z0-9_*-]+)*")


def _absolute(value: Path) -> Path:
    if not value.is_absolute():
        raise ValueError(f"{str(value)!r} is not an absolute path")
    return value


_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_MULTIPLES = {"k": 1e3, "m": 1e6, "g": 1e9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def _duration(value: object) -> object:
    """Schedulers write walltimes as 90s, 55m, 12h or 2d; a bare number is seconds."""
    text = value.strip() if isinstance(value, str) else ""
    if text[-1:] not in _UNITS:
        return value
    try:
        return float(text[:-1]) * _UNITS[text[-1]]
    except ValueError as exc:
        raise ValueError(f"{value!r} is no duration, such as 90, 90s, 55m, 12h or 2d") from exc


def _size(value: object) -> object:
    """Memory is written as 4G or 4GiB, and a bare number is bytes."""
    text = value.strip().lower().removesuffix("b") if isinstance(value, str) else ""
    number = text.rstrip("kmgi")
    if number == text:
        return value
    try:
        return int(float(number) * _MULTIPLES[text[len(number) :]])
    except (ValueError, KeyError) as exc:
        raise ValueError(f"{value!r} is no size, such as 4000000000, 4G or 4GiB") from exc


def _tag(value: str) -> str:
    if _TAG.fullmatch(value) is None:
        raise ValueError(f"{value!r} is not 1 to 64 of A-Z a-z 0-9 _ . : -")
    return value


_TAG = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86_400 * 365)]
Duration = Annotated[Seconds, BeforeValidator(_duration)]
Count = Annotated[int, Field(ge=1)]
Bytes = Annotated[Count, BeforeValidator(_size)]
Tags = Annotated[
    tuple[Annotated[str, AfterValidator(_tag)], ...],
    NoDecode,
    BeforeValidator(_split),
    Field(max_length=16),
]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Networks = Annotated[
    tuple[Annotated[str, AfterValidator(_network)], ...], NoDecode, BeforeValidator(_split)
]
Hosts = Annotated[
    tuple[Annotated[str, AfterValidator(_host_pattern)], ...], NoDecode, BeforeValidator(_split)
]
Roots = Annotated[
    tuple[Annotated[Path, AfterValidator(_absolute)], ...], NoDecode, BeforeValidator(_split)
]


class Settings(BaseSettings):
    """The settings of every part; each part reads its own."""

    model_config = SettingsConfigDict(
        env_prefix="IMGSERVE_", extra="forbid", frozen=True, env_ignore_empty=True
    )

    state: Path | None = Field(
        None, description="folder for log, pid file, journal and connection file"
    )

    # Gateway
    host: str = Field("0.0.0.0", description="address that HTTP listens on")  # noqa: S104 (the historical default)
    port: Port = Field(8602, description="port that HTTP listens on; 0: any free one")
    gateway_processes: Count = Field(1, le=64, description="gateway processes that share the port")
    answer_timeout_s: Seconds = Field(
        30, description="longest wait for a job to be accepted or rejected, then code 502"
    )
    http_body_timeout_s: Seconds = Field(
        30, description="longest time a request's body may take: 64 KiB even over a slow phone"
    )
    http_idle_timeout_s: Seconds = Field(
        30,
        description="longest time for a request's headers, and between two requests of one "
        "HTTP connection",
    )
    http_write_timeout_s: Seconds = Field(
        30, description="longest time an HTTP client may leave what was sent to it unread"
    )
    http_connection_limit: Count = Field(
        10_000,
        description="HTTP connections open at once in one process; more are closed at once, and "
        "the last twentieth is kept for probes and for who has a token",
    )
    http_address_limit: Count | None = Field(
        None,
        description="HTTP connections of one address (IPv6: one /64) in one process; behind a "
        "proxy, as many as http_connection_limit; default: a quarter of that",
    )
    host_name: Names = Field(
        (),
        description="names that clients may call the HTTP service by in the Host header; * is any. "
        "A service on loopback also answers to localhost and loopback addresses, and by default to "
        "those alone; any other answers to every name by default (repeatable)",
    )
    probe_host: str = Field("127.0.0.1", description="address that the probe port listens on")
    probe_port: Port | None = Field(
        None,
        description="port for /healthz, /readyz and /metrics alone, which no other traffic fills; "
        "0: any free one; default: none, and under `start` any free one",
    )
    token_file: Path | None = Field(
        None,
        description="file of bearer tokens, from `imgserve token`; default: tokens.json in the "
        "state folder, if it is there",
    )
    tls_cert: Path | None = Field(
        None, description="PEM file of certificates: HTTP becomes HTTPS (read at the start)"
    )
    tls_key: Path | None = Field(
        None, description="PEM file of the certificate's key; default: in the same file"
    )
    waiting_limit: Count = Field(
        20_000, description="HTTP requests that may wait for an answer in one process, then 503"
    )

    # Broker
    broker_host: str = Field("127.0.0.1", description="address that the broker's sockets bind")
    broker_port: Port = Field(
        8603, description="jobs port; reports, events and lanes follow it; 0: any free ones"
    )
    advertise: str = Field(
        "", description="host name that clients and workers reach the broker by; default: its bind"
    )
    last_lane_port: Port = Field(
        65_535, description="last port of the workers' lanes, for a firewall that opens a range"
    )
    insecure: bool = Field(False, description="let the broker bind beyond loopback without keys")
    lease_s: Seconds = Field(5, description="silence after which a worker's jobs go to others")
    beat_s: Seconds = Field(1, description="time between beats, of workers and of the broker")
    queue_limit: Count = Field(1_000_000, description="jobs that may wait; then code 501")
    retention_s: Seconds = Field(86_400, description="how long finished jobs are remembered")
    journal_bytes: Bytes = Field(
        16_000_000_000,
        description="bytes of waiting and finished jobs in the journal, then new jobs get 501",
    )
    retention_bytes: Bytes = Field(
        4_000_000_000,
        description="bytes in the journal over which the oldest finished jobs are forgotten early",
    )
    disk_free_bytes: Bytes = Field(
        256_000_000,
        description="bytes of the journal's disk that are kept free: with less, new jobs get 501 "
        "while running ones end",
    )
    retention_jobs: Count = Field(
        5_000_000, description="finished jobs remembered at most: about 2 GB of journal"
    )
    crash_limit: Count = Field(3, description="pixel processes a job may kill, then code 405")
    attempt_limit: Count = Field(
        100, description="dispatches of one job, whatever ended them, then code 405"
    )
    retry_limit: int = Field(
        4, ge=0, description="further attempts after transient trouble (timeouts, 5xx)"
    )
    retry_base_s: Seconds = Field(
        0.5, description="first delay of a retry; it doubles each time, with jitter"
    )
    retry_max_s: Seconds = Field(60, description="longest delay of a retry, Retry-After included")
    ageing_s: Seconds = Field(
        60, description="waiting this long counts as one priority more, so that none starves"
    )

    http_priority: int = Field(
        10,
        ge=-100,
        le=100,
        description="priority of HTTP requests that name none; other clients' jobs have 0",
    )

    # Worker
    connection: Path | None = Field(
        None, description="the broker's connection.json; default: in the state folder"
    )
    key: Path | None = Field(
        None,
        description="secret key file of this worker, gateway or client, from `imgserve keys`; "
        "default: this machine's own in the state folder",
    )
    processes: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = Field(
        "auto", description="pixel processes; auto: one per CPU available, at most 8"
    )
    slots: int | None = Field(
        None, ge=1, le=10_000, description="jobs a worker holds at once; default: 8 per process"
    )
    count: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = Field(
        1, description="workers that one command runs; auto: one per 8 CPUs available"
    )
    tags: Tags = Field((), description="what this worker offers jobs that ask for it (repeatable)")
    death_timeout_s: Duration | None = Field(
        None, description="give up after so long without a broker; default: wait for ever"
    )
    lifetime_s: Duration | None = Field(
        None, description="drain after so long, before a scheduler's walltime; default: never"
    )
    stagger_s: Annotated[float, BeforeValidator(_duration), Field(ge=0)] = Field(
        60, description="drain up to this much before the lifetime ends, so that not all go at once"
    )
    max_jobs: Count | None = Field(
        None, description="drain once so many jobs have ended, to be started again; default: never"
    )
    max_rss_bytes: Bytes | None = Field(
        None, description="drain once worker and pixel processes use so much; default: never"
    )
    liveness_file: Path | None = Field(
        None, description="file touched whenever the broker has acknowledged a beat"
    )
    require_fonts: bool = Field(
        False, description="refuse to work where no font is installed for the text in SVGs"
    )
    file_root: Roots = Field(
        (), description="folder that file: sources and destinations may be in (repeatable)"
    )
    allow_network: Networks = Field(
        (), description="network that jobs may reach although the defaults deny it (repeatable)"
    )
    deny_network: Networks = Field((), description="network that jobs may not reach (repeatable)")
    ftp_connections: Count = Field(
        8,
        description="connections that a worker has to one FTP server at once; fewer where the "
        "server refuses some (421, or 530 with words about a limit)",
    )
    deny_private: bool = Field(
        False, description="close all private networks that --allow-network does not name"
    )
    allow_host: Hosts = Field(
        (),
        description="host that URLs may name, such as *.example.com; with any given, only those "
        "(repeatable)",
    )
    deny_host: Hosts = Field(
        (), description="host that URLs may not name, such as *.example.com (repeatable)"
    )
    max_redirects: int = Field(
        5, ge=0, le=50, description="redirects that a download follows; uploads follow none"
    )
    jpeg_quality: int = Field(85, ge=1, le=100, description="quality of JPEG results, 1 to 100")
    renderer: Literal["resvg", "cairosvg"] = Field("resvg", description="default SVG renderer")
    require_sandbox: bool = Field(
        False, description="refuse to work where the kernel cannot confine pixel processes"
    )
    source_limit_bytes: Count = Field(100_000_000, description="bytes of a source at most")
    svg_limit_bytes: Count = Field(10_000_000, description="bytes of an SVG source at most")
    source_limit_pixels: Count = Field(100_000_000, description="pixels of a source at most")
    result_limit_pixels: Count = Field(
        50_000_000,
        le=65_500**2,
        description="pixels of a result at most, then code 115; for gateway and worker: 200 MB as "
        "RGBA, a few of which a pixel process holds",
    )
    result_limit_side_px: Count = Field(
        20_000,
        le=65_500,
        description="width, and height, of a result at most, then code 115; for gateway and "
        "worker: libjpeg ends at 65,500",
    )
    pixel_timeout_s: Seconds = Field(20, description="longest time for one image's pixels")
    connect_timeout_s: Seconds = Field(10, description="longest time to connect to a peer")
    fetch_timeout_s: Seconds = Field(60, description="longest time for one download")
    upload_timeout_s: Seconds = Field(60, description="longest time for one upload")
    low_speed_bytes_s: Count = Field(
        1000, description="a peer slower than this for low_speed_time_s is given up"
    )
    low_speed_time_s: Count = Field(
        10, description="how long a peer may be slower than low_speed_bytes_s"
    )
    svg_depth_limit: int = Field(
        500, ge=1, le=2000, description="nested elements of an SVG at most; renderers recurse"
    )
    damaged: Literal["warn", "fail"] = Field(
        "warn",
        description="what becomes of a source whose data are damaged, and which can still be shown",
    )
    jpeg_scan_limit: Count = Field(
        100, description="scans of a JPEG at most: each is a pass over all its pixels"
    )
    download_memory_bytes: Count = Field(
        512_000_000, description="memory for sources that a worker holds at once"
    )
    upload_memory_bytes: Count = Field(
        512_000_000, description="memory for results that a worker holds at once"
    )
    pixel_memory_bytes: Count | None = Field(
        None,
        description="memory for pictures in all pixel processes of a worker; default: 500 MB for "
        "each, and at least 1 GB, which the largest picture takes, and more where the limits of "
        "pixels are raised",
    )
    process_jobs: Count = Field(
        1000, description="jobs of a pixel process, which is then replaced; 1: a fresh one for each"
    )
    process_growth_bytes: Count = Field(
        128 * 1024 * 1024,
        description="memory that a pixel process may keep after a job; one that keeps more is "
        "replaced",
    )
    drain_timeout_s: Duration = Field(
        60, description="longest time to finish running jobs when asked to end"
    )
    verify_tls: bool = Field(True, description="check the certificates of sources and destinations")
    ca_file: Path | None = Field(
        None, description="certificates to trust in place of the system's (PEM)"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (not among the sources)
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (the same)
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags before environment before TOML; nothing else."""
        if isinstance(env_settings, EnvSettingsSource):
            env_settings.env_vars = {
                name: value
                for name, value in env_settings.env_vars.items()
                if not _is_of_kubernetes(name, value or "")
            }
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls))

    @property
    def state_dir(self) -> Path:
        """Where journal and connection file are."""
        if self.state is not None:
            return self.state
        return Path("/var/lib/imgserve") if os.geteuid() == 0 else _home()

    @property
    def log_file(self) -> Path:
        """Where the daemon's log is: /var/log/imgserve for root, as it always was."""
        root = self.state is None and os.geteuid() == 0
        return (Path("/var/log/imgserve") if root else self.state_dir) / "imgserve.log"

    @property
    def pid_file(self) -> Path:
        """Where the daemon's pid is: /var/run for root, as it always was."""
        root = self.state is None and os.geteuid() == 0
        return (Path("/var/run") if root else self.state_dir) / "imgserve.pid"

    @property
    def tokens_path(self) -> Path:
        """The file of bearer tokens; HTTP asks for tokens while it is there."""
        return self.token_file or self.state_dir / "tokens.json"

    @property
    def connection_file(self) -> Path:
        """The file that tells where the broker is."""
        return self.connection or self.state_dir / "connection.json"


def _home() -> Path:
    return Path("~/.imgserve").expanduser()


def load_settings(flags: Mapping[str, Any], toml_file: Path | None = None) -> Settings:
    """Merge flags, environment, TOML file and defaults.

    Args:
        flags: setting -> value, only those that were given.
        toml_file: the file of `--config`.

    Raises: ConfigError with one line per wrong setting: its name, its value, what is allowed.
    """
    if toml_file is not None and not toml_file.is_file():
        raise ConfigError(f"--config {toml_file}: there is no such file")

    _check_environment()

    class Sourced(Settings):
        model_config = SettingsConfigDict(toml_file=toml_file)

    try:
        return Sourced(**flags)
    except ValidationError as exc:
        raise ConfigError("; ".join(map(_sentence, exc.errors()))) from exc
    except ValueError as exc:  # the TOML file itself does not parse
        raise ConfigError(f"--config {toml_file}: {exc}") from exc


ENV_PREFIX: Final = "IMGSERVE_"

SAFETY: Final = frozenset(
    {
        *("token_file", "tls_cert", "tls_key", "key", "insecure", "host_name", "require_sandbox"),
        *("allow_host", "deny_host", "allow_network", "deny_network", "file_root", "verify_tls"),
        "ca_file",
        "deny_private",
    }
)
"""Settings that somebody relies on: an empty variable must not leave them at their default."""

_KUBERNETES = re.compile(
    r"IMGSERVE(_\w+)?_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)",
    re.IGNORECASE,
)


def _is_of_kubernetes(name: str, value: str) -> bool:
    """Tell a variable that Kubernetes sets for a service named imgserve from a setting."""
    if _KUBERNETES.fullmatch(name) is None:
        return False
    return "://" in value or name.lower().removeprefix(ENV_PREFIX.lower()) not in (
        Settings.model_fields
    )


def _check_environment() -> None:
    """Refuse variables that were meant to set something and set nothing.

    Raises: ConfigError.
    """
    for name, value in os.environ.items():
        if not name.upper().startswith(ENV_PREFIX) or _is_of_kubernetes(name, value):
            continue
        setting = name[len(ENV_PREFIX) :].lower()
        if setting not in Settings.model_fields:
            close = difflib.get_close_matches(setting, Settings.model_fields, n=1)
            hint = f"; did you mean {ENV_PREFIX}{close[0].upper()}?" if close else ""
            raise ConfigError(f"the environment has {name}: there is no such setting{hint}")
        if not value.strip() and setting in SAFETY:
            raise ConfigError(f"the environment has {name} without a value: set it, or unset it")


def _sentence(error: Any) -> str:
    name = str(error["loc"][0]) if error["loc"] else "settings"
    if error["type"] == "extra_forbidden":
        return f"{name}: there is no such setting"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{name} = {error['input']!r}: {message[:1].lower()}{message[1:]}"
