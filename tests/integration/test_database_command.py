"""`gleaner db` as operators type it: what it prints, its JSON, its exit codes, and what it looks at first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from include.gleaner.cli.app import main
from include.gleaner.ops import preflight as looks
from include.gleaner.ops.migrations import migrations
from include.gleaner.ops.preflight import preflight
from tests.integration.test_migration_runner import COLUMN
from tests.support.database_runners import ship

ROOT = Path(__file__).parents[2]
ALL = [migration.label for migration in migrations()]
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], knowledge_dsn: str, tmp_path: Path
) -> Command:
    """`gleaner db ...` in this process: (exit code, standard output, standard error)."""
    monkeypatch.setenv("GLEANER_DSN", knowledge_dsn)
    monkeypatch.setenv("GLEANER_BACKUP_DIR", str(tmp_path / "backups"))

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["db", *arguments])
        return (code, *capsys.readouterr())

    return run


def told(command: Command, *arguments: str, code: int = 0) -> Any:
    """What --json prints: one document and nothing else."""
    found, out, err = command(*arguments, "--json")
    assert found == code, err
    return json.loads(out)


@pytest.fixture
def behind(conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> psycopg.Connection:
    """Somebody's knowledge, and code that is one migration ahead."""
    ship(monkeypatch, COLUMN)
    conn.execute("INSERT INTO gleaner.tenant (tenant_id) VALUES ('acme')")
    return conn


def test_from_an_upgrade_to_the_way_back(command: Command, behind: psycopg.Connection, tmp_path: Path) -> None:
    status = told(command, "status", code=1)
    assert (status["current"], status["missing"], status["preflight"]["ok"]) == (False, [COLUMN.label], False)
    code, out, _ = command("status")
    assert code == 1
    assert f"missing: {COLUMN.label}" in out
    assert "backup     NOT OK" in out

    code, out, err = command("migrate")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "db backup, or give --no-backup" in err

    backup = told(command, "backup")
    assert Path(backup["path"]).is_relative_to(tmp_path / "backups")
    assert backup["tables"]["tenant"]["rows"] == 1
    assert "rows of" in command("backup", "--keep", "1")[1]
    assert len(list((tmp_path / "backups").glob("*.dump"))) == 1
    assert told(command, "status", code=1)["preflight"]["ok"]

    assert told(command, "migrate") == {"applied": [COLUMN.label], "backup": None}
    assert "nothing to do" in command("migrate")[1]
    assert told(command, "status")["current"]

    behind.execute("UPDATE gleaner.tenant SET search_model = 'm'")
    assert told(command, "rollback") == {"removed": [COLUMN.label]}
    (dump,) = (tmp_path / "backups").glob("*.dump")
    code, out, err = command("restore", str(dump))
    assert (code, out) == (1, "")
    assert "--replace" in err
    restored = told(command, "restore", str(dump), "--replace")
    assert (restored["schema_version"], restored["dump"]) == (migrations()[-1].version, dump.name)
    assert behind.execute("SELECT search_model FROM gleaner.tenant").fetchall() == [(None,)]
    assert f"restored {dump.name}" in command("restore", str(dump), "--replace")[1]


