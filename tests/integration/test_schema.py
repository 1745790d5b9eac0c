"""The schema that all revisions make is the one the code expects, and every query on a large table finds its index."""

import asyncio
import importlib
import os
import pkgutil
import re
import subprocess
import sys
import time
from datetime import UTC, datetime

import asyncpg
import pytest

import tracker.adapters
from tests.integration.conftest import _execute, database_url
from tests.integration.pipeline import ROOT
from tests.unit.test_wire import a_record
from tracker import wire
from tracker.adapters.postgres_clicks import ClickSink
from tracker.adapters.redis_uniques import Uniques
from tracker.domain import click_id
from tracker.errors import StoreUnavailable
from workers.click_loading import load_of

pytestmark = pytest.mark.integration
STATEMENT = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b")
PLACEHOLDER = re.compile(r"(?<!')\{\w*\}")  # a text that others are made from
LARGE = (
    "clicks",
    "clicks_",
    "conversions",
    "postbacks",
    "ledger_entries",
    "click_stats",
    "daily_stats",
    "dead_letters",
    "links",
    "route_changes",
    "old_clicks",
    "statements",
    "statement_lines",
    "tee_deliveries",
    "old_reports",
    "open_entries",
)
# Reads a whole table on purpose, or is not bound to one row: said here, each with its reason.
WHOLE = {
    "partitions.EDGE_ROWS": "counts the edge partitions, which are empty",
    "postgres_postback_books.OUTCOMES": "the books are of all postbacks; only the audit that somebody asks for has them",
    "postgres_postback_books.PROBLEMS": "the same",
    "postgres_postback_books.REPORTS": "the same, of all reports",
    "postgres_balances_sql.DIFFERENCES": "compares all closed months; only the doctor that somebody asks for does",
    "postgres_routes.LINKS": "a table rebuild streams a range of ids; its index scan is tested by the publisher's own tests",
}


def statements():
    for module in pkgutil.iter_modules(tracker.adapters.__path__):
        if module.ispkg:
            continue
        for name, value in vars(importlib.import_module(f"tracker.adapters.{module.name}")).items():
            if name.isupper() and name[0] != "_" and isinstance(value, str) and STATEMENT.match(value) and not PLACEHOLDER.search(value):
                yield f"{module.name}.{name}", value


STATEMENTS = sorted(statements())


@pytest.fixture
async def connection(dsn):
    opened = await asyncpg.connect(dsn)
    yield opened
    await opened.close()


def test_there_are_statements_to_look_at():
    assert len(STATEMENTS) > 50


async def test_every_statement_of_the_code_fits_the_schema_of_all_revisions(connection):
    for name, sql in STATEMENTS:
        try:
            await connection.prepare(sql)
        except asyncpg.PostgresError as exc:
            pytest.fail(f"{name}: {exc}")


async def test_every_query_on_a_large_table_is_planned_with_an_index(connection):
    """With sequential scans priced out, a plan that still has one has no index to use."""
    await connection.execute("SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan; SET enable_partition_pruning = on")
    without = []
    for name, sql in STATEMENTS:
        if name in WHOLE:
            continue
        arguments = (await connection.prepare(sql)).get_parameters()
        types = ", ".join(f"{argument.schema}.{argument.name}" for argument in arguments)
        await connection.execute(f"PREPARE asked{f'({types})' if types else ''} AS {sql}")
        nulls = ", ".join(["NULL"] * len(arguments))
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN EXECUTE asked{f'({nulls})' if nulls else ''}"))
        await connection.execute("DEALLOCATE asked")
        scanned = set(re.findall(r"Seq Scan on (\w+)", plan))
        without += [f"{name}: {table}\n{plan}" for table in scanned if table in LARGE or table.startswith("clicks_")]
    assert not without, "\n\n".join(without)


