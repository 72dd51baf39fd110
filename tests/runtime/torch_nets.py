"""Nets written in PyTorch, exported to ONNX by both of its exporters, with what onnxruntime computes.

`python -m tests.runtime.torch_nets` writes small ones anew to `tests/runtime/exported/`; it needs torch, onnxscript,
onnx and onnxruntime.
"""

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

STORED = Path(__file__).with_name("exported")
EXPORTERS = {"script": False, "dynamo": True}


def conv(c_in, c_out, k=3, stride=1, groups=1):
    """Convolution and batch norm."""
    layer = nn.Conv2d(c_in, c_out, k, stride, k // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(c_out))


class Block(nn.Module):
    """A basic block of a ResNet, with a shortcut of its own where the shape changes."""

    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.body = nn.Sequential(conv(c_in, c_out, 3, stride), nn.ReLU(), conv(c_out, c_out))
        self.shortcut = nn.Identity() if (c_in, stride) == (c_out, 1) else conv(c_in, c_out, 1, stride)

    def forward(self, x):
        return functional.relu(self.body(x) + self.shortcut(x))


class ResNet(nn.Module):
    """A ResNet-18 for pictures of any size, its first layer w channels wide."""

    def __init__(self, w, blocks=(2, 2, 2, 2), classes=10):
        super().__init__()
        self.stem = nn.Sequential(conv(3, w, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        layers, c = [], w
        for level, count in enumerate(blocks):
            for i in range(count):
                layers.append(Block(c, w << level, 2 if level and not i else 1))
                c = w << level
        self.layers, self.head = nn.Sequential(*layers), nn.Linear(c, classes)

    def forward(self, x):
        x = functional.adaptive_avg_pool2d(self.layers(self.stem(x)), 1)
        return self.head(torch.flatten(x, 1))


class Inverted(nn.Module):
    """An inverted residual of a MobileNetV2: wider, depthwise, narrow again."""

    def __init__(self, c_in, c_out, stride, factor):
        super().__init__()
        c = c_in * factor
        widen = [conv(c_in, c, 1), nn.ReLU6()] if factor > 1 else []
        self.body = nn.Sequential(*widen, conv(c, c, 3, stride, c), nn.ReLU6(), conv(c, c_out, 1))
        self.residual = (c_in, stride) == (c_out, 1)

    def forward(self, x):
        return x + self.body(x) if self.residual else self.body(x)


class MobileNetV2(nn.Module):
    """A MobileNetV2: (factor, channels, blocks, stride) of each level."""

    def __init__(self, levels, first=32, last=1280, classes=10):
        super().__init__()
        layers, c = [conv(3, first, 3, 2), nn.ReLU6()], first
        for factor, c_out, count, stride in levels:
            for i in range(count):
                layers.append(Inverted(c, c_out, 1 if i else stride, factor))
                c = c_out
        self.layers = nn.Sequential(*layers, conv(c, last, 1), nn.ReLU6())
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, classes))

    def forward(self, x):
        return self.head(self.layers(x).mean([2, 3]))


class UNet(nn.Module):
    """Down by pooling, up by nearest pixels and by a transposed convolution, joined with what was there before."""

    def __init__(self, w):
        super().__init__()
        self.down = nn.ModuleList([self._two(3, w), self._two(w, 2 * w), self._two(2 * w, 4 * w)])
        self.wider = nn.ConvTranspose2d(4 * w, 2 * w, 2, 2)
        self.up = nn.ModuleList([self._two(4 * w, 2 * w), self._two(3 * w, w)])
        self.head = nn.Conv2d(w, 2, 1)

    @staticmethod
    def _two(c_in, c_out):
        return nn.Sequential(conv(c_in, c_out), nn.LeakyReLU(0.1), conv(c_out, c_out), nn.SiLU())

    def forward(self, x):
        first = self.down[0](x)
        second = self.down[1](functional.max_pool2d(first, 2))
        third = self.down[2](functional.max_pool2d(second, 2))
        x = self.up[0](torch.cat([self.wider(third), second], 1))
        x = self.up[1](torch.cat([functional.interpolate(x, scale_factor=2, mode="nearest"), first], 1))
        return torch.sigmoid(self.head(x))


V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
NETS = {"resnet": lambda: ResNet(32), "mobilenet": lambda: MobileNetV2(V2), "unet": lambda: UNet(16)}
SMALL = {
    "resnet": lambda: ResNet(4, (1, 1, 1)),
    "mobilenet": lambda: MobileNetV2(((1, 4, 1, 1), (3, 6, 2, 2)), 8, 16),
    "unet": lambda: UNet(3),
}


def made(make, seed=0):
    """A net as if trained: statistics of its batch norms, and half of the blocks of 4 channels x a tap at zero."""
    torch.manual_seed(seed)
    net = make().eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                for values, low in ((module.weight, 0.5), (module.bias, -0.5), (module.running_mean, -0.5),
                                    (module.running_var, 0.5)):  # fmt: skip
                    values.uniform_(low, low + 1)
            if isinstance(module, nn.Conv2d) and module.groups == 1:
                o, i, h, w = module.weight.shape
                kept = torch.rand(-(-o // 4), -(-i // 4), h, w) < 0.5
                module.weight *= kept.repeat_interleave(4, 0).repeat_interleave(4, 1)[:o, :i]
    return net


def export(net, path, exporter):
    """Write the net to `path`, its batch and picture sizes symbolic."""
    x = torch.zeros(2, 3, 32, 32)
    names = {0: "n", 2: "h", 3: "w"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporters about themselves
        if EXPORTERS[exporter]:
            sizes = {0: torch.export.Dim("n"), 2: 8 * torch.export.Dim("h", min=2), 3: 8 * torch.export.Dim("w", min=2)}
            torch.onnx.export(
                net, (x,), path, dynamo=True, input_names=["x"], output_names=["y"], dynamic_shapes=(sizes,),
                external_data=False, verbose=False,
            )  # fmt: skip
        else:
            torch.onnx.export(
                net, (x,), path, dynamo=False, input_names=["x"], output_names=["y"],
                dynamic_axes={"x": names, "y": {0: "n"}},
            )  # fmt: skip


def strip(path):
    """Leave out what the exporter noted of its own sources: paths and stack traces of the machine."""
    model = onnx.load(path)
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer,
                 *model.graph.input, *model.graph.output, *model.functions):  # fmt: skip
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    onnx.save(model, path)


def onnxruntime_output(path, x):
    """What onnxruntime computes."""
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def main():
    STORED.mkdir(exist_ok=True)
    for name, make in SMALL.items():
        net = made(make)
        if name == "resnet":
            save_file(net.state_dict(), STORED / "resnet.safetensors")
        for exporter in EXPORTERS:
            path = STORED / f"{name}-{exporter}.onnx"
            export(net, path, exporter)
            strip(path)
            x = np.random.default_rng(1).standard_normal((3, 3, 24, 16)).astype(np.float32)
            np.savez(path.with_suffix(".npz"), x=x, y=onnxruntime_output(path, x))
            print(path.name, path.stat().st_size, path.with_suffix(".npz").stat().st_size)


if __name__ == "__main__":
    main()
