"""What the alerts, the dashboard and docs/watch.md speak of is told by /gleaner/metrics or by the StatsD exporter."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from include.gleaner.report.metric_names import METRICS

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy/prometheus/rules/gleaner.yml"
DASHBOARD = ROOT / "deploy/grafana/dashboards/gleaner.json"
MAPPING = ROOT / "deploy/statsd/mapping.yml"
SUFFIXES = {"gauge": ("",), "counter": ("",), "histogram": ("_bucket", "_sum", "_count")}
NAME = re.compile(r"\b(?:gleaner|airflow)_\w+")


def told() -> dict[str, set[str]]:
    """Every name that can be asked for, with its labels."""
    found = {
        metric.name + suffix: {*metric.labels, *(["le"] if suffix == "_bucket" else [])}
        for metric in METRICS
        for suffix in SUFFIXES[metric.kind]
    }
    for entry in yaml.safe_load(MAPPING.read_text("utf-8"))["mappings"]:
        for suffix in ("", *SUFFIXES["histogram"]):
            found[entry["name"] + suffix] = {*entry.get("labels", {}), "le"}
    return found


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"] for rule in group["rules"]]


def queries() -> list[str]:
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    return [*(rule["expr"] for rule in rules()), *panels]


def test_every_metric_of_rules_and_dashboard_exists() -> None:
    known = told()
    asked = {name for query in queries() for name in NAME.findall(query)}
    assert asked <= set(known), asked - set(known)
    # And what is told is shown: nobody keeps up a number that nobody sees.
    unseen = {metric.name for metric in METRICS if not any(metric.name + end in asked for end in SUFFIXES[metric.kind])}
    assert unseen <= {
        "gleaner_build_info", "gleaner_database_fault", "gleaner_schema_version", "gleaner_shared_state_up",
        "gleaner_sources", "gleaner_tenants",
    }  # fmt: skip


def test_every_label_of_rules_and_dashboard_exists() -> None:
    known = told()
    for query in queries():
        for name, selector in re.findall(r"\b((?:gleaner|airflow)_\w+)\{([^}]*)\}", query):
            assert set(re.findall(r"(\w+)\s*=~?", selector)) <= known[name], query
    for rule in rules():
        labels = {label for name in NAME.findall(rule["expr"]) for label in known[name]} | {"instance"}
        text = " ".join(rule["annotations"].values())
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= labels, rule["alert"]
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            labels = {label for name in NAME.findall(target["expr"]) for label in known[name]} | {"instance"}
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels, target["expr"]


def test_every_alert_says_what_is_wrong_how_much_it_matters_and_where_to_read_on() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{rule['alert'].lower()}"


def test_panels_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_what_is_told_to_statsd_has_a_mapping() -> None:
    """Each name that the stages tell is matched by a line of the mapping before the one that drops the rest."""
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "include/gleaner/pipeline").glob("*.py"))
    names = set(re.findall(r'\b(?:count|timing)\("([a-z.]+)"', source))
    assert len(names) > 10
    mappings = yaml.safe_load(MAPPING.read_text("utf-8"))["mappings"]
    assert mappings[-1] == {"match": ".", "match_type": "regex", "action": "drop", "name": "dropped"}
    patterns = [re.escape(entry["match"]).replace(r"\*", r"[^.]+") for entry in mappings[:-1]]
    for name in names:
        assert any(re.fullmatch(pattern, f"airflow.gleaner.{name}") for pattern in patterns), name
    # Of two lines that match, the exporter takes the first: the one with a star must come after.
    for number, entry in enumerate(mappings[:-1]):
        assert not any(re.fullmatch(pattern, entry["match"]) for pattern in patterns[:number]), entry["match"]


def test_the_table_of_metrics_is_current() -> None:
    text = (ROOT / "docs/watch.md").read_text("utf-8")
    rows = re.findall(r"^\| `(gleaner_\w+)` \| (\w+) \| ([^|]*) \| ([^|]*) \|$", text, re.MULTILINE)
    assert rows == [
        (metric.name, metric.kind, ", ".join(f"`{label}`" for label in metric.labels), metric.help)
        for metric in METRICS
    ]


def test_the_table_of_alerts_is_current() -> None:
    text = (ROOT / "docs/watch.md").read_text("utf-8")
    rows = re.findall(r"^\| `(Gleaner\w+)` \| (\w+) \| ([^|]*) \|", text, re.MULTILINE)
    assert rows == [(rule["alert"], rule["labels"]["severity"], rule.get("for", "at once")) for rule in rules()]
