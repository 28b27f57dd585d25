"""What the plugin registers costs the processes nothing that load it and do not serve it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from include.gleaner.api.lazy import KnowledgeApp

ROOT = Path(__file__).parents[2]
HEAVY = ("fastapi", "starlette", "psycopg", "numpy", "airflow")


def test_the_import_brings_nothing_heavy_along() -> None:
    code = f"import sys, include.gleaner.api.lazy; print([name for name in {HEAVY} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_the_app_is_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from include.gleaner.api import app

    built: list[Any] = []
    served: list[Any] = []

    async def real(scope: Any, receive: Any, send: Any) -> None:
        served.append(scope)

    monkeypatch.setattr(app, "create_app", lambda: built.append(1) or real)
    lazy = KnowledgeApp()
    assert built == []

    async def requests() -> None:
        await asyncio.gather(*(lazy({"number": number}, None, None) for number in range(5)))  # type: ignore[arg-type]

    asyncio.run(requests())
    assert len(built) == 1
    assert len(served) == 5
