"""Engines, built for real by TensorRT-RTX, which needs no GPU for it."""

import signal
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from segdeploy.cuda import driver_problem
from segdeploy.engine import builder
from segdeploy.engine.builder import build_plan
from segdeploy.engine.timing_cache import TimingCache
from segdeploy.engine_options import EngineOptions, Hardware, Verbosity
from segdeploy.errors import SegdeployError
from segdeploy.nvinfer import load_library, open_log
from segdeploy.shapes import ShapeProfile, TensorInfo
from segdeploy.spec import Precision, Runtime

pytest.importorskip("tensorrt_rtx")

FLOATS = {
    Precision.FP32: (TensorProto.FLOAT, np.float32),
    Precision.FP16: (TensorProto.FLOAT16, np.float16),
    Precision.INT8: (TensorProto.FLOAT, np.float32),
}


def write_graph(path: Path, precision: Precision, *, height: int | str = 16) -> Path:
    """Pixels (1, height, 16, 3) uint8 -> one 3x3 convolution and ReLU -> (1, 8, height, 16)."""
    kind, dtype = FLOATS[precision]
    weights = np.random.default_rng(0).normal(size=(8, 3, 3, 3)).astype(dtype)
    nodes = [
        helper.make_node("Cast", ["image"], ["cast"], to=kind),
        helper.make_node("Transpose", ["cast"], ["x"], perm=[0, 3, 1, 2]),
    ]
    constants = {"w": weights}
    data, kernel = "x", "w"
    if precision is Precision.INT8:
        constants |= {"s": np.float32(1.0), "z": np.int8(0)}
        for name in ("x", "w"):
            nodes += [
                helper.make_node("QuantizeLinear", [name, "s", "z"], [f"{name}_q"]),
                helper.make_node("DequantizeLinear", [f"{name}_q", "s", "z"], [f"{name}_dq"]),
            ]
        data, kernel = "x_dq", "w_dq"
    nodes += [
        helper.make_node("Conv", [data, kernel], ["y"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["y"], ["result"]),
    ]
    return save(
        path,
        nodes,
        inputs=[("image", TensorProto.UINT8, [1, height, 16, 3])],
        outputs=[("result", kind, [1, 8, height, 16])],
        constants=constants,
    )


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    *,
    inputs: list[tuple[str, int, list[Any]]],
    outputs: list[tuple[str, int, list[Any]]],
    constants: dict[str, Any],
) -> Path:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opset = helper.make_opsetid("", 20)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=10), path)
    return path


def build(graph: Path, expected: Precision | None = None, **options: Any) -> builder.BuiltPlan:
    return build_plan(
        graph,
        graph.with_suffix(".plan"),
        runtime=Runtime.TENSORRT_RTX,
        options=EngineOptions(**options),
        expected=expected,
    )


@pytest.mark.parametrize("precision", list(Precision))
def test_a_plan_is_written_and_its_precision_proved(tmp_path: Path, precision: Precision) -> None:
    graph = write_graph(tmp_path / "model.onnx", precision)

    plan = build(graph, expected=precision)

    assert plan.convolutions == {precision: ("conv",)}
    assert plan.bytes == plan.path.stat().st_size > 0
    assert plan.seconds > 0
    assert len(plan.activation_bytes) == 1
    assert plan.inputs == (TensorInfo("image", "uint8", (1, 16, 16, 3)),)
    assert [tensor.name for tensor in plan.outputs] == ["result"]


def test_equal_graphs_give_equal_plans(tmp_path: Path) -> None:
    first = build(write_graph(tmp_path / "first.onnx", Precision.FP32))
    second = build(write_graph(tmp_path / "second.onnx", Precision.FP32))

    assert first.path.read_bytes() == second.path.read_bytes()


def test_another_precision_is_refused_and_nothing_written(tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "model.onnx", Precision.FP32)

    with pytest.raises(SegdeployError, match="has 1 fp32 convolutions; wanted fp16"):
        build(graph, expected=Precision.FP16)

    assert list(tmp_path.iterdir()) == [graph]


