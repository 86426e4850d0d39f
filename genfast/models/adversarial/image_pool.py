"""A pool of generated images, so that a discriminator sees older ones too.

Source: Shrivastava et al., "Learning from Simulated and Unsupervised Images through Adversarial
Training" (2017), section 2.3; with 50 images in Zhu et al. (2017), section 4.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ImagePool(nn.Module):
    """Gives back the images it is given or, half of the time once it is full, older ones.

    Its images are buffers: a checkpoint has them. Draws come from torch's generator.

    Args:
        size: images kept; 0 gives back what it is given.
        shape: (C, H, W).

    >>> images = torch.rand(3, 1, 2, 2)
    >>> torch.equal(ImagePool(0, (1, 2, 2))(images), images)
    True
    """

    images: Tensor
    filled: Tensor

    def __init__(self, size: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        if size < 0:
            raise ValueError(f"size must be at least 0, got {size}")
        self.register_buffer("images", torch.zeros(size, *shape))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) -> as many to show.

        Each in turn is kept and given back while there is room; then, with probability 1/2, it is put in
        place of an older one, which is given back.
        """
        size, filled = len(self.images), int(self.filled)
        if size == 0:
            return images
        given = images.clone()
        for number, image in enumerate(images):
            if filled < size:
                self.images[filled] = image
                filled += 1
            elif torch.rand(()) < 0.5:
                place = int(torch.randint(size, ()))
                given[number] = self.images[place]
                self.images[place] = image
        self.filled.fill_(filled)
        return given
