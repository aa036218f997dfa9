"""What the commands show, made of what the stages return: rows, facts and tables."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from segdeploy.artifacts import Artifact, EnginePlan
from segdeploy.cli.engine_tables import build_facts
from segdeploy.recipes import Target
from segdeploy.spec import MaskPlace, ModelSpec, Output

if TYPE_CHECKING:
    from segdeploy.doctor.abilities import Ability
    from segdeploy.doctor.finding import Finding
    from segdeploy.lint_rules import Breach
    from segdeploy.pipeline.graphs import Exported
    from segdeploy.rewrite.passes import Step


def model_rows(specs: Sequence[ModelSpec], targets: Mapping[str, Target]) -> list[dict[str, Any]]:
    """One row per model, with its reference row or None."""
    return [
        {
            "model": spec.name,
            "method": spec.method.display_name,
            "dataset": spec.dataset,
            "classes": len(spec.classes) if spec.classes else None,
            "size": str(spec.size) if spec.size else "dynamic",
            "checkpoint": "bundled" if spec.checkpoint else spec.checkpoint_url,
            "license": spec.license,
            "reference": asdict(targets[spec.name]) if spec.name in targets else None,
        }
        for spec in specs
    ]


def model_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The zoo for people."""
    table = table_of("model", "method", "classes", "size", "mIoU %", "fps", "measured on")
    for row in rows:
        reference = row["reference"] or {}
        on = f"{reference['device']}, {reference['resolution']}" if reference else ""
        cells = (row["model"], row["method"], row["classes"], row["size"])
        table.add_row(*map(str, (*cells, reference.get("miou", ""), reference.get("fps", ""), on)))
    table.caption = "mIoU and fps: MMSegmentation 1.2.2, configs/mobilenet_v2/README.md"
    return table


def exported_json(exported: "Exported") -> dict[str, Any]:
    """An exported graph for machines."""
    manifest = exported.graph.manifest
    return {
        "graph": str(exported.graph.path),
        "tuning": manifest.tuning,
        "rewrites": [asdict(step) for step in exported.steps],
        "parity": [asdict(parity) for parity in exported.parities],
    }


def exported_facts(exported: "Exported") -> dict[str, Any]:
    """An exported graph for people: how it compares with PyTorch, worst over the sizes."""
    parities = exported.parities
    facts = {"graph": exported.graph.path, "work": _saved(exported.steps)}
    if not parities:
        return {**facts, "verified": "no"}
    return {
        **facts,
        "verified": ", ".join(f"{parity.batch}x{parity.size}" for parity in parities),
        "largest logit difference": f"{max(p.logit_error for p in parities):.2e}",
        "logit range": f"{min(p.logit_range for p in parities):.1f}",
        "equal labels": f"{min(p.equal_labels for p in parities):.4%}",
    }


def _saved(steps: "Sequence[Step]") -> str:
    """Multiplications before and after all passes."""
    if not steps or steps[0].before.macs == steps[-1].after.macs:
        return ""
    return f"{steps[-1].after.macs / 1e9:.2f} of {steps[0].before.macs / 1e9:.2f} GMAC"


def step_table(steps: "Sequence[Step]") -> Table:
    """What each pass saved: GMAC of convolutions and products, megabytes written, nodes."""
    table = table_of("rewrite", "places", "GMAC", "", "MB written", "", "nodes", "")
    for step in steps:
        row = [step.name, str(step.places)]
        for before, after, scale, digits in (
            (step.before.macs, step.after.macs, 1e9, 2),
            (step.before.bytes, step.after.bytes, 1e6, 1),
            (step.before.nodes, step.after.nodes, 1, 0),
        ):
            row += [f"{before / scale:.{digits}f} > {after / scale:.{digits}f}"]
            row += [f"{(after - before) / scale:+.{digits}f}" if after != before else ""]
        table.add_row(*row)
    return table


def artifact_facts(artifact: Artifact) -> dict[str, Any]:
    """What an artifact is, from where, what it takes and what it returns."""
    manifest = artifact.manifest
    size = str(manifest.size) if manifest.size else "any size"
    batch = manifest.batch or "N"
    classes = len(manifest.classes)
    height_width = f"{manifest.size.height}, {manifest.size.width}" if manifest.size else "H, W"
    if manifest.output is Output.LABELS:
        returns = f"labels ({batch}, {height_width}) uint8: class ids"
    else:
        stride = manifest.method.stride
        returns = f"logits ({batch}, {classes}, H/{stride}, W/{stride}) float32"
    runtime = manifest.runtime
    facts = {
        "file": str(artifact.path),
        "kind": f"engine of {runtime} {manifest.runtime_version}" if runtime else "ONNX graph",
        "model": f"{manifest.model} ({manifest.method.display_name}, MobileNetV2-D8)",
        "precision": str(manifest.precision),
        "takes": f"image ({batch}, {height_width}, 3) uint8 {manifest.color_order}, {size}",
        "returns": returns,
        "classes": f"{classes}: {', '.join(manifest.classes.names)}",
        "normalization": f"in the graph: mean {manifest.normalization.mean}, "
        f"std {manifest.normalization.std}",
        "data set": manifest.dataset or "",
        "weights": "random, for speed only" if manifest.is_random else manifest.checkpoint,
        "weights sha256": "" if manifest.is_random else manifest.checkpoint_sha256,
        "calibration": manifest.calibration,
        "rewritten": ", ".join(manifest.rewrites),
        "mask": "made by the session" if manifest.mask is MaskPlace.HOST else "",
        "runs on": manifest.machine,
        "made with": ", ".join(f"{name} {version}" for name, version in manifest.versions),
    }
    if isinstance(artifact, EnginePlan):
        return {**facts, **build_facts(manifest.build), "sha256": manifest.sha256}
    return {**facts, **_graph_facts(artifact)}


def _graph_facts(artifact: Artifact) -> dict[str, Any]:
    from segdeploy.graph import operator_counts, read_model

    counts = operator_counts(read_model(artifact.path))
    return {"nodes": f"{sum(counts.values())}: " + ", ".join(f"{n} {k}" for k, n in counts.items())}


def finding_table(findings: "Sequence[Finding]") -> Table:
    """The lines of `segdeploy doctor`."""
    table = table_of("", "what", "found", "to do")
    for finding in findings:
        mark = "yes" if finding.ok else "no"
        cells = (mark, finding.name, finding.found, finding.advice)
        table.add_row(*map(Text, cells))  # Text: brackets in a command are not markup
    return table


def ability_table(abilities: "Sequence[Ability]") -> Table:
    """What each command can do here."""
    table = table_of("", "command", "missing")
    for ability in abilities:
        mark = "no" if ability.missing else "yes"
        table.add_row(mark, ability.command, ", ".join(ability.missing))
    return table


def breach_table(breaches: "Sequence[Breach]") -> Table:
    """What `inspect --lint` found."""
    table = table_of("rule", "node", "found", "wanted")
    for breach in breaches:
        table.add_row(*map(Text, (breach.rule, breach.node, breach.found, breach.wanted)))
    return table


def table_of(*columns: str) -> Table:
    """An empty table in the style of all."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
