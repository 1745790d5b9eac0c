"""Reading the books: nodes first, streams second, PostgreSQL last, so that what moves meanwhile only moves towards *stored*."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice, product
from typing import Any

from tracker.adapters import postgres_books, postgres_postback_books
from tracker.adapters.postgres_postback_books import PostbackBooks
from tracker.adapters.postgres_session import PostgresSession
from tracker.adapters.redis_books import BookBoard
from tracker.domain.books import Account, Report, State, Verdict, gaps, judge, worst
from tracker.domain.intervals import SeqSet
from tracker.errors import StreamUnavailable
from tracker.wire import Entry, NodeReport, stream_key

KINDS = ("clicks", "conversions")
TIMEOUT_S = 120.0  # more than what reading the postbacks may take
# A look without the streams is enough where reports prove all that is missing. A verdict that names missing batches is only
# given when it was found three times: a node reports each second, and what is young may not be in any report yet.
LOOKS = ((0.0, False), (0.0, True), (1.2, True), (1.2, True))  # seconds before it, whether the streams are read
MISSING_SHOWN = 100  # ranges of seqs a boot
POSTBACK_COUNTS = ("received", "effective", "repeated", "conflicting", "rejected", "parked", "in_flight", "unexplained")
COUNTS = ("accepted", "stored", "duplicate", "rejected", "in_flight", "unrecorded", "unaccounted", "redelivered")
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Look:
    """What one look found: verdicts boot by boot, sums of the boots that are closed and complete, the postbacks of that moment.

    `postbacks` is None when they were not asked for, or could not be read in time.
    """

    verdicts: list[Verdict]
    settled: list[dict[str, Any]]
    postbacks: PostbackBooks | None


async def audit(dsn: str, redis_url: str, shards: int, *, with_postbacks: bool = True) -> dict[str, Any]:
    """The books of clicks, and beside them under `conversions` those of journaled postbacks and under `postbacks` those of all.

    accepted = stored + duplicate + rejected + in_flight + unrecorded + unaccounted holds in every line. StoreUnavailable when PostgreSQL
    cannot be asked; without Redis the state is `unknown` unless every boot is closed and complete. Reads only. The postbacks take a
    second for some hundred thousand of them; `with_postbacks=False` leaves them out.
    """
    session, board = PostgresSession(dsn, name="audit"), BookBoard(redis_url)
    try:
        for pause_s, with_streams in LOOKS:
            await asyncio.sleep(pause_s)
            found = await _look(session, board, shards if with_streams else 0, with_postbacks=with_postbacks)
            states = {verdict.state for verdict in found.verdicts}
            if not states & {State.UNBALANCED, State.UNKNOWN} or (with_streams and State.UNBALANCED not in states):
                break
    finally:
        session.drop()
        await board.close()
    receipts = _page("conversions", found)
    postbacks = {"postbacks": _postbacks(found.postbacks, receipts)} if with_postbacks else {}
    return _page("clicks", found) | {"conversions": receipts} | postbacks


async def _look(session: PostgresSession, board: BookBoard, shards: int, *, with_postbacks: bool) -> Look:
    kinds, reports, shipped, is_redis_there = dict[bytes, str](), dict[bytes, Report](), dict[bytes, list[Entry]](), True
    try:
        by_kind = await board.boots(0)
        kinds = {boot: kind for kind, boots in by_kind.items() for boot in boots}
        reports = {boot: _report(report) for boot, report in (await board.reports(sorted(kinds))).items()}
        for kind, shard in product(KINDS, range(shards)):
            for entry in await board.entries(stream_key(kind, shard)):
                kinds.setdefault(entry.boot, kind)
                shipped.setdefault(entry.boot, []).append(entry)
    except StreamUnavailable:
        is_redis_there = False
        await board.close()
    async with session.use(TIMEOUT_S) as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        accounts, settled, now = await postgres_books.accounts(connection, sorted(kinds))
        postbacks = await postgres_postback_books.read(connection) if with_postbacks else None
    known = {account.boot: account for account in accounts}
    nobody_knows = [_unknown(boot, kind) for boot, kind in kinds.items() if boot not in known]
    verdicts = [
        _judge(account, reports.get(account.boot), shipped.get(account.boot, []), now, is_redis_there=is_redis_there)
        for account in accounts + nobody_knows
    ]
    return Look(verdicts, settled, postbacks)


def _judge(account: Account, report: Report | None, shipped: list[Entry], now: datetime, *, is_redis_there: bool) -> Verdict:
    in_stream: dict[int, int] = {}
    holes = gaps(account, report) if report else None
    for entry in shipped:
        for seq, count in zip(range(entry.seq_from, entry.seq_to + 1), entry.counts, strict=True):
            if (holes is None or seq in holes) and seq not in account.covered:
                in_stream[seq] = count  # noqa: PERF403 - two loops deep, as a comprehension nobody could read it
    if report is None and shipped:
        report = _from_stream(shipped, in_stream)
    return judge(account, report, in_stream, now, stream_read=is_redis_there)


def _report(report: NodeReport) -> Report:
    heard_at = datetime.fromtimestamp(report.at_ms / 1000, UTC)
    held, lost = SeqSet.parse(report.held), SeqSet.parse(report.lost)
    return Report(report.node, report.last_seq, report.accepted, report.unrecorded, held, lost, report.closed, heard_at)


def _from_stream(shipped: list[Entry], in_stream: dict[int, int]) -> Report:
    """What the entries of a silent node say in its place."""
    last = max(shipped, key=lambda entry: entry.accepted)
    held = SeqSet((seq, seq + 1) for seq in in_stream)
    heard_at = datetime.fromtimestamp(max(entry.sent_at_ms for entry in shipped) / 1000, UTC)
    return Report(last.node, max(entry.seq_to for entry in shipped), last.accepted, 0, held, SeqSet(), False, heard_at)


def _unknown(boot: bytes, kind: str) -> Account:
    return Account(boot, "", kind, SeqSet(), SeqSet(), 0, 0, 0, 0, 0, 0, 0, None, LONG_AGO)


def _page(kind: str, found: Look) -> dict[str, Any]:
    verdicts = [verdict for verdict in found.verdicts if verdict.kind == kind]
    nodes = [_settled_line(row) for row in found.settled if row["kind"] == kind] + [_line(verdict) for verdict in verdicts]
    sums = {name: sum(node[name] for node in nodes) for name in COUNTS}
    return sums | {"state": str(worst([verdict.state for verdict in verdicts])), "nodes": nodes}


def _postbacks(books: PostbackBooks | None, receipts: dict[str, Any]) -> dict[str, Any]:
    """received = effective + repeated + conflicting + rejected + parked + in_flight + unexplained."""
    if books is None:
        return dict.fromkeys(POSTBACK_COUNTS) | {"state": str(State.UNKNOWN), "problems": [], "old_reports": None}
    counts = books.parts | {"in_flight": receipts["in_flight"], "unexplained": books.unexplained}
    state = worst([State.UNBALANCED if books.problems else State.BALANCED, State(receipts["state"])])
    told = {"state": str(state), "problems": books.problems, "old_reports": books.old_reports}
    return {"received": sum(counts.values()), **counts, **told}


def _line(verdict: Verdict) -> dict[str, Any]:
    missing = [{"seq_from": start, "seq_to": stop - 1} for start, stop in islice(verdict.missing, MISSING_SHOWN)]
    facts = {name: getattr(verdict, name) for name in COUNTS}
    return {
        "node": verdict.node, "boot": verdict.boot.hex(), "boots": 1, **facts, "last_seq": verdict.last_seq, "closed": verdict.is_closed,
        "state": str(verdict.state), "missing": missing, "missing_batches": len(verdict.missing),
    }  # fmt: skip


def _settled_line(row: dict[str, Any]) -> dict[str, Any]:
    """Boots of one node that are closed and complete, together: there is one for each start of a process, for ever."""
    facts = {name: row.get(name, 0) for name in COUNTS}
    rest: dict[str, Any] = {"last_seq": None, "closed": True, "state": str(State.BALANCED), "missing": [], "missing_batches": 0}
    return {"node": row["node"], "boot": None, "boots": row["boots"], **facts, **rest}
