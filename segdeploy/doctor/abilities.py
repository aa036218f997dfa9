"""What each command can do on a machine, read off the findings."""

from collections.abc import Sequence
from dataclasses import dataclass

from segdeploy.doctor.finding import Finding

_MODEL = ("torch", "onnxruntime")  # a model is traced by one and compared by the other
_GPU = ("a CUDA package", "NVIDIA driver")
NEEDS = {
    "export": _MODEL,
    "calibrate": _MODEL,
    "build-engine --target onnxruntime": _MODEL,
    "build-engine --target tensorrt-rtx": (*_MODEL, "tensorrt-rtx"),
    "build-engine --target tensorrt": (*_MODEL, "tensorrt", "NVIDIA driver"),
    "predict --device cpu": ("onnxruntime",),
    "predict --device cuda": ("onnxruntime on CUDA", "NVIDIA driver"),
    "load --device cpu": ("onnxruntime",),
    "diff": _MODEL,
    "bench --device cpu": _MODEL,
    "bench --device cuda": ("torch on CUDA", "onnxruntime on CUDA", "NVIDIA driver"),
    "bench --runtime tensorrt-rtx": (*_MODEL, "tensorrt-rtx on this GPU", *_GPU),
    "bench --runtime tensorrt": (*_MODEL, "tensorrt", *_GPU),
}


@dataclass(frozen=True)
class Ability:
    """A command, and what it needs but does not find; nothing: it runs here."""

    command: str
    missing: tuple[str, ...]


def judge_commands(findings: Sequence[Finding]) -> tuple[Ability, ...]:
    """Each command with what it lacks; nothing is probed again."""
    given = {
        need: all(finding.gives.get(need, True) for finding in findings)
        for needs in NEEDS.values()
        for need in needs
    }
    return tuple(
        Ability(command, tuple(need for need in needs if not given[need]))
        for command, needs in NEEDS.items()
    )
