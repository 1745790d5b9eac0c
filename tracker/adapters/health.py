"""What `turnout doctor` asks PostgreSQL, Redis and the machine. Reads only."""

import asyncio
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Literal

import psutil
from redis.exceptions import ResponseError

from tracker.adapters import partitions, postgres_balances
from tracker.adapters.postgres_session import PostgresSession
from tracker.adapters.redis_connection import RedisConnection
from tracker.adapters.redis_topology import Server
from tracker.data_dir import DataDir
from tracker.errors import StoreUnavailable, StreamUnavailable

Network = IPv4Network | IPv6Network
Result = Literal["ok", "warn", "fail", "unknown"]
TIMEOUT_S = 10.0
CLOSINGS_TIMEOUT_S = 60.0  # the whole ledger is read
POSTGRES_LEAST = 150000
REDIS_LEAST = (7, 0)
LOCKS_LEAST = 64  # times max_connections; a query over all days takes several locks a partition
DAYS_AHEAD_LEAST = 7
FREE_BYTES_LEAST = 1024**3
FREE_RATIO_LEAST = 0.05
CLOCK_WARN_S, CLOCK_FAIL_S = 2.0, 60.0
NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "afs", "lustre"}
)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. `advice` says what to change; empty when nothing is to be done."""

    name: str
    result: Result
    found: str
    advice: str = ""

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def _check(name: str, is_good: bool, found: object, advice: str, *, bad: Result = "fail") -> Check:
    return Check(name, "ok" if is_good else bad, str(found), "" if is_good else advice)


async def examine(dsn: str, redis_url: str, directory: Path, *, host: str = "127.0.0.1", trusted: Sequence[Network] = ()) -> list[Check]:
    """All checks; a server that cannot be reached is one failed check in place of its own."""
    return [
        *await _postgres(dsn),
        *await _redis(redis_url, is_embedded=redis_url == DataDir.at(directory).embedded_redis_url),
        *await asyncio.to_thread(_machine, directory),
        _proxies(host, trusted),
    ]


async def _postgres(dsn: str) -> list[Check]:
    session = PostgresSession(dsn, name="doctor")
    try:
        async with session.use(TIMEOUT_S) as connection:
            names = ("server_version_num", "server_version", "fsync", "synchronous_commit", "full_page_writes", "max_locks_per_transaction")
            found = {name: await connection.fetchval("SELECT current_setting($1)", name) for name in names}
            sent, clock, received = time.time(), await connection.fetchval("SELECT clock_timestamp()"), time.time()
            checks = [*_postgres_settings(found), _clock("PostgreSQL", clock.timestamp() - (sent + received) / 2)]
        async with session.use(TIMEOUT_S) as connection:
            checks += _partitions(await partitions.layout(connection), await partitions.edge_rows(connection))
        checks.append(await _closings(session))
    except StoreUnavailable as exc:
        return [
            Check("PostgreSQL", "fail", str(exc), "start it, or correct TURNOUT_DATABASE_URL; on a new database run: turnout db upgrade")
        ]
    finally:
        session.drop()
    return checks


def _postgres_settings(found: dict[str, str]) -> list[Check]:
    version, locks = int(found["server_version_num"]), found["max_locks_per_transaction"]
    durable = "is off: a power cut may destroy the database; set it to on"
    return [
        _check("PostgreSQL version", version >= POSTGRES_LEAST, found["server_version"], "use PostgreSQL 15 or newer"),
        _check("PostgreSQL fsync", found["fsync"] == "on", found["fsync"], f"fsync {durable}"),
        _check("PostgreSQL full_page_writes", found["full_page_writes"] == "on", found["full_page_writes"], f"full_page_writes {durable}"),
        _check(
            "PostgreSQL synchronous_commit", found["synchronous_commit"] != "off", found["synchronous_commit"],
            "set synchronous_commit to on: journals are removed after a commit, which must therefore be on disk",
        ),
        _check(
            "PostgreSQL max_locks_per_transaction", int(locks) >= LOCKS_LEAST, locks,
            f"set max_locks_per_transaction to {LOCKS_LEAST} or more: there is a partition a day", bad="warn",
        ),
    ]  # fmt: skip


async def _closings(session: PostgresSession) -> Check:
    name = "balance closings"
    try:
        async with session.use(CLOSINGS_TIMEOUT_S) as connection:
            months = await postgres_balances.differing_months(connection)
    except StoreUnavailable as exc:
        return Check(name, "unknown", str(exc), "the ledger could not be read in time; try again when less is going on")
    found = f"differ: {', '.join(f'{month:%Y-%m}' for month in months)}" if months else "agree with the ledger"
    return _check(name, not months, found, "somebody changed the ledger of a closed month: see ledger_entries and balance_closings of it")


def _partitions(found: partitions.Layout, edge_rows: int) -> list[Check]:
    ahead = (max(found.days) - datetime.now(UTC).date()).days if found.days else 0
    return [
        _check("partitions ahead", ahead >= DAYS_AHEAD_LEAST, f"{ahead} days", "run a keeper: turnout work keeper"),
        _check(
            "clicks outside of all days", not edge_rows, edge_rows, "a node's clock is wrong: set up time synchronisation there", bad="warn"
        ),
    ]


async def _redis(url: str, *, is_embedded: bool) -> list[Check]:
    """The checks of each server there is: of a cluster or behind sentinels, their names say where."""
    asked = RedisConnection(url)
    try:
        servers = await asked.servers()
    except StreamUnavailable as exc:
        return [_redis_away("", exc)]
    finally:
        await asked.drop()
    found = await asyncio.gather(*(_redis_server(server, is_embedded=is_embedded) for server in servers))
    return [check for checks in found for check in checks]


def _redis_away(where: str, exc: StreamUnavailable) -> Check:
    return Check(f"Redis{where}", "fail", str(exc), "start it, or correct TURNOUT_REDIS_URL; until then clicks wait in the journals")


async def _redis_server(server: Server, *, is_embedded: bool) -> list[Check]:
    redis, where = RedisConnection(server.url), f" at {server.name}" if server.name else ""
    try:
        info = (await redis.command("INFO", "server")).decode()
        version = next((line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("redis_version:")), "0")
        sent, (seconds, micros), received = time.time(), await redis.command("TIME"), time.time()
        is_new = tuple(map(int, version.split(".")[:2])) >= REDIS_LEAST
        checks = [
            _check(f"Redis version{where}", is_new, version, "use Redis 7.0 or newer, or Valkey"),
            _clock(f"Redis{where}", int(seconds) + int(micros) / 1e6 - (sent + received) / 2),
        ]
        told = await _told_by_info(redis) | (EMBEDDED if is_embedded else {})
        return checks + [await _redis_setting(redis, where, told, *expected) for expected in REDIS_SETTINGS]
    except StreamUnavailable as exc:
        return [_redis_away(where, exc)]
    finally:
        await redis.drop()


# Name, what it may be, how bad it is if not, what to do.
REDIS_SETTINGS: tuple[tuple[str, Callable[[str], bool], Result, str], ...] = (
    ("appendonly", lambda value: value == "yes", "warn", "set appendonly yes: without it a restart empties the streams"),
    ("appendfsync", lambda value: value in ("always", "everysec"), "warn", "set appendfsync everysec or always"),
    ("no-appendfsync-on-rewrite", lambda value: value == "no", "warn", "set it to no: yes means no fsync while the log is rewritten"),
    ("maxmemory-policy", lambda value: value == "noeviction", "fail", "set it to noeviction: any other may throw a stream away"),
)  # fmt: skip


# How `tracker.local.valkey` starts the embedded server, which does not let anybody ask.
EMBEDDED = {"appendfsync": "everysec", "no-appendfsync-on-rewrite": "no"}


async def _told_by_info(redis: RedisConnection) -> dict[str, str]:
    """The settings that INFO tells, for servers where CONFIG is renamed (many hosters, and the embedded one)."""
    text: bytes = await redis.command("INFO", "everything")
    facts = dict(line.split(":", 1) for line in text.decode(errors="replace").splitlines() if ":" in line)
    told = {"maxmemory-policy": facts.get("maxmemory_policy", "")}
    if "aof_enabled" in facts:
        told["appendonly"] = "yes" if facts["aof_enabled"] == "1" else "no"
    return {name: value for name, value in told.items() if value}


async def _redis_setting(
    redis: RedisConnection, where: str, told: dict[str, str], name: str, is_good: Callable[[str], bool], bad: Result, advice: str
) -> Check:
    try:
        answer: list[Any] = await redis.command("CONFIG", "GET", name)
    except (ResponseError, StreamUnavailable):
        answer = []  # renamed or forbidden, as by many hosters
    if len(answer) < 2 and name in told:
        return _check(f"Redis {name}{where}", is_good(told[name]), told[name], advice, bad=bad)
    if len(answer) < 2:
        return Check(f"Redis {name}{where}", "unknown", "CONFIG is not allowed", f"cannot tell; see to it yourself: {advice}")
    value = answer[1].decode()
    return _check(f"Redis {name}{where}", is_good(value), value, advice, bad=bad)


def _proxies(host: str, trusted: Sequence[Network]) -> Check:
    """Whose word is taken for where a visitor comes from."""
    name, found = "trusted proxies", ", ".join(map(str, trusted)) or "none"
    if any(network.prefixlen == 0 for network in trusted):
        return Check(name, "fail", found, "name your proxies in TURNOUT_TRUSTED_PROXIES and nobody else: now anybody can forge an address")
    advice = "if a proxy stands in front, name it in TURNOUT_TRUSTED_PROXIES: else all visitors have its address"
    return _check(name, bool(trusted) or host in ("127.0.0.1", "::1", "localhost"), found, advice, bad="warn")


def _clock(server: str, offset_s: float) -> Check:
    bad: Result = "fail" if abs(offset_s) > CLOCK_FAIL_S else "warn"
    return _check(
        f"clock against {server}",
        abs(offset_s) <= CLOCK_WARN_S,
        f"{offset_s:+.2f} s",
        "set up time synchronisation on both machines",
        bad=bad,
    )


def _machine(directory: Path) -> list[Check]:
    place = next(path for path in (directory, *directory.parents) if path.exists())
    usage = shutil.disk_usage(place)
    is_roomy = usage.free >= FREE_BYTES_LEAST and usage.free >= usage.total * FREE_RATIO_LEAST
    mounts = [part for part in psutil.disk_partitions(all=True) if place.resolve().is_relative_to(part.mountpoint)]
    kind = max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else ""
    free = f"{usage.free / 1024**3:.1f} GB of {usage.total / 1024**3:.1f} GB"
    return [
        _check("disk space of TURNOUT_DATA_DIR", is_roomy, free, f"make room on the disk of {directory}", bad="warn"),
        _check(
            "file system of TURNOUT_DATA_DIR", kind not in NETWORK_FILE_SYSTEMS, kind or "unknown",
            "put TURNOUT_DATA_DIR on a local disk: locks and syncs of network file systems cannot be relied on",
        ),
    ]  # fmt: skip
