"""Small ONNX models for tests, and what they compute by the ONNX package's own reference."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import runtime
from lhc_ref.evaluate import evaluate_with_bounds
from runtime.bench.subject import TOLERATED
from tests.tolerances import assert_exact, assert_within

OPSET = 17


def whole(seed, *shape):
    """f32 whole numbers from -3 to 3: sums and products of a few layers are exact in float32."""
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)


def normal(seed, *shape):
    """f32 normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def node(kind, inputs, outputs, **attrs):
    """A NodeProto; `inputs` and `outputs` are names divided by spaces, `_` for one that is left out."""
    names = [["" if name == "_" else name for name in text.split()] for text in (inputs, outputs)]
    return helper.make_node(kind, *names, **attrs)


def graph(nodes, inputs, outputs, constants=None, opset=OPSET):
    """A ModelProto; `inputs` {name: shape}, `outputs` names divided by spaces, `constants` {name: array}."""
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()]
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs.split()]
    body = helper.make_graph(nodes, "net", given, made, tensors)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def save(folder, model, name="net.onnx"):
    """Write the model; gives the path."""
    path = folder / name
    onnx.save(model, path)
    return path


def load(folder, model, **options):
    """The model as the runtime loads it from a file."""
    return runtime.load(save(folder, model), **options)


def reference(model, inputs):
    """What the ONNX package's reference computes: arrays by output name."""
    made = ReferenceEvaluator(model).run(None, inputs)
    return dict(zip([item.name for item in model.graph.output], made, strict=True))


def assert_computes(loaded, model, x=None):
    """The runtime gives every output of the model to the last bit as the ONNX package's reference does."""
    x = batch_of(model) if x is None else x
    want = reference(model, x)
    got = loaded.run(x)
    got = got if isinstance(got, dict) else {next(iter(want)): got}
    assert list(got) == list(want)
    for name in want:
        assert_exact(got[name], np.asarray(want[name], np.float32))


def images(*nodes, size=(6, 7, 5), opset=17, **constants):
    """x (n, c, h, w) -> nodes -> y."""
    return graph(nodes, {"x": ["N", *size]}, "y", constants, opset)


def batch_of(model, n=3, make=whole):
    """An array for each input of a model."""
    dims = {item.name: [d.dim_value for d in item.type.tensor_type.shape.dim] for item in model.graph.input}
    return {name: make(9, n, *shape[1:]) for name, shape in dims.items()}


def value_and_bound(loaded, x):
    """The output of a net of one input and one output in float64 and its bound, as ONNX has it."""
    (given,), (made,) = (list(views.values()) for views in loaded.views)
    inputs = {given.value: np.ascontiguousarray(given.inward(x))}
    value, bound = evaluate_with_bounds(loaded.spec, inputs, winograd=loaded.transformed(len(x)))[made.value]
    return made.outward(value), made.outward(bound)


def assert_agrees(loaded, x, wanted):
    """The runtime is within its bound, and onnxruntime's `wanted` within three times that.

    Its graph is the same but for batch norms, which it may compute by themselves. That is two roundings more for each
    sum of k >= 2 terms, where the bound counts k + 1, and one for each weight that was folded: no more than twice the
    bound again. Bounds that are carried through many layers say little: the difference is also one that benchmarks
    tolerate between engines.
    """
    value, bound = value_and_bound(loaded, x)
    assert_within(loaded.run(x), value, bound, np.float32)
    assert_within(wanted, value, 3 * bound, np.float32)
    assert_within(loaded.run(x), wanted, TOLERATED * np.abs(wanted).max(), np.float32)
