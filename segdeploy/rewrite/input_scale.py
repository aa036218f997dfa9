"""The standard deviation of the input, moved into the weights of the first convolution.

(x - mean) / std is zero where the convolution pads, so dividing the weights instead is exact. The
mean stays a subtraction: moved into a bias it would be wrong wherever the padding is seen, unless
each channel were padded with its own mean.
"""

import onnx_ir as ir

from segdeploy.rewrite.graph_edit import Draft, constant, number, only_reader, operand


def fold_input_scale(model: ir.Model) -> int:
    """Remove each Div by a constant per channel whose result one float32 convolution reads."""
    changed = 0
    for node in list(model.graph):
        if node.op_type != "Div":
            continue
        divisor, reader = constant(node.inputs[1]), only_reader(node.outputs[0])
        if divisor is None or reader is None or reader.op_type != "Conv":
            continue
        weights = constant(reader.inputs[1])
        if weights is None or number(reader, "group", 1) != 1:
            continue
        if divisor.shape != (1, weights.shape[1], 1, 1) or weights.dtype != "float32":
            continue
        draft = Draft(str(operand(reader, 1).name))
        scaled = draft.store((weights / divisor.astype("float64")).astype("float32"), "scaled")
        inputs = [node.inputs[0], scaled, *reader.inputs[2:]]
        draft.replace(reader, draft.copy(reader, inputs, "convolution"))
        model.graph.remove(node, safe=True)
        changed += 1
    return changed
