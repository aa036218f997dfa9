"""The primary context comes and goes in pairs of calls; an event is one handle."""

import pytest

from segdeploy.cuda.context import Event, PrimaryContext
from segdeploy.errors import SegdeployError

CONTEXT, EVENT = 0xC0, 0xE0  # handles that the fake driver makes
DEVICE = 70  # the CUdevice of its first GPU


def test_the_primary_context_is_retained_and_not_created(driver):
    PrimaryContext(1)

    assert driver.calls == [
        ("cuInit", 0),
        ("cuDeviceGet", 1),
        ("cuDevicePrimaryCtxRetain", DEVICE + 1),
    ]


def test_a_context_is_current_inside_the_block_alone(driver):
    context = PrimaryContext(0)
    driver.calls.clear()

    with context.current():
        assert driver.calls == [("cuCtxPushCurrent_v2", CONTEXT)]

    assert driver.names == ["cuCtxPushCurrent_v2", "cuCtxPopCurrent_v2"]


def test_a_thread_gets_its_own_context_back_when_the_block_fails(driver):
    context = PrimaryContext(0)
    driver.calls.clear()

    with pytest.raises(ZeroDivisionError), context.current():
        raise ZeroDivisionError

    assert driver.names == ["cuCtxPushCurrent_v2", "cuCtxPopCurrent_v2"]


def test_a_context_that_was_not_pushed_is_not_popped(driver):
    context = PrimaryContext(0)
    driver.statuses["cuCtxPushCurrent_v2"] = 201

    with (
        pytest.raises(SegdeployError, match="cuCtxPushCurrent_v2: CUDA_ERROR_INVALID_CONTEXT"),
        context.current(),
    ):
        pytest.fail("it is not current")

    assert "cuCtxPopCurrent_v2" not in driver.names


def test_blocks_of_one_thread_lie_within_each_other(driver):
    context = PrimaryContext(0)
    driver.calls.clear()

    with context.current(), context.current():
        pass

    assert driver.names == ["cuCtxPushCurrent_v2"] * 2 + ["cuCtxPopCurrent_v2"] * 2


def test_a_context_is_released_once(driver):
    context = PrimaryContext(0)

    context.close()
    context.close()

    assert driver.calls.count(("cuDevicePrimaryCtxRelease_v2", DEVICE)) == 1


def test_an_event_orders_streams_and_measures_nothing(driver):
    event = Event()
    event.record(5)
    event.hold_back(6)
    event.wait()
    event.close()

    assert driver.calls == [
        ("cuEventCreate", 2),  # CU_EVENT_DISABLE_TIMING
        ("cuEventRecord", EVENT, 5),
        ("cuStreamWaitEvent", 6, EVENT, 0),
        ("cuEventSynchronize", EVENT),
        ("cuEventDestroy_v2", EVENT),
    ]


def test_the_default_stream_is_a_null_pointer(driver):
    event = Event()

    event.record(0)

    assert driver.calls[-1] == ("cuEventRecord", EVENT, None)


def test_an_event_says_whether_it_has_passed(driver):
    event = Event()
    assert event.has_passed() is True

    driver.statuses["cuEventQuery"] = 600

    assert event.has_passed() is False


def test_an_event_behind_work_that_failed_is_an_error(driver):
    event = Event()
    driver.statuses["cuEventQuery"] = 201

    with pytest.raises(SegdeployError, match="cuEventQuery: CUDA_ERROR_INVALID_CONTEXT"):
        event.has_passed()


def test_timed_events_say_how_long_the_gpu_took(driver):
    before, after = Event(timed=True), Event(timed=True)

    assert after.ms_since(before) == 2.5

    assert driver.calls == [
        ("cuEventCreate", 0),
        ("cuEventCreate", 0),
        ("cuEventElapsedTime", EVENT, EVENT),
    ]
