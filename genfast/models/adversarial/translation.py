"""What models that turn an image of one domain into one of another share."""

from __future__ import annotations

from contextlib import ExitStack
from typing import ClassVar

import torch
from torch import Tensor, nn

from genfast.models.adversarial.base import AdversarialModel
from genfast.sampling.modes import evaluating


class TranslationModel(AdversarialModel):
    """From domain A to domain B. Training images hold both, joined along the channels: A, then B.

    Args:
        image_shape: (Ca + Cb, H, W).
        levels: of the images that translations are written as.
        input_channels: Ca.
    """

    #: Whether A and B of a training image belong together.
    PAIRED: ClassVar[bool] = True
    LEADER: ClassVar[str] = "generator"
    unit: ClassVar[str] = "generator loss"

    def __init__(self, image_shape: tuple[int, int, int], levels: int, input_channels: int) -> None:
        super().__init__(image_shape, levels)
        if not 0 < input_channels < self.image_shape[0]:
            raise ValueError(
                f"input_channels must be 1 to {self.image_shape[0] - 1}, a part of the channels of both "
                f"domains together, got {input_channels}"
            )
        self.input_channels = input_channels

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """(Cb, H, W): what `sample` gives."""
        channels, height, width = self.image_shape
        return channels - self.input_channels, height, width

    def translate(self, a: Tensor) -> Tensor:
        """Images of A (N, Ca, H, W) in [-1, 1] to B, with gradients."""
        raise NotImplementedError

    @torch.no_grad()
    def sample(self, n: int, *, given: Tensor, seed: int = 0, dropout: bool = False) -> Tensor:
        """Translations of images of A: (n, Cb, H, W) in [0, 1], in evaluation mode.

        Args:
            n: number of images.
            given: (n, Ca, H, W) in [0, 1].
            seed: of the dropout.
            dropout: keep dropout active, if the model has any: the one source of variety that Pix2Pix
                has. The noise is that of the whole batch; normalisation stays in evaluation mode.

        Raises:
            ValueError: `given` does not fit.
        """
        wanted = (n, self.input_channels, *self.image_shape[1:])
        if tuple(given.shape) != wanted:
            raise ValueError(f"given must have shape {wanted}, got {tuple(given.shape)}")
        with ExitStack() as stack:
            stack.enter_context(evaluating(self))
            if dropout:
                cuda = [given.device] if given.device.type == "cuda" else []
                stack.enter_context(torch.random.fork_rng(cuda))
                torch.manual_seed(seed)
                for module in self.modules():
                    if isinstance(module, nn.Dropout):
                        module.train()
            return (self.translate(2 * given - 1) + 1) / 2

    def _domains(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The two images of a training image, in [-1, 1]."""
        signed = self._signed(x)
        return signed[:, : self.input_channels], signed[:, self.input_channels :]
