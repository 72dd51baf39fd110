import json
import tracemalloc

import numpy as np
import pytest

from lhc_ref import cli, ops
from lhc_ref.errors import ConfigError
from lhc_ref.inspect.counts import count, executed_macs, to_json, total, walk
from lhc_ref.layers import Pass
from lhc_ref.models import MODELS, make_net
from lhc_ref.related.layers import CsgConv2d, Generator
from lhc_ref.tape import Tape, apply
from tests import oracle

WIDTHS = {"golden": 0.5, "digits": 1 / 8, "resnet20": 1 / 4, "resnet56": 1 / 4, "densenet40": 1 / 12}
"""Shares that leave four channels or so."""


def parameters(model, conv="standard", **options):
    whole = total(count(make_net(model, conv, seed=None, **options)), "all")
    return whole.weights + whole.other


@pytest.mark.parametrize(
    ("model", "setting", "original", "with_csg"),
    [
        ("resnet20", "12/72", 269_722, 115_426),
        ("resnet56", "12/72", 853_018, 160_450),
        ("resnet56", "16/128", 853_018, 347_162),
        ("densenet40-36", "12/72", 1_542_682, 842_842),
        ("densenet40-48", "12/72", 2_733_130, 1_416_394),
        ("mobilenetv2", "12/72", 2_296_922, 1_595_322),
        ("resnet50-imagenet", "16/128", 25_557_032, 15_163_432),
    ],
)
def test_parameters_of_the_authors_of_csg(model, setting, original, with_csg):
    assert parameters(model) == original
    assert parameters(model, f"csg:{setting}") == with_csg


def test_parameters_of_other_nets():
    """As in well-known implementations: torchvision's, and the usual one for CIFAR-10."""
    assert parameters("resnet34-imagenet") == 21_797_672
    assert parameters("resnet34") == 21_282_122
    assert parameters("resnet50") == 23_520_842


VGG16 = """
64 64 32: 36864/37748736
64 128 16: 73728/18874368
128 128 16: 147456/37748736
128 256 8: 294912/18874368
256 256 8: 589824/37748736
256 256 8: 589824/37748736
256 512 4: 1179648/18874368
512 512 4: 2359296/37748736
512 512 4: 2359296/37748736
512 512 2: 2359296/9437184
512 512 2: 2359296/9437184
512 512 2: 2359296/9437184
"""


@pytest.mark.parametrize(("kind", "scores"), [("lhc-free", 28_728), ("lhc-rigid", 47_880)])
def test_vgg16_is_that_of_the_authors(kind, scores):
    found = count(make_net("vgg16", kind, groups=(32, 16), seed=None))
    stem, *learned, head = found
    assert (stem.weights, stem.macs) == (1_728, 1_769_472)
    assert [f"{c.shape[2]} {c.shape[3]} {c.output[0]}: {c.weights}/{c.macs}" for c in learned] == VGG16.split("\n")[
        1:-1
    ]
    whole = total(found, "LHC", (kind,))
    assert (whole.weights, whole.macs, whole.scores) == (14_708_736, 311_427_072, scores)
    assert (head.kind, head.weights) == ("dense", 5_120)


def test_nothing_is_allocated_for_a_count():
    make_net("golden", seed=None)
    tracemalloc.start()
    net = make_net("vgg16", "lhc-free", seed=None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6
    assert sum(w.nbytes for w in net.weights.values()) > 5e7


@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, "same", 1), (2, ((1, 0), (2, 1)), 1), (1, "valid", 2)])
def test_executed_is_what_meets_a_real_pixel(stride, padding, dilation):
    """Counted by a convolution of ones with ones."""
    taps = np.arange(6).reshape(3, 2)
    options = {"stride": (stride, stride), "padding": padding, "dilation": (dilation, dilation)}
    met = oracle.conv2d(np.ones((1, 7, 6, 1)), taps[:, :, None, None].astype(float), None, **options, groups=1)
    assert executed_macs(taps, (7, 6), **options) == met.sum()


