"""The tee: every report reaches the old platform at least once, byte for byte, whatever that platform, a sender or a setting does."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from uuid import UUID, uuid4

import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from tests.integration.pipeline import Pipeline
from tests.integration.test_outbound import NOBODY
from tests.wait import wait_until
from tracker.adapters.outbound import Outbound
from tracker.adapters.postgres_pool import database
from tracker.adapters.postgres_tee import TeeOutbox, enqueue
from tracker.cli.main import app
from tracker.domain.old_reports import OldReport
from tracker.platforms.loader import Shelf
from tracker.platforms.replies import Answer
from workers.keeper import Keeper
from workers.metrics import StorageMetrics, TeeMetrics
from workers.tee import Origins, TeeSender

pytestmark = pytest.mark.integration
LOCAL = (ip_network("127.0.0.0/8"),)
SHELF = Shelf()
ACCEPTED = Answer(200, "text/plain", b"SUCCESS")  # in the words of CAKE
ALL = "SELECT * FROM tee_deliveries ORDER BY received_at"
# Retries of the first 30 s are due now; what somebody has claimed stays claimed.
HURRY = "UPDATE tee_deliveries SET next_try_at = now() WHERE state = 'waiting' AND next_try_at < now() + interval '40 seconds'"
LEASES_RUN_OUT = "UPDATE tee_deliveries SET next_try_at = now() WHERE state = 'waiting'"
OPEN = "SELECT count(*) FROM tee_deliveries WHERE state = 'waiting'"


@dataclass
class OldPlatform:
    """Plays the old platform on 127.0.0.1. `plan`: what it does at each try of a report, by its number, before it answers `reply`."""

    plan: dict[bytes, list[str]] = field(default_factory=dict)
    reply: bytes = b"SUCCESS"
    refused: tuple[bytes, ...] = ()
    always: str = ""
    port: int = 0
    connections: int = 0
    requests: list[tuple[bytes, bytes]] = field(default_factory=list)  # number of the report, what was sent

    @property
    def address(self):
        return f"http://127.0.0.1:{self.port}"

    def got(self):
        return Counter(number for number, _ in self.requests)

    async def serve(self, reader, writer):
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next((int(line[16:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: ")), 0)
                sent = head + await reader.readexactly(length)
                number = sent.partition(b"n=")[2][:4]
                self.requests.append((number, sent))
                if not await self._answer(reader, writer, number):
                    return
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    async def _answer(self, reader, writer, number):
        planned = self.plan.get(number, [])
        act = planned.pop(0) if planned else self.always
        match act:
            case "hang":
                await reader.read()  # until the sender has enough of it
                return False
            case "reset":
                writer.transport.abort()
                return False
            case "junk":
                writer.write(b"\x00\x01 this is no HTTP\r\n\r\n")
                return False
            case "500" | "503" | "429":
                writer.write(b"HTTP/1.1 %s No\r\nContent-Length: 4\r\n\r\noops" % act.encode())
            case _:
                body = b"FAILURE: unknown click" if number in self.refused else self.reply
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        return True


@asynccontextmanager
async def playing(**how):
    platform = OldPlatform(**how)
    server = await asyncio.start_server(platform.serve, "127.0.0.1", 0)
    platform.port = server.sockets[0].getsockname()[1]
    try:
        yield platform
    finally:
        server.close()


@pytest.fixture
async def opened(dsn):
    async with database(dsn, name="test", size=6) as connections:
        yield connections


def report(number, **changes):
    fields = {
        "postback_id": uuid4().bytes,
        "received_at_us": int(datetime.now(UTC).timestamp() * 1e6) + number,
        "kind": "postback",
        "platform": "cake",
        "method": "GET",
        "host": b"go.old.example",
        "target": b"/p.ashx?n=%04d&r=%%7e" % number,
    }
    return OldReport(**fields | changes)


async def put(connections, address, *reports):
    async def work(connection):
        for one in reports:
            await enqueue(connection, one, origin=address, source="brand", reply=ACCEPTED)

    await connections.transaction(work)


@asynccontextmanager
async def sending(connections, *, allow=LOCAL, timeout_s=20.0, first_s=0.2):
    """A sender that runs for the time of the block, its counts in `metric`; cancelled, if it goes on, as a kill would."""
    registry, stop, outbound = CollectorRegistry(), asyncio.Event(), Outbound(allow, tls=NOBODY)
    sender = TeeSender(TeeOutbox(connections), outbound, SHELF, TeeMetrics(registry), origins=Origins(first_s=first_s), timeout_s=timeout_s)
    task = asyncio.create_task(sender.run(stop))
    sender.metric = lambda name, **labels: registry.get_sample_value(f"turnout_tee_{name}", labels) or 0
    sender.task, sender.stop = task, stop
    try:
        yield sender
        if not task.done():
            stop.set()
            await asyncio.wait_for(task, 30)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await outbound.close()


async def emptied(connections, *, hurry=True):
    async def is_empty():
        async with connections.connection() as connection:
            if hurry:
                await connection.execute(HURRY)
            return await connection.fetchval(OPEN) == 0

    await wait_until(is_empty, within_s=60, every_s=0.1, because="nothing waits")


SHAPES = (
    {"method": "GET", "target": b"//p.ashx;v=1?n=%04d&a=%%7e&b=x+y&c=|&&d=%%zz&e='\"{}"},
    {"method": "POST", "target": b"/p.ashx?n=%04d", "content_type": b"application/x-www-form-urlencoded", "body": b"a=1&b=%ff\xff\x00"},
    {"method": "POST", "target": b"/p.ashx?n=%04d&empty", "content_type": b'application/json; x="y"', "body": b""},
    {"method": "GET", "target": b"/a/../p.ashx?n=%04d", "kind": "pixel", "cookie": b"cid=7; x=\xe9", "user_agent": b"Mozilla/5.0 (\xe9)"},
)
ACTS = ([], ["500"], ["reset"], ["503", "junk"], ["429", "reset", "500"], ["hang"])


async def test_every_report_arrives_at_least_once_byte_for_byte_and_both_answers_are_kept(opened):
    reports = [report(n, **SHAPES[n % 4] | {"target": SHAPES[n % 4]["target"] % n}) for n in range(48)]
    plan = {b"%04d" % n: list(ACTS[n % 6]) for n in range(48)}
    refused = tuple(b"%04d" % n for n in (5, 8, 40))
    async with playing(plan={key: list(acts) for key, acts in plan.items()}, refused=refused) as old:
        await put(opened, old.address, *reports)
        async with sending(opened, timeout_s=1.5) as sender:
            await emptied(opened)
        host = b"Host: 127.0.0.1:%d" % old.port
    rows = await opened.fetch(ALL)
    assert {row["state"] for row in rows} == {"delivered"}
    assert [bytes(row["target"]) for row in rows] == [one.target for one in reports]
    tries = 0
    for n, (one, row) in enumerate(zip(reports, rows, strict=True)):
        number = b"%04d" % n
        asked = [sent for key, sent in old.requests if key == number]
        tries += len(asked)
        assert len(asked) >= len(plan[number]) + 1
        lines = {
            b"GET": [],
            b"POST": [b"Content-Length: %d" % len(one.body)],
        }[one.method.encode()] + [name + value for name, value in (
            (b"Content-Type: ", one.content_type), (b"User-Agent: ", one.user_agent), (b"Cookie: ", one.cookie),
        ) if value]  # fmt: skip
        for sent in asked:
            head, _, body = sent.partition(b"\r\n\r\n")
            first, *others = head.split(b"\r\n")
            assert first == b"%s %s HTTP/1.1" % (one.method.encode(), one.target)
            assert sorted(others) == sorted([host, *lines])
            assert body == one.body
        their_body = b"FAILURE: unknown click" if number in refused else b"SUCCESS"
        assert (row["our_status"], row["our_body"], row["their_status"], row["their_body"]) == (200, b"SUCCESS", 200, their_body)
        assert row["agrees"] is (number not in refused)
    assert sender.metric("deliveries_total", outcome="delivered") == 48
    assert sender.metric("deliveries_total", outcome="retried") == tries - 48
    assert sender.metric("differences_total") == 3


async def test_nothing_reaches_a_private_address_that_nobody_opened(opened, caplog):
    async with playing() as old:
        await put(opened, old.address, *map(report, range(20)))
        await put(opened, f"http://localhost:{old.port}", *map(report, range(20, 30)))
        async with sending(opened, allow=()) as sender:
            await emptied(opened, hurry=False)
        assert old.connections == 0
    rows = await opened.fetch(ALL)
    assert {row["state"] for row in rows} == {"given_up"}
    assert all("TURNOUT_OUTBOUND_ALLOW" in row["error"] for row in rows)
    assert {row["tries"] for row in rows} == {1}
    assert sender.metric("deliveries_total", outcome="given_up") == 30
    assert [record.message for record in caplog.records].count("tee.refused") == 2  # once an origin


async def test_a_sender_that_dies_after_sending_has_it_sent_again_and_nobody_else_meanwhile(opened):
    async with playing(plan={b"0001": ["hang"]}) as old:
        await put(opened, old.address, report(1))
        async with sending(opened) as doomed:
            await wait_until(lambda: old.requests)
            doomed.task.cancel()
            await asyncio.wait([doomed.task])
        (row,) = await opened.fetch(ALL)
        assert (row["state"], row["tries"]) == ("waiting", 1)
        assert row["next_try_at"] > datetime.now(UTC) + timedelta(seconds=20)  # a claim lasts a minute
        assert await TeeOutbox(opened).claim(8) == []
        async with sending(opened):
            await opened.fetch(LEASES_RUN_OUT)
            await emptied(opened, hurry=False)
        assert old.got() == {b"0001": 2}


async def test_a_claim_is_one_senders_alone(opened):
    await put(opened, "http://old.example", *map(report, range(60)))
    claims = await asyncio.gather(*(TeeOutbox(opened).claim(8) for _ in range(10)))
    claimed = [delivery.postback_id for claim in claims for delivery in claim]
    assert len(claimed) == len(set(claimed))
    left = await TeeOutbox(opened).claim(100)
    assert len(claimed) + len(left) == 60


async def test_several_senders_share_the_work_and_send_nothing_twice(opened):
    async with playing() as old:
        await put(opened, old.address, *map(report, range(150)))
        async with sending(opened), sending(opened):
            await emptied(opened, hurry=False)
        assert old.got() == {b"%04d" % n: 1 for n in range(150)}


async def test_what_a_late_sender_stores_moves_nothing_that_another_has_taken(opened):
    outbox = TeeOutbox(opened)
    await put(opened, "http://old.example", report(1))
    (late,) = await outbox.claim(1)
    await opened.fetch(LEASES_RUN_OUT)
    (heir,) = await outbox.claim(1)
    assert (late.tries, heir.tries) == (1, 2)
    assert not await outbox.retry(late, timedelta(0), "late")
    assert not await outbox.give_up(late, "late")
    assert await outbox.claim(1) == []
    assert await outbox.delivered(late, ACCEPTED, agrees=True)  # an answer is an answer
    assert not await outbox.delivered(heir, ACCEPTED, agrees=True)
    assert not await outbox.retry(heir, timedelta(0), "late")


async def test_a_platform_that_is_away_does_not_hold_up_another(opened):
    async with playing(always="hang") as away, playing() as well:
        await put(opened, away.address, *map(report, range(100)))
        await put(opened, well.address, *map(report, range(100, 140)))
        async with sending(opened, timeout_s=0.5, first_s=3600) as sender:
            await wait_until(lambda: len(well.got()) == 40, because="the other platform has all of its own")
            await wait_until(lambda: sender.metric("deliveries_total", outcome="retried") >= 5, because="it is known to be away")
            for n in range(140, 146):  # one after the other, each by a look of its own at what is due
                await put(opened, well.address, report(n))
                await wait_until(lambda number=b"%04d" % n: number in well.got())
            await wait_until(lambda: sender.metric("deliveries_total", outcome="delivered") == 46)
        assert well.got() == {b"%04d" % n: 1 for n in range(100, 146)}
        assert len(away.requests) <= 5 + 8  # five in a row, and what was under way with them
        untried = [row for row in await opened.fetch(ALL) if row["origin"].endswith(str(away.port)) and not row["tries"]]
        assert len(untried) >= 80


async def test_a_platform_that_comes_back_is_asked_by_one_report_and_then_by_all(opened):
    async with playing(always="503") as old:
        await put(opened, old.address, *map(report, range(40)))
        async with sending(opened, first_s=0.5) as sender:
            await wait_until(lambda: sender.metric("deliveries_total", outcome="retried") >= 5)
            old.always = ""
            await emptied(opened)
        assert set(old.got()) == {b"%04d" % n for n in range(40)}


async def test_after_72_hours_it_is_given_up_and_an_operator_has_it_tried_again_where_the_host_forwards_today(opened, api):
    async with playing(always="500") as old:
        await put(opened, old.address, report(1), report(2, host=b"other.example"))
        await opened.fetch("UPDATE tee_deliveries SET first_tried_at = now() - interval '72 hours'")
        async with sending(opened) as sender:
            await emptied(opened, hurry=False)
        assert sender.metric("deliveries_total", outcome="given_up") == 2
    async with playing() as new:
        host = {"host": "go.old.example", "platform": "cake", "forward_to": f"{new.address}/moved"}
        assert (await api.admin("POST", "/api/v1/tracking-hosts", host)).status_code == 201
        (row,) = (await api.admin("GET", "/api/v1/tee?state=given_up&host=go.old.example")).json()["items"]
        assert (row["error"], row["their_status"], row["agrees"]) == ("HTTP 500, for 72 hours", 500, None)
        made = await api.admin("POST", "/api/v1/tee/retry", {"host": "go.old.example", "reason": "it moved"})
        assert made.json() == {"retried": 1, "is_complete": True, "before": made.json()["before"]}
        async with sending(opened):
            await emptied(opened, hurry=False)
        (sent,) = new.requests
        assert sent[1].startswith(b"GET /moved/p.ashx?n=0001&r=%7e HTTP/1.1\r\n")
    (event,) = await opened.fetch("SELECT actor, entity, entity_id, reason, after FROM events WHERE action = 'retry'")
    after = event.pop("after")
    assert event == {"actor": "admin.key", "entity": "tee", "entity_id": "go.old.example", "reason": "it moved"}
    assert after["retried"] == 1
    (left,) = (await api.admin("GET", "/api/v1/tee?state=given_up")).json()["items"]
    assert left["host"] == "other.example"


async def test_what_was_answered_differently_is_sent_again_once_a_call(opened, api):
    async with playing(refused=(b"0001",)) as platform:
        await put(opened, platform.address, report(1), report(2), report(3, host=b"other.example"))
        async with sending(opened):
            await emptied(opened)
        assert await opened.fetch("SELECT agrees FROM tee_deliveries WHERE NOT agrees") == [{"agrees": False}]
        platform.refused = ()
        early = {"differences": True, "before": "2020-01-01T00:00:00Z"}
        assert (await api.admin("POST", "/api/v1/tee/retry", early)).json()["retried"] == 0
        made = await api.admin("POST", "/api/v1/tee/retry", {"host": "GO.old.example:80", "differences": True})
        assert (made.json()["retried"], made.json()["is_complete"]) == (1, True)
        async with sending(opened):
            await emptied(opened)
        assert platform.got() == {b"0001": 2, b"0002": 1, b"0003": 1}
    assert {row["agrees"] for row in await opened.fetch(ALL)} == {True}
    answer = await api.admin("POST", "/api/v1/tee/retry", {"differences": "perhaps"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_differences")


async def test_a_host_that_forwards_to_itself_is_not_sent_round_in_circles(opened):
    await put(opened, "https://go.old.example/", report(1))
    (row,) = await opened.fetch(ALL)
    assert (row["state"], row["error"]) == ("given_up", "the host's forward_to is the host itself")


async def test_an_outbox_row_comes_with_its_transaction_and_once(opened):
    once = report(1)
    await put(opened, "http://old.example", once)
    await put(opened, "http://old.example", once)

    async def undone(connection):
        await enqueue(connection, report(2), origin="http://old.example", source="brand", reply=ACCEPTED)
        raise ValueError("not to be")

    with pytest.raises(ValueError, match="not to be"):
        await opened.transaction(undone)
    assert [row["postback_id"] for row in await opened.fetch(ALL)] == [once.uuid]


async def test_an_outage_of_the_database_ends_no_sender(opened, dsn):
    """Its connections are cut again and again while it claims and stores."""
    cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'turnout doomed'"
    async with database(dsn, name="doomed", size=4) as connections, playing() as old:
        async with sending(connections):
            for n in range(30):
                await put(opened, old.address, report(n))
                await opened.fetch(cut)
            await opened.fetch(LEASES_RUN_OUT)
            await emptied(opened)
        assert set(old.got()) == {b"%04d" % n for n in range(30)}


async def test_reports_are_listed_with_both_answers_and_without_secrets(opened, api):
    body = b"amount=1&security_token=s3cret-token"
    one = report(1, platform="tune", target=b"/aff_lsr?n=0001&transaction_id=t&security_token=s3cret-token")
    two = report(2, platform="tune", method="POST", content_type=b"application/x-www-form-urlencoded", body=body, user_agent=b"shop")
    async with playing(reply=b"SUCCESS of s3cret-token") as old:
        await put(opened, old.address, one, two)
        async with sending(opened) as sender:
            await emptied(opened)
            await sender.watch()
        assert sender.metric("waiting") == 0
    found = (await api.admin("GET", "/api/v1/tee?limit=1")).json()
    assert [row["postback_id"] for row in found["items"]] == [str(two.uuid)]
    rest = (await api.admin("GET", f"/api/v1/tee?limit=1&cursor={found['next_cursor']}")).json()
    assert rest["next_cursor"] is None
    assert rest["items"][0]["url"] == f"{old.address}/aff_lsr?n=0001&transaction_id=t&security_token=***"
    differing = (await api.admin("GET", "/api/v1/tee?differences=true")).json()["items"]
    assert [row["postback_id"] for row in differing] == []  # TUNE has no such words: 200 accepts
    shown = (await api.admin("GET", f"/api/v1/tee/{two.uuid}")).json()
    assert (shown["body"], shown["our_body"]) == ("amount=1&security_token=***", "SUCCESS")
    assert (await api.admin("GET", f"/api/v1/tee/{one.uuid}")).json()["their_body"] == "SUCCESS of ***"
    assert (shown["state"], shown["user_agent"], shown["report_state"]) == ("delivered", "shop", None)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/v1/tee?state=lost", 422, "invalid_state"),
        ("/api/v1/tee?differences=perhaps", 422, "invalid_differences"),
        ("/api/v1/tee?colour=red", 422, "unknown_filter"),
        ("/api/v1/tee?cursor=x", 422, "invalid_cursor"),
        ("/api/v1/tee/x", 422, "invalid_postback_id"),
        (f"/api/v1/tee/{UUID(int=1)}", 404, "not_found"),
    ],
)
async def test_what_cannot_be_listed_is_said(api, path, status, code):
    answer = await api.admin("GET", path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_the_command_lists_shows_and_tries_again(dsn, monkeypatch, tmp_path):
    one = report(1)

    async def given_up():
        async with database(dsn, name="test") as opened:
            await put(opened, "http://old.example", one, report(2))
            (delivery,) = await TeeOutbox(opened).claim(1)
            await TeeOutbox(opened).delivered(delivery, Answer(200, "", b"FAILURE: no"), agrees=False)
            await opened.fetch("UPDATE tee_deliveries SET state = 'given_up', next_try_at = NULL, done_at = now() WHERE state = 'waiting'")
            return str(delivery.postback_id)

    monkeypatch.setenv("TURNOUT_DATABASE_URL", dsn)
    monkeypatch.setenv("TURNOUT_DATA_DIR", str(tmp_path))

    def turnout(*words):
        done = CliRunner().invoke(app, ["tee", *words])
        assert done.exit_code == 0, done.output
        return done.output

    delivered = asyncio.run(given_up())
    assert "p.ashx?n=0001" in turnout("list")
    assert delivered in turnout("list", "--differences", "--json")
    assert "FAILURE: no" in turnout("show", delivered)
    assert turnout("retry", "--reason", "again") == "1 reports are sent again by turnout work postbacks\n"
    assert '"state": "waiting"' in turnout("list", "--state", "waiting", "--json")
    assert turnout("retry", "--differences") == "1 reports are sent again by turnout work postbacks\n"


async def test_the_keeper_forgets_what_was_finished_30_days_ago(opened, dsn):
    await put(opened, "http://old.example", *map(report, range(4)))
    old, new = "now() - interval '31 days'", "now() - interval '29 days'"
    for number, (state, done_at) in enumerate([("delivered", old), ("given_up", old), ("delivered", new), ("waiting", "NULL")]):
        await opened.fetch(
            f"UPDATE tee_deliveries SET state = '{state}', done_at = {done_at},"
            f" next_try_at = {'now()' if state == 'waiting' else 'NULL'} WHERE target LIKE '%n=000{number}%'"
        )
    keeper = Keeper(dsn, 0, StorageMetrics(CollectorRegistry()))
    await keeper.once()
    await keeper.close()
    assert [(row["state"], bytes(row["target"])[10:14]) for row in await opened.fetch(ALL)] == [
        ("delivered", b"0002"),
        ("waiting", b"0003"),
    ]


def test_a_killed_worker_loses_nothing_and_an_empty_allow_list_lets_nothing_out(dsn, redis_url, tmp_path):
    """The command itself, killed with SIGKILL while the platform holds its answers back."""

    async def story():
        async with database(dsn, name="test") as opened, playing(always="hang") as old:
            await put(opened, old.address, *map(report, range(20)))
            pipeline = Pipeline(tmp_path / "node", dsn, redis_url)
            try:
                await asyncio.to_thread(pipeline.start, "work postbacks", TURNOUT_OUTBOUND_ALLOW="127.0.0.1")
                await wait_until(lambda: len(old.requests) >= 4, because="the first are under way")
                await asyncio.to_thread(pipeline.kill, "work postbacks")
                old.always = ""
                await opened.fetch(LEASES_RUN_OUT)
                await asyncio.to_thread(pipeline.start, "work postbacks", TURNOUT_OUTBOUND_ALLOW="127.0.0.1")
                await emptied(opened)
                assert set(old.got()) == {b"%04d" % n for n in range(20)}
                assert {row["state"] for row in await opened.fetch(ALL)} == {"delivered"}
                await asyncio.to_thread(pipeline.stop, "work postbacks")
                before = old.connections
                await put(opened, old.address, report(99))
                await asyncio.to_thread(pipeline.start, "work postbacks")
                await emptied(opened)
                assert old.connections == before
                await asyncio.to_thread(pipeline.stop, "work postbacks")
            finally:
                pipeline.close()

    asyncio.run(story())
