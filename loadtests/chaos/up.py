"""`turnout up` as a newcomer runs it: embedded servers, its own supervisor; parts, servers and `up` itself are killed."""

import asyncio
import json
import random
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from loadtests.chaos.build import LINK_LIVE_S, Plan, make_programme
from loadtests.chaos.http_client import Cut, ask, request
from loadtests.chaos.ledger import LINKS, Orders, Visits
from loadtests.chaos.load import Load
from loadtests.chaos.metrics import gauge
from loadtests.chaos.processes import Workplace, family, wait_until
from loadtests.chaos.servers import free_port
from loadtests.chaos.turnout import ADMIN_KEY, answers_200, clean_environment, run_cli
from loadtests.chaos.world import UP_FAULTS, Episode, NotHappened, fault

READY_S = 120.0
RESTART_S = 10.0  # 5 s are promised; a busy machine gets more before it counts as an error
STOP_S = 60.0
ENDED = (b'"level":"critical"', b'"event":"workers.failed"')  # what a part says that ends because of an error nobody expected
PARTS = {
    "redirector": ("serve", "redirector"), "tracker": ("serve", "tracker"), "clicks": ("work", "clicks"),
    "conversions": ("work", "conversions"), "routes": ("work", "routes"), "keeper": ("work", "keeper"),
}  # fmt: skip


@dataclass(eq=False, slots=True)
class Up:
    """One `turnout up` and its load."""

    place: Workplace
    environment: dict[str, str]
    ports: dict[str, int]
    rng: random.Random
    load: Load
    visits: Visits
    orders: Orders
    url: str = ""
    process: asyncio.subprocess.Process | None = None
    killed: dict[str, int] = field(default_factory=dict)
    read_bytes: int = 0

    async def start(self) -> None:
        """Start, and wait for `ready`."""
        command = [sys.executable, "-m", "tracker", "up"]
        self.process = await self.place.spawn(command, "up", env=self.environment, talks=True)
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), READY_S)
        if line != b"ready\n":
            raise RuntimeError(f"turnout up said {line!r}, see its log")

    def pid_of(self, name: str) -> int:
        """Of a part or server by name; 0 when it is not there."""
        assert self.process is not None
        for process in family(self.process.pid)[1:]:
            try:
                words = process.cmdline()
            except psutil.Error:
                continue
            if _is(name, words):
                return int(process.pid)
        return 0

    async def connect(self) -> Any:
        """A connection to the embedded PostgreSQL."""
        return await asyncpg.connect(self.url, timeout=5, command_timeout=60)

    async def audit(self) -> tuple[int, dict[str, Any]]:
        """`turnout audit --json`."""
        code, out, _ = await run_cli(self.environment, ("audit", "--json"))
        return code, dict(json.loads(out)) if out.strip() else {}

    async def make_whole(self) -> None:
        """Start `up` again if it is gone; wait for it."""
        assert self.process is not None
        if self.process.returncode is not None:
            await self.start()

    async def pages(self) -> dict[str, str]:
        """Metrics of the redirector, the tracker, and all workers."""
        paths = {"redirector": "/-/metrics", "tracker": "/metrics", "workers": "/metrics"}
        return {name: await self._page(name, path) for name, path in paths.items()}

    async def _page(self, name: str, path: str) -> str:
        try:
            reply = await ask(self.ports[name], request("GET", path), timeout_s=2.0)
        except (OSError, TimeoutError, Cut):
            return ""
        return (reply.body.decode() or "\n") if reply.status == 200 else ""

    def surprises(self) -> list[str]:
        """What the log says of parts that ended of themselves; `up` starts them again."""
        text = (self.place.logs / "up.log").read_bytes()[self.read_bytes :]
        self.read_bytes += len(text)
        return [line.decode(errors="replace")[:400] for line in text.splitlines() if any(word in line for word in ENDED)]

    async def stop(self) -> list[str]:
        """SIGTERM: exit code 0. It is then started again, without visitors, for the last look into its tables."""
        assert self.process is not None
        self.process.terminate()
        code = await asyncio.wait_for(self.process.wait(), STOP_S)
        await self.start()
        return [f"turnout up ended with {code} on SIGTERM"] if code else []

    def facts(self) -> dict[str, Any]:
        """What was killed."""
        return {"way": "turnout up, embedded servers", "killed": dict(self.killed)}


def _is(name: str, words: list[str]) -> bool:
    if name in PARTS:
        return words[-len(PARTS[name]) :] == list(PARTS[name]) or list(PARTS[name]) == words[3:5]
    program = words[0].rsplit("/", 1)[-1] if words else ""
    return program == {"postgres": "postgres", "valkey": "valkey-server"}[name]


