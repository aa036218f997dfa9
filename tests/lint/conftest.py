"""Small quantized graphs, drawn node by node."""

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

CHANNELS = 4
ZERO = np.int8(0)


class Sketch:
    """A graph in the making: each method adds nodes and returns the tensor they write."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def node(self, kind: str, inputs: list[str], name: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [f"{name}.y"], name, **attributes))
        return f"{name}.y"

    def store(self, name: str, value: object) -> str:
        self.constants[name] = np.asarray(value)
        return name

    def parameters(self, name: str, scale: object, zero_point: object) -> list[str]:
        scale = scale if isinstance(scale, np.ndarray) else np.float32(scale)
        stored = self.store(f"{name}.scale", scale)
        if zero_point is None:
            return [stored]
        return [stored, self.store(f"{name}.zero_point", zero_point)]

    def quantize(self, x: str, name: str, scale: object = 0.1, zero_point: object = ZERO) -> str:
        return self.node("QuantizeLinear", [x, *self.parameters(name, scale, zero_point)], name)

    def dequantize(
        self, x: str, name: str, scale: object = 0.1, zero_point: object = ZERO, **axis: int
    ) -> str:
        parameters = self.parameters(name, scale, zero_point)
        return self.node("DequantizeLinear", [x, *parameters], name, **axis)

    def pair(self, x: str, name: str, scale: object = 0.1, zero_point: object = ZERO) -> str:
        integers = self.quantize(x, f"{name}.q", scale, zero_point)
        return self.dequantize(integers, f"{name}.dq", scale, zero_point)

    def weights(self, name: str, integers: np.ndarray | None = None, **options: object) -> str:
        stored = np.full((CHANNELS, CHANNELS, 1, 1), 3, np.int8) if integers is None else integers
        self.store(f"{name}.integers", stored)
        scale = np.full(len(stored), 0.5, np.float32)
        defaults = {"scale": scale, "zero_point": np.zeros(len(stored), stored.dtype), "axis": 0}
        return self.dequantize(f"{name}.integers", name, **{**defaults, **options})

    def floats(self, name: str, groups: int = 1) -> str:
        return self.store(name, np.ones((CHANNELS, CHANNELS // groups, 1, 1), np.float32))

    def bias(self, name: str, scale: float = 0.05, **options: object) -> str:
        """By default at the scale of a default pair times that of default weights."""
        self.store(f"{name}.integers", np.arange(CHANNELS, dtype=np.int32))
        scales = np.full(CHANNELS, scale, np.float32)
        return self.dequantize(f"{name}.integers", name, scales, None, axis=0, **options)

    def conv(self, x: str, name: str, weights: str = "", **attributes: object) -> str:
        """Integer by default, from a pair that stands on `x` already."""
        weights = weights or self.weights(f"{name}.w")
        return self.node("Conv", [x, weights], name, **attributes)

    def end(self, *tensors: str, opset: int = 20) -> ModelProto:
        """A floating convolution on each tensor, whose result the graph returns."""
        for tensor in tensors:
            self.conv(tensor, f"last.{tensor}", self.floats(f"last.{tensor}.w"))
        return self.model(*(f"last.{tensor}.y" for tensor in tensors), opset=opset)

    def model(self, *outputs: str, opset: int = 20) -> ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "sketch",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, CHANNELS, 6, 6))],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, "nchw") for name in outputs],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9
        )

    def one_conv(self, *arguments: object, **options: object) -> ModelProto:
        weights = self.weights("conv.w", *arguments, **options)
        return self.end(self.conv(self.pair("x", "in"), "conv", weights))

    def half_scales(self, opset: int) -> ModelProto:
        half = self.node("Cast", ["x"], "half", to=TensorProto.FLOAT16)
        data = self.pair(half, "in", np.array(0.1, np.float16))
        weights = self.weights("w", scale=np.full(CHANNELS, 0.5, np.float16))
        result = self.conv(data, "conv", weights)
        return self.end(self.node("Cast", [result], "single", to=TensorProto.FLOAT), opset=opset)

    def conv_pair_activation(self, kind: str, *bounds: float) -> ModelProto:
        computed = self.conv(self.pair("x", "in"), "conv")
        stored = [self.store(f"bound{k}", np.float32(bound)) for k, bound in enumerate(bounds)]
        return self.end(self.node(kind, [self.pair(computed, "mid"), *stored], "act"))


@pytest.fixture(scope="session")
def sketch() -> type[Sketch]:
    """Test folders are no packages, so that the class is handed out."""
    return Sketch
