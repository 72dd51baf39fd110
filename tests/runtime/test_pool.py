"""Workers that share runs: invited, late, asleep, stopped, pinned, forked; beside threads of other code."""

import os
import subprocess
import sys
import threading
import time
from functools import cache
from pathlib import Path
from types import FunctionType
from unittest import mock

import numba
import numpy as np
import pytest

from lhc_ref.errors import InputError
from runtime import pool
from runtime.execute import lying
from runtime.kernels import engine, options, team, winograd
from runtime.kernels.indirect import task_address
from runtime.kernels.machine import LANES
from runtime.kernels.step import USER
from runtime.kernels.vector import NEAR_SIZE
from runtime.layout import IMAGES
from runtime.model import Model
from tests.runtime.nets import classifier, images, needs_compiled, net
from tests.tolerances import assert_identical

ROOT = Path(__file__).parents[2]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
needs_pinning = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system places threads itself")

# --- Invitations -----------------------------------------------------------------------------------------------------


class SmallRun:
    """A run of a few groups through a net of one activation, its arrays poisoned."""

    def __init__(self, groups=3, shares=2):
        plan = Model(net({"x": (8, 8, 1)}, ["y"], ("relu", "y", ["x"]))).plan(IMAGES)
        steps = plan.steps.copy()
        arena = np.full(plan.arena_size * groups, np.nan, np.float32)
        self.x = np.random.default_rng(0).standard_normal((LANES * groups, 8, 8, 1), np.float32)
        self.y, self.counters = np.full_like(self.x, np.nan), engine.new_counters(steps, shares)
        steps["address"] = [task_address(row) for row in steps["row"].tolist()]
        words = steps.view(np.int64).reshape(len(steps), -1)
        words[0, USER], words[2, USER] = lying(self.x), lying(self.y)
        sizes = (groups, LANES, groups * LANES, plan.arena_size)
        self.shared = (steps, *sizes, arena, plan.weights, plan.index, self.counters, engine.NO_TIMES)

    def check(self):
        """Done, and nobody uses it."""
        assert_identical(self.y, np.maximum(self.x, 0))
        assert self.counters[-engine.COUNTER_STRIDE] == 0


def states(board):
    return board[0][:: team.STRIDE]


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.0005)


@pytest.fixture
def board():
    return team.new_board(3)


@pytest.fixture
def worker(board):
    """Serves seat 1, until it is stopped."""
    thread = threading.Thread(target=team.serve, args=(board, 1, 200_000), daemon=True)
    thread.start()
    yield thread
    team.stop(board, 3)
    thread.join(60)
    assert not thread.is_alive()
    assert states(board).tolist() == [team.STOPPED] * 3


@needs_compiled
@pytest.mark.parametrize("apart", [False, True])
def test_a_caller_does_not_wait_for_workers_that_never_come(board, apart):
    run = SmallRun()
    assert team.share(board, 3, 4, apart, run.shared) == 0
    run.check()
    assert states(board).tolist() == [team.FREE] * 3
    assert board[1]["member"].tolist() == [1, 2, 3]  # all were invited


@needs_compiled
@pytest.mark.parametrize("apart", [False, True])
def test_only_free_seats_are_invited_and_no_more_than_wanted(board, apart):
    states(board)[:] = (team.BUSY, team.TAKEN, team.FREE)
    for workers in (1, 3):
        run = SmallRun()
        assert team.share(board, 3, workers, apart, run.shared) == 0
        run.check()
        assert board[1]["member"].tolist() == [0, 0, int(workers > 1)]
    assert states(board).tolist() == [team.BUSY, team.TAKEN, team.FREE]


def entry(function):
    """A kernel that Python can call; the inner ones are made for other kernels alone."""
    return numba.njit(**options.OPTIONS)(function)


@cache
def invite():
    return entry(team._invite.py_func)


