"""The command line, end to end on a tiny model: what is printed, what is written, how it ends."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
import typer

from segdeploy.cli import app, main
from segdeploy.graph import read_graph
from segdeploy.images import read_image, read_labels, write_png
from segdeploy.nets.checkpoint import random_checkpoint
from segdeploy.pipeline.modes import Mode
from segdeploy.pipeline.segment import segment
from segdeploy.recipes import load_model, model_names
from segdeploy.runtime.pytorch import PyTorchSession
from segdeploy.spec import Output, Size

pytestmark = pytest.mark.xdist_group("cli")  # one worker traces the tiny model once for all

COMMANDS = sorted(typer.main.get_command(app).commands)
SIZE = Size(64, 96)
MODEL = """method = "fcn"
license = "MIT"
classes = "classes.toml"
size = [64, 96]
width = 0.35
head_channels = 16
checkpoint = "tiny.pth"
"""
CLASSES = """classes = [
  { name = "road", rgb = [128, 64, 128] },
  { name = "car", rgb = [0, 0, 142] },
  { name = "sky", rgb = [70, 130, 180] },
]
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


Segdeploy = Callable[..., Ended]


@pytest.fixture
def segdeploy(monkeypatch, capfd) -> Segdeploy:
    """Run the command line in this process, in the current folder."""
    monkeypatch.delenv("SEGDEPLOY_DATA", raising=False)

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr("sys.argv", ["segdeploy", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capfd.readouterr()
        return Ended(caught.value.code or 0, out, err)

    return run


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, blocks) -> Path:
    """A tiny model, its weights, and a data set whose labels are what PyTorch makes of them."""
    folder = tmp_path_factory.mktemp("workspace")
    (folder / "tiny.toml").write_text(MODEL)
    for place in (folder, folder / "scenes"):
        place.mkdir(exist_ok=True)
        (place / "classes.toml").write_text(CLASSES)
    spec = load_model(str(folder / "tiny.toml"))
    checkpoint = random_checkpoint(spec, seed=0)
    torch.save({"state_dict": checkpoint.state}, folder / "tiny.pth")
    images = blocks(SIZE, count=4)
    with PyTorchSession(spec, checkpoint) as session:
        labels = session.run(images)
    for k in range(4):
        write_png(folder / "scenes" / "images" / f"{k}.png", images[k])
        write_png(folder / "scenes" / "labels" / f"{k}.png", labels[k])
        write_png(folder / "frames" / f"frame{k}.png", blocks(SIZE, seed=k + 1)[0])
    return folder


@pytest.fixture
def inside(workspace, monkeypatch) -> Path:
    monkeypatch.chdir(workspace)
    return workspace


@pytest.fixture(scope="module")
def graph(workspace) -> Path:
    """The tiny model, exported by the command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workspace)
        patch.setattr("sys.argv", ["segdeploy", "export", "tiny.toml"])
        with pytest.raises(SystemExit, match="0"):
            main()
    return workspace / "artifacts" / "tiny" / "fp32.onnx"


def assert_error(ended: Ended, problem: str) -> None:
    """Exit 1, nothing on stdout, one line for the problem and at most one for the hint."""
    lines = ended.err.splitlines()
    assert ended.code == 1
    assert ended.out == ""
    assert re.search(problem, lines[-2 if lines[-1].startswith("hint: ") else -1])
    assert lines[0].startswith("error: ")
    assert len(lines) <= 2
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_ends_with_an_example(segdeploy, command):
    ended = segdeploy(command, "--help")

    assert ended.code == 0
    assert f"Example: segdeploy {command}" in ended.out
    assert ended.err == ""


def test_the_commands_are_those_of_the_contract():
    assert COMMANDS == [
        "bench",
        "build-engine",
        "calibrate",
        "doctor",
        "download",
        "export",
        "inspect",
        "models",
        "predict",
    ]


def test_the_version_is_printed(segdeploy):
    assert re.fullmatch(r"segdeploy \d+\.\d+\.\d+\n", segdeploy("--version").out)


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("export", "demo", "--size", "64x96", "--dynamic"),
        ("export", "demo", "--size", "64"),
        ("export", "demo", "--batch", "many"),
        ("export", "demo", "--precision", "fp64"),
        ("export", "demo", "--widht", "3"),
        ("build-engine", "demo", "--fp16", "--int8"),
        ("build-engine", "demo", "--target", "tvm"),
        ("predict", "demo", "a.png"),
        ("predict", "demo", "a.png", "-o", "out", "--mode", "tiles"),
        ("predict", "demo", "a.png", "-o", "out", "--crop", "64x64"),
        ("predict", "demo", "a.png", "-o", "out", "--stride", "64x64", "--tta"),
        ("predict", "demo", "a.png", "-o", "out", "--mode", "slide"),
        ("predict", "demo", "a.png", "-o", "out", "--mode", "slide", "--crop", "64x64"),
        ("bench", "demo", "--mode", "slide", "--stride", "64x64"),
        ("bench", "demo", "--mode", "slide", "--crop", "64", "--stride", "64x64"),
        ("bench", "demo", "--mode", "slide", "--crop", "64x64", "--stride", "65x64"),
        ("bench", "demo", "--mode", "slide", "--crop", "16x16", "--stride", "9x9"),
        ("bench", "demo", "--precision", "fp32,fp64"),
        ("bench", "demo", "--runtime", "tvm"),
        ("bench", "demo", "--limit", "0"),
        ("inspect",),
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(segdeploy, arguments):
    ended = segdeploy(*arguments)

    assert ended.code == 2
    assert ended.out == ""
    assert "Usage: segdeploy" in ended.err
    assert "Traceback" not in ended.err


def test_the_zoo_is_listed_for_people_and_for_machines(segdeploy):
    table, rows = segdeploy("models"), json.loads(segdeploy("models", "--json").out)

    assert [row["model"] for row in rows] == model_names()
    assert all(name in table.out for name in model_names())
    reference = next(row for row in rows if row["model"] == "fcn-cityscapes")["reference"]
    assert (reference["miou"], reference["fps"]) == (71.19, 14.2)
    assert "71.19" in table.out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("export", "unet"), "'unet' is not a model"),
        (("export", "absent.toml"), "is not a model"),
        (("export", "deeplabv3plus"), "which weights"),
        (("export", "fcn-cityscapes"), "no checkpoint at artifacts"),
        (("export", "fcn", "--checkpoint", "absent.pth"), r"absent\.pth: no such file"),
        (("export", "fcn", "--checkpoint", "random:x"), "wanted random:SEED"),
        (("export", "fcn", "--checkpoint", "random:0", "--precision", "int8"), "by calibration"),
        (("export", "fcn", "--checkpoint", "random:0", "--size", "16x16"), "wanted 32 to"),
        (("inspect", "absent.onnx"), r"absent\.onnx: no such file"),
        (("inspect", "absent.plan"), r"absent\.plan: no such file"),
        (("inspect", "notes.txt"), "is not an artifact"),
        (("build-engine", "absent.onnx", "--target", "onnxruntime"), r"absent\.onnx: no such file"),
        (("download", "demo"), "has no checkpoint to download"),
        (("bench", "demo", "--dataset", "cityscapes", "--data", "nowhere"), "cityscapes"),
        (("bench", "--dataset", "mars"), "neither a data set nor a folder"),
        (("bench", "--dataset", "camvid", "--speed-only"), "no model of the zoo"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_a_user_can_put_right_ends_with_1_and_two_lines(
    segdeploy, tmp_path, monkeypatch, arguments, problem
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("")

    assert_error(segdeploy(*arguments), problem)


def test_a_missing_data_set_is_named_with_where_it_should_be_and_how_to_get_it(segdeploy, tmp_path):
    ended = segdeploy(
        "bench", "fcn-cityscapes", "--dataset", "cityscapes", "--data", tmp_path / "nowhere"
    )

    assert_error(ended, "nowhere: no such folder; wanted the data of cityscapes")
    assert "hint: " in ended.err
    assert "cityscapes-dataset.com" in ended.err


@pytest.mark.parametrize("command", ["export", "bench", "download"])
def test_an_unknown_key_is_named_with_its_file(segdeploy, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.toml").write_text(MODEL + "widht = 3\n")

    assert_error(segdeploy(command, "own.toml"), r"own\.toml: unexpected key `widht`")


def test_doctor_says_what_this_machine_can_run(segdeploy):
    findings = json.loads(segdeploy("doctor", "--json").out)
    table = segdeploy("doctor")

    assert any(finding["ok"] for finding in findings)
    assert all(finding["name"] in table.out for finding in findings)


def test_export_writes_a_graph_and_says_how_it_compares(segdeploy, graph, inside, tmp_path):
    out = tmp_path / "again.onnx"

    ended = segdeploy("export", "tiny.toml", "-o", out, "--json")

    found = json.loads(ended.out)
    assert ended.code == 0
    assert found["graph"] == str(out)
    assert found["parity"][0]["equal_labels"] == 1.0
    assert read_graph(out).manifest == read_graph(graph).manifest


def test_inspect_says_what_a_graph_takes_and_returns(segdeploy, graph, inside):
    facts = json.loads(segdeploy("inspect", graph, "--json").out)
    lines = segdeploy("inspect", graph).out

    assert facts["takes"].startswith("image (1, 64, 96, 3) uint8 RGB")
    assert facts["returns"] == "labels (1, 64, 96) uint8: class ids"
    assert facts["classes"] == "3: road, car, sky"
    assert "tiny.pth" in lines
    assert str(inside) not in facts["weights"]


def test_build_engine_uses_what_is_there_and_says_so(segdeploy, graph, inside):
    first = segdeploy("build-engine", "tiny.toml", "--target", "onnxruntime", "--json")
    second = segdeploy("build-engine", "tiny.toml", "--target", "onnxruntime", "--json")

    built, again = json.loads(first.out), json.loads(second.out)
    assert built["engine"] == "artifacts/tiny/fp32.onnxruntime.ort"
    assert (built["runtime"], built["precision"]) == ("onnxruntime", "fp32")
    assert again["seconds"] == 0
    assert again["sha256"] == built["sha256"]


def test_build_engine_calibrates_on_a_folder(segdeploy, graph, inside):
    ended = segdeploy(
        "build-engine", graph, "--int8", "--target", "onnxruntime", "--calibration", "frames",
        "--json",
    )  # fmt: skip

    built = json.loads(ended.out)
    assert built["precision"] == "int8"
    assert built["calibration"].startswith("frames: 4 images")
    facts = json.loads(segdeploy("inspect", built["engine"], "--json").out)
    assert facts["calibration"] == built["calibration"]


def test_int8_of_a_model_of_no_data_set_asks_for_images(segdeploy, graph, inside):
    ended = segdeploy("build-engine", "tiny.toml", "--int8", "--target", "onnxruntime")

    assert ended.code == 1
    assert "int8 needs images to calibrate on" in ended.err
    assert "hint: --calibration" in ended.err


@pytest.mark.parametrize("what", ["graph", "engine"])
def test_predict_writes_label_maps_and_overlays(segdeploy, graph, inside, tmp_path, what):
    artifact = graph
    if what == "engine":
        built = segdeploy("build-engine", graph, "--target", "onnxruntime", "--json")
        artifact = json.loads(built.out)["engine"]

    ended = segdeploy("predict", artifact, "scenes/images", "-o", tmp_path, "--overlay", "--json")

    names = [f"{k}{kind}.png" for k in range(4) for kind in ("", "-overlay")]
    assert json.loads(ended.out) == [str(tmp_path / name) for name in names]
    for k in range(4):
        expected = read_labels(inside / "scenes" / "labels" / f"{k}.png")
        assert (read_labels(tmp_path / f"{k}.png") == expected).mean() > 0.999


def test_predict_in_pytorch_gives_the_labels_of_pytorch(segdeploy, inside, tmp_path):
    ended = segdeploy(
        "predict", "tiny.toml", "scenes/images/1.png", "-o", tmp_path, "--runtime", "pytorch"
    )

    expected = read_labels(inside / "scenes" / "labels" / "1.png")
    assert ended.out.split() == [str(tmp_path / "1.png")]
    assert np.array_equal(read_labels(tmp_path / "1.png"), expected)


MODES = [
    (("--tta",), Mode(tta=True)),
    (
        ("--mode", "slide", "--crop", "48x64", "--stride", "32x43"),
        Mode(crop=Size(48, 64), stride=Size(32, 43)),
    ),
]


@pytest.mark.parametrize(("options", "mode"), MODES, ids=str)
def test_predict_averages_as_it_is_told_to(segdeploy, inside, tmp_path, options, mode):
    ended = segdeploy(
        "predict", "tiny.toml", "scenes/images/1.png", "-o", tmp_path, "--runtime", "pytorch",
        *options,
    )  # fmt: skip

    spec = load_model("tiny.toml")
    with PyTorchSession(spec, random_checkpoint(spec, seed=0), output=Output.LOGITS) as session:
        expected = segment(session, read_image(Path("scenes/images/1.png")), mode)
    assert ended.code == 0, ended.err
    assert np.array_equal(read_labels(tmp_path / "1.png"), expected)


@pytest.mark.slow
@pytest.mark.parametrize(("options", "mode"), MODES, ids=str)
def test_predict_averages_with_a_model_and_with_a_graph_of_logits(
    segdeploy, inside, tmp_path, options, mode
):
    image, spec = Path("scenes/images/1.png"), load_model("tiny.toml")
    graph = Path("artifacts/tiny/fp32-dynamic-logits.onnx")

    of_model = segdeploy("predict", "tiny.toml", image, "-o", tmp_path / "model", *options)
    of_graph = segdeploy("predict", graph, image, "-o", tmp_path / "graph", *options)

    with PyTorchSession(spec, random_checkpoint(spec, seed=0), output=Output.LOGITS) as session:
        expected = segment(session, read_image(image), mode)
    assert (of_model.code, of_graph.code) == (0, 0), of_model.err + of_graph.err
    for kind in ("model", "graph"):
        assert (read_labels(tmp_path / kind / "1.png") == expected).mean() > 0.999


@pytest.mark.parametrize("options", [options for options, _ in MODES], ids=str)
@pytest.mark.parametrize("command", ["predict", "bench"])
def test_a_graph_of_labels_cannot_be_averaged(segdeploy, graph, inside, tmp_path, command, options):
    rest = ("scenes/images", "-o", tmp_path / "out") if command == "predict" else ("--speed-only",)

    ended = segdeploy(command, graph, *rest, *options)

    assert_error(ended, "the artifact returns labels")
    assert "hint: export it with --output logits --dynamic" in ended.err
    assert not (tmp_path / "out").exists()


def test_predict_refuses_a_damaged_image_by_name(segdeploy, graph, inside, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))

    ended = segdeploy("predict", graph, tmp_path / "bad.png", "-o", tmp_path / "out")

    assert_error(ended, r"bad\.png: not an image, or a damaged one")


@pytest.mark.slow
def test_bench_scores_and_times_the_artifact_itself(segdeploy, graph, inside, tmp_path):
    ended = segdeploy(
        "bench", graph, "--dataset", "scenes", "--limit", 3,
        "--json", tmp_path / "rows.json", "--report", tmp_path / "report.md",
    )  # fmt: skip

    assert ended.code == 0, ended.err
    (row,) = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert (row["model"], row["precision"], row["runtime"]) == ("tiny", "fp32", "onnxruntime")
    assert row["miou"] == pytest.approx(100, abs=0.1)  # the labels are PyTorch's own
    assert row["images"] == 3
    assert row["fps"] == pytest.approx(1000 / row["mean_ms"])
    assert row["artifact_sha256"]
    assert "tiny" in (tmp_path / "report.md").read_text()
    assert len(list((tmp_path / "report-pictures").iterdir())) == 3


@pytest.mark.slow
def test_bench_measures_a_model_in_pytorch_alone(segdeploy, inside, tmp_path):
    rows = tmp_path / "rows.json"

    ended = segdeploy(
        "bench", "tiny.toml", "--dataset", "scenes", "--runtime", "pytorch", "--json", rows
    )

    assert ended.code == 0, ended.err
    (row,) = json.loads(rows.read_text())["rows"]
    assert (row["runtime"], row["miou"]) == ("pytorch", pytest.approx(100))


@pytest.mark.slow
def test_bench_names_the_mode_in_every_row(segdeploy, inside, tmp_path):
    options, mode = MODES[1]

    ended = segdeploy(
        "bench", "tiny.toml", "--dataset", "scenes", "--runtime", "pytorch", "--limit", 1,
        "--json", tmp_path / "rows.json", "--report", tmp_path / "page.md", *options,
    )  # fmt: skip

    assert ended.code == 0, ended.err
    (row,) = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert (row["resolution"], row["mode"]) == (f"64x96, {mode}", str(mode))
    assert row["title"].endswith(f", {mode}")
    assert row["output"] == "logits"
    assert row["miou"] is not None
    assert str(mode) in (tmp_path / "page.md").read_text()
    assert "slide" in ended.out


@pytest.mark.slow
def test_bench_without_the_data_measures_speed_only(segdeploy, graph, inside, tmp_path):
    rows = tmp_path / "rows.json"

    ended = segdeploy("bench", graph, "--speed-only", "--json", rows)

    assert ended.code == 0, ended.err
    (row,) = json.loads(rows.read_text())["rows"]
    assert row["miou"] is None
    assert row["fps"] > 0
    assert row["p50_ms"] > 0


@pytest.mark.slow
def test_bench_refuses_a_data_set_of_other_classes(segdeploy, graph, inside):
    ended = segdeploy("bench", graph, "--dataset", "demo")

    assert ended.code == 1
    assert "tiny tells 3 classes apart, demo has 8" in ended.err


@pytest.mark.slow
def test_bench_refuses_to_score_what_was_calibrated_on(segdeploy, graph, inside):
    built = segdeploy(
        "build-engine", graph, "--int8", "--target", "onnxruntime",
        "--calibration", "scenes/images", "--json",
    )  # fmt: skip

    ended = segdeploy("bench", json.loads(built.out)["engine"], "--dataset", "scenes")

    assert ended.code == 1
    assert "calibrat" in ended.err


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def site(inside) -> Iterator[str]:
    """The workspace, served on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(inside)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def with_url(folder: Path, url: str, name: str) -> Path:
    text = MODEL.replace('checkpoint = "tiny.pth"', f'checkpoint_url = "{url}/tiny.pth"')
    (folder / name).write_text(text + 'sha256_prefix = "00000000"\n')
    return folder / name


def test_download_fetches_what_the_model_names(segdeploy, site, inside, monkeypatch):
    model = with_url(inside, site, "remote.toml")

    ended = segdeploy("download", model, "--json")

    facts = json.loads(ended.out)
    assert facts["checkpoint"] == "artifacts/checkpoints/tiny.pth"
    assert Path(facts["checkpoint"]).read_bytes() == (inside / "tiny.pth").read_bytes()
    assert "announced was 00000000" in facts["warning"]
    assert ended.err.startswith("warning: ")


def test_a_file_that_is_not_on_the_server_is_an_error(
    segdeploy, site, inside, tmp_path, monkeypatch
):
    model = with_url(inside, site + "/none", "wrong.toml")
    monkeypatch.chdir(tmp_path)

    assert_error(segdeploy("download", model), "404")
    assert not list(tmp_path.rglob("*.pth"))
