"""Concatenations of channels taken apart: a convolution of joined maps is a sum of convolutions.

Joining copies every map once more. Depthwise convolutions and activations treat channels apart, so
they are applied to each map; a dense convolution becomes one for each map, and their sum, which
ONNX Runtime adds up while it convolves.
"""

import onnx_ir as ir

from segdeploy.rewrite.graph_edit import (
    Draft,
    concatenated_parts,
    constant,
    number,
    only_reader,
    operand,
    side,
    weights_of,
)

ACTIVATIONS = ("Relu", "Clip")


def split_concatenations(model: ir.Model) -> int:
    """Remove each concatenation that ends, through channelwise operators, in a dense 1x1 Conv."""
    changed = 0
    for node in list(model.graph):
        if node.op_type == "Concat":
            parts = concatenated_parts(node.outputs[0])
            chain = _chain_to_dense(node.outputs[0]) if len(parts) > 1 else []
            if chain:
                _split(parts, chain)
                changed += 1
    return changed


def _chain_to_dense(value: ir.Value) -> list[ir.Node]:
    """The channelwise nodes behind `value`, and the dense convolution behind them; or nothing."""
    chain: list[ir.Node] = []
    while (node := only_reader(value)) is not None:
        chain.append(node)
        if node.op_type == "Conv":
            weights = constant(node.inputs[1])
            if weights is None:
                return []
            if number(node, "group", 1) == 1:
                is_pointwise = weights.shape[2:] == (1, 1)
                return chain if is_pointwise and weights.dtype == "float32" else []
            if weights.shape[1] != 1 or len(weights) != number(node, "group", 1):
                return []
        elif node.op_type not in ACTIVATIONS:
            return []
        value = node.outputs[0]
    return []


def _split(parts: tuple[ir.Value, ...], chain: list[ir.Node]) -> None:
    dense = chain[-1]
    draft = Draft(f"{operand(dense, 1).name}.split")
    total: ir.Value | None = None
    start = 0
    for p, part in enumerate(parts):
        channels = side(part, 1)
        assert channels is not None  # concatenated_parts knows them all
        chosen = slice(start, start + channels)
        start += channels
        value = part
        for step, node in enumerate(chain[:-1]):
            value = _channelwise(draft, node, value, chosen, f"part{p}_{step}")
        inputs = [value, draft.store(weights_of(dense)[:, chosen], f"weight{p}")]
        if p == 0:
            inputs += [bias for bias in dense.inputs[2:] if bias is not None]
        product = draft.copy(dense, inputs, f"product{p}")
        total = product if total is None else draft.make("Add", [total, product], f"sum{p}")
    assert total is not None
    draft.replace(dense, total)


def _channelwise(
    draft: Draft, node: ir.Node, value: ir.Value, chosen: slice, name: str
) -> ir.Value:
    """The same node on some of the channels."""
    if node.op_type != "Conv":
        return draft.copy(node, [value, *node.inputs[1:]], name)
    inputs = [value]
    for k, parameter in enumerate(node.inputs[1:]):
        array = constant(parameter)
        assert array is not None
        inputs.append(draft.store(array[chosen], f"{name}_parameter{k}"))
    attributes = {key: attribute.value for key, attribute in node.attributes.items()}
    attributes["group"] = chosen.stop - chosen.start
    return draft.make("Conv", inputs, name, **attributes)
