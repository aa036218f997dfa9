"""Integer convolutions with a large dilation, without multiplying what is padding.

ONNX Runtime's floating convolutions leave out taps beyond the map, its integer ones multiply zeros
there. With dilation 36 on a map of 64x128 that is half of all multiplications. So the map is cut
where a tap enters or leaves it, and every part convolved with the taps that are inside throughout:
the same integers. Measured at 64x128, 320 to 512 channels, dilations 12, 24 and 36 together: 161
ms became 115.
"""

import onnx_ir as ir

from segdeploy.rewrite.bands import convolve_in_bands
from segdeploy.rewrite.graph_edit import same_3x3, side
from segdeploy.rewrite.integers import integer_convolution

SMALLEST = 2  # dilation; of an ordinary convolution hardly anything is padding


def leave_out_padding(model: ir.Model) -> int:
    """Cut each dilated dense integer 3x3 convolution of known size; return how many there were."""
    changed = 0
    for node in list(model.graph):
        found = integer_convolution(node)
        dilation = same_3x3(node, found.array.shape) if found else None
        if found is None or dilation is None or dilation < SMALLEST:
            continue
        source = found.source.value
        height, width = side(source, 2), side(source, 3)
        if height is None or width is None:
            continue
        bias = list(node.inputs[2:])
        convolve_in_bands(
            f"{found.result.value.name}.bands",
            found,
            source,
            found.array,
            lambda *_, bias=bias: bias,
            (height, width),
            dilation=dilation,
        )
        changed += 1
    return changed