CONVS = ["standard", "lhc-free", "lhc-rigid", "hetconv:2", "csg", "csg-binary", "lean", "nm:1:2"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("conv", CONVS)
def test_each_model_trains_with_each_convolution(model, conv):
    """Shapes as predicted, and a gradient, finite and not all zero, for every weight."""
    options = {"image_shape": (32, 32, 3) if "imagenet" in model else (16, 16, 3), "classes": 3, "groups": (4, 2)}
    options["width"] = WIDTHS.get(model.partition("-")[0], 1 / 16)
    if model == "mobilenetv2" and conv in ("lhc-rigid", "hetconv:2", "lean"):
        with pytest.raises(ConfigError, match="conv: expected a kind that 1x1 kernels can have, got"):
            make_net(model, conv, **options)
        return
    net = make_net(model, conv, dtype="float64", **options)
    assert [layer for layer, _, _ in walk(net.body, net.image_shape)] == net.layers
    tape = Tape()
    run = Pass(tape)
    images = np.random.default_rng(0).standard_normal((3, *options["image_shape"]))
    logits = net(images, run)
    assert logits.shape == (3, 3)
    loss = apply(ops.softmax_cross_entropy, logits, np.arange(3))
    gradients = tape.gradients(loss, list(run.variables.values()))
    assert set(run.variables) == set(net.weights)
    assert all(np.isfinite(g).all() for g in gradients)
    assert np.mean([bool(g.any()) for g in gradients]) > 0.5  # Why: narrow nets have dead ReLUs.
    assert net.predict(images).shape == (3, 3)


def test_one_generator_serves_a_net_and_is_trained_unless_binary():
    for conv, trained in (("csg", True), ("csg-binary", False)):
        net = make_net("golden", conv)
        (generator,) = [layer for layer in net.layers if isinstance(layer, Generator)]
        assert ("generator.generator" in net.weights) == trained
        assert ("generator.generator" in net.state) != trained
        assert {layer.generator for layer in net.layers if isinstance(layer, CsgConv2d)} == {generator}


@pytest.mark.parametrize(
    ("conv", "message"),
    [
        ("lhc", "expected one of standard, lhc-free"),
        ("standard:1", "expected standard without an argument"),
        ("hetconv:x", "expected after hetconv: p,"),
        ("hetconv:0", "expected after hetconv: p,"),
        ("nm:4:2", "expected after nm: N:M"),
        ("nm:4", "expected after nm: N:M"),
        ("lean:6-point", "expected after lean: stencil"),
        ("csg:12", "expected after csg: 12/72 or 16/128"),
    ],
)
def test_kinds_that_are_none(conv, message):
    with pytest.raises(ConfigError, match=message):
        make_net("golden", conv)


def test_sums_by_hand():
    """golden with HetConv p = 2: of 8 input channels four have nine taps, four have one."""
    stem, first, second, head = count(make_net("golden", "hetconv:2", seed=None))
    assert (stem.weights, stem.other, stem.macs) == (72, 8, 72 * 64)
    assert (first.kind, first.weights, first.macs) == ("hetconv", 12 * (4 * 9 + 4), 8 * 8 * 9 * 8 * 12)
    assert second.output == (4, 4, 10)
    assert (head.weights, head.other, head.macs, head.executed) == (100, 10, 100, 100)
    nm = count(make_net("golden", "nm:2:8", seed=None))[2]
    assert nm.weights == 9 * 10 * (2 + 1)  # 12 inputs: a whole group of 8, and 4 of which ceil(2 * 4 / 8) stay


def test_count_prints_a_table_and_json(capsys):
    assert cli.main(["count", "vgg16", "--conv", "lhc-free", "--groups", "32,16"]) == 0
    text = capsys.readouterr().out
    assert "LHC layers" in text
    assert "14,708,736  4,160  28,728  311,427,072  245,612,544" in text
    assert cli.main(["count", "resnet20", "--json", "--classes", "100", "--image", "16x16x3", "--width", "0.5"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["layers"][0]["output"] == [16, 16, 8]
    assert found["total"]["parameters"] == parameters("resnet20", image_shape=(16, 16, 3), classes=100, width=0.5)
    assert found == json.loads(
        json.dumps(to_json(count(make_net("resnet20", image_shape=(16, 16, 3), classes=100, width=0.5))))
    )
    with pytest.raises(SystemExit):
        cli.main(["count", "vgg16", "--image", "32"])
    assert "expected height x width x channels" in capsys.readouterr().err
