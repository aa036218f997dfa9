"""A GPU and a TensorRT that are simulated, so that the order of the calls can be wrong.

Nothing on a stream runs before somebody waits for it, and then no more than has to: what was
overwritten too early, or not ordered behind other work, gives a wrong label map.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from segdeploy.errors import SegdeployError

VERSION = "10.9.0.34"
PER_THREAD = 2  # cudaStreamPerThread


@dataclass
class Ticket:
    """Where an event was recorded."""

    stream: tuple[int, int]
    has_passed: bool = False
    passed_ms: int = 0


@dataclass
class World:
    """The streams of the machine, the memory of the GPU, and what was asked of it, in order."""

    calls: list[str] = field(default_factory=list)
    memory: dict[int, np.ndarray] = field(default_factory=dict)
    streams: dict[tuple[int, int], deque[Callable[[], None] | Ticket]] = field(default_factory=dict)
    current: int = 0  # how often the GPU has been made current
    has_graphs: bool = True
    capturing: list[Callable[[], None]] | None = None
    open_parts: set[str] = field(default_factory=set)
    made: int = 0
    now_ms: int = 0  # each copy takes one, each execution five
    thread: int = 0  # that speaks
    is_failing: bool = False  # to wait for a stream, once

    def name(self, kind: str) -> tuple[int, str]:
        assert self.current, f"{kind} was made while no GPU was current"
        address = self.address()
        self.open_parts.add(f"{kind} {self.made}")
        return address, f"{kind} {self.made}"

    def address(self) -> int:
        """A new one, aligned as CUDA's are."""
        self.made += 1
        return 256 * self.made

    def place(self, stream: int) -> tuple[int, int]:
        """Which stream a handle means: one is another in each thread."""
        return stream, self.thread if stream == PER_THREAD else 0

    def put(self, stream: int, work: Callable[[], None]) -> None:
        if self.capturing is not None:
            self.capturing.append(work)
        else:
            self.streams.setdefault(self.place(stream), deque()).append(work)

    def run_until(self, ticket: Ticket) -> None:
        while not ticket.has_passed:
            first = self.streams[ticket.stream].popleft()
            if isinstance(first, Ticket):
                first.has_passed, first.passed_ms = True, self.now_ms
            else:
                first()

    def finish(self, stream: int) -> None:
        self.run_until(self.record(stream))

    def record(self, stream: int) -> Ticket:
        assert self.capturing is None, "an event outside was recorded in a capture"
        ticket = Ticket(self.place(stream))
        self.streams.setdefault(ticket.stream, deque()).append(ticket)
        return ticket


class SimulatedStream:
    def __init__(self, world: World) -> None:
        self.world = world
        self.handle, self.part = world.name("stream")

    def wait(self) -> None:
        if self.world.is_failing:
            self.world.is_failing = False
            raise SegdeployError("the driver cannot wait")
        self.world.finish(self.handle)

    def close(self) -> None:
        self.world.open_parts.remove(self.part)


class SimulatedBuffer:
    def __init__(self, world: World, shape: tuple[int, ...], dtype: Any) -> None:
        self.world = world
        self.address, self.part = world.name("buffer")
        self.host = np.full(shape, 99, dtype)
        world.memory[self.address] = np.full(shape, 98, dtype)
        self.on_their_way = 0

    def upload(self, stream: SimulatedStream) -> None:
        self._copy(stream, self.world.memory[self.address], self.host)

    def download(self, stream: SimulatedStream) -> None:
        self._copy(stream, self.host, self.world.memory[self.address])

    def _copy(self, stream: SimulatedStream, target: np.ndarray, source: np.ndarray) -> None:
        def copy() -> None:
            np.copyto(target, source)
            self.on_their_way -= 1
            self.world.now_ms += 1

        self.on_their_way += 1
        self.world.put(stream.handle, copy)

    def close(self) -> None:
        assert self.on_their_way <= 0, "memory was freed under a copy"  # a graph copies more often
        del self.world.memory[self.address]
        self.world.open_parts.remove(self.part)


class SimulatedGraph:
    def __init__(self, world: World, work: list[Callable[[], None]]) -> None:
        self.world, self.work = world, work
        self.part = world.name("graph")[1]

    def launch(self, stream: SimulatedStream) -> None:
        self.world.calls.append("launch")
        for step in self.work:
            self.world.put(stream.handle, step)

    def close(self) -> None:
        self.world.open_parts.remove(self.part)


class SimulatedGpu:
    def __init__(self, world: World) -> None:
        self.world = world
        self.has_graphs = world.has_graphs

    @contextmanager
    def current(self) -> Iterator[None]:
        self.world.current += 1
        yield
        self.world.current -= 1

    def stream(self) -> SimulatedStream:
        return SimulatedStream(self.world)

    def buffer(self, shape: tuple[int, ...], dtype: Any) -> SimulatedBuffer:
        return SimulatedBuffer(self.world, shape, dtype)

    def capture(self, stream: SimulatedStream, work: Callable[[], None]) -> SimulatedGraph:
        self.world.calls.append("capture")
        self.world.capturing = []
        work()
        captured, self.world.capturing = self.world.capturing, None
        return SimulatedGraph(self.world, captured)

    def close(self) -> None:
        self.world.calls.append("gpu closed")


