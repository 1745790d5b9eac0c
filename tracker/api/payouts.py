"""Payout runs, statements, bank files, and where partners are paid."""

import asyncio
from typing import Any, Literal

from fastapi import APIRouter, Path, Request, Response

from tracker.api.answers import answer, paging, read_json
from tracker.api.document import CHANGING, CURSORS, REFUSALS, Described, body_of
from tracker.errors import RejectedInput
from tracker.payouts import statement_page
from tracker.payouts.bank_details import METHODS
from tracker.payouts.runs import FORMATS, Payouts

Action = Literal["approve", "cancel", "mark-paid", "mark-failed", "mark-returned"]
TEXT = {"type": "string"}
DAY = TEXT | {"description": "such as 2026-10-31"}
RUN_BODY = {
    "period": TEXT | {"description": "a month such as 2026-10; else from and to"},
    "from": DAY,
    "to": DAY | {"description": "included, before today (UTC); what is ripe by then and on no statement yet is taken, from earlier too"},
    "currency": TEXT,
    "minimum": TEXT | {"description": "less is carried over; default 0"},
    "hold_days": {"type": "integer", "minimum": 0, "maximum": 365, "description": "entries of the last so many days wait; default 0"},
    "two_person": {"type": "boolean", "description": "somebody else must approve"},
    "dry_run": {"type": "boolean", "description": "only say what would be paid; writes nothing"},
    "reason": TEXT,
}
MARK_BODY = {
    "partner": TEXT | {"description": "slug; without it mark-paid means the whole run. Not for approve and cancel"},
    "batch": {"type": "integer", "minimum": 1, "description": "only for mark-paid, without partner: the payments of this file"},
    "reference": TEXT | {"description": "the bank's. Not for approve and cancel"},
    "reason": TEXT,
}
EXPORT_BODY = {
    "format": TEXT | {"enum": list(FORMATS)},
    "batch": {"type": "integer", "minimum": 1, "description": "an earlier file again"},
    "renew": {"type": "boolean", "description": "a new file of what is unpaid in batch, of which a payment failed or came back"},
    "execution_on": DAY,
}
DETAILS_BODY = {
    "method": TEXT | {"enum": list(METHODS)}, "name": TEXT, "iban": TEXT, "bic": TEXT,
    "account": TEXT | {"description": "where there is no IBAN"},
}  # fmt: skip
STATEMENT_FORMATS = ("json", "html", "csv")
AS_STATEMENT: Described = {200: {"description": "The statement", "content": {"text/html": {}, "text/csv": {}}}}
AS_FILE: Described = {200: {"description": "The file", "content": {"application/xml": {}, "text/csv": {}}}}
DRY: Described = {200: {"description": "The run was made before, or `dry_run`"}}
# The page needs nothing from anywhere, and what partners and shops wrote into it may do nothing.
PAGE_HEADERS = {"Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}


def routes(payouts: Payouts) -> APIRouter:
    """`/api/v1/payout-runs` and `/api/v1/payout-details`."""
    router = APIRouter(prefix="/api/v1", responses=REFUSALS, tags=["payouts"])
    named, of_partner = Path(examples=["eur-2026-10-31"]), Path(examples=["blog"])
    month = {"period": "2026-10", "currency": "EUR", "minimum": "50.00", "hold_days": 14}
    status = {"name": "status", "in": "query", "schema": TEXT}

    @router.get("/payout-runs", openapi_extra={"parameters": [*CURSORS, status, {"name": "currency", "in": "query", "schema": TEXT}]})
    async def list_runs(request: Request) -> Response:
        """Payout runs, newest first."""
        limit, cursor, filters = paging(request)
        return answer(await payouts.listed(limit=limit, cursor=cursor, filters=filters))

    new = body_of(RUN_BODY, ["currency"], example=month)

    @router.post("/payout-runs", status_code=201, openapi_extra=new, responses=CHANGING | DRY)
    async def create_run(request: Request) -> Response:
        """Settle a period: a statement for each partner with something new or a balance. The same again is the same run, 200."""
        made, is_new = await payouts.run(await read_json(request), request.state.actor.name)
        return answer(made, 201 if is_new else 200)

    @router.get("/payout-runs/{run}", openapi_extra={"parameters": [*CURSORS, status]})
    async def show_run(request: Request, run: str = named) -> Response:
        """A run with a page of its statements; `status=due` are those nobody has paid."""
        limit, cursor, filters = paging(request)
        return answer(await payouts.show(run, limit=limit, cursor=cursor, filters=filters))

    exported = body_of(EXPORT_BODY, ["format"], example={"format": "sepa"})

    @router.post("/payout-runs/{run}/export", openapi_extra=exported, responses=CHANGING | AS_FILE)
    async def export_run(request: Request, run: str = named) -> Response:
        """The due payments as a file for the bank, each in one file only; with nothing new the last file again.

        `X-Batch` is the file's number, `X-Other-Batches` the run's other files with unpaid payments (such as `1, 3`), `X-Left-Due` how
        many payments are in no file, for want of an account.
        """
        file = await payouts.export(run, await read_json(request), request.state.actor.name)
        headers = _attachment(file.name) | {"X-Batch": str(file.batch), "X-Left-Due": str(len(file.left_due))}
        headers["X-Other-Batches"] = ", ".join(map(str, file.other_batches))
        return Response(file.content, media_type=file.media_type, headers=headers)

    @router.post("/payout-runs/{run}/{action}", openapi_extra=body_of(MARK_BODY, example={"reason": "checked"}), responses=CHANGING)
    async def change_run(request: Request, action: Action, run: str = named) -> Response:
        """Approve or cancel a draft; say that a payment was made, failed or came back. The same again changes nothing."""
        return answer(await payouts.change(run, action, await read_json(request, empty={}), request.state.actor.name))

    form = {"name": "format", "in": "query", "schema": TEXT, "description": "json, html or csv; else what Accept asks for"}

    @router.get("/payout-runs/{run}/statements/{partner}", openapi_extra={"parameters": [form]}, responses=AS_STATEMENT)
    async def show_statement(request: Request, run: str = named, partner: str = of_partner) -> Response:
        """A partner's statement: opening balance, every entry, the payment, closing balance."""
        wanted = _format(request)
        found = await payouts.statement(run, partner)
        return await asyncio.to_thread(_statement, found, wanted)  # many entries must not hold up postbacks

    _add_details(router, payouts)
    return router


def _add_details(router: APIRouter, payouts: Payouts) -> None:
    of_partner = Path(examples=["blog"])
    account = body_of(DETAILS_BODY, ["name"], example={"method": "sepa", "name": "A blog", "iban": "DE89370400440532013000"})

    @router.get("/payout-details/{partner}")
    async def show_details(partner: str = of_partner) -> Response:
        """Where a partner is paid, in full."""
        return answer(await payouts.details(partner))

    @router.put("/payout-details/{partner}", openapi_extra=account, responses=CHANGING)
    async def set_details(request: Request, partner: str = of_partner) -> Response:
        """Set where a partner is paid, by runs made from now on."""
        return answer(await payouts.set_details(partner, await read_json(request), request.state.actor.name))

    @router.delete("/payout-details/{partner}", status_code=204)
    async def forget_details(request: Request, partner: str = of_partner) -> Response:
        """Forget where a partner is paid."""
        await payouts.drop_details(partner, request.state.actor.name)
        return Response(status_code=204)


def _format(request: Request) -> str:
    """By `format`, else the first of the known kinds that `Accept` names, else JSON."""
    if asked := request.query_params.get("format"):
        if asked not in STATEMENT_FORMATS:
            raise RejectedInput("invalid_format", f"format must be one of {', '.join(STATEMENT_FORMATS)}", field="format")
        return asked
    kinds = [part.partition(";")[0].strip() for part in request.headers.get("accept", "").split(",")]
    return next((kind.partition("/")[2] for kind in kinds if kind in ("application/json", "text/html", "text/csv")), "json")


def _statement(found: dict[str, Any], form: str) -> Response:
    if form == "html":
        return Response(statement_page.as_html(found), media_type="text/html; charset=utf-8", headers=PAGE_HEADERS)
    if form == "csv":
        headers = _attachment(f"{found['run']}-{found['partner']}.csv")
        return Response(statement_page.as_csv(found), media_type="text/csv; charset=utf-8", headers=headers)
    return answer(found)


def _attachment(name: str) -> dict[str, str]:
    """Slugs are of `a-z0-9-_`, so the name needs no quoting."""
    return {"Cache-Control": "no-store", "Content-Disposition": f'attachment; filename="{name}"'}
