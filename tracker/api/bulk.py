"""Lists of approvals, rejections, reversals and adjustments."""

from typing import Any

from fastapi import APIRouter, Query, Request, Response

from tracker.api.answers import answer, problem, read_json
from tracker.api.document import PROBLEM, REFUSALS, WITH_BODY, Described, body_of
from tracker.domain.bulk_rows import ACTIONS, OCCURRENCE_MAX
from tracker.payouts.bulk import ROWS_MAX, BadRows, Bulk

TEXT: dict[str, Any] = {"type": "string", "maxLength": 255}
AMOUNT = TEXT | {
    "pattern": r"^([0-9]{1,12}(\.[0-9]{1,6})?)?$",
    "description": "adjust: the new amount of the order; reverse: how much of it is taken back in all, none: the whole",
}
ROW = {
    "type": "object",
    "required": ["action"],
    "additionalProperties": False,
    "properties": {
        "id": TEXT | {"description": "of the conversion; else txid"},
        "txid": TEXT | {"description": "of the order; with advertiser, goal and occurrence where several have it"},
        "advertiser": TEXT,
        "goal": TEXT,
        "occurrence": {"type": "integer", "minimum": 1, "maximum": OCCURRENCE_MAX},
        "action": {"type": "string", "enum": list(ACTIONS)},
        "amount": AMOUNT,
        "currency": TEXT | {"pattern": "^([A-Za-z]{3})?$", "description": "that of the conversion, to be sure"},
        "reason": TEXT,
    },
}
FIELDS = {
    "rows": {"type": "array", "items": ROW, "minItems": 1, "maxItems": ROWS_MAX},
    "reason": TEXT | {"description": "of rows without one, for the audit trail"},
}
EXAMPLE = {"rows": [{"txid": "ORDER-1", "action": "approve"}], "reason": "approvals of October"}
ROW_PROBLEM = {"type": "object", "properties": {"row": {"type": "integer", "description": "from 1"}, "problem": {"type": "string"}}}
PROBLEM_FIELDS: Any = PROBLEM["properties"]
BAD_ROWS = PROBLEM | {"properties": PROBLEM_FIELDS | {"problems": {"type": "array", "items": ROW_PROBLEM}}}
REFUSED: Described = {
    422: {
        "description": "What was sent is not acceptable; with the code bad_rows, `problems` says why of each bad row. Nothing was changed",
        "content": {"application/problem+json": {"schema": BAD_ROWS}},
    }
}
DRY_RUN = Query(False, description="only say what it would come to")


def routes(bulk: Bulk) -> APIRouter:
    """`/api/v1/conversions/bulk`."""
    router = APIRouter(prefix="/api/v1", responses=REFUSALS, tags=["conversions"])

    @router.post("/conversions/bulk", openapi_extra=body_of(FIELDS, ["rows"], example=EXAMPLE), responses=WITH_BODY | REFUSED)
    async def change_conversions(request: Request, dry_run: bool = DRY_RUN) -> Response:
        """Approve, reject, reverse or adjust up to 1000 conversions: all of the list, or nothing where one row is bad.

        Each row is answered with status, amount and payout before and after; what is so already is `unchanged`. `partners` has what
        was booked for each.
        """
        actor = request.state.actor
        try:
            return answer(await bulk.request(await read_json(request), actor.name, is_dry=dry_run, advertiser_id=actor.advertiser_id))
        except BadRows as bad:
            problems = [{"row": number, "problem": text} for number, text in bad.problems]
            return problem(bad.status, bad.code, str(bad), field=bad.field, problems=problems)

    return router
