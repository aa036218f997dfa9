"""The command `calibrate`: statistics and ranges on their own, whole or in shards."""

from pathlib import Path
from typing import Annotated

import typer

from segdeploy.cli import printing
from segdeploy.cli.options import DATA, DEFAULT_MODEL, STORE, Calibration, Checkpoint, Data, Json
from segdeploy.errors import SegdeployError
from segdeploy.spec import Precision

Out = Annotated[
    Path | None,
    typer.Option(
        "-o",
        metavar="F",
        help="ranges.json, statistics.npz, or ranges.cache for TensorRT up to 10.",
    ),
]
Shard = Annotated[
    str | None, typer.Option(metavar="K/N", help="Only every N-th image, from the K-th on.")
]
Merge = Annotated[
    list[Path] | None, typer.Option(metavar="F.npz", help="Add up shards; give one for each.")
]


def calibrate(
    model: Annotated[
        str, typer.Argument(help="A model, or the .onnx file of one.")
    ] = DEFAULT_MODEL,
    checkpoint: Checkpoint = None,
    calibration: Calibration = None,
    data: Data = DATA,
    out: Out = None,
    precision: Annotated[
        Precision, typer.Option(help="Of the graph: fp32 for a CPU, fp16 for a GPU.")
    ] = Precision.FP32,
    method: Annotated[
        str | None, typer.Option(help="max, percentile, entropy or mse. Default: the set's.")
    ] = None,
    percentile: Annotated[float | None, typer.Option(help="Of method percentile.")] = None,
    shard: Shard = None,
    merge: Merge = None,
    explain_cache: Annotated[
        bool, typer.Option("--explain-cache", help="Say why statistics are or are not used again.")
    ] = False,
    json: Json = False,
) -> None:
    """Collect what int8 is made of: how often each magnitude occurs, and the ranges read off it."""
    part = _parse_shard(shard) if shard else None
    if part and (out is None or out.suffix != ".npz" or merge):
        raise typer.BadParameter("--shard wants -o F.npz, and no --merge")
    from segdeploy.pipeline.ranges import CalibrationRequest, calibrate_graph, find_graph

    request = CalibrationRequest(
        graph=find_graph(model, checkpoint, precision, STORE),
        calibration=calibration,
        data=data,
        store=STORE,
        method=method,
        percentile=percentile,
        shard=part,
        merge=tuple(merge or ()),
        out=out,
    )
    if explain_cache:
        from segdeploy.pipeline.ranges import explain

        lines = explain(request)
        printing.show_json(list(lines)) if json else print("\n".join(lines))
        return
    made = calibrate_graph(request)
    for warning in made.warnings:
        printing.note(f"warning: {warning}")
    facts = made.facts
    printing.show_json(facts) if json else printing.show_facts(facts)


def _parse_shard(text: str) -> tuple[int, int]:
    """The third of sixteen, "3/16", is (2, 16)."""
    first, slash, parts = text.partition("/")
    if not (slash and first.isdecimal() and parts.isdecimal() and 1 <= int(first) <= int(parts)):
        raise typer.BadParameter(f"--shard {text}: wanted K/N, such as 3/16")
    if int(parts) == 1:
        raise SegdeployError("one shard of one is the whole set", hint="leave --shard out")
    return int(first) - 1, int(parts)
