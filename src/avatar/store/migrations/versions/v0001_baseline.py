"""Conversations, their turns, voice profiles, and the full-text indexes over what was said.

A migration is history: once released it is never edited, and it imports nothing of the package.
"""

from alembic import op

revision = "0001"
down_revision = None

_STATEMENTS = (
    """
    CREATE TABLE conversations (
        number INTEGER NOT NULL PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        title TEXT NOT NULL,
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        language TEXT,
        instructions TEXT
    )
    """,
    "CREATE INDEX conversations_by_use ON conversations (updated_at, id)",
    """
    CREATE TABLE turns (
        number INTEGER NOT NULL PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        conversation_id TEXT NOT NULL,
        position INTEGER NOT NULL,
        created_at TEXT NOT NULL,
        input_kind TEXT NOT NULL CHECK (input_kind IN ('speech', 'text')),
        status TEXT NOT NULL CHECK (status IN ('completed', 'interrupted', 'failed')),
        user_text TEXT NOT NULL,
        user_language TEXT,
        generated_text TEXT NOT NULL,
        heard_text TEXT NOT NULL,
        error_code TEXT,
        timings JSON NOT NULL,
        engines JSON NOT NULL,
        user_audio TEXT,
        reply_audio TEXT,
        UNIQUE (conversation_id, position),
        FOREIGN KEY (conversation_id) REFERENCES conversations (id) ON DELETE CASCADE
    )
    """,
    """
    CREATE TABLE voice_profiles (
        id TEXT NOT NULL PRIMARY KEY,
        name TEXT NOT NULL,
        status TEXT NOT NULL,
        created_at TEXT NOT NULL,
        language TEXT,
        reference_text TEXT,
        consent_statement TEXT,
        consent_date TEXT,
        owner TEXT
    )
    """,
)

_INDEXED = {"conversations": ("title",), "turns": ("user_text", "heard_text", "generated_text")}


def _full_text(table: str, columns: tuple[str, ...]) -> tuple[str, ...]:
    """An index that stores no text of its own. Trigrams, because Chinese puts no spaces between words."""
    names = ", ".join(columns)
    old, new = (", ".join(f"{row}.{column}" for column in columns) for row in ("old", "new"))
    remove = f"INSERT INTO {table}_fts ({table}_fts, rowid, {names}) VALUES ('delete', old.number, {old});"
    add = f"INSERT INTO {table}_fts (rowid, {names}) VALUES (new.number, {new});"
    return (
        f"CREATE VIRTUAL TABLE {table}_fts USING fts5"
        f" ({names}, content='{table}', content_rowid='number', tokenize='trigram')",
        f"CREATE TRIGGER {table}_fts_insert AFTER INSERT ON {table} BEGIN {add} END",
        f"CREATE TRIGGER {table}_fts_delete AFTER DELETE ON {table} BEGIN {remove} END",
        f"CREATE TRIGGER {table}_fts_update AFTER UPDATE OF {names} ON {table} BEGIN {remove} {add} END",
    )


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
    for table, columns in _INDEXED.items():
        for statement in _full_text(table, columns):
            op.execute(statement)
