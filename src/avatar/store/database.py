"""How the SQLite file is opened: its guarantees, its version, and what its failures are called.

Owns pragmas, transactions and migrations. Knows no query.
"""

import errno
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from avatar.core.errors import SetupError, StoreError

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"

_BUSY_TIMEOUT_S = 10.0  # how long a write waits for another process, e.g. a backup
_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # WAL with NORMAL may lose the last commits with the power
    "PRAGMA foreign_keys = ON",
    "PRAGMA secure_delete = ON",  # deleted text is overwritten, not only unlinked
)
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def connect(database: Path) -> AsyncEngine:
    """Connections to `database`; `execution_options(begin="IMMEDIATE")` gives those that write."""
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(database)),
        connect_args={"timeout": _BUSY_TIMEOUT_S, "isolation_level": None},
        hide_parameters=True,  # they are what people said
    )
    _guarantee(engine.sync_engine)
    return engine


def upgrade(database: Path, migrations: Path = MIGRATIONS) -> None:
    """Make `database`, or bring it to the newest version in one transaction. Blocking; instant when it is current.

    Raises `SetupError` if a newer AVATAR made it.
    """
    database.touch(mode=0o600)  # before SQLite creates it for everybody to read
    with closing(sqlite3.connect(database, timeout=_BUSY_TIMEOUT_S)) as db:
        made = db.execute("SELECT name FROM sqlite_schema WHERE name = 'alembic_version'").fetchone()
        row = made and db.execute("SELECT version_num FROM alembic_version").fetchone()
    version = row[0] if row else ""
    newest = max(script.stem[1:5] for script in (migrations / "versions").glob("v*.py"))
    if version > newest:
        raise SetupError(
            f"The database is of version {version}, this AVATAR knows {newest} at most. "
            "Install the newer AVATAR again, or restore a backup made by this one."
        )
    if version < newest:
        log.info("upgrading the database from version %s to %s", version or "none", newest)
        _migrate(database, migrations)


def _migrate(database: Path, migrations: Path) -> None:
    from alembic import command  # takes 0.2 s, and is rarely needed
    from alembic.config import Config

    engine = create_engine(
        URL.create("sqlite", database=str(database)),
        connect_args={"timeout": _BUSY_TIMEOUT_S, "isolation_level": None},
        poolclass=NullPool,
    ).execution_options(begin="IMMEDIATE")
    _guarantee(engine)
    # A migration may rebuild a table; with foreign keys on, dropping the old one would empty its children.
    event.listen(engine, "connect", lambda dbapi, _: dbapi.execute("PRAGMA foreign_keys = OFF"))
    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
        if broken is not None:
            raise SetupError(f"Upgrading the database would orphan rows of {broken[0]}; it was left as it is.")


def _guarantee(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _set_pragmas(dbapi: DBAPIConnection, _: object) -> None:
        cursor = dbapi.cursor()
        for pragma in _PRAGMAS:
            cursor.execute(pragma)
        cursor.close()

    # The driver would begin only at the first write, too late to be sure of the lock.
    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begin', 'DEFERRED')}")


@contextmanager
def failures() -> Iterator[None]:
    """Turn what the disk or SQLite raises into `StoreError`; the log gets the cause (no value is ever part of it)."""
    try:
        yield
    except (OSError, sqlite3.Error, SQLAlchemyError) as error:
        cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
        kind = getattr(cause, "sqlite_errorname", None) or errno.errorcode.get(getattr(cause, "errno", None) or 0)
        log.error("store failed: %s %s: %s", type(cause).__name__, kind or "", cause)
        if kind == "SQLITE_FULL" or getattr(cause, "errno", None) in _DISK_FULL:
            raise StoreError("The disk is full, so nothing was saved. Free some space and try again.") from error
        raise StoreError("The data folder could not be read or written; the server's log says why.") from error
