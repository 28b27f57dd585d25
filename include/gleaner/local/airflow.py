"""A real Airflow on this machine: scheduler with LocalExecutor, DAG processor, API server; metadata in Postgres.

Nothing of the caller's own Airflow is touched: every AIRFLOW__ setting of the environment is left out, and the home
folder is a folder of Gleaner's own.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psycopg
import requests

from include.gleaner.config import POSTGRES_CONN_ID
from include.gleaner.errors import SetupError
from include.gleaner.local.cluster import Cluster
from include.gleaner.local.postgres import HOST, USER, EmbeddedPostgres
from include.gleaner.local.processes import ProcessGroup
from include.gleaner.local.rest import AirflowApi
from include.gleaner.pools import POOLS, Pool, of_one_machine, variable

ROOT: Final = Path(__file__).parents[3]
ADMIN: Final = "admin"
VIEWER: Final = "viewer"
DATABASE: Final = "airflow"
KNOWLEDGE_DATABASE: Final = "gleaner"
PARALLELISM: Final = 12
START_SECONDS: Final = 180.0


class LocalAirflow:
    """Airflow's components over one folder; they end with `processes`."""

    def __init__(
        self,
        folder: Path,
        postgres: EmbeddedPostgres,
        processes: ProcessGroup,
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        cluster: Cluster | None = None,
    ) -> None:
        self._cluster = cluster
        self._environ: dict[str, str] = {}
        self._folder = folder
        self._postgres = postgres
        self._processes = processes
        self._port = port
        self._settings = dict(settings or {})
        self._components: dict[str, subprocess.Popen[bytes]] = {}
        self.url = ""

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The pools of this Airflow. Workers of a cluster stand for machines of their own."""
        return POOLS if self._cluster else of_one_machine(len(os.sched_getaffinity(0)))

    @property
    def password_file(self) -> Path:
        """JSON file with the login's password, mode 600."""
        return self._folder / "passwords.json"

    @property
    def password(self) -> str:
        """The generated password of the user `admin`."""
        return self.password_of(ADMIN)

    def password_of(self, user: str) -> str:
        """The generated password of admin or viewer."""
        return str(json.loads(self.password_file.read_text("utf-8"))[user])

    @property
    def api(self) -> AirflowApi:
        """A client of the API server."""
        return self.api_as(ADMIN)

    def api_as(self, user: str) -> AirflowApi:
        """A client with the rights of `user`: admin, or viewer, who may look at everything and change nothing."""
        return AirflowApi(self.url, user, self.password_of(user))

    def start(self, *, triggerer: bool = False) -> None:
        """Migrate the metadata if need be and start the components; returns when the API answers.

        Raises SetupError when the port is in use or a component ends at once.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        port = self._port or free_port()
        if not is_free(port):
            raise SetupError(f"port {port} is in use; choose another, as in PORT={port + 1}, or leave PORT out")
        self.url = f"http://{HOST}:{port}"
        self._environ = self._environment(port)
        self._migrate(self._environ)
        workers = self._cluster.names if self._cluster else []
        for name in ["api-server", "scheduler", "dag-processor", *(["triggerer"] if triggerer else []), *workers]:
            self.start_component(name)
        api = self.api
        self.wait(lambda: bool(api.health()), "the API server")
        self.wait(api.serves_tasks, "what tasks ask of the API server")
        for pool in self.pools:
            api.add_pool(pool.name, pool.slots, pool.description)

    def start_component(self, name: str) -> None:
        """Start one of the components, for the first time or after it has ended."""
        self._processes.stop(name)  # what is left of an earlier one
        command = self._cluster.command(name) if self._cluster else [name]
        self._components[name] = self._processes.start(
            name,
            [sys.executable, "-m", "airflow", *command],
            log=self._folder / f"{name}.log",
            env=self._environ,
            cwd=ROOT,
            grace_seconds=15.0,
        )

    def components(self) -> dict[str, subprocess.Popen[bytes]]:
        """The components by name, those too that have ended."""
        return dict(self._components)

    def stop(self) -> None:
        """End all components."""
        self._processes.stop(*self._components)
        self._components.clear()

    def check(self) -> None:
        """Raise SetupError when a component has ended by itself."""
        for name, process in self._components.items():
            if process.poll() is not None:
                log = self._folder / f"{name}.log"
                raise SetupError(f"Airflow's {name} ended with code {process.returncode}; its log says why: {log}")

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
        """Wait until `condition` holds; a server that is not up yet counts as no.

        Raises SetupError when a component ends meanwhile or the time is over.
        """
        deadline = time.monotonic() + seconds
        while True:
            self.check()
            with contextlib.suppress(requests.ConnectionError, requests.Timeout, requests.HTTPError):
                if condition():
                    return
            if time.monotonic() > deadline:
                raise SetupError(f"{what} was not ready after {seconds:.0f} s; the logs are in {self._folder}")
            time.sleep(0.2)

    def _environment(self, port: int) -> dict[str, str]:
        keys = self._secrets()
        postgres = self._postgres
        env = {
            name: value
            for name, value in os.environ.items()
            if name.startswith("AIRFLOW_CONN_") or not name.startswith(("AIRFLOW_", "AIRFLOW__"))
        }
        connection = {
            "conn_type": "postgres",
            "host": HOST,
            "port": postgres.port,
            "login": USER,
            "password": postgres.password,
            "schema": KNOWLEDGE_DATABASE,
        }
        metadata = f"postgresql+psycopg2://{USER}:{quote(postgres.password)}@{HOST}:{postgres.port}/{DATABASE}"
        env |= {
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
            "AIRFLOW_HOME": str(self._folder),
            f"AIRFLOW_CONN_{POSTGRES_CONN_ID.upper()}": json.dumps(connection),
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "include.gleaner.local.executor.PromptExecutor",
            "AIRFLOW__CORE__PARALLELISM": str(PARALLELISM),
            "AIRFLOW__CORE__FERNET_KEY": keys["fernet"],
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{ADMIN}:admin,{VIEWER}:viewer",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.password_file),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata,
            "AIRFLOW__API__HOST": HOST,
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__SECRET_KEY": keys["api"],
            "AIRFLOW__API_AUTH__JWT_SECRET": keys["jwt"],
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "15",
            # Files that changed are read at once all the same; reading the others again takes time from the tasks.
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0",  # the executor waits
            "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self._folder / "logs"),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__TRIGGERER__TRIGGER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            # So long a process may stay after its task has ended, and hold one of PARALLELISM.
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "3",
        }
        env |= {variable(pool): str(pool.slots) for pool in self.pools}
        return env | (self._cluster.settings(metadata) if self._cluster else {}) | self._settings

    def _secrets(self) -> dict[str, str]:
        """Keys of this folder, generated once, mode 600."""
        path = self._folder / "secrets.json"
        if not path.exists():
            keys = {
                "fernet": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
                "api": secrets.token_urlsafe(32),
                "jwt": secrets.token_urlsafe(48),
            }
            _write_private(path, json.dumps(keys))
        known = json.loads(self.password_file.read_text("utf-8")) if self.password_file.exists() else {}
        if missing := [user for user in (ADMIN, VIEWER) if user not in known]:
            known |= {user: secrets.token_urlsafe(12) for user in missing}
            _write_private(self.password_file, json.dumps(known))
        return dict(json.loads(path.read_text("utf-8")))

    def _migrate(self, env: Mapping[str, str]) -> None:
        """Bring the metadata to this Airflow's version. The database itself remembers that it was done."""
        self._postgres.create_database(DATABASE)
        mark = f"migrated by Airflow {version('apache-airflow-core')}"
        with psycopg.connect(self._postgres.dsn(DATABASE), autocommit=True) as conn:
            row = conn.execute(
                "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
            ).fetchone()
        if row and row[0] == mark:
            return
        log = self._folder / "db-migrate.log"
        process = self._processes.start(
            "db-migrate", [sys.executable, "-m", "airflow", "db", "migrate"], log=log, env=env, cwd=ROOT
        )
        try:
            code = process.wait()
        finally:
            self._processes.stop("db-migrate")
        if code:
            raise SetupError(f"`airflow db migrate` failed; its log says why: {log}")
        with psycopg.connect(self._postgres.dsn(DATABASE), autocommit=True) as conn:
            conn.execute(f"COMMENT ON DATABASE {DATABASE} IS '{mark}'".encode())


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read; all of it or nothing."""
    temporary = path.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether nobody listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
