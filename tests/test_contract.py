"""What the reference and the runtime agreed on: each operator of the format, defined by the one, run by the other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import runtime
from lhc_ref import conv, modelfile
from lhc_ref.bounds import BOUNDS
from lhc_ref.evaluate import DEFINITIONS, evaluate, evaluate_with_bounds
from lhc_ref.modelfile import OPS, ModelSpec, save, validate
from runtime.model import Model
from tests import strategies
from tests.model_strategies import MAKERS, ROUNDING, model_inputs, models
from tests.modelfile_bytes import GOLDEN_SPECS, golden_spec
from tests.tolerances import assert_exact, assert_identical, assert_within

EXACT = OPS.keys() - ROUNDING  # whole numbers stay whole numbers


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs a graph in the runtime: saved, loaded, executed; outputs by name."""
    path = tmp_path_factory.mktemp("contract") / "model.lhc"

    def run(spec, inputs, **options):
        save(path, spec)
        y = runtime.load(path).run(inputs, **options)
        return y if isinstance(y, dict) else {spec.outputs[0]: y}

    return run


def all_values_as_outputs(spec):
    """The same graph with every value an output: nothing that is computed in between is hidden."""
    return ModelSpec(spec.inputs, tuple(node.output for node in spec.nodes), spec.nodes)


def test_every_operator_is_defined_bounded_and_drawn():
    assert OPS.keys() == DEFINITIONS.keys() == BOUNDS.keys() == MAKERS.keys()


@given(strategies.conv_cases())
def test_file_and_reference_agree_on_windows(case):
    geometry = case.size_hw, case.kernel_hw, case.stride, case.dilation
    assert modelfile.resolve_padding(case.padding, *geometry) == conv.resolve_padding(case.padding, *geometry)
    size = modelfile.output_size(case.padding, *geometry)
    assert size == conv.output_size(
        case.size_hw, case.kernel_hw, stride=case.stride, padding=case.padding, dilation=case.dilation
    )


@pytest.mark.parametrize("op", sorted(OPS))
def test_the_runtime_executes_each_operator_within_its_bound(run, op):
    @given(models(max_nodes=1, ops={op}), st.integers(1, 19), st.integers(0, 99))
    def check(spec, batch, seed):
        assert_within_bounds(run, spec, model_inputs(spec, batch, seed))

    check()


@given(spec=models(), batch=st.integers(1, 19), seed=st.integers(0, 99))
def test_the_runtime_executes_graphs_within_their_bounds(run, spec, batch, seed):
    assert_within_bounds(run, spec, model_inputs(spec, batch, seed))


@given(spec=models(), batch=st.integers(1, 19), seed=st.integers(0, 99))
def test_every_value_between_is_within_its_bound_too(run, spec, batch, seed):
    assert_within_bounds(run, all_values_as_outputs(spec), model_inputs(spec, batch, seed))


def assert_within_bounds(run, spec, inputs):
    got = run(spec, inputs)
    bounds = evaluate_with_bounds(spec, inputs, winograd=Model(spec).transformed(len(next(iter(inputs.values())))))
    assert list(got) == list(bounds) == list(spec.outputs)
    for name, (value, bound) in bounds.items():
        assert_within(got[name], value, bound, np.float32)


@given(spec=models(exact=True, ops=EXACT), batch=st.integers(1, 19), seed=st.integers(0, 99))
def test_whole_numbers_come_out_exactly(run, spec, batch, seed):
    inputs = model_inputs(spec, batch, seed, exact=True)
    values = evaluate(spec, inputs)
    got = run(spec, inputs)
    for name, value in values.items():
        if np.abs(value).max() < 2**20:
            assert_exact(got[name], value, np.float32)


@given(spec=models(), batch=st.integers(1, 35), seed=st.integers(0, 99))
def test_the_number_of_threads_changes_no_bit(run, spec, batch, seed):
    inputs = model_inputs(spec, batch, seed)
    one, two = (run(spec, inputs, threads=threads) for threads in (1, 2))
    for name in one:
        assert_identical(two[name], one[name])


def test_the_golden_graphs(run):
    specs = [validate(make()) for make in GOLDEN_SPECS.values()]
    assert {node.op for spec in specs for node in spec.nodes} == OPS.keys()
    for spec in specs:
        assert_within_bounds(run, spec, model_inputs(spec, 5, 0))
        assert_within_bounds(run, all_values_as_outputs(spec), model_inputs(spec, 5, 1))


def test_an_infinite_input_gives_what_the_definition_gives_where_no_weight_is_missing(run):
    """Dense kernels: NaN and infinity follow IEEE on both sides."""
    spec = validate(golden_spec())
    dense = ModelSpec(spec.inputs, ("b",), (dense_conv(spec.nodes[0]), spec.nodes[1]))
    inputs = model_inputs(dense, 2, 0)
    inputs["image"][0, 4, 4, 2] = np.inf
    inputs["image"][1, 0, 0, 0] = np.nan
    with np.errstate(invalid="ignore"):
        want = evaluate(dense, inputs)["b"]
        got = run(dense, inputs)["b"]  # warns where kernels run uncompiled
    assert np.array_equal(np.isnan(got), np.isnan(want))
    assert np.array_equal(np.isinf(got), np.isinf(want))


def dense_conv(node):
    kernel = node.tensors["kernel"].dense()
    kernel[kernel == 0] = 0.5
    return modelfile.Node(node.op, node.name, node.inputs, node.output, node.attrs, {"kernel": kernel})
