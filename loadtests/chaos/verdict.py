"""The end of a run: wait until things are quiet, compare everything with everything, and say what is wrong."""

import asyncio
import time
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from loadtests.chaos import money, oracle
from loadtests.chaos.click_ids import to_text, to_uuid
from loadtests.chaos.ledger import Orders, Visit, Visits
from loadtests.chaos.money import OrderVerdict
from loadtests.chaos.oracle import ClickVerdict
from loadtests.chaos.world import Episode, Scene

SETTLE_S = 150.0
POLL_S = 1.0
ENDED = ("balanced",)
STORED = "SELECT click_id FROM clicks WHERE click_id = ANY($1::uuid[])"
CLICK_SUMS = ("accepted", "stored", "duplicate", "rejected", "in_flight", "unrecorded", "unaccounted", "redelivered")
BOOTS = "SELECT boot FROM boots"
NOT_CLOSED = "SELECT kind, boot FROM boots WHERE closed_seq IS NULL AND boot = ANY($1::uuid[])"


@dataclass(slots=True)
class Books:
    """What `turnout audit` says, and what tables say beside it."""

    exit_code: int = 0
    clicks: dict[str, Any] = field(default_factory=dict)
    conversions: dict[str, Any] = field(default_factory=dict)
    rows: int = 0
    booked: int = 0
    dead_letters: int = 0
    postbacks: dict[str, int] = field(default_factory=dict)
    told: dict[str, Any] = field(default_factory=dict)  # the audit's own part of postbacks; empty of a tree that has none


@dataclass(slots=True)
class Verdict:
    """All of it. `failures` is empty when every promise held."""

    clicks: ClickVerdict
    orders: OrderVerdict
    drift: int
    books: Books
    permitted: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


async def wait_until_quiet(scene: Scene, episodes: list[Episode]) -> str:
    """Wait until every order is settled and the books balance; what is still open after the time, else empty."""
    end, still = time.monotonic() + SETTLE_S, ""
    while True:
        scene.visits.refresh()
        scene.orders.refresh()
        try:
            still = await _still_open(scene, episodes)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
            still = f"{type(exc).__name__}: {exc}"
        if not still or time.monotonic() > end:
            return still
        await asyncio.sleep(POLL_S)


async def _still_open(scene: Scene, episodes: list[Episode]) -> str:
    connection = await scene.connect()
    try:
        hopeless = await _hopeless(connection, scene.visits, episodes)
        settled = {row["txid"] for row in await connection.fetch("SELECT txid FROM conversions")}
        accepted = [order for order in scene.orders.by_txid.values() if order.accepted_at and order.click_id not in hopeless]
        if missing := [order.txid for order in accepted if order.txid not in settled]:
            return f"{len(missing)} accepted orders are not settled"
        if (parked := (await money.read_postbacks(connection, hopeless))["parked"]) > 0:
            return f"{parked} postbacks are parked"
    finally:
        await connection.close()
    code, books = await scene.audit()
    states = (books.get("state"), books.get("conversions", {}).get("state"), books.get("postbacks", {}).get("state", "balanced"))
    return "" if all(state in ENDED for state in states) else f"audit says {states}, exit {code}"


def _in_named_exceptions(visits: Visits, episodes: list[Episode]) -> list[Visit]:
    """Visits answered 302 while a loss was permitted."""
    windows = [(episode.started_at, episode.healed_at) for episode in episodes if episode.permits_loss and episode.has_happened]
    found = [visit for start, stop in windows for visit in visits.between(start, stop)]
    return [visit for visit in found if visit.outcome == "ok"]


async def _hopeless(connection: Any, visits: Visits, episodes: list[Episode]) -> set[str]:
    """Click ids that were lost and were allowed to be: their orders wait in vain."""
    named = {to_uuid(visit.click_id) for visit in _in_named_exceptions(visits, episodes)}
    return {to_text(identity) for identity in named - {row[0] for row in await connection.fetch(STORED, list(named))}}


async def judge(scene: Scene, episodes: list[Episode]) -> Verdict:
    """Compare everything; call it when all is quiet."""
    scene.visits.refresh()
    scene.orders.refresh()
    connection = await scene.connect()
    try:
        hopeless = await _hopeless(connection, scene.visits, episodes)
        rows = await oracle.read_rows(connection)
        clicks = oracle.judge(scene.visits.by_number, rows)
        shops = money.judge(scene.orders.by_txid, await money.read_conversions(connection), hopeless)
        books = Books(rows=len(rows), postbacks=await money.read_postbacks(connection, hopeless))
        books.booked = int(await connection.fetchval("SELECT coalesce(sum(stored), 0) FROM boots WHERE kind = 'clicks'"))
        books.dead_letters = int(await connection.fetchval("SELECT count(*) FROM dead_letters"))
        drift = await oracle.drift(connection)
    finally:
        await connection.close()
    books.exit_code, audit = await scene.audit()
    books.conversions = {name: audit.get("conversions", {}).get(name) for name in (*CLICK_SUMS, "state")}
    books.clicks = {name: audit.get(name) for name in (*CLICK_SUMS, "state")}
    books.told = audit.get("postbacks", {})
    verdict = Verdict(clicks, shops, drift, books)
    permit(verdict, hopeless, scene.visits)
    clicks.refused = [number for number in clicks.refused if not _is_port_closed(scene.visits.by_number[number], episodes)]
    verdict.failures = [*failures_of_clicks(verdict), *failures_of_books(verdict), *failures_of_orders(verdict, scene.orders)]
    return verdict


