"""The demonstration: it runs from end to end, its table says what was measured, and broken promises make it fail."""

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import demo, patterns, reasons, training
from lhc_ref import modelfile
from lhc_ref.errors import LhcError
from lhc_ref.modelfile import MaskedKernel
from runtime.bench import machine, timing
from runtime.commands import verify
from runtime.facts import LayerFacts
from tests.runtime.conftest import compiled  # noqa: F401 - before the first test: one process at a time compiles

QUICK = "--model golden --groups 4,4 --epochs-coarse 3 --epochs-fine 1 --enable-epochs 1 --ramp-epochs 1"


def run_demo(folder, *options):
    """(exit code, what is printed) of a demonstration with few images and hardly any training."""
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    x = rng.normal(size=(120, 8, 8, 1)) + 2 * y[:, None, None, None]
    np.savez(folder / "images.npz", x=x, y=y)
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        arguments = ["--out", str(folder / "out"), "--data", str(folder / "images.npz"), "--train", QUICK, *options]
        return demo.main(arguments), shown.getvalue()


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder and the printed text of a demonstration that was run twice."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "TIMING_S", 0.01)
        assert run_demo(folder)[0] == 0
        status, text = run_demo(folder)
    assert status == 0
    return folder / "out", text


def cell(text, row, column):
    """A cell of the printed table."""
    line = next(line for line in text.splitlines() if line.startswith(row))
    return line[len(row) :].split()[column]


def test_it_leaves_all_results(done):
    out, _ = done
    names = {path.name for path in out.iterdir()}
    pairs = {f"{kind}-0{ending}" for kind in ("dense", "lhc") for ending in ("", ".lhc", ".npy")}
    assert names == pairs | {"test.npz", "patterns.png", "results.json"}


def test_it_shows_each_command(done):
    out, text = done
    for command in (
        f"$ OPENBLAS_NUM_THREADS=1 lhc-ref train --out {out / 'lhc-0'} ",
        f"$ lhc-ref export {out / 'dense-0'} {out / 'dense-0.lhc'}\n",
        f"$ lhc-run predict {out / 'lhc-0.lhc'} {out / 'test.npz'} -o {out / 'lhc-0.npy'}\n",
        f"$ lhc-run verify {out / 'lhc-0.lhc'} {out / 'test.npz'} --json\ninside: ",
    ):
        assert command in text
    assert text.splitlines()[-1].startswith("Total time: ")


def test_the_table_says_what_was_measured(done):
    out, text = done
    results = json.loads((out / "results.json").read_text())
    with np.load(out / "test.npz") as data:
        labels = data["y"]
    for column, name in enumerate(("dense-0", "lhc-0")):
        figures = results["nets"][name]
        accuracy = (np.load(out / f"{name}.npy").argmax(1) == labels).mean()
        assert figures["accuracy"] == accuracy == pytest.approx(figures["accuracy_of_reference"])
        assert cell(text, "test accuracy", column) == f"{accuracy:.2%}"
        assert cell(text, "file, bytes", column) == f"{(out / f'{name}.lhc').stat().st_size:,}"
    spec = modelfile.load(out / "lhc-0.lhc")
    kernels = [node.tensors["kernel"] for node in spec.nodes if isinstance(node.tensors.get("kernel"), MaskedKernel)]
    density = sum(k.kept for k in kernels) / sum(int(np.prod(k.shape)) for k in kernels)
    assert cell(text, "density of the layers that learn it", 1) == f"{density:.3f}"
    dense_weights = 3 * 3 * (8 + 8 * 12 + 12 * 10) + 10 * 3 + 8 + 12 + 10 + 3
    dropped = sum(int(np.prod(k.shape)) - k.kept for k in kernels)
    assert cell(text, "weights in the file", 0) == f"{dense_weights:,}"
    assert cell(text, "weights in the file", 1) == f"{dense_weights - dropped:,}"
    for batch in ("64", "1"):
        measured = results["timing"]["batches"][batch]
        for kind, samples in measured["samples_s"].items():
            assert len(samples) >= timing.LEAST_ROUNDS
            assert measured["median_s"][kind] == np.median(samples)
        assert f"Batch {batch}: LHC is " in text
    assert {"cpu", "cores", "threads", "numpy", "numba", "python", "commit"} <= results["machine"].keys()
    assert results["failures"] == []


def test_the_picture_can_be_opened(done):
    with Image.open(done[0] / "patterns.png") as image:
        assert min(image.size) > 300


