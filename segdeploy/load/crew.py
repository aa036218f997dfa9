"""Sessions of one engine with images to run: who answers queries."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from segdeploy.closing import Closing
from segdeploy.datasets import find_facts
from segdeploy.datasets.scenes import draw_scene
from segdeploy.errors import SegdeployError
from segdeploy.load.issuing import Answer
from segdeploy.load.scenario import LoadOptions, Scenario
from segdeploy.runtime import Engine, Session
from segdeploy.spec import Images, Size

IMAGES = 8  # held in memory; which comes when is drawn with the seed
ORDER = 4096  # draws that are repeated
WARMUP = 3  # runs of each session before the first query
BATCH = 8  # of an engine that takes any, for throughput: the most of a dynamic TensorRT engine
SIZE = Size(512, 1024)  # of images for an engine of any size that names no data set


class Crew(Closing):
    """Answers queries by their number; a context manager that closes the sessions."""

    def __init__(self, engine: Engine, options: LoadOptions) -> None:
        """Open the sessions and warm each up.

        Raises:
            SegdeployError: the engine takes another batch than is asked for.
        """
        self._fixed = engine.manifest.batch
        self.batch = choose_batch(engine, options)
        dice = np.random.default_rng(options.seed)
        self._order = dice.integers(0, IMAGES, ORDER).tolist()
        self._images = draw_images(engine, options.size)
        self._sessions: list[Session] = []
        self._threads = ThreadPoolExecutor(options.sessions)
        try:
            for _ in range(options.sessions):
                self._sessions.append(engine.session())
            self.answers: list[Answer] = [partial(self._run, one) for one in self._sessions]
            for answer in self.answers:
                for _ in range(WARMUP):
                    answer(range(self.batch))
        except SegdeployError:
            self.close()
            raise

    def _run(self, session: Session, numbers: Sequence[int]) -> None:
        chosen = [self._order[number % ORDER] for number in numbers]
        if self._fixed is not None:
            chosen += chosen[:1] * (
                self._fixed - len(chosen)
            )  # filled up: the engine takes no less
        session.run(self._images[chosen] if len(chosen) > 1 else self._images[chosen[0]][None])

    def answer_together(self, numbers: Sequence[int]) -> None:
        """All of these images, in batches that the sessions share; returns when all are done."""
        size = self.batch
        batches = [numbers[first : first + size] for first in range(0, len(numbers), size)]
        if len(self.answers) == 1:
            for batch in batches:
                self.answers[0](batch)
            return
        shares = [batches[k :: len(self.answers)] for k in range(len(self.answers))]
        list(self._threads.map(_answer_all, self.answers, shares))

    def close(self) -> None:
        """Free the sessions."""
        self._threads.shutdown()
        for session in self._sessions:
            session.close()


def _answer_all(answer: Answer, batches: Sequence[Sequence[int]]) -> None:
    for batch in batches:
        answer(batch)


def choose_batch(engine: Engine, options: LoadOptions) -> int:
    """How many images a session takes at a time at most.

    Unless told, what the engine was made for; of one that takes any, 8 where all images are there
    at the beginning, all of one query where they come together, and 1 where single images come.
    """
    fixed, asked = engine.manifest.batch, options.batch
    if fixed is not None:
        if asked is not None and asked > fixed:
            raise SegdeployError(
                f"{engine.manifest.model}: takes batches of {fixed}; wanted {asked}",
                hint="export it with --batch dynamic",
            )
        return asked or fixed
    match options.scenario:
        case Scenario.OFFLINE:
            return asked or BATCH
        case Scenario.MULTI_STREAM:
            return asked or options.samples
        case _:
            return asked or 1


def draw_images(engine: Engine, asked: Size | None) -> Images:
    """Scenes of the size that the engine takes."""
    manifest = engine.manifest
    if asked is not None and manifest.size not in (None, asked):
        raise SegdeployError(f"{manifest.model}: takes {manifest.size}, asked for {asked}")
    known = find_facts(manifest.dataset)
    size = asked or manifest.size or (known.nominal_size if known else SIZE)
    return np.stack([draw_scene(seed, size)[0] for seed in range(IMAGES)])
