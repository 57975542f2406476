#!/usr/bin/env python3
"""Writes the smallest cross-encoder that orders passages by what they say: tests/data/reranker/model.onnx.

    python3 model/export_reranker.py tests/data/reranker/model.onnx

It reads question and passage in one sequence, as fastembed hands them over (question of type 0, passage of type 1), and gives
one logit: the share of the question's word pieces that the passage holds. Word pieces below 1996 of the vocabulary of
bert-base-uncased, which are marks, single letters and punctuation, do not count. No weights, so nothing to download; a trained
cross-encoder with the same inputs and output takes its place.

Needs onnx 1.19.
"""

import sys

import onnx
from onnx import TensorProto, helper

FIRST_WORD = 1996


def constant(name, values, dtype=TensorProto.INT64):
    return helper.make_tensor(name, dtype, [len(values)] if isinstance(values, list) else [], values if isinstance(values, list) else [values])


def graph():
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1])
    initializers = [
        constant("first_word", FIRST_WORD - 1),
        constant("zero", 0),
        constant("one", 1),
        constant("axis_1", [1]),
        constant("axis_2", [2]),
        helper.make_tensor("least", TensorProto.FLOAT, [], [1.0]),
    ]
    node = helper.make_node
    nodes = [
        # Which places hold words of the question, and which of the passage.
        node("Greater", ["input_ids", "first_word"], ["is_word"]),
        node("Equal", ["attention_mask", "one"], ["is_text"]),
        node("And", ["is_word", "is_text"], ["counts"]),
        node("Equal", ["token_type_ids", "zero"], ["is_question"]),
        node("Equal", ["token_type_ids", "one"], ["is_passage"]),
        node("And", ["counts", "is_question"], ["asked"]),
        node("And", ["counts", "is_passage"], ["said"]),
        # Which places hold the same word.
        node("Unsqueeze", ["input_ids", "axis_2"], ["rows"]),
        node("Unsqueeze", ["input_ids", "axis_1"], ["columns"]),
        node("Equal", ["rows", "columns"], ["same"]),
        node("Unsqueeze", ["asked", "axis_2"], ["asked_rows"]),
        node("Unsqueeze", ["said", "axis_1"], ["said_columns"]),
        node("And", ["same", "asked_rows"], ["same_asked"]),
        node("And", ["same_asked", "said_columns"], ["answered"]),
        # The share of the question's words that are found at least once.
        node("Cast", ["answered"], ["answered_float"], to=TensorProto.FLOAT),
        node("ReduceMax", ["answered_float", "axis_2"], ["found"], keepdims=0),
        node("ReduceSum", ["found", "axis_1"], ["found_count"], keepdims=1),
        node("Cast", ["asked"], ["asked_float"], to=TensorProto.FLOAT),
        node("ReduceSum", ["asked_float", "axis_1"], ["asked_count"], keepdims=1),
        node("Max", ["asked_count", "least"], ["asked_at_least_one"]),
        node("Div", ["found_count", "asked_at_least_one"], ["logits"]),
    ]
    return helper.make_graph(nodes, "overlap_reranker", inputs, [output], initializers)


def main():
    model = helper.make_model(graph(), opset_imports=[helper.make_opsetid("", 18)], producer_name="export_reranker.py")
    model.ir_version = 9
    onnx.checker.check_model(model)
    onnx.save(model, sys.argv[1])


if __name__ == "__main__":
    main()
