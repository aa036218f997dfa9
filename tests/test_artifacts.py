"""A manifest says the same after every journey, and a file is written whole or not at all."""

import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest

from segdeploy.artifacts import (
    EnginePlan,
    LayerMoments,
    Manifest,
    Store,
    request_hash,
    sha256_of,
    writing,
)
from segdeploy.build_record import BuildRecord
from segdeploy.engine_options import EngineOptions, Hardware
from segdeploy.errors import SegdeployError
from segdeploy.shapes import ShapeProfile, TensorInfo
from segdeploy.spec import ClassSet, Method, Normalization, Output, Precision, Runtime, Size

WHERE = Path("some.onnx")
MANIFEST = Manifest(
    model="demo",
    method=Method.DEEPLABV3PLUS,
    classes=ClassSet(("Straße", 'a "car"'), ((1, 2, 3), (255, 0, 128))),
    precision=Precision.INT8,
    output=Output.LOGITS,
    size=Size(256, 512),
    batch=4,
    dataset="demo",
    normalization=Normalization(mean=(0.1, 1e-9, 123.675), std=(1 / 3, 2.0, 3.0)),
    batch_norms=(LayerMoments("a.weight", (0.5, -1e-07), (1.0, 0.0)),),
    checkpoint="demo.pth",
    checkpoint_sha256="ab" * 32,
    calibration="demo-64: 64 images of demo/train, max",
    calibration_split="demo/train",
    quantization="tensorrt",
    runtime=Runtime.TENSORRT_RTX,
    runtime_version="1.7.1",
    machine="NVIDIA GPUs",
    build=BuildRecord(
        os="Linux x86_64",
        gpu="NVIDIA H100",
        compute_capability="9.0",
        inputs=(TensorInfo("image", "uint8", (-1, 256, 512, 3)),),
        activation_bytes=(1 << 30,),
        convolutions=(("int8", 43, 0.9),),
        options=EngineOptions(
            profiles=(
                (
                    ShapeProfile(
                        tensor="image",
                        min=(1, 256, 512, 3),
                        opt=(1, 256, 512, 3),
                        max=(8, 256, 512, 3),
                    ),
                ),
            ),
            hardware=Hardware.AMPERE_PLUS,
        ),
    ),
    request="0123456789abcdef",
    versions=(("segdeploy", "1.0"), ("torch", "2.13.0")),
)
DYNAMIC = Manifest(model="m", method=Method.FCN, classes=ClassSet.numbered(2), batch=None)


def as_json(manifest: Manifest) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(asdict(manifest)))
    return values


@pytest.fixture
def plan(tmp_path) -> EnginePlan:
    path = tmp_path / "int8.plan"
    path.write_bytes(bytes(range(256)) * 8)
    plan = EnginePlan(path, replace(MANIFEST, sha256=sha256_of(path)))
    plan.save_manifest()
    return plan


@pytest.mark.parametrize("manifest", [MANIFEST, DYNAMIC], ids=["full", "dynamic"])
def test_a_manifest_survives_the_metadata_of_a_graph(manifest):
    assert Manifest.from_strings(manifest.to_strings(), WHERE) == manifest


@pytest.mark.parametrize("manifest", [MANIFEST, DYNAMIC], ids=["full", "dynamic"])
def test_a_manifest_survives_json(manifest):
    found = Manifest.from_dict(as_json(manifest), WHERE)

    assert found == manifest
    assert isinstance(found.size, Size | None)
    assert isinstance(found.versions, tuple)


def test_every_fact_is_a_key_of_the_metadata():
    keys = MANIFEST.to_strings().keys()

    assert keys == {f"segdeploy.{f.name}" for f in fields(Manifest)}


def test_keys_of_others_in_the_metadata_are_left_alone():
    properties = MANIFEST.to_strings() | {"author": "somebody", "segdeploy_like": "{"}

    assert Manifest.from_strings(properties, WHERE) == MANIFEST


@pytest.mark.parametrize("properties", [{}, {"author": "somebody"}])
def test_a_graph_of_others_has_no_manifest(properties):
    with pytest.raises(SegdeployError, match=r"some\.onnx: carries no segdeploy manifest"):
        Manifest.from_strings(properties, WHERE)


