"""Which passes a graph goes through, in which order, and what each of them saves."""

from collections.abc import Callable
from dataclasses import dataclass

import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from segdeploy.errors import SegdeployError
from segdeploy.rewrite.blocked_layout import start_blocked_layout
from segdeploy.rewrite.concatenations import split_concatenations
from segdeploy.rewrite.cost import Cost, measure_cost
from segdeploy.rewrite.dilated_winograd import apply_dilated_winograd
from segdeploy.rewrite.input_scale import fold_input_scale
from segdeploy.rewrite.integer_logits import finish_in_integers
from segdeploy.rewrite.integer_resize import resize_in_integers
from segdeploy.rewrite.known_shapes import infer_shapes
from segdeploy.rewrite.mask_on_host import leave_mask_to_host
from segdeploy.rewrite.padding_bands import leave_out_padding
from segdeploy.rewrite.pixel_border import leave_out_mark
from segdeploy.rewrite.pooled_branches import fold_pooled_branches
from segdeploy.rewrite.shared_constants import share_constants
from segdeploy.rewrite.winograd import apply_winograd
from segdeploy.spec import Size, Tuning

Rewrite = Callable[[ir.Model], int]  # changes the model, returns in how many places

ANYWHERE: tuple[Rewrite, ...] = (fold_input_scale, fold_pooled_branches)
ON_CPU: tuple[Rewrite, ...] = (
    apply_dilated_winograd,
    apply_winograd,
    split_concatenations,
    start_blocked_layout,
)
# Of a quantized graph in the form of ONNX Runtime; elsewhere they find nothing.
IN_INTEGERS: tuple[Rewrite, ...] = (
    leave_out_mark,
    leave_out_padding,
    resize_in_integers,
    finish_in_integers,
)
PASSES: dict[Tuning, tuple[Rewrite, ...]] = {
    Tuning.PLAIN: (),
    Tuning.ANY: (*ANYWHERE, share_constants),
    # TensorRT has Winograd of its own, and joins maps without a copy.
    Tuning.GPU: (*ANYWHERE, share_constants),
    Tuning.CPU: (*ANYWHERE, *ON_CPU, share_constants),
}


@dataclass(frozen=True)
class Step:
    """One pass over one graph."""

    name: str
    places: int  # where it changed something
    before: Cost
    after: Cost


def rewrite_model(
    model: onnx.ModelProto, passes: tuple[Rewrite, ...], size: Size
) -> tuple[onnx.ModelProto, tuple[Step, ...]]:
    """Run `passes` one after the other.

    Args:
        model: an exported graph; it stays as it is.
        passes: one of `PASSES`.
        size: of an image, at which the cost of a dynamic graph is told.

    Returns:
        The rewritten graph, and a step for each pass.
    """
    steps = []
    before = measure_cost(model, size)
    for rewrite in passes:
        name = rewrite.__name__
        draft = ir.from_proto(_with_shapes(model))
        places = rewrite(draft)
        if places:
            common.RemoveUnusedNodesPass()(draft)
            model = ir.to_proto(draft)
        after = measure_cost(model, size) if places else before
        steps.append(Step(name, places, before, after))
        before = after
    return model, tuple(steps)


def _with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The passes rely on shapes, which a file from elsewhere may contradict."""
    try:
        return infer_shapes(model, strict=True)
    except onnx.shape_inference.InferenceError as error:
        reason = str(error).splitlines()[0]
        raise SegdeployError(f"the graph's shapes contradict each other ({reason})") from error


def prepare_for_cpu(
    model: onnx.ModelProto, tuning: Tuning, size: Size
) -> tuple[onnx.ModelProto, tuple[Step, ...]]:
    """What an engine for a CPU is built of: rewritten for it, the mask left out."""
    due = (*ON_CPU, *IN_INTEGERS) if tuning is Tuning.ANY else ()
    return rewrite_model(model, (*due, leave_mask_to_host), size)
