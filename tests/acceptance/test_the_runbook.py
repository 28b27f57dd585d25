"""Every command of docs/runbook.md, run as it stands and in its order; what it is to mend is broken before."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from include.gleaner.load.store import KnowledgeStore
from include.gleaner.local.airflow import ADMIN
from include.gleaner.local.postgres import EmbeddedPostgres, binaries
from include.gleaner.ops.verify import verify
from tests.acceptance.conftest import Gleaner
from tests.support.chunks import DIMENSIONS, MODEL, add_page, page_of
from tests.support.old_table import make_old_table
from tests.support.runbook import sections

ROOT = Path(__file__).parents[2]
BLOCKS = {
    name: [text for language, text in blocks if language == "bash"]
    for name, blocks in sections().items()
    if any(language == "bash" for language, _ in blocks)
}
(LOGIN,) = BLOCKS.pop("Runbook")
KNOWLEDGE = "gleaner.tenant_knowledge"

# What is done to the database before a section's commands are typed.
BROKEN = {
    "The constraint is gone": (
        f"ALTER TABLE {KNOWLEDGE} DROP CONSTRAINT unique_chunk_per_source CASCADE;"
        f"INSERT INTO {KNOWLEDGE} SELECT * FROM {KNOWLEDGE} ORDER BY source_id, chunk_index LIMIT 3"
    ),
    "An index is not valid": (
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'gleaner.tenant_knowledge_text_hash'::regclass"
    ),
    "Rows without their page": (
        "SET session_replication_role = replica; DELETE FROM gleaner.website_page WHERE url LIKE '%/b';"
        "RESET session_replication_role"
    ),
    "GleanerDeadLetters": (
        "INSERT INTO gleaner.dead_letter (tenant_id, stage, page_id, reason, attempts)"
        " SELECT tenant_id, 'process', page_id, 'no_content', 6 FROM gleaner.website_page"
    ),
    "GleanerFencesDisagree": f"DELETE FROM {KNOWLEDGE} WHERE full_text = 'second of /a'",
    "GleanerQuotaSpent": (
        "UPDATE gleaner.tenant SET monthly_token_quota = 5;"
        "INSERT INTO gleaner.embedding_usage (tenant_id, embedding_model, month, tokens)"
        f" VALUES ('acme', '{MODEL}', date_trunc('month', now() AT TIME ZONE 'UTC')::date, 7)"
    ),
}
# Which checks of `verify` are off then, and what the commands have to print.
OFF = {
    "The constraint is gone": {
        "constraint unique_chunk_per_source",
        "duplicates",
        "pages that disagree with their fence",
    },
    "An index is not valid": {"indexes"},
    "Rows without their page": {"rows without their page"},
    "GleanerFencesDisagree": {"pages that disagree with their fence"},
}
PRINTS = {
    "Deploy": (
        r"applied 0001_initial\n[\s\S]*schema version [\s\S]*old\.tenant_knowledge: \d+ rows under[\s\S]*it is adopted"
    ),
    "Verify": r"nothing is off\n[\s\S]*nothing of acme is off\n[\s\S]* +\"off\": \[\]",
    "The constraint is gone": r"DELETE 3\n[\s\S]*nothing is off",
    "An index is not valid": r"REINDEX\n[\s\S]*nothing is off",
    "Rows without their page": r"DELETE 2\nDELETE 1",
    "Monitor": r"gleaner_up 1[\s\S]*maintain_knowledge[\s\S]*no failures",
    "Back up, upgrade, roll back": (
        r"found equal[\s\S]*nothing to do[\s\S]*restored .*\.dump[\s\S]*nothing is off\nremoved 00[\s\S]*applied 00"
    ),
    "Alerts": r'"dag_id": ?"maintain_knowledge"',
    "GleanerDown": r"healthy[\s\S]*# ",
    "GleanerDatabaseUnreachable": r"PostgreSQL[\s\S]*schema version",
    "GleanerPageWaits": r"paused: True[\s\S]*\"is_paused\": ?false",
    "GleanerDeadLetters": r"no_content \| +\d+[\s\S]*failures are tried again by",
    "GleanerRunLate": r"gleaner_load",
    "GleanerQueueStuck": r"scheduler[\s\S]*gleaner_load",
    "GleanerFencesDisagree": r"acme +\|.*\| +2 \| +1\n[\s\S]*UPDATE 1",
    "GleanerQuotaSpent": r"acme +\| +5 \| +7\n[\s\S]*7 of 2,000,000 tokens",
    "GleanerDatabaseFull": r"tenant_knowledge",
}


@pytest.fixture(scope="module")
def dsn(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A new database, with an older system's table in it."""
    postgres.create_database("runbook")
    found = postgres.dsn("runbook")
    with psycopg.connect(found, autocommit=True) as conn:
        make_old_table(conn, 100)
    yield found
    postgres.drop_database("runbook")


