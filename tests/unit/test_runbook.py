"""Every alert has its section in the runbook, and what is typed for Docker Compose is there to be typed."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.gleaner.ops import verify
from tests.support.runbook import TEXT, anchor, sections, typed

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text("utf-8"))
ALERTS = [
    rule
    for path in sorted((ROOT / "deploy/prometheus/rules").glob("*.yml"))
    for group in yaml.safe_load(path.read_text("utf-8"))["groups"]
    for rule in group["rules"]
    if "alert" in rule
]
COMMANDS = [line for _, line in typed("compose")]
FLAGS: dict[str, tuple[str, ...]] = {
    "build": (), "exec": ("-T",), "logs": (), "ps": (), "restart": (), "run": ("--rm",), "up": ("-d",),
}  # fmt: skip


def test_alerts_and_sections_are_the_same() -> None:
    told = [name for name in sections() if re.fullmatch(r"Gleaner\w+", name)]
    assert told == [rule["alert"] for rule in ALERTS]


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_leads_to_its_section_which_says_what_to_look_at_and_what_to_type(rule: dict[str, Any]) -> None:
    path, _, name = rule["annotations"]["runbook_url"].rpartition("#")
    assert path.endswith("docs/runbook.md")
    assert name == anchor(rule["alert"])
    body = TEXT.split(f"### {rule['alert']}\n")[1].split("\n### ")[0]
    assert "**Look**" in body
    assert re.search(r"\*\*[Tt]ype\*\*", body)


def untested(text: str) -> list[str]:
    """What a reader would type and no test does: in a block that is none of those that are run, or in a sentence."""
    prose, found, tested = [], [], []
    fence: str | None = None
    for line in text.splitlines():
        if re.match(r"\s*(```|~~~)", line):
            found += [line] if line not in ("```", "```bash", "```compose") else []
            fence = line if fence is None else None
        else:
            (prose if fence is None else tested if fence != "```" else []).append(line)
    found += [line for line in prose if re.match(r"( {4}|\t)", line)]  # a block without a fence
    typed_there = "\n".join(tested)
    for code in re.findall(r"`([^`]+)`", "\n".join(prose)):
        first, _, rest = code.partition(" ")
        if (first in PROGRAMS and rest) or first.startswith(("deploy/compose/", "./")):
            found += [code] if code not in typed_there else []
    return found


PROGRAMS = (
    "api",
    "curl",
    "db",
    "docker",
    "docker-compose",
    "gleaner",
    "make",
    "psql",
    "python",
    "python3",
    "sources",
    "tenants",
)


def test_every_command_is_one_that_a_test_runs() -> None:
    """tests/acceptance types the blocks `bash` of each section, tests/compose the lines of those that are `compose`."""
    assert untested(TEXT) == []
    assert len(re.findall(r"^#{1,3} ", TEXT, re.MULTILINE)) == len(sections())  # none hides another of the same name
    blocks = [block for found in sections().values() for block in found]
    assert len(re.findall("^```", TEXT, re.MULTILINE)) == 2 * len(blocks)
    languages = [language for language, _ in blocks]
    assert languages.count("") == 1  # the variables, before anything is typed
    assert set(languages) == {"", "bash", "compose"}
    assert languages.count("bash") > 30


@pytest.mark.parametrize(
    "more",
    [
        "```sh\npsql\n```", "~~~bash\npsql\n~~~", "- so:\n\n  ```bash\n  psql\n  ```", "    docker compose down",
        "\tpsql", "type `docker compose down`", "or `db erase`, then", "`deploy/compose/tidy.sh`",
    ],
)  # fmt: skip
def test_a_command_that_no_test_runs_is_seen(more: str) -> None:
    assert untested(f"{TEXT}\n{more}\n") != []


def test_links_within_the_runbook_lead_somewhere() -> None:
    anchors = {anchor(name) for name in sections()}
    linked = set(re.findall(r"\]\(#([^)]+)\)", TEXT))
    assert linked
    assert linked <= anchors


def test_what_verify_advises_to_read_is_there() -> None:
    source = Path(verify.__file__).read_text("utf-8")
    named = set(re.findall(r'see "([^"]+)" in docs/runbook\.md', source.replace('\\"', '"')))
    assert len(named) == 3
    assert named <= set(sections())


def services(command: list[str]) -> list[str]:
    """The services that a compose command names; fails on anything that Compose would not know."""
    verb, *rest = command
    words = iter(rest)
    named: list[str] = []
    for word in words:
        if word == "--scale":
            named.append(next(words).partition("=")[0])
        elif word == "--tail":
            assert next(words).isdigit()
        elif word.startswith("-"):
            assert word in FLAGS[verb]
        else:
            named.append(word)
            if verb in ("exec", "run"):  # what follows is for the container
                break
    return named


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_for_compose_names_what_there_is(line: str) -> None:
    words = shlex.split(line)
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        name = words.pop(0).partition("=")[0]
        assert f"${{{name}" in (ROOT / "docker-compose.yaml").read_text("utf-8")
    if words[:2] != ["docker", "compose"]:
        assert os.access(ROOT / words[0], os.X_OK)
        return
    del words[:2]
    profiles = {profile for service in COMPOSE["services"].values() for profile in service.get("profiles", ())}
    while words[0] == "--profile":
        assert words[1] in profiles
        del words[:2]
    assert words[0] in FLAGS
    assert set(services(words)) <= set(COMPOSE["services"])


def test_there_are_commands_for_compose() -> None:
    assert len(COMMANDS) > 10
    with pytest.raises(AssertionError):
        test_a_command_for_compose_names_what_there_is("docker compose restart airflow-webserver")
    with pytest.raises(AssertionError):
        test_a_command_for_compose_names_what_there_is("docker compose rollback")
