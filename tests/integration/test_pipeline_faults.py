"""Never lost, never doubled: the way of a click with processes killed between any two steps, and stores that forget.

Each test ends with `settle`: every 302 that a visitor saw is stored once, rollups equal a recount, the books balance.
"""

import asyncio
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.integration.pipeline import Pipeline, make_programme, time_shift
from tests.wait import wait_until_sync
from tracker import wire

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


@pytest.fixture
def pipeline(tmp_path, dsn, redis_url):
    asyncio.run(make_programme(dsn))
    built = Pipeline(tmp_path / "data", dsn, redis_url)
    yield built
    built.close()


@pytest.fixture
def own_pipeline(tmp_path, own_servers):
    asyncio.run(make_programme(own_servers.dsn))
    built = Pipeline(tmp_path / "data", own_servers.dsn, own_servers.redis_url)
    yield built
    built.close()


def test_a_healthy_day_uses_no_degraded_path(pipeline):
    pipeline.start_all()
    pipeline.click(400)
    pipeline.settle()
    (row,) = pipeline.query("SELECT sum(duplicate) AS duplicate, sum(redelivered) AS redelivered, sum(rejected) AS rejected FROM boots")
    assert tuple(row) == (0, 0, 0)
    (click,) = pipeline.query("SELECT * FROM clicks WHERE method = 'GET' AND sub1 = 's1' LIMIT 1")
    assert (click["outcome"], click["verdict"], click["counted"]) == ("ok", "valid", True)
    assert (click["device"], click["os"], click["browser"]) == ("desktop", "Windows", "Chrome")
    assert click["url"] == "/c/l2?sub1=s1"
    assert click["redirected_to"].startswith("https://shop.example/?click_id=")
    assert click["ip"] == "127.0.0.0"
    pipeline.stop("serve redirector")
    pipeline.stop("work clicks")
    code, books = pipeline.audit()
    assert (code, books["state"]) == (0, "balanced")
    assert not pipeline.query("SELECT FROM boots WHERE closed_seq IS NULL")


@pytest.mark.parametrize("point", ["journal.before_write:3", "journal.after_write:3", "shipper.before_xadd:3", "shipper.after_xadd:3"])
def test_the_redirector_killed_between_two_steps(pipeline, point):
    pipeline.start_all(redirector={"TURNOUT_INTERNAL_CRASH_AT": point})
    pipeline.click(200)
    wait_until_sync(lambda: pipeline.died("serve redirector"), because=point)
    pipeline.parts.pop("serve redirector")
    pipeline.start("serve redirector")
    pipeline.click(40)
    settle_with_unanswered(pipeline)


def balanced(pipeline):
    """The books once they balance: a look later they may know of a batch that died unwritten, and then of its boot's end."""
    books = pipeline.look_at_books()
    return books if books["state"] == "balanced" else None


def settle_with_unanswered(pipeline):
    """As `settle`, but batches that were given a seq and never written or answered may be unrecorded: no visitor saw their 302."""
    wait_until_sync(lambda: set(pipeline.accepted) <= set(pipeline.stored()), within_s=60, every_s=0.2, because="every 302 is stored")
    books = wait_until_sync(lambda: balanced(pipeline), within_s=90, every_s=0.2, because="balanced")
    stored = pipeline.stored()
    assert len(stored) == len(set(stored))
    assert len(set(stored) - set(pipeline.accepted)) + books["unrecorded"] <= pipeline.unknown
    assert books["unaccounted"] == 0


POINTS = [f"click_writer.{step}" for step in ("after_read", "before_copy", "before_commit", "after_commit", "before_ack", "after_ack")]


@pytest.mark.parametrize("point", POINTS)
def test_the_click_writer_killed_between_two_steps(pipeline, point):
    pipeline.start_all(clicks={"TURNOUT_INTERNAL_CRASH_AT": f"{point}:2"})
    wait_until_sync(lambda: pipeline.click(40) or pipeline.died("work clicks"), because=point)
    pipeline.parts.pop("work clicks")
    pipeline.click(40)
    pipeline.start("work clicks")
    pipeline.settle()


def test_everything_of_ours_killed_at_once(pipeline):
    pipeline.start_all()
    pipeline.click(300)
    for name in list(pipeline.parts):
        pipeline.kill(name)
    pipeline.start_all()
    pipeline.click(40)
    pipeline.settle()


def test_flushall_under_traffic(pipeline):
    pipeline.start_all()
    pipeline.click(100)
    pipeline.kill("work clicks")
    pipeline.click(100)
    pipeline.redis().flushall()
    pipeline.click(100)
    pipeline.start("work clicks")
    pipeline.settle()


def test_valkey_killed_and_restarted_empty(own_pipeline, own_servers):
    own_pipeline.start_all()
    own_pipeline.click(100)
    own_pipeline.kill("work clicks")
    own_pipeline.click(100)
    own_servers.valkey.kill()
    own_pipeline.click(100)
    for path in (own_servers.directory.root / "valkey").rglob("*"):
        if path.is_file():
            path.unlink()
    own_servers.valkey.start()
    own_pipeline.start("work clicks")
    own_pipeline.click(40)
    own_pipeline.settle()


