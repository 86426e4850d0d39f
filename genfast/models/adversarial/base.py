"""What every adversarial model shares: players with losses of their own, and their turns.

Images are floats in [0, 1]; the networks see and give [-1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from genfast.models.checks import checked_images


class AdversarialModel(nn.Module):
    """Players that each minimise a loss over weights of their own.

    A player `p` of `PLAYERS` has the method `p_loss(x, labels=None)`, 0-dim, the mean over the images,
    and the weights of `player_modules(p)`. `turns` says who moves in which step of training. Whatever a
    loss draws comes from torch's generator.

    Args:
        image_shape: (C, H, W), each at least 1.
        levels: of the images that samples are written as, at least 2; the networks do not know them.
        num_classes: 0 for a model without classes.
    """

    #: The constructor's arguments, so that `type(model)(**model.config)` builds the same architecture.
    config: dict[str, Any]
    #: Unit of the leader's loss.
    unit: ClassVar[str] = "nats"
    #: The constructor's arguments that a training run may set, and what each of them is.
    SETTINGS: ClassVar[dict[str, str]] = {}
    #: Settings of a run that the paper names, where they differ from those of `TrainConfig`.
    RUN_DEFAULTS: ClassVar[dict[str, Any]] = {}
    PLAYERS: ClassVar[tuple[str, ...]] = ("discriminator", "generator")
    #: The player that moves in every step, whose loss stands for the step.
    LEADER: ClassVar[str] = "discriminator"

    def __init__(self, image_shape: tuple[int, int, int], levels: int, num_classes: int = 0) -> None:
        super().__init__()
        self.image_shape = checked_images(image_shape, levels, num_classes)
        self.levels = levels
        self.num_classes = num_classes

    def player_modules(self, player: str) -> Sequence[nn.Module]:
        """The modules whose weights are the player's."""
        return [getattr(self, player)]

    def player_weights(self, player: str) -> list[nn.Parameter]:
        """The weights that the player's optimiser moves."""
        return [weight for module in self.player_modules(player) for weight in module.parameters()]

    def compile_players(self) -> None:
        """Compile the modules of all players in place, by torch.compile; a state_dict stays as it is.

        Raises `ValueError` for a model whose losses torch.compile cannot differentiate.
        """
        for module in dict.fromkeys(m for player in self.PLAYERS for m in self.player_modules(player)):
            module.compile()

    def turns(self, step: int) -> tuple[str, ...]:
        """The players that move in step `step` of training, counted from 0, in their order.

        A step brings new images, which all its players see. The leader is always among them.
        """
        return self.PLAYERS

    def before_turn(self, player: str) -> None:
        """What is done to the weights before a player moves."""

    def player_loss(self, player: str, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """The loss of the player of that name."""
        loss: Tensor = getattr(self, f"{player}_loss")(x, labels)
        return loss

    def held_out_loss(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """The leader's loss on images that it does not learn from."""
        return self.player_loss(self.LEADER, x, labels)

    def _signed(self, x: Tensor) -> Tensor:
        """Images as the networks see them: checked, from [0, 1] to [-1, 1]."""
        if tuple(x.shape[1:]) != self.image_shape:
            raise ValueError(f"x must have shape (N, *{self.image_shape}), got {tuple(x.shape)}")
        if not x.is_floating_point():
            raise TypeError(f"x must be floating-point images in [0, 1], got {x.dtype}")
        return 2 * x - 1


def normal_initialisation(module: nn.Module) -> None:
    """Weights of convolutions ~ N(0, 0.02), gains of normalisations ~ N(1, 0.02), biases 0.

    Source: Radford et al., "Unsupervised Representation Learning with Deep Convolutional Generative
    Adversarial Networks" (2016), section 4, and its reference code. For `nn.Module.apply`.
    """
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) and module.affine:
        nn.init.normal_(module.weight, 1.0, 0.02)
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)
