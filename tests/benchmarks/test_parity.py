"""The comparison with saved references, on references made by the network itself."""

import json

import numpy as np
import parity
import pytest
import torch

from segdeploy.datasets.scenes import draw_scene
from segdeploy.images import network_input
from segdeploy.masks import labels_from_logits
from segdeploy.nets.checkpoint import random_checkpoint
from segdeploy.recipes import load_model
from segdeploy.runtime.pytorch import PyTorchSession
from segdeploy.spec import Output, Size

CASE, SCALE, ORIGINAL = "60x80_to_256x96", (256, 96), Size(60, 80)


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    """demo.pth and one reference, as the network in PyTorch makes it."""
    folder = tmp_path_factory.mktemp("references")
    spec = load_model("demo")
    checkpoint = random_checkpoint(spec, 0)
    torch.save({"state_dict": checkpoint.state}, folder / "demo.pth")
    image = draw_scene(3, ORIGINAL)[0]
    fitted = network_input(image, SCALE)
    with PyTorchSession(spec, checkpoint, output=Output.LOGITS, threads=1) as session:
        logits = session.run(fitted[None])
    label = labels_from_logits(logits, Size(*fitted.shape[:2]), ORIGINAL)
    np.savez(
        folder / f"demo__{CASE}.npz",
        image_rgb=image,
        resized_bgr=fitted[..., ::-1],
        logits=logits,
        label=label,
        margin=np.ones(ORIGINAL, np.float32),
    )
    return folder


@pytest.mark.slow
def test_equal_networks_have_equal_labels_and_a_wrong_label_is_counted(references, tmp_path):
    spoiled = dict(np.load(references / f"demo__{CASE}.npz"))
    spoiled["label"][5, 7] ^= 1
    np.savez(references / f"demo__spoiled_{CASE.partition('_')[2]}.npz", **spoiled)

    parity.main(references, tmp_path / "rows.json")

    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    equal = {row["runtime"]: row for row in rows if row["case"] == CASE}
    wrong = [row for row in rows if row["case"] != CASE]
    assert equal["pytorch"]["logit_error"] == 0
    assert equal["onnxruntime"]["logit_error"] < 2e-3
    assert all(row["same_input"] and row["different_labels"] == 0 for row in equal.values())
    assert len(wrong) == len(equal)
    assert all(row["different_labels"] == 1 and row["widest_margin"] == 1 for row in wrong)
