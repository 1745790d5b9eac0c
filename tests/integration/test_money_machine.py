"""Whatever is done to conversions, in whatever order: the ledger is what their shares and amounts say, after each step."""

import asyncio
import json
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule, run_state_machine_as_test

from tests.integration.api_client import Shop, click_text
from tests.integration.desk import AT, report_id
from tests.thorough import examples
from tracker.adapters.postgres_conversions import receive
from tracker.adapters.postgres_conversions_read import Conversions
from tracker.adapters.postgres_pool import Database
from tracker.adapters.postgres_postback_books import read as read_books
from tracker.adapters.postgres_programme import Programme
from tracker.adapters.postgres_recompute import Wanted
from tracker.adapters.postgres_recompute import run as recompute
from tracker.domain.postback import Advertiser, read
from tracker.errors import RejectedInput
from tracker.payouts.terms import TermsBook
from tracker.programme import ADVERTISER, CAMPAIGN, DUPLICATE_POLICIES, GOAL, LINK, PARTNER

pytestmark = pytest.mark.integration
# What is owed by the ledger less what the shares and amounts of earning conversions come to, by who, status and currency: nothing.
DIFFERENCES = """
    SELECT account, conversion_id, partner_id, status, currency, sum(micros)::bigint AS micros FROM (
        SELECT account, conversion_id, partner_id, status, currency, amount_micros AS micros FROM ledger_entries
        UNION ALL
        SELECT 'partner', s.conversion_id, s.partner_id, c.status, s.currency, -s.amount_micros
        FROM conversion_shares s JOIN conversions c ON c.id = s.conversion_id WHERE c.status IN ('pending', 'approved')
        UNION ALL
        SELECT 'advertiser', id, NULL, status, currency, -amount_micros FROM conversions WHERE status IN ('pending', 'approved')
    ) o GROUP BY 1, 2, 3, 4, 5 HAVING sum(micros) <> 0
"""
WRONG_SHARES = """
    SELECT c.id, c.payout_micros, sum(s.amount_micros) FILTER (WHERE s.level = 1) AS first, min(s.amount_micros) AS least
    FROM conversions c LEFT JOIN conversion_shares s ON s.conversion_id = c.id GROUP BY c.id
    HAVING c.payout_micros <> coalesce(sum(s.amount_micros) FILTER (WHERE s.level = 1), 0) OR min(s.amount_micros) < 0
        OR c.amount_micros < 0 OR c.reversed_micros < 0 OR bool_or(s.currency <> c.payout_currency)
"""
FORGET = "TRUNCATE postbacks, conversions, ledger_entries, terms, partner_parents, open_entries CASCADE"
PARTNERS = ("ada", "bob", "eve")
TEN, FIVE = {"type": "percent", "percent": "10"}, {"type": "fixed", "amount": "5.005", "currency": "EUR"}
PLANS = (
    "7.7 %",
    "3.333 EUR",
    "2 USD",
    None,
    {"type": "plan", "rate": TEN, "split": [{"partner": "bob", "percent": "33.3"}, {"partner": "ada", "percent": "10"}]},
    {"type": "plan", "rate": FIVE, "levels": [{"percent": "10"}, {"percent": "0.5", "of": "sale"}], "cap": "20", "currency": "EUR"},
    {"type": "plan", "rate": TEN, "rules": [{"skus": ["a"], "rate": FIVE}, {"customer": "new", "rate": "20%"}], "minimum_order": "9"},
    {"type": "plan", "rate": "20%", "recurring": {"rate": "3%", "payments": 3}, "levels": [{"percent": "50"}], "currency": "EUR"},
)
AMOUNTS = st.sampled_from(["0.01", "8.99", "10.05", "33.33", "100", "12345.67", ""])
ITEMS = st.sampled_from([None, [{"sku": "a", "price": "3", "quantity": 2}, {"sku": "b", "price": "4.44"}]])


ORDERS = st.fixed_dictionaries(
    {"amount": AMOUNTS, "customer": st.sampled_from(["c-1", "c-2", ""]), "currency": st.sampled_from(["EUR", "EUR", "USD"])}
)
WHO = st.sampled_from(PARTNERS)
REFUSALS = ("invalid_status", "invalid_amount", "invalid_parent")


@dataclass
class World:
    """A shop with a campaign that three partners have clicks of; made once, its conversions forgotten by each run."""

    database: Database
    runner: asyncio.Runner
    clicks: dict[str, str] = field(default_factory=dict)
    shop: Advertiser = field(init=False)

    @property
    def programme(self) -> Programme:
        return Programme(self.database, link_base="http://x")

    async def furnish(self) -> None:
        made = await self.programme.create(ADVERTISER, {"slug": "shop", "currency": "EUR"}, "test")
        self.shop = Advertiser(made["id"], "shop", "EUR")
        await self.programme.create(CAMPAIGN, {"slug": "shoes", "advertiser": "shop", "destination_url": "https://shop.example/"}, "test")
        await self.programme.create(GOAL, {"slug": "sale", "campaign": "shoes"}, "test")
        for slug in PARTNERS:
            await self.programme.create(PARTNER, {"slug": slug}, "test")
            await self.programme.create(LINK, {"slug": "adas", "partner": slug, "campaign": "shoes"}, "test")
            self.clicks[slug] = click_text(await Shop("", "", self.database).click(clicked_at=AT - timedelta(hours=1)))
            await self.execute("UPDATE links SET slug = $1 WHERE slug = 'adas'", f"of-{slug}")

    async def execute(self, *statements: Any) -> None:
        async with self.database.connection() as connection:
            await connection.execute(*statements)

    async def say(self, minute: int, txid: str, partner: str, **parameters: str) -> None:
        said = {"click_id": self.clicks[partner], "txid": txid} | parameters
        at = AT + timedelta(seconds=minute)
        await receive(self.database, read(said, self.shop, postback_id=report_id(minute), received_at=at), timeout_s=20)

    async def is_above(self, child: str, parent: str | None) -> None:
        await self.programme.edit(PARTNER, child, {"parent": parent}, "test")
        await self.execute("UPDATE partner_parents SET effective_from = effective_from - interval '2 hours'")

    async def anew(self, known_at: datetime) -> int:
        wanted = Wanted("shoes", AT - timedelta(days=1), AT + timedelta(days=1), known_at, is_dry=False)
        done = await recompute(self.database, wanted, None, reason="r", actor="test", goes_on=lambda: True)
        return int(done["changed"])

    async def problems(self) -> list[Any]:
        async with self.database.connection() as connection:
            found = [*await connection.fetch(DIFFERENCES), *await connection.fetch(WRONG_SHARES)]
            books = await read_books(connection)
        return [*found, *(books.problems if books else ["no books"])]


