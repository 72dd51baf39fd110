"""`lhc-run` on ONNX files: convert, prune, and the commands that read models."""

import json
import re

import numpy as np
import pytest

import runtime
from lhc_ref import modelfile
from lhc_ref.modelfile import MaskedKernel
from runtime import cli
from runtime.commands import prune
from runtime.kernels.machine import LANES
from runtime.layout import CHANNELS, IMAGES
from tests.tolerances import assert_exact, assert_identical

pytest.importorskip("onnx")
from tests.runtime.onnx_nets import graph, node, normal, reference, save, whole  # they import onnx


def small_net(make=whole):
    """x (3, 6, 5) -> conv -> relu -> conv -> relu -> conv -> relu -> y (10) and the last image z (8, 6, 5)."""
    nodes = [
        node("Conv", "x w1 b1", "c1", pads=[1, 1, 1, 1]),
        node("Relu", "c1", "r1"),
        node("Conv", "r1 w2", "c2", pads=[1, 1, 1, 1]),
        node("Relu", "c2", "z"),
        node("Flatten", "z", "f"),
        node("Gemm", "f w3", "y"),
    ]
    constants = {"w1": make(1, 8, 3, 3, 3), "b1": make(2, 8), "w2": make(3, 8, 8, 3, 3), "w3": make(4, 240, 10)}
    return graph(nodes, {"x": ["N", 3, 6, 5]}, "y z", constants)


@pytest.fixture
def net(tmp_path):
    """(model, path, inputs, its outputs by the reference)."""
    model = small_net()
    x = {"x": whole(5, 4, 3, 6, 5)}
    return model, str(save(tmp_path, model)), x, reference(model, x)


def run(capsys, *argv):
    assert cli.main([str(word) for word in argv]) == 0
    return capsys.readouterr().out


def test_convert_writes_a_model_file_that_computes_the_same(net, tmp_path, capsys):
    _, path, x, want = net
    out = tmp_path / "net.lhc"
    text = run(capsys, "convert", path, out)
    assert "input  x [n, 3, 6, 5] in ONNX is x [n, 6, 5, 3] in the model file" in text
    assert "output z [n, 8, 6, 5] in ONNX is z [n, 6, 5, 8] in the model file" in text
    got = runtime.load(out).run(np.ascontiguousarray(x["x"].transpose(0, 2, 3, 1)))
    assert_exact(got["y"], want["y"])
    assert_exact(got["z"], want["z"].transpose(0, 2, 3, 1))
    facts = json.loads(run(capsys, "convert", path, out, "--json"))
    assert facts["nodes"] == len(modelfile.load(out).nodes)
    assert [layer["masked"] for layer in facts["masks"]] == [True, True, True]


def test_a_model_file_may_be_given_images_with_channels_first(net, tmp_path, capsys):
    _, path, x, want = net
    out = tmp_path / "net.lhc"
    run(capsys, "convert", path, out)
    loaded = runtime.load(out, layout="NCHW")
    got = loaded.run(x)
    assert_exact(got["z"], want["z"])
    assert_exact(got["y"], want["y"])
    assert loaded.as_stored().as_stored() is not loaded
    assert_exact(loaded.as_stored().run(x["x"].transpose(0, 2, 3, 1))["y"], want["y"])
    with pytest.raises(modelfile.InputError, match="shapes, constants: expected an ONNX file with them"):
        runtime.load(out, shapes={"x": (3, 6, 5)})


def test_convert_says_where_features_come_in_another_order(tmp_path, capsys):
    path = save(tmp_path, graph([node("Flatten", "x", "y")], {"x": ["N", 3, 6, 5]}, "y"))
    text = run(capsys, "convert", path, tmp_path / "net.lhc")
    assert "y [n, 90] in the model file, features ordered by row, column, channel" in text


def test_convert_says_where_a_whole_array_becomes_one_example(tmp_path, capsys):
    path = save(tmp_path, graph([node("ReduceMean", "x", "y", axes=[0])], {"x": [6, 4]}, "y"))
    text = run(capsys, "convert", path, tmp_path / "net.lhc")
    assert "x [6, 4] in ONNX is x [n, 24] in the model file" in text
    assert "y [1, 4] in ONNX is y [n, 1, 1, 4] in the model file" in text


def test_convert_takes_sizes_that_the_file_leaves_open(tmp_path, capsys):
    path = save(tmp_path, graph([node("Relu", "x", "y")], {"x": ["N", 3, "H", "W"]}, "y"))
    run(capsys, "convert", path, tmp_path / "net.lhc", "--shape", "x=3,6,5")
    assert modelfile.load(tmp_path / "net.lhc").inputs[0].shape == (6, 5, 3)