class SimulatedEvent:
    world: World  # set by the fixture

    def __init__(self, *, timed: bool = False) -> None:
        self.part = self.world.name("event")[1]
        self.timed = timed
        self.ticket: Ticket | None = None

    def record(self, stream: int) -> None:
        self.ticket = self.world.record(stream)

    def hold_back(self, stream: int) -> None:
        if (ticket := self.ticket) is not None:  # as it is now: it may be recorded anew
            self.world.put(stream, lambda: self.world.run_until(ticket))

    def wait(self) -> None:
        if self.ticket is not None:
            self.world.run_until(self.ticket)

    def ms_since(self, earlier: "SimulatedEvent") -> float:
        for event in (self, earlier):
            assert event.timed, "an event that keeps no time was asked for it"
            assert event.has_passed(), "the time was asked for before the mark had passed"
        assert self.ticket is not None
        assert earlier.ticket is not None
        return float(self.ticket.passed_ms - earlier.ticket.passed_ms)

    def has_passed(self) -> bool:
        return self.ticket is None or self.ticket.has_passed

    def close(self) -> None:
        self.world.open_parts.remove(self.part)


class SimulatedContext:
    """The "network" returns the red channel. One piece of memory serves all its executions."""

    def __init__(self, world: World, profiles: list[list[tuple[int, ...]]]) -> None:
        self.world, self.profiles = world, profiles
        self.profile = self.ready_profile = 0
        self.shape: tuple[int, ...] = ()
        self.addresses: dict[str, int] = {}
        self.executions = 0
        self.ended = 0
        self.takes_profiles = True
        self.scale = 1  # rows of the output for each of the input

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        if not self.takes_profiles:
            return False
        self.world.calls.append(f"profile {index}")
        self.profile = index
        self.world.put(stream, lambda: setattr(self, "ready_profile", index))
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert self.ended == self.executions, "the shape changed under an execution"
        low, _, high = self.profiles[self.profile]
        self.shape = shape
        return all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        count, height, width, _ = self.shape
        return self.shape if name == "image" else (count, self.scale * height, width)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert self.world.current, "executed while no GPU was current"
        self.world.calls.append("execute")
        image, labels = self.addresses["image"], self.addresses["labels"]
        self.executions += 1
        number = self.executions

        def compute() -> None:
            assert self.ready_profile == self.profile, "executed before the profile was there"
            assert number == self.ended + 1 or number <= self.ended, "executions overlapped"
            self.ended = max(self.ended, number)
            self.world.now_ms += 5
            np.copyto(self.world.memory[labels], self.world.memory[image][..., 0])

        self.world.put(stream, compute)
        return True


class SimulatedEngine:
    """One uint8 input and one output; of any size between the profiles' ends, or of one size."""

    num_io_tensors = 2

    def __init__(self, world: World) -> None:
        self.world = world
        self.shape: tuple[int, ...] = (-1, -1, -1, 3)
        self.profiles = [[(1, 1, 1, 3), (1, 4, 6, 3), (2, 8, 8, 3)]]
        self.contexts: list[SimulatedContext] = []
        self.has_memory = True

    @property
    def num_optimization_profiles(self) -> int:
        return len(self.profiles)

    def get_tensor_name(self, index: int) -> str:
        return ("image", "labels")[index]

    def get_tensor_mode(self, name: str) -> str:
        return {"image": "input", "labels": "output"}[name]

    def get_tensor_dtype(self, name: str) -> str:
        return "uint8"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shape if name == "image" else self.shape[:3]

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        return self.profiles[index]

    def create_execution_context(self) -> SimulatedContext | None:
        if not self.has_memory:
            return None
        self.contexts.append(SimulatedContext(self.world, self.profiles))
        return self.contexts[-1]


class SimulatedLibrary(ModuleType):
    """A TensorRT whose runtime loads every plan that is not empty."""

    __version__ = VERSION
    TensorIOMode = SimpleNamespace(INPUT="input", OUTPUT="output")
    nptype = staticmethod(np.dtype)

    class ILogger:
        """Only a base class."""

    def __init__(self, world: World) -> None:
        super().__init__("tensorrt")
        self.engine = SimulatedEngine(world)
        self.log: Any = None
        self.refits = self.lean_loads = True
        self.lean: list[str] = []
        self.refitted: list[str] = []

    def Refitter(self, engine: Any, log: Any) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(refit_cuda_engine=lambda: self.refits)

    def OnnxParserRefitter(self, refitter: Any, log: Any) -> SimpleNamespace:  # noqa: N802
        def refit(path: str) -> bool:
            self.refitted.append(path)
            return True

        return SimpleNamespace(refit_from_file=refit)

    def say(self, text: str) -> None:
        self.log.log(SimpleNamespace(name="ERROR"), text)

    def Runtime(self, log: Any) -> SimpleNamespace:  # noqa: N802
        self.log = log

        def deserialize(plan: bytes) -> SimulatedEngine | None:
            if plan:
                return self.engine
            self.say("magicTag failed")
            return None

        def load_runtime(path: str) -> SimpleNamespace | None:
            self.lean.append(path)
            return runtime if self.lean_loads else None

        runtime = SimpleNamespace(deserialize_cuda_engine=deserialize, load_runtime=load_runtime)
        return runtime


class OnGpu:
    """An array of the caller's on the simulated GPU."""

    def __init__(self, world: World, values: np.ndarray) -> None:
        self.pointer, self.shape = world.address(), values.shape
        self.values = world.memory[self.pointer] = values.copy()


def batches(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    """Noise of (N, H, W) each, as (N, H, W, 3) uint8."""
    dice = np.random.default_rng(0)
    return [dice.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]
