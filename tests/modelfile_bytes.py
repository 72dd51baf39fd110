"""A model file taken apart and put together by docs/model-file.md alone, so that tests can write files that lie."""

import json
import struct
from dataclasses import dataclass

import numpy as np

from lhc_ref.modelfile import InputSpec, MaskedKernel, ModelSpec, Node


@dataclass
class Parts:
    """The graph, the header's tensor entries (name -> entry, in order) and the data."""

    graph: object
    entries: dict
    data: bytes

    @classmethod
    def of(cls, file):
        """From the bytes of a valid file."""
        (length,) = struct.unpack("<Q", file[:8])
        header = json.loads(file[8 : 8 + length])
        graph = json.loads(header.pop("__metadata__")["lhc_model"])
        return cls(graph, header, file[8 + length :])

    def header(self):
        return {"__metadata__": {"lhc_model": json.dumps(self.graph)}, **self.entries}

    def bytes(self):
        return container(json.dumps(self.header()), self.data)

    def node(self, name):
        return next(node for node in self.graph["nodes"] if node["name"] == name)

    def array(self, name):
        """A copy of a tensor."""
        dtype = {"F32": "<f4", "U8": "u1"}[self.entries[name]["dtype"]]
        begin, end = self.entries[name]["data_offsets"]
        return np.frombuffer(self.data[begin:end], dtype).reshape(self.entries[name]["shape"]).copy()

    def replace(self, name, array):
        """Put another array in a tensor's place, or add it at the end; None removes the tensor."""
        arrays = {**{key: self.array(key) for key in self.entries}, name: array}
        self.entries, self.data = {}, b""
        for key, value in arrays.items():
            if value is None:
                continue
            offsets = [len(self.data), len(self.data) + value.nbytes]
            kind = {4: "F32", 1: "U8"}[value.itemsize]
            self.entries[key] = {"dtype": kind, "shape": list(value.shape), "data_offsets": offsets}
            self.data += value.tobytes()


def container(header, data):
    """The bytes of a safetensors file with this header text."""
    text = header.encode("utf-8") if isinstance(header, str) else header
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def golden_spec():
    """The graph of tests/golden/model_v1_0.lhc: every operator, every kind of tensor, each form of padding."""
    taps = np.arange(3 * 3 * 5 * 6, dtype=np.float32).reshape(3, 3, 5, 6) / 64 - 2
    mask = (np.arange(3 * 3 * 3 * 2).reshape(3, 3, 3, 2) % 4) == 0
    masked = MaskedKernel.from_dense(taps, mask, group_in=2, group_out=4)
    grouped = np.arange(1 * 3 * 3 * 6, dtype=np.float32).reshape(1, 3, 3, 6) / 32 - 1
    dense = np.arange(24, dtype=np.float32).reshape(6, 4) / 16 - 0.5
    pool = {"size": (2, 2), "stride": (2, 2), "padding": "valid"}
    explicit = {"stride": (1, 1), "padding": ((1, 0), (2, 1)), "dilation": (1, 2), "groups": 2}
    return ModelSpec(
        inputs=(InputSpec("image", (9, 8, 5)),),
        outputs=("probabilities", "flat"),
        nodes=(
            Node("conv2d", "conv 1", ("image",), "a", {"stride": (2, 1), "padding": "same"}, {"kernel": masked}),
            Node("relu", "relu 1", ("a",), "b"),
            Node("conv2d", "conv/2", ("b",), "c", explicit, {"kernel": grouped, "bias": np.full(6, 0.25, np.float32)}),
            Node("add", "sum", ("c", "c"), "d"),
            Node("max_pool", "max", ("d",), "e", {**pool, "padding": "same"}),
            Node("average_pool", "average", ("e",), "f", {**pool, "padding": ((1, 0), (0, 1))}),
            Node("flatten", "flat", ("f",), "flat"),
            Node("global_average_pool", "pool", ("f",), "g"),
            Node(
                "dense", "classifier", ("g",), "logits", {}, {"kernel": dense, "bias": np.arange(4, dtype=np.float32)}
            ),
            Node("softmax", "softmax", ("logits",), "probabilities"),
        ),
        preprocessing={"subtract": (0.5, 0.25, 0.1, 0.0, -1.0), "divide": (1.0, 2.0, 255.0, 0.3, -4.0)},
        classes=("zero", "one", "zwei", "trois é"),
        metadata={"made by": "lhc tests", "note": "line one\nline two"},
    )


