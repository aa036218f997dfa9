"""The comparison of quantizers: what it reads off graphs and results, without any of the tools."""

import json
import sys

import graph_scores
import numpy as np
import pytest
import quantizers
from onnx import TensorProto, helper, numpy_helper

from segdeploy.datasets import open_dataset
from segdeploy.metrics import ConfusionMatrix

pytest.importorskip("onnxruntime")


def pair(name):
    """Nodes that quantize a tensor and dequantize it again."""
    return [
        helper.make_node("QuantizeLinear", [name, "scale"], [f"{name}_q"]),
        helper.make_node("DequantizeLinear", [f"{name}_q", "scale"], [f"{name}_dq"]),
    ]


def head(*, paired):
    """Logits that are resized and labelled; `paired` names the tensors with a Q/DQ pair behind."""
    read = {name: f"{name}_dq" if name in paired else name for name in ("logits", "large", "w")}
    nodes = pair("w") if "w" in paired else []
    nodes.append(helper.make_node("Conv", ["x", read["w"]], ["logits"]))
    nodes += pair("logits") if "logits" in paired else []
    nodes.append(helper.make_node("Resize", [read["logits"], "", "", "sizes"], ["large"]))
    nodes += pair("large") if "large" in paired else []
    nodes.append(helper.make_node("ArgMax", [read["large"]], ["labels"], axis=1))
    constants = {
        "w": np.ones((3, 2, 1, 1), np.float32),
        "sizes": np.array([1, 3, 8, 8]),
        "scale": np.array(0.1, np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 2, 4, 4))],
        [helper.make_tensor_value_info("labels", TensorProto.INT64, (1, 1, 8, 8))],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph)


def test_noise_is_summed_over_all_images_before_the_ratio():
    exact = np.array([[10.0, 0.0]], np.float32), np.array([[0.0, 0.0, 0.0]], np.float32)
    found = np.array([[9.0, 0.0]], np.float32), np.array([[0.0, 0.0, 0.0]], np.float32)

    noisy = graph_scores.sqnr_db(zip(exact, found, strict=True))
    equal = graph_scores.sqnr_db(zip(exact, exact, strict=True))

    assert noisy == pytest.approx(20)  # 10 log10(100 / 1)
    assert equal is None


def test_agreement_counts_pixels_not_images():
    small, large = np.zeros((1, 1), np.uint8), np.zeros((1, 3), np.uint8)

    share = graph_scores.agreement([(small, small + 1), (large, large)])

    assert share == 75


def test_a_change_that_is_the_same_on_every_image_has_no_noise():
    dice = np.random.default_rng(0)
    truth, found = dice.integers(0, 3, (2, 9, 9), np.uint8)
    one = ConfusionMatrix.from_labels(truth, truth, 3)
    other = ConfusionMatrix.from_labels(truth, found, 3)

    same = graph_scores.change_noise([one] * 4, [other] * 4)
    mixed = graph_scores.change_noise([one] * 4, [one, one, other, other])

    assert same == 0
    assert mixed > 1


@pytest.mark.parametrize(
    ("paired", "name"),
    [
        ((), "logits"),
        (("logits",), "logits_dq"),
        (("large",), "logits"),
        (("logits", "large"), "logits_dq"),
    ],
)
def test_logits_are_what_is_resized_before_the_labels(paired, name):
    assert graph_scores.find_logits(head(paired=paired)) == name


def test_pairs_of_weights_are_not_counted():
    assert graph_scores.count_pairs(head(paired=("w", "logits"))) == 1


def test_a_tool_that_fails_says_its_last_line(tmp_path):
    code = "import sys; print('why'); sys.exit('it failed')"

    made = quantizers.run_peer("tool", tmp_path / "tool.onnx", "x", [sys.executable, "-c", code])

    assert "exit 1" in made.error
    assert "it failed" in made.error
    assert quantizers.table_line(made, None).startswith("| tool | exit 1")


def test_what_a_tool_made_of_the_same_input_is_not_made_again(tmp_path):
    out = tmp_path / "tool.onnx"
    count = tmp_path / "runs"
    code = (
        "import json, sys; from pathlib import Path; "
        f"p = Path({str(count)!r}); p.write_text(p.read_text() + 'x' if p.exists() else 'x'); "
        "Path(sys.argv[2]).touch(); Path(sys.argv[4]).write_text(json.dumps({'seconds': 1.5}))"
    )
    command = [sys.executable, "-c", code]

    first = quantizers.run_peer("tool", out, "a", command)
    again = quantizers.run_peer("tool", out, "a", command)
    other = quantizers.run_peer("tool", out, "b", command)

    assert first == again == other
    assert first.seconds == 1.5
    assert count.read_text() == "xx"


class Few:
    """The first images of a data set."""

    def __init__(self, dataset):
        self._dataset = dataset

    def __len__(self):
        return 3

    def __getattr__(self, name):
        return getattr(self._dataset, name)


@pytest.mark.slow
def test_each_step_is_left_out_once(monkeypatch, tmp_path, capsys):
    few = dict(list(quantizers.STEPS.items())[-2:])
    monkeypatch.setattr(quantizers, "STEPS", few)
    monkeypatch.setattr(quantizers, "open_dataset", lambda *names: Few(open_dataset(*names)))

    quantizers.steps(tmp_path / "steps.json", images=4)

    rows = json.loads((tmp_path / "steps.json").read_text())["rows"]
    assert [row["name"] for row in rows] == list(few)
    assert all(20 < row["sqnr_db"] < 45 for row in rows)
    assert capsys.readouterr().out.count("| mse, ") == 2
