"""The whole stack over one folder: Postgres, the knowledge schema, Airflow, and the sample website if wanted."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from include.gleaner.errors import SetupError
from include.gleaner.local.airflow import KNOWLEDGE_DATABASE, LocalAirflow, free_port, is_free
from include.gleaner.local.cluster import Cluster
from include.gleaner.local.console import say, step
from include.gleaner.local.interrupts import ignored
from include.gleaner.local.postgres import EmbeddedPostgres
from include.gleaner.local.processes import ProcessGroup, sweep
from include.gleaner.local.website import SampleWebsite
from include.gleaner.ops.migrate import migrate
from include.gleaner.ops.upgrade import back_up_if_needed

BACKUPS: Final = "backups"
OWN: Final = frozenset((BACKUPS, "airflow", "cache", "lock", "postgres", "run", "website-port", ".probe"))
NEEDED_BYTES: Final = 500 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Stack:
    """What runs, and how to reach it."""

    airflow: LocalAirflow
    postgres: EmbeddedPostgres
    website_url: str | None
    reused: bool  # whether the folder held data of an earlier run

    @property
    def dsn(self) -> str:
        """The knowledge database; with its password, so not for logs."""
        return self.postgres.dsn(KNOWLEDGE_DATABASE)


@contextmanager
def running(
    folder: Path,
    *,
    sample: bool,
    port: int | None = None,
    triggerer: bool = False,
    cluster: Cluster | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Stack]:
    """The stack, started; at the end, and whatever happens, everything it started is ended.

    `settings` are environment variables of Airflow's components, before all others.
    Raises SetupError with what to do when something keeps it from starting.
    """
    _check_folder(folder)
    with ExitStack() as cleanup:
        cleanup.enter_context(_locked(folder))
        if left := sweep(folder / "run"):
            say(f"ended what an earlier run had left: {', '.join(left)}")
        processes = ProcessGroup(folder / "run")
        cleanup.callback(_close, processes)
        processes.guard()
        postgres = EmbeddedPostgres(folder / "postgres", processes)
        reused = not postgres.is_new
        with step("Postgres: starting with the data of the last run" if reused else "Postgres: making a new database"):
            postgres.start()
            postgres.create_database(KNOWLEDGE_DATABASE)
            _migrate(postgres, folder)
        website = cleanup.enter_context(_website(folder)) if sample else None
        airflow = LocalAirflow(
            folder / "airflow", postgres, processes, port=port, cluster=cluster,
            settings=_settings(folder, website.url if website else None) | dict(settings or {}),
        )  # fmt: skip
        with step("Airflow: starting scheduler, DAG processor and API server"):
            airflow.start(triggerer=triggerer)
        cleanup.callback(_stop_airflow, airflow)
        yield Stack(airflow=airflow, postgres=postgres, website_url=website.url if website else None, reused=reused)


@contextmanager
def knowledge(folder: Path) -> Iterator[str]:
    """The DSN of the folder's knowledge database: of the stack that runs there, else of its Postgres, started for now.

    Raises SetupError when nothing was ever ingested there.
    """
    if not (folder / "postgres" / "data" / "PG_VERSION").exists():
        raise SetupError("there is no knowledge yet; ingest a website with: make run")
    with ExitStack() as cleanup:
        processes = ProcessGroup(folder / "run")
        postgres = EmbeddedPostgres(folder / "postgres", processes)
        try:
            cleanup.enter_context(_locked(folder))
        except SetupError:  # a stack is up, and its Postgres with it
            postgres.port = int((folder / "postgres" / "port").read_text("ascii"))
            yield postgres.dsn(KNOWLEDGE_DATABASE)
            return
        sweep(folder / "run")
        cleanup.callback(_close, processes)
        processes.guard()
        with step("Postgres: starting with the data of the last run"):
            postgres.start()
            _migrate(postgres, folder)
        yield postgres.dsn(KNOWLEDGE_DATABASE)


def clean(folder: Path) -> None:
    """End what still runs and remove the folder with all its data. Raises SetupError when it holds anything else."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise SetupError(f"{folder} is no folder; nothing was removed")
    if strangers := sorted({path.name for path in folder.iterdir()} - OWN):
        raise SetupError(f"{folder} holds {strangers[0]}, which is not Gleaner's; nothing was removed")
    with _locked(folder):
        sweep(folder / "run")
        shutil.rmtree(folder)


def _migrate(postgres: EmbeddedPostgres, folder: Path) -> None:
    """To this code's schema; what is there is backed up before."""
    dsn = postgres.dsn(KNOWLEDGE_DATABASE)
    if (made := back_up_if_needed(dsn, folder / BACKUPS)) is not None:
        say(f"made the backup {made} before the migration")
    migrate(dsn)


def _website(folder: Path) -> SampleWebsite:
    """The sample website, always at the same address: at another one it would be another website to the knowledge."""
    saved = folder / "website-port"
    port = int(saved.read_text("ascii")) if saved.exists() else free_port()
    if not is_free(port):
        raise SetupError(
            f"port {port}, where the sample website was, is in use; free it, or start anew with `make clean`"
        )
    saved.write_text(str(port), "ascii")
    return SampleWebsite(port)


def _settings(folder: Path, website_url: str | None) -> dict[str, str]:
    """Where backups go, and the hosts on loopback that this stack may crawl: its sample, and those the caller names."""
    hosts = [os.environ.get("GLEANER_LOCAL_HOSTS", "")]
    if website_url:
        hosts.append(website_url.split("/")[2])
    return {
        "GLEANER_LOCAL_HOSTS": ",".join(host for host in hosts if host),
        "GLEANER_BACKUP_DIR": str(folder / BACKUPS),
    }


def _stop_airflow(airflow: LocalAirflow) -> None:
    with ignored():
        airflow.stop()


def _close(processes: ProcessGroup) -> None:
    with ignored():
        processes.close()


def _check_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise SetupError(f"the folder {folder} cannot be written to ({error.strerror}); free space or own it") from None
    if shutil.disk_usage(folder).free < NEEDED_BYTES:
        raise SetupError(f"the disk that holds {folder} has less than 500 MB left; free some space and start again")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One stack per folder. The lock goes with the process, however it ends."""
    with (folder / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise SetupError(
                f"another run is using {folder} (process {lock.read().strip() or 'unknown'}); wait for it or end it"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
