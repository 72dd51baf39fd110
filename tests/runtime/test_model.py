"""The model as users have it: arrays in and out, errors, batch sizes, memory, pickling."""

import gc
import pickle
import re
import weakref
from dataclasses import replace

import numpy as np
import pytest

import runtime
from lhc_ref import modelfile
from lhc_ref.errors import InputError, ModelFileError
from lhc_ref.modelfile import MaskedKernel
from runtime import execute
from runtime import model as models
from runtime.kernels.machine import LANES
from runtime.model import Model
from tests.runtime.nets import classifier, images, net
from tests.strategies import numbers
from tests.tolerances import assert_identical

BATCHES = [1, 2, LANES - 1, LANES, LANES + 1, 2 * LANES, 2 * LANES + 1]


# --- Arrays in and out -----------------------------------------------------------------------------------------------

TWO = net(
    {"x": (3, 3, 2), "r": (3, 3, 2)},
    ["s", "f"],
    ("add", "s", ["x", "r"]),
    ("flatten", "f", ["s"]),
)  # fmt: skip


@pytest.mark.parametrize("batch", [1, LANES + 1])
def test_several_inputs_and_outputs_by_name(batch):
    x, r = numbers(1, "x", (batch, 3, 3, 2)), numbers(2, "r", (batch, 3, 3, 2))
    got = Model(TWO).run({"r": r, "x": x})
    assert list(got) == ["s", "f"]
    assert_identical(got["s"], x + r)
    assert_identical(got["f"], (x + r).reshape(batch, -1))
    out = {"f": np.full((batch, 18), np.nan, np.float32), "s": np.full((batch, 3, 3, 2), np.nan, np.float32)}
    given = Model(TWO).run({"r": r, "x": x}, out=out)
    assert all(given[name] is out[name] for name in out)
    assert_identical(out["s"], x + r)
    assert_identical(out["f"], (x + r).reshape(batch, -1))


def test_one_input_by_name():
    model = Model(classifier())
    assert_identical(model.run({"x": images(2)}), model.run(images(2)))


@pytest.mark.parametrize("batch", BATCHES)
def test_out_is_written_and_returned(batch):
    model = Model(classifier())
    want = model.run(images(batch))
    out = np.full((batch, 5), np.nan, np.float32)
    assert model.run(images(batch), out=out) is out
    assert_identical(out, want)
    wide = np.full((batch, 10), np.nan, np.float32)
    model.run(images(batch), out=wide[:, ::2])
    assert_identical(np.ascontiguousarray(wide[:, ::2]), want)
    assert np.isnan(wide[:, 1::2]).all()


@pytest.mark.parametrize("batch", [1, LANES + 1])
def test_any_strides_and_read_only_inputs_are_taken_and_nothing_is_modified(batch):
    model = Model(classifier())
    x = images(batch)
    want = model.run(x)
    variants = {
        "reversed": np.ascontiguousarray(x[:, ::-1])[:, ::-1],
        "transposed": np.ascontiguousarray(x.transpose(3, 2, 1, 0)).transpose(3, 2, 1, 0),
        "every second": np.repeat(x, 2, axis=2)[:, :, ::2],
        "unaligned": np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape),
    }
    for name, variant in variants.items():
        before = variant.copy()
        variant.flags.writeable = False
        assert_identical(model.run(variant), want)
        assert_identical(variant, before), name


def test_an_empty_batch():
    assert Model(classifier()).run(images(0)).shape == (0, 5)
    got = Model(TWO).run({"x": np.zeros((0, 3, 3, 2), np.float32), "r": np.zeros((0, 3, 3, 2), np.float32)})
    assert {name: array.shape for name, array in got.items()} == {"s": (0, 3, 3, 2), "f": (0, 18)}


def test_a_new_batch_size_costs_only_buffers(monkeypatch):
    model = Model(classifier())
    for batch in (1, LANES):
        model.run(images(batch))
    monkeypatch.setattr(models, "build", None)
    monkeypatch.setattr(models, "draft", None)
    for batch in BATCHES:
        model.run(images(batch))