class Money(RuleBasedStateMachine):
    """Reports, people and plans, all mixed up."""

    world: ClassVar[World]
    sold = Bundle("sold")

    @initialize(policy=st.sampled_from(DUPLICATE_POLICIES))
    def begin(self, policy: str) -> None:
        self.minute = self.orders = 0
        for statement in (FORGET, "UPDATE partners SET parent_id = NULL", f"UPDATE goals SET duplicate_policy = '{policy}'"):
            self.does(self.world.execute(statement))

    def does(self, doing: Awaitable[Any]) -> Any:
        """What comes of it; None when it was refused."""
        try:
            return self.world.runner.run(doing)
        except RejectedInput as exc:
            if exc.code not in REFUSALS:
                raise
            return None

    def says(self, txid: str, partner: str, **parameters: str) -> None:
        self.minute += 1
        self.does(self.world.say(self.minute, txid, partner, **parameters))

    @rule(target=sold, partner=WHO, order=ORDERS, items=ITEMS, status=st.sampled_from(["", "pending"]))
    def sell(self, partner: str, order: dict[str, str], items: list[dict[str, Any]] | None, status: str) -> str:
        self.orders += 1
        txid = f"T{self.orders}"
        self.says(txid, partner, status=status, **order, **({"items": json.dumps(items)} if items else {}))
        return txid

    @rule(txid=sold, partner=WHO, order=ORDERS, status=st.sampled_from(["", "", "approved", "reversed"]))
    def say_more(self, txid: str, partner: str, order: dict[str, str], status: str) -> None:
        self.says(txid, partner, status=status, event_id=f"{txid}-{self.minute}", **order)

    @rule(payout=st.sampled_from(PLANS), partner=st.sampled_from([None, None, "ada"]), hours=st.integers(1, 48), is_bounded=st.booleans())
    def pay(self, payout: object, partner: str | None, hours: int, is_bounded: bool) -> None:
        body: dict[str, Any] = {"campaign": "shoes", "partner": partner, "payout": payout}
        body["effective_from"] = (AT - timedelta(hours=hours)).isoformat()
        body |= {"effective_to": (AT + timedelta(seconds=self.minute + 5)).isoformat()} if is_bounded else {}
        self.does(TermsBook(self.world.database).add(body, "test"))

    @rule(txid=sold, action=st.sampled_from(["approve", "reject", "reverse"]))
    def change(self, txid: str, action: str) -> None:
        for one in self.conversions_of(txid):
            self.does(Conversions(self.world.database).change(str(one["id"]), action, reason="r", actor="test"))

    @rule(txid=sold, amount=st.sampled_from(["0.01", "5", "33.33", "9999"]))
    def take_a_part_back(self, txid: str, amount: str) -> None:
        for one in self.conversions_of(txid):
            self.does(Conversions(self.world.database).reverse_part(str(one["id"]), amount, reason="r", actor="test"))

    @rule(txid=consumes(sold))
    def take_all_back(self, txid: str) -> None:
        for one in self.conversions_of(txid):
            self.does(Conversions(self.world.database).reverse_part(str(one["id"]), one["amount"], reason="r", actor="test"))

    def conversions_of(self, txid: str) -> list[dict[str, Any]]:
        page = self.does(Conversions(self.world.database).listed(limit=100, cursor=None, filters={"txid": txid}))
        return list(page["items"])

    @rule(pair=st.permutations(PARTNERS), is_above=st.booleans())
    def change_parents(self, pair: list[str], is_above: bool) -> None:
        self.does(self.world.is_above(pair[0], pair[1] if is_above else None))

    @rule(hours=st.integers(0, 2))
    def work_out_anew(self, hours: int) -> None:
        known_at = datetime.now(UTC) - timedelta(hours=hours)
        self.does(self.world.anew(known_at))
        assert self.does(self.world.anew(known_at)) == 0, "once is enough"

    @invariant()
    def the_books_are_sound(self) -> None:
        assert self.does(self.world.problems()) == []


@pytest.fixture
def world(dsn: str) -> Iterator[World]:
    with asyncio.Runner() as runner:
        made = World(Database(dsn, name="machine", size=2), runner)
        runner.run(made.furnish())
        yield made
        runner.run(made.database.close())


def test_the_ledger_is_what_shares_and_amounts_say_after_each_step(world: World) -> None:
    Money.world = world
    limits = settings(
        max_examples=examples(15, 30), stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
    )
    run_state_machine_as_test(Money, settings=limits)
