"""Opens what a task works with: the knowledge database and the embedding model, by their Airflow connections."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

from include.gleaner.config import OPENAI_CONN_ID, POSTGRES_CONN_ID, PRICES, REDIS_CONN_ID, EmbedPolicy, local_policy
from include.gleaner.errors import ConnectionMissingError, InvalidParamError, RunFailedError, SetupError
from include.gleaner.pipeline.connection_lookup import check_missing, found_connection

if TYPE_CHECKING:
    import psycopg
    from airflow.sdk import Connection

    from include.gleaner.embed import Embedder
    from include.gleaner.embed.gate import Gate
    from include.gleaner.shared.state import StateStore

DEFAULT_OPENAI_URL: Final = "https://api.openai.com/v1"
DEFAULT_OPENAI_MODEL: Final = "text-embedding-3-small"
DIMENSIONS: Final = {"text-embedding-3-small": 1_536, "text-embedding-3-large": 3_072, "text-embedding-ada-002": 1_536}
STATEMENT_TIMEOUT: Final = "10min"
LOCK_TIMEOUT: Final = "60s"
MOST_UNDER_WAY: Final = 32  # requests of one task; each holds the texts and vectors of a group


@contextmanager
def knowledge_connection(
    *, statement_timeout: str = STATEMENT_TIMEOUT, lock_timeout: str = LOCK_TIMEOUT
) -> Iterator[psycopg.Connection]:
    """The knowledge database, through the PostgresHook, checked for its schema; closed at the end.

    Raises ConnectionMissingError or SchemaError with the command that mends it, and RunFailedError where the tenant or
    the website was removed from beneath the work.
    """
    from psycopg.errors import ForeignKeyViolation

    from include.gleaner.ops.migrate import check_schema
    from include.gleaner.ops.session import check_session
    from include.gleaner.sql import queries

    with closing(_opened()) as conn:
        conn.autocommit = True  # transactions are opened where they belong
        conn.prepare_threshold = None  # a prepared plan of one tenant can be a hundred times slower for another
        conn.execute(queries("session")["pin"], {"statement_timeout": statement_timeout, "lock_timeout": lock_timeout})
        check_session(conn)
        check_schema(conn)
        try:
            yield conn
        except ForeignKeyViolation as error:
            raise RunFailedError(
                "the tenant or the website was erased or forgotten while this worked for it, and what it had to write"
                f" belongs to nothing now ({error.diag.constraint_name}); there is nothing left to do"
            ) from None


def knowledge_dsn() -> str:
    """The knowledge database as a libpq connection string, whatever its schema; with its password, so not for logs."""
    from psycopg.conninfo import make_conninfo

    with closing(_opened()) as conn:
        return make_conninfo("", **conn.info.get_parameters(), password=conn.info.password or None)


def _opened() -> psycopg.Connection:
    from airflow.providers.postgres.hooks.postgres import PostgresHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        # psycopg 3, which the hook takes when it is installed, as it is by requirements.txt
        return cast("psycopg.Connection", PostgresHook(POSTGRES_CONN_ID).get_conn())
    except AirflowNotFoundException:
        check_missing(POSTGRES_CONN_ID)
        raise ConnectionMissingError(
            f"there is no Airflow connection {POSTGRES_CONN_ID!r}; add it with: "
            f"airflow connections add {POSTGRES_CONN_ID} --conn-uri postgresql://USER:PASSWORD@HOST:5432/DATABASE"
        ) from None


def embedding(named: str | None = None, dimensions: int | None = None) -> tuple[EmbedPolicy, str | None]:
    """Which model makes the vectors, and the key for it: the endpoint of the connection if there is one, else local.

    `named` and `dimensions` ask for another model of the same endpoint than the connection names.

    The connection's host is the endpoint's base URL (default: OpenAI's), its password the key; its extra may name
    `model`, `dimensions`, `price_per_million_tokens` in US dollars, `requests_per_minute`, `tokens_per_minute`,
    `concurrency` (requests under way per task), `max_inputs` (texts of one request), and `vector_index`: "vector",
    "halfvec" or "none".
    """
    connection = found_connection(OPENAI_CONN_ID)
    if connection is None:
        policy = local_policy(os.environ)
        if named not in (None, policy.model):
            raise InvalidParamError("model", f"without a connection {OPENAI_CONN_ID!r} there is only {policy.model}")
        return policy, None
    extra = _extra(connection)
    of_connection = extra.get("model", DEFAULT_OPENAI_MODEL)
    if not isinstance(of_connection, str):
        raise ConnectionMissingError(f"connection {OPENAI_CONN_ID!r}: the extra must name the model as a text")
    model = named or of_connection
    if model == of_connection:
        dimensions = dimensions or extra.get("dimensions", DIMENSIONS.get(model))
    else:
        dimensions = dimensions or DIMENSIONS.get(model)
        if dimensions is None:
            raise InvalidParamError("dimensions", f"must say how many dimensions {model!r} has")
        extra = {**extra, "price_per_million_tokens": PRICES.get(model)}
    if isinstance(dimensions, bool) or not isinstance(dimensions, int) or not 1 <= dimensions <= 16_000:
        raise ConnectionMissingError(
            f"connection {OPENAI_CONN_ID!r}: the extra must say how many dimensions {model!r} has, "
            'as {"dimensions": N}'
        )
    price = extra.get("price_per_million_tokens", PRICES.get(model))
    if price is not None and (isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < 1e6):
        raise ConnectionMissingError(
            f"connection {OPENAI_CONN_ID!r}: price_per_million_tokens in the extra must be a number of US dollars"
        )
    index = extra.get("vector_index")
    if index not in (None, "vector", "halfvec", "none"):
        raise ConnectionMissingError(
            f'connection {OPENAI_CONN_ID!r}: vector_index in the extra must be "vector", "halfvec" or "none"'
        )
    policy = EmbedPolicy(
        model=model,
        dimensions=dimensions,
        base_url=_base_url(connection),
        price=price,
        concurrency=_limit(extra, "concurrency", most=MOST_UNDER_WAY) or EmbedPolicy.concurrency,
        max_inputs=_limit(extra, "max_inputs", most=EmbedPolicy.max_inputs) or EmbedPolicy.max_inputs,
        requests_per_minute=_limit(extra, "requests_per_minute"),
        tokens_per_minute=_limit(extra, "tokens_per_minute"),
        vector_index=index,
    )
    return policy, connection.password or ""


def check_dimensions(conn: psycopg.Connection, model: EmbedPolicy | Embedder, tenant_id: str) -> None:
    """Raise SetupError when vectors of this model are there that are longer or shorter than it says.

    They could not be compared, and the model's index, which all tenants share, takes no others: a model with other
    dimensions needs another name, or its old rows removed.
    """
    from include.gleaner.sql import queries

    key = {"tenant_id": tenant_id, "model": model.model, "dimensions": model.dimensions}
    row = conn.execute(queries("models")["dimensions"], key).fetchone()
    of_whom = f"tenant {tenant_id!r} has vectors of {model.model} with"
    if row is None:
        row = conn.execute(queries("vector_index")["indexed_dimensions"], key).fetchone()
        of_whom = f"{model.model} has an index over"
    if row is not None and row[0] != model.dimensions:
        raise SetupError(
            f"{of_whom} {row[0]} dimensions, and connection {OPENAI_CONN_ID!r} says {model.dimensions}; "
            f'set its extra to {{"dimensions": {row[0]}}}'
        )


def _extra(connection: Connection) -> dict[str, Any]:
    """The connection's extra. One that cannot be read is not none: with another model than was meant, vectors cost."""
    try:
        extra = json.loads(connection.extra) if connection.extra else {}
    except (ValueError, TypeError, RecursionError):
        extra = None
    if not isinstance(extra, dict):
        raise ConnectionMissingError(f"connection {connection.conn_id!r}: the extra must be a JSON object")
    return extra


def _limit(extra: Mapping[str, Any], name: str, most: int = 10**12) -> int | None:
    value = extra.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ConnectionMissingError(
            f"connection {OPENAI_CONN_ID!r}: {name} in the extra must be a whole number from 1 to {most}"
        )
    return value


def endpoint_gate(conn: psycopg.Connection, policy: EmbedPolicy, tenant_id: str) -> Gate | None:
    """What a tenant's task asks before it asks the endpoint; None for the local model.

    Its state is in Redis if there is a connection `gleaner_redis`, else in Postgres.
    """
    if policy.is_local:
        return None
    from include.gleaner.shared.bucket import Limits
    from include.gleaner.shared.gate import SharedGate

    return SharedGate(
        endpoint_state(conn),
        endpoint=endpoint_name(policy),
        tenant_id=tenant_id,
        limits=Limits(requests=policy.requests_per_minute, tokens=policy.tokens_per_minute),
        probe_seconds=policy.timeout_seconds + 5,
    )


def endpoint_name(policy: EmbedPolicy) -> str:
    """What the endpoint's shared state goes by: host, port and model, without what may be secret in an address.

    Raises EmbeddingRefusedError for an address that cannot be one.
    """
    from include.gleaner.embed.client import host_of

    host, parts = host_of(policy), urlsplit(policy.base_url or "")
    return f"{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}/{policy.model}"


def endpoint_state(conn: psycopg.Connection) -> StateStore:
    """Where all workers keep what they know of endpoints."""
    from include.gleaner.shared.state import PostgresState

    found = found_connection(REDIS_CONN_ID)
    if found is None:
        return PostgresState(conn)
    import redis

    from include.gleaner.shared.redis_state import RedisState

    return RedisState(
        redis.Redis(
            host=found.host or "localhost",
            port=found.port or 6379,
            db=_redis_database(found),
            username=found.login or None,
            password=found.password or None,
            ssl=bool(_extra(found).get("ssl", False)),
            socket_timeout=5,
            socket_connect_timeout=5,
        )
    )


def _redis_database(connection: Connection) -> int:
    value = _extra(connection).get("db", 0)
    if isinstance(value, bool) or not str(value).isdecimal() or len(str(value)) > 5:
        raise ConnectionMissingError(f"connection {REDIS_CONN_ID!r}: db in the extra must be the number of a database")
    return int(value)


def _base_url(connection: Connection) -> str:
    host = connection.host or ""
    if not host:
        return DEFAULT_OPENAI_URL
    if "://" in host:
        return host.rstrip("/")
    scheme = connection.schema if connection.schema in ("http", "https") else "https"
    port = f":{connection.port}" if connection.port else ""
    return f"{scheme}://{host}{port}/v1"
