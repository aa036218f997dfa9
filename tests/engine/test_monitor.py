"""The progress of a build: nested phases on one bar."""

import pytest

from segdeploy.engine.monitor import Phases


def test_a_nested_phase_fills_the_step_it_starts_in() -> None:
    moves: list[float] = []
    phases = Phases(moves.append)
    phases.start("build", None, 2)
    phases.start("optimize", "build", 5)

    phases.step("optimize", 0)

    assert phases.position == pytest.approx(10.0)


def test_the_bar_ends_at_100_even_if_steps_are_left_out() -> None:
    moves: list[float] = []
    phases = Phases(moves.append)
    phases.start("build", None, 4)
    phases.start("optimize", "build", 10)
    phases.finish("optimize")
    phases.step("build", 0)

    phases.finish("build")

    assert sum(moves) == pytest.approx(100.0)


def test_the_bar_never_goes_back() -> None:
    moves: list[float] = []
    phases = Phases(moves.append)
    phases.start("build", None, 2)
    phases.step("build", 1)

    phases.start("late", "build", 3)
    phases.step("late", 0)
    phases.step("build", 0)
    phases.step("unknown", 0)

    assert min(moves) > 0
    assert phases.position == pytest.approx(100.0)
