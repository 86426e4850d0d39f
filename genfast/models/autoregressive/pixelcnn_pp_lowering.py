"""PixelCNN++ as a pixel program: its weights folded, its streams at every resolution."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor

from genfast.nn import WeightNormConv2d, WeightNormConvTranspose2d
from genfast.sampling import Program, ProgramBuilder, Tap
from genfast.sampling.lowering import shifted_convolution, shifted_convolution_transpose

if TYPE_CHECKING:
    from genfast.models.autoregressive.pixelcnn_pp import GatedResnet, Level, PixelCNNPP


def pixel_program(model: PixelCNNPP) -> Program:
    """The program of `model`; names are those of its modules."""
    return _Lowering(model).program()


class _Lowering:
    def __init__(self, model: PixelCNNPP) -> None:
        self.model = model
        self.builder = ProgramBuilder(model.image_shape, model.levels)
        self.active: dict[Tap, Tap] = {}  # concat_elu of a stream, which several layers read

    def program(self) -> Program:
        model, builder = self.model, self.builder
        x = [builder.image, builder.ones()]
        u = self._conv("first_u", model.first_u, x)
        above = self._conv("first_ul_above", model.first_ul_above, x)
        left = self._conv("first_ul_left", model.first_ul_left, x)
        u = builder.compute("u", before=[u.at(-1, 0)])
        ul = builder.compute("ul", before=[above.at(-1, 0), left.at(0, -1)])
        ul = self._decode(self._encode(u, ul))
        active = builder.compute("elu", before=[ul], function="elu")
        model.output_head.lower(builder, self._conv("last", model.last, active))
        return builder.build()

    def _encode(self, u: Tap, ul: Tap) -> list[tuple[Tap, Tap]]:
        """`PixelCNNPP._encode`."""
        left = []
        for i, level in enumerate(cast("Iterable[Level]", self.model.encoder)):
            u, ul = self._enter(f"encoder.{i}", level, u, ul)
            left.append((u, ul))
            for name_u, resnet_u, name_ul, resnet_ul in _resnets(f"encoder.{i}", level):
                u = self._resnet(name_u, resnet_u, u)
                ul = self._resnet(name_ul, resnet_ul, ul, u)
                left.append((u, ul))
        return left

    def _decode(self, left: list[tuple[Tap, Tap]]) -> Tap:
        """`PixelCNNPP._decode`."""
        u, ul = left.pop()
        for i, level in enumerate(cast("Iterable[Level]", self.model.decoder)):
            u, ul = self._enter(f"decoder.{i}", level, u, ul)
            for name_u, resnet_u, name_ul, resnet_ul in _resnets(f"decoder.{i}", level):
                u_left, ul_left = left.pop()
                u = self._resnet(name_u, resnet_u, u, u_left)
                ul = self._resnet(name_ul, resnet_ul, ul, u, ul_left)
        return ul

    def _enter(self, name: str, level: Level, u: Tap, ul: Tap) -> tuple[Tap, Tap]:
        """`Level.enter`."""
        return self._entry(f"{name}.entry_u", level.entry_u, u), self._entry(
            f"{name}.entry_ul", level.entry_ul, ul
        )

    def _entry(self, name: str, layer: object, x: Tap) -> Tap:
        if isinstance(layer, WeightNormConvTranspose2d):
            return shifted_convolution_transpose(
                self.builder, name, x, layer.weight, layer.bias, shift=layer.shift
            )
        return self._conv(name, layer, x) if isinstance(layer, WeightNormConv2d) else x

    def _conv(self, name: str, layer: WeightNormConv2d, x: Tap | Sequence[Tap], **keywords: Any) -> Tap:
        keywords = {"bias": layer.bias, **keywords}
        return shifted_convolution(
            self.builder, name, x, layer.weight, shift=layer.shift, stride=layer.stride, **keywords
        )

    def _resnet(self, name: str, resnet: GatedResnet, x: Tap, *shortcuts: Tap) -> Tap:
        """`GatedResnet`, whose second input is `shortcuts` side by side."""
        also: list[tuple[Tap, Tensor]] = []
        bias: Tensor = resnet.conv_in.bias
        if resnet.shortcut is not None:
            # Channels are elu of all shortcuts, then elu of all of them negated.
            weight = resnet.shortcut.weight[:, :, 0, 0].unflatten(1, (2, len(shortcuts), -1))
            also = [(self._concat_elu(a), weight[:, :, i].flatten(1)) for i, a in enumerate(shortcuts)]
            bias = bias + resnet.shortcut.bias
        y = self._conv(
            f"{name}.conv_in", resnet.conv_in, self._concat_elu(x),
            bias=bias, also=also, function="concat_elu",
        )  # fmt: skip
        by_class = []
        if resnet.by_class is not None:
            by_class = [self.builder.vector(f"{name}.by_class", resnet.by_class.embedding_dim)]
        return self._conv(
            f"{name}.conv_out", resnet.conv_out, y, before=by_class, after=[x], function="glu"
        )

    def _concat_elu(self, x: Tap) -> Tap:
        if x not in self.active:
            self.active[x] = self.builder.compute(
                "concat_elu", before=[x], function="concat_elu", level=self.builder.level(x)
            )
        return self.active[x]


def _resnets(name: str, level: Level) -> Iterable[tuple[str, GatedResnet, str, GatedResnet]]:
    """The networks of both streams at a resolution, by pairs, with their names."""
    pairs = zip(level.u, level.ul, strict=True)
    for i, (u, ul) in enumerate(cast("Iterable[tuple[GatedResnet, GatedResnet]]", pairs)):
        yield f"{name}.u.{i}", u, f"{name}.ul.{i}", ul
