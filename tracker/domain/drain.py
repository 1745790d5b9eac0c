"""How much of an old platform's past still counts: clicks inside their windows, orders to come of them, and until when. Pure."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

ENOUGH: Final = 20  # conversions, for a curve of their ages or a rate to say anything
Basis = Literal["curve", "few"]


@dataclass(frozen=True, slots=True)
class Heap:
    """Clicks of one day of age (0: the last 24 hours) with one window. `ages`: in days, ascending, of its advertiser's conversions."""

    age_days: int
    window_days: int
    clicks: int
    last_at: datetime
    ages: Sequence[float] = ()
    is_mapped: bool = True


@dataclass(frozen=True, slots=True)
class Remaining:
    """What is left of a source. `until`: when its last window ends, None: all are over. `basis` `few`: there are too few conversions for
    their ages to tell, so each click counts as if it were made now."""

    in_window: int
    unmapped: int
    expected: float
    basis: Basis
    until: datetime | None


def remaining(heaps: Iterable[Heap], *, conversions: int, clicks: int) -> Remaining:
    """What is left; `conversions` came of `clicks` old clicks in the time that was looked at."""
    inside = [heap for heap in heaps if heap.age_days < heap.window_days]
    rate = min(conversions / clicks, 1.0) if clicks else 0.0
    has_curve = conversions >= ENOUGH and all(len(_within(heap)) >= ENOUGH for heap in inside)
    expected = sum(heap.clicks * rate * (share_after(_within(heap), heap.age_days + 0.5) if has_curve else 1.0) for heap in inside)
    return Remaining(
        in_window=sum(heap.clicks for heap in inside),
        unmapped=sum(heap.clicks for heap in inside if not heap.is_mapped),
        expected=expected,
        basis="curve" if has_curve else "few",
        until=max((heap.last_at + timedelta(days=heap.window_days) for heap in inside), default=None),
    )


def share_after(ages: Sequence[float], age_days: float) -> float:
    """Which share of conversions came later than `age_days` after their click. `ages` ascend; without any: all."""
    return 1 - bisect_right(ages, age_days) / len(ages) if ages else 1.0


def _within(heap: Heap) -> Sequence[float]:
    return heap.ages[: bisect_right(heap.ages, heap.window_days)]
