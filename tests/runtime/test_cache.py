"""Where compiled code is kept: for exactly the sources it was made from, by several processes at once, or nowhere."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from numba.core import caching

from lhc_ref.errors import InputError
from runtime import cli
from runtime.commands import warmup
from runtime.kernels import dispatch, engine, options, team
from tests.runtime.nets import needs_compiled

ROOT = Path(__file__).parents[2]
KEPT = [*dispatch.TASKS, engine.run_alone, team.make_bells, team.share, team.serve, team.stop]


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
def test_warmup_says_where_kernels_are_kept_or_refuses(monkeypatch, capsys):
    monkeypatch.setattr(warmup, "compile_all", lambda: 1.0)
    assert cli.main(["warmup"]) == 0
    assert capsys.readouterr().out.endswith(f"ready after 1.0 s, kept in {engine.run_alone.stats.cache_path}\n")
    assert Path(warmup.kept_in()).is_dir()
    with monkeypatch.context() as nowhere:
        nowhere.setattr(caching.CacheImpl, "_locator_classes", [])
        monkeypatch.setattr(warmup, "run_alone", options.entry_kernel(lambda x: x + 1))
    with pytest.raises(InputError, match=r"expected a folder that can be written, got none\. .*NUMBA_CACHE_DIR"):
        cli.main(["warmup"])


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
    return out


@needs_compiled
@pytest.mark.long
def test_processes_that_start_at_once_without_a_cache_all_succeed(tmp_path):
    outputs = [result(process) for process in [start(tmp_path) for _ in range(3)]]
    assert len(set(outputs)) == 1
    assert result(start(tmp_path)) == outputs[0]


@needs_compiled
@pytest.mark.long
def test_a_change_in_any_kernel_file_is_compiled_anew(tmp_path):
    """`conv.py` is not the file of any kept kernel, and its time and size stay as they were."""
    root, folder = tmp_path / "copy", tmp_path / "cache"
    for package in ("runtime", "lhc_ref"):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    before = result(start(folder, root))
    path = root / "runtime" / "kernels" / "conv.py"
    times, text = path.stat(), path.read_text()
    clamp = 'acc = clamp_tile(acc, step["low"], step["high"])'
    assert clamp in text
    path.write_text(text.replace(clamp, clamp.replace('"high"', '"low" ')))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert result(start(folder, root)) != before
