"""Faults in the model file's reader and writer, in export and in the float64 evaluation with its bounds."""

from tests.meta.mutants import Mutant

FILE = ("tests/lhc_ref/test_modelfile.py",)

MODELFILE = (
    # --- What is written and read ------------------------------------------------------------------------------------
    Mutant(
        "mask-bits-in-the-other-order", "lhc_ref/modelfile.py",
        'np.packbits(tensor.mask, axis=None, bitorder="little")', 'np.packbits(tensor.mask, axis=None, bitorder="big")',
        FILE,
    ),
    Mutant(
        "values-in-another-order", "lhc_ref/_modelfile_types.py",
        "kernel[kept]", "kernel.transpose(0, 1, 3, 2)[kept.transpose(0, 1, 3, 2)]", FILE, quick=True,
    ),
    Mutant(
        "file-mask-tiled-not-repeated", "lhc_ref/_modelfile_types.py",
        "np.repeat(rows, group_sizes(shape[3], group_out), axis=3)",
        "np.tile(rows, (1, 1, 1, group_out))[:, :, :, : shape[3]]", FILE,
    ),
    Mutant(
        "kept-counts-whole-groups", "lhc_ref/_modelfile_types.py",
        "np.minimum(group, channels - starts)", "np.full(len(starts), group)", FILE,
    ),
    Mutant(
        "file-same-puts-odd-pixel-first", "lhc_ref/_modelfile_ops.py",
        "pads.append((total // 2, total - total // 2))", "pads.append((total - total // 2, total // 2))", FILE,
    ),
    # --- What is refused ----------------------------------------------------------------------------------------------
    Mutant(
        "file-with-nan-weights", "lhc_ref/modelfile.py",
        "not np.isfinite(values).all()", "np.isinf(values).any()", FILE,
    ),
    Mutant(
        "file-with-overlapping-tensors", "lhc_ref/_modelfile_container.py",
        "entry.begin < reached", "entry.begin < 0", FILE, quick=True,
    ),
    Mutant(
        "file-with-data-left-over", "lhc_ref/_modelfile_container.py",
        "reached < size", "False", FILE,
    ),
    Mutant(
        "file-cut-short", "lhc_ref/_modelfile_container.py",
        "reached > size", "False", FILE,
    ),
    Mutant(
        "file-of-another-major-version", "lhc_ref/_modelfile_json.py",
        "major != MAJOR", "major < MAJOR", FILE,
    ),
    Mutant(
        "file-that-requires-the-unknown", "lhc_ref/_modelfile_json.py",
        "feature not in FEATURES", "False", FILE,
    ),
    Mutant(
        "file-with-a-cycle", "lhc_ref/_modelfile_graph.py",
        "name not in ready", "False", FILE,
    ),
    Mutant(
        "file-with-a-dangling-input", "lhc_ref/_modelfile_graph.py",
        "not isinstance(name, str) or not (name in inputs or name in made)", "not isinstance(name, str)", FILE,
    ),
    Mutant(
        "file-with-bits-after-the-mask", "lhc_ref/modelfile.py",
        "bits[prod(shape):].any()", "False", FILE,
    ),
    Mutant(
        "file-with-an-absurd-header", "lhc_ref/_modelfile_container.py",
        "length > MAX_HEADER_BYTES", "False", FILE,
    ),
    Mutant(
        "file-with-absurd-activations", "lhc_ref/_modelfile_ops.py",
        "prod(shape) > MAX_ELEMENTS", "False", FILE,
    ),
    Mutant(
        "file-with-more-values-than-the-mask-keeps", "lhc_ref/_modelfile_types.py",
        "not is_array(self.values, np.float32, (self.kept,))", "False", FILE,
    ),
    Mutant(
        "pool-of-padding-alone", "lhc_ref/_modelfile_ops.py",
        "max(pad) >= window", "max(pad) > window", FILE, within="_pool",
    ),
)  # fmt: skip