def test_an_engine_without_proof_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = write_graph(tmp_path / "model.onnx", Precision.FP32)
    monkeypatch.setattr(builder, "_layer_message", lambda lines: "")

    with pytest.raises(SegdeployError, match="precision fp32 is not proved"):
        build(graph, expected=Precision.FP32)

    assert list(tmp_path.iterdir()) == [graph]


def test_each_profile_opens_a_dynamic_axis_and_has_memory_of_its_own(tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "model.onnx", Precision.FP32, height="height")

    plan = build(graph, profiles=(up_to(512), up_to(2048)), optimization_level=1)

    assert plan.inputs == (TensorInfo("image", "uint8", (1, -1, 16, 3)),)
    small, large = plan.activation_bytes
    assert small < large


def up_to(height: int) -> tuple[ShapeProfile]:
    largest = (1, height, 16, 3)
    return (ShapeProfile(tensor="image", min=(1, 8, 16, 3), opt=(1, 16, 16, 3), max=largest),)


def test_a_dynamic_input_without_profile_is_refused(tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "model.onnx", Precision.FP32, height="height")

    with pytest.raises(SegdeployError, match="no shape profile"):
        build(graph)


def test_a_known_compute_capability_is_a_target_and_another_an_error(tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "model.onnx", Precision.FP32)

    build(graph, compute_capabilities=("8.6", "8.9"))

    with pytest.raises(SegdeployError, match=r"does not build for compute capability 1\.0"):
        build(graph, compute_capabilities=("1.0",))


def test_turing_is_built_for_with_a_warning_of_its_size(tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "model.onnx", Precision.FP32)

    turing, later = (build(graph, compute_capabilities=(name,)) for name in ("7.5", "8.6"))

    assert "7.5 makes a plan ten times as large" in turing.warnings[0]
    assert later.warnings == ()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"version_compatible": True}, "no version-compatible plans"),
        ({"hardware": Hardware.AMPERE_PLUS}, "no hardware level ampere-plus"),
    ],
)
def test_what_tensorrt_rtx_cannot_do_is_refused_before_the_build(
    tmp_path: Path, options: dict[str, Any], problem: str
) -> None:
    graph = write_graph(tmp_path / "model.onnx", Precision.FP32)

    with pytest.raises(SegdeployError, match=problem) as caught:
        build(graph, **options)

    assert caught.value.hint
    assert list(tmp_path.iterdir()) == [graph]


@pytest.mark.skipif(driver_problem() is None, reason="there is a driver")
@pytest.mark.parametrize("option", ["refit", "strip"])
def test_a_plan_that_can_be_refitted_needs_a_gpu_to_build_and_the_error_says_so(
    tmp_path: Path, option: str
) -> None:
    graph = write_graph(tmp_path / "model.onnx", Precision.FP32)

    with pytest.raises(SegdeployError, match=r"no engine could be built .*Myelin") as caught:
        build(graph, **{option: True})

    assert "need a GPU to build, and there is no NVIDIA driver" in caught.value.hint
    assert list(tmp_path.iterdir()) == [graph]


def test_sparse_weights_are_accepted(tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "model.onnx", Precision.FP32)

    assert build(graph, expected=Precision.FP32, sparsity=True).bytes > 0


@pytest.mark.parametrize("verbosity", [Verbosity.NONE, Verbosity.NAMES])
def test_a_plan_that_tells_less_is_not_proved_and_a_warning_says_so(
    tmp_path: Path, verbosity: Verbosity
) -> None:
    graph = write_graph(tmp_path / "model.onnx", Precision.FP32)

    plan = build(graph, expected=Precision.FP32, verbosity=verbosity)

    assert "is not proved" in plan.warnings[0]
    assert plan.convolutions == {}


@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")
def test_the_calls_of_a_timing_cache_are_those_of_the_real_library(tmp_path: Path) -> None:
    library = load_library(Runtime.TENSORRT_RTX)  # where they do nothing
    config = library.Builder(open_log(library)).create_builder_config()
    path = tmp_path / "gpu.cache"

    first = TimingCache(config, path)
    first.save()
    second = TimingCache(config, path)
    second.save()

    assert first.warnings == []
    assert path.stat().st_size > 0


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(b"", "holds 0 layers, 0 inputs and 0 outputs", id="empty"),
        pytest.param(b"no graph at all", "refuses the file: .*Failed to parse", id="garbage"),
    ],
)
def test_a_file_that_is_no_graph_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    graph = tmp_path / "model.onnx"
    graph.write_bytes(content)

    with pytest.raises(SegdeployError, match=problem):
        build(graph)