@pytest.mark.parametrize("text", ["x", "=1,2", "x=1,b", "x=0,2,3", "x="])
def test_shapes_that_are_none(text, net, tmp_path):
    with pytest.raises(modelfile.InputError, match="--shape: expected NAME=C,H,W"):
        cli.main(["convert", net[1], str(tmp_path / "net.lhc"), "--shape", text])


def test_convert_of_another_file(tmp_path):
    with pytest.raises(
        modelfile.InputError,
        match=r"expected an ONNX file by itself, or a \.safetensors file with --like, got another ",
    ):
        cli.main(["convert", "net.lhc", str(tmp_path / "out.lhc")])


@pytest.mark.parametrize("argv", [["convert"], ["prune", "--density", "0.5", "--all"]])
def test_an_onnx_file_is_not_overwritten_by_a_model_file(argv, net, tmp_path):
    before = (tmp_path / "net.onnx").read_bytes()
    with pytest.raises(modelfile.InputError, match="expected a name for a model file, got one that ends as"):
        cli.main([argv[0], net[1], net[1], *argv[1:]])
    assert (tmp_path / "net.onnx").read_bytes() == before


def test_predict_reads_and_writes_arrays_as_onnx_has_them(net, tmp_path, capsys):
    _, path, x, want = net
    np.save(tmp_path / "x.npy", x["x"])
    np.savez(tmp_path / "x.npz", **x)
    for given in ("x.npy", "x.npz"):
        run(capsys, "predict", path, tmp_path / given, "-o", tmp_path / "y.npz")
        with np.load(tmp_path / "y.npz") as made:
            assert_exact(made["y"], want["y"])
            assert_exact(made["z"], want["z"])


def test_eval_verify_and_info_read_onnx(net, tmp_path, capsys):
    _, path, x, want = net
    np.savez(tmp_path / "data.npz", x=x["x"], y=want["y"].argmax(1))
    assert json.loads(run(capsys, "eval", path, tmp_path / "data.npz", "--json"))["accuracy"] == 1
    assert "inside" in run(capsys, "verify", path, tmp_path / "data.npz")
    text = run(capsys, "info", path)
    assert "ONNX file" in text
    assert "x float32[n, 3, 6, 5]\n" in text
    assert "y float32[n, 10], z float32[n, 8, 6, 5]\n" in text


# --- Pruning ----------------------------------------------------------------------------------------------------------


def test_prune_blocks_keeps_the_largest_means():
    kernel = np.zeros((1, 1, 4, 3), np.float32)
    kernel[0, 0, :2, :2] = 1  # mean 1
    kernel[0, 0, 2:, :2] = [[0, 0], [0, -3]]  # mean 0.75
    kernel[0, 0, :2, 2] = [5, 0]  # a short group, mean 2.5
    kernel[0, 0, 2:, 2] = 0.5
    assert prune.prune_blocks(kernel, 0.25, 2, 2).mask.tolist() == [[[[False, True], [False, False]]]]
    assert prune.prune_blocks(kernel, 0.5, 2, 2).mask.tolist() == [[[[True, True], [False, False]]]]
    assert prune.prune_blocks(kernel, 1e-9, 2, 2).mask.sum() == 1
    assert_identical(prune.prune_blocks(kernel, 1.0, 2, 2).dense(), kernel)


def test_blocks_of_zeros_are_never_kept():
    kernel = np.zeros((1, 1, 4, 2), np.float32)
    kernel[0, 0, 0] = 1
    assert prune.prune_blocks(kernel, 1.0, 2, 2).mask.tolist() == [[[[True], [False]]]]


@pytest.mark.parametrize("ending", ["onnx", "lhc"])
def test_prune_keeps_first_and_last_and_says_what_it_costs(ending, tmp_path, capsys):
    source = save(tmp_path, small_net(normal))
    if ending == "lhc":
        run(capsys, "convert", source, tmp_path / "dense.lhc")
        source = tmp_path / "dense.lhc"
    out = tmp_path / "pruned.lhc"
    text = run(capsys, "prune", source, out, "--density", ".25", "--groups", "4,2")
    assert prune.WARNING in text
    assert "the whole net, predicted for batch 64: " in text
    first, second, last = (n.tensors["kernel"] for n in modelfile.load(out).nodes if "kernel" in n.tensors)
    assert isinstance(first, np.ndarray)
    assert isinstance(last, np.ndarray)
    assert isinstance(second, MaskedKernel)
    assert (second.group_in, second.group_out, second.density) == (4, 2, 0.25)
    facts = json.loads(run(capsys, "prune", source, out, "--density", ".25", "--groups", "4,2", "--all", "--json"))
    assert [layer["pruned"] for layer in facts["layers"]] == [True, True, False]
    assert facts["layers"][1]["macs_after"] < facts["layers"][1]["macs_before"]
    assert facts["gain"] > 0