@needs_compiled
def test_an_invitation_of_another_run_is_not_taken_back(board):
    first, second = SmallRun(), SmallRun()
    assert invite()(board, 0, 1, False, first.shared)
    assert team.share(board, 3, 2, False, second.shared) == 0
    second.check()
    assert states(board).tolist() == [first.counters.ctypes.data, team.FREE, team.FREE]
    assert first.counters[-engine.COUNTER_STRIDE] == 1


@needs_compiled
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("state", [team.FREE, team.ASLEEP])
def test_an_invited_worker_does_what_there_is_to_do(board, worker, apart, state):
    """All of it here: nobody else takes part."""
    for _ in range(3):
        wait_until(lambda: states(board)[1] == team.ASLEEP)
        before, run = SmallRun(), SmallRun()
        if state == team.FREE:  # awake, because it was invited a moment ago
            assert invite()(board, 1, 2, apart, before.shared)
            wait_until(lambda: states(board)[1] in (team.FREE, team.ASLEEP))
            before.check()
        assert invite()(board, 1, 2, apart, run.shared)
        wait_until(lambda run=run: run.counters[-engine.COUNTER_STRIDE] == 0)
        run.check()


@needs_compiled
@pytest.mark.parametrize("apart", [False, True])
def test_a_run_shared_with_a_worker(board, worker, apart):
    for _ in range(200):
        run = SmallRun()
        left = team.share(board, 3, 3, apart, run.shared)
        assert_identical(run.y, np.maximum(run.x, 0))  # at once, whether or not the worker has left
        assert left in (0, 1)
        wait_until(lambda run=run: run.counters[-engine.COUNTER_STRIDE] == 0)


@needs_compiled
def test_without_condition_variables_a_worker_naps_outside(board):
    names = team.serve.py_func.__globals__ | {"POSIX": False, "WAIT_SPINS": 100, "SPINS": 10}
    serve = entry(FunctionType(team.serve.py_func.__code__, names))
    assert not serve(board, 1, 0)
    assert states(board)[1] == team.FREE
    run = SmallRun()
    invite()(board, 1, 1, False, run.shared)
    assert not serve(board, 1, 0)
    run.check()
    team.stop(board, 3)
    assert serve(board, 1, 0)


@needs_compiled
def test_a_pool_calls_again_a_worker_that_naps(monkeypatch):
    calls = []

    def serve(board, seat, wait_ns):
        calls.append(seat)
        return len(calls) == 3

    monkeypatch.setattr(team, "serve", serve)
    made = pool.Pool()
    made._start(1)
    made._workers[0].join(60)
    assert calls == [0, 0, 0]


# --- Pools -----------------------------------------------------------------------------------------------------------


@needs_compiled
def test_what_a_late_worker_may_read_is_kept(monkeypatch):
    made, (first, second, third) = pool.Pool(), (SmallRun(), SmallRun(), SmallRun())

    def share(board, seats, workers, apart, shared):
        shared[8][-engine.COUNTER_STRIDE] = shared is first.shared
        return int(shared is first.shared)

    monkeypatch.setattr(team, "share", share)
    made.run(1, False, first.shared)
    made.run(1, False, second.shared)
    assert [kept is first.shared for kept in made._lingering] == [True]
    first.counters[-engine.COUNTER_STRIDE] = 0
    made.run(1, False, third.shared)
    assert made._lingering == []


@needs_compiled
def test_a_closed_pool_has_no_threads_and_runs_go_on():
    made = pool.Pool()
    for _ in range(2):
        run = SmallRun()
        made.run(3, False, run.shared)
        assert_identical(run.y, np.maximum(run.x, 0))
    workers = list(made._workers)
    assert [worker.is_alive() for worker in workers] == [True, True]
    made.close()
    assert [worker.is_alive() for worker in workers] == [False, False]
    run = SmallRun()
    made.run(3, False, run.shared)
    run.check()
    assert made._workers == []


