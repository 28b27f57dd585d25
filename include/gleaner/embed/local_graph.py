"""Builds the local model's encoder as an ONNX graph with 8-bit weights, many times faster than the 4-bit original.

Weights are quantised per output channel to 7 bits: on processors without VNNI instructions the product of 8-bit
activations with full 8-bit weights overflows its 16-bit sums, and vectors would depend on the machine. Activations are
quantised at run time per tensor, before the feed-forward matrices per token, where a few outliers would otherwise cost
all others their precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from include.gleaner.embed.weights import Floats, Packed, Weights, unpack

BUILDER_VERSION: Final = 2  # part of the cache's key: raised when the graph would come out different
_WEIGHT_LIMIT: Final = 64  # 255 * 64 * 2 is below 32,768, the 16-bit overflow
_GELU_FLOOR: Final = 0.17  # GELU is never below -0.17: dividing a token by less would let its negatives dominate


class _Builder:
    """Nodes and constants under construction; every method gives the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, values: NDArray[Any]) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(self, operator: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(operator, list(inputs), [output], domain=domain, **attributes))
        return output

    def split(self, source: str, outputs: Sequence[str], size: int) -> Sequence[str]:
        from onnx import helper

        sizes = self.constant(f"{source}.sizes", np.array([size] * len(outputs), np.int64))
        self.nodes.append(helper.make_node("Split", [source, sizes], list(outputs), axis=-1))
        return outputs

    def linear(self, source: str, packed: Packed, bias: Floats, output: str) -> str:
        """source @ W.T + bias with activations quantised per tensor."""
        inputs = [source, *self._quantised(packed, output), self.constant(f"{output}.bias", bias)]
        return self.node("DynamicQuantizeMatMul", inputs, output, "com.microsoft")

    def linear_per_token(self, source: str, packed: Packed, bias: Floats, output: str) -> str:
        """source @ W.T + bias with each token brought to one scale before the quantisation, and back after it."""
        size = self.node("Abs", [source], f"{output}.size")
        peak = self.node("ReduceMax", [size, "last_axis"], f"{output}.peak", keepdims=1)
        scale = self.node("Max", [peak, "gelu_floor"], f"{output}.scale")
        scaled = self.node("Div", [source, scale], f"{output}.scaled")
        product = self.node(
            "DynamicQuantizeMatMul", [scaled, *self._quantised(packed, output)], f"{output}.product", "com.microsoft"
        )
        unscaled = self.node("Mul", [product, scale], f"{output}.unscaled")
        return self.node("Add", [unscaled, self.constant(f"{output}.bias", bias)], output)

    def _quantised(self, packed: Packed, output: str) -> list[str]:
        values = unpack(packed)  # (out, in)
        scale = np.maximum(np.abs(values).max(axis=1), np.float32(1e-12)) / np.float32(_WEIGHT_LIMIT)
        integers = np.rint(values / scale[:, None]).astype(np.int8)
        return [
            self.constant(f"{output}.weight", integers.T),
            self.constant(f"{output}.weight_scale", scale.astype(np.float32)),
            self.constant(f"{output}.weight_zero", np.zeros(len(scale), np.int8)),
        ]


def build_graph(weights: Weights) -> bytes:
    """The encoder, serialised: `embeddings` float32 (1, tokens, hidden) in, `states` of the same shape out.

    `embeddings` are the sums of word, position and type embeddings, before their layer norm: the word matrix stays in
    the 4-bit file, where it takes a sixth of the memory.
    """
    from onnx import TensorProto, helper

    shape = weights.shape
    hidden, wide = shape.hidden, shape.feed_forward
    build = _Builder()
    build.constant("gelu_floor", np.array(_GELU_FLOOR, np.float32))
    build.constant("last_axis", np.array([-1], np.int64))

    def norm(source: str, prefix: str, output: str) -> str:
        weight = build.constant(f"{prefix}.w", weights.vector(f"{prefix}.w"))
        bias = build.constant(f"{prefix}.b", weights.vector(f"{prefix}.b"))
        return build.node("LayerNormalization", [source, weight, bias], output, axis=-1, epsilon=shape.epsilon)

    state = norm("embeddings", "emb.ln", "state")
    for layer in range(shape.layers):
        at = f"l{layer}"
        query_key_value = build.linear(
            state,
            np.concatenate([weights.packed(f"{at}.{part}.w", hidden, hidden) for part in "qkv"]),
            np.concatenate([weights.vector(f"{at}.{part}.b") for part in "qkv"]),
            f"{at}.qkv",
        )
        parts = build.split(query_key_value, [f"{at}.q", f"{at}.k", f"{at}.v"], hidden)
        attended = build.node("MultiHeadAttention", parts, f"{at}.attended", "com.microsoft", num_heads=shape.heads)
        out = build.linear(
            attended, weights.packed(f"{at}.ao.w", hidden, hidden), weights.vector(f"{at}.ao.b"), f"{at}.ao"
        )
        state = norm(build.node("Add", [state, out], f"{at}.residual"), f"{at}.aln", f"{at}.state")
        inner = build.linear_per_token(
            state, weights.packed(f"{at}.fi.w", wide, hidden), weights.vector(f"{at}.fi.b"), f"{at}.fi"
        )
        inner = build.node("Gelu", [inner], f"{at}.gelu")
        out = build.linear_per_token(
            inner, weights.packed(f"{at}.fo.w", hidden, wide), weights.vector(f"{at}.fo.b"), f"{at}.fo"
        )
        name = "states" if layer == shape.layers - 1 else f"{at}.out"
        state = norm(build.node("Add", [state, out], f"{at}.residual_2"), f"{at}.oln", name)

    def tensor(name: str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "tokens", hidden])

    graph = helper.make_graph(build.nodes, "e5", [tensor("embeddings")], [tensor(state)], build.constants)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())
