"""docker-compose 1.29 over the project's own file, in a project of its own."""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import psycopg

from tests.support.docker_engine import DockerEngine
from tests.support.runbook import typed

ROOT: Final = Path(__file__).parents[2]
BINARY: Final = "/usr/bin/docker-compose"  # not the one of the wheel, which is Compose v2's successor
NAMES: Final = (
    "postgres_password", "airflow_db_password", "knowledge_db_password", "redis_password", "api_secret_key",
    "jwt_secret", "admin_password",
)  # fmt: skip


def new_secrets() -> dict[str, str]:
    """Good secrets, by the names of their files."""
    return {name: secrets.token_urlsafe(24) for name in NAMES} | {
        "fernet_key": urlsafe_b64encode(secrets.token_bytes(32)).decode()
    }


def made_secrets(checkout: Path) -> dict[str, str]:
    """Those that the command of the runbook writes into .env, by the same names; `checkout` is empty."""
    for part in ("deploy/compose/make-secrets.sh", ".env.example"):
        (checkout / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / part, checkout / part)
    (command,) = [line for _, line in typed("compose") if line.startswith("deploy/")]
    subprocess.run(["bash", "-c", command], cwd=checkout, capture_output=True, check=True, timeout=60)
    lines = (checkout / ".env").read_text("utf-8").splitlines()
    pairs = dict(re.findall(r"^GLEANER_(\w+_(?:PASSWORD|KEY|SECRET|TOKEN))=(.+)$", "\n".join(lines), re.MULTILINE))
    return {name.lower(): value for name, value in pairs.items()}


class Compose:
    """One project: its containers, networks and volumes are its own and go with `remove`."""

    def __init__(self, engine: DockerEngine, folder: Path, settings: Mapping[str, str]) -> None:
        self.project = f"gleaner{secrets.token_hex(4)}"
        self.files: Sequence[str] = ("docker-compose.yaml",)
        self._engine = engine
        self._env_file = folder / "env"
        self.settings = dict(settings)

    def run(self, *arguments: str, timeout: float = 900, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`docker-compose ...` with the settings of now."""
        done = subprocess.run(
            [*self._command(), *arguments], cwd=ROOT, env=self._environ(), capture_output=True, text=True,
            timeout=timeout, check=False,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, f"{' '.join(arguments[:4])}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done

    def type(self, line: str) -> subprocess.CompletedProcess[str]:
        """A line as a person types it into a shell, where `docker compose` is this project's."""
        tools = self._env_file.parent / "tools"
        tools.mkdir(exist_ok=True)
        environ = self._environ()
        real = shutil.which("docker", path=environ["PATH"])  # which docker-compose asks for itself
        script = f'#!/bin/sh\n[ "$1" = compose ] || exec {real} "$@"\nshift\nexec {shlex.join(self._command())} "$@"\n'
        (tools / "docker").write_text(script, "utf-8")
        (tools / "docker").chmod(0o755)
        environ |= {"PATH": f"{tools}{os.pathsep}{environ['PATH']}", "COLUMNS": "400"}  # else names are cut in two
        return subprocess.run(
            ["bash", "-c", line], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=300, check=False
        )

    def _command(self) -> list[str]:
        self._env_file.write_text("".join(f"{name}={value}\n" for name, value in self.settings.items()), "utf-8")
        self._env_file.chmod(0o600)
        command = [BINARY, "--project-name", self.project, "--project-directory", str(ROOT), "--env-file",
                   str(self._env_file)]  # fmt: skip
        return [*command, *(part for file in self.files for part in ("--file", str(ROOT / file)))]

    def _environ(self) -> dict[str, str]:
        return {name: value for name, value in self._engine.environ.items() if not name.startswith("GLEANER_")}

    def containers(self, service: str) -> list[dict[str, Any]]:
        """What the engine says of the service's containers."""
        ids = self._engine.run(
            "ps", "--all", "--quiet", "--no-trunc", "--filter", f"label=com.docker.compose.project={self.project}",
            "--filter", f"label=com.docker.compose.service={service}",
        ).split()  # fmt: skip
        return list(json.loads(self._engine.run("inspect", *ids))) if ids else []

    def one(self, service: str) -> dict[str, Any]:
        """The service's only container."""
        (found,) = self.containers(service)
        return found

    def logs(self, service: str) -> str:
        """What the service's containers said."""
        done = [
            subprocess.run(["docker", "logs", "--tail", "300", item["Id"]], env=self._engine.environ, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True)
            for item in self.containers(service)
        ]  # fmt: skip
        return "".join(item.stdout for item in done)

    def wait_healthy(self, service: str, *, count: int = 1, seconds: float = 300) -> None:
        """Until so many containers of the service are healthy."""
        deadline = time.monotonic() + seconds
        while True:
            states = [item["State"] for item in self.containers(service)]
            healthy = [state for state in states if state["Running"] and state["Health"]["Status"] == "healthy"]
            if len(healthy) == count:
                return
            said = [entry["Output"] for state in states for entry in (state["Health"].get("Log") or [])[-1:]]
            assert time.monotonic() < deadline, f"{service}: {said}\n{self.logs(service)[-3000:]}"
            time.sleep(0.5)

    def crash(self, container: Mapping[str, Any]) -> None:
        """`kill -9` to all that is in it, from outside, as a crash would: `docker kill` would count as wanted."""
        os.kill(int(container["State"]["Pid"]), signal.SIGKILL)

    def exec(self, service: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the service's first container."""
        return subprocess.run(
            ["docker", "exec", self.containers(service)[0]["Id"], *command], env=self._engine.environ,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def knowledge(self, password: str) -> psycopg.Connection:
        """A connection to the knowledge, from this machine to the container's own address."""
        (address,) = [net["IPAddress"] for net in self.one("postgres")["NetworkSettings"]["Networks"].values()]
        return psycopg.connect(
            host=address, user="gleaner", dbname="gleaner", password=password, autocommit=True, connect_timeout=10
        )

    def remove(self) -> None:
        """Everything of the project is gone, data included; its image stays."""
        self.run("--profile", "demo", "--profile", "monitoring", "down", "--volumes", "--timeout", "10", check=False)
        mine = f"label=com.docker.compose.project={self.project}"
        left = self._engine.run("ps", "--all", "--quiet", "--filter", mine)
        if left:
            self._engine.run("rm", "--force", "--volumes", *left.split())
