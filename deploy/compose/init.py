"""Prepares an installation: databases, both schemas, pools, connections, the first user.

Runs at every `up` before Airflow starts, changes only what is missing, and may be killed at any line and run again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from include.gleaner.errors import GleanerError

HOST: Final = os.environ.get("GLEANER_POSTGRES_HOST", "postgres")
PORT: Final = int(os.environ.get("GLEANER_POSTGRES_PORT", "5432"))
AIRFLOW: Final = "airflow"  # role and database
KNOWLEDGE: Final = "gleaner"
ROLES: Final = ("gleaner_reader", "gleaner_writer")  # what the schema grants to; only a superuser may make them
HTTP_OK: Final = "http://", "https://"


def main() -> int:
    """0 when everything is there; 1 with one line that says what is wrong."""
    # Read before anything is changed: a half-prepared installation would be harder to explain.
    connections = {**knowledge_connection(), **redis_connection(), **embedding_connection()}
    prepare_databases()
    say("databases and roles are there")
    airflow("db", "migrate")
    say("Airflow's schema is current")

    migrate_knowledge(dsn(KNOWLEDGE, KNOWLEDGE, os.environ["GLEANER_KNOWLEDGE_DB_PASSWORD"]))
    from include.gleaner.scheduling import make_missing_pools

    make_missing_pools()
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:  # mode 600, in memory
        json.dump(connections, file)
        file.flush()
        airflow("connections", "import", "--overwrite", file.name)
    say(f"connections are there: {', '.join(connections)}")
    make_admin()
    return 0


def prepare_databases() -> None:
    """Roles with the passwords of today, their databases, and what only a superuser may do in them."""
    with psycopg.connect(superuser(), autocommit=True) as conn:
        for name, variable in ((AIRFLOW, "GLEANER_AIRFLOW_DB_PASSWORD"), (KNOWLEDGE, "GLEANER_KNOWLEDGE_DB_PASSWORD")):
            role = sql.Identifier(name)
            if not _there(conn, "pg_roles", "rolname", name):
                conn.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
            # Also how a password is changed: put the new one into the secrets and start again.
            conn.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, sql.Literal(os.environ[variable])))
            if not _there(conn, "pg_database", "datname", name):
                conn.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))
            conn.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(role))
        for name in ROLES:
            if not _there(conn, "pg_roles", "rolname", name):
                conn.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(name)))
        conn.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO gleaner_reader").format(sql.Identifier(KNOWLEDGE)))
    with psycopg.connect(superuser(KNOWLEDGE), autocommit=True) as conn:
        conn.execute("CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public")


def _there(conn: psycopg.Connection, table: str, column: str, name: str) -> bool:
    query = sql.SQL("SELECT 1 FROM {} WHERE {} = %s").format(sql.Identifier(table), sql.Identifier(column))
    return conn.execute(query, (name,)).fetchone() is not None


def migrate_knowledge(address: str) -> None:
    """Bring the knowledge to this code's schema; what is there already is backed up before, and the backup tried."""
    from include.gleaner.ops.migrate import schema_status
    from include.gleaner.ops.upgrade import upgrade

    with psycopg.connect(address, autocommit=True) as conn:
        status = schema_status(conn)
    if not status.missing:
        say("knowledge schema is current")
        return
    done = upgrade(address, folder=Path(os.environ["GLEANER_BACKUP_DIR"]), first_back_up=True)
    if done.backup:
        say(f"knowledge: backed up as {done.backup}")
    say(f"knowledge schema: applied {', '.join(done.applied)}")


def make_admin() -> None:
    """The first user. One who is there is left alone, password included: it may have been changed in the UI."""
    if "FabAuthManager" not in os.environ.get("AIRFLOW__CORE__AUTH_MANAGER", ""):
        say("users are in another auth manager's hands")
        return
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
    from airflow.utils.providers_configuration_loader import providers_configuration_loaded

    name = os.environ.get("GLEANER_ADMIN_USER", "admin")
    email = os.environ.get("GLEANER_ADMIN_EMAIL", "admin@example.org")

    @providers_configuration_loaded
    def make() -> None:
        with get_application_builder() as builder:
            manager = builder.sm
            if manager.find_user(username=name):
                say(f"user {name} is there")
            elif manager.add_user(
                name, "Gleaner", "Admin", email, manager.find_role("Admin"), os.environ["GLEANER_ADMIN_PASSWORD"]
            ):
                say(f"user {name} was made")
            else:
                raise RuntimeError(f"user {name} could not be made; is {email} another user's address?")

    make()


def knowledge_connection() -> dict[str, Any]:
    """`gleaner_postgres`, as the role that owns the knowledge."""
    return {
        "gleaner_postgres": {
            "conn_type": "postgres", "host": HOST, "port": PORT, "login": KNOWLEDGE, "schema": KNOWLEDGE,
            "password": os.environ["GLEANER_KNOWLEDGE_DB_PASSWORD"],
        }
    }  # fmt: skip


def redis_connection() -> dict[str, Any]:
    """`gleaner_redis`: the shared limits in a database of their own beside the queue."""
    return {
        "gleaner_redis": {
            "conn_type": "redis", "host": os.environ.get("GLEANER_REDIS_HOST", "redis"), "port": 6379,
            "password": os.environ["GLEANER_REDIS_PASSWORD"], "extra": {"db": 1},
        }
    }  # fmt: skip


def embedding_connection() -> dict[str, Any]:
    """`gleaner_openai`, if a key is given; without one the local model makes the vectors."""
    key, host = os.environ.get("GLEANER_OPENAI_API_KEY", ""), os.environ.get("GLEANER_OPENAI_BASE_URL", "")
    if not key:
        return {}
    if host and not host.startswith(HTTP_OK):
        raise ValueError("GLEANER_OPENAI_BASE_URL must begin with http:// or https://")
    try:
        extra = json.loads(os.environ.get("GLEANER_OPENAI_EXTRA") or "{}")
    except ValueError:
        raise ValueError('GLEANER_OPENAI_EXTRA must be JSON, as {"model": "...", "dimensions": 1536}') from None
    return {"gleaner_openai": {"conn_type": "generic", "host": host, "password": key, "extra": extra}}


def superuser(database: str = "postgres") -> str:
    """libpq connection string of the server's superuser: not for logs."""
    return dsn("postgres", database, os.environ["GLEANER_POSTGRES_PASSWORD"])


def dsn(user: str, database: str, password: str) -> str:
    """libpq connection string: not for logs."""
    return make_conninfo(host=HOST, port=PORT, user=user, password=password, dbname=database, connect_timeout=10)


def airflow(*arguments: str) -> None:
    """One command of Airflow. Raises RuntimeError with the end of what it said."""
    done = subprocess.run(["airflow", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise RuntimeError(f"airflow {arguments[0]} {arguments[1]} failed: {' | '.join(said[-3:])}")


def say(text: str) -> None:
    """One line of progress."""
    sys.stdout.write(f"gleaner: {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, RuntimeError, GleanerError, psycopg.Error) as error:
        sys.stderr.write(f"gleaner: {str(error).splitlines()[0]}\n")
        sys.exit(1)