def test_metadata_that_is_no_json_is_refused():
    properties = MANIFEST.to_strings() | {"segdeploy.size": "[1, "}

    with pytest.raises(SegdeployError, match=r"some\.onnx: its segdeploy metadata is damaged"):
        Manifest.from_strings(properties, WHERE)


@pytest.mark.parametrize("schema", [3, 0, -1, "1", 1.5, [1], True])
def test_a_newer_or_odd_schema_is_refused(schema):
    with pytest.raises(SegdeployError, match="manifest schema"):
        Manifest.from_dict(as_json(MANIFEST) | {"schema": schema}, WHERE)


def test_a_manifest_from_before_batch_norms_is_read():
    values = as_json(MANIFEST)
    del values["batch_norms"]

    assert Manifest.from_dict(values, WHERE) == replace(MANIFEST, batch_norms=())


def test_an_unknown_key_is_named():
    with pytest.raises(SegdeployError, match="unknown manifest key 'widht'"):
        Manifest.from_dict(as_json(MANIFEST) | {"widht": 1}, WHERE)


@pytest.mark.parametrize("key", ["model", "method", "classes", "size", "versions"])
def test_a_missing_key_is_named(key):
    values = as_json(MANIFEST)
    del values[key]

    with pytest.raises(SegdeployError, match=f"damaged .*{key}"):
        Manifest.from_dict(values, WHERE)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("method", "unet"),
        ("method", None),
        ("precision", "fp64"),
        ("output", ["labels"]),
        ("runtime", "tvm"),
        ("size", "256x512"),
        ("size", [256]),
        ("size", [0, 512]),
        ("size", [-256, 512]),
        ("size", [10**9, 10**9]),
        ("size", [256.0, 512.0]),
        ("size", [True, 512]),
        ("size", {"256": 1, "512": 2}),
        ("batch", "many"),
        ("batch", 0),
        ("batch", -1),
        ("batch", 10**9),
        ("classes", []),
        ("classes", {"names": ["a", "b"], "palette": [[1, 2, 3], [1, 2]]}),
        ("classes", {"names": ["a", "b"], "palette": [[1, 2, 3], [1, 2, 999]]}),
        ("normalization", {"mean": [1, 2, 3]}),
        ("normalization", {"mean": [1, 2, 3], "std": [1, 2, "x"]}),
        ("normalization", {"mean": [1, 2, 3], "std": [1, 2, 0]}),
        ("normalization", {"mean": [1, 2, float("nan")], "std": [1, 2, 3]}),
        ("classes", {"names": ["a", "b"], "palette": [[1, 2, float("inf")], [1, 2, 3]]}),
        ("versions", {"torch": "2"}),
        ("versions", 3),
        ("batch_norms", 3),
        ("batch_norms", {"weight": "w"}),
        ("batch_norms", [["w", [0.0], [1.0]]]),
        ("batch_norms", [{"weight": "w", "means": [0.0]}]),
        ("batch_norms", [{"weight": "w", "means": [], "deviations": []}]),
        ("batch_norms", [{"weight": "w", "means": [0.0], "deviations": [1.0, 1.0]}]),
        ("batch_norms", [{"weight": "w", "means": [0.0], "deviations": [-1.0]}]),
        ("batch_norms", [{"weight": "w", "means": [float("nan")], "deviations": [1.0]}]),
        ("batch_norms", [{"weight": "w", "means": [0.0], "deviations": [float("inf")]}]),
        ("batch_norms", [{"weight": "w", "means": [True], "deviations": [1.0]}]),
        ("batch_norms", [{"weight": "w", "means": "0", "deviations": [1.0]}]),
        ("batch_norms", [{"weight": 1, "means": [0.0], "deviations": [1.0]}]),
        ("batch_norms", [{"weight": "w", "means": [0.0], "deviations": [1.0], "x": 1}]),
        ("model", 7),
        ("model", ""),
        ("model", "../../elsewhere"),
        ("model", "/elsewhere"),
        ("model", "a\0b"),
        ("dataset", ["demo"]),
        ("checkpoint", None),
        ("calibration_split", {}),
        ("machine", 1),
        ("sha256", None),
        ("request", 5),
        ("color_order", "BGR"),
        ("layout", "NCHW"),
        ("build", {}),
        ("build", {"os": "Linux"}),
        ("build", [1]),
    ],
)
def test_a_hostile_value_is_refused_with_the_file_named(key, value):
    with pytest.raises(SegdeployError, match=r"some\.onnx: "):
        Manifest.from_dict(as_json(MANIFEST) | {key: value}, WHERE)