@needs_compiled
def test_where_no_thread_can_be_started_runs_go_on_and_one_warning_says_so(monkeypatch):
    made = pool.Pool()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", mock.Mock(side_effect=RuntimeError("can't start new thread")))
        run = SmallRun()
        with pytest.warns(RuntimeWarning, match=r"^threads: expected to start 2, got 0: can't start .* Running on 1; "):
            made.run(3, False, run.shared)
        run.check()
    run = SmallRun()
    made.run(3, False, run.shared)
    run.check()


@pytest.mark.parametrize("wrong", ["none", "cores", True, 0])
def test_a_wrong_pin_is_named(wrong):
    with pytest.raises(InputError, match=r"^pin: expected None or 'core', got .+\. Leave it out"):
        Model(classifier()).run(images(1), pin=wrong)


def test_pinning_needs_a_system_that_can(monkeypatch):
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    with pytest.raises(InputError, match=r"^pin: expected a system with sched_setaffinity, .+ Leave it out\."):
        Model(classifier()).run(images(1), pin="core")
    Model(classifier()).run(images(1))


@needs_compiled
@needs_pinning
def test_pinned_threads_stay_on_cores_of_their_own_and_the_callers_are_put_back(eager, monkeypatch):
    before = os.sched_getaffinity(0)
    cores = sorted(before)
    model, seen, share = Model(classifier()), [], team.share
    want = model.run(images(LANES), threads=1)
    monkeypatch.setattr(team, "share", lambda *args: seen.append(os.sched_getaffinity(0)) or share(*args))
    assert_identical(model.run(images(LANES), threads=2, pin="core"), want)
    assert seen == [{cores[0]}]
    assert os.sched_getaffinity(0) == before
    worker = pool._pools[tuple(cores)]._workers[0]
    wait_until(lambda: os.sched_getaffinity(worker.native_id) == {cores[1 % len(cores)]})
    monkeypatch.setattr(team, "share", mock.Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        model.run(images(LANES), threads=2, pin="core")
    assert os.sched_getaffinity(0) == before


@needs_compiled
def test_numbas_own_threads_are_left_alone(eager):
    before = numba.get_num_threads()
    Model(classifier()).run(images(LANES), threads=2)
    assert numba.get_num_threads() == before


@needs_compiled
def test_workers_have_room_on_their_stacks_whatever_the_programs_threads_have(monkeypatch):
    sizes, start = [], threading.Thread.start

    def watched(thread):
        sizes.append(threading.stack_size())  # which sets it to 0
        threading.stack_size(sizes[-1])
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", watched)
    made, before = pool.Pool(), threading.stack_size(2**15)
    try:
        made._start(2)
    finally:
        after = threading.stack_size(before)
        made.close()
    assert after == 2**15
    assert len(sizes) == 2
    assert min(sizes) >= 4 * (winograd.MEMORY_SIZE + NEAR_SIZE) + 2**20  # and a megabyte for Python


# --- Processes -------------------------------------------------------------------------------------------------------

NET = """
import os, sys, threading, time
import numba
import numpy as np
from lhc_ref.modelfile import InputSpec, ModelSpec, Node
from runtime import execute, model as models, pool, threads
execute.STEP_CYCLES = 1e-9  # a second worker for the smallest step
threads.machine_cores = lambda: 4
kernel = (np.arange(9 * 3 * 16, dtype=np.float32) % 5 - 2).reshape(3, 3, 3, 16)
nodes = (Node("conv2d", "a", ("x",), "c", {"padding": "same"}, {"kernel": kernel}), Node("relu", "b", ("c",), "y"))
model = models.Model(ModelSpec((InputSpec("x", (8, 8, 3)),), ("y",), nodes))
x = (np.arange(33 * 192, dtype=np.float32) % 7 - 3).reshape(33, 8, 8, 3)
want = model.run(x, threads=1).tobytes()
def same(threads, model=model):
    return model.run(x, threads=threads).tobytes() == want
def in_child(test):
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if test() else 1)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(2)
    status = os.waitpid(child, 0)[1]
    assert status == 0, f"the child ended with {status}"
def workers():
    return [len(made._workers) for made in pool._pools.values()]
"""


def script(body, **environment):
    """Run Python code after NET in a new process, where warnings are errors; gives what it printed."""
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", NET + body]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@needs_compiled
def test_python_threads_at_once_from_the_first_run_on():
    body = """
results = []
def work(which):
    for threads in (2, 3, 1, 4):
        results.append(same(threads, model if which % 2 else models.Model(model.spec)))
callers = [threading.Thread(target=work, args=(i,)) for i in range(6)]
for caller in callers: caller.start()
for caller in callers: caller.join()
assert results == [True] * 24, results
assert workers() == [3], workers()
"""
    script(body)


@needs_compiled
@needs_fork
def test_a_child_has_threads_of_its_own():
    """After a run and before one, of a parent that goes on, and of a child."""
    body = """
def test():
    assert workers() == []
    right = same(2) and same(3) and same(2, models.Model(model.spec))
    assert workers() == [2], workers()
    return right
def child_and_grandchild():
    return test() and in_child(test) is None and same(3)
in_child(test)
assert same(2)
in_child(child_and_grandchild)
assert same(2) and workers() == [1]
"""
    script(body)


@needs_compiled
@needs_fork
def test_a_fork_while_other_threads_run_and_plan():
    body = """
stop = threading.Event()
def work():
    while not stop.is_set():
        same(2)
        model._plans.clear()
callers = [threading.Thread(target=work) for _ in range(2)]
same(2)
for caller in callers: caller.start()
for _ in range(8):
    in_child(lambda: same(2) and same(2, models.Model(model.spec)))
stop.set()
for caller in callers: caller.join()
"""
    script(body)


@needs_compiled
@pytest.mark.parametrize("moment", ["working", "spinning", "asleep", "daemon caller"])
def test_a_process_ends_cleanly_whatever_its_workers_do(moment):
    body = {
        "working": "same(4)",
        "spinning": "[same(4) for _ in range(50)]",
        "asleep": "same(4); time.sleep(0.1)",
        "daemon caller": """
def work():
    while True: same(4)
threading.Thread(target=work, daemon=True).start()
time.sleep(0.1)
""",
    }[moment]
    script(body)


def available(layer):
    """Whether Numba finds a threading layer here."""
    probe = "import numba; numba.njit(parallel=True)(lambda: [0 for _ in numba.prange(2)]); numba.get_num_threads()"
    environment = os.environ | {"NUMBA_THREADING_LAYER": layer}
    return (
        subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True, check=False).returncode == 0
    )


