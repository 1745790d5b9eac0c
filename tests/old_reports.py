"""What stores send to old hosts: made-up requests of every takeable platform, with what the platform's documents say that they mean."""

import json
from pathlib import Path
from uuid import UUID

from tracker.domain.old_reports import OldReport
from tracker.platforms.loader import load
from tracker.platforms.replies import GIF, Answer

ROWS = [json.loads(line) for line in (Path(__file__).parent / "data/old_reports.jsonl").read_text("utf-8").splitlines()]
CONVERSIONS = [row for row in ROWS if row["kind"] != "impression"]
SOURCES = load().sources
AT_US = 1_790_000_000_000_000
POSTBACK_ID = UUID("0192f0a0-0000-7000-8000-000000000001")
FIELDS = ("click_id", "offer_id", "partner_id", "creative_id", "order_id", "amount", "currency", "status", "goal", "coupon", "token")


def label(row):
    return f"{row['platform']}: {row['name']}"


def old_report(row, **changes):
    """The request of a row as the edge records it."""
    facts = {
        "postback_id": POSTBACK_ID.bytes, "received_at_us": AT_US, "kind": row["kind"], "platform": row["platform"],
        "method": row["method"], "host": row["host"].encode(), "target": row["target"].encode(),
        "content_type": row["content_type"].encode(), "body": row["body"].encode(),
    }  # fmt: skip
    return OldReport(**(facts | changes))


def answer_of(row):
    """The reply that the store's server waits for."""
    reply = row["reply"]
    return Answer(200, "image/gif", GIF) if reply.get("gif") else Answer(reply["status"], reply["content_type"], reply["body"].encode())
