"""A lock holds all that a result depends on, and names what differs."""

import json
from dataclasses import asdict, replace

import pytest

from segdeploy.artifacts import Store, sha256_of
from segdeploy.bench.lock import Lock, check_lock, fingerprint, make_lock
from segdeploy.bench.measure import BenchOptions
from segdeploy.datasets import open_dataset
from segdeploy.environment import installed_version
from segdeploy.errors import SegdeployError
from segdeploy.recipes import MODELS, load_suite

LOCK = Lock(
    suite="quick",
    suite_sha256="a",
    seed=0,
    code="1234",
    versions={"python": "3.11.7", "numpy": "2.1"},
    weights={"demo": "abc", "fcn-ade20k": "random:0"},
    data={"demo": "val, 100 images, sha256 d"},
    recipes={"models/demo.toml": "e"},
)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"suite_sha256": "b"}, "suite sha256 is b, the lock says a"),
        ({"seed": 3}, "seed is 3, the lock says 0"),
        ({"device": "cuda:0"}, "device is cuda:0, the lock says missing"),
        ({"code": "1234 with changes"}, "code is 1234 with changes, the lock says 1234"),
        ({"versions": {"python": "3.11.7", "numpy": "2.2"}}, "numpy is 2.2, the lock says 2.1"),
        ({"versions": {"python": "3.11.7"}}, "numpy is missing, the lock says 2.1"),
        (
            {"versions": {**LOCK.versions, "onnxruntime": "1.32.0"}},
            "onnxruntime is 1.32.0, the lock says missing",
        ),
        (
            {"weights": {"demo": "xyz", "fcn-ade20k": "random:0"}},
            "weight of demo is xyz, the lock says abc",
        ),
        ({"data": {"demo": "none: speed only"}}, "data of demo is none: speed only, the lock"),
        ({"recipes": {}}, "recipe of models/demo.toml is missing"),
    ],
    ids=str,
)
def test_whatever_differs_is_named(change, named):
    with pytest.raises(SegdeployError, match=named):
        check_lock(LOCK, replace(LOCK, **change))


def test_the_command_and_the_result_may_differ():
    check_lock(LOCK, replace(LOCK, command="another", result="b.json", result_sha256="f"))


def test_all_differences_are_told():
    here = replace(LOCK, seed=1, code="5678")

    with pytest.raises(SegdeployError, match=r"seed is 1.*\(and 1 more\)") as caught:
        check_lock(LOCK, here)

    assert caught.value.hint == "code is 5678, the lock says 1234"


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


def test_a_later_schema_is_refused(tmp_path):
    replace(LOCK, schema=9).write(tmp_path / "lock.json", None)

    with pytest.raises(SegdeployError, match="lock of schema 9"):
        Lock.load(tmp_path / "lock.json")


def test_a_lock_is_of_what_is_here(tmp_path):
    options = BenchOptions(dataset="demo", store=Store(tmp_path))
    city = replace(options, dataset="cityscapes", speed_only=True)

    lock = make_lock(
        load_suite("demo"), {"demo": (None, options), "fcn-cityscapes": ("random:2", city)}
    )

    assert lock.versions["numpy"] == installed_version("numpy")
    assert lock.weights == {"demo": sha256_of(MODELS / "demo.pth"), "fcn-cityscapes": "random:2"}
    assert lock.data["cityscapes"] == "none: speed only"
    assert lock.data["demo"].startswith("val, 100 images, sha256 ")


def test_other_images_have_another_fingerprint():
    val, train = (open_dataset("demo", None, split) for split in ("val", "train"))

    assert fingerprint(val) == fingerprint(val) != fingerprint(train)
