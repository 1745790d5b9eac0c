"""The route table's writing side, for the route publisher alone."""

import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lmdb
from msgspec import DecodeError, Struct, msgpack

from tracker.adapters.lmdb_environment import MAP_SIZE_BYTES, META, ROUTES, ROWS, alive_path, environments, require_space
from tracker.domain.routes import ID_BYTES, Installation, Route, decode, encode
from tracker.errors import CorruptData

log = logging.getLogger(__name__)

CHECKSUM_MODULUS = 2**31 - 1
_POSITION = b"position"


class Position(Struct, frozen=True, array_like=True):
    """How far the table is: which database it is of, and the last row of `route_changes` that is in it."""

    database: str = ""
    last_id: int = 0


class Sum(NamedTuple):
    """Count and checksum of one kind: Σ (id x 1000003 + revision x 31) mod 2^31-1."""

    rows: int
    checksum: int


class RouteStore:
    """The writing side. Every method is one transaction, synced, and blocks: call it from a thread.

    What LMDB raises becomes OSError or CorruptData inside `table_errors`.
    """

    def __init__(self, path: Path, *, map_size_bytes: int = MAP_SIZE_BYTES) -> None:
        """Open the table at `path`, making it when there is none. A file that is no table is put aside, not deleted."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            require_space(path)
        self.path = path
        try:
            self._open(map_size_bytes)
        except (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError):
            aside = path.with_name(f"{path.name}.broken-{time.time_ns()}")
            log.exception("routes.table_broken", extra={"moved_to": str(aside)})
            path.rename(aside)
            self._open(map_size_bytes)

    def _open(self, map_size_bytes: int) -> None:
        self._identity, self._env, found = environments.acquire(self.path, writable=True, map_size_bytes=map_size_bytes)
        self._routes, self._rows, self._meta = found[ROUTES], found[ROWS], found[META]

    def close(self) -> None:
        """Let go of the file."""
        environments.release(self._identity)

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
