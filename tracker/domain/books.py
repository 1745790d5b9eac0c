"""The books of a boot: what was accepted must be stored, duplicate, rejected, unrecorded or provably on its way. Pure.

accepted = stored + duplicate + rejected + in_flight + unrecorded + unaccounted
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from tracker.domain.intervals import SeqSet

SILENT_AFTER = timedelta(seconds=60)  # a boot that is neither closed nor heard of for so long may hold what nobody knows


class State(StrEnum):
    """From best to worst."""

    BALANCED = "balanced"
    IN_FLIGHT = "in_flight"
    UNKNOWN = "unknown"
    UNBALANCED = "unbalanced"


@dataclass(slots=True)
class Delta:
    """What one transaction adds to the books of one boot. `fresh` is accounted here for the first time, `seen` was before."""

    boot: bytes
    node: str
    kind: str
    host_id: str
    fresh: SeqSet = field(default_factory=SeqSet)
    seen: SeqSet = field(default_factory=SeqSet)
    stored: int = 0
    duplicate: int = 0
    rejected: int = 0
    redelivered: int = 0
    accepted: int = 0
    last_seq: int = 0
    unrecorded: int = 0
    closed_seq: int | None = None
    lost: SeqSet = field(default_factory=SeqSet)

    def heard(self, accepted: int, last_seq: int, closed_seq: int | None, unrecorded: int, lost: SeqSet) -> None:
        """Take in what an entry says of its boot; entries may come in any order and more than once."""
        self.accepted = max(self.accepted, accepted)
        self.last_seq = max(self.last_seq, last_seq, closed_seq or 0)
        if closed_seq is not None:
            self.closed_seq = max(self.closed_seq or 0, closed_seq)
            self.unrecorded = max(self.unrecorded, unrecorded)
            self.lost.update(lost)

    def fits(self, covered: SeqSet) -> bool:
        """Whether the split into `fresh` and `seen` is right for what is covered by now."""
        return not any(covered.overlaps(*part) for part in self.fresh) and all(covered.covers(*part) for part in self.seen)


@dataclass(frozen=True, slots=True)
class Account:
    """A boot's row in PostgreSQL. `accepted` counts all records up to and including `last_seq`; so does `covered` reach no further."""

    boot: bytes
    node: str
    kind: str
    covered: SeqSet
    lost: SeqSet
    accepted: int
    stored: int
    duplicate: int
    rejected: int
    unrecorded: int
    redelivered: int
    last_seq: int
    closed_seq: int | None
    last_heard_at: datetime


@dataclass(frozen=True, slots=True)
class Report:
    """What the holder of a boot's journal said before PostgreSQL was read. `accepted` counts up to and including `last_seq`."""

    node: str
    last_seq: int
    accepted: int
    unrecorded: int
    held: SeqSet
    lost: SeqSet
    closed: bool
    heard_at: datetime


@dataclass(frozen=True, slots=True)
class Verdict:
    """The books of one boot, balanced by `unaccounted` (negative: more was counted than accepted). `missing` names unproved batches."""

    boot: bytes
    node: str
    kind: str
    accepted: int
    stored: int
    duplicate: int
    rejected: int
    in_flight: int
    unrecorded: int
    unaccounted: int
    redelivered: int
    last_seq: int
    is_closed: bool
    state: State
    missing: SeqSet


def gaps(account: Account, report: Report | None) -> SeqSet:
    """The seqs that were given, are not covered and were not given up."""
    last = max(account.last_seq, account.closed_seq or 0, report.last_seq if report else 0)
    holes = SeqSet([(1, last + 1)]).minus(account.covered).minus(account.lost)
    return holes.minus(report.lost) if report else holes


def judge(account: Account, report: Report | None, in_stream: dict[int, int], now: datetime, *, stream_read: bool) -> Verdict:
    """Balance the books of one boot.

    Args:
        account: its row, read last (an empty one when PostgreSQL does not know the boot).
        report: what its holder said, read first; None when nobody did.
        in_stream: records by seq of those gaps that a stream entry holds, read between the two.
        now: PostgreSQL's clock.
        stream_read: whether report and stream could be asked at all.

    A gap is in flight when the report holds it, when the stream holds it, or when it is younger than the report. Where a boot
    has both proved and unproved gaps, records are known only as far as the stream tells; the rest is split by batches.
    """
    holes = gaps(account, report)
    proved = holes.both(report.held) if report else SeqSet()
    for seq in in_stream:
        if seq in holes:
            proved.add(seq, seq + 1)
    is_closed = account.closed_seq is not None
    if report and not is_closed:
        proved.update(holes.within(report.last_seq + 1, account.last_seq + 1))
    missing = holes.minus(proved)
    accepted = max(account.accepted, report.accepted if report else 0)
    feared = max(account.unrecorded, report.unrecorded if report else 0)
    absent = accepted - account.stored - account.duplicate - account.rejected
    unrecorded = min(feared, max(absent, 0))  # a batch that was feared lost may have arrived after all
    absent -= unrecorded
    in_flight = _in_flight(absent, proved, missing, in_stream)
    is_silent = not is_closed and now - _heard(account, report) > SILENT_AFTER
    state = _state(in_flight, absent - in_flight, missing, is_unknown=is_silent or (not stream_read and (absent != 0 or not is_closed)))
    return Verdict(
        boot=account.boot, node=account.node or (report.node if report else ""), kind=account.kind, accepted=accepted,
        stored=account.stored, duplicate=account.duplicate, rejected=account.rejected, in_flight=in_flight, unrecorded=unrecorded,
        unaccounted=absent - in_flight, redelivered=account.redelivered, last_seq=max(account.last_seq, report.last_seq if report else 0),
        is_closed=is_closed, state=state, missing=missing,
    )  # fmt: skip


def _heard(account: Account, report: Report | None) -> datetime:
    return max(account.last_heard_at, report.heard_at) if report else account.last_heard_at


def _in_flight(absent: int, proved: SeqSet, missing: SeqSet, in_stream: dict[int, int]) -> int:
    """How many of the absent records are in proved gaps; each batch has at least one."""
    if absent <= 0 or not proved:
        return 0
    if not missing:
        return absent
    known = sum(count for seq, count in in_stream.items() if seq in proved)
    untold = len(proved) - sum(seq in proved for seq in in_stream)
    rest = absent - known
    share = max(untold, min(rest - len(missing), rest * untold // (untold + len(missing)))) if untold else 0
    return max(0, min(absent, known + share))


def _state(in_flight: int, unaccounted: int, missing: SeqSet, *, is_unknown: bool) -> State:
    if is_unknown and unaccounted >= 0:
        return State.UNKNOWN
    if unaccounted or missing:
        return State.UNBALANCED
    return State.IN_FLIGHT if in_flight else State.BALANCED


def worst(states: list[State]) -> State:
    """The state of the whole: unbalanced before unknown before in flight before balanced."""
    order = list(State)
    return max(states, key=order.index, default=State.BALANCED)
