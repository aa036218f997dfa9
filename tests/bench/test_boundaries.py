"""What each boundary takes and gives, with a session that notes how it is called."""

import contextlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from segdeploy.artifacts import Manifest
from segdeploy.bench import boundaries
from segdeploy.bench.boundaries import (
    Workload,
    decoding,
    host_step,
    in_place,
    time_boundaries,
)
from segdeploy.datasets.folder import open_folder
from segdeploy.images import write_png
from segdeploy.measurement import Boundary, Part
from segdeploy.pipeline.modes import Mode
from segdeploy.runtime.session import Split
from segdeploy.spec import CPU, ClassSet, Device, Method, Output, Size

MANIFEST = Manifest("red", Method.FCN, ClassSet.numbered(3), size=None, batch=None)
SIZE = Size(8, 16)
IMAGES = [np.full((*SIZE, 3), k, np.uint8) for k in (1, 2)]


class Noting:
    """Its label of a pixel is its red value."""

    device = CPU

    def __init__(self, manifest: Manifest = MANIFEST) -> None:
        self.manifest = manifest
        self.calls: list[str] = []
        self.seen: list[int] = []

    def run(self, images):
        self.calls.append("run")
        self.seen.append(int(images[0, 0, 0, 0]))
        if self.manifest.output is Output.LOGITS:
            return np.tile(np.array([0, 1, 0], np.float32)[:, None, None], (len(images), 1, 1, 2))
        return images[..., 0]

    def enqueue(self, images, result, stream=None):
        self.calls.append("enqueue")
        self.seen.append(int(images[0, 0, 0, 0]))
        np.copyto(result, images[..., 0])


class Splitting(Noting):
    """A session on a GPU whose copies take one millisecond more with every call."""

    def split(self, images):
        self.calls.append("split")
        return Split(images[..., 0], float(len(self.calls)), 5.0, 0.5)


def work(**changes) -> Workload:
    known = {
        "inputs": [(image, SIZE) for image in IMAGES],
        "load": lambda k: IMAGES[k],
        "max_seconds": 30.0,
    }
    return Workload(**(known | changes))


def test_each_boundary_is_timed_by_mmsegs_protocol():
    session = Noting()

    found = time_boundaries(session, work())

    assert list(found) == [Boundary.ENGINE, Boundary.HOST, Boundary.MMSEG, Boundary.E2E]
    counts = [(len(t.latency.warmup_ms), len(t.latency.steps_ms)) for t in found.values()]
    assert counts == [(5, 195)] * 4
    assert session.calls == ["run"] + ["enqueue"] * 200 + ["run"] * 600
    assert session.seen[1:201] == [1, 2] * 100  # the images take turns
    assert all(timing.before.own_s is not None for timing in found.values())
    assert all(timing.parts_ms == {} for timing in found.values())


@pytest.mark.parametrize(
    "mode", [Mode(tta=True), Mode(crop=Size(32, 32), stride=Size(16, 16))], ids=str
)
def test_of_many_runs_no_single_one_is_timed(monkeypatch, mode):
    seen = []
    monkeypatch.setattr(boundaries, "segment_input", lambda *given: seen.append(given))
    monkeypatch.setattr(boundaries, "predictor", lambda *given: seen.append)

    found = time_boundaries(Noting(replace(MANIFEST, output=Output.LOGITS)), work(mode=mode))

    assert list(found) == [Boundary.MMSEG, Boundary.E2E]
    assert seen[0][3] == mode


def test_a_batch_is_filled_with_copies():
    session = Noting(replace(MANIFEST, batch=4))

    with in_place(session, [boundaries._batch(IMAGES[0], session)]) as step:
        step()

    assert boundaries._batch(IMAGES[0], session).shape == (4, *SIZE, 3)
    assert session.calls == ["run", "enqueue"]


def test_results_lie_ready_before_the_engine_is_timed():
    session, results = Noting(), []
    session.enqueue = lambda images, result: results.append(result)

    with in_place(session, [image[None] for image in IMAGES]) as step:
        for _ in range(4):
            step()

    assert session.calls == ["run"]  # the two images are of one shape
    assert results[0] is results[2]
    assert results[1] is results[3]
    assert results[0] is not results[1]
    assert (results[0].shape, results[0].dtype) == ((1, *SIZE), np.uint8)


