"""`turnout tail`: each click and conversion once, whatever commits when; harmless on a terminal; a clean end."""

import asyncio
import fcntl
import itertools
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests import launcher
from tests.integration.conftest import database_url
from tests.integration.pipeline import ROOT, environment_without_settings, make_programme
from tests.wait import wait_until, wait_until_sync
from tracker.adapters import postgres_tail
from tracker.adapters.postgres_pool import database
from tracker.adapters.postgres_tail import Choice, Tail
from tracker.domain import click_id

pytestmark = pytest.mark.integration

CLICK = """
    INSERT INTO clicks (click_id, clicked_at, kind, method, host, url, link, partner, campaign, advertiser, creative, outcome, verdict,
        rule_version, counted, redirected_to, ip, country, network, device, os, browser, user_agent, referrer, language, truncated,
        node, boot, seq, stored_at)
    SELECT r.id, click_id_time(r.id), 'click', 'GET', 'go.example', $2, l.id, l.partner_id, l.campaign_id, l.advertiser_id, '',
        CASE WHEN l.id IS NULL THEN 'unknown' ELSE 'ok' END, 'valid', 1, true, '', '', 'FR', '', 'desktop', '', '', '', '', '', false,
        'n', gen_random_uuid(), 1, now() - $4::interval
    FROM unnest($1::uuid[]) AS r(id) LEFT JOIN links l ON l.slug = $3
""".replace("click_id_time(r.id)", "to_timestamp(('x' || substr(replace(r.id::text, '-', ''), 1, 12))::bit(48)::bigint / 1000.0)")
CONVERSION = """
    INSERT INTO conversions (id, advertiser_id, goal, txid, postback_id, status, converted_at, received_at, amount_micros, currency,
        payout_micros, payout_currency, attribution, link, partner, campaign, country, device)
    SELECT $1, l.advertiser_id, 'sale', $2, $1, 'approved', now(), now(), 49900000, 'EUR', 4990000, 'EUR', 'click', l.id, l.partner_id,
        l.campaign_id, 'FR', 'mobile'
    FROM links l WHERE l.slug = 'l1'
"""
NOW = timedelta()
NASTY = "\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\u202egnp.exe\r\n"


_MADE = itertools.count()


def new_id(age=NOW):
    """Those of one millisecond are in the order in which they were made."""
    ms = time.time_ns() // 1_000_000 - age // timedelta(milliseconds=1)
    return UUID(bytes=click_id.compose(ms, os.urandom(8) + (next(_MADE) % 4096).to_bytes(2, "big")))  # the last 12 bits sort first


def text_of(number):
    return click_id.to_text(number.bytes).decode()


@asynccontextmanager
async def connected(dsn):
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def put_click(connection, number=None, *, url="/c/l1", link="l1", stored_before=NOW):
    number = number or new_id()
    await connection.execute(CLICK, [number], url, link, stored_before)
    return text_of(number)


async def put_conversion(connection, txid="T1"):
    number = new_id()
    await connection.execute(CONVERSION, number, txid)
    return str(number)


@pytest.fixture
async def programme(dsn):
    await make_programme(dsn)
    return dsn


@pytest.fixture
async def opened(programme):
    async with database(programme, name="test") as found:
        yield found


@pytest.fixture
async def writer(programme):
    async with connected(programme) as connection:
        yield connection


def ids(events):
    return [event["id"] for event in events]


# -- what is told


async def test_a_click_of_an_earlier_id_that_commits_later_is_told_exactly_once(programme, opened, writer):
    tail = Tail(opened, Choice())
    await tail.last(10)
    async with connected(programme) as slow:
        transaction = slow.transaction()
        await transaction.start()
        early = await put_click(slow)
        late = await put_click(writer)
        assert ids(await tail.fresh()) == [late]
        assert await tail.fresh() == []
        await transaction.commit()
    assert ids(await tail.fresh()) == [early]
    assert await tail.fresh() == []


async def test_what_was_on_its_way_at_the_start_is_told_and_what_was_there_is_not_told_again(programme, opened, writer):
    there = [await put_click(writer) for _ in range(3)]
    async with connected(programme) as slow:
        transaction = slow.transaction()
        await transaction.start()
        early = await put_click(slow, new_id(timedelta(seconds=5)))
        tail = Tail(opened, Choice())
        assert ids(await tail.last(2)) == there[-2:]
        await transaction.commit()
    assert ids(await tail.fresh()) == [early]
    assert await tail.fresh() == []


async def test_a_click_stored_minutes_after_it_happened_is_told_once(opened, writer):
    tail = Tail(opened, Choice())
    await tail.last(0)
    late = await put_click(writer, new_id(timedelta(minutes=10)))
    told = []

    async def is_told():
        told.extend(ids(await tail.fresh()))
        return late in told

    await wait_until(is_told)
    newer = await put_click(writer, new_id(timedelta(minutes=9)))
    await wait_until(lambda: _extended(told, tail, newer))
    assert told == [late, newer]


