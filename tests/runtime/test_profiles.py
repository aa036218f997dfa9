"""Contexts in use at the same time get a profile each, and no shape that none of them covers."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from segdeploy.errors import SegdeployError
from segdeploy.runtime.profiles import ProfilePool
from segdeploy.shapes import ShapeProfile, TensorInfo

OPEN = TensorInfo("image", "uint8", (-1, -1, -1, 3))
FIXED = TensorInfo("image", "uint8", (1, 64, 96, 3))


def profile(count: int, side: int) -> ShapeProfile:
    """Up to so many images of up to so many pixels a side."""
    largest = (count, side, side, 3)
    return ShapeProfile(tensor="image", min=(1, 32, 32, 3), opt=largest, max=largest)


def shape(count: int, side: int) -> tuple[int, ...]:
    return count, side, side, 3


def test_the_smallest_free_profile_that_fits_is_lent():
    pool = ProfilePool(OPEN, [profile(8, 512), profile(1, 128), profile(1, 256)])

    taken = [pool.take(shape(1, 100)) for _ in range(3)]

    assert taken == [1, 2, 0]


def test_a_profile_that_is_too_small_is_passed_over():
    pool = ProfilePool(OPEN, [profile(1, 128), profile(1, 256)])

    assert pool.take(shape(1, 200)) == 1


def test_the_profile_that_is_held_is_kept_while_it_will_do():
    pool = ProfilePool(OPEN, [profile(1, 256), profile(1, 128)])
    held = pool.take(shape(1, 200))

    assert pool.take(shape(1, 100), held) == held == 0  # although the other one is smaller


def test_a_profile_that_is_exchanged_is_free_for_others_once_it_is_given_back():
    pool = ProfilePool(OPEN, [profile(1, 128), profile(1, 256)])
    held = pool.take(shape(1, 100))

    exchanged = pool.take(shape(1, 200), held)

    assert (held, exchanged) == (0, 1)
    with pytest.raises(SegdeployError, match="in use"):  # until the context has the other
        pool.take(shape(1, 100))
    pool.give_back(held)
    assert pool.take(shape(1, 100)) == 0


def test_a_profile_that_is_given_back_is_lent_again():
    pool = ProfilePool(OPEN, [profile(1, 128)])
    held = pool.take(shape(1, 100))

    pool.give_back(held)

    assert pool.take(shape(1, 100)) == held


def test_more_contexts_than_profiles_are_refused_with_what_to_do():
    pool = ProfilePool(OPEN, [profile(1, 64), profile(1, 128), profile(1, 128)])
    pool.take(shape(1, 100))
    pool.take(shape(1, 100))

    with pytest.raises(SegdeployError, match="all 2 profiles for 1x100x100x3 are in") as caught:
        pool.take(shape(1, 100))

    assert "--shapes once for each session" in caught.value.hint
    assert "SessionPool" in caught.value.hint


def test_who_cannot_exchange_a_profile_keeps_it():
    pool = ProfilePool(OPEN, [profile(1, 128), profile(1, 256)])
    held = pool.take(shape(1, 100))
    other = pool.take(shape(1, 200))

    with pytest.raises(SegdeployError, match="in use"):
        pool.take(shape(1, 200), held)

    pool.give_back(other)
    assert pool.take(shape(1, 100)) == other  # the first is still lent


@pytest.mark.parametrize("wrong", [(9, 64, 64, 3), (1, 600, 64, 3), (1, 31, 64, 3), (1, 64, 64)])
def test_a_shape_that_no_profile_covers_is_refused_with_those_that_are(wrong):
    pool = ProfilePool(OPEN, [profile(8, 512), profile(1, 128), profile(1, 128)])

    with pytest.raises(
        SegdeployError,
        match=r"the engine takes 1x32x32x3 to 8x512x512x3, or 1x32x32x3 to 1x128x128x3$",
    ) as caught:
        pool.take(wrong)

    assert "--shapes MIN,OPT,MAX" in caught.value.hint


def test_an_engine_of_fixed_shape_serves_any_number_of_contexts():
    pool = ProfilePool(FIXED, [profile(1, 128)])

    assert [pool.take(FIXED.shape) for _ in range(3)] == [None] * 3
    pool.give_back(None)


@pytest.mark.parametrize("wrong", [(2, 64, 96, 3), (1, 96, 64, 3)])
def test_an_engine_of_fixed_shape_takes_no_other(wrong):
    pool = ProfilePool(FIXED, [])

    with pytest.raises(SegdeployError, match="the engine takes 1x64x96x3") as caught:
        pool.take(wrong)

    assert "--dynamic" in caught.value.hint


def test_threads_never_get_the_same_profile():
    pool = ProfilePool(OPEN, [profile(1, 128)] * 50)

    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(lambda _: pool.take(shape(1, 100)), range(50)))

    assert sorted(taken) == list(range(50))
