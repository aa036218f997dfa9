"""TensorRT engines on a simulated GPU: what is refused, what is shared, what is freed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from simulated_gpu import batches

from segdeploy.artifacts import EnginePlan, sha256_of
from segdeploy.engine_options import EngineOptions
from segdeploy.errors import MisfitError, SegdeployError
from segdeploy.runtime import RunOptions
from segdeploy.runtime.tensorrt import TensorRTEngine
from segdeploy.spec import CPU, Device, Output, Runtime, Size

GPU = Device("cuda")


@pytest.mark.parametrize("runtime", [Runtime.TENSORRT, Runtime.TENSORRT_RTX])
def test_without_a_driver_the_error_says_so(
    plan: EnginePlan, monkeypatch: pytest.MonkeyPatch, runtime: Runtime
) -> None:
    monkeypatch.setattr("segdeploy.cuda.DRIVER", "libno-such-driver.so.1")
    other = replace(plan, manifest=replace(plan.manifest, runtime=runtime))

    with pytest.raises(SegdeployError, match=r"engine needs an NVIDIA GPU, but there is no NVIDIA"):
        TensorRTEngine(other, GPU, RunOptions())


def test_it_never_runs_on_a_cpu(plan: EnginePlan) -> None:
    with pytest.raises(SegdeployError, match=r"model\.plan: runs on a GPU, asked for cpu"):
        TensorRTEngine(plan, CPU, RunOptions())


@pytest.mark.usefixtures("library")
def test_a_plan_that_does_not_fit_is_refused_before_it_is_loaded(
    plan: EnginePlan, library: Any
) -> None:
    other = replace(plan, manifest=replace(plan.manifest, runtime_version="10.8.0"))

    with pytest.raises(SegdeployError, match=r"built with TensorRT 10\.8\.0, this is 10\.9\.0\.34"):
        TensorRTEngine(other, GPU, RunOptions())

    assert library.log is None  # no runtime was made


@pytest.mark.usefixtures("library")
def test_a_plan_that_does_not_load_says_why(plan: EnginePlan) -> None:
    plan.path.write_bytes(b"")

    with pytest.raises(SegdeployError, match=r"cannot be loaded \(magicTag failed\)"):
        TensorRTEngine(plan, GPU, RunOptions())


def test_a_manifest_of_another_plan_is_refused(plan: EnginePlan, library: Any) -> None:
    library.engine.shape = (1, 4, 6, 3)

    with pytest.raises(SegdeployError, match=r"image uint8 1x4x6x3, .*its manifest has others"):
        TensorRTEngine(plan, GPU, RunOptions())


def test_a_manifest_whose_facts_are_of_another_plan_is_refused(
    of_one_size: Callable[..., EnginePlan],
) -> None:
    plan = of_one_size((1, 64, 64, 3))
    fitting = replace(plan.manifest, size=Size(64, 64), batch=1)

    with pytest.raises(
        MisfitError,
        match=r"has the tensors image uint8 1x64x64x3, labels uint8 1x64x64, its manifest says "
        r"1x8x8x3 and 1x8x8$",
    ):
        TensorRTEngine(replace(plan, manifest=replace(fitting, size=Size(8, 8))), GPU, RunOptions())
    with pytest.raises(SegdeployError, match="wanted one uint8 input and one float32 output"):
        TensorRTEngine(
            replace(plan, manifest=replace(fitting, output=Output.LOGITS)), GPU, RunOptions()
        )
    with TensorRTEngine(replace(plan, manifest=fitting), GPU, RunOptions()) as opened:
        assert opened.session().run(batches((1, 64, 64))[0]).shape == (1, 64, 64)


def test_what_tensorrt_rtx_will_not_run_is_refused_with_its_reasons(
    plan: EnginePlan, library: Any
) -> None:
    library.EngineValidity = SimpleNamespace(INVALID=2)
    reasons = {"VERSION_MISMATCH": 1, "UNSUPPORTED_CC": 2, "OLD_CUDA_DRIVER": 4}
    library.EngineInvalidityDiagnostics = SimpleNamespace(__members__=reasons)
    answer = SimpleNamespace(get_engine_validity=lambda data: (2, 6))
    library.Runtime = lambda log: answer
    manifest = replace(plan.manifest, runtime=Runtime.TENSORRT_RTX)

    with pytest.raises(SegdeployError, match=r"\(UNSUPPORTED_CC, OLD_CUDA_DRIVER\)"):
        TensorRTEngine(replace(plan, manifest=manifest), GPU, RunOptions())


def test_a_plan_without_weights_gets_those_of_its_graph(plan: EnginePlan, library: Any) -> None:
    graph = plan.path.with_name("fp16.onnx")
    graph.write_bytes(b"graph")
    build = replace(plan.manifest.build, options=EngineOptions(strip=True))
    manifest = replace(plan.manifest, build=build, source_sha256=sha256_of(graph))
    stripped = replace(plan, manifest=manifest)

    with TensorRTEngine(stripped, GPU, RunOptions()):
        assert library.refitted == [str(graph)]
    library.refits = False
    with pytest.raises(
        SegdeployError, match=r"has no weights, and those of .*fp16\.onnx do not fit"
    ):
        TensorRTEngine(stripped, GPU, RunOptions())
    graph.unlink()
    with pytest.raises(SegdeployError, match="the graph it was built of"):
        TensorRTEngine(stripped, GPU, RunOptions())


def test_another_version_loads_a_compatible_plan_with_its_lean_runtime(
    plan: EnginePlan, library: Any, tmp_path: Path
) -> None:
    build = replace(plan.manifest.build, options=EngineOptions(version_compatible=True))
    older = replace(plan, manifest=replace(plan.manifest, build=build, runtime_version="10.8.0.43"))
    lean = tmp_path / "libnvinfer_lean.so.10"

    with TensorRTEngine(older, GPU, RunOptions(lean_runtime=lean)):
        assert library.lean == [str(lean)]
    with pytest.raises(MisfitError, match=r"with the lean runtime of 10\.8\.0\.43 only"):
        TensorRTEngine(older, GPU, RunOptions())
    library.lean_loads = False
    with pytest.raises(SegdeployError, match="is no lean runtime"):
        TensorRTEngine(older, GPU, RunOptions(lean_runtime=lean))


def test_a_gpu_without_room_for_a_context_is_named(engine: TensorRTEngine, library: Any) -> None:
    library.engine.has_memory = False

    with pytest.raises(SegdeployError, match="no context could be made") as caught:
        engine.session()

    assert "fewer sessions" in caught.value.hint


def test_closing_the_engine_frees_all_and_may_be_repeated(
    engine: TensorRTEngine, world: Any, on_gpu: Any
) -> None:
    session = engine.session()
    session.run(batches((1, 4, 6))[0])
    session.enqueue(on_gpu(batches((1, 4, 6))[0]), on_gpu(np.zeros((1, 4, 6), np.uint8)), stream=7)

    engine.close()
    engine.close()

    assert world.open_parts == set()
    assert world.calls[-1] == "gpu closed"
    assert world.current == 0
    for use in (engine.session, lambda: session.run(batches((1, 4, 6))[0])):
        with pytest.raises(SegdeployError, match="is closed"):
            use()
