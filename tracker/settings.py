"""Settings, from `TURNOUT_*` environment variables (and a `.env` file in the working directory, for convenience).

Read once, in a composition root. A bad value is one clear line and exit code 78, before a port opens.
"""

import os
import re
import socket
import warnings
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveInt,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tracker import redis_address
from tracker.data_dir import DataDir
from tracker.domain.macros import unknown_macros
from tracker.errors import BadConfiguration

PREFIX = "TURNOUT_"
Network = IPv4Network | IPv6Network
AckMode = Literal["journal", "journal-sync", "redis", "memory"]
IpMode = Literal["truncate", "full", "hmac-daily", "none"]

_DURATION = re.compile(r"(\d+)\s*(ms|s|m|h|d)?")
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, None: 1}
_BYTES = re.compile(r"(\d+)\s*([kmgt]?)i?b?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_duration(text: str | float | timedelta) -> timedelta:
    """`24h`, `90s`, `500ms`, `7d`, or a bare number of seconds."""
    if isinstance(text, timedelta):
        return text
    match = _DURATION.fullmatch(str(text).strip().lower())
    if not match:
        raise ValueError("must be a number with ms, s, m, h or d, such as 24h")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


def parse_bytes(text: str | int) -> int:
    """`10GB`, `512MB`, `64k` (powers of 1024), or a bare number of bytes."""
    match = _BYTES.fullmatch(str(text).strip())
    if not match:
        raise ValueError("must be a number of bytes, such as 10GB or 512MB")
    return int(match[1]) << (10 * _POWERS[match[2].lower()])


def parse_networks(value: Any) -> tuple[Network, ...]:
    """Comma-separated CIDRs or addresses."""
    if isinstance(value, tuple):
        return value
    try:
        return tuple(ip_network(part.strip(), strict=False) for part in str(value).split(",") if part.strip())
    except ValueError as exc:
        raise ValueError(f"must be a comma-separated list of networks such as 10.0.0.0/8,::1 ({exc})") from exc


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Bytes = Annotated[int, BeforeValidator(parse_bytes)]
Networks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(parse_networks)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Settings(BaseSettings):
    """Every setting of every part. The table in README.md documents each; a test keeps the two in step."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True, env_ignore_empty=True)

    database_url: SecretStr | None = Field(None, description="PostgreSQL ≥ 15, as a libpq URL. Empty: the embedded server")
    redis_url: SecretStr | None = Field(
        None,
        description="Redis ≥ 7.0 or Valkey: `redis://`, `rediss://` (TLS), `unix://`, `redis+cluster://h1,h2`, "
        "`redis+sentinel://h1,h2/master/0`; see deploy/redis. Empty: the embedded server",
    )
    data_dir: str = Field(".turnout", description="Journals, route table, embedded servers. Must be on a local disk")
    host: str = Field("127.0.0.1", description="Address the redirector, the tracker and the worker metrics listen on")
    redirector_port: Port = Field(8080, description="Port of the redirector")
    tracker_port: Port = Field(8000, description="Port of the tracker (API, postbacks)")
    worker_metrics_port: Port = Field(9464, description="Port of the metrics of all workers of one `up`")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged (JSON lines on stderr)")
    admin_key: SecretStr | None = Field(
        None, description="The first API key. Empty: made at first start, kept in `DATA_DIR/admin.key` (mode 600)"
    )
    public_url: str = Field("", description="Base of new links. Empty: `http://HOST:REDIRECTOR_PORT`")
    node: str = Field("", description="Name of this machine in the books, a label only. Empty: the host name")
    stream_shards: PositiveInt = Field(1, description="Number of streams; fixed at install")
    ack: AckMode = Field(
        "journal",
        description="What a 302 waits for: `journal` (written), `journal-sync` (fdatasync); `redis`, `memory`: to compare",
    )
    ack_deadline_ms: NonNegativeInt = Field(
        25, description="Longest wait of a 302 for a disk that hangs; 0 = wait for ever. Not applied in `journal-sync`"
    )
    journal_keep: Duration = Field(
        timedelta(hours=24), description="How long covered segments are kept for replay after a rewind of PostgreSQL"
    )
    journal_max_bytes: Bytes = Field(0, description="Most bytes of journal kept by a process. 0: the smaller of 10 GB and 20 % of the disk")
    journal_segment_bytes: Bytes = Field(64 * 1024**2, description="Size at which a segment is sealed")
    fast_path: bool = Field(True, description="Reserved for the redirector's own HTTP front; today every request takes the ASGI path")
    metrics_allow: Networks = Field(
        parse_networks("127.0.0.0/8,::1"), description="Networks that may read metrics (the real client); others get 404"
    )
    ip_mode: IpMode = Field(
        "truncate",
        description="How an address is kept: `truncate` (/24, /48), `full`, `hmac-daily`, `none`; before it is written",
    )
    trusted_proxies: Networks = Field((), description="Proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed")
    geoip_db: str = Field("", description="MaxMind-format file for countries. Empty: registry data inside the package")
    fallback_url: str = Field("", description="Where a click goes when nothing else says where. Empty: a plain 404 page")
    flood_limit: NonNegativeInt = Field(
        50,
        description="Clicks a second per network and link, above it `rate_limited`; above ten times: only counted. 0: off",
    )
    repeat_window_s: NonNegativeInt = Field(
        0, description="Reserved: a repeat of (visitor, link) inside so many seconds is never unique. Today: first of the UTC day"
    )
    click_retention_days: NonNegativeInt = Field(
        0, description="Days of `clicks` that are kept; older partitions are dropped. 0: kept for ever"
    )
    outbound_allow: Networks = Field(
        (), description="Networks that are not on the internet and that the tee and look-ups may reach all the same"
    )
    platforms_dir: str = Field("", description="Folder of further platform profiles; one of the same name replaces ours")
    payout_two_person: bool = Field(False, description="Every payout run must be approved by somebody else than who made it")
    payout_debtor_name: str = Field("", description="Who pays partners, in SEPA files")
    payout_debtor_iban: str = Field("", description="The account that partners are paid from, in SEPA files")
    payout_debtor_bic: str = Field("", description="Its bank's BIC, where the bank still asks for it")

    @field_validator("fallback_url", "public_url")
    @classmethod
    def _is_a_web_address(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^\s/?#@]+[^\s]*", value):
            raise ValueError("must start with http:// or https:// and name a host")
        return value.rstrip("/") if value else value

    @field_validator("fallback_url")
    @classmethod
    def _has_known_macros(cls, value: str) -> str:
        if unknown := unknown_macros(value):
            raise ValueError(f"has the unknown macro {{{unknown[0]}}}; macros are those of redirector/README.md")
        return value

    @field_validator("payout_debtor_iban", "payout_debtor_bic")
    @classmethod
    def _is_an_account(cls, value: str, info: ValidationInfo) -> str:
        from tracker.payouts import bank_details

        check = bank_details.iban if info.field_name == "payout_debtor_iban" else bank_details.bic
        return check(value) if value else value

    @field_validator("database_url")
    @classmethod
    def _is_a_postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        schemes = ("postgresql", "postgres")
        try:
            parts = urlsplit(value.get_secret_value())
            parts.port  # noqa: B018 - reading it is the check
        except ValueError:
            raise ValueError("is no URL: its host or port cannot be read") from None
        if parts.scheme not in schemes:
            raise ValueError(f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        return value

    @field_validator("redis_url")
    @classmethod
    def _is_a_redis(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            redis_address.parse(value.get_secret_value())
        return value

    @field_validator("node")
    @classmethod
    def _node_is_short(cls, value: str) -> str:
        if len(value.encode()) > 64:
            raise ValueError("must be at most 64 bytes")
        return value

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        if self.redirector_port == self.tracker_port:
            raise ValueError("TURNOUT_REDIRECTOR_PORT and TURNOUT_TRACKER_PORT must differ")
        return self

    @property
    def directory(self) -> DataDir:
        return DataDir.at(self.data_dir)

    @property
    def node_name(self) -> str:
        return self.node or socket.gethostname()[:64]

    @property
    def dsn(self) -> str:
        """libpq URL in use, the embedded server's where none is set."""
        return self.database_url.get_secret_value() if self.database_url else self.directory.embedded_database_url

    @property
    def stream_url(self) -> str:
        """Redis URL in use, the embedded server's where none is set."""
        return self.redis_url.get_secret_value() if self.redis_url else self.directory.embedded_redis_url

    @property
    def link_base(self) -> str:
        return self.public_url or f"http://{self.host}:{self.redirector_port}"


def load(**overrides: Any) -> Settings:
    """The settings in force. BadConfiguration names the variable and what is allowed; unknown TURNOUT_ names are warned of."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known and not name.startswith("TURNOUT_INTERNAL_"):
            warnings.warn(f"unknown setting {name} is ignored; known ones are listed in README.md", stacklevel=2)
    try:
        return Settings(**{key: value for key, value in overrides.items() if value is not None})
    except ValidationError as exc:
        raise BadConfiguration("; ".join(_sentence(error) for error in exc.errors())) from exc


def _sentence(error: Any) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    name = PREFIX + str(error["loc"][0]).upper() + " " if error["loc"] else ""
    if not name:
        return message
    is_secret = error["loc"][0] in ("database_url", "redis_url", "admin_key", "payout_debtor_iban")
    return f"{name}{message[:1].lower()}{message[1:]}" + ("" if is_secret else f" (got {error['input']!r})")
