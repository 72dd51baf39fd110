import numpy as np
import pytest

from lhc_ref.blocks import Sequential
from lhc_ref.errors import ConfigError, InputError
from lhc_ref.layers import BatchNorm, Conv2d, Pass
from lhc_ref.models import make_net
from lhc_ref.nets import Net
from tests.tolerances import assert_exact, assert_identical

DIGITS = {"image_shape": (8, 8, 1), "classes": 10}


@pytest.mark.parametrize("model", ["digits-cnn", "golden"])
@pytest.mark.parametrize("conv", ["standard", "lhc-free", "lhc-rigid"])
def test_each_net_with_each_convolution(model, conv):
    net = make_net(model, conv, **DIGITS, groups=(4, 8))
    assert net.predict(np.zeros((3, 8, 8, 1), np.float32)).shape == (3, 10)
    assert bool(net.lhc_layers) == (conv != "standard")
    assert all(w.dtype == np.float32 for w in net.weights.values())


def test_digits_cnn_is_large_enough_and_keeps_stem_and_head_ordinary():
    net = make_net("digits-cnn", "lhc-free", **DIGITS)
    assert [layer.weights["kernel"].shape for layer in net.lhc_layers] == [
        (3, 3, 32, 64),
        (3, 3, 64, 64),
        (3, 3, 64, 128),
        (3, 3, 128, 128),
    ]
    kinds = [type(layer) for layer in net.layers]
    assert kinds[0] is Conv2d
    assert kinds.count(BatchNorm) == 5
    assert net.kept()[1] == 276_480


def test_a_seed_is_a_net():
    first, same, other = (make_net("golden", "lhc-rigid", **DIGITS, seed=seed) for seed in (3, 3, 4))
    assert first.weights_hash() == same.weights_hash() != other.weights_hash()


def test_prediction_does_not_depend_on_the_batch_by_more_than_rounding():
    net = make_net("golden", **DIGITS, dtype="float64")
    for weight in net.weights.values():
        weight[...] = np.random.default_rng(0).integers(-2, 3, weight.shape)
    x = np.random.default_rng(1).integers(-2, 3, (7, 8, 8, 1)).astype(np.float64)
    assert_exact(net.predict(x, batch=3), net(x, Pass()))


def test_density_counts_what_is_enabled():
    net = make_net("golden", "lhc-free", **DIGITS, groups=(4, 4))
    learned = net.density()
    assert 0 < learned < 1
    for layer in net.lhc_layers:
        layer.state["enabled"][...] = False
    assert not net.all_enabled()
    assert net.density() == 1
    net.freeze_masks()
    assert net.all_enabled()
    assert net.density() == learned
    assert make_net("golden", **DIGITS).density() == 1


def test_load_copies_into_the_nets_own_arrays():
    source, target = (make_net("golden", "lhc-free", **DIGITS, seed=seed) for seed in (0, 1))
    own = dict(target.weights)
    target.load(source.weights, source.state)
    assert target.weights_hash() == source.weights_hash()
    for name, array in target.weights.items():
        assert array is own[name]
        assert_identical(array, source.weights[name])


def test_load_refuses_another_nets_arrays():
    net = make_net("golden", **DIGITS)
    before = net.weights_hash()
    with pytest.raises(InputError, match=r"lhc1\.scores: expected the names of this net's arrays"):
        net.load(make_net("golden", "lhc-free", **DIGITS).weights, {})
    with pytest.raises(InputError, match=r"head.bias: expected float32\[10\], got float32\[9\]"):
        net.load(make_net("golden", image_shape=(8, 8, 1), classes=9).weights, {})
    assert net.weights_hash() == before


def test_names_are_unique_and_known():
    twice = [BatchNorm("n", 1), BatchNorm("n", 1)]
    with pytest.raises(InputError, match="net: expected a name for each layer, got n, n"):
        Net(Sequential("s", twice), (1, 1, 1))
    with pytest.raises(ConfigError, match=r"model: expected one of digits-cnn, golden, .*, got 'vgg'"):
        make_net("vgg", **DIGITS)
    with pytest.raises(ConfigError, match=r"conv: expected one of standard, lhc-free, .*, got 'lhc'"):
        make_net("golden", "lhc", **DIGITS)
