"""Train the block model on pages with hand-made truth, and say by cross-validation how good it is.

    python -m tools.train_block_model FOLDER            # cross-validate, train on all, write block_model.npz
    python -m tools.train_block_model FOLDER --check    # score with the stored models only

FOLDER has `truth.jsonl` and `html/ID.html.gz`, as the Web Content Extraction Benchmark's data set is laid out here: a
line of truth has id, url, type, main_content, and snippets that must be present or absent. Pages of one domain are
always in one fold, so that each page is judged by a model that has seen no page of its site. Training needs
lightgbm 4.7.0 and libgomp; scoring with the models of the folds, which are stored beside the tests, needs neither.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from include.gleaner.models import NotContent
from include.gleaner.process.block_model import MAX_LEAVES, MODEL, BlockModel, block_model
from include.gleaner.process.choose import main_content, with_images
from include.gleaner.process.decode import decode
from include.gleaner.process.extract import opinions_of
from include.gleaner.process.features import Seen, features_of
from include.gleaner.process.leaves import Outline
from include.gleaner.process.metadata import Head, head_of, published
from include.gleaner.process.outline import outline_of
from include.gleaner.process.structured_data import records_of
from include.gleaner.process.tree import parse

FOLDS: Final = 5
FOLD_MODELS: Final = Path(__file__).parents[1] / "tests" / "quality" / "block_models"
TREES: Final = 250
SETTINGS: Final[Mapping[str, Any]] = {
    "objective": "cross_entropy",
    "learning_rate": 0.08,
    "num_leaves": MAX_LEAVES,
    "min_data_in_leaf": 60,
    "min_sum_hessian_in_leaf": 3,
    "feature_fraction": 0.25,
    "bagging_fraction": 0.6,
    "bagging_freq": 1,
    "lambda_l2": 5,
    "max_bin": 63,
    "num_threads": 1,
    "deterministic": True,
    "seed": 1,
    "verbose": -1,
}
_WORD: Final = re.compile(r"\w+")
_GRAM: Final = 4
_SHORT: Final = {3: 0.7, 2: 0.5, 1: 0.25}  # how much it says that a text of so few words is somewhere in the truth
LOST: Final = 0.3  # recall below which a page counts as lost


@dataclass(frozen=True, kw_only=True)
class Example:
    """A page, as the model sees it, and its truth."""

    name: str
    kind: str
    domain: str
    truth: str
    present: tuple[str, ...]
    absent: tuple[str, ...]
    head: Head
    outline: Outline
    features: Mapping[str, NDArray[np.float32]] = field(repr=False)

    @property
    def fold(self) -> int:
        """The same for all pages of a domain, and on every machine."""
        return zlib.crc32(self.domain.encode()) % FOLDS


@dataclass(frozen=True, kw_only=True)
class Score:
    """What was found, against the truth, over the words as multisets."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        return 2 * self.precision * self.recall / (self.precision + self.recall or 1.0)


def examples(folder: Path) -> Iterator[Example]:
    """The pages of `folder`."""
    with (folder / "truth.jsonl").open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            truth = json.loads(line)
            body = gzip.decompress((folder / "html" / f"{truth['id']}.html.gz").read_bytes())
            text = decode(body, "")
            page = parse("" if isinstance(text, NotContent) else text)
            told = published(page)
            head = head_of(told, records_of(told.soup), truth["url"])
            outline = outline_of(page)
            yield Example(
                name=truth["id"],
                kind=truth["type"],
                domain=_domain(truth["url"]),
                truth=truth["main_content"],
                present=tuple(truth["present"]),
                absent=tuple(truth["absent"]),
                head=head,
                outline=outline,
                features=_columns(outline, head) if outline.leaves else {},
            )


def _columns(outline: Outline, head: Head) -> dict[str, NDArray[np.float32]]:
    """In the order of the model that there is, which decides between splits that are equally good."""
    opinions = opinions_of(outline, is_article=head.is_article)
    features = features_of([Seen(outline=outline, head=head, opinions=opinions)])
    names = {*features.leaves, *features.pages}
    known = [name for name in block_model().names if name in names]
    return {name: features.of_leaves(name) for name in (*known, *sorted(names.difference(known)))}


def labels(texts: Sequence[str], truth: str) -> NDArray[np.float64]:
    """How much of each text stands in the truth, 0 to 1: by runs of four words, each of which counts once."""
    lines = [_WORD.findall(line.lower()) for line in truth.split("\n")]
    words = [word for line in lines for word in line]
    grams = {size: Counter(zip(*(words[at:] for at in range(size)), strict=False)) for size in range(1, _GRAM + 1)}
    whole = Counter(map(tuple, lines))
    found = np.zeros(len(texts))
    for index, text in enumerate(texts):
        own = tuple(_WORD.findall(text.lower()))
        if len(own) >= _GRAM:
            covered = [False] * len(own)
            for at in range(len(own) - _GRAM + 1):
                if _take(grams[_GRAM], own[at : at + _GRAM]):
                    covered[at : at + _GRAM] = [True] * _GRAM
            found[index] = sum(covered) / len(own)
        elif own:
            found[index] = 1.0 if _take(whole, own) else _SHORT[len(own)] * _take(grams[len(own)], own)
    return found


def _take(counts: Counter[tuple[str, ...]], key: tuple[str, ...]) -> bool:
    if counts[key] <= 0:
        return False
    counts[key] -= 1
    return True


