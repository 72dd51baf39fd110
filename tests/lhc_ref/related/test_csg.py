"""Generated kernels: the order of their numbers, the crop, the gradients of shared generators, the published counts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhc_ref import ops
from lhc_ref.conv import conv2d
from lhc_ref.errors import InputError
from lhc_ref.related import csg
from lhc_ref.tape import Tape, apply
from tests.lhc_ref.derivatives import assert_derivatives
from tests.strategies import numbers, seeds
from tests.tolerances import assert_adjoint, assert_exact

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
sides = st.integers(1, 4)
slice_shapes = st.tuples(sides, sides, st.integers(1, 3), st.integers(1, 3))


def by_definition(codes, generator, slice_shape, c_in, c_out):
    """Number after number: the k-th of all slices is the k-th of the uncropped kernel, output channels first."""
    s0, s1, kh, kw = slice_shape
    kernel = np.zeros((kh, kw, c_in, c_out))
    k = 0
    for co in range(-(-c_out // s0) * s0):
        for ci in range(-(-c_in // s1) * s1):
            for ky in range(kh):
                for kx in range(kw):
                    code, place = divmod(k, s0 * s1 * kh * kw)
                    if ci < c_in and co < c_out:
                        kernel[ky, kx, ci, co] = codes[code].astype(float) @ generator[place].astype(float)
                    k += 1
    assert k == codes.shape[0] * generator.shape[0]
    return kernel


@dtypes
@given(slice_shapes, st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), seeds)
def test_kernel_is_the_definition_and_adjoint(dtype, slice_shape, c_in, c_out, length, seed):
    options = {"slice_shape": slice_shape, "c_in": c_in, "c_out": c_out}
    count = csg.code_count(slice_shape, c_in=c_in, c_out=c_out)
    assert count == -(-c_out // slice_shape[0]) * -(-c_in // slice_shape[1])
    codes = numbers(seed, "codes", (count, length), dtype)
    generator = numbers(seed, "generator", (int(np.prod(slice_shape)), length), dtype)
    kernel = csg.csg_kernel(codes, generator, **options)
    assert_exact(kernel, by_definition(codes, generator, **options), dtype)
    dy = numbers(seed, "dy", kernel.shape, dtype)
    dcodes, dgenerator = csg.csg_kernel_vjp(dy, codes, generator, **options)
    assert (dcodes.dtype, dgenerator.dtype) == (dtype, dtype)
    assert_adjoint(kernel, dy, codes, dcodes)
    assert_adjoint(kernel, dy, generator, dgenerator)
    more = numbers(seed, "more", kernel.shape, dtype)
    for got, a, b in zip(
        csg.csg_kernel_vjp(2 * dy - more, codes, generator, **options),
        (dcodes, dgenerator),
        csg.csg_kernel_vjp(more, codes, generator, **options),
        strict=True,
    ):
        assert_exact(got, 2 * a - b)


def test_a_slice_is_a_run_of_numbers_not_a_tile_of_channels():
    """Two input and one output channel a slice, four input channels: the second slice starts at input channel 2. With
    one input and two output channels a slice, the first slice takes two *input* channels of output channel 0."""
    generator = np.eye(2)
    codes = np.array([[1.0, 2.0], [3.0, 4.0]])
    kernel = csg.csg_kernel(codes, generator, slice_shape=(1, 2, 1, 1), c_in=4, c_out=1)
    assert kernel[0, 0, :, 0].tolist() == [1, 2, 3, 4]
    kernel = csg.csg_kernel(codes, generator, slice_shape=(2, 1, 1, 1), c_in=2, c_out=2)
    assert kernel[0, 0].tolist() == [[1, 3], [2, 4]]


def test_the_cropped_part_gets_no_gradient():
    options = {"slice_shape": (3, 3, 1, 1), "c_in": 2, "c_out": 1}
    codes, generator = np.ones((1, 2)), np.ones((9, 2))
    _, dgenerator = csg.csg_kernel_vjp(np.ones((1, 1, 2, 1)), codes, generator, **options)
    assert dgenerator[:, 0].tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 0]


def test_derivatives():
    options = {"slice_shape": (2, 3, 2, 1), "c_in": 4, "c_out": 3}
    rng = np.random.default_rng(0)
    assert_derivatives(
        csg.csg_kernel, csg.csg_kernel_vjp, [rng.normal(size=(4, 3)), rng.normal(size=(12, 3))], options=options
    )


def test_a_shared_generator_collects_the_gradients_of_its_layers():
    """Two layers on one tape: exactly the sum of what each sends back alone."""
    x, generator = numbers(0, "x", (1, 3, 3, 2), np.float64), numbers(0, "generator", (36, 3), np.float64)
    sizes = {"a": (2, 3), "b": (3, 4)}
    counts = {name: csg.code_count((2, 2, 3, 3), c_in=i, c_out=o) for name, (i, o) in sizes.items()}
    codes = {name: numbers(0, name, (count, 3), np.float64) for name, count in counts.items()}

    def run(shared):
        """(dgenerator, dkernel of a, dkernel of b), the generator being shared by the layers named."""
        tape = Tape()
        g = tape.variable(generator)
        y, kernels = x, {}
        for name, (c_in, c_out) in sizes.items():
            kernels[name] = apply(
                csg.csg_kernel,
                tape.variable(codes[name]),
                g if name in shared else generator,
                slice_shape=(2, 2, 3, 3),
                c_in=c_in,
                c_out=c_out,
            )
            y = apply(ops.relu, apply(conv2d, y, kernels[name]))
        return tape.gradients(y, [g, kernels["a"], kernels["b"]], numbers(0, "dy", (1, 3, 3, 4), np.float64))

    both, dkernel_a, dkernel_b = run("ab")
    assert_exact(both, run("a")[0] + run("b")[0])
    for alone, name, dkernel in (("a", "a", dkernel_a), ("b", "b", dkernel_b)):
        c_in, c_out = sizes[name]
        _, want = csg.csg_kernel_vjp(dkernel, codes[name], generator, slice_shape=(2, 2, 3, 3), c_in=c_in, c_out=c_out)
        assert_exact(run(alone)[0], want)
    assert both.any()


# --- Initial values and counts ---------------------------------------------------------------------------------------


def test_initial_values():
    """A mean of n draws is within 6 deviations of its own; bounds are the distribution's."""
    shape, length = csg.SETTINGS["12/72"]
    normal, uniform, binary = (
        csg.initial_generator(np.random.default_rng(0), shape, length, kind=kind, dtype="float64")
        for kind in ("normal", "uniform", "binary")
    )
    assert normal.shape == uniform.shape == binary.shape == (1296, 72)
    n = normal.size
    assert abs(normal.mean()) <= 6 * np.sqrt(2 / 72 / n)
    assert abs(normal.var() - 2 / 72) <= 6 * (2 / 72) * np.sqrt(2 / n)
    assert abs(uniform).max() <= 1 / np.sqrt(72)
    assert abs(uniform.var() - 1 / (3 * 72)) <= 6 * np.sqrt(4 / 45 / n) / 72
    assert set(np.unique(binary)) == {-0.5, 0.5}
    assert abs(binary.mean()) <= 6 * 0.5 / np.sqrt(n)
    codes = csg.initial_codes(np.random.default_rng(0), 400, 72, mean=csg.RESNET_CODE_MEAN)
    assert (codes.shape, codes.dtype) == ((400, 72), np.float32)
    assert abs(codes.mean() - 0.001) <= 6 / np.sqrt(codes.size)
    assert abs(codes.std() - 1) <= 6 / np.sqrt(2 * codes.size)


