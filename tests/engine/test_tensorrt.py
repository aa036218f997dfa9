"""What TensorRT is told, recorded by a double: building with it needs a GPU."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save
from tensorrt_double import MAGIC, TensorRT, read_cache

from segdeploy.engine import builder
from segdeploy.engine.builder import BuiltPlan, build_plan
from segdeploy.engine_options import EngineOptions, Hardware, Verbosity
from segdeploy.errors import SegdeployError
from segdeploy.shapes import Profile, ShapeProfile
from segdeploy.spec import Precision, Runtime

Build = Callable[..., BuiltPlan]


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> TensorRT:
    double = TensorRT()
    monkeypatch.setattr(builder, "load_library", lambda _runtime: double)
    monkeypatch.setattr(builder, "require_driver", lambda _what: None)
    return double


@pytest.fixture
def build(library: TensorRT, tmp_path: Path) -> Build:
    def run(
        *, expected: Precision | None = None, cache: Path | None = None, **options: Any
    ) -> BuiltPlan:
        return build_plan(
            write_graph(tmp_path / "model.onnx"),
            tmp_path / "model.plan",
            runtime=Runtime.TENSORRT,
            options=EngineOptions(**options),
            expected=expected,
            timing_cache=cache,
        )

    return run


def write_graph(path: Path) -> Path:
    """One convolution on images of any batch."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
            helper.make_node("Conv", ["x", "w"], ["y"], name="conv"),
        ],
        "test",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), "w")],
    )
    save(helper.make_model(graph), path)
    return path


def profile(largest: int) -> Profile:
    return (
        ShapeProfile(tensor="image", min=(1, 3, 8, 8), opt=(1, 3, 8, 8), max=(largest, 3, 8, 8)),
    )


PROFILES = (profile(2), profile(4))


def test_a_network_is_strongly_typed_and_the_options_reach_the_builder(
    library: TensorRT, build: Build
) -> None:
    built = build(
        expected=Precision.FP32,
        profiles=PROFILES,
        workspace_bytes=1 << 20,
        optimization_level=5,
        sparsity=True,
    )

    config = library.config
    assert library.creation_flags == {"EXPLICIT_BATCH", "STRONGLY_TYPED"}
    assert config.flags == {"SPARSE_WEIGHTS"}  # TF32, which TensorRT has on, is cleared
    assert config.limits == {"WORKSPACE": 1 << 20}
    assert config.builder_optimization_level == 5
    assert [shapes["image"][2] for shapes in config.profiles] == [(2, 3, 8, 8), (4, 3, 8, 8)]
    assert config.profiling_verbosity.name == "DETAILED"
    assert built.convolutions == {Precision.FP32: ("conv",)}
    assert built.activation_bytes == (1000, 1001)
    assert built.path.read_bytes() == b"a plan of TensorRT"


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ({"tf32": True}, {"TF32"}),
        ({"refit": True}, {"REFIT"}),
        ({"strip": True}, {"STRIP_PLAN", "REFIT_IDENTICAL"}),
        ({"strip": True, "refit": True}, {"STRIP_PLAN", "REFIT"}),
        ({"version_compatible": True}, {"VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"}),
    ],
)
def test_an_option_is_these_flags(
    library: TensorRT, build: Build, options: dict[str, bool], flags: set[str]
) -> None:
    build(profiles=PROFILES, **options)

    assert library.config.flags == flags


@pytest.mark.parametrize(
    ("hardware", "level"),
    [
        (Hardware.SAME, None),
        (Hardware.AMPERE_PLUS, "AMPERE_PLUS"),
        (Hardware.SAME_CAPABILITY, "SAME_COMPUTE_CAPABILITY"),
    ],
)
def test_hardware_is_a_level(
    library: TensorRT, build: Build, hardware: Hardware, level: str | None
) -> None:
    build(profiles=PROFILES, hardware=hardware)

    found = library.config.hardware_compatibility_level
    assert (None if found is None else found.name) == level