async def test_the_tables_that_outside_checks_read_have_the_promised_columns(connection):
    promised = {
        "clicks": "click_id clicked_at link partner campaign ref ip country device os browser user_agent referrer url redirected_to"
        " outcome verdict counted is_unique old_click_id node boot seq " + " ".join(f"sub{n}" for n in range(1, 11)),
        "boots": "node boot covered accepted stored duplicate rejected unrecorded closed_seq",
        "click_stats": "clicks unique_clicks total",
        "daily_stats": "clicks unique_clicks total",
        "conversions": "id txid goal status click_id partner campaign currency payout_currency",
        "postbacks": "postback_id",
        "ledger_entries": "amount_micros currency reason actor",
        "dead_letters": "reason",
        "orphans": "click_id url outcome",
        "events": "actor action before after",
        "payout_runs": "slug period_from period_to currency status created_by approved_by",
        "statements": "run_id partner_id opening_micros lines_micros payment_micros closing_micros status",
        "exchange_rates": "day base currency rate source imported_at",
        **dict.fromkeys(("advertisers", "campaigns", "partners", "links"), "slug source source_id import_batch grade"),
    }
    for table, columns in promised.items():
        there = await connection.fetch("SELECT column_name FROM information_schema.columns WHERE table_name = $1", table)
        assert set(columns.split()) <= {row["column_name"] for row in there}, table


async def test_clicks_are_partitioned_by_click_id_without_a_default_partition(connection):
    assert await connection.fetchval("SELECT pg_get_partkeydef('clicks'::regclass)") == "RANGE (click_id)"
    bounds = await connection.fetch(
        "SELECT relname, pg_get_expr(relpartbound, c.oid) AS bound FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid"
        " WHERE inhparent = 'clicks'::regclass"
    )
    assert not [row for row in bounds if row["bound"] == "DEFAULT"]
    assert {"clicks_edge_low", "clicks_edge_high"} <= {row["relname"] for row in bounds}


@pytest.mark.parametrize("table", ["events", "ledger_entries", "click_attributions"])
async def test_what_is_append_only_refuses_change_and_removal(connection, table):
    if table == "events":
        await connection.execute("INSERT INTO events (actor, action, entity, entity_id) VALUES ('a', 'b', 'c', 'd')")
    elif table == "click_attributions":
        await connection.execute(
            "INSERT INTO click_attributions (click_id, clicked_at, reason, actor) VALUES (gen_random_uuid(), now(), 'r', 'a')"
        )
    else:
        await connection.execute(
            "WITH a AS (INSERT INTO advertisers (slug, currency) VALUES ('s', 'EUR') RETURNING id)"
            " INSERT INTO ledger_entries (effective_on, account, advertiser_id, kind, status, amount_micros, currency, actor)"
            " SELECT now(), 'advertiser', id, 'k', 's', 1, 'EUR', 'x' FROM a"
        )
    for statement in (f"UPDATE {table} SET actor = 'z'", f"DELETE FROM {table}"):
        with pytest.raises(asyncpg.RestrictViolationError):
            await connection.execute(statement)


def test_upgrading_twice_and_from_two_places_at_once_does_no_harm(servers):
    """Two installers on one empty database; alembic keeps its state in the module, so they are processes."""
    name = "turnout_two_installers"
    url = database_url(servers.dsn, name)
    asyncio.run(_execute(servers.dsn, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", f"CREATE DATABASE {name}"))
    command = [sys.executable, "-c", "import sys; from tracker.adapters import schema; schema.upgrade(sys.argv[1])", url]
    installers = [subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}) for _ in range(3)]
    assert [installer.wait(60) for installer in installers] == [0, 0, 0]
    assert asyncio.run(days_of(url)) >= 60, "the first click finds its partition before any keeper runs"
    asyncio.run(_execute(servers.dsn, f"DROP DATABASE {name} WITH (FORCE)"))


async def days_of(dsn):
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval("SELECT count(*) FROM pg_inherits WHERE inhparent = 'clicks'::regclass")
    finally:
        await connection.close()


async def test_a_click_without_a_partition_waits_and_is_no_dead_letter(dsn, connection):
    for (name,) in await connection.fetch("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'clicks'::regclass"):
        await connection.execute(f"DROP TABLE {name}")
    record = a_record(click_id=click_id.compose(int(time.time() * 1000), bytes(10)))
    entry = wire.Entry("n", bytes(16), "h", 1, 1, (1,), 1, 1, wire.encode_frame(1, [record], 1))
    load = await load_of([entry], {}, [], bytes(16), Uniques("unix:///nowhere.sock"), datetime.now(UTC).date())
    sink = ClickSink(dsn, slot=0)
    with pytest.raises(StoreUnavailable, match="no partition"):
        await sink.store(load)
    sink.close()
    assert await connection.fetchval("SELECT count(*) FROM dead_letters") == 0