def test_a_wrong_answer_fails_it(tmp_path, monkeypatch):
    run = verify.OneWay.run

    def faulty(self, x, **options):
        made = run(self, x, **options)
        for values in made.values() if isinstance(made, dict) else [made]:
            values[3] += 1e-2
        return made

    monkeypatch.setattr(demo, "TIMING_S", 0.01)
    monkeypatch.setattr(verify.OneWay, "run", faulty)
    status, text = run_demo(tmp_path)
    assert status == 1
    assert "OUTSIDE" in text
    assert "FAILED: lhc-0: outside the bounds" in text


# --- several seeds ---------------------------------------------------------------------------------------------------


def figures_of(dense, lhc, density):
    """Figures of seeds 0, 1, 2 by their accuracies and densities."""
    pairs = zip(range(3), dense, lhc, density, strict=True)
    return [
        one
        for seed, d, s, share in pairs
        for one in (
            {"kind": "dense", "seed": seed, "accuracy": d, "density": 1.0},
            {"kind": "lhc", "seed": seed, "accuracy": s, "density": share},
        )
    ]


@pytest.mark.parametrize(
    ("dense", "lhc", "density", "failures"),
    [
        ((0.97, 0.98, 0.99), (0.96, 0.97, 0.98), (0.15, 0.12, 0.1), []),
        ((0.98, 0.969, 0.98), (0.99,) * 3, (0.1,) * 3, ["seed 1: dense accuracy 96.90%, less than 97%"]),
        ((0.98,) * 3, (0.98,) * 3, (0.1, 0.1, 0.151), ["seed 2: density 0.1510, more than 0.15"]),
        ((0.99,) * 3, (0.979, 0.98, 0.98), (0.1,) * 3, ["mean gap 1.03 points, more than 1"]),
        ((0.98,) * 3, (np.nan, 0.98, 0.98), (0.1,) * 3, ["mean gap nan points, more than 1"]),
    ],
)
def test_promises_of_several_seeds(dense, lhc, density, failures):
    lines, found = demo.judge(figures_of(dense, lhc, density))
    assert found == failures
    for seed in range(3):
        assert lines[seed + 1].split()[:4] == [
            str(seed), f"{dense[seed]:.2%}", f"{lhc[seed]:.2%}", f"{density[seed]:.4f}"
        ]  # fmt: skip
    assert lines[-1].startswith("mean gap: ")


def test_several_seeds_from_end_to_end(tmp_path, monkeypatch):
    """The promises are far out of reach of so little training: said, and exit code 1."""
    monkeypatch.setattr(demo, "TIMING_S", 0.01)
    monkeypatch.setattr(demo, "LARGEST_DENSITY", 0.0)
    status, text = run_demo(tmp_path, "--seeds", "0", "1")
    assert status == 1
    assert "FAILED: seed 0: density" in text
    assert "FAILED: seed 1: density" in text
    assert {"dense-1.lhc", "lhc-1.lhc"} <= {path.name for path in (tmp_path / "out").iterdir()}


# --- its parts -------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious").write_text("mine")
    with pytest.raises(LhcError, match="expected no folder, or that of an earlier run"):
        training.train_all([training.Training(tmp_path / "run", ())])
    assert (tmp_path / "run" / "precious").read_text() == "mine"


def test_a_failed_training_is_told_in_its_own_words(tmp_path, capsys):
    with pytest.raises(LhcError, match=r"lhc-ref train .*--data none\.npz: .*got no such file"):
        training.train_all([training.Training(tmp_path / "run", ("--data", "none.npz"))])


def test_timing_takes_turns():
    calls = []
    samples = timing.interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 0.0)
    warm = timing.WARM_UPS
    assert calls == ["a"] * warm + ["b"] * warm + ["a", "b"] * timing.LEAST_ROUNDS
    assert [len(times) for times in samples.values()] == [timing.LEAST_ROUNDS] * 2


def test_other_load_is_a_number_of_cores():
    assert 0 <= machine.busy_cores(0.05) <= 4096


LAYER = LayerFacts("conv1", "conv2d", (8, 8, 1), (8, 8, 8), "k", "6x4", "scattered", 0.1, 0, 0, 0, 0, 1000.0, 0, ())
POOL = replace(LAYER, layer="pool", op="max_pool", density=None)


