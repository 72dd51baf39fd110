# ruff: noqa: E501 - an edit of source is easiest to read in one line
"""More faults planted in `torch_layer`: one for most of the mistakes that a diagnosis can name.

The list of known mistakes and this one grew together, so they test that each name works, not how many faults of
strangers get one: that is what `mutants` is for.
"""

from tests.check.mutants import Mutant

BEFORE = "        before = total // 2\n"
INSIDE = "        inside = scores.abs() < 1\n        return torch.where(inside, grad, 0.1 * grad)\n"
KERNEL = "        kernel = self.weight * self.mask()\n"
ROWS = "        rows = torch.arange(self.c_out) // self.group_out\n"
COLUMNS = "        columns = torch.arange(self.c_in) // self.group_in\n"
ENABLED = "        return torch.where(on, mask, torch.ones_like(mask))\n"
INDEXED = "        mask = self.patterns()[rows][:, columns]\n"
PATTERN = "            return Step.apply(self.scores)\n"
CONV = "        y = F.conv2d(x, kernel, stride=self.stride, dilation=self.dilation)\n"
BIAS = "            y = y + self.bias[:, None, None]\n"
PADDED = "        x = pad(x, self.padding, self.kernel_size, self.stride, self.dilation)\n"
MODULE = "class LhcConv2d(nn.Module):\n"
TOTAL = "        total = max((out - 1) * s + d * (k - 1) + 1 - size, 0)\n"
WINNER = "        winner = (scores == scores.amax(dim=-1, keepdim=True)).to(torch.int8).argmax(dim=-1)\n"
HOT = "        return F.one_hot(winner, 15).to(scores.dtype)\n"
NEAR_MEAN = "        inside = (scores - center).abs() < 1\n        return torch.where(inside, grad, 0.1 * grad)\n"
COMBINE = 'torch.einsum("oik,kyx->oiyx", hot, PATTERNS.to(hot.dtype))'
PENALTY = "    return 0.01 * done / work + 0.99 * (density - target_density).abs()\n"
DONE = "    done = sum(m.sum() * p for m, p in zip(masks, pixels, strict=True))\n    work = sum(m.numel() * p for m, p in zip(masks, pixels, strict=True))\n"
DENSITY = "    density = sum(m.sum() for m in masks) / sum(m.numel() for m in masks)\n"
HOOK = (
    "            b = self.bias * 1.0\n            b.register_hook(lambda g: {})\n            y = y + b[:, None, None]\n"
)
TF32 = '''def coarse(t, bits=13):
    """Rounded to 10 explicit bits, as tensor cores read float32."""
    if t.dtype != torch.float32:
        return t
    i = t.detach().view(torch.int32)
    return t + (((i + (1 << (bits - 1))) >> bits << bits).view(torch.float32) - t).detach()


'''
BF16 = """def coarse(t):
    return t + (t.detach().bfloat16().to(t.dtype) - t).detach()


"""
COARSE_CONV = """        y = F.conv2d(coarse(x), coarse(kernel), stride=self.stride, dilation=self.dilation)
        y.register_hook(lambda g: coarse(g))
"""

