"""The model's tokenizer: SentencePiece over the vocabulary in the weights file."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

import sentencepiece

from include.gleaner.embed.weights import Weights
from include.gleaner.text import strip_binary

_SPACES = re.compile(" {2,}")
_NORMAL, _UNKNOWN, _CONTROL = 1, 2, 3  # piece types in sentencepiece_model.proto


def build_vocabulary(weights: Weights) -> bytes:
    """The vocabulary as a serialised SentencePiece ModelProto: a unigram model that normalises nothing by itself."""
    proto: Any = import_module("sentencepiece.sentencepiece_model_pb2")  # its classes are made at run time
    shape = weights.shape
    special = {shape.bos: _CONTROL, shape.pad: _CONTROL, shape.eos: _CONTROL, shape.unk: _UNKNOWN}
    special[shape.pieces - 1] = _CONTROL  # <mask>
    model = proto.ModelProto()
    for index, (piece, score) in enumerate(zip(weights.pieces(), weights.scores.tolist(), strict=True)):
        model.pieces.add(piece=piece, score=score, type=special.get(index, _NORMAL))
    model.trainer_spec.model_type = 1  # unigram
    model.trainer_spec.unk_id = shape.unk
    model.trainer_spec.bos_id = shape.bos
    model.trainer_spec.eos_id = shape.eos
    model.trainer_spec.pad_id = shape.pad
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = True
    model.normalizer_spec.remove_extra_whitespaces = False
    model.normalizer_spec.escape_whitespaces = True
    return bytes(model.SerializeToString())


class Tokenizer:
    """Text to token ids. Safe to share between threads."""

    def __init__(self, weights: Weights, vocabulary: bytes) -> None:
        self._normalisation = weights.normalisation
        self._pieces = sentencepiece.SentencePieceProcessor(model_proto=vocabulary)

    def encode(self, text: str) -> list[int]:
        """Ids of the text's pieces, without special tokens; `text` must have no lone surrogates."""
        ids: list[int] = self._pieces.encode(_SPACES.sub(" ", text.translate(self._normalisation)))
        return ids

    def count(self, text: str) -> int:
        """How many pieces `text` has, whatever characters it holds."""
        return len(self.encode(strip_binary(text)[0]))
