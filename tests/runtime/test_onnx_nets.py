"""Whole nets as exporters write them, against onnxruntime where it is installed, and against the reference's bounds."""

import numpy as np
import pytest

import runtime
from tests.tolerances import assert_within

pytest.importorskip("onnx")
from tests.runtime.onnx_nets import assert_agrees, graph, node, normal, save, value_and_bound  # it imports onnx


class Net:
    """Collects nodes and weights under the names that an exporter gives them."""

    def __init__(self):
        self.nodes, self.constants = [], {}

    def add(self, kind, *inputs, **attrs):
        name = f"/{kind}_{len(self.nodes)}"
        self.nodes.append(node(kind, " ".join(inputs), name, name=name, **attrs))
        return name

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return name

    def conv(self, x, c_in, c_out, k, stride=1, groups=1, norm=True):
        """Conv and BatchNormalization, as trained nets have them; a third of the weights are zero in blocks."""
        seed = len(self.nodes)
        weights = normal(seed, c_out, c_in // groups, k, k) / np.float32(np.sqrt(c_in // groups * k * k))
        weights[:, ::3] *= groups > 1
        w = self.constant(weights)
        pads = [k // 2] * 4
        y = self.add("Conv", x, w, kernel_shape=[k, k], strides=[stride] * 2, pads=pads, group=groups)
        if not norm:
            return y
        scale, bias, mean = (normal(seed + i, c_out) / 4 + np.float32(i == 1) for i in (1, 2, 3))
        var = 0.5 + normal(seed + 4, c_out) ** 2
        return self.add("BatchNormalization", y, *map(self.constant, (scale, bias, mean, var)))

    def flat_head(self, x, c, classes):
        """Mean, then a reshape to computed sizes, as exporters write x.view(x.size(0), -1)."""
        pooled = self.add("GlobalAveragePool", x)
        size = self.add("Gather", self.add("Shape", pooled), self.constant(np.int64(0)), axis=0)
        first = self.add("Unsqueeze", size, self.constant(np.array([0])))
        target = self.add("Concat", first, self.constant(np.array([-1])), axis=0)
        flat = self.add("Reshape", pooled, target)
        return self.add(
            "Gemm", flat, self.constant(normal(1, classes, c) / 4), self.constant(normal(2, classes)), transB=1
        )

    def model(self, output, size=16):
        self.nodes.append(node("Identity", output, "y"))
        return graph(self.nodes, {"x": ["batch", 3, size, size]}, "y", self.constants, 14)


def residual_net():
    """Two blocks of a ResNet, the second with stride and a shortcut of its own."""
    net = Net()
    x = net.add("Relu", net.conv("x", 3, 12, 3))
    for c_in, c_out, stride in ((12, 12, 1), (12, 24, 2)):
        y = net.conv(net.add("Relu", net.conv(x, c_in, c_out, 3, stride)), c_out, c_out, 3)
        shortcut = x if stride == 1 else net.conv(x, c_in, c_out, 1, stride)
        x = net.add("Relu", net.add("Add", y, shortcut))
    return net.model(net.add("Softmax", net.flat_head(x, 24, 10), axis=1))


def mobile_net():
    """Inverted residuals of a MobileNet: depthwise convolutions, ReLU6, hard swish, squeeze and excitation."""
    net = Net()
    low, high = net.constant(np.float32(0)), net.constant(np.float32(6))
    x = net.add("HardSwish", net.conv("x", 3, 8, 3, 2))
    y = net.add("Clip", net.conv(x, 8, 24, 1), low, high)
    y = net.add("Clip", net.conv(y, 24, 24, 3, groups=24), low, high)
    gate = net.add("Relu", net.conv(net.add("ReduceMean", y, axes=[2, 3], keepdims=1), 24, 6, 1, norm=False))
    gate = net.add("HardSigmoid", net.conv(gate, 6, 24, 1, norm=False), alpha=1 / 6)
    x = net.add("Add", x, net.conv(net.add("Mul", gate, y), 24, 8, 1))
    return net.model(net.flat_head(net.add("Mul", x, net.add("Sigmoid", x)), 8, 5))


def u_net():
    """Down, up by nearest pixels, joined with what was there before; an image comes out."""
    net = Net()
    first = net.add("LeakyRelu", net.conv("x", 3, 8, 3), alpha=0.1)
    deep = net.add("Relu", net.conv(net.add("MaxPool", first, kernel_shape=[2, 2], strides=[2, 2]), 8, 16, 3))
    scales = net.constant(np.array([1, 1, 2, 2], np.float32))
    up = net.add("Resize", deep, "_", scales, mode="nearest", coordinate_transformation_mode="asymmetric",
                 nearest_mode="floor")  # fmt: skip
    joined = net.add("Concat", up, first, axis=1)
    return net.model(net.add("Tanh", net.conv(joined, 24, 3, 3, norm=False)))


NETS = {"residual": residual_net, "mobile": mobile_net, "u": u_net}


@pytest.fixture(params=NETS)
def net(request, tmp_path):
    """(path, loaded model, input)."""
    path = save(tmp_path, NETS[request.param]())
    return path, runtime.load(path), normal(7, 19, 3, 16, 16)


def test_nets_run_within_their_bounds(net):
    _, loaded, x = net
    value, bound = value_and_bound(loaded, x)
    for batch in (1, 19):
        assert_within(loaded.run(x[:batch]), value[:batch], bound[:batch], np.float32)


def test_nets_agree_with_onnxruntime(net):
    ort = pytest.importorskip("onnxruntime")
    path, loaded, x = net
    (wanted,) = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    assert_agrees(loaded, x, wanted)
