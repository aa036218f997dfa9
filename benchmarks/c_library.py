"""The C ABI through ctypes: what Rust, Go and C# would write."""

import ctypes
from collections.abc import Callable, Sequence
from ctypes import POINTER, byref, c_char, c_char_p, c_double, c_int32, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from segdeploy.spec import Image, Images, LabelMap, Labels, Logits

OK, ERROR, MISFIT, BUG = range(4)
MODULE = Path(onnxruntime.__file__).parent / "capi"
ONNXRUNTIME = next(MODULE.glob("libonnxruntime.so.*"), MODULE)  # that Python's package brings


class Refusal(Exception):  # noqa: N818
    """What the library said."""

    def __init__(self, status: int, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.status, self.problem, self.hint = status, problem, hint


class CError(ctypes.Structure):
    """segdeploy_error."""

    _fields_ = (("problem", c_char * 1024), ("hint", c_char * 512))


class COptions(ctypes.Structure):
    """segdeploy_options."""

    _fields_ = (
        ("threads", c_int32),
        ("device", c_char_p),
        ("onnxruntime_library", c_char_p),
        ("lean_runtime", c_char_p),
    )


class CImage(ctypes.Structure):
    """segdeploy_image."""

    _fields_ = (
        ("data", c_void_p),
        ("height", c_int32),
        ("width", c_int32),
        ("channels", c_int32),
        ("is_bgr", c_int32),
        ("stride", c_int64),
    )


class CLabels(ctypes.Structure):
    """segdeploy_labels."""

    _fields_ = (
        ("data", c_void_p),
        ("height", c_int32),
        ("width", c_int32),
        ("bytes", c_int32),
        ("stride", c_int64),
    )


class CTiming(ctypes.Structure):
    """segdeploy_timing."""

    _fields_ = (("copy_in_ms", c_double), ("network_ms", c_double), ("labels_ms", c_double))


class CFacts(ctypes.Structure):
    """segdeploy_facts."""

    _fields_ = (
        ("model", c_char_p),
        ("precision", c_char_p),
        ("runtime", c_char_p),
        ("device", c_char_p),
        *(
            (name, c_int32)
            for name in ("returns_logits", "classes", "height", "width", "batch", "logits_stride")
        ),
    )


class Library:
    """The shared library, and the ONNX Runtime that it is told to load."""

    def __init__(self, path: Path, onnxruntime: Path) -> None:
        self.c = ctypes.CDLL(str(path))
        self.onnxruntime = str(onnxruntime).encode()
        for name in ("segdeploy_engine_close", "segdeploy_session_close"):
            getattr(self.c, name).argtypes = (c_void_p,)
            getattr(self.c, name).restype = None
        self.c.segdeploy_version.restype = c_char_p
        self.c.segdeploy_engine_facts.argtypes = (c_void_p,)
        self.c.segdeploy_engine_facts.restype = CFacts
        self.c.segdeploy_class_name.argtypes = (c_void_p, c_int32)
        self.c.segdeploy_class_name.restype = c_char_p
        self.c.segdeploy_class_color.argtypes = (c_void_p, c_int32)
        pointers = {
            "segdeploy_engine_open": (c_char_p, POINTER(COptions), c_void_p),
            "segdeploy_session_open": (c_void_p, c_void_p),
            "segdeploy_run": (c_void_p, c_void_p, c_size_t, c_void_p, c_void_p),
            "segdeploy_run_logits": (c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p),
            "segdeploy_enqueue": (
                c_void_p, c_void_p, c_size_t, c_int32, c_int32, c_void_p, c_void_p,
            ),
            "segdeploy_overlay": (c_void_p, c_void_p, c_void_p, c_double, c_void_p),
        }  # fmt: skip
        for name, arguments in pointers.items():
            getattr(self.c, name).argtypes = (*arguments, c_void_p)

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function whose last argument is the error; raise what it says."""
        error = CError()
        function: Callable[..., int] = getattr(self.c, name)
        status = function(*arguments, byref(error))
        if status != OK:
            raise Refusal(status, error.problem.decode(), error.hint.decode())

    def open(
        self, path: Path, *, threads: int = 1, device: str | None = None, runtime: str | None = None
    ) -> "Engine":
        """Load an artifact; `runtime` is another ONNX Runtime than the usual one."""
        library = self.onnxruntime if runtime is None else runtime.encode()
        options = COptions(threads, None if device is None else device.encode(), library)
        handle = c_void_p()
        self.call("segdeploy_engine_open", str(path).encode(), byref(options), byref(handle))
        return Engine(self, handle)


class Engine:
    """A loaded artifact, closed by its `with` block."""

    def __init__(self, library: Library, handle: c_void_p) -> None:
        self.library, self.handle = library, handle

    @property
    def facts(self) -> CFacts:
        """What it says of itself."""
        facts: CFacts = self.library.c.segdeploy_engine_facts(self.handle)
        return facts

    def session(self) -> "Session":
        """A new one, for one thread."""
        handle = c_void_p()
        self.library.call("segdeploy_session_open", self.handle, byref(handle))
        return Session(self.library, handle)

    def overlay(self, image: Image, labels: LabelMap, opacity: float) -> Image:
        """The label map over its image."""
        painted = np.zeros((*labels.shape, 3), np.uint8)
        views = byref(image_view(image)), byref(labels_view(labels))
        self.library.call("segdeploy_overlay", self.handle, *views, opacity, painted.ctypes.data)
        return painted

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.library.c.segdeploy_engine_close(self.handle)


class Session:
    """Runs an engine in one thread; closed by its `with` block."""

    def __init__(self, library: Library, handle: c_void_p) -> None:
        self.library, self.handle = library, handle

    def run(self, images: Images) -> Labels:
        """(N, H, W, 3) uint8 -> labels (N, H, W) uint8."""
        labels = np.full(images.shape[:3], 77, np.uint8)
        self.run_views([image_view(image) for image in images], list(map(labels_view, labels)))
        return labels

    def run_views(self, images: Sequence[CImage], labels: Sequence[CLabels]) -> CTiming:
        """Label images where they lie, to where the labels go."""
        timing = CTiming()
        self.library.call(
            "segdeploy_run",
            self.handle,
            (CImage * len(images))(*images),
            len(images),
            (CLabels * len(labels))(*labels),
            byref(timing),
        )
        return timing

    def run_logits(self, images: Images, shape: tuple[int, ...]) -> Logits:
        """(N, H, W, 3) uint8 -> (N, C, h, w) float32, as `shape` says."""
        logits = np.full(shape, np.nan, np.float32)
        views = (CImage * len(images))(*map(image_view, images))
        self.library.call(
            "segdeploy_run_logits",
            self.handle,
            views,
            len(images),
            logits.ctypes.data,
            logits.size,
            None,
        )
        return logits

    def enqueue(self, images: Images, result: Labels, stream: int | None = None) -> None:
        """Label a batch in place."""
        sizes = images.shape[:3]
        self.library.call(
            "segdeploy_enqueue",
            self.handle,
            images.ctypes.data,
            *sizes,
            result.ctypes.data,
            stream,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.library.c.segdeploy_session_close(self.handle)


def image_view(image: Image, *, is_bgr: bool = False) -> CImage:
    """An array (H, W, C), which may have any distance between its rows."""
    height, width, channels = image.shape
    return CImage(image.ctypes.data, height, width, channels, is_bgr, image.strides[0])


def labels_view(labels: NDArray[np.uint8] | NDArray[np.int32]) -> CLabels:
    """An array (H, W) of uint8 or int32."""
    return CLabels(labels.ctypes.data, *labels.shape, labels.itemsize, labels.strides[0])
