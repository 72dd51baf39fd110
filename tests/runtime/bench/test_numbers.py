"""The arithmetic of scaling, break-even, layers, roofline and statistics."""

import math
import os
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.problems import vgg16
from lhc_ref import modelfile
from runtime.bench import break_even, layers, machine, ping, pinning, roof, scaling
from runtime.bench.timing import Summary
from runtime.kernels.vector import COMPILED
from runtime.model import Model
from runtime.spec import to_layers


@pytest.mark.parametrize("serial", [0.0, 0.1, 0.5, 1.0])
def test_amdahls_law_is_found_in_times_that_follow_it(serial):
    law = scaling.Amdahl(3.0, serial)
    threads = [1, 2, 4, 8]
    found = scaling.fit(threads, [law.seconds(n) for n in threads])
    assert found.one_s == pytest.approx(3.0)
    assert found.serial_share == pytest.approx(serial, abs=1e-9)
    assert found.limit == pytest.approx(1 / serial if serial else math.inf)


def test_threads_that_slow_down_are_all_serial():
    assert scaling.fit([1, 2], [1.0, 2.0]).serial_share == 1.0


def test_one_thread_count_says_nothing():
    assert scaling.fit([4], [1.0]) is None


def test_speed_up_is_over_the_fewest_threads():
    found = scaling.points([4, 2], [1.0, 1.5])
    assert [(p.threads, p.speedup, p.efficiency) for p in found] == [(2, 1.0, 1.0), (4, 1.5, 0.75)]


@pytest.mark.parametrize(
    ("sparse", "dense", "expected"),
    [
        ([1.0, 2.0, 4.0], 3.0, 0.35),
        ([1.0, 2.0, 4.0], 0.5, 0.0),
        ([1.0, 2.0, 4.0], 4.0, 1.0),
        ([2.0, 1.0, 4.0], 1.0, 0.2),
    ],
)
def test_break_even_lies_between_the_densities_measured(sparse, dense, expected):
    assert break_even.crossing([0.1, 0.2, 0.5], sparse, dense) == pytest.approx(expected)


def test_pooling_goes_with_the_layer_that_does_it():
    spec = modelfile.validate(vgg16(0.2, (8, 8), width=0.125))
    shapes = {layer: shape for shape in break_even.layer_shapes(spec) for layer in shape.layers}
    pooled = [to_layers(spec)[i].nodes for i in range(len(to_layers(spec))) if to_layers(spec)[i].pool != (1, 1)]
    assert len(pooled) == 5
    for names in pooled:
        alone = to_layers(shapes[names[0]].spec(0.2))
        assert [(layer.op, layer.pool) for layer in alone] == [("conv2d", (2, 2)), ("average_pool", (1, 1))]
    assert all(shape.pool is None for name, shape in shapes.items() if name not in {names[0] for names in pooled})


def test_times_become_break_even_densities():
    (shape, *_) = break_even.layer_shapes(modelfile.validate(vgg16(0.2, (8, 8), width=0.125)))
    alone = [*break_even.DENSITIES, 1.0]
    read = [density + 0.5 for density in alone]
    found = break_even._facts(shape, alone, read, {"torch": 0.9, "openvino": 1.2, "onnxruntime": -0.1})
    assert found["fastest_dense"] == "torch"  # and not onnxruntime, of which nothing is known
    assert found["break_even"] == {"ours": 1.0, "fastest": pytest.approx(0.4)}
    slow = break_even._facts(shape, [*alone[:-1], 0.25], [*read[:-1], 0.75], {})  # one that is fast dense
    assert slow["break_even"] == {"ours": pytest.approx(0.25), "fastest": pytest.approx(0.25)}


def test_layer_shapes_are_the_different_convolutions():
    found = break_even.layer_shapes(modelfile.validate(vgg16(0.2, (8, 8), width=0.125)))
    assert found[0].kernel_shape == (3, 3, 3, 8)
    assert found[0].groups == break_even.GROUPS  # no mask: as `prune` would make one
    assert all(shape.groups[0] % 8 == 0 for shape in found[1:])
    assert sum(len(shape.layers) for shape in found) == 13
    keys = [(shape.kernel_shape, shape.input_shape, shape.groups, shape.pool is None) for shape in found]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("density", [0.05, 0.5, 1.0])