async def _extended(told, tail, wanted):
    told.extend(ids(await tail.fresh()))
    return wanted in told


async def test_ids_are_forgotten_when_they_cannot_turn_up_again(opened, writer):
    tail = Tail(opened, Choice())
    await tail.last(0)
    told = await put_click(writer, stored_before=postgres_tail.TRANSACTION_MAX - timedelta(seconds=4))
    assert ids(await tail.fresh()) == [told]
    assert tail.remembered == 1
    again = []

    async def is_forgotten():
        again.extend(await tail.fresh())
        return tail.remembered == 0

    await wait_until(is_forgotten)
    assert again == []


async def test_more_clicks_than_a_page_are_all_told_in_order(opened, writer):
    tail = Tail(opened, Choice())
    await tail.last(10)
    numbers = sorted(new_id() for _ in range(2 * postgres_tail.PAGE + 7))
    await writer.execute(CLICK, numbers, "/c/l1", "l1", NOW)
    assert ids(await tail.fresh()) == [text_of(number) for number in numbers]
    assert await tail.fresh() == []


async def test_the_last_ones_are_the_newest_of_both_kinds(opened, writer):
    await put_click(writer, new_id(timedelta(hours=3)))
    first = await put_click(writer, new_id(timedelta(minutes=2)))
    second = await put_conversion(writer)
    found = await Tail(opened, Choice()).last(2)
    assert [(event["kind"], event["id"]) for event in found] == [("click", first), ("conversion", second)]
    assert len(await Tail(opened, Choice()).last(10)) == 3
    assert ids(await Tail(opened, Choice(("conversion",))).last(10)) == [second]


async def test_only_what_was_chosen_is_told(opened, writer):
    choice = await postgres_tail.choose(opened, ("click",), {"partner": "blog", "campaign": None, "link": "l2"})
    tail = Tail(opened, choice)
    await tail.last(10)
    wanted = await put_click(writer, link="l2")
    await put_click(writer, link="l1")
    await put_conversion(writer)
    assert ids(await tail.fresh()) == [wanted]


async def test_no_partition_before_the_bound_is_looked_at(writer):
    at = datetime.now(UTC) - postgres_tail.LONG_REACH
    for sql, rest in ((postgres_tail.LAST_CLICKS, [10]), (postgres_tail.STORED_CLICKS, [at, 10])):
        plan = "\n".join(row[0] for row in await writer.fetch(f"EXPLAIN {sql}", click_id.floor(at), None, None, None, *rest))
        yesterday, today = (f"clicks_{day:%Y%m%d}" for day in (at - timedelta(days=1), at))
        assert today in plan
        assert yesterday not in plan
        assert "clicks_edge_low" not in plan


# -- the command


