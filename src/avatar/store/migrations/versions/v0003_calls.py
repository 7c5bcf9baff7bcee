"""Turns keep the tools that were called for their reply."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("ALTER TABLE turns ADD COLUMN calls JSON NOT NULL DEFAULT '[]'")
