"""Scales of quantized graphs: sound ones are left alone, one that is wrong is named."""

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from segdeploy.complaints import Fault, Severity
from segdeploy.scale_doctor import (
    Activated,
    ActivationScale,
    Fit,
    Floating,
    activated_tensors,
    activation_scales,
    check_scales,
)

INT8, UINT8 = (-128, 127), (0, 255)
SIGNED = np.int8(0)


def quantized(scales: dict[str, float], zero: np.integer, *, constants: bool = False) -> ModelProto:
    """A chain of Q/DQ pairs: "x" to "x_1" to ...; each of `scales` is a tensor of it."""
    nodes, stored, current = [], [], next(iter(scales))
    for name, scale in scales.items():
        parameters = {f"{name}_scale": np.float32(scale), f"{name}_zero": zero}
        for key, value in parameters.items():
            tensor = numpy_helper.from_array(np.asarray(value), key)
            if constants:
                nodes.append(helper.make_node("Constant", [], [key], value=tensor))
            else:
                stored.append(tensor)
        nodes += [
            helper.make_node("QuantizeLinear", [name, *parameters], [f"{name}_q"]),
            helper.make_node("DequantizeLinear", [f"{name}_q", *parameters], [f"{name}_dq"]),
        ]
        current = f"{name}_dq"
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value(name, TensorProto.FLOAT, ["n"]) for name in scales],
        [value(current, TensorProto.FLOAT, ["n"])],
        stored,
    )
    return helper.make_model(graph)


def bell(seed: int = 0, size: int = 200_000) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, size).astype(np.float32)


def check(scale: float, values: np.ndarray, zero: np.integer = SIGNED):
    model = quantized({"x": scale}, zero)
    return check_scales(model, lambda _: iter([("x", values)]), [np.zeros((1, 1, 1, 3), np.uint8)])


@pytest.mark.parametrize("constants", [False, True])
@pytest.mark.parametrize(("zero", "codes"), [(np.int8(0), INT8), (np.uint8(128), UINT8)])
def test_scales_are_read_with_their_codes(zero, codes, constants):
    model = quantized({"x": 0.5, "y": 0.25}, zero, constants=constants)

    found = activation_scales(model)

    assert found == (
        ActivationScale("x", 0.5, int(zero), codes),
        ActivationScale("y", 0.25, int(zero), codes),
    )
    assert all(scale.is_symmetric for scale in found)


def test_scales_of_weights_and_of_channels_are_left_out():
    model = quantized({"x": 0.5}, np.int8(0))
    vector = numpy_helper.from_array(np.ones(3, np.float32), "per_channel")
    weight = numpy_helper.from_array(np.ones(3, np.float32), "w")
    model.graph.initializer.extend([vector, weight])
    model.graph.node.extend(
        [
            helper.make_node("QuantizeLinear", ["w", "x_scale"], ["w_q"]),
            helper.make_node("QuantizeLinear", ["y", "per_channel"], ["y_q"]),
            helper.make_node("QuantizeLinear", ["z", "computed"], ["z_q"]),
        ]
    )

    assert [scale.tensor for scale in activation_scales(model)] == ["x"]


@pytest.mark.parametrize("largest", [3.0, 4.5, 9.0])
def test_a_scale_near_the_values_is_fine(largest):
    assert check(largest / 127, bell()) == ()


@pytest.mark.parametrize(("factor", "severity"), [(0.5, "warn"), (0.1, "refuse")])
def test_a_scale_that_clips_is_named_with_the_one_that_fits(factor, severity):
    (found,) = check(factor * 4 / 127, bell())

    assert (found.severity, found.subject) == (severity, Fault.CLIPPING)
    assert found.sentence.startswith(f"tensor x: its scale {factor * 4 / 127:.3g} clips ")
    wanted = float(found.sentence.split("; ")[1].split()[0])
    assert 3 / 127 < wanted < 5 / 127


