"""The LMDB file: readers in other processes, dead readers, broken files, rows that move."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import lmdb
import pytest
from msgspec.structs import replace

from tests.unit.test_resolve import CAMPAIGN, LINK, OLD, PARTNER
from tracker.adapters.lmdb_environment import LOCK_FILE_BYTES, lock_path, table_errors
from tracker.adapters.lmdb_route_store import Position, RouteStore
from tracker.adapters.lmdb_routes import DOMAINS_EVERY_S, RouteTable
from tracker.domain.routes import AliasRoute, Installation, Kind
from tracker.errors import CorruptData

pytestmark = pytest.mark.integration

READER = """
import sys, pathlib, time
from tracker.adapters.lmdb_routes import RouteTable
table = RouteTable(pathlib.Path(sys.argv[1]))
print("up", flush=True)
wrong = reads = 0
until = time.monotonic() + 1.5
while time.monotonic() < until:
    table.refresh()
    for n in range(1, 50):
        reads += 1
        wrong += table.get_link(b"k%d" % n) is None
print(reads, wrong, flush=True)
"""
HANGING_READER = """
import sys, time, lmdb
env = lmdb.open(sys.argv[1], subdir=False, readonly=True, max_readers=512, max_dbs=8)
txn = env.begin()
print("up", flush=True)
time.sleep(60)
"""
OPENING = """
import pathlib, sys, threading
from tracker.adapters.lmdb_route_store import RouteStore
from tracker.adapters.lmdb_routes import RouteTable
path = pathlib.Path(sys.argv[1])
store, is_over = RouteStore(path), threading.Event()
def write():
    while not is_over.is_set():
        store.apply((), (), None)
writing = threading.Thread(target=write)
writing.start()
for _ in range(300):
    table = RouteTable(path)
    table.refresh()
    assert table.is_open
    table.close()
is_over.set()
writing.join()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "routes" / "routes.mdb"


@pytest.fixture
def store(path: Path):
    store = RouteStore(path)
    store.apply([CAMPAIGN, PARTNER, OLD], [], Position("db", 1))
    yield store
    store.close()


@pytest.fixture
def table(path: Path, store: RouteStore):
    table = RouteTable(path)
    table.refresh()
    yield table
    table.close()


def link(link_id: int, slug: str, **changes):
    return replace(LINK, link_id=link_id, slug=slug, **changes)


