"""The command `inspect`: what an artifact is, and whether an int8 graph is in order."""

from pathlib import Path
from typing import Annotated

import typer

from segdeploy.cli import printing
from segdeploy.cli.options import DATA, Calibration, Data, Json
from segdeploy.errors import SegdeployError
from segdeploy.lint_rules import RULES, LintTarget


def inspect(
    artifact: Annotated[Path, typer.Argument(help="A .onnx, .ort or .plan file.")],
    lint: Annotated[
        bool, typer.Option("--lint", help="Check the Q/DQ pairs of any ONNX graph instead.")
    ] = False,
    target: Annotated[
        LintTarget | None,
        typer.Option(help="Of --lint: what shall run it. Default: its own form, or tensorrt."),
    ] = None,
    scales: Annotated[
        bool, typer.Option("--scales", help="Run images through an int8 graph instead.")
    ] = False,
    floating: Annotated[
        Path | None,
        typer.Option(metavar="F.onnx", help="Of --scales: the graph that int8 was made of."),
    ] = None,
    calibration: Calibration = None,
    data: Data = DATA,
    json: Json = False,
) -> None:
    """Say what an artifact is, where it is from, what it expects and what it returns."""
    if target is not None and not lint:
        raise typer.BadParameter("--target goes with --lint")
    if (floating is not None or calibration is not None) and not scales:
        raise typer.BadParameter("--floating and --calibration go with --scales")
    if lint and scales:
        raise typer.BadParameter("--lint and --scales exclude each other")
    if lint or scales:
        _check_is_graph(artifact)
    if lint:
        _lint(artifact, target, json=json)
        return
    if scales:
        _check_scales(artifact, floating, calibration, data, json=json)
        return
    from segdeploy.cli.tables import artifact_facts
    from segdeploy.pipeline.segment import read_artifact

    facts = artifact_facts(read_artifact(artifact))
    printing.show_json(facts) if json else printing.show_facts(facts)


def _check_is_graph(path: Path) -> None:
    if path.suffix in (".ort", ".plan"):
        raise SegdeployError(
            f"{path}: is an engine; wanted a graph",
            hint="inspect the .onnx graph it was built from",
        )


def _lint(path: Path, target: LintTarget | None, *, json: bool) -> None:
    from segdeploy.cli.tables import breach_table
    from segdeploy.graph import read_model
    from segdeploy.lint import integer_convolutions, lint_model, target_of

    model = read_model(path)
    chosen = target or target_of(model)
    printing.note(f"checking for {chosen}")
    breaches = lint_model(model, chosen)
    if json:
        printing.show_json([vars(breach) for breach in breaches])
    elif breaches:
        printing.show_table(breach_table(breaches))
    else:
        count = integer_convolutions(model)
        print(f"no rule is broken ({len(RULES)} rules, {count} integer convolutions)")
    if breaches:
        raise typer.Exit(1)


def _check_scales(
    path: Path, floating: Path | None, calibration: str | None, data: Path, *, json: bool
) -> None:
    from segdeploy.pipeline.diagnosis import inspect_scales

    complaints = inspect_scales(path, floating, calibration, data)
    if json:
        printing.show_json([vars(complaint) for complaint in complaints])
    elif not complaints:
        print("every scale suits the values that reach it")
    for complaint in complaints:
        printing.note(f"{complaint.severity}: {complaint.sentence}\nhint: {complaint.hint}")
    if complaints:
        raise typer.Exit(1)
