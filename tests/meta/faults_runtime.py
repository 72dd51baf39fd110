"""Faults in the runtime: from graph to layers, packing, planning and the kernels."""

from tests.meta.mutants import Mutant

CONTRACT = ("tests/test_contract.py",)
SMALL = ("tests/runtime/test_survivors.py",)
SPEC = ("tests/runtime/test_spec.py",)
PACK = ("tests/runtime/test_pack.py",)
BUFFERS = ("tests/runtime/test_buffers.py",)
VECTOR = ("tests/runtime/test_vector.py",)
PATCHES = ("tests/runtime/test_patches.py",)
PLACES = ("tests/runtime/test_places.py",)
POOLED = ("tests/runtime/test_pooled.py",)
KERNELS = ("tests/runtime/test_kernels.py",)
BORDERS = ("tests/runtime/test_borders.py",)
WINOGRAD = ("tests/runtime/test_winograd.py",)
PIXELS = ("tests/runtime/test_pixels.py", "tests/runtime/test_kernels.py")
TRIAL = ("tests/runtime/test_trial.py",)

RUNTIME = (
    # --- From graph to layers ----------------------------------------------------------------------------------------
    Mutant(
        "runtime-same-puts-odd-pixel-first", "runtime/spec.py",
        "max(0, (out[i] - 1) * stride[i] + (size[i] - 1) * dilation[i] + 1 - shape[i]) // 2",
        "(1 + max(0, (out[i] - 1) * stride[i] + (size[i] - 1) * dilation[i] + 1 - shape[i])) // 2", SMALL,
    ),
    Mutant(
        "runtime-relu-before-the-sum-instead-of-after", "runtime/fuse.py",
        'second.op == "add" and first.op == "conv2d" and plain and first.other is None',
        'second.op == "add" and first.op == "conv2d" and first.other is None', SPEC,
    ),
    Mutant(
        "runtime-fuses-away-what-others-read", "runtime/fuse.py",
        "len(readers) != 1", "len(readers) == 0", SPEC,
    ),
    Mutant(
        "runtime-fuses-away-outputs", "runtime/fuse.py",
        "first.output in outputs", "False", SPEC,
    ),
    Mutant(
        "runtime-sums-with-what-comes-later", "runtime/fuse.py",
        "other in made_before and other != first.output", "other != first.output", SPEC,
    ),
    Mutant(
        "runtime-flattens-in-channel-order", "runtime/fuse.py",
        "second.kernel.reshape(h, w, c, -1)", "second.kernel.reshape(c, h, w, -1).transpose(1, 2, 0, 3)", SPEC,
    ),
    Mutant(
        "runtime-forgets-the-first-limit", "runtime/fuse.py",
        "min(max(limit, second.low), second.high)", "limit", SPEC, within="_fuse_limit",
    ),
    # --- Packing -----------------------------------------------------------------------------------------------------
    Mutant(
        "pack-keeps-rows-that-all-outputs-keep", "runtime/topology.py",
        "reduce(np.bitwise_or, (words[..., i] for i in range(words.shape[-1])))",
        "reduce(np.bitwise_and, (words[..., i] for i in range(words.shape[-1])))", PACK, quick=True,
    ),
    Mutant(
        "pack-groups-read-the-first-groups-inputs", "runtime/pack.py",
        "ci - co // (c_out // layer.groups) * c_group", "ci + 0 * co", PACK,
    ),
    Mutant(
        "winograd-groups-read-the-first-groups-inputs", "runtime/topology.py",
        "full[:, :, g * c_group : (g + 1) * c_group, out] = masked[..., out]",
        "full[:, :, :c_group, out] = masked[..., out]", ("tests/runtime/test_winograd.py",),
    ),
    Mutant(
        "pack-drops-the-last-channel-of-an-odd-number", "runtime/pack.py",
        "weights[..., :c_out] = kernel",
        "weights[..., : c_out - c_out % 2] = kernel[..., : c_out - c_out % 2]", CONTRACT,
    ),
    Mutant(
        "pack-forgets-the-bias", "runtime/pack.py",
        "bias[: layer.bias.size] = layer.bias", "pass", CONTRACT,
    ),
    Mutant(
        "pack-flips-the-kernel", "runtime/pack.py",
        "weights[..., :c_out] = kernel", "weights[..., :c_out] = kernel[::-1, ::-1]", CONTRACT,
    ),
    Mutant(
        "pack-scale-error-of-1e-5", "runtime/pack.py",
        "weights[..., :c_out] = kernel", "weights[..., :c_out] = kernel * np.float32(1 + 1e-5)",
        CONTRACT,
    ),
    Mutant(
        "pack-swaps-dilations", "runtime/pack.py",
        "layer.window.dilation[1]", "layer.window.dilation[0]", CONTRACT, within="row_offsets",
    ),
    Mutant(
        "windows-last-tap-dropped-at-the-edge", "runtime/windows.py",
        "np.clip(-((first - size) // dilation), 0, taps)",
        "np.clip(-((first - size + 1) // dilation), 0, taps)", PACK,
    ),
    Mutant(
        "pack-depthwise-shifts-channels", "runtime/pack.py",
        "kernel.reshape(taps, c)", "kernel.reshape(taps, c)[:, np.arange(c) - 1]", PACK,
    ),
    Mutant(
        "pack-ranges-unchecked", "runtime/pack.py",
        "prove(packed, layer, layout, tile, tile_channels)", "pass", SMALL,
    ),
    Mutant(
        "pack-depthwise-ranges-unchecked", "runtime/pack.py",
        "prove(packed, layer, layout, tile, step, depthwise=True)", "pass", SMALL,
    ),
    Mutant(
        "pack-proof-of-one-end-alone", "runtime/pack.py",
        "reads_low.min() < 0 or reads_high.max() > layout.size(layer.shape)", "reads_low.min() < 0", PACK,
    ),
    Mutant(
        "pack-proof-forgets-the-lanes", "runtime/pack.py",
        "tile_channels if depthwise else layout.lanes", "1", PACK,
    ),
    Mutant(
        "pack-proof-of-the-first-position-alone", "runtime/pack.py",
        "low[k], high[k] = runs.min(), runs.max()", "low[k], high[k] = runs.min(), runs.min()", PACK,
    ),
    Mutant(
        "patches-ranges-unchecked", "runtime/patches.py",
        "prove_scattered(packed, layer, tile, patch)", "pass", PATCHES,
    ),
    Mutant(
        "patches-proof-of-the-first-row-of-pixels-alone", "runtime/patches.py",
        "reach = (down + int(sizes.max())) * LANES", "reach = int(sizes.max()) * LANES", PATCHES,
    ),
    Mutant(
        "patches-rows-share-what-is-no-padding", "runtime/patches.py",
        "max(0, min(window.pad_left, behind)) if columns == ow else 0", "window.pad_left", PATCHES,
    ),
    Mutant(
        "patches-channels-share-what-is-no-padding", "runtime/patches.py",
        "max(0, min(window.pad_top, below)) if rows == oh else 0", "window.pad_top", PATCHES,
    ),
    # --- Planning ----------------------------------------------------------------------------------------------------
    Mutant(
        "plan-frees-a-value-one-step-early", "runtime/places.py",
        "last[name] = n", "last[name] = n - 1", PLACES,
    ),
    Mutant(
        "plan-frees-outputs-early", "runtime/places.py",
        "last.update({name: len(layers) + 1 for name in spec.outputs})", "pass", PLACES,
    ),
    Mutant(
        "plan-overwrites-what-is-read-later", "runtime/places.py",
        "lives[name][1] == n and sizes[name] == sizes[layer.output]", "sizes[name] == sizes[layer.output]", PLACES,
    ),
    Mutant(
        "plan-overwrites-what-its-own-windows-read", "runtime/places.py",
        "layer.other == layer.x or choice.entry.kernel == Kernel.CONV_SCATTERED",
        "choice.entry.kernel == Kernel.CONV_SCATTERED", PLACES,
    ),
    Mutant(
        "plan-frees-a-place-while-its-next-value-lives", "runtime/places.py",
        "ends[owner[name]] = lives[layer.output][1]", "pass", PLACES,
    ),
    Mutant(
        "buffers-shared-at-the-step-that-reads", "runtime/buffers.py",
        "other.first <= item.last and item.first <= other.last and at < end",
        "other.first < item.last and item.first < other.last and at < end", BUFFERS,
    ),
    Mutant(
        "plan-swaps-strides", "runtime/steps.py",
        'step["stride_y"], step["stride_x"] = window.stride', 'step["stride_x"], step["stride_y"] = window.stride',
        CONTRACT, within="other_step",
    ),
    Mutant(
        "plan-last-task-dropped", "runtime/steps.py",
        "-(-count // each)", "max(1, count // each)", CONTRACT,
    ),
    Mutant(
        "model-images-of-the-second-part-written-over-the-first", "runtime/model.py",
        "first += count", "first += 0", CONTRACT, within="_parts",
    ),
    Mutant(
        "executor-runs-the-steps-of-another-plan", "runtime/execute.py",
        "return self._addressed[plan]", "return next(iter(self._addressed.values()))", TRIAL,
    ),
    # --- Kernels -----------------------------------------------------------------------------------------------------
    Mutant(
        "kernel-residual-forgotten", "runtime/kernels/conv.py",
        'step["residual_at"] >= 0', 'step["residual_at"] >= 2**40', KERNELS, within="conv_tile",
    ),
    Mutant(
        "kernel-first-row-of-taps-executed-in-the-padding", "runtime/kernels/conv.py",
        'index[step["row_taps_at"] + 2 * row]', "0", KERNELS, within="add_window",
    ),
    Mutant(
        "kernel-first-column-of-every-tile-sees-the-padding", "runtime/kernels/conv.py",
        "at_begin and index[sight + 2] != 0", "0 != 0", KERNELS, within="add_window",
    ),
    Mutant(
        "kernel-last-column-of-every-tile-sees-no-last-tap", "runtime/kernels/conv.py",
        "at_end and index[sight + 3] != 0", "index[sight + 3] != 0", KERNELS, within="add_window",
    ),
    Mutant(
        "windows-a-column-that-lacks-two-taps-is-merged", "runtime/windows.py",
        "(more == less) | (more == less + 1)", "more >= less", PACK,
    ),
    Mutant(
        "windows-one-tap-left-out-at-both-edges", "runtime/windows.py",
        "np.all(high - low - lead >= missing)", "True", PACK,
    ),
    Mutant(
        "kernel-copies-find-padding-as-it-was-left", "runtime/kernels/conv.py",
        'near[: step["near_size"]] = np.float32(0)', "pass", KERNELS, within="scattered_tile",
    ),
    Mutant(
        "kernel-copies-begin-with-the-same-channels", "runtime/kernels/conv.py",
        'first = part * step["part_channels"]', "first = 0", KERNELS, within="copy_patch",
    ),
    Mutant(
        "kernel-sums-of-the-parts-before-forgotten", "runtime/kernels/conv.py",
        "part == 0", "True", KERNELS, within="scattered_tile",
    ),
    Mutant(
        "kernel-residual-joined-with-every-part", "runtime/kernels/conv.py",
        'part == step["parts"] - 1', "True", KERNELS, within="scattered_tile",
    ),
    Mutant(
        "kernel-second-row-written-below-the-image", "runtime/kernels/conv.py",
        'oy + len(rows) > step["oh"]', "len(rows) > 2", KERNELS, within="scattered_tile",
    ),
    Mutant(
        "kernel-pooling-forgets-the-rows-before", "runtime/kernels/conv.py",
        "wy + wx > 0", "wx > 0", POOLED, within="conv_tile", quick=True,
    ),
    Mutant(
        "kernel-pooling-reads-the-next-column-for-the-next-window", "runtime/steps.py",
        "1 if whole else layer.pool[1]", "1", POOLED,
    ),
    Mutant(
        "spec-pools-windows-with-padding", "runtime/fuse.py",
        "window == Window(window.size, stride=window.size)", "window.stride == window.size", POOLED,
    ),
    Mutant(
        "spec-pools-windows-that-reach-beyond", "runtime/fuse.py",
        "alone and side_by_side and inside and _shares(layer)", "alone and side_by_side and _shares(layer)", POOLED,
    ),
    Mutant(
        "spec-sums-behind-a-pooling", "runtime/fuse.py",
        "first.function is None and _unlimited(first) and first.pool == (1, 1)",
        "first.function is None and _unlimited(first)", POOLED,
    ),
    Mutant(
        "spec-pools-scattered-weights", "runtime/fuse.py",
        "_shares(layer)", "True", POOLED, within="_can_pool",
    ),
    Mutant(
        "spec-swish-of-any-product", "runtime/fuse.py",
        "{second.x, second.other} == {first.x, first.output}", "first.output in (second.x, second.other)", SPEC,
    ),
    Mutant(
        "spec-pools-before-a-falling-function", "runtime/fuse.py",
        "layer.function in RISING and layer.alpha > 0", "layer.function in RISING", POOLED,
    ),
    Mutant(
        "whole-columns-taken-for-lines", "runtime/windows.py",
        "3 * down[:, :, None] + across", "3 * across + down[:, :, None]", KERNELS,
    ),
    Mutant(
        "whole-every-band-sees-what-the-first-sees", "runtime/kernels/whole.py",
        'step["sights_at"] + band * step["taps"]', 'step["sights_at"]', KERNELS,
    ),
    Mutant(
        "whole-every-band-reads-the-first-lines", "runtime/kernels/whole.py",
        "x_at += band * len(high) * x_row", "x_at += 0", KERNELS,
    ),
    Mutant(
        "whole-taps-that-miss-inner-pixels", "runtime/windows.py",
        "blind[1:-1].any() or (blind[0] & blind[-1]).any()", "(blind[0] & blind[-1]).any()",
        PACK,
    ),
    Mutant(
        "winograd-bias-at-the-first-product", "runtime/kernels/winograd.py",
        "EVERYWHERE = 5", "EVERYWHERE = 0", WINOGRAD,
    ),
    Mutant(
        "winograd-transposed-weights", "runtime/winograd.py",
        'np.einsum("ik,jl,klcd->ijcd", WEIGHTS, WEIGHTS, kernel, optimize=True)',
        'np.einsum("ik,jl,lkcd->ijcd", WEIGHTS, WEIGHTS, kernel, optimize=True)', WINOGRAD,
    ),
    Mutant(
        "winograd-padding-keeps-what-was-there", "runtime/kernels/winograd.py",
        "near[edge : edge + EDGE] = 0", "pass", WINOGRAD,
    ),
    Mutant(
        "winograd-drops-former-parts", "runtime/kernels/winograd.py",
        "made = add_tile(made, load_tile(near, here, LANES, 0, FOUR, ONE))", "made = made", WINOGRAD,
    ),
    Mutant(
        "winograd-adds-the-bias-with-every-part", "runtime/kernels/winograd.py",
        'step["zeros_at"] if part else step["bias_at"] + channel', 'step["bias_at"] + channel', WINOGRAD,
    ),
    Mutant(
        "winograd-stores-beside-the-last-column", "runtime/kernels/winograd.py",
        "right and below", "below", WINOGRAD,
    ),
    Mutant(
        "winograd-pools-three-of-four", "runtime/kernels/winograd.py",
        "max_tile(max_tile(y[0:1], y[1:2]), max_tile(y[2:3], y[3:4]))", "max_tile(max_tile(y[0:1], y[1:2]), y[2:3])",
        WINOGRAD,
    ),
    Mutant(
        "winograd-windows-of-one-row-alone", "runtime/steps.py",
        'step["rows_per_task"] = each * 2 // layer.pool[0]', 'step["rows_per_task"] = each', WINOGRAD,
        within="_winograd_step",
    ),
    Mutant(
        "winograd-strided", "runtime/winograd.py",
        "window.stride == window.dilation == (1, 1)", "window.dilation == (1, 1)", WINOGRAD,
    ),
    Mutant(
        "winograd-memory-without-what-waits", "runtime/winograd.py",
        "FREQUENCIES * (products + self.size) + EDGE + waiting",
        "FREQUENCIES * (products + self.size) + EDGE", WINOGRAD,
    ),
    Mutant(
        "winograd-bound-of-the-smaller-place", "lhc_ref/bounds.py",
        'np.einsum("pfi,qgj,fgcd->pqijcd", seen, seen, transformed, optimize=True).max((0, 1))',
        'np.einsum("pfi,qgj,fgcd->pqijcd", seen, seen, transformed, optimize=True).min((0, 1))', WINOGRAD,
    ),
    Mutant(
        "pixels-marks-the-pixel-before-the-image", "runtime/kernels/pixels.py",
        "0 <= iy < h and 0 <= ix < w", "0 <= iy < h and ix < w", PIXELS,
    ),
    Mutant(
        "pixels-keeps-what-is-not-marked", "runtime/kernels/pixels.py",
        "keep_marked(turn(load_places(arena, c, places)), marks)", "turn(load_places(arena, c, places))", PIXELS,
    ),
    Mutant(
        "pixels-copies-over-a-rows-end", "runtime/kernels/pixels.py",
        "in_row and x >= 0 and x + (LANES - 1) * jump < step['w']", "in_row and x >= 0", PIXELS, compiled=True,
    ),
    Mutant(
        "pixels-of-the-first-phase-alone", "runtime/kernels/pixels.py",
        "first_y, first_x = top + phase // jump, left + phase % jump", "first_y, first_x = top, left", PIXELS,
    ),
    Mutant(
        "pixels-forgets-former-parts", "runtime/kernels/pixels.py",
        "acc = load_tile(near, here, SQUARE_SIZE, LANES, size, outputs)",
        "acc = bias_tile(IMAGES, weights, step['bias_at'] + tile * len(outputs), size, outputs)", PIXELS, compiled=True,
    ),
    Mutant(
        "pixels-sums-of-one-place", "runtime/kernels/pixels.py",
        "(tile - first_tile) // tiles % step['waiting']", "0", PIXELS, compiled=True,
    ),
    Mutant(
        "pixels-pools-the-first-row", "runtime/kernels/pixels.py",
        "(wy * wide + wx) * LANES", "wx * LANES", POOLED, within="store_block",
    ),
    Mutant(
        "pixels-stores-blocks-in-the-first-column", "runtime/kernels/pixels.py",
        "(oy // pool_h * step['ow'] + ox // pool_w) * step['out_pixel']",
        "oy // pool_h * step['ow'] * step['out_pixel']", PIXELS, compiled=True,
    ),
    Mutant(
        "pixels-shares-padding-of-strided-rows", "runtime/pixels.py",
        "max(0, min(window.pad_left, behind)) if window.stride[1] == 1 else 0", "max(0, min(window.pad_left, behind))",
        PIXELS,
    ),
    Mutant(
        "pixels-shares-more-padding-than-there-is", "runtime/pixels.py",
        "behind = layer.conv_shape[1] + shift - window.pad_left - w", "behind = window.pad_left", PIXELS,
    ),
    Mutant(
        "pixels-planes-without-the-last-taps", "runtime/pixels.py",
        "vectors * LANES + shift_y * row + shift_x", "vectors * LANES + shift_y * row", PIXELS,
    ),
    Mutant(
        "pixels-memory-without-what-waits", "runtime/pixels.py",
        "self.squares if self.parts > 1 else min(self.squares, TOGETHER)", "min(self.squares, TOGETHER)", PIXELS,
    ),
    Mutant(
        "pixels-taps-by-dilation-of-the-other-axis", "runtime/pixels.py",
        "k * window.dilation[axis] // window.stride[axis]", "k * window.dilation[0] // window.stride[axis]", PIXELS,
    ),
    Mutant(
        "pixels-channels-half-covered", "runtime/steps.py",
        "block.squares * (LANES // tile.outputs)", "block.squares * (LANES // tile.outputs) - 1", PIXELS,
        within="_pixels_step",
    ),
    Mutant(
        "functions-finish-the-first-block-of-channels", "runtime/kernels/functions.py",
        'number * step["oh"] * ow * out_pixel', "0", KERNELS, within="finish",
    ),
    Mutant(
        "functions-finish-with-the-first-blocks-slopes", "runtime/kernels/functions.py",
        'step["slope_at"] + number * out_pixel + inside * lanes', 'step["slope_at"] + inside * lanes', KERNELS,
        within="finish",
    ),
    Mutant(
        "functions-limit-before-they-end", "runtime/steps.py",
        "layer.function is None", "True", KERNELS, within="_window_step",
    ),
    Mutant(
        "functions-sigmoid-beyond-float32", "runtime/kernels/functions.py",
        "b.select(beyond, constant(math.inf), power)", "power", VECTOR, within="sigmoid_code", compiled=True,
    ),
    Mutant(
        "functions-tanh-without-its-last-bits", "runtime/kernels/functions.py",
        "b.call(fma_function(b), [q, power, b.fsub(power, constant(1))])",
        "b.fsub(b.fmul(b.fadd(q, constant(1)), power), constant(1))", VECTOR, within="tanh_code", compiled=True,
    ),
    Mutant(
        "map-subtracts-where-it-divides", "runtime/kernels/mapping.py",
        "function == SUB", "function != MUL", CONTRACT, within="map_numbers",
    ),
    Mutant(
        "map-divides-by-the-dividend", "runtime/kernels/vector.py",
        "b.fdiv(x, y)", "b.fdiv(y, x)", VECTOR, within="div_tile", compiled=True,
    ),
    Mutant(
        "kernel-pool-counts-padding", "runtime/kernels/other.py",
        "np.float32(1.0 / ((bottom - top) * (right - left)))", 'np.float32(1.0 / (step["kh"] * step["kw"]))', CONTRACT,
        quick=True,
    ),
    Mutant(
        "kernel-pool-skips-the-first-column", "runtime/kernels/other.py",
        "ky + kx > 0", "kx > 0", CONTRACT,
    ),
    Mutant(
        "kernel-softmax-overflows", "runtime/kernels/other.py",
        "np.exp(arena[x_at + here] - largest)", "np.exp(arena[x_at + here])", KERNELS,
    ),
    Mutant(
        "kernel-softmax-over-the-first-block-of-channels", "runtime/kernels/other.py",
        "here = (ci // block) * plane + (ci % block) * lanes", "here = (ci % block) * lanes", SMALL,
    ),
    Mutant(
        "kernel-flatten-in-channel-order", "runtime/kernels/other.py",
        "p * c + ci", "ci * pixels + p", CONTRACT, within="flatten",
    ),
    Mutant(
        "border-square-reads-on-behind-a-line", "runtime/kernels/border.py",
        "here = min(q, length - LANES)", "here = q", BORDERS, within="write_line",
    ),
    Mutant(
        "border-block-of-channels-taken-for-the-first", "runtime/kernels/border.py",
        "n // group * far", "0", BORDERS,
    ),
    Mutant(
        "border-rows-joined-that-lie-apart", "runtime/kernels/border.py",
        'last_row - first_row if step["user_row"] == w * user_pixel else 1', "last_row - first_row", BORDERS,
    ),
    Mutant(
        "border-writes-what-it-reads", "runtime/borders.py",
        "any(np.may_share_memory(target, read) for read in inputs)", "False", BORDERS,
    ),
    Mutant(
        "engine-groups-of-images-mixed", "runtime/kernels/engine.py",
        "mine // tasks", "mine % groups", SMALL, compiled=True,
    ),
    Mutant(
        "twin-maximum-ignores-nan", "runtime/kernels/vector.py",
        "np.where(a > b, a, np.where(b == b, np.where(a == a, b, a), b))", "np.fmax(a, b)", VECTOR,
    ),
    Mutant(
        "twin-clamp-turns-nan-into-a-limit", "runtime/kernels/vector.py",
        "np.where(v < low, np.float32(low), np.where(v > high, np.float32(high), v))", "np.fmin(np.fmax(v, low), high)",
        VECTOR,
    ),
    # --- What the compiler is told ------------------------------------------------------------------------------------
    Mutant(
        "compiled-tile-reads-its-first-pixel-alone", "runtime/kernels/multiply.py",
        "b.call(fma, [xs[p], w, acc[p * outputs + o]])", "b.call(fma, [xs[0], w, acc[p * outputs + o]])", KERNELS,
        compiled=True,
    ),
    Mutant(
        "compiled-chains-not-all-summed", "runtime/kernels/multiply.py",
        "range(1, chains)", "range(2, chains)", KERNELS, within="_add_rows", compiled=True,
    ),
    Mutant(
        "compiled-clamp-turns-nan-into-a-limit", "runtime/kernels/vector.py",
        'b.fcmp_ordered("<", value, lo)', 'b.fcmp_unordered("<", value, lo)', SMALL, compiled=True,
    ),
)  # fmt: skip