def test_postgresql_killed_under_traffic(own_pipeline, own_servers):
    own_pipeline.start_all()
    own_pipeline.click(100)
    own_servers.postgres.kill()
    own_pipeline.click(200)
    time.sleep(2)
    own_servers.postgres.start()
    own_pipeline.settle()


def test_postgresql_frozen_under_traffic(own_pipeline, own_servers):
    own_pipeline.start_all()
    own_servers.postgres.pause()
    own_pipeline.click(200)
    time.sleep(3)
    own_servers.postgres.resume()
    own_pipeline.settle()


def test_a_rewound_postgresql_is_shipped_what_it_forgot_without_being_asked(own_pipeline, own_servers):
    """The data directory is copied, clicks go on, the copy is put back: a point-in-time recovery or a stale standby."""
    own_pipeline.start_all()
    own_pipeline.click(100)
    own_pipeline.settle()
    cluster = data_directory(own_servers)
    own_servers.postgres.stop()
    shutil.copytree(cluster, cluster.with_name("earlier"), copy_function=copy_owned)
    own_servers.postgres.start()
    own_pipeline.click(200)
    own_pipeline.settle()
    own_servers.postgres.stop()
    owner = cluster.stat()
    shutil.rmtree(cluster)
    take_owner(cluster.with_name("earlier"), owner)
    cluster.with_name("earlier").rename(cluster)
    own_servers.postgres.start()
    assert len(own_pipeline.stored()) == 100
    own_pipeline.settle()
    assert len(own_pipeline.stored()) == 300


def data_directory(servers):
    return (servers.directory.root / "postgres").resolve()  # as root it may lie elsewhere, behind a link


def copy_owned(source, target):
    shutil.copy2(source, target)
    info = Path(source).stat()
    os.chown(target, info.st_uid, info.st_gid)
    return target


def take_owner(tree, owner):
    for path in [tree, *tree.rglob("*")]:
        os.chown(path, owner.st_uid, owner.st_gid)
        if path.is_dir():
            path.chmod(0o700)


def test_the_same_node_name_on_a_fresh_volume(pipeline):
    pipeline.start_all()
    pipeline.click(100)
    pipeline.settle()
    pipeline.stop("serve redirector")
    shutil.rmtree(pipeline.directory / "journal")
    pipeline.start("serve redirector")
    pipeline.click(100)
    pipeline.settle()
    assert len(pipeline.query("SELECT FROM boots WHERE node = 'node-1'")) == 2


def test_two_writers_and_one_of_them_killed(pipeline):
    pipeline.start_all()
    pipeline.start("work clicks", key="second writer")
    pipeline.click(200)
    pipeline.kill("work clicks")
    pipeline.click(200)
    pipeline.settle(within_s=90)


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_node_whose_clock_is_two_hours_off(pipeline, hours, tmp_path):
    pipeline.start("work routes")
    pipeline.start("serve redirector", PYTHONPATH=time_shift(tmp_path, hours * 3600))
    pipeline.start("work clicks")
    wait_until_sync(lambda: pipeline.get("/c/l1", method="HEAD")[2], because="link l1 is live")
    pipeline.click(100)
    wait_until_sync(lambda: set(pipeline.accepted) <= set(pipeline.stored()), because="a wrong clock loses nothing")
    pipeline.stop("serve redirector")
    wait_until_sync(lambda: pipeline.look_at_books()["state"] == "balanced", because="balanced")
    pipeline.check()


