"""Suites are read whole, and a slip in one of them is named."""

from pathlib import Path

import pytest

from segdeploy import recipes
from segdeploy.errors import SegdeployError
from segdeploy.recipes import (
    load_suite,
    suite_names,
)
from segdeploy.spec import Runtime

SUITE = """seed = 0
[[runs]]
models = ["demo"]
dataset = "demo"
precisions = ["fp32"]
runtimes = ["onnxruntime"]
seconds = 6
weights = "random"
accuracy = false
"""


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", suite_names())
def test_every_suite_loads_and_every_key_says_why(name):
    text = (recipes.BENCHMARKS / "suites" / f"{name}.toml").read_text()
    silent = [line for line in text.splitlines() if " = " in line and "  # " not in line]

    suite = load_suite(name)

    assert suite.name == name
    assert len(suite.sha256) == 64
    assert [line for line in silent if not line.startswith("#")] == []


def test_a_suite_is_read_whole(tmp_path):
    suite = load_suite(write(tmp_path / "mine.toml", SUITE + "limit = 4\n"))

    (run,) = suite.runs
    assert (suite.seed, run.models, run.runtimes) == (0, ("demo",), (Runtime.ONNXRUNTIME,))
    assert (run.seconds, run.weights, run.accuracy, run.limit) == (6, "random", False, 4)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("seed = 0", "sead = 0", "unexpected key `sead`"),
        ("dataset =", "data_set =", "unexpected key `data_set`"),
        ("seconds = 6\n", "", "the key `seconds` is missing"),
        ("seconds = 6", "seconds = 0", "seconds = 0; wanted more than none"),
        ("accuracy = false", "accuracy = 0", "accuracy = 0; wanted true or false"),
        ('weights = "random"', 'weights = "any"', "weights = 'any'; wanted one of at-hand, random"),
        ('models = ["demo"]', 'models = ["dema"]', "models = 'dema'; wanted one of"),
        ('models = ["demo"]', "models = []", r"models = \[\]; wanted more than none"),
        ('precisions = ["fp32"]', 'precisions = ["fp23"]', "precisions = 'fp23'; wanted one of"),
        ("[[runs]]", "runs = []\n[other]", "unexpected key `other`"),
    ],
)
def test_a_slip_in_a_suite_is_named(tmp_path, old, new, problem):
    place = write(tmp_path / "mine.toml", SUITE.replace(old, new))

    with pytest.raises(SegdeployError, match=problem):
        load_suite(place)


def test_a_suite_without_runs_and_an_unknown_suite_are_errors(tmp_path):
    with pytest.raises(SegdeployError, match="has no run"):
        load_suite(write(tmp_path / "mine.toml", "seed = 0\nruns = []\n"))
    with pytest.raises(SegdeployError, match="'quik' is not a suite") as caught:
        load_suite("quik")

    assert caught.value.hint == "one of demo, quick, reference, or a TOML file"
