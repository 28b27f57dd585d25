"""Real servers for the tests: one embedded Postgres per session, one database per test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings

from include.gleaner.local.postgres import EmbeddedPostgres, standalone
from include.gleaner.ops.migrate import migrate

# The same examples in every run: what a test finds, it finds again.
settings.register_profile("gleaner", derandomize=True, max_examples=150, deadline=None)
settings.load_profile("gleaner")

ROOT = Path(__file__).parents[1]
_names = (f"test_{number}" for number in itertools.count(1))
_left: list[str] = []  # databases of tests that are over


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A running embedded Postgres, with a migrated database named `template_knowledge`."""
    server, processes = standalone(
        tmp_path_factory.mktemp("postgres"), settings={"fsync": "off", "full_page_writes": "off"}
    )
    try:
        server.start()
        server.create_database("template_knowledge")
        migrate(server.dsn("template_knowledge"))
        yield server
    finally:
        processes.close()


def _drop_later(postgres: EmbeddedPostgres, name: str) -> None:
    """After the next test: right now the server would wait a tenth of a second for connections that just closed."""
    _left.append(name)
    if len(_left) > 1:
        postgres.drop_database(_left.pop(0))


@pytest.fixture
def empty_dsn(postgres: EmbeddedPostgres) -> Iterator[str]:
    """An empty database of the test's own."""
    name = next(_names)
    postgres.create_database(name)
    yield postgres.dsn(name)
    _drop_later(postgres, name)


@pytest.fixture
def knowledge_dsn(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A migrated database of the test's own."""
    name = next(_names)
    postgres.create_database(name, template="template_knowledge")
    yield postgres.dsn(name)
    _drop_later(postgres, name)


@pytest.fixture
def conn(knowledge_dsn: str) -> Iterator[psycopg.Connection]:
    """A connection to the test's migrated database, set up as the tasks set theirs up."""
    with psycopg.connect(knowledge_dsn, autocommit=True, prepare_threshold=None) as connection:
        yield connection
