"""TensorRT sessions and the profiles they share, on a simulated GPU."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from simulated_gpu import batches

from segdeploy.artifacts import EnginePlan
from segdeploy.errors import MisfitError, SegdeployError
from segdeploy.runtime import RunOptions, Session
from segdeploy.runtime.tensorrt import TensorRTEngine
from segdeploy.spec import Device

GPU = Device("cuda")


def test_a_batch_outside_the_profiles_is_refused_and_the_session_lives_on(
    session: Session,
) -> None:
    large, fitting = batches((3, 4, 4), (1, 4, 4))

    with pytest.raises(SegdeployError, match="is 3x4x4x3; the engine takes 1x1x1x3 to 2x8x8x3"):
        session.run(large)

    assert session.run(fitting).shape == (1, 4, 4)


def test_sessions_at_the_same_time_need_a_profile_each(
    engine: TensorRTEngine, library: Any
) -> None:
    (images,) = batches((1, 4, 4))
    first, second = engine.session(), engine.session()
    first.run(images)

    with pytest.raises(SegdeployError, match=r"all 1 profiles .* in use by other sessions"):
        second.run(images)
    first.close()

    np.testing.assert_array_equal(second.run(images), images[..., 0])


def test_a_session_changes_its_profile_with_the_shape(plan: EnginePlan, library: Any) -> None:
    library.engine.profiles = [
        [(1, 1, 1, 3), (1, 8, 8, 3), (4, 16, 16, 3)],
        [(1, 1, 1, 3), (1, 4, 4, 3), (1, 4, 4, 3)],
    ]
    images = batches((1, 4, 4), (1, 16, 16), (1, 16, 16))

    with TensorRTEngine(plan, GPU, RunOptions()) as engine, engine.session() as session:
        for batch in images:
            np.testing.assert_array_equal(session.run(batch), batch[..., 0])

    calls = [call for call in library.engine.world.calls if call.startswith("profile")]
    assert calls == ["profile 1", "profile 0"]  # the smallest that will do


def test_an_engine_that_returns_more_than_its_manifest_says_is_refused(
    session: Session, library: Any
) -> None:
    (images,) = batches((1, 4, 6))
    (context,) = library.engine.contexts
    context.scale = 2

    with pytest.raises(
        MisfitError,
        match=r"demo: the engine returns 1x8x6 for an image batch of 1x4x6x3, its manifest says "
        "1x4x6$",
    ):
        session.run(images)

    context.scale = 1
    np.testing.assert_array_equal(session.run(images), images[..., 0])


TWO_PROFILES = [
    [(1, 1, 1, 3), (1, 4, 4, 3), (1, 4, 4, 3)],
    [(1, 1, 1, 3), (1, 8, 8, 3), (1, 8, 8, 3)],
]


def test_a_session_that_cannot_wait_keeps_its_profile(
    plan: EnginePlan, library: Any, world: Any
) -> None:
    library.engine.profiles = TWO_PROFILES
    small, large = batches((1, 4, 4), (1, 8, 8))

    with TensorRTEngine(plan, GPU, RunOptions()) as engine:
        first, second, third = (engine.session() for _ in range(3))
        first.run(small)
        world.is_failing = True
        with pytest.raises(SegdeployError, match="cannot wait"):
            first.run(large)
        second.run(small)  # with the other profile
        np.testing.assert_array_equal(first.run(small), small[..., 0])
        with pytest.raises(SegdeployError, match="all 2 profiles"):
            third.run(small)

    profiles = [call for call in world.calls if call.startswith("profile")]
    assert profiles == ["profile 0", "profile 1"]


def test_a_profile_that_the_context_refuses_is_free_for_others(
    plan: EnginePlan, library: Any
) -> None:
    library.engine.profiles = TWO_PROFILES
    small, large = batches((1, 4, 4), (1, 8, 8))

    with TensorRTEngine(plan, GPU, RunOptions()) as engine:
        first, second = engine.session(), engine.session()
        first.run(small)
        library.engine.contexts[0].takes_profiles = False
        with pytest.raises(SegdeployError, match="refuses an image batch of 1x8x8x3"):
            first.run(large)

        np.testing.assert_array_equal(second.run(large), large[..., 0])
        np.testing.assert_array_equal(first.run(small), small[..., 0])


def test_an_engine_of_one_size_serves_any_number_of_sessions(
    of_one_size: Callable[..., EnginePlan],
) -> None:
    fixed = of_one_size((1, 4, 6, 3))
    right, wrong = batches((1, 4, 6), (1, 6, 4))

    with TensorRTEngine(fixed, GPU, RunOptions()) as engine:
        sessions = [engine.session() for _ in range(3)]
        for session in sessions:
            np.testing.assert_array_equal(session.run(right), right[..., 0])
        with pytest.raises(SegdeployError, match="is 1x6x4x3; the engine takes 1x4x6x3"):
            sessions[0].run(wrong)
