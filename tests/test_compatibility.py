"""A plan is refused before it is loaded: what it was built with, what this is, and what to do."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from segdeploy.artifacts import Manifest
from segdeploy.build_record import BuildRecord
from segdeploy.compatibility import Here, check_compatible, flavour_of, system_name
from segdeploy.cuda import GpuFacts
from segdeploy.engine_options import EngineOptions, Hardware
from segdeploy.errors import MisfitError, SegdeployError
from segdeploy.spec import ClassSet, Method, Runtime

PLAN = Path("some.plan")
TENSORRT, RTX = Runtime.TENSORRT, Runtime.TENSORRT_RTX
H100, ADA, A100 = GpuFacts("H100", "9.0"), GpuFacts("RTX 6000 Ada", "8.9"), GpuFacts("A100", "8.0")
T4, B200 = GpuFacts("T4", "7.5"), GpuFacts("B200", "10.0")
HERE = Here("10.9.0.34", "Linux x86_64", A100)
COMPATIBLE = {"version_compatible": True}
PORTABLE = {"hardware": Hardware.AMPERE_PLUS}


def built(
    runtime: Runtime | None = TENSORRT,
    version: str = "10.9.0.34",
    os: str = "Linux x86_64",
    gpu: GpuFacts | None = A100,
    **options: Any,
) -> Manifest:
    """Of a plan that was built so, and with these options."""
    record = BuildRecord(
        os=os,
        gpu=gpu.name if gpu else "",
        compute_capability=gpu.compute_capability if gpu else "",
        options=EngineOptions(**options),
    )
    return Manifest(
        model="demo",
        method=Method.FCN,
        classes=ClassSet.numbered(2),
        runtime=runtime,
        runtime_version=version,
        build=record,
    )


def rtx(**options: Any) -> Manifest:
    """Of a plan of TensorRT-RTX, which was built without a GPU."""
    return built(RTX, gpu=None, **options)


def on(gpu: GpuFacts) -> Here:
    return replace(HERE, gpu=gpu)


def with_version(version: str) -> Here:
    return replace(HERE, version=version)


@pytest.mark.parametrize(
    ("manifest", "here"),
    [
        pytest.param(built(), HERE, id="the same in all"),
        pytest.param(built(**COMPATIBLE), HERE, id="compatible, the same version"),
        pytest.param(built(**COMPATIBLE), with_version("10.9.1"), id="compatible, a later patch"),
        pytest.param(built(**COMPATIBLE), with_version("10.10.0.1"), id="compatible, later minor"),
        pytest.param(built(**COMPATIBLE), with_version("11.0.0.5"), id="compatible, 10 in 11"),
        pytest.param(
            built(version="11.0", **COMPATIBLE), with_version("11.2"), id="compatible, 11 in 11"
        ),
        pytest.param(built(**PORTABLE), on(H100), id="ampere-plus on Hopper"),
        pytest.param(built(gpu=H100, **PORTABLE), HERE, id="ampere-plus back on Ampere"),
        pytest.param(built(**PORTABLE), on(B200), id="ampere-plus, 10.0 is later than 8.0"),
        pytest.param(
            built(hardware=Hardware.SAME_CAPABILITY),
            on(GpuFacts("A30", "8.0")),
            id="another GPU of the same capability",
        ),
        pytest.param(rtx(), HERE, id="RTX by default from 8.0 on"),
        pytest.param(rtx(), on(B200), id="RTX by default on 10.0"),
        pytest.param(rtx(), replace(HERE, os="Windows AMD64"), id="RTX on another system"),
        pytest.param(rtx(compute_capabilities=("8.9", "7.5")), on(T4), id="RTX as asked"),
        pytest.param(rtx(compute_capabilities=("8.9",)), on(B200), id="RTX later than asked"),
    ],
)
def test_a_plan_that_fits_is_let_through(manifest, here):
    check_compatible(PLAN, manifest, here)


ONLY = "a plan loads only in the version that built it"
LATER = "it loads in later versions"


@pytest.mark.parametrize(
    ("manifest", "here", "problem"),
    [
        pytest.param(
            built(), with_version("10.10.0.1"),
            f"built with TensorRT 10.9.0.34, this is 10.10.0.1; {ONLY}", id="a newer TensorRT",
        ),
        pytest.param(
            built(), with_version("10.8.0.43"),
            f"built with TensorRT 10.9.0.34, this is 10.8.0.43; {ONLY}", id="an older TensorRT",
        ),
        pytest.param(
            built(), with_version("10.9.0.35"),
            f"built with TensorRT 10.9.0.34, this is 10.9.0.35; {ONLY}", id="another build of it",
        ),
        pytest.param(
            rtx(), with_version("1.8.0"),
            f"built with TensorRT-RTX 10.9.0.34, this is 1.8.0; {ONLY}", id="another RTX",
        ),
        pytest.param(
            built(**COMPATIBLE), with_version("10.8.0.43"),
            f"built with TensorRT 10.9.0.34, this is 10.8.0.43; {LATER}",
            id="compatible, but an older one",
        ),
        pytest.param(
            built(version="11.0", **COMPATIBLE), with_version("10.13"),
            f"built with TensorRT 11.0, this is 10.13; {LATER}", id="compatible, 11 in 10",
        ),
        pytest.param(
            built(version="10.9", **COMPATIBLE), with_version("12.0"),
            f"built with TensorRT 10.9, this is 12.0; {LATER}", id="compatible, 10 in 12",
        ),
        pytest.param(
            built(os="Windows AMD64"), HERE,
            "built on Windows AMD64, this is Linux x86_64", id="another system",
        ),
        pytest.param(
            built(), replace(HERE, os="Linux aarch64"),
            "built on Linux x86_64, this is Linux aarch64", id="another processor",
        ),
        pytest.param(
            built(), on(ADA),
            "built on A100 for compute capability 8.0, this is RTX 6000 Ada with 8.9",
            id="a later GPU",
        ),
        pytest.param(
            built(hardware=Hardware.SAME_CAPABILITY), on(H100),
            "built on A100 for compute capability 8.0, this is H100 with 9.0",
            id="the same capability, and it is another",
        ),
        pytest.param(
            built(gpu=H100, **PORTABLE), on(T4),
            "built on H100 for compute capability 8.0 or later, this is T4 with 7.5",
            id="ampere-plus on Turing",
        ),
        pytest.param(
            built(gpu=None), HERE,
            "built for compute capability unknown, this is A100 with 8.0",
            id="nobody noted the GPU",
        ),
        pytest.param(
            rtx(), on(T4),
            "built for compute capability 8.0 or later, this is T4 with 7.5",
            id="RTX by default on Turing",
        ),
        pytest.param(
            rtx(compute_capabilities=("12.0", "8.9")), HERE,
            "built for compute capability 8.9 or later, this is A100 with 8.0",
            id="RTX for later GPUs",
        ),
    ],
)  # fmt: skip
def test_a_plan_that_does_not_fit_says_what_it_was_built_with_and_what_this_is(
    manifest, here, problem
):
    with pytest.raises(MisfitError) as caught:
        check_compatible(PLAN, manifest, here)

    assert str(caught.value) == f"some.plan: {problem}"
    assert f"segdeploy build-engine demo --target {manifest.runtime}" in caught.value.hint


def test_another_version_can_be_installed_too():
    with pytest.raises(MisfitError) as caught:
        check_compatible(PLAN, built(), with_version("10.8.0.43"))

    assert caught.value.hint.startswith("install TensorRT 10.9.0.34, or build it here")


def test_a_plan_without_a_record_of_its_build_is_refused():
    with pytest.raises(MisfitError, match="no record of the build") as caught:
        check_compatible(PLAN, replace(built(), build=None), HERE)

    assert "--rebuild" in caught.value.hint


@pytest.mark.parametrize("flavour", [TENSORRT, RTX])
def test_a_plan_is_of_the_flavour_that_its_manifest_says(flavour):
    assert flavour_of(PLAN, built(flavour)) is flavour


@pytest.mark.parametrize(
    ("runtime", "said"), [(None, "no runtime"), (Runtime.ONNXRUNTIME, "onnxruntime")]
)
def test_what_is_no_plan_of_tensorrt_is_refused(runtime, said):
    with pytest.raises(SegdeployError) as caught:
        check_compatible(PLAN, built(runtime), HERE)

    assert str(caught.value) == (
        f"some.plan: is made for {said}; wanted an engine of tensorrt or tensorrt-rtx"
    )
    assert "build-engine" in caught.value.hint


def test_a_system_is_named_with_its_processor(monkeypatch):
    monkeypatch.setattr("platform.system", lambda: "Windows")
    monkeypatch.setattr("platform.machine", lambda: "AMD64")

    assert system_name() == "Windows AMD64"
