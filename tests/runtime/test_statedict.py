"""State dicts of PyTorch: what their tensors become in a graph, and `lhc-run convert` of them."""

import json

import numpy as np
import pytest

import runtime
from lhc_ref import modelfile
from lhc_ref.errors import InputError, ModelFileError
from lhc_ref.modelfile import MaskedKernel
from runtime import cli, statedict
from runtime.masks import sparse_dense
from tests.runtime.nets import net
from tests.tolerances import assert_exact, assert_identical, assert_within

IMAGE = (4, 3, 2)


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def whole(seed, *shape):
    return np.random.default_rng(seed).integers(1, 5, shape).astype(np.float32)


def write(path, tensors):
    """A safetensors file, by the format's own words."""
    names = {"float32": "F32", "float16": "F16", "float64": "F64", "uint16": "BF16", "int64": "I64", "bool": "BOOL"}
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, array in tensors.items():
        begin, data = len(data), data + array.tobytes()
        entry = {"dtype": names[array.dtype.name], "shape": array.shape, "data_offsets": [begin, len(data)]}
        header[name] = entry
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def graph():
    """conv (2 > 5) -> relu -> flatten -> dense (3), of weights that shall not be seen again."""
    nan = np.float32(9e9)
    return net(
        {"x": IMAGE},
        ["y"],
        ("conv2d", "c", ["x"], {"padding": "same"}, {"kernel": np.full((3, 3, 2, 5), nan), "bias": np.full(5, nan)}),
        ("relu", "r", ["c"]),
        ("flatten", "f", ["r"]),
        ("dense", "y", ["f"], {}, {"kernel": np.full((60, 3), nan)}),
    )


MAPPED = {"node c": ("features.0",), "node y": ("classifier",)}


def tensors(make=whole):
    return {
        "features.0.weight": make(1, 5, 2, 3, 3),
        "features.0.bias": make(2, 5),
        "classifier.weight": make(3, 3, 60),
        "classifier.bias": make(4, 3),
    }


