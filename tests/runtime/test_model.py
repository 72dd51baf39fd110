"""The model as users have it: the same bits on any threads, arrays in and out, errors, NaN, several threads at once."""

import pickle
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import runtime
from lhc_ref import modelfile
from lhc_ref.errors import InputError, ModelFileError
from runtime import model as models
from runtime import topology
from runtime.kernels import engine
from runtime.kernels.machine import LANES
from runtime.kernels.registry import REGISTRY
from runtime.kernels.step import Kernel
from runtime.layout import BLOCK, CHANNELS, IMAGES
from runtime.model import Model
from runtime.select import tile_channels
from runtime.spec import to_layers
from tests import oracle, strategies
from tests.model_strategies import model_inputs
from tests.model_strategies import models as drawn_models
from tests.runtime.nets import GuardedModel, conv_spec, definition, masked, needs_compiled, net
from tests.strategies import numbers
from tests.tolerances import assert_exact, assert_identical, assert_within, softmax_bound

BATCHES = [1, 2, LANES - 1, LANES, LANES + 1, 2 * LANES, 2 * LANES + 1]
both_layouts = pytest.mark.parametrize("layout", [IMAGES, CHANNELS], ids=lambda layout: layout.name)


def kernel(seed, shape, density=None):
    values = np.random.default_rng(seed).integers(-1, 2, shape).astype(np.float32)
    return values if density is None else masked(values, np.random.default_rng(seed + 1).random(shape) < density)


def classifier(softmax=False):
    """Convolutions dense, sparse, grouped and with a residual, pooling, a dense layer: every family of kernels."""
    same = {"padding": "same"}
    nodes = [
        ("conv2d", "a", ["x"], same, {"kernel": kernel(1, (3, 3, 3, 9)), "bias": numbers(1, "bias", (9,))}),
        ("relu", "b", ["a"]),
        ("conv2d", "c", ["b"], same, {"kernel": kernel(2, (3, 3, 9, 9), 0.3)}),
        ("add", "d", ["c", "b"]),
        ("max_pool", "e", ["d"], {"size": (2, 2), "stride": (2, 2), "padding": "valid"}),
        ("conv2d", "f", ["e"], same | {"groups": 9}, {"kernel": kernel(3, (3, 3, 1, 9))}),
        ("average_pool", "g", ["f"], {"size": (2, 2), "stride": (1, 1), "padding": "valid"}),
        ("flatten", "h", ["g"]),
        ("dense", "scores", ["h"], {}, {"kernel": kernel(4, (18, 5))}),
    ]
    if softmax:
        nodes.append(("softmax", "p", ["scores"]))
    return net({"x": (4, 6, 3)}, ["p" if softmax else "scores"], *nodes)


def images(batch, seed=0, shape=(4, 6, 3)):
    return numbers(seed, f"x{batch}", (batch, *shape))


@pytest.fixture
def eager(monkeypatch):
    """Nets as small as these are not worth a second worker; here they are."""
    monkeypatch.setattr(models, "STEP_CYCLES", 1e-9)


# --- Threads ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", BATCHES)
def test_the_same_bits_on_any_number_of_threads(eager, batch):
    model, x = Model(classifier(softmax=True)), images(batch)
    want = model.run(x, threads=1)
    for threads in (1, 2, 3, 5, None, 2):
        assert_identical(model.run(x, threads=threads), want)
    assert_identical(Model(classifier(softmax=True)).run(x, threads=2), want)


@pytest.mark.parametrize("batch", BATCHES)
def test_the_numbers_are_the_definitions(eager, batch):
    x = images(batch)
    want = definition(classifier(softmax=True), {"x": x})
    assert_exact(Model(classifier()).run(x, threads=2), want["scores"], np.float32)
    scores = want["scores"].astype(np.float32)
    assert_within(Model(classifier(softmax=True)).run(x, threads=2), want["p"], softmax_bound(scores), np.float32)


@needs_compiled
def test_both_ways_of_sharing_work_are_taken(eager, monkeypatch):
    taken, regions = [], {"run_together": engine.run_together, "run_apart": engine.run_apart}
    for name in regions:
        monkeypatch.setattr(
            engine,
            name,
            lambda workers, *rest, name=name: taken.append(name) or regions[name](workers, *rest),
        )
    model = GuardedModel(classifier(), IMAGES)
    for batch, threads, way in (
        (LANES, 2, "run_together"),  # one group of images for two workers
        (2 * LANES, 2, "run_apart"),  # one for each
        (3 * LANES, 2, "run_together"),  # three groups would keep one of two workers waiting
        (8 * LANES + 1, 2, "run_apart"),  # nine groups: the wait is short
        (3 * LANES, 3, "run_apart"),
        (2 * LANES, 5, "run_together"),
    ):
        assert_exact(
            model.run(images(batch), threads=threads),
            definition(model.spec, {"x": images(batch)})["scores"],
            np.float32,
        )
        assert taken.pop() == way
        assert not taken


