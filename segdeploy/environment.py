"""What a result was measured on, and what this machine can run; imports no heavy package."""

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
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
    "tensorrt", "tensorrt-rtx", "cuda-python", "pycuda", *OPENCV, "pillow",
)  # fmt: skip
MIN_PYTHON = (3, 11)  # requires-python in pyproject.toml
MIN_CAPABILITY = (
    7.5  # Turing: the oldest that TensorRT-RTX builds for; TensorRT dropped Volta in 10.5
)
MIN_MEMORY_BYTES = 4 << 30  # DeepLabV3+ in PyTorch peaks at 2.05 GiB (FP32, 1024x2048, batch 1)
MIN_DISK_BYTES = 2 << 30  # one model in all precisions, its checkpoint and its engines

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
        facts = [self.name, _gibibytes(self.memory_bytes)]
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
            ("Memory", _gibibytes(self.memory_bytes)),
            *(("GPU", gpu.describe()) for gpu in self.gpus),
            ("GPU", "" if self.gpus else "none"),
            ("System", f"{self.os}, {self.python}"),
            ("Packages", ", ".join(f"{name} {version}" for name, version in self.versions)),
        ]
        return tuple((what, value) for what, value in facts if value)


@dataclass(frozen=True)
class Finding:
    """One line of `segdeploy doctor`; not `ok`: what needs it fails here, and `advice` helps."""

    name: str
    ok: bool
    found: str
    advice: str = ""


