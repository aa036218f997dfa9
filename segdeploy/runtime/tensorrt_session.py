"""One context of a TensorRT engine with its streams and buffers: what a thread runs images on.

Not run on a GPU yet; see docs/verification.md.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segdeploy.artifacts import Manifest
from segdeploy.closing import Closing
from segdeploy.cuda.context import Event
from segdeploy.cuda.seam import Buffer, CudaGraph, Gpu
from segdeploy.errors import MisfitError, SegdeployError
from segdeploy.nvinfer import heard, last_error
from segdeploy.runtime.in_place import OnGpu, check_images, on_gpu, result_shape
from segdeploy.runtime.lease import Lease
from segdeploy.runtime.profiles import ProfilePool
from segdeploy.runtime.session import Split
from segdeploy.shapes import Shape, TensorInfo, shape_text
from segdeploy.spec import Device, Images

ALIGNMENT = 256  # of tensors, in bytes: setTensorAddress in NvInferRuntime.h
OTHER_PLAN = "the manifest belongs to another plan: build the engine again"
IN_FLIGHT = 2  # batches of `map`: one is copied while the other is computed


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What the sessions of one engine share."""

    manifest: Manifest
    device: Device
    gpu: Gpu
    log: Any  # ILogger
    image: TensorInfo
    result: TensorInfo
    profiles: ProfilePool
    cuda_graph: bool


class _Slot:
    """The memory of one batch on its way, and how far it is."""

    def __init__(self, image: Buffer, result: Buffer) -> None:
        self.image, self.result = image, result
        self.uploaded, self.computed, self.done = Event(), Event(), Event()
        self.graph: CudaGraph | None = None
        self.has_run = False

    def close(self) -> None:
        for part in (self.image, self.result, self.uploaded, self.computed, self.done):
            part.close()
        if self.graph is not None:
            self.graph.close()


