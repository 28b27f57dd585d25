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
import requests

from include.gleaner.load.store import KnowledgeStore
from include.gleaner.local.airflow import ADMIN
from include.gleaner.local.postgres import EmbeddedPostgres, binaries
from include.gleaner.ops.verify import verify
from tests.acceptance.conftest import Gleaner
from tests.support.chunks import DIMENSIONS, MODEL, add_page, page_of
from tests.support.old_table import make_old_table
from tests.support.runbook import sections
from tests.support.static_site import StaticSite

ROOT = Path(__file__).parents[2]
BLOCKS = {
    name: [text for language, text in blocks if language == "bash"]
    for name, blocks in sections().items()
    if any(language == "bash" for language, _ in blocks)
}
(LOGIN,) = BLOCKS.pop("Runbook")
KNOWLEDGE = "gleaner.tenant_knowledge"

# What is done to the database before a section's commands are typed: there is something to find, and something not to.
BROKEN = {
    "The constraint is gone": (
        f"ALTER TABLE {KNOWLEDGE} DROP CONSTRAINT unique_chunk_per_source CASCADE;"
        f"INSERT INTO {KNOWLEDGE} SELECT * FROM {KNOWLEDGE} ORDER BY source_id, chunk_index LIMIT 3;"
        f"UPDATE {KNOWLEDGE} SET full_text = 'older', updated_at = updated_at - interval '1 day' WHERE ctid IN"
        f" (SELECT max(ctid) FROM {KNOWLEDGE} GROUP BY source_id, chunk_index, embedding_model HAVING count(*) > 1)"
    ),
    "An index is not valid": (
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'gleaner.tenant_knowledge_by_text'::regclass"
    ),
    "Rows without their page": (
        "SET session_replication_role = replica; DELETE FROM gleaner.website_page WHERE url LIKE '%/b';"
        "RESET session_replication_role"
    ),
    "GleanerBreakerOpen": (
        "INSERT INTO gleaner.endpoint_state (endpoint, state) VALUES ('https://api.example/v1', '{\"breaker\": {}}');"
        "INSERT INTO gleaner.dead_letter (tenant_id, stage, page_id, item, reason, resolved_at)"
        " SELECT tenant_id, l.stage, page_id, l.item, l.reason, l.resolved_at FROM gleaner.website_page, (VALUES"
        " ('embed', '', 'timeout', NULL), ('embed', 'x', 'mended', now()), ('load', '', 'refused', NULL))"
        " AS l(stage, item, reason, resolved_at) WHERE url LIKE '%/a'"
    ),
    "GleanerGapGrowing": (
        "UPDATE gleaner.website_page SET state = CASE WHEN url LIKE '%/a' THEN 'fetched' ELSE 'completed' END,"
        " fetched_at = now();"
        f"UPDATE {KNOWLEDGE} SET embedding = NULL WHERE full_text = 'second of /b'"
    ),
    "GleanerPageWaits": (
        "UPDATE gleaner.website_page SET state = 'fetched', fetched_at = now() - interval '1 day' WHERE url LIKE '%/a';"
        "UPDATE gleaner.website_page SET state = 'completed', fetched_at = now() WHERE url LIKE '%/b'"
    ),
    "GleanerDeadLetters": (
        "DELETE FROM gleaner.dead_letter;"
        "INSERT INTO gleaner.dead_letter (tenant_id, stage, page_id, reason, attempts)"
        " SELECT tenant_id, 'process', page_id, 'no_content', 6 FROM gleaner.website_page;"
        "INSERT INTO gleaner.dead_letter (tenant_id, stage, page_id, reason, resolved_at)"
        " SELECT tenant_id, 'load', page_id, 'mended', now() FROM gleaner.website_page"
    ),
    "GleanerDeadLettersGivenUp": (
        "UPDATE gleaner.dead_letter d SET attempts = CASE WHEN url LIKE '%/a' THEN 6 ELSE 5 END"
        " FROM gleaner.website_page p WHERE p.tenant_id = d.tenant_id AND p.page_id = d.page_id"
    ),
    "GleanerRunLate": (
        "INSERT INTO gleaner.crawl_job (tenant_id, source_id, run_id, conf, planned_pages, finished_at)"
        " SELECT tenant_id, source_id, run_id, '{}', 9, finished_at FROM gleaner.website_source,"
        " (VALUES ('late', NULL), ('over', now())) AS job(run_id, finished_at)"
    ),
    "GleanerRefreshLate": "DELETE FROM gleaner.crawl_job",
    "GleanerFencesDisagree": (
        f"DELETE FROM {KNOWLEDGE} WHERE full_text = 'second of /a' AND embedding_model = '{MODEL}'"
    ),
    "GleanerQuotaSpent": (
        "UPDATE gleaner.tenant SET monthly_token_quota = 7;"
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
    "GleanerGapGrowing": {"gap: pages not chunked", "gap: chunks without vector"},
    "GleanerPageWaits": {"gap: pages not chunked"},
    "GleanerFencesDisagree": {"pages that disagree with their fence"},
}
PRINTS = {
    "Deploy": (
        r"applied 0001_initial\n[\s\S]*schema version [\s\S]*old\.tenant_knowledge: 69 rows under"
        r"[\s\S]*nothing taken away\nit is adopted"
    ),
    "Verify": r"nothing is off\n[\s\S]*nothing of acme is off\n[\s\S]* +\"off\": \[\]",
    "The constraint is gone": r"DELETE 3\n[\s\S]*nothing is off",
    "An index is not valid": r"REINDEX\n[\s\S]*nothing is off",
    "Rows without their page": r"DELETE 2\nDELETE 1",
    "Monitor": r"gleaner_up 1[\s\S]*\"dag_id\": ?\"maintain_knowledge\"[\s\S]*no failures",
    "Back up, upgrade, roll back": (
        r"found equal[\s\S]*nothing to do[\s\S]*restored .*\.dump[\s\S]*nothing is off\nremoved 00[\s\S]*applied 00"
    ),
    "Alerts": r'"dag_id": ?"maintain_knowledge"',
    "GleanerDown": r"healthy[\s\S]*# HELP gleaner_",
    "GleanerDatabaseUnreachable": r"PostgreSQL[\s\S]*schema version",
    "GleanerBreakerOpen": r" https://api\.example/v1 +\|.*breaker.*\n\(1 row\)[\s\S]*\n timeout +\| +1 \|.*\n\(1 row\)",
    "GleanerGapGrowing": (
        r"gap: pages not chunked +2;[\s\S]*\n acme +\| \w+ +\| +1 \|.*\n acme +\| \w+ +\| +1 \|.*\n\(2 rows\)"
        rf"[\s\S]*\n acme +\| {MODEL} +\| +1\n\(1 row\)"
    ),
    "GleanerPageWaits": (
        r"maintain_knowledge is paused: True\n[\s\S]*\"dag_id\": ?\"maintain_knowledge\""
        r"[\s\S]*/a +\| fetched .*\n.*/b +\| completed .*\n\(2 rows\)"
        r"[\s\S]*\"dag_id\": ?\"maintain_knowledge\"[\s\S]*\"is_paused\": ?false"
    ),
    "GleanerDeadLetters": (
        r" process +\| no_content +\| +2 \| +1\n\(1 row\)[\s\S]*no_content"
        r"[\s\S]*\"id\": \"page\".* \"title\": \"The Debian Admin.*\"[\s\S]*failures are tried again by"
    ),
    "GleanerDeadLettersGivenUp": r"\n acme +\| process +\| no_content +\| +1\n\(1 row\)",
    "GleanerRunLate": r"\n acme +\| late +\| crawl +\|.*\| +9\n\(1 row\)[\s\S]*gleaner_load[\s\S]*dag_runs",
    "GleanerRefreshLate": (
        r"refresh_websites is paused: True\nacme  https://example\.com/  every 1 days.*\n"
        r"[\s\S]*\"dag_id\": ?\"refresh_websites\"[\s\S]*acme  https://example\.com/  every 14 days"
    ),
    "GleanerRunsFail": r"\"dag_id\": ?\"maintain_knowledge\"[\s\S]*\"state\": ?\"failed\"",
    "GleanerQueueStuck": r"scheduler[\s\S]*gleaner_load",
    "GleanerFencesDisagree": r"acme +\|.*\| +2 \| +1\n\(1 row\)[\s\S]*UPDATE 1",
    "GleanerQuotaSpent": r"acme +\| +7 \| +7\n\(1 row\)[\s\S]*7 of 2,000,000 tokens",
    "GleanerThrottled": (
        r"gleaner_endpoint_throttled_total [\s\S]*gleaner_limiter_waits_total "
        r"[\s\S]*gleaner_limiter_wait_seconds_total "
    ),
    "GleanerDatabaseFull": r"\n tenant_knowledge +\| [\d.]+ [kM]B\n[\s\S]*\(8 rows\)",
}
# What is so afterwards.
AFTER: dict[str, tuple[str, list[tuple[object, ...]]]] = {
    "The constraint is gone": (
        "SELECT indisreplident, count(*), count(*) FILTER (WHERE full_text = 'older')"
        f" FROM {KNOWLEDGE}, pg_index WHERE indexrelid = 'gleaner.unique_chunk_per_source'::regclass GROUP BY 1",
        [(True, 6, 0)],
    ),
    "GleanerFencesDisagree": (
        "SELECT url FROM gleaner.website_page WHERE state = 'completed'",
        [("https://example.com/a",)],
    ),
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
def environment(
    gleaner: Gleaner, handbook: StaticSite, dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("operator")
    (folder / "backups").mkdir()
    (folder / "backups/old.dump").touch()
    os.utime(folder / "backups/old.dump", (0, 0))
    for dag in ("maintain_knowledge", "refresh_websites"):  # whatever ran on this stack before
        gleaner.api._call("PATCH", f"/dags/{dag}", {"is_paused": True})
    gleaner.api.fail_run("maintain_knowledge", gleaner.api.trigger("maintain_knowledge", {}))
    places = [str(Path(sys.executable).parent), str(binaries()), os.environ["PATH"]]
    yield {
        **{name: value for name, value in os.environ.items() if not name.startswith(("GLEANER_", "AIRFLOW"))},
        "PATH": os.pathsep.join(places), "PYTHONPATH": str(ROOT), "HOME": str(folder), "NO_PROXY": "*", "no_proxy": "*",
        "GLEANER_DSN": dsn, "GLEANER_BACKUP_DIR": str(folder / "backups"),
        "GLEANER_AIRFLOW_URL": gleaner.stack.airflow.url, "GLEANER_AIRFLOW_USER": ADMIN,
        "GLEANER_AIRFLOW_PASSWORD": gleaner.stack.airflow.password, "PAGE": f"{handbook.url}en-US/index.html",
    }  # fmt: skip
    gleaner.api._call("PATCH", "/dags/maintain_knowledge", {"is_paused": True})


def fill(dsn: str) -> None:
    """The knowledge of one tenant, whole; of a page under two models."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(f"DELETE FROM {KNOWLEDGE} WHERE embedding IS NULL".encode())  # a load writes what is missing
        for url, model in (("/a", MODEL), ("/b", MODEL), ("/a", "other-model")):
            store = KnowledgeStore(conn, tenant_id="acme", model=model, dimensions=DIMENSIONS)
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
    with psycopg.connect(dsn, autocommit=True) as conn:
        if section in AFTER:
            query, rows = AFTER[section]
            assert conn.execute(query.encode()).fetchall() == rows
        if section in ("Rows without their page", "GleanerGapGrowing", "GleanerPageWaits", "GleanerFencesDisagree"):
            fill(dsn)  # as maintenance loads it again
        if section in OFF:
            assert verify(conn).ok


def test_what_is_asked_of_airflow_is_known_to_it(gleaner: Gleaner) -> None:
    """It answers as if nothing had been asked when it does not know a parameter."""
    described = requests.get(f"{gleaner.stack.airflow.url}/openapi.json", timeout=30).json()["paths"]
    asked = re.findall(
        r"(/api/v2/[^\s\"?]+)\?([^\s\"]+)", "\n".join(text for texts in BLOCKS.values() for text in texts)
    )
    assert len(asked) > 3
    for path, query in asked:
        (operation,) = [
            found["get"]
            for template, found in described.items()
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path)
        ]
        known = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "query"}
        assert {pair.partition("=")[0] for pair in query.split("&")} <= known, path


def test_of_each_section_it_is_told_what_it_prints() -> None:
    assert {*BROKEN, *OFF, *AFTER} <= set(BLOCKS)
    assert set(PRINTS) == set(BLOCKS)
