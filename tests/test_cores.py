"""How many threads suit the cores that a process may use."""

import os
import sys
from pathlib import Path

import pytest

from segdeploy import cores
from segdeploy.cores import default_threads, usable_cores


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight logical cores, two of each physical one, and no container."""
    for core in range(8):
        file = tmp_path / f"cpu{core}/topology/thread_siblings_list"
        file.parent.mkdir(parents=True)
        file.write_text(f"{core % 4},{core % 4 + 4}\n")
    monkeypatch.setattr(cores, "TOPOLOGY", tmp_path)
    for name in ("QUOTA", "OLD_QUOTA", "OLD_PERIOD"):
        monkeypatch.setattr(cores, name, tmp_path / name)
    monkeypatch.setattr(cores, "usable_cores", lambda: list(range(8)))
    return tmp_path


def test_a_thread_for_each_physical_core(machine: Path) -> None:
    assert default_threads() == 4


@pytest.mark.parametrize(("own", "threads"), [([0, 4], 1), ([0, 1], 2), ([1, 2, 5], 2)])
def test_of_the_cores_that_are_left_to_the_process(machine, monkeypatch, own, threads) -> None:
    monkeypatch.setattr(cores, "usable_cores", lambda: own)

    assert default_threads() == threads


@pytest.mark.parametrize(
    ("told", "threads"),
    [
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("50000 100000", 1),
        ("max 100000", 4),
        ("max", 4),
        ("200000 0", 4),
    ],
)
def test_a_container_may_take_less(machine: Path, told: str, threads: int) -> None:
    (machine / "QUOTA").write_text(f"{told}\n")

    assert default_threads() == threads


@pytest.mark.parametrize(("quota", "threads"), [("300000", 3), ("-1", 4)])
def test_so_may_one_of_cgroup_v1(machine: Path, quota: str, threads: int) -> None:
    (machine / "OLD_QUOTA").write_text(f"{quota}\n")
    (machine / "OLD_PERIOD").write_text("100000\n")

    assert default_threads() == threads


def test_where_the_topology_is_not_told_every_core_counts(machine, monkeypatch) -> None:
    monkeypatch.setattr(cores, "TOPOLOGY", machine / "nowhere")

    assert default_threads() == 8


@pytest.mark.skipif(sys.platform != "linux", reason="the affinity mask is read on Linux")
def test_the_affinity_mask_is_kept() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == [min(before)]
        assert default_threads() == 1
    finally:
        os.sched_setaffinity(0, before)
