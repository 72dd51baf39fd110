# ruff: noqa: E501 - an edit of source is easiest to read in one line
"""A second list of faults planted in `torch_layer`: what else people make, chosen because the diagnosis did not know it.

The diagnosis as it was named those of `NAMED_AT_ONCE`; then it learned of others, with these in view.
"""

from tests.check.mutants import Mutant

INSIDE = "        inside = scores.abs() < 1\n        return torch.where(inside, grad, 0.1 * grad)\n"
NEAR_MEAN = "        inside = (scores - center).abs() < 1\n        return torch.where(inside, grad, 0.1 * grad)\n"
KERNEL = "        kernel = self.weight * self.mask()\n"
ENABLED = "        return torch.where(on, mask, torch.ones_like(mask))\n"
PATTERN = "            return Step.apply(self.scores)\n"
CONV = "        y = F.conv2d(x, kernel, stride=self.stride, dilation=self.dilation)\n"
PADDED = "        x = pad(x, self.padding, self.kernel_size, self.stride, self.dilation)\n"
COMBINE = '        return torch.einsum("oik,kyx->oiyx", hot, PATTERNS.to(hot.dtype))\n'
CHOOSE = "        hot = Choose.apply(self.scores)\n"
PENALTY = "    return 0.01 * done / work + 0.99 * (density - target_density).abs()\n"
HALF = (
    CONV,
    "        y = F.conv2d(x.bfloat16(), kernel.bfloat16(), stride=self.stride, dilation=self.dilation).to(x.dtype)\n",
)
SYMMETRIC = ("pads += [before, total - before]", "pads += [d * (k - 1) // 2, d * (k - 1) // 2]")
SINGLE_SLOPE = (INSIDE, "        return grad * torch.where(scores.abs() < 1, 1.0, 0.1)\n")

