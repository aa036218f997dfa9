"""One provider of ONNX Runtime, made to compute; `doctor.probes` runs this file on its own.

Without an argument it prints the providers of this build, as JSON. With the name of one it computes
a convolution there, and ends with an exception if it cannot.
"""

import json
import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

CPU = "CPUExecutionProvider"
OPSET, IR_VERSION = 13, 8  # old enough for every onnxruntime that the extras allow


def compute_on(provider: str) -> None:
    """Run a convolution with no other provider to fall back to.

    A convolution, because onnxruntime-gpu 1.31 links cuDNN no longer: it loads it when one runs.
    """
    if provider != CPU and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # as a session does
    options = onnxruntime.SessionOptions()
    if provider != CPU:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    session = onnxruntime.InferenceSession(_convolution(), options, providers=[provider])
    used = session.get_providers()[0]
    if used != provider:
        raise RuntimeError(f"ONNX Runtime gave {used} instead")
    session.run(None, {"x": np.ones((1, 1, 4, 4), np.float32)})


def _convolution() -> bytes:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 4, 4])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 2, 2])]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1, 1, 3, 3], [1.0] * 9)
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "convolution", inputs, outputs, [weight])
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
    return bytes(model.SerializeToString())


if __name__ == "__main__":
    if len(sys.argv) > 1:
        compute_on(sys.argv[1])
    else:
        print(json.dumps(onnxruntime.get_available_providers()))
