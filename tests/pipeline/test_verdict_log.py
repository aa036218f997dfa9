"""The log of a search survives what happens to files."""

import json

import pytest

from segdeploy.accuracy import Score
from segdeploy.artifacts import sha256_of
from segdeploy.pipeline.verdict_log import Entry, VerdictLog
from segdeploy.spec import Precision
from segdeploy.verdict import Candidate, LayerError

CANDIDATE = Candidate(
    precision=Precision.INT8,
    floating=("net.a", "net.b"),
    floating_macs=0.1,
    score=Score(79.123456789012345, {"road": 90.1, "bus": None}),
    latency_ms=(1.0, 1.5),
    artifact_bytes=7,
)
LOG = VerdictLog((Entry(CANDIDATE, "abc"),), (LayerError("net.a", 0.1, 2.0), LayerError("b", 0.2)))


def test_a_log_is_read_as_it_was_written(tmp_path):
    LOG.write(tmp_path / "deep" / "log.json")

    assert VerdictLog.read(tmp_path / "deep" / "log.json") == LOG


def test_a_missing_log_is_empty(tmp_path):
    assert VerdictLog.read(tmp_path / "log.json") == VerdictLog()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("precision", "int4"),
        ("floating", [1]),
        ("floating", None),
        ("floating_macs", 2.0),
        ("score", None),
        ("score", {"miou": 101.0, "per_class": {}}),
        ("score", {"miou": 50.0, "per_class": ["road"]}),
        ("latency_ms", [-1.0]),
        ("artifact_bytes", "many"),
    ],
)
def test_a_log_that_cannot_be_true_is_empty(tmp_path, key, value):
    LOG.write(tmp_path / "log.json")
    content = json.loads((tmp_path / "log.json").read_text())
    content["entries"][0]["candidate"][key] = value
    (tmp_path / "log.json").write_text(json.dumps(content))

    assert VerdictLog.read(tmp_path / "log.json") == VerdictLog()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 2}', "[" * 100_000, "\ud800"])
def test_a_damaged_log_is_empty(tmp_path, text):
    (tmp_path / "log.json").write_bytes(text.encode("utf-8", "surrogatepass"))

    assert VerdictLog.read(tmp_path / "log.json") == VerdictLog()


def test_a_score_is_of_one_file(tmp_path):
    graph = tmp_path / "int8.onnx"
    graph.write_bytes(b"a graph")
    log = VerdictLog((Entry(CANDIDATE, sha256_of(graph)),))

    assert log.find(Precision.INT8, CANDIDATE.floating, graph) == CANDIDATE
    assert log.find(Precision.INT8, ("net.a",), graph) is None
    assert log.find(Precision.FP32, CANDIDATE.floating, graph) is None
    assert log.find(Precision.INT8, CANDIDATE.floating, tmp_path / "absent.onnx") is None
    graph.write_bytes(b"another")
    assert log.find(Precision.INT8, CANDIDATE.floating, graph) is None


def test_a_newer_entry_takes_the_place_of_the_old_one():
    log = LOG.with_entry(Entry(CANDIDATE, "def"))

    assert [entry.graph_sha256 for entry in log.entries] == ["def"]
