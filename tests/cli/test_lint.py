"""`segdeploy inspect --lint`: what is printed about a quantized graph, and how it ends."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from segdeploy.lint_rules import RULES


def save(path: Path, dtype: type, form: str = "") -> Path:
    """One integer convolution whose data is int8 or uint8, and a floating one behind it."""
    constants = {
        "scale": np.array(0.1, np.float32),
        "zero_point": np.array(0, dtype),
        "weights": np.ones((2, 2, 1, 1), np.int8),
        "weight_scale": np.ones(2, np.float32),
        "floats": np.ones((2, 2, 1, 1), np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero_point"], ["q"], "[quantize]"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero_point"], ["dq"], "dequantize"),
        helper.make_node("DequantizeLinear", ["weights", "weight_scale"], ["w"], axis=0),
        helper.make_node("Conv", ["dq", "w"], ["inner"], "integer"),
        helper.make_node("Conv", ["inner", "floats"], ["y"], "floating"),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 2, 4, 4))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 2, 4, 4))],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    if form:
        helper.set_model_props(model, {"segdeploy.quantization": json.dumps(form)})
    onnx.save(model, path)
    return path


def test_a_clean_graph_of_another_tool_is_counted_and_passes(segdeploy, tmp_path):
    ended = segdeploy("inspect", save(tmp_path / "int8.onnx", np.int8), "--lint")

    assert ended.code == 0
    assert ended.out == f"no rule is broken ({len(RULES)} rules, 1 integer convolutions)\n"
    assert ended.err == "checking for tensorrt\n"


def test_a_broken_rule_is_a_row_and_exit_code_1(segdeploy, tmp_path):
    ended = segdeploy("inspect", save(tmp_path / "uint8.onnx", np.uint8), "--lint")

    header, row = (line for line in ended.out.splitlines() if line.strip(" ─"))
    assert ended.code == 1
    assert header.split() == ["rule", "node", "found", "wanted"]
    assert row.split() == ["activations", "[quantize]", "uint8", "int8"]


def test_json_lists_the_breaches(segdeploy, tmp_path):
    broken = segdeploy("inspect", save(tmp_path / "a.onnx", np.uint8), "--lint", "--json")
    clean = segdeploy("inspect", save(tmp_path / "b.onnx", np.int8), "--lint", "--json")

    assert json.loads(broken.out) == [
        {"rule": "activations", "node": "[quantize]", "found": "uint8", "wanted": "int8"}
    ]
    assert json.loads(clean.out) == []
    assert (broken.code, clean.code) == (1, 0)


def test_the_target_is_the_form_in_the_manifest_unless_one_is_named(segdeploy, tmp_path):
    graph = save(tmp_path / "uint8.onnx", np.uint8, "onnxruntime")

    assert segdeploy("inspect", graph, "--lint").code == 0
    assert segdeploy("inspect", graph, "--lint", "--target", "tensorrt-rtx").code == 1


@pytest.mark.parametrize("suffix", [".plan", ".ort"])
def test_an_engine_is_refused_with_the_way_out(segdeploy, tmp_path, suffix):
    ended = segdeploy("inspect", tmp_path / f"int8{suffix}", "--lint")

    problem, hint = ended.err.splitlines()
    assert ended.code == 1
    assert problem.endswith(f"int8{suffix}: is an engine; wanted a graph")
    assert hint == "hint: inspect the .onnx graph it was built from"


def test_a_target_without_lint_is_wrong_usage(segdeploy, tmp_path):
    ended = segdeploy("inspect", tmp_path / "int8.onnx", "--target", "tensorrt")

    assert ended.code == 2
    assert "--target goes with --lint" in ended.err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--scales"], "carries no segdeploy manifest"),
        (["--floating", "f.onnx"], "go with --scales"),
        (["--lint", "--scales"], "exclude each other"),
    ],
)
def test_scales_are_of_our_graphs_and_of_nothing_else(segdeploy, tmp_path, arguments, problem):
    ended = segdeploy("inspect", save(tmp_path / "int8.onnx", np.int8), *arguments)

    assert ended.code in (1, 2)
    assert problem in ended.err
