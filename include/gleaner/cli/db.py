"""`gleaner db`: the knowledge database itself. Its schema, its backups. Everything goes by GLEANER_DSN."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

from include.gleaner.cli import connect, show_db
from include.gleaner.errors import BackupError, SetupError

HELP: Final = "The knowledge database: its schema, its backups, and whether it is what it should be."
app = typer.Typer(no_args_is_help=True, help=HELP)
Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")]
Folder = Annotated[
    Path | None, typer.Option("--dir", envvar="GLEANER_BACKUP_DIR", help="Where backups are.", file_okay=False)
]
NoBackup = Annotated[bool, typer.Option("--no-backup", help="Without a fresh backup.")]
To = Annotated[int | None, typer.Option("--to", min=0, help="Schema version, such as 9.")]


@app.command()
def status(folder: Folder = None, as_json: Json = False) -> None:
    """Which migrations are missing, and what they would need; exit code 1 when some are."""
    from include.gleaner.ops.migrate import schema_status
    from include.gleaner.ops.preflight import preflight

    with connect.database() as conn:
        found, looked = schema_status(conn), preflight(conn, folder=folder)
    show_db.status({**found.as_dict(), "preflight": looked.as_dict()}, as_json=as_json)
    if not found.is_current:
        raise typer.Exit(1)


@app.command()
def migrate(
    folder: Folder = None,
    no_backup: NoBackup = False,
    first_back_up: Annotated[
        bool, typer.Option("--backup", help="Make one first, unless there is a fresh one.")
    ] = False,
    to: To = None,
    as_json: Json = False,
) -> None:
    """Apply the migrations that are missing, if nothing is in the way."""
    from include.gleaner.ops.session import explained
    from include.gleaner.ops.upgrade import upgrade

    if first_back_up:
        _named(folder)
    with explained():
        done = upgrade(connect.dsn(), folder=folder, no_backup=no_backup, first_back_up=first_back_up, to_version=to)
    show_db.steps("applied", done.applied, done.backup, as_json=as_json)


@app.command()
def rollback(
    to: To = None,
    lose_data: Annotated[bool, typer.Option("--lose-data", help="Even where content goes with it.")] = False,
    folder: Folder = None,
    no_backup: NoBackup = False,
    as_json: Json = False,
) -> None:
    """Take back the newest migration, or all above a version; stops before anything with content is removed."""
    from include.gleaner.ops.preflight import Preflight, fresh_backup
    from include.gleaner.ops.rollback import rollback as take_back
    from include.gleaner.ops.session import explained

    if lose_data:
        with connect.database() as conn:
            Preflight(checks=(fresh_backup(conn, folder, no_backup=no_backup),)).refuse()
    with explained():
        undone = take_back(connect.dsn(), to, lose_data=lose_data)
    show_db.steps("removed", undone, None, as_json=as_json)


@app.command()
def backup(
    folder: Folder = None,
    keep: Annotated[int | None, typer.Option(min=1, help="How many of this database's backups stay.")] = None,
    as_json: Json = False,
) -> None:
    """Write a backup, and try it: it is restored into a scratch database and compared."""
    from include.gleaner.ops.backup import back_up
    from include.gleaner.ops.session import explained

    into = _named(folder)
    with explained():
        dump, manifest = back_up(connect.dsn(), into, keep=keep)
    show_db.backup(dump, manifest.as_dict(), as_json=as_json)


@app.command()
def restore(
    dump: Annotated[Path, typer.Argument(help="The .dump file; its .json lies beside it.")],
    replace: Annotated[bool, typer.Option("--replace", help="Instead of the knowledge that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Put a backup in the place of what is there, at once or not at all."""
    from include.gleaner.ops.restore import restore as put_back
    from include.gleaner.ops.session import explained

    with explained():
        done = put_back(connect.dsn(), dump, replace=replace)
    show_db.restored(asdict(done), as_json=as_json)


@app.command()
def verify(
    tenant: Annotated[str | None, typer.Option("--tenant", "-t", help="Count this one's rows only.")] = None,
    as_json: Json = False,
) -> None:
    """Check the schema and count what is off; exit code 1 when something is."""
    from include.gleaner.ops.verify import verify as look

    with connect.database() as conn:
        found = look(conn, tenant)
    show_db.verification(found.as_dict(), as_json=as_json)
    if not found.ok:
        raise typer.Exit(1)


@app.command()
def adopt(
    table: Annotated[str, typer.Option(help="SCHEMA.TABLE of an older system.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    lines: Annotated[
        Path | None, typer.Option(help="Write a JSON line there for each row that was removed.", dir_okay=False)
    ] = None,
    given_up: Annotated[
        bool, typer.Option("--give-up", help="Take away the trigger and the indexes of one that did not end.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring an older table of chunks under unique_chunk_per_source while it is in use; doubles are kept aside."""
    from include.gleaner.ops.adopt import adopt as bring
    from include.gleaner.ops.adopt import give_up, write_lines

    if given_up:
        if dry_run or lines is not None:
            raise SetupError("--give-up goes with --table alone; nothing was changed")
        with connect.database() as conn:
            left = give_up(conn, table)
        show_db.given_up(left.as_dict(), as_json=as_json)
        return
    try:
        with ExitStack() as open_files, connect.database() as conn:
            # Before anything is changed.
            file = None if lines is None else open_files.enter_context(lines.open("w", encoding="utf-8"))
            done = bring(conn, table, dry_run=dry_run)
            if file is not None:
                write_lines(conn, table, file)
    except OSError as error:  # also when the disk is full: all lines are written again by another try
        raise SetupError(f"--lines {lines}: {error.strerror}; name a file that can be written, run it again") from None
    show_db.adoption(done.as_dict(), as_json=as_json)
    if not done.ok:
        raise typer.Exit(1)


def _named(folder: Path | None) -> Path:
    if folder is None:
        raise BackupError("where do backups go? Give --dir, or set GLEANER_BACKUP_DIR")
    return folder
