"""Which click earns a conversion, and how a conversion's status may move. Pure."""

from datetime import datetime, timedelta

# Stores send whole seconds, and their clocks differ from ours: a sale this little before its click is still after it.
CLOCK_SKEW = timedelta(minutes=5)
FIRST_RETRY = timedelta(seconds=1)
LAST_RETRY = timedelta(hours=1)

# action → (status before, status after). Anything else is refused; nothing ever comes back from rejected or reversed.
LIFECYCLE = {
    "approve": ("pending", "approved"),
    "reject": ("pending", "rejected"),
    "reverse": ("approved", "reversed"),
}
EARNING = frozenset(("pending", "approved"))  # statuses that are in the ledger and in reports


def is_in_window(clicked_at: datetime, converted_at: datetime, window: timedelta) -> bool:
    """Whether a click earns a conversion: aged 0 … `window`, both included; a conversion up to 5 minutes early counts as age 0.

    Raises:
        ValueError: `window` is not positive. A bug in the caller, not bad input.
    """
    if window <= timedelta(0):
        raise ValueError(f"attribution window must be positive, got {window}")
    return -CLOCK_SKEW <= converted_at - clicked_at <= window


def action_between(before: str, after: str) -> str | None:
    """The action that moves a conversion from one status to another; None when the lifecycle has none."""
    return next((action for action, move in LIFECYCLE.items() if move == (before, after)), None)


def ledger_moves(before: str, after: str, amount_micros: int) -> list[tuple[str, int]]:
    """Entries, as (status, micros), that take an amount from one status to another; per status they sum to what is owed now.

    A new conversion comes from ``""``. Statuses that do not earn hold nothing.
    """
    moves = [(before, -amount_micros)] if before in EARNING else []
    return moves + ([(after, amount_micros)] if after in EARNING else [])


def retry_after(tries: int) -> timedelta:
    """Pause before try number `tries` + 1 of a parked postback: 1 s, doubled each time, at most 1 hour."""
    return min(FIRST_RETRY * (1 << min(max(tries, 0), 12)), LAST_RETRY)
