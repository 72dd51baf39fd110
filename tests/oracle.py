"""The definition of every operator: plain loops in float64, NumPy only, and nothing of ours is imported.

Activations are NHWC, kernels HWIO. `iy, ix` is an input pixel, `oy, ox` an output pixel, `ky, kx` a tap; `b`, `ci`
and `co` are slices over the batch and over the channels of one group, whose sum is a matrix product.
`tests/meta/test_oracle.py` checks these loops against scalar ones, SciPy and numbers worked out by hand.
"""

import numpy as np

PATTERN_ROWS = """
000/000/000 000/010/000 000/111/000 001/010/100 010/010/010
100/010/001 011/011/000 110/110/000 000/110/110 000/011/011
111/111/000 110/110/110 000/111/111 011/011/011 111/111/111
"""
PATTERNS = np.array([[[float(c) for c in row] for row in picture.split("/")] for picture in PATTERN_ROWS.split()])


def f64(a):
    return np.asarray(a, dtype=np.float64)


# --- Windows ---------------------------------------------------------------------------------------------------------


def resolve_padding(padding, size_hw, kernel_hw, stride=(1, 1), dilation=(1, 1)):
    """((top, bottom), (left, right)); "same" gives ceil(size / stride) outputs and puts the odd pixel at the end."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        pads = []
        for size, k, s, d in zip(size_hw, kernel_hw, stride, dilation, strict=True):
            outputs = -(-size // s)
            needed = (outputs - 1) * s + (k - 1) * d + 1
            total = max(0, needed - size)
            pads.append((total // 2, total - total // 2))
        return tuple(pads)
    return tuple(tuple(pair) for pair in padding)


def output_size(size_hw, kernel_hw, stride=(1, 1), padding="same", dilation=(1, 1)):
    """(oh, ow): how many positions the window has in the padded image."""
    pads = resolve_padding(padding, size_hw, kernel_hw, stride, dilation)
    sizes = []
    for size, k, s, d, (before, after) in zip(size_hw, kernel_hw, stride, dilation, pads, strict=True):
        positions = range(0, before + size + after - ((k - 1) * d + 1) + 1, s)
        sizes.append(len(positions))
    return tuple(sizes)


def windows(size_hw, kernel_hw, stride, padding, dilation=(1, 1)):
    """All (oy, ox, ky, kx, iy, ix) whose input pixel lies inside the image, output by output, tap by tap."""
    h, w = size_hw
    (top, _), (left, _) = resolve_padding(padding, size_hw, kernel_hw, stride, dilation)
    oh, ow = output_size(size_hw, kernel_hw, stride, padding, dilation)
    for oy in range(oh):
        for ox in range(ow):
            for ky in range(kernel_hw[0]):
                for kx in range(kernel_hw[1]):
                    iy = oy * stride[0] + ky * dilation[0] - top
                    ix = ox * stride[1] + kx * dilation[1] - left
                    if 0 <= iy < h and 0 <= ix < w:
                        yield oy, ox, ky, kx, iy, ix


def group_slices(c_in, c_out, groups):
    """(ci, co) of each group: its input and its output channels."""
    gi, go = c_in // groups, c_out // groups
    return [(slice(g * gi, (g + 1) * gi), slice(g * go, (g + 1) * go)) for g in range(groups)]


# --- Convolution and dense -------------------------------------------------------------------------------------------


def conv2d(x, kernel, bias=None, stride=(1, 1), padding="same", dilation=(1, 1), groups=1):
    """Cross-correlation: x [n, h, w, c_in], kernel [kh, kw, c_in/groups, c_out], bias [c_out] -> [n, oh, ow, c_out]."""
    x, kernel = f64(x), f64(kernel)
    size_hw, kernel_hw = x.shape[1:3], kernel.shape[:2]
    oh, ow = output_size(size_hw, kernel_hw, stride, padding, dilation)
    b = slice(None)
    y = np.zeros((x.shape[0], oh, ow, kernel.shape[3]))
    for oy, ox, ky, kx, iy, ix in windows(size_hw, kernel_hw, stride, padding, dilation):
        for ci, co in group_slices(x.shape[3], kernel.shape[3], groups):
            y[b, oy, ox, co] += x[b, iy, ix, ci] @ kernel[ky, kx, :, co]
    return y if bias is None else y + f64(bias)


def conv2d_vjp(dy, x, kernel, stride=(1, 1), padding="same", dilation=(1, 1), groups=1):
    """dx, dkernel: the same loops, with each product's cotangent sent to its two factors."""
    dy, x, kernel = f64(dy), f64(x), f64(kernel)
    b = slice(None)
    dx, dkernel = np.zeros(x.shape), np.zeros(kernel.shape)
    for oy, ox, ky, kx, iy, ix in windows(x.shape[1:3], kernel.shape[:2], stride, padding, dilation):
        for ci, co in group_slices(x.shape[3], kernel.shape[3], groups):
            dx[b, iy, ix, ci] += dy[b, oy, ox, co] @ kernel[ky, kx, :, co].T
            dkernel[ky, kx, :, co] += x[b, iy, ix, ci].T @ dy[b, oy, ox, co]
    return dx, dkernel


