"""TensorRT and TensorRT-RTX: an engine plan, loaded once and shared by the sessions of all threads.

Written against the documented API of TensorRT 10 and later. Not run on a GPU yet: what comes before
the first device call is tested for real, the order of the calls with a double that records them;
see docs/verification.md.
"""

from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np

from segdeploy.artifacts import EnginePlan, Manifest
from segdeploy.closing import Closing
from segdeploy.compatibility import Here, check_compatible, flavour_of, system_name
from segdeploy.cuda import describe_gpu, require_driver
from segdeploy.cuda.seam import open_gpu
from segdeploy.errors import MisfitError, SegdeployError
from segdeploy.nvinfer import heard, last_error, load_library, open_log
from segdeploy.runtime.in_place import result_dtype, result_shape
from segdeploy.runtime.lease import Lease
from segdeploy.runtime.profiles import ProfilePool
from segdeploy.runtime.session import RunOptions, Session
from segdeploy.runtime.tensorrt_session import OTHER_PLAN, Loaded, TensorRTSession
from segdeploy.shapes import DYNAMIC, Shape, ShapeProfile, TensorInfo, shape_text
from segdeploy.spec import Device


class TensorRTEngine(Closing):
    """A plan of either flavour on one GPU; sessions have a context, a stream and buffers each."""

    def __init__(self, plan: EnginePlan, device: Device, options: RunOptions) -> None:
        """Load a plan.

        Raises:
            SegdeployError: there is no such GPU, a package is missing, or the plan does not fit.
        """
        runtime = flavour_of(plan.path, plan.manifest)
        if not device.is_cuda:
            raise SegdeployError(
                f"{plan.path}: runs on a GPU, asked for {device}", hint="take the device cuda:0"
            )
        # Before TensorRT's first object: without a driver that may crash.
        require_driver(f"running a {runtime.display_name} engine")
        library = load_library(runtime)
        here = Here(library.__version__, system_name(), describe_gpu(device.number))
        check_compatible(plan.path, plan.manifest, here)
        self.manifest, self.device = plan.manifest, device
        self._gpu = open_gpu(device.number, options.cuda_package)
        if options.cuda_graph and not self._gpu.has_graphs:
            raise SegdeployError(
                "pycuda cannot capture CUDA graphs",
                hint="pip install 'segdeploy[cuda]' and take the package cuda-python",
            )
        self._log = open_log(library)
        with self._gpu.current():
            self._engine = _load_engine(library, self._log, plan, options.lean_runtime)
            if plan.manifest.build is not None and plan.manifest.build.options.strip:
                _fill(library, self._log, self._engine, plan)
            image, result = _tensors(library, self._engine, plan)
        self._profiles = ProfilePool(image, _profiles(self._engine, image))
        self._cuda_graph = options.cuda_graph
        self._image, self._result = image, result
        self._lease = Lease(f"the engine of {plan.manifest.model}")
        self._sessions: WeakSet[Session] = WeakSet()

    def session(self) -> Session:
        """A new session for one thread.

        Raises:
            SegdeployError: there is no memory on the GPU for another context.
        """
        with self._lease.use(wait=True), self._gpu.current():
            with heard(self._log) as said:
                context = self._engine.create_execution_context()
            if context is None:
                raise SegdeployError(
                    f"{self.manifest.model}: no context could be made ({last_error(said)})",
                    hint="its activations may not fit on the GPU: build for a smaller batch or "
                    "size, or open fewer sessions",
                )
            loaded = Loaded(
                manifest=self.manifest,
                device=self.device,
                gpu=self._gpu,
                log=self._log,
                image=self._image,
                result=self._result,
                profiles=self._profiles,
                cuda_graph=self._cuda_graph,
            )
            made = TensorRTSession(loaded, context)
            self._sessions.add(made)
            return made

    def close(self) -> None:
        """Free it and its sessions; once."""
        self._lease.end(self._free)

    def _free(self) -> None:
        for session in self._sessions:
            session.close()
        with self._gpu.current():
            self._engine = None
        self._gpu.close()


def _load_engine(library: Any, log: Any, plan: EnginePlan, lean: Path | None) -> Any:
    try:
        data = plan.path.read_bytes()
    except OSError as error:
        raise SegdeployError(f"{plan.path}: cannot be read ({error.strerror})") from error
    with heard(log) as said:
        runtime = library.Runtime(log)
        if plan.manifest.runtime_version != library.__version__:  # a version-compatible plan
            runtime = _lean_runtime(runtime, plan, lean)
        _check_validity(library, runtime, data, plan)
        engine = runtime.deserialize_cuda_engine(data)
    if engine is None:  # no exception: the reason is in the log
        raise MisfitError(
            f"{plan.path}: cannot be loaded ({last_error(said) or 'TensorRT gave no reason'})",
            hint="build the engine again on this machine",
        )
    return engine