def describe_environment() -> Environment:
    """Look at this machine; call it before the measurement, so that the load is that of others."""
    gpus, _ = query_gpus()
    return Environment(
        cpu=_cpu_model(),
        logical_cores=os.cpu_count() or 1,
        usable_cores=usable_cores(),
        memory_bytes=_memory_bytes(),
        os=_os_name(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        governor=_GOVERNOR.read_text().strip() if os.access(_GOVERNOR, os.R_OK) else "",
        gpus=gpus,
        versions=tuple((name, found) for name in PACKAGES if (found := _version(name))),
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


def diagnose(driver_problem: str | None) -> tuple[Finding, ...]:
    """The lines of `segdeploy doctor`.

    Args:
        driver_problem: what stands in the way of using the CUDA driver; None: nothing does.
    """
    gpus, gpu_problem = query_gpus()
    return (
        _python(sys.version_info[:3]),
        _torch(_version("torch"), _torch_cuda(), bool(gpus)),
        _onnxruntime(_version("onnxruntime"), _version("onnxruntime-gpu"), bool(gpus)),
        _package("tensorrt", "its engines are built and run on an NVIDIA GPU"),
        _package("tensorrt-rtx", "its engines are built anywhere and run on an NVIDIA GPU"),
        _driver(driver_problem, gpus),
        _gpu(gpus, gpu_problem),
        _memory(_memory_bytes()),
        _disk(shutil.disk_usage(Path.cwd()).free),
        _opencv([(name, found) for name in OPENCV if (found := _version(name))]),
    )


def _python(version: Sequence[int]) -> Finding:
    found, wanted = ".".join(map(str, version)), ".".join(map(str, MIN_PYTHON))
    if tuple(version[:2]) >= MIN_PYTHON:
        return Finding("python", True, found)
    return Finding(
        "python", False, f"{found}; wanted {wanted} or newer", f"install Python {wanted}"
    )


def _torch(version: str, cuda: str, has_gpu: bool) -> Finding:
    if not version:
        advice = "pip install 'segdeploy[torch]'"
        return Finding("torch", False, "not installed; export and the PyTorch row need it", advice)
    if cuda or not has_gpu:
        return Finding("torch", True, f"{version} ({f'CUDA {cuda}' if cuda else 'CPU'} build)")
    advice = "pip uninstall -y torch && pip install torch  # on Linux PyPI has the CUDA build"
    return Finding("torch", False, f"{version} (CPU build) on a machine with a GPU", advice)


def _torch_cuda() -> str:
    """The CUDA version in torch/version.py, read without importing torch; "" for a CPU build."""
    try:
        path = Path(str(metadata.distribution("torch").locate_file("torch/version.py")))
    except metadata.PackageNotFoundError:
        return ""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    match = re.search(r"^cuda\b[^=\n]*=\s*['\"]([\d.]+)['\"]", text, re.MULTILINE)
    return match[1] if match else ""


def _onnxruntime(cpu: str, gpu: str, has_gpu: bool) -> Finding:
    extra = "onnxruntime-gpu" if has_gpu else "onnxruntime"
    install = f"pip install 'segdeploy[{extra}]'"
    both = "pip uninstall -y onnxruntime onnxruntime-gpu && "
    if cpu and gpu:  # both write the folder onnxruntime/, and the later one wins file by file
        found = f"onnxruntime {cpu} and onnxruntime-gpu {gpu} overwrite each other's files"
        return Finding("onnxruntime", False, found, both + install)
    if not (cpu or gpu):
        return Finding("onnxruntime", False, "not installed", install)
    if has_gpu and not gpu:
        found = f"{cpu} (CPU build) on a machine with a GPU"
        return Finding("onnxruntime", False, found, both + install)
    return Finding("onnxruntime", True, f"{gpu} (GPU build)" if gpu else f"{cpu} (CPU build)")


def _package(name: str, purpose: str) -> Finding:
    if version := _version(name):
        return Finding(name, True, version)
    return Finding(name, False, f"not installed; {purpose}", f"pip install 'segdeploy[{name}]'")


def _driver(problem: str | None, gpus: Sequence[Gpu]) -> Finding:
    if problem is None:
        return Finding("NVIDIA driver", True, gpus[0].driver if gpus else "libcuda answers")
    advice = "install NVIDIA's driver (https://www.nvidia.com/drivers), or use --device cpu"
    return Finding("NVIDIA driver", False, problem, advice)


def _gpu(gpus: Sequence[Gpu], problem: str) -> Finding:
    if not gpus:
        return Finding("GPU", False, problem, "use --device cpu, or a machine with an NVIDIA GPU")
    found = "; ".join(f"{gpu.name}, compute capability {gpu.compute_capability}" for gpu in gpus)
    if any(_capability(gpu) >= MIN_CAPABILITY for gpu in gpus):
        return Finding("GPU", True, found)
    advice = f"current TensorRT needs {MIN_CAPABILITY}; before: pip install 'tensorrt<10.5'"
    return Finding("GPU", False, found, advice)


def _capability(gpu: Gpu) -> float:
    text = gpu.compute_capability
    return float(text) if re.fullmatch(r"\d+\.\d+", text) else 0.0


def _memory(total: int | None) -> Finding:
    if total is None:
        return Finding("memory", True, "unknown: this system does not say")
    if total >= MIN_MEMORY_BYTES:
        return Finding("memory", True, _gibibytes(total))
    found = f"{_gibibytes(total)}; wanted {_gibibytes(MIN_MEMORY_BYTES)} for 1024x2048"
    return Finding("memory", False, found, "use a smaller --size, or more memory")


def _disk(free: int) -> Finding:
    found = f"{_gibibytes(free)} free in this folder"
    if free >= MIN_DISK_BYTES:
        return Finding("disk", True, found)
    return Finding(
        "disk", False, f"{found}; wanted {_gibibytes(MIN_DISK_BYTES)}", "work on another disk"
    )


def _opencv(installed: Sequence[tuple[str, str]]) -> Finding:
    found = " and ".join(f"{name} {version}" for name, version in installed)
    install = "pip install opencv-python-headless"
    if not installed:
        return Finding("opencv", False, "not installed", install)
    if len(installed) == 1:
        return Finding("opencv", True, found)
    advice = f"pip uninstall -y {' '.join(name for name, _ in installed)} && {install}"
    return Finding("opencv", False, f"{found} overwrite each other's files", advice)


def _gibibytes(size: int | None) -> str:
    return "" if size is None else f"{size / 2**30:.1f} GiB"


def _version(package: str) -> str:
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


def _memory_bytes() -> int | None:
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
