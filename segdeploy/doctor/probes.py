"""Whether packages import and ONNX Runtime's providers compute, each tried in its own process.

Not in this one: a library that does not fit the machine may end the process that loads it.
"""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

IMPORT_TIMEOUT_S = 60
PROVIDER_TIMEOUT_S = 120  # the TensorRT provider builds an engine first
SUFFIX = "ExecutionProvider"
ELSEWHERE = ("AzureExecutionProvider",)  # a web service: it computes nothing here

_SESSION = Path(__file__).with_name("provider_session.py")
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_LIBRARY = re.compile(r"Failed to load library .* with error: (.+)")
_WANTED = re.compile(r"Require (cuDNN \S+ and CUDA [\d.*]*[\d*])")
_PLACE = re.compile(r"^\S*\.cc:\d+ .*?\) (?=[A-Z])")  # of an exception: file and C++ function
_KIND = re.compile(r"^(?:[\w.]+: )?(?:\[ONNXRuntimeError\] : \d+ : \w+ : )?")
_FOLDERS = re.compile(r"(?<![\w:/\\.])(?:[A-Za-z]:)?[/\\](?:[^\s/\\:'\"()]+[/\\])+")


@dataclass(frozen=True)
class Provider:
    """A provider that ONNX Runtime lists; `problem` says why it does not compute, "" if it does."""

    name: str
    problem: str

    @property
    def short_name(self) -> str:
        """As people say it: "CUDA"."""
        return self.name.removesuffix(SUFFIX)


def import_problem(module: str) -> str:
    """Why `module` cannot be imported, in one line; "" if it can."""
    return _attempt(["-c", f"import {module}"], IMPORT_TIMEOUT_S)[1]


def try_providers() -> tuple[tuple[Provider, ...], str]:
    """The providers that ONNX Runtime lists, each tried, and why there is no list at all."""
    listed, problem = _attempt([str(_SESSION)], IMPORT_TIMEOUT_S)
    if problem:
        return (), problem
    names = [name for name in json.loads(listed) if name not in ELSEWHERE]
    return tuple(Provider(name, _provider_problem(name)) for name in names), ""


def _provider_problem(name: str) -> str:
    return _attempt([str(_SESSION), name], PROVIDER_TIMEOUT_S)[1]


def _attempt(arguments: Sequence[str], timeout_s: float) -> tuple[str, str]:
    """What Python printed, and in one line why it failed."""
    command = [sys.executable, "-P", *arguments]  # -P: no module of the current folder
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "", f"it gives no answer within {timeout_s:.0f} s"
    if done.returncode < 0:
        return "", f"it crashes (signal {-done.returncode})"
    return done.stdout, read_reason(done.stderr) if done.returncode else ""


def read_reason(stderr: str) -> str:
    """The one line that says why: what the loader missed, else the exception."""
    text = _COLOUR.sub("", stderr)
    if library := _LIBRARY.search(text):
        wanted = _WANTED.search(text)
        needs = f"; it needs {wanted[1]}" if wanted else ""
        return hide_folders(library[1].strip()) + needs
    after = text.rpartition("Traceback (most recent call last):")[2]
    lines = [line for line in after.splitlines() if line.strip() and not line.startswith(" ")]
    return _PLACE.sub("", hide_folders(_KIND.sub("", lines[0]))) if lines else "it gave no reason"


def hide_folders(text: str) -> str:
    """Every path as its last part: a support ticket tells no folder, and so no user."""
    home = str(Path.home())
    if len(home) > 1:  # its name may hold a space, which ends a path below
        text = text.replace(home, "")
    return _FOLDERS.sub("", text)
