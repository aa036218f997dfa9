"""What a result was measured on; imports no heavy package."""

import hashlib
import os
import platform
import re
import shutil
import subprocess
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Self

from segdeploy.cores import usable_cores
from segdeploy.records import read_record

OPENCV = (  # four distributions of one package, cv2
    "opencv-python-headless", "opencv-python",
    "opencv-contrib-python-headless", "opencv-contrib-python",
)  # fmt: skip
# Distributions (names as pip knows them) whose version can change a speed or a label map.
OWN = "segdeploy"
PACKAGES = (
    OWN, "numpy", "torch", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu",
    "tensorrt", "tensorrt-cu12", "tensorrt-rtx", "tensorrt-rtx-cu12", "cuda-python", "pycuda",
    "numba", *OPENCV, "pillow",
)  # fmt: skip

PACKAGE = Path(__file__).parent
GIT_SECONDS = 10

_GPU_QUERY = ("name", "driver_version", "compute_cap", "memory.total")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_CLOCK_RANGE = tuple(_GOVERNOR.with_name(f"scaling_{end}_freq") for end in ("min", "max"))
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
class Checkout:
    """The commit of our own code, where it runs from a git checkout."""

    commit: str
    is_dirty: bool  # whether a tracked file differs from it

    def __str__(self) -> str:
        return f"{self.commit[:12]}{' with changes' if self.is_dirty else ''}"


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
    clock_mhz: tuple[int, int] | None = None  # the range that the governor may choose from
    checkout: Checkout | None = None  # None: installed, or git does not answer

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "versions": dict(self.versions)}

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Read back what `to_dict` gave and JSON kept; nothing is trusted.

        Raises:
            TypeError: a value is of another type than its field.
            ValueError: a key is unknown or missing.
        """
        if not isinstance(values, dict) or not isinstance(values.get("versions"), dict):
            raise TypeError("the environment has no table of versions")
        pairs = [list(pair) for pair in values["versions"].items()]
        return read_record(cls, {**values, "versions": pairs}, "the environment")

    def facts(self) -> tuple[tuple[str, str], ...]:
        """The same for people: (what, value) pairs; what could not be read is left out."""
        cores = f"{self.usable_cores} of {self.logical_cores} logical cores"
        load = "" if self.load_average is None else f"{self.load_average:.2f}"
        facts = [
            ("Processor", f"{self.cpu}, {cores}"),
            ("Clock governor", self.governor),
            ("Clock range", "{} to {} MHz".format(*self.clock_mhz) if self.clock_mhz else ""),
            ("Load before the run", load),
            ("Memory", gibibytes(self.memory_bytes)),
            *(("GPU", gpu.describe()) for gpu in self.gpus),
            ("GPU", "" if self.gpus else "none"),
            ("System", f"{self.os}, {self.python}"),
            ("Commit", str(self.checkout or "")),
            ("Packages", ", ".join(f"{name} {version}" for name, version in self.versions)),
        ]
        return tuple((what, value) for what, value in facts if value)


def describe_environment() -> Environment:
    """Look at this machine; call it before the measurement, so that the load is that of others."""
    gpus, _ = query_gpus()
    return Environment(
        cpu=_cpu_model(),
        logical_cores=os.cpu_count() or 1,
        usable_cores=len(usable_cores()),
        memory_bytes=memory_bytes(),
        os=_os_name(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        governor=_GOVERNOR.read_text().strip() if os.access(_GOVERNOR, os.R_OK) else "",
        gpus=gpus,
        versions=tuple((name, found) for name in PACKAGES if (found := installed_version(name))),
        clock_mhz=_clock_range(),
        checkout=find_checkout(),
    )


def differences(one: Environment, other: Environment) -> tuple[str, ...]:
    """What makes speeds of two environments incomparable, each in one line.

    Load is left to the verdict of each measurement; our own version and commit may differ, because
    that is what is compared.
    """
    facts = [
        ("processor", one.cpu, other.cpu),
        ("usable cores", one.usable_cores, other.usable_cores),
        ("clock governor", one.governor, other.governor),
        ("clock range", one.clock_mhz, other.clock_mhz),
        ("GPUs", *("; ".join(gpu.describe() for gpu in e.gpus) for e in (one, other))),
        ("system", one.os, other.os),
        ("Python", one.python, other.python),
    ]
    versions, others = dict(one.versions), dict(other.versions)
    names = dict.fromkeys([*versions, *others])
    facts += [(name, versions.get(name, ""), others.get(name, "")) for name in names if name != OWN]
    return tuple(f"{what}: {a or 'none'} / {b or 'none'}" for what, a, b in facts if a != b)


def find_checkout(folder: Path = PACKAGE.parent) -> Checkout | None:
    """The commit that is checked out in `folder`, if it is the top of a git checkout."""
    git = shutil.which("git")
    if git is None or not (folder / ".git").exists():
        return None

    def ask(*arguments: str) -> str | None:
        command = [git, "-C", str(folder), *arguments]
        try:
            answer = subprocess.run(
                command, capture_output=True, text=True, timeout=GIT_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return answer.stdout.strip() if answer.returncode == 0 else None

    commit, changes = ask("rev-parse", "HEAD"), ask("status", "--porcelain", "-uno")
    return None if not commit or changes is None else Checkout(commit, bool(changes))


def source_sha256(folder: Path = PACKAGE) -> str:
    """Of all our modules: a checkout and a wheel of one commit have the same."""
    digest = hashlib.sha256()
    for name in sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.py")):
        content = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        digest.update(f"{name} {content}\n".encode())
    return digest.hexdigest()


def _clock_range() -> tuple[int, int] | None:
    texts = [path.read_text().strip() for path in _CLOCK_RANGE if os.access(path, os.R_OK)]
    if len(texts) != 2 or not all(map(str.isdecimal, texts)):
        return None
    return int(texts[0]) // 1000, int(texts[1]) // 1000  # in kHz


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
