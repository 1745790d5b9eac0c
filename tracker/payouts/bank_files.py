"""Files for banks: SEPA credit transfers (pain.001.001.09, checked against its schema by sepaxml), and CSV for any currency."""

import re
from dataclasses import dataclass
from datetime import UTC
from typing import Any
from xml.etree import ElementTree as ET

from sepaxml import SepaTransfer
from sepaxml.validation import ValidationError

from tracker import csv_text
from tracker.adapters.postgres_payments import Batch, Payment
from tracker.domain import money
from tracker.domain.statements import message_id
from tracker.errors import Conflict, RejectedInput

SCHEMA = "pain.001.001.09"
CENT = 10_000  # micros
OUTSIDE = re.compile(r"[^A-Za-z0-9/?:().,'+ -]+")  # of what all banks take in names and remittance texts
NOT_PROVIDED = "NOTPROVIDED"  # the word of the rulebook, for the debtor's bank too where its BIC is left out
COLUMNS = (
    "run", "batch", "end_to_end_id", "partner", "method", "name", "iban", "bic", "account", "amount", "currency", "execution_on", "text",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Debtor:
    """Who pays: TURNOUT_PAYOUT_DEBTOR_NAME, _IBAN, _BIC."""

    name: str
    iban: str
    bic: str = ""


def sepa(batch: Batch, debtor: Debtor) -> bytes:
    """The batch as pain.001, the same bytes each time. Conflict `not_sepa`, `no_debtor`; RejectedInput `invalid_bank_file`."""
    if batch.currency != "EUR":
        raise Conflict("not_sepa", f"SEPA is for EUR, the run {batch.run} is in {batch.currency}; take the format csv", field="format")
    if not (debtor.name and debtor.iban):
        raise Conflict("no_debtor", "set TURNOUT_PAYOUT_DEBTOR_NAME and TURNOUT_PAYOUT_DEBTOR_IBAN first", field="format")
    if without := [payment.partner for payment in batch.payments if not payment.details.get("iban")]:
        raise Conflict("not_sepa", f"batch {batch.number} pays partners without an IBAN: {', '.join(without[:20])}", field="format")
    config = {"name": debtor.name, "IBAN": debtor.iban, "batch": True, "currency": "EUR"} | ({"BIC": debtor.bic} if debtor.bic else {})
    transfer = _Transfer(config, batch)
    for payment in batch.payments:
        transfer.add_payment(_instruction(payment, batch))
    try:
        content: bytes = transfer.export(validate=True)
    except ValidationError as exc:
        raise RejectedInput("invalid_bank_file", f"the bank's schema refuses the file: {str(exc.__cause__)[:300]}") from exc
    return content


def as_csv(batch: Batch) -> bytes:
    """The batch as CSV in UTF-8; a cell that a spreadsheet would run as a formula has an apostrophe in front."""
    rows = []
    for payment in batch.payments:
        details = [payment.details.get(name) for name in ("method", "name", "iban", "bic", "account")]
        amount = money.format_micros(payment.amount_micros, batch.currency)
        day = batch.execution_on.isoformat()
        head = [batch.run, batch.number, payment.end_to_end_id, payment.partner]
        rows.append([*head, *details, amount, batch.currency, day, remittance(payment, batch)])
    return csv_text.as_csv(COLUMNS, rows).encode()


def remittance(payment: Payment, batch: Batch) -> str:
    """What the partner reads on its bank statement."""
    return f"Payout {batch.run} {payment.partner}"[:140]


def _instruction(payment: Payment, batch: Batch) -> dict[str, Any]:
    details = payment.details
    found = {
        "name": details["name"],
        "IBAN": details["iban"],
        "amount": payment.amount_micros // CENT,
        "execution_date": batch.execution_on,
        "description": remittance(payment, batch),
        "endtoend_id": payment.end_to_end_id,
    }
    return found | ({"BIC": details["bic"]} if details.get("bic") else {})


class _Transfer(SepaTransfer):  # type: ignore[misc] # untyped in the library
    """A transfer whose ids and time are those of the batch: the library makes random ones, by which no bank knows a file again."""

    def __init__(self, config: dict[str, Any], batch: Batch) -> None:
        self._turnout_batch = batch
        super().__init__(config, schema=SCHEMA, clean=True)

    def _finalize_batch(self) -> None:
        super()._finalize_batch()
        batch = self._turnout_batch
        name = message_id(batch.run, batch.number)
        self._set("MsgId", name)
        self._set("PmtInfId", name)
        self._set("CreDtTm", batch.created_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S"))
        for tag in ("Nm", "Ustrd"):
            for node in self._xml.iter(tag):
                node.text = " ".join(OUTSIDE.sub(" ", node.text).split()) or NOT_PROVIDED
        for node in self._xml.iter("FinInstnId"):
            if not len(node):
                ET.SubElement(ET.SubElement(node, "Othr"), "Id").text = NOT_PROVIDED

    def _set(self, tag: str, text: str) -> None:
        nodes: list[ET.Element] = list(self._xml.iter(tag))
        for node in nodes:
            node.text = text
