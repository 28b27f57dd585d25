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
from tests.support.runbook import TEXT, anchor, sections

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text("utf-8"))
ALERTS = [
    rule
    for path in sorted((ROOT / "deploy/prometheus/rules").glob("*.yml"))
    for group in yaml.safe_load(path.read_text("utf-8"))["groups"]
    for rule in group["rules"]
    if "alert" in rule
]
COMMANDS = [
    line
    for blocks in sections().values()
    for language, text in blocks
    if language == "compose"
    for line in text.splitlines()
]


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


def test_every_block_is_one_that_a_test_runs() -> None:
    languages = [language for blocks in sections().values() for language, _ in blocks]
    assert languages.count("") == 1  # the variables, before anything is typed
    assert set(languages) == {"", "bash", "compose"}
    assert languages.count("bash") > 30


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
    words = iter(command)
    named: list[str] = []
    for word in words:
        if word == "--scale":
            named.append(next(words).partition("=")[0])
        elif word == "--tail":
            assert next(words).isdigit()
        elif word.startswith("-"):
            assert word in ("-d", "-v")
        else:
            named.append(word)
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
    assert words[0] in ("build", "up", "ps", "logs", "restart")
    assert set(services(words[1:])) <= set(COMPOSE["services"])


def test_there_are_commands_for_compose() -> None:
    assert len(COMMANDS) > 10
    with pytest.raises(AssertionError):
        test_a_command_for_compose_names_what_there_is("docker compose restart airflow-webserver")
    with pytest.raises(AssertionError):
        test_a_command_for_compose_names_what_there_is("docker compose rollback")
