"""The commands: each parses, calls one function and prints. Heavy modules are imported inside."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from segdeploy.cli import printing
from segdeploy.cli.bench import bench
from segdeploy.cli.building import build_engine
from segdeploy.cli.calibration import calibrate
from segdeploy.cli.cpp import cpp
from segdeploy.cli.deepstream import export_deepstream
from segdeploy.cli.difference import diff
from segdeploy.cli.doctor import doctor
from segdeploy.cli.inspection import inspect
from segdeploy.cli.options import (
    DEFAULT_MODEL,
    STORE,
    Checkpoint,
    Crop,
    DeviceName,
    Json,
    Model,
    ModeName,
    Passage,
    Rebuild,
    Stride,
    Tta,
    Tuned,
    parse_batch,
    parse_mode,
    parse_size,
)
from segdeploy.cli.results import bench_compare, bench_show
from segdeploy.cli.scenarios import load
from segdeploy.errors import SegdeployError
from segdeploy.recipes import load_model, load_targets, model_names
from segdeploy.spec import Output, Precision, Runtime, Tuning
from segdeploy.version import __version__


class TwoWords(TyperGroup):
    """The name of a command may have two words: `bench compare` stands beside `bench`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # typer hides its types
        """Find the command; a second word belongs to its name if there is such a one."""
        pair = " ".join(args[:2])
        if pair in self.commands:
            return pair, self.commands[pair], args[2:]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=TwoWords,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Deploy MobileNetV2 segmentation models: exact ONNX export, engines, fps and mIoU.",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"segdeploy {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Deploy MobileNetV2 segmentation models: exact ONNX export, engines, fps and mIoU."""


@app.command(epilog="Example: segdeploy models --json")
def models(json: Json = False) -> None:
    """List the zoo, with the reference row of each model."""
    from segdeploy.cli.tables import model_rows, model_table

    rows = model_rows([load_model(name) for name in model_names()], load_targets())
    if json:
        printing.show_json(rows)
    else:
        printing.show_table(model_table(rows))


@app.command(epilog="Example: segdeploy download fcn-cityscapes")
def download(model: Model, json: Json = False) -> None:
    """Fetch a zoo model's checkpoint; a broken download is resumed."""
    from segdeploy.download import download as fetch

    spec = load_model(model)
    if not spec.checkpoint_url:
        raise SegdeployError(
            f"{model}: has no checkpoint to download",
            hint="it is bundled" if spec.checkpoint else "--checkpoint FILE",
        )
    target = STORE.checkpoint(Path(spec.checkpoint_url).name)
    result = fetch(spec.checkpoint_url, target, sha256_prefix=spec.sha256_prefix)
    if result.warning:
        printing.note(f"warning: {result.warning}")
    facts = {"checkpoint": str(result.path), "sha256": result.sha256, "warning": result.warning}
    printing.show_json(facts) if json else printing.show_facts(facts)


@app.command(epilog="Example: segdeploy export fcn-cityscapes --checkpoint fcn.pth --size 512x1024")
def export(
    model: Model = DEFAULT_MODEL,
    checkpoint: Checkpoint = None,
    out: Annotated[Path | None, typer.Option("-o", help="The ONNX file to write.")] = None,
    size: Annotated[str | None, typer.Option(metavar="HxW", help="A fixed image size.")] = None,
    dynamic: Annotated[bool, typer.Option("--dynamic", help="Any image size.")] = False,
    batch: Annotated[str, typer.Option(metavar="N|dynamic", help="Images at a time.")] = "1",
    precision: Annotated[Precision, typer.Option(help="fp32 or fp16.")] = Precision.FP32,
    output: Annotated[Output, typer.Option(help="A label map, or raw logits.")] = Output.LABELS,
    plain: Annotated[bool, typer.Option("--plain", help="As trained, not rewritten.")] = False,
    tuning: Annotated[
        Tuned | None,
        typer.Option("--for", help="Rewrite for one kind of machine. Default: decided later."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say what each rewrite saved.")
    ] = False,
    verify: Annotated[bool, typer.Option(help="Compare the graph with PyTorch.")] = True,
    json: Json = False,
) -> None:
    """Trace a model to ONNX and prove that it equals PyTorch."""
    if size is not None and dynamic:
        raise typer.BadParameter("--size and --dynamic exclude each other")
    if plain and tuning is not None:
        raise typer.BadParameter("--plain and --for exclude each other")
    from segdeploy.cli.tables import exported_facts, exported_json, step_table
    from segdeploy.pipeline.graphs import export_model
    from segdeploy.pipeline.make import default_graph_path, export_options
    from segdeploy.pipeline.source import resolve_source

    source = resolve_source(model, checkpoint, STORE)
    options = export_options(
        size=None if dynamic else parse_size(size) if size else source.spec.size,
        batch=parse_batch(batch),
        precision=precision,
        output=output,
        tuning=Tuning.PLAIN if plain else Tuning(tuning or Tuning.ANY),
    )
    place = out or default_graph_path(source, options, STORE)
    exported = export_model(source, options, place, verify=verify)
    if json:
        printing.show_json(exported_json(exported))
        return
    printing.show_facts(exported_facts(exported))
    if explain:
        printing.show_table(step_table(exported.steps))


app.command("build-engine", epilog="Example: segdeploy build-engine demo --int8")(build_engine)
app.command(epilog="Example: segdeploy calibrate demo -o ranges.json")(calibrate)


@app.command(epilog="Example: segdeploy predict demo street.png -o masks --overlay")
def predict(
    artifact: Annotated[str, typer.Argument(help="A .onnx, .ort or .plan file, or a model.")],
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    out: Annotated[Path, typer.Option("-o", help="The folder for the label maps.")],
    overlay: Annotated[bool, typer.Option("--overlay", help="Also paint the image.")] = False,
    checkpoint: Checkpoint = None,
    runtime: Annotated[
        Runtime | None, typer.Option(help="What runs it. Default: its own, or onnxruntime.")
    ] = None,
    device: DeviceName = None,
    rebuild: Rebuild = False,
    mode: ModeName = Passage.WHOLE,
    crop: Crop = None,
    stride: Stride = None,
    tta: Tta = False,
    json: Json = False,
) -> None:
    """Write the label map of each image: a PNG of class ids, as large as the image."""
    from segdeploy.pipeline.segment import Opening, find_images, open_named, segment_files

    passage = parse_mode(mode, crop, stride, tta=tta)
    files = find_images(images)
    opening = Opening(
        checkpoint=checkpoint, runtime=runtime, device=device, rebuild=rebuild, store=STORE
    )
    with open_named(artifact, opening) as engine, engine.session() as session:
        written = segment_files(session, files, out, overlay=overlay, mode=passage)
    paths = [str(path) for path in written]
    printing.show_json(paths) if json else print("\n".join(paths))


app.command(epilog="Example: segdeploy bench demo --precision fp32,int8 --report report.md")(bench)
app.command("bench show", epilog="Example: segdeploy bench show report.json --html report.html")(
    bench_show
)
app.command("bench compare", epilog="Example: segdeploy bench compare main.json branch.json")(
    bench_compare
)
app.command(epilog="Example: segdeploy load demo --scenario constant-stream")(load)
app.command(epilog="Example: segdeploy inspect artifacts/demo/fp32.onnx")(inspect)
app.command(epilog="Example: segdeploy diff demo artifacts/demo/int8.onnxruntime.ort")(diff)

app.command(epilog="Example: segdeploy cpp --cmake-dir")(cpp)
app.command(
    "export-deepstream",
    epilog="Example: segdeploy export-deepstream artifacts/demo/fp32.onnx -o deepstream",
)(export_deepstream)
app.command(epilog="Example: segdeploy doctor --json")(doctor)
