"""How the settings become journals: one for clicks, one for what stores report."""

from dataclasses import replace

from tracker.adapters.journal.recording import RecordingOptions
from tracker.settings import Settings

RECEIPTS_IN_BATCH = 10  # a receipt may take 1.2 MB with its items, a frame 16 MB
DISK_WAIT_S = 0.5  # a disk that hangs for so long is not waited for when Redis is there


def click_journal(settings: Settings) -> RecordingOptions:
    """Clicks: as safe as `TURNOUT_ACK` says, and no visitor waits longer than the deadline."""
    return RecordingOptions(
        kind="clicks",
        node=settings.node_name,
        root=settings.directory.journal("clicks"),
        redis_url=settings.stream_url,
        ack=settings.ack,
        deadline_s=settings.ack_deadline_ms / 1000,
        keep_s=settings.journal_keep.total_seconds(),
        max_bytes=settings.journal_max_bytes,
        segment_bytes=settings.journal_segment_bytes,
        shards=settings.stream_shards,
    )


def conversion_journal(settings: Settings) -> RecordingOptions:
    """Receipts: always synced to the disk, and never answered before they are safe, for somebody's pay is in them."""
    return replace(
        click_journal(settings),
        kind="conversions",
        root=settings.directory.journal("conversions"),
        ack="journal-sync",
        deadline_s=DISK_WAIT_S,
        batch_records=RECEIPTS_IN_BATCH,
        answers_anyway=False,
    )
