"""The demo's month: planned the same each time, sent through the real pipeline, in the books once whatever ends it half-way."""

import asyncio
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import orjson
import pytest

from tests import launcher
from tests.integration.pipeline import ROOT, Pipeline, environment_without_settings
from tests.ports import free_port
from tests.wait import wait_until_sync
from tracker.adapters.user_agents import is_bot
from tracker.data_dir import DataDir
from tracker.domain import click_id
from tracker.local import demo_history, demo_plan
from tracker.local.demo_programme import ADVERTISERS, ALIASES, CAMPAIGNS, LINKS, PARTNERS, Programme
from tracker.local.postgres import EmbeddedPostgres
from tracker.settings import Settings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

SEND = """
import asyncio
from tracker.local import demo_history
from tracker.local.demo_programme import Programme
from tracker.settings import load
settings = load()
asyncio.run(demo_history.send(settings, Programme(settings).tokens, asyncio.Event()))
"""
DAY_OF = "(%s AT TIME ZONE 'UTC')::date"


# -- the plan


def test_the_month_is_the_same_whenever_it_is_planned_and_ends_at_its_instant():
    until = datetime(2026, 3, 9, 13, 30, tzinfo=UTC)
    month = demo_plan.month(date(2026, 2, 7), until)
    assert month == demo_plan.month(date(2026, 2, 7), until)
    longer = demo_plan.month(date(2026, 2, 7), until + timedelta(days=1))
    assert {visit.click_id for visit in month.visits} < {visit.click_id for visit in longer.visits}
    assert max(visit.at_us for visit in month.visits) < until.timestamp() * 1e6
    assert max(report.at for report in month.reports) < until.timestamp()
    later = demo_plan.month(date(2026, 2, 9), until)
    assert {visit.click_id for visit in later.visits} < {visit.click_id for visit in month.visits}


def test_the_month_looks_like_one():
    month = demo_plan.month(date(2026, 2, 7), datetime(2026, 3, 9, 12, tzinfo=UTC))
    orders = {report.fields["txid"] for report in month.reports}
    assert 5_000 < len(month.visits) < 10_000
    assert 150 < len(orders) < 300
    assert len({visit.click_id for visit in month.visits}) == len(month.visits)
    hours = Counter(click_id.moment(visit.click_id).hour for visit in month.visits)
    assert 4 * min(hours.values()) < max(hours.values())
    assert max(hours, key=hours.__getitem__) in range(17, 22)
    clicks = {visit.click_id: visit for visit in month.visits}
    for report in month.reports:
        if "click_id" in report.fields:
            clicked_at_us = clicks[click_id.from_text(report.fields["click_id"])].at_us
            assert clicked_at_us < report.at * 1_000_000 < clicked_at_us + 14 * 86_400_000_000
    assert {report.fields["status"] for report in month.reports} == {"approved", "pending", "rejected", "reversed"}


def test_the_programme_is_what_was_promised():
    assert [len(things) for things in (ADVERTISERS, CAMPAIGNS, PARTNERS, LINKS, ALIASES)] == [2, 3, 5, 12, 2]
    assert {partner.get("parent") for partner in PARTNERS} == {None, "demo-network"}


# -- sent through the real thing


