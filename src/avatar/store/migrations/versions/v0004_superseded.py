"""Turns that the user carried on say so: the turn after them says it all again."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute("ALTER TABLE turns ADD COLUMN superseded BOOLEAN NOT NULL DEFAULT 0")
