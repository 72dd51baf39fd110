"""Faults in the model file's reader and writer, in export and in the float64 evaluation with its bounds."""

from tests.meta.mutants import Mutant

FILE = ("tests/lhc_ref/test_modelfile.py",)
EVALUATE = ("tests/lhc_ref/test_evaluate.py",)
SURVIVORS = ("tests/lhc_ref/test_survivors.py",)
EXPORT = ("tests/lhc_ref/test_export.py",)

MODELFILE = (
    # --- What is written and read ------------------------------------------------------------------------------------
    Mutant(
        "mask-bits-in-the-other-order", "lhc_ref/modelfile.py",
        'np.packbits(tensor.mask, axis=None, bitorder="little")', 'np.packbits(tensor.mask, axis=None, bitorder="big")',
        FILE,
    ),
    Mutant(
        "values-in-another-order", "lhc_ref/_modelfile/types.py",
        "kernel[kept]", "kernel.transpose(0, 1, 3, 2)[kept.transpose(0, 1, 3, 2)]", FILE, quick=True,
    ),
    Mutant(
        "file-mask-tiled-not-repeated", "lhc_ref/_modelfile/types.py",
        "np.repeat(rows, group_sizes(shape[3], group_out), axis=3)",
        "np.tile(rows, (1, 1, 1, group_out))[:, :, :, : shape[3]]", FILE,
    ),
    Mutant(
        "kept-counts-whole-groups", "lhc_ref/_modelfile/types.py",
        "np.minimum(group, channels - starts)", "np.full(len(starts), group)", FILE,
    ),
    Mutant(
        "file-same-puts-odd-pixel-first", "lhc_ref/_modelfile/schema.py",
        "pads.append((total // 2, total - total // 2))", "pads.append((total - total // 2, total // 2))", FILE,
    ),
    # --- What is refused ---------------------------------------------------------------------------------------------
    Mutant(
        "file-with-nan-weights", "lhc_ref/modelfile.py",
        "not np.isfinite(values).all()", "np.isinf(values).any()", FILE,
    ),
    Mutant(
        "file-with-overlapping-tensors", "lhc_ref/_modelfile/container.py",
        "entry.begin < reached", "entry.begin < 0", FILE,
    ),
    Mutant(
        "file-with-data-left-over", "lhc_ref/_modelfile/container.py",
        "reached < size", "False", FILE,
    ),
    Mutant(
        "file-cut-short", "lhc_ref/_modelfile/container.py",
        "reached > size", "False", FILE,
    ),
    Mutant(
        "file-of-another-major-version", "lhc_ref/_modelfile/json.py",
        "major != MAJOR", "major < MAJOR", FILE,
    ),
    Mutant(
        "file-that-requires-the-unknown", "lhc_ref/_modelfile/json.py",
        "feature not in FEATURES", "False", FILE,
    ),
    Mutant(
        "file-with-a-cycle", "lhc_ref/_modelfile/graph.py",
        "name not in ready", "False", FILE,
    ),
    Mutant(
        "file-with-a-dangling-input", "lhc_ref/_modelfile/graph.py",
        "not isinstance(name, str) or not (name in inputs or name in made)", "not isinstance(name, str)", FILE,
    ),
    Mutant(
        "file-with-bits-after-the-mask", "lhc_ref/modelfile.py",
        "bits[prod(shape):].any()", "False", FILE,
    ),
    Mutant(
        "file-with-an-absurd-header", "lhc_ref/_modelfile/container.py",
        "length > MAX_HEADER_BYTES", "False", FILE,
    ),
    Mutant(
        "file-with-absurd-activations", "lhc_ref/_modelfile/ops.py",
        "prod(shape) > MAX_ELEMENTS", "False", FILE,
    ),
    Mutant(
        "file-with-more-values-than-the-mask-keeps", "lhc_ref/_modelfile/types.py",
        "not is_array(self.values, np.float32, (self.kept,))", "False", FILE,
    ),
    Mutant(
        "pool-of-padding-alone", "lhc_ref/_modelfile/ops.py",
        "max(pad) >= window", "max(pad) > window", FILE, within="_pool",
    ),
    # --- Export ------------------------------------------------------------------------------------------------------
    Mutant(
        "export-forgets-the-mean", "lhc_ref/export.py",
        '(bias - weights["mean"]) * rate + weights["beta"]', 'bias * rate + weights["beta"]', EXPORT,
    ),
    Mutant(
        "export-folds-without-epsilon", "lhc_ref/export.py",
        "np.sqrt(weights[\"variance\"] + EPSILON)", "np.sqrt(weights[\"variance\"])", EXPORT,
    ),
    Mutant(
        "export-folds-the-channels-in-reverse", "lhc_ref/export.py",
        "(layer.kernel(Pass()).astype(np.float64) * rate).astype(np.float32)",
        "(layer.kernel(Pass()).astype(np.float64) * rate[::-1]).astype(np.float32)", EXPORT,
    ),
    Mutant(
        "export-swaps-groups", "lhc_ref/layers.py",
        'self.pattern_mask(), self.mask_options["group_in"], self.mask_options["group_out"]',
        'self.pattern_mask(), self.mask_options["group_out"], self.mask_options["group_in"]', EXPORT,
    ),
    Mutant(
        "export-with-disabled-channels", "lhc_ref/export.py",
        "not enabled.all()", "not enabled.any()", EXPORT,
    ),
    # --- Evaluation and its bounds -----------------------------------------------------------------------------------
    Mutant(
        "evaluate-in-float32", "lhc_ref/evaluate.py",
        "array.astype(dtype)", "array.astype(np.float32).astype(dtype) * dtype(1 + 1e-5)", EVALUATE,
    ),
    Mutant(
        "evaluate-forgets-the-bias", "lhc_ref/evaluate.py",
        "y if bias is None else ops.bias_add(y, bias)", "y", EVALUATE, within="_conv2d",
    ),
    Mutant(
        "bound-forgets-errors-carried", "lhc_ref/bounds.py",
        "carried = conv2d(x.bound, weights, **attrs)", "carried = 0 * conv2d(x.bound, weights, **attrs)", EVALUATE,
    ),
    Mutant(
        "bound-of-half-the-roundings", "lhc_ref/bounds.py",
        "_gamma(k, U32)", "_gamma(np.asarray(k) / 2, U32)", EVALUATE, within="_sum_bound",
    ),
    Mutant(
        "bound-by-nominal-weights", "lhc_ref/bounds.py",
        "np.count_nonzero(kernel, axis=(0, 1, 2))", "np.full(kernel.shape[3], kernel[..., 0].size)", SURVIVORS,
    ),
    Mutant(
        "bound-without-underflow", "lhc_ref/bounds.py",
        "2 * np.asarray(k) * TINY", "0.0", EVALUATE,
    ),
    Mutant(
        "bound-finite-where-float32-overflows", "lhc_ref/bounds.py",
        "np.where(magnitude < LARGEST / 2, bound, np.inf)", "bound", EVALUATE,
    ),
    Mutant(
        "bound-of-a-quotient-without-the-divisors-error", "lhc_ref/bounds.py",
        "(a.bound + np.abs(y) * b.bound) / least", "a.bound / least", EVALUATE, within="_div_bound",
    ),
    Mutant(
        "bound-of-a-quotient-by-what-may-be-zero", "lhc_ref/bounds.py",
        "np.maximum(np.abs(b.value) - b.bound, 0)", "np.abs(np.abs(b.value) - b.bound)", EVALUATE, within="_div_bound",
    ),
    Mutant(
        "bound-of-softmax-without-exp", "lhc_ref/bounds.py",
        "(2 * EXP_ULPS + 1) * U32", "U32", SURVIVORS, within="_softmax_bound",
    ),
    Mutant(
        "bound-ten-times-too-wide", "lhc_ref/bounds.py",
        "(_gamma(k, U32) + _gamma(k, U64)) * magnitude", "10 * (_gamma(k, U32) + _gamma(k, U64)) * magnitude", EVALUATE,
    ),
)  # fmt: skip