def add_bias_vjp(dy):
    """dbias of a bias added to the last axis."""
    return f64(dy).reshape(-1, np.shape(dy)[-1]).sum(axis=0)


def dense(x, kernel, bias=None):
    """x [n, features], kernel [features, units], bias [units] -> [n, units]."""
    y = f64(x) @ f64(kernel)
    return y if bias is None else y + f64(bias)


def dense_vjp(dy, x, kernel):
    """dx, dkernel."""
    return f64(dy) @ f64(kernel).T, f64(x).T @ f64(dy)


# --- Pooling ---------------------------------------------------------------------------------------------------------


def pool_windows(size_hw, size, stride, padding):
    """{(oy, ox): [(iy, ix), ...]}: the real pixels of each window, in C order."""
    pixels = {}
    for oy, ox, _, _, iy, ix in windows(size_hw, size, stride, padding):
        pixels.setdefault((oy, ox), []).append((iy, ix))
    return pixels


def max_pool(x, size, stride, padding="valid"):
    """The largest real pixel of each window; padding never wins."""
    x = f64(x)
    y = np.full((x.shape[0], *output_size(x.shape[1:3], size, stride, padding), x.shape[3]), -np.inf)
    for (oy, ox), pixels in pool_windows(x.shape[1:3], size, stride, padding).items():
        y[:, oy, ox] = np.max([x[:, iy, ix] for iy, ix in pixels], axis=0)
    return y


def max_pool_vjp(dy, x, size, stride, padding="valid"):
    """dx: a window's cotangent goes to the first of its largest pixels in C order."""
    dy, x = f64(dy), f64(x)
    dx = np.zeros(x.shape)
    for (oy, ox), pixels in pool_windows(x.shape[1:3], size, stride, padding).items():
        for b in range(x.shape[0]):
            for c in range(x.shape[3]):
                values = [x[b, iy, ix, c] for iy, ix in pixels]
                iy, ix = pixels[values.index(max(values))]
                dx[b, iy, ix, c] += dy[b, oy, ox, c]
    return dx


def average_pool(x, size, stride, padding="valid"):
    """The mean over the real pixels of each window: padding is not counted."""
    x = f64(x)
    y = np.zeros((x.shape[0], *output_size(x.shape[1:3], size, stride, padding), x.shape[3]))
    for (oy, ox), pixels in pool_windows(x.shape[1:3], size, stride, padding).items():
        y[:, oy, ox] = sum(x[:, iy, ix] for iy, ix in pixels) / len(pixels)
    return y


def average_pool_vjp(dy, x, size, stride, padding="valid"):
    """dx: a window's cotangent, shared equally by its real pixels."""
    dy, x = f64(dy), f64(x)
    dx = np.zeros(x.shape)
    for (oy, ox), pixels in pool_windows(x.shape[1:3], size, stride, padding).items():
        for iy, ix in pixels:
            dx[:, iy, ix] += dy[:, oy, ox] / len(pixels)
    return dx


def global_average_pool(x):
    """[n, h, w, c] -> [n, c]."""
    n, h, w, c = np.shape(x)
    return f64(x).reshape(n, h * w, c).sum(axis=1) / (h * w)


def global_average_pool_vjp(dy, x):
    _, h, w, _ = np.shape(x)
    return np.broadcast_to(f64(dy)[:, None, None, :] / (h * w), np.shape(x)).copy()


# --- Pointwise, softmax, batch norm ----------------------------------------------------------------------------------


def relu(x):
    """max(x, 0); NaN stays NaN."""
    x = f64(x)
    return np.where(x < 0, 0.0, x)