X = images(3)
X_IS, OUT_IS = "input 'x': expected float32[n, 4, 6, 3], got ", "out 'scores': expected float32[n, 5], got "
NAMES, THREADS = "inputs: expected arrays named ['x'], got ", "threads: expected a whole number of at least 1, got "
WRONG = {
    "a list": (X.tolist(), {}, X_IS + "list."),
    "nothing": (None, {}, X_IS + "NoneType."),
    "another dtype": (X.astype(np.float64), {}, X_IS + "float64[3, 4, 6, 3]."),
    "another byte order": (X.astype(X.dtype.newbyteorder()), {}, X_IS + ">f4[3, 4, 6, 3]."),
    "integers": (X.astype(int), {}, X_IS + "int64[3, 4, 6, 3]."),
    "no batch": (X[0], {}, X_IS + "float32[4, 6, 3]."),
    "channels first": (X.transpose(0, 3, 1, 2), {}, X_IS + "float32[3, 3, 4, 6]."),
    "one row less": (X[:, :-1], {}, X_IS + "float32[3, 3, 6, 3]."),
    "an unknown name": ({"y": X}, {}, NAMES + "['y']."),
    "a name too many": ({"x": X, "y": X}, {}, NAMES + "['x', 'y']."),
    "no name": ({}, {}, NAMES + "[]."),
    "no thread": (X, {"threads": 0}, THREADS + "0."),
    "fewer threads": (X, {"threads": -2}, THREADS + "-2."),
    "half a thread": (X, {"threads": 1.5}, THREADS + "1.5."),
    "a truth for threads": (X, {"threads": True}, THREADS + "True."),
    "a text for threads": (X, {"threads": "2"}, THREADS + "'2'."),
    "out of another shape": (X, {"out": np.zeros((3, 4), np.float32)}, OUT_IS + "float32[3, 4]."),
    "out of another dtype": (X, {"out": np.zeros((3, 5))}, OUT_IS + "float64[3, 5]."),
    "out of another batch": (X, {"out": np.zeros((2, 5), np.float32)}, "out 'scores': expected 3 images, got 2."),
    "out of another name": (X, {"out": {"y": X}}, "out: expected arrays named ['scores'], got ['y']."),
    "out that cannot be written": (
        X,
        {"out": np.broadcast_to(np.float32(0), (3, 5))},
        "out 'scores': expected a writeable array, got a read-only one.",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_named(name):
    x, options, message = WRONG[name]
    with pytest.raises(InputError, match=rf"^{re.escape(message)} .+\.$"):
        Model(classifier()).run(x, **options)


@pytest.mark.parametrize(
    ("x", "advice"),
    [
        (X[:, 1:], "Give it that shape, the batch first."),
        (X.astype(int), "Convert it with numpy.asarray(x, numpy.float32) and put the batch first."),
        (X.transpose(0, 3, 1, 2), "Transpose it: x.transpose(0, 2, 3, 1); or load the model with layout='NCHW'."),
        (X.transpose(0, 2, 3, 1), "Transpose it: x.transpose(0, 3, 1, 2); or load the model with layout='NHWC'."),
    ],
)
def test_the_advice_goes_with_what_is_wrong(x, advice):
    with pytest.raises(InputError, match=re.escape(f". {advice}")):
        Model(classifier()).run(x)


def test_a_model_shows_what_it_takes_and_gives():
    assert repr(Model(classifier())) == "<Model of None: x float32[n, 4, 6, 3] -> scores float32[n, 5]>"


def test_inputs_of_different_batches_are_named():
    x = np.zeros((2, 3, 3, 2), np.float32)
    with pytest.raises(InputError, match=r"^inputs: expected one batch size, got \[1, 2\]\. .+\.$"):
        Model(TWO).run({"x": x, "r": x[:1]})
    with pytest.raises(InputError, match=r"^inputs: expected arrays named \['r', 'x'\], got \['x'\]\."):
        Model(TWO).run(x)
    with pytest.raises(InputError, match=r"^out: expected arrays named \['f', 's'\], got \['s'\]\."):
        Model(TWO).run({"x": x, "r": x}, out=x)


def test_numpy_integers_count_threads(eager):
    assert_identical(Model(classifier()).run(X, threads=np.int64(2)), Model(classifier()).run(X))


# --- Life of a model -------------------------------------------------------------------------------------------------


def test_loads_runs_and_pickles_by_path(tmp_path):
    modelfile.save(tmp_path / "net.lhc", classifier())
    model = runtime.load(tmp_path / "net.lhc")
    want = Model(classifier()).run(X)
    assert_identical(model.run(X), want)
    pickled = pickle.dumps(model)
    assert len(pickled) < 1000
    assert_identical(pickle.loads(pickled).run(X), want)
    (tmp_path / "net.lhc").unlink()
    with pytest.raises(ModelFileError):
        pickle.loads(pickled)


def test_a_model_without_a_file_says_that_it_cannot_be_pickled():
    with pytest.raises(TypeError, match="not loaded from a file cannot be pickled"):
        pickle.dumps(Model(classifier()))


def test_loading_what_is_not_there_says_so(tmp_path):
    with pytest.raises(ModelFileError, match="missing"):
        runtime.load(tmp_path / "missing.lhc")


def test_a_context_frees_working_memory_and_the_model_still_runs():
    with Model(classifier()) as model:
        want = model.run(X)
        assert model._executor.arenas.bytes > 0
    assert model._executor.arenas.bytes == 0
    assert_identical(model.run(X), want)


def test_working_memory_is_taken_again_and_only_the_largest_is_kept():
    arenas = execute.Arenas()
    first = arenas.take(100)
    second = arenas.take(50)
    assert first is not second
    arenas.give(first)
    arenas.give(second)
    assert arenas.take(40) is second
    assert arenas.take(60) is first
    assert arenas.take(10).size == 10
    sizes = list(range(1, execute.MAX_IDLE_ARENAS + 4))
    for size in sizes:
        arenas.give(np.zeros(size, np.float32))
    assert arenas.bytes == 4 * sum(sizes[-execute.MAX_IDLE_ARENAS :])


def test_a_failed_run_gives_its_memory_back(monkeypatch):
    model = Model(classifier())
    want = model.run(X)
    kept = model._executor.arenas.bytes

    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(execute.engine, "run_alone", fail)
        patch.setattr(execute.pool, "run", fail)
        with pytest.raises(KeyboardInterrupt):
            model.run(X)
    assert model._executor.arenas.bytes == kept
    assert_identical(model.run(X), want)


def test_explain_takes_whole_numbers_of_numpy():
    model = Model(classifier())
    assert model.explain(np.int64(4)).json() == model.explain(4).json()


@pytest.mark.parametrize("batch", [0, -1, 1.0, True, None])
def test_explain_wants_a_batch(batch):
    with pytest.raises(InputError, match=r"^batch: expected a whole number of at least 1, got .+\. Try 1 or 64\.$"):
        Model(classifier()).explain(batch)


def test_packed_memory_is_that_of_every_layout_that_a_batch_runs_in():
    model = Model(classifier())
    counted = {batch: [layout for layout, _ in model.layouts(batch)] for batch in range(1, 3 * LANES)}
    assert max(map(len, counted.values())) > 1
    for batch, layouts in counted.items():
        assert model.packed_bytes(batch) == sum(model.plan(layout).bytes for layout in layouts) > 0
    with pytest.raises(InputError, match="batch: expected a whole number"):
        model.packed_bytes(0)


def test_weights_that_do_not_exist_take_no_memory_once_a_batch_has_run(monkeypatch):
    made, dense = [], MaskedKernel.dense

    def watched(kernel):
        whole = dense(kernel)
        made.append(weakref.ref(whole))
        return whole

    monkeypatch.setattr(MaskedKernel, "dense", watched)
    model = Model(classifier())
    for batch in BATCHES:
        model.run(images(batch))
        gc.collect()
        assert made
        assert all(whole() is None for whole in made)


def test_replacing_a_spec_changes_nothing_of_another_model():
    spec = classifier()
    first = Model(spec)
    want = first.run(X)
    Model(replace(spec, metadata={"a": "b"})).run(X)
    assert_identical(first.run(X), want)
