"""Small graphs whose fusing, order or splitting into tasks could go wrong where random graphs seldom look."""

import numpy as np
import pytest

from runtime.layout import CHANNELS, IMAGES
from runtime.model import Model
from tests.runtime.nets import GuardedModel, definition, net
from tests.strategies import numbers
from tests.tolerances import assert_exact

KERNELS = [numbers(seed, "kernel", (3, 3, 4, 4)) for seed in range(3)]


def conv(output, x, which=0):
    return ("conv2d", output, [x], {"padding": "same"}, {"kernel": KERNELS[which]})


GRAPHS = {
    "a sum after the activation": [conv("a", "x"), ("relu", "b", ["a"]), ("add", "y", ["b", "x"])],
    "an activation, a sum, an activation": [
        conv("a", "x"), ("relu", "b", ["a"]), ("add", "c", ["b", "x"]), ("relu", "y", ["c"]),
    ],
    "two sums": [conv("a", "x"), ("add", "b", ["a", "x"]), ("add", "y", ["b", "x"])],
    "a sum with what is made later": [conv("a", "x"), conv("b", "x", 1), ("add", "y", ["a", "b"])],
    "a sum of later and earlier": [conv("a", "x"), conv("b", "x", 1), ("add", "y", ["b", "a"])],
    "a sum with itself": [conv("a", "x"), ("add", "y", ["a", "a"])],
    "a value read again after a fused sum": [
        conv("a", "x"), conv("b", "a", 1), ("add", "c", ["b", "a"]), conv("d", "c", 2), ("add", "y", ["d", "a"]),
    ],
    "a chain longer than its buffers": [conv(f"v{i}", f"v{i - 1}" if i else "x", i % 3) for i in range(3)]
    + [("add", "y", ["v2", "v0"])],
    "a negative sum through an activation": [conv("a", "x"), ("add", "b", ["x", "a"]), ("relu", "y", ["b"])],
    "pools and activations": [
        conv("a", "x"),
        ("max_pool", "b", ["a"], {"size": (2, 2), "stride": (1, 2), "padding": "same"}),
        ("relu", "c", ["b"]),
        ("flatten", "y", ["c"]),
    ],
}  # fmt: skip


@pytest.mark.parametrize("layout", [IMAGES, CHANNELS], ids=lambda layout: layout.name)
@pytest.mark.parametrize(("threads", "small_tasks"), [(1, False), (2, True)], ids=["alone", "together"])
@pytest.mark.parametrize("name", GRAPHS)
def test_small_graphs_are_exact(name, threads, small_tasks, layout):
    """Kernels and images hold integers, and no sum here leaves those that float32 holds.

    Three groups of images: one thread takes each through all layers, two share the tasks of each layer.
    """
    nodes = GRAPHS[name]
    x = numbers(7, "x", (2 * layout.lanes + 1, 3, 4, 4))
    x[::2] -= 2  # so that sums are negative where activations must come after them
    spec = net({"x": x.shape[1:]}, ["y"], *nodes)
    want = definition(spec, {"x": x})
    assert max(np.abs(value).max() for value in want.values()) < 2**24
    assert_exact(
        GuardedModel(spec, layout, small_tasks=small_tasks).run(x, threads=threads), want["y"], dtype=np.float32
    )


def test_what_lies_between_can_be_an_output_too():
    x = numbers(8, "x", (3, 3, 4, 4))
    spec = net({"x": x.shape[1:]}, ["a", "y"], conv("a", "x"), ("relu", "b", ["a"]), ("add", "y", ["b", "a"]))
    want, got = definition(spec, {"x": x}), Model(spec).run(x)
    for name in ("a", "y"):
        assert_exact(got[name], want[name], dtype=np.float32)
