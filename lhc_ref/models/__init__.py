"""Nets by name, with the convolution asked for: one family a file."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from lhc_ref.blocks import Sequential
from lhc_ref.errors import ConfigError
from lhc_ref.models.builder import Builder
from lhc_ref.models.convolutions import Convolutions
from lhc_ref.models.densenet import densenet_bc
from lhc_ref.models.mobilenet import mobilenet_v2
from lhc_ref.models.resnet import cifar_resnet, resnet
from lhc_ref.models.small import digits_cnn, golden
from lhc_ref.models.vgg import vgg
from lhc_ref.nets import Net

CIFAR, IMAGENET = (32, 32, 3), (224, 224, 3)


@dataclass(frozen=True)
class Model:
    """A family with its size.

    Attributes
    ----------
    make : `make(builder, image_shape, classes) -> Net`
    image_shape, classes : of the data it is meant for
    generator_kind : how the generator of CSG starts in it
    """

    make: Callable[[Builder, tuple[int, int, int], int], Net]
    image_shape: tuple[int, int, int] = CIFAR
    classes: int = 10
    generator_kind: str = "uniform"


MODELS: dict[str, Model] = {
    "digits-cnn": Model(digits_cnn, (8, 8, 1)),
    "golden": Model(golden, (8, 8, 1)),
    "vgg16": Model(partial(vgg, depth=16, norm=False)),
    "vgg16-bn": Model(partial(vgg, depth=16, norm=True)),
    "vgg19": Model(partial(vgg, depth=19, norm=False)),
    "vgg19-bn": Model(partial(vgg, depth=19, norm=True)),
    "resnet20": Model(partial(cifar_resnet, depth=20), generator_kind="normal"),
    "resnet56": Model(partial(cifar_resnet, depth=56), generator_kind="normal"),
    "resnet34": Model(partial(resnet, depth=34, imagenet=False)),
    "resnet50": Model(partial(resnet, depth=50, imagenet=False)),
    "resnet34-imagenet": Model(partial(resnet, depth=34, imagenet=True), IMAGENET, 1000),
    "resnet50-imagenet": Model(partial(resnet, depth=50, imagenet=True), IMAGENET, 1000),
    "densenet40-36": Model(partial(densenet_bc, depth=40, growth=36)),
    "densenet40-48": Model(partial(densenet_bc, depth=40, growth=48)),
    "mobilenetv2": Model(mobilenet_v2),
}


def make_net(
    model: str,
    conv: str = "standard",
    *,
    image_shape: tuple[int, int, int] | None = None,
    classes: int | None = None,
    groups: tuple[int, int] = (16, 16),
    seed: int | None = 0,
    dtype: str = "float32",
    width: float = 1.0,
) -> Net:
    """A net by name, with the convolution asked for and freshly drawn weights.

    Parameters
    ----------
    model : a key of `MODELS`
    conv : "KIND" or "KIND:ARGUMENT", of `convolutions.KINDS`; stem and classifier stay ordinary
    image_shape : (h, w, c); None: what the model is meant for
    classes : outputs; None: what the model is meant for
    groups : (group_in, group_out) of LHC layers
    seed : of the initial weights; None: a net that has shapes and no weights, to be counted
    dtype : "float32" | "float64", of the weights
    width : channels as a share of the model's own

    Raises
    ------
    ConfigError : an unknown name, or a kind of convolution that the model cannot have.
    """
    if model not in MODELS:
        raise ConfigError(f"model: expected one of {', '.join(MODELS)}, got {model!r}. Use one of these.")
    known = MODELS[model]
    chosen = Convolutions(conv, groups, known.generator_kind)
    rng = None if seed is None else np.random.default_rng(seed)
    build = Builder(chosen, rng, dtype, width)
    net = known.make(build, image_shape or known.image_shape, known.classes if classes is None else classes)
    if chosen.shared is None:
        return net
    return Net(Sequential(model, [chosen.shared, net.body]), net.image_shape)