def _lean_runtime(runtime: Any, plan: EnginePlan, lean: Path | None) -> Any:
    """The runtime of the version that built the plan, which its own file brings."""
    wanted = plan.manifest.runtime_version
    if lean is None:
        raise MisfitError(
            f"{plan.path}: another TensorRT loads it with the lean runtime of {wanted} only",
            hint=f"pip download tensorrt-lean=={wanted}, unpack libnvinfer_lean, and name the file "
            "in RunOptions(lean_runtime=...); or --rebuild",
        )
    loaded = runtime.load_runtime(str(lean))
    if loaded is None:
        raise SegdeployError(f"{lean}: is no lean runtime that this TensorRT loads")
    return loaded


def _fill(library: Any, log: Any, engine: Any, plan: EnginePlan) -> None:
    """Give a plan that was built without its weights those of its graph."""
    graph = plan.find_source()
    with heard(log) as said:
        refitter = library.Refitter(engine, log)
        parser = library.OnnxParserRefitter(refitter, log)
        done = parser.refit_from_file(str(graph)) and refitter.refit_cuda_engine()
    if not done:
        raise SegdeployError(
            f"{plan.path}: has no weights, and those of {graph} do not fit "
            f"({last_error(said) or 'TensorRT gave no reason'})",
            hint="build the engine again",
        )


def _check_validity(library: Any, runtime: Any, data: bytes, plan: EnginePlan) -> None:
    if not hasattr(runtime, "get_engine_validity"):  # TensorRT-RTX alone can be asked
        return
    validity, diagnostics = runtime.get_engine_validity(data)
    if validity != library.EngineValidity.INVALID:
        return
    members = library.EngineInvalidityDiagnostics.__members__.items()
    reasons = [name for name, value in members if int(diagnostics) & int(value)]
    raise MisfitError(
        f"{plan.path}: TensorRT-RTX does not accept it on this GPU "
        f"({', '.join(reasons) or 'no reason was given'})",
        hint="--rebuild builds it here",
    )


def _tensors(library: Any, engine: Any, plan: EnginePlan) -> tuple[TensorInfo, TensorInfo]:
    """The input and the output, which have to be those of the manifest."""
    found: dict[bool, list[TensorInfo]] = {True: [], False: []}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        dtype = np.dtype(library.nptype(engine.get_tensor_dtype(name))).name
        shape = tuple(engine.get_tensor_shape(name))
        is_input = engine.get_tensor_mode(name) == library.TensorIOMode.INPUT
        found[is_input].append(TensorInfo(name, dtype, shape))
    build = plan.manifest.build
    assert build is not None  # check_compatible refused it
    if (tuple(found[True]), tuple(found[False])) != (build.inputs, build.outputs):
        raise MisfitError(
            f"{plan.path}: has the tensors {_text(found)}, its manifest has others",
            hint=OTHER_PLAN,
        )
    wanted = result_dtype(plan.manifest).name
    dtypes = [[tensor.dtype for tensor in found[is_input]] for is_input in (True, False)]
    if dtypes != [["uint8"], [wanted]]:
        raise SegdeployError(
            f"{plan.path}: has the tensors {_text(found)}; wanted one uint8 input and one {wanted} "
            "output",
            hint="segdeploy export makes graphs that take pixels",
        )
    image, result = found[True][0], found[False][0]
    taken, returned = _shapes(plan.manifest)
    if not (_agree(image.shape, taken) and _agree(result.shape, returned)):
        raise MisfitError(
            f"{plan.path}: has the tensors {_text(found)}, its manifest says {shape_text(taken)} "
            f"and {shape_text(returned)}",
            hint=OTHER_PLAN,
        )
    return image, result


def _shapes(manifest: Manifest) -> tuple[Shape, Shape]:
    """What the manifest says that an engine takes and returns; sessions go by that."""
    count = DYNAMIC if manifest.batch is None else manifest.batch
    if manifest.size is None:
        channels = result_shape(manifest, count, 1, 1)[1:-2]
        return (count, DYNAMIC, DYNAMIC, 3), (count, *channels, DYNAMIC, DYNAMIC)
    return (count, *manifest.size, 3), result_shape(manifest, count, *manifest.size)


def _agree(first: Shape, second: Shape) -> bool:
    """Whether two shapes may be the same: an open axis has any size."""
    return len(first) == len(second) and all(
        a == b or DYNAMIC in (a, b) for a, b in zip(first, second, strict=True)
    )


def _text(tensors: dict[bool, list[TensorInfo]]) -> str:
    words = [
        f"{tensor.name} {tensor.dtype} {shape_text(tensor.shape)}"
        for tensor in (*tensors[True], *tensors[False])
    ]
    return ", ".join(words) or "none"


def _profiles(engine: Any, image: TensorInfo) -> list[ShapeProfile]:
    found = []
    for index in range(engine.num_optimization_profiles):
        shapes = map(tuple, engine.get_tensor_profile_shape(image.name, index))
        low, usual, high = shapes
        found.append(ShapeProfile(tensor=image.name, min=low, opt=usual, max=high))
    return found
