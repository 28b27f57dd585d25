"""A real Prometheus on the loopback with the project's own rules, in a hurry: what they wait minutes for is seconds."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import requests
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "rules" / "gleaner.yml"
WINDOW = "15s"  # in place of minutes and hours; the API server gives one answer for five seconds


def tool(name: str) -> str:
    path = shutil.which(name)
    assert path is not None, f"there is no {name}; `make test-watch` installs it"
    return path


def hurried(rules: str) -> str:
    """The rules with `for: 1s`, and rates over some seconds. What they compare stays as it is."""
    return re.sub(r"\[\d+[mh]\]", f"[{WINDOW}]", re.sub(r"for: \d+[mh]", "for: 1s", rules))


class PrometheusServer:
    """`prometheus` of the system; a context manager. `target` is the API server's address."""

    def __init__(self, folder: Path, target: str, token_file: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{found.getsockname()[1]}"
        config: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
        config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = ["rules.yml"]
        gleaner = config["scrape_configs"][0]
        assert gleaner["job_name"] == "gleaner"
        gleaner["authorization"]["credentials_file"] = str(token_file)
        gleaner["static_configs"] = [{"targets": [urlsplit(target).netloc]}]
        gleaner["scrape_timeout"] = gleaner["scrape_interval"] = "1s"
        config["scrape_configs"] = [gleaner]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config), "utf-8")
        (folder / "rules.yml").write_text(hurried(RULES.read_text("utf-8")), "utf-8")

    def __enter__(self) -> Self:
        subprocess.run([tool("promtool"), "check", "config", "prometheus.yml"], cwd=self._folder, check=True)
        self._process = subprocess.Popen(
            [
                tool("prometheus"), "--config.file=prometheus.yml", "--storage.tsdb.path=data",
                f"--web.listen-address={self.url.removeprefix('http://')}", "--log.level=warn",
            ],
            cwd=self._folder, stdout=subprocess.DEVNULL, stderr=(self._folder / "log").open("wb"),
        )  # fmt: skip
        deadline = time.monotonic() + 30
        while True:
            assert self._process.poll() is None, (self._folder / "log").read_text("utf-8")
            try:
                if self._get("/-/ready").ok:
                    return self
            except requests.ConnectionError:
                pass
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)

    def firing(self) -> dict[str, dict[str, Any]]:
        """The alerts that fire now, by name."""
        found = self._get("/api/v1/alerts").json()["data"]["alerts"]
        return {alert["labels"]["alertname"]: alert for alert in found if alert["state"] == "firing"}

    def value(self, query: str) -> float | None:
        """The value of a query with one result; None without one."""
        found = self._get("/api/v1/query", query=query).json()["data"]["result"]
        return float(found[0]["value"][1]) if found else None

    def _get(self, path: str, **parameters: str) -> requests.Response:
        session = requests.Session()
        session.trust_env = False
        return session.get(self.url + path, params=parameters, timeout=10)