class Command:
    """A running `turnout tail`, its lines gathered as they come."""

    def __init__(self, dsn, directory, *arguments):
        environment = environment_without_settings() | {"TURNOUT_DATABASE_URL": dsn, "PYTHONPATH": str(ROOT), "TZ": "Asia/Kolkata"}
        environment["PYTHONUNBUFFERED"] = ""  # each line must be flushed by itself
        words = ["-m", "tracker", "tail", *arguments]
        self.process = launcher.launch(words, env=environment, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.lines, self.errors = [], []
        pairs = ((self.process.stdout, self.lines), (self.process.stderr, self.errors))
        self._readers = [threading.Thread(target=gather, args=pair) for pair in pairs]
        for reader in self._readers:
            reader.start()

    def line(self, number):
        return wait_until_sync(lambda: self.lines[number] if len(self.lines) > number else None)

    def end(self, number):
        self.process.send_signal(number)
        return self.process.wait(20)

    def close(self):
        self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join()


def gather(stream, lines):
    with stream:
        for line in stream:
            lines.append(line)


@pytest.fixture
def start(programme, tmp_path):
    started = []

    def make(*arguments):
        started.append(Command(programme, tmp_path, *arguments))
        return started[-1]

    yield make
    for command in started:
        command.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_events_appear_as_json_lines_until_a_signal_ends_it(start, writer, number):
    there = await put_click(writer)
    command = start("--json")
    assert json.loads(command.line(0))["id"] == there
    wanted = [await put_click(writer, link="l3"), await put_conversion(writer, "ORDER 1")]
    found = sorted((json.loads(command.line(at)) for at in (1, 2)), key=lambda event: event["kind"])
    click, conversion = found
    assert [click["id"], conversion["id"]] == wanted
    assert (click["kind"], click["partner"], click["campaign"], click["link"], click["country"]) == ("click", "blog", "spring", "l3", "FR")
    assert (conversion["txid"], conversion["amount"], conversion["currency"], conversion["payout"]) == ("ORDER 1", "49.90", "EUR", "4.99")
    assert click["at"].endswith("Z")
    assert command.end(number) == 0
    assert command.errors == []


async def test_a_line_tells_it_all_to_people(start, writer):
    number = await put_conversion(writer, "ORDER-7")
    words = start().line(0).decode().split()
    assert words[1].endswith("+05:30")
    assert words[2:7] == ["conversion", "blog", "spring/l1", "FR", "mobile"]
    assert words[7:] == ["approved", "49.90", "EUR", "+", "4.99", "EUR", number, "ORDER-7"]


async def test_nothing_from_outside_drives_the_terminal(start, writer):
    await put_click(writer, url=f"/{NASTY}", link="nobody's")
    await put_conversion(writer, NASTY)
    for arguments in ((), ("--json",)):
        command = start(*arguments)
        shown = (command.line(0) + command.line(1)).decode()
        assert shown.count("\n") == 2
        assert not [character for character in shown if character != "\n" and (not character.isprintable() and character != "\ufffd")]
    events = {event["kind"]: event for event in map(json.loads, command.lines)}
    assert events["click"]["url"] == f"/{NASTY}"
    assert events["conversion"]["txid"] == NASTY


async def test_it_ends_with_its_reader_even_when_nothing_happens(programme, tmp_path, writer):
    await put_click(writer)
    environment = environment_without_settings() | {"TURNOUT_DATABASE_URL": programme, "PYTHONPATH": str(ROOT)}
    script = f"set -o pipefail; '{sys.executable}' -m tracker tail | head -1"
    done = await asyncio.to_thread(
        subprocess.run, ["bash", "-c", script], env=environment, cwd=tmp_path, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.count(b"\n"), done.stderr) == (0, 1, b"")


def pending_bytes(stream):
    return int.from_bytes(fcntl.ioctl(stream, termios.FIONREAD, bytes(4)), sys.byteorder)


async def test_a_signal_ends_it_while_its_reader_reads_nothing(programme, tmp_path, writer):
    await writer.execute(CLICK, [new_id() for _ in range(1000)], "/c/l1", "l1", NOW)
    environment = environment_without_settings() | {"TURNOUT_DATABASE_URL": programme, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tracker", "tail", "--json", "-n", "1000"]
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE) as process:
        wait_until_sync(lambda: pending_bytes(process.stdout) > 60_000, because="the pipe is full")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


@pytest.mark.parametrize(("variables", "has_colour"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
async def test_a_terminal_gets_colours_if_it_wants_them(programme, tmp_path, writer, variables, has_colour):
    await put_conversion(writer)
    environment = environment_without_settings() | {"TURNOUT_DATABASE_URL": programme, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    environment.pop("NO_COLOR", None)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "tracker", "tail"]
    with subprocess.Popen(command, env=environment | variables, cwd=tmp_path, stdout=theirs) as process, open(ours, "rb", 0) as screen:
        os.close(theirs)
        shown = b""
        while not shown.endswith(b"\n"):
            shown += screen.read(1)
        process.terminate()
        assert process.wait(20) == 0
    assert (b"\x1b[32m" in shown) is has_colour


async def test_an_outage_is_told_once_and_waited_out(start, programme, servers, writer):
    there = await put_click(writer)
    command = start("--json")
    assert json.loads(command.line(0))["id"] == there
    name = urlsplit(programme).path.lstrip("/")
    away = f"away_{uuid4().hex}"
    await writer.close()
    async with connected(database_url(servers.dsn, "postgres")) as admin:
        await end_sessions(admin, name)
        await wait_until(lambda: renamed(admin, name, away))
        wait_until_sync(lambda: command.errors)
        await wait_until(lambda: renamed(admin, away, name))
    wait_until_sync(lambda: len(command.errors) == 2)
    async with connected(programme) as again:
        wanted = await put_click(again)
    assert json.loads(command.line(1))["id"] == wanted
    assert command.errors[0].startswith(b"waiting: PostgreSQL")
    assert command.errors[1:] == [b"PostgreSQL is back\n"]
    assert command.end(signal.SIGTERM) == 0


async def end_sessions(admin, name):
    await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)


async def renamed(admin, name, other):
    try:
        await admin.execute(f'ALTER DATABASE "{name}" RENAME TO "{other}"')
    except asyncpg.ObjectInUseError:
        await end_sessions(admin, name)
        return False
    return True


@pytest.mark.parametrize("thing", ["partner", "campaign", "link"])
async def test_a_slug_that_names_nothing_is_wrong_usage(start, thing):
    command = start(f"--{thing}", "nobody")
    assert command.process.wait(30) == 2
    wait_until_sync(lambda: command.errors)
    assert command.errors[0].decode() == f"error: there is no {thing} 'nobody'\n"
