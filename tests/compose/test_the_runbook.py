"""The lines of docs/runbook.md for Docker Compose, typed as they stand to the stack that the other tests leave.

Those that changed the stack for test_stack.py already are not typed again.
"""

from __future__ import annotations

import re
from itertools import groupby

import pytest

from tests.support.installation import AIRFLOW, Installation
from tests.support.runbook import typed

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
def test_the_lines_for_compose_do_what_they_are_for(section: str, stack: Installation) -> None:
    before = started(stack)
    told = "".join(stack.type(line) for line in SECTIONS[section] if line not in stack.typed or LOOKS.search(line))
    after = started(stack)
    assert {after[one][0] for one in before if one in after and after[one] != before[one]} == RESTARTED.get(
        section, set()
    )
    assert workers(after) == WORKERS.get(section, workers(before))
    assert {service for service, _ in after.values()} == set(SERVICES)
    assert re.search(PRINTS.get(section, ""), told), told


def test_every_line_was_typed_and_all_of_it_works(stack: Installation) -> None:
    assert {line for lines in SECTIONS.values() for line in lines} <= set(stack.typed)
    assert {*RESTARTED, *WORKERS, *PRINTS} <= set(SECTIONS)
    stack.wait_healthy("postgres", "redis", workers=4)
    assert "everything is there" in stack.compose.logs("grafana")
    for service in ("statsd-exporter", "prometheus", "grafana"):
        state = stack.compose.one(service)
        assert (state["State"]["Running"], state["RestartCount"]) == (True, 0), service
    assert stack.patiently(stack.api.import_errors) == []