def cifar_resnet(blocks):
    """(c_in, c_out) of every 3x3 of the basic blocks."""
    for stage, width in enumerate((16, 32, 64)):
        for block in range(blocks):
            yield (width // 2 if stage and not block else width), width
            yield width, width


@pytest.mark.parametrize(
    ("blocks", "setting", "original", "generated"),
    [(3, "12/72", 269_722, 115_426), (9, "12/72", 853_018, 160_450), (9, "16/128", 853_018, 347_162)],
)
def test_the_published_totals_of_cifar_resnets(blocks, setting, original, generated):
    slice_shape, length = csg.SETTINGS[setting]
    layers = list(cifar_resnet(blocks))
    replaced = sum(9 * c_in * c_out for c_in, c_out in layers)
    codes = sum(csg.code_count(slice_shape, c_in=c_in, c_out=c_out) for c_in, c_out in layers) * length
    assert original - replaced + codes + int(np.prod(slice_shape)) * length == generated


CODES, GENERATOR = np.zeros((4, 3)), np.zeros((36, 3))
OPTIONS = {"slice_shape": (2, 2, 3, 3), "c_in": 4, "c_out": 3}


@pytest.mark.parametrize(
    ("thing", "call"),
    [
        ("codes", lambda: csg.csg_kernel(CODES[0], GENERATOR, **OPTIONS)),
        ("codes", lambda: csg.csg_kernel(CODES[:3], GENERATOR, **OPTIONS)),
        ("generator", lambda: csg.csg_kernel(CODES, GENERATOR[:35], **OPTIONS)),
        ("generator", lambda: csg.csg_kernel(CODES, GENERATOR.astype(np.float32), **OPTIONS)),
        ("c_in", lambda: csg.csg_kernel(CODES, GENERATOR, **OPTIONS | {"c_in": 0})),
        ("dy", lambda: csg.csg_kernel_vjp(np.zeros((3, 3, 3, 4)), CODES, GENERATOR, **OPTIONS)),
        ("kind", lambda: csg.initial_generator(np.random.default_rng(0), (2, 2, 3, 3), 3, kind="ternary")),
    ],
)
def test_wrong_input_is_named(thing, call):
    with pytest.raises(InputError, match=r": expected .+, got .+\. .+\.$") as caught:
        call()
    assert str(caught.value).startswith(f"{thing}: ")
