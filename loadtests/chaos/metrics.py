"""Turnout's own counters, over restarts of its parts: sampled each second, so a killed part takes its last second along."""

import asyncio
import re
from collections import defaultdict

from loadtests.chaos.world import Scene

EVERY_S = 1.0
SAMPLE = re.compile(r"^(turnout_\w+?)(\{[^}]*\})? (\S+)$", re.MULTILINE)
WATCHED = {
    "turnout_ack_deadline_total": "",
    "turnout_clicks_unrecorded_total": "",
    "turnout_conversions_unrecorded_total": "",
    "turnout_clicks_duplicate_total": "",
    "turnout_postbacks_total": 'outcome="journaled"',
}


def read(text: str) -> dict[str, float]:
    """The watched counters of a page, summed over labels; only those with the label that is watched."""
    found = defaultdict[str, float](float)
    for name, labels, value in SAMPLE.findall(text):
        if name in WATCHED and WATCHED[name] in labels:
            found[name] += float(value)
    return dict(found)


def gauge(text: str, name: str) -> float:
    """Sum of a gauge over its labels."""
    return sum(float(value) for found, _, value in SAMPLE.findall(text) if found == name)


class Watch:
    """Samples all parts until cancelled."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._last: dict[tuple[str, str], float] = {}
        self.totals = defaultdict[str, float](float)

    async def run(self) -> None:
        """Sample each second."""
        while True:
            await self.sample()
            await asyncio.sleep(EVERY_S)

    async def sample(self) -> None:
        """One look at every part."""
        for part, text in (await self._scene.pages()).items():
            for name, value in read(text).items():
                last = self._last.get((part, name), 0.0)
                self.totals[name] += value - last if value >= last else value
                self._last[part, name] = value
