#!/usr/bin/env python3
"""Writes the ONNX graph of all-MiniLM-L6-v2 without its weights.

    python3 -m venv venv && venv/bin/pip install numpy onnx==1.19.1
    venv/bin/python export_graph.py FOLDER_WITH_MODEL all-MiniLM-L6-v2.onnx

FOLDER_WITH_MODEL holds `config.json` and `model.safetensors`. Every weight of the graph points into `model.safetensors`
by offset and length (ONNX external data), so the graph stays small enough to be committed and the weights can be
downloaded in the form in which they are published. The same inputs always give the same bytes.

The graph is the BERT encoder of the published architecture: token ids in, one vector a token out. Pooling and
normalisation are left to the caller. Positions are taken with `Slice`: onnxruntime has optimised `Range` followed by
`Gather` into wrong results.
"""

import json
import math
import pathlib
import struct
import sys

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

WEIGHTS_FILE = "model.safetensors"
OPSET = 20
IR_VERSION = 9
# Added to the attention score of padding: after softmax nothing of it is left.
MASKED_SCORE = -30_000.0


class Weights:
    """Names, shapes and places of the tensors in a safetensors file."""

    def __init__(self, path):
        with open(path, "rb") as file:
            (header_length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(header_length))
        header.pop("__metadata__", None)
        self.tensors = header
        self.data_start = 8 + header_length

    def external(self, name):
        """The tensor as a reference into the file."""
        entry = self.tensors[name]
        if entry["dtype"] != "F32":
            raise SystemExit(f"{name} is {entry['dtype']}; only F32 weights are understood")
        begin, end = entry["data_offsets"]
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=entry["shape"])
        tensor.data_location = TensorProto.EXTERNAL
        place = {"location": WEIGHTS_FILE, "offset": self.data_start + begin, "length": end - begin}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        return tensor


class Graph:
    """Collects nodes and initialisers; every method returns the name of its output."""

    def __init__(self, weights):
        self.weights = weights
        self.nodes = []
        self.initialisers = {}

    def weight(self, name):
        if name not in self.initialisers:
            self.initialisers[name] = self.weights.external(name)
        return name

    def constant(self, name, value, kind):
        if name not in self.initialisers:
            self.initialisers[name] = numpy_helper.from_array(numpy.array(value, kind), name)
        return name

    def node(self, operator, inputs, output, **attributes):
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def linear(self, value, layer, output):
        """value · weightᵀ + bias"""
        transposed = self.node("Transpose", [self.weight(f"{layer}.weight")], f"{output}/weight", perm=[1, 0])
        product = self.node("MatMul", [value, transposed], f"{output}/product")
        return self.node("Add", [product, self.weight(f"{layer}.bias")], output)

    def layer_norm(self, value, layer, epsilon, output):
        inputs = [value, self.weight(f"{layer}.weight"), self.weight(f"{layer}.bias")]
        return self.node("LayerNormalization", inputs, output, axis=-1, epsilon=epsilon)


def embed(graph, epsilon):
    """Word, position and segment embeddings, summed and normalised."""
    words = graph.node("Gather", [graph.weight("embeddings.word_embeddings.weight"), "input_ids"], "embed/words")
    segments = graph.node(
        "Gather", [graph.weight("embeddings.token_type_embeddings.weight"), "token_type_ids"], "embed/segments"
    )
    shape = graph.node("Shape", ["input_ids"], "embed/shape")
    length = graph.node("Gather", [shape, graph.constant("axis/length", [1], numpy.int64)], "embed/length", axis=0)
    start = graph.constant("zero", [0], numpy.int64)
    table = graph.weight("embeddings.position_embeddings.weight")
    positions = graph.node("Slice", [table, start, length, start], "embed/positions")
    total = graph.node("Add", [graph.node("Add", [words, segments], "embed/tokens"), positions], "embed/sum")
    return graph.layer_norm(total, "embeddings.LayerNorm", epsilon, "embed/out")


