"""What a result was measured on; imports no heavy package."""

import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

OPENCV = (  # four distributions of one package, cv2
    "opencv-python-headless", "opencv-python",
    "opencv-contrib-python-headless", "opencv-contrib-python",
)  # fmt: skip
# Distributions (names as pip knows them) whose version can change a speed or a label map.
PACKAGES = (
    "segdeploy", "numpy", "torch", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu",
    "tensorrt", "tensorrt-cu12", "tensorrt-rtx", "tensorrt-rtx-cu12", "cuda-python", "pycuda",
    *OPENCV, "pillow",
)  # fmt: skip

_GPU_QUERY = ("name", "driver_version", "compute_cap", "memory.total")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_MEMORY_LIMITS = (  # of a container: cgroup v2, then v1
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


@dataclass(frozen=True)
class Gpu:
    """One line of nvidia-smi; an integrated GPU shares the host's memory and reports none."""

    name: str
    driver: str
    compute_capability: str
    memory_bytes: int | None

    def describe(self) -> str:
        """One line for people."""
        facts = [self.name, gibibytes(self.memory_bytes)]
        facts += [f"compute capability {self.compute_capability}", f"driver {self.driver}"]
        return ", ".join(fact for fact in facts if fact)


@dataclass(frozen=True)
class Environment:
    """The machine and the versions a measurement depends on; no host name, no user, no path."""

    cpu: str
    logical_cores: int
    usable_cores: int  # what the affinity mask leaves to this process
    memory_bytes: int | None  # the machine's, or the container's limit if that is lower
    os: str
    python: str
    load_average: float | None  # of the last minute, when described: others' work slows ours
    governor: str  # of the processor's clock; "" where it cannot be read
    gpus: tuple[Gpu, ...]
    versions: tuple[tuple[str, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "versions": dict(self.versions)}

    def facts(self) -> tuple[tuple[str, str], ...]:
        """The same for people: (what, value) pairs; what could not be read is left out."""
        cores = f"{self.usable_cores} of {self.logical_cores} logical cores"
        load = "" if self.load_average is None else f"{self.load_average:.2f}"
        facts = [
            ("Processor", f"{self.cpu}, {cores}"),
            ("Clock governor", self.governor),
            ("Load before the run", load),
            ("Memory", gibibytes(self.memory_bytes)),
            *(("GPU", gpu.describe()) for gpu in self.gpus),
            ("GPU", "" if self.gpus else "none"),
            ("System", f"{self.os}, {self.python}"),
            ("Packages", ", ".join(f"{name} {version}" for name, version in self.versions)),
        ]
        return tuple((what, value) for what, value in facts if value)


def describe_environment() -> Environment:
    """Look at this machine; call it before the measurement, so that the load is that of others."""
    gpus, _ = query_gpus()
    return Environment(
        cpu=_cpu_model(),
        logical_cores=os.cpu_count() or 1,
        usable_cores=usable_cores(),
        memory_bytes=memory_bytes(),
        os=_os_name(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        governor=_GOVERNOR.read_text().strip() if os.access(_GOVERNOR, os.R_OK) else "",
        gpus=gpus,
        versions=tuple((name, found) for name in PACKAGES if (found := installed_version(name))),
    )


def query_gpus() -> tuple[tuple[Gpu, ...], str]:
    """The GPUs that nvidia-smi lists, and in one line why it lists none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return (), "nvidia-smi is not installed"
    command = [program, f"--query-gpu={','.join(_GPU_QUERY)}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        return (), "nvidia-smi does not answer within 30 s"
    except OSError as error:
        return (), f"nvidia-smi cannot be run ({error.strerror})"
    text = answer.stdout.strip()
    if answer.returncode != 0:
        said = (text or answer.stderr.strip() or "nothing").splitlines()[0]
        return (), f"nvidia-smi exited with {answer.returncode} and said: {said}"
    gpus = tuple(_parse_gpu(line) for line in text.splitlines() if line.count(",") == 3)
    return gpus, "" if gpus else "nvidia-smi lists no GPU"


def _parse_gpu(line: str) -> Gpu:
    name, driver, capability, memory_mib = (value.strip() for value in line.split(","))
    memory_bytes = int(memory_mib) << 20 if memory_mib.isdecimal() else None  # else "[N/A]"
    return Gpu(name, driver, capability, memory_bytes)


def gibibytes(size: int | None) -> str:
    """The size for people; "" if it is unknown."""
    return "" if size is None else f"{size / 2**30:.1f} GiB"


def installed_version(package: str) -> str:
    """The installed version, read from its metadata; "" if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    match = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine()


def usable_cores() -> int:
    """Logical cores that this process may run on: its affinity mask, where the system has one."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int | None:
    """The machine's memory, or the container's limit if that is lower; None: not told."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [path.read_text().strip() for path in _MEMORY_LIMITS if os.access(path, os.R_OK)]
    return min([total, *(int(limit) for limit in limits if limit.isdecimal())])


def _os_name() -> str:
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):  # not Linux, or a Linux that does not name itself
        return platform.platform()
    return f"{name}, kernel {platform.release()}"
