"""A masked convolution as an autograd.Function with every gradient by hand, NCHW and OIHW."""

import torch
from torch.nn.grad import conv2d_input, conv2d_weight

from tests.check.torch_layer import pad


class MaskedConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, mask, stride, padding, dilation, bias=None):
        padded = pad(x, padding, weight.shape[2:], stride, dilation)
        ctx.save_for_backward(padded, weight, mask)
        # The pad before the image: where an image of its row and column numbers ends up.
        rows = pad(torch.ones_like(x), padding, weight.shape[2:], stride, dilation).amax((0, 1))
        ctx.corner = tuple(int(line.nonzero()[0]) for line in (rows.amax(1), rows.amax(0)))
        ctx.size, ctx.bias, ctx.options = x.shape[2:], bias is not None, {"stride": stride, "dilation": dilation}
        return torch.conv2d(padded, weight * mask, bias, **ctx.options)

    @staticmethod
    def backward(ctx, dy):
        x, weight, mask = ctx.saved_tensors
        dx = conv2d_input(x.shape, weight * mask, dy, **ctx.options)
        (top, left), (h, w) = ctx.corner, ctx.size
        dweight = conv2d_weight(x, weight.shape, dy, **ctx.options) * mask
        dbias = dy.sum((0, 2, 3)) if ctx.bias else None
        return dx[:, :, top : top + h, left : left + w], dweight, None, None, None, None, dbias
