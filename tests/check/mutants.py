"""Faults a researcher might make, each a source edit of `torch_layer`, written before its author read the diagnosis.

All there is of them was written from the specification alone, and no fault was dropped later.
"""

from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("torch_layer.py")


@dataclass(frozen=True)
class Mutant:
    """One planted mistake, or two at once.

    Attributes
    ----------
    name : of a double fault both names, joined by "+"
    faults : what is wrong
    edits : (old text, new text), each for every occurrence
    levels : what shows it
    """

    name: str
    faults: tuple[str, ...]
    edits: tuple[tuple[str, str], ...]
    levels: tuple[str, ...] = ("free",)

    def source(self) -> str:
        """The layer with its faults."""
        text = SOURCE.read_text(encoding="utf-8")
        for old, new in self.edits:
            if old not in text:
                raise ValueError(f"{self.name}: expected the text {old!r} in the layer, got none. Mend the edit.")
            text = text.replace(old, new)
        return text


STEP = "inside = scores.abs() < 1\n        return torch.where(inside, grad, 0.1 * grad)"
ROWS = "rows = torch.arange(self.c_out) // self.group_out"
COLUMNS = "columns = torch.arange(self.c_in) // self.group_in"
ENABLE = "return torch.where(on, mask, torch.ones_like(mask))"
KERNEL = "kernel = self.weight * self.mask()"
CONV = "y = F.conv2d(x, kernel, stride=self.stride, dilation=self.dilation)\n        if"
WITH = "stride=self.stride, dilation=self.dilation)\n        if"
SIDES = "pads += [before, total - before]"
BIAS = "y = y + self.bias[:, None, None]"
GROUPED = "mask = self.patterns()[rows][:, columns]"
FREE = "return Step.apply(self.scores)"
DONE = "0.01 * done / work + 0.99 * (density - target_density).abs()"
DENSITY = "density = sum(m.sum() for m in masks) / sum(m.numel() for m in masks)"
DECAY = "return grad + 2e-4 * (1 - mask) * weight, None, None"

FLIPPED = ((CONV, CONV.replace("kernel,", "kernel.flip(2, 3),")),)
AT_LEAST = (("(scores > 0)", "(scores >= 0)"),)
TILED_OUT = ((ROWS, "rows = torch.arange(self.c_out) % self.scores.shape[0]"),)
SHORT_FIRST = ((ROWS, "rows = (torch.arange(self.c_out) + -self.c_out % self.group_out) // self.group_out"),)
BEGIN = ((SIDES, "pads += [total - before, before]"),)
AVERAGED = (
    (FREE, "step = Step.apply(self.scores)\n"
           "            part = step / (self.group_in * self.group_out)\n"
           "            return part + (step - part).detach()"),
)  # fmt: skip
NO_ENABLED = ((ENABLE, "return mask"),)
HARD_TANH = ((STEP, "return torch.where(scores.abs() < 1, grad, torch.zeros_like(grad))"),)
IDENTITY = ((STEP, "return grad"),)
NO_MEAN = (("inside = (scores - center).abs() < 1", "inside = scores.abs() < 1"),)
TRANSPOSED_PATTERNS = (("oik,kyx->oiyx", "oik,kyx->oixy"),)
SWAPPED_STRIDE = ((WITH, WITH.replace("self.stride", "self.stride[::-1]")),)
LEAK = (
    (KERNEL, "mask = self.mask()\n"
             "        kernel = self.weight * mask + (self.weight - self.weight.detach()) * (1 - mask.detach())"),
)  # fmt: skip
BIAS_MEAN = (
    (BIAS, "part = self.bias / x.shape[0]\n        y = y + (part + (self.bias - part).detach())[:, None, None]"),
)
NO_DBIAS = ((BIAS, "y = y + self.bias.detach()[:, None, None]"),)
CLOSED = (("inside = scores.abs() < 1", "inside = scores.abs() <= 1"),)
SWAPPED_WEIGHTS = ((DONE, "0.99 * done / work + 0.01 * (density - target_density).abs()"),)
TWICE = ((KERNEL, "kernel = self.weight * self.mask() * self.mask()"),)
NO_DECAY = ((DECAY, "return grad, None, None"),)
BY_VALUE = (("block = weight[:, start : start + of].abs()", "block = weight[:, start : start + of]"),)
HALF = ((CONV, CONV.replace("(x, kernel, ", "(x.bfloat16(), kernel.bfloat16(), ").replace(")\n", ").to(x.dtype)\n")),)
ENABLED_LEAK = ((ENABLE, "return mask + (torch.where(on, mask, torch.ones_like(mask)) - mask).detach()"),)

