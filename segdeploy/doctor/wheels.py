"""Which wheels fit a GPU and its driver, and the pip line that installs them: rules, no probing.

docs/doctor.md has the source of every number.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

TENSORRT = (  # distributions that write the package tensorrt, or are part of it
    "tensorrt",
    "tensorrt-cu12", "tensorrt-cu12-bindings", "tensorrt-cu12-libs",
    "tensorrt-cu13", "tensorrt-cu13-bindings", "tensorrt-cu13-libs",
)  # fmt: skip
TENSORRT_RTX = (
    "tensorrt-rtx",
    "tensorrt-rtx-cu12", "tensorrt-rtx-cu12-bindings", "tensorrt-rtx-cu12-libs",
    "tensorrt-rtx-cu13", "tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu13-libs",
)  # fmt: skip
ONNXRUNTIME = ("onnxruntime", "onnxruntime-gpu")

MIN_TENSORRT = (10,)  # as in the extra, and in nvinfer
VOLTA, TURING, AMPERE, BLACKWELL = (7, 0), (7, 5), (8, 0), (10, 0)
OLDEST_CUDA = (12, 0)  # of a driver: older than every wheel that is named here
CUDA_13_DRIVER = "580"  # the first driver for CUDA 13
VOLTA_TENSORRT = "10.4.0"  # TensorRT's last for Volta; 10.5 removed it
VOLTA_PYTHON = (3, 12)  # the newest with a wheel of that version
ONNXRUNTIME_CUDA_13 = (1, 27)  # the first onnxruntime-gpu on PyPI built with CUDA 13
TORCH_CUDA_12 = "https://download.pytorch.org/whl/cu126"  # Volta to Hopper; PyPI's is CUDA 13


@dataclass(frozen=True)
class Hardware:
    """The best GPU's compute capability, and the newest CUDA of its driver; None: not known."""

    capability: tuple[int, int] | None = None
    driver_cuda: tuple[int, int] | None = None

    @property
    def cuda(self) -> int | None:
        """The major version of CUDA to install for; None: nothing decides."""
        if self.capability is not None and self.capability < TURING:
            return 12  # CUDA 13 dropped Volta and what came before
        return None if self.driver_cuda is None else min(max(self.driver_cuda[0], 12), 13)


def replacing(installed: Iterable[str], line: str) -> str:
    """The pip line, after those packages are gone that write into the same folder."""
    names = " ".join(installed)
    return f"pip uninstall -y {names} && {line}" if names and line else line


def torch_line(hardware: Hardware) -> str:
    """Of a build that runs on the GPU, or anywhere if there is none."""
    if hardware.cuda != 12:
        return "pip install 'segdeploy[torch]'"
    if hardware.capability is not None and hardware.capability >= BLACKWELL:
        return f"pip install 'segdeploy[torch]'  # with driver {CUDA_13_DRIVER} or newer"
    return f"pip install torch --index-url {TORCH_CUDA_12} && pip install 'segdeploy[torch]'"


def onnxruntime_line(hardware: Hardware, *, gpu: bool) -> str:
    """Of the build for a CPU, or of the one for CUDA with the CUDA libraries it needs."""
    if not gpu:
        return "pip install 'segdeploy[onnxruntime]'"
    major, minor = ONNXRUNTIME_CUDA_13
    limit = f"<{major}.{minor}" if hardware.cuda == 12 else ""
    return f"pip install 'segdeploy[onnxruntime-gpu]' 'onnxruntime-gpu[cuda,cudnn]{limit}'"


def tensorrt_line(hardware: Hardware) -> str:
    """Of the newest TensorRT that still knows the GPU; "" if none does."""
    if hardware.capability is not None and hardware.capability < VOLTA:
        return ""
    if hardware.capability is not None and hardware.capability < TURING:
        return f"pip install 'tensorrt-cu12=={VOLTA_TENSORRT}'"
    if hardware.cuda == 12:
        return "pip install tensorrt-cu12"
    return "pip install 'segdeploy[tensorrt]'"  # its wheel is that of CUDA 13


def tensorrt_rtx_line(hardware: Hardware) -> str:
    """Of the build whose CUDA the driver supports; it builds without a GPU too."""
    if hardware.cuda == 12:
        return "pip install tensorrt-rtx-cu12"
    return "pip install 'segdeploy[tensorrt-rtx]'"


def cuda_python_line(hardware: Hardware) -> str:
    """Of the bindings whose CUDA the driver supports."""
    limit = " 'cuda-python<13'" if hardware.cuda == 12 else ""
    return f"pip install 'segdeploy[cuda]'{limit}"


def cuda_misfit(hardware: Hardware, built_for: int | None) -> str:
    """Why wheels built with that major version of CUDA do not run; "" if they do, or who knows."""
    driver = hardware.driver_cuda
    if built_for is None or driver is None:
        return ""
    if built_for > driver[0]:
        return f"for CUDA {built_for}; the driver ends at {dotted(driver)}"
    if hardware.cuda is not None and built_for > hardware.cuda:
        return f"for CUDA {built_for}, which dropped this GPU"
    return ""


def tensorrt_misfit(hardware: Hardware, version: str) -> str:
    """Why that version of TensorRT is of no use here; "" if it is."""
    numbers, capability = parse_version(version), hardware.capability
    if numbers < MIN_TENSORRT:
        return f"wanted {dotted(MIN_TENSORRT)} or newer"
    if capability is None or capability >= TURING:
        return ""
    if capability < VOLTA:
        return f"none from {dotted(MIN_TENSORRT)} on knows compute capability {dotted(capability)}"
    if numbers[:3] <= parse_version(VOLTA_TENSORRT):
        return ""
    return f"the last for compute capability {dotted(capability)} is {VOLTA_TENSORRT}"


def dotted(version: Sequence[int]) -> str:
    """As people write it: "12.4"."""
    return ".".join(map(str, version))


def parse_version(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: "10.13.3.9.post1" is (10, 13, 3, 9)."""
    numbers = []
    for part in text.partition("+")[0].split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers)
