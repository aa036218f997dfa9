"""`segdeploy bench --suite`: what it refuses, before anything is measured."""

import pytest

from segdeploy.bench.lock import make_lock
from segdeploy.bench.suite import SuiteOptions, plan_suite
from segdeploy.recipes import load_suite


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--limit", 7], "--limit"),
        (["--seconds", 60], "--seconds"),  # though it is the default
        (["fcn-cityscapes", "--precision", "int8", "--mode", "slide"], "MODEL --precision --mode"),
        (["--dataset", "ade20k", "--speed-only", "--tta"], "--dataset --speed-only --tta"),
    ],
)
def test_an_option_that_a_suite_does_not_use_is_refused_by_name(segdeploy, arguments, named):
    ended = segdeploy("bench", "--suite", "demo", *arguments)

    words = ended.err.replace("│", " ").split()
    assert ended.code == 2
    assert [word.strip(",") for word in words[words.index("out") + 1 : -1]] == named.split()


@pytest.mark.parametrize("option", ["--lock", "--locked"])
def test_a_lock_takes_no_other_option_either(segdeploy, tmp_path, option):
    ended = segdeploy("bench", option, tmp_path / "lock.json", "--limit", 7)

    assert ended.code == 2
    assert "leave out --limit" in ended.err


def test_a_lock_alone_says_what_it_goes_with(segdeploy):
    segdeploy("bench", "--lock", "lock.json").assert_error("--lock goes with --suite")


def test_a_lock_of_a_suite_of_ones_own_asks_for_its_file(segdeploy, tmp_path):
    suite = load_suite("demo")
    place = tmp_path / "mine.lock.json"
    mine = make_lock(suite, list(plan_suite(suite, SuiteOptions())))
    mine.write(place, None)
    place.write_text(place.read_text().replace('"suite": "demo"', '"suite": "mine"'))

    ended = segdeploy("bench", "--locked", place)

    ended.assert_error("is of mine, which is no suite")
    assert "--suite mine.toml" in ended.err


def test_a_misspelt_data_set_is_told_by_its_name(segdeploy, tmp_path):
    place = tmp_path / "mine.toml"
    place.write_text(
        """seed = 0
[[runs]]
models = ["demo"]
dataset = "cityscape"
precisions = ["fp32"]
runtimes = ["onnxruntime"]
seconds = 1
weights = "at-hand"
accuracy = true
"""
    )

    segdeploy("bench", "--suite", place).assert_error("'cityscape' is neither a data set nor")