def test_what_a_version_lacks_is_named(library: TensorRT, build: Build) -> None:
    library.HardwareCompatibilityLevel = library.MemoryPoolType  # which has no such member

    with pytest.raises(SegdeployError, match=r"10\.16\.1\.11 has no .*SAME_COMPUTE_CAPABILITY"):
        build(profiles=PROFILES, hardware=Hardware.SAME_CAPABILITY)


def test_compute_capabilities_are_the_other_flavours(build: Build) -> None:
    with pytest.raises(SegdeployError, match="GPU of this machine only"):
        build(profiles=PROFILES, compute_capabilities=("8.9",))


def test_another_precision_in_the_log_is_an_error_and_leaves_no_plan(
    library: TensorRT, build: Build, tmp_path: Path
) -> None:
    library.precision = "Half"

    with pytest.raises(SegdeployError, match="conv in fp32, the engine runs it in Half"):
        build(profiles=PROFILES, expected=Precision.FP32)

    assert not (tmp_path / "model.plan").exists()


@pytest.mark.parametrize("verbosity", [Verbosity.NONE, Verbosity.NAMES])
def test_a_precision_that_the_log_does_not_show_is_a_warning(
    build: Build, verbosity: Verbosity
) -> None:
    built = build(profiles=PROFILES, expected=Precision.FP32, verbosity=verbosity)

    assert "precision of the convolutions is not proved" in built.warnings[0]
    assert built.convolutions == {}


@pytest.mark.parametrize(
    ("reason", "options", "hint"),
    [
        ("Error Code 2: OutOfMemory", {}, "raise the workspace"),
        ("Error Code 10: no implementation", {}, ""),
    ],
)
def test_a_build_that_fails_says_why(
    library: TensorRT, build: Build, reason: str, options: dict[str, bool], hint: str
) -> None:
    library.fails = reason

    with pytest.raises(SegdeployError, match=reason) as caught:
        build(profiles=PROFILES, **options)

    assert caught.value.hint.startswith(hint)
    assert bool(caught.value.hint) == bool(hint)


def entries(path: Path) -> set[str]:
    cache = read_cache(path.read_bytes(), "GPU-A")
    assert cache is not None
    return cache.entries


def test_a_timing_cache_grows_from_build_to_build(
    library: TensorRT, build: Build, tmp_path: Path
) -> None:
    cache = tmp_path / "timing" / "gpu.cache"

    build(profiles=PROFILES, cache=cache)
    library.measured = "kernel-2"
    built = build(profiles=PROFILES, cache=cache)

    assert entries(cache) == {"kernel-1", "kernel-2"}
    assert built.warnings == ()
    assert [path.name for path in cache.parent.iterdir()] == ["gpu.cache"]


def test_what_another_process_wrote_during_the_build_is_kept(
    library: TensorRT, build: Build, tmp_path: Path
) -> None:
    cache = tmp_path / "gpu.cache"
    library.meanwhile = lambda: cache.write_text(f"{MAGIC}\nGPU-A\nkernel-of-another")

    build(profiles=PROFILES, cache=cache)

    assert entries(cache) == {"kernel-1", "kernel-of-another"}


@pytest.mark.parametrize(
    "content",
    [pytest.param("\x00nonsense", id="damaged"), pytest.param(f"{MAGIC}\nGPU-B\nk", id="foreign")],
)
def test_a_timing_cache_that_does_not_fit_is_a_warning_and_replaced(
    build: Build, tmp_path: Path, content: str
) -> None:
    cache = tmp_path / "gpu.cache"
    cache.write_text(content)

    built = build(profiles=PROFILES, cache=cache)

    assert len(built.warnings) == 1
    assert "gpu.cache: is damaged or of another GPU" in built.warnings[0]
    assert entries(cache) == {"kernel-1"}


def test_a_timing_cache_that_cannot_be_written_stops_no_build(build: Build, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    built = build(profiles=PROFILES, cache=tmp_path / "file" / "gpu.cache")

    assert built.path.is_file()
    assert any("cannot be written" in warning for warning in built.warnings)


def test_without_a_timing_cache_none_is_made(library: TensorRT, build: Build) -> None:
    build(profiles=PROFILES)

    assert library.config.cache is None
