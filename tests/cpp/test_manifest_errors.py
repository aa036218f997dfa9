"""A manifest that C++ refuses, it refuses in the words of Python."""

import json
import re
from dataclasses import fields
from pathlib import Path

import onnx
import pytest
from cpp_refusals import GONE, assert_alike, edited, python_refusal, refusal_of, with_metadata

from segdeploy.artifacts import Manifest
from segdeploy.spec import Method

pytestmark = pytest.mark.xdist_group("cpp")
ROOT = Path(__file__).parents[2]

DAMAGES = [
    {"schema": GONE},
    {"schema": None},
    {"schema": 3},
    {"schema": "2"},
    {"schema": True},
    {"schema": 0},
    {"widht": 1},
    {"zeta": 1, "alpha": 2},
    {"": 1},
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
    {"classes": {"names": ["a", "b"], "palette": [[1, 2, 3], [1, 2, 3]], "": 1}},
    {"normalization": {"mean": [1, 2, 3], "std": [1, 0, 1]}},
    {"normalization": {"mean": [1, 2, 3]}},
    {"normalization": {"mean": [1, 2, "3"], "std": [1, 1, 1]}},
    {"batch_norms": [{"weight": "w", "means": [1.5], "deviations": [-1]}]},
    {"batch_norms": [{"weight": "w", "means": [], "deviations": []}]},
    {"build": 3},
    {"build": {"os": "Linux x86_64"}},
]


@pytest.mark.parametrize("changes", DAMAGES, ids=str)
def test_a_damaged_manifest_is_described_alike(changes, engine, library, tmp_path):
    assert_alike(library, edited(engine, tmp_path, **changes))


@pytest.mark.parametrize("count", [64, 65])
@pytest.mark.parametrize("place", ["itself", "classes"])
def test_an_object_of_many_keys_is_described_alike(place, count, engine, library, tmp_path):
    keys = {"schema": 2} | {f"k{k}": k for k in range(1, count)}
    path = edited(engine, tmp_path, classes=keys)
    if place == "itself":
        path.with_name("copy.ort.json").write_text(json.dumps(keys))

    assert ("has an object of 65 keys; wanted up to 64" in python_refusal(path).problem) == (
        count == 65
    )
    assert_alike(library, path)


def test_an_object_of_many_keys_in_a_graph_is_described_alike(exported, library, tmp_path):
    keys = json.dumps({f"k{k}": k for k in range(65)})
    path = with_metadata(exported(Method.FCN), "classes", keys, tmp_path)

    assert python_refusal(path).problem == f"{path}: has an object of 65 keys; wanted up to 64"
    assert_alike(library, path)


@pytest.mark.parametrize(
    "changes",
    [
        {"workspace_bytes": 0},
        {"optimization_level": 6},
        {"optimization_level": -1},
        {"compute_capabilities": ["8"]},
        {"compute_capabilities": ["8.9", "8.x"]},
        {"hardware": "any"},
        {"profiles": [[{"tensor": "image"}]]},
        {"tf32": 0},
    ],
    ids=str,
)
def test_a_damaged_record_of_a_build_is_described_alike(changes, engine, library, tmp_path):
    record = json.loads((ROOT / "cpp" / "fuzz" / "seed.json").read_text())["build"]
    record["options"] |= changes

    assert_alike(library, edited(engine, tmp_path, build=record))


def test_the_keys_of_a_manifest_are_those_of_python():
    text = (ROOT / "cpp" / "src" / "manifest.cpp").read_text()
    record = text.partition("const Record MANIFEST = ")[2].partition("};")[0]

    names = re.findall(r'\{"(\w+)", (?:TEXT|INTEGER|one_of|or_null|record_of|list_of)', record)

    assert set(names) == {field.name for field in fields(Manifest)}


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


def test_metadata_that_is_no_json_is_refused(exported, library, tmp_path):
    path = with_metadata(exported(Method.FCN), "batch", "{", tmp_path)

    expected, found = python_refusal(path).problem, refusal_of(library, path).problem

    assert found.partition("(")[0] == expected.partition("(")[0]
    assert "its segdeploy metadata is damaged (" in found


@pytest.mark.parametrize(("key", "value"), [("batch", "true"), ("schema", "9"), ("model", '""')])
def test_a_damaged_manifest_of_a_graph_is_refused(key, value, exported, library, tmp_path):
    assert_alike(library, with_metadata(exported(Method.FCN), key, value, tmp_path))
