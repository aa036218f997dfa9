"""What C++ refuses, it refuses in the words of Python."""

import json
import re
import threading
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from c_library import ERROR, MISFIT, CImage, CLabels, Refusal, image_view, labels_view

import segdeploy
from segdeploy.artifacts import EnginePlan, Manifest
from segdeploy.errors import MisfitError, SegdeployError
from segdeploy.graph import read_graph
from segdeploy.pipeline.engines import build_engine
from segdeploy.runtime.lease import Lease
from segdeploy.spec import Method, Output, Precision, Runtime, Size

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


@pytest.fixture
def session(engine, library):
    with library.open(engine.path) as opened, opened.session() as made:
        yield made


BUFFER = np.zeros(2 * 64 * 96 * 3, np.uint8)
PLACE = BUFFER.ctypes.data
LABELS = CLabels(PLACE, 64, 96, 1, 0)


@pytest.mark.parametrize(
    ("image", "labels", "problem"),
    [
        (CImage(PLACE, 64, 95, 3, 0, 0), LABELS,
         "an image batch is 1x64x95x3; the engine takes 1x64x96x3"),
        (CImage(None, 64, 96, 3, 0, 0), LABELS, "image: has no memory"),
        (CImage(PLACE, -1, 96, 3, 0, 0), LABELS, "image: is -1x96; wanted 1 to 8192 a side"),
        (CImage(PLACE, 64, 96, 2, 0, 0), LABELS, "image: has 2 channels; wanted 3 or 4"),
        (CImage(PLACE, 64, 96, 3, 0, 5), LABELS,
         "image: has rows of 288 bytes and a stride of 5"),
        (CImage(PLACE, 64, 96, 3, 0, 0), CLabels(PLACE, 64, 96, 2, 0),
         "result: has labels of 2 bytes; wanted 1 or 4"),
        (CImage(PLACE, 64, 96, 3, 0, 0), CLabels(PLACE, 64, 95, 1, 0),
         "result: is 64x95; these images give 64x96"),
        (CImage(PLACE, 64, 96, 3, 0, 0), CLabels(None, 64, 96, 1, 0), "result: has no memory"),
    ],
)  # fmt: skip
def test_a_view_that_does_not_fit_is_refused(image, labels, problem, session):
    with pytest.raises(Refusal) as caught:
        session.run_views([image], [labels])

    assert caught.value.problem == problem


@pytest.mark.parametrize(("count", "problem"), [
    (0, "images: there are none; wanted 1 or more"),
    (2, "an image batch is 2x64x96x3; the engine takes 1x64x96x3"),
    (65, "images: are 65; wanted up to 64"),
])  # fmt: skip
def test_a_batch_that_does_not_fit_is_refused(count, problem, session):
    views = [CImage(PLACE, 64, 96, 3, 0, 0)] * count

    with pytest.raises(Refusal) as caught:
        session.run_views(views, [LABELS] * count)

    assert caught.value.problem == problem


def test_what_an_artifact_does_not_return_is_refused(session, exported, library, blocks):
    graph = exported(Method.FCN, output=Output.LOGITS)

    with pytest.raises(Refusal, match="returns labels, asked for logits"):
        session.run_logits(blocks(SIZE), (1, 7, 8, 12))
    with library.open(graph.path) as opened, opened.session() as of_logits:
        with pytest.raises(Refusal, match="returns logits, asked for labels"):
            of_logits.run(blocks(SIZE))
        with pytest.raises(Refusal, match="has 5 floats; these images give 1x7x8x12"):
            of_logits.run_logits(blocks(SIZE), (5,))


def test_a_session_on_the_cpu_has_no_stream(session, blocks):
    images = blocks(SIZE)

    with pytest.raises(Refusal, match="a session on the CPU has no stream"):
        session.enqueue(images, np.zeros(images.shape[:3], np.uint8), stream=1)


def test_scores_that_are_no_numbers_are_refused(artifacts, library, tmp_path, blocks):
    source = artifacts(Method.FCN, Precision.FP32)["graph"].path
    model = onnx.load(source)
    bias = next(t for t in model.graph.initializer if "conv_seg" in t.name and "bias" in t.name)
    values = onnx.numpy_helper.to_array(bias).copy()
    values[:] = np.inf
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    onnx.save(model, tmp_path / "infinite.onnx")
    broken = build_engine(
        read_graph(tmp_path / "infinite.onnx"), Runtime.ONNXRUNTIME, tmp_path / "infinite.ort"
    ).plan.path

    with library.open(broken) as engine, engine.session() as made, pytest.raises(Refusal) as caught:
        made.run(blocks(SIZE))

    assert caught.value.problem == "the network's scores are not finite numbers"
    assert caught.value.status == ERROR


def test_a_fork_is_refused_in_the_words_of_python(session, in_fork, blocks):
    images = blocks(SIZE)
    session.run(images)
    lease = Lease("a session of narrow-fcn")

    found, expected = in_fork(lambda: outcome(session, images)), in_fork(lease.check)

    assert found == (str(expected), expected.hint)


def outcome(session, images):
    try:
        session.run(images)
    except Refusal as refusal:
        return refusal.problem, refusal.hint
    return None


def test_two_threads_in_one_session_are_refused(engine, library, blocks):
    image, labels = blocks(SIZE)[0], np.zeros(SIZE, np.uint8)
    views = [image_view(image)], [labels_view(labels)]
    refused: list[Refusal] = []
    with library.open(engine.path) as opened, opened.session() as shared:

        def keep_running():
            for _ in range(100):
                try:
                    shared.run_views(*views)
                except Refusal as refusal:
                    refused.append(refusal)

        threads = [threading.Thread(target=keep_running) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert {str(refusal) for refusal in refused} == {
        "a session of narrow-fcn: is in use by another thread"
    }
