"""The same code on arrays of another module: bit for bit what NumPy's give, and no NumPy function ever sees them.

CuPy's part is played by `device_arrays`; where there is a GPU, CuPy itself is asked too.
"""

import sys

import numpy as np
import pytest

from lhc_ref import data, devices, inference, runs, tape
from lhc_ref.arrays import namespace, to_numpy
from lhc_ref.errors import ConfigError, MissingExtraError
from lhc_ref.layers import Pass
from lhc_ref.models import make_net
from lhc_ref.optim import SGD
from lhc_ref.regularizer import density_penalty
from lhc_ref.related.adam import Adam
from lhc_ref.related.xrda import XRDA
from lhc_ref.tape import VJPS, Tape, apply
from lhc_ref.training import Trainer
from tests.lhc_ref import device_arrays
from tests.lhc_ref.test_every_operator import CASES
from tests.lhc_ref.training_cases import bars, small_config
from tests.tolerances import assert_identical


@pytest.fixture
def device(monkeypatch):
    module = device_arrays.make()
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def test_the_stand_in_refuses_numpy(device):
    x = device.asarray(np.ones((2, 3)))
    assert namespace(x) is device
    for mixed in (
        lambda: np.sum(x), lambda: np.asarray(x), lambda: x + np.ones(3), lambda: np.ones(3) + x,
        lambda: np.maximum(x, 0), lambda: device.where(np.ones(3, bool), x, x), lambda: x.reshape(-1) @ np.ones(6),
    ):  # fmt: skip
        with pytest.raises(TypeError):
            mixed()
    assert_identical(to_numpy(device.maximum(x * 2, 0)), np.full((2, 3), 2.0))


@pytest.mark.parametrize("changes", [{}, {"conv": "lhc-rigid"}, {"conv": "standard"}, {"enabling": "nested"}])
def test_a_run_has_the_same_bits(device, tmp_path, changes):
    config = small_config(bars(tmp_path / "bars.npz"), flip=True, crop=1, **changes)
    hashes = []
    for name in devices.DEVICES:
        folder = tmp_path / name
        result = runs.train(small_config(config.data, flip=True, crop=1, device=name, **changes), folder, show=False)
        hashes.append(result["weights_hash"])
        assert runs.load(folder).trainer.net.weights_hash() == result["weights_hash"]
        assert all(isinstance(w, np.ndarray) for w in runs.load(folder).trainer.net.weights.values())
    assert hashes[0] == hashes[1]


def test_a_capture_goes_from_one_device_to_the_other(device, tmp_path):
    config = small_config(bars(tmp_path / "bars.npz"))
    dataset = data.load(config.data)
    whole, begun = (Trainer(config, dataset, lambda text: None, name) for name in devices.DEVICES)
    for _ in range(13):
        begun.step()
    gone_on = Trainer(config, dataset, lambda text: None, "cpu")
    gone_on.restore(*begun.capture())
    for trainer in (whole, gone_on):
        while not trainer.done:
            trainer.step()
    assert whole.net.weights_hash() == gone_on.net.weights_hash()


@pytest.mark.parametrize("primal", CASES, ids=lambda primal: primal.__name__)
def test_every_operator_and_its_derivative_have_the_same_bits(device, primal):
    case, vjp = CASES[primal], VJPS[primal]
    parts = vjp if isinstance(vjp, tuple) else (vjp,)
    found = []
    for xp in (np, device):
        args = [xp.asarray(arg) for arg in case.args]
        y = primal(*args, **case.options)
        results = [y, *(part(y, *args, **case.options) for part in parts)]
        found.append([r for result in results for r in (result if isinstance(result, tuple) else (result,))])
    for plain, of_device in zip(*found, strict=True):
        if plain is None:
            assert of_device is None
        else:
            assert namespace(of_device) is device
            assert_identical(to_numpy(of_device), np.asarray(plain))


@pytest.mark.parametrize("make", [SGD, Adam, XRDA])
def test_every_optimizer_has_the_same_bits(device, make):
    start, *gradients = np.random.default_rng(2).standard_normal((4, 3, 2)).astype(np.float32)
    found = []
    for xp in (np, device):
        optimizer, weights = make(), {"w": xp.asarray(start.copy())}
        for gradient in gradients:
            optimizer.update(weights, {"w": xp.asarray(gradient)}, 0.5)
        found.append(to_numpy(weights["w"]))
    assert_identical(found[1], found[0])
    assert (found[0] != start).all()


