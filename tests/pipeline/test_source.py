"""Weights are found where they were put, and an artifact's own are told from others."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from segdeploy.artifacts import Manifest, Store, sha256_of
from segdeploy.errors import SegdeployError
from segdeploy.pipeline.source import default_checkpoint, find_checkpoint, resolve_source
from segdeploy.recipes import load_model
from segdeploy.spec import ClassSet, Method

TOML = 'method = "fcn"\nlicense = "MIT"\nwidth = 0.35\nhead_channels = 16\n'


@pytest.fixture
def model(tmp_path) -> str:
    (tmp_path / "own.toml").write_text(TOML)
    return str(tmp_path / "own.toml")


def test_random_weights_are_named_by_their_seed(model, tmp_path):
    source = resolve_source(model, "random:7", Store(tmp_path))

    assert source.spec.name == "own"
    assert source.checkpoint.name == source.checkpoint.sha256 == "random:7"
    assert source.checkpoint.class_count == 19


@pytest.mark.parametrize("text", ["random:", "random:x", "random:-1", "random:" + "9" * 40])
def test_what_is_no_seed_is_refused(model, tmp_path, text):
    with pytest.raises(SegdeployError, match="wanted random:SEED"):
        resolve_source(model, text, Store(tmp_path))


def test_a_model_without_weights_asks_for_them(model, tmp_path):
    with pytest.raises(SegdeployError, match="own: which weights") as caught:
        resolve_source(model, None, Store(tmp_path))

    assert "--checkpoint" in caught.value.hint


def test_a_download_that_is_not_there_is_named_with_the_command(tmp_path):
    with pytest.raises(SegdeployError, match="fcn-ade20k: no checkpoint at") as caught:
        resolve_source("fcn-ade20k", None, Store(tmp_path))

    assert "segdeploy download fcn-ade20k" in caught.value.hint


def test_a_download_is_looked_for_where_it_is_put(tmp_path):
    spec, store = load_model("fcn-ade20k"), Store(tmp_path)
    place = store.checkpoint(Path(spec.checkpoint_url).name)
    place.parent.mkdir()
    place.write_bytes(b"weights")

    assert default_checkpoint(spec, store) == place


@pytest.fixture
def weights(tmp_path) -> Path:
    torch.save({"decode_head.conv_seg.weight": torch.ones(2, 2, 1, 1)}, tmp_path / "a.pth")
    return tmp_path / "a.pth"


@pytest.fixture
def manifest(weights) -> Manifest:
    """Of an artifact that was made of `weights`."""
    return Manifest(
        "fcn-ade20k",
        Method.FCN,
        ClassSet.numbered(2),
        checkpoint="a.pth",
        checkpoint_sha256=sha256_of(weights),
    )


def test_an_artifacts_own_checkpoint_is_told_by_its_content(manifest, weights, tmp_path):
    assert find_checkpoint(manifest, str(weights), Store(tmp_path)) == str(weights)


def test_another_checkpoint_than_the_artifacts_is_refused(manifest, weights, tmp_path):
    weights.write_bytes(b"something else")

    with pytest.raises(SegdeployError, match=r"the artifact was made of a\.pth"):
        find_checkpoint(manifest, str(weights), Store(tmp_path))


def test_a_named_checkpoint_that_is_not_there_is_an_error(manifest, tmp_path):
    with pytest.raises(SegdeployError, match=r"none\.pth: no such file"):
        find_checkpoint(manifest, str(tmp_path / "none.pth"), Store(tmp_path))


def test_a_downloaded_checkpoint_is_found_if_it_is_the_one(manifest, weights, tmp_path):
    store = Store(tmp_path / "store")
    assert find_checkpoint(manifest, None, store) is None

    place = store.checkpoint(Path(load_model("fcn-ade20k").checkpoint_url).name)
    place.parent.mkdir(parents=True)
    place.write_bytes(b"another version")
    assert find_checkpoint(manifest, None, store) is None

    place.write_bytes(weights.read_bytes())
    assert find_checkpoint(manifest, None, store) == str(place)


def test_random_weights_are_made_again_from_their_seed(manifest, tmp_path):
    random = replace(manifest, checkpoint="random:3", checkpoint_sha256="random:3")

    assert find_checkpoint(random, None, Store(tmp_path)) == "random:3"


def test_the_checkpoint_of_a_model_of_ones_own_is_not_guessed(manifest, tmp_path):
    own = replace(manifest, model="own", checkpoint="random:3", checkpoint_sha256="random:3")

    assert find_checkpoint(own, None, Store(tmp_path)) is None
