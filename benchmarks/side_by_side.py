"""Gleaner beside LangChain and LlamaIndex: the same pages, web server, endpoint and Postgres, in one run.

Everything is counted for everybody: fetching the pages over HTTP, reading them, cutting, asking for vectors, storing.
Gleaner crawls (it finds the pages by their links); the peers are given all addresses.
"""

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
from statistics import median
from typing import Any

from psycopg.conninfo import conninfo_to_dict

from benchmarks.cpu import cpu_below, cpu_of
from include.gleaner.local.postgres import EmbeddedPostgres, standalone
from include.gleaner.ops.migrate import migrate
from tests.support.debian_docs import fetch_docs

Row = tuple[str, str, str, bool]

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "postgresql-doc-15": "postgresql-doc-15/html",
    "python3.11-doc": "python3.11/html",
    "apache2-doc": "apache2-doc/manual/en",
    "git-doc": "git/html",
    "debian-handbook": "debian-handbook/html/en-US",
}
SMALLEST, LARGEST, LEAST_PAGES = 2_000, 200_000, 2_000
ROUNDS = 3
PROCESSES = 4  # slots of the pool gleaner_load


@dataclass(frozen=True, kw_only=True)
class _Run:
    seconds: float
    cpu: float
    peak_mb: float
    requests: int
    inputs: int
    limited: int
    postgres_cpu: float
    told: dict[str, Any]  # what the process printed; empty when it died


@dataclass(frozen=True, kw_only=True)
class _Bench:
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

    def run(self, command: list[str], environment: Mapping[str, str], stdin: str = "", **config: int) -> _Run:
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
        return _Run(
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
    ) -> _Run:  # fmt: skip
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

    def peer(self, script: str, **config: int) -> _Run:
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


def side_by_side() -> Iterator[Row]:
    """Cold, the same again, one per cent changed and one deleted, and an endpoint that says 429 in the middle."""
    yield from _compare(_PEERS)


def alone() -> Iterator[Row]:
    """The same for Gleaner only, which takes two minutes."""
    yield from _compare({})


def volume() -> Iterator[Row]:
    """Memory of the processes that crawl, process and load 2,000 and 20,000 pages, made as they are asked for."""
    peaks: dict[int, _Run] = {}
    for pages in (2_000, 20_000):
        with ready(["-m", "benchmarks.site_server", str(pages), "8", "20"]) as bench:
            bench.new_database("gleaner_bench")
            peaks[pages] = bench.gleaner("gleaner_bench", "cold", start="", max_pages=pages)
    for pages, run in peaks.items():
        told = run.told
        yield (
            f"Peak memory of a task, {told['pages']} pages, {told['work']['chunks']} chunks",
            f"{run.peak_mb:.0f} MB ({run.seconds:.0f} s)",
            "≤ 250 MB",
            run.peak_mb <= 250 and told["pages"] >= 0.99 * pages,
        )
    more = peaks[20_000].peak_mb - peaks[2_000].peak_mb
    yield "Ten times the pages need", f"{more:+.0f} MB", "≤ 25 MB more", more <= 25


