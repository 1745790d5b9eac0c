"""How much of an old platform's past still counts: clicks inside their windows, orders to come of them, and until when. Pure."""

from bisect import bisect_right
from collections.abc import Sequence
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
    """What is left of a source. `until`: when its last window ends, None: all are over. `basis` `few`: there are too few conversions to
    tell how many are to come, so `expected` is None; it is 0 where all windows are over."""

    in_window: int
    unmapped: int
    expected: float | None
    basis: Basis
    until: datetime | None


def remaining(heaps: Sequence[Heap], *, conversions: int, seen_days: float) -> Remaining:
    """What is left; `conversions` of the clicks came in the last `seen_days`, in which we were told of them.

    Each click counts by the share of its orders that fell into those days: a click of before them has had the earlier ones elsewhere.
    """
    inside = [heap for heap in heaps if heap.age_days < heap.window_days]
    told = sum(heap.clicks * _share_seen(heap, seen_days) for heap in heaps if len(_within(heap)) >= ENOUGH)
    has_curve = not inside or (conversions >= ENOUGH and told > 0 and all(len(_within(heap)) >= ENOUGH for heap in inside))
    rate = min(conversions / told, 1.0) if told else 0.0
    return Remaining(
        in_window=sum(heap.clicks for heap in inside),
        unmapped=sum(heap.clicks for heap in inside if not heap.is_mapped),
        expected=sum((heap.clicks * rate * share_after(_within(heap), _age(heap)) for heap in inside), 0.0) if has_curve else None,
        basis="curve" if has_curve else "few",
        until=max((heap.last_at + timedelta(days=heap.window_days) for heap in inside), default=None),
    )


def share_after(ages: Sequence[float], age_days: float) -> float:
    """Which share of conversions came later than `age_days` after their click. `ages` ascend; without any: all."""
    return 1 - bisect_right(ages, age_days) / len(ages) if ages else 1.0


def _share_seen(heap: Heap, seen_days: float) -> float:
    age, ages = _age(heap), _within(heap)
    before = share_after(ages, age - seen_days) if age > seen_days else 1.0
    return before - share_after(ages, age)


def _age(heap: Heap) -> float:
    return heap.age_days + 0.5


def _within(heap: Heap) -> Sequence[float]:
    return heap.ages[: bisect_right(heap.ages, heap.window_days)]
