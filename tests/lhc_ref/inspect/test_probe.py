import json
from itertools import pairwise

import numpy as np
import pytest

from lhc_ref import cli, mask_history, modelfile, runs
from lhc_ref.errors import CheckpointError, LhcError
from lhc_ref.inspect import plots as probe_plots
from lhc_ref.inspect import probe
from lhc_ref.inspect import text as probe_text
from lhc_ref.mask_history import Snapshot, correlation, iou, overlap
from tests import oracle
from tests.lhc_ref.training_cases import bars, small_config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe")
    runs.train(small_config(bars(folder / "bars.npz"), groups=(4, 3)), folder / "run", show=False)
    modelfile.save(folder / "net.lhc", runs.to_spec(folder / "run"))
    return folder / "run"


def test_the_census_counts_pairs_of_channels_and_sorts_by_taps():
    """Two by two groups of a 1x2 window; 3 + 2 input and 4 + 1 output channels."""
    groups = np.zeros((1, 2, 2, 2), bool)
    groups[0, 1, 0, 0] = groups[0, :, 1, 1] = groups[0, 1, 1, 0] = True
    pairs = np.outer([3, 2], [4, 1])
    found = probe.census(groups, pairs)
    assert [(p.picture, p.taps, p.groups, p.pairs) for p in found] == [
        ("..", 0, 1, 3),
        (".#", 1, 2, 20),
        ("##", 2, 1, 2),
    ]
    assert sum(p.share for p in found) == pytest.approx(1)


def test_a_run_and_its_file_hold_the_same(run):
    of_run, of_file = probe.probe(run), probe.probe(run.with_name("net.lhc"))
    for a, b in zip(of_run.layers, of_file.layers, strict=True):
        assert (a.layer, a.shape, a.kept, a.total, a.macs, a.kept_macs, a.executed_macs) == (
            *(b.layer, b.shape, b.kept, b.total, b.macs, b.kept_macs, b.executed_macs),
        )
        assert a.patterns == b.patterns
        assert (a.group_in, a.group_out) == (b.group_in, b.group_out)
        assert b.scores is None
        assert bool(a.scores) == a.layer.startswith("lhc")
    assert of_file.epochs == []
    net = runs.load(run).trainer.net
    assert sum(p.kept for p in of_run.layers if p.patterns) == net.kept()[0]


def test_macs_of_a_mask_are_those_of_the_oracle(run):
    """Each kept weight meets as many real pixels as a convolution of ones with the mask adds up."""
    trainer = runs.load(run).trainer
    (layer, probed) = next((a, b) for a in trainer.net.lhc_layers for b in probe.probe(run).layers if a.name == b.layer)
    mask = layer.mask(layer.weights["scores"])
    met = oracle.conv2d(np.ones((1, 6, 6, mask.shape[2])), mask.astype(float), None, padding="same")
    assert probed.executed_macs == met.sum()
    assert probed.kept_macs == mask.sum() * 36
    assert probed.macs == mask.size * 36


def test_masks_are_kept_after_each_coarse_epoch(run):
    snapshots = mask_history.load(run)
    assert [s.epoch for s in snapshots] == [0, 1, 2, 3]
    chosen = runs.load(run).trainer.progress.chosen["coarse"]["epoch"]
    for layer in runs.load(run).trainer.net.lhc_layers:
        assert np.array_equal(snapshots[chosen].masks[layer.name], layer.pattern_mask())
    found = probe.probe(run).epochs
    assert len(found) == 4 * 2
    assert all(c.iou_last == 1 and c.overlap_last == c.density for c in found if c.epoch == 3)
    assert all((c.iou_before is None) == (c.epoch == 0) for c in found)


def test_likeness_of_masks():
    a, b = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)
    assert overlap(a, b) == 0.25
    assert iou(a, b) == 1 / 3
    assert correlation(a, b) == 0
    assert correlation(a, a) == 1
    assert correlation(a, ~a) == -1
    assert correlation(a, a | True) is None
    assert iou(a & False, b & False) == 1
    found = probe.compare([Snapshot(0, {"l": a}), Snapshot(2, {"l": b})])
    assert [(c.epoch, c.iou_before, c.iou_last, c.overlap_last) for c in found] == [
        (0, None, 1 / 3, 0.25),
        (2, 1 / 3, 1, 0.5),
    ]


@pytest.mark.parametrize("values", [[-0.7, -0.01, 0.02, 0.4], [0.1, 0.3], [-3.0, -1.0], [0.25], [0.0]])
def test_no_bin_of_free_scores_reaches_across_zero(values):
    counts, edges = probe._histogram(np.array(values))
    assert counts.sum() == len(values)
    assert len(counts) <= probe.BINS + 2
    above = counts[edges[:-1] >= 0].sum()
    assert above == sum(value >= 0 for value in values)
    assert not any(low < 0 < high for low, high in pairwise(edges))


def test_histograms_lose_no_value_to_rounding():
    for seed in range(300):
        values = np.random.default_rng(seed).standard_normal(9)
        assert probe._histogram(values)[0].sum() == 9


def test_a_damaged_mask_file(run, tmp_path):
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "epoch-0000.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match=r"epoch-0000\.safetensors: expected a checkpoint"):
        mask_history.load(tmp_path)


def test_the_command_prints_tables_json_and_pictures(run, tmp_path, capsys):
    assert cli.main(["probe", str(run)]) == 0
    text = capsys.readouterr().out
    for part in ("density", "patterns of all layers", "scores: quantiles", "IoU with the last"):
        assert part in text
    assert cli.main(["probe", str(run), "--json", "--plots", str(tmp_path / "plots")]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert [layer["layer"] for layer in found["layers"]] == ["stem", "lhc1", "lhc2", "head"]
    assert sum(found["layers"][1]["scores"]["counts"]) == 3 * 3 * 2 * 4
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert names == {"layers.png", "patterns.png", "scores.png", "masks.png"}
    assert all((tmp_path / "plots" / name).read_bytes().startswith(b"\x89PNG") for name in names)
    assert err.count("wrote ") == 4


def test_a_rigid_run_that_is_not_done_and_an_ordinary_net(tmp_path):
    data = bars(tmp_path / "bars.npz")
    runs.train(small_config(data, conv="lhc-rigid", epochs_fine=0, epochs_coarse=3), tmp_path / "rigid", show=False)
    rigid = probe.probe(tmp_path / "rigid")
    assert {p.taps for layer in rigid.layers for p in layer.patterns} <= {0, 3, 4, 5, 6, 7, 9, 1}
    assert "patterns of all layers" in probe_text.text(rigid)
    runs.train(small_config(data, conv="standard", epochs_fine=0, epochs_coarse=1), tmp_path / "plain", show=False)
    plain = probe.probe(tmp_path / "plain")
    assert [layer.density for layer in plain.layers] == [1] * 4
    assert "patterns of" not in probe_text.text(plain)
    assert [p.name for p in probe_plots.save(plain, tmp_path / "plots")] == ["layers.png"]


def test_what_is_neither_run_nor_file(tmp_path):
    with pytest.raises(CheckpointError, match="expected a model file or a run folder, got no such thing"):
        probe.probe(tmp_path / "none")
    (tmp_path / "x.lhc").write_bytes(b"x")
    with pytest.raises(LhcError):
        probe.probe(tmp_path / "x.lhc")
    with pytest.raises(CheckpointError, match="expected the folder of a run"):
        probe.probe(tmp_path)
