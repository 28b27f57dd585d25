"""Opens what a task works with: the knowledge database and the embedding model, by their Airflow connections."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final, cast

from include.gleaner.config import OPENAI_CONN_ID, POSTGRES_CONN_ID, PRICES, EmbedPolicy
from include.gleaner.errors import ConnectionMissingError

if TYPE_CHECKING:
    import psycopg
    from airflow.sdk import Connection

DEFAULT_OPENAI_URL: Final = "https://api.openai.com/v1"
DEFAULT_OPENAI_MODEL: Final = "text-embedding-3-small"
DIMENSIONS: Final = {"text-embedding-3-small": 1_536, "text-embedding-3-large": 3_072, "text-embedding-ada-002": 1_536}
STATEMENT_TIMEOUT: Final = "10min"
LOCK_TIMEOUT: Final = "60s"


@contextmanager
def knowledge_connection() -> Iterator[psycopg.Connection]:
    """The knowledge database, through the PostgresHook, checked for its schema; closed at the end.

    Raises ConnectionMissingError or SchemaError with the command that mends it.
    """
    from airflow.providers.postgres.hooks.postgres import PostgresHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    from include.gleaner.ops.migrate import check_schema

    try:
        # psycopg 3, which the hook takes when it is installed, as it is by requirements.txt
        raw = cast("psycopg.Connection", PostgresHook(POSTGRES_CONN_ID).get_conn())
    except AirflowNotFoundException:
        raise ConnectionMissingError(
            f"there is no Airflow connection {POSTGRES_CONN_ID!r}; add it with: "
            f"airflow connections add {POSTGRES_CONN_ID} --conn-uri postgresql://USER:PASSWORD@HOST:5432/DATABASE"
        ) from None
    with closing(raw) as conn:
        conn.autocommit = True  # transactions are opened where they belong
        conn.prepare_threshold = None  # a prepared plan of one tenant can be a hundred times slower for another
        conn.execute("SELECT set_config('statement_timeout', %s, false), set_config('lock_timeout', %s, false)",
                     (STATEMENT_TIMEOUT, LOCK_TIMEOUT))  # fmt: skip
        check_schema(conn)
        yield conn


def embedding() -> tuple[EmbedPolicy, str | None]:
    """Which model makes the vectors, and the key for it: the endpoint of the connection if there is one, else local.

    The connection's host is the endpoint's base URL (default: OpenAI's), its password the key; its extra may name
    `model`, `dimensions` and `price_per_million_tokens`, in US dollars.
    """
    connection = _openai_connection()
    if connection is None:
        return EmbedPolicy(price=0.0), None
    extra = connection.extra_dejson
    model = str(extra.get("model", DEFAULT_OPENAI_MODEL))
    dimensions = extra.get("dimensions", DIMENSIONS.get(model))
    if not isinstance(dimensions, int) or not 1 <= dimensions <= 16_000:
        raise ConnectionMissingError(
            f"connection {OPENAI_CONN_ID!r}: the extra must say how many dimensions {model!r} has, "
            'as {"dimensions": N}'
        )
    price = extra.get("price_per_million_tokens", PRICES.get(model))
    if price is not None and (isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < 1e6):
        raise ConnectionMissingError(
            f"connection {OPENAI_CONN_ID!r}: price_per_million_tokens in the extra must be a number of US dollars"
        )
    policy = EmbedPolicy(model=model, dimensions=dimensions, base_url=_base_url(connection), price=price)
    return policy, connection.password or ""


def _openai_connection() -> Connection | None:
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return BaseHook.get_connection(OPENAI_CONN_ID)
    except AirflowNotFoundException:
        return None


def _base_url(connection: Connection) -> str:
    host = connection.host or ""
    if not host:
        return DEFAULT_OPENAI_URL
    if "://" in host:
        return host.rstrip("/")
    scheme = connection.schema if connection.schema in ("http", "https") else "https"
    port = f":{connection.port}" if connection.port else ""
    return f"{scheme}://{host}{port}/v1"
