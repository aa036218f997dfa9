"""What C++ and Python say of the same file, and files to be refused."""

import json
from pathlib import Path

import onnx
import pytest
from c_library import MISFIT, Refusal

import segdeploy
from segdeploy.artifacts import EnginePlan, Graph
from segdeploy.errors import MisfitError, SegdeployError

GONE = ...  # in place of a value: the key is taken out


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
    wanted = (expected.problem, expected.hint, isinstance(expected, MisfitError))
    said = (found.problem, found.hint, found.status == MISFIT)

    assert said == wanted, f"{said} instead of {wanted}"


def edited(engine: EnginePlan, folder: Path, **changes: object) -> Path:
    """A copy of an engine with another manifest."""
    copy = folder / "copy.ort"
    copy.write_bytes(engine.path.read_bytes())
    values = {**json.loads(engine.manifest_path.read_text()), **changes}
    kept = {key: value for key, value in values.items() if value is not GONE}
    copy.with_name("copy.ort.json").write_text(json.dumps(kept))
    return copy


def with_metadata(graph: Graph, key: str, value: str, folder: Path) -> Path:
    """A copy with another value of one key."""
    model = onnx.load(graph.path)
    for entry in model.metadata_props:
        if entry.key == f"segdeploy.{key}":
            entry.value = value
    onnx.save(model, folder / "changed.onnx")
    return folder / "changed.onnx"
