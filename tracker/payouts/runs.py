"""Payout runs, for the API and the command line: what is asked for is read and checked here, the database does the rest."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from tracker import bodies
from tracker.adapters import postgres_payments, postgres_payouts
from tracker.adapters.postgres_payments import Marking
from tracker.adapters.postgres_payouts import Wanted
from tracker.adapters.postgres_pool import Database
from tracker.domain import money, statements
from tracker.errors import RejectedInput
from tracker.payouts.bank_details import read_details
from tracker.programme import currency, text, yes_or_no
from tracker.settings import Settings

Values = dict[str, Any]
RUN_FIELDS = ("period", "from", "to", "currency", "minimum", "hold_days", "two_person", "dry_run", "reason")
MARKS: dict[str, statements.Mark] = {"mark-paid": "paid", "mark-failed": "failed", "mark-returned": "returned"}
CHANGE_FIELDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("approve", "cancel"), ("reason",)),
    **dict.fromkeys(MARKS, ("partner", "reference", "reason")),
    "mark-paid": ("partner", "batch", "reference", "reason"),
}
EXPORT_FIELDS = ("format", "batch", "renew", "execution_on")
FORMATS = {"sepa": ("application/xml", "xml"), "csv": ("text/csv; charset=utf-8", "csv")}
HOLD_MAX, BATCH_MAX = 365, 10**6
NEEDED = object()
FIRST_YEAR, LAST_YEAR = 1970, 9998


@dataclass(frozen=True, slots=True)
class BankFile:
    """A file for the bank, the run's other files with unpaid payments, and the partners whose payments are due and not in any."""

    name: str
    media_type: str
    content: bytes
    batch: int
    payments: int
    other_batches: tuple[int, ...]
    left_due: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Payouts:
    """Payout runs of one installation. RejectedInput names the field that is wrong, Conflict what stands against it."""

    database: Database
    settings: Settings

    async def run(self, body: Any, actor: str) -> tuple[Values, bool]:
        """Make a run, or with `dry_run` say what it would pay and write nothing; the run, and whether it is new.

        `body`: `{"period"}` or `{"from", "to"}`, `"currency"`, and perhaps `"minimum"`, `"hold_days"`, `"two_person"`, `"reason"`.
        The period must be over; a dry run says whether it is.
        """
        values = _fields(body, RUN_FIELDS)
        wanted = _wanted(values, two_person=self.settings.payout_two_person)
        is_over = wanted.period_to < datetime.now(UTC).date()
        if _read(values, "dry_run", yes_or_no, missing=False):
            foreseen = await postgres_payouts.foresee(self.database, wanted)
            return {"dry_run": True, "period_is_over": is_over, "statements": foreseen}, False
        if not is_over:
            field = "to" if values.get("period") is None else "period"
            raise RejectedInput("invalid_to", f"a period must be over (UTC); {wanted.period_to} is not, a dry run tells it", field=field)
        run, is_new = await postgres_payouts.make(self.database, wanted, actor)
        return await self.show(run), is_new

    async def listed(self, *, limit: int = 100, cursor: str | None = None, filters: Mapping[str, str] | None = None) -> Values:
        """Runs, newest first: `{"items", "next_cursor"}`."""
        return await postgres_payouts.listed(self.database, limit=limit, cursor=cursor, filters=filters or {})

    async def show(self, run: str, *, limit: int = 100, cursor: str | None = None, filters: Mapping[str, str] | None = None) -> Values:
        """A run with a page of its `statements`."""
        return await postgres_payouts.show(self.database, run, limit=limit, cursor=cursor, filters=filters or {})

    async def statement(self, run: str, partner: str) -> Values:
        """A partner's statement with all its entries."""
        return await postgres_payouts.statement(self.database, run, partner)

    async def change(self, run: str, action: str, body: Any, actor: str) -> Values:
        """Approve or cancel a draft; mark payments as paid, failed or returned. `changed` says how many payments that moved."""
        values = _fields(body, CHANGE_FIELDS[action])
        changed = {}
        if action in MARKS:
            changed["changed"] = await postgres_payments.mark(self.database, run, _marking(values, action), actor)
        else:
            reason = _read(values, "reason", text, missing="")
            work = {"approve": postgres_payouts.approve, "cancel": postgres_payouts.cancel}[action]
            await work(self.database, run, reason=reason, actor=actor)
        return await self.show(run) | changed

    async def export(self, run: str, body: Any, actor: str) -> BankFile:
        """`{"format": "sepa"|"csv", "batch", "renew", "execution_on"}`: a file for the bank, see `postgres_payments.export`."""
        from tracker.payouts import bank_files

        values = _fields(body, EXPORT_FIELDS)
        form = _read(values, "format", _format)
        number = _read(values, "batch", _batch, missing=None)
        renew = _read(values, "renew", yes_or_no, missing=False)
        if renew and number is None:
            raise RejectedInput("invalid_batch", "batch is needed to renew it", field="batch")
        settings = self.settings
        debtor = bank_files.Debtor(settings.payout_debtor_name, settings.payout_debtor_iban, settings.payout_debtor_bic)
        made = await postgres_payments.export(
            self.database,
            run,
            (lambda batch: bank_files.sepa(batch, debtor)) if form == "sepa" else bank_files.as_csv,
            needs_iban=form == "sepa",
            number=number,
            renew=renew,
            execution_on=_read(values, "execution_on", _day, missing=None),
            actor=actor,
        )
        media_type, ending = FORMATS[form]
        name = f"{made.batch.run}-{made.batch.number}.{ending}"
        count = len(made.batch.payments)
        return BankFile(name, media_type, made.content, made.batch.number, count, made.other_batches, made.left_due)

    async def details(self, partner: str) -> Values:
        """Where a partner is paid, in full."""
        return await postgres_payments.details(self.database, partner)

    async def set_details(self, partner: str, body: Any, actor: str) -> Values:
        """Set where a partner is paid, by runs made from now on."""
        return await postgres_payments.set_details(self.database, partner, read_details(body), actor)

    async def drop_details(self, partner: str, actor: str) -> None:
        """Forget where a partner is paid."""
        await postgres_payments.drop_details(self.database, partner, actor)


