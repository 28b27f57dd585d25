"""The local model on a processor that has AVX2 and nothing newer, emulated by qemu."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
QEMU = "qemu-x86_64"
PROCESSOR = "Haswell"  # multiplies bytes by vpmaddubsw, whose sums saturate; newer ones have vpdpbusd
PASSAGES = [
    "Hold the reset button on the back of the router for ten seconds until the light blinks.",
    "You can return an order within fourteen days; the refund reaches your card in three working days.",
    "Our office in Berlin is open from Monday to Friday, nine to five.",
    "هزینهٔ ارسال برای خریدهای بالای پانصد هزار تومان رایگان است.",
    "موزه روزهای دوشنبه تعطیل است و بلیت دانشجویی نصف قیمت دارد.",
    "Install the package with pip. " * 40,
]
QUERIES = [("how do I get my money back", 1), ("opening hours of the office", 2), ("ارسال رایگان", 3)]
_EMBED = """
import json, sys
from include.gleaner.embed.local import shared_model
passages, queries = json.load(sys.stdin)
model = shared_model()
json.dump([[model.embed(text, role).vector.tolist() for text in texts]
           for role, texts in (("passage", passages), ("query", queries))], sys.stdout)
"""


def embedded(command: list[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Vectors of the passages and of the queries, from a process that `command` starts."""
    run = subprocess.run(
        [*command, "-c", _EMBED], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        input=json.dumps([PASSAGES, [text for text, _ in QUERIES]]), stdout=subprocess.PIPE, check=True, text=True,
    )  # fmt: skip
    told: Any = json.loads(run.stdout)
    return np.array(told[0]), np.array(told[1])


def test_vectors_are_those_of_this_machine() -> None:
    here, _ = embedded([sys.executable])
    passages, queries = embedded([QEMU, "-cpu", PROCESSOR, "-0", sys.executable, sys.executable])
    cosines = (here * passages).sum(axis=1)
    assert cosines.min() >= 0.9995, cosines  # with sums that saturate .9982
    assert (queries @ passages.T).argmax(axis=1).tolist() == [wanted for _, wanted in QUERIES]
