"""The command `diff`, end to end on a tiny model."""

import json

import pytest

pytestmark = pytest.mark.xdist_group("cli")  # one worker traces the tiny model once for all


def test_pytorch_and_its_graph_are_compared(segdeploy, inside, graph):
    ended = segdeploy("diff", "tiny.toml", graph, "--dataset", "scenes", "--report", "diff")

    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0].startswith("No difference: tiny.toml and fp32.onnx agree on 100.00 %")
    assert any(line.split() == ["equal", "pixels", "100.00", "%"] for line in lines)
    assert "report: diff/diff.md" in ended.err
    assert (inside / "diff" / "diff-4.png").is_file()


def test_the_answer_can_be_json(segdeploy, inside, graph):
    ended = segdeploy("diff", graph, graph, "--dataset", "frames", "--limit", 2, "--json")

    found = json.loads(ended.out)
    assert found["agreement"] == 1
    assert found["before"] is None
    assert [image["id"] for image in found["images"]] == ["frame0", "frame1"]
    assert found["layers"][0]["name"] == "backbone.conv1"
    assert found["layers"][0]["sqnr_db"] is None  # equal: no noise at all


def test_what_names_no_data_set_is_refused(segdeploy, inside, graph):
    segdeploy("diff", graph, graph).assert_error("names a data set")
