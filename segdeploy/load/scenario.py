"""What is asked of an engine under load: MLPerf's scenarios and their numbers."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from segdeploy.errors import SegdeployError
from segdeploy.spec import Device, Size

MOST_PER_S = 100_000  # queries: the generator makes 500 000 on one core, and is never the limit


class Scenario(StrEnum):
    """How queries come, as MLPerf Inference and MLPerf Automotive define it."""

    SINGLE_STREAM = "single-stream"
    MULTI_STREAM = "multi-stream"
    OFFLINE = "offline"
    SERVER = "server"
    CONSTANT_STREAM = "constant-stream"

    @property
    def meaning(self) -> str:
        """One sentence for people."""
        match self:
            case Scenario.SINGLE_STREAM:
                return "one image after the other"
            case Scenario.MULTI_STREAM:
                return "one query of several images after the other"
            case Scenario.OFFLINE:
                return "all images at once"
            case Scenario.SERVER:
                return "single images at random moments, at a rate"
            case Scenario.CONSTANT_STREAM:
                return "cameras, each at its frame rate"

    @property
    def percentile(self) -> float:
        """That MLPerf judges by: its Inference rules, and Automotive's mlperf.conf for cameras."""
        match self:
            case Scenario.SINGLE_STREAM:
                return 90.0
            case Scenario.CONSTANT_STREAM:
                return 99.9
            case _:
                return 99.0

    @property
    def has_schedule(self) -> bool:
        """Whether queries come on their own time, and a bound decides."""
        return self in (Scenario.SERVER, Scenario.CONSTANT_STREAM)

    def check_given(self, names: Iterable[str]) -> None:
        """See that each of these options of `USED_BY` means something here.

        Raises:
            SegdeployError: an option belongs to other scenarios.
        """
        unused = [name for name in names if self not in USED_BY[name]]
        if unused:
            raise SegdeployError(f"--scenario {self} does not use {', '.join(unused)}")


USED_BY: dict[str, tuple[Scenario, ...]] = {  # an option that is not named is for all
    "--rate": (Scenario.SERVER,),
    "--streams": (Scenario.CONSTANT_STREAM,),
    "--fps": (Scenario.CONSTANT_STREAM,),
    "--samples": (Scenario.MULTI_STREAM,),
    "--bound-ms": (Scenario.SERVER, Scenario.CONSTANT_STREAM),
    "--percentile": tuple(one for one in Scenario if one is not Scenario.OFFLINE),
}


class Generator(StrEnum):
    """What issues the queries."""

    OWN = "own"
    LOADGEN = "loadgen"


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """One scenario and its numbers.

    Args:
        scenario: how queries come.
        generator: what issues them.
        rate: queries per second of the server; None: the largest is searched for.
        streams: cameras; None: the largest number is searched for.
        fps: frames per second of each camera.
        samples: images of one query in the multi-stream scenario; 8 are MLPerf's.
        bound_ms: latency that the percentile has to keep; None: of a camera, until its next frame.
        percentile: None: the scenario's own.
        seconds: least duration of a run; 600 are MLPerf's, 10 LoadGen's own default.
        max_seconds: a run that has not decided by then is inconclusive.
        seed: of arrivals, of phases of cameras, and of which image comes when.
        sessions: that run at the same time.
        batch: most images that a session takes at a time; None: the engine's own, or 1.
        threads: of a CPU runtime, shared by the sessions; 0: as many as suit the cores.
        size: of the images for an engine that takes any; None: its data set's.
        device: None: what the artifact is made for.
    """

    scenario: Scenario
    generator: Generator = Generator.OWN
    rate: float | None = None
    streams: int | None = None
    fps: float = 30.0
    samples: int = 8
    bound_ms: float | None = None
    percentile: float | None = None
    seconds: float = 10.0
    max_seconds: float = 300.0
    seed: int = 0
    sessions: int = 1
    batch: int | None = None
    threads: int = 0
    size: Size | None = None
    device: Device | None = None

    def __post_init__(self) -> None:
        positive = {
            "--rate": self.rate, "--streams": self.streams, "--fps": self.fps,
            "--samples": self.samples, "--bound-ms": self.bound_ms, "--seconds": self.seconds,
            "--max-seconds": self.max_seconds, "--sessions": self.sessions, "--batch": self.batch,
        }  # fmt: skip
        for name, value in positive.items():
            if value is not None and not 0 < value < math.inf:
                raise SegdeployError(f"{name} {value}; wanted a finite number more than 0")
        for name, number in {"--threads": self.threads, "--seed": self.seed}.items():
            if number < 0:
                raise SegdeployError(f"{name} {number}; wanted 0 or more")
        per_s = {"--rate": self.rate or 0, "--streams by --fps": (self.streams or 1) * self.fps}
        for name, value in per_s.items():
            if value > MOST_PER_S:
                raise SegdeployError(f"{name} {value:g} per second; wanted at most {MOST_PER_S}")
        if not 0 < self.percent < 100:
            raise SegdeployError(f"--percentile {self.percent}; wanted more than 0, less than 100")
        if self.max_seconds < self.seconds:
            raise SegdeployError(
                f"--max-seconds {self.max_seconds}; wanted at least --seconds {self.seconds}"
            )
        if self.scenario is Scenario.SERVER and self.bound_ms is None:
            raise SegdeployError(
                "a server has no bound of its own", hint="--bound-ms 100, or what your users accept"
            )
        if self.generator is Generator.LOADGEN:
            self._check_loadgen()

    def _check_loadgen(self) -> None:
        if self.scenario is Scenario.CONSTANT_STREAM:
            raise SegdeployError(
                "the published LoadGen has no constant-stream scenario", hint="--generator own"
            )
        if self.scenario is Scenario.SERVER and self.rate is None:
            raise SegdeployError("LoadGen is given a rate", hint="--rate N, or --generator own")

    @property
    def percent(self) -> float:
        """The percentile that counts."""
        return self.scenario.percentile if self.percentile is None else self.percentile

    @property
    def bound_s(self) -> float | None:
        """Where a bound decides: how long a query may take."""
        if not self.scenario.has_schedule:
            return None
        return 1 / self.fps if self.bound_ms is None else self.bound_ms / 1000
