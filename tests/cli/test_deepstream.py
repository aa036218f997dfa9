"""`segdeploy export-deepstream`."""

import json


def test_the_files_are_listed(segdeploy, inside, graph, tmp_path):
    ended = segdeploy("export-deepstream", graph, "-o", tmp_path / "out", "--json")

    assert ended.code == 0
    assert set(json.loads(ended.out)) == {str(path) for path in (tmp_path / "out").iterdir()}
    assert "num-detected-classes=3" in (tmp_path / "out" / "config_infer.txt").read_text()


def test_an_output_is_chosen(segdeploy, inside, graph, tmp_path):
    out = tmp_path / "out"

    ended = segdeploy("export-deepstream", graph, "-o", out, "--output", "probabilities")

    assert ended.code == 0
    assert "Makefile" not in ended.out


def test_an_output_that_nvinfer_cannot_read_is_wrong_usage(segdeploy, inside, graph, tmp_path):
    ended = segdeploy("export-deepstream", graph, "-o", tmp_path / "out", "--output", "logits")

    assert ended.code == 2
    assert not (tmp_path / "out").exists()


def test_a_missing_artifact_is_an_error(segdeploy, inside, tmp_path):
    segdeploy("export-deepstream", "none.onnx", "-o", tmp_path / "out").assert_error(
        r"none\.onnx: no such file"
    )
