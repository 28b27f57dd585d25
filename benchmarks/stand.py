"""What measurements side by side stand on: real documentation, an endpoint, Postgres, and who is measured."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict

from benchmarks.cpu import cpu_below, cpu_of
from include.gleaner.local.postgres import EmbeddedPostgres, standalone
from include.gleaner.ops.migrate import migrate
from tests.support.debian_docs import fetch_docs

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "postgresql-doc-15": "postgresql-doc-15/html",
    "python3.11-doc": "python3.11/html",
    "apache2-doc": "apache2-doc/manual/en",
    "git-doc": "git/html",
    "debian-handbook": "debian-handbook/html/en-US",
}
SMALLEST, LARGEST = 2_000, 200_000  # bytes of a page
PROCESSES = 4  # slots of the pool gleaner_load


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a process took, and what it asked of the endpoint."""

    seconds: float
    cpu: float
    peak_mb: float
    requests: int
    inputs: int
    limited: int
    postgres_cpu: float
    told: dict[str, Any]  # what the process printed; empty when it died


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The servers, and the ways to run Gleaner and its peers against them."""

    folder: Path
    site: Path
    site_url: str
    endpoint: int  # its port
    postgres: EmbeddedPostgres

    def pages(self) -> list[str]:
        return sorted(
            str(path.relative_to(self.site)) for path in self.site.rglob("*.html") if path.name != "all-pages.html"
        )

    def reset(self, **config: int) -> None:
        body = json.dumps({"limit_after": 0, **config}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.endpoint}/config", body, {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request).read()

    def run(self, command: list[str], environment: Mapping[str, str], stdin: str = "", **config: int) -> Run:
        self.reset(**config)
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        of_postgres = self.postgres_cpu()
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, **environment}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=errors, text=True,
            )  # fmt: skip
            out, _ = process.communicate(stdin)
            seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
            told = json.loads(out.rpartition("RESULT")[2]) if "RESULT" in out else {}
            if not told and not config:
                errors.seek(0)
                raise RuntimeError(f"{command} failed:\n{errors.read()[-3_000:]}")
        with urllib.request.urlopen(f"http://127.0.0.1:{self.endpoint}/stats") as answer:
            stats = json.load(answer)
        return Run(
            seconds=seconds,
            cpu=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
            postgres_cpu=self.postgres_cpu() - of_postgres,
            peak_mb=max(told.get("peak_mb", {}).values(), default=0.0),
            told=told,
            **stats,
        )

    def postgres_cpu(self) -> float:
        """CPU seconds of the database server, with those of its sessions that have ended."""
        pid = int((self.folder / "postgres/data/postmaster.pid").read_text("utf-8").split()[0])
        return cpu_below(pid) + cpu_of(pid)

    def gleaner(
        self, database: str, run_id: str, *, start: str = "all-pages.html", max_pages: int = 10_000,
        processes: int = PROCESSES, **config: int,
    ) -> Run:  # fmt: skip
        parts = conninfo_to_dict(self.postgres.dsn(database))
        connections = {
            "AIRFLOW_CONN_GLEANER_POSTGRES": {
                "conn_type": "postgres", "host": parts["host"], "port": int(str(parts["port"])),
                "login": parts["user"], "password": parts["password"], "schema": database,
            },
            "AIRFLOW_CONN_GLEANER_OPENAI": {
                "conn_type": "generic", "host": f"http://127.0.0.1:{self.endpoint}/v1", "password": "x",
                "extra": {"model": "text-embedding-3-small", "dimensions": 1_536, "vector_index": "none"},
            },
        }  # fmt: skip
        environment = {name: json.dumps(value) for name, value in connections.items()}
        environment |= {
            "GLEANER_LOCAL_HOSTS": self.site_url.split("/")[2], "AIRFLOW_HOME": str(self.folder / "airflow"),
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
        }  # fmt: skip
        command = [sys.executable, "-m", "benchmarks.ingest_once", f"{self.site_url}{start}", run_id]
        return self.run([*command, str(max_pages), str(processes)], environment, **config)

    def peer(self, script: str, **config: int) -> Run:
        parts = conninfo_to_dict(self.postgres.dsn("peers"))
        python = _peers_python()
        tokens = next(Path(python).parents[1].rglob("_static/tiktoken_cache"))
        environment = {
            "DSN": f"postgresql+psycopg://gleaner:{parts['password']}@127.0.0.1:{parts['port']}/peers",
            "DSN_HOST": "127.0.0.1", "DSN_PORT": str(parts["port"]), "DSN_PASSWORD": str(parts["password"]),
            "EMBEDDINGS": f"http://127.0.0.1:{self.endpoint}/v1", "TIKTOKEN_CACHE_DIR": str(tokens),
            "DOCSTORE": str(self.folder / "docstore.json"), "OPENAI_API_KEY": "x",
        }  # fmt: skip
        urls = "\n".join(self.site_url + page for page in self.pages())
        command = [python, str(ROOT / "benchmarks/peers" / script)]
        return self.run(command, environment, urls, **config)

    def new_database(self, name: str) -> None:
        self.postgres.drop_database(name)
        self.postgres.create_database(name)
        if name != "peers":
            migrate(self.postgres.dsn(name))
        (self.folder / "docstore.json").unlink(missing_ok=True)


@contextmanager
def ready(server_of_pages: list[str] | None = None) -> Iterator[Bench]:
    """Postgres, the endpoint and a web server: of the documentation, unless another is named."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as cleanup:
        folder = Path(name)
        site = folder / "site"
        if server_of_pages is None:
            _make_site(folder, site)
        server, processes = standalone(folder / "postgres", settings={"fsync": "off", "shared_buffers": "512MB"})
        cleanup.callback(processes.close)
        server.start()
        ports = []
        for command in (
            server_of_pages or ["-m", "benchmarks.file_server", str(site)],
            ["-m", "benchmarks.endpoint"],
        ):
            child = subprocess.Popen(
                [sys.executable, *command], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            cleanup.callback(child.wait)
            assert child.stdin is not None
            assert child.stdout is not None
            cleanup.callback(child.stdin.close)
            ports.append(int(child.stdout.readline()))
        yield Bench(
            folder=folder, site=site, site_url=f"http://127.0.0.1:{ports[0]}/", endpoint=ports[1], postgres=server,
        )  # fmt: skip


def _peers_python() -> str:
    """The peers in a virtual environment of their own, made on the first use."""
    folder = ROOT / ".venv-peers"
    wanted = (ROOT / "benchmarks/peers/requirements.txt").read_text("utf-8")
    stamp = folder / "requirements.txt"
    if not stamp.exists() or stamp.read_text("utf-8") != wanted:
        print("  installing LangChain and LlamaIndex into .venv-peers", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        python = str(folder / "bin/python")
        requirements = str(ROOT / "benchmarks/peers/requirements.txt")
        subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "-r", requirements], check=True)
        stamp.write_text(wanted, "utf-8")
    return str(folder / "bin/python")