@pytest.mark.parametrize(("factor", "severity"), [(6, "warn"), (40, "refuse")])
def test_a_scale_of_whose_codes_few_are_used_is_named(factor, severity):
    (found,) = check(factor * 4.5 / 127, bell())

    assert (found.severity, found.subject) == (severity, Fault.WASTE)
    assert "would fit the images" in found.sentence


def test_what_a_fused_relu_cuts_off_is_not_clipped():
    assert check(4.5 / 255, bell(), np.uint8(0)) == ()
    assert check(4.5 / 255, bell(), np.int8(-128)) == ()


def test_what_a_fused_relu6_cuts_off_is_not_clipped():
    assert check(6 / 255, 10 * np.abs(bell()), np.uint8(0)) == ()
    assert check(5 / 255, 10 * np.abs(bell()), np.uint8(0))[0].subject is Fault.CLIPPING


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_tensor_that_hardly_varies_has_no_scale_of_its_own(value):
    assert check(100.0, np.full(1000, value, np.float32)) == ()


def test_joined_tensors_share_a_scale_that_the_largest_needs():
    model = quantized({"a": 0.04, "b": 0.04}, np.int8(0))
    run = lambda _: iter([("a", bell() / 20), ("b", bell())])  # noqa: E731

    assert check_scales(model, run, [np.zeros((1, 1, 1, 3), np.uint8)]) == ()


def test_only_the_first_wrong_scale_is_named():
    model = quantized({"a": 0.035, "b": 0.002, "c": 0.5}, np.int8(0))
    run = lambda _: iter([(name, bell()) for name in "cba"])  # noqa: E731

    (found,) = check_scales(model, run, [np.zeros((1, 1, 1, 3), np.uint8)])

    assert found.sentence.startswith("tensor b:")
    assert found.severity is Severity.REFUSE


def stretched() -> tuple[np.ndarray, np.ndarray]:
    """A tensor (1, 3, 40, 50) with a ReLU6 behind it, and its channels stretched and moved."""
    raw = bell(size=3 * 40 * 50).reshape(1, 3, 40, 50) * 5
    slope = np.array([1.0, 0.5, 3.0], np.float32).reshape(1, 3, 1, 1)
    shift = np.array([-3.0, -1.5, -9.0], np.float32).reshape(1, 3, 1, 1)
    return raw.clip(0, 6), raw * slope + shift


@pytest.mark.parametrize(
    ("factor", "subject"), [(1, None), (0.25, Fault.CLIPPING), (8, Fault.WASTE)]
)
def test_what_an_activation_cuts_off_is_told_by_the_floating_graph(factor, subject):
    true, values = stretched()
    model = quantized({"x": factor * 9.0 / 127}, SIGNED)
    floating = Floating({"x": Activated("relu6", 0.0, 6.0)}, lambda _: iter([("relu6", true)]))
    images = [np.zeros((1, 1, 1, 3), np.uint8)]

    found = check_scales(model, lambda _: iter([("x", values)]), images, floating)

    assert [complaint.subject for complaint in found] == ([subject] if subject else [])


def test_tensors_are_found_behind_their_activations():
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Clip", ["a", "zero", "six"], ["b"]),
        helper.make_node("Conv", ["b", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Add", ["b", "d"], ["e"]),
    ]
    model = helper.make_model(helper.make_graph(nodes, "g", [], []))
    scales = [ActivationScale(name, 1.0, 0, INT8) for name in ("a", "c", "d", "e", "mark")]

    assert activated_tensors(model, scales) == {
        "a": Activated("b", 0.0, 6.0),
        "c": Activated("d", 0.0, np.inf),
        "d": Activated("d", 0.0, np.inf),
        "e": Activated("e"),
    }


def test_fits_of_batches_add_up():
    scale = ActivationScale("x", 0.01, 0, INT8)
    values = bell()

    fit = Fit.of(values[:1000], scale, None) + Fit.of(values[1000:], scale, None)

    whole = Fit.of(values, scale, None)
    assert (fit.count, fit.clipped) == (whole.count, whole.clipped)
    assert (fit.low, fit.high) == (whole.low, whole.high)
