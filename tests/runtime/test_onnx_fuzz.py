"""Spoilt ONNX files: whatever is changed in one, it loads or is refused in words, and nothing else is raised."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhc_ref.errors import LhcError

onnx = pytest.importorskip("onnx")
from runtime.onnx import importer  # noqa: E402  # of use with it alone

EXPORTED = Path(__file__).with_name("exported")
FILES = [(EXPORTED / f"{net}.onnx").read_bytes() for net in ("resnet-script", "unet-script", "mobilenet-script")]
KINDS = """
Relu Concat Reshape Pow Resize Slice Pad Split Gather Transpose Clip ConvTranspose Softmax ReduceMean MatMul If TopK
Range Expand Tile DepthToSpace Conv Upsample Where Cast
""".split()
NUMBERS = [0, -1, 1, 2, 3, 7, 1000, 2**31, 2**40, 2**62, -(2**62)]


def attribute_numbers(rng, net):
    attribute = rng.choice([a for each in net.node for a in each.attribute if a.ints or a.HasField("i")])
    value = int(rng.choice(NUMBERS))
    if not attribute.ints:
        attribute.i = value
    elif rng.random() < 0.5:
        attribute.ints[rng.integers(len(attribute.ints))] = value
    else:
        attribute.ints.append(value)


def operator(rng, net):
    rng.choice(net.node).op_type = str(rng.choice(KINDS))


def inputs(rng, net):
    names = ["", "none", *(name for each in net.node for name in (*each.input, *each.output))]
    chosen = rng.choice(net.node)
    if chosen.input and rng.random() < 0.5:
        del chosen.input[-1]
    else:
        chosen.input.append(str(rng.choice(names)))


def tensor(rng, net):
    chosen = rng.choice(net.initializer)
    if rng.random() < 0.5:
        chosen.dims[:] = [int(n) for n in rng.choice([*NUMBERS[:6], 2**40], rng.integers(0, 6))]
    else:
        chosen.data_type = int(rng.integers(0, 25))


def sizes(rng, net):
    rng.choice(net.input[0].type.tensor_type.shape.dim).dim_value = int(rng.choice(NUMBERS))


def order(rng, net):
    first, second = rng.integers(len(net.node), size=2)
    kept = onnx.NodeProto.FromString(net.node[first].SerializeToString())
    net.node[first].CopyFrom(net.node[second])
    net.node[second].CopyFrom(kept)


def attributes(rng, net):
    chosen = rng.choice([each for each in net.node if each.attribute])
    chosen.attribute.remove(rng.choice(chosen.attribute))


CHANGES = (attribute_numbers, operator, inputs, tensor, sizes, order, attributes)


def load(data, folder):
    path = folder / "net.onnx"
    path.write_bytes(data)
    try:
        return importer.load(path, shapes={"x": (3, 24, 16)})
    except LhcError as error:
        return error


@given(seed=st.integers(0, 2**32), file=st.sampled_from(FILES), changes=st.lists(st.sampled_from(CHANGES), max_size=3))
def test_changed_graphs_load_or_are_refused(seed, file, changes, tmp_path_factory):
    rng, model = np.random.default_rng(seed), onnx.load_from_string(file)
    for change in changes:
        change(rng, model.graph)
    load(model.SerializeToString(), tmp_path_factory.getbasetemp())


@given(seed=st.integers(0, 2**32), file=st.sampled_from(FILES), count=st.integers(1, 5))
def test_changed_bytes_load_or_are_refused(seed, file, count, tmp_path_factory):
    rng, data = np.random.default_rng(seed), bytearray(file)
    for at in rng.integers(len(data), size=count):
        data[at] = rng.integers(256)
    load(bytes(data), tmp_path_factory.getbasetemp())


def test_each_change_is_one(tmp_path):
    """The nets load as they are, and each kind of change is refused in some net."""
    assert all(isinstance(load(file, tmp_path), importer.Imported) for file in FILES)
    for change in CHANGES:
        found = []
        for seed in range(20):
            model = onnx.load_from_string(FILES[seed % len(FILES)])
            change(np.random.default_rng(seed), model.graph)
            found.append(load(model.SerializeToString(), tmp_path))
        assert any(isinstance(one, LhcError) for one in found), change.__name__
