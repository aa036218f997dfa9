"""The page: what stands on it, put into the template, where everything is escaped."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import jinja2
from markupsafe import Markup

from segdeploy.artifacts import writing
from segdeploy.errors import SegdeployError
from segdeploy.html import plots, view
from segdeploy.html.pictures import Picture
from segdeploy.html.view import Cell, Subject, Table
from segdeploy.measurement import Boundary
from segdeploy.reference import footnotes
from segdeploy.report import SOURCE, Report

SUFFIXES = (".html", ".htm")
ROWS_OF_A_PLOT = 12  # of the boundaries: a taller plot is not seen as a whole
FOLDED_FROM = 40  # classes whose table is folded
TITLED = 3  # models that the title names


@dataclass(frozen=True)
class Plot:
    """An SVG and what stands above it."""

    caption: str
    svg: Markup


@dataclass(frozen=True)
class Card:
    """A number that stands out."""

    what: str
    value: str
    note: str


@dataclass(frozen=True)
class ModelLatency:
    """The times of one model."""

    title: str
    names: tuple[str, ...]
    distribution: Plot
    in_order: Plot
    table: Table


@dataclass(frozen=True)
class Boundaries:
    """What lies between the boundaries."""

    names: tuple[str, ...]
    plots: tuple[Plot, ...]
    table: Table
    meanings: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Trade:
    """mIoU against time on one data set."""

    dataset: str
    plot: Plot
    table: Table


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix, and its worst pairs in words."""

    plot: Plot
    confused: tuple[str, ...]


@dataclass(frozen=True)
class Accuracy:
    """All that needs ground truth."""

    trades: tuple[Trade, ...]
    per_class: tuple[Table, ...]
    matrices: tuple[Matrix, ...]
    folded_from: int = FOLDED_FROM


@dataclass(frozen=True, kw_only=True)
class Page:
    """Everything that the template shows."""

    title: str
    where: str
    cards: tuple[Card, ...]
    summary: Table
    has_random: bool
    verdicts: Table
    footnotes: tuple[str, ...]
    latency: tuple[ModelLatency, ...]
    trust: Table
    trust_sentence: str
    boundaries: Boundaries | None
    accuracy: Accuracy | None
    artifacts: Table
    commit: str
    has_pictures: bool

    @property
    def contents(self) -> tuple[tuple[str, str], ...]:
        """Anchors of the sections that there are."""
        sections = (
            ("summary", "Summary", True),
            ("reference", "Reference", bool(self.verdicts.rows)),
            ("latency", "Latency", True),
            ("trust", "Trust", True),
            ("boundaries", "Boundaries", self.boundaries is not None),
            ("accuracy", "Accuracy", self.accuracy is not None),
            ("pictures", "Pictures", self.has_pictures),
            ("what-ran", "What ran", True),
            ("environment", "Environment", True),
            ("repeat", "Repeat it", True),
        )
        return tuple((anchor, text) for anchor, text, there in sections if there)


def check_name(path: Path) -> None:
    """Refuse another file name before anything is measured."""
    if path.suffix.lower() not in SUFFIXES:
        raise SegdeployError(f"{path}: wanted a name that ends in .html")


def write_page(report: Report, path: Path, pictures: Sequence[Picture] = ()) -> None:
    """Write the page: one file that needs no other."""
    check_name(path)
    with writing(path) as temporary:
        temporary.write_text(html_page(report, pictures), encoding="utf-8")


