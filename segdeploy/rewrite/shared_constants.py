"""Equal constants kept once."""

import onnx_ir as ir
from onnx_ir.passes import common


def share_constants(model: ir.Model) -> int:
    """Let all readers of equal constants read the same one."""
    before = len(model.graph.initializers)
    common.DeduplicateInitializersPass(size_limit=1 << 20)(model)
    return before - len(model.graph.initializers)
