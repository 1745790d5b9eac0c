"""The route table of a host: one LMDB file, written by the route publisher alone, read by everybody else.

`routes.mdb` holds three databases: `routes` (key → row id and route), `rows` (kind and id → revision and key, so that a
changed or deleted row takes its old key with it) and `meta` (how far the change feed is in). Beside it lie the lock
file, made with its space before anything opens it (LMDB dies of SIGBUS on a full disk without it), and `routes.alive`,
whose time says when the publisher last found the table current.
"""

import errno
import logging
import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar, cast

import lmdb
from msgspec import DecodeError, Struct, msgpack

from tracker.domain.resolve import JoinedRoute, join
from tracker.domain.routes import (
    ACTIVE,
    ID_BYTES,
    AliasRoute,
    CampaignRoute,
    HostRoute,
    Installation,
    Kind,
    LinkRoute,
    PartnerRoute,
    Route,
    TokenRoute,
    decode,
    encode,
    id_key,
    route_key,
)
from tracker.errors import CorruptData

log = logging.getLogger(__name__)

MAP_SIZE_BYTES = 16 * 1024**3  # address space, not disk: the file grows as it fills
MAX_READERS = 512  # one a reading thread; experiments.md 1.3
LOCK_FILE_BYTES = 64 * 1024  # header and 512 slots of 64 bytes, with room
SPACE_BYTES = 4 * 1024**2  # least free space to begin a table with
CHECKSUM_MODULUS = 2**31 - 1
CACHE_ENTRIES = 20_000  # decoded routes of one kind; emptied when full
LOOK_EVERY_S = 1.0  # how often a reader looks whether a (new) file is there
_MISSING: Final = object()
_POSITION = b"position"
_ROUTES, _ROWS, _META = b"routes", b"rows", b"meta"

R = TypeVar("R", bound=Route)
V = TypeVar("V")
Identity = tuple[int, int]  # device and inode of a file


class Position(Struct, frozen=True, array_like=True):
    """How far the table is: which database it is of, and the last row of `route_changes` that is in it."""

    database: str = ""
    last_id: int = 0


class Sum(NamedTuple):
    """Count and checksum of one kind: Σ (id x 1000003 + revision x 31) mod 2^31-1."""

    rows: int
    checksum: int


def lock_path(path: Path) -> Path:
    """The lock file of a table; LMDB names it."""
    return path.with_name(path.name + "-lock")


def alive_path(path: Path) -> Path:
    """The file whose modification time says when the publisher last found the table current."""
    return path.with_suffix(".alive")


