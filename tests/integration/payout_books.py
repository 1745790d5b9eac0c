"""Ledger entries of partners as tests want them, and what must hold of all statements at any time."""

from datetime import date

EARN = """
    INSERT INTO ledger_entries (effective_on, account, partner_id, advertiser_id, kind, status, amount_micros, currency, reason, actor)
    SELECT $2, 'partner', p.id, a.id, 'conversion', $5, $3, $4, $6, 'test'
    FROM partners p, advertisers a WHERE p.slug = $1 AND a.slug = 'shop'
"""
OF_SALE = """
    INSERT INTO ledger_entries (effective_on, account, partner_id, advertiser_id, conversion_id, kind, status, amount_micros, currency,
        actor)
    SELECT $2, 'partner', p.id, a.id, $3, $4, $6, $5, 'EUR', 'test' FROM partners p, advertisers a WHERE p.slug = $1 AND a.slug = 'shop'
"""
OPENINGS = """
    SELECT count(*) FROM (
        SELECT opening_micros, lag(closing_micros, 1, 0::bigint) OVER (PARTITION BY partner_id, currency ORDER BY id) AS before
        FROM statements
    ) s WHERE opening_micros <> before
"""
SUMS = """
    SELECT count(*) FROM statements s JOIN payout_runs r ON r.id = s.run_id
    WHERE r.status = 'approved' AND closing_micros <> opening_micros + coalesce((
        SELECT sum(e.amount_micros) FROM statement_lines l JOIN ledger_entries e ON e.id = l.ledger_entry_id
        WHERE l.statement_id = s.id
    ), 0)
"""
PLACES = """
    SELECT count(*) FROM ledger_entries e LEFT JOIN open_entries o ON o.ledger_entry_id = e.id
    LEFT JOIN statement_lines l ON l.ledger_entry_id = e.id
    WHERE (o.ledger_entry_id IS NOT NULL)::int + (l.ledger_entry_id IS NOT NULL)::int
        <> (e.account = 'partner' AND e.status = 'approved')::int
"""
PAYMENTS = """
    SELECT count(*) FROM statements s JOIN payout_runs r ON r.id = s.run_id FULL JOIN
        (SELECT * FROM ledger_entries WHERE kind = 'payment') e ON e.id = s.payment_entry_id
    WHERE (r.status = 'approved' AND s.payment_micros > 0 OR e.id IS NOT NULL) AND e.amount_micros IS DISTINCT FROM -s.payment_micros
"""
RUNS = "/api/v1/payout-runs"
IBANS = ("DE89370400440532013000", "FR7630006000011234567890189", "GB82WEST12345698765432", "BE31435411161155")


async def assert_all_adds_up(shop):
    """Balances go on where they ended, lines come to them, no entry is nowhere or twice, each payment is one entry."""
    for name, statement in (("opening", OPENINGS), ("sum", SUMS), ("place", PLACES), ("payment", PAYMENTS)):
        assert await shop.value(statement) == 0, name


async def earns(shop, partner, amount, on="2025-10-10", *, currency="EUR", status="approved", reason=""):
    """`amount` in units, exact to six places."""
    micros = round(float(amount) * 1_000_000)
    await shop.execute(EARN, partner, date.fromisoformat(on), micros, currency, status, reason)


async def of_sale(shop, sale, kind, amount, on, partner="ada", status="approved"):
    """An entry of the conversion `sale`."""
    await shop.execute(OF_SALE, partner, date.fromisoformat(on), sale, kind, round(float(amount) * 1_000_000), status)


async def partner(api, slug, iban=None, **details):
    made = await api.admin("POST", "/api/v1/partners", {"slug": slug, "name": slug.title()})
    assert made.status_code == 201, made.text
    if iban:
        await paid_to(api, slug, name=slug.title(), iban=iban, **details)


async def paid_to(api, slug, **details):
    put = await api.admin("PUT", f"/api/v1/payout-details/{slug}", details)
    assert put.status_code == 200, put.text


async def runs(api, period="2025-10", key=None, status=201, **more):
    body = {"period": period, "currency": "EUR"} | more
    made = await (api.call(key, "POST", RUNS, body) if key else api.admin("POST", RUNS, body))
    assert made.status_code == status, made.text
    return made.json()


async def does(api, run, action, status=200, key=None, **body):
    path = f"{RUNS}/{run}/{action}"
    done = await (api.call(key, "POST", path, body) if key else api.admin("POST", path, body))
    assert done.status_code == status, done.text
    return done.json() if "json" in done.headers["content-type"] else done


async def key_of(api, name, role="operator"):
    made = await api.admin("POST", "/api/v1/keys", {"role": role, "name": name})
    return made.json()["key"]


def amounts(shown):
    """(opening, lines, payment, closing, status) of each statement by partner."""
    return {one["partner"]: (one["opening"], one["lines"], one["payment"], one["closing"], one["status"]) for one in shown["statements"]}