_SINGLE = [
    # --- The convolution
    Mutant("turned", ("true convolution: the kernel is flipped",), ((KERNEL, KERNEL.replace("self.mask()\n", "self.mask()\n        kernel = kernel.flip(2, 3)\n")),)),
    Mutant("transposed-taps", ("the kernel's rows and columns are swapped",), ((KERNEL, KERNEL + "        kernel = kernel.transpose(2, 3)\n"),)),
    Mutant("weight-as-iohw", ("the weight's memory is read as IOHW",), ((KERNEL, "        weight = self.weight.reshape(self.c_in, self.c_out, *self.kernel_size).transpose(0, 1)\n        kernel = weight * self.mask()\n"),)),
    Mutant("weight-as-hwio", ("the weight's memory is read as HWIO",), ((KERNEL, "        weight = self.weight.reshape(*self.kernel_size, self.c_in, self.c_out).permute(3, 2, 0, 1)\n        kernel = weight * self.mask()\n"),)),
    Mutant("x-as-nhwc", ("the image's memory is read as NHWC though it is NCHW",), ((PADDED, "        n, c, h, w = x.shape\n        x = x.reshape(n, h, w, c).permute(0, 3, 1, 2)\n" + PADDED),)),
    Mutant("pad-at-start", ("the odd pixel of same padding is put at the start",), ((BEFORE, "        before = total - total // 2\n"),)),
    Mutant("pad-symmetric", ("same padding is k//2 on both sides, whatever the stride",), ((TOTAL, "        total = d * (k - 1)\n"), (BEFORE, "        before = d * (k // 2)\n"), ("pads += [before, total - before]", "pads += [before, before]"))),
    Mutant("pad-stride-one", ("same padding is worked out as for stride 1",), ((TOTAL, "        total = d * (k - 1)\n"),)),
    Mutant("pad-undilated", ("same padding forgets the dilation",), ((TOTAL, "        total = max((out - 1) * s + k - size, 0)\n"),)),
    Mutant("pad-transposed", ("explicit pads of rows and columns are swapped",), (("F.pad(x, [left, right, top, bottom])", "F.pad(x, [top, bottom, left, right])"),)),
    Mutant("stride-swapped", ("vertical and horizontal stride are swapped in the convolution",), ((CONV, CONV.replace("stride=self.stride", "stride=self.stride[::-1]")),)),
    Mutant("stride-ignored", ("stride is taken by slicing from the second pixel",), ((CONV, "        y = F.conv2d(x, kernel, dilation=self.dilation)\n        y = y.roll((-1, -1), (2, 3))[:, :, :: self.stride[0], :: self.stride[1]] if max(self.stride) > 1 else y\n"),)),
    Mutant("relu", ("a ReLU is built in",), ((BIAS, BIAS + "        y = torch.relu(y)\n"),)),
    Mutant("bias-twice", ("the bias is added twice",), ((CONV, CONV.replace("kernel, stride", "kernel, self.bias, stride")),)),
    Mutant("tf32", ("TF32 arithmetic",), ((MODULE, TF32 + MODULE), (CONV, COARSE_CONV))),
    Mutant("tf32-truncated", ("TF32 arithmetic that drops the last bits",), ((MODULE, TF32.replace("i + (1 << (bits - 1))", "i") + MODULE), (CONV, COARSE_CONV))),
    Mutant("autocast", ("an autocast to bfloat16, which float64 does not go through",), ((CONV, "        with torch.autocast('cpu', torch.bfloat16):\n            y = F.conv2d(x, kernel, stride=self.stride, dilation=self.dilation).to(x.dtype)\n"),)),
    Mutant("bf16", ("bfloat16 arithmetic",), ((MODULE, BF16 + MODULE), (CONV, COARSE_CONV))),
    Mutant("bf16-output", ("the output passes through bfloat16",), ((BIAS, BIAS + "        y = y.bfloat16().to(y.dtype)\n"),)),
    # --- The mask
    Mutant("step-at-zero", ("the step is on at zero",), (("(scores > 0).to", "(scores >= 0).to"),)),
    Mutant("nan-is-on", ("a NaN score switches its tap on",), (("(scores > 0).to", "(~(scores <= 0)).to"),)),
    Mutant("tiled", ("groups are tiled instead of repeated, both channels",), ((ROWS, "        rows = torch.arange(self.c_out) % -(-self.c_out // self.group_out)\n"), (COLUMNS, "        columns = torch.arange(self.c_in) % -(-self.c_in // self.group_in)\n"))),
    Mutant("tiled-inputs", ("groups of input channels are tiled",), ((COLUMNS, "        columns = torch.arange(self.c_in) % -(-self.c_in // self.group_in)\n"),)),
    Mutant("short-first", ("the short group is the first one, not the last",), ((ROWS, "        rows = (torch.arange(self.c_out) + -self.c_out % self.group_out) // self.group_out\n"), (COLUMNS, "        columns = (torch.arange(self.c_in) + -self.c_in % self.group_in) // self.group_in\n"))),
    Mutant("enabled-ignored", ("enabled is ignored",), ((ENABLED, "        return mask\n"),)),
    Mutant("enabled-inverted", ("enabled is inverted",), (("        on = self.enabled[:, None", "        on = ~self.enabled[:, None"),)),
    Mutant("enabled-off", ("channels not enabled are switched off instead of dense",), ((ENABLED, ENABLED.replace("ones_like", "zeros_like")),)),
    Mutant("enabled-leak", ("scores of channels that are not enabled get a gradient",), ((ENABLED, "        return torch.where(on, mask, mask + (1 - mask).detach())\n"),)),
    # --- Slopes
    Mutant("slope-zero", ("the slope outside the window is 0",), ((INSIDE, INSIDE.replace("0.1 * grad", "0 * grad")),)),
    Mutant("slope-one", ("the slope outside the window is 1",), ((INSIDE, INSIDE.replace("0.1 * grad", "grad")),)),
    Mutant("slope-hundredth", ("the slope outside the window is 0.01",), ((INSIDE, INSIDE.replace("0.1", "0.01")),)),
    Mutant("slope-edge", ("the window includes its edges",), ((INSIDE, INSIDE.replace("< 1", "<= 1")),)),
    Mutant("slope-one-sided", ("the window has no lower edge",), ((INSIDE, INSIDE.replace("scores.abs()", "scores")),)),
    Mutant("slope-half", ("the window is half as wide",), ((INSIDE, INSIDE.replace("< 1", "< 0.5")),)),
    Mutant("slope-sigmoid", ("the slope is the sigmoid's",), ((INSIDE, "        s = scores.sigmoid()\n        return grad * s * (1 - s)\n"),)),
    # --- Gradients
    Mutant("dkernel-leak", ("gradient leaks through masked taps",), ((KERNEL, "        w = self.weight\n        kernel = w + (w.detach() * self.mask() - w.detach())\n"),)),
    Mutant("dscores-of-masked", ("the scores' gradient uses the masked kernel, not the kernel",), ((KERNEL, "        mask = self.mask()\n        fixed = (self.weight * mask).detach()\n        kernel = self.weight * mask.detach() + fixed * (mask - mask.detach())\n"),)),
    Mutant("dscores-unweighted", ("the scores' gradient lacks the kernel as a factor",), ((KERNEL, "        mask = self.mask()\n        kernel = self.weight * mask.detach() + (mask - mask.detach())\n"),)),
    Mutant("dscores-mean", ("mean instead of sum over the group",), ((PATTERN, "            patterns = Step.apply(self.scores)\n            if patterns.requires_grad:\n                patterns.register_hook(lambda g: g / (self.group_in * self.group_out))\n            return patterns\n"),)),
    Mutant("dscores-short-group", ("no gradient for the scores of a short last group",), ((INDEXED, INDEXED + "        whole = (rows < self.c_out // self.group_out)[:, None] & (columns < self.c_in // self.group_in)\n        mask = torch.where(whole[:, :, None, None], mask, mask.detach())\n"),)),
    Mutant("dscores-first-copy", ("only the first copy in a group passes its gradient on",), ((INDEXED, INDEXED + "        first = (torch.arange(self.c_out) % self.group_out == 0)[:, None] & (torch.arange(self.c_in) % self.group_in == 0)\n        mask = torch.where(first[:, :, None, None], mask, mask.detach())\n"),)),
    Mutant("dscores-frozen", ("the mask is detached: scores get no gradient",), ((KERNEL, KERNEL.replace("self.mask()", "self.mask().detach()")),)),
    Mutant("dbias-batch-mean", ("the bias gradient is averaged over the batch",), ((BIAS, HOOK.format("g / x.shape[0]")),)),
    Mutant("dbias-mean", ("the bias gradient is averaged over batch and pixels",), ((BIAS, HOOK.format("g / (y.numel() / self.c_out)")),)),
    Mutant("dbias-first-image", ("the bias gradient is of the first image alone",), ((BIAS, "            y = torch.cat([y[:1] + self.bias[:, None, None], y[1:] + self.bias.detach()[:, None, None]])\n"),)),
    Mutant("dbias-zero", ("the bias gets no gradient",), ((BIAS, BIAS.replace("self.bias", "self.bias.detach()")),)),
    Mutant("dx-unmasked", ("dx uses the kernel without its mask",), ((CONV, CONV.replace("F.conv2d(x,", "F.conv2d(x.detach(),") + "        full = F.conv2d(x, self.weight.detach(), stride=self.stride, dilation=self.dilation)\n        y = y + (full - full.detach())\n"),)),
    Mutant("dx-scaled", ("dx is too large by 1e-4",), ((PADDED, PADDED + "        x.register_hook(lambda g: g * 1.0001)\n"),)),
    Mutant("dkernel-scaled", ("dkernel is too large by 1e-4",), ((KERNEL, "        weight = self.weight * 1.0\n        weight.register_hook(lambda g: g * 1.0001)\n        kernel = weight * self.mask()\n"),)),
    Mutant("dscores-scaled", ("dscores are too large by 1e-4",), ((INSIDE, INSIDE.replace("torch.where", "1.0001 * torch.where")),)),
    Mutant("dkernel-batch-mean", ("dkernel is averaged over the batch",), ((KERNEL, "        weight = self.weight * 1.0\n        weight.register_hook(lambda g: g / x.shape[0])\n        kernel = weight * self.mask()\n"),)),
    Mutant("dx-negative", ("dx has the wrong sign",), ((PADDED, PADDED + "        x.register_hook(lambda g: -g)\n"),)),
    Mutant("dx-unflipped", ("dx correlates with the kernel instead of its flip",), ((CONV, CONV.replace("F.conv2d(x,", "F.conv2d(x.detach(),") + "        other = F.conv2d(x, kernel.detach().flip(2, 3), stride=self.stride, dilation=self.dilation)\n        y = y + (other - other.detach())\n"),)),
    # --- Rigid patterns
    Mutant("rigid-ties", ("every tied maximum is marked",), ((HOT, "        return (scores == scores.amax(dim=-1, keepdim=True)).to(scores.dtype)\n"),), ("rigid",)),
    Mutant("rigid-last", ("the last tied maximum wins",), ((WINNER, WINNER.replace("(scores == scores.amax(dim=-1, keepdim=True)).to(torch.int8).argmax(dim=-1)", "14 - (scores == scores.amax(dim=-1, keepdim=True)).to(torch.int8).flip(-1).argmax(dim=-1)")),), ("rigid",)),
    Mutant("rigid-slope-about-zero", ("the rigid slope's window lies about 0, not about the mean",), ((NEAR_MEAN, NEAR_MEAN.replace("(scores - center)", "scores")),), ("rigid",)),
    Mutant("rigid-slope-one", ("the rigid slope is 1 everywhere",), ((NEAR_MEAN, "        return grad\n"),), ("rigid",)),
    Mutant("rigid-transposed", ("the patterns are transposed",), ((COMBINE, COMBINE.replace("kyx->oiyx", "kyx->oixy")),), ("rigid",)),
    Mutant("rigid-order", ("two of the patterns have changed places",), (("001/010/100 010/010/010 100/010/001", "100/010/001 010/010/010 001/010/100"),), ("rigid",)),
    Mutant("rigid-winner-only", ("only the winner's score gets a gradient",), ((NEAR_MEAN, "        inside = (scores - center).abs() < 1\n        hot = scores == scores.amax(dim=-1, keepdim=True)\n        return torch.where(inside, grad, 0.1 * grad) * (hot & (hot.cumsum(-1) == 1))\n"),), ("rigid",)),
    Mutant("rigid-edge", ("the rigid slope's window includes its edges",), ((NEAR_MEAN, NEAR_MEAN.replace("< 1", "<= 1")),), ("rigid",)),
    Mutant("rigid-through-mean", ("the gradient flows through the mean",), ((NEAR_MEAN, "        inside = (scores - center).abs() < 1\n        d = torch.where(inside, grad, 0.1 * grad)\n        return d - d.mean(dim=-1, keepdim=True)\n"),), ("rigid",)),
    # --- The regularizer
    Mutant("penalty-weights-swapped", ("the two weights of the penalty are swapped",), ((PENALTY, PENALTY.replace("0.01", "0.5").replace("0.99", "0.01").replace("0.5", "0.99")),), ("regularizer",)),
    Mutant("penalty-signed", ("the distance to the target is not made absolute",), ((PENALTY, PENALTY.replace(".abs()", "")),), ("regularizer",)),
    Mutant("penalty-unweighted", ("MACs are counted without the pixels",), ((DONE, "    done, work = sum(m.sum() for m in masks), sum(m.numel() for m in masks)\n"),), ("regularizer",)),
    Mutant("penalty-mean-density", ("the mean of the layers' densities stands for the density",), ((DENSITY, "    density = sum(m.mean() for m in masks) / len(masks)\n"),), ("regularizer",)),
    Mutant("penalty-squared", ("the distance to the target is squared",), ((PENALTY, PENALTY.replace(".abs()", "**2")),), ("regularizer",)),
    # --- Others
    Mutant("nm-no-decay", ("SR-STE without its decay",), (("grad + 2e-4 * (1 - mask) * weight", "grad"),), ("nm",)),
    Mutant("nm-decay-on-kept", ("SR-STE decays the kept weights",), (("(1 - mask) * weight", "mask * weight"),), ("nm",)),
    Mutant("nm-masked-gradient", ("N:M without straight-through: dropped weights get the decay alone",), (("return grad + 2e-4", "return grad * mask + 2e-4"),), ("nm",)),
    Mutant("hetconv-unshifted", ("HetConv's arrangement does not shift with the output",), (("mask[o, o % p :: p] = 1", "mask[o, ::p] = 1"),), ("hetconv",)),
    Mutant("hetconv-backwards", ("HetConv's arrangement shifts the other way",), (("mask[o, o % p :: p] = 1", "mask[o, -o % p :: p] = 1"),), ("hetconv",)),
    Mutant("csg-swapped", ("the slices run over input channels first",), ((".reshape(rows, columns, *kernel_size)[:c_out, :c_in]", ".reshape(columns, rows, *kernel_size).transpose(0, 1)[:c_out, :c_in]"),), ("csg",)),
    Mutant("csg-tiles", ("a slice is an s x s tile of channels, not a run",), ((".reshape(rows, columns, *kernel_size)[:c_out, :c_in]", ".reshape(rows // slice_out, columns // slice_in, slice_out, slice_in, *kernel_size).transpose(1, 2).reshape(rows, columns, *kernel_size)[:c_out, :c_in]"),), ("csg",)),
]  # fmt: skip

_BY_NAME = {m.name: m for m in _SINGLE}
PAIRS = (
    ("turned", "slope-zero"),
    ("tiled", "dbias-batch-mean"),
    ("enabled-ignored", "slope-edge"),
    ("dkernel-leak", "dbias-mean"),
    ("pad-at-start", "step-at-zero"),
    ("dscores-unweighted", "dbias-zero"),
    ("rigid-ties", "rigid-slope-about-zero"),
    ("dscores-mean", "slope-one"),
    ("rigid-order", "dx-negative"),
)


def _both(one: Mutant, two: Mutant) -> Mutant:
    levels = max(one.levels, two.levels)  # "rigid" before "free"
    return Mutant(f"{one.name}+{two.name}", one.faults + two.faults, one.edits + two.edits, levels)


DOUBLE = [_both(_BY_NAME[a], _BY_NAME[b]) for a, b in PAIRS]
MUTANTS = (*_SINGLE, *DOUBLE)
