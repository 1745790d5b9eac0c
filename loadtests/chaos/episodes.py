"""Plays faults one after the other, in an order that the seed decides, and measures how long recovery takes."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import asyncpg

from loadtests.chaos.click_ids import to_uuid
from loadtests.chaos.oracle import drift
from loadtests.chaos.world import Episode, Fault, NotHappened, Scene, Skipped

FAULT_S = 150.0
RECOVERY_S = 90.0
ORDERS_RECOVERY_S = 15.0  # beyond, it is told as it is; the end of the run waits for all of them
CALM_S = 1.5  # after a named loss nobody waits for what is lost
ANSWERS_S = 0.3  # until the ledger has the answers to visits that waited
WARM_UP_S, LAST_CALM_S = 3.0, 2.0
POLL_S = 0.2
PARTS_ANSWER_S, PARTS_POLL_S, AT_ONCE_S = 30.0, 0.05, 0.5
STORED_CLICKS = "SELECT click_id FROM clicks WHERE click_id = ANY($1::uuid[])"
SETTLED_ORDERS = "SELECT txid FROM conversions WHERE txid = ANY($1::text[]) AND status <> 'orphan'"


def chosen(words: str, faults: Mapping[str, Fault]) -> list[Fault]:
    """Faults by name, `all`, `cheap`, `none`, or `NAME*` for all that begin so, separated by commas. ValueError for an unknown one."""
    found: dict[str, Fault] = {}
    for word in filter(None, (word.strip() for word in words.split(","))):
        names = {name: fault for name, fault in faults.items() if _is_meant(word, fault)}
        if not names and word != "none":
            raise ValueError(f"there is no fault {word!r}; --list shows them")
        found |= names
    return list(found.values())


def _is_meant(word: str, fault: Fault) -> bool:
    if word.endswith("*"):
        return fault.name.startswith(word[:-1])
    return word in ("all", fault.name) or (word == "cheap" and fault.is_cheap)


def schedule(faults: Sequence[Fault], rng: random.Random) -> Iterator[Fault]:
    """Rounds in which each fault comes once, in another order each time."""
    while faults:
        yield from rng.sample(faults, len(faults))


async def play_all(scene: Scene, faults: Sequence[Fault], seconds: float, say: Callable[[str], None], least: int = 0) -> list[Episode]:
    """Play faults for so long, and on a slow machine up to twice as long, until `least` have happened. `say` is told of each.

    The last one is played to its end.
    """
    await asyncio.sleep(WARM_UP_S)
    end, episodes, skipped = time.monotonic() + seconds - WARM_UP_S, list[Episode](), set[str]()
    for fault in schedule(faults, scene.rng):
        allowed_s = 0 if sum(episode.has_happened for episode in episodes) >= least else seconds
        if time.monotonic() >= end + allowed_s or len(skipped) == len(faults):
            break
        if fault.name in skipped:
            continue
        scene.load.check()
        episode = await play(scene, fault)
        episodes.append(episode)
        say(_told(episode))
        if episode.skipped:
            skipped.add(fault.name)
        else:
            await asyncio.sleep(scene.rng.uniform(0.2, 1.0))
    await asyncio.sleep(max(end - time.monotonic(), LAST_CALM_S))
    scene.load.check()
    return episodes


def _told(episode: Episode) -> str:
    if episode.skipped:
        return f"{episode.name}: skipped, {episode.skipped}"
    state = episode.evidence if episode.has_happened else f"did NOT happen: {episode.missed}"
    recovery = "never" if episode.recovery_s is None else f"{episode.recovery_s:.1f} s"
    failures = "".join(f"; FAILED: {failure}" for failure in episode.failures)
    return f"{episode.name}: {state}; outage {episode.outage_s:.1f} s, recovered after {recovery}, drift {episode.drift}{failures}"


async def play(scene: Scene, fault: Fault) -> Episode:
    """Inject one fault, undo it whatever happens, and wait until nothing of it is left."""
    episode = Episode(fault.name, permits_loss=fault.permits_loss, closes_port=fault.closes_port)
    try:
        async with asyncio.timeout(FAULT_S):
            await fault.work(scene, episode)
    except Skipped as exc:
        episode.skipped = str(exc)
        return episode
    except NotHappened as exc:
        episode.missed = str(exc)
    except Exception as exc:  # noqa: BLE001 - whatever went wrong belongs into the table, and the next fault still comes
        episode.missed = f"{type(exc).__name__}: {exc}"
        episode.failures.append(f"the fault could not be played to its end: {type(exc).__name__}: {exc}")
    episode.begin()
    await scene.make_whole()
    if not await _answers_at_once(scene) or not episode.healed_at:
        episode.heal()
    await _recover(scene, episode)
    episode.failures += scene.surprises()
    episode.ended_at = time.monotonic()
    return episode


async def _answers_at_once(scene: Scene) -> bool:
    """Whether every part answers; else wait until they do: a part that is still starting is still away, also while its socket waits."""
    began = time.monotonic()
    while time.monotonic() < began + PARTS_ANSWER_S:
        if all((await scene.pages()).values()):
            return time.monotonic() - began < AT_ONCE_S
        await asyncio.sleep(PARTS_POLL_S)
    return False


async def _recover(scene: Scene, episode: Episode) -> None:
    await asyncio.sleep(ANSWERS_S)
    scene.visits.refresh()
    scene.orders.refresh()
    seen = scene.visits.between(episode.started_at, episode.healed_at)
    clicks = [to_uuid(visit.click_id) for visit in seen if visit.outcome == "ok"]
    limit_s = CALM_S if episode.permits_loss else RECOVERY_S
    episode.recovery_s = await _until_there(scene, STORED_CLICKS, clicks, episode.healed_at, limit_s)
    if episode.recovery_s is None and not episode.permits_loss:
        episode.failures.append(f"clicks of the fault were not all stored within {RECOVERY_S:.0f} s")
    accepted = [
        order.txid
        for order in scene.orders.by_txid.values()
        if order.accepted_at and episode.started_at <= order.accepted_at <= episode.healed_at
    ]
    episode.orders_recovery_s = await _until_there(scene, SETTLED_ORDERS, accepted, episode.healed_at, ORDERS_RECOVERY_S)
    connection = await scene.connect()
    try:
        episode.drift = await drift(connection)
    finally:
        await connection.close()


async def _until_there(scene: Scene, statement: str, wanted: list[Any], since: float, limit_s: float) -> float | None:
    """Seconds from `since` until all that is wanted is found; None when that takes too long."""
    missing, end = set(wanted), time.monotonic() + limit_s
    while True:
        try:
            connection = await scene.connect()
            try:
                missing -= {row[0] for row in await connection.fetch(statement, list(missing))}
            finally:
                await connection.close()
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            pass  # still starting
        if not missing:
            return max(time.monotonic() - since, 0.0)
        if time.monotonic() > end:
            return None
        await asyncio.sleep(POLL_S)
