"""Commands side by side: each is heard whole, the first that fails ends the others, and nothing is left over."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest

LANES = Path(__file__).parents[2] / "tools/lanes.py"


def started(lanes: int, *commands: str, output: int | IO[str] = subprocess.PIPE) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", str(LANES), str(lanes), *commands], stdout=output, text=True, encoding="utf-8"
    )


def ran(lanes: int, *commands: str) -> tuple[int, list[str]]:
    """The exit code and the lines, without the times."""
    process = started(lanes, *commands)
    output, _ = process.communicate(timeout=60)
    return process.returncode, re.sub(r"\d+:\d\d(: )?", "", output).splitlines()


def said(lines: list[str]) -> list[str]:
    """Without what is said about the commands."""
    return [line for line in lines if not line.startswith("==")]


def sh(script: str) -> str:
    return f'sh -c "{script}"'


def until(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_each_is_heard_in_one_piece(tmp_path: Path) -> None:
    first = sh(f"echo a1; until test -e {tmp_path}/b; do sleep 0.02; done; echo a2; printf a3; touch {tmp_path}/a")
    beside = sh(f"echo b1; echo b2 >&2; touch {tmp_path}/b; until test -e {tmp_path}/a; do sleep 0.02; done; echo b3")
    code, lines = ran(2, first, beside)
    assert code == 0
    heard = said(lines)
    at = heard.index("b1")  # after the first one, or at once where it ended before all of the first was read
    assert heard[at : at + 3] == ["b1", "b2", "b3"]
    assert heard[:at] + heard[at + 3 :] == ["a1", "a2", "a3"]
    assert sum(line.endswith(" passed after ") for line in lines) == 2


def test_one_that_ends_beside_is_heard_at_once(tmp_path: Path) -> None:
    first = sh(f"echo a1; until test -e {tmp_path}/c; do sleep 0.02; done; echo a2")
    beside = sh(f"until grep -q ^a1 {tmp_path}/heard; do sleep 0.02; done; echo b1")
    with (tmp_path / "heard").open("w") as file:
        process = started(2, first, beside, sh(f"echo c1; touch {tmp_path}/c"), output=file)
        assert process.wait(60) == 0
    heard = said((tmp_path / "heard").read_text("utf-8").splitlines())
    assert sorted(heard) == ["a1", "a2", "b1", "c1"]
    assert heard.index("a1") < heard.index("b1") < heard.index("a2")


def test_no_more_at_once_than_lanes(tmp_path: Path) -> None:
    def alone(seconds: float) -> str:
        return sh(f"mkdir {tmp_path}/lock && sleep {seconds} && rmdir {tmp_path}/lock")

    assert ran(1, *[alone(0.2)] * 3)[0] == 0
    assert ran(2, *[alone(20)] * 2)[0] == 1  # it would be noticed, however late the second begins


@pytest.mark.parametrize("which", ["first", "beside"])
def test_the_first_that_fails_ends_the_others(tmp_path: Path, which: str) -> None:
    ready = tmp_path / "ready"
    fails = sh(f"until test -e {ready}; do sleep 0.02; done; echo it is broken; exit 7")
    # As a test session does: asked to end, it takes down what it has set up.
    takes_down = f"trap 'sleep 0.5; echo taken down; touch {tmp_path}/down; exit 1' INT"
    waits = sh(f"{takes_down}; touch {ready}; while :; do sleep 0.02; done")
    commands = [fails, waits] if which == "first" else [waits, fails]
    began = time.monotonic()
    code, lines = ran(2, *commands, sh(f"touch {tmp_path}/third"))
    assert code == 7
    assert time.monotonic() - began < 30
    assert {"it is broken", "taken down"} <= set(lines)
    assert any("FAILED with code 7" in line for line in lines)
    assert any("was ended" in line for line in lines)
    assert (tmp_path / "down").exists()
    assert not (tmp_path / "third").exists()


def test_a_command_that_is_not_there_or_is_killed_fails() -> None:
    assert ran(1, sh("kill -9 $$"))[0] == 128 + 9
    assert ran(1, sh("no-such-command"))[0] == 127


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything(tmp_path: Path, number: signal.Signals) -> None:
    process = started(2, sh(f"touch {tmp_path}/a; sleep 600"), sh(f"touch {tmp_path}/b; sleep 600"), "echo never")
    until(tmp_path / "a")
    until(tmp_path / "b")
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "never" not in said(output.splitlines())


def test_what_outlives_its_command_is_ended_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    is_there = "until grep -q ^sleep /proc/$!/cmdline; do sleep 0.02; done"
    stray = sh(f"setsid sleep 599 > /dev/null 2>&1 & echo $! > {tmp_path}/pid; {is_there}")
    program = (
        f"import sys; sys.path.insert(0, {str(LANES.parent)!r}); import lanes; lanes.STRAY_SECONDS = 0.5;"
        f" sys.exit(lanes.Lanes([{stray!r}, 'true'], 1).run())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "killing what was left over: sleep 599" in done.stdout
    pid = int((tmp_path / "pid").read_text("ascii"))
    deadline = time.monotonic() + 10
    while _runs(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text("utf-8")
    except OSError:
        return False
