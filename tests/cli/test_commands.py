"""The command line, end to end on a tiny model: what is printed, what is written, how it ends."""

import json
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import typer

from segdeploy.cli import app
from segdeploy.graph import read_graph
from segdeploy.recipes import model_names

pytestmark = pytest.mark.xdist_group("cli")  # one worker traces the tiny model once for all

COMMANDS = sorted(typer.main.get_command(app).commands)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_ends_with_an_example(segdeploy, command):
    ended = segdeploy(command, "--help")

    assert ended.code == 0
    assert f"Example: segdeploy {command}" in ended.out
    assert ended.err == ""


def test_the_commands_are_those_of_the_contract():
    assert COMMANDS == [
        "bench",
        "bench compare",
        "bench show",
        "build-engine",
        "calibrate",
        "cpp",
        "diff",
        "doctor",
        "download",
        "export",
        "export-deepstream",
        "inspect",
        "load",
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
        ("build-engine", "demo", "--target", "tensorrt-rtx", "--workspace", "4 gigabytes"),
        ("build-engine", "demo", "--int8", "--min-miou", "99%", "--save-log", "build.log"),
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

    segdeploy(*arguments).assert_error(problem)


def test_a_missing_data_set_is_named_with_where_it_should_be_and_how_to_get_it(segdeploy, tmp_path):
    ended = segdeploy(
        "bench", "fcn-cityscapes", "--dataset", "cityscapes", "--data", tmp_path / "nowhere"
    )

    ended.assert_error("nowhere: no such folder; wanted the data of cityscapes")
    assert "hint: " in ended.err
    assert "cityscapes-dataset.com" in ended.err


@pytest.mark.parametrize("command", ["export", "bench", "download"])
def test_an_unknown_key_is_named_with_its_file(
    segdeploy, tiny_toml, tmp_path, monkeypatch, command
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.toml").write_text(tiny_toml + "widht = 3\n")

    segdeploy(command, "own.toml").assert_error(r"own\.toml: unexpected key `widht`")


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


def with_url(tiny_toml: str, folder: Path, url: str, name: str) -> Path:
    text = tiny_toml.replace('checkpoint = "tiny.pth"', f'checkpoint_url = "{url}/tiny.pth"')
    (folder / name).write_text(text + 'sha256_prefix = "00000000"\n')
    return folder / name


def test_download_fetches_what_the_model_names(segdeploy, tiny_toml, site, inside, monkeypatch):
    model = with_url(tiny_toml, inside, site, "remote.toml")

    ended = segdeploy("download", model, "--json")

    facts = json.loads(ended.out)
    assert facts["checkpoint"] == "artifacts/checkpoints/tiny.pth"
    assert Path(facts["checkpoint"]).read_bytes() == (inside / "tiny.pth").read_bytes()
    assert "announced was 00000000" in facts["warning"]
    assert ended.err.startswith("warning: ")


def test_a_file_that_is_not_on_the_server_is_an_error(
    segdeploy, tiny_toml, site, inside, tmp_path, monkeypatch
):
    model = with_url(tiny_toml, inside, site + "/none", "wrong.toml")
    monkeypatch.chdir(tmp_path)

    segdeploy("download", model).assert_error("404")
    assert not list(tmp_path.rglob("*.pth"))
