"""Parts of the U-Net that a CPU trains sooner than with torch's own kernels, in bfloat16.

Wherever they would not be the faster ones, they are torch's; the mathematics is always the same.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

# Beyond it the matrix of attention weights is too large to keep for the backward pass.
_MANY_TOKENS = 4096
# Below it, in a batch, adding up the taps of a kernel costs more than fewer taps save.
_FEW_PIXELS = 1024


def _preferred(x: Tensor) -> bool:
    learning = torch.is_grad_enabled() and x.requires_grad
    return learning and x.is_cpu and x.dtype == torch.bfloat16 and not torch.compiler.is_compiling()


def attend(
    q: Float[Tensor, "b h n d"], k: Float[Tensor, "b h m d"], v: Float[Tensor, "b h m d"]
) -> Float[Tensor, "b h n d"]:
    """Scaled dot-product attention; the fused kernel takes three times as long."""
    if not _preferred(q) or k.shape[-2] > _MANY_TOKENS:
        return F.scaled_dot_product_attention(q, k, v)
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return torch.softmax(logits, dim=-1, dtype=torch.float32).to(v.dtype) @ v


class Dropout(nn.Dropout):
    """The same as torch's, which draws 64 random bits for every value; 16 are enough."""

    def forward(self, input: Tensor) -> Tensor:
        if not (self.training and 0 < self.p < 1 and _preferred(input)):
            return super().forward(input)
        words = torch.empty(-(-input.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        keep = words.view(torch.int16)[: input.numel()] >= round(self.p * 2**16) - 2**15
        kept = keep.to(input.dtype).div_(1 - self.p)
        # In the order in which the values lie, so that the product need not jump about.
        return input * kept.as_strided(input.shape, torch.empty_like(input).stride())


# Which taps of a 3-tap convolution meet where its input is enlarged by 2: output 2 i + a - 1 takes
# row a of them times input i. That is a transposed convolution with 4 taps and stride 2.
_TAPS = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])


def upsampled_conv(x: Float[Tensor, "b c h w"], conv: nn.Conv2d) -> Float[Tensor, "b d h2 w2"]:
    """A 3x3 convolution of ``x`` enlarged by 2 (nearest); 16 products do for its 36."""
    if not _preferred(x) or x[:, 0].numel() < _FEW_PIXELS:
        return conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
    kernel = _transposed(conv.weight.float()).to(x.dtype)
    bias = None if conv.bias is None else conv.bias.to(x.dtype)
    return F.conv_transpose2d(x, kernel, bias, stride=2, padding=1)


def _transposed(weight: Float[Tensor, "d c 3 3"]) -> Float[Tensor, "c d 4 4"]:
    d, c = weight.shape[:2]
    taps = weight.permute(1, 2, 3, 0).reshape(c, 9, d)
    with torch.autocast("cpu", enabled=False):  # to be rounded once, when added up
        kernel = torch.kron(_TAPS, _TAPS) @ taps
    return kernel.reshape(c, 4, 4, d).permute(0, 3, 1, 2)
