"""Every GPU kernel compiled for three architectures without a GPU, and what the assembler says of it.

Registers and spills may not grow unnoticed: the table is kept by the version of PTX that the compiler writes, and
renewed by ``python -m benchmarks.gpu_resources --write``.
"""

import json
import warnings

import pytest
from numba.core import config

from benchmarks import gpu_resources as tool
from runtime.cuda.registry import ENTRIES

QUICK = "f32_conv2d_hwcn_rows_4x16w4s2__cuda"
CASES = [
    pytest.param(
        *(entry, storage, architecture),
        id=f"{entry.name(storage)} sm_{architecture}",
        marks=() if entry.name(storage) == QUICK else pytest.mark.long,
    )
    for entry in ENTRIES
    for storage in tool.STORAGES
    for architecture in tool.ARCHITECTURES
]
KEPT = json.loads(tool.TABLE.read_text())


@pytest.mark.skipif(bool(config.ENABLE_CUDASIM), reason="the simulator compiles nothing")
@pytest.mark.parametrize(("entry", "storage", "architecture"), CASES)
def test_kernel(entry, storage, architecture):
    try:
        version, found = tool.measure(entry, storage, architecture)
    except tool.MissingToolError as error:
        pytest.skip(f"nothing compiles for GPUs here, make ptx installs it: {error}")
    assert found["shared_bytes"] <= 48 * 1024 + 1024  # and what the system keeps for itself
    if version not in KEPT:
        warnings.warn(
            f"PTX {version}: no table of registers is kept. Run benchmarks.gpu_resources --write", stacklevel=1
        )
        return
    kept = KEPT[version][f"{entry.name(storage)} sm_{architecture}"]
    assert found["registers"] <= kept["registers"]
    assert found["spilled_bytes"] <= kept["spilled_bytes"]


def test_the_table_is_whole():
    names = {
        f"{entry.name(storage)} sm_{a}" for entry in ENTRIES for storage in tool.STORAGES for a in tool.ARCHITECTURES
    }
    for table in KEPT.values():
        assert set(table) == names
        spilled = {name: found["spilled_bytes"] for name, found in table.items()}
        assert not any(size for name, size in spilled.items() if name.endswith("sm_90"))


@pytest.mark.parametrize(
    ("log", "want"),
    [
        (
            "0 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads\nUsed 40 registers, 128 bytes smem",
            (40, 12, 128),
        ),
        (
            "64 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\nUsed 9 registers",  # an array in memory
            (9, 64, 0),
        ),
        ("0 bytes spill stores, 0 bytes spill loads\nptxas info : Used 9 registers, used 1 barriers", (9, 0, 0)),
    ],
)
def test_logs_are_read(log, want):
    assert tuple(tool.resources(log).values()) == want


def test_a_log_without_figures_is_an_error():
    with pytest.raises(RuntimeError, match="assembler: expected registers and spills in its log, got: fatal"):
        tool.resources("fatal")
