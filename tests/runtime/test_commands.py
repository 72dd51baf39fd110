"""`lhc-run`, in-process: what each command finds and prints, and that bad input is one clear line and exit code 2."""

import io
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import runtime
from benchmarks import problems
from lhc_ref import command, modelfile
from lhc_ref.errors import LhcError, MissingExtraError
from lhc_ref.modelfile import MaskedKernel
from runtime import cli
from runtime.commands import inputs, memory, running, verify
from runtime.kernels.machine import LANES
from runtime.layout import LAYOUTS
from runtime.spec import to_layers
from tests.runtime.nets import conv_spec, net
from tests.tolerances import assert_identical

ROOT = Path(__file__).parents[2]
PATHS = [layout.name for layout in LAYOUTS]
CLASSES = ("ant", "bee", "cat")
SCALE = {"subtract": (2.0,), "divide": (4.0,)}


def small_net(channels=1, classes=CLASSES, preprocessing=SCALE):
    """image[6, 5, channels] -> masked convolution, ReLU, pool, masked 1x1, average, dense, softmax: three classes."""
    rng = np.random.default_rng(0)

    def masked(kh, kw, c_in, c_out, group_in, group_out):
        kernel = rng.standard_normal((kh, kw, c_in, c_out), np.float32)
        mask = rng.random((kh, kw, -(-c_in // group_in), -(-c_out // group_out))) < 0.4
        return MaskedKernel.from_dense(kernel, mask, group_in, group_out)

    steps = preprocessing and {key: values * channels for key, values in preprocessing.items()}
    spec = net(
        {"image": (6, 5, channels)},
        ["p"],
        ("conv2d", "a", ["image"], {"padding": "same"}, {"kernel": masked(3, 3, channels, 8, 1, 4)}),
        ("relu", "b", ["a"]),
        ("max_pool", "c", ["b"], {"size": (2, 2), "stride": (2, 2)}),
        ("conv2d", "d", ["c"], {}, {"kernel": masked(1, 1, 8, 6, 2, 2), "bias": np.ones(6, np.float32)}),
        ("global_average_pool", "e", ["d"]),
        ("dense", "f", ["e"], {}, {"kernel": rng.standard_normal((6, 3), np.float32)}),
        ("softmax", "p", ["f"]),
    )
    return replace(spec, classes=classes, preprocessing=steps or None, metadata={"made\nby": "a \x1b[1mtest"})


def two_ended_net():
    """Two inputs, two outputs: `sum` of both and its `file` (a name that numpy.savez would stumble over), not flat."""
    nodes = (("add", "sum", ["left", "right"]), ("relu", "file", ["sum"]))
    return net({"left": (2, 2, 3), "right": (2, 2, 3)}, ["sum", "file"], *nodes)


def saved(folder, spec, name="net.lhc"):
    path = folder / name
    modelfile.save(path, spec)
    return str(path)


@pytest.fixture
def model(tmp_path):
    return saved(tmp_path, small_net())


@pytest.fixture
def numbers():
    """Raw input of the small net: one group of images and a few more."""
    return np.random.default_rng(1).integers(0, 9, (LANES + 3, 6, 5, 1)).astype(np.float32)


def expected(model, x):
    """The runtime's own answer for raw input."""
    return runtime.load(model).run((x - np.float32(2)) / np.float32(4))


def refused(capsys, *argv):
    """The one line on stderr of a command that exits with 2; nothing on stdout."""
    assert command.run(lambda: cli.main([str(part) for part in argv])) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def facts_of(capsys, *argv, status=0):
    """The JSON that a command prints."""
    assert cli.main([*map(str, argv), "--json"]) == status
    return json.loads(capsys.readouterr().out)


# --- info ------------------------------------------------------------------------------------------------------------


def test_info_tells_what_is_in_the_file(model, capsys):
    facts = facts_of(capsys, "info", model)
    spec = modelfile.load(model)
    stored = [node.tensors["kernel"] for node in spec.nodes if isinstance(node.tensors.get("kernel"), MaskedKernel)]
    assert facts["file_bytes"] == os.path.getsize(model)
    assert facts["inputs"] == [{"name": "image", "shape": [6, 5, 1], "array": "float32[n, 6, 5, 1]"}]
    assert facts["outputs"] == [{"name": "p", "shape": [3], "array": "float32[n, 3]"}]
    assert facts["preprocessing"] == {"subtract": [2.0], "divide": [4.0]}
    assert facts["classes"] == list(CLASSES)
    assert facts["metadata"] == {"made\nby": "a \x1b[1mtest"}
    convolutions = [layer for layer in facts["parts"][0]["layers"] if layer["weights"]]
    assert [layer["weights_kept"] for layer in convolutions] == [stored[0].kept, stored[1].kept + 6, 18]
    assert [layer["weights"] for layer in convolutions] == [72, 48 + 6, 18]
    assert [layer["file_bytes"] for layer in convolutions] == [3 + 4 * stored[0].kept, 2 + 4 * stored[1].kept + 24, 72]
    assert convolutions[0]["density"] == stored[0].density
    assert convolutions[0]["macs_nominal"] == 72 * 30
    assert convolutions[0]["macs_kept"] == stored[0].kept * 30
    assert facts["packed_bytes"] >= sum(layer["packed_bytes"] for layer in facts["parts"][0]["layers"])
    assert all(layer["kernel"] and layer["why"] for layer in facts["parts"][0]["layers"])


def test_info_counts_patterns(model, capsys):
    for census in facts_of(capsys, "info", model)["patterns"]:
        nodes = {node.name: node for node in modelfile.load(model).nodes}
        mask = nodes[census["layer"]].tensors["kernel"].expanded_mask()
        counted = {
            str(entry["pattern"]): sum(
                np.array_equal(mask[..., ci, co], entry["pattern"])
                for ci in range(mask.shape[2])
                for co in range(mask.shape[3])
            )
            for entry in census["most_frequent"]
        }
        assert [entry["count"] for entry in census["most_frequent"]] == list(counted.values())
        assert sorted(counted.values(), reverse=True) == list(counted.values())
        assert census["pairs"] == mask.shape[2] * mask.shape[3]


def test_info_draws_patterns(tmp_path, capsys):
    mask = np.zeros((3, 3, 1, 2), bool)
    mask[0, :, 0, 0] = mask[1, 1, 0, 1] = True
    kernel = MaskedKernel.from_dense(np.ones((3, 3, 2, 12), np.float32), mask, 2, 8)
    spec = net({"x": (4, 4, 2)}, ["y"], ("conv2d", "y", ["x"], {}, {"kernel": kernel}))
    cli.main(["info", saved(tmp_path, spec)])
    text = capsys.readouterr().out
    assert "density 0.259, 2 distinct, each shared by 2 inputs x 8 outputs\n" in text
    assert "\n  ###     ...\n  ...     .#.\n  ...     ...\n  66.7%   33.3%\n" in text


def test_info_is_safe_for_a_terminal(model, capsys):
    assert cli.main(["info", model]) == 0
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert r"made\nby       a \x1b[1mtest" in text


@pytest.mark.parametrize("batch", [1, 64])
def test_info_without_masks_classes_and_preprocessing(tmp_path, capsys, batch):
    path = saved(tmp_path, two_ended_net())
    assert cli.main(["info", path, "--batch", str(batch)]) == 0
    text = capsys.readouterr().out
    assert "left float32[n, 2, 2, 3], right float32[n, 2, 2, 3]" in text
    assert "patterns: no layer has a mask" in text
    assert "preprocessing" not in text
    assert "classes" not in text


def test_info_of_a_batch_that_is_cut_tells_of_both_parts(model, capsys):
    facts = facts_of(capsys, "info", model, "--batch", 2 * LANES + 1)
    wanted = [(layout.name, images) for layout, images in runtime.load(model).layouts(2 * LANES + 1)]
    assert [(part["layout"], part["images"]) for part in facts["parts"]] == wanted
    assert len(wanted) == 2
    assert facts["packed_bytes"] == sum(part["packed_bytes"] for part in facts["parts"])
    cli.main(["info", model, "--batch", str(2 * LANES + 1)])
    text = capsys.readouterr().out
    assert f"batch {2 * LANES + 1} is run in 2 parts, one after the other\n" in text
    for layout, images in wanted:
        assert f"\nlayers for batch {images}, layout {layout}: MACs of one image" in text
    for layer in (layer for part in facts["parts"] for layer in part["layers"]):
        assert f"  {layer['kernel']}: {layer['why']}\n" in text


def test_info_counts_the_zeros_of_a_net_without_weights(tmp_path, capsys):
    facts = facts_of(capsys, "info", saved(tmp_path, two_ended_net()))
    assert facts["patterns"] == []
    assert all(layer["density"] is None for layer in facts["parts"][0]["layers"])


# --- predict ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "store",
    [
        lambda x: x,
        lambda x: x.astype(np.uint8),
        lambda x: x.astype(">f8"),
        lambda x: np.asfortranarray(x),
        lambda x: x[..., 0],
    ],
    ids=["float32", "uint8", "big-endian float64", "Fortran order", "[n, h, w]"],
)
def test_predict_preprocesses_any_real_array(model, numbers, tmp_path, capsys, store):
    np.save(tmp_path / "x.npy", store(numbers))
    assert cli.main(["predict", model, str(tmp_path / "x.npy"), "-o", str(tmp_path / "y.npy")]) == 0
    assert_identical(np.load(tmp_path / "y.npy"), expected(model, numbers))
    assert f"ran {len(numbers)} examples in " in capsys.readouterr().out


def test_predict_raw_leaves_preprocessing_out(model, numbers, tmp_path):
    np.save(tmp_path / "x.npy", numbers)
    cli.main(["predict", model, str(tmp_path / "x.npy"), "-o", str(tmp_path / "y.npy"), "--raw"])
    assert_identical(np.load(tmp_path / "y.npy"), runtime.load(model).run(numbers))


@pytest.mark.parametrize("options", [["--batch", LANES], ["--batch", 10**9], ["--threads", 1], ["--threads", 99]])
def test_predict_gives_the_same_bits_for_any_batch_and_threads(model, numbers, tmp_path, options):
    np.save(tmp_path / "x.npy", numbers)
    cli.main(["predict", model, str(tmp_path / "x.npy"), "-o", str(tmp_path / "y.npy"), *map(str, options)])
    assert_identical(np.load(tmp_path / "y.npy"), expected(model, numbers))


@pytest.mark.parametrize("names", [["image"], ["x"], ["anything"], ["image", "x"], ["y", "x"]])
def test_predict_finds_the_input_in_an_npz(model, numbers, tmp_path, names):
    arrays = {name: np.zeros(3) for name in names} | {names[0] if "image" in names else names[-1]: numbers}
    np.savez(tmp_path / "x.npz", **arrays)
    cli.main(["predict", model, str(tmp_path / "x.npz"), "-o", str(tmp_path / "y.npz")])
    with np.load(tmp_path / "y.npz") as made:
        assert list(made) == ["p"]
        assert_identical(made["p"], expected(model, numbers))


def test_predict_several_inputs_and_outputs_by_name(tmp_path, capsys):
    path = saved(tmp_path, two_ended_net())
    left, right = np.random.default_rng(0).integers(-9, 9, (2, 5, 2, 2, 3)).astype(np.float32)
    np.savez(tmp_path / "x.npz", right=right, left=left, other=np.zeros(1))
    cli.main(["predict", path, str(tmp_path / "x.npz"), "-o", str(tmp_path / "y.npz")])
    with np.load(tmp_path / "y.npz") as made:
        assert_identical(made["sum"], left + right)
        assert_identical(made["file"], np.maximum(left + right, 0))
    assert "sum float32[5x2x2x3], file float32[5x2x2x3]" in capsys.readouterr().out


def test_predict_of_nothing(model, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((0, 6, 5, 1)))
    cli.main(["predict", model, str(tmp_path / "x.npy"), "-o", str(tmp_path / "y.npy")])
    assert np.load(tmp_path / "y.npy").shape == (0, 3)


def test_predict_replaces_its_output_and_leaves_nothing_else(model, numbers, tmp_path):
    np.save(tmp_path / "x.npy", numbers)
    (tmp_path / "y.npy").write_bytes(b"old")
    before = set(os.listdir(tmp_path))
    cli.main(["predict", model, str(tmp_path / "x.npy"), "-o", str(tmp_path / "y.npy")])
    assert len(np.load(tmp_path / "y.npy")) == len(numbers)
    assert set(os.listdir(tmp_path)) == before


def test_predict_prints_the_best_classes(model, numbers, tmp_path, capsys):
    np.save(tmp_path / "x.npy", numbers)
    facts = facts_of(capsys, "predict", model, tmp_path / "x.npy", "--top", 2)
    scores = expected(model, numbers)
    for n, entry in enumerate(facts["best"]):
        first, second = np.argsort(-scores[n])[:2]
        assert entry["example"] == str(n)
        assert [place["class"] for place in entry["classes"]] == [CLASSES[first], CLASSES[second]]
        assert entry["classes"][0]["score"] == scores[n, first]


def drawn(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return str(path)


def test_predict_images(model, tmp_path, capsys):
    grey = np.random.default_rng(2).integers(0, 256, (3, 6, 5), np.uint8)
    paths = [drawn(tmp_path / f"{i}.png", pixels) for i, pixels in enumerate(grey)]
    assert cli.main(["predict", model, *paths, "-o", str(tmp_path / "y.npy")]) == 0
    scores = expected(model, grey[..., None].astype(np.float32))
    assert_identical(np.load(tmp_path / "y.npy"), scores)
    lines = capsys.readouterr().out.splitlines()
    for path, line, row in zip(paths, lines, scores, strict=False):
        assert line == f"{path}  {CLASSES[row.argmax()]} ({row.max():.4g})"


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_predict_converts_images_to_the_nets_channels(tmp_path, channels):
    rng = np.random.default_rng(3)
    path = saved(tmp_path, small_net(channels))
    colour = drawn(tmp_path / "colour.png", rng.integers(0, 256, (6, 5, 3), np.uint8))
    grey = drawn(tmp_path / "grey.png", rng.integers(0, 256, (6, 5), np.uint8))
    cli.main(["predict", path, colour, grey, "-o", str(tmp_path / "y.npy")])
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    pixels = [np.asarray(Image.open(file).convert(mode)).reshape(6, 5, channels) for file in (colour, grey)]
    assert_identical(np.load(tmp_path / "y.npy"), expected(path, np.stack(pixels).astype(np.float32)))


def test_predict_images_of_a_net_without_scores(tmp_path, capsys):
    spec = net({"x": (2, 2, 3)}, ["y"], ("relu", "y", ["x"]))
    image = drawn(tmp_path / "i.png", np.zeros((2, 2, 3), np.uint8))
    assert cli.main(["predict", saved(tmp_path, spec), image, "-o", str(tmp_path / "y.npy")]) == 0
    assert capsys.readouterr().out.startswith("ran 1 examples")


# --- eval ------------------------------------------------------------------------------------------------------------


def test_eval_counts(model, numbers, tmp_path, capsys):
    predicted = expected(model, numbers).argmax(1)
    labels = np.where(np.arange(len(numbers)) < 5, (predicted + 1) % 3, predicted)
    np.savez(tmp_path / "data.npz", x=numbers, y=labels)
    facts = facts_of(capsys, "eval", model, tmp_path / "data.npz", "--confusion")
    assert (facts["examples"], facts["right"]) == (len(numbers), len(numbers) - 5)
    assert facts["accuracy"] == (len(numbers) - 5) / len(numbers)
    confusion = np.array(facts["confusion"])
    assert [[((labels == i) & (predicted == j)).sum() for j in range(3)] for i in range(3)] == confusion.tolist()
    assert facts["image_s"] > 0


def test_eval_prints(model, numbers, tmp_path, capsys):
    labels = expected(model, numbers).argmax(1).astype(np.uint8)
    np.savez(tmp_path / "data.npz", image=numbers, y=labels)
    assert cli.main(["eval", model, str(tmp_path / "data.npz"), "--confusion"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"accuracy 100.00%: {len(numbers)} of {len(numbers)} examples\n")
    assert "ant" in text


def test_eval_counts_nan_as_wrong(model, numbers, tmp_path, capsys):
    labels = expected(model, numbers).argmax(1)
    numbers[4] = np.nan
    np.savez(tmp_path / "data.npz", x=numbers, y=labels)
    facts = facts_of(capsys, "eval", model, tmp_path / "data.npz", "--confusion")
    assert facts["not_finite"] == 1
    assert facts["right"] == len(numbers) - 1
    assert np.sum(facts["confusion"]) == len(numbers) - 1


# --- verify ----------------------------------------------------------------------------------------------------------


def test_verify_agrees(model, capsys):
    facts = facts_of(capsys, "verify", model)
    assert facts["inside"]
    assert facts["samples"] == verify.SAMPLES
    assert facts["input"] == "random, normal, seed 0"
    assert [(one["path"], one["output"]) for one in facts["outputs"]] == [(path, "p") for path in PATHS]
    assert [one["value"] for one in facts["layers"]] == [*"cdefp"] * len(PATHS)
    assert facts["layers"][0]["layer"] == "node a+node b+node c"
    for one in (*facts["outputs"], *facts["layers"]):
        assert one["inside"]
        assert one["difference"] <= one["bound"]
        assert one["ratio"] <= 1
    assert 0 < facts["outputs"][0]["largest_bound"] < 1e-4


def test_verify_prints(model, capsys):
    assert cli.main(["verify", model, "--samples", "3", "--seed", "5", "--threads", "1"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("3 images (random, normal, seed 5), 1 threads")
    assert text.endswith("inside: every output and every layer is within its bound\n")


def test_verify_given_input(model, numbers, tmp_path, capsys):
    np.save(tmp_path / "x.npy", numbers)
    facts = facts_of(capsys, "verify", model, tmp_path / "x.npy", "--samples", 7)
    assert (facts["samples"], facts["input"]) == (7, "given")
    assert facts_of(capsys, "verify", model, tmp_path / "x.npy")["samples"] == len(numbers)


def test_verify_several_inputs_and_outputs(tmp_path, capsys):
    facts = facts_of(capsys, "verify", saved(tmp_path, two_ended_net()))
    assert [one["output"] for one in facts["outputs"]] == ["sum", "file"] * len(PATHS)


def test_verify_in_small_parts_finds_the_same(model, capsys, monkeypatch):
    whole = facts_of(capsys, "verify", model, "--samples", 3 * LANES + 1)
    monkeypatch.setattr(verify, "CHUNK_BYTES", 40_000)
    parts = facts_of(capsys, "verify", model, "--samples", 3 * LANES + 1)
    assert [one["index"] for one in parts["outputs"]] == [one["index"] for one in whole["outputs"]]
    assert [one["largest_difference"] for one in parts["layers"]] == pytest.approx(
        [one["largest_difference"] for one in whole["layers"]], rel=1e-3
    )


@pytest.mark.parametrize("fault", [1e-3, np.nan, np.inf])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("where", ["c", "d", "p"])
def test_verify_finds_a_fault(model, capsys, monkeypatch, fault, path, where):
    """One wrong number of one value, in one way to run a batch; in the output's plan too where it is the output."""
    run = verify.OneWay.run

    def faulty(self, x, **options):
        made = run(self, x, **options)
        values = made if isinstance(made, dict) else {self.spec.outputs[0]: made}
        if self._layout.name == path and where in values:
            values[where].reshape(-1)[-1] += fault
        return made

    monkeypatch.setattr(verify.OneWay, "run", faulty)
    facts = facts_of(capsys, "verify", model, status=1)
    assert not facts["inside"]
    assert {(one["path"], one["value"]) for one in facts["layers"] if not one["inside"]} >= {(path, where)}
    wrong = next(one for one in facts["layers"] if (one["path"], one["value"]) == (path, where))
    assert wrong["index"][0] == verify.SAMPLES - 1
    assert [one["inside"] for one in facts["outputs"]] == [where != "p" or path != name for name in PATHS]
    assert cli.main(["verify", model]) == 1
    assert f"OUTSIDE the bounds: {path} {where}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "spec",
    [
        small_net(),
        two_ended_net(),
        conv_spec(np.ones((3, 3, 2, 4), np.float32), (5, 5, 2), residual=True, relu=True),
        problems.resnet(0.5, 50, 32, groups=(16, 16)),
    ],
    ids=["small", "two-ended", "residual", "resnet50"],
)
def test_showing_the_values_between_layers_changes_no_layer(spec):
    checked = modelfile.validate(spec)
    shown = modelfile.validate(verify.with_values_shown(checked, verify.layers_of(checked, "cpu")))
    assert [layer.nodes for layer in to_layers(shown)] == [layer.nodes for layer in to_layers(checked)]
    assert len(shown.outputs) >= len(checked.outputs)


def test_verify_finds_a_fault_of_the_plan_that_is_used(model, capsys, monkeypatch):
    """One bit of an output, which no bound would notice, where the plan does not give out its layers' values."""
    run = verify.OneWay.run

    def faulty(self, x, **options):
        made = run(self, x, **options)
        if not isinstance(made, dict) and self._layout.name == "images":
            made[0, 0] = np.nextafter(made[0, 0], np.float32(2))
        return made

    monkeypatch.setattr(verify.OneWay, "run", faulty)
    facts = facts_of(capsys, "verify", model, status=1)
    assert facts["different"] == ["images"]
    assert all(one["inside"] for one in (*facts["outputs"], *facts["layers"]))
    assert cli.main(["verify", model]) == 1
    assert "images: the plan gives other outputs when" in capsys.readouterr().out


# --- bad input: one clear line, exit code 2 --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["info", "predict", "eval", "verify"])
@pytest.mark.parametrize("content", [None, b"", b"not a model", "folder"])
def test_no_model_file(tmp_path, capsys, name, content):
    path = tmp_path / "net.lhc"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    rest = {"predict": ["x.npy", "-o", "y.npy"], "eval": ["data.npz"]}.get(name, [])
    message = refused(capsys, name, path, *rest)
    assert f"error: {path}: " in message
    assert "expected" in message


def absurd(shape):
    """An .npy file that promises more than it holds."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue()


def stored(write, *arrays, **named):
    file = io.BytesIO()
    write(file, *arrays, **named)
    return file.getvalue()


NPY = stored(np.save, np.zeros((2, 6, 5, 1), np.float32))
PICKLED = stored(np.save, np.array([{}], object), allow_pickle=True)
BAD_NPY = {
    "missing": (None, "No such file or directory"),
    "empty": (b"", "expected an .npy file"),
    "text": (b"hello", "expected an .npy file"),
    "cut header": (NPY[:40], "expected an .npy file"),
    "cut data": (NPY[:-1], "mmap length is greater than file size"),
    "pickled": (PICKLED, "Python objects"),
    "pickle": (b"\x80\x04K\x01.", "expected an .npy file"),
    "archive": (stored(np.savez, x=np.zeros(1)), "got an .npz archive. Rename it"),
    "too much": (absurd((10**13, 6, 5, 1)), "mmap length is greater than file size"),
    "absurd": (absurd((2**62, 2**62)), "expected an .npy file"),
    "complex": (stored(np.save, np.zeros((2, 6, 5, 1), np.complex64)), r"got complex64\[2, 6, 5, 1\]"),
    "bool": (stored(np.save, np.zeros((2, 6, 5, 1), bool)), "got bool"),
    "text array": (stored(np.save, np.full((2, 6, 5, 1), "a")), r"got <U1\[2, 6, 5, 1\]"),
    "records": (stored(np.save, np.zeros((2, 6, 5, 1), "f4,f4")), r"\[2, 6, 5, 1\]\. Convert or reshape it"),
    "one example": (stored(np.save, np.zeros((6, 5, 1))), r"got float64\[6, 5, 1\]"),
    "channels first": (
        stored(np.save, np.zeros((2, 1, 6, 5))),
        r"Turn it: numpy\.save\(path, x\.transpose\(0, 2, 3, 1\)\)",
    ),
    "other size": (stored(np.save, np.zeros((2, 5, 6, 1))), r"expected numbers \[n, 6, 5, 1\] for input 'image'"),
    "scalar": (stored(np.save, np.float32(3)), r"got float32\[\]"),
    "too large a number": (stored(np.save, np.full((2, 6, 5, 1), 1e300)), "numbers that float32 can hold, got float64"),
}


@pytest.mark.parametrize("case", BAD_NPY)
@pytest.mark.parametrize("name", ["predict", "verify"])
def test_bad_npy(model, tmp_path, capsys, name, case):
    content, message = BAD_NPY[case]
    path = tmp_path / "x.npy"
    if content is not None:
        path.write_bytes(content)
    line = refused(capsys, name, model, path, *(["-o", tmp_path / "y.npy"] if name == "predict" else []))
    assert re.search(message, line)
    assert not (tmp_path / "y.npy").exists()


X, Y = np.zeros((2, 6, 5, 1), np.float32), np.zeros(2, np.int64)
BAD_NPZ = {
    "missing": (None, "No such file or directory"),
    "empty": (b"", "expected an .npz file"),
    "text": (b"hello", "expected an .npz file"),
    "cut": (stored(np.savez, x=X, y=Y)[:-30], "expected an .npz file"),
    "lone array": (NPY, r"got an .npy file. Write it with numpy.savez"),
    "pickled": (stored(np.savez, x=np.array([{}], object), y=Y), "allow_pickle=False"),
    "no arrays": (stored(np.savez), "expected an array"),
    "no x": (stored(np.savez, a=X, b=X, y=Y), "expected an array named image or x, got a, b"),
    "x of another shape": (stored(np.savez, x=X[:, :3], y=Y), r"x: expected numbers \[n, 6, 5, 1\]"),
    "no y": (stored(np.savez, x=X), "expected an array y with the labels, got none"),
    "float labels": (stored(np.savez, x=X, y=np.zeros(2)), r"integers \[n\] from 0 to 2, got float64\[2\]"),
    "one-hot labels": (stored(np.savez, x=X, y=np.eye(2, dtype=int)), r"got int64\[2, 2\]"),
    "labels beyond": (stored(np.savez, x=X, y=np.array([0, 3])), "from 0 to 3. Number the classes"),
    "negative labels": (stored(np.savez, x=X, y=np.array([-1, 2])), "from -1 to 2"),
    "fewer labels": (stored(np.savez, x=X, y=Y[:1]), "one label for each of at least one example, got 1 for 2"),
    "nothing": (stored(np.savez, x=X[:0], y=Y[:0]), "at least one example, got 0 for 0"),
}


@pytest.mark.parametrize("case", BAD_NPZ)
def test_bad_labelled_data(model, tmp_path, capsys, case):
    content, message = BAD_NPZ[case]
    path = tmp_path / "data.npz"
    if content is not None:
        path.write_bytes(content)
    line = refused(capsys, "eval", model, path)
    assert re.search(message, line)


def test_archive_with_something_else_in_it(model, numbers, tmp_path):
    np.savez(tmp_path / "x.npz", x=numbers)
    with zipfile.ZipFile(tmp_path / "x.npz", "a") as archive:
        archive.writestr("readme.txt", "hello")
    assert cli.main(["predict", model, str(tmp_path / "x.npz"), "-o", str(tmp_path / "y.npy")]) == 0


def test_inputs_of_several_sizes(tmp_path, capsys):
    path = saved(tmp_path, two_ended_net())
    np.savez(tmp_path / "x.npz", left=np.zeros((2, 2, 2, 3)), right=np.zeros((3, 2, 2, 3)))
    assert "equally many examples" in refused(capsys, "predict", path, tmp_path / "x.npz", "-o", tmp_path / "y.npz")
    np.save(tmp_path / "x.npy", np.zeros((2, 2, 2, 3)))
    assert "arrays left, right, got one array" in refused(
        capsys, "predict", path, tmp_path / "x.npy", "-o", tmp_path / "y.npz"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "expected a file to write or classes to print, got neither"),
        (["-o", "y.txt"], "expected a name that ends in .npy or .npz, got '.txt'"),
        (["-o", "y"], "got 'no ending'"),
        (["-o", "no/such/y.npy"], "expected a folder to write to, got no folder no/such"),
        (["-o", "x.npy/y.npy"], "got no folder x.npy"),
        (["-o", "taken.npy"], "expected a regular file or none, got something else"),
        (["-o", "y.npy", "other.npy"], "expected one .npy or .npz file, or images, got 2 files"),
    ],
)
def test_bad_output(model, numbers, tmp_path, capsys, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", numbers)
    os.mkdir("taken.npy")
    before = set(os.listdir())
    assert message in refused(capsys, "predict", model, "x.npy", *options)
    assert set(os.listdir()) == before


def test_one_array_for_several_outputs(tmp_path, capsys):
    path = saved(tmp_path, two_ended_net())
    np.savez(tmp_path / "x.npz", left=np.zeros((2, 2, 2, 3)), right=np.zeros((2, 2, 2, 3)))
    line = refused(capsys, "predict", path, tmp_path / "x.npz", "-o", tmp_path / "y.npy")
    assert "expected an .npz file for 2 outputs" in line


def test_scores_of_a_net_without_any(tmp_path, capsys):
    path = saved(tmp_path, net({"x": (2, 2, 3)}, ["y"], ("relu", "y", ["x"])))
    np.savez(tmp_path / "x.npz", x=np.zeros((1, 2, 2, 3)), y=np.zeros(1, int))
    for argv in (["predict", path, tmp_path / "x.npz", "--top", 1], ["eval", path, tmp_path / "x.npz"]):
        assert "expected a model whose output is one score a class, got [2, 2, 3]" in refused(capsys, *argv)


def test_bad_images(model, tmp_path, capsys):
    grey = np.zeros((6, 5), np.uint8)
    cut = Path(drawn(tmp_path / "cut.png", np.random.default_rng(0).integers(0, 256, (6, 5), np.uint8)))
    cut.write_bytes(cut.read_bytes()[:-30])
    (tmp_path / "text.png").write_bytes(b"hello")
    cases = {
        drawn(tmp_path / "wide.png", grey.T): "expected an image 5 wide and 6 high, got 6 by 5",
        drawn(tmp_path / "deep.png", grey.astype(np.uint16)): "expected 8 bits a channel, got mode I;16",
        str(cut): "expected an image, .npy or .npz file, got '",
        str(tmp_path / "text.png"): "cannot identify image file",
        str(tmp_path / "none.png"): "got 'No such file or directory'",
        str(tmp_path): "got 'Is a directory'",
    }
    for path, message in cases.items():
        line = refused(capsys, "predict", model, drawn(tmp_path / "good.png", grey), path)
        assert f"{path}: " in line
        assert message in line


def test_images_for_a_net_that_reads_none(tmp_path, capsys):
    image = drawn(tmp_path / "i.png", np.zeros((2, 2, 3), np.uint8))
    for shapes in ({"left": (2, 2, 3), "right": (2, 2, 3)}, {"left": (6,), "right": (6,)}):
        spec = net(shapes, ["s"], ("add", "s", ["left", "right"]))
        assert "expected a model that reads one image" in refused(capsys, "predict", saved(tmp_path, spec), image)
    spec = net({"x": (2, 2, 2)}, ["y"], ("relu", "y", ["x"]))
    assert "of 1, 3 or 4 channels, got" in refused(capsys, "predict", saved(tmp_path, spec), image)


def test_images_without_pillow(model, tmp_path, capsys, monkeypatch):
    def missing():
        raise MissingExtraError("extra 'images': expected the module PIL.Image, got 'no'. Install it.")

    monkeypatch.setattr(inputs.extras, "images", missing)
    image = drawn(tmp_path / "i.png", np.zeros((6, 5), np.uint8))
    assert "extra 'images'" in refused(capsys, "predict", model, image)


def test_verify_refuses_what_has_no_bounds(model, numbers, tmp_path, capsys):
    numbers[3, 2, 1] = np.nan
    np.save(tmp_path / "x.npy", numbers)
    assert "expected finite float32 numbers" in refused(capsys, "verify", model, tmp_path / "x.npy")
    np.save(tmp_path / "x.npy", numbers[:0])
    assert "expected at least one example, got none" in refused(capsys, "verify", model, tmp_path / "x.npy")


@pytest.mark.parametrize(
    "argv",
    [
        ["predict", "MODEL", "X", "--top", "1"],
        ["predict", "MODEL", "X", "--top", "1", "--batch", "7"],
        ["eval", "MODEL", "DATA"],
        ["verify", "MODEL", "X"],
        ["verify", "MODEL", "--samples", "1000000000000"],
    ],
)
def test_more_than_the_memory(model, numbers, tmp_path, capsys, monkeypatch, argv):
    np.save(tmp_path / "X.npy", numbers)
    np.savez(tmp_path / "DATA.npz", x=numbers, y=np.zeros(len(numbers), int))
    paths = {"MODEL": model, "X": tmp_path / "X.npy", "DATA": tmp_path / "DATA.npz"}
    monkeypatch.setattr(memory, "available_bytes", lambda: 100.0)
    assert "GB of memory that are free, got" in refused(capsys, *(paths.get(part, part) for part in argv))


def test_memory_that_is_refused_later(model, numbers, tmp_path, capsys, monkeypatch):
    def refuse(*_):
        raise MemoryError("Unable to allocate 9 GiB")

    np.save(tmp_path / "x.npy", numbers)
    monkeypatch.setattr(running, "empty_outputs", refuse)
    line = refused(capsys, "predict", model, tmp_path / "x.npy", "--top", 1)
    assert "got 'Unable to allocate 9 GiB'. Use a smaller --batch." in line


def test_available_memory_is_that_of_this_machine():
    assert memory.available_bytes() > 2**20


@pytest.fixture
def open_folder():
    """A folder that everybody may enter, which pytest's are not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture
def unprivileged():
    """For root: what other users may not read, this test may not read."""
    if not hasattr(os, "seteuid"):
        pytest.skip("no users as on POSIX")
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield
    os.seteuid(before)


def test_no_permission(open_folder, capsys, unprivileged):
    """Each path in turn may not be read, or its folder not be written; made as root, with the permissions set anew."""
    user = os.geteuid()
    os.seteuid(os.getuid())
    try:
        path = saved(open_folder, small_net())
        np.save(open_folder / "x.npy", X[:0])
        np.savez(open_folder / "x.npz", x=X, y=Y)
        image = drawn(open_folder / "i.png", np.zeros((6, 5), np.uint8))
        (open_folder / "closed").mkdir()
        for name, mode in {"net.lhc": 0o644, "x.npy": 0, "x.npz": 0, "i.png": 0, "closed": 0o555}.items():
            os.chmod(open_folder / name, mode)
    finally:
        os.seteuid(user)
    for argv in (["predict", path, "x.npy", "-o", "y.npy"], ["eval", path, "x.npz"], ["predict", path, image]):
        argv = [open_folder / part if part.startswith("x.") else part for part in argv]
        assert "Permission denied" in refused(capsys, *argv)
    os.seteuid(os.getuid())
    os.chmod(open_folder / "x.npy", 0o644)
    os.seteuid(user)
    out = open_folder / "closed" / "y.npy"
    assert "Permission denied" in refused(capsys, "predict", path, open_folder / "x.npy", "-o", out)
    os.seteuid(os.getuid())
    os.chmod(path, 0)
    os.seteuid(user)
    assert "Permission denied" in refused(capsys, "info", path)


DAMAGE = st.tuples(st.integers(0, 10_000), st.integers(0, 255), st.integers(0, 10_000), st.booleans())


@given(damage=DAMAGE)
@pytest.mark.parametrize("kind", [".npy", ".npz", ".png"])
def test_damaged_files_are_read_or_refused(kind, damage):
    """Whatever happens to a file: an array of it, or one LhcError."""
    at, value, cut, cuts = damage
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x{kind}"
        match kind:
            case ".npy":
                np.save(path, X)
            case ".npz":
                np.savez_compressed(path, x=X, y=Y)
            case _:
                drawn(path, np.arange(30, dtype=np.uint8).reshape(6, 5))
        data = bytearray(path.read_bytes())
        data[at % len(data)] = value
        path.write_bytes(data[: cut % len(data)] if cuts else data)
        try:
            source = inputs.open_inputs(small_net(), [str(path)])
            read = source.read(0, source.count)["image"]
        except LhcError:
            return
        assert read.shape[1:] == (6, 5, 1)


# --- the program -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv", [[], ["what"], ["info"], ["info", "x", "--batch", "0"], ["predict", "x"], ["verify", "x", "--threads", "a"]]
)
def test_wrong_usage(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    assert ended.value.code == 2
    assert "lhc-run" in capsys.readouterr().err


def test_options_may_stand_anywhere(model, numbers, tmp_path, capsys):
    np.save(tmp_path / "x.npy", numbers)
    for order in (["--samples", 2, model, tmp_path / "x.npy"], [model, "--samples", 2, tmp_path / "x.npy"]):
        assert facts_of(capsys, "verify", *order)["samples"] == 2
        assert facts_of(capsys, "verify", *order)["input"] == "given"


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["info", "--help"], ["verify", "--help"]])
def test_help(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    assert ended.value.code == 0
    assert "lhc" in capsys.readouterr().out


def test_program_ends_in_one_line_and_writes_any_letter(tmp_path):
    spec = replace(small_net(), classes=("één", "zwölf", "Ω"))
    run = [sys.executable, "-m", "runtime.cli", "info"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    good = subprocess.run([*run, saved(tmp_path, spec)], cwd=ROOT, env=environment, capture_output=True, check=False)
    assert (good.returncode, good.stderr) == (0, b"")
    assert rb"\xe9\xe9n, zw\xf6lf, \u03a9" in good.stdout
    bad = subprocess.run([*run, "none.lhc"], cwd=ROOT, env=environment, capture_output=True, check=False)
    assert (bad.returncode, bad.stdout, bad.stderr.count(b"\n")) == (2, b"", 1)


def test_a_slow_first_run_says_why(capsys, monkeypatch):
    monkeypatch.setattr(running, "SLOW_S", 0.01)
    with running.note_if_slow("compiling") as done:
        done()
    assert capsys.readouterr().err == ""
    waited = running.threading.Event()
    monkeypatch.setattr(running, "print", lambda *_, **__: waited.set(), raising=False)
    with running.note_if_slow("compiling"):
        assert waited.wait(10)


def test_the_page_about_the_commands_names_all_of_them():
    pages = {name: (ROOT / "docs" / f"{name}.md").read_text() for name in ("commands", "bench")}
    (commands,) = (action for action in cli.build_parser()._actions if action.choices)
    for name, parser in commands.choices.items():
        page = pages.get(name, pages["commands"])  # a page of its own, or a section of the common one
        assert name in pages or f"## {name}\n" in page
        assert f"    lhc-run {name} " in pages["commands"]
        for action in parser._actions:
            for option in action.option_strings:
                assert option in ("-h", "--help") or f"`{option}" in page