def _marking(values: Values, action: str) -> Marking:
    partner = _read(values, "partner", text, missing=None)
    batch = _read(values, "batch", _batch, missing=None)
    if partner is None and action != "mark-paid":
        raise RejectedInput("invalid_partner", f"partner is needed to {action.replace('-', ' as ')}", field="partner")
    if partner is not None and batch is not None:
        raise RejectedInput("invalid_batch", "batch goes without partner", field="batch")
    reference, reason = (_read(values, name, text, missing="") for name in ("reference", "reason"))
    return Marking(MARKS[action], partner, batch, reference, reason)


def _wanted(values: Values, *, two_person: bool) -> Wanted:
    first, last = _period(values)
    code = _read(values, "currency", currency)
    return Wanted(
        first,
        last,
        code,
        _read(values, "minimum", _amount, missing=0),
        _read(values, "hold_days", _hold_days, missing=0),
        _read(values, "two_person", yes_or_no, missing=False) or two_person,
        _read(values, "reason", text, missing=""),
    )


def _period(values: Values) -> tuple[date, date]:
    if values.get("period") is not None:
        if values.get("from") is not None or values.get("to") is not None:
            raise RejectedInput("invalid_period", "period goes without from and to", field="period")
        found: tuple[date, date] = _read(values, "period", _month)
        return found
    first, last = _read(values, "from", _day), _read(values, "to", _day)
    if first > last:
        raise RejectedInput("invalid_to", "to must not be before from", field="to")
    return first, last


def _fields(body: Any, allowed: tuple[str, ...]) -> Values:
    return dict(bodies.known(body, allowed, example=f"a JSON object with {', '.join(allowed)}", told="the fields are"))


def _read(values: Values, name: str, read: Any, *, missing: Any = NEEDED) -> Any:
    value = values.get(name)
    if value is None and missing is NEEDED:
        raise RejectedInput(f"invalid_{name}", f"{name} is required", field=name)
    return bodies.read(name, value, read, missing)


def _month(value: Any) -> tuple[date, date]:
    return statements.month(text(value))


def _day(value: Any) -> date:
    try:
        found = date.fromisoformat(text(value))
    except ValueError:
        raise ValueError("must be a day such as 2026-10-31") from None
    if not FIRST_YEAR <= found.year <= LAST_YEAR:
        raise ValueError(f"must be a day of the years {FIRST_YEAR} to {LAST_YEAR}")
    return found


def _amount(value: Any) -> int:
    if isinstance(value, bool | float) or not isinstance(value, str | int):
        raise ValueError("must be a decimal string such as 50.00")  # noqa: TRY004 - bad input, not a bug
    micros = money.parse_micros(str(value))
    if micros < 0:
        raise ValueError("must not be negative")
    return micros


def _hold_days(value: Any) -> int:
    return _whole(value, 0, HOLD_MAX)


def _batch(value: Any) -> int:
    return _whole(value, 1, BATCH_MAX)


def _whole(value: Any, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"must be a whole number from {least} to {most}")
    return value


def _format(value: Any) -> str:
    if value not in tuple(FORMATS):
        raise ValueError(f"must be one of {', '.join(FORMATS)}")
    return str(value)
