"""Which websites there are, and when each is refreshed.

python -m include.gleaner.ops.sources list [TENANT] [--json] [--dsn DSN]
python -m include.gleaner.ops.sources every TENANT URL DAYS|never [--dsn DSN]
python -m include.gleaner.ops.sources pause|resume TENANT URL [--dsn DSN]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg

from include.gleaner.errors import InvalidParamError, RequestError, SetupError
from include.gleaner.ops.migrate import check_schema
from include.gleaner.ops.session import explained, open_session
from include.gleaner.sql import queries

LONGEST_DAYS = 366.0


def set_paused(conn: psycopg.Connection, tenant_id: str, url: str, *, paused: bool) -> None:
    """Whether refresh_websites leaves the website out. Raises InvalidParamError when there is none of that address."""
    _change(conn, "set_paused", {"tenant_id": tenant_id, "root_url": url, "paused": paused})


def set_interval(conn: psycopg.Connection, tenant_id: str, url: str, days: float | None) -> None:
    """How many days after a crawl the website is due again; None for never.

    Raises InvalidParamError for an interval below an hour or above a year, and when there is no such website.
    """
    if days is not None and not 1 / 24 <= days <= LONGEST_DAYS:
        raise InvalidParamError("every", f"needs a number of days from 0.042, which is an hour, to {LONGEST_DAYS:g}")
    every = None if days is None else timedelta(days=days)
    _change(conn, "set_interval", {"tenant_id": tenant_id, "root_url": url, "every": every})


def list_sources(conn: psycopg.Connection, tenant_id: str | None) -> list[dict[str, Any]]:
    """Every website: tenant, url, paused, days, crawled and due as ISO times, whether a refresh knows its Params."""
    rows = conn.execute(queries("sources")["list"], {"tenant_id": tenant_id})
    return [
        {
            "tenant": tenant,
            "url": url,
            "paused": paused,
            "days": None if every is None else every.total_seconds() / 86_400,
            "crawled": None if crawled is None else crawled.isoformat(timespec="seconds"),
            "due": None if paused or due is None or not can_refresh else due.isoformat(timespec="seconds"),
            "can_refresh": can_refresh,
        }
        for tenant, url, paused, every, can_refresh, crawled, due in rows
    ]


def _change(conn: psycopg.Connection, query: str, key: dict[str, Any]) -> None:
    if conn.execute(queries("sources")[query], key).fetchone() is None:
        raise InvalidParamError(
            "url", f"tenant {key['tenant_id']!r} has no website {key['root_url']}; `list` shows the addresses as stored"
        )


def _lines(sources: list[dict[str, Any]]) -> Iterator[str]:
    for source in sources:
        when = "paused" if source["paused"] else "never" if source["days"] is None else f"every {source['days']:g} days"
        due = f", due {source['due']}" if source["due"] else ""
        yield f"{source['tenant']}  {source['url']}  {when}, crawled {source['crawled'] or 'never'}{due}"


def _days(text: str) -> float | None:
    if text == "never":
        return None
    try:
        return float(text)
    except ValueError:
        raise InvalidParamError("every", "needs a number of days, or never") from None


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0 when it was done."""
    parser = argparse.ArgumentParser(prog="python -m include.gleaner.ops.sources", description=__doc__.split("\n")[0])
    parser.add_argument("--dsn", default=os.environ.get("GLEANER_DSN", ""), help="default: $GLEANER_DSN or libpq's own")
    parser.add_argument("--json", action="store_true", help="with list: as JSON")
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("list").add_argument("tenant", nargs="?")
    for name in ("every", "pause", "resume"):
        action = actions.add_parser(name)
        action.add_argument("tenant")
        action.add_argument("url")
        if name == "every":
            action.add_argument("days", help="days, or never")
    options = parser.parse_args(arguments)
    try:
        with explained(), open_session(options.dsn) as conn:
            check_schema(conn)
            if options.action == "every":
                set_interval(conn, options.tenant, options.url, _days(options.days))
            elif options.action != "list":
                set_paused(conn, options.tenant, options.url, paused=options.action == "pause")
            sources = list_sources(conn, options.tenant)
    except (RequestError, SetupError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(
        json.dumps(sources, indent=2) + "\n" if options.json else "".join(f"{x}\n" for x in _lines(sources))
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
