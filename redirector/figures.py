"""What redirector processes count, and how the figures of several make those of the host. Pure."""

from collections.abc import Callable, Iterable

import msgspec

Labels = tuple[str, ...]
Counts = dict[str, dict[Labels, float]]

GAUGES: dict[str, Callable[[float, float], float]] = {
    "turnout_journal_bytes": float.__add__,
    "turnout_journal_kept_bytes": float.__add__,
    "turnout_journal_oldest_age_seconds": max,
    "turnout_redis_breaker_state": max,
    "turnout_conversion_journal_bytes": float.__add__,
    "turnout_conversion_journal_oldest_age_seconds": max,
}
"""How the gauges of two processes make one: each has journals of its own, and the worst age or breaker is what people must see."""


class Figures(msgspec.Struct):
    """One process's counters, those that it inherited included, by name and label values; and its gauges as they stood."""

    counters: Counts
    gauges: dict[str, float]


def added(left: Counts, right: Counts) -> Counts:
    """The sums of two sets of counters; what only one of them has is kept."""
    total = {name: dict(samples) for name, samples in left.items()}
    for name, samples in right.items():
        mine = total.setdefault(name, {})
        for labels, value in samples.items():
            mine[labels] = mine.get(labels, 0) + value
    return total


def of_host(own: Figures, others: Iterable[tuple[Figures, bool]]) -> Figures:
    """The figures of all processes together. A dead process (False beside its figures) has counted, but has no gauges any more."""
    counters, gauges = own.counters, dict(own.gauges)
    for figures, is_alive in others:
        counters = added(counters, figures.counters)
        if is_alive:
            gauges = {name: GAUGES[name](value, figures.gauges.get(name, 0.0)) for name, value in gauges.items()}
    return Figures(counters, gauges)
