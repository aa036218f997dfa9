"""The primary context of a GPU, and events: what orders our work and a caller's.

Over the driver's own functions, so that either CUDA package can be used beside it: handles of
streams are the same in all of them. Not run on a GPU yet; see docs/verification.md.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

from segdeploy.cuda import call_driver

DISABLE_TIMING = 2  # CU_EVENT_DISABLE_TIMING: the cheapest event


class PrimaryContext:
    """The one context that PyTorch, CuPy and the CUDA runtime share on a GPU."""

    def __init__(self, index: int) -> None:
        """Keep it alive; it is created if nobody has."""
        self._device, self._context = ctypes.c_int(), ctypes.c_void_p()
        call_driver("cuInit", 0)
        call_driver("cuDeviceGet", ctypes.byref(self._device), index)
        call_driver("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make it this thread's context, and give the thread its own back."""
        call_driver("cuCtxPushCurrent_v2", self._context)
        try:
            yield
        finally:
            call_driver("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))

    def close(self) -> None:
        """Let go of it; once."""
        if self._context:
            call_driver("cuDevicePrimaryCtxRelease_v2", self._device)
            self._context = ctypes.c_void_p()


class Event:
    """A mark on a stream, made in the current context; streams are handles, as integers."""

    def __init__(self, *, timed: bool = False) -> None:
        self._event = ctypes.c_void_p()
        call_driver("cuEventCreate", ctypes.byref(self._event), 0 if timed else DISABLE_TIMING)

    def record(self, stream: int) -> None:
        """Move the mark behind all that is on the stream now."""
        call_driver("cuEventRecord", self._event, ctypes.c_void_p(stream))

    def hold_back(self, stream: int) -> None:
        """Let what is put on `stream` from now on wait for the mark."""
        call_driver("cuStreamWaitEvent", ctypes.c_void_p(stream), self._event, 0)

    def wait(self) -> None:
        """Block until the mark has passed."""
        call_driver("cuEventSynchronize", self._event)

    def ms_since(self, earlier: "Event") -> float:
        """Milliseconds of the GPU between two timed marks that have passed."""
        found = ctypes.c_float()
        call_driver("cuEventElapsedTime", ctypes.byref(found), earlier._event, self._event)
        return found.value

    def has_passed(self) -> bool:
        """Whether all before the mark has run."""
        return call_driver("cuEventQuery", self._event, ready=False)

    def close(self) -> None:
        """Destroy it."""
        call_driver("cuEventDestroy_v2", self._event)