def relu_vjp(dy, x):
    """Slope 1 above zero, 0 at and below it."""
    return np.where(f64(x) > 0, f64(dy), 0.0)


# --- Functions of single numbers, and moves ---------------------------------------------------------------------------


def each(x, f):
    """f of each number."""
    return np.array([f(float(value)) for value in f64(x).ravel()]).reshape(np.shape(x))


def each_channel(x, f):
    """f(channel, number) of each number."""
    y = np.zeros(np.shape(x))
    for at in np.ndindex(y.shape):
        y[at] = f(at[-1], float(x[at]))
    return y


def clip(x, low, high):
    return each(x, lambda value: min(max(value, low), high))


def leaky_relu(x, slope):
    return each(x, lambda value: value if value > 0 else slope * value)


def prelu(x, slope):
    return each_channel(x, lambda c, value: value if value > 0 else float(slope[c]) * value)


def sigmoid(x):
    return each(x, lambda value: 1 / (1 + np.exp(-value)))


def hard_sigmoid(x, alpha, beta):
    return each(x, lambda value: min(max(alpha * value + beta, 0), 1))


def hard_swish(x):
    return each(x, lambda value: value * min(max(value + 3, 0), 6) / 6)


def tanh(x):
    return each(x, np.tanh)


def scale(x, scale, bias=None):
    return each_channel(x, lambda c, value: value * float(scale[c]) + (0 if bias is None else float(bias[c])))


def mul(a, b):
    return two(a, b, lambda first, second: first * second)


def sub(a, b):
    return two(a, b, lambda first, second: first - second)


def div(a, b):
    return two(a, b, lambda first, second: first / second)


def two(a, b, f):
    """f of each number of a and that of b at its place, or at b's one pixel."""
    y = np.zeros(np.shape(a))
    for at in np.ndindex(y.shape):
        there = at if np.shape(b) == np.shape(a) else (at[0], 0, 0, at[-1])
        y[at] = f(float(a[at]), float(b[there]))
    return y


def concat(*xs):
    y = np.zeros((*np.shape(xs[0])[:-1], sum(np.shape(x)[-1] for x in xs)))
    begin = 0
    for x in xs:
        for c in range(np.shape(x)[-1]):
            y[..., begin + c] = x[..., c]
        begin += np.shape(x)[-1]
    return y


def pad(x, padding, value):
    (top, bottom), (left, right) = padding
    n, h, w, c = np.shape(x)
    y = np.full((n, top + h + bottom, left + w + right, c), float(value))
    for iy in range(h):
        for ix in range(w):
            y[:, top + iy, left + ix] = x[:, iy, ix]
    return y