@needs_compiled
@needs_fork
@pytest.mark.parametrize("layer", ["omp", "workqueue", "tbb"])
def test_beside_other_code_on_numbas_threads(layer):
    """Before, during and after its parallel regions, and in a child, whichever threading layer Numba uses for it."""
    if not available(layer):
        pytest.skip(f"Numba finds no threading layer {layer} here")
    body = """
assert same(2)
@numba.njit(parallel=True, nogil=True)
def other(a):
    for i in numba.prange(a.size):
        a[i] += 1
a = np.zeros(100)
other(a)
results = []
caller = threading.Thread(target=lambda: results.extend(same(2) for _ in range(100)))
caller.start()
for _ in range(100): other(a)
caller.join()
assert results == [True] * 100 and (a == 101).all()
in_child(lambda: same(2))
print(numba.threading_layer(), numba.get_num_threads())
"""
    assert script(body, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="2") == f"{layer} 2\n"


@needs_compiled
def test_the_number_of_threads_changes_neither_kernels_nor_bits():
    body = """
import hashlib
print([row.kernel for row in model.explain(64).rows], hashlib.sha256(model.run(x).tobytes()).hexdigest())
"""
    one = "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})" if hasattr(os, "sched_setaffinity") else ""
    assert script(one + body) == script(body)