def attention_bias(graph):
    """0 for a token, a large negative number for padding, shaped to be added to the scores of every head."""
    mask = graph.node("Cast", ["attention_mask"], "mask/float", to=TensorProto.FLOAT)
    axes = graph.constant("axes/heads", [1, 2], numpy.int64)
    wide = graph.node("Unsqueeze", [mask, axes], "mask/wide")
    padding = graph.node("Sub", [graph.constant("one", 1.0, numpy.float32), wide], "mask/padding")
    return graph.node("Mul", [padding, graph.constant("masked_score", MASKED_SCORE, numpy.float32)], "mask/bias")


def attend(graph, value, bias, layer, out, heads, width):
    """Multi-head self-attention of one layer, before the residual."""
    split = graph.constant("shape/split", [0, 0, heads, width // heads], numpy.int64)
    merge = graph.constant("shape/merge", [0, 0, width], numpy.int64)
    scale = graph.constant("scale", 1.0 / math.sqrt(width // heads), numpy.float32)

    def project(part, order):
        flat = graph.linear(value, f"{layer}.attention.self.{part}", f"{out}/{part}")
        by_head = graph.node("Reshape", [flat, split], f"{out}/{part}/split")
        return graph.node("Transpose", [by_head], f"{out}/{part}/heads", perm=order)

    query = project("query", [0, 2, 1, 3])
    key = project("key", [0, 2, 3, 1])
    content = project("value", [0, 2, 1, 3])
    scores = graph.node("Mul", [graph.node("MatMul", [query, key], f"{out}/dot"), scale], f"{out}/scaled")
    shares = graph.node("Softmax", [graph.node("Add", [scores, bias], f"{out}/scores")], f"{out}/shares", axis=-1)
    mixed = graph.node("MatMul", [shares, content], f"{out}/mixed")
    ordered = graph.node("Transpose", [mixed], f"{out}/ordered", perm=[0, 2, 1, 3])
    context = graph.node("Reshape", [ordered, merge], f"{out}/context")
    return graph.linear(context, f"{layer}.attention.output.dense", f"{out}/attention")


def encode(graph, value, bias, index, config, output):
    """One transformer layer: attention and feed-forward, each with residual and layer norm."""
    layer, out = f"encoder.layer.{index}", f"layer{index}"
    epsilon = config["layer_norm_eps"]
    attended = attend(graph, value, bias, layer, out, config["num_attention_heads"], config["hidden_size"])
    first = graph.node("Add", [attended, value], f"{out}/residual1")
    first = graph.layer_norm(first, f"{layer}.attention.output.LayerNorm", epsilon, f"{out}/norm1")
    hidden = graph.node("Gelu", [graph.linear(first, f"{layer}.intermediate.dense", f"{out}/wide")], f"{out}/gelu")
    narrow = graph.linear(hidden, f"{layer}.output.dense", f"{out}/narrow")
    second = graph.node("Add", [narrow, first], f"{out}/residual2")
    return graph.layer_norm(second, f"{layer}.output.LayerNorm", epsilon, output)


def build(folder):
    config = json.loads((folder / "config.json").read_text())
    graph = Graph(Weights(folder / WEIGHTS_FILE))
    value = embed(graph, config["layer_norm_eps"])
    bias = attention_bias(graph)
    layers = config["num_hidden_layers"]
    for index in range(layers):
        output = "last_hidden_state" if index == layers - 1 else f"layer{index}/out"
        value = encode(graph, value, bias, index, config, output)

    def tensor(name, kind, shape):
        return helper.make_tensor_value_info(name, kind, shape)

    inputs = [tensor(n, TensorProto.INT64, ["batch", "length"]) for n in ("input_ids", "attention_mask", "token_type_ids")]
    outputs = [tensor("last_hidden_state", TensorProto.FLOAT, ["batch", "length", config["hidden_size"]])]
    body = helper.make_graph(graph.nodes, "all-MiniLM-L6-v2", inputs, outputs, list(graph.initialisers.values()))
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(body, opset_imports=opset, producer_name="attain", ir_version=IR_VERSION)


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    folder, output = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    model = build(folder)
    output.write_bytes(model.SerializeToString(deterministic=True))
    print(f"{output}: {output.stat().st_size} bytes, {len(model.graph.node)} nodes, onnx {onnx.__version__}")


if __name__ == "__main__":
    main()