MUTANTS = (
    Mutant("flipped", ("the kernel is turned by 180 degrees, a true convolution",), FLIPPED),
    Mutant("tiled_out", ("groups tiled rather than repeated along the output channels",), TILED_OUT),
    Mutant(
        "tiled_in",
        ("groups tiled rather than repeated along the input channels",),
        ((COLUMNS, "columns = torch.arange(self.c_in) % self.scores.shape[1]"),),
    ),
    Mutant(
        "even_groups",
        ("channels divided evenly among the groups, as nearest interpolation does, not group_out at a time",),
        ((ROWS, "rows = torch.arange(self.c_out) * self.scores.shape[0] // self.c_out"),),
    ),
    Mutant("short_first", ("the crop leaves the first group short, not the last (output channels)",), SHORT_FIRST),
    Mutant("at_least", ("a score of zero opens its tap: >= instead of >",), AT_LEAST),
    Mutant("half_threshold", ("the step at 0.5, not at 0",), (("(scores > 0)", "(scores > 0.5)"),)),
    Mutant("identity_slope", ("surrogate slope 1 everywhere",), IDENTITY),
    Mutant("hard_tanh", ("surrogate slope 0 outside the window, not 0.1",), HARD_TANH),
    Mutant("closed_window", ("the window includes |score| = 1",), CLOSED),
    Mutant(
        "one_sided",
        ("no absolute value: every score below 1 is in the window",),
        ((STEP, STEP.replace("scores.abs()", "scores")),),
    ),
    Mutant("slope_001", ("slope 0.01 outside the window, not 0.1",), ((STEP, STEP.replace("0.1", "0.01")),)),
    Mutant(
        "slopes_swapped",
        ("slope 0.1 inside the window and 1 outside",),
        ((STEP, STEP.replace("(inside, grad, 0.1 * grad)", "(inside, 0.1 * grad, grad)")),),
    ),
    Mutant(
        "flipped+no_dbias",
        ("the kernel is turned by 180 degrees", "the bias gets no gradient"),
        (*FLIPPED, *NO_DBIAS),
    ),
    Mutant(
        "clipped_scores",
        ("the scores' gradient clipped to [-1, 1]",),
        ((STEP, "grad = grad.clamp(-1, 1)\n        " + STEP),),
    ),
    Mutant(
        "sign_mask",
        ("the mask is -1 and 1, not 0 and 1",),
        (("return (scores > 0).to(scores.dtype)", "return 2 * (scores > 0).to(scores.dtype) - 1"),),
    ),
    Mutant(
        "detached_mask",
        ("the mask is detached: the scores get no gradient",),
        ((KERNEL, "kernel = self.weight * self.mask().detach()"),),
    ),
    Mutant("averaged", ("the scores' gradient is the mean over the group, not the sum",), AVERAGED),
    Mutant(
        "tie_all",
        ("every tied maximum of the 15 scores opens its pattern",),
        (
            (
                "return F.one_hot(winner, 15).to(scores.dtype)",
                "return (scores == scores.amax(dim=-1, keepdim=True)).to(scores.dtype)",
            ),
        ),
        ("rigid",),
    ),
    Mutant(
        "tie_last",
        ("the last of tied maxima wins",),
        (
            (
                "winner = (scores == scores.amax(dim=-1, keepdim=True)).to(torch.int8).argmax(dim=-1)",
                "winner = 14 - (scores == scores.amax(dim=-1, keepdim=True)).flip(-1).to(torch.int8).argmax(dim=-1)",
            ),
        ),
        ("rigid",),
    ),
    Mutant(
        "softmax_slope",
        ("the rigid surrogate is the softmax's derivative, not the window",),
        (
            (
                "hot = Choose.apply(self.scores)",
                "soft = self.scores.softmax(dim=-1)\n"
                "        hot = Choose.apply(self.scores).detach() + soft - soft.detach()",
            ),
        ),
        ("rigid",),
    ),
    Mutant("no_mean", ("the rigid window is around zero, not around the mean of the 15",), NO_MEAN, ("rigid",)),
    Mutant(
        "tiled_out+at_least",
        ("groups tiled rather than repeated (output)", "a score of zero opens its tap"),
        (*TILED_OUT, *AT_LEAST),
    ),
    Mutant(
        "mean_of_all",
        ("the rigid window is around the mean of all scores, not of each 15",),
        (("center = scores.mean(dim=-1, keepdim=True)", "center = scores.mean()"),),
        ("rigid",),
    ),
    Mutant("patterns_transposed", ("rows and columns of the 15 patterns exchanged",), TRANSPOSED_PATTERNS, ("rigid",)),
    Mutant(
        "diagonals",
        ("patterns 3 and 5 exchanged",),
        (("001/010/100 010/010/010 100/010/001", "100/010/001 010/010/010 001/010/100"),),
        ("rigid",),
    ),
    Mutant("no_enabled", ("enabled is ignored",), NO_ENABLED),
    Mutant(
        "inverted_enabled",
        ("enabled means the opposite",),
        ((ENABLE, "return torch.where(on, torch.ones_like(mask), mask)"),),
    ),
    Mutant(
        "disabled_is_off",
        ("a channel that is not enabled is masked out, not dense",),
        ((ENABLE, "return torch.where(on, mask, torch.zeros_like(mask))"),),
    ),
    Mutant("enabled_leak", ("scores get a gradient through channels that are not enabled",), ENABLED_LEAK),
    Mutant("leak", ("masked weights get a gradient",), LEAK),
    Mutant(
        "pad_begin+averaged",
        ("same: the odd pad at the beginning", "the scores' gradient averaged over the group"),
        (*BEGIN, *AVERAGED),
    ),
    Mutant(
        "masked_twice",
        ("the mask is multiplied in twice, so the scores' gradient is 2 where open and 0 where closed",),
        TWICE,
    ),
    Mutant(
        "weights_overwritten",
        ("masked weights are zeroed in place, so closed taps give their scores no gradient",),
        ((KERNEL, "with torch.no_grad():\n            self.weight.mul_(self.mask())\n        " + KERNEL),),
    ),
    Mutant("pad_begin", ("same: the odd pad at the beginning",), BEGIN),
    Mutant(
        "pad_torch",
        ("same: dilation * (k - 1) // 2 on both sides whatever the stride",),
        ((SIDES, "pads += [d * (k - 1) // 2, d * (k - 1) // 2]"),),
    ),
    Mutant("pad_stride_one", ("same: padded as for stride 1",), (("out = (size + s - 1) // s", "out, s = size, 1"),)),
    Mutant(
        "pad_replicate",
        ("same: padded with the border's values, not zeros",),
        (("return F.pad(x, pads)", 'return F.pad(x, pads, mode="replicate")'),),
    ),
    Mutant("hard_tanh+no_enabled", ("slope 0 outside the window", "enabled is ignored"), (*HARD_TANH, *NO_ENABLED)),
    Mutant(
        "no_mean+patterns_transposed",
        ("the rigid window around zero", "the patterns' rows and columns exchanged"),
        (*NO_MEAN, *TRANSPOSED_PATTERNS),
        ("rigid",),
    ),
    Mutant(
        "pads_swapped",
        ("explicit pads: height and width exchanged",),
        (("F.pad(x, [left, right, top, bottom])", "F.pad(x, [top, bottom, left, right])"),),
    ),
    Mutant("strides_swapped", ("the strides of height and width exchanged",), SWAPPED_STRIDE),
    Mutant(
        "dilations_swapped",
        ("the dilations of height and width exchanged",),
        ((WITH, WITH.replace("=self.dilation", "=self.dilation[::-1]")),),
    ),
    Mutant(
        "no_dilation_in_pad",
        ("same: the dilation is forgotten in the padding",),
        (("(out - 1) * s + d * (k - 1) + 1", "(out - 1) * s + k"),),
    ),
    Mutant(
        "kernel_turned_wh",
        ("kernels are laid out width before height",),
        ((CONV, CONV.replace("kernel,", "kernel.transpose(2, 3),")),),
    ),
    Mutant("bias_mean", ("the bias' gradient is averaged over the batch",), BIAS_MEAN),
    Mutant("no_bias", ("the bias is not added",), ((BIAS, "pass"),)),
    Mutant(
        "dense_dx",
        ("dx goes through the unmasked kernel",),
        (
            (
                CONV,
                "y = F.conv2d(x.detach(), kernel, stride=self.stride, dilation=self.dilation)\n"
                "        through = F.conv2d(x, self.weight.detach(), stride=self.stride, dilation=self.dilation)\n"
                "        y = y + through - through.detach()\n        if",
            ),
        ),
    ),
    Mutant("strides_swapped+leak", ("strides exchanged", "masked weights get a gradient"), (*SWAPPED_STRIDE, *LEAK)),
    Mutant(
        "mean_density",
        ("regularizer: mean of the layers' densities, not the density of all",),
        ((DENSITY, "density = sum(m.mean() for m in masks) / len(masks)"),),
        ("regularizer",),
    ),
    Mutant("weights_swapped", ("regularizer: 0.01 and 0.99 exchanged",), SWAPPED_WEIGHTS, ("regularizer",)),
    Mutant(
        "squared",
        ("regularizer: the square of the distance, not its absolute value",),
        ((DONE, DONE.replace(".abs()", "**2")),),
        ("regularizer",),
    ),
    Mutant(
        "no_pixels",
        ("regularizer: the work without the output pixels",),
        (("m.sum() * p for", "m.sum() for"), ("m.numel() * p for", "m.numel() for")),
        ("regularizer",),
    ),
    Mutant(
        "closed_window+weights_swapped",
        ("the window includes |score| = 1", "regularizer: 0.01 and 0.99 exchanged"),
        (*CLOSED, *SWAPPED_WEIGHTS),
        ("free", "regularizer"),
    ),
    Mutant(
        "hetconv_unshifted",
        ("HetConv: the full channels do not shift with the output channel",),
        (("mask[o, o % p :: p] = 1", "mask[o, ::p] = 1"),),
        ("hetconv",),
    ),
    Mutant(
        "csg_tiles",
        ("CSG: each slice is a tile, not a run in OIHW order",),
        (
            (
                "kernel = F.linear(codes, generator).reshape(rows, columns, *kernel_size)[:c_out, :c_in]",
                "counts = (rows // slice_out, columns // slice_in)\n"
                "    tiles = F.linear(codes, generator).reshape(*counts, slice_out, slice_in, -1)\n"
                "    kernel = tiles.transpose(1, 2).reshape(rows, columns, *kernel_size)[:c_out, :c_in]",
            ),
        ),
        ("csg",),
    ),
    Mutant(
        "lean_no_stride",
        ("lean: the 1x1 reads the last pixel of each stride, not the first",),
        (
            (
                "return y + F.conv2d(x, pointwise, stride=stride)",
                "sides = [0, -x.shape[3] % stride[1], 0, -x.shape[2] % stride[0]]\n"
                "    seen = F.pad(x, sides)[:, :, stride[0] - 1 :: stride[0], stride[1] - 1 :: stride[1]]\n"
                "    return y + F.conv2d(seen, pointwise)",
            ),
        ),
        ("lean",),
    ),
    Mutant("nm_no_decay", ("N:M: the pull of the masked weights is forgotten",), NO_DECAY, ("nm",)),
    Mutant("nm_by_value", ("N:M: the largest values kept, not the largest magnitudes",), BY_VALUE, ("nm",)),
    Mutant(
        "nm_no_decay+nm_by_value",
        ("N:M: no pull of the masked weights", "N:M: the largest values kept"),
        (*NO_DECAY, *BY_VALUE),
        ("nm",),
    ),
    Mutant("bfloat16", ("the convolution runs in bfloat16",), HALF),
    Mutant(
        "single",
        ("the convolution runs in float32 whatever is asked",),
        ((CONV, CONV.replace("(x, kernel, ", "(x.float(), kernel.float(), ").replace(")\n", ").to(x.dtype)\n")),),
    ),
    Mutant(
        "tiny_mask",
        ("closed taps pass 0.001 of the weight",),
        ((ENABLE, ENABLE.replace("mask, torch", "mask.clamp(min=1e-3), torch")),),
    ),
    Mutant("dropout", ("a dropout is left on",), ((KERNEL, "kernel = F.dropout(self.weight, 0.05) * self.mask()"),)),
    Mutant(
        "batch_centered",
        ("the input is centred over the batch",),
        ((KERNEL, "x = x - x.mean(dim=0, keepdim=True)\n        " + KERNEL),),
    ),
    Mutant(
        "stale_mask",
        ("the mask is cached by the scores' shape and goes stale",),
        (
            (
                GROUPED,
                "shape = (self.c_out, self.c_in, *self.scores.shape)\n"
                "        mask = CACHE.setdefault(shape, self.patterns()[rows][:, columns].detach())",
            ),
            ("class Step(", "CACHE = {}\n\n\nclass Step("),
        ),
    ),
    Mutant(
        "bfloat16+enabled_leak",
        ("the convolution runs in bfloat16", "scores get a gradient through channels not enabled"),
        (*HALF, *ENABLED_LEAK),
    ),
    Mutant(
        "short_first+bias_mean",
        ("the first group is short, not the last", "the bias' gradient averaged over the batch"),
        (*SHORT_FIRST, *BIAS_MEAN),
    ),
)

# Nothing named their causes at first. Then the list of known mistakes was extended, with these in view.
NAMED_LATER = frozenset(
    {
        "even_groups", "clipped_scores", "softmax_slope", "mean_of_all", "masked_twice", "pad_replicate",
        "lean_no_stride", "bfloat16", "single", "tiny_mask", "dropout", "batch_centered", "stale_mask",
        "bfloat16+enabled_leak",
    }
)  # fmt: skip
