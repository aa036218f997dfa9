"""A lock holds all that a result depends on, and names what differs."""

import json
from dataclasses import asdict, replace

import pytest

from segdeploy.artifacts import sha256_of
from segdeploy.bench import lock as lock_module
from segdeploy.bench.lock import Lock, LockedRun, check_lock, fingerprint, make_lock
from segdeploy.bench.run import Comparison, Run
from segdeploy.bench.suite import SuiteOptions, plan_suite
from segdeploy.datasets import open_dataset
from segdeploy.environment import installed_version
from segdeploy.errors import SegdeployError
from segdeploy.recipes import BENCHMARKS, MODELS, Suite, load_suite
from segdeploy.spec import Device, Runtime

DEMO = LockedRun(model="demo", weights="abc", dataset="demo", data="val, 100 images, sha256 d")
RANDOM = LockedRun(model="demo", weights="random:0", dataset="demo", data="none: speed only")
LOCK = Lock(
    suite="quick",
    suite_sha256="a",
    seed=0,
    code="1234",
    versions={"python": "3.11.7", "numpy": "2.1"},
    source_sha256="f",
    runs=(DEMO, RANDOM),
    recipes={"models/demo.toml": "e"},
)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"suite_sha256": "b"}, "suite sha256 is b, the lock says a"),
        ({"seed": 3}, "seed is 3, the lock says 0"),
        ({"device": "cuda:0"}, "device is cuda:0, the lock says missing"),
        ({"source_sha256": "0" * 64}, "source sha256 is 000000000000, the lock says f"),
        ({"versions": {"python": "3.11.7", "numpy": "2.2"}}, "numpy is 2.2, the lock says 2.1"),
        ({"versions": {"python": "3.11.7"}}, "numpy is missing, the lock says 2.1"),
        (
            {"versions": {**LOCK.versions, "onnxruntime": "1.32.0"}},
            "onnxruntime is 1.32.0, the lock says missing",
        ),
        (
            {"runs": (DEMO, replace(RANDOM, weights="random:1"))},
            r"weights of demo \(run 2\) is random:1, the lock says random:0",
        ),
        (
            {"runs": (replace(DEMO, data="none: speed only"), RANDOM)},
            r"data of demo \(run 1\) is none: speed only, the lock",
        ),
        ({"runs": (DEMO,)}, "number of runs is 1, the lock says 2"),
        ({"recipes": {}}, "recipe of models/demo.toml is missing"),
    ],
    ids=str,
)
def test_whatever_differs_is_named(change, named):
    with pytest.raises(SegdeployError, match=named):
        check_lock(LOCK, replace(LOCK, **change))


def test_the_command_the_result_and_the_commit_of_the_same_modules_may_differ():
    here = replace(LOCK, command="another", result="b.json", result_sha256="f", code="5678")

    check_lock(LOCK, here)


def test_all_differences_are_told_with_what_makes_them_equal():
    versions = {"python": "3.11.7", "numpy": "2.2", "onnxruntime-gpu": "1.32.0"}
    here = replace(LOCK, seed=1, device="cuda:0", source_sha256="e", versions=versions)

    with pytest.raises(SegdeployError, match=r"seed is 1.*; device is.*; numpy is 2\.2") as caught:
        check_lock(LOCK, here)

    assert caught.value.hint == (
        "git checkout 1234; pip install numpy==2.1; pip uninstall onnxruntime-gpu; "
        "leave out --device"
    )


def test_another_suite_is_all_that_is_told():
    with pytest.raises(SegdeployError, match=r"^suite is demo, the lock says quick$") as caught:
        check_lock(LOCK, replace(LOCK, suite="demo", seed=1))

    assert caught.value.hint == "--suite quick"


def test_changes_that_no_commit_has_are_named():
    locked = replace(LOCK, code="1234 with changes")

    with pytest.raises(SegdeployError) as caught:
        check_lock(locked, replace(LOCK, source_sha256="e"))

    assert caught.value.hint == "it was made from a checkout with changes, which no commit has"


def test_a_lock_is_read_back(tmp_path):
    (tmp_path / "result.json").write_text("{}")
    LOCK.write(tmp_path / "lock.json", tmp_path / "result.json")

    found = Lock.load(tmp_path / "lock.json")

    assert replace(found, result="", result_sha256="") == LOCK
    assert found.result_sha256 == sha256_of(tmp_path / "result.json")


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        "{}",
        json.dumps({**asdict(LOCK), "sead": 1}),
        json.dumps({**asdict(LOCK), "seed": "0"}),
    ],
)
def test_what_is_no_lock_is_an_error(tmp_path, text):
    place = tmp_path / "lock.json"
    place.write_text(text)

    with pytest.raises(SegdeployError, match=r"lock\.json: is not a lock"):
        Lock.load(place)


def test_another_schema_is_refused_in_a_sentence(tmp_path):
    place = tmp_path / "lock.json"
    place.write_text(json.dumps({"schema": 1, "code": "94286d8e6940900a", "weights": {}}))

    with pytest.raises(SegdeployError, match="lock of schema 1, this version reads 2") as caught:
        Lock.load(place)

    assert "git checkout 94286d8e6940," in caught.value.hint


def test_the_committed_lock_is_of_the_committed_result():
    place = BENCHMARKS / "results" / "quick.lock.json"

    locked = json.loads(place.read_text())

    assert locked["result_sha256"] == sha256_of(place.with_name("quick.json"))


def planned(*runtimes: Runtime) -> tuple[Suite, list[Run]]:
    suite = load_suite("demo")
    chosen = tuple(replace(run, runtimes=runtimes or run.runtimes) for run in suite.runs)
    suite = replace(suite, runs=chosen)
    return suite, list(plan_suite(suite, SuiteOptions()))


def test_a_lock_is_of_what_is_here():
    suite, runs = planned()
    city = replace(runs[0].options, dataset="cityscapes", speed_only=True)
    fcn = Comparison(subjects=("fcn-cityscapes",), checkpoint="random:2")

    lock = make_lock(suite, [*runs, Run(fcn, city)])

    assert lock.versions["numpy"] == installed_version("numpy")
    demo, other = lock.runs
    assert demo.weights == sha256_of(MODELS / "demo.pth")
    assert demo.data.startswith("val, 100 images, sha256 ")
    assert (other.weights, other.data) == ("random:2", "none: speed only")
    assert "calibration/demo-64.toml" in lock.recipes
    assert "calibration/speed-only.toml" not in lock.recipes  # nothing is made int8 with it


def test_packages_of_runtimes_that_a_suite_does_not_use_may_be_there_or_not(monkeypatch):
    monkeypatch.setattr(lock_module, "installed_version", lambda _name: "1.0")

    on_cpu, on_rtx = make_lock(*planned()), make_lock(*planned(Runtime.TENSORRT_RTX))

    assert not {"tensorrt", "tensorrt-rtx", "cuda-python"} & on_cpu.versions.keys()
    assert {"onnxruntime", "torch", "numba"} <= on_cpu.versions.keys()
    assert {"tensorrt-rtx", "cuda-python"} <= on_rtx.versions.keys()
    assert "tensorrt" not in on_rtx.versions
    assert "tensorrt" in make_lock(*planned(), Device("cuda:0")).versions


def test_other_images_have_another_fingerprint():
    val, train = (open_dataset("demo", None, split) for split in ("val", "train"))

    assert fingerprint(val) == fingerprint(val) != fingerprint(train)
