"""When a shop's message says that it came about, and whose amount is in force where it is not that of the report whose click is."""

from migrations.sql import execute_briefly

revision = "0006"
down_revision = "0005"

# `stated_at`: null where its sender did not say. `amount_postback_id`: null where click and amount are of one report.
COLUMNS = """
ALTER TABLE postbacks ADD COLUMN IF NOT EXISTS stated_at timestamptz;
ALTER TABLE conversions ADD COLUMN IF NOT EXISTS amount_postback_id uuid;
"""


def upgrade() -> None:
    execute_briefly(COLUMNS)


def downgrade() -> None:
    raise NotImplementedError("restore a backup; schema revisions only go forward")
