"""Checkpoints as mmcv and mmengine wrote them are read; whatever else a file holds is not run."""

import io
import os
import pickle
import random
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segdeploy.errors import SegdeployError
from segdeploy.nets.checkpoint import (
    Checkpoint,
    StateDict,
    build_network,
    random_checkpoint,
    read_checkpoint,
)
from segdeploy.spec import ClassSet, Method, ModelSpec

CLASSES = ClassSet(("road", "car", "sky"), ((128, 64, 128), (0, 0, 142), (70, 130, 180)))
SPEC = ModelSpec("small", Method.FCN, CLASSES, width=0.35, head_channels=16)
LAST = "decode_head.conv_seg.weight"
FIRST_BN = "backbone.conv1.bn"


@pytest.fixture(scope="module")
def state() -> StateDict:
    return random_checkpoint(SPEC, seed=0).state


def mmcv_content(state: StateDict) -> dict[str, Any]:
    """What mmcv 1.x saves: the classes in `meta`, in capitals."""
    meta = {"epoch": 1, "CLASSES": CLASSES.names, "PALETTE": [list(rgb) for rgb in CLASSES.palette]}
    return {"meta": meta, "state_dict": OrderedDict(state)}


def save(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def assert_same(found: StateDict, expected: StateDict) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


class HistoryBuffer:
    """Like mmengine's: numpy arrays, and its own methods in a dict."""

    def __init__(self) -> None:
        self.values = np.arange(3.0)
        self.count = np.float64(2.5)
        self.statistics = OrderedDict(mean=self.mean, unbound=HistoryBuffer.mean)

    def mean(self) -> float:
        return float(self.values.mean())


@pytest.fixture
def mmengine_file(tmp_path, state, monkeypatch) -> Path:
    """A checkpoint that mmengine's runner saved, on a machine that has mmengine."""
    module = types.ModuleType("mmengine.logging.history_buffer")
    module.HistoryBuffer = HistoryBuffer
    monkeypatch.setattr(HistoryBuffer, "__module__", module.__name__)
    hub = {"log_scalars": OrderedDict({"train/loss": HistoryBuffer()}), "resumed_keys": {}}
    content = {
        "meta": {
            "dataset_meta": {"classes": CLASSES.names, "palette": list(map(list, CLASSES.palette))},
            "seed": 0,
        },
        "state_dict": OrderedDict(state),
        "message_hub": hub,
    }
    with monkeypatch.context() as patch:
        for name in ("mmengine", "mmengine.logging", module.__name__):
            patch.setitem(sys.modules, name, module)
        return save(tmp_path / "mmengine.pth", content)


def rewrite_pickle(path: Path, old: bytes, new: bytes) -> None:
    """Replace bytes in the pickle of a zip checkpoint."""
    with zipfile.ZipFile(path) as source:
        members = {name: source.read(name) for name in source.namelist()}
    name = next(name for name in members if name.endswith("data.pkl"))
    assert old in members[name]
    members[name] = members[name].replace(old, new)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
        for member, data in members.items():
            target.writestr(member, data)


def test_an_mmcv_checkpoint_is_read_with_its_classes(tmp_path, state):
    path = save(tmp_path / "mmcv.pth", mmcv_content(state))

    checkpoint = read_checkpoint(path)

    assert_same(checkpoint.state, state)
    assert checkpoint.classes == CLASSES
    assert checkpoint.class_count == 3
    assert checkpoint.name == "mmcv.pth"


def test_an_mmengine_checkpoint_is_read_without_mmengine(mmengine_file, state):
    assert "mmengine.logging.history_buffer" not in sys.modules

    checkpoint = read_checkpoint(mmengine_file)

    assert_same(checkpoint.state, state)
    assert checkpoint.classes == CLASSES


def test_a_checkpoint_written_with_numpy_1_is_read(mmengine_file, state):
    rewrite_pickle(mmengine_file, b"numpy._core.multiarray", b"numpy.core.multiarray")

    checkpoint = read_checkpoint(mmengine_file)

    assert_same(checkpoint.state, state)


def test_a_stream_of_before_pytorch_1_6_is_read(tmp_path, state):
    path = tmp_path / "legacy.pth"
    save(path, mmcv_content(state), _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(path)

    checkpoint = read_checkpoint(path)

    assert_same(checkpoint.state, state)
    assert checkpoint.classes == CLASSES


def test_a_bare_state_dict_is_read_without_classes(tmp_path, state):
    checkpoint = read_checkpoint(save(tmp_path / "bare.pth", state))

    assert_same(checkpoint.state, state)
    assert checkpoint.classes is None


def test_the_prefix_of_a_parallel_wrapper_is_dropped(tmp_path, state):
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}

    checkpoint = read_checkpoint(save(tmp_path / "wrapped.pth", {"state_dict": wrapped}))

    assert_same(checkpoint.state, state)


def test_half_weights_become_float(tmp_path, state):
    halves = {name: tensor.half() for name, tensor in state.items()}

    checkpoint = read_checkpoint(save(tmp_path / "half.pth", halves))

    assert_same(checkpoint.state, {name: tensor.float() for name, tensor in halves.items()})


def test_what_inference_does_not_use_is_left_out(tmp_path, state):
    unused = {
        f"{FIRST_BN}.num_batches_tracked": torch.tensor(7),
        "auxiliary_head.conv_seg.weight": torch.full((3, 8, 1, 1), torch.nan),
    }

    checkpoint = read_checkpoint(save(tmp_path / "all.pth", {"state_dict": state | unused}))

    assert_same(checkpoint.state, state)


def test_class_names_without_colours_get_some(tmp_path, state):
    content = {"meta": {"CLASSES": ["a", "b", "c"]}, "state_dict": state}

    checkpoint = read_checkpoint(save(tmp_path / "names.pth", content))

    assert checkpoint.classes == ClassSet(("a", "b", "c"), ClassSet.numbered(3).palette)


@pytest.mark.parametrize("palette", [[[1, 2]], "red", [[1, 2, 300]] * 3, [[1, 2, 3]] * 2])
def test_a_damaged_palette_is_refused(tmp_path, state, palette):
    content = {"meta": {"CLASSES": ["a", "b", "c"], "PALETTE": palette}, "state_dict": state}
    path = save(tmp_path / "palette.pth", content)

    with pytest.raises(SegdeployError, match=r"palette\.pth: its class names or palette"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({LAST: torch.full((3, 16, 1, 1), torch.nan)}, f"`{LAST}` holds NaN"),
        ({LAST: torch.full((3, 16, 1, 1), torch.inf)}, f"`{LAST}` holds NaN or infinite"),
        ({LAST: torch.ones(3, 16, 1, 1, dtype=torch.int64)}, "wanted floating point"),
        ({LAST: [1.0, 2.0]}, f"`{LAST}` is a list, not a tensor"),
    ],
    ids=["nan", "infinite", "integer", "list"],
)
def test_an_impossible_weight_is_refused_by_name(tmp_path, state, change, complaint):
    path = save(tmp_path / "odd.pth", state | change)

    with pytest.raises(SegdeployError, match=r"odd\.pth") as caught:
        read_checkpoint(path)

    assert complaint in caught.value.problem


