"""A verdict as a Markdown page, with a plot beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from segdeploy.accuracy import AccuracyFloor, Score
from segdeploy.artifacts import writing
from segdeploy.environment import Environment
from segdeploy.errors import SegdeployError
from segdeploy.markdown import code, escape, table
from segdeploy.verdict import Candidate, Found, LayerError, Verdict, pareto

NONE = "-"
SHOWN_LAYERS = 20
SIZE_INCHES = (7.0, 4.0)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What was tried, on what and where, and how it ended."""

    model: str
    runtime: str
    dataset: str
    images: int  # that are scored
    calibration: str
    floor: AccuracyFloor
    reference: Score  # of fp32
    floating: tuple[Candidate, ...]  # fp32, and fp16 where there is one
    found: Found
    ranking: tuple[LayerError, ...]  # most harmful first; empty: it was not needed
    verdict: Verdict
    notes: tuple[str, ...] = ()
    environment: Environment
    command: str
    created: str  # ISO date

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """All, in the order of a table: fp32, fp16, then int8 from all layers to the fewest."""
        integer = sorted(self.found.candidates, key=lambda c: (len(c.floating), c.floating_macs))
        return (*self.floating, *integer)


def write_page(trial: Trial, path: Path) -> None:
    """Write the page, and its plot as SVG beside it if matplotlib is there."""
    if path.suffix != ".md":
        raise SegdeployError(f"{path}: wanted a name that ends in .md")
    picture = path.with_suffix(".svg")
    shown = f"![mIoU over milliseconds]({quote(picture.name)})"
    try:
        draw(trial, picture)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        shown = (
            "There is no plot: `pip install 'segdeploy[report]'` brings matplotlib, which draws it."
        )
    with writing(path) as temporary:
        temporary.write_text(to_markdown(trial, shown), encoding="utf-8")


def to_markdown(trial: Trial, picture: str = "") -> str:
    """The page; `picture` is the line of Markdown that shows the plot."""
    kind = trial.verdict.kind
    facts = [
        ("Model", trial.model),
        ("Runtime", trial.runtime),
        ("Scored on", f"{trial.images} images of {trial.dataset}"),
        ("Calibrated on", trial.calibration),
        ("Wanted", str(trial.floor)),
    ]
    sections = [
        f"# INT8 verdict: {escape(trial.model)} on {escape(trial.runtime)}",
        f"**{kind}.** {escape(' '.join(trial.verdict.sentences))}",
        "\n".join(f"- {name}: {escape(text)}" for name, text in facts),
        "## Candidates",
        _candidate_table(trial),
        "Δ is in percentage points against fp32 on the same images. ms is the median step: one "
        "uint8 image at network size in, label map out. Engines are timed in turns, round by "
        "round, so that a slow moment of the machine meets them all. Front marks those that no "
        "other beats in both mIoU and ms. MACs floating is the share of all multiplications.",
        *([picture] if picture else []),
        *(escape(note) for note in trial.notes),
        *_kept(trial.verdict.chosen),
        *_ranking(trial.ranking),
        "## Environment",
        "\n".join(f"- {name}: {escape(text)}" for name, text in trial.environment.facts()),
        "## Repeat it",
        "\n".join(f"    {line}" for line in trial.command.splitlines()),
        f"Measured on {escape(trial.created)}.",
    ]
    return "\n\n".join(sections) + "\n"


def draw(trial: Trial, path: Path) -> None:
    """The candidates as an SVG: mIoU over the median step time, the front as a line."""
    # Here and not at the top: the page is of use without its plot.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    timed = [c for c in trial.candidates if c.score and c.latency_ms]
    with rc_context({"svg.hashsalt": "segdeploy", "svg.fonttype": "none"}):
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        axes = figure.add_subplot()
        front = pareto(timed)
        axes.plot([c.median_ms for c in front], [_miou(c) for c in front], color="0.7", zorder=1)
        for colour, (label, group) in enumerate(_groups(timed, trial.verdict.chosen).items()):
            axes.scatter(
                [c.median_ms for c in group],
                [_miou(c) for c in group],
                color=f"C{colour}",
                label=label,
                zorder=2,
            )
        if trial.floor.miou is not None:
            least = trial.floor.miou.least(trial.reference.miou)
            axes.axhline(least, color="0.5", linestyle="--", label=f"floor, {trial.floor.miou}")
        axes.set(xlabel="median step, ms", ylabel="mIoU, %")
        axes.legend()
        with writing(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})


def _groups(timed: Sequence[Candidate], chosen: Candidate) -> dict[str, list[Candidate]]:
    groups: dict[str, list[Candidate]] = {}
    for candidate in timed:
        label = str(candidate.precision)
        if candidate.floating:
            label += ", some layers floating"
        if candidate == chosen:
            label = f"{candidate.name}, chosen"
        groups.setdefault(label, []).append(candidate)
    return groups


def _candidate_table(trial: Trial) -> str:
    header = ["Engine", "Layers floating", "MACs floating", "mIoU %", "Δ", "ms", "MB", "Front"]
    front = pareto(trial.candidates)
    rows = []
    for candidate in trial.candidates:
        score, is_timed = candidate.score, bool(candidate.latency_ms)
        name = str(candidate.precision)
        layers = str(len(candidate.floating)) if name == "int8" else "all"
        rows.append([
            f"{name}, chosen" if candidate == trial.verdict.chosen else name,
            layers,
            f"{candidate.floating_macs:.1%}",
            f"{score.miou:.3f}" if score else NONE,
            f"{score.miou - trial.reference.miou:+.3f}" if score else NONE,
            f"{candidate.median_ms:.2f}" if is_timed else NONE,
            f"{candidate.artifact_bytes / 1e6:.2f}",
            "yes" if candidate in front else "no" if score and is_timed else NONE,
        ])  # fmt: skip
    return table(header, rows, left=1)


def _kept(chosen: Candidate) -> list[str]:
    if not chosen.floating:
        return []
    names = "\n".join(f"- `{name}`" for name in map(code, chosen.floating))
    return ["## Layers left floating", names]


def _ranking(ranking: Sequence[LayerError]) -> list[str]:
    if not ranking:
        return []
    rows = [
        [f"`{code(layer.name)}`", f"{layer.macs_share:.2%}", _noise(layer.noise)]
        for layer in ranking[:SHOWN_LAYERS]
    ]
    text = (
        f"The {len(rows)} worst of {len(ranking)}. Error is the power of the difference that the "
        "logits show when this layer alone is int8, by the power of the logits."
    )
    return ["## Layers by their error", table(["Layer", "MACs", "Error"], rows, left=1), text]


def _noise(noise: float | None) -> str:
    return NONE if noise is None else f"{noise:.2e}"


def _miou(candidate: Candidate) -> float:
    return candidate.score.miou if candidate.score else 0.0