class Demo(Pipeline):
    """An installation's parts, its programme made."""

    def __init__(self, directory, dsn, redis_url):
        self.tracker_port = free_port()
        super().__init__(directory, dsn, redis_url, TURNOUT_TRACKER_PORT=str(self.tracker_port), TURNOUT_ADMIN_KEY="demo-test-key")
        self.settings = Settings(
            data_dir=str(directory), database_url=dsn, redis_url=redis_url, tracker_port=self.tracker_port,
            redirector_port=self.port, admin_key="demo-test-key", _env_file=None,
        )  # fmt: skip

    def start_parts(self):
        directory = self.settings.directory
        directory.create()
        for name in ("work routes", "work clicks", "serve tracker", "serve redirector"):
            self.start(name)
        wait_until_sync(lambda: self.get("/-/readyz")[0] == 200)
        programme = Programme(self.settings)
        wait_until_sync(lambda: made(programme), every_s=0.3, because="the tracker answers")

    def send(self, **environment):
        """Exit code of a process that sends what is missing."""
        env = environment_without_settings() | self._settings | environment | {"PYTHONPATH": str(ROOT)}
        return launcher.run(["-c", SEND], env=env, stdout=self._log, stderr=self._log, timeout=150).returncode

    def state(self):
        (row,) = self.query("SELECT value FROM installation WHERE key = 'demo_history'")
        return orjson.loads(row["value"])

    def planned(self):
        until = datetime.fromisoformat(self.state()["until"])
        return demo_plan.month(until.date() - timedelta(days=demo_plan.DAYS), until)

    def count(self, sql):
        return {row[0]: row[1] for row in self.query(sql)}

    def check_month(self):
        """Tables, rollups and books hold the month, each click and order once."""
        month = self.planned()
        assert sorted(row["click_id"].bytes for row in self.query("SELECT click_id FROM clicks")) == [
            visit.click_id for visit in month.visits
        ]
        orders = {report.fields["txid"] for report in month.reports}
        assert sorted(row["txid"] for row in self.query("SELECT txid FROM conversions")) == sorted(orders)
        sent = Counter((row["txid"], row["status"]) for row in self.query("SELECT txid, status FROM postbacks"))
        assert sent <= Counter(report.key for report in month.reports)
        code, books = self.audit()
        assert (code, books["state"], books["conversions"]["state"]) == (0, "balanced", "balanced"), books
        assert (books["stored"], books["rejected"], books["duplicate"]) == (len(month.visits), 0, 0), books
        assert books["accepted"] == books["stored"] + books["unrecorded"], books  # unrecorded: killed before they were written
        assert {node["node"] for node in books["nodes"] if node["accepted"]} == {"demo"}


def made(programme):
    try:
        programme.make()
    except OSError:
        return False
    return True


@pytest.fixture
def demo(tmp_path, dsn, redis_url):
    built = Demo(tmp_path / "data", dsn, redis_url)
    built.start_parts()
    yield built
    built.close()


def days_of(visits):
    return Counter(click_id.moment(visit.click_id).date() for visit in visits)


def is_counted(visit):
    return visit.method == "GET" and not visit.is_prefetch and not is_bot(visit.user_agent)


def test_each_day_is_in_clicks_and_rollups_as_planned_and_a_second_run_sends_nothing(demo):
    assert demo.send() == 0
    demo.check_month()
    visits = demo.planned().visits
    planned, counted = days_of(visits), days_of(filter(is_counted, visits))
    assert len(planned) in (demo_plan.DAYS, demo_plan.DAYS + 1)  # just after midnight today may be empty
    bucket, clicked = DAY_OF % "bucket", DAY_OF % "clicked_at"
    assert demo.count(f"SELECT {clicked}, count(*) FROM clicks GROUP BY 1") == planned
    assert demo.count(f"SELECT {clicked}, count(*) FROM clicks WHERE counted GROUP BY 1") == counted
    assert demo.count(f"SELECT {bucket}, sum(total) FROM click_stats GROUP BY 1") == planned
    assert demo.count(f"SELECT {bucket}, sum(clicks) FROM click_stats GROUP BY 1") == counted
    assert demo.count("SELECT day, sum(total) FROM daily_stats GROUP BY 1") == planned
    assert demo.count("SELECT 'low', count(*) FROM clicks_edge_low") == {"low": 0}
    assert demo.count("SELECT 'high', count(*) FROM clicks_edge_high") == {"high": 0}
    boots, postbacks = (demo.query(f"SELECT count(*) FROM {table}") for table in ("boots", "postbacks"))
    assert demo.send() == 0
    assert [demo.query(f"SELECT count(*) FROM {table}") for table in ("boots", "postbacks")] == [boots, postbacks]


