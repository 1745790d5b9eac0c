"""Which click earns a conversion, and how a conversion's status may move. Pure."""

from datetime import datetime, timedelta

# Stores send whole seconds, and their clocks differ from ours: a sale this little before its click is still after it.
CLOCK_SKEW = timedelta(minutes=5)
FIRST_RETRY = timedelta(seconds=1)
LAST_RETRY = timedelta(days=1)  # a click that comes late wakes its postback: this is for the rest

# action → (status before, status after). Anything else is refused; nothing ever comes back from rejected or reversed.
LIFECYCLE = {
    "approve": ("pending", "approved"),
    "reject": ("pending", "rejected"),
    "reverse": ("approved", "reversed"),
}
EARNING = frozenset(("pending", "approved"))  # statuses that are in the ledger and in reports
TAKEN_BACK = frozenset(("rejected", "reversed"))


def is_in_window(clicked_at: datetime, converted_at: datetime, window: timedelta, *, received_at: datetime) -> bool:
    """Whether a click earns a conversion: aged 0 … `window`, both included; a conversion up to 5 minutes early counts as age 0.

    A click later than `received_at`, when we heard of the conversion, was made before all the same: its node's clock is ahead, and
    nobody's pay depends on that. Only the time from the conversion to our hearing of it must be within the window then.

    Raises:
        ValueError: `window` is not positive. A bug in the caller, not bad input.
    """
    if window <= timedelta(0):
        raise ValueError(f"attribution window must be positive, got {window}")
    if clicked_at > received_at:
        return received_at - converted_at <= window
    return -CLOCK_SKEW <= converted_at - clicked_at <= window


def action_towards(before: str, wanted: str) -> str | None:
    """The action that takes a conversion towards a status that a store stated; None when it is there, or cannot be moved so.

    To take a sale back is one wish, whichever word is used for it: a pending one is rejected, an approved one reversed.
    """
    for action, (start, end) in LIFECYCLE.items():
        if start == before and (end == wanted or {end, wanted} <= TAKEN_BACK):
            return action
    return None


def replaces(status: str, *, unverified: bool, known_status: str, known_unverified: bool) -> bool:
    """Whether a postback's click, amount and status go before what is known of its order; else it is a repetition.

    An orphan is matched anew; what only a pixel said, whose key anybody can read, gives way to the store's own report.
    A pixel never changes what a store said. A sale that is taken back keeps its amount and click, and what was rejected or
    reversed stays so.
    """
    if unverified and not known_unverified:
        return False
    if known_status == "orphan":
        return True
    return known_unverified and not unverified and known_status in EARNING and status not in TAKEN_BACK


def status_after(status: str, *, known_status: str, first_status: str) -> str:
    """The status of a conversion that a postback with `status` replaces.

    `first_status` is what it was made with: one that somebody approved by hand since does not become pending again.
    """
    by_hand = known_status == "approved" and first_status == "pending"
    return known_status if by_hand and status == "pending" else status


def ledger_moves(before: str, after: str, amount_micros: int) -> list[tuple[str, int]]:
    """Entries, as (status, micros), that take an amount from one status to another; per status they sum to what is owed now.

    A new conversion comes from ``""``. Statuses that do not earn hold nothing.
    """
    moves = [(before, -amount_micros)] if before in EARNING else []
    return moves + ([(after, amount_micros)] if after in EARNING else [])


def retry_after(tries: int) -> timedelta:
    """Pause before try number `tries` + 1 of a parked postback: 1 s, doubled each time, at most 1 day."""
    return min(FIRST_RETRY * (1 << min(max(tries, 0), 17)), LAST_RETRY)