X, PIXEL, C = (np.random.default_rng(1).standard_normal(shape) for shape in ((2, 4, 6, 4), (2, 1, 1, 4), (4,)))
IN_FILES = {
    "clip": ([X], {"low": -0.5, "high": 0.5}),
    "leaky_relu": ([X], {"slope": 0.1}),
    "prelu": ([X, C], {}),
    "sigmoid": ([X], {}),
    "hard_sigmoid": ([X], {"alpha": 0.2, "beta": 0.5}),
    "hard_swish": ([X], {}),
    "tanh": ([X], {}),
    "scale": ([X], {"scale": C, "bias": C}),
    "mul": ([X, PIXEL], {}),
    "sub": ([X, PIXEL], {}),
    "div": ([X, PIXEL], {}),
    "concat": ([X, X[..., :1]], {}),
    "pad": ([X], {"padding": ((1, 0), (0, 2)), "value": 3.0}),
    "upsample": ([X], {"factor": (2, 3)}),
    "slice": ([X], {"start": (1, 0, 0), "stop": (4, 6, 3), "step": (2, 3, 1)}),
    "rearrange": ([X], {"split": (4, 6, 2, 2), "order": (0, 1, 3, 2), "shape": (24, 4)}),
}


@pytest.mark.parametrize("op", inference.DEFINITIONS)
def test_every_definition_of_the_model_file_has_the_same_bits(device, op):
    args, options = IN_FILES[op]

    def computed(xp):
        given = {name: xp.asarray(o) if isinstance(o, np.ndarray) else o for name, o in options.items()}
        return inference.DEFINITIONS[op](*map(xp.asarray, args), **given)

    assert namespace(computed(device)) is device
    assert_identical(to_numpy(computed(device)), computed(np))


NETS = [
    ("vgg16-bn", "lhc-free"),
    ("resnet20", "csg"),
    ("densenet40-36", "standard"),
    ("mobilenetv2", "standard"),
    ("golden", "lhc-rigid"),
    ("golden", "hetconv:2"),
    ("golden", "lean"),
    ("golden", "nm:2:4"),
]


@pytest.mark.parametrize(("model", "conv"), NETS)
def test_a_step_of_every_kind_of_net_has_the_same_bits(device, model, conv):
    x, labels = np.random.default_rng(0).standard_normal((2, 32, 32, 3)).astype(np.float32), np.array([1, 0])
    found = []
    for xp in (np, device):
        net = make_net(model, conv, image_shape=x.shape[1:], width=1 if model == "golden" else 1 / 16, groups=(4, 4))
        net.move(xp)
        run = Pass(Tape())
        loss = apply(tape.ops.softmax_cross_entropy, net(xp.asarray(x), run), xp.asarray(labels))
        if run.masks:
            loss = apply(tape.ops.add, loss, apply(density_penalty, *run.masks, pixels=run.pixels, target_density=0.2))
        gradients = run.tape.gradients(loss, list(run.variables.values()))
        found.append(dict(zip(run.variables, map(to_numpy, gradients), strict=True)))
    for name, gradient in found[0].items():
        assert_identical(found[1][name], gradient)


def test_cuda_without_cupy_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(MissingExtraError, match=r"extra 'cupy': expected the module cupy, .*pip install 'lhc\[cupy\]'"):
        devices.namespace_of("cuda")


def test_cuda_without_a_gpu_is_told(device):
    device.cuda.is_available = lambda: False
    with pytest.raises(ConfigError, match=r"device: expected an NVIDIA GPU for cuda, got none that CuPy can use\."):
        devices.namespace_of("cuda")


def test_cupy_itself_trains(tmp_path):
    if not pytest.importorskip("cupy").cuda.is_available():
        pytest.skip("CuPy finds no GPU")
    config = small_config(bars(tmp_path / "bars.npz"), device="cuda")
    assert runs.train(config, tmp_path / "run", show=False)["test_accuracy"] > 0.5
