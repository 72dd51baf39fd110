"""Small models for the runtime's tests: specs, their definition by the oracle, and a model that watches its buffers."""

from contextlib import ExitStack
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest

from lhc_ref.modelfile import OPS, InputSpec, MaskedKernel, ModelSpec, Node, validate
from runtime import patches, pixels, select, steps, winograd
from runtime import plan as planning
from runtime.execute import Arenas
from runtime.kernels.vector import COMPILED
from runtime.model import Model
from tests import oracle
from tests.strategies import numbers
from tests.tolerances import assert_identical

needs_compiled = pytest.mark.skipif(not COMPILED, reason="NUMBA_DISABLE_JIT is set: nothing is compiled here")

# --- Specs -----------------------------------------------------------------------------------------------------------


def net(inputs, outputs, *nodes):
    """A checked model: `inputs` {name: shape}, `outputs` names, `nodes` (op, output, inputs, attrs, tensors)."""
    made = []
    for op, output, reads, *rest in nodes:
        attrs, tensors = (*rest, {}, {})[:2]
        made.append(Node(op, f"node {output}", tuple(reads), output, attrs, tensors))
    given = tuple(InputSpec(name, tuple(shape)) for name, shape in inputs.items())
    return validate(ModelSpec(given, tuple(outputs), tuple(made)))


def masked(kernel, mask):
    """A stored kernel of which only the weights under `mask` (bool, of the kernel's shape) exist."""
    return MaskedKernel.from_dense(kernel, mask, 1, 1)


def conv_spec(kernel, shape, bias=None, residual=False, relu=False, function=None, **options):
    """x -> conv2d (-> + r) (-> function) (-> relu) -> y; `kernel` is an array or a MaskedKernel, `function` an operator
    with its attributes and tensors.
    """
    tensors = {"kernel": kernel} | ({} if bias is None else {"bias": bias})
    names = ["c", *(["s"] if residual else []), *(["f"] if function else []), *(["t"] if relu else [])]
    names[-1] = "y"
    nodes = [("conv2d", names[0], ["x"], {"padding": "valid", **options}, tensors)]
    inputs = {"x": shape}
    if residual:
        size_hw, kernel_hw = shape[:2], kernel.shape[:2]
        window = {key: nodes[0][3].get(key, (1, 1)) for key in ("stride", "dilation")}
        inputs["r"] = (
            *oracle.output_size(size_hw, kernel_hw, padding=nodes[0][3]["padding"], **window),
            kernel.shape[3],
        )
        nodes.append(("add", names[1], [names[0], "r"]))
    if function:
        op, *rest = function
        before = nodes[-1][1]
        nodes.append((op, names[names.index(before) + 1], [before], *rest))
    if relu:
        nodes.append(("relu", "y", [names[-2]]))
    return net(inputs, ["y"], *nodes)


def small_kernel(seed, shape, density=None):
    values = np.random.default_rng(seed).integers(-1, 2, shape).astype(np.float32)
    return values if density is None else masked(values, np.random.default_rng(seed + 1).random(shape) < density)


def classifier(softmax=False):
    """Convolutions dense, sparse, grouped and with a residual, pooling, a dense layer: every family of kernels."""
    same = {"padding": "same"}
    nodes = [
        ("conv2d", "a", ["x"], same, {"kernel": small_kernel(1, (3, 3, 3, 9)), "bias": numbers(1, "bias", (9,))}),
        ("relu", "b", ["a"]),
        ("conv2d", "c", ["b"], same, {"kernel": small_kernel(2, (3, 3, 9, 9), 0.3)}),
        ("add", "d", ["c", "b"]),
        ("max_pool", "e", ["d"], {"size": (2, 2), "stride": (2, 2), "padding": "valid"}),
        ("conv2d", "f", ["e"], same | {"groups": 9}, {"kernel": small_kernel(3, (3, 3, 1, 9))}),
        ("average_pool", "g", ["f"], {"size": (2, 2), "stride": (1, 1), "padding": "valid"}),
        ("flatten", "h", ["g"]),
        ("dense", "scores", ["h"], {}, {"kernel": small_kernel(4, (18, 5))}),
    ]
    if softmax:
        nodes.append(("softmax", "p", ["scores"]))
    return net({"x": (4, 6, 3)}, ["p" if softmax else "scores"], *nodes)


def images(batch, seed=0, shape=(4, 6, 3)):
    return numbers(seed, f"x{batch}", (batch, *shape))


# --- What a model computes -------------------------------------------------------------------------------------------


def _stored(node, role):
    tensor = node.tensors.get(role)
    return tensor.dense() if isinstance(tensor, MaskedKernel) else tensor


DEFINITIONS = {
    "conv2d": lambda node, x: oracle.conv2d(x, _stored(node, "kernel"), _stored(node, "bias"), **node.attrs),
    "dense": lambda node, x: oracle.dense(x, _stored(node, "kernel"), _stored(node, "bias")),
    "relu": lambda node, x: oracle.relu(x),
    "add": lambda node, x, other: x + other,
    "max_pool": lambda node, x: oracle.max_pool(x, **node.attrs),
    "average_pool": lambda node, x: oracle.average_pool(x, **node.attrs),
    "global_average_pool": lambda node, x: oracle.global_average_pool(x),
    "flatten": lambda node, x: oracle.flatten(x) if x.ndim == 4 else x,
    "softmax": lambda node, x: oracle.softmax(x),
    "slice": lambda node, x: oracle.cut(x, **node.attrs),
}
DEFINITIONS |= {
    op: lambda node, *xs: getattr(oracle, node.op)(*xs, **node.attrs, **node.tensors)
    for op in OPS.keys() - DEFINITIONS.keys()
}


