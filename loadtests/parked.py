"""What a million parked postbacks, whose click ids nobody knows, cost an installation a second.

    python loadtests/parked.py [--postbacks 1000000] [--clicks 300000] [--seconds 60]

They are put into PostgreSQL as a day of such postbacks would have left them: 11.6 a second arrived, each was tried after 1 s, then after
twice the pause before. `turnout up` then goes on trying them. Measured are the tries a second, the time that PostgreSQL spent on
statements (`active_time` of `pg_stat_database`), and the processor time of its backends and of the process that tries, beside what an
idle installation needs. Then, as the worst case, a tenth of them is made due at once. The raw result goes to
loadtests/results/parked.json.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg
import psutil
from installation import Installation
from redirects import PORT, circumstances

RESULT = Path(__file__).parent / "results" / "parked.json"
DAY_S = 86_400
QUIET_S = 12.0  # a session tells of its statements 10 s after the last of them at the latest
BURST_S = 20.0
# Clicks of the last four weeks, half of them with an old platform's click id, so that there is something to look through.
CLICKS = """
    INSERT INTO clicks (click_id, clicked_at, kind, method, host, url, link, partner, campaign, advertiser, creative, outcome, verdict,
        rule_version, counted, is_unique, redirected_to, ip, country, network, device, os, browser, user_agent, referrer, language,
        truncated, node, boot, seq, old_click_id)
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3) || '8'
            || substr(md5(n::text), 4, 15))::uuid,
        at, 'link', 'GET', 'go.example', '/c/c0', l.id, l.partner_id, l.campaign_id, l.advertiser_id, '', 'ok', 'ok', 1, true, true,
        'https://shop.example/p', '', 'FR', '', 'desktop', 'Linux', 'Firefox', 'Mozilla/5.0', '', '', false, 'n',
        '00000000-0000-7000-8000-000000000001', n, CASE WHEN n % 2 = 0 THEN 'old-' || md5('o' || n) END
    FROM (SELECT n, now() - interval '28 days' * n / $1::bigint AS at FROM generate_series(1, $1::bigint) n) g, links l LIMIT $1
"""
# Half are of another platform's form, half look like ours. `tries` and `next_try_at` are those of their age.
POSTBACKS = """
    INSERT INTO postbacks (postback_id, received_at, source, advertiser_id, txid, click_id, amount_micros, currency, status, parameters,
        outcome, reason, tries, next_try_at, parked_until)
    SELECT uuidv7(), at, 'postback', a.id, 'J-' || n, CASE WHEN n % 2 = 0 THEN md5('p' || n) ELSE 'junk-' || md5('p' || n) END,
        10000000, 'EUR', 'approved',
        '{"landing":"https://shop.example/some/page","campaign":"spring"}', 'parked', 'no click has this id', tried + 1,
        at + interval '1 s' * (2 ^ (tried + 1) - 1), at + interval '30 days'
    FROM (
        SELECT n, at, floor(log(2, (extract(epoch FROM now() - at) + 1)::numeric))::int AS tried
        FROM (SELECT n, now() - interval '1 s' * $2::float8 * n / $1::bigint AS at FROM generate_series(1, $1::bigint) n) t
    ) g, advertisers a
"""
BURST = "UPDATE postbacks SET next_try_at = now() WHERE outcome = 'parked' AND abs(hashtext(txid)) % 10 = 0"
TRIED = """
    SELECT (SELECT coalesce(sum(tries), 0)::bigint FROM postbacks) AS tries,
        (SELECT coalesce(extract(epoch FROM now() - min(next_try_at)), 0)::float8 FROM postbacks WHERE outcome = 'parked') AS overdue_s
"""
ACTIVE = "SELECT active_time / 1000 AS seconds FROM pg_stat_database WHERE datname = current_database()"


class Meter:
    """Processor time of PostgreSQL's backends and of the workers, and the time statements took."""

    def __init__(self, turnout: Installation, connection: Any) -> None:
        family = psutil.Process(turnout.up.pid).children(recursive=True)
        self._connection = connection
        self._postgres = next(process for process in family if process.name() == "postgres")
        self._workers = [process for process in family if "conversions" in process.cmdline()]

    async def read(self) -> dict[str, float]:
        """All of them, in seconds since their beginning."""
        active = await self._connection.fetchval(ACTIVE)
        return {"at": time.monotonic(), "statements": active, "backends": _cpu(self._backends()), "workers": _cpu(self._workers)}

    def _backends(self) -> list[psutil.Process]:
        """Those that serve somebody; the one of these measurements is among them, and costs next to nothing."""
        return [one for one in self._postgres.children() if "turnout" in " ".join(one.cmdline())]


def _cpu(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes if process.is_running())


async def measured(meter: Meter, connection: Any, seconds: float) -> dict[str, float]:
    """What happened in so many seconds, a second."""
    first_tries, first = (await connection.fetchrow(TRIED))["tries"], await meter.read()
    await asyncio.sleep(seconds)
    last, told = await meter.read(), await connection.fetchrow(TRIED)
    elapsed = last["at"] - first["at"]
    rates = {f"{name}_s": round((last[name] - first[name]) / elapsed, 4) for name in ("statements", "backends", "workers")}
    return {"tries": round((told["tries"] - first_tries) / elapsed, 1), **rates, "overdue_s": round(max(told["overdue_s"], 0.0), 1)}


async def measure(turnout: Installation, asked: argparse.Namespace) -> dict[str, Any]:
    """Idle, with the postbacks of a day, and with a tenth of them due at once."""
    connection = await asyncpg.connect(turnout.cli("db", "url").strip())
    try:
        await connection.execute(CLICKS, asked.clicks, timeout=600)
        await connection.execute("ANALYZE")
        meter = Meter(turnout, connection)
        await asyncio.sleep(QUIET_S)
        idle = await measured(meter, connection, asked.seconds / 2)
        await connection.execute(POSTBACKS, asked.postbacks, DAY_S, timeout=600)
        await connection.execute("VACUUM ANALYZE postbacks", timeout=600)
        await asyncio.sleep(QUIET_S)
        steady = await measured(meter, connection, asked.seconds)
        await connection.execute(BURST, timeout=600)
        await asyncio.sleep(QUIET_S)
        burst = await measured(meter, connection, BURST_S)
    finally:
        await connection.close()
    return {"idle": idle, "a day of junk": steady, "a tenth due at once": burst}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--postbacks", type=int, default=1_000_000)
    parser.add_argument("--clicks", type=int, default=300_000)
    parser.add_argument("--seconds", type=float, default=60)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="turnout-bench-") as folder:
        turnout = Installation(Path(folder), PORT, 1)
        try:
            a_second = asyncio.run(measure(turnout, asked))
        finally:
            turnout.close()
    result = {
        "what": "parked postbacks whose click ids nobody knows; all figures are a second",
        "postbacks": asked.postbacks,
        "clicks": asked.clicks,
        "a_second": a_second,
        **circumstances(),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
