"""The ONNX twin computes what the model file's operators are defined to compute."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.environments import python_of
from lhc_ref import modelfile
from lhc_ref.evaluate import evaluate, evaluate_with_bounds
from runtime.bench import onnx_twin
from runtime.bench.processes import EngineProcess
from runtime.model import views_of
from runtime.views import View
from tests.model_strategies import MAKERS, model_inputs, models
from tests.runtime.nets import net
from tests.runtime.onnx_nets import reference


def twin_of(spec, folder):
    """(path, inputs of a seed as the twin takes them, model's inputs, views of outputs)."""
    path = folder / "twin.onnx"
    onnx_twin.write(path, spec)
    x = model_inputs(spec, 2, 0)
    inputs, outputs = views_of(spec, View.nchw)
    return path, {name: np.ascontiguousarray(view.outward(x[name])) for name, view in inputs.items()}, x, outputs


def test_every_operator_has_a_row():
    assert onnx_twin.WRITERS.keys() == modelfile.OPS.keys()


@pytest.mark.parametrize("op", sorted(MAKERS))
@given(data=st.data())
def test_the_twin_computes_the_same(op, data, tmp_path_factory):
    spec = modelfile.validate(data.draw(models(max_nodes=3, ops={op})))
    path, given_, x, views = twin_of(spec, tmp_path_factory.mktemp("twin"))
    made = reference(onnx.load(path), given_)
    expected = evaluate_with_bounds(spec, x)
    for name, view in views.items():
        result = view.inward(made[name])
        assert (np.abs(result - expected[name].value) <= expected[name].bound).all()


@pytest.mark.parametrize("seen", [False, True], ids=["read by dense alone", "seen"])
def test_a_dense_layer_reads_a_flattened_image_in_the_models_order(seen, tmp_path):
    kernel = np.random.default_rng(0).standard_normal((24, 5), np.float32)
    layers = (("flatten", "f", ["x"]), ("dense", "y", ["f"], {}, {"kernel": kernel}))
    spec = modelfile.validate(net({"x": (2, 3, 4)}, ["y", "f"] if seen else ["y"], *layers))
    path, given_, x, views = twin_of(spec, tmp_path)
    model = onnx.load(path)
    assert [node.op_type for node in model.graph.node] == ["Transpose"] * seen + ["Flatten", "Gemm"]
    made, expected = reference(model, given_), evaluate(spec, x)
    for name in views:
        np.testing.assert_allclose(made[name], expected[name], rtol=1e-5, atol=1e-6)


def test_nets_of_batch_norms_and_excitation_have_the_nodes_of_an_exported_net(tmp_path):
    ones = np.ones(4, np.float32)
    layers = (
        ("scale", "norm", ["x"], {}, {"scale": ones, "bias": ones}),
        ("global_average_pool", "mean", ["norm"]),
        ("rearrange", "pixel", ["mean"], {"split": (4,), "order": (0,), "shape": (1, 1, 4)}),
        ("mul", "y", ["norm", "pixel"]),
    )
    path, *_ = twin_of(modelfile.validate(net({"x": (2, 3, 4)}, ["y"], *layers)), tmp_path)
    made = [node.op_type for node in onnx.load(path).graph.node]
    assert made == ["BatchNormalization", "GlobalAveragePool", "Flatten", "Reshape", "Mul"]


def zoo():
    """A net with every operator, each result that no other reads being an output."""
    rng = np.random.default_rng(0)

    def array(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    conv = {"stride": (2, 1), "padding": "same", "dilation": (1, 2), "groups": 2}
    pool = {"size": (3, 2), "stride": (2, 2), "padding": "same"}
    cut = {"start": (1, 0, 2), "stop": (5, 4, 8), "step": (2, 1, 3)}
    moved = {"split": (6, 4, 2, 4), "order": (3, 0, 1, 2), "shape": (4, 6, 8)}
    return net(
        {"x": (6, 4, 8)},
        ["soft", "max", "mean", "cut", "padded", "moved", "gated", "long", "diff", "share", "limits", "late"],
        ("conv2d", "c", ["x"], conv, {"kernel": array(3, 3, 4, 6), "bias": array(6)}),
        ("softmax", "soft", ["c"]),
        ("leaky_relu", "leaky", ["x"], {"slope": 0.1}),
        ("max_pool", "max", ["leaky"], pool),
        ("average_pool", "mean", ["leaky"], pool),
        ("slice", "cut", ["leaky"], cut),
        ("pad", "padded", ["leaky"], {"padding": ((1, 0), (0, 2)), "value": 0.5}),
        ("rearrange", "moved", ["leaky"], moved),
        ("global_average_pool", "g", ["x"]),
        ("dense", "d", ["g"], {}, {"bias": array(8), "kernel": array(8, 8)}),
        ("prelu", "p", ["d"], {}, {"slope": array(8)}),
        ("rearrange", "pixel", ["p"], {"split": (8,), "order": (0,), "shape": (1, 1, 8)}),
        ("sigmoid", "s", ["pixel"]),
        ("mul", "gated", ["x", "s"]),
        ("sub", "diff", ["x", "s"]),
        ("div", "share", ["x", "s"]),
        ("hard_swish", "hs", ["x"]),
        ("hard_sigmoid", "hsig", ["x"], {"alpha": 0.3, "beta": 0.4}),
        ("add", "sum", ["hs", "hsig"]),
        ("upsample", "up", ["sum"], {"factor": (2, 3)}),
        ("scale", "sc", ["up"], {}, {"scale": array(8), "bias": array(8)}),
        ("concat", "cat", ["sc", "up"]),
        ("flatten", "long", ["cat"]),
        ("clip", "limits", ["x"], {"low": -0.5, "high": 0.75}),
        ("tanh", "t", ["x"]),
        ("relu", "late", ["t"]),
    )


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "torch"])
def test_other_engines_run_every_operator_of_the_twin(engine, tmp_path):
    python = python_of(engine.replace("openvino", "openvino-f32"))
    if python is None:
        pytest.skip(f"{engine}: not tested, its environment is missing. Make it: python -m benchmarks.environments")
    spec = modelfile.validate(zoo())
    assert {node.op for node in spec.nodes} == modelfile.OPS.keys()
    path, inputs, x, views = twin_of(spec, tmp_path)
    process = EngineProcess(engine, tmp_path, python=python)
    try:
        facts, made = process.load(path, inputs, threads=1)
    finally:
        process.stop()
    assert facts["version"]
    expected = evaluate(spec, x)
    for name, view in views.items():
        np.testing.assert_allclose(view.inward(made[name]), expected[name], rtol=1e-4, atol=1e-5)