class Hostile:
    """A pickle that runs a command when it is loaded without restriction."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.proof}",)


def plain_pickle(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


def legacy_stream(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("write", [torch.save, legacy_stream, plain_pickle])
def test_a_hostile_pickle_is_refused_and_not_run(tmp_path, write):
    proof, path = tmp_path / "proof", tmp_path / "hostile.pth"
    write({"state_dict": {}, "meta": {"env": Hostile(proof)}}, path)

    with pytest.raises(SegdeployError, match=r"hostile\.pth") as caught:
        read_checkpoint(path)

    assert not proof.exists()
    assert "system" in caught.value.problem
    assert "malicious" in caught.value.hint


def test_the_hostile_pickle_is_a_real_one(tmp_path):
    proof = tmp_path / "proof"

    pickle.loads(pickle.dumps(Hostile(proof)))

    assert proof.exists()


@pytest.mark.parametrize(
    "data", [b"", b"\x00" * 64, b"<html>404</html>", b"PK\x03\x04" + b"\x00" * 40, b"\x80\x02."]
)
def test_what_is_no_checkpoint_is_refused(tmp_path, data):
    path = tmp_path / "wrong.pth"
    path.write_bytes(data)

    with pytest.raises(SegdeployError, match=r"wrong\.pth: is not a PyTorch checkpoint"):
        read_checkpoint(path)


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_a_truncated_file_is_refused(tmp_path, state, is_zip):
    path = save(tmp_path / "cut.pth", state, _use_new_zipfile_serialization=is_zip)
    whole = path.read_bytes()

    for kept in (10, 500, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:kept])

        with pytest.raises(SegdeployError, match=r"cut\.pth: is not a PyTorch checkpoint"):
            read_checkpoint(path)


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_flipped_bytes_end_in_an_error_for_users_or_in_a_checkpoint(tmp_path, is_zip):
    buffer, dice = io.BytesIO(), random.Random(0)
    torch.save({LAST: torch.ones(3, 2, 1, 1)}, buffer, _use_new_zipfile_serialization=is_zip)
    path, refused = tmp_path / "flipped.pth", 0

    for _ in range(300):
        data = bytearray(buffer.getvalue())
        data[dice.randrange(len(data))] = dice.randrange(256)
        path.write_bytes(data)
        try:
            read_checkpoint(path)
        except SegdeployError:
            refused += 1

    assert refused > 100


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SegdeployError, match=r"absent\.pth: no such file"):
        read_checkpoint(tmp_path / "absent.pth")


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": [1]}, torch.ones(2)])
def test_a_file_without_a_state_dict_is_refused(tmp_path, content):
    path = save(tmp_path / "other.pth", content)

    with pytest.raises(SegdeployError, match=r"other\.pth"):
        read_checkpoint(path)


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    checkpoint = read_checkpoint(save(tmp_path / "resnet.pth", {"fc.weight": torch.ones(2, 2)}))

    with pytest.raises(SegdeployError, match=r"resnet\.pth: has no weight `decode_head\.conv_seg"):
        build_network(SPEC, checkpoint)


def build_with(state: StateDict, spec: ModelSpec = SPEC, classes: ClassSet | None = None) -> Any:
    return build_network(spec, Checkpoint("a.pth", "0" * 64, state, classes))


def test_the_network_has_every_weight_of_the_checkpoint(state):
    network, classes = build_with(state)

    found = network.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
    assert classes == CLASSES
    assert not network.training


def test_a_missing_statistic_is_refused_by_name(state):
    without = {k: v for k, v in state.items() if k != f"{FIRST_BN}.running_var"}

    with pytest.raises(SegdeployError, match=rf"`{FIRST_BN}\.running_var` is missing"):
        build_with(without)


def test_a_weight_of_another_shape_is_refused_with_both_shapes(state):
    wider = state | {f"{FIRST_BN}.weight": torch.ones(24)}

    with pytest.raises(SegdeployError, match=r"has shape \(24,\), wanted \(16,\)"):
        build_with(wider)


def test_an_unknown_weight_is_refused_by_name(state):
    extra = state | {"decode_head.gate.weight": torch.ones(1)}

    with pytest.raises(SegdeployError, match=r"`decode_head\.gate\.weight` has no place in a FCN"):
        build_with(extra)


def test_a_checkpoint_of_another_method_is_refused(state):
    other = ModelSpec("other", Method.PSPNET, CLASSES, width=0.35, head_channels=16)

    with pytest.raises(SegdeployError, match=r"is missing|no place") as caught:
        build_with(state, other)

    assert "PSPNet" in caught.value.hint


def test_another_number_of_classes_is_refused_with_the_way_around(state):
    spec = ModelSpec("nineteen", Method.FCN, ClassSet.numbered(19), width=0.35, head_channels=16)

    with pytest.raises(SegdeployError, match="has 3 classes, nineteen has 19") as caught:
        build_with(state, spec)

    assert caught.value.hint.endswith("fcn")


def test_names_that_do_not_fit_the_last_layer_are_refused(state):
    with pytest.raises(SegdeployError, match="names 2 classes but its last layer has 3"):
        build_with(state, classes=ClassSet.numbered(2))


def test_a_method_alone_takes_the_classes_from_the_file(state):
    spec = ModelSpec("fcn", Method.FCN, width=0.35, head_channels=16)

    _, named = build_with(state, spec, classes=CLASSES)
    _, numbered = build_with(state, spec)

    assert named == CLASSES
    assert numbered == ClassSet.numbered(3)


def test_random_weights_follow_from_their_seed_alone(state):
    torch.manual_seed(123)
    before = torch.random.get_rng_state()

    again = random_checkpoint(SPEC, seed=0)

    assert_same(again.state, state)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.equal(random_checkpoint(SPEC, seed=1).state[LAST], state[LAST])


@pytest.mark.parametrize("method", Method)
def test_random_weights_let_many_classes_win(method):
    spec = ModelSpec("wide", method, ClassSet.numbered(10), width=0.35, head_channels=16)
    network, _ = build_network(spec, random_checkpoint(spec, seed=0))
    noise = torch.randn(1, 3, 64, 128, generator=torch.Generator().manual_seed(0))

    with torch.inference_mode():
        winners = network(noise).argmax(1).unique()

    assert len(winners) >= 5
