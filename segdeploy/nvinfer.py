"""The TensorRT library of either flavour, and what its log says when a call fails.

TensorRT reports most failures by returning None or False; the reason is only in the log.
"""

import functools
import importlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from segdeploy.artifacts import writing
from segdeploy.errors import SegdeployError, needs
from segdeploy.spec import Runtime

MODULES = {Runtime.TENSORRT: "tensorrt", Runtime.TENSORRT_RTX: "tensorrt_rtx"}
FIRST_MAJOR = 10  # of tensorrt: the first with all that we call
LAYER_LIST = "Layers:"  # begins the message that lists the layers of a built engine
ERRORS = ("INTERNAL_ERROR", "ERROR")
# Without a GPU, TensorRT-RTX ends every failure with this line, whatever the failure was.
NO_DRIVER_LINE = "cudaError 35"


class LogLine(NamedTuple):
    """One message; `severity` is one of INTERNAL_ERROR, ERROR, WARNING, INFO and VERBOSE."""

    severity: str
    text: str


def load_library(runtime: Runtime) -> ModuleType:
    """Import the Python package of `runtime`; it touches no device."""
    if runtime not in MODULES:
        raise SegdeployError(
            f"{runtime} builds no TensorRT engine", hint=f"choose one of {', '.join(MODULES)}"
        )
    name = MODULES[runtime]
    with needs(name, extra=str(runtime)):
        library = importlib.import_module(name)
    major = str(library.__version__).partition(".")[0]
    if runtime is Runtime.TENSORRT and int(major) < FIRST_MAJOR:
        raise SegdeployError(
            f"{name} {library.__version__} is too old; wanted {FIRST_MAJOR}.0 or newer",
            hint=f"pip install --upgrade 'segdeploy[{runtime}]'",
        )
    return library


def open_log(library: ModuleType) -> Any:
    """The ILogger of this process, emptied; messages gather in its `lines`.

    One for all: while any TensorRT object lives, the library ignores every logger but the first.
    """
    log = _log(library)
    log.lines.clear()
    return log


@functools.cache
def _log(library: ModuleType) -> Any:
    interface: Any = library.ILogger

    class Log(interface):  # type: ignore[misc]  # known only when the library is loaded
        def __init__(self) -> None:
            super().__init__()
            self.lines: list[LogLine] = []
            self.apart = threading.local()

        def log(self, severity: Any, message: str) -> None:
            # Of the thousands of verbose messages, one matters.
            if severity.name != "VERBOSE" or message.startswith(LAYER_LIST):
                apart = getattr(self.apart, "lines", None)
                (self.lines if apart is None else apart).append(LogLine(severity.name, message))

    return Log()


@contextmanager
def heard(log: Any) -> Iterator[list[LogLine]]:
    """Gather apart what this thread makes the library say: sessions run in many threads."""
    lines: list[LogLine] = []
    log.apart.lines = lines
    try:
        yield lines
    finally:
        log.apart.lines = None


def last_error(lines: Sequence[LogLine]) -> str:
    """What went wrong, from the messages since the call that failed; "" if none of them says."""
    errors = [line.text for line in lines if line.severity in ERRORS]
    relevant = [cause for text in errors if (cause := drop_driver_line(text))]
    return relevant[-1] if relevant else " ".join(errors[-1].split()) if errors else ""


def drop_driver_line(text: str) -> str:
    """A message on one line, without what every message ends with where there is no GPU."""
    return " ".join(
        line.strip() for line in text.splitlines() if line.strip() and NO_DRIVER_LINE not in line
    )


def write_log(lines: Sequence[LogLine], path: Path) -> None:
    """One message after the other, each behind its severity."""
    with writing(path) as temporary:
        text = "".join(f"[{line.severity}] {line.text}\n" for line in lines)
        temporary.write_text(text, encoding="utf-8")


def warnings(lines: Sequence[LogLine]) -> tuple[str, ...]:
    """The warnings, each once, in order."""
    return tuple(dict.fromkeys(line.text.strip() for line in lines if line.severity == "WARNING"))