def upsample(x, factor):
    n, h, w, c = np.shape(x)
    y = np.zeros((n, h * factor[0], w * factor[1], c))
    for oy in range(h * factor[0]):
        for ox in range(w * factor[1]):
            y[:, oy, ox] = x[:, oy // factor[0], ox // factor[1]]
    return y


def cut(x, start, stop, step):
    wanted = [range(*cut) for cut in zip(start, stop, step, strict=True)]
    y = np.zeros((np.shape(x)[0], *map(len, wanted)))
    for at in np.ndindex(y.shape):
        y[at] = x[(at[0], *(line[i] for line, i in zip(wanted, at[1:], strict=True)))]
    return y


def rearrange(x, split, order, shape):
    """By the digits of each number's place."""
    n, y = np.shape(x)[0], np.zeros((np.shape(x)[0], int(np.prod(shape))))
    flat = f64(x).reshape(n, -1)
    sizes = [split[axis] for axis in order]
    for place, digits in enumerate(np.ndindex(*sizes)):
        source = 0
        for axis, size in enumerate(split):
            source = source * size + digits[order.index(axis)]
        y[:, place] = flat[:, source]
    return y.reshape(n, *shape)


def flatten(x):
    """[n, h, w, c] -> [n, h*w*c], channels fastest."""
    n, h, w, c = np.shape(x)
    y = np.zeros((n, h * w * c))
    for iy in range(h):
        for ix in range(w):
            for ci in range(c):
                y[:, (iy * w + ix) * c + ci] = f64(x)[:, iy, ix, ci]
    return y


def softmax(x):
    """exp(x) / sum(exp(x)) over the last axis."""
    e = np.exp(f64(x) - f64(x).max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def softmax_vjp(dy, x):
    """The Jacobian diag(p) - p p^T, written out."""
    p, dx = softmax(x), np.zeros(np.shape(x))
    for row in np.ndindex(*np.shape(x)[:-1]):
        dx[row] = (np.diag(p[row]) - np.outer(p[row], p[row])) @ f64(dy)[row]
    return dx


def softmax_cross_entropy(logits, labels):
    """Mean over the batch of -log softmax(logits)[label]; labels are integers [n]."""
    logits = f64(logits)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -sum(log_p[b, label] for b, label in enumerate(labels)) / len(labels)


def softmax_cross_entropy_vjp(dy, logits, labels):
    """dlogits = dy * (softmax - one hot) / n."""
    dlogits = softmax(logits)
    for b, label in enumerate(labels):
        dlogits[b, label] -= 1
    return f64(dy) * dlogits / len(labels)


def batch_norm(x, scale, offset, mean, variance, epsilon):
    """Per channel of the last axis, with given statistics."""
    return (f64(x) - f64(mean)) / np.sqrt(f64(variance) + epsilon) * f64(scale) + f64(offset)


def batch_norm_train(x, scale, offset, epsilon):
    """y, mean, variance: normalised by the batch's own mean and (biased) variance per channel."""
    rows = f64(x).reshape(-1, np.shape(x)[-1])
    mean = rows.sum(axis=0) / len(rows)
    variance = ((rows - mean) ** 2).sum(axis=0) / len(rows)
    return batch_norm(x, scale, offset, mean, variance, epsilon), mean, variance


def batch_norm_train_vjp(dy, x, scale, epsilon):
    """dx, dscale, doffset: the full Jacobian of the normalisation, channel by channel."""
    rows, drows = f64(x).reshape(-1, np.shape(x)[-1]), f64(dy).reshape(-1, np.shape(x)[-1])
    m, c = rows.shape
    dx, dscale, doffset = np.zeros((m, c)), np.zeros(c), np.zeros(c)
    for ci in range(c):
        centred = rows[:, ci] - rows[:, ci].sum() / m
        deviation = np.sqrt((centred**2).sum() / m + epsilon)
        unit = centred / deviation
        jacobian = (np.eye(m) - 1 / m - np.outer(unit, unit) / m) / deviation
        dx[:, ci] = jacobian @ (drows[:, ci] * f64(scale)[ci])
        dscale[ci], doffset[ci] = (drows[:, ci] * unit).sum(), drows[:, ci].sum()
    return dx.reshape(np.shape(x)), dscale, doffset


# --- Masks -----------------------------------------------------------------------------------------------------------


def step(scores):
    """1 where the score is above zero, else 0: strictly, and NaN gives 0."""
    return np.where(f64(scores) > 0, 1.0, 0.0)


def step_slope(scores):
    """The straight-through slope of `step`."""
    return np.where(np.abs(f64(scores)) < 1, 1.0, 0.1)


def one_hot(scores):
    """[15, ...]: 1 at the first largest of the 15, else 0."""
    scores = f64(scores)
    hot = np.zeros(scores.shape)
    for index in np.ndindex(*scores.shape[1:]):
        column = list(scores[(slice(None), *index)])
        hot[(column.index(max(column)), *index)] = 1.0
    return hot


def one_hot_slope(scores):
    """The straight-through slope of `one_hot`: the mean counts as a constant."""
    scores = f64(scores)
    return np.where(np.abs(scores - scores.mean(axis=0)) < 1, 1.0, 0.1)


def expand(mask, c_in, c_out, group_in, group_out):
    """Each group's pattern repeated over its adjacent channels; the last groups may be short."""
    out = np.zeros((*np.shape(mask)[:2], c_in, c_out))
    for ci in range(c_in):
        for co in range(c_out):
            out[:, :, ci, co] = f64(mask)[:, :, ci // group_in, co // group_out]
    return out


def expand_vjp(dmask, group_in, group_out):
    """The cotangents of a pattern's copies, summed."""
    kh, kw, c_in, c_out = np.shape(dmask)
    out = np.zeros((kh, kw, -(-c_in // group_in), -(-c_out // group_out)))
    for ci in range(c_in):
        for co in range(c_out):
            out[:, :, ci // group_in, co // group_out] += f64(dmask)[:, :, ci, co]
    return out


def apply_enabled(mask, enabled):
    """Channels that are not enabled run dense."""
    out = f64(mask).copy()
    for co, on in enumerate(enabled):
        if not on:
            out[:, :, :, co] = 1.0
    return out


def apply_enabled_vjp(dmask, enabled):
    out = f64(dmask).copy()
    for co, on in enumerate(enabled):
        if not on:
            out[:, :, :, co] = 0.0
    return out


def group_mask(scores):
    """[kh, kw, gi, go] before expansion: free scores have four axes, rigid ones [15, gi, go] three."""
    if np.ndim(scores) == 4:
        return step(scores)
    return sum(pattern[:, :, None, None] * hot for pattern, hot in zip(PATTERNS, one_hot(scores), strict=True))


def group_mask_vjp(dmask, scores):
    """dscores from the cotangent of `group_mask`, by the surrogate slopes."""
    if np.ndim(scores) == 4:
        return f64(dmask) * step_slope(scores)
    dhot = np.array([(f64(dmask) * pattern[:, :, None, None]).sum(axis=(0, 1)) for pattern in PATTERNS])
    return dhot * one_hot_slope(scores)


def lhc_mask(scores, c_in, c_out, group_in, group_out, enabled=None):
    """The 0/1 mask [kh, kw, c_in, c_out] of free or rigid scores."""
    mask = expand(group_mask(scores), c_in, c_out, group_in, group_out)
    return mask if enabled is None else apply_enabled(mask, enabled)


def lhc_mask_vjp(dmask, scores, group_in, group_out, enabled=None):
    """dscores from the cotangent of the mask."""
    dmask = f64(dmask) if enabled is None else apply_enabled_vjp(dmask, enabled)
    return group_mask_vjp(expand_vjp(dmask, group_in, group_out), scores)


def free_mask(scores, c_in, c_out, group_in, group_out, enabled=None):
    return lhc_mask(scores, c_in, c_out, group_in, group_out, enabled)


def rigid_mask(scores, c_in, c_out, group_in, group_out, enabled=None):
    return lhc_mask(scores, c_in, c_out, group_in, group_out, enabled)


# --- Regularizer and the whole layer ---------------------------------------------------------------------------------


def density_regularizer(masks, output_hws, target):
    """R = .01 * kept / all work + .99 * |target - kept / all weights| over the layers' masks."""
    kept_work = sum(f64(m).sum() * oh * ow for m, (oh, ow) in zip(masks, output_hws, strict=True))
    work = sum(np.size(m) * oh * ow for m, (oh, ow) in zip(masks, output_hws, strict=True))
    kept, size = sum(f64(m).sum() for m in masks), sum(np.size(m) for m in masks)
    return 0.01 * kept_work / work + 0.99 * abs(target - kept / size)


def density_regularizer_vjp(dy, masks, output_hws, target):
    """The cotangent of each mask; the absolute value has slope 0 at 0."""
    work = sum(np.size(m) * oh * ow for m, (oh, ow) in zip(masks, output_hws, strict=True))
    kept, size = sum(f64(m).sum() for m in masks), sum(np.size(m) for m in masks)
    sign = np.sign(kept / size - target)
    return [
        f64(dy) * np.full(np.shape(m), 0.01 * oh * ow / work + 0.99 * sign / size)
        for m, (oh, ow) in zip(masks, output_hws, strict=True)
    ]


def lhc(x, kernel, scores, bias=None, *, group_in, group_out, enabled=None, relu_after=False, **conv_options):
    """The layer: y = act(conv2d(x, kernel * M) + bias)."""
    mask = lhc_mask(scores, *np.shape(kernel)[2:], group_in, group_out, enabled)
    y = conv2d(x, f64(kernel) * mask, bias, **conv_options)
    return relu(y) if relu_after else y


def lhc_vjp(dy, x, kernel, scores, bias=None, *, group_in, group_out, enabled=None, relu_after=False, **conv_options):
    """{"dx", "dkernel", "dscores", "dbias"} of `lhc`."""
    mask = lhc_mask(scores, *np.shape(kernel)[2:], group_in, group_out, enabled)
    masked = f64(kernel) * mask
    if relu_after:
        dy = relu_vjp(dy, conv2d(x, masked, bias, **conv_options))
    dx, dmasked = conv2d_vjp(dy, x, masked, **conv_options)
    return {
        "dx": dx,
        "dkernel": mask * dmasked,
        "dscores": lhc_mask_vjp(f64(kernel) * dmasked, scores, group_in, group_out, enabled),
        "dbias": add_bias_vjp(dy),
    }
