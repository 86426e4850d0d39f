"""The autoencoder, and principal component analysis as its linear case.

Source: Baldi and Hornik, "Neural networks and principal component analysis" (1989), for the linear case.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from genfast.models.latent.networks import (
    check_images,
    check_sizes,
    decoder,
    encoder_body,
    he_linear,
)


class Autoencoder(nn.Module):
    """Codes z = encode(x) and reconstructions decode(z), trained on their squared error.

    With `layers=0` both are affine. Every minimum of the loss then has the decoder's columns span the
    subspace of the first `latent_dim` principal components; the codes need not be uncorrelated.

    Args:
        image_shape: (C, H, W), each at least 1.
        levels: values a colour can take in the images, k / (levels - 1); no part of the network.
        latent_dim: dimensions of the code.
        network: "dense" (gated dense layers) or "conv" (gated convolutions).
        hidden, layers: of "dense".
        channels: of "conv".

    Raises:
        ValueError: an argument out of its range.

    >>> import torch, genfast
    >>> model = genfast.models.Autoencoder((1, 8, 8), latent_dim=4, hidden=16)
    >>> x = torch.rand(5, 1, 8, 8)
    >>> model.encode(x).shape, model.decode(model.encode(x)).shape, model.loss(x).shape
    (torch.Size([5, 4]), torch.Size([5, 1, 8, 8]), torch.Size([]))
    """

    config: dict[str, Any]
    unit: ClassVar[str] = "squared error"
    #: Reconstructions lie between the levels of the data: in so many levels they are shown.
    SHOWN_LEVELS: ClassVar[int] = 256
    SETTINGS: ClassVar[dict[str, str]] = {
        "latent_dim": "dimensions of the code",
        "network": "dense: gated dense layers; conv: gated convolutions",
        "hidden": "units of a gated dense layer",
        "layers": "gated dense layers of encoder and decoder each; 0 makes both linear: PCA (dense)",
        "channels": "feature maps of the convolutions at full size (conv)",
    }
    num_classes = 0

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        levels: int = 256,
        latent_dim: int = 40,
        network: Literal["dense", "conv"] = "dense",
        hidden: int = 300,
        layers: int = 2,
        channels: int = 32,
    ) -> None:
        super().__init__()
        if network not in ("dense", "conv"):
            raise ValueError(f"network must be 'dense' or 'conv', got {network!r}")
        sizes = {"latent_dim": latent_dim, "hidden": hidden, "layers": layers, "channels": channels}
        self.image_shape = check_sizes(image_shape, **sizes)
        self.levels, self.latent_dim = levels, latent_dim
        self.config = {"image_shape": self.image_shape, "levels": levels, "network": network, **sizes}
        body, width = encoder_body(self.image_shape, network, hidden, layers, channels)
        self.encoder = nn.Sequential(body, he_linear(width, latent_dim))
        self.decoder = decoder(
            latent_dim, self.image_shape, self.image_shape[0], network, hidden, layers, channels
        )

    def encode(self, x: Tensor) -> Tensor:
        """Codes (N, latent_dim) of images (N,C,H,W)."""
        codes: Tensor = self.encoder(check_images(x, self.image_shape, next(self.parameters()).dtype))
        return codes

    def decode(self, z: Tensor) -> Tensor:
        """Images (N,C,H,W) of codes; nothing keeps them in [0, 1]."""
        images: Tensor = self.decoder(z)
        return images

    def reconstruct(self, x: Tensor) -> Tensor:
        """`decode(encode(x))`."""
        return self.decode(self.encode(x))

    def validation_score(self, x: Tensor, labels: None = None) -> Tensor:
        """Minus the squared error of each image, summed over pixels and colours: (N,)."""
        error = (self.reconstruct(x) - x).square().flatten(1)
        return -error.to(torch.promote_types(error.dtype, torch.float32)).sum(1)

    def loss(self, x: Tensor, labels: None = None) -> Tensor:
        """The squared error summed over pixels and colours, averaged over the images: 0-dim."""
        return -self.validation_score(x).mean()
