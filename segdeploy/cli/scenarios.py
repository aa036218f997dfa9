"""The command `load`: an engine under load, as in MLPerf's scenarios."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segdeploy.cli import printing
from segdeploy.cli.options import DeviceName, parse_size
from segdeploy.load.scenario import Generator, LoadOptions, Scenario
from segdeploy.load.trial import Ruling, Trial

if TYPE_CHECKING:
    from segdeploy.load.run import Load


def load(
    artifact: Annotated[str, typer.Argument(help="A .onnx, .ort or .plan file, or a model.")],
    scenario: Annotated[Scenario, typer.Option(help="How queries come.")] = Scenario.SINGLE_STREAM,
    rate: Annotated[
        float | None,
        typer.Option(metavar="N", help="Of server: queries per second. Default: search the most."),
    ] = None,
    streams: Annotated[
        int | None,
        typer.Option(metavar="N", help="Of constant-stream: cameras. Default: search the most."),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(metavar="N", help="Of constant-stream: frames per second. Default: 30."),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(metavar="N", help="Of multi-stream: images of a query. Default: 8."),
    ] = None,
    bound_ms: Annotated[
        float | None,
        typer.Option(metavar="MS", help="Of server and constant-stream. Default: the next frame."),
    ] = None,
    percentile: Annotated[
        float | None, typer.Option(metavar="P", help="That counts. Default: MLPerf's, 90 to 99.9.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Least duration of a run.")] = 10.0,
    max_seconds: Annotated[float, typer.Option(help="A run gives up then.")] = 300.0,
    sessions: Annotated[int, typer.Option(help="That run at the same time.")] = 1,
    batch: Annotated[
        int | None, typer.Option(metavar="N", help="Most images of a session at a time.")
    ] = None,
    threads: Annotated[int, typer.Option(help="Of a CPU runtime, for all sessions.")] = 0,
    size: Annotated[
        str | None, typer.Option(metavar="HxW", help="Of images for an engine of any size.")
    ] = None,
    device: DeviceName = None,
    seed: Annotated[int, typer.Option(help="Of arrivals, phases and images.")] = 0,
    generator: Annotated[Generator, typer.Option(help="What issues the queries.")] = Generator.OWN,
    json: Annotated[Path | None, typer.Option(metavar="F", help="Write all latencies.")] = None,
) -> None:
    """Measure an engine under load: streams, batches, random arrivals, cameras.

    Exit 1 if the rate or the number of streams was given and does not keep the bound.
    """
    given = {
        "--rate": rate, "--streams": streams, "--fps": fps, "--samples": samples,
        "--bound-ms": bound_ms, "--percentile": percentile,
    }  # fmt: skip
    scenario.check_given(name for name, value in given.items() if value is not None)
    options = LoadOptions(
        scenario=scenario,
        generator=generator,
        rate=rate,
        streams=streams,
        fps=LoadOptions.fps if fps is None else fps,
        samples=LoadOptions.samples if samples is None else samples,
        bound_ms=bound_ms,
        percentile=percentile,
        seconds=seconds,
        max_seconds=max_seconds,
        seed=seed,
        sessions=sessions,
        batch=batch,
        threads=threads,
        size=parse_size(size) if size else None,
        device=device,
    )
    from segdeploy.load.run import put_under_load

    command = " ".join(["segdeploy", *sys.argv[1:]])
    made = put_under_load(
        artifact,
        options,
        command=command,
        created=datetime.now(UTC).date().isoformat(),
        out=json,
        tell=lambda trial: printing.note(f"{_asked(trial)}: {_ruled(trial)}"),
    )
    printing.show_facts(load_facts(made))
    if made.misses:
        raise typer.Exit(1)


def load_facts(made: "Load") -> dict[str, Any]:
    """What came out, for people."""
    scenario, trial = made.options.scenario, made.answer
    facts: dict[str, Any] = {
        "artifact": made.artifact,
        "scenario": f"{scenario}: {scenario.meaning}",
        "generator": _generator(made),
        "sessions": made.options.sessions,
        "batch": made.batch,
    }
    if trial is None:
        return {**facts, "result": f"none: {_asked(made.trials[-1])}: {_ruled(made.trials[-1])}"}
    return {**facts, "result": _result(trial), **dict(_numbers(trial)), "verdict": _ruled(trial)}


def _result(trial: Trial) -> str:
    """What the run says, or what it does not."""
    match trial.judge()[0]:
        case Ruling.VALID:
            return _measured(trial)
        case Ruling.INVALID:
            return f"not kept: {_measured(trial)}"
        case Ruling.INCONCLUSIVE:
            return f"not decided: {_measured(trial)}"


def _measured(trial: Trial) -> str:
    options, percent = trial.options, f"p{trial.options.percent:g}"
    match options.scenario:
        case Scenario.OFFLINE:
            return f"{trial.samples_per_s:.1f} images/s"
        case Scenario.SERVER | Scenario.CONSTANT_STREAM:
            return f"{_asked(trial)} under {1000 * (options.bound_s or 0):.4g} ms {percent}"
        case _:
            estimate = trial.estimate_ms
            shown = "no estimate" if estimate is None else f"{estimate:.2f} ms"
            return f"{shown} {percent}, early-stopping estimate"


def _numbers(trial: Trial) -> Iterator[tuple[str, str]]:
    found = trial.derived()
    names = ("p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms")
    if trial.options.scenario is not Scenario.OFFLINE:
        shown = (f"{found[n]:.2f}" if found[n] is not None else "unanswered" for n in names)
        yield "p50, p90, p99, p99.9, max ms", ", ".join(shown)
        yield "images/s", f"{found['samples_per_s']:.1f}"
    yield "queries", f"{found['queries']} in {found['seconds']:.1f} s"
    if trial.options.scenario.has_schedule:
        yield "late, of these dropped", f"{found['over']}, {found['dropped']}"
    if found["left"]:
        yield "left waiting, of these late", f"{found['left']}, {found['left_late']}"


def _asked(trial: Trial) -> str:
    if trial.streams is not None:
        cameras = "camera" if trial.streams == 1 else "cameras"
        return f"{trial.streams} {cameras} of {trial.options.fps:g} fps"
    return "" if trial.rate is None else f"{trial.rate:.4g} queries/s"


def _ruled(trial: Trial) -> str:
    ruling, reasons = trial.judge()
    return f"{ruling}: {'; '.join(reasons)}" if reasons else str(ruling)


def _generator(made: "Load") -> str:
    said = made.trials[0].foreign
    if not said:
        return "own"
    return f"LoadGen {said.get('loadgen_version', '')}: {said.get('result_validity', '')}"