def test_a_missing_graph_is_named(tmp_path: Path) -> None:
    with pytest.raises(SegdeployError, match=r"model\.onnx: no such file"):
        build(tmp_path / "model.onnx")


def test_a_refused_node_is_named_with_its_cause_and_a_hint(tmp_path: Path) -> None:
    graph = save(
        tmp_path / "model.onnx",
        [
            helper.make_node("Transpose", ["image"], ["x"], name="early", perm=[0, 3, 1, 2]),
            helper.make_node("Cast", ["x"], ["result"], to=TensorProto.FLOAT),
        ],
        inputs=[("image", TensorProto.UINT8, [1, 16, 16, 3])],
        outputs=[("result", TensorProto.FLOAT, [1, 3, 16, 16])],
        constants={},
    )

    with pytest.raises(SegdeployError, match=r"Transpose early: .*has type UInt8") as caught:
        build(graph)

    assert "cudaError 35" not in caught.value.problem
    assert "cast the pixels" in caught.value.hint


def test_what_the_library_said_is_kept_also_of_a_build_that_failed(tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "model.onnx", Precision.FP32)
    good, bad = tmp_path / "good.log", tmp_path / "bad.log"
    where = {"runtime": Runtime.TENSORRT_RTX, "options": EngineOptions()}

    build_plan(graph, tmp_path / "a.plan", save_log=good, **where)
    graph.write_bytes(b"no graph")
    with pytest.raises(SegdeployError):
        build_plan(graph, tmp_path / "b.plan", save_log=bad, **where)

    assert "[VERBOSE] Layers:" in good.read_text()
    assert "ERROR] " in bad.read_text()
    assert not (tmp_path / "b.plan").exists()


def test_ctrl_c_stops_the_build_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = write_graph(tmp_path / "model.onnx", Precision.FP32)
    main_thread = threading.main_thread().ident
    assert main_thread is not None
    moves: list[float] = []

    class InterruptingBar:
        def __call__(self, steps: float) -> None:
            if not moves:
                signal.pthread_kill(main_thread, signal.SIGINT)
                time.sleep(1.0)  # ten times what Ctrl-C may go unseen
            moves.append(steps)

        def tell(self, phase: str) -> None:
            pass

    monkeypatch.setattr(builder, "progress_bar", lambda what, total: nullcontext(InterruptingBar()))
    # A job in the background of a shell starts with SIGINT ignored, and Python leaves it so.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        with pytest.raises(KeyboardInterrupt):
            build(graph)
    finally:
        signal.signal(signal.SIGINT, inherited)

    assert len(moves) < 10  # a whole build of TensorRT-RTX 1.7 makes 43
    assert list(tmp_path.iterdir()) == [graph]


def test_a_build_shows_its_phases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = write_graph(tmp_path / "model.onnx", Precision.FP32)
    moves: list[float] = []
    phases: list[str] = []

    class RecordingBar:
        def __call__(self, steps: float) -> None:
            moves.append(steps)

        def tell(self, phase: str) -> None:
            phases.append(phase)

    monkeypatch.setattr(builder, "progress_bar", lambda what, total: nullcontext(RecordingBar()))

    build(graph)

    assert len(set(phases)) > 1
    assert sum(moves) == pytest.approx(100.0)


def test_tensorrt_says_which_is_missing_driver_or_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = write_graph(tmp_path / "model.onnx", Precision.FP32)
    monkeypatch.setattr(builder, "load_library", lambda runtime: None)
    monkeypatch.setattr("segdeploy.cuda.DRIVER", "libno-such-driver.so.1")

    with pytest.raises(SegdeployError, match=r"building with TensorRT needs .* no NVIDIA driver"):
        build_plan(graph, tmp_path / "out.plan", runtime=Runtime.TENSORRT, options=EngineOptions())
