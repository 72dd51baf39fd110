"""Threads that share a run, and runs that share a model: the same bits on any number, from any number."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import pool
from runtime.kernels.machine import LANES
from runtime.layout import IMAGES, LAYOUTS
from runtime.model import Model
from tests.model_strategies import model_inputs
from tests.model_strategies import models as drawn_models
from tests.runtime.nets import GuardedModel, classifier, conv_spec, definition, images, needs_compiled
from tests.tolerances import assert_exact, assert_identical, assert_within, softmax_bound

BATCHES = [1, 2, LANES - 1, LANES, LANES + 1, 2 * LANES, 2 * LANES + 1]


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
    taken, run = [], pool.run
    monkeypatch.setattr(pool, "run", lambda workers, apart, *rest: taken.append(apart) or run(workers, apart, *rest))
    model = GuardedModel(classifier(), IMAGES)
    for batch, workers, apart in (
        (LANES, 2, False),  # one group of images for two workers
        (2 * LANES, 2, True),  # one for each
        (3 * LANES, 2, False),  # three groups would keep one of two workers waiting
        (8 * LANES + 1, 2, True),  # nine groups: the wait is short
        (3 * LANES, 3, True),
        (2 * LANES, 5, False),
    ):
        assert_exact(
            model.run(images(batch), threads=workers),
            definition(model.spec, {"x": images(batch)})["scores"],
            np.float32,
        )
        assert taken.pop() == apart
        assert not taken


@given(drawn_models(), st.sampled_from([1, LANES, 2 * LANES + 1]), st.integers(2, 5))
def test_graphs_give_the_same_bits_on_any_number_of_threads(spec, batch, threads):
    inputs = model_inputs(spec, batch, threads)
    for layout in LAYOUTS:
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