def test_a_redirector_started_on_a_full_disk_with_both_stores_down_still_serves(own_pipeline, own_servers, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    if os.getuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", small], check=False).returncode:
        pytest.skip("needs root and tmpfs")
    try:
        pipeline = Pipeline(small / "data", own_servers.dsn, own_servers.redis_url)
        pipeline.start_all()
        pipeline.click(40)
        pipeline.settle()
        pipeline.kill("serve redirector")
        pipeline.kill("work routes")
        fill(small / "filler")
        own_servers.postgres.kill()
        own_servers.valkey.kill()
        before = len(pipeline.accepted)
        pipeline.start("serve redirector")
        pipeline.click(40)
        assert len(pipeline.accepted) == before + 40
        assert not pipeline.refused
        own_servers.postgres.start()
        own_servers.valkey.start()
        wait_until_sync(lambda: set(pipeline.accepted) <= set(pipeline.stored()), within_s=60, every_s=0.3, because="memory kept them")
        (small / "filler").unlink()
        pipeline.settle()
        pipeline.close()
    finally:
        subprocess.run(["umount", "-l", small], check=False)


def fill(path):
    """Take all space there is."""
    with path.open("wb", buffering=0) as filler:
        for size in (65536, 512, 1):
            try:
                while True:
                    filler.write(b"x" * size)
            except OSError:
                continue


def test_a_seq_cut_out_of_the_books_by_hand_is_mended_by_the_node(pipeline):
    pipeline.start_all()
    pipeline.click(200)
    pipeline.settle()
    pipeline.query("UPDATE boots SET covered = covered - int8multirange(int8range(2, 4))")
    pipeline.settle()
    assert not pipeline.query("SELECT FROM boots WHERE NOT covered @> int8range(2, 4) AND last_seq >= 3")


def test_a_seq_cut_out_with_its_clicks_is_stored_again(pipeline):
    """What a restored backup of one table would look like: rows and books gone, journal still there."""
    pipeline.start_all()
    pipeline.click(200)
    pipeline.settle()
    pipeline.query("""
        WITH cut AS (DELETE FROM clicks WHERE seq = 2 RETURNING boot, counted),
             n AS (SELECT boot, count(*) AS n FROM cut GROUP BY boot)
        UPDATE boots SET covered = covered - int8multirange(int8range(2, 3)), stored = stored - n.n FROM n WHERE n.boot = boots.boot
    """)
    wait_until_sync(lambda: set(pipeline.accepted) <= set(pipeline.stored()), because="shipped again")


def test_a_gap_that_no_node_can_mend_is_named_by_the_audit(pipeline):
    pipeline.start_all()
    pipeline.click(200)
    pipeline.settle()
    pipeline.stop("serve redirector")
    shutil.rmtree(pipeline.directory / "journal")
    (row,) = pipeline.query("SELECT boot, covered::text FROM boots")
    pipeline.query("UPDATE boots SET covered = covered - int8multirange(int8range(2, 4)), stored = stored - 5")
    code, books = pipeline.audit()
    assert (code, books["state"]) == (1, "unbalanced"), books
    assert books["unaccounted"] == 5
    assert row["boot"].hex in str(books["nodes"]) or str(row["boot"]) in str(books["nodes"])


def test_a_dead_nodes_volume_is_drained(pipeline, tmp_path, redis_url):
    pipeline.start("work routes")
    pipeline.start("serve redirector", TURNOUT_REDIS_URL="unix:///nowhere.sock")
    wait_until_sync(lambda: pipeline.get("/c/l1", method="HEAD")[2], because="link l1 is live")
    pipeline.click(200)
    pipeline.kill("serve redirector")
    volume = tmp_path / "volume"
    shutil.move(pipeline.directory / "journal", volume)
    pipeline.start("work clicks")
    pipeline.start("work conversions")
    code, out, err = pipeline.turnout("drain", str(volume), "--json")
    assert code == 0, err
    assert '"open":0' in out.replace(" ", "")
    pipeline.settle()


def test_replaying_the_kept_journal_doubles_nothing(pipeline):
    pipeline.start_all()
    pipeline.click(200)
    pipeline.settle()
    code, _, err = pipeline.turnout("replay", "--since", "1h")
    assert code == 0, err
    wait_until_sync(lambda: pipeline.query("SELECT sum(redelivered) AS n FROM boots")[0]["n"] >= 200)
    pipeline.settle()


def test_a_drain_after_its_partition_was_dropped_revives_nothing(pipeline, tmp_path):
    """Clicks of a day whose partition retention dropped are accounted as expired: no row, no rollup."""
    pipeline.start("work routes")
    pipeline.start("serve redirector", PYTHONPATH=time_shift(tmp_path, -20 * 86400), TURNOUT_REDIS_URL="unix:///nowhere.sock")
    wait_until_sync(lambda: pipeline.get("/c/l1", method="HEAD")[2], because="link l1 is live")
    pipeline.click(100)
    pipeline.kill("serve redirector")
    pipeline.start("work clicks", TURNOUT_CLICK_RETENTION_DAYS="10")
    pipeline.start("work conversions")
    pipeline.start("work keeper", TURNOUT_CLICK_RETENTION_DAYS="10")
    wait_until_sync(lambda: pipeline.query("SELECT FROM installation WHERE key = 'retention_floor'"), because="the keeper dropped old days")
    code, _, err = pipeline.turnout("drain", str(pipeline.directory))
    assert code == 0, err
    assert not pipeline.stored()
    (row,) = pipeline.query("SELECT sum(rejected) AS rejected, sum(stored) AS stored FROM boots")
    assert row["rejected"] >= 100
    assert row["stored"] == 0
    assert pipeline.query("SELECT coalesce(sum(total), 0) AS n FROM click_stats")[0]["n"] == 0


def test_no_key_without_an_end_but_the_listed_ones(pipeline):
    pipeline.start_all()
    pipeline.click(80)
    pipeline.settle()
    client = pipeline.redis()
    listed = {wire.stream_key(kind, 0).encode() for kind in ("clicks", "conversions")}
    assert {key for key in client.scan_iter() if client.ttl(key) == -1} == listed
