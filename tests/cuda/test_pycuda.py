"""The seam over pycuda, with a package in its place that records what it is asked."""

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from segdeploy.errors import SegdeployError

OURS = "segdeploy.cuda.pycuda"


class FakeDriver(ModuleType):
    """`pycuda.driver` as far as it is used; device memory is an array that `int` numbers."""

    class Error(Exception):
        """As pycuda's: the name of the call, then of the error."""

    class MemoryError(Error):
        """cuMemAlloc had none left."""

    def __init__(self) -> None:
        super().__init__("pycuda.driver")
        self.calls: list[tuple[Any, ...]] = []
        self.failures: dict[str, Exception] = {}
        fake = self

        class Context:
            def push(self) -> None:
                fake.note("push")

            @staticmethod
            def pop() -> None:
                fake.note("pop")

        class Device:
            def __init__(self, index: int) -> None:
                fake.note("Device", index)

            def retain_primary_context(self) -> Context:
                fake.note("retain_primary_context")
                return Context()

            def make_context(self) -> Context:
                pytest.fail("that is a second context")

        class Stream:
            handle = 7

            def __init__(self, flags: int = 0) -> None:
                fake.note("Stream", flags)

            def synchronize(self) -> None:
                fake.note("synchronize")

            def __del__(self) -> None:
                fake.calls.append(("destroyed",))

        class Allocation:
            def __init__(self, count: int) -> None:
                fake.note("mem_alloc", count)
                self.memory = np.zeros(count, np.uint8)

            def __int__(self) -> int:
                return 0xD000

            def free(self) -> None:
                fake.note("free")

        self.Context, self.Device, self.Stream, self.mem_alloc = Context, Device, Stream, Allocation

    def note(self, *call: Any) -> None:
        self.calls.append(call)
        if call[0] in self.failures:
            raise self.failures[call[0]]

    def init(self) -> None:
        self.note("init")

    def pagelocked_empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        self.note("pagelocked_empty", shape, dtype)
        return np.empty(shape, dtype)

    def memcpy_htod_async(self, dest: Any, src: Any, stream: Any = None) -> None:
        self.note("memcpy_htod_async", stream)
        dest.memory[:] = np.frombuffer(src.tobytes(), np.uint8)

    def memcpy_dtoh_async(self, dest: Any, src: Any, stream: Any = None) -> None:
        self.note("memcpy_dtoh_async", stream)
        dest[...] = src.memory.view(dest.dtype).reshape(dest.shape)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    package, made = ModuleType("pycuda"), FakeDriver()
    package.__spec__ = ModuleSpec("pycuda", None)
    package.driver = made
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", made)
    return made


@pytest.fixture
def seam(fake, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Our module over the fake, which no other test sees."""
    spec = importlib.util.find_spec(OURS)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def gpu(seam, fake):
    made = seam.Gpu(0)
    fake.calls.clear()
    return made


def test_the_primary_context_is_retained_and_autoinit_is_never_loaded(seam, fake):
    seam.Gpu(1)

    assert fake.calls == [("init",), ("Device", 1), ("retain_primary_context",)]
    assert "pycuda.autoinit" not in sys.modules


def test_a_context_is_pushed_and_popped_in_pairs_also_when_the_block_fails(gpu, fake):
    with gpu.current():
        assert fake.calls == [("push",)]
    with pytest.raises(ZeroDivisionError), gpu.current():
        raise ZeroDivisionError

    assert fake.calls == [("push",), ("pop",), ("push",), ("pop",)]


def test_a_context_that_was_not_pushed_is_not_popped(gpu, fake):
    fake.failures["push"] = fake.Error("cuCtxPushCurrent failed: invalid device context")

    with pytest.raises(SegdeployError, match="cuCtxPushCurrent failed"), gpu.current():
        pytest.fail("it is not current")

    assert fake.calls == [("push",)]


def test_a_stream_waits_for_nobody_elses_work_and_ends_with_its_last_reference(gpu, fake):
    stream = gpu.stream()
    stream.wait()
    assert stream.handle == 7

    stream.close()

    assert fake.calls == [("Stream", 1), ("synchronize",), ("destroyed",)]


def test_what_is_uploaded_is_downloaded(gpu, fake):
    stream, buffer = gpu.stream(), gpu.buffer((2, 3), np.float32)
    sent = np.arange(6, dtype=np.float32).reshape(2, 3)

    buffer.host[...] = sent
    buffer.upload(stream)
    buffer.host[...] = 0
    buffer.download(stream)

    np.testing.assert_array_equal(buffer.host, sent)
    assert fake.calls[1:] == [
        ("pagelocked_empty", (2, 3), np.float32),
        ("mem_alloc", 24),
        ("memcpy_htod_async", stream.pycuda_stream),
        ("memcpy_dtoh_async", stream.pycuda_stream),
    ]


def test_a_buffer_has_an_address_for_tensorrt_also_when_it_is_empty(gpu, fake):
    buffer = gpu.buffer((0, 3), np.uint8)

    assert buffer.address == 0xD000
    assert fake.calls[-1] == ("mem_alloc", 1)


def test_closing_a_buffer_frees_the_gpu_and_leaves_no_pinned_array(gpu, fake):
    buffer = gpu.buffer((2, 3), np.float32)

    buffer.close()

    assert fake.calls[-1] == ("free",)
    assert buffer.host.size == 0


def test_graphs_are_refused_with_the_package_that_has_them(gpu):
    with pytest.raises(SegdeployError, match="pycuda cannot capture CUDA graphs") as caught:
        gpu.capture(gpu.stream(), lambda: pytest.fail("nothing runs"))

    assert "cuda-python" in caught.value.hint
    assert not gpu.has_graphs


@pytest.mark.parametrize(
    ("call", "use"),
    [
        ("Stream", lambda gpu: gpu.stream()),
        ("synchronize", lambda gpu: gpu.stream().wait()),
        ("pagelocked_empty", lambda gpu: gpu.buffer((2,), np.uint8)),
        ("memcpy_htod_async", lambda gpu: gpu.buffer((2,), np.uint8).upload(gpu.stream())),
        ("memcpy_dtoh_async", lambda gpu: gpu.buffer((2,), np.uint8).download(gpu.stream())),
        ("free", lambda gpu: gpu.buffer((2,), np.uint8).close()),
    ],
)
def test_an_error_of_pycuda_is_ours_and_keeps_its_words(gpu, fake, call, use):
    fake.failures[call] = fake.Error(f"{call} failed: an illegal memory access was encountered")

    with pytest.raises(SegdeployError, match=f"{call} failed: an illegal") as caught:
        use(gpu)

    assert caught.value.hint == ""


def test_a_gpu_that_is_not_there_is_an_error(seam, fake):
    fake.failures["Device"] = fake.Error("cuDeviceGet failed: invalid device ordinal")

    with pytest.raises(SegdeployError, match="invalid device ordinal"):
        seam.Gpu(9)


def test_memory_that_runs_out_has_a_hint(gpu, fake):
    fake.failures["mem_alloc"] = fake.MemoryError("cuMemAlloc failed: out of memory")

    with pytest.raises(SegdeployError, match="out of memory") as caught:
        gpu.buffer((4,), np.uint8)

    assert "smaller batch" in caught.value.hint
