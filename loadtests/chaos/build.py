"""What was asked for, and the world that it needs: servers, proxies, Turnout in parts, a programme, load."""

import asyncio
import random
from dataclasses import dataclass
from pathlib import Path

from loadtests.chaos.disk import Disk
from loadtests.chaos.ledger import GOALS, LINKS, Orders, Visits
from loadtests.chaos.load import Load
from loadtests.chaos.metrics import gauge
from loadtests.chaos.network import Network
from loadtests.chaos.processes import Workplace, wait_until
from loadtests.chaos.servers import Postgres, Valkey, free_port
from loadtests.chaos.turnout import Installation, call_api
from loadtests.chaos.world import Fault, World

LINK_LIVE_S = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for."""

    seconds: float
    seed: int
    faults: list[Fault]
    tree: Path
    postgres_programs: Path
    valkey_program: Path
    clicks_per_s: float = 300.0
    orders_per_s: float = 8.0
    logs: Path | None = None
    is_up: bool = False
    least: int = 0


async def make_programme(tracker_port: int) -> str:
    """Advertiser, two campaigns with their goals, partner, links; the postback token."""
    percent, fixed = {"type": "percent", "percent": "10"}, {"type": "fixed", "amount": "5.00", "currency": "EUR"}
    status, made = await call_api(
        tracker_port, "POST", "/advertisers", {"slug": "shop", "name": "Shop", "currency": "EUR", "domains": ["shop.example"]}
    )
    bodies = [
        (
            "/campaigns",
            {"slug": name, "advertiser": "shop", "name": name, "destination_url": f"https://shop.example/{name}", "payout": payout},
        )
        for name, payout in (("percent", percent), ("fixed", fixed))
    ]
    bodies += [
        ("/goals", {"slug": goal, "campaign": campaign, "duplicate_policy": policy})
        for goal, policy in GOALS.items()
        for campaign in ("percent", "fixed")
    ]
    bodies.append(("/partners", {"slug": "blog", "name": "Blog"}))
    links = [{"slug": f"l{n}", "partner": "blog", "campaign": "fixed" if n % 2 else "percent"} for n in range(LINKS)]
    for path, body in [*bodies, ("/links", links)]:
        status = min(status, 201) if (answer := await call_api(tracker_port, "POST", path, body))[0] == 201 else answer[0]
    if status != 201:
        raise RuntimeError(f"the programme could not be made: {status} {made}")
    return str(made["postback_token"])


async def build(plan: Plan, place: Workplace) -> World:
    """Everything started, healthy, with links that work; no load yet."""
    postgres, valkey = Postgres(place, plan.postgres_programs), Valkey(place, plan.valkey_program)
    await asyncio.gather(postgres.create(), valkey.create())
    ports = {"postgres": free_port(), "redis": free_port()}
    network = Network(place, {"postgres": (ports["postgres"], postgres.port), "redis": (ports["redis"], valkey.port)})
    await network.start()
    turnout = Installation(place, plan.tree, postgres.url(ports["postgres"]), valkey.url(ports["redis"]))
    disk = Disk(place, turnout.data / "journal")
    disk.mount()
    code, _, errors = await turnout.cli("db", "upgrade")
    if code:
        raise RuntimeError(f"turnout db upgrade: {errors}")
    for name in ("routes", "redirector", "tracker"):
        turnout.add(name)
    if not await wait_until(lambda: turnout.is_ready("tracker", "/readyz"), 60.0):
        raise TimeoutError("the tracker is not ready")
    token = await make_programme(turnout.ports["tracker"])
    for name in ("clicks", "conversions", "keeper"):
        turnout.add(name)
    await _until_live(turnout)
    load = Load(place, clicks_per_s=plan.clicks_per_s, orders_per_s=plan.orders_per_s, seed=plan.seed)
    await load.start(turnout.ports["redirector"], turnout.ports["tracker"], token)
    visits, orders = Visits(load.visits_path), Orders(load.orders_path)
    return World(place, postgres, valkey, network, turnout, disk, load, visits, orders, random.Random(plan.seed))


async def _until_live(turnout: Installation) -> None:
    async def all_there() -> bool:
        return gauge(await turnout.metrics("redirector"), "turnout_routes_total") >= LINKS

    if not await wait_until(all_there, LINK_LIVE_S, every_s=0.2):
        raise TimeoutError("the links did not become live")
