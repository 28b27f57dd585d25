"""Makes .venv with the pinned packages and the command `gleaner`.

Standard library and old syntax only: any Python 3 can say what is wrong.

python3 include/gleaner/local/bootstrap.py [--dev] [--cluster] [--browser] [--compose]
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
VENV = os.path.join(ROOT, ".venv")
OLDEST, NEWEST = (3, 11), (3, 13)  # what Airflow and the wheels of the local model support
NEEDED_BYTES = 3 * 1024**3 // 2
PROGRESS_EVERY = 20  # packages


def main(arguments: list[str]) -> int:
    """0 when .venv holds what the requirements say; 1 with one line that says what to do."""
    groups = ["requirements.txt"]
    groups += ["requirements-dev.txt"] if "--dev" in arguments else []
    groups += ["requirements-cluster.txt"] if "--cluster" in arguments else []
    groups += ["requirements-browser.txt"] if "--browser" in arguments else []
    groups += ["requirements-compose.txt"] if "--compose" in arguments else []
    problem = check_python() or check_disk(groups)
    if problem:
        return fail(problem)
    if not os.path.exists(stamp("requirements.txt")):
        if os.path.exists(VENV):
            say("the .venv that is there is unfinished or of other requirements: making it anew")
            shutil.rmtree(VENV)
        problem = make_venv()
        if problem:
            return fail(problem)
    for group in groups:
        if not os.path.exists(stamp(group)):
            problem = install(group)
            if problem:
                return fail(problem)
            with open(stamp(group), "w"):
                pass
    write_command()
    return 0


def check_python() -> str | None:
    """What is wrong with this Python."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        this = f"{sys.version_info[0]}.{sys.version_info[1]}"
        return f"Python 3.11, 3.12 or 3.13 is needed and this is {this}; name one: make run PYTHON=python3.11"
    if sys.platform.startswith("win"):
        return "Airflow does not run on Windows; use Linux, macOS or WSL"
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return "this Python cannot make virtual environments; on Debian: apt-get install python3-venv"
    return None


def check_disk(groups: list[str]) -> str | None:
    """Whether there is room, as long as something has to be installed."""
    if all(os.path.exists(stamp(group)) for group in groups):
        return None
    if not os.access(ROOT, os.W_OK):
        return f"the folder {ROOT} cannot be written to by this user; own it, or clone into one you own"
    free = shutil.disk_usage(ROOT).free
    if free < NEEDED_BYTES:
        return f"the packages need 1.5 GB of disk and {free / 1024**3:.1f} GB are free in {ROOT}; free some space"
    return None


def stamp(group: str) -> str:
    """A file in .venv that says: installed whole, from exactly these requirements, by this Python, in this folder."""
    digest = hashlib.sha256()
    with open(os.path.join(ROOT, group), "rb") as file:
        digest.update(file.read())
    digest.update(f"{sys.version} {sys.executable} {ROOT}".encode())
    return os.path.join(VENV, f".installed-{group[:-4]}-{digest.hexdigest()[:16]}")


def make_venv() -> str | None:
    """Make an empty .venv."""
    say("making .venv")
    result = subprocess.run([sys.executable, "-m", "venv", VENV], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if result.returncode:
        shutil.rmtree(VENV, ignore_errors=True)
        return "no virtual environment could be made; on Debian: apt-get install python3-venv"
    return None


def install(group: str) -> str | None:
    """Install a file of pinned requirements, telling how far it is."""
    with open(os.path.join(ROOT, group)) as file:
        total = sum(1 for line in file if re.match(r"[A-Za-z]", line))
    say(f"installing {total} packages of {group}")
    command = [
        os.path.join(VENV, "bin", "python"), "-m", "pip", "install", "--disable-pip-version-check", "--no-input",
        # Everything is pinned: nothing is left to resolve. Wheels only: no compiler is needed or asked for.
        "--no-deps", "--only-binary", ":all:", "--progress-bar", "off", "-r", group,
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True
    )
    seen = 0
    tail: list[str] = []
    for line in process.stdout or ():
        tail = [*tail, line.rstrip()][-30:]
        if line.startswith("Collecting "):
            seen += 1
            if seen % PROGRESS_EVERY == 0:
                say(f"  {seen}/{total} fetched")
        elif line.startswith("Installing collected"):
            say("  all fetched; unpacking")
    if process.wait():
        return explain("\n".join(tail), group)
    return None


def write_command() -> None:
    """Make .venv/bin/gleaner, which runs this folder's code wherever it is called from."""
    python = os.path.join(VENV, "bin", "python")
    script = (
        "#!/bin/sh\n"
        f"PYTHONPATH={shlex.quote(ROOT)}${{PYTHONPATH:+:$PYTHONPATH}}\n"
        "export PYTHONPATH\n"
        f'exec {shlex.quote(python)} -P -m include.gleaner "$@"\n'
    )
    path = os.path.join(VENV, "bin", "gleaner")
    try:
        with open(path) as file:
            if file.read() == script:
                return
    except OSError:
        pass
    with open(path + ".new", "w") as file:
        file.write(script)
    os.chmod(path + ".new", 0o755)  # noqa: S103 - for all who may read the folder
    os.replace(path + ".new", path)


def explain(said: str, group: str) -> str:
    """pip's last words as one line that says what to do."""
    if "No space left" in said:
        return "the disk is full; free 1.5 GB and start again"
    missing = re.search(r"No matching distribution found for (\S+)", said)
    connection = ("NewConnectionError", "Temporary failure in name resolution", "Connection refused", "timed out")
    if any(sign in said for sign in connection):
        return "the package registry cannot be reached; check the network, or pip's index-url, and start again"
    if missing:
        machine = f"{os.uname().machine}, Python {sys.version_info[0]}.{sys.version_info[1]}"
        return (
            f"there is no wheel of {missing.group(1)} for this machine ({machine}); "
            "use Linux on x86-64 with Python 3.11 to 3.13, or a container"
        )
    errors = [line for line in said.splitlines() if line.startswith("ERROR")]
    return f"pip could not install {group}: {(errors or said.splitlines() or ['it said nothing'])[-1]}"


def say(text: str) -> None:
    """One line of progress."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def fail(problem: str) -> int:
    """One line about what is wrong."""
    sys.stderr.write("gleaner: " + problem + "\n")
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the next start begins the installation anew\n")
        sys.exit(130)
