"""A partner's statement as a page that needs nothing else, to read and to print, and as CSV. Its lines add up to its closing balance."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from tracker import csv_text

CSV_COLUMNS = ("run", "partner", "line", "date", "kind", "txid", "campaign", "reason", "amount", "currency")
RUN_COLUMNS = (
    "partner", "name", "opening", "lines", "payment", "closing", "currency", "status", "batch", "reference", "reason", "changed_at",
    "changed_by",
)  # fmt: skip
STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #111; background: #fff }
table { border-collapse: collapse; width: 100% } caption { text-align: left; padding: .5rem 0 }
th, td { text-align: left; padding: .25rem .5rem; border-bottom: 1px solid #ccc; vertical-align: top }
.amount { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
.balance td, .balance th { font-weight: bold } thead { display: table-header-group } tr { break-inside: avoid }
@media print { body { margin: 0; max-width: none } }
"""
HEADS = ("Date", "For", "Transaction", "Campaign", "Reason")


def as_csv(statement: Mapping[str, Any]) -> str:
    """A row for the opening balance, each entry, the payment (negative) and the closing balance: the first three sum to the last."""
    head, currency = [statement["run"], statement["partner"]], statement["currency"]
    rows = [[*head, "opening", *[None] * 5, statement["opening"], currency]]
    for entry in statement["entries"]:
        facts = [entry[name] for name in ("effective_on", "kind", "txid", "campaign", "reason")]
        rows.append([*head, "entry", *facts, entry["amount"], currency])
    rows.append([*head, "payment", statement["paid_on"], "payment", *[None] * 3, _payment(statement), currency])
    rows.append([*head, "closing", *[None] * 5, statement["closing"], currency])
    return csv_text.as_csv(CSV_COLUMNS, rows)


def run_as_csv(statements: Iterable[Mapping[str, Any]]) -> str:
    """A row for each statement of a run."""
    return csv_text.as_csv(RUN_COLUMNS, ([one[name] for name in RUN_COLUMNS] for one in statements))


def as_html(statement: Mapping[str, Any]) -> str:
    """The page. Everything that people wrote is escaped."""
    title = f"Statement of {statement['name'] or statement['partner']}, {statement['run']}"
    facts = {
        "Partner": statement["name"] or statement["partner"],
        "Period": f"{statement['period_from']} to {statement['period_to']}",
        "Payout run": statement["run"],
        "Status": "draft" if statement["run_status"] == "draft" else statement["status"],
        "Paid to": _account(statement["details"]),
        "Reference": statement["reference"],
    }
    rows = [_balance("Opening balance", statement["opening"]), *map(_entry, statement["entries"])]
    rows += [_balance("Payment", _payment(statement), statement["paid_on"]), _balance("Closing balance", statement["closing"])]
    listed = "".join(f"<dt>{name}</dt><dd>{_text(value)}</dd>" for name, value in facts.items() if value)
    heads = "".join(f'<th scope="col">{name}</th>' for name in HEADS)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title><style>{STYLE}</style></head>\n'
        f"<body><h1>{_text(title)}</h1>\n<dl>{listed}</dl>\n<table><thead><tr>{heads}"
        f'<th scope="col" class="amount">{_text(statement["currency"])}</th></tr></thead>\n<tbody>\n{"".join(rows)}</tbody></table>\n'
        "</body></html>\n"
    )


def _payment(statement: Mapping[str, Any]) -> str:
    """What was paid, as it changes the balance."""
    amount = str(statement["payment"])
    return f"-{amount}" if statement["status"] != "carried" else amount


def _entry(entry: Mapping[str, Any]) -> str:
    cells = "".join(f"<td>{_text(entry[name])}</td>" for name in ("effective_on", "kind", "txid", "campaign", "reason"))
    return f"<tr>{cells}{_amount(entry['amount'])}</tr>\n"


def _balance(name: str, amount: str, day: object = None) -> str:
    return f'<tr class="balance"><td>{_text(day)}</td><th scope="row" colspan="4">{name}</th>{_amount(amount)}</tr>\n'


def _amount(amount: str) -> str:
    return f'<td class="amount">{_text(amount)}</td>'


def _account(details: Mapping[str, Any] | None) -> str:
    if details is None:
        return ""
    return f"{details['name']}, {details['iban'] or details['account']}"


def _text(value: object) -> str:
    return "" if value is None else escape(str(value))
