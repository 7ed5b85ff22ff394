"""The network as an ONNX graph: any batch, height and width, padding included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from defocus_ds_train.restore_network import fold_block
from defocus_ds_train.unet import UNet

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["INPUT", "METADATA", "OPSET", "OUTPUT", "build_graph"]

OPSET = 20  # the first with GELU as one operator
IR_VERSION = 9  # of the ONNX release that brought it
INPUT, OUTPUT = "blurred", "restored"
METADATA = "defocus_ds"  # the key that safetensors files have, too


def build_graph(model: UNet, *, metadata: dict[str, str]) -> ModelProto:
    """The network of `UNet.forward` in evaluation mode, normalisation folded.

    Args:
        model: trained.
        metadata: texts stored in the file.

    Returns:
        ``blurred`` (batch, 1, height, width) float32 in [0, 1] -> ``restored``, the same shape,
        not clipped.  The bottom and right edges are repeated up to a multiple of the network's
        stride inside the graph and cut off again.  Equal weights and metadata, equal bytes.

    Raises:
        InputError: the weights are not finite once normalisation is folded into them.
    """
    from onnx import TensorProto, checker, helper

    graph = _Graph()
    height, width = graph.side(INPUT, 2), graph.side(INPUT, 3)
    x = graph.padded(INPUT, [height, width], model.stride)
    features: list[str] = []
    for level, block in enumerate(model.encoder):
        if level:
            x = graph.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        for weight, bias in fold_block(block):
            x = graph.convolved(x, _array(weight), _array(bias))
        features.append(x)
    for level in reversed(range(len(model.decoder))):
        up = model.up[level]
        weights = [graph.constant(_array(up.weight)), graph.constant(_array(up.bias))]
        x = graph.add("ConvTranspose", x, *weights, kernel_shape=[2, 2], strides=[2, 2])
        x = graph.add("Concat", features[level], x, axis=1)
        for weight, bias in fold_block(model.decoder[level]):
            x = graph.convolved(x, _array(weight), _array(bias))
    x = graph.add("Conv", x, graph.constant(_array(model.output.weight)), kernel_shape=[1, 1])
    starts, axes = graph.integers([0, 0]), graph.integers([2, 3])
    ends = graph.add("Concat", height, width, axis=0)
    residual = graph.add("Slice", x, starts, ends, axes)
    graph.add("Add", INPUT, residual, output=OUTPUT)

    shape: list[str | int | None] = ["batch", 1, "height", "width"]
    built = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "defocus_ds_unet",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, shape)],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="defocus-ds",
    )
    helper.set_model_props(built, dict(sorted(metadata.items())))
    checker.check_model(built, full_check=True)
    return built


class _Graph:
    """Nodes and constants in order, each named by its number."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Append a node; returns the name of its output."""
        from onnx import helper

        name = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, values: npt.NDArray[Any]) -> str:
        from onnx import numpy_helper

        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def integers(self, values: Sequence[int]) -> str:
        return self.constant(np.array(values, np.int64))

    def side(self, tensor: str, axis: int) -> str:
        """The length of an axis, as a tensor of one element."""
        return self.add("Shape", tensor, start=axis, end=axis + 1)

    def padded(self, x: str, sides: Sequence[str], stride: int) -> str:
        """The last two axes, their ends repeated up to a multiple of ``stride``."""
        step = self.integers([stride])
        # Mod of a negative number takes the sign of the divisor, as in Python
        pads = [self.add("Mod", self.add("Neg", side), step) for side in sides]
        zeros = self.integers([0, 0])
        return self.add(
            "Pad",
            x,
            self.add("Concat", zeros, *pads, axis=0),
            "",
            self.integers([2, 3]),
            mode="edge",
        )

    def convolved(self, x: str, weight: npt.NDArray[Any], bias: npt.NDArray[Any]) -> str:
        names = [self.constant(weight), self.constant(bias)]
        x = self.add("Conv", x, *names, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        return self.add("Gelu", x)


def _array(tensor: Any) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = tensor.detach().cpu().float().numpy()
    return array
