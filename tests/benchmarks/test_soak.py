"""The soak test finds what it is there for: wrong labels, growing memory, threads that fail."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import soak

from segdeploy.artifacts import Graph
from segdeploy.runtime import Session
from segdeploy.runtime.onnxruntime import OnnxRuntimeSession
from segdeploy.spec import Images, Method


@pytest.fixture
def graph(exported: Callable[..., Graph]) -> str:
    return str(exported(Method.FCN).path)


def test_eight_threads_get_the_labels_of_a_quiet_run(graph: str) -> None:
    found = soak.soak(graph, None, threads=8, requests=5, seconds=60)

    assert found.requests >= 40
    assert found.different == 0
    assert len(found.parts) == soak.PARTS
    assert not [problem for problem in found.problems if "grew" not in problem]
    assert 0 < found.p50_ms <= found.p99_ms


def test_a_wrong_label_is_found(graph: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, turns = OnnxRuntimeSession.run, count(1)

    def sometimes_wrong(session: Session, images: Images) -> np.ndarray:
        labels = real(session, images)
        return labels + 1 if next(turns) == 10 else labels

    monkeypatch.setattr(OnnxRuntimeSession, "run", sometimes_wrong)

    found = soak.soak(graph, None, threads=2, requests=10, seconds=60)

    assert found.different == 1
    assert "1 label maps differ" in found.problems[0]


def test_a_thread_that_fails_is_named(graph: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, turns = OnnxRuntimeSession.run, count(1)

    def broken(session: Session, images: Images) -> np.ndarray:
        if next(turns) == 9:
            raise RuntimeError("out of memory")
        return real(session, images)

    monkeypatch.setattr(OnnxRuntimeSession, "run", broken)

    found = soak.soak(graph, None, threads=2, requests=10, seconds=60)

    assert any("RuntimeError: out of memory" in problem for problem in found.problems)


def test_growth_is_told_from_warming_up() -> None:
    flat = [soak.Part(50, None), *[soak.Part(100, None)] * 9]
    leak = [soak.Part(100 + 5 * k, 10**9) for k in range(10)]

    assert soak.grown(flat) == []
    assert soak.grown(leak) == ["host_bytes grew from 0 to 0 MB"]


def test_the_file_has_the_environment(graph: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        soak.main(graph, tmp_path / "soak.json", None, threads=1, requests=10, seconds=60)

    text = (tmp_path / "soak.json").read_text()
    assert '"environment"' in text
    assert str(tmp_path) not in text
