"""How many cores there are for us: affinity and quotas."""

import os
from pathlib import Path

import numba
import numpy as np
import pytest

from lhc_ref.errors import InputError
from runtime import threads
from tests.runtime.nets import needs_compiled


@pytest.fixture
def machine(monkeypatch):
    """Sets the cores, and the files that tell of quotas, by path without the first slash."""

    def set_up(cores, files=()):
        threads.quota_cores.cache_clear()
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)

        def read_text(path):
            if str(path)[1:] not in files:
                raise FileNotFoundError(path)
            return files[str(path)[1:]]

        monkeypatch.setattr(Path, "read_text", read_text)

    yield set_up
    threads.quota_cores.cache_clear()


V2, QUOTA, PERIOD = (f"sys/fs/cgroup/{name}" for name in ("cpu.max", "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))


@pytest.mark.parametrize(
    ("cores", "files", "want"),
    [
        (8, {}, 8),
        (8, {V2: "max 100000\n"}, 8),
        (8, {V2: "200000 100000\n"}, 2),
        (8, {V2: "150000 100000\n"}, 2),  # one and a half cores keep two threads busy
        (8, {V2: "10000 100000\n"}, 1),
        (1, {V2: "400000 100000\n"}, 1),
        (8, {V2: "", QUOTA: "300000\n", PERIOD: "100000\n"}, 3),
        (8, {QUOTA: "300000\n", PERIOD: "100000\n"}, 3),
        (8, {QUOTA: "-1\n", PERIOD: "100000\n"}, 8),
    ],
)
def test_affinity_and_quota_are_respected(machine, cores, files, want):
    machine(cores, files)
    assert threads.available_cores() == want


def test_without_affinity_all_cores_count(machine, monkeypatch):
    machine(8)
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(threads, "machine_cores", lambda: 6)
    assert threads.available_cores() == 6


@pytest.mark.parametrize(
    ("inner", "outer", "want"), [("200000", "300000", 2), ("300000", "200000", 2), ("max", "400000", 4)]
)
def test_quotas_of_outer_control_groups_count(machine, inner, outer, want):
    groups = {"pod/me": inner, "pod": outer}
    files = {f"sys/fs/cgroup/{group}/cpu.max": f"{quota} 100000\n" for group, quota in groups.items()}
    machine(8, files | {"proc/self/cgroup": "0::/pod/me\n"})
    assert threads.available_cores() == want
    first = {f"sys/fs/cgroup/cpu/{group}/cpu.cfs_period_us": "100000\n" for group in groups}
    for group, quota in groups.items():
        first[f"sys/fs/cgroup/cpu/{group}/cpu.cfs_quota_us"] = quota.replace("max", "-1") + "\n"
    machine(8, first | {"proc/self/cgroup": "7:memory:/other\n6:cpuacct,cpu:/pod/me\n"})
    assert threads.available_cores() == want


def test_the_quota_is_read_once(machine, monkeypatch):
    machine(8, {V2: "200000 100000\n"})
    assert threads.available_cores() == 2
    monkeypatch.setattr(Path, "read_text", None)
    assert threads.available_cores() == 2


@needs_compiled
def test_a_request_is_limited_by_the_machine(machine):
    machine(3)
    assert threads.resolve(None) == min(3, threads.machine_cores())
    assert threads.resolve(1) == 1
    assert threads.resolve(10**6) == threads.machine_cores()


@pytest.mark.skipif(not numba.config.DISABLE_JIT, reason="kernels are compiled here")
def test_without_compilation_there_is_one_thread():
    assert threads.resolve(None) == threads.resolve(4) == 1


@pytest.mark.parametrize("wrong", [0, -1, 2.0, True, "2", np.float32(2)])
def test_a_wrong_number_is_named(wrong):
    with pytest.raises(InputError, match=r"^threads: expected a whole number of at least 1, got .+\. Leave it out"):
        threads.resolve(wrong)
