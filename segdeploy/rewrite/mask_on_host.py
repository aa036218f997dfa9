"""The mask left to the host: `masks.batch_labels` makes it faster than a graph on a CPU can."""

import onnx_ir as ir

from segdeploy.rewrite.graph_edit import operand
from segdeploy.spec import Output


def leave_mask_to_host(model: ir.Model) -> int:
    """Let a graph of labels return float32 logits at the head's stride instead."""
    (output,) = model.graph.outputs
    if output.name != Output.LABELS:
        return 0
    node = output.producer()
    while node is not None and node.op_type == "Cast":
        node = operand(node).producer()
    if node is None or node.op_type != "ArgMax":
        return 0
    resize = operand(node).producer()
    if resize is None or resize.op_type != "Resize":
        return 0
    logits = operand(resize)
    if logits.dtype != ir.DataType.FLOAT:
        cast = ir.node("Cast", [logits], {"to": ir.DataType.FLOAT})
        model.graph.append(cast)
        logits = cast.outputs[0]
        logits.dtype, logits.shape = ir.DataType.FLOAT, operand(cast).shape
    logits.name = str(Output.LOGITS)
    model.graph.outputs[0] = logits
    return 1
