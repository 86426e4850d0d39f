"""An incremental sampler of the Gated PixelCNN as one would write it in plain PyTorch.

What the native sampler has to beat besides naive sampling: convolutions on the rows seen so far, once a
row; matrix products on the row at hand, once a pixel. Grey images of two levels, no classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genfast import reference
from genfast.reference.gated import gated_activation
from genfast.sampling import uniforms


class PlainIncrementalSampler:
    """The weights of a plain twin, laid out for products on one pixel."""

    def __init__(self, model: reference.GatedPixelCNN) -> None:
        self.blocks = [model.get_submodule(f"blocks.{i}") for i in range(len(model.blocks))]
        self.row, self.out = [], []
        for n, block in enumerate(self.blocks):
            weight, seen = block.horizontal.weight[:, :, 0], _margin(block) + (n > 0)
            self.row.append(weight[:, :, :seen].transpose(1, 2).flatten(1).t().contiguous())
            self.out.append(block.out.weight[:, :, 0, 0])
        self.head = [(model.head[i].weight[:, :, 0, 0], model.head[i].bias) for i in (1, 3)]

    @torch.no_grad()
    def run(
        self, shape: tuple[int, int, int], given: Tensor | None, seed: int = 0
    ) -> tuple[Tensor, Tensor]:
        """(images, logits), each (N, H, W); with `given` images (N, H, W) these are kept."""
        n, height, width = shape
        channels = self.head[0][0].shape[1]
        new_zeros = self.head[0][0].new_zeros
        images, logits = new_zeros(2, n, height, width).unbind()
        numbers = torch.arange(n, device=images.device)
        pixels = torch.arange(width, device=images.device)[:, None]
        seen = [
            new_zeros(n, channels if i else 1, _margin(b) + 1, width + 2 * _margin(b))
            for i, b in enumerate(self.blocks)
        ]
        links = [b.horizontal.bias.expand(width, n, -1) for b in self.blocks]
        for r in range(height):
            draws = uniforms(seed, numbers, r * width + pixels, 1)[..., 0]
            margin = _margin(self.blocks[0])
            x = new_zeros(n, margin + width)
            before = [new_zeros(n, channels) for _ in self.blocks]
            for c in range(width):
                logit = self._pixel(x[:, c : c + margin], [link[c] for link in links], before)
                logits[:, r, c] = logit
                level = draws[c] > torch.sigmoid(-logit) if given is None else given[:, r, c]
                images[:, r, c] = level
                x[:, margin + c] = 2.0 * level - 1.0
            links = self._next_row(x[:, margin:], seen)
        return images, logits

    def _pixel(self, x: Tensor, links: list[Tensor], before: list[Tensor]) -> Tensor:
        """The logits of a pixel; `before` holds what each block saw of the pixel to the left."""
        h = x
        for i, block in enumerate(self.blocks):
            wide = h if i == 0 else torch.cat([before[i], h], 1)
            gated = gated_activation(torch.addmm(links[i], wide, self.row[i]))
            out = F.linear(gated, self.out[i], block.out.bias)
            if i:
                before[i] = h
                out = out + h
            h = out
        for weight, bias in self.head:
            h = F.linear(F.relu(h), weight, bias)
        return h[:, 0]

    def _next_row(self, x: Tensor, seen: list[Tensor]) -> list[Tensor]:
        """What the vertical stack gives each block for the row after x."""
        v, links = x[:, None, None], []
        for i, block in enumerate(self.blocks):
            side = _margin(block)
            seen[i] = torch.cat([seen[i][:, :, 1:], F.pad(v, (side, side))], 2)
            v_sum = F.conv2d(seen[i], block.vertical.weight, block.vertical.bias)
            link = block.link(v_sum)[:, :, 0].permute(2, 0, 1)
            links.append((link + block.horizontal.bias).contiguous())
            v = gated_activation(v_sum)
        return links


def _margin(block: nn.Module) -> int:
    """How far the block sees to each side, and upwards."""
    columns: int = block.vertical.kernel_size[1]
    return columns // 2
