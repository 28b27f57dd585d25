"""What a tenant has, spends and may spend.

python -m include.gleaner.ops.tenants show TENANT [--dsn DSN]
python -m include.gleaner.ops.tenants quota TENANT TOKENS|none [--dsn DSN]
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator

import psycopg

from include.gleaner.config import TENANT_PATTERN
from include.gleaner.errors import InvalidParamError, RequestError, SetupError
from include.gleaner.ops.migrate import check_schema
from include.gleaner.ops.session import explained, open_session
from include.gleaner.sql import queries

MOST_TOKENS = (1 << 63) - 1


def set_quota(conn: psycopg.Connection, tenant_id: str, tokens: int | None) -> None:
    """How many tokens the tenant may have embedded in a calendar month (UTC); None for no limit.

    Raises InvalidParamError for a name that no tenant can have, or a number that is none of tokens.
    """
    if not re.fullmatch(TENANT_PATTERN.strip("^$"), tenant_id):
        raise InvalidParamError("tenant", "needs 1 to 63 of a-z, 0-9, '-' and '_', beginning with a letter or digit")
    if tokens is not None and not 0 <= tokens <= MOST_TOKENS:
        raise InvalidParamError("quota", "needs a number of tokens, 0 or more, or none")
    conn.execute(queries("quota")["set_quota"], {"tenant_id": tenant_id, "quota": tokens})


def describe(conn: psycopg.Connection, tenant_id: str) -> Iterator[str]:
    """Lines about the tenant: models and their rows, quota, what was spent by month and model."""
    key = {"tenant_id": tenant_id}
    state = conn.execute(queries("models")["state"], key).fetchone()
    if state is None:
        raise InvalidParamError("tenant", f"there is no tenant {tenant_id!r}; one begins with its first run")
    search_model, previous = state
    yield f"Readers see   {search_model or 'nothing yet'}"
    if previous:
        yield f"Being removed {previous}"
    for model, chunks, vectors in conn.execute(queries("models")["rows_by_model"], key):
        yield f"Chunks        {chunks} of {model}, {vectors} with a vector"
    spent, quota = conn.execute(queries("quota")["month"], key).fetchone() or (0, None)
    yield f"This month    {spent:,} of {'any number of' if quota is None else format(quota, ',')} tokens"
    for month, model, requests, inputs, tokens in conn.execute(queries("quota")["usage"], key):
        yield f"{month:%Y-%m}       {model}: {requests:,} requests, {inputs:,} texts, {tokens:,} tokens"


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0 when it was done."""
    parser = argparse.ArgumentParser(prog="python -m include.gleaner.ops.tenants", description=__doc__.split("\n")[0])
    parser.add_argument("action", choices=["show", "quota"])
    parser.add_argument("tenant")
    parser.add_argument("tokens", nargs="?", help="with quota: tokens a month, or none")
    parser.add_argument("--dsn", default=os.environ.get("GLEANER_DSN", ""), help="default: $GLEANER_DSN or libpq's own")
    options = parser.parse_args(arguments)
    tokens = options.tokens or ""
    is_number = tokens.isascii() and tokens.isdigit() and len(tokens) < 20
    if options.action == "quota" and options.tokens != "none" and not is_number:
        parser.error("quota needs a number of tokens, or none")
    try:
        with explained(), open_session(options.dsn) as conn:
            check_schema(conn)
            if options.action == "quota":
                set_quota(conn, options.tenant, None if options.tokens == "none" else int(options.tokens))
            sys.stdout.writelines(f"{line}\n" for line in describe(conn, options.tenant))
    except (RequestError, SetupError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
