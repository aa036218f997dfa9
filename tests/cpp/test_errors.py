"""What C++ refuses, it refuses in the words of Python."""

import json
import re
from dataclasses import fields, replace
from pathlib import Path

import onnx
import pytest
from c_library import MISFIT, Refusal

import segdeploy
from segdeploy.artifacts import EnginePlan, Manifest
from segdeploy.errors import MisfitError, SegdeployError
from segdeploy.graph import read_graph
from segdeploy.spec import Method, Size

pytestmark = pytest.mark.xdist_group("cpp")
ROOT = Path(__file__).parents[2]
SIZE = Size(64, 96)
GONE = ...  # in place of a value: the key is taken out

DAMAGES = [
    {"schema": GONE},
    {"schema": None},
    {"schema": 3},
    {"schema": "2"},
    {"schema": True},
    {"schema": 0},
    {"widht": 1},
    {"zeta": 1, "alpha": 2},
    {"model": GONE},
    {"model": "a/b"},
    {"model": ""},
    {"model": "a\x1b[2J"},
    {"model": 'it\'s "here"/'},
    {"model": ["a" * 100]},
    {"model": {"a": [1, None, True, 2.5, "q\"'"], "b": {}}},
    {"method": "unet"},
    {"method": None},
    {"precision": 8},
    {"output": "mask"},
    {"tuning": "tpu"},
    {"mask": "cloud"},
    {"size": [64]},
    {"size": [64, 96.0]},
    {"size": [0, 96]},
    {"size": [9000, 96]},
    {"size": {"height": 64}},
    {"batch": True},
    {"batch": 0},
    {"batch": 65},
    {"batch": 1.0},
    {"dataset": 1},
    {"layout": "NCHW"},
    {"color_order": "BGR"},
    {"rewrites": [1]},
    {"rewrites": "none"},
    {"versions": [["torch"]]},
    {"versions": [["torch", 2]]},
    {"runtime": "tflite"},
    {"classes": []},
    {"classes": {"names": ["a", "b"]}},
    {"classes": {"names": ["a"], "palette": [[1, 2, 3]]}},
    {"classes": {"names": ["a", "b"], "palette": [[1, 2, 3]]}},
    {"classes": {"names": ["a", "b"], "palette": [[1, 2, 3], [1, 2]]}},
    {"classes": {"names": ["a", "b"], "palette": [[1, 2, 3], [1, 2, 256]]}},
    {"classes": {"names": ["a", "b"], "palette": [], "colour": 1}},
    {"normalization": {"mean": [1, 2, 3], "std": [1, 0, 1]}},
    {"normalization": {"mean": [1, 2, 3]}},
    {"normalization": {"mean": [1, 2, "3"], "std": [1, 1, 1]}},
    {"batch_norms": [{"weight": "w", "means": [1.5], "deviations": [-1]}]},
    {"batch_norms": [{"weight": "w", "means": [], "deviations": []}]},
    {"build": 3},
    {"build": {"os": "Linux x86_64"}},
]


def refusal_of(library, path, **options):
    with pytest.raises(Refusal) as caught, library.open(path, **options):
        pass
    return caught.value


def python_refusal(path):
    with pytest.raises(SegdeployError) as caught, segdeploy.open(path):
        pass
    return caught.value


def assert_alike(library, path):
    """The same sentence and hint, and the same kind of error."""
    expected, found = python_refusal(path), refusal_of(library, path)

    assert (found.problem, found.hint) == (expected.problem, expected.hint)
    assert (found.status == MISFIT) == isinstance(expected, MisfitError)


def edited(engine: EnginePlan, folder: Path, **changes: object) -> Path:
    """A copy of an engine with another manifest."""
    copy = folder / "copy.ort"
    copy.write_bytes(engine.path.read_bytes())
    values = {**json.loads(engine.manifest_path.read_text()), **changes}
    kept = {key: value for key, value in values.items() if value is not GONE}
    copy.with_name("copy.ort.json").write_text(json.dumps(kept))
    return copy


@pytest.mark.parametrize("changes", DAMAGES, ids=str)
def test_a_damaged_manifest_is_described_alike(changes, engine, library, tmp_path):
    assert_alike(library, edited(engine, tmp_path, **changes))


def test_the_keys_of_a_manifest_are_those_of_python():
    text = (ROOT / "cpp" / "src" / "manifest.cpp").read_text()
    record = text.partition("const Record MANIFEST = ")[2].partition("};")[0]

    names = re.findall(r'\{"(\w+)", (?:TEXT|INTEGER|one_of|or_null|record_of|list_of)', record)

    assert set(names) == {field.name for field in fields(Manifest)}


@pytest.mark.parametrize(
    "changes",
    [
        {"sha256": "0" * 64},
        {"runtime_version": "1.0.0"},
        {"machine": "riscv64"},
        {"runtime": "tensorrt"},
    ],
    ids=str,
)
def test_an_engine_that_does_not_fit_is_refused(changes, engine, library, tmp_path):
    path = edited(engine, tmp_path, **changes)

    if "runtime" in changes:  # Python goes on to look for a driver
        assert refusal_of(library, path).problem == (
            f"{path}: is made for tensorrt, which this library was built without"
        )
    else:
        assert_alike(library, path)