def reasons_for(lhc_cycles, pool_cycles, dense_s, nothing_s):
    rows = {
        "dense": [replace(LAYER, density=1.0, predicted_cycles=8000.0), replace(POOL, predicted_cycles=pool_cycles)],
        "lhc": [replace(LAYER, predicted_cycles=lhc_cycles), replace(POOL, predicted_cycles=pool_cycles)],
    }
    return "\n".join(reasons.explain(1, {"dense": dense_s, "lhc": 1e-3, "nothing": nothing_s}, rows))


def test_reasons_of_a_faster_net():
    text = reasons_for(1000.0, 100.0, dense_s=3e-3, nothing_s=1e-4)
    assert "Batch 1: LHC is 3.00x faster. Its layers take 7.36x fewer cycles" in text
    assert "conv1 (91%, density 0.10, 8.0x fewer than dense), pool (9%, 1.0x fewer than dense)" in text
    assert "Why not" not in text


@pytest.mark.parametrize(
    ("lhc_cycles", "pool_cycles", "nothing_s", "reason"),
    [
        (1000.0, 100.0, 8e-4, "80% of its time is what any run costs on images this small"),
        (1000.0, 3000.0, 1e-4, "75% of its cycles are in layers without masks"),
        (7900.0, 100.0, 1e-4, "its layers would not be faster by themselves; conv1: scattered."),
        (1000.0, 100.0, 1e-4, "the plan promises more than was measured"),
    ],
)
def test_reasons_of_a_net_that_is_not_faster(lhc_cycles, pool_cycles, nothing_s, reason):
    text = reasons_for(lhc_cycles, pool_cycles, dense_s=1e-3, nothing_s=nothing_s)
    assert "LHC is NOT faster (1.00x)" in text
    assert text.count("Why not: ") == 1
    assert f"Why not: {reason}" in text


def test_mosaic_shows_each_tap():
    mask = np.random.default_rng(0).random((3, 2, 4, 5)) < 0.5
    picture = patterns.mosaic(mask)
    kh, kw, down, across = mask.shape
    height, width = kh * patterns.TAP_PIXELS + patterns.GAP_PIXELS, kw * patterns.TAP_PIXELS + patterns.GAP_PIXELS
    assert picture.shape == (down * height, across * width, 3)
    for ky, kx, gi, go in np.ndindex(mask.shape):
        middle = patterns.GAP_PIXELS // 2 + patterns.TAP_PIXELS // 2
        row, column = gi * height + ky * patterns.TAP_PIXELS + middle, go * width + kx * patterns.TAP_PIXELS + middle
        assert tuple(picture[row, column]) == tuple(patterns.COLOURS[int(mask[ky, kx, gi, go])])


def a_kernel(c_in, c_out, group, seed=0):
    kernel = np.ones((5, 1, c_in, c_out), np.float32)
    mask = np.random.default_rng(seed).random((5, 1, -(-c_in // group), -(-c_out // group))) < 0.5
    return MaskedKernel.from_dense(kernel, mask, group, group)


@pytest.mark.parametrize("group", [1, 8, 64])
def test_pictures_of_other_nets(tmp_path, group):
    patterns.draw({"a layer": a_kernel(20, 130, group), "another": a_kernel(3, 4, 1)}, tmp_path / "p.png", "title")
    with Image.open(tmp_path / "p.png") as image:
        assert image.format == "PNG"


def test_layers_stand_in_rows():
    most = patterns.ROW_PATTERNS
    kernels = {
        "a": a_kernel(1, 2, 1),
        "b": a_kernel(1, most - 2, 1),
        "c": a_kernel(1, 2 * most, 1),
        "d": a_kernel(1, 1, 1),
    }
    assert patterns._rows(kernels) == [["a", "b"], ["c"], ["d"]]


def test_masks_come_back_from_json():
    kernels = {name: a_kernel(20, 13, group) for name, group in (("a", 1), ("b", 8))}
    again = patterns.from_json(json.loads(json.dumps(patterns.to_json(kernels))))
    for name, kernel in kernels.items():
        assert np.array_equal(again[name].mask, kernel.mask)
        assert (again[name].shape, again[name].group_in, again[name].kept) == (
            kernel.shape,
            kernel.group_in,
            kernel.kept,
        )


def test_the_folder_of_the_demonstration_is_ignored_by_git():
    assert "build" in (Path(demo.__file__).parents[1] / ".gitignore").read_text().replace("/", "").split()
