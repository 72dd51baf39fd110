import h5py
import numpy as np
import pytest

from lhc_ref import cli, keras_file, modelfile
from lhc_ref.errors import DataError
from lhc_ref.evaluate import evaluate
from lhc_ref.models import make_net
from tests.tolerances import assert_exact

SIZE = {"groups": (8, 4), "width": 1 / 32, "image_shape": (8, 8, 3), "classes": 3}
FLAGS = ["--groups", "8,4", "--width", "0.03125", "--image", "8x8x3", "--classes", "3"]
THEIR_NAMES = {"scores": "effect", "kernel": "_W_", "bias": "_b_"}


def layers_of(kind):
    """A narrow VGG16 of small whole numbers, and what the authors' file of it holds: (layer, variables) in order."""
    net = make_net("vgg16", kind, **SIZE)
    rng = np.random.default_rng(0)
    found = []
    for layer in net.layers:
        for role, weight in layer.weights.items():
            if role == "scores":
                weight[...] = rng.permutation(weight.size).reshape(weight.shape) - weight.size // 2
            else:
                weight[...] = rng.integers(-2, 3, weight.shape)
        if layer.weights:
            theirs = THEIR_NAMES if "scores" in layer.weights else {}
            variables = {theirs.get(role, role): weight for role, weight in layer.weights.items()}
            found.append((f"het_{layer.name}", variables))
    net.freeze_masks()
    return net, dict(found)


def write(path, layers, group=None):
    """A file as Keras 2 writes it."""
    with h5py.File(path, "w") as f:
        root = f.create_group(group) if group else f
        names = ["input_1", *layers, "pool"]
        root.attrs["layer_names"] = [name.encode() for name in names]
        for name in names:
            variables = layers.get(name, {})
            own = root.create_group(name)
            own.attrs["weight_names"] = [f"{name}/{variable}:0".encode() for variable in variables]
            for variable, values in variables.items():
                own.create_dataset(f"{name}/{variable}:0", data=values)
    return path


@pytest.mark.parametrize("kind", ["lhc-free", "lhc-rigid", "standard"])
@pytest.mark.parametrize("group", [None, "model_weights"])
def test_the_imported_file_computes_what_the_net_does(kind, group, tmp_path, capsys):
    net, layers = layers_of(kind)
    path = write(tmp_path / "w.h5", layers, group)
    out = tmp_path / "net.lhc"
    assert cli.main(["import-keras", str(path), str(out), "--model", "vgg16", *FLAGS, "--logits"]) == 0
    assert (f"density {net.density():.4f}" in capsys.readouterr().out) == (kind != "standard")
    spec = modelfile.load(out)
    x = np.random.default_rng(1).integers(-2, 3, (2, 8, 8, 3)).astype(np.float32)
    for layer in net.layers:  # float64 holds every sum of whole numbers of these nets
        layer.weights = {role: weight.astype(np.float64) for role, weight in layer.weights.items()}
    assert_exact(evaluate(spec, {"image": x})[spec.outputs[0]], net.predict(x.astype(np.float64)))


def test_preprocessing_is_kept(tmp_path):
    path, out = write(tmp_path / "w.h5", layers_of("lhc-free")[1]), tmp_path / "net.lhc"
    more = ["--subtract", "125,123,114", "--divide", "255,255,255"]
    assert cli.main(["import-keras", str(path), str(out), "--model", "vgg16", *FLAGS, *more]) == 0
    spec = modelfile.load(out)
    assert spec.preprocessing == {"subtract": (125, 123, 114), "divide": (255, 255, 255)}
    assert spec.nodes[-1].op == "softmax"


def refused(layers, tmp_path, message, **changes):
    path = write(tmp_path / "w.h5", layers)
    with pytest.raises(DataError, match=message):
        keras_file.to_net(keras_file.read(path), path.name, "vgg16", **{**SIZE, **changes})


def test_missing_extra_and_misshapen_variables_are_named(tmp_path):
    layers = layers_of("lhc-free")[1]
    del layers["het_conv1_2"]["effect"]
    layers["het_conv2_1"]["_b_"] = np.zeros(5, np.float32)
    layers["het_conv2_2"]["vector"] = np.ones(4, np.float32)
    layers["het_head"]["bias"] = np.full(3, np.nan, np.float32)
    path = write(tmp_path / "w.h5", layers)
    with pytest.raises(DataError) as caught:
        keras_file.to_net(keras_file.read(path), "w.h5", "vgg16", **SIZE)
    for problem in (
        "missing: effect of het_conv1_2 (for conv1_2)",
        "misshapen: _b_ of het_conv2_1 (for conv2_1), [5] instead of [4]",
        "extra: vector of het_conv2_2 (for conv2_2)",
        "not finite numbers: bias of het_head (for head)",
    ):
        assert problem in str(caught.value)


def test_missing_and_extra_layers_are_named(tmp_path):
    layers = layers_of("lhc-free")[1]
    refused({**layers, "more": {"kernel": np.zeros((2, 2))}}, tmp_path, "extra: layer more with kernel")
    del layers["het_head"]
    refused(layers, tmp_path, r"missing: a layer for head with kernel \[16, 3\], bias \[3\]")


def test_other_groups_are_a_misshapen_effect(tmp_path):
    message = r"misshapen: effect of het_conv3_1 \(for conv3_1\), \[3, 3, 1, 2\] instead of \[3, 3, 2, 4\]"
    refused(layers_of("lhc-free")[1], tmp_path, message, groups=(2, 2))
    refused(layers_of("lhc-free")[1], tmp_path, "; and [0-9]+ more", classes=4, groups=(1, 1))


def test_files_that_are_not_keras(tmp_path):
    with pytest.raises(DataError, match="got no such file"):
        keras_file.read(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(DataError, match="expected a Keras weight file"):
        keras_file.read(tmp_path / "text.h5")
    with h5py.File(tmp_path / "new.h5", "w") as f:
        f.create_group("layers")
    with pytest.raises(DataError, match="expected the attribute layer_names, got none"):
        keras_file.read(tmp_path / "new.h5")
    with h5py.File(tmp_path / "cut.h5", "w") as f:
        f.attrs["layer_names"] = [b"conv"]
    with pytest.raises(DataError, match="expected a Keras weight file"):
        keras_file.read(tmp_path / "cut.h5")