def test_a_byte_that_changed_is_found(engine, library, tmp_path):
    path = edited(engine, tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    assert_alike(library, path)


@pytest.mark.parametrize("name", ["no.onnx", "no.ort", "no.plan", "no.txt", "no"])
def test_a_missing_file_is_refused(name, library, tmp_path):
    path = tmp_path / name

    if name.endswith((".txt", "no")):  # to Python a name without a suffix is a model
        assert refusal_of(library, path).problem.endswith(
            "is not an artifact; wanted .onnx, .ort or .plan"
        )
    else:
        assert_alike(library, path)


def test_a_missing_manifest_is_refused(engine, library, tmp_path):
    path = edited(engine, tmp_path)
    path.with_name("copy.ort.json").unlink()

    assert_alike(library, path)


@pytest.mark.parametrize("text", ["", "{", "[1]", "nul", '{"a": 1}}'])
def test_a_manifest_that_is_no_json_object_is_refused(text, engine, library, tmp_path):
    path = edited(engine, tmp_path)
    path.with_name("copy.ort.json").write_text(text)

    expected, found = python_refusal(path).problem, refusal_of(library, path).problem

    assert found.partition("(")[0] == expected.partition("(")[0]  # each parser has its own reason


def test_a_graph_without_a_manifest_is_refused(exported, library, tmp_path):
    model = onnx.load(exported(Method.FCN).path)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")

    assert_alike(library, tmp_path / "bare.onnx")


@pytest.mark.parametrize(("key", "value"), [("batch", "true"), ("schema", "9"), ("model", '""')])
def test_a_damaged_manifest_of_a_graph_is_refused(key, value, exported, library, tmp_path):
    model = onnx.load(exported(Method.FCN).path)
    for entry in model.metadata_props:
        if entry.key == f"segdeploy.{key}":
            entry.value = value
    onnx.save(model, tmp_path / "damaged.onnx")

    assert_alike(library, tmp_path / "damaged.onnx")


def test_weights_in_another_file_are_refused(exported, library, tmp_path):
    model = onnx.load(exported(Method.FCN).path)
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/hostname")
    path = tmp_path / "outside.onnx"
    path.write_bytes(model.SerializeToString())  # onnx.save would read that file

    assert_alike(library, path)


@pytest.mark.parametrize("data", [b"", b"\x08", b"not an ONNX file", b"\x72\x7f", b"\xff" * 40])
def test_a_file_that_is_no_graph_is_refused(data, library, tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(data)

    found = refusal_of(library, path).problem

    assert re.match(f"{path}: (is not a valid ONNX file|carries no segdeploy manifest)", found)
    assert python_refusal(path)


def test_a_graph_that_onnxruntime_refuses_is_described(exported, library, tmp_path):
    model = onnx.load(exported(Method.FCN).path)
    model.graph.node[0].op_type = "NoSuchOperator"
    path = tmp_path / "odd.onnx"
    onnx.save(model, path)

    assert re.match(
        rf"{path}: ONNX Runtime [\d.]+ cannot load it \(", refusal_of(library, path).problem
    )


def test_a_graph_of_other_shapes_than_its_manifest_is_refused(exported, library, tmp_path):
    graph = exported(Method.FCN)
    model = onnx.load(graph.path)
    manifest = replace(read_graph(graph.path).manifest, size=Size(32, 96))
    onnx.helper.set_model_props(model, manifest.to_strings())
    onnx.save(model, tmp_path / "other.onnx")

    found = refusal_of(library, tmp_path / "other.onnx")

    assert found.status == MISFIT
    assert "has the tensors image uint8 1x64x96x3, " in found.problem


@pytest.mark.parametrize(
    ("device", "problem"),
    [
        ("gpu", "device 'gpu'; wanted cpu, cuda or cuda:N"),
        ("cuda:x", "device 'cuda:x'; wanted cpu, cuda or cuda:N"),
        ("cuda:1", "is optimized for the CPU, asked for cuda:1"),
    ],
)
def test_a_device_that_cannot_be_had_is_refused(device, problem, engine, library):
    found = refusal_of(library, engine.path, device=device).problem

    assert found.endswith(problem)
    with pytest.raises(SegdeployError) as caught, segdeploy.open(engine.path, device):
        pass
    assert found == caught.value.problem


@pytest.mark.parametrize("runtime", ["/nowhere/libonnxruntime.so", __file__])
def test_a_missing_onnxruntime_is_described(runtime, engine, library):
    found = refusal_of(library, engine.path, runtime=runtime)

    assert found.problem.startswith(f"ONNX Runtime cannot be loaded ({runtime}: ")
    assert "onnxruntime_library" in found.hint


def test_another_library_is_not_taken_for_onnxruntime(build, engine, library):
    runtime = str(build / "libsegdeploy.so")

    assert refusal_of(library, engine.path, runtime=runtime).problem == (
        f"{runtime}: is not ONNX Runtime (it has no OrtGetApiBase)"
    )
