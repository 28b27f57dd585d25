"""The lines of docs/runbook.md for Docker Compose, typed as they stand to a stack that is up, monitoring and all.

Those that changed the stack already, for test_stack.py or for the fixtures, are not typed again.
"""

from __future__ import annotations

import re
from itertools import groupby

import pytest

from tests.support.installation import AIRFLOW, Installation
from tests.support.runbook import lines_of, typed

SECTIONS = {
    heading: [line for _, line in lines if not line.startswith("deploy/")]
    for heading, lines in groupby(typed("compose"), key=lambda one: one[0])
}
SERVICES = ("postgres", "redis", *AIRFLOW, "worker", "tidy", "statsd-exporter", "prometheus", "grafana")
# What is started again by a section's lines, how many workers there are then, and what the lines have to print.
RESTARTED = {
    "GleanerDown": {"airflow-apiserver"},
    "GleanerQueueStuck": {"airflow-scheduler", "worker"},
}
WORKERS = {"Back up, upgrade, roll back": 2, "GleanerGapGrowing": 4}
LOOKS = re.compile(" (ps|logs|exec) ?")
EACH_UP = "".join(rf"(?=[\s\S]*_{name}_\d .*\bUp\b)" for name in SERVICES)
PRINTS = {
    "Runbook": r"PostgreSQL \d+",
    "Monitor": r"airflow-scheduler_1 +\| .*",
    "Back up, upgrade, roll back": r"airflow-init_1 +\| gleaner: knowledge schema is current",
    "GleanerDown": rf"{EACH_UP}[\s\S]*airflow-apiserver_1 +\| .*",
    "GleanerDatabaseUnreachable": r"postgres_1 +\| .*database system is ready",
    "GleanerQueueStuck": EACH_UP,
}


@pytest.fixture(scope="module")
def watched(stack: Installation) -> Installation:
    """With the profile `monitoring`, after a restart of Postgres: as test_stack.py leaves it, or made so without it."""
    if not stack.compose.containers("prometheus"):
        for line in lines_of("GleanerDatabaseUnreachable", "restart"):
            stack.type(line)
        for line in lines_of("Monitor", "--profile monitoring up"):
            stack.type(line)
        stack.compose.settings["GLEANER_STATSD"] = "True"
        stack.with_sample_site(workers=2)
    return stack


def started(stack: Installation) -> dict[str, tuple[str, str]]:
    """Of each container its service, and when it was started."""
    return {
        one["Id"]: (service, one["State"]["StartedAt"])
        for service in SERVICES
        for one in stack.compose.containers(service)
    }


def workers(containers: dict[str, tuple[str, str]]) -> int:
    return [service for service, _ in containers.values()].count("worker")


@pytest.mark.parametrize("section", SECTIONS)
def test_the_lines_for_compose_do_what_they_are_for(section: str, watched: Installation) -> None:
    before = started(watched)
    told = "".join(watched.type(line) for line in SECTIONS[section] if line not in watched.typed or LOOKS.search(line))
    after = started(watched)
    assert {after[one][0] for one in before if one in after and after[one] != before[one]} == RESTARTED.get(
        section, set()
    )
    assert workers(after) == WORKERS.get(section, workers(before))
    assert {service for service, _ in after.values()} == set(SERVICES)
    assert re.search(PRINTS.get(section, ""), told), told


def test_every_line_was_typed_and_all_of_it_works(watched: Installation) -> None:
    assert {line for lines in SECTIONS.values() for line in lines} <= set(watched.typed)
    assert {*RESTARTED, *WORKERS, *PRINTS} <= set(SECTIONS)
    watched.wait_healthy("postgres", "redis", workers=4)
    assert "everything is there" in watched.compose.logs("grafana")
    for service in ("statsd-exporter", "prometheus", "grafana"):
        state = watched.compose.one(service)
        assert (state["State"]["Running"], state["RestartCount"]) == (True, 0), service
    assert watched.patiently(watched.api.import_errors) == []
