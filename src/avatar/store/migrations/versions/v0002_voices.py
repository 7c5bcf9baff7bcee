"""Voice profiles with their enrolment. Nothing could write the table of the first version, so it is made anew."""

from alembic import op

revision = "0002"
down_revision = "0001"

_STATEMENTS = (
    "DROP TABLE voice_profiles",
    """
    CREATE TABLE voice_profiles (
        id TEXT NOT NULL PRIMARY KEY,
        name TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('queued', 'enrolling', 'ready', 'failed', 'cancelled')),
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        content_sha256 TEXT NOT NULL,
        language TEXT,
        reference_text TEXT,
        consent_statement TEXT NOT NULL,
        consent_date DATE NOT NULL,
        owner TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        problem_code TEXT,
        problem TEXT,
        quality JSON,
        is_default BOOLEAN NOT NULL
    )
    """,
    "CREATE UNIQUE INDEX voice_profiles_default ON voice_profiles (is_default) WHERE is_default",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
