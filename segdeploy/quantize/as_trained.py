"""The Q/DQ graph of quantization-aware training: the scales that were learned, and no others."""

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, helper

from segdeploy.errors import SegdeployError
from segdeploy.placement import QuantizationForm
from segdeploy.quantize.cpu_form import to_cpu_form
from segdeploy.quantize.draft import Draft
from segdeploy.quantize.rounding import SMALLEST_SCALE
from segdeploy.trained import TrainedConvolution


def quantize_as_trained(
    model: ModelProto, trained: Sequence[TrainedConvolution], form: QuantizationForm
) -> ModelProto:
    """Put the pairs that training saw: on what each of these convolutions reads, and its weights.

    Nothing is calibrated, moved or corrected. Who reads the same tensor with the same scale shares
    a pair.

    Args:
        model: exported as trained, without rewrites; fp32, or for the TensorRT form fp16.
        trained: its convolutions with integer weights.
        form: TensorRT's, or the same numbers for ONNX Runtime.
    """
    by_weight = {convolution.weight: convolution for convolution in trained}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    copy = ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    dtype = np.dtype(np.float32)
    pairs: dict[tuple[str, float], str] = {}
    found = set()
    draft = Draft(dtype)
    for node in copy.graph.node:
        known = by_weight.get(node.input[1]) if node.op_type == "Conv" else None
        if known is not None:
            found.add(known.weight)
            draft.dtype = helper.tensor_dtype_to_np_dtype(constants[known.weight].data_type)
            key = node.input[0], known.input_scale
            if key not in pairs:
                name = f"{node.input[0]}_of_{node.output[0]}"
                pairs[key] = draft.add_pair(*key, name=name)
            node.input[0] = pairs[key]
            # A channel that BatchNorm turned off has a scale of zero, which no runtime takes.
            scale = np.maximum(known.scale, SMALLEST_SCALE).astype(draft.dtype)
            node.input[1] = draft.add_weights(node.output[0], known.integers, scale)
        draft.nodes.append(node)
    missing = by_weight.keys() - found
    if missing:
        raise SegdeployError(
            f"the graph has no convolution with the weights {min(missing)}",
            hint="export it as trained: --plain",
        )
    quantized = draft.finish(copy)
    return quantized if form is QuantizationForm.TENSORRT else to_cpu_form(quantized)
