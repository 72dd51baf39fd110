"""A correct LHC layer in PyTorch, written from the paper's description alone: NCHW and OIHW, autograd.

It is what `mutants` plants its faults in, and what the suite must find no fault with.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from torch import nn

PATTERNS = torch.tensor(
    [[[int(tap) for tap in row] for row in picture.split("/")] for picture in (
        "000/000/000 000/010/000 000/111/000 001/010/100 010/010/010 100/010/001 011/011/000 110/110/000 "
        "000/110/110 000/011/011 111/111/000 110/110/110 000/111/111 011/011/011 111/111/111"
    ).split()]
)  # fmt: skip


class Step(torch.autograd.Function):
    """1 above zero; backward the slope 1 inside (-1, 1), 0.1 outside."""

    @staticmethod
    def forward(ctx, scores):
        ctx.save_for_backward(scores)
        return (scores > 0).to(scores.dtype)

    @staticmethod
    def backward(ctx, grad):
        (scores,) = ctx.saved_tensors
        inside = scores.abs() < 1
        return torch.where(inside, grad, 0.1 * grad)


class Choose(torch.autograd.Function):
    """One-hot of the first largest of the 15 scores (last axis)."""

    @staticmethod
    def forward(ctx, scores):
        ctx.save_for_backward(scores)
        winner = (scores == scores.amax(dim=-1, keepdim=True)).to(torch.int8).argmax(dim=-1)
        return F.one_hot(winner, 15).to(scores.dtype)

    @staticmethod
    def backward(ctx, grad):
        (scores,) = ctx.saved_tensors
        center = scores.mean(dim=-1, keepdim=True)
        inside = (scores - center).abs() < 1
        return torch.where(inside, grad, 0.1 * grad)


def pad_same(x, kernel_size, stride, dilation):
    pads = []
    for size, k, s, d in zip(
        reversed(x.shape[2:]), reversed(kernel_size), reversed(stride), reversed(dilation), strict=True
    ):
        out = (size + s - 1) // s
        total = max((out - 1) * s + d * (k - 1) + 1 - size, 0)
        before = total // 2
        pads += [before, total - before]
    return F.pad(x, pads)


def pad(x, padding, kernel_size, stride, dilation):
    if padding == "same":
        return pad_same(x, kernel_size, stride, dilation)
    if padding == "valid":
        return x
    (top, bottom), (left, right) = padding
    return F.pad(x, [left, right, top, bottom])


class LhcConv2d(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, stride=(1, 1), padding="same", dilation=(1, 1),
                 group_in=1, group_out=1, kind="free", bias=True):  # fmt: skip
        super().__init__()
        self.kernel_size, self.stride, self.padding, self.dilation = kernel_size, stride, padding, dilation
        self.group_in, self.group_out, self.kind = group_in, group_out, kind
        self.c_in, self.c_out = in_channels, out_channels
        rows, columns = -(-out_channels // group_out), -(-in_channels // group_in)
        self.weight = nn.Parameter(torch.zeros(out_channels, in_channels, *kernel_size))
        choices = kernel_size if kind == "free" else (15,)
        self.scores = nn.Parameter(torch.zeros(rows, columns, *choices))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.register_buffer("enabled", torch.ones(out_channels, dtype=torch.bool))

    def patterns(self):
        if self.kind == "free":
            return Step.apply(self.scores)
        hot = Choose.apply(self.scores)
        return torch.einsum("oik,kyx->oiyx", hot, PATTERNS.to(hot.dtype))

    def mask(self):
        rows = torch.arange(self.c_out) // self.group_out
        columns = torch.arange(self.c_in) // self.group_in
        mask = self.patterns()[rows][:, columns]
        on = self.enabled[:, None, None, None]
        return torch.where(on, mask, torch.ones_like(mask))

    def forward(self, x):
        x = pad(x, self.padding, self.kernel_size, self.stride, self.dilation)
        kernel = self.weight * self.mask()
        y = F.conv2d(x, kernel, stride=self.stride, dilation=self.dilation)
        if self.bias is not None:
            y = y + self.bias[:, None, None]
        return y


def masked_conv(x, kernel, mask, stride, padding, dilation, bias=None):
    x = pad(x, padding, kernel.shape[2:], stride, dilation)
    return F.conv2d(x, kernel * mask, bias, stride=stride, dilation=dilation)


def hetconv(x, kernel, stride, padding, dilation, p, bias=None):
    out, _, kh, kw = kernel.shape
    mask = torch.zeros_like(kernel)
    for o in range(out):
        mask[o, o % p :: p] = 1
    mask[:, :, kh // 2, kw // 2] = 1
    return masked_conv(x, kernel, mask, stride, padding, dilation, bias), mask


def csg(x, codes, generator, c_in, c_out, kernel_size, slice_out, slice_in, stride, padding, dilation, bias=None):
    rows, columns = -(-c_out // slice_out) * slice_out, -(-c_in // slice_in) * slice_in
    kernel = F.linear(codes, generator).reshape(rows, columns, *kernel_size)[:c_out, :c_in]
    x = pad(x, padding, kernel_size, stride, dilation)
    return F.conv2d(x, kernel, bias, stride=stride, dilation=dilation), kernel


def lean(x, stencil, pointwise, groups, stride, padding, dilation, bias=None):
    padded = pad(x, padding, stencil.shape[2:], stride, dilation)
    y = F.conv2d(padded, stencil, bias, stride=stride, dilation=dilation, groups=groups)
    return y + F.conv2d(x, pointwise, stride=stride)


class Sparse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight, keep, of):
        mask = torch.zeros_like(weight)
        for start in range(0, weight.shape[1], of):
            block = weight[:, start : start + of].abs()
            count = -(-keep * block.shape[1] // of)
            top = block.sort(dim=1, descending=True, stable=True).indices[:, :count]
            mask[:, start : start + of].scatter_(1, top, 1)
        ctx.save_for_backward(weight, mask)
        return weight * mask, mask

    @staticmethod
    def backward(ctx, grad, _):
        weight, mask = ctx.saved_tensors
        return grad + 2e-4 * (1 - mask) * weight, None, None


def nm(x, kernel, keep, of, stride, padding, dilation, bias=None):
    sparse, mask = Sparse.apply(kernel, keep, of)
    x = pad(x, padding, kernel.shape[2:], stride, dilation)
    return F.conv2d(x, sparse, bias, stride=stride, dilation=dilation), mask


def penalty(masks, pixels, target_density):
    done = sum(m.sum() * p for m, p in zip(masks, pixels, strict=True))
    work = sum(m.numel() * p for m, p in zip(masks, pixels, strict=True))
    density = sum(m.sum() for m in masks) / sum(m.numel() for m in masks)
    return 0.01 * done / work + 0.99 * (density - target_density).abs()
