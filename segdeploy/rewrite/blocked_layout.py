"""A resize of a map that no convolution wrote, for ONNX Runtime on a CPU.

ONNX Runtime keeps maps between convolutions in blocks of channels and resizes them there three
times as fast; but only a convolution or pooling starts that layout. After a Winograd convolution a
depthwise 1x1 convolution by one starts it, at the size before the resize instead of behind it.
"""

import numpy as np
import onnx_ir as ir

from segdeploy.rewrite.graph_edit import Draft, only_reader, operand, side, text

CONVOLUTIONS = ("Conv", "MaxPool", "AveragePool")


def start_blocked_layout(model: ir.Model) -> int:
    """Put an identity convolution before each activation that a bilinear Resize alone reads."""
    changed = 0
    for node in list(model.graph):
        if node.op_type == "Relu":
            source = operand(node)
            reader, producer = only_reader(node.outputs[0]), source.producer()
            channels = side(source, 1)
            if (
                reader is not None
                and reader.op_type == "Resize"
                and text(reader, "mode", "nearest") == "linear"
                and producer is not None
                and producer.op_type not in CONVOLUTIONS
                and channels is not None
                and source.dtype == ir.DataType.FLOAT
            ):
                draft = Draft(f"{node.outputs[0].name}.blocked")
                ones = draft.store(np.ones((channels, 1, 1, 1), np.float32), "ones")
                same = draft.make("Conv", [source, ones], "same", group=channels)
                draft.replace(node, draft.make("Relu", [same], "relu"))
                changed += 1
    return changed