def test_prune_predicts_for_all_images_however_they_are_cut(tmp_path, monkeypatch, capsys):
    """A vector of images may run together in a dense net, and one by one in a pruned one."""

    def layouts(model, batch):
        kernels = [entry.tensors["kernel"] for entry in model.spec.nodes if "kernel" in entry.tensors]
        pruned = any(isinstance(kernel, MaskedKernel) for kernel in kernels)
        return [(CHANNELS, batch)] if pruned else [(IMAGES, batch - 1), (CHANNELS, 1)]

    monkeypatch.setattr(runtime.Model, "layouts", layouts)
    source, out = save(tmp_path, small_net(normal)), tmp_path / "pruned.lhc"
    argv = ["prune", source, out, "--density", ".25", "--groups", "4,2", "--batch", str(2 * LANES + 2), "--json"]
    facts = json.loads(run(capsys, *argv))
    before, after = runtime.load(source), runtime.load(out)
    rows = (before.plan(IMAGES).facts, before.plan(CHANNELS).facts, after.plan(CHANNELS).facts)
    groups, singles, pruned = ([row.predicted_cycles for row in facts] for facts in rows)
    old = [3 * group + single for group, single in zip(groups, singles, strict=True)]
    new = [(2 * LANES + 2) * single for single in pruned]
    assert facts["gain"] == sum(old) / sum(new)
    assert facts["layers"][1]["gain"] == old[1] / new[1]


def test_prune_leaves_alone_what_misses_more_already(tmp_path, capsys):
    """A kept block of a coarser pattern would make weights of the zeros in it."""
    once, twice = tmp_path / "once.lhc", tmp_path / "twice.lhc"
    run(capsys, "prune", save(tmp_path, small_net(normal)), once, "--density", ".25", "--groups", "2,2")
    for density in ("1", "0.5"):
        told = f"once.lhc: expected a convolution of more weights than a density of {density} leaves, got none. Ask for"
        with pytest.raises(modelfile.InputError, match=re.escape(told)):
            cli.main(["prune", str(once), str(twice), "--density", density, "--groups", "4,4"])
    text = run(capsys, "prune", once, twice, "--density", ".5", "--groups", "4,4", "--all", "--json")
    first, second, last = json.loads(text)["layers"]
    assert [layer["pruned"] for layer in (first, second, last)] == [True, False, False]
    assert second["macs_after"] == second["macs_before"]
    kernels = [
        [n.tensors["kernel"] for n in modelfile.load(path).nodes if "kernel" in n.tensors] for path in (once, twice)
    ]
    assert_identical(kernels[0][1].mask, kernels[1][1].mask)


def test_prune_without_a_file_to_write_only_predicts(tmp_path, monkeypatch, capsys):
    source = save(tmp_path, small_net(normal))
    monkeypatch.chdir(tmp_path)
    text = run(capsys, "prune", source, "--density", ".25", "--groups", "4,2")
    assert "wrote" not in text
    assert text == run(capsys, "prune", source, "o.lhc", "--density", ".25", "--groups", "4,2").replace(
        "wrote o.lhc\n", ""
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx", "o.lhc"]


def test_prune_of_single_weights_takes_the_pooling_out_of_a_convolution(tmp_path, capsys):
    """The kernel of weights that share no pattern does not pool: the plan has a layer more."""
    nodes = [node("Conv", "x w", "c"), node("MaxPool", "c", "y", kernel_shape=[2, 2], strides=[2, 2])]
    path = save(tmp_path, graph(nodes, {"x": ["N", 16, 10, 10]}, "y", {"w": normal(1, 32, 16, 3, 3)}))
    facts = json.loads(run(capsys, "prune", path, "--density", ".1", "--groups", "1,1", "--all", "--json"))
    (layer,) = facts["layers"]
    assert layer["pruned"]
    assert layer["gain"] > 1
    assert facts["gain"] > 1


def test_prune_of_a_net_with_nothing_to_prune(tmp_path):
    path = save(tmp_path, graph([node("Relu", "x", "y")], {"x": ["N", 3, 6, 5]}, "y"))
    with pytest.raises(modelfile.InputError, match="expected a convolution to prune"):
        cli.main(["prune", str(path), str(tmp_path / "out.lhc"), "--density", "0.5"])


@pytest.mark.parametrize("options", [["--density", "0"], ["--density", "x"], ["--density", "1", "--groups", "4"]])
def test_prune_options_that_are_none(options, net, tmp_path):
    with pytest.raises(SystemExit):
        cli.main(["prune", net[1], str(tmp_path / "out.lhc"), *options])