def test_the_host_boundary_ends_with_a_mask():
    labels = host_step(Noting(), [IMAGES[0][None]], {})()
    (mask,) = host_step(Noting(replace(MANIFEST, output=Output.LOGITS)), [IMAGES[0][None]], {})()

    np.testing.assert_array_equal(labels, IMAGES[0][None, ..., 0])
    assert (mask.shape, mask.dtype) == (SIZE, np.uint8)


def test_parts_are_of_the_timed_steps_alone():
    session = Splitting()

    timing = time_boundaries(session, work())[Boundary.HOST]

    assert session.calls.count("split") == 200
    first = session.calls.index("split") + 1
    assert timing.parts_ms[Part.UPLOAD] == tuple(float(first + 5 + k) for k in range(195))
    assert timing.parts_ms[Part.COMPUTE] == (5.0,) * 195
    assert timing.parts_ms[Part.DOWNLOAD] == (0.5,) * 195


class FakeGpu:
    """Memory that is numbered; what is done to it is written down."""

    def __init__(self, log):
        self.log, self.made = log, 0

    def current(self):
        return contextlib.nullcontext()

    def close(self):
        self.log.append("close gpu")

    def stream(self):
        return SimpleNamespace(
            handle=99,
            wait=lambda: self.log.append("wait"),
            close=lambda: self.log.append("close stream"),
        )

    def buffer(self, shape, dtype):
        self.made += 1
        number = self.made
        return SimpleNamespace(
            host=np.zeros(shape, dtype),
            address=1000 * number,
            upload=lambda stream: self.log.append(f"upload {number}"),
            close=lambda: self.log.append(f"close {number}"),
        )


def test_on_a_gpu_the_arrays_lie_there_and_a_step_waits(monkeypatch):
    log = []
    monkeypatch.setattr(boundaries, "open_gpu", lambda number: FakeGpu(log))
    session = Noting()
    session.device = Device("cuda:1")
    session.enqueue = lambda images, result, stream: log.append(
        (
            images.__cuda_array_interface__["data"][0],
            result.__cuda_array_interface__["data"][0],
            images.__cuda_array_interface__["typestr"],
            images.__cuda_array_interface__["shape"],
            stream,
        )
    )

    with in_place(session, [IMAGES[0][None]]) as step:
        assert log == ["upload 1", "upload 2", "wait"]
        log.clear()
        step()
        assert log == [(1000, 2000, "|u1", (1, *SIZE, 3), 99), "wait"]
        log.clear()

    assert log == ["close 2", "close 1", "close stream", "close gpu"]


def test_without_a_package_for_the_gpus_memory_the_engine_is_left_out(monkeypatch, caplog):
    monkeypatch.setattr(boundaries, "_reaches_memory", lambda: False)
    monkeypatch.setattr(boundaries, "bus_id", lambda number: "")
    session = Noting()
    session.device = Device("cuda")

    found = time_boundaries(session, work())

    assert list(found) == [Boundary.HOST, Boundary.MMSEG, Boundary.E2E]
    assert "pip install segdeploy[cuda]" in caplog.text


def test_what_has_no_files_is_written_and_decoded():
    with decoding(None, iter(IMAGES)) as load:
        np.testing.assert_array_equal(load(1), IMAGES[1])
        np.testing.assert_array_equal(load(0), IMAGES[0])


def test_files_of_a_data_set_are_decoded_themselves(tmp_path):
    for k, image in enumerate(IMAGES):
        write_png(tmp_path / "images" / f"{k}.png", image)
        write_png(tmp_path / "labels" / f"{k}.png", image[..., 0])
    (tmp_path / "classes.toml").write_text(
        'classes = [{ name = "a", rgb = [0, 0, 0] }, { name = "b", rgb = [1, 1, 1] }]'
    )

    with decoding(open_folder(tmp_path, "val"), iter([])) as load:
        np.testing.assert_array_equal(load(1), IMAGES[1])