def html_page(report: Report, pictures: Sequence[Picture] = ()) -> str:
    """The page as text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("segdeploy", "html"),
        autoescape=True,  # every name comes from a file
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    style = (Path(__file__).parent / "style.css").read_text("utf-8")
    return environment.get_template("page.html.jinja").render(
        page=page_of(report, pictures),
        report=report,
        pictures=pictures,
        source=SOURCE,
        style=Markup(style),  # our own file
    )


def page_of(report: Report, pictures: Sequence[Picture] = ()) -> Page:
    """Read everything off the report."""
    subjects = view.subjects_of(report)
    models = list(view.by_model(subjects))
    titles = list(dict.fromkeys(subject.measurement.title for subject in subjects))
    rest = f" and {len(titles) - TITLED} more" if len(titles) > TITLED else ""
    gpus = ", ".join(gpu.name for gpu in report.environment.gpus)
    names = ("p" + str(number) for number in count())
    notes = footnotes(report.references.values())
    checkout = report.environment.checkout
    return Page(
        title=f"{', '.join(titles[:TITLED])}{rest}: speed and accuracy",
        where=f"{report.environment.cpu}, {report.environment.usable_cores} cores"
        + (f"; {gpus}" if gpus else ""),
        cards=tuple(_cards(report, subjects)),
        summary=view.summary(report, subjects),
        has_random=any(s.measurement.is_random for s in subjects),
        verdicts=view.verdicts(report, subjects, notes),
        footnotes=notes,
        latency=tuple(_latency(title, own, names) for title, own in models),
        trust=view.trust(subjects),
        trust_sentence=_trust(subjects),
        boundaries=_boundaries(subjects, names),
        accuracy=_accuracy(subjects, names),
        artifacts=view.artifacts(subjects),
        commit=str(checkout or ""),
        has_pictures=bool(pictures),
    )


def _cards(report: Report, subjects: Sequence[Subject]) -> Iterator[Card]:
    """The fastest row, the best mIoU, the largest gain, and how many rows can be trusted."""
    fastest = max(subjects, key=lambda s: s.measurement.fps)
    yield Card("fastest", f"{view.number(fastest.measurement.fps)} fps", _noted(fastest))
    scored = [s for s in subjects if s.measurement.miou is not None]
    if scored:
        best = max(scored, key=lambda s: s.measurement.miou or 0)
        yield Card("best mIoU", f"{best.measurement.miou:.2f} %", best.long)
    gains = [(gain, s) for s in subjects if (gain := report.speedup(s.measurement)) is not None]
    if gains and len(gains) > 1:
        subject = max(gains, key=lambda pair: pair[0])[1]
        told = report.speedup_told(subject.measurement)
        doubt = ": either run is inconclusive" if told.startswith("~") else ""
        yield Card("most gained over PyTorch", f"{told}x", f"{subject.long}{doubt}")
    stable = sum(s.measurement.steadiness.is_stable for s in subjects)
    yield Card("stable timing", f"{stable} of {len(subjects)}", "rows, at the boundary mmseg")


def _noted(subject: Subject) -> str:
    """Whose time stands out, and whether it can be trusted."""
    is_stable = subject.measurement.steadiness.is_stable
    return subject.long if is_stable else f"{subject.long}: inconclusive"


def _trust(subjects: Sequence[Subject]) -> str:
    shaky = [s.long for s in subjects if not s.measurement.steadiness.is_stable]
    if not shaky:
        return (
            "Nothing speaks against any row: another run on this machine should find the same "
            "medians."
        )
    return (
        f"{len(shaky)} of {len(subjects)} rows are inconclusive: another run may find other "
        "medians. Their times are shown, and should not be quoted."
    )


def _latency(title: str, own: Sequence[Subject], names: Iterator[str]) -> ModelLatency:
    samples = {s.short: s.measurement.latency.steps_ms for s in own}
    medians = ", ".join(f"{s.short} {view.number(s.measurement.latency.p50_ms)} ms" for s in own)
    label = f"{title}: medians {medians}"
    return ModelLatency(
        title=title,
        names=tuple(samples),
        distribution=Plot(
            "Share of the steps by their time, in times of the row's own median",
            Markup(plots.distribution(samples, next(names), f"Distribution of {label}")),
        ),
        in_order=Plot(
            "Every step in the order of the run",
            Markup(plots.in_order(samples, next(names), f"Steps in order of {label}")),
        ),
        table=view.latency(own),
    )


def _boundaries(subjects: Sequence[Subject], names: Iterator[str]) -> Boundaries | None:
    kinds = [b for b in Boundary if any(b in s.measurement.boundaries for s in subjects)]
    if len(kinds) < 2:
        return None
    drawn = []
    for first in range(0, len(subjects), ROWS_OF_A_PLOT):
        part = subjects[first : first + ROWS_OF_A_PLOT]
        rows = {
            f"{s.measurement.name}\n{s.short}": {
                kind.value: (timing.latency.p50_ms, timing.latency.p99_ms)
                for kind in kinds
                if (timing := s.measurement.boundaries.get(kind)) is not None
            }
            for s in part
        }
        label = "Median and p99 of each boundary; the table below has the numbers"
        svg = plots.side_by_side(rows, [kind.value for kind in kinds], next(names), label)
        drawn.append(Plot("Median of each boundary, and a line to p99", Markup(svg)))
    return Boundaries(
        tuple(kind.value for kind in kinds),
        tuple(drawn),
        view.boundaries(subjects),
        tuple((kind.value, kind.meaning) for kind in kinds),
    )


def _accuracy(subjects: Sequence[Subject], names: Iterator[str]) -> Accuracy | None:
    scored = [s for s in subjects if s.measurement.miou is not None]
    if not scored:
        return None
    datasets = dict.fromkeys(s.measurement.dataset for s in scored)
    groups = [(name, [s for s in scored if s.measurement.dataset == name]) for name in datasets]
    return Accuracy(
        trades=tuple(_trade(name, own, names) for name, own in groups),
        per_class=tuple(view.per_class(scored)),
        matrices=tuple(_matrix(s, names) for s in scored),
    )


def _trade(dataset: str, own: Sequence[Subject], names: Iterator[str]) -> Trade:
    points = [(s.measurement.latency.p50_ms, s.measurement.miou or 0.0) for s in own]
    front = front_of(points)
    label = f"mIoU on {dataset} against the median step; the table has the numbers"
    svg = plots.trade(points, front, next(names), label)
    rows = tuple(
        (
            Cell(f"{place + 1}. {s.long}"),
            Cell(f"{points[place][1]:.2f}"),
            Cell(view.number(points[place][0])),
            Cell("yes" if place in front else "no", "good" if place in front else "faint"),
        )
        for place, s in enumerate(own)
    )
    header = ("Row", "mIoU %", "p50 ms", "front")
    caption = "The front: rows that no other beats in both mIoU and time"
    return Trade(
        dataset, Plot("Better is up and to the left", Markup(svg)), Table(caption, header, rows)
    )


def front_of(points: Sequence[tuple[float, float]]) -> tuple[int, ...]:
    """Places of the points (time, mIoU) that no other beats in one and equals in the other."""
    return tuple(
        place
        for place, (time, miou) in enumerate(points)
        if not any(t <= time and m >= miou and (t, m) != (time, miou) for t, m in points)
    )


def _matrix(subject: Subject, names: Iterator[str]) -> Matrix:
    m = subject.measurement
    assert m.tally is not None
    worst = view.confused(m)
    label = f"Confusion matrix of {subject.long}. {'; '.join(worst)}"
    svg = plots.confusion(view.confusion_shares(m), m.tally.classes, next(names), label)
    return Matrix(Plot(subject.long, Markup(svg)), worst)