def _compare(peers: Mapping[str, str]) -> Iterator[Row]:
    with ready() as bench:
        pages = len(bench.pages())
        assert pages >= LEAST_PAGES
        runs = {"Gleaner": _gleaner(bench), **{name: _peer(bench, script) for name, script in peers.items()}}
    for name, cases in runs.items():
        own = name == "Gleaner"
        single, cold, again, changed, limited, after = (cases[case] for case in _CASES)
        per_1000 = single.cpu * 1_000 / pages
        asked = f"{cold.requests} requests, {cold.inputs} inputs"
        yield (
            f"{name}: {pages} pages, cold",
            f"{single.told['seconds']:.1f} s in one process, {per_1000:.1f} CPU-s per 1,000 pages, and"
            f" {single.postgres_cpu * 1_000 / pages:.1f} of Postgres; {asked}",
            "≤ 15 CPU-s" if own else "",
            not own or per_1000 <= 15,
        )
        if own:
            yield (
                f"{name}: the same with {PROCESSES} processes on {os.cpu_count()} cores",
                f"{cold.told['seconds']:.1f} s, {cold.cpu * 1_000 / pages:.1f} CPU-s per 1,000 pages", "", True,
            )  # fmt: skip
            stages = single.told["stages"]
            rest = sum(stages[stage]["cpu"] for stage in stages if stage != "process") * 1_000 / pages
            yield "Gleaner: the same without the main-content step", f"{rest:.1f} CPU-s", "≤ 6 CPU-s", rest <= 6
            stages = cold.told["stages"]
            rate = cold.told["work"]["chunks"] / stages["load"]["seconds"]
            yield (
                f"Gleaner: chunk, vector, stored; {PROCESSES} tasks at once, no HNSW",
                f"{rate:,.0f} chunks/s ({cold.told['work']['chunks']} chunks)", "≥ 1,500", rate >= 1_500,
            )  # fmt: skip
            told = ", ".join(f"{stage} {spent['seconds']:.1f} s" for stage, spent in stages.items())
            yield "Gleaner: seconds by stage", told, "", True
        else:
            rate = cold.told["chunks"] / cold.told["seconds"]
            yield f"{name}: chunks stored", f"{rate:,.0f} chunks/s, everything", "", True
        peak = cold.peak_mb
        yield (
            f"{name}: peak memory of a process at {pages} pages", f"{peak:.0f} MB", "≤ 250 MB" if own else "",
            not own or peak <= 250,
        )  # fmt: skip
        seconds = again.told["seconds"]
        yield (
            f"{name}: the same again",
            f"{seconds:.1f} s ({again.seconds:.1f} s with the start of the process), {again.requests} requests",
            "≤ 3 s, 0" if own else "",
            not own or (seconds <= 3 and again.requests == 0),
        )
        seconds = changed.told["seconds"]
        yield (
            f"{name}: 1 % changed, 1 % deleted",
            f"{seconds:.1f} s ({changed.seconds:.1f} s), {changed.inputs} inputs",
            "≤ 4 s, ≤ 30 inputs" if own else "",
            not own or (seconds <= 4 and changed.inputs <= 30),
        )
        total = limited.inputs + after.inputs
        twice = total - cold.inputs
        yield (
            f"{name}: 429 midway, then again",
            f"{limited.inputs} + {after.inputs} inputs, {limited.limited} refused: {max(0, twice)} paid twice",
            "0 twice" if own else "",
            not own or (twice == 0 and limited.limited > 0 and limited.told["rescheduled"] > 0),
        )


_CASES = ("single", "cold", "again", "changed", "limited", "after")
_PEERS = {"LangChain": "langchain_index.py", "LlamaIndex": "llamaindex_pipeline.py"}


def _gleaner(bench: _Bench) -> dict[str, _Run]:
    found: list[dict[str, _Run]] = []
    for number in range(ROUNDS):
        bench.new_database("gleaner_bench")
        single = bench.gleaner("gleaner_bench", "single", processes=1)
        bench.new_database("gleaner_bench")
        cases = {
            "single": single,
            "cold": bench.gleaner("gleaner_bench", "cold"),
            "again": bench.gleaner("gleaner_bench", "again"),
        }
        with _changed(bench.site):
            cases["changed"] = bench.gleaner("gleaner_bench", "changed")
        bench.new_database("gleaner_bench")
        cases["limited"] = bench.gleaner("gleaner_bench", "limited", limit_after=8)
        cases["after"] = bench.gleaner("gleaner_bench", "limited")
        found.append(cases)
        print(
            f"  round {number + 1}: {cases['cold'].seconds:.1f} s cold, {single.cpu:.1f} CPU-s in one process",
            flush=True,
        )
    middle = median(cases["single"].cpu for cases in found)
    return next(cases for cases in found if cases["single"].cpu == middle)


def _peer(bench: _Bench, script: str) -> dict[str, _Run]:
    bench.new_database("peers")
    cold = bench.peer(script)
    cases = {"single": cold, "cold": cold, "again": bench.peer(script)}
    with _changed(bench.site):
        cases["changed"] = bench.peer(script)
    bench.new_database("peers")
    cases["limited"] = bench.peer(script, limit_after=20)
    cases["after"] = bench.peer(script)
    print(f"  {script}: {cases['cold'].seconds:.1f} s cold, {cases['cold'].cpu:.1f} CPU-s", flush=True)
    return cases


@contextmanager
def ready(server_of_pages: list[str] | None = None) -> Iterator[_Bench]:
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
        yield _Bench(
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
def _changed(site: Path) -> Iterator[None]:
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
