"""segdeploy-run: what it writes, and what it says of files that it cannot read or write."""

import resource
from pathlib import Path

import numpy as np
import pytest

import segdeploy
from segdeploy.images import overlay, read_image, read_labels, write_png

pytestmark = pytest.mark.xdist_group("cpp")


def test_segdeploy_run_writes_what_python_returns(segdeploy_run, engine, frames, tmp_path):
    images = sorted(frames.iterdir())

    done = segdeploy_run(engine.path, *images, "-o", tmp_path, "--overlay")

    assert (done.returncode, done.stderr) == (0, "")
    written = [Path(line.split()[0]).name for line in done.stdout.splitlines()]
    assert written == ["0.png", "0-overlay.png", "1.png", "1-overlay.png"]
    with segdeploy.open(engine.path) as opened, opened.session() as session:
        for path in images:
            image = read_image(path)
            labels = session.run(image[None])[0]
            assert np.array_equal(read_labels(tmp_path / path.name), labels)
            painted = read_image(tmp_path / f"{path.stem}-overlay.png")
            assert np.array_equal(painted, overlay(image, labels, engine.manifest.classes))


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["ENGINE"], 2, "usage: segdeploy-run"),
        (["ENGINE", "IMAGE", "-o"], 2, "usage: segdeploy-run"),
        (["ENGINE", "IMAGE", "-o", "OUT", "--threads", "-1"], 2, "usage: segdeploy-run"),
        (["ENGINE", "IMAGE", "-o", "OUT", "--batch"], 2, "usage: segdeploy-run"),
        (["no.ort", "IMAGE", "-o", "OUT"], 1, "error: no.ort: no such file\nhint: "),
        (["ENGINE", "no.png", "-o", "OUT"], 1, "error: no.png: no such file"),
        (["ENGINE", "FRAMES", "-o", "OUT"], 1, "frames0: is a folder\n"),
        (["ENGINE", "/proc/self/mem", "-o", "OUT"], 1, "mem: cannot be read (Input/output error)"),
        (["ENGINE", "ENGINE", "-o", "OUT"], 1, "not an image, or a damaged one"),
        (["ENGINE", "IMAGE", "-o", "FRAMES"], 1, "0.png: is an image to segment\nhint: -o"),
        (["ENGINE", "IMAGE", "IMAGE", "-o", "OUT"], 1, "two of the images would be written there"),
        (["ENGINE", "IMAGE", "-o", "ENGINE"], 1, "cannot be written (Not a directory)"),
        (["ENGINE", "IMAGE", "-o", "OUT", "--device", "cuda:0"], 1, "is optimized for the CPU"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_segdeploy_run_says_what_is_wrong(
    arguments, code, problem, segdeploy_run, engine, frames, tmp_path
):
    places = {
        "ENGINE": engine.path,
        "IMAGE": frames / "0.png",
        "FRAMES": frames,
        "OUT": tmp_path / "out",
    }

    done = segdeploy_run(*(places.get(word, word) for word in arguments))

    assert done.returncode == code
    assert problem in done.stderr
    assert not (tmp_path / "out" / "0.png").exists()


def test_segdeploy_run_refuses_an_image_of_another_size(segdeploy_run, engine, tmp_path):
    write_png(tmp_path / "small.png", np.zeros((32, 32, 3), np.uint8))

    done = segdeploy_run(engine.path, tmp_path / "small.png", "-o", tmp_path / "out")

    assert done.returncode == 1
    assert "an image batch is 1x32x32x3; the engine takes 1x64x96x3" in done.stderr


def test_a_file_too_large_for_memory_is_refused(segdeploy_run, tmp_path):
    path, size = tmp_path / "large.onnx", 64 * 2**30
    with path.open("wb") as file:
        file.truncate(size)  # which takes no room on the disk
    limit = (8 * 2**30,) * 2

    done = segdeploy_run(
        path, "no.png", "-o", tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limit),
    )  # fmt: skip

    assert done.stderr == f"error: {path}: has {size} bytes, more than there is memory\n"
    assert done.returncode == 1


def test_help_is_what_was_asked_for(segdeploy_run):
    for word in ("--help", "-h"):
        done = segdeploy_run(word)

        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("usage: segdeploy-run")


def test_the_others_are_done_where_one_is_broken(segdeploy_run, engine, frames, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")

    done = segdeploy_run(
        engine.path, frames / "0.png", tmp_path / "broken.png", frames / "1.png",
        "-o", tmp_path / "out",
    )  # fmt: skip

    assert done.returncode == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"0.png", "1.png"}
    problem, *_, sum_ = done.stderr.splitlines()
    assert "broken.png: not an image, or a damaged one" in problem
    assert sum_ == "1 of 3 images failed"


def test_a_full_disk_is_no_success(segdeploy_run, engine, frames, tmp_path):
    """A file that may not grow beyond a few bytes stands for it."""
    (tmp_path / "0.png").write_bytes(b"of yesterday")

    done = segdeploy_run(
        engine.path, frames / "0.png", "-o", tmp_path,
        restore_signals=False,  # Python ignores SIGXFSZ, which would end the program
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16)),
    )  # fmt: skip

    assert done.stderr == f"error: {tmp_path}/0.png: cannot be written (File too large)\n"
    assert done.returncode == 1
    assert [path.name for path in tmp_path.iterdir()] == ["0.png"]
    assert (tmp_path / "0.png").read_bytes() == b"of yesterday"


def test_nothing_is_left_beside_a_folder_of_that_name(segdeploy_run, engine, frames, tmp_path):
    (tmp_path / "0.png").mkdir()

    done = segdeploy_run(engine.path, frames / "0.png", "-o", tmp_path)

    assert done.stderr == f"error: {tmp_path}/0.png: cannot be written (Is a directory)\n"
    assert [path.name for path in tmp_path.iterdir()] == ["0.png"]