class TensorRTSession(Closing):
    """Runs an engine, in one thread at a time."""

    def __init__(self, loaded: Loaded, context: Any) -> None:
        """Take over a new context; the engine's GPU is current."""
        self.manifest, self.device = loaded.manifest, loaded.device
        self._loaded, self._gpu, self._context = loaded, loaded.gpu, context
        self._lease = Lease(f"a session of {loaded.manifest.model}")
        self._copy_in, self._compute, self._copy_out = (self._gpu.stream() for _ in range(3))
        self._slots: list[_Slot] = []  # for the shape that is bound
        self._shape: Shape = ()
        self._profile: int | None = None
        self._executed = Event()  # behind the last execution, on whatever stream that was
        self._kept: deque[tuple[Event, OnGpu]] = deque()  # until their streams have passed

    def run(self, images: Images) -> NDArray[Any]:
        """(N, H, W, 3) uint8 RGB -> the engine's output: labels or logits."""
        with self._lease.use(), self._gpu.current():
            return self._finish(self._start(images, 0))

    def map(self, batches: Iterable[Images]) -> Iterator[NDArray[Any]]:
        """`run` of each batch, in order; the copies of one overlap with the work of another."""
        started: deque[_Slot] = deque()

        def finish(left: int) -> Iterator[NDArray[Any]]:
            while len(started) > left:
                with self._gpu.current():  # not across a yield: the caller has its own
                    result = self._finish(started.popleft())
                yield result

        with self._lease.use():
            for count, images in enumerate(batches):
                yield from finish(IN_FLIGHT - 1 if images.shape == self._shape else 0)
                with self._gpu.current():
                    started.append(self._start(images, count % IN_FLIGHT))
            yield from finish(0)

    def enqueue(self, images: Any, result: Any, stream: Any = None) -> None:
        """`run` on arrays of the GPU, in place, on the caller's stream; it does not wait."""
        with self._lease.use(), self._gpu.current():
            arrays = on_gpu(images, result, stream, self.manifest, self.device)
            _check_address(arrays.images.pointer, "images")
            _check_address(arrays.result.pointer, "result")
            self._let_go()
            self._bind(arrays.images.shape)
            self._execute(arrays.images.pointer, arrays.result.pointer, arrays.stream)
            passed = Event()
            passed.record(arrays.stream)
            self._kept.append((passed, arrays))

    def split(self, images: Images) -> Split:
        """`run` on one stream, with the time of each part by events."""
        check_images(images)
        with self._lease.use(), self._gpu.current(), ExitStack() as stack:
            self._bind(images.shape)
            slot, stream = self._slot(0), self._compute
            marks = [stack.enter_context(closing(Event(timed=True))) for _ in range(4)]
            np.copyto(slot.image.host, images, casting="no")
            marks[0].record(stream.handle)
            slot.image.upload(stream)
            marks[1].record(stream.handle)
            self._execute(slot.image.address, slot.result.address, stream.handle)
            marks[2].record(stream.handle)
            slot.result.download(stream)
            marks[3].record(stream.handle)
            marks[3].wait()
            parts = [later.ms_since(earlier) for earlier, later in pairwise(marks)]
            return Split(slot.result.host.copy(), *parts)

    def _start(self, images: Images, index: int) -> _Slot:
        """Put the way of a batch on the streams: up, through the engine, down."""
        check_images(images)
        self._bind(images.shape)
        slot = self._slot(index)
        np.copyto(slot.image.host, images, casting="no")
        if self._loaded.cuda_graph:
            self._start_as_graph(slot)
            return slot
        slot.image.upload(self._copy_in)
        slot.uploaded.record(self._copy_in.handle)
        slot.uploaded.hold_back(self._compute.handle)
        self._execute(slot.image.address, slot.result.address, self._compute.handle)
        slot.computed.record(self._compute.handle)
        slot.computed.hold_back(self._copy_out.handle)
        slot.result.download(self._copy_out)
        slot.done.record(self._copy_out.handle)
        return slot

    def _start_as_graph(self, slot: _Slot) -> None:
        """All on one stream; from the second batch of a shape on as one captured graph."""

        def work() -> None:
            slot.image.upload(self._compute)
            self._launch(slot.image.address, slot.result.address, self._compute.handle)
            slot.result.download(self._compute)

        if slot.has_run and slot.graph is None:  # TensorRT wants one run before a capture
            slot.graph = self._gpu.capture(self._compute, work)
        self._executed.hold_back(self._compute.handle)
        if slot.graph is None:
            work()
        else:
            slot.graph.launch(self._compute)
        self._executed.record(self._compute.handle)
        slot.has_run = True
        slot.done.record(self._compute.handle)

    def _finish(self, slot: _Slot) -> NDArray[Any]:
        slot.done.wait()
        return slot.result.host.copy()  # the next batch comes to the same place

    def _execute(self, image: int, result: int, stream: int) -> None:
        """One context has one piece of memory: two executions must not overlap."""
        self._executed.hold_back(stream)
        self._launch(image, result, stream)
        self._executed.record(stream)

    def _launch(self, image: int, result: int, stream: int) -> None:
        with heard(self._loaded.log) as said:
            done = (
                self._context.set_tensor_address(self._loaded.image.name, image)
                and self._context.set_tensor_address(self._loaded.result.name, result)
                and self._context.execute_async_v3(stream)
            )
        if not done:
            raise SegdeployError(
                f"{self.manifest.model}: the engine did not run ({last_error(said)})"
            )

    def _bind(self, shape: Shape) -> None:
        """Make the context ready for this shape, once nothing of another is on its way."""
        if shape == self._shape:
            return
        self._settle()
        with heard(self._loaded.log) as said:
            done = self._take_profile(shape) and self._context.set_input_shape(
                self._loaded.image.name, shape
            )
        if not done:
            raise SegdeployError(
                f"{self.manifest.model}: the engine refuses an image batch of {shape_text(shape)} "
                f"({last_error(said)})",
                hint="build it with --shapes MIN,OPT,MAX around this shape",
            )
        self._check_result(shape)
        self._shape = shape

    def _take_profile(self, shape: Shape) -> bool:
        """The old profile is free for others once the context has the new one, and not before."""
        wanted = self._loaded.profiles.take(shape, self._profile)
        if wanted == self._profile:
            return True
        if not self._context.set_optimization_profile_async(wanted, self._compute.handle):
            self._loaded.profiles.give_back(wanted)
            return False
        self._loaded.profiles.give_back(self._profile)
        self._profile = wanted
        self._compute.wait()  # or an execution on another stream may come before the profile
        return True

    def _check_result(self, shape: Shape) -> None:
        """The caller's memory has the size that the manifest gives it."""
        found = tuple(self._context.get_tensor_shape(self._loaded.result.name))
        wanted = result_shape(self.manifest, *shape[:3])
        if found != wanted:
            raise MisfitError(
                f"{self.manifest.model}: the engine returns {shape_text(found)} for an image batch "
                f"of {shape_text(shape)}, its manifest says {shape_text(wanted)}",
                hint=OTHER_PLAN,
            )

    def _slot(self, index: int) -> _Slot:
        while len(self._slots) <= index:
            shape = tuple(self._context.get_tensor_shape(self._loaded.result.name))
            image = self._gpu.buffer(self._shape, self._loaded.image.dtype)
            try:
                result = self._gpu.buffer(shape, self._loaded.result.dtype)
            except SegdeployError:
                image.close()
                raise
            self._slots.append(_Slot(image, result))
        return self._slots[index]

    def _settle(self) -> None:
        """Wait for all that is on its way, then free the buffers."""
        self._executed.wait()  # on a caller's stream
        for stream in (self._compute, self._copy_out):  # of a `map` that was given up
            stream.wait()
        self._let_go(wait=True)
        self._shape = ()
        while self._slots:
            self._slots.pop().close()

    def _let_go(self, *, wait: bool = False) -> None:
        """Of the caller's arrays whose streams have passed."""
        while self._kept and (wait or self._kept[0][0].has_passed()):
            passed, _ = self._kept.popleft()
            if wait:
                passed.wait()
            passed.close()

    def close(self) -> None:
        """Free the context, its buffers and streams; once."""
        self._lease.end(self._free)

    def _free(self) -> None:
        with self._gpu.current():
            self._settle()
            self._context = None
            self._executed.close()
            for stream in (self._copy_in, self._compute, self._copy_out):
                stream.close()
        self._loaded.profiles.give_back(self._profile)


def _check_address(pointer: int, what: str) -> None:
    if pointer % ALIGNMENT:
        raise SegdeployError(
            f"{what}: begins at no multiple of {ALIGNMENT} bytes, which TensorRT needs",
            hint="new arrays of a library do; copy what is a part of another",
        )