@pytest.mark.parametrize(
    ("checkpoint", "is_random"), [("random:0", True), ("demo.pth", False), ("", False)]
)
def test_random_weights_are_told_by_the_manifest(checkpoint, is_random):
    assert replace(MANIFEST, checkpoint=checkpoint).is_random is is_random


def test_a_plan_is_loaded_with_its_manifest(plan):
    assert EnginePlan.load(plan.path) == plan


@pytest.mark.parametrize("position", [0, 1000, 2047])
def test_a_plan_with_one_flipped_byte_is_refused(plan, position):
    data = bytearray(plan.path.read_bytes())
    data[position] ^= 1
    plan.path.write_bytes(data)

    with pytest.raises(SegdeployError, match=r"int8\.plan: sha256 is") as caught:
        EnginePlan.load(plan.path)

    assert "build the engine again" in caught.value.hint


def test_a_truncated_plan_is_refused(plan):
    plan.path.write_bytes(plan.path.read_bytes()[:100])

    with pytest.raises(SegdeployError, match="its manifest says"):
        EnginePlan.load(plan.path)


def test_a_plan_without_its_manifest_is_refused(plan):
    plan.manifest_path.unlink()

    with pytest.raises(SegdeployError, match=r"its manifest int8\.plan\.json is missing"):
        EnginePlan.load(plan.path)


@pytest.mark.parametrize("text", ["", "{", "\x00\xff", "[]", "3", "[" * 100_000])
def test_a_manifest_that_is_no_json_object_is_refused(plan, text):
    plan.manifest_path.write_bytes(text.encode("latin-1"))

    with pytest.raises(SegdeployError, match=r"int8\.plan\.json: "):
        EnginePlan.load(plan.path)


def test_a_plan_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SegdeployError, match=r"none\.plan: no such file"):
        EnginePlan.load(tmp_path / "none.plan")


def test_writing_leaves_the_file_and_nothing_else(tmp_path):
    path = tmp_path / "new" / "a.txt"

    with writing(path) as temporary:
        temporary.write_text("all of it")
        assert not path.exists()

    assert path.read_text() == "all of it"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_while_writing_keeps_the_old_file_and_leaves_nothing(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    with pytest.raises(ZeroDivisionError), writing(path) as temporary:
        temporary.write_text("ne") / 0

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")

    with (
        pytest.raises(SegdeployError, match=r"a\.onnx: cannot be written"),
        writing(tmp_path / "file" / "a.onnx"),
    ):
        pytest.fail("there is no folder to write to")


def test_a_folder_in_the_place_of_a_file_is_an_error(tmp_path):
    (tmp_path / "a.onnx").mkdir()

    with (
        pytest.raises(SegdeployError, match=r"a\.onnx: cannot be written"),
        writing(tmp_path / "a.onnx") as temporary,
    ):
        temporary.write_text("x")


def test_a_request_hash_depends_on_values_and_not_on_their_order():
    first = request_hash(size=Size(1, 2), name="a")

    assert request_hash(name="a", size=Size(1, 2)) == first
    assert request_hash(name="a", size=Size(2, 1)) != first
    assert request_hash(name="b", size=Size(1, 2)) != first


@pytest.mark.parametrize(
    ("runtime", "name"),
    [
        (Runtime.ONNXRUNTIME, "int8.onnxruntime.ort"),
        (Runtime.TENSORRT, "int8.tensorrt.plan"),
        (Runtime.TENSORRT_RTX, "int8.tensorrt-rtx.plan"),
    ],
)
def test_the_store_has_one_place_for_each_engine(runtime, name):
    store = Store(Path("there"))

    assert store.engine("demo", "int8", runtime) == Path("there/demo") / name
    assert store.graph("demo", "fp16") == Path("there/demo/fp16.onnx")
    assert store.checkpoint("a.pth") == Path("there/checkpoints/a.pth")