def test_without_a_place_for_backups_nothing_is_migrated(
    command: Command, behind: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GLEANER_BACKUP_DIR")
    code, out, err = command("migrate")
    assert (code, out) == (1, "")
    assert "GLEANER_BACKUP_DIR does not say where backups are" in err
    assert told(command, "status", code=1)["missing"] == [COLUMN.label]
    assert told(command, "migrate", "--no-backup")["applied"] == [COLUMN.label]
    code, out, err = command("rollback", "--lose-data")
    assert code == 1
    assert "GLEANER_BACKUP_DIR" in err
    assert told(command, "status")["missing"] == []


def test_a_backup_is_made_first_where_that_is_asked_for(command: Command, behind: psycopg.Connection) -> None:
    done = told(command, "migrate", "--backup")
    assert done["applied"] == [COLUMN.label]
    assert done["backup"].endswith(".dump")
    assert told(command, "migrate", "--backup") == {"applied": [], "backup": None}
    assert told(command, "rollback")["removed"] == [COLUMN.label]
    assert told(command, "migrate", "--backup")["backup"] is None  # the one from before is fresh
    assert command("rollback")[0] == 0
    assert command("migrate", "--no-backup", "--to", str(migrations()[-1].version))[1] == "nothing to do\n"


def test_content_is_lost_only_with_a_backup_of_it(command: Command, behind: psycopg.Connection) -> None:
    assert command("migrate", "--no-backup")[0] == 0
    behind.execute(
        "INSERT INTO gleaner.website_source (tenant_id, source_id, root_url) VALUES ('acme', gen_random_uuid(), 'x')"
    )
    behind.execute(
        "INSERT INTO gleaner.website_page (tenant_id, page_id, source_id, url, depth, found_job, note)"
        " SELECT tenant_id, gen_random_uuid(), source_id, 'x', 1, 1, 'mine' FROM gleaner.website_source"
    )
    code, _, err = command("rollback")
    assert (code, err.count("\n")) == (1, 1)
    assert "the values of website_page.note" in err
    code, _, err = command("rollback", "--lose-data")
    assert (code, err.count("\n")) == (1, 1)
    assert "backup: none of this database" in err
    path = told(command, "backup")["path"]
    assert told(command, "rollback", "--lose-data") == {"removed": [COLUMN.label]}
    assert command("restore", path, "--replace")[0] == 0
    assert behind.execute("SELECT note FROM gleaner.website_page").fetchall() == [("mine",)]
    assert told(command, "rollback", "--lose-data", "--no-backup") == {"removed": [COLUMN.label]}


def test_a_fresh_backup_is_of_this_database_with_this_schema_and_of_today(
    command: Command, behind: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    (made,) = [Path(told(command, "backup")["path"])]

    def check() -> tuple[bool | None, str]:
        (found,) = [check for check in preflight(behind, folder=made.parent).checks if check.name == "backup"]
        return found.ok, found.found

    assert check() == (True, f"{made.name}, 0.0 hours old")
    monkeypatch.setattr(looks, "MOST_AGE", timedelta(seconds=-1))
    assert check()[0] is False
    monkeypatch.undo()
    ship(monkeypatch, COLUMN)
    # A migration was taken back and applied again since: not the state that the backup shows.
    behind.execute("UPDATE gleaner.schema_migration SET applied_at = now() WHERE version = 3")
    assert check()[0] is False


def test_a_new_database_needs_no_backup(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], empty_dsn: str
) -> None:
    """In a process of its own, as an init step of a deployment runs it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GLEANER_")}
    done = subprocess.run(
        [sys.executable, "-m", "include.gleaner", "db", "migrate", "--json"], cwd=ROOT, text=True, capture_output=True,
        env={**environment, "GLEANER_DSN": empty_dsn}, check=False,
    )  # fmt: skip
    assert (done.returncode, json.loads(done.stdout)) == (0, {"applied": ALL, "backup": None}), done.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "said"),
    [
        (["backup"], {"GLEANER_BACKUP_DIR": ""}, 1, "Give --dir, or set GLEANER_BACKUP_DIR"),
        (["migrate", "--backup"], {"GLEANER_BACKUP_DIR": ""}, 1, "Give --dir, or set GLEANER_BACKUP_DIR"),
        (["status"], {"GLEANER_DSN": ""}, 1, "GLEANER_DSN not set"),
        (["status"], {"GLEANER_DSN": "host=127.0.0.1 port=9 user=u password=secret"}, 1, "cannot be reached"),
        (["backup"], {"GLEANER_DSN": "host=127.0.0.1 port=9 user=u password=secret"}, 1, "cannot be reached"),
        (["rollback"], {"GLEANER_DSN": "secret nonsense"}, 1, "cannot be reached"),
        (["verify", "--tenant", "\udcff"], {}, 2, "no UTF-8"),
        (["status"], {"GLEANER_DSN": "password=secret\udcff"}, 1, "no UTF-8"),
        (["backup"], {"GLEANER_DSN": "password=secret\udcff"}, 1, "no UTF-8"),
        (["restore", "/nowhere/x.dump"], {}, 1, "no x.json beside the backup"),
        (["restore", ""], {}, 1, "give the .dump file"),
        (["restore", "/"], {}, 1, "give the .dump file"),
        (["rollback", "--to", "-1"], {}, 2, "--to"),
        (["backup", "--keep", "0"], {}, 2, "--keep"),
        (["restore"], {}, 2, "dump"),
        (["nothing"], {}, 2, "nothing"),
    ],
)
def test_what_is_wrong_is_one_line_and_an_exit_code(
    command: Command, monkeypatch: pytest.MonkeyPatch, arguments: list[str], environment: dict[str, str], code: int,
    said: str,
) -> None:  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    found, out, err = command(*arguments)
    assert (found, out) == (code, "")
    assert said in err
    assert "secret" not in err
    assert (code == 2 and "Usage" in err) or err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["status"], ["verify"], ["migrate", "--no-backup"], ["rollback"]])
def test_a_user_without_rights_is_told_so_in_one_line(
    command: Command,
    conn: psycopg.Connection,
    knowledge_dsn: str,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
) -> None:
    conn.execute("DROP ROLE IF EXISTS stranger")
    conn.execute("CREATE ROLE stranger LOGIN PASSWORD 'secret-of-a-stranger'")
    monkeypatch.setenv("GLEANER_DSN", make_conninfo(knowledge_dsn, user="stranger", password="secret-of-a-stranger"))
    try:
        found = command(*arguments)
    finally:
        conn.execute("DROP ROLE stranger")
    assert found == (1, "", "gleaner: the database refused it: permission denied for schema gleaner\n")


def test_preflight_sees_what_is_in_the_way(
    conn: psycopg.Connection, knowledge_dsn: str, empty_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(conn: psycopg.Connection) -> dict[str, tuple[bool | None, str]]:
        return {check.name: (check.ok, f"{check.found}; {check.todo}") for check in preflight(conn, folder=None).checks}

    calm = found(conn)
    assert {ok for ok, _ in calm.values()} == {True}
    assert calm["server"][1].startswith("Postgres 18.")
    assert "MB free" in calm["disk"][1]

    conn.execute("UPDATE gleaner.schema_migration SET checksum = 'x' WHERE version = 2")
    assert found(conn)["migrations"][0] is False
    monkeypatch.setattr(looks, "LEAST_SERVER", 99)
    assert found(conn)["server"] == (False, calm["server"][1].rstrip("; ") + "; upgrade it to 99 or newer")
    monkeypatch.setattr(looks, "LEAST_PGVECTOR", (0, 99))
    assert "install 0.8 or newer" in found(conn)["pgvector"][1]
    monkeypatch.setattr(looks, "LEAST_FREE_BYTES", 1 << 60)
    ok, sentence = found(conn)["disk"]
    assert (ok, sentence.partition(" MB free, ")[2]) == (
        False,
        "1,099,511,627,776 MB may be needed; free some space on the server",
    )
    monkeypatch.undo()

    conn.execute("DROP ROLE IF EXISTS looker")
    conn.execute("CREATE ROLE looker LOGIN PASSWORD 'looker-password'")
    try:
        with psycopg.connect(make_conninfo(empty_dsn, user="looker", password="looker-password")) as looker:
            seen = found(looker)
            assert seen["pgvector"][0] is False
            assert "CREATE EXTENSION vector" in seen["pgvector"][1]
            assert "GRANT CREATE ON DATABASE" in seen["rights"][1]
            assert seen["disk"][0] is None  # it may not know where the data lies
        conn.execute("GRANT USAGE ON SCHEMA gleaner TO looker")
        conn.execute("GRANT SELECT ON gleaner.schema_migration, gleaner.tenant TO looker")
        with psycopg.connect(make_conninfo(knowledge_dsn, user="looker", password="looker-password")) as looker:
            assert found(looker)["rights"][1].startswith("the tables belong to another role")
    finally:
        conn.execute("DROP OWNED BY looker")
        conn.execute("DROP ROLE looker")
