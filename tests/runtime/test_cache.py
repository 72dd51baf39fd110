"""Where compiled code is kept: for exactly the sources it was made from, by several processes at once, or nowhere. And
what is told when there is none yet.
"""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import pytest
from numba.core import caching, event

import runtime
from lhc_ref.errors import InputError
from runtime import cli, kernel_cache
from runtime.commands import warmup
from runtime.kernel_cache import KEPT
from runtime.kernels import dispatch, engine, options, team
from tests.runtime.nets import needs_compiled

ROOT = Path(__file__).parents[2]


@pytest.fixture
def caches():
    """Where kernels are kept stays as it was."""
    before = [kernel._cache for kernel in KEPT]
    yield
    for kernel, cache in zip(KEPT, before, strict=True):
        kernel._cache = cache


@pytest.fixture
def unwritable(monkeypatch):
    """No folder can be written, whoever runs the tests."""

    def refuse(locator):
        raise PermissionError(locator.get_cache_path())

    monkeypatch.setattr(caching._CacheLocator, "ensure_cache_path", refuse)


@needs_compiled
def test_every_kernel_that_python_calls_is_kept():
    named = {id(one) for module in (engine, team) for one in vars(module).values() if is_kept(one)}
    assert {id(kernel) for kernel in KEPT} == named | {id(task) for task in dispatch.TASKS}


def is_kept(value):
    return isinstance(getattr(value, "_cache", None), caching.FunctionCache)


def test_the_stamp_knows_every_source(tmp_path):
    folder = tmp_path / "kernels"
    shutil.copytree(ROOT / "runtime" / "kernels", folder, ignore=shutil.ignore_patterns("__pycache__"))
    assert options.source_stamp(folder) == options.SOURCES == options.source_stamp()
    for path in sorted(folder.glob("*.py")):
        before = path.read_bytes()
        path.write_bytes(before + b"\n")
        assert options.source_stamp(folder) != options.SOURCES, path
        path.write_bytes(before)
    (folder / "more.py").write_text("new = 1\n")
    assert options.source_stamp(folder) != options.SOURCES


@needs_compiled
def test_every_kept_kernel_is_kept_for_these_sources():
    for kernel in KEPT:
        assert kernel._cache._cache_file._source_stamp == options.SOURCES


@needs_compiled
def test_where_nothing_can_be_written_kernels_are_compiled_and_not_kept(monkeypatch):
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    assert options.entry_kernel(lambda x: x + 1)(2) == 3


@needs_compiled
def test_warmup_says_where_kernels_are_kept_or_refuses(monkeypatch, capsys, caches):
    monkeypatch.setattr(warmup, "compile_all", lambda: 1.0)
    assert cli.main(["warmup"]) == 0
    assert capsys.readouterr().out.endswith(f"ready after 1.0 s, kept in {engine.run_alone.stats.cache_path}\n")
    assert Path(kernel_cache.kept_in()).is_dir()
    for kernel in KEPT:
        kernel._cache = caching.NullCache()
    with pytest.raises(InputError, match=r"expected a folder that can be written, got none\. .*NUMBA_CACHE_DIR"):
        cli.main(["warmup"])


@needs_compiled
def test_a_folder_for_kernels_can_be_named(tmp_path, monkeypatch, capsys, caches):
    monkeypatch.setattr(warmup, "compile_all", lambda: 1.0)
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    folder = tmp_path / "kernels"
    assert cli.main(["warmup", "--cache-dir", str(folder)]) == 0
    assert f"kept in {folder}" in capsys.readouterr().out
    assert Path(kernel_cache.kept_in()).is_relative_to(folder)
    assert all(kernel._cache._cache_file._source_stamp == options.SOURCES for kernel in KEPT)
    assert os.environ["NUMBA_CACHE_DIR"] == str(folder), "it is for the processes of bench as well"


