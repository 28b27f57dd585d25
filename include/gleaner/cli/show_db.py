"""What the commands of `gleaner db` print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from include.gleaner.cli.show import CONSOLE, document

SIGNS: Final = {True: "ok", False: "NOT OK", None: "unknown"}


def status(found: Mapping[str, Any], *, as_json: bool) -> None:
    """Which migrations a database has, lacks and does not know, and what a migration would need."""
    if as_json:
        document(found)
        return
    CONSOLE.print(f"schema version {found['version']}, this code knows {found['known']}")
    for state in ("missing", "changed", "unknown"):
        for label in found[state]:
            CONSOLE.print(f"  {state}: {label}")
    for check in found["preflight"]["checks"]:
        todo = f"; {check['todo']}" if check["todo"] else ""
        CONSOLE.print(f"  {check['name']:<10} {SIGNS[check['ok']]:<8} {check['found']}{todo}")


def steps(done: str, labels: Sequence[str], backup: str | None, *, as_json: bool) -> None:
    """The migrations that were applied or removed, and the backup that was made before."""
    if as_json:
        document({done: list(labels), **({"backup": backup} if done == "applied" else {})})
        return
    if backup:
        CONSOLE.print(f"made the backup {backup}")
    for label in labels:
        CONSOLE.print(f"{done} {label}")
    if not labels:
        CONSOLE.print("nothing to do")


def backup(path: Path, manifest: Mapping[str, Any], *, as_json: bool) -> None:
    """A backup that passed its trial."""
    if as_json:
        document({**manifest, "path": str(path)})
        return
    rows = sum(table["rows"] for table in manifest["tables"].values())
    CONSOLE.print(f"{path}: {rows} rows of {len(manifest['tables'])} tables, {manifest['dump_bytes']} bytes; "
                  "restored into a scratch database and found equal")  # fmt: skip


def restored(found: Mapping[str, Any], *, as_json: bool) -> None:
    """What is in the database now."""
    if as_json:
        document(found)
        return
    CONSOLE.print(f"restored {found['dump']} of {found['made_at'][:19]}: {found['rows']} rows of {found['tables']} "
                  f"tables, schema version {found['schema_version']}, equal to the manifest")  # fmt: skip


def verification(found: Mapping[str, Any], *, as_json: bool) -> None:
    """What was checked, what was counted, and what to do about that which is off."""
    if as_json:
        document(found)
        return
    width = max(len(check["name"]) for check in found["checks"])
    for check in found["checks"]:
        sign = {True: "ok", False: "OFF", None: ""}[check["ok"]]
        advice = f"; {check['advice']}" if check["advice"] else ""
        CONSOLE.print(f"{sign:<3}  {check['name']:<{width}}  {check['found']}{advice}")
    of = f" of {found['tenant']}" if found["tenant"] else ""
    CONSOLE.print(f"{len(found['off'])} checks{of} are off" if found["off"] else f"nothing{of} is off")


def given_up(found: Mapping[str, Any], *, as_json: bool) -> None:
    """What an adoption that was given up leaves behind."""
    if as_json:
        document(found)
        return
    gone = [*(["its trigger"] if found["had_trigger"] else []), *found["indexes"]]
    CONSOLE.print(f"{found['table']}: {', '.join(gone) or 'nothing'} taken away")
    if found["adopted"]:
        CONSOLE.print("it is adopted: unique_chunk_per_source stays")
    if found["removed"]:
        CONSOLE.print(f"{found['removed_table']}: {found['removed']} rows that were removed are still there")


def adoption(found: Mapping[str, Any], *, as_json: bool) -> None:
    """What became of an older table."""
    if as_json:
        document(found)
        return
    same, older, extra = found["removed_identical"], found["removed_older"], found["rows_without_key"]
    if found["dry_run"]:
        CONSOLE.print(f"{found['table']}: {found['rows']} rows, {found['doubles']} of them too many")
    else:
        CONSOLE.print(f"{found['table']}: {found['rows']} rows under unique_chunk_per_source {found['constraint']}")
        CONSOLE.print(f"{found['removed_table']}: {same} rows that said the same as the newest, {older} that did not")
    if extra:
        CONSOLE.print(f"{extra} rows lack a part of the key; the constraint does not know them")
