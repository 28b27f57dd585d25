"""Where the command finds Airflow and the knowledge database: environment only, so that no secret is in a history."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from include.gleaner.errors import SetupError
from include.gleaner.local.rest import AirflowApi

if TYPE_CHECKING:
    import psycopg


def airflow() -> AirflowApi:
    """The API of GLEANER_AIRFLOW_URL, with GLEANER_AIRFLOW_USER and GLEANER_AIRFLOW_PASSWORD.

    Raises SetupError when one of them is not set.
    """
    names = ("GLEANER_AIRFLOW_URL", "GLEANER_AIRFLOW_USER", "GLEANER_AIRFLOW_PASSWORD")
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        raise SetupError(f"{', '.join(missing)} not set: the address of Airflow and a login for its API")
    url, user, password = (os.environ[name] for name in names)
    return AirflowApi(url, user, password)


def dsn() -> str:
    """GLEANER_DSN, a libpq connection string. Raises SetupError when it is not set."""
    found = os.environ.get("GLEANER_DSN", "")
    if not found:
        raise SetupError("GLEANER_DSN not set: a libpq connection string of the knowledge database")
    return found


@contextmanager
def database() -> Iterator[psycopg.Connection]:
    """The database of GLEANER_DSN, whatever its schema.

    Raises SetupError when it is not set, and for whatever the database says to what is asked meanwhile.
    """
    from include.gleaner.ops.session import explained, open_session

    with explained(), open_session(dsn()) as conn:
        yield conn


@contextmanager
def knowledge() -> Iterator[psycopg.Connection]:
    """The knowledge database of GLEANER_DSN. Raises SetupError, also when its schema is not this code's."""
    from include.gleaner.ops.migrate import check_schema

    with database() as conn:
        check_schema(conn)
        yield conn
