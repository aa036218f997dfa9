"""TensorRT's nested build phases on one progress bar, and the way to cancel a build."""

import threading
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from segdeploy.progress import Advance, Bar

PERCENT = 100.0  # the length of the bar


@dataclass
class _Phase:
    first: float  # where on the bar it begins
    last: float
    steps: int
    completed: int = 0

    def after(self, steps: int) -> float:
        return self.first + (self.last - self.first) * min(steps / self.steps, 1.0)


class Phases:
    """Turns phases that nest and steps that finish into an advance from 0 to 100.

    A phase fills the step of its parent in which it starts; one without parent fills the bar.
    """

    def __init__(self, advance: Advance) -> None:
        self.position = 0.0
        self._advance = advance
        self._phases: dict[str, _Phase] = {}

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase of `steps` steps begins."""
        owner = self._phases.get(parent) if parent else None
        last = owner.after(owner.completed + 1) if owner else PERCENT
        self._phases[name] = _Phase(self.position, max(last, self.position), max(steps, 1))

    def step(self, name: str, index: int) -> None:
        """Step `index` of the phase, counted from 0, is done."""
        if phase := self._phases.get(name):
            phase.completed = index + 1
            self._move_to(phase.after(phase.completed))

    def finish(self, name: str) -> None:
        """The phase ends; it may leave steps out."""
        if phase := self._phases.pop(name, None):
            self._move_to(phase.last)

    def _move_to(self, position: float) -> None:
        if position > self.position:
            self._advance(position - self.position)
            self.position = position


def make_monitor(library: ModuleType, bar: Bar, cancelled: threading.Event) -> Any:
    """An IProgressMonitor: moves and names a bar of length 100, stops the build if `cancelled`."""
    interface: Any = library.IProgressMonitor

    class Monitor(interface):  # type: ignore[misc]  # known only when the library is loaded
        def __init__(self) -> None:
            super().__init__()
            self._phases = Phases(bar)
            self._lock = threading.Lock()  # TensorRT may call from several threads

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self._lock:
                self._phases.start(phase_name, parent_phase, num_steps)
                bar.tell(phase_name)

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                self._phases.finish(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self._lock:
                self._phases.step(phase_name, step)
            return not cancelled.is_set()

    return Monitor()