@given(drawn_models(), st.sampled_from([1, LANES, 2 * LANES + 1]), st.integers(2, 5))
def test_graphs_give_the_same_bits_on_any_number_of_threads(spec, batch, threads):
    inputs = model_inputs(spec, batch, threads)
    for layout in (IMAGES, CHANNELS):
        if batch == 1 or layout == IMAGES:
            alone, shared = (GuardedModel(spec, layout, small_tasks=True).run(inputs, threads=t) for t in (1, threads))
            for name in spec.outputs:
                pair = (alone[name], shared[name]) if isinstance(alone, dict) else (alone, shared)
                assert_identical(*pair)


@pytest.mark.parametrize("layers", ["one model", "several models"])
def test_several_python_threads_at_once(eager, layers):
    shared = Model(classifier())
    want = {batch: shared.run(images(batch), threads=1) for batch in BATCHES}

    def work(seed):
        model = shared if layers == "one model" else Model(classifier())
        order = np.random.default_rng(seed).permutation(BATCHES)
        return [(int(batch), model.run(images(int(batch)), threads=1 + seed % 3)) for batch in order]

    with ThreadPoolExecutor(6) as pool:
        for results in pool.map(work, range(6)):
            for batch, got in results:
                assert_identical(got, want[batch])


@needs_compiled
@pytest.mark.parametrize("threads", [1, 2])
def test_other_python_threads_go_on_during_a_run(threads):
    """With the lock held, the other thread's longest pause would be the whole run. Tried thrice, should others run."""
    spec = conv_spec(np.ones((3, 3, 64, 64), np.float32), (64, 64, 64), padding="same")
    model, x = Model(spec), np.ones((2 * LANES, 64, 64, 64), np.float32)
    model.run(x, threads=threads)
    shares = []
    for _ in range(3):
        ticks, stop = [], threading.Event()

        def tick(ticks=ticks, stop=stop):
            while not stop.wait(0.0005):
                ticks.append(time.perf_counter())

        other = threading.Thread(target=tick)
        other.start()
        begin = time.perf_counter()
        model.run(x, threads=threads)
        end = time.perf_counter()
        stop.set()
        other.join()
        pauses = np.diff([begin, *(t for t in ticks if begin < t < end), end])
        shares.append(pauses.max() / (end - begin))
        if shares[-1] < 0.5:
            return
    pytest.fail(f"another thread waited for these shares of a run: {shares}")


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


def test_more_batch_sizes_than_are_remembered(monkeypatch):
    monkeypatch.setattr(models, "MAX_PLACED", 2)
    model = Model(classifier())
    for batch in (1, 2, 3, 2, 1, 3):
        x = images(batch)
        assert_exact(model.run(x), definition(model.spec, {"x": x})["scores"], np.float32)


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
        assert model._arenas.bytes > 0
    assert model._arenas.bytes == 0
    assert_identical(model.run(X), want)


def test_working_memory_is_taken_again_and_only_the_largest_is_kept():
    arenas = models.Arenas()
    first = arenas.take(100)
    second = arenas.take(50)
    assert first is not second
    arenas.give(first)
    arenas.give(second)
    assert arenas.take(40) is second
    assert arenas.take(60) is first
    assert arenas.take(10).size == 10
    sizes = list(range(1, models.MAX_IDLE_ARENAS + 4))
    for size in sizes:
        arenas.give(np.zeros(size, np.float32))
    assert arenas.bytes == 4 * sum(sizes[-models.MAX_IDLE_ARENAS :])


def test_a_failed_run_gives_its_memory_back(monkeypatch):
    model = Model(classifier())
    want = model.run(X)
    kept = model._arenas.bytes

    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(models.threading_facts, "run", fail)
        with pytest.raises(KeyboardInterrupt):
            model.run(X)
    assert model._arenas.bytes == kept
    assert_identical(model.run(X), want)


@pytest.mark.parametrize("batch", [0, -1, 1.0, True, None])
def test_explain_wants_a_batch(batch):
    with pytest.raises(InputError, match=r"^batch: expected a whole number of at least 1, got .+\. Try 1 or 64\.$"):
        Model(classifier()).explain(batch)


# --- NaN and infinity ------------------------------------------------------------------------------------------------

CONVS = [(entry.name, layout) for entry in REGISTRY.values() if entry.tile for layout in entry.layouts]