def fit(pages: Iterable[Example]) -> BlockModel:
    """A model of these pages. A page weighs the same however long it is; its leaves by the root of their words."""
    import lightgbm  # only here: it needs libgomp of the system, which those who only score need not have

    rows, wanted, weights = [], [], []
    names: tuple[str, ...] = ()
    for page in pages:
        leaves = page.outline.leaves
        if not leaves:
            continue
        names = tuple(page.features)
        rows.append(np.stack(list(page.features.values()), axis=1))
        wanted.append(labels([leaf.text for leaf in leaves], page.truth))
        weight = np.sqrt([max(leaf.weight, 0.3) for leaf in leaves])
        weights.append(weight / weight.sum())
    weight = np.concatenate(weights)
    data = lightgbm.Dataset(np.concatenate(rows), np.concatenate(wanted), weight=weight / weight.mean())
    return _exported(lightgbm.train(dict(SETTINGS), data, TREES), names)


def _exported(booster: Any, names: Sequence[str]) -> BlockModel:
    feature: list[int] = []
    threshold: list[float] = []
    masks: list[int] = []
    starts: list[int] = []
    values: list[float] = []
    offsets: list[int] = []

    def walk(node: Mapping[str, Any], first: int) -> int:
        """The leaves below `node`, as bits."""
        if "leaf_value" in node:
            values.append(node["leaf_value"])
            return int(1 << (len(values) - 1 - first))
        at = len(feature)
        feature.append(node["split_feature"])
        threshold.append(node["threshold"])
        masks.append(0)
        left = walk(node["left_child"], first)
        masks[at] = 0xFFFF & ~left
        return left | walk(node["right_child"], first)

    for tree in booster.dump_model()["tree_info"]:
        starts.append(len(feature))
        offsets.append(len(values))
        if "split_feature" not in tree["tree_structure"]:
            raise ValueError("a tree without a split: there is too little to learn from")
        walk(tree["tree_structure"], offsets[-1])
    used = sorted(set(feature))
    place = {number: at for at, number in enumerate(used)}
    scale = max(map(abs, values)) / 32_000
    return BlockModel(
        names=tuple(names[number] for number in used),
        feature=np.array([place[number] for number in feature], dtype=np.intp),
        threshold=np.array(threshold, dtype=np.float32),
        masks=np.array(masks, dtype=np.uint16),
        starts=np.array(starts, dtype=np.intp),
        values=np.round(np.array(values) / scale).astype(np.int16),
        offsets=np.array(offsets, dtype=np.intp),
        scale=scale,
    )


def score(found: str, truth: str) -> Score:
    """Over the words as multisets, in lower case; of an empty truth nothing may be found."""
    words, wanted = (Counter(_WORD.findall(text.lower())) for text in (found, truth))
    if not wanted:
        return Score(precision=float(not words), recall=float(not words))
    common = (words & wanted).total()
    return Score(precision=common / (words.total() or 1), recall=common / wanted.total())


def train_folds(pages: Sequence[Example]) -> None:
    """Train and store a model for each fold, of the pages that are not in it."""
    for fold in range(FOLDS):
        fit(page for page in pages if page.fold != fold).save(FOLD_MODELS / f"fold{fold}.npz")


def cross_validated(pages: Sequence[Example]) -> dict[str, str]:
    """The text found on each page, by the stored model that was trained without its domain."""
    texts: dict[str, str] = {}
    for fold in range(FOLDS):
        model = BlockModel.load(FOLD_MODELS / f"fold{fold}.npz")
        texts |= {page.name: text_of(page, model) for page in pages if page.fold == fold}
    return texts


def text_of(page: Example, model: BlockModel) -> str:
    """What the model takes for the content."""
    return "\n".join(leaf.text for leaf in with_images(page.outline, main_content(page.outline, page.head, model)))


def told(pages: Sequence[Example], texts: Mapping[str, str]) -> dict[str, float]:
    """F1 of all and of each type, precision, recall, share of lost pages, shares of snippets kept and leaked."""
    scores = [score(texts[page.name], page.truth) for page in pages]
    result = {
        "f1": mean(one.f1 for one in scores),
        "precision": mean(one.precision for one in scores),
        "recall": mean(one.recall for one in scores),
        "lost": mean(one.recall < LOST for one in scores),
        "kept": _snippets(pages, texts, lambda page: page.present),
        "leaked": _snippets(pages, texts, lambda page: page.absent),
    }
    for kind in sorted({page.kind for page in pages}):
        result[kind] = mean(one.f1 for one, page in zip(scores, pages, strict=True) if page.kind == kind)
    return result


def _snippets(pages: Iterable[Example], texts: Mapping[str, str], which: Callable[[Example], Sequence[str]]) -> float:
    return mean(
        mean(snippet.lower() in texts[page.name].lower() for snippet in which(page)) for page in pages if which(page)
    )


def _domain(url: str) -> str:
    return ".".join((urlsplit(url).hostname or url).split(".")[-2:])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures; write the model unless it is only to be checked."""
    parser = argparse.ArgumentParser(prog="python -m tools.train_block_model", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true", help="score with the stored models only")
    options = parser.parse_args(arguments)
    pages = list(examples(options.folder))
    if not options.check:
        train_folds(pages)
    for name, value in told(pages, cross_validated(pages)).items():
        sys.stdout.write(f"{name:14} {value:.4f}\n")
    if not options.check:
        fit(pages).save()
        sys.stdout.write(f"{MODEL.name}: {MODEL.stat().st_size:,} bytes\n")


if __name__ == "__main__":
    main()
