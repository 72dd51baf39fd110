"""Faults in what is related to LHC: hand-made masks, CSG, lean and circulant operators, steps, N:M, ... storage."""

from tests.meta.mutants import Mutant

HANDMADE = ("tests/lhc_ref/test_handmade.py",)
CSG = ("tests/lhc_ref/related/test_csg.py",)
LEAN = ("tests/lhc_ref/related/test_lean.py",)
FOURIER = ("tests/lhc_ref/related/test_fourier.py",)
CIRCULANT = ("tests/lhc_ref/related/test_circulant.py",)
IMPLICIT = ("tests/lhc_ref/related/test_implicit.py",)
STEPS = ("tests/lhc_ref/related/test_steps.py",)
NM = ("tests/lhc_ref/related/test_nm.py",)
INVOLUTION = ("tests/lhc_ref/related/test_involution.py",)
XSEPCONV = ("tests/lhc_ref/related/test_xsepconv.py",)
BINARY = ("tests/lhc_ref/related/test_binary.py",)
ADAM = ("tests/lhc_ref/related/test_adam.py",)
XRDA = ("tests/lhc_ref/related/test_xrda.py",)
PRUNING = ("tests/lhc_ref/related/test_pruning.py",)
HUFFMAN = ("tests/lhc_ref/related/test_huffman.py",)
HAM = ("tests/lhc_ref/related/test_ham.py",)

