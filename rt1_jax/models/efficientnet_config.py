"""The numbers of an EfficientNet (Tan & Le 2019), as frozen dataclasses."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from rt1_jax.models.json_config import ConfigError, JsonConfig, one_of

Padding = Literal["keras", "same", "symmetric"]
DepthwiseLowering = Literal["auto", "grouped", "shifted"]


@dataclasses.dataclass(frozen=True)
class StageConfig(JsonConfig):
    """A row of EfficientNet's table: ``repeats`` MBConv blocks, the first with ``stride``."""

    repeats: int
    kernel: int
    stride: int
    expand_ratio: int
    filters: int
    se_ratio: float = 0.25


@dataclasses.dataclass(frozen=True)
class BlockConfig(JsonConfig):
    """One MBConv block with final numbers; see :attr:`EfficientNetConfig.blocks`."""

    kernel: int
    stride: int
    expand_ratio: int
    filters_in: int
    filters_out: int
    se_ratio: float
    stochastic_depth_rate: float

    @property
    def residual(self) -> bool:
        return self.stride == 1 and self.filters_in == self.filters_out


B0_STAGES = (
    StageConfig(1, 3, 1, 1, 16),
    StageConfig(2, 3, 2, 6, 24),
    StageConfig(2, 5, 2, 6, 40),
    StageConfig(3, 3, 2, 6, 80),
    StageConfig(3, 5, 1, 6, 112),
    StageConfig(4, 5, 2, 6, 192),
    StageConfig(1, 3, 1, 6, 320),
)
"""EfficientNet-B0 (Tan & Le 2019, table 1); B3 is width 1.2, depth 1.4."""


@dataclasses.dataclass(frozen=True)
class EfficientNetConfig(JsonConfig):
    """The image backbone.

    Attributes:
      stages: the unscaled table of stages.
      stem_filters: output channels of the first convolution, unscaled.
      stem_kernel: its kernel size.
      stem_stride: its stride.
      head_filters: channels of the last 1x1 convolution, unscaled; 0 leaves it out.
      width_coefficient: scales all channels, rounded to multiples of 8; at 1.0 they stay.
      depth_coefficient: scales all repeats, rounded up.
      padding: ``"keras"`` pads stride-2 convolutions by (k//2 - 1, k//2) whatever the size, as
        the TensorFlow original does; ``"same"`` is the usual SAME rule, as in the RT-1-X code;
        ``"symmetric"`` pads by k//2 on both sides, as PyTorch's EfficientNets do.
      stochastic_depth_rate: drop rate that the blocks approach linearly from 0.
      batch_norm_momentum: share of the old running statistics kept at each step.
      batch_norm_epsilon: added to the variance.
      batch_norm_unbiased: whether the running variance takes the unbiased estimate (TensorFlow)
        or the biased one (Flax).
      coordinate_channels: 0, or 2 to append each position's x and y to the normalised image and
        again to the feature map: a token, being a weighted mean of positions, then says where it
        looks. The reference implementations have none.
      depthwise: how depthwise convolutions (and the stem) are computed; ``"auto"`` goes by backend.
    """

    stages: tuple[StageConfig, ...] = B0_STAGES
    stem_filters: int = 32
    stem_kernel: int = 3
    stem_stride: int = 2
    head_filters: int = 1280
    width_coefficient: float = 1.2
    depth_coefficient: float = 1.4
    padding: Padding = "keras"
    stochastic_depth_rate: float = 0.2
    batch_norm_momentum: float = 0.99
    batch_norm_epsilon: float = 1e-3
    batch_norm_unbiased: bool = True
    coordinate_channels: int = 0
    depthwise: DepthwiseLowering = "auto"

    def __post_init__(self) -> None:
        one_of("padding", self.padding, ("keras", "same", "symmetric"))
        one_of("depthwise", self.depthwise, ("auto", "grouped", "shifted"))
        one_of("coordinate_channels", self.coordinate_channels, (0, 2))
        if not self.stages:
            raise ConfigError("EfficientNetConfig.stages: at least one stage is needed")

    def scaled(self, filters: int) -> int:
        """Channels after the width coefficient, by EfficientNet's rounding to multiples of 8."""
        if self.width_coefficient == 1.0:
            return filters
        scaled = filters * self.width_coefficient
        rounded = max(8, int(scaled + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * scaled else rounded

    @property
    def blocks(self) -> tuple[BlockConfig, ...]:
        """All MBConv blocks in order, with their final numbers."""
        repeats = [math.ceil(self.depth_coefficient * stage.repeats) for stage in self.stages]
        total, blocks = sum(repeats), list[BlockConfig]()
        filters_in = self.scaled(self.stem_filters)
        for stage, count in zip(self.stages, repeats, strict=True):
            for repeat in range(count):
                blocks.append(
                    BlockConfig(
                        kernel=stage.kernel,
                        stride=stage.stride if repeat == 0 else 1,
                        expand_ratio=stage.expand_ratio,
                        filters_in=filters_in,
                        filters_out=self.scaled(stage.filters),
                        se_ratio=stage.se_ratio,
                        stochastic_depth_rate=self.stochastic_depth_rate * len(blocks) / total,
                    )
                )
                filters_in = self.scaled(stage.filters)
        return tuple(blocks)

    def output_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the feature map for an image of that size."""
        layers = [(self.stem_kernel, self.stem_stride)]
        layers += [(block.kernel, block.stride) for block in self.blocks]
        height, width = image_size
        for kernel, stride in layers:
            height, width = (
                -(-size // stride)
                if self.padding != "keras" or stride == 1
                # Padding adds kernel - 2 or (odd) 2 * (kernel // 2) - 1, then VALID.
                else (size + 2 * (kernel // 2) - 1 - kernel) // stride + 1
                for size in (height, width)
            )
        return height, width
