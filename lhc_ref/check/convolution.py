"""One convolution of a case: its output and cotangents in float64, and the budgets of their elements."""

import numpy as np

from lhc_ref import conv
from lhc_ref.check.cases import Array, Case
from lhc_ref.check.precision import Precision, gamma, normwise_factor, sum_budget
from lhc_ref.check.steps import Steps

Budget = tuple[Array, str]


class Convolution:
    """y, dx and the kernel's cotangent of one convolution, and their budgets."""

    def __init__(
        self, case: Case, precision: Precision, steps: Steps, groups: int = 1, pointwise: bool = False
    ) -> None:
        self.case, self.precision, self.steps = case, precision, steps
        self.options = {"stride": steps.stride(case), "padding": steps.pads(case), "dilation": steps.dilation(case)}
        self.options["groups"] = groups
        if pointwise:
            self.options |= {"padding": "valid", "dilation": (1, 1)}
        self.integers = exact(case, precision)

    def forward(self, x: Array, kernel: Array) -> Array:
        steps, case = self.steps, self.case
        x, kernel = (steps.operands(a, case) for a in (steps.read_x(x, case), steps.read_kernel(kernel)))
        return conv.conv2d(x, kernel, **self.options)

    def backward(self, dy: Array, x: Array, kernel: Array) -> tuple[Array, Array]:
        """dx and the cotangent of `kernel`; zeros where a mistake gives y another shape than dy has."""
        steps, case = self.steps, self.case
        dy, x = steps.operands(dy, case), steps.operands(steps.read_x(x, case), case)
        other = steps.operands(steps.kernel_of_dx(steps.read_kernel(kernel)), case)
        try:
            dx = conv.conv2d_dx(dy, x, other, **self.options)
            dkernel = conv.conv2d_dkernel(dy, x, steps.read_kernel(kernel), **self.options)
        except ValueError:
            return np.full(x.shape, np.nan), np.full(kernel.shape, np.nan)
        return steps.write_dx(dx, case), steps.write_dkernel(dkernel)

    def budget(self, which: str, magnitude: Array, norm: Array, terms: int, roundings: int) -> Budget:
        """Elementwise for direct convolution, normwise for fast algorithms."""
        p = self.precision
        if p.algorithm == "direct":
            text = (
                f"(gamma_{terms}({p.accumulate.name}) + gamma_{roundings}({p.storage.name})) * {which} of magnitudes"
                f"{'; 0 where sums of integers stay below 2**bits' if self.integers else ''}"
            )
            return sum_budget(magnitude, terms, roundings, p, integers=self.integers), text
        points = (self.case.h + self.case.kh) * (self.case.w + self.case.kw)
        factor = normwise_factor(p.algorithm, points, terms, p.accumulate.u)
        stored = gamma(roundings, p.storage.u) * magnitude + (terms + roundings) * p.storage.tiny
        return factor * norm + stored, f"{p.algorithm}: {factor:.2e} * sum over channels of norms, plus storage"

    def budgets(self, dy: Array, x: Array, kernel: Array) -> dict[str, Budget]:
        """Of y without bias, dx and dkernel; `kernel` as the convolution uses it."""
        ones, (kh, kw, ci, _) = np.abs, kernel.shape
        options = {**self.options, **self.case.window} if self.options["padding"] != "valid" else self.options
        options = {**options, "groups": self.options["groups"]}
        n, oh, ow, co = dy.shape
        y = conv.conv2d(ones(x), ones(kernel), **options)
        dx, dkernel = conv.conv2d_vjp(ones(dy), ones(x), ones(kernel), **options)
        norm = [np.linalg.norm(a) for a in (x, kernel, dy)]
        return {
            "y": self.budget("the convolution", y, norm[0] * norm[1] * np.ones(y.shape), kh * kw * ci + 1, 2),
            "dx": self.budget("the cotangent", dx, norm[2] * norm[1] * np.ones(dx.shape),
                              kh * kw * (co // self.options["groups"]), 2),
            "dkernel": self.budget("the cotangent", dkernel, norm[0] * norm[2] * np.ones(dkernel.shape),
                                   n * oh * ow, 2),
            "magnitude": (dkernel, ""),
            "y magnitude": (y, ""),
        }  # fmt: skip


def finish_y(
    y: Array, budgets: dict[str, Budget], case: Case, precision: Precision, steps: Steps, terms: int
) -> tuple[Array, dict[str, Budget]]:
    """Bias, and the budgets of y with it and of dbias."""
    arrays = case.arrays
    if not case.bias:
        return steps.after(y), budgets
    integers = exact(case, precision)
    magnitude = budgets["y magnitude"][0] + np.abs(arrays["bias"])
    own = sum_budget(magnitude, terms, 2, precision, integers=integers)
    text = (
        f"(gamma_{terms}({precision.accumulate.name}) + gamma_2({precision.storage.name})) * (convolution of "
        f"magnitudes + |bias|){'; 0 where sums of integers stay below 2**bits' if integers else ''}"
    )
    if precision.algorithm != "direct":
        own, text = budgets["y"][0] + sum_budget(magnitude, 1, 2, precision), budgets["y"][1]
    n, oh, ow, _ = arrays["dy"].shape
    count = n * oh * ow
    dbias = sum_budget(np.abs(arrays["dy"]).sum(axis=(0, 1, 2)), count, 3, precision, integers=integers)
    derivation = f"(gamma_{count}({precision.accumulate.name}) + gamma_3({precision.storage.name})) * sum of |dy|"
    return steps.after(steps.add_bias(y, arrays["bias"])), {**budgets, "y": (own, text), "dbias": (dbias, derivation)}


def exact(case: Case, precision: Precision) -> bool:
    """Whether sums are integers that direct convolution adds without rounding."""
    return case.numbers == "integer" and precision.algorithm == "direct" and precision.exact