def torch_net(t, x):
    """What PyTorch computes of x f[n, h, w, c], in float64, by its definitions: channels first, cross-correlation."""
    padded = np.pad(x.transpose(0, 3, 1, 2), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    made = np.einsum("nchwij,ocij->nohw", windows, t["features.0.weight"]) + t["features.0.bias"][:, None, None]
    return np.maximum(made, 0).reshape(len(x), -1) @ t["classifier.weight"].T + t["classifier.bias"]


def kernel_of(spec, name):
    (found,) = [node for node in spec.nodes if node.name == name]
    return found.tensors["kernel"]


def test_weights_are_laid_out_as_the_graph_has_them(tmp_path):
    given, x = tensors(), whole(5, 3, *IMAGE)
    spec = statedict.fill(graph(), statedict.read(write(tmp_path / "w.safetensors", given)), MAPPED)
    modelfile.save(tmp_path / "net.lhc", spec)
    want = torch_net({k: v.astype(np.float64) for k, v in given.items()}, x.astype(np.float64))
    assert_exact(runtime.load(tmp_path / "net.lhc").run(x), want.astype(np.float32))


def test_masks_are_multiplied_in_and_become_masks():
    """As torch.nn.utils.prune names them; and an LHC mask of groups of channels beside a dense kernel."""
    given = tensors(normal)
    pruned = np.arange(5 * 2 * 9).reshape(5, 2, 3, 3) % 3 == 0
    given["features.0.weight_orig"] = given.pop("features.0.weight")
    given["features.0.weight_mask"] = pruned.astype(np.float32)
    given["classifier.mask"] = np.arange(8).reshape(2, 4) % 3 > 0  # of groups of 2 units and 15 features
    spec = statedict.fill(graph(), given, MAPPED)
    convolution, dense = kernel_of(spec, "node c"), kernel_of(spec, "node y")
    want = np.where(pruned, given["features.0.weight_orig"], np.float32(0))
    assert isinstance(convolution, MaskedKernel)
    assert_identical(convolution.dense(), np.ascontiguousarray(want.transpose(2, 3, 1, 0)))
    kept = given["classifier.mask"].repeat(2, 0)[:3].repeat(15, 1)
    assert isinstance(dense, MaskedKernel)
    assert dense.shape == (4, 3, 5, 3)
    want = np.where(kept, given["classifier.weight"], np.float32(0)).reshape(3, 5, 4, 3).transpose(2, 3, 1, 0)
    assert_identical(dense.dense(), np.ascontiguousarray(want))


def test_batch_norms_are_folded_in():
    given = tensors(normal) | {
        "features.1.weight": normal(6, 5),
        "features.1.bias": normal(7, 5),
        "features.1.running_mean": normal(8, 5),
        "features.1.running_var": normal(9, 5) ** 2,
        "features.1.num_batches_tracked": np.array(3),
    }
    spec = statedict.fill(graph(), given, MAPPED | {"node c": ("features.0", "features.1")})
    exact = {name: array.astype(np.float64) for name, array in given.items()}
    slope = exact["features.1.weight"] / np.sqrt(exact["features.1.running_var"] + 1e-5)
    kernel = (exact["features.0.weight"] * slope[:, None, None, None]).transpose(2, 3, 1, 0)
    bias = (exact["features.0.bias"] - exact["features.1.running_mean"]) * slope + exact["features.1.bias"]
    made = spec.nodes[0].tensors
    for got, want in ((made["kernel"], kernel), (made["bias"], bias)):
        assert_within(got, want, 1.01 * 2**-24 * np.abs(want), np.float32)


@pytest.mark.parametrize(
    ("kind", "of"),
    [
        ("float16", lambda a: a.astype(np.float16)),
        ("float64", lambda a: a.astype(np.float64)),
        ("bfloat16", lambda a: (a.view(np.uint32) >> 16).astype(np.uint16)),
    ],
)
def test_types_of_real_numbers(kind, of, tmp_path):
    """Whole numbers below 5 are the same in all of them."""
    path = write(tmp_path / "w.safetensors", {"a.weight": of(whole(1, 4, 3))})
    assert_identical(statedict.read(path)["a.weight"], whole(1, 4, 3))


def test_a_proposal_pairs_layers_by_shape_and_norms_by_name():
    spec = net(
        {"x": IMAGE},
        ["y"],
        ("conv2d", "a", ["x"], {}, {"kernel": np.ones((3, 3, 2, 4), np.float32)}),
        ("conv2d", "b", ["a"], {}, {"kernel": np.ones((1, 1, 4, 4), np.float32)}),
        ("conv2d", "y", ["b"], {}, {"kernel": np.ones((3, 3, 4, 4), np.float32)}),
    )
    given = {}
    for name, shape in (("conv10", (4, 4, 3, 3)), ("conv2", (4, 2, 3, 3)), ("down.0", (4, 4, 1, 1))):
        norm = {"down.0": "down.1"}.get(name, name.replace("conv", "bn"))
        given |= {f"{name}.weight": whole(1, *shape), f"{norm}.weight": whole(1, 4)}
        given |= {f"{norm}.running_mean": whole(1, 4), f"{norm}.running_var": whole(1, 4)}
    want = {"node a": ["conv2", "bn2"], "node b": ["down.0", "down.1"], "node y": ["conv10", "bn10"]}
    assert statedict.propose(spec, given) == want
    statedict.fill(spec, given, want)


@pytest.mark.parametrize(
    ("change", "mapped", "message"),
    [
        ({}, {}, "node 'node c': expected a module of the state dict, got 'node c', which holds no tensors"),
        ({}, MAPPED | {"relu": ("a",)}, "mapping: expected nodes that have weights, got relu"),
        (
            {"other.weight": whole(1, 3)},
            MAPPED,
            "state dict: expected modules that the mapping names, got other besides",
        ),
        (
            {"classifier.weight": whole(1, 3, 59)},
            MAPPED,
            r"expected a weight of shape \[3, 5, 4, 3\] or \[3, 60\], got",
        ),
        (
            {},
            {"node c": ("classifier", "features.0"), "node y": ("classifier",)},
            "expected one module with weights, and",
        ),
        ({"features.0.mask": whole(1, 2, 2)}, MAPPED, "mask of features.0.weight: expected zeros and ones for"),
        ({"features.0.mask": whole(1, 5, 2, 3, 3)}, MAPPED, "mask of features.0.weight: expected zeros and ones for"),
        (
            {"classifier.weight": whole(1, 3, 60).astype(np.int8)},
            MAPPED,
            r"^classifier.weight: expected real numbers, got int8\[3, 60\]. Save the net before it is quantised.$",
        ),
    ],
)
def test_what_does_not_fit_is_named(change, mapped, message):
    with pytest.raises(InputError, match=message):
        statedict.fill(graph(), tensors() | change, mapped)


@pytest.mark.parametrize("data", [b"", b"\x05\0\0\0\0\0\0\0{}{}}", b"\x02\0\0\0\0\0\0\0[]", b"\xff" * 20])
def test_files_that_are_no_safetensors(data, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match=r"w\.safetensors: expected a safetensors file"):
        statedict.read(path)
    with pytest.raises(ModelFileError, match="expected a file that can be read"):
        statedict.read(tmp_path / "none.safetensors")


def test_convert_by_the_proposed_mapping(tmp_path, capsys):
    modelfile.save(tmp_path / "graph.lhc", graph())
    path, out, toml = write(tmp_path / "w.safetensors", tensors()), tmp_path / "net.lhc", tmp_path / "map.toml"
    common = [str(path), str(out), "--like", str(tmp_path / "graph.lhc")]
    assert cli.main(["convert", *common, "--propose", str(toml)]) == 0
    assert toml.read_text() == '"node c" = ["features.0"]\n"node y" = ["classifier"]\n'
    assert not out.exists()
    toml.write_text('"node c" = "features.0"\n"node y" = ["classifier"]\n')
    assert cli.main(["convert", *common, "--mapping", str(toml)]) == 0
    assert f"wrote {out}: 4 nodes" in capsys.readouterr().out
    x = whole(5, 3, *IMAGE)
    assert_exact(runtime.load(out).run(x), torch_net(tensors(), x))


@pytest.mark.parametrize(
    ("mapping", "options", "message"),
    [
        (None, [], "expected --like GRAPH beside a state dict, got none"),
        ("a = ", ["--mapping", "map.toml"], "expected a TOML file"),
        (
            "",
            ["--mapping", "no.toml"],
            "no.toml: expected a TOML file, got .No such file or directory.. Check the path;",
        ),
        ("a = 3", ["--mapping", "map.toml"], "expected a module's name, or a list of names, for 'a', got 3"),
    ],
)
def test_convert_with_options_that_are_wrong(mapping, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    modelfile.save("graph.lhc", graph())
    write(tmp_path / "w.safetensors", tensors())
    if mapping is not None:
        (tmp_path / "map.toml").write_text(mapping)
        options = ["--like", "graph.lhc", *options]
    with pytest.raises(InputError, match=message):
        cli.main(["convert", "w.safetensors", "net.lhc", *options])


def test_dense_layers_with_zeros_become_convolutions():
    """Over the image that was flattened for them, or over one pixel; and those without stay."""
    zeros = whole(1, 60, 4) * (np.arange(60)[:, None] % 3 == 0)
    spec = net(
        {"x": IMAGE},
        ["y", "f"],
        ("conv2d", "c", ["x"], {}, {"kernel": whole(0, 1, 1, 2, 5)}),
        ("flatten", "f", ["c"]),
        ("dense", "d", ["f"], {}, {"kernel": zeros, "bias": whole(2, 4)}),
        ("dense", "e", ["d"], {}, {"kernel": np.eye(4, dtype=np.float32)}),
        ("dense", "y", ["e"], {}, {"kernel": whole(3, 4, 2)}),
    )
    sparse, x = sparse_dense(spec), whole(5, 3, *IMAGE)
    assert [node.op for node in sparse.nodes] == [
        "conv2d", "flatten", "conv2d", "flatten", "rearrange", "conv2d", "flatten", "dense"
    ]  # fmt: skip
    want, got = runtime.Model(spec).run(x), runtime.Model(sparse).run(x)
    for name in ("y", "f"):
        assert_exact(got[name], want[name])
