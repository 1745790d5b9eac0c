"""Exchange rates by day, and conversions by the time of their click."""

from migrations.sql import execute, make_index

revision = "0008"
down_revision = "0007"

# `rate`: units of `currency` for one of `base`. The key begins with the day: a rate is looked for among those of a week.
RATES = """
CREATE TABLE exchange_rates (
    day date NOT NULL,
    currency char(3) NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    base char(3) NOT NULL CHECK (base ~ '^[A-Z]{3}$'),
    rate numeric NOT NULL CHECK (rate > 0 AND rate < 'Infinity'),
    source text NOT NULL CHECK (source <> ''),
    imported_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (day, currency, base),
    CHECK (currency <> base)
);
"""


def upgrade() -> None:
    make_index("conversions_clicked_at", "conversions ((coalesce(clicked_at, converted_at)))")
    execute(RATES)


def downgrade() -> None:
    raise NotImplementedError("restore a backup; schema revisions only go forward")
