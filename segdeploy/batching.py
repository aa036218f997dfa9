"""Single images of many callers, run in batches: each waits a little for company."""

import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segdeploy.closing import Closing
from segdeploy.errors import BusyError, SegdeployError
from segdeploy.runtime import Engine, Session
from segdeploy.runtime.in_place import check_images
from segdeploy.spec import Image


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """How images are gathered.

    Args:
        size: most images of a batch.
        wait_ms: how long the first of a batch waits for others.
        sessions: how many batches run at the same time.
        limit: images that may wait; one more is refused at once.
    """

    size: int
    wait_ms: float = 2.0
    sessions: int = 1
    limit: int = 64

    def __post_init__(self) -> None:
        if min(self.size, self.sessions, self.limit) < 1 or not self.wait_ms >= 0:
            raise SegdeployError(f"{self}: wanted sizes of 1 or more and a wait of 0 ms or more")


@dataclass(eq=False)  # told apart by identity: images have no single answer to ==
class _Waiting:
    image: Image
    result: Future[NDArray[Any]] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)


class Batcher(Closing):
    """Runs what is submitted, in threads of its own; a context manager that ends them."""

    def __init__(self, engine: Engine, options: BatchOptions) -> None:
        """Start.

        Raises:
            SegdeployError: the engine takes smaller batches than `options.size`.
        """
        self._fixed = engine.manifest.batch
        if self._fixed is not None and options.size > self._fixed:
            raise SegdeployError(
                f"{engine.manifest.model}: takes batches of {self._fixed}; wanted {options.size}",
                hint="export it with --batch dynamic",
            )
        self._options = options
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._is_open = True
        self._sessions = [engine.session() for _ in range(options.sessions)]
        self._threads = [
            threading.Thread(target=self._work, args=(session,), name="segdeploy-batcher")
            for session in self._sessions
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, image: Image) -> Future[NDArray[Any]]:
        """(H, W, 3) uint8 RGB -> its labels (H, W) uint8 or logits, once its batch has run.

        Raises:
            BusyError: too many are waiting.
            SegdeployError: it is no image, or this is closed.
        """
        check_images(image[np.newaxis] if isinstance(image, np.ndarray) else image)
        with self._changed:
            if not self._is_open:
                raise SegdeployError("the batcher is closed", hint="open another")
            if len(self._waiting) >= self._options.limit:
                raise BusyError(f"{len(self._waiting)} images are waiting", hint="try again later")
            self._waiting.append(_Waiting(image))
            self._changed.notify_all()
            return self._waiting[-1].result

    def _work(self, session: Session) -> None:
        while batch := self._next_batch():
            running = [item for item in batch if item.result.set_running_or_notify_cancel()]
            if not running:
                continue
            try:
                results = session.run(self._stack(running))
            except Exception as error:  # whatever it is, those who wait have to hear of it
                for item in running:
                    item.result.set_exception(error)
            else:
                for item, result in zip(running, results, strict=False):  # without the filling
                    item.result.set_result(result)

    def _next_batch(self) -> list[_Waiting]:
        """The oldest image and others of its size; empty: closed, and none is left."""
        with self._changed:
            while True:
                while self._is_open and not self._waiting:
                    self._changed.wait()
                if not self._waiting:
                    return []
                first = self._waiting[0]
                fitting = [item for item in self._waiting if item.image.shape == first.image.shape]
                left_s = first.since + self._options.wait_ms / 1e3 - time.monotonic()
                if len(fitting) < self._options.size and left_s > 0 and self._is_open:
                    self._changed.wait(left_s)
                    continue
                batch = fitting[: self._options.size]
                for item in batch:
                    self._waiting.remove(item)
                return batch

    def _stack(self, batch: list[_Waiting]) -> NDArray[np.uint8]:
        images = [item.image for item in batch]
        missing = 0 if self._fixed is None else self._fixed - len(images)
        return np.stack([*images, *images[:1] * missing])

    def close(self) -> None:
        """Run what is waiting, then end."""
        with self._changed:
            self._is_open = False
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        for session in self._sessions:
            session.close()
