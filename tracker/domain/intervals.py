"""Sets of sequence numbers as disjoint half-open ranges, the way PostgreSQL's `int8multirange` holds them."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

_RANGE = re.compile(r"\[(\d+),(\d+)\)")


class SeqSet:
    """A mutable set of non-negative integers, cheap where they come in runs. Ranges are `[start, stop)`."""

    __slots__ = ("_starts", "_stops")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        for start, stop in ranges:
            self.add(start, stop)

    @classmethod
    def parse(cls, text: str) -> "SeqSet":
        """From PostgreSQL's text form, `{[1,501),[505,511)}`. ValueError on anything else."""
        if not re.fullmatch(r"\{(\[\d+,\d+\)(,\[\d+,\d+\))*)?\}", text):
            raise ValueError(f"not an int8multirange: {text[:100]!r}")
        return cls((int(a), int(b)) for a, b in _RANGE.findall(text))

    def __str__(self) -> str:
        return "{" + ",".join(f"[{a},{b})" for a, b in self) + "}"

    def __repr__(self) -> str:
        return f"SeqSet({self})"

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._starts, self._stops, strict=True)))

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __len__(self) -> int:
        """How many numbers are in it (not how many ranges)."""
        return sum(self._stops) - sum(self._starts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SeqSet) and self._starts == other._starts and self._stops == other._stops

    __hash__ = None  # type: ignore[assignment] # mutable

    def __contains__(self, seq: int) -> bool:
        at = bisect_right(self._starts, seq) - 1
        return at >= 0 and seq < self._stops[at]

    def run_stop(self, seq: int) -> int:
        """Where the run that `seq` is in ends (exclusive); `seq` itself when it is not in the set."""
        at = bisect_right(self._starts, seq) - 1
        return max(seq, self._stops[at]) if at >= 0 else seq

    def covers(self, start: int, stop: int) -> bool:
        """Whether all of `[start, stop)` is in it; an empty range always is."""
        if start >= stop:
            return True
        at = bisect_right(self._starts, start) - 1
        return at >= 0 and stop <= self._stops[at]

    def overlaps(self, start: int, stop: int) -> bool:
        """Whether any of `[start, stop)` is in it."""
        at = bisect_left(self._stops, start + 1)
        return start < stop and at < len(self._starts) and self._starts[at] < stop

    def add(self, start: int, stop: int) -> None:
        """Put `[start, stop)` in; touching ranges become one."""
        if start >= stop:
            return
        left, right = bisect_left(self._stops, start), bisect_right(self._starts, stop)
        if left < right:
            start, stop = min(start, self._starts[left]), max(stop, self._stops[right - 1])
        self._starts[left:right] = [start]
        self._stops[left:right] = [stop]

    def discard(self, start: int, stop: int) -> None:
        """Take `[start, stop)` out, as far as it is in."""
        if start >= stop:
            return
        left, right = bisect_left(self._stops, start + 1), bisect_left(self._starts, stop)
        if left >= right:
            return
        first, last = self._starts[left], self._stops[right - 1]
        kept = [(a, b) for a, b in ((first, start), (stop, last)) if a < b]
        self._starts[left:right] = [a for a, _ in kept]
        self._stops[left:right] = [b for _, b in kept]

    def copy(self) -> "SeqSet":
        """An independent equal set."""
        twin = SeqSet()
        twin._starts, twin._stops = self._starts.copy(), self._stops.copy()
        return twin

    def update(self, other: "SeqSet") -> None:
        """Put all of `other` in."""
        for start, stop in other:
            self.add(start, stop)

    def minus(self, other: "SeqSet") -> "SeqSet":
        """What is here and not in `other`."""
        rest = self.copy()
        for start, stop in other:
            rest.discard(start, stop)
        return rest

    def within(self, start: int, stop: int) -> "SeqSet":
        """The part inside `[start, stop)`."""
        part = SeqSet()
        at = bisect_left(self._stops, start + 1)
        while at < len(self._starts) and self._starts[at] < stop:
            part.add(max(start, self._starts[at]), min(stop, self._stops[at]))
            at += 1
        return part

    def both(self, other: "SeqSet") -> "SeqSet":
        """What is in both."""
        part = SeqSet()
        for start, stop in other:
            part.update(self.within(start, stop))
        return part

    @property
    def first(self) -> int | None:
        """The least number; None when empty."""
        return self._starts[0] if self._starts else None

    @property
    def last(self) -> int | None:
        """The greatest number; None when empty."""
        return self._stops[-1] - 1 if self._stops else None
