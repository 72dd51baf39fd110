"""Faults in the operators, the masks, the LHC layer and the density regularizer."""

from tests.meta.mutants import Mutant

CONV = ("tests/lhc_ref/test_conv.py",)
OPS = ("tests/lhc_ref/test_ops.py",)
MASK = ("tests/lhc_ref/test_mask.py",)
LHC = ("tests/lhc_ref/test_lhc_oracle.py",)
SHAPES = ("tests/lhc_ref/test_shapes.py",)
TRANSPOSE = ("tests/lhc_ref/test_conv_transpose.py",)
EVERY = ("tests/lhc_ref/test_every_operator.py",)

OPERATORS = (
    # --- Convolution -------------------------------------------------------------------------------------------------
    Mutant(
        "conv-drops-last-tap-of-a-row", "lhc_ref/conv.py",
        "(self.kw - 1) * dx + 1", "max((self.kw - 2) * dx, 0) + 1", CONV, within="windows", quick=True,
    ),
    Mutant(
        "conv-flips-the-kernel", "lhc_ref/conv.py",
        "kernel.reshape(-1, self.c_out)", "kernel[::-1, ::-1].reshape(-1, self.c_out)", CONV, within="convolve",
    ),
    Mutant(
        "conv-same-puts-odd-pixel-first", "lhc_ref/conv.py",
        "return total // 2, total - total // 2", "return total - total // 2, total // 2", CONV,
    ),
    Mutant(
        "conv-same-forgets-dilation", "lhc_ref/conv.py",
        "(k - 1) * dilation", "(k - 1)", CONV, within="_same",
    ),
    Mutant(
        "conv-swaps-explicit-pads", "lhc_ref/conv.py",
        "((0, 0), *pads, (0, 0))", "((0, 0), *(pad[::-1] for pad in pads), (0, 0))", CONV, within="pad_image",
    ),
    Mutant(
        "conv-scale-error-of-1e-5", "lhc_ref/conv.py",
        "return case.convolve(pad_image(x, case.pads), kernel)",
        "return case.convolve(pad_image(x, case.pads), kernel) * (1 + 1e-5)", CONV, within="conv2d", quick=True,
    ),
    Mutant(
        "conv-dx-forgets-left-pad", "lhc_ref/conv.py",
        "spread[:, top : top + h + reach_y, left : left + w + reach_x]",
        "spread[:, top : top + h + reach_y, : w + reach_x]", CONV, within="conv2d_dx",
    ),
    Mutant(
        "conv-dx-kernel-not-transposed-per-group", "lhc_ref/conv.py",
        "self.split(kernel[::-1, ::-1])", "self.split(kernel[::-1, ::-1])[::-1]", CONV, within="flipped",
    ),
    Mutant(
        "conv-dkernel-forgets-group-order", "lhc_ref/conv.py",
        "namespace(x).moveaxis(dmatrix, 0, 1).reshape(kernel.shape)", "dmatrix.reshape(kernel.shape)", CONV,
    ),
    Mutant(
        "conv-blocks-forget-where-they-start", "lhc_ref/conv.py",
        "slice(oy, min(oy + lines, self.oh))", "slice(0, min(oy + lines, self.oh) - oy)", CONV,
    ),
    Mutant(
        "conv-last-block-of-images-dropped", "lhc_ref/conv.py",
        "range(0, self.n, images)", "range(0, self.n - self.n % images, images)", CONV,
    ),
    Mutant(
        "transposed-conv-kernel-gradient-upside-down", "lhc_ref/conv_transpose.py",
        "conv2d_dkernel(x, dy, kernel, **options)", "conv2d_dkernel(x, dy, kernel, **options)[::-1]", TRANSPOSE,
    ),
    Mutant(
        "conv-swaps-strides", "lhc_ref/conv.py",
        "(sy, sx), (dy, dx) = self.stride, self.dilation", "(sx, sy), (dy, dx) = self.stride, self.dilation", CONV,
    ),
    # --- Masks -------------------------------------------------------------------------------------------------------
    Mutant(
        "step-counts-zero-as-on", "lhc_ref/mask.py",
        "scores > 0", "scores >= 0", MASK, within="step",
    ),
    Mutant(
        "step-slope-includes-one", "lhc_ref/mask.py",
        "abs(scores) < 1", "abs(scores) <= 1", MASK, within="_slope",
    ),
    Mutant(
        "step-slope-zero-outside-window", "lhc_ref/mask.py",
        "scores.dtype.type(0.1)", "scores.dtype.type(0)", MASK, within="_slope",
    ),
    Mutant(
        "rigid-slope-forgets-the-mean", "lhc_ref/mask.py",
        "_slope(scores - scores.mean(axis=0))", "_slope(scores)", MASK, within="rigid_one_hot_vjp",
    ),
    Mutant(
        "rigid-marks-every-tied-maximum", "lhc_ref/mask.py",
        "xp.arange(len(PATTERNS))[:, None, None] == scores.argmax(axis=0)", "scores == scores.max(axis=0)", MASK,
        within="rigid_one_hot",
    ),
    Mutant(
        "rigid-last-maximum-wins", "lhc_ref/mask.py",
        "scores.argmax(axis=0)", "(len(PATTERNS) - 1 - scores[::-1].argmax(axis=0))", MASK, within="rigid_one_hot",
    ),
    Mutant(
        "groups-tiled-not-repeated", "lhc_ref/mask.py",
        "patterns.repeat(group_in, axis=2)[:, :, :c_in]",
        "namespace(patterns).tile(patterns, (1, 1, group_in, 1))[:, :, :c_in]", MASK, within="expand_groups",
        quick=True,
    ),
    Mutant(
        "first-group-cropped-not-last", "lhc_ref/mask.py",
        "patterns.repeat(group_in, axis=2)[:, :, :c_in]", "patterns.repeat(group_in, axis=2)[:, :, -c_in:]", MASK,
    ),
    Mutant(
        "group-gradient-is-a-mean", "lhc_ref/mask.py",
        "namespace(dy).pad(dy, whole).reshape(kh, kw, gi, group_in, go, group_out).sum(axis=(3, 5))",
        "namespace(dy).pad(dy, whole).reshape(kh, kw, gi, group_in, go, group_out).mean(axis=(3, 5))", MASK,
    ),
    Mutant(
        "patterns-transposed-in-their-gradient", "lhc_ref/mask.py",
        "xp.tensordot(_patterns(dy), dy, axes=((1, 2), (0, 1)))",
        "xp.tensordot(_patterns(dy), dy, axes=((2, 1), (0, 1)))", MASK,
    ),
    Mutant(
        "free-mask-forgets-the-slope", "lhc_ref/mask.py", "step_vjp(dstep, scores)", "(dstep,)", MASK,
    ),
    Mutant(
        "rigid-mask-of-the-worst-pattern", "lhc_ref/mask.py",
        "combine_patterns(rigid_one_hot(scores))", "combine_patterns(rigid_one_hot(-scores))", MASK,
    ),
    Mutant(
        "enabled-ignored", "lhc_ref/mask.py",
        "return apply_enabled(mask, enabled)", "return mask", MASK, within="lhc_mask", quick=True,
    ),
    Mutant(
        "enabled-inverted", "lhc_ref/mask.py",
        "namespace(mask).where(enabled, mask, mask.dtype.type(1))",
        "namespace(mask).where(enabled, mask.dtype.type(1), mask)", MASK,
    ),
    Mutant(
        "enabled-ignored-in-gradient", "lhc_ref/mask.py",
        "namespace(mask).where(enabled, dy, dy.dtype.type(0))", "dy", MASK, within="apply_enabled_vjp",
    ),
    # --- The layer and the regularizer -------------------------------------------------------------------------------
    Mutant(
        "layer-ignores-its-mask", "lhc_ref/layers.py",
        'apply(ops.multiply, run.weight(self, "kernel"), kept)', 'run.weight(self, "kernel")', LHC, quick=True,
    ),
    Mutant(
        "frozen-layer-still-uses-enabled", "lhc_ref/layers.py",
        "enabled if self.formable else namespace(enabled).ones_like(enabled)", "enabled", LHC,
    ),
    Mutant(
        "frozen-layer-still-learns-scores", "lhc_ref/layers.py",
        'run.weight(self, "scores") if self.formable else self.weights["scores"]', 'run.weight(self, "scores")', LHC,
    ),
    Mutant(
        "regularizer-weighs-density-by-pixels", "lhc_ref/regularizer.py",
        "abs(target_density - sum(kept) / size)", "abs(target_density - macs_share)", LHC,
    ),
    Mutant(
        "regularizer-one-sided", "lhc_ref/regularizer.py",
        "abs(target_density - sum(kept) / size)", "max(sum(kept) / size - target_density, masks[0].dtype.type(0))", LHC,
    ),
    Mutant(
        "regularizer-gradient-sign", "lhc_ref/regularizer.py",
        "DENSITY_WEIGHT / size * side", "DENSITY_WEIGHT / size * -side", LHC,
    ),
    # --- Other operators ---------------------------------------------------------------------------------------------
    Mutant(
        "relu-gradient-at-zero", "lhc_ref/ops.py", "x > 0", "x >= 0", OPS, within="relu_vjp", quick=True,
    ),
    Mutant(
        "sum-is-a-difference", "lhc_ref/ops.py", "a + b", "a - b", OPS, within="add",
    ),
    Mutant(
        "product-gradient-of-the-wrong-factor", "lhc_ref/ops.py",
        "return dy * b, dy * a", "return dy * a, dy * b", EVERY,
    ),
    Mutant(
        "scale-gradient-unscaled", "lhc_ref/ops.py", "dy * dy.dtype.type(factor)", "dy", EVERY,
    ),
    Mutant(
        "dense-gradient-is-a-mean", "lhc_ref/ops.py", "x.T @ dy", "x.T @ dy / len(x)", OPS,
    ),
    Mutant(
        "prelu-slope-learns-from-all", "lhc_ref/ops.py", "off = dy * (x <= 0)", "off = dy", OPS,
    ),
    Mutant(
        "clipped-relu-learns-above-its-limit", "lhc_ref/ops.py",
        "dy * ((x > 0) & (x < x.dtype.type(limit)))", "dy * (x > 0)", OPS,
    ),
    Mutant(
        "sigmoid-wrong-below-zero", "lhc_ref/ops.py", "xp.exp(-abs(x))", "xp.exp(-x)", OPS,
    ),
    Mutant(
        "dropout-without-its-scale", "lhc_ref/ops.py", "x * x.dtype.type(1 / (1 - rate))", "x", OPS,
    ),
    Mutant(
        "reshape-in-the-other-order", "lhc_ref/shapes.py", "x.reshape(shape)", "x.T.reshape(shape)", SHAPES,
    ),
    Mutant(
        "concat-backwards", "lhc_ref/shapes.py",
        "namespace(arrays[0]).concatenate(arrays, axis=axis)",
        "namespace(arrays[0]).concatenate(arrays[::-1], axis=axis)", SHAPES,
    ),
    Mutant(
        "pad-gradient-swaps-its-ends", "lhc_ref/shapes.py",
        "slice(w[0], w[0] + s)", "slice(w[1], w[1] + s)", SHAPES,
    ),
    Mutant(
        "global-pool-gradient-is-a-sum", "lhc_ref/pool.py", "dy / dy.dtype.type(h * w)", "dy", OPS,
    ),
    Mutant(
        "batch-norm-variance-gradient-of-another-power", "lhc_ref/norm.py", "rate**3", "rate**2", OPS,
    ),
    Mutant(
        "bias-along-the-wrong-axis", "lhc_ref/ops.py",
        "dy.reshape(-1, bias.shape[0]).sum(axis=0)", "dy.reshape(bias.shape[0], -1).sum(axis=1)", OPS,
    ),
    Mutant(
        "average-pool-counts-padding", "lhc_ref/pool.py",
        "window.counts(x)", "x.dtype.type(window.size[0] * window.size[1])", OPS, within="average_pool",
    ),
    Mutant(
        "average-pool-gradient-counts-padding", "lhc_ref/pool.py",
        "window.counts(x)", "x.dtype.type(window.size[0] * window.size[1])", OPS, within="average_pool_vjp",
    ),
    Mutant(
        "max-pool-padding-wins-over-negatives", "lhc_ref/pool.py",
        'pad_image(x, window.pads, -float("inf"))', "pad_image(x, window.pads)", OPS, within="max_pool",
    ),
    Mutant(
        "max-pool-gradient-to-every-tie", "lhc_ref/pool.py",
        "free &= ~wins", "pass", OPS, within="max_pool_vjp",
    ),
    Mutant(
        "cross-entropy-sums-over-the-batch", "lhc_ref/ops.py",
        "-(targets * _log_softmax(logits)).sum() / logits.dtype.type(len(logits))",
        "-(targets * _log_softmax(logits)).sum()", OPS,
    ),
    Mutant(
        "softmax-gradient-without-coupling", "lhc_ref/ops.py",
        "dy - (dy * y).sum(axis=-1, keepdims=True)", "dy", OPS, within="softmax_vjp",
    ),
    Mutant(
        "flatten-in-channel-order", "lhc_ref/ops.py",
        "x.reshape(x.shape[0], features)", "namespace(x).moveaxis(x, -1, 1).reshape(x.shape[0], features)", OPS,
    ),
    Mutant(
        "batch-norm-gradient-forgets-the-variance", "lhc_ref/norm.py",
        "dx *= _along(dx, -rate * (dgamma / count))", "dx *= 0", OPS,
    ),
    Mutant(
        "batch-norm-unbiased-variance", "lhc_ref/norm.py",
        "_sum_of_products(centred, centred, c) / count",
        "_sum_of_products(centred, centred, c) / max(count - 1, 1)", OPS,
    ),
)  # fmt: skip