MUTANTS = (
    # --- The slope
    Mutant("slope_single", ("the slope is made in float32 whatever the dtype, so that 0.1 is not float64's",), (SINGLE_SLOPE,)),
    Mutant("slope_triangle", ("the surrogate is a triangle: 1 - |score|, not below 0",), ((INSIDE, "        return grad * (1 - scores.abs()).clamp(min=0)\n"),)),
    Mutant("slope_polynomial", ("the surrogate is Bi-Real Net's: 2 - 2 |score| inside the window",), ((INSIDE, "        return grad * (2 - 2 * scores.abs()).clamp(min=0)\n"),)),
    Mutant("slope_arctan", ("the surrogate is the arctangent's derivative",), ((INSIDE, "        return grad / (1 + scores**2)\n"),)),
    Mutant("slope_steep_sigmoid", ("the surrogate is the derivative of sigmoid(5 score)",), ((INSIDE, "        s = (5 * scores).sigmoid()\n        return 5 * grad * s * (1 - s)\n"),)),
    Mutant("slope_of_sigmoid_mask", ("scores pass a sigmoid first, and the step is at 0.5 of that",), ((PATTERN, "            return Step.apply(self.scores.sigmoid() - 0.5)\n"),)),
    Mutant("slope_of_gradient", ("the window looks at the gradient, not at the score",), ((INSIDE, INSIDE.replace("scores.abs()", "grad.abs()")),)),
    # --- The mask
    Mutant("kept_rescaled", ("kept weights are scaled up by 1/density, as dropout does",), ((KERNEL, KERNEL + "        kernel = kernel / self.mask().mean().clamp(min=1e-3)\n"),)),
    Mutant("kept_rescaled_detached", ("kept weights are scaled up by 1/density, without gradient",), ((KERNEL, KERNEL + "        kernel = kernel / self.mask().detach().mean().clamp(min=1e-3)\n"),)),
    Mutant("step_about_mean", ("the step is about the mean of the scores",), ((PATTERN, "            return Step.apply(self.scores - self.scores.mean())\n"),)),
    Mutant("step_inverted_band", ("a tap is on where the score is in the window, |score| < 1",), (("return (scores > 0).to(scores.dtype)", "return (scores.abs() < 1).to(scores.dtype)"),)),
    Mutant("quantile_mask", ("the upper half of the scores is on, whatever their sign",), (("return (scores > 0).to(scores.dtype)", "return (scores > scores.median()).to(scores.dtype)"),)),
    Mutant("centre_always_on", ("the centre tap is always on",), ((ENABLED, "        mask = torch.where(on, mask, torch.ones_like(mask))\n        centre = torch.zeros_like(mask)\n        centre[:, :, mask.shape[2] // 2, mask.shape[3] // 2] = 1\n        return torch.maximum(mask, centre)\n"),)),
    Mutant("pointwise_dense", ("1x1 kernels are left dense",), ((ENABLED, "        if self.kernel_size == (1, 1):\n            return torch.ones_like(mask)\n" + ENABLED),)),
    Mutant("enabled_by_input", ("enabled switches input channels",), ((ENABLED, "        on = self.enabled[torch.arange(self.c_in) % self.c_out][None, :, None, None]\n" + ENABLED),)),
    Mutant("enabled_early", ("enabled is applied to the groups: the first channel of a group decides",), ((ENABLED, "        on = self.enabled[rows * self.group_out][:, None, None, None]\n" + ENABLED),)),
    # --- Gradients
    Mutant("dscores_by_inputs", ("the scores' gradient is divided by the number of input channels",), ((PATTERN, "            patterns = Step.apply(self.scores)\n            if patterns.requires_grad:\n                patterns.register_hook(lambda g: g / self.c_in)\n            return patterns\n"),)),
    Mutant("dscores_normalised", ("the scores' gradient is divided by its norm",), ((INSIDE, "        grad = grad / grad.norm().clamp(min=1e-12)\n" + INSIDE),)),
    Mutant("weight_decay_inside", ("the weight decay is added in the layer, 1e-4 times the weight",), ((KERNEL, "        weight = self.weight * 1.0\n        if weight.requires_grad:\n            weight.register_hook(lambda g: g + 1e-4 * self.weight.detach())\n        kernel = weight * self.mask()\n"),)),
    Mutant("dx_first_row_lost", ("the first row of dx is lost",), ((PADDED, "        inner = torch.ones_like(x)\n        inner[:, :, 0] = 0\n        x = x * inner + (x * (1 - inner)).detach()\n" + PADDED),)),
    # --- Rigid patterns
    Mutant("rigid_averaged", ("each pattern is divided by its number of taps",), ((COMBINE, COMBINE.replace("PATTERNS.to(hot.dtype)", "PATTERNS.to(hot.dtype) / PATTERNS.sum((1, 2), keepdim=True).clamp(min=1)")),), ("rigid",)),
    Mutant("rigid_without_empty", ("the table begins with the centre tap: patterns are one further",), ((COMBINE, COMBINE.replace("PATTERNS.to", "PATTERNS.roll(-1, 0).to")),), ("rigid",)),
    Mutant("rigid_by_size", ("of the 15 scores the largest in size wins",), (("winner = (scores == scores.amax(dim=-1, keepdim=True)).to(torch.int8).argmax(dim=-1)", "winner = (scores.abs() == scores.abs().amax(dim=-1, keepdim=True)).to(torch.int8).argmax(dim=-1)"),), ("rigid",)),
    Mutant("rigid_soft", ("the rigid mask is the softmax's mean of the patterns",), ((CHOOSE, "        hot = self.scores.softmax(-1)\n"),), ("rigid",)),
    # --- Others
    Mutant("penalty_input_pixels", ("regularizer: the distance counts kept weights by pixels as well",), (("    density = sum(m.sum() for m in masks) / sum(m.numel() for m in masks)\n", "    density = done / work\n"),), ("regularizer",)),
    Mutant("penalty_relative", ("regularizer: the distance is relative to the target",), ((PENALTY, PENALTY.replace("(density - target_density)", "(density / target_density - 1)")),), ("regularizer",)),
    Mutant("hetconv_block", ("HetConv: the full channels are the first, in one block",), (("mask[o, o % p :: p] = 1", "mask[o, : mask.shape[1] // p] = 1"),), ("hetconv",)),
    Mutant("nm_over_outputs", ("N:M: runs of M are taken along the output channels",), (("        mask = torch.zeros_like(weight)\n        for start in range(0, weight.shape[1], of):\n            block = weight[:, start : start + of].abs()\n            count = -(-keep * block.shape[1] // of)\n            top = block.sort(dim=1, descending=True, stable=True).indices[:, :count]\n            mask[:, start : start + of].scatter_(1, top, 1)\n", "        mask = torch.zeros_like(weight)\n        for start in range(0, weight.shape[0], of):\n            block = weight[start : start + of].abs()\n            count = -(-keep * block.shape[0] // of)\n            top = block.sort(dim=0, descending=True, stable=True).indices[:count]\n            mask[start : start + of].scatter_(0, top, 1)\n"),), ("nm",)),
    Mutant("nm_floor", ("N:M: a short last run keeps the floor, not the ceiling",), (("count = -(-keep * block.shape[1] // of)", "count = keep * block.shape[1] // of"),), ("nm",)),
    Mutant("csg_reversed", ("CSG: the output channels come in reverse order",), (("F.linear(codes, generator).reshape(rows, columns, *kernel_size)[:c_out, :c_in]", "F.linear(codes, generator).reshape(rows, columns, *kernel_size).flip(0)[:c_out, :c_in]"),), ("csg",)),
    Mutant("lean_pooled", ("lean: with a stride, the 1x1 reads the mean of the pixels",), (("return y + F.conv2d(x, pointwise, stride=stride)", "return y + F.conv2d(F.avg_pool2d(x, stride, ceil_mode=True), pointwise)"),), ("lean",)),
    # --- Two at once
    Mutant("bfloat16+closed_window", ("the convolution runs in bfloat16", "the window includes |score| = 1"), (HALF, (INSIDE, INSIDE.replace("< 1", "<= 1")))),
    Mutant("pad_torch+slope_single", ("same: symmetric, whatever the stride", "the slope is made in float32"), (SYMMETRIC, SINGLE_SLOPE)),
    Mutant("bfloat16+tiled_out", ("the convolution runs in bfloat16", "groups of output channels tiled"), (HALF, ("rows = torch.arange(self.c_out) // self.group_out", "rows = torch.arange(self.c_out) % self.scores.shape[0]"))),
)  # fmt: skip

NAMED_AT_ONCE = frozenset({"slope_single", "slope_of_sigmoid_mask", "rigid_soft"})
