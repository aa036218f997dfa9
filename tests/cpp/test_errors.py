"""What C++ refuses, it refuses in the words of Python."""

import json
import re
from dataclasses import asdict

import onnx
import pytest
from c_library import MISFIT, Refusal
from cpp_build import SIZE, run
from cpp_refusals import assert_alike, edited, python_refusal, refusal_of, with_metadata

import segdeploy
from segdeploy.artifacts import sha256_of
from segdeploy.errors import SegdeployError
from segdeploy.runtime import RunOptions
from segdeploy.spec import ClassSet, Method, Output

pytestmark = pytest.mark.xdist_group("cpp")


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


@pytest.mark.parametrize("runtime", [None, "pytorch"])
def test_an_engine_of_no_runtime_is_refused(runtime, engine, library, tmp_path):
    assert_alike(library, edited(engine, tmp_path, runtime=runtime))


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


def test_weights_in_another_file_are_refused(exported, library, tmp_path):
    model = onnx.load(exported(Method.FCN).path)
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/hostname")
    path = tmp_path / "outside.onnx"
    path.write_bytes(model.SerializeToString())  # onnx.save would read that file

    assert_alike(library, path)


def test_a_graph_by_the_name_of_an_engine_is_refused(
    exported, engine, library, tmp_path, monkeypatch
):
    """Its weights in another file, which nobody searched for, would be read."""
    monkeypatch.chdir(tmp_path)  # where ONNX Runtime looks for files of a graph without a path
    path = tmp_path / "copy.ort"
    onnx.save(onnx.load(exported(Method.FCN).path), path, format="protobuf",
              save_as_external_data=True, location="weights.bin", size_threshold=0)  # fmt: skip
    data = path.read_bytes()
    edited(engine, tmp_path, mask="graph", sha256=sha256_of(path))
    path.write_bytes(data)

    expected, found = python_refusal(path).problem, refusal_of(library, path).problem

    assert found.partition("(")[0] == expected.partition("(")[0]
    assert "verification failed" in found


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
    for key, value in (("size", "[32, 96]"), ("output", '"logits"')):
        path = with_metadata(exported(Method.FCN), key, value, tmp_path)

        found = refusal_of(library, path)

        assert found.status == MISFIT
        assert f"{path}: has the tensors image uint8 1x64x96x3, " in found.problem
        assert found.problem.endswith(", its manifest has others")


def test_a_graph_of_two_inputs_is_refused(exported, library, tmp_path):
    model = onnx.load(exported(Method.FCN).path)
    model.graph.input.append(onnx.helper.make_tensor_value_info("more", 1, [1]))
    path = tmp_path / "two.onnx"
    onnx.save(model, path)

    assert refusal_of(library, path).problem == (
        f"{path}: has 2 inputs and 1 outputs; wanted one uint8 input and one output"
    )


def test_a_manifest_that_names_too_few_classes_does_no_harm(exported, library, tmp_path, blocks):
    """Memory for the result is as large as it says: ONNX Runtime refuses to write there."""
    graph = exported(Method.FCN, output=Output.LOGITS)
    classes = ClassSet.numbered(5)  # of 7
    path = with_metadata(graph, "classes", json.dumps(asdict(classes)), tmp_path)

    with (
        library.open(path) as engine,
        engine.session() as session,
        pytest.raises(Refusal, match="an image batch of shape 1x64x96x3 was refused"),
    ):
        session.run_logits(blocks(SIZE), (1, 5, 8, 12))


@pytest.mark.parametrize(
    ("device", "problem"),
    [
        ("gpu", "device 'gpu'; wanted cpu, cuda or cuda:N"),
        ("cuda:x", "device 'cuda:x'; wanted cpu, cuda or cuda:N"),
        ("cuda:1", "is optimized for the CPU, asked for cuda:1"),
        ("cuda", "is optimized for the CPU, asked for cuda:0"),
    ],
)
def test_a_device_that_cannot_be_had_is_refused(device, problem, engine, library):
    found = refusal_of(library, engine.path, device=device).problem

    assert found.endswith(problem)
    with pytest.raises(SegdeployError) as caught, segdeploy.open(engine.path, device):
        pass
    assert found == caught.value.problem


def test_a_plan_does_not_run_on_the_cpu(engine, library, tmp_path):
    path = edited(engine, tmp_path, runtime="tensorrt")
    with pytest.raises(SegdeployError) as caught, segdeploy.open(path, "cpu"):
        pass

    found = refusal_of(library, path, device="cpu")

    assert (found.problem, found.hint) == (caught.value.problem, caught.value.hint)


def test_a_graph_runs_on_the_cpu_alone(exported, library):
    path = exported(Method.FCN).path

    assert refusal_of(library, path, device="cuda:1").problem == (
        f"{path}: a graph runs on the CPU in C++, asked for cuda:1"
    )


@pytest.mark.parametrize("threads", [-1, 1025, 2**31 - 1])
def test_threads_that_no_machine_has_are_refused(threads, engine, library):
    with pytest.raises(SegdeployError) as caught:
        RunOptions(threads=threads)

    found = refusal_of(library, engine.path, threads=threads).problem

    assert found == caught.value.problem == f"threads: are {threads}; wanted 0 to 1024"


@pytest.mark.parametrize("name", ["memory.onnx", "memory.ort"])
def test_a_file_that_cannot_be_read_is_refused(name, engine, library, tmp_path):
    path = tmp_path / name
    path.symlink_to("/proc/self/mem")  # which root cannot read either
    (tmp_path / "memory.ort.json").write_bytes(engine.manifest_path.read_bytes())

    assert refusal_of(library, path).problem == f"{path}: cannot be read"


@pytest.mark.parametrize("runtime", ["/nowhere/libonnxruntime.so", __file__])
def test_a_missing_onnxruntime_is_described(runtime, engine, library):
    found = refusal_of(library, engine.path, runtime=runtime)

    assert found.problem.startswith(f"ONNX Runtime cannot be loaded ({runtime}: ")
    assert "onnxruntime_library" in found.hint


OLD_ONNXRUNTIME = """
struct base { const void* (*get_api)(unsigned); const char* (*version)(void); };
static const void* get_api(unsigned version) { (void)version; return 0; }
static const char* version(void) { return "1.19.2"; }
static const struct base found = {get_api, version};
const struct base* OrtGetApiBase(void) { return &found; }
"""


def test_an_old_onnxruntime_is_refused(engine, library, tmp_path):
    source, runtime = tmp_path / "old.c", tmp_path / "libold.so"
    source.write_text(OLD_ONNXRUNTIME)
    run("cc", "-shared", "-fPIC", source, "-o", runtime)

    assert refusal_of(library, engine.path, runtime=str(runtime)).problem == (
        "ONNX Runtime 1.19.2 is too old; wanted 1.20 or newer"
    )


def test_another_library_is_not_taken_for_onnxruntime(build, engine, library):
    runtime = str(build / "libsegdeploy.so")

    assert refusal_of(library, engine.path, runtime=runtime).problem == (
        f"{runtime}: is not ONNX Runtime (it has no OrtGetApiBase)"
    )