def reached(layer, entry, x_bad):
    """bool[n, oh, ow, c_out]: which outputs compute a product with a marked input, by what the class promises."""
    kept = topology.of_layer(layer).kept
    size = tile_channels(entry)
    if entry.kernel == Kernel.DEPTHWISE:
        computed = np.broadcast_to(np.eye(kept.shape[2], dtype=bool), kept.shape)
    else:
        computed = np.repeat(topology.of_layer(layer).rows(size).transpose(1, 2, 3, 0), size, axis=3)[
            ..., : kept.shape[3]
        ]
    window = layer.window
    bottom, right = (
        (layer.out_shape[i] - 1) * window.stride[i] + (window.size[i] - 1) * window.dilation[i] + 1
        - layer.shape[i] - (window.pad_top, window.pad_left)[i]
        for i in (0, 1)
    )  # fmt: skip
    padding = ((window.pad_top, max(0, bottom)), (window.pad_left, max(0, right)))
    return oracle.conv2d(x_bad, computed, None, window.stride, padding, window.dilation) > 0


@pytest.mark.parametrize(("name", "layout"), CONVS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@given(seed=strategies.seeds, density=st.sampled_from([0.02, 0.1, 0.5]), batch=st.integers(1, 3))
def test_what_a_skipped_weight_would_read_does_not_reach_the_output(name, layout, bad, seed, density, batch):
    entry, rng = REGISTRY[name], np.random.default_rng(seed)
    c_in = c_out = 2 * BLOCK
    groups = c_in if entry.kernel == Kernel.DEPTHWISE else 1
    shape = (2, 3, c_in // groups, c_out)
    weights = masked(rng.choice([-2, 1, 3], shape).astype(np.float32), rng.random(shape) < density)
    spec = conv_spec(weights, (4, 3, c_in), padding="same", groups=groups)
    x = rng.integers(-4, 5, (batch, 4, 3, c_in)).astype(np.float32)
    x[rng.random(x.shape) < 0.01] = bad
    model = GuardedModel(spec, IMAGES if layout == "images" else CHANNELS, entry)
    with np.errstate(invalid="ignore"):
        got = model.run(x)
        want = definition(spec, {"x": x})["y"]
    (layer,) = to_layers(spec)
    touched = reached(layer, entry, ~np.isfinite(x))
    assert_exact(
        got[~touched], definition(spec, {"x": np.nan_to_num(x, nan=0, posinf=0, neginf=0)})["y"][~touched], np.float32
    )
    assert not np.isfinite(got[touched]).any()
    if np.isnan(bad):
        assert np.isnan(got[touched]).all()
        assert np.isnan(want[touched]).all()  # the definition multiplies every absent weight, by 0


@both_layouts
@pytest.mark.parametrize("lane", [0, 1, LANES - 1])
def test_nan_in_one_image_stays_in_it(layout, lane):
    x = images(LANES)
    clean = GuardedModel(classifier(softmax=True), layout).run(x)
    x[lane, 1, 2, 0] = np.nan
    with np.errstate(invalid="ignore"):
        got = GuardedModel(classifier(softmax=True), layout).run(x)
    others = np.arange(LANES) != lane
    assert_identical(got[others], clean[others])
    assert np.isnan(got[lane]).all()


SPECIAL = np.array([np.nan, np.inf, -np.inf, -0.0, 1, -1], np.float32)


@both_layouts
@pytest.mark.parametrize("batch", [1, LANES])
def test_nan_and_infinity_through_the_other_operators(layout, batch):
    x = np.random.default_rng(5).choice(SPECIAL, (batch, 4, 4, 9)).astype(np.float32)
    pool = {"size": (2, 2), "stride": (2, 2), "padding": "valid"}
    nodes = [
        ("relu", "relu", ["x"]),
        ("max_pool", "max", ["x"], pool),
        ("average_pool", "mean", ["x"], pool),
        ("add", "sum", ["x", "relu"]),
        ("flatten", "flat", ["x"]),
        ("softmax", "share", ["x"]),
    ]
    spec = net({"x": x.shape[1:]}, [node[1] for node in nodes], *nodes)
    with np.errstate(invalid="ignore"):
        got, want = GuardedModel(spec, layout).run(x), definition(spec, {"x": x})
    windows = x.reshape(batch, 2, 2, 2, 2, 9).transpose(0, 1, 3, 2, 4, 5).reshape(batch, 2, 2, 4, 9)
    want["max"] = windows.max(axis=3)  # NaN if any number of the window is
    for name in spec.outputs:
        np.testing.assert_array_equal(np.isnan(got[name]), np.isnan(want[name]), name)
        finite = np.isfinite(want[name])
        bound = softmax_bound(np.where(np.isneginf(x) | ~finite, -1000, x))[finite] if name == "share" else 0.0
        assert_within(got[name][finite], want[name][finite], bound, np.float32)
        infinite = np.isinf(want[name])
        assert_exact(got[name][infinite], want[name][infinite], np.float32)


def test_replacing_a_spec_changes_nothing_of_another_model():
    spec = classifier()
    first = Model(spec)
    want = first.run(X)
    Model(replace(spec, metadata={"a": "b"})).run(X)
    assert_identical(first.run(X), want)