def permit(verdict: Verdict, hopeless: Container[str], visits: Visits) -> None:
    """Move losses of the named exceptions aside; the books must have counted exactly those."""
    verdict.permitted = sorted(number for number in verdict.clicks.lost if visits.by_number[number].click_id in hopeless)
    verdict.clicks.lost = [number for number in verdict.clicks.lost if visits.by_number[number].click_id not in hopeless]


def _is_port_closed(visit: Visit, episodes: list[Episode]) -> bool:
    return any(episode.closes_port and episode.started_at <= visit.done_at <= episode.healed_at for episode in episodes)


def failures_of_clicks(verdict: Verdict) -> list[str]:
    """What is wrong with clicks."""
    clicks = verdict.clicks
    counts: dict[str, Sequence[object]] = {
        "LOST": clicks.lost, "DUP": clicks.dup, "GHOST": clicks.ghost, "non-302": clicks.bad,
        "no connection": clicks.refused, "no answer within the visitor's patience": clicks.hung,
    }  # fmt: skip
    found = [f"{name}: {len(concerned)}, such as {concerned[:3]}" for name, concerned in counts.items() if concerned]
    return found + ([f"DRIFT: {verdict.drift}"] if verdict.drift else [])


def failures_of_books(verdict: Verdict) -> list[str]:
    """What is wrong with the books: state, sums, and losses that were not counted exactly."""
    books, found = verdict.books, list[str]()
    for name, page in (("clicks", books.clicks), ("conversions", books.conversions)):
        if page.get("state") not in ENDED:
            found.append(f"audit of {name}: {page.get('state')}")
        if page.get("unaccounted") or page.get("in_flight"):
            found.append(f"audit of {name}: {page.get('unaccounted')} unaccounted, {page.get('in_flight')} in flight")
        total = sum(page.get(part) or 0 for part in ("stored", "duplicate", "rejected", "in_flight", "unrecorded", "unaccounted"))
        if page.get("accepted") != total:
            found.append(f"audit of {name}: accepted {page.get('accepted')} is not the sum {total}")
    if books.told and books.told["state"] not in ENDED:
        found.append(f"audit of postbacks: {books.told['state']}, {books.told['problems']}")
    if books.booked != books.rows:
        found.append(f"boots say {books.booked} stored, clicks has {books.rows} rows")
    rejected = (books.clicks.get("rejected") or 0, books.clicks.get("duplicate") or 0, books.dead_letters)
    if any(rejected):
        found.append("clicks rejected {}, duplicate {}; dead letters {}".format(*rejected))
    unrecorded, permitted, most = (
        books.clicks.get("unrecorded") or 0,
        len(verdict.permitted),
        len(verdict.permitted) + verdict.clicks.unstored,
    )
    if not permitted <= unrecorded <= most:
        found.append(f"unrecorded is {unrecorded}, should be {permitted} (permitted losses) to {most} (and visits without an answer)")
    return found


def failures_of_orders(verdict: Verdict, orders: Orders) -> list[str]:
    """What is wrong with orders and money."""
    shops, found = verdict.orders, list[str]()
    for name, concerned in (("orders missing", shops.missing), ("orders doubled", shops.doubled), ("orders of nobody", shops.ghosts)):
        if concerned:
            found.append(f"{name}: {len(concerned)}, such as {concerned[:3]}")
    if shops.wrong:
        found.append(f"orders wrong: {len(shops.wrong)}, such as {list(shops.wrong.items())[:3]}")
    if shops.miscounted:
        found.append(f"reports miscounted: {len(shops.miscounted)}, such as {list(shops.miscounted.items())[:3]}")
    if shops.money_error_micros:
        found.append(f"money: expected {shops.expected_micros}, conversions {shops.payout_micros}, ledger {shops.owed_micros} micros")
    found += [f"postbacks {name}: {count}" for name, count in verdict.books.postbacks.items() if count]
    if never := [txid for txid, order in orders.by_txid.items() if order.answers and order.accepted_at is None]:
        found.append(f"orders that were never accepted: {len(never)}, such as {never[:3]}")
    refused = [answer for answer in orders.answers if answer.status and not answer.is_accepted]
    if client := [answer for answer in refused if answer.status < 500]:
        found.append(f"postbacks refused: {len(client)}, such as {client[0]}")
    if server := [answer for answer in refused if answer.status >= 500]:
        found.append(f"postbacks answered 5xx: {len(server)}, such as {server[0]}")
    return found