def _make_site(folder: Path, site: Path) -> None:
    """Distinct pages of real documentation, and one that links them all."""
    seen: set[bytes] = set()
    for package, html in PACKAGES.items():
        own = folder / package
        own.mkdir(parents=True)
        root = fetch_docs(package, own) / "usr/share/doc" / html
        for path in sorted(root.rglob("*.html")):
            if path.is_symlink() or not SMALLEST <= path.stat().st_size <= LARGEST:
                continue
            body = path.read_bytes()
            digest = hashlib.sha256(body).digest()
            if digest not in seen:
                seen.add(digest)
                target = site / package / path.relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(body)
                os.utime(target, (1_700_000_000, 1_700_000_000))
        shutil.rmtree(own)
    pages = sorted(str(path.relative_to(site)) for path in site.rglob("*.html"))
    links = "".join(f'<li><a href="/{page}">{page}</a></li>\n' for page in pages)
    site.joinpath("all-pages.html").write_text(
        f"<html><head><title>All pages</title></head><body><ul>{links}</ul></body></html>", "utf-8"
    )


@contextmanager
def changed_site(site: Path) -> Iterator[None]:
    """One page in a hundred with another first paragraph, one in a hundred gone; undone at the end."""
    pages = sorted(site.rglob("*.html"), key=lambda path: hashlib.sha256(str(path.relative_to(site)).encode()).digest())
    some = [path for path in pages if path.name != "all-pages.html"]
    share = len(some) // 100
    before = {path: path.read_bytes() for path in some[: 2 * share]}
    for path in some[:share]:
        html = before[path]
        at = html.lower().find(b"</p>")
        text = b"<p>Revision: this paragraph was added to the page after it had been read for the first time.</p>"
        path.write_bytes(
            html[: at + 4] + text + html[at + 4 :] if at > 0 else html.replace(b"</body>", text + b"</body>")
        )
    for path in some[share : 2 * share]:
        path.unlink()
    try:
        yield
    finally:
        for path, html in before.items():
            path.write_bytes(html)
            os.utime(path, (1_700_000_000, 1_700_000_000))
