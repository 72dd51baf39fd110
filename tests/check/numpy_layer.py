"""A correct LHC layer in plain NumPy, written from the paper's description alone, for the protocol as it is.

Convolution by explicit loops over taps with einsum; every gradient by hand; the arrays' own dtype throughout.
"""

import numpy as np

PICTURES = [
    "... ... ...",
    "... .#. ...",
    "... ### ...",
    "..# .#. #..",
    ".#. .#. .#.",
    "#.. .#. ..#",
    ".## .## ...",
    "##. ##. ...",
    "... ##. ##.",
    "... .## .##",
    "### ### ...",
    "##. ##. ##.",
    "... ### ###",
    ".## .## .##",
    "### ### ###",
]


def layer(arrays, geometry):
    """Levels free, rigid, masked, hetconv and nm."""
    kernel, (kh, kw) = arrays["kernel"], geometry["kernel_size"]
    dtype, level = kernel.dtype, geometry["level"]
    extra = np.zeros((), dtype)
    if level in ("free", "rigid"):
        pattern = patterns(arrays["scores"], level, dtype)
        mask = np.empty(kernel.shape, dtype)
        for i in range(geometry["c_in"]):
            for o in range(geometry["c_out"]):
                on = arrays["enabled"][o]
                mask[:, :, i, o] = pattern[:, :, i // geometry["group_in"], o // geometry["group_out"]] if on else 1
    elif level == "masked":
        mask = arrays["mask"].astype(dtype)
    elif level == "hetconv":
        mask = np.zeros(kernel.shape, dtype)
        mask[kh // 2, kw // 2] = 1
        for o in range(geometry["c_out"]):
            for i in range(o % geometry["p"], geometry["c_in"], geometry["p"]):
                mask[:, :, i, o] = 1
    else:
        mask = n_of_m(kernel, geometry["keep"], geometry["of"])
        extra = dtype.type(2e-4) * (1 - mask) * kernel
    y, dx, dmasked = convolve(arrays["x"], kernel * mask, arrays["dy"], geometry)
    answer = {"y": y, "dx": dx, "dkernel": dmasked + extra if level == "nm" else mask * dmasked}
    if level != "masked":
        answer["mask"] = mask
    if level in ("free", "rigid"):
        answer["dscores"] = dscores(kernel * dmasked, arrays, geometry)
    if "bias" in arrays:
        answer["y"] = y + arrays["bias"]
        answer["dbias"] = arrays["dy"].sum(axis=2).sum(axis=1).sum(axis=0)
    return answer


def patterns(scores, level, dtype):
    if level == "free":
        return np.where(scores > 0, 1, 0).astype(dtype)
    pictures = np.array([[[c == "#" for c in row] for row in p.split()] for p in PICTURES], dtype)
    return np.moveaxis(pictures[scores.argmax(axis=0)], (2, 3), (0, 1))


def dscores(dmask, arrays, geometry):
    scores = arrays["scores"]
    gathered = np.zeros((*dmask.shape[:2], *scores.shape[-2:]), scores.dtype)
    for o in np.flatnonzero(arrays["enabled"]):
        for i in range(geometry["c_in"]):
            gathered[:, :, i // geometry["group_in"], o // geometry["group_out"]] += dmask[:, :, i, o]
    if geometry["level"] == "free":
        return gathered * slope(scores)
    out = np.zeros_like(scores)
    for k, picture in enumerate(PICTURES):
        for ky, row in enumerate(picture.split()):
            for kx, tap in enumerate(row):
                if tap == "#":
                    out[k] += gathered[ky, kx]
    return out * slope(scores - scores.mean(axis=0))


def slope(distance):
    return np.where(np.abs(distance) < 1, 1, 0.1).astype(distance.dtype)


def n_of_m(kernel, keep, of):
    mask = np.zeros_like(kernel)
    for ky, kx, o in np.ndindex(kernel.shape[0], kernel.shape[1], kernel.shape[3]):
        for start in range(0, kernel.shape[2], of):
            run = abs(kernel[ky, kx, start : start + of, o])
            best = sorted(range(len(run)), key=lambda i, run=run: (-run[i], i))[: -(-keep * len(run) // of)]
            mask[ky, kx, [start + i for i in best], o] = 1
    return mask


def windows(x, kernel, geometry):
    """The padded image, its offset, and how many outputs there are."""
    (sy, sx), (ry, rx), padding = geometry["stride"], geometry["dilation"], geometry["padding"]
    pads = []
    for axis, (size, k, s, r) in enumerate(zip(x.shape[1:3], kernel.shape[:2], (sy, sx), (ry, rx), strict=True)):
        if padding == "same":
            out = int(np.ceil(size / s))
            total = max(0, (out - 1) * s + (k - 1) * r + 1 - size)
            pads.append((total // 2, total - total // 2))
        else:
            pads.append((0, 0) if padding == "valid" else padding[axis])
    padded = np.pad(x, ((0, 0), *pads, (0, 0)))
    oh = (padded.shape[1] - (kernel.shape[0] - 1) * ry - 1) // sy + 1
    ow = (padded.shape[2] - (kernel.shape[1] - 1) * rx - 1) // sx + 1
    return padded, pads, oh, ow


def convolve(x, kernel, dy, geometry):
    """y, dx and the kernel's cotangent."""
    padded, ((top, _), (left, _)), oh, ow = windows(x, kernel, geometry)
    (sy, sx), (ry, rx) = geometry["stride"], geometry["dilation"]
    y = np.zeros((x.shape[0], oh, ow, kernel.shape[3]), x.dtype)
    dpadded, dkernel = np.zeros_like(padded), np.zeros_like(kernel)
    for ky, kx in np.ndindex(*kernel.shape[:2]):
        rows, columns = slice(ky * ry, ky * ry + (oh - 1) * sy + 1, sy), slice(kx * rx, kx * rx + (ow - 1) * sx + 1, sx)
        seen = padded[:, rows, columns]
        y += np.einsum("byxi,io->byxo", seen, kernel[ky, kx])
        dkernel[ky, kx] = np.einsum("byxi,byxo->io", seen, dy)
        dpadded[:, rows, columns] += np.einsum("byxo,io->byxi", dy, kernel[ky, kx])
    return y, dpadded[:, top : top + x.shape[1], left : left + x.shape[2]], dkernel


def csg(arrays, geometry):
    codes, generator = arrays["codes"], arrays["generator"]
    (kh, kw), s = geometry["kernel_size"], geometry["slice_out"]
    outs, ins = -(-geometry["c_out"] // s) * s, -(-geometry["c_in"] // s) * s
    flat = codes @ generator.T
    kernel = flat.reshape(outs, ins, kh, kw)[: geometry["c_out"], : geometry["c_in"]].transpose(2, 3, 1, 0)
    y, dx, dkernel = convolve(arrays["x"], kernel, arrays["dy"], geometry)
    dflat = np.zeros((outs, ins, kh, kw), codes.dtype)
    dflat[: geometry["c_out"], : geometry["c_in"]] = dkernel.transpose(3, 2, 0, 1)
    dflat = dflat.reshape(flat.shape)
    answer = {"y": y, "kernel": kernel, "dx": dx, "dcodes": dflat @ generator, "dgenerator": dflat.T @ codes}
    if "bias" in arrays:
        answer |= {"y": y + arrays["bias"], "dbias": arrays["dy"].sum(axis=(0, 1, 2))}
    return answer


def lean(arrays, geometry):
    """Each group of the stencil on its own, then the 1x1."""
    x, dy, groups = arrays["x"], arrays["dy"], geometry["groups"]
    sy, sx = geometry["stride"]
    gi, go = geometry["c_in"] // groups, geometry["c_out"] // groups
    y = np.zeros(dy.shape, x.dtype)
    dx, dstencil = np.zeros_like(x), np.zeros_like(arrays["stencil"])
    for g in range(groups):
        i, o = slice(g * gi, (g + 1) * gi), slice(g * go, (g + 1) * go)
        y[..., o], dx[..., i], dstencil[..., o] = convolve(x[..., i], arrays["stencil"][..., o], dy[..., o], geometry)
    seen, point = x[:, ::sy, ::sx], arrays["pointwise"][0, 0]
    y += seen @ point
    dx[:, ::sy, ::sx] += dy @ point.T
    dpoint = np.einsum("byxi,byxo->io", seen, dy)[None, None]
    answer = {"y": y, "dx": dx, "dstencil": dstencil, "dpointwise": dpoint}
    if "bias" in arrays:
        answer |= {"y": y + arrays["bias"], "dbias": dy.sum(axis=(0, 1, 2))}
    return answer


def penalty(arrays, geometry):
    masks, pixels, target = arrays["masks"], geometry["pixels"], geometry["target_density"]
    dtype = masks[0].dtype
    work = sum(m.size * p for m, p in zip(masks, pixels, strict=True))
    done = sum(m.sum() * p for m, p in zip(masks, pixels, strict=True))
    size = sum(m.size for m in masks)
    density = sum(m.sum() for m in masks) / size
    answer = {"y": np.asarray(0.01 * done / work + 0.99 * abs(density - target), dtype)}
    side = 1 if density > target else -1
    for i, (m, p) in enumerate(zip(masks, pixels, strict=True)):
        answer[f"dmask{i}"] = np.full(m.shape, arrays["dy"] * (0.01 * p / work + 0.99 / size * side), dtype)
    return answer
