"""Small graphs, run before and after a pass."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx_ir.passes import common

Arrays = dict[str, NDArray[Any]]


def build(
    nodes: list[onnx.NodeProto],
    constants: Arrays,
    *,
    shape: tuple[int | str, ...],
    output: str = "y",
    dtype: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model of one input `x` and one output."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_empty_tensor_value_info(output)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opset = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=10)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


def rewritten(model: onnx.ModelProto, rewrite: Callable[[ir.Model], int], places: int = 1) -> Any:
    """The model after one pass, which has to change it in so many places."""
    draft = ir.from_proto(model)
    assert rewrite(draft) == places
    common.RemoveUnusedNodesPass()(draft)
    result = ir.to_proto(draft)
    onnx.checker.check_model(result, full_check=True)
    return result


def run(model: onnx.ModelProto, x: NDArray[Any]) -> NDArray[Any]:
    """The first output, from ONNX Runtime with its own rewrites off."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": x})[0]


@pytest.fixture(scope="session")
def small() -> Any:
    """`build`, `rewritten` and `run`, for tests that cannot import this file."""

    class Small:
        build = staticmethod(build)
        rewritten = staticmethod(rewritten)
        run = staticmethod(run)

        @staticmethod
        def operators(model: onnx.ModelProto) -> list[str]:
            return [node.op_type for node in model.graph.node]

    return Small


@pytest.fixture
def normal() -> Callable[..., NDArray[np.float32]]:
    """Normally distributed float32 arrays, the same in every run."""
    dice = np.random.default_rng(0)
    return lambda *shape: dice.standard_normal(shape).astype(np.float32)