RELATED = (
    # --- Hand-made masks ---------------------------------------------------------------------------------------------
    Mutant(
        "groups-of-channels-interleaved", "lhc_ref/handmade.py",
        "np.arange(c_in) // (c_in // groups)", "np.arange(c_in) % groups", HANDMADE,
    ),
    Mutant(
        "hetconv-without-its-shift", "lhc_ref/handmade.py",
        "(np.arange(c_in)[:, None] - np.arange(c_out)) % p == 0",
        "(np.arange(c_in)[:, None] - 0 * np.arange(c_out)) % p == 0", HANDMADE,
    ),
    Mutant(
        "hetconv-shifts-the-other-way", "lhc_ref/handmade.py",
        "np.arange(c_in)[:, None] - np.arange(c_out)", "np.arange(c_in)[:, None] + np.arange(c_out)", HANDMADE,
    ),
    Mutant(
        "row-is-a-column", "lhc_ref/handmade.py",
        "mask[centre(size)[0]] = True", "mask[:, centre(size)[1]] = True", HANDMADE, within="horizontal",
    ),
    Mutant(
        "dilated-mask-swaps-its-axes", "lhc_ref/handmade.py",
        "mask[::dy, ::dx] = True", "mask[::dx, ::dy] = True", HANDMADE,
    ),
    # --- CSG ---------------------------------------------------------------------------------------------------------
    Mutant(
        "csg-fills-input-channels-first", "lhc_ref/related/csg.py",
        "(codes @ generator.T).reshape(whole)",
        "(codes @ generator.T).reshape(whole[1], whole[0], *whole[2:]).swapaxes(0, 1)", CSG, quick=True,
    ),
    Mutant(
        "csg-crops-the-front", "lhc_ref/related/csg.py",
        "(codes @ generator.T).reshape(whole)[:c_out, :c_in]", "(codes @ generator.T).reshape(whole)[-c_out:, -c_in:]",
        CSG,
    ),
    Mutant(
        "csg-forgets-a-part-of-the-generator's-gradient", "lhc_ref/related/csg.py",
        "d.T @ codes", "d[:1].T @ codes[:1]", CSG,
    ),
    Mutant(
        "csg-binary-generator-of-ones", "lhc_ref/related/csg.py",
        "rng.integers(0, 2, shape) - 0.5", "2.0 * rng.integers(0, 2, shape) - 1", CSG,
    ),
    Mutant(
        "csg-normal-generator-of-variance-one", "lhc_ref/related/csg.py",
        "rng.normal(0.0, np.sqrt(2 / length), shape)", "rng.normal(0.0, 1.0, shape)", CSG,
    ),
    Mutant(
        "csg-slices-the-authors-way-round", "lhc_ref/related/csg.py",
        "group_counts(c_in=c_in, c_out=c_out, group_in=s1, group_out=s0)",
        "group_counts(c_in=c_in, c_out=c_out, group_in=s0, group_out=s1)", CSG,
    ),
    # --- Lean and circulant ------------------------------------------------------------------------------------------
    Mutant(
        "lean-forgets-the-pointwise", "lhc_ref/related/lean.py",
        'spatial + conv2d(x, pointwise, stride=stride, padding="valid")', "spatial", LEAN,
    ),
    Mutant(
        "lean-gradient-of-one-part-only", "lhc_ref/related/lean.py",
        "dx_spatial + dx_pointwise", "dx_spatial", LEAN,
    ),
    Mutant(
        "four-point-stencil-with-a-centre", "lhc_ref/related/lean.py", '"010/101/010"', '"010/111/010"', LEAN,
    ),
    Mutant(
        "stencil-taps-in-another-order", "lhc_ref/related/lean.py",
        "kernel[ky, kx] = weights[tap]", "kernel[kx, ky] = weights[tap]", LEAN,
    ),
    Mutant(
        "circulant-shifts-the-other-way", "lhc_ref/related/circulant.py",
        "theta[..., (i - i[:, None]) % b]", "theta[..., (i[:, None] - i) % b]", CIRCULANT,
    ),
    Mutant(
        "circulant-gradient-of-the-other-diagonal", "lhc_ref/related/circulant.py",
        "(i + i[:, None]) % b", "(i[:, None] - i) % b", CIRCULANT, within="circulant_kernel_vjp",
    ),
    Mutant(
        "circulant-transform-without-the-conjugate", "lhc_ref/related/circulant.py",
        "theta_spectrum[ky, kx].conj()", "theta_spectrum[ky, kx]", CIRCULANT,
    ),
    Mutant(
        "circulant-transform-scaled-by-1e-4", "lhc_ref/related/circulant.py",
        "return case.channels(y_spectrum, x)", "return case.channels(y_spectrum * (1 + 1e-4), x)", CIRCULANT,
    ),
    Mutant(
        "transform-gradient-unscaled", "lhc_ref/related/fourier.py",
        "inverse_fft2(dy) * dy.dtype.type(x.shape[1] * x.shape[2])", "inverse_fft2(dy)", FOURIER,
    ),
    Mutant(
        "inverse-transform-of-the-conjugate", "lhc_ref/related/fourier.py",
        "z[..., 0] + 1j * z[..., 1]", "z[..., 0] - 1j * z[..., 1]", FOURIER,
    ),
    # --- Steps -------------------------------------------------------------------------------------------------------
    Mutant(
        "diffusion-with-the-wrong-sign", "lhc_ref/related/steps.py",
        "_explicit(y, (diffused, -h))", "_explicit(y, (diffused, h))", STEPS, quick=True,
    ),
    Mutant(
        "transpose-not-tied", "lhc_ref/related/steps.py",
        "apply(conv2d_transpose, z, kernel, groups=groups)", "apply(conv2d, z, kernel, groups=groups)", STEPS,
    ),
    Mutant(
        "reaction-without-activation", "lhc_ref/related/steps.py",
        "_activate(apply(conv2d, y, reaction), activation, normalize_reaction)", "apply(conv2d, y, reaction)", STEPS,
    ),
    Mutant(
        "imex-step-diffuses-explicitly", "lhc_ref/related/steps.py",
        "(_spread_back(x, weights, operator, ops.relu, normalize), h)",
        "(_spread_back(x, weights, operator, ops.relu, normalize), -h)", STEPS,
    ),
    Mutant(
        "implicit-step-is-explicit", "lhc_ref/related/implicit.py",
        "1 / (1 + stencil.dtype.type(h) * (spectrum**2).sum(axis=-1))",
        "1 - stencil.dtype.type(h) * (spectrum**2).sum(axis=-1)", IMPLICIT,
    ),
    Mutant(
        "implicit-multiplier-of-the-modulus-unsquared", "lhc_ref/related/implicit.py",
        "(spectrum**2).sum(axis=-1)", "(spectrum**2).sum(axis=-1) ** 0.5", IMPLICIT,
    ),
    Mutant(
        "implicit-gradient-forgets-the-square", "lhc_ref/related/implicit.py",
        "multiplier**2", "multiplier", IMPLICIT,
    ),
    Mutant(
        "stencil-not-wrapped", "lhc_ref/related/implicit.py",
        "torus[0, ky % height, kx % width] += stencil[ky, kx, 0]",
        "torus[0, ky % height, kx % width] = stencil[ky, kx, 0]", IMPLICIT,
    ),
    # --- Compared with -----------------------------------------------------------------------------------------------
    Mutant(
        "nm-last-of-equals-stays", "lhc_ref/related/nm.py",
        'smallness.reshape(kh, kw, groups, m, c_out).argsort(axis=3, kind="stable")',
        'm - 1 - smallness.reshape(kh, kw, groups, m, c_out)[:, :, :, ::-1].argsort(axis=3, kind="stable")', NM,
    ),
    Mutant(
        "nm-short-group-keeps-n", "lhc_ref/related/nm.py", "-(-n * rest // m)", "n", NM,
    ),
    Mutant(
        "nm-keeps-the-largest-not-the-largest-absolute", "lhc_ref/related/nm.py",
        "-abs(kernel)", "-kernel", NM, quick=True,
    ),
    Mutant(
        "sr-ste-decays-what-is-kept", "lhc_ref/related/nm.py",
        "1 - mask", "mask", NM, within="nm_kernel_vjp",
    ),
    Mutant(
        "sr-ste-masks-the-gradient", "lhc_ref/related/nm.py",
        "dy + kernel.dtype.type(decay) * (1 - mask) * kernel",
        "dy * mask + kernel.dtype.type(decay) * (1 - mask) * kernel", NM,
    ),
    Mutant(
        "involution-groups-interleaved", "lhc_ref/related/involution.py",
        "return a.reshape(*a.shape[:3], self.groups, a.shape[3] // self.groups)",
        "return a.reshape(*a.shape[:3], a.shape[3] // self.groups, self.groups).swapaxes(3, 4)", INVOLUTION,
    ),
    Mutant(
        "involution-gradient-of-another-tap", "lhc_ref/related/involution.py",
        "dkernels[..., tap] = (dy_groups * padded[pixels]).sum(axis=-1)",
        "dkernels[..., -1 - tap] = (dy_groups * padded[pixels]).sum(axis=-1)", INVOLUTION,
    ),
    Mutant(
        "involution-kernels-without-relu", "lhc_ref/related/involution.py", "apply(ops.relu, z)", "z", INVOLUTION,
    ),
    Mutant(
        "symmetric-padding-leans-one-way", "lhc_ref/related/xsepconv.py",
        "slice(left, left + w)", "slice(0, w)", XSEPCONV,
    ),
    Mutant(
        "xsepconv-without-its-column", "lhc_ref/related/xsepconv.py",
        "apply(conv2d, apply(conv2d, x, row, groups=c), column, groups=c)", "apply(conv2d, x, row, groups=c)", XSEPCONV,
    ),
    Mutant(
        "sign-of-zero-is-minus-one", "lhc_ref/related/binary.py", "x >= 0", "x > 0", BINARY, within="sign",
    ),
    Mutant(
        "sign-estimator-never-saturates", "lhc_ref/related/binary.py",
        "dy * (abs(x) <= 1)", "dy * (abs(x) <= 9)", BINARY,
    ),
    Mutant(
        "scale-gradient-summed-not-averaged", "lhc_ref/related/binary.py",
        "dy.reshape(split).mean(axis=(1, 3, 5, 7), keepdims=True)",
        "dy.reshape(split).sum(axis=(1, 3, 5, 7), keepdims=True)", BINARY,
    ),
    Mutant(
        "gradient-of-gates-is-a-mean", "lhc_ref/related/binary.py",
        "(dy * x).sum(axis=(1, 2))", "(dy * x).mean(axis=(1, 2))", BINARY,
    ),
    Mutant(
        "gate-without-relu", "lhc_ref/related/binary.py",
        "apply(ops.relu, apply(ops.dense, apply(ops.global_average_pool, x), reduce))",
        "apply(ops.dense, apply(ops.global_average_pool, x), reduce)", BINARY,
    ),
    Mutant(
        "activations-not-binarized", "lhc_ref/related/binary.py",
        "apply(conv2d, apply(sign, x), signs, stride=stride, padding=padding)",
        "apply(conv2d, x, signs, stride=stride, padding=padding)", BINARY,
    ),
    Mutant(
        "gate-asks-the-normalized-image", "lhc_ref/related/binary.py",
        "gate(x, reduce, expand)", "gate(normal, reduce, expand)", BINARY, within="real_to_binary",
    ),
    # --- Optimizers --------------------------------------------------------------------------------------------------
    Mutant(
        "adam-without-bias-correction", "lhc_ref/related/adam.py", "mean / (1 - self.first**t)", "mean", ADAM,
    ),
    Mutant(
        "adam-epsilon-inside-the-root", "lhc_ref/related/adam.py",
        "namespace(weight).sqrt(square / (1 - self.second**t)) + self.epsilon",
        "namespace(weight).sqrt(square / (1 - self.second**t) + self.epsilon)", ADAM,
    ),
    Mutant(
        "xrda-hard-threshold", "lhc_ref/related/xrda.py",
        "xp.sign(dual) * xp.maximum(abs(dual) - self.lam * threshold, 0)",
        "dual * (abs(dual) > self.lam * threshold)", XRDA,
    ),
    Mutant(
        "xrda-threshold-not-averaged", "lhc_ref/related/xrda.py",
        "threshold *= self.averaging", "threshold *= 1", XRDA,
    ),
    Mutant(
        "xrda-large-weights-thresholded-more", "lhc_ref/related/xrda.py",
        "size / size.max()", "1 - size / size.max()", XRDA,
    ),
    # --- Pruning and storage -----------------------------------------------------------------------------------------
    Mutant(
        "pruning-fits-without-a-bias", "lhc_ref/related/pruning.py",
        "np.ones((len(inputs), 1))", "np.zeros((len(inputs), 1))", PRUNING,
    ),
    Mutant(
        "pruning-takes-one-channel-too-few", "lhc_ref/related/pruning.py",
        "channels <= count <= (1 + tolerance) * channels", "channels - 1 <= count <= (1 + tolerance) * channels",
        PRUNING,
    ),
    Mutant(
        "pruning-leaves-the-old-weights", "lhc_ref/related/pruning.py",
        "fitted.astype(kernel.dtype)", "kernel[:, :, kept]", PRUNING,
    ),
    Mutant(
        "huffman-joins-the-heaviest", "lhc_ref/related/huffman.py",
        "heapq.heapify(nodes)", "nodes.sort(reverse=True)", HUFFMAN,
    ),
    Mutant(
        "huffman-words-not-shifted", "lhc_ref/related/huffman.py",
        "word <<= lengths[symbol] - length", "word <<= 0", HUFFMAN,
    ),
    Mutant(
        "ham-row-by-row-one-way", "lhc_ref/related/ham.py",
        'matrix.ravel(order="F")', "matrix.ravel()", HAM, quick=True,
    ),
    Mutant(
        "ham-forgets-negative-zero", "lhc_ref/related/ham.py",
        "np.nonzero(_bits(matrix).reshape(matrix.shape).T)", "np.nonzero(matrix.T)", HAM,
    ),
    Mutant(
        "ham-forgets-its-dictionary", "lhc_ref/related/ham.py", "WORDS_A_VALUE * len(self.values)", "0", HAM,
    ),
    Mutant(
        "csc-starts-after-the-column", "lhc_ref/related/ham.py",
        "np.arange(matrix.shape[1] + 1)", "np.arange(matrix.shape[1] + 1) + 1", HAM,
    ),
)  # fmt: skip
