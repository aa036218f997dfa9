"""Engines of one network, floating and int8 with some layers floating: made, scored, remembered."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from segdeploy.accuracy import Score
from segdeploy.artifacts import Graph, engine_suffix, request_hash, sha256_of
from segdeploy.pipeline.built import Built
from segdeploy.pipeline.calibration import CalibrationImages
from segdeploy.pipeline.diagnosis import examined_statistics
from segdeploy.pipeline.engines import build_engine
from segdeploy.pipeline.graphs import QuantizeRequest, quantize_graph
from segdeploy.pipeline.make import EngineRequest
from segdeploy.pipeline.protocol import Evaluation
from segdeploy.pipeline.sensitivity import Layers, rank_layers
from segdeploy.pipeline.verdict_log import Entry, VerdictLog
from segdeploy.spec import Precision
from segdeploy.verdict import Budget, Candidate, LayerError

if TYPE_CHECKING:
    from segdeploy.histograms import Statistics

LOG = "measured.json"


@dataclass(kw_only=True)
class Workbench:
    """Makes engines and scores them; the log is written after each, so that a killed run goes on.

    Args:
        base: the floating graph that int8 ones are made of.
        layers: of that graph, those that int8 can compute.
        folder: for the graphs and engines of this request alone, and the log.
    """

    engine: EngineRequest
    base: Graph
    layers: Layers
    calibration: CalibrationImages
    evaluation: Evaluation
    folder: Path
    log: VerdictLog = field(init=False)
    built: dict[tuple[Precision, tuple[str, ...]], Built] = field(init=False, default_factory=dict)
    warnings: tuple[str, ...] = field(init=False, default=())  # of the calibration images

    def __post_init__(self) -> None:
        self.log = VerdictLog.read(self.folder / LOG)

    def measure_floating(self, graph: Graph) -> Candidate:
        """Build and score a floating graph."""
        return self._measured(graph, self._floating(graph), (), 1.0)

    def only_built(self, graph: Graph) -> Candidate:
        """Build a floating graph."""
        return _candidate(self._floating(graph), (), 1.0, None)

    def measure_int8(self, floating: Collection[str]) -> Candidate:
        """Quantize with these layers floating, build and score."""
        names = self._in_order(floating)
        graph, built = self._int8(names)
        return self._measured(graph, built, names, self.layers.floating_macs(names))

    def known(self) -> tuple[Candidate, ...]:
        """The int8 candidates of earlier runs, of graphs that come out the same today."""
        found = []
        for entry in self.log.entries:
            names = entry.candidate.floating
            is_ours = entry.candidate.precision is Precision.INT8
            if is_ours and self._in_order(names) == names:
                graph, _ = self._int8(names)
                if (candidate := self.log.find(Precision.INT8, names, graph.path)) is not None:
                    found.append(candidate)
        return tuple(found)

    def rank(self, budget: Budget) -> tuple[LayerError, ...]:
        """The layers by the error that each causes alone, unless an earlier run measured it."""
        complete = all(layer.noise is not None for layer in self.log.ranking)
        if not complete or {layer.name for layer in self.log.ranking} != self.layers.macs.keys():
            ranking = rank_layers(self.base, self.layers, self._quantize, self.calibration, budget)
            self.log = replace(self.log, ranking=ranking)
            self.log.write(self.folder / LOG)
        return self.log.ranking

    def time(self, candidates: Iterable[Candidate], *, rounds: int = 5) -> tuple[Candidate, ...]:
        """The same candidates with their step times, all measured in turns."""
        candidates = tuple(candidates)
        plans = [self.built_of(candidate).plan for candidate in candidates]
        latencies = self.evaluation.time(plans, rounds=rounds)
        return tuple(
            replace(candidate, latency_ms=latency.steps_ms)
            for candidate, latency in zip(candidates, latencies, strict=True)
        )

    def built_of(self, candidate: Candidate) -> Built:
        """The engine of a candidate that was measured here."""
        return self.built[candidate.precision, candidate.floating]

    def _measured(
        self, graph: Graph, built: Built, floating: tuple[str, ...], macs: float
    ) -> Candidate:
        known = self.log.find(graph.manifest.precision, floating, graph.path)
        score = known.score if known else None
        if score is None:
            score = self.evaluation.score(built.plan)
            found = _candidate(built, floating, macs, score)
            self.log = self.log.with_entry(Entry(found, sha256_of(graph.path)))
            self.log.write(self.folder / LOG)
        return _candidate(built, floating, macs, score)

    def _floating(self, graph: Graph) -> Built:
        runtime, manifest = self.engine.runtime, graph.manifest
        place = self.engine.store.engine(manifest.model, graph.path.stem, runtime)
        key = (manifest.precision, ())
        made = build_engine(graph, runtime, place, self.engine.builder, store=self.engine.store)
        return self.built.setdefault(key, made)

    def _int8(self, floating: tuple[str, ...]) -> tuple[Graph, Built]:
        stem = f"int8-{request_hash(floating=floating)}" if floating else "int8"
        runtime = self.engine.runtime
        graph = self._quantize(floating, self.folder / f"{stem}.onnx")
        place = self.folder / f"{stem}{engine_suffix(runtime)}"
        key = (Precision.INT8, floating)
        built = build_engine(graph, runtime, place, self.engine.builder, store=self.engine.store)
        return graph, self.built.setdefault(key, built)

    @cached_property
    def _statistics(self) -> "Statistics":
        """Of the base graph: read once for all candidates."""
        statistics, self.warnings = examined_statistics(
            self.base, self.calibration, self.engine.data, self.engine.store
        )
        return statistics

    def _quantize(self, floating: Collection[str], out: Path) -> Graph:
        request = QuantizeRequest(
            calibration=self.calibration,
            runtime=self.engine.runtime,
            keep_fp32=(*self.engine.keep_fp32, *floating),
            full_range=self.engine.full_range,
            store=self.engine.store,
            statistics=lambda: self._statistics,
        )
        return quantize_graph(self.base, request, out)

    def _in_order(self, floating: Collection[str]) -> tuple[str, ...]:
        """As the graph has them, so that a set has one file; names that it lacks are left out."""
        return tuple(name for name in self.layers.macs if name in floating)


def _candidate(
    built: Built, floating: tuple[str, ...], macs: float, score: Score | None
) -> Candidate:
    return Candidate(
        precision=built.plan.manifest.precision,
        floating=floating,
        floating_macs=macs,
        score=score,
        artifact_bytes=built.plan.path.stat().st_size,
    )