async def build_up(plan: Plan, place: Workplace) -> Up:
    """Started, with links that work, and load."""
    data = place.root / "data"
    ports = {name: free_port() for name in ("redirector", "tracker", "workers")}
    environment = clean_environment(plan.tree) | {
        "TURNOUT_DATA_DIR": str(data), "TURNOUT_REDIRECTOR_PORT": str(ports["redirector"]), "TURNOUT_TRACKER_PORT": str(ports["tracker"]),
        "TURNOUT_WORKER_METRICS_PORT": str(ports["workers"]), "TURNOUT_ADMIN_KEY": ADMIN_KEY, "TURNOUT_FLOOD_LIMIT": "0",
        "TURNOUT_FALLBACK_URL": "https://shop.example/lost", "TURNOUT_JOURNAL_SEGMENT_BYTES": "4MB",
        "TURNOUT_INTERNAL_SHARED_MEMORY": str(place.memory), "CHAOS_RUN": place.marker,
    }  # fmt: skip
    load = Load(place, clicks_per_s=plan.clicks_per_s, orders_per_s=plan.orders_per_s, seed=plan.seed)
    visits, orders = Visits(load.visits_path), Orders(load.orders_path)
    up = Up(place, environment, ports, random.Random(plan.seed), load, visits, orders)
    await up.start()
    _leave_nothing(place, data)
    code, out, errors = await run_cli(environment, ("db", "url"))
    if code:
        raise RuntimeError(f"turnout db url: {errors}")
    up.url = out.strip()
    token = await make_programme(ports["tracker"])

    async def all_there() -> bool:
        return gauge((await up.pages())["redirector"], "turnout_routes_total") >= LINKS

    if not await wait_until(all_there, LINK_LIVE_S, every_s=0.2):
        raise TimeoutError("the links did not become live")
    await load.start(ports["redirector"], ports["tracker"], token)
    return up


def _leave_nothing(place: Workplace, data: Path) -> None:
    """As root PostgreSQL's data lie elsewhere, behind a link: they go with the run too."""
    cluster = data / "postgres"
    if cluster.is_symlink():
        place.created(cluster.resolve().parent)


async def _killed(up: Up, name: str) -> tuple[int, int]:
    """Kill a part or server; its pid, and that of the one that `up` started in its place (0: none in time)."""
    pid = up.pid_of(name)
    if not pid:
        raise NotHappened(f"there was no {name}")
    psutil.Process(pid).send_signal(signal.SIGKILL)
    up.killed[name] = up.killed.get(name, 0) + 1
    seen: list[int] = []  # one look decides: a process that is just becoming its program has no name for a moment

    def is_started() -> bool:
        seen.append(up.pid_of(name))
        return seen[-1] not in (0, pid)

    return pid, seen[-1] if await wait_until(is_started, RESTART_S) else 0


def _kill(name: str) -> Any:
    async def work(up: Up, episode: Episode) -> None:
        pairs = []
        episode.begin()
        for _ in range(up.rng.randint(1, 3)):
            pairs.append(await _killed(up, name))
            await asyncio.sleep(up.rng.uniform(0.3, 1.5))
        episode.heal()
        if not all(new for _, new in pairs):
            episode.failures.append(f"{name} was not started again within {RESTART_S:.0f} s")
        episode.evidence = f"SIGKILL of {[pid for pid, _ in pairs]}; `up` started {[new for _, new in pairs]}"

    return work


@fault("up_kill_both_servers", among=UP_FAULTS)
async def kill_both_servers(up: Up, episode: Episode) -> None:
    """PostgreSQL and Valkey at once."""
    episode.begin()
    pairs = await asyncio.gather(_killed(up, "postgres"), _killed(up, "valkey"))
    episode.heal()
    if not all(new for _, new in pairs):
        episode.failures.append(f"a server was not started again within {RESTART_S:.0f} s")
    episode.evidence = f"SIGKILL of {[pid for pid, _ in pairs]}"


@fault("up_kill_all", among=UP_FAULTS, closes_port=True)
async def kill_all(up: Up, episode: Episode) -> None:
    """`up` itself: all parts and servers must die with it; then it is started again on its data."""
    assert up.process is not None
    everyone = family(up.process.pid)
    episode.begin()
    up.process.kill()
    await up.process.wait()
    gone = await wait_until(lambda: not any(process.is_running() for process in everyone), RESTART_S)
    left = [process.pid for process in everyone if process.is_running()]
    started = time.monotonic()
    await up.start()
    episode.heal()
    if not gone:
        episode.failures.append(f"{len(left)} processes outlived `up` by {RESTART_S:.0f} s")
    if not await answers_200(up.ports["redirector"], "/-/readyz"):
        episode.failures.append("the redirector is not ready after `ready`")
    episode.evidence = (
        f"SIGKILL of {everyone[0].pid}, {len(everyone)} processes ended; ready again after {time.monotonic() - started:.1f} s"
    )


for _name in (*PARTS, "postgres", "valkey"):
    fault(f"up_kill_{_name}", among=UP_FAULTS, cheap=True)(_kill(_name))
