"""ONNX Runtime: sessions, and graphs optimized ahead of time for this kind of processor."""

import copy
import ctypes
import platform
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from segdeploy.artifacts import EnginePlan, Graph, Manifest, writing
from segdeploy.closing import Closing
from segdeploy.cores import default_threads
from segdeploy.cuda import call_driver
from segdeploy.cuda.context import PrimaryContext
from segdeploy.errors import MisfitError, SegdeployError, needs
from segdeploy.graph import Cut
from segdeploy.runtime.in_place import OnGpu, OnHost, check_images, on_gpu, on_host, result_dtype
from segdeploy.runtime.lease import Lease
from segdeploy.runtime.providers import CPU_PROVIDER, ProviderChoice, choose_provider
from segdeploy.runtime.session import RunOptions
from segdeploy.spec import CPU, Device, Images, MaskPlace, Output, Size

# It would quantize weights of convolutions that were left floating on purpose.
DISABLED = ["WeightBiasQuantization"]
# Without VNNI, x86 sums int8 products in 16 bits, which saturate unless this is set: 8-bit weights
# then lost 7 dB (measured on AVX2, DeepLabV3+ on CamVid). With VNNI all sums are exact, and the
# setting only keeps it from being used: FCN took 1117 ms instead of 433.
EXACT_INT8 = ("session.x64quantprecision", "1")
# Its threads wait for the next operator in a busy loop: not behind the last one, where the mask is
# made on the same cores (3.6 ms alone, 5.1 beside the loop, at 1024x2048).
NO_IDLE_LOOP = ("session.force_spinning_stop", "1")
LOAD_FORMAT = "session.load_model_format"  # as is said, not as the bytes look
VNNI = ("avx512_vnni", "avx_vnni")
VERSION: str = onnxruntime.__version__


class OnnxRuntimeSession(Closing):
    """A graph, or an engine of `build_onnxruntime_engine`, loaded by ONNX Runtime."""

    def __init__(
        self,
        model: Path | bytes,
        manifest: Manifest,
        *,
        device: Device = CPU,
        provider: ProviderChoice = CPU_PROVIDER,
        threads: int = 0,
        optimized: bool = False,
    ) -> None:
        """Load a file or the bytes of one.

        Args:
            model: the file, or what is in it.
            manifest: its manifest.
            device: where it runs.
            provider: what of ONNX Runtime runs it there.
            threads: 0 leaves the number to ONNX Runtime.
            optimized: the graph passes have run already.

        Raises:
            SegdeployError: the file cannot be loaded, or ONNX Runtime fell back to another device.
        """
        self.manifest = manifest
        self.device = device
        if device.is_cuda and hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()  # CUDA's libraries that pip installed, which no loader finds
        if provider.name not in onnxruntime.get_available_providers():
            raise _no_provider(provider, "this build of it has none")
        self._threads = threads or default_threads()
        with _loading("the graph" if isinstance(model, bytes) else str(model)):
            session = onnxruntime.InferenceSession(
                model if isinstance(model, bytes) else str(model),
                _options(self._threads, optimized=optimized),
                providers=[provider],
                disabled_optimizers=DISABLED,
            )
        used = session.get_providers()[0]
        if used != provider.name:  # ONNX Runtime falls back to the CPU with a log line only
            raise _no_provider(provider, f"it gave {used}")
        self._session: Any = session
        self._batch_labels = None
        if (manifest.output, manifest.mask) == (Output.LABELS, MaskPlace.HOST):
            with needs("numba", extra="onnxruntime"):
                from segdeploy.masks import batch_labels, compile_loops
            compile_loops()  # now, not with the first image
            self._batch_labels = batch_labels
        self._input = session.get_inputs()[0].name
        self._output_names = [output.name for output in session.get_outputs()]
        if device.is_cuda:
            self._context = PrimaryContext(device.number)  # for as long as the process lives
        self._lease = Lease(f"a session of {manifest.model}")

    def share(self) -> Self:
        """Another session over the same loaded model, which any number of threads can run."""
        other = copy.copy(self)
        other._lease = Lease(f"a session of {self.manifest.model}")
        return other

    def run(self, images: Images) -> NDArray[Any]:
        """(N, H, W, 3) uint8 RGB -> labels or logits, as the manifest says."""
        check_images(images)
        found = self.outputs(images)[self._output_names[0]]
        if self._batch_labels is None:
            return found
        size = Size(*images.shape[1:3])
        return self._batch_labels(found, size, size, threads=self._threads)

    def map(self, batches: Iterable[Images]) -> Iterator[NDArray[Any]]:
        """`run` of each batch, in order."""
        return map(self.run, batches)

    def outputs(self, images: Images) -> Mapping[str, NDArray[Any]]:
        """Every output by name: a graph with exposed tensors has more than one."""
        with self._lease.use(), _running(images.shape):
            values = self._session.run(self._output_names, {self._input: images})
        return dict(zip(self._output_names, values, strict=True))

    def enqueue(self, images: Any, result: Any, stream: Any = None) -> None:
        """`run` on arrays of the caller, in place; it returns when the result is there.

        On a GPU it waits for `stream` first: ONNX Runtime runs on a stream of its own.
        """
        if self.device.is_cuda:
            with self._context.current():
                placed = on_gpu(images, result, stream, self.manifest, self.device)
                call_driver("cuStreamSynchronize", ctypes.c_void_p(placed.stream))
            self._run_between(placed.images.pointer, placed.result.pointer, placed)
            return
        arrays = on_host(images, result, stream, self.manifest)
        if self._batch_labels is None:
            self._run_between(arrays.images.ctypes.data, arrays.result.ctypes.data, arrays)
            return
        scores = self.outputs(arrays.images)[self._output_names[0]]
        size = Size(*arrays.images.shape[1:3])
        self._batch_labels(scores, size, size, threads=self._threads, out=arrays.result)

    def _run_between(self, source: int, target: int, arrays: OnHost | OnGpu) -> None:
        """Read the images at one address, write the result to another."""
        place = ("cuda", self.device.number) if self.device.is_cuda else ("cpu", 0)
        shape, dtype = arrays.images.shape, result_dtype(self.manifest)
        with self._lease.use(), _running(shape):
            binding = self._session.io_binding()
            binding.bind_input(self._input, *place, np.uint8, shape, source)
            binding.bind_output(self._output_names[0], *place, dtype, arrays.result.shape, target)
            self._session.run_with_iobinding(binding)

    def close(self) -> None:
        """Let go of the loaded model; once."""
        self._lease.end(self._free)

    def _free(self) -> None:
        self._session = None