def start(script: str, path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def test_the_domains_of_active_advertisers_are_read_again_after_a_publishing(path, store):
    now = [0.0]
    table = RouteTable(path, monotonic=lambda: now[0])
    assert table.shop_domains() == frozenset()  # nothing is known before the table is open
    table.refresh()
    assert table.shop_domains() == {"s.example"}
    other = replace(CAMPAIGN, campaign_id=9, slug="other", domains=("o.example", "p.example"))
    paused = replace(CAMPAIGN, campaign_id=8, slug="paused", domains=("z.example",), advertiser_status="paused")
    store.apply([other, paused], [], Position("db", 2))
    table.refresh()
    assert table.shop_domains() == {"s.example"}
    now[0] = DOMAINS_EVERY_S
    assert table.shop_domains() == {"s.example", "o.example", "p.example"}
    store.apply([replace(route, domains=()) for route in (CAMPAIGN, other, paused)], [], Position("db", 3))
    now[0] *= 2
    table.refresh()
    assert table.shop_domains() is None
    table.close()
    assert table.shop_domains() is None


def test_the_lock_file_has_its_space_before_anything_opens_it(path, store):
    info = lock_path(path).stat()
    assert info.st_size >= LOCK_FILE_BYTES
    assert info.st_blocks * 512 >= LOCK_FILE_BYTES


def test_a_reader_in_another_process_misses_nothing_while_the_publisher_commits(path, store):
    """Measured: without the lock 629 of 2.85 M look-ups of existing keys came back empty."""
    store.apply([link(n, f"k{n}") for n in range(1, 50)], [], None)
    reader = start(READER, path)
    while reader.poll() is None:
        store.apply([link(n, f"k{n}", revision=time.monotonic_ns()) for n in range(1, 50)], [], None)
    assert reader.stdout is not None
    reads, wrong = map(int, reader.stdout.read().split())
    reader.stdout.close()
    assert reads > 1000
    assert wrong == 0


def test_a_reader_that_died_inside_a_read_is_cleared(path, store):
    """Else the file grows for ever."""
    reader = start(HANGING_READER, path)
    os.kill(reader.pid, signal.SIGKILL)
    reader.wait()
    assert reader.stdout is not None
    reader.stdout.close()
    assert store.reader_check() == 1


def test_slugs_may_swap_and_move_on(store, table):
    store.apply([link(1, "a"), link(2, "b")], [], None)
    store.apply([link(1, "b"), link(2, "a")], [], None)
    table.refresh()
    assert (table.get_link(b"a").ready.link_id, table.get_link(b"b").ready.link_id) == (2, 1)
    store.apply([link(3, "a")], [], None)  # as a rebuild may have it: the new owner comes before the old one leaves
    store.apply([link(2, "c")], [(Kind.LINK, 1), (Kind.LINK, 99)], None)
    table.refresh()
    assert table.get_link(b"a").ready.link_id == 3
    assert table.get_link(b"b") is None
    assert table.link_by_id(2).slug == "c"


def test_what_was_decoded_is_kept_until_the_publisher_commits(store, table):
    assert table.get_link(b"new") is None
    store.apply([link(1, "new")], [], None)
    assert table.get_link(b"new") is None  # the same tick
    table.refresh()
    assert table.get_link(b"new") is table.get_link(b"new")
    kept = table.get_link(b"new")
    store.mark_alive()
    table.refresh()
    assert table.get_link(b"new") is kept
    assert table.age_s() < 5
    assert table.link(b"new") == kept.ready.link


def test_aliases_follow_their_link_and_may_be_paused(store, table):
    long = "/" + "x" * 3000
    store.apply([link(1, "a"), AliasRoute(alias_id=1, host="", match_key=long, link_id=1, advertiser_id=4)], [], None)
    store.apply([AliasRoute(alias_id=2, host="h", match_key="/p", link_id=1, advertiser_id=4, status="paused")], [], None)
    store.apply([AliasRoute(alias_id=3, host="h", match_key="/lost", link_id=77, advertiser_id=4)], [], None)
    table.refresh()
    assert table.alias("", long).ready.link_slug == "a"
    assert table.alias("h", "/p").is_paused
    assert table.alias("h", "/p") is table.alias("h", "/p")
    assert table.alias("h", "/lost") is None
    assert table.host("go.old.example") == OLD == table.host("go.old.example")


def test_a_link_without_its_campaign_is_unknown(store, table):
    store.apply([link(1, "a", campaign_id=999)], [], None)
    table.refresh()
    assert table.get_link(b"a") is None


def test_a_range_is_made_what_is_given(store, table):
    store.apply([link(n, f"k{n}") for n in range(1, 8)], [], None)
    store.replace_range(Kind.LINK, 1, 4, [link(2, "k2"), link(4, "moved")])
    table.refresh()
    assert [n for n in range(1, 8) if table.get_link(b"k%d" % n)] == [1, 2, 5, 6, 7]
    store.replace_range(Kind.LINK, 4, None, [])
    table.refresh()
    assert table.count() == 3 + 3
    assert table.partner(PARTNER.partner_id) == PARTNER


def test_a_corrupt_row_is_unknown_and_counted(path, store, table):
    store.apply([link(1, "a")], [], None)
    with table._env.begin(write=True) as txn:
        txn.put(link(1, "a").key(), b"12345678" + b"\xc1", db=table._routes)
        txn.put(Installation().key(), b"12345678" + b"\xc1", db=table._routes)
    table.refresh()
    assert table.get_link(b"a") is None
    assert table.corrupt == 1
    assert store.installation() is None
    assert table.installation() == Installation()


def test_a_file_that_is_no_table_is_put_aside(path):
    path.parent.mkdir()
    path.write_bytes(b"not a table" * 1000)
    reader = RouteTable(path, fallback="https://f.example/")
    reader.refresh()
    assert not reader.is_open
    assert reader.installation().fallback == "https://f.example/"
    assert (reader.count(), reader.get_link(b"x"), reader.age_s()) == (0, None, float("inf"))
    store = RouteStore(path)
    assert len(list(path.parent.glob("*.broken-*"))) == 1
    assert store.position() == Position()
    store.close()


def test_a_full_map_is_a_full_disk_and_loses_nothing(path):
    store = RouteStore(path, map_size_bytes=256 * 1024)
    store.apply([PARTNER], [], Position("db", 1))
    with pytest.raises(OSError, match="route table"), table_errors():
        store.apply([link(n, f"k{n}", creative="x" * 500) for n in range(2000)], [], Position("db", 2))
    assert store.position() == Position("db", 1)
    assert sum(found.rows for found in store.sums().values()) == 1
    store.close()


def test_errors_of_lmdb_are_ours_outside():
    with pytest.raises(CorruptData), table_errors():
        raise lmdb.CorruptedError("x")


def test_a_reader_first_then_a_publisher_in_one_process_is_refused_with_a_reason(path):
    RouteStore(path).close()
    reader = RouteTable(path)
    reader.refresh()
    with pytest.raises(OSError, match="before the readers"):
        RouteStore(path)
    reader.close()
    RouteStore(path).close()


def test_the_cache_is_bounded(store, table, monkeypatch):
    monkeypatch.setattr("tracker.adapters.lmdb_routes.CACHE_ENTRIES", 10)
    for n in range(100):
        assert table.get_link(b"%d" % n) is None
    assert len(table._links) <= 10


def test_readers_open_the_table_while_a_thread_of_the_same_process_writes_it(path):
    # Not in this process: the two would wait for one another for ever, and no time-out of a test can end that.
    subprocess.run([sys.executable, "-c", OPENING, str(path)], check=True, timeout=60)