def golden_spec_1_1():
    """The graph of tests/golden/model_v1_1.lhc: every operator that format 1.1 added."""
    vector = np.arange(-2, 3, dtype=np.float32) / 4
    three = {"start": (0, 1, 0), "stop": (4, 5, 10), "step": (1, 2, 3)}
    return ModelSpec(
        inputs=(InputSpec("image", (4, 3, 5)), InputSpec("pixel", (1, 1, 5))),
        outputs=("last", "features"),
        nodes=(
            Node("clip", "clip", ("image",), "a", {"low": -1.5, "high": 6.0}),
            Node("leaky_relu", "leaky", ("a",), "b", {"slope": 0.125}),
            Node("prelu", "prelu", ("b",), "c", {}, {"slope": vector}),
            Node("sigmoid", "sigmoid", ("c",), "d"),
            Node("hard_sigmoid", "hard sigmoid", ("c",), "e", {"alpha": 0.25, "beta": 0.5}),
            Node("hard_swish", "hard swish", ("c",), "f"),
            Node("tanh", "tanh", ("f",), "g"),
            Node("scale", "scale", ("g",), "h", {}, {"scale": vector, "bias": vector + 1}),
            Node("scale", "scale only", ("h",), "i", {}, {"scale": vector}),
            Node("mul", "mul", ("i", "pixel"), "j"),
            Node("sub", "sub", ("j", "d"), "k"),
            Node("concat", "concat", ("k", "e", "i"), "l"),
            Node("pad", "pad", ("l",), "m", {"padding": ((1, 0), (0, 2)), "value": -0.5}),
            Node("slice", "slice", ("m",), "n", three),
            Node("upsample", "upsample", ("n",), "last", {"factor": (2, 3)}),
            Node("rearrange", "nchw", ("n",), "features", {"split": (4, 2, 4), "order": (2, 0, 1), "shape": (32,)}),
        ),
    )


def golden_spec_1_2():
    """The graph of tests/golden/model_v1_2.lhc: the operator that format 1.2 added."""
    return ModelSpec(
        inputs=(InputSpec("image", (4, 3, 5)), InputSpec("pixel", (1, 1, 5))),
        outputs=("c",),
        nodes=(
            Node("clip", "clip", ("image",), "a", {"low": 1.0, "high": 1.5}),
            Node("div", "div", ("image", "a"), "b"),
            Node("div", "div by a pixel", ("b", "pixel"), "c"),
        ),
    )


GOLDEN_SPECS = {"1.0": golden_spec, "1.1": golden_spec_1_1, "1.2": golden_spec_1_2}
"""By version, the graph of tests/golden/model_v<version>.lhc."""


def assert_same_spec(got, want):
    """The same graph, to the last bit of its tensors."""
    for field in ("inputs", "outputs", "preprocessing", "classes", "metadata"):
        assert getattr(got, field) == getattr(want, field), field
    assert len(got.nodes) == len(want.nodes)
    for a, b in zip(got.nodes, want.nodes, strict=True):
        assert (a.op, a.name, a.inputs, a.output, a.attrs) == (b.op, b.name, b.inputs, b.output, b.attrs)
        assert a.tensors.keys() == b.tensors.keys()
        for role in a.tensors:
            assert_same_tensor(a.tensors[role], b.tensors[role])


def assert_same_tensor(got, want):
    assert type(got) is type(want)
    if isinstance(got, MaskedKernel):
        assert (got.shape, got.group_in, got.group_out) == (want.shape, want.group_in, want.group_out)
        assert np.array_equal(got.mask, want.mask)
        got, want = got.values, want.values
    assert got.dtype == want.dtype == np.float32
    assert got.shape == want.shape
    assert got.tobytes() == want.tobytes()