def test_clicks_and_orders_of_the_month_are_of_their_own_time_and_marked(demo):
    assert demo.send() == 0
    (found,) = demo.query(
        "SELECT count(*) FILTER (WHERE click_id_floor(clicked_at) <> (substr(click_id::text, 1, 13) || '-0000-0000-000000000000')::uuid)"
        " AS odd, count(*) FILTER (WHERE node <> 'demo') AS unmarked, count(DISTINCT country) AS countries,"
        " count(DISTINCT device) AS devices, count(DISTINCT partner) AS partners, count(DISTINCT link) AS links,"
        " count(*) FILTER (WHERE sub1 IS NOT NULL) AS labelled, count(*) FILTER (WHERE host = 'go.old-brand.example') AS old,"
        " array_agg(DISTINCT verdict) AS verdicts, array_agg(DISTINCT outcome) AS outcomes FROM clicks"
    )
    assert (found["odd"], found["unmarked"], found["partners"], found["links"]) == (0, 0, 4, 12)
    assert found["countries"] >= 5
    assert found["devices"] >= 4
    assert found["labelled"] > found["old"] > 100
    assert sorted(found["verdicts"]) == ["bot", "head", "prefetch", "valid"]
    assert sorted(found["outcomes"]) == ["ok", "unknown"]
    first = {}
    for report in demo.planned().reports:
        first.setdefault(report.fields["txid"], report)
    for row in demo.query("SELECT txid, converted_at, parameters ->> 'demo' AS demo, partner, payout_micros, attribution FROM conversions"):
        assert row["converted_at"].timestamp() == first[row["txid"]].at
        assert row["demo"] == "1"
        assert row["partner"] is not None
        assert row["payout_micros"] > 0
        assert row["attribution"] == ("coupon" if "coupon" in first[row["txid"]].fields else "click")


@pytest.mark.parametrize("point", ["demo_history.journaled:35", "shipper.after_xadd:3", "demo_history.reported:60"])
def test_killed_half_way_and_sent_again_each_click_and_order_is_there_once(demo, point):
    assert demo.send(TURNOUT_INTERNAL_CRASH_AT=point) == -signal.SIGKILL
    assert not demo.state()["is_sent"]
    assert demo.send() == 0
    assert demo.state()["is_sent"]
    wait_until_sync(lambda: demo.look_at_books()["state"] == "balanced", every_s=0.2)
    demo.check_month()


class OnceJournaled(asyncio.Event):
    """An order to stop that comes when the first clicks are in the journal."""

    def __init__(self, journal):
        super().__init__()
        self._journal = journal
        self._before = self._bytes()

    def _bytes(self):
        return sum(path.stat().st_size for path in self._journal.glob("slot-*/*.seg"))

    def is_set(self):
        if self._bytes() > self._before:
            self.set()
        return super().is_set()


async def test_an_order_to_stop_is_obeyed_and_the_month_is_finished_later(demo):
    stop = OnceJournaled(demo.settings.directory.journal("clicks"))
    await asyncio.wait_for(demo_history.send(demo.settings, Programme(demo.settings).tokens, stop), 60)
    closed = "SELECT accepted FROM boots WHERE node = 'demo' AND closed_seq IS NOT NULL"
    ((accepted,),) = await asyncio.to_thread(wait_until_sync, lambda: demo.query(closed))
    assert 0 < accepted < len((await asyncio.to_thread(demo.planned)).visits)
    assert not (await asyncio.to_thread(demo.state))["is_sent"]
    assert await asyncio.to_thread(demo.send) == 0
    await asyncio.to_thread(demo.check_month)


# -- as people meet it