def test_a_layer_alone_has_the_density_asked_for(density):
    shape = break_even.layer_shapes(modelfile.validate(vgg16(0.2, (8, 8))))[1]
    spec = shape.spec(density)
    kernel = spec.nodes[0].tensors["kernel"]
    assert getattr(kernel, "density", 1.0) == pytest.approx(density, abs=0.02)
    assert Model(spec).run(np.ones((1, *shape.input_shape), np.float32)).shape == (1, shape.kernel_shape[3])


def test_layers_side_by_side_have_weights_of_their_own():
    spec = break_even.layer_shapes(modelfile.validate(vgg16(0.2, (8, 8), width=0.125)))[1].spec(1.0, 3)
    kernels = [node.tensors["kernel"] for node in spec.nodes if node.op == "conv2d"]
    assert len(kernels) == len(spec.outputs) == 3
    assert not np.array_equal(kernels[0], kernels[1])


def test_a_layer_is_held_against_what_limits_it():
    limits = roof.Roof(2, 100e9, ((1000, 50e9), (10**6, 10e9)))
    assert limits.rate(1000) == 50e9
    assert limits.rate(1001) == limits.rate(10**9) == 10e9
    assert limits.seconds(200e9, 10e9, 10**9) == (2.0, "multiply-adds")
    assert limits.seconds(50e9, 10e9, 10**9) == (1.0, "memory")


def test_layer_facts():
    row = SimpleNamespace(
        layer="a",
        op="conv2d",
        shape=(2, 2, 4),
        out_shape=(2, 2, 8),
        density=0.25,
        why="so",
        macs_nominal=1000,
        macs_kept=250,
        macs_executed=200,
        bytes=64,
    )
    profile = {"batch": 3, "layers": [{"seconds": 1e-6, "share": 0.5, "kernel": "k"}]}
    limits = roof.Roof(1, 2.4e9, ((10**6, 1e12),))
    (found,) = layers.layer_facts([row], profile, None, limits, 8)
    assert found["real_gflops"] == pytest.approx(2 * 3 * 200 / 1e-6 / 1e9)
    assert found["dense_equivalent_gflops"] == pytest.approx(2 * 3 * 1000 / 1e-6 / 1e9)
    assert found["moved_bytes"] == 3 * 4 * (16 + 32) + 64
    assert found["limited_by"] == "multiply-adds"
    assert found["share_of_roof"] == pytest.approx(0.5)
    (bare,) = layers.layer_facts([row], profile, None, None, 8)
    assert bare["share_of_roof"] is None


def test_the_roof_is_measured(monkeypatch):
    monkeypatch.setattr(roof, "TRY_S", 1e-3)
    monkeypatch.setattr(roof, "SIZES", (16 * 2**10, 256 * 2**10))
    found = roof.measure(2)
    if not COMPILED:
        assert found is None
        return
    assert 0 < found.flops < 1e14
    assert [size for size, _ in found.bytes_per_s] == [16 * 2**10, 256 * 2**10]
    assert all(0 < rate < 1e14 for _, rate in found.bytes_per_s)


def test_the_roofs_kernels_do_the_work_they_count():
    x = np.zeros(roof.CHAINS * roof.LANES, np.float32)
    roof.multiply(0, 3, x)
    assert (x == 0.25 * (1 + 0.5 + 0.25)).all()
    width = len(roof.READ) * roof.LANES
    numbers, sums = np.arange(4 * width, dtype=np.float32), np.zeros(2 * width, np.float32)
    roof.read(1, 2, 2 * width, numbers, sums)
    assert (sums[:width] == 0).all()
    assert (sums[width:] == 2 * (numbers[2 * width : 3 * width] + numbers[3 * width :])).all()


def test_a_summary_tells_the_middle_and_the_range():
    found = Summary.of([float(i) for i in range(1, 102)])
    assert (found.low_s, found.median_s, found.high_s, found.count) == (6.0, 51.0, 96.0, 101)


def test_hardware_cores_come_first(tmp_path):
    for core, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        folder = tmp_path / f"cpu{core}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings + "\n")
    assert pinning.hardware_first([0, 1, 2, 3], tmp_path) == [0, 1, 2, 3]
    assert pinning.hardware_first([0, 2, 3], tmp_path) == [0, 3, 2]
    assert pinning.hardware_first([5, 6], tmp_path) == [5, 6]


