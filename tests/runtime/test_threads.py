"""Cores, quotas and threading layers: what each of Numba's layers cannot do is not asked of it."""

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from lhc_ref.errors import InputError
from runtime import threads
from tests.runtime.nets import needs_compiled

ROOT = Path(__file__).parents[2]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


# --- How many --------------------------------------------------------------------------------------------------------


@pytest.fixture
def machine(monkeypatch):
    """Sets the cores and the files of the container's quota."""

    def set_up(cores, **files):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)

        def read_text(path):
            name = path.name.replace(".", "_")
            if name not in files:
                raise FileNotFoundError(path)
            return files[name]

        monkeypatch.setattr(Path, "read_text", read_text)

    return set_up


@pytest.mark.parametrize(
    ("cores", "files", "want"),
    [
        (8, {}, 8),
        (8, {"cpu_max": "max 100000\n"}, 8),
        (8, {"cpu_max": "200000 100000\n"}, 2),
        (8, {"cpu_max": "150000 100000\n"}, 2),  # one and a half cores keep two threads busy
        (8, {"cpu_max": "10000 100000\n"}, 1),
        (1, {"cpu_max": "400000 100000\n"}, 1),
        (8, {"cpu_max": "", "cpu_cfs_quota_us": "300000\n", "cpu_cfs_period_us": "100000\n"}, 3),
        (8, {"cpu_cfs_quota_us": "300000\n", "cpu_cfs_period_us": "100000\n"}, 3),
        (8, {"cpu_cfs_quota_us": "-1\n", "cpu_cfs_period_us": "100000\n"}, 8),
    ],
)
def test_affinity_and_quota_are_respected(machine, cores, files, want):
    machine(cores, **files)
    assert threads.available_cores() == want


def test_without_affinity_all_cores_count(machine, monkeypatch):
    machine(8)
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert threads.available_cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert threads.available_cores() == 1


@needs_compiled
def test_a_request_is_limited_by_numbas_threads(machine):
    machine(3)
    assert threads.resolve(None) == min(3, numba.config.NUMBA_NUM_THREADS)
    assert threads.resolve(2) == 2
    assert threads.resolve(10**6) == numba.config.NUMBA_NUM_THREADS


@pytest.mark.skipif(not numba.config.DISABLE_JIT, reason="kernels are compiled here")
def test_without_compilation_there_is_one_thread():
    assert threads.resolve(None) == threads.resolve(4) == 1


@pytest.mark.parametrize("wrong", [0, -1, 2.0, True, "2", np.float32(2)])
def test_a_wrong_number_is_named(wrong):
    with pytest.raises(InputError, match=r"^threads: expected a whole number of at least 1, got .+\. Leave it out"):
        threads.resolve(wrong)


@needs_compiled
def test_the_callers_number_of_threads_is_put_back():
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        seen = []
        threads.run(2, lambda n: seen.append((n, numba.get_num_threads())), lambda: None)
        assert seen == [(2, 2)]
        assert numba.get_num_threads() == 1

        def fail(_):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            threads.run(2, fail, lambda: None)
        assert numba.get_num_threads() == 1
    finally:
        numba.set_num_threads(before)


def test_one_worker_needs_no_region():
    seen = []
    threads.run(1, lambda n: seen.append(n), lambda: seen.append("alone"))
    assert seen == ["alone"]


# --- Threading layers, each in a process of its own ------------------------------------------------------------------

NET = """
import os, sys, threading, warnings
import numba
import numpy as np
from lhc_ref.modelfile import InputSpec, ModelSpec, Node
from runtime import execute, model as models, threads
execute.STEP_CYCLES = 1e-9  # a second worker for the smallest step
kernel = (np.arange(9 * 3 * 16, dtype=np.float32) % 5 - 2).reshape(3, 3, 3, 16)
nodes = (Node("conv2d", "a", ("x",), "c", {"padding": "same"}, {"kernel": kernel}), Node("relu", "b", ("c",), "y"))
model = models.Model(ModelSpec((InputSpec("x", (8, 8, 3)),), ("y",), nodes))
x = (np.arange(33 * 192, dtype=np.float32) % 7 - 3).reshape(33, 8, 8, 3)
want = model.run(x, threads=1).tobytes()
def same(threads, model=model):
    return model.run(x, threads=threads).tobytes() == want
"""
FORK = """
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
"""