def definition(spec, inputs):
    """Every value of the graph in float64, by name, operator by operator."""
    values = {name: oracle.f64(x) for name, x in inputs.items()}
    for node in spec.nodes:
        values[node.output] = DEFINITIONS[node.op](node, *(values[name] for name in node.inputs))
    return values


# --- A model that watches its buffers --------------------------------------------------------------------------------

GUARD = 4096  # elements on each side of a buffer
CANARY, POISON = np.uint32(0x7FC0DEAD), np.uint32(0x7FC0BEEF)  # two NaNs that no computation makes


def guarded(values, guard):
    """A copy of `values` inside a larger array whose other elements are `guard`; gives (whole array, the copy)."""
    whole = np.full(values.size + 2 * GUARD, guard, values.dtype)
    inside = whole[GUARD : GUARD + values.size].reshape(values.shape)
    inside[...] = values
    return whole, inside


def check_guards(whole):
    """The canaries around a guarded array are as they were."""
    for end in (whole[:GUARD], whole[-GUARD:]):
        assert_identical(end, np.full(GUARD, CANARY))


class GuardedArenas(Arenas):
    """Hands out arenas of exactly the size asked for, filled with NaN, between canaries."""

    def __init__(self):
        super().__init__()
        self.taken = []

    def take(self, size):
        whole, inside = guarded(np.full(size, POISON), CANARY)
        self.taken.append(whole)
        return inside.view(np.float32)

    def give(self, arena):
        pass

    def check(self):
        """Every canary is as it was."""
        for whole in self.taken:
            check_guards(whole)
        self.taken.clear()


class GuardedModel(Model):
    """A model that runs one layout, a forced kernel if one is named, in guarded and poisoned buffers.

    The kernel is forced on every layer for which the selection counts it among its candidates. A read outside the
    weights gives NaN. `small_tasks` cuts every layer into the smallest tasks and parts there are, and takes each to be
    worth as many threads as are asked for.
    """

    def __init__(self, spec, layout, entry=None, small_tasks=False):
        super().__init__(spec)
        self.layout, self.entry, self.small_tasks = layout, entry, small_tasks
        self._executor.arenas, self._buffers = GuardedArenas(), []

    def layouts(self, batch):
        return [(self.layout, batch)] if batch else []

    def _choose(self, layer, layout, *transforms):
        choice = select.choose(layer, layout, *transforms)
        chosen = next((c for c in choice.candidates if c.entry == self.entry), choice.chosen)
        return replace(choice, chosen=replace(chosen, cycles=1e12) if self.small_tasks else chosen)

    def _patched(self, function, *arguments):
        """A call with this model's kernel and task sizes in the planner's places."""
        with ExitStack() as replaced:
            replaced.enter_context(patch.object(planning, "choose", self._choose))
            if self.small_tasks:
                replaced.enter_context(patch.object(steps, "TILE_WEIGHT_BYTES", 1))
                replaced.enter_context(patch.object(steps, "TASK_CHANNELS", 1))
                replaced.enter_context(patch.multiple(patches, PART_SIZE=1, LIST_ROWS=0))
                replaced.enter_context(patch.multiple(winograd, PART_SIZE=1, WAITING_CHANNELS=1))
                replaced.enter_context(patch.multiple(pixels, PLANES_SIZE=1, SINGLE_PLANES_SIZE=1, COPY_CYCLES=0.0))
            return function(*arguments)

    def _draft(self, layout):
        return self._patched(super()._draft, layout)

    def plan(self, layout):
        if layout.name not in self._plans:
            plan = self._patched(super().plan, layout)
            whole_weights, weights = guarded(plan.weights, np.float32(np.nan))
            whole_index, index = guarded(plan.index, 0)
            self._buffers = [(whole, whole.copy()) for whole in (whole_weights, whole_index)]
            self._plans[layout.name] = replace(plan, weights=weights, index=index)
        return self._plans[layout.name]

    def run(self, x, **options):
        """As `Model.run`, from and into arrays with guards; then all guards and everything that is only read must be as
        they were.
        """
        given = x if isinstance(x, dict) else {next(iter(self.views[0])): x}
        batch = len(next(iter(given.values())))
        inputs = {name: guarded(array, np.float32(np.nan)) for name, array in given.items()}
        shapes = {name: view.user_shape(batch) for name, view in self.views[1].items()}
        outputs = {name: guarded(np.full(shape, POISON), CANARY) for name, shape in shapes.items()}
        read = [(whole, whole.copy()) for whole, _ in inputs.values()]
        made = {name: inside.view(np.float32) for name, (_, inside) in outputs.items()}
        super().run({name: inside for name, (_, inside) in inputs.items()}, out=made, **options)
        self._executor.arenas.check()
        for whole, _ in outputs.values():
            check_guards(whole)
        for whole, before in [*read, *self._buffers]:
            assert_identical(whole, before)
        return made if len(made) > 1 else next(iter(made.values()))