class Up:
    """`turnout up --demo` on a data directory of its own, started again as often as wanted."""

    def __init__(self, directory):
        self.directory, self.log = directory / "data", directory / "up.err"
        ports = ("REDIRECTOR", "TRACKER", "WORKER_METRICS")
        self._environment = environment_without_settings() | {f"TURNOUT_{port}_PORT": str(free_port()) for port in ports}
        self._environment["PYTHONPATH"] = str(ROOT)
        self.process = None

    def start(self):
        command = [sys.executable, "-m", "tracker", "up", "--demo", "--data-dir", str(self.directory)]
        with self.log.open("ab") as errors:
            self.process = subprocess.Popen(command, env=self._environment, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert self.process.stdout.readline() == "ready\n", self.log.read_text()[-3000:]
        return printed_lines(self.process.stdout)

    def stop(self):
        self.process.terminate()
        code = self.process.wait(60)
        self.process.stdout.close()
        self.process = None
        return code


@pytest.fixture
def up(tmp_path):
    built = Up(tmp_path)
    yield built
    if built.process is not None:
        built.stop()
    EmbeddedPostgres(DataDir.at(built.directory)).remove()
    shutil.rmtree(DataDir.at(built.directory).sockets, ignore_errors=True)


def printed_lines(page):
    """The commands of the page, in their order."""
    lines = []
    for line in page:
        if line.startswith("  "):
            lines.append(line.strip())
        if "/-/metrics" in line:
            return lines
    raise AssertionError("the page has no end")


def run(line, **variables):
    script = f"set -eo pipefail\n{line}"
    environment = environment_without_settings() | {"PYTHONPATH": str(ROOT)} | variables
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 0, (line, done.stdout, done.stderr)
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page is for people who have curl")
def test_every_printed_line_works_as_printed_and_the_next_start_goes_on(up):
    click, old, read, explain, orphans, mapping, order, again, partners, days, tail, books, audit, metrics = up.start()
    number = run(f"{click}\necho $CLICK").strip()
    assert click_id.from_text(number)
    assert "302 Found" in run(old)
    assert "https://shoes.example/spring" in run(old)
    assert "https://shoes.example/outlet?src=demo-video" in run(read)
    assert "demo-video for campaign demo-outlet" in run(explain)
    key = (up.directory / "admin.key").read_text().strip()
    tracker = order.partition("http://")[2].partition("/")[0]
    wait_until_sync(lambda: '"outcome"' in run(f"curl -H 'Authorization: Bearer {key}' 'http://{tracker}/api/v1/clicks/{number}'"))
    first, repeat = (orjson.loads(run(line, CLICK=number)) for line in (order, again))
    assert (first["status"], first["duplicate"], repeat["duplicate"]) == ("attributed", False, True)
    wait_until_sync(lambda: "demo_history.sent" in up.log.read_text(), within_s=90)
    wait_until_sync(lambda: "1999" in run(orphans), within_s=60, because="the month's orphans are stored")
    assert re.search(r"mapped; [1-9]\d* of \d+ orphan clicks are attributed", run(mapping))
    assert "1999" not in run(orphans)
    rows = orjson.loads(run(partners))["rows"]
    assert {row["partner"] for row in rows} >= {"demo-blog", "demo-video", "demo-coupons", "demo-mail"}
    assert len(set(re.findall(r"^\d{4}-\d\d-\d\d", run(days), re.MULTILINE))) >= demo_plan.DAYS
    assert len(run(f"{tail} | head -3").splitlines()) == 3
    wait_until_sync(lambda: orjson.loads(run(books))["state"] == "balanced", every_s=0.3)
    assert "balanced" in run(audit)
    shown = run(metrics)
    assert all(name in shown for name in ("turnout_redirects_total", "turnout_postbacks_total", "turnout_worker_up"))
    assert up.stop() == 0
    assert len(up.start()) == 14
    assert up.log.read_text().count('"demo_history.sending"') == 1
    assert up.stop() == 0