def test_pinning_keeps_to_as_many_cores_as_threads():
    assert pinning.cores_for("none", 99) == []
    assert len(pinning.cores_for("core", 1)) == 1
    with pytest.raises(modelfile.InputError, match=r"--pin core: expected at most [0-9]+ threads, got 9999"):
        pinning.cores_for("core", 9999)


@pytest.mark.parametrize("told", ["throttled_usec 2500000", "throttled_time 2500000000"], ids=["v2", "v1"])
def test_throttling_is_that_of_the_group_held_back_most(told, tmp_path):
    groups = [tmp_path / name for name in ("inner", "outer", "gone")]
    assert machine.throttled_s(groups) == 0.0
    for group, text in zip(groups, (f"nr_throttled 3\n{told}\n", "nr_periods 0\n"), strict=False):
        group.mkdir()
        (group / "cpu.stat").write_text(text)
    assert machine.throttled_s(groups) == 2.5


def test_other_load_is_what_our_processes_did_not_do(monkeypatch):
    busy, own = iter([10.0, 16.0]), {1: iter([2.0, 5.0]), 2: iter([1.0])}
    clock = iter([100.0, 102.0])
    monkeypatch.setattr(machine, "_busy_s", lambda: next(busy))
    monkeypatch.setattr(machine, "cpu_s", lambda process: next(own[process]))
    monkeypatch.setattr(machine.time, "perf_counter", lambda: next(clock))
    load = machine.OtherLoad([1])
    assert load.cores([1, 2]) == pytest.approx((6.0 - 3.0 - 1.0) / 2.0)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc: what a process took is not known")
def test_what_a_process_took_is_known():
    began, before = time.process_time(), machine.cpu_s(os.getpid())
    while time.process_time() - began < 0.1:
        pass
    assert machine.cpu_s(os.getpid()) - before == pytest.approx(time.process_time() - began, abs=0.05)
    assert machine.cpu_s(2**30) == 0.0


def test_the_commit_is_that_of_a_checkout_alone(tmp_path):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=b"]
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "installed").mkdir()
    assert machine.commit(tmp_path / "installed") is None
    stored = tmp_path / "benchmarks" / "results" / "speed.json"
    stored.parent.mkdir(parents=True)
    for path in (tmp_path / "a", stored):
        path.write_text("1")
    subprocess.run([*git, "add", "a", "benchmarks"], check=True)
    subprocess.run([*git, "commit", "-qm", "a"], check=True)
    clean = machine.commit(tmp_path)
    assert re.fullmatch("[0-9a-f]{40}", clean)
    stored.write_text("2")
    assert machine.commit(tmp_path) == machine.commit(stored.parent) == clean, "results are no change"
    (tmp_path / "a").write_text("2")
    assert machine.commit(tmp_path) == clean + "+changes"
    assert machine.commit(tmp_path / "installed") is None
    assert machine.commit(tmp_path / "gone") is None


def test_the_way_from_core_to_core_is_measured():
    found = ping.measure()
    if not (COMPILED and hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) > 1):
        assert found is None
    else:
        assert 1 < found.nearest_ns <= found.farthest_ns < 1e6


def test_cores_hand_a_number_over_in_turns():
    if not COMPILED:
        pytest.skip("nothing is compiled: a thread that spins would keep the interpreter to itself")
    flag = np.zeros(ping.LINE, np.int64)
    with ThreadPoolExecutor(2) as pool:
        sides = [pool.submit(ping.hand_over, flag, parity, 10) for parity in (0, 1)]
        assert all(side.result() > 0 for side in sides)
    assert flag[0] == 20


def test_layers_are_held_against_those_of_the_dense_twin():
    dense = [{"layer": name, "seconds": s} for name, s in (("c", 3.0), ("p", 1.0), ("d+r+q", 5.0))]
    assert layers.dense_seconds("c", dense) == 3.0
    assert layers.dense_seconds("c+p", dense) == 4.0  # the dense twin pools apart
    assert layers.dense_seconds("d+r", dense) is None  # or together, and nobody knows the layer's part
    assert layers.dense_seconds("c", ()) is None
