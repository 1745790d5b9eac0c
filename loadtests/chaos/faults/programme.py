"""People who work while visitors come: an import beside edits, the keeper beside a long report."""

import asyncio
import time

from loadtests.chaos.http_client import Cut, ask, request
from loadtests.chaos.ledger import LINKS
from loadtests.chaos.processes import wait_until
from loadtests.chaos.world import Episode, NotHappened, World, fault

IMPORTED = 300
LIVE_S = 2.0
REPORT_S = 9.0
LAST_DAY = """
    SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'clicks'::regclass AND c.relname ~ '^clicks_[0-9]{8}$' ORDER BY 1 DESC LIMIT 1
"""


@fault("link_import", cheap=True)
async def link_import(world: World, episode: Episode) -> None:
    """`turnout link import` while links are edited over the API; each new link works within 2 s."""
    batch = f"i{world.rng.randrange(10**9):x}"
    file = world.place.root / f"{batch}.csv"
    rows = "".join(f"{batch}-{number},blog,percent\n" for number in range(IMPORTED))
    file.write_text("slug,partner,campaign\n" + rows)
    episode.begin()
    editing = asyncio.create_task(_edit(world))
    code, out, errors = await world.turnout.cli("link", "import", str(file), "--json")
    imported_at = time.monotonic()
    late = await _late_links(world, [f"{batch}-{number}" for number in range(0, IMPORTED, 10)], imported_at + LIVE_S)
    live_after = time.monotonic() - imported_at
    edits = await editing
    episode.heal()
    if code or not edits:
        raise NotHappened(f"import ended with {code}: {(errors or out)[-200:]}; {edits} edits")
    if late:
        episode.failures.append(f"{len(late)} new links did not work within {LIVE_S:.0f} s: {late[:3]}")
    episode.evidence = f"{IMPORTED} links imported beside {edits} edits, live after {live_after:.2f} s"


async def _edit(world: World) -> int:
    done, end = 0, time.monotonic() + 4.0
    while time.monotonic() < end:
        link = f"l{world.rng.randrange(LINKS)}"
        status, _ = await world.turnout.api("PATCH", f"/links/{link}", {"destination_url": f"https://shop.example/{link}?edit={done}"})
        done += status == 200
        await asyncio.sleep(0.05)
    return done


async def _late_links(world: World, slugs: list[str], deadline: float) -> list[str]:
    """Those that did not lead to their shop in time."""
    waiting = list(slugs)
    while waiting and time.monotonic() < deadline:
        waiting = [slug for slug in waiting if not await _works(world, slug)]
    return waiting


async def _works(world: World, slug: str) -> bool:
    try:
        reply = await ask(
            world.turnout.ports["redirector"], request("HEAD", f"/c/{slug}?sub1=probe", User_Agent="Mozilla/5.0"), timeout_s=5.0
        )
    except (OSError, TimeoutError, Cut):
        return False
    return reply.status == 302 and "/percent" in reply.headers.get("location", "")


@fault("keeper_beside_report")
async def keeper_beside_report(world: World, episode: Episode) -> None:
    """A report keeps its transaction open over `clicks` while the keeper must make a missing day."""
    day = (await world.postgres.fetch(LAST_DAY))[0]["name"]
    report = await world.postgres.connect()
    episode.begin()
    try:
        await _drop(world, day)
        async with report.transaction(isolation="repeatable_read", readonly=True):
            await report.fetchval("SELECT count(*) FROM clicks")
            await world.turnout.kill("keeper")
            await asyncio.sleep(REPORT_S)
            counted = await report.fetchval("SELECT count(*) FROM clicks")
    finally:
        await report.close()
    episode.heal()
    if not await wait_until(lambda: _has(world, day), 60.0, every_s=0.5):
        episode.failures.append(f"the keeper did not make {day} again within a minute after the report")
    episode.evidence = (
        f"{day} was missing; a report over {counted} clicks was open for {REPORT_S:.0f} s; the keeper was restarted beside it"
    )


async def _drop(world: World, day: str) -> None:
    admin = await world.postgres.connect()
    try:
        async with admin.transaction():
            await admin.execute("SET LOCAL lock_timeout = '5s'")
            await admin.execute(f'DROP TABLE "{day}"')
    finally:
        await admin.close()


async def _has(world: World, day: str) -> bool:
    return bool((await world.postgres.fetch(LAST_DAY))[0]["name"] == day)