@pytest.fixture(scope="module")
def environment(gleaner: Gleaner, dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("operator")
    (folder / "backups").mkdir()
    gleaner.api._call("PATCH", "/dags/maintain_knowledge", {"is_paused": True})  # whatever ran on this stack before
    places = [str(Path(sys.executable).parent), str(binaries()), os.environ["PATH"]]
    yield {
        **{name: value for name, value in os.environ.items() if not name.startswith(("GLEANER_", "AIRFLOW"))},
        "PATH": os.pathsep.join(places), "PYTHONPATH": str(ROOT), "HOME": str(folder), "NO_PROXY": "*", "no_proxy": "*",
        "GLEANER_DSN": dsn, "GLEANER_BACKUP_DIR": str(folder / "backups"),
        "GLEANER_AIRFLOW_URL": gleaner.stack.airflow.url, "GLEANER_AIRFLOW_USER": ADMIN,
        "GLEANER_AIRFLOW_PASSWORD": gleaner.stack.airflow.password,
    }  # fmt: skip
    gleaner.api._call("PATCH", "/dags/maintain_knowledge", {"is_paused": True})


def fill(dsn: str) -> None:
    """The knowledge of one tenant, whole."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        store = KnowledgeStore(conn, tenant_id="acme", model=MODEL, dimensions=DIMENSIONS)
        for url in ("/a", "/b"):
            page_id = add_page(conn, "acme", f"https://example.com{url}")
            store.replace_pages([page_of(page_id, [f"first of {url}", f"second of {url}"])])
        conn.execute("UPDATE gleaner.website_page SET state = 'chunked', generation = 1")
        conn.execute("UPDATE gleaner.tenant SET search_model = %s", (MODEL,))


@pytest.mark.parametrize("section", BLOCKS)
def test_the_commands_do_what_they_are_for(section: str, environment: dict[str, str], dsn: str) -> None:
    if section == "Verify":  # the first one after the deployment
        fill(dsn)
    if section in BROKEN:
        with psycopg.connect(dsn, autocommit=True) as conn:
            for statement in BROKEN[section].split(";"):
                conn.execute(statement.encode())
            assert set(verify(conn).off) == OFF.get(section, set())
    script = "\n".join(("set -eu", LOGIN, *BLOCKS[section]))
    done = subprocess.run(
        ["bash", "-c", script], env=environment, cwd=environment["HOME"], text=True, capture_output=True, check=False,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(PRINTS.get(section, ""), done.stdout), done.stdout
    if section == "GleanerFencesDisagree":
        with psycopg.connect(dsn, autocommit=True) as conn:
            row = conn.execute("SELECT url FROM gleaner.website_page WHERE state = 'completed'").fetchall()
        assert row == [("https://example.com/a",)]
        fill(dsn)  # as maintenance loads it again
    if section in OFF:
        with psycopg.connect(dsn, autocommit=True) as conn:
            assert verify(conn).ok


def test_what_is_told_of_sections_is_of_sections_that_are_there() -> None:
    assert {*BROKEN, *OFF, *PRINTS} <= set(BLOCKS)