@contextmanager
def _loading(where: str) -> Iterator[None]:
    """Say in words what ONNX Runtime refuses."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a provider it lacks: checked later
            yield
    except Exception as error:  # its exceptions share no base class of their own
        if not type(error).__module__.startswith("onnxruntime") and type(error) is not ValueError:
            raise
        raise SegdeployError(
            f"{where}: ONNX Runtime {VERSION} cannot load it ({str(error).splitlines()[0]})"
        ) from error


def _no_provider(provider: ProviderChoice, reason: str) -> SegdeployError:
    return SegdeployError(
        f"asked ONNX Runtime for {provider.name}, {reason}",
        hint="segdeploy doctor says what CUDA needs; --device cpu runs here",
    )


@cache
def _share_memory() -> None:
    """One arena for all sessions that ask for it: with one each, sixty pieces kept 3.4 GB."""
    place = onnxruntime.OrtMemoryInfo(
        "Cpu",
        onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR,
        0,
        onnxruntime.OrtMemType.DEFAULT,
    )
    onnxruntime.create_and_register_allocator(place, None)


class PieceByPiece:
    """A graph that hands out its inner tensors one after the other, and forgets each.

    It takes the time of an ordinary session (2.65 s for DeepLabV3+ at 512x1024) and little more
    memory (0.77 GB against 0.66); a session with all these outputs took 3.1 GB.
    """

    def __init__(self, cut: Cut, *, threads: int = 0) -> None:
        """Load what `graph.cut_graph` returned."""
        self._input, self._names = cut.input, cut.names
        self._pieces = [replace(piece, model=b"") for piece in cut.pieces]  # sessions have it
        self.threads = threads or default_threads()
        _share_memory()
        options = _options(self.threads, optimized=False)
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_mem_pattern = False  # of a size seen before; the arena is shared
        with _loading("the graph"):
            self._sessions = [
                onnxruntime.InferenceSession(
                    piece.model,
                    options,
                    providers=[CPU_PROVIDER],
                    disabled_optimizers=DISABLED,
                )
                for piece in cut.pieces
            ]

    def run(self, images: Images) -> Iterator[tuple[str, NDArray[Any]]]:
        """(N, H, W, 3) uint8 -> each tensor by name, as soon as it is computed."""
        alive: dict[str, NDArray[Any]] = {self._input: images}
        for piece, session in zip(self._pieces, self._sessions, strict=True):
            read = {name: alive[name] for name in piece.inputs}
            with _running(images.shape):
                found = session.run(list(piece.outputs), read)
            del read
            while found:
                name = piece.outputs[len(piece.outputs) - len(found)]
                alive[name] = found.pop(0)
                if name in self._names:
                    yield name, alive[name]
            for name in piece.finished:
                alive.pop(name, None)


@contextmanager
def _running(shape: tuple[int, ...]) -> Iterator[None]:
    """Say in words what ONNX Runtime cannot run."""
    try:
        yield
    except Exception as error:  # with arrays in place it raises RuntimeError
        if not type(error).__module__.startswith("onnxruntime") and type(error) is not RuntimeError:
            raise
        raise SegdeployError(
            f"an image batch of shape {shape} was refused ({str(error).splitlines()[0]})",
            hint="segdeploy inspect shows what it takes; export --dynamic takes any size",
        ) from error


def _options(threads: int, *, optimized: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    if not _processor_flags() & set(VNNI):
        options.add_session_config_entry(*EXACT_INT8)
    options.add_session_config_entry(*NO_IDLE_LOOP)
    options.add_session_config_entry(LOAD_FORMAT, "ORT" if optimized else "ONNX")
    if optimized:
        level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    else:
        level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.graph_optimization_level = level
    return options


def optimize_graph(graph: bytes, out: Path) -> None:
    """Run all of ONNX Runtime's graph passes once; keep the result in its own format (.ort).

    The layout it chooses depends on the processor's vector width, so the file is tied to that and
    to the version of ONNX Runtime; `open_plan` refuses it elsewhere.
    """
    options = _options(0, optimized=False)
    options.add_session_config_entry("session.save_model_format", "ORT")
    with writing(out) as temporary, _loading("the graph"):
        options.optimized_model_filepath = str(temporary)
        onnxruntime.InferenceSession(
            graph,
            options,
            providers=[CPU_PROVIDER],
            disabled_optimizers=DISABLED,
        )


def open_graph(graph: Graph, device: Device, options: RunOptions) -> OnnxRuntimeSession:
    """Open a graph; ONNX Runtime optimizes it now. On a GPU its TensorRT engines lie beside it."""
    cache = graph.path.parent / "onnxruntime-tensorrt"
    return OnnxRuntimeSession(
        graph.path,
        graph.manifest,
        device=device,
        provider=choose_provider(graph.manifest, device, options.provider, cache),
        threads=options.threads,
    )


def open_plan(plan: EnginePlan, *, threads: int = 0) -> OnnxRuntimeSession:
    """Open an engine of `build_onnxruntime_engine` where it fits, refuse it elsewhere."""
    manifest = plan.manifest
    here = (VERSION, processor_kind())
    if (manifest.runtime_version, manifest.machine) != here:
        raise MisfitError(
            f"{plan.path}: built with ONNX Runtime {manifest.runtime_version} "
            f"on {manifest.machine}, this is {here[0]} on {here[1]}",
            hint=f"--rebuild, or segdeploy build-engine {manifest.model} --target onnxruntime",
        )
    return OnnxRuntimeSession(plan.path, manifest, threads=threads, optimized=True)


def processor_kind() -> str:
    """Architecture and vector units, which decide ONNX Runtime's layout: "x86_64 avx2"."""
    flags = _processor_flags()
    width = next((name for name in ("avx512f", "avx2", "avx") if name in flags), "")
    return " ".join([platform.machine(), width, *(name for name in VNNI if name in flags)]).strip()


def int8_weight_bits() -> int:
    """7 where full 8-bit weights would be exact but slow: x86 without VNNI.

    Measured with one thread on AVX2 at 512x1024, seconds: FCN fp32 1.98, 8 bits 1.62, 7 bits 1.09;
    DeepLabV3+ 3.80, 2.78, 1.81.
    """
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    return 7 if is_x86 and not _processor_flags() & set(VNNI) else 8


def _processor_flags() -> set[str]:
    """What Linux says of the processor; elsewhere nothing is known."""
    try:
        return set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return set()