@pytest.mark.parametrize("command", ["predict", "eval", "verify", "profile", "trial", "bench", "warmup"])
def test_every_command_that_runs_nets_can_be_told_the_folder(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    assert "--cache-dir DIR" in capsys.readouterr().out


def test_a_folder_without_a_name_is_refused(caches):
    with pytest.raises(InputError, match=r"^--cache-dir: expected a folder, got ''\."):
        cli.main(["warmup", "--cache-dir", ""])


@needs_compiled
def test_kernels_are_taken_from_a_folder_that_cannot_be_written(tmp_path, caches, unwritable):
    kept = Path(kernel_cache.kept_in())
    shutil.copytree(kept, tmp_path / "kernels" / caching._CacheLocator.get_suitable_cache_subpath(dispatch.__file__))
    runtime.keep_kernels_in(tmp_path / "kernels")
    assert kernel_cache.kept_in() is None
    for kernel in KEPT:
        for signature, code in kernel.overloads.items():
            assert kernel._cache.load_overload(signature, kernel.targetctx) is not None
            kernel._cache.save_overload(signature, code)


@needs_compiled
def test_a_folder_without_kernels_that_cannot_be_written_is_refused(tmp_path, caches, unwritable):
    before = [kernel._cache for kernel in KEPT]
    with pytest.raises(InputError, match=r"kernels: expected a folder that can be written, or that holds compiled"):
        runtime.keep_kernels_in(tmp_path / "kernels")
    assert [kernel._cache for kernel in KEPT] == before


def one_more(x):
    return x + 1


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Makes kernels of one small function, each as a new process would, that are kept in a new folder."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))

    def make():
        made = numba.njit(one_more)
        made._cache = kernel_cache._cache(made)
        return made

    return make


@needs_compiled
@pytest.mark.parametrize("left", [0, 40])
@pytest.mark.parametrize("ending", ["nbi", "nbc"])
def test_damaged_code_is_compiled_anew_and_replaced(ending, left, small, tmp_path):
    assert small()(1) == 2
    (path,) = tmp_path.rglob(f"*.{ending}")
    path.write_bytes(path.read_bytes()[:left])
    for hits in (0, 1):
        kernel = small()
        assert kernel(1) == 2
        assert sum(kernel.stats.cache_hits.values()) == hits


@needs_compiled
def test_kernels_run_where_the_disk_is_full(small, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(caching.IndexDataCacheFile, "_open_for_write", refuse)
    assert small()(1) == 2
    assert f"cannot be kept in {small()._cache.cache_path}: No space left on device" in caplog.text


@needs_compiled
def test_every_kept_kernel_survives_damaged_code():
    assert all(isinstance(kernel._cache, kernel_cache._Kept) for kernel in KEPT)


@pytest.fixture
def notice():
    """A listener that has told nothing yet, while no other listens."""
    event.unregister("numba:compile", kernel_cache._notice)
    with event.install_listener("numba:compile", kernel_cache._Notice()):
        yield
    event.register("numba:compile", kernel_cache._notice)


def kernel_of_ours():
    """A function that is not compiled yet and counts as one of our kernels."""

    def function(x):
        return x + 1

    function.__module__ = "runtime.kernels.test"
    return numba.njit(function)


@needs_compiled
def test_that_kernels_are_compiled_is_told_once(notice, caplog):
    numba.njit(lambda x: x + 1)(1)
    assert not caplog.records
    kernel_of_ours()(1)
    kernel_of_ours()(2)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("runtime", "WARNING")
    assert f"in less than a minute; later runs take them from {kernel_cache.kept_in()}." in record.message


@needs_compiled
def test_compiling_without_a_place_to_keep_it_says_what_to_do(notice, caplog, caches):
    for kernel in KEPT:
        kernel._cache = caching.NullCache()
    kernel_of_ours()(1)
    assert "every process does so, for no cache folder can be written" in caplog.text


RUN = """
import numpy as np
from runtime.model import Model
from lhc_ref.modelfile import InputSpec, ModelSpec, Node
kernel = np.arange(9 * 2 * 40, dtype=np.float32).reshape(3, 3, 2, 40) % 7 - 3
node = Node("conv2d", "conv", ("x",), "y", {"padding": "same"}, {"kernel": kernel})
model = Model(ModelSpec((InputSpec("x", (9, 9, 2)),), ("y",), (node,)))
for batch in (1, 16, 33):
    x = np.arange(batch * 162, dtype=np.float32).reshape(batch, 9, 9, 2) % 5
    print(float(model.run(x, threads=2).astype(np.float64).sum()))
"""


def start(folder, root=ROOT):
    """A process that runs a small net on kernels kept in `folder`."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder), "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", RUN], cwd=root, env=environment, text=True, **pipes)


def result(process):
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out, err


@needs_compiled
@pytest.mark.long
def test_processes_that_start_at_once_without_a_cache_all_succeed(tmp_path):
    outputs = [result(process) for process in [start(tmp_path) for _ in range(3)]]
    assert len({out for out, _ in outputs}) == 1
    assert all(err.count("lhc: compiling kernels") == 1 for _, err in outputs)
    assert result(start(tmp_path)) == (outputs[0][0], "")


@needs_compiled
@pytest.mark.long
def test_a_change_in_any_kernel_file_is_compiled_anew(tmp_path):
    """`conv.py` is not the file of any kept kernel, and its time and size stay as they were."""
    root, folder = tmp_path / "copy", tmp_path / "cache"
    for package in ("runtime", "lhc_ref"):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    before, _ = result(start(folder, root))
    path = root / "runtime" / "kernels" / "conv.py"
    times, text = path.stat(), path.read_text()
    clamp = 'acc = clamp_tile(acc, step["low"], step["high"])'
    assert clamp in text
    path.write_text(text.replace(clamp, clamp.replace('"high"', '"low" ')))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert result(start(folder, root))[0] != before