def reserve(path: Path) -> None:
    """Make the lock file with all its space, as whoever opens the table must first. OSError when the disk is full."""
    handle = os.open(lock_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
    try:
        os.posix_fallocate(handle, 0, LOCK_FILE_BYTES)
    finally:
        os.close(handle)


class _Environments:
    """What this process has open: LMDB must not open a file twice, so a publisher and readers in one process share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[Identity, tuple[Any, bool]] = {}
        self._users: Counter[Identity] = Counter()

    def acquire(self, path: Path, *, writable: bool, map_size_bytes: int) -> tuple[Identity, Any]:
        """The environment of `path`, and what to `release`. The space for its lock file is made first."""
        with self._lock:
            found = self._open.get(_identity(path)) if path.exists() else None
            if found is None:
                found = (_enter(path, writable, map_size_bytes), writable)
            elif writable and not found[1]:
                raise OSError(errno.EBUSY, f"{path} is open for reading here: start the publisher before the readers")
            identity = _identity(path)
            self._open[identity] = found
            self._users[identity] += 1
            return identity, found[0]

    def release(self, identity: Identity) -> None:
        """Close the environment when nobody here uses it any more."""
        with self._lock:
            self._users[identity] -= 1
            if not self._users[identity]:
                self._open.pop(identity)[0].close()


_environments = _Environments()


def _identity(path: Path) -> Identity:
    info = path.stat()
    return info.st_dev, info.st_ino


def _enter(path: Path, writable: bool, map_size_bytes: int) -> Any:
    reserve(path)
    options: dict[str, Any] = {"subdir": False, "max_dbs": 8, "max_readers": MAX_READERS, "mode": 0o660}
    return lmdb.open(str(path), readonly=not writable, map_size=map_size_bytes, **options)


class RouteStore:
    """The writing side. Every method is one transaction, synced, and blocks: call it from a thread.

    What LMDB raises becomes OSError or CorruptData inside `table_errors`.
    """

    def __init__(self, path: Path, *, map_size_bytes: int = MAP_SIZE_BYTES) -> None:
        """Open the table at `path`, making it when there is none. A file that is no table is put aside, not deleted."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _require_space(path)
        self.path = path
        try:
            self._open(map_size_bytes)
        except (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError):
            aside = path.with_name(f"{path.name}.broken-{time.time_ns()}")
            log.exception("routes.table_broken", extra={"moved_to": str(aside)})
            path.rename(aside)
            self._open(map_size_bytes)

    def _open(self, map_size_bytes: int) -> None:
        self._identity, self._env = _environments.acquire(self.path, writable=True, map_size_bytes=map_size_bytes)
        self._routes, self._rows, self._meta = (self._env.open_db(name) for name in (_ROUTES, _ROWS, _META))

    def close(self) -> None:
        """Let go of the file."""
        _environments.release(self._identity)

    def position(self) -> Position:
        """How far the table is; `Position()` for a new one or when that cannot be read."""
        with self._env.begin() as txn:
            data = txn.get(_POSITION, db=self._meta)
        try:
            return msgpack.decode(data, type=Position) if data else Position()
        except DecodeError:
            return Position()

    def installation(self) -> Installation | None:
        """The installation as published; None when it is not, or cannot be read."""
        with self._env.begin(db=self._routes) as txn:
            data = txn.get(Installation().key())
        try:
            return decode(Installation, data[ID_BYTES:]) if data else None
        except CorruptData:
            return None

    def apply(self, routes: Sequence[Route], gone: Sequence[tuple[bytes, int]], position: Position | None) -> None:
        """Write `routes`, remove the rows `gone` (kind, id), and move to `position` (None: it stays). All or nothing.

        Idempotent. A key goes with its row; a key that another row has taken meanwhile stays with that one.
        """
        with self._env.begin(write=True) as txn:
            for kind, row_id in gone:
                self._remove(txn, kind + row_id.to_bytes(ID_BYTES, "big"))
            self._write(txn, routes)
            if position is not None:
                txn.put(_POSITION, msgpack.encode(position), db=self._meta)

    def replace_range(self, kind: bytes, after_id: int, upto_id: int | None, routes: Sequence[Route]) -> None:
        """Make `routes` the only rows of `kind` with after_id < id <= upto_id (None: to the end). All or nothing."""
        wanted = {route.row_id for route in routes}
        with self._env.begin(write=True) as txn:
            for row_key in list(self._range(txn, kind, after_id, upto_id)):
                if int.from_bytes(row_key[1:], "big") not in wanted:
                    self._remove(txn, row_key)
            self._write(txn, routes)

    def sums(self) -> dict[bytes, Sum]:
        """Count and checksum by kind. Walks all rows: about a second a million."""
        counts: dict[bytes, int] = defaultdict(int)
        totals: dict[bytes, int] = defaultdict(int)
        with self._env.begin(db=self._rows) as txn:
            for key, value in txn.cursor():
                kind = key[:1]
                counts[kind] += 1
                totals[kind] += int.from_bytes(key[1:], "big") * 1000003 + int.from_bytes(value[:ID_BYTES], "big") * 31
        return {kind: Sum(count, totals[kind] % CHECKSUM_MODULUS) for kind, count in counts.items()}

    def reader_check(self) -> int:
        """Free the slots of readers that died inside a read; else the file grows for ever. How many there were."""
        return int(self._env.reader_check())

    def mark_alive(self) -> None:
        """Say that the table is current as of now. No transaction: readers keep what they decoded."""
        alive_path(self.path).touch(mode=0o644)

    def _write(self, txn: Any, routes: Iterable[Route]) -> None:
        entries = [(route.KIND + (owner := route.row_id.to_bytes(ID_BYTES, "big")), owner, route) for route in routes]
        for row_key, _, route in entries:  # first every old key goes, then every new one comes: slugs may swap
            old = txn.get(row_key, db=self._rows)
            if old is not None and old[ID_BYTES:] != route.key():
                self._remove(txn, row_key)
        for row_key, owner, route in entries:
            key = route.key()
            txn.put(key, owner + encode(route), db=self._routes)
            txn.put(row_key, getattr(route, "revision", 0).to_bytes(ID_BYTES, "big") + key, db=self._rows)

    def _remove(self, txn: Any, row_key: bytes) -> None:
        row = txn.pop(row_key, db=self._rows)
        if row is None:
            return
        held = txn.get(row[ID_BYTES:], db=self._routes)
        if held is not None and held[:ID_BYTES] == row_key[1:]:
            txn.delete(row[ID_BYTES:], db=self._routes)

    def _range(self, txn: Any, kind: bytes, after_id: int, upto_id: int | None) -> Iterator[bytes]:
        last = kind + (upto_id.to_bytes(ID_BYTES, "big") if upto_id is not None else b"\xff" * ID_BYTES)
        cursor = txn.cursor(db=self._rows)
        if cursor.set_range(kind + (after_id + 1).to_bytes(ID_BYTES, "big")):
            for key in cursor.iternext(keys=True, values=False):
                if key > last:
                    return
                yield key


@contextmanager
def table_errors() -> Iterator[None]:
    """Turn LMDB's errors into OSError (full disk and the like) or CorruptData, so that callers need not know LMDB."""
    try:
        yield
    except (lmdb.DiskError, lmdb.MapFullError) as exc:
        raise OSError(errno.ENOSPC, f"route table: {exc}") from exc
    except lmdb.Error as exc:
        raise CorruptData(f"route table: {exc}") from exc


def _require_space(path: Path) -> None:
    free = os.statvfs(path.parent)
    if free.f_bavail * free.f_frsize < SPACE_BYTES:
        raise OSError(errno.ENOSPC, f"{path}: a route table needs {SPACE_BYTES} bytes of free space")


class RouteTable:
    """The reading side: the `RouteReader` of `tracker.domain.resolve`, one a process, used from one thread.

    Each look-up is one short read transaction, finished before it returns; what was decoded is kept until the publisher
    commits again (`refresh` sees that). Nothing here raises for a missing, broken or full disk: the table then answers
    as an empty one, tries to open again each second, and goes on serving what it had decoded.
    """

    def __init__(
        self,
        path: Path,
        *,
        fallback: str | None = None,
        map_size_bytes: int = MAP_SIZE_BYTES,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is opened yet. `fallback` is the installation's until the table says otherwise."""
        self.path = path
        self.corrupt = 0  # routes that could not be decoded
        self._default = Installation(fallback=fallback or None)
        self._map_size_bytes, self._monotonic = map_size_bytes, monotonic
        self._env: Any = None
        self._routes: Any = None
        self._rows: Any = None
        self._identity: Identity = (0, 0)
        self._txnid = 0
        self._look_at = float("-inf")
        self._installation: Installation | None = None
        self._forget()

    @property
    def is_open(self) -> bool:
        """Whether there is a table to read."""
        return self._env is not None

    def refresh(self) -> None:
        """Forget what was decoded if the publisher committed since; open the table if that is due. 2 µs."""
        now = self._monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            self._look()
        if self._env is None:
            return
        # Not info()["last_txnid"]: that comes from the meta page, which moves (and then syncs) before new read transactions
        # see the commit; what is decoded in between would be old, remembered as new, until somebody commits again.
        try:
            with self._env.begin() as txn:
                txnid = txn.id()
        except lmdb.Error:
            log.exception("routes.table_lost")
            self.close()
            return
        if txnid != self._txnid:
            self._forget()
            self._txnid = txnid

    def close(self) -> None:
        """Let go of the file; what was decoded stays."""
        if self._env is not None:
            self._env = None
            _environments.release(self._identity)

    def get_link(self, slug: bytes) -> JoinedRoute | None:
        """The link of `slug` with its campaign and partner, compiled."""
        joined = self._links.get(slug, _MISSING)
        if joined is not _MISSING:
            return cast("JoinedRoute | None", joined)
        link = self._read(LinkRoute, route_key(Kind.LINK, slug))
        return self._keep(self._links, slug, self._join(link) if link else None)

    def alias(self, host: str, key: str) -> JoinedRoute | None:
        """The link of an old URL, `is_paused` when the alias is not active; `host` `""` asks for any-host aliases."""
        joined = self._aliases.get((host, key), _MISSING)
        if joined is not _MISSING:
            return cast("JoinedRoute | None", joined)
        alias = self._read(AliasRoute, route_key(Kind.ALIAS, key.encode(), host.encode()))
        link = self.link_by_id(alias.link_id) if alias else None
        joined = self._join(link, is_alias_active=alias.status == ACTIVE) if alias and link else None
        return self._keep(self._aliases, (host, key), joined)

    def host(self, name: str) -> HostRoute | None:
        """A registered host, by `host_key`."""
        host = self._hosts.get(name, _MISSING)
        if host is not _MISSING:
            return cast("HostRoute | None", host)
        return self._keep(self._hosts, name, self._read(HostRoute, route_key(Kind.HOST, name.encode())))

    def installation(self) -> Installation:
        """What holds for the whole installation; before the first publishing, the fallback given to this table."""
        if self._installation is None:
            found = self._read(Installation, self._default.key())
            if found is None:
                return self._default
            self._installation = found
        return self._installation

    def link(self, slug: bytes) -> LinkRoute | None:
        """The published row of a link."""
        return self._read(LinkRoute, route_key(Kind.LINK, slug))

    def link_by_id(self, link_id: int) -> LinkRoute | None:
        """The same by id."""
        row = self._get(self._rows, Kind.LINK + link_id.to_bytes(ID_BYTES, "big"))
        return self._read(LinkRoute, row) if row else None

    def campaign(self, campaign_id: int) -> CampaignRoute | None:
        """The published row of a campaign with its advertiser's part."""
        campaign = self._campaigns.get(campaign_id)
        if campaign is None:
            campaign = self._read(CampaignRoute, id_key(Kind.CAMPAIGN, campaign_id))
            self._keep(self._campaigns, campaign_id, campaign)
        return campaign

    def partner(self, partner_id: int) -> PartnerRoute | None:
        """The published row of a partner."""
        partner = self._partners.get(partner_id)
        if partner is None:
            partner = self._read(PartnerRoute, id_key(Kind.PARTNER, partner_id))
            self._keep(self._partners, partner_id, partner)
        return partner

    def token(self, token_hash: bytes) -> TokenRoute | None:
        """The live postback token or pixel key with that hash."""
        return self._read(TokenRoute, route_key(Kind.TOKEN, token_hash))

    def count(self) -> int:
        """Rows published, of all kinds; 0 without a table."""
        if self._env is None:
            return 0
        try:
            with self._env.begin() as txn:
                return int(txn.stat(self._rows)["entries"])
        except lmdb.Error:
            return 0

    def age_s(self) -> float:
        """Seconds since the publisher last found the table current; infinite when it never did."""
        try:
            return max(0.0, time.time() - alive_path(self.path).stat().st_mtime)
        except OSError:
            return float("inf")

    def _join(self, link: LinkRoute, *, is_alias_active: bool = True) -> JoinedRoute | None:
        campaign, partner = self.campaign(link.campaign_id), self.partner(link.partner_id)
        return join(link, campaign, partner, is_alias_active=is_alias_active) if campaign and partner else None

    def _read(self, kind: type[R], key: bytes) -> R | None:
        data = self._get(self._routes, key)
        if data is None:
            return None
        try:
            return decode(kind, data)
        except CorruptData:
            self.corrupt += 1
            log.exception("routes.corrupt_row", extra={"kind": kind.__name__})
            return None

    def _get(self, database: Any, key: bytes) -> bytes | None:
        """The value behind its first 8 bytes: a route in `routes`, a key in `rows`."""
        if self._env is None:
            return None
        try:
            with self._env.begin(db=database) as txn:
                value = txn.get(key)
        except (lmdb.Error, OSError):
            log.exception("routes.table_lost")
            self.close()
            return None
        return value[ID_BYTES:] if value else None

    def _keep(self, cache: dict[Any, Any], key: Any, value: V) -> V:
        if self._env is not None:  # what an unreadable table did not say is not remembered
            if len(cache) >= CACHE_ENTRIES:
                cache.clear()
            cache[key] = value
        return value

    def _forget(self) -> None:
        self._links: dict[bytes, Any] = {}
        self._aliases: dict[tuple[str, str], Any] = {}
        self._hosts: dict[str, Any] = {}
        self._campaigns: dict[int, CampaignRoute | None] = {}
        self._partners: dict[int, PartnerRoute | None] = {}
        self._installation = None

    def _look(self) -> None:
        """Open the table if it is not open, or if another file has taken its place."""
        try:
            identity = _identity(self.path)
        except OSError:
            return
        if self._env is not None and identity == self._identity:
            return
        self.close()
        try:
            self._open()
        except (lmdb.Error, OSError):
            log.warning("routes.table_not_readable", exc_info=True, extra={"path": str(self.path)})
            self.close()
            return
        self._txnid = -1

    def _open(self) -> None:
        self._identity, self._env = _environments.acquire(self.path, writable=False, map_size_bytes=self._map_size_bytes)
        self._routes, self._rows = (self._env.open_db(name, create=False) for name in (_ROUTES, _ROWS))