def script(body, layer="default", **environment):
    """Run Python code after NET in a new process; gives what it printed."""
    environment = {"NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "4", "PYTHONPATH": str(ROOT)} | environment
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", NET + FORK + body]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


LAYERS = ["omp", "workqueue", "tbb"]


def available(layer):
    """Whether Numba finds a threading layer here."""
    probe = "import numba; numba.njit(parallel=True)(lambda: [0 for _ in numba.prange(2)]); numba.get_num_threads()"
    environment = os.environ | {"NUMBA_THREADING_LAYER": layer}
    return (
        subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True, check=False).returncode == 0
    )


@pytest.fixture(scope="module", params=LAYERS)
def layer(request):
    if not available(request.param):
        pytest.skip(f"Numba finds no threading layer {request.param} here")
    return request.param


@needs_compiled
def test_python_threads_at_once_on_every_layer(layer):
    """From the very first run on, when the layer is not known yet; under workqueue this aborted the process."""
    body = """
results = []
def work(which):
    for threads in (2, 3, 1, 4):
        results.append(same(threads, model if which % 2 else models.Model(model.spec)))
workers = [threading.Thread(target=work, args=(i,)) for i in range(6)]
for worker in workers: worker.start()
for worker in workers: worker.join()
assert results == [True] * 24, results
print(threads.layer())
"""
    assert script(body, layer) == f"{layer}\n"


@needs_compiled
@needs_fork
def test_a_child_of_a_process_that_ran_runs_too(layer):
    """Alone and with one warning, where the layer's threads do not survive the fork."""
    body = """
assert same(2)
def test():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        right = same(2) and same(3) and same(2)
    texts = [str(w.message) for w in caught if w.category is RuntimeWarning]
    expected = 0 if threads.layer() == "tbb" else 1
    assert len(texts) == expected and all("forked" in text and "one thread" in text for text in texts), texts
    return right
in_child(test)
assert same(2)
"""
    script(body, layer)


@needs_compiled
@needs_fork
def test_a_child_of_a_process_that_did_not_run_uses_threads(layer):
    body = """
seen = []
def test():
    run = threads._enter
    threads._enter = lambda workers, parallel: (seen.append(workers), run(workers, parallel))
    return same(2) and set(seen) == {2}
in_child(test)
in_child(test)
assert same(2)
"""
    script(body, layer)


@needs_compiled
@needs_fork
def test_a_child_of_a_process_whose_other_code_used_numbas_threads(layer):
    body = """
@numba.njit(parallel=True)
def other(a):
    for i in numba.prange(a.size):
        a[i] += 1
other(np.zeros(100))
def test():
    warnings.simplefilter("ignore")
    return same(2)
in_child(test)
"""
    script(body, layer)


@needs_compiled
@needs_fork
def test_a_fork_while_another_thread_runs(layer):
    body = """
stop = threading.Event()
def work():
    while not stop.is_set():
        same(2)
worker = threading.Thread(target=work)
same(2)
worker.start()
def test():
    warnings.simplefilter("ignore")
    return models.Model(model.spec).run(x, threads=2).tobytes() == want
for _ in range(8):
    in_child(test)
stop.set()
worker.join()
"""
    script(body, layer)


@needs_compiled
def test_the_number_of_threads_changes_neither_kernels_nor_bits():
    body = """
import hashlib
print([row.kernel for row in model.explain(64).rows], hashlib.sha256(model.run(x).tobytes()).hexdigest())
"""
    assert script(body, NUMBA_NUM_THREADS="1") == script(body, NUMBA_NUM_THREADS="4")
