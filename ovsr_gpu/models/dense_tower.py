"""Dense features from CLIP's image towers: an embedding for any part of an image, in one forward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from ovsr_gpu.errors import ModelError
from ovsr_gpu.models.clip import ClipModel

if TYPE_CHECKING:
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import VisionTransformer


@dataclass(frozen=True)
class DenseTower:
    """An image tower, split in two at its pooling over positions.

    Attributes:
        features: Function from normalized images `[B, 3, S, S]` float32 to features `[B, C, h, w]`.
        head: Function from features averaged over positions `[N, C]` to embeddings `[N, E]`, not of unit length.
    """

    features: Callable[[Tensor], Tensor]
    head: Callable[[Tensor], Tensor]


def dense_tower(clip: ClipModel) -> DenseTower:
    """Split CLIP's image tower at its pooling; the two parts share its weights.

    Supported towers:

    - A vision transformer, with the last block of ClearCLIP (Lan et al., 2024, "Decomposing CLIP representations for
      dense vision-language inference"): only query-query attention, without the residual connection and the MLP.
    - A ResNet with attention pooling, as in MaskCLIP (Zhou et al., 2022, "Extract free dense labels from CLIP"): each
      position passes through the value projection of the pooling.
    - A convolutional tower of timm with average pooling, unchanged: the mean over all positions gives the tower's own
      embedding of the image.

    Args:
        clip: The CLIP model.

    Returns:
        The two parts.

    Raises:
        ModelError: The tower is of another kind.
    """
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import VisionTransformer

    tower = clip.image_tower
    if isinstance(tower, VisionTransformer) and _has_standard_last_block(tower):
        return DenseTower(partial(_transformer_features, tower), partial(_transformer_head, tower))
    if isinstance(tower, ModifiedResNet):
        return DenseTower(partial(_resnet_features, tower), partial(_resnet_head, tower))
    if isinstance(tower, TimmModel) and _has_average_pooling(tower):
        return DenseTower(tower.trunk.forward_features, partial(_average_pooling_head, tower))
    kind = type(tower.trunk if isinstance(tower, TimmModel) else tower).__name__
    raise ModelError(
        f"regions.encoder 'dense' cannot read the image tower of CLIP {clip.name!r} ({kind}) position by position; "
        "use regions.encoder 'crop', or a CLIP with open_clip's own vision transformer or ResNet (ViT-B-16, RN50), or "
        "with a convolutional tower that has average pooling (convnext_base)"
    )


def _has_standard_last_block(tower: VisionTransformer) -> bool:
    """Return whether the last block is open_clip's standard block, without attention pooling after it."""
    from open_clip.transformer import ResidualAttentionBlock

    return tower.attn_pool is None and type(tower.transformer.resblocks[-1]) is ResidualAttentionBlock


def _transformer_features(tower: VisionTransformer, pixels: Tensor) -> Tensor:
    tokens = tower._embeds(pixels)  # [B, 1 + P, C], the class token first
    *blocks, last = tower.transformer.resblocks
    for block in blocks:
        tokens = block(tokens)
    attention = last.attn
    projected = linear(last.ln_1(tokens), attention.in_proj_weight, attention.in_proj_bias)
    query, _, value = projected.unflatten(2, (3, attention.num_heads, -1)).transpose(1, 3).unbind(2)
    attended = scaled_dot_product_attention(query, query, value).transpose(1, 2).flatten(2)  # [B, 1 + P, C]
    tokens = last.ls_1(attention.out_proj(attended))[:, 1:]
    if not tower.final_ln_after_pool:
        tokens = tower.ln_post(tokens)
    return tokens.mT.unflatten(2, tower.grid_size)  # [B, C, h, w]


def _transformer_head(tower: VisionTransformer, pooled: Tensor) -> Tensor:
    if tower.final_ln_after_pool:
        pooled = tower.ln_post(pooled)
    return pooled @ tower.proj


def _resnet_features(tower: ModifiedResNet, pixels: Tensor) -> Tensor:
    features = tower.forward_intermediates(pixels, indices=1, intermediates_only=True)["image_intermediates"][0]
    positions = tower.attnpool.positional_embedding[1:]  # [P, C], without that of the mean over positions
    return features + positions.T.unflatten(1, features.shape[2:])


def _resnet_head(tower: ModifiedResNet, pooled: Tensor) -> Tensor:
    return tower.attnpool.c_proj(tower.attnpool.v_proj(pooled))


def _has_average_pooling(tower: TimmModel) -> bool:
    """Return whether the tower computes its embedding from the mean of `[C, h, w]` features over positions."""
    from timm.layers import SelectAdaptivePool2d

    pools = [module.pool for module in tower.trunk.modules() if isinstance(module, SelectAdaptivePool2d)]
    return len(pools) == 1 and isinstance(pools[0], nn.AdaptiveAvgPool2d)


def _average_pooling_head(tower: TimmModel, pooled: Tensor) -> Tensor:
    return tower.head(tower.trunk.forward_head(pooled[:, :, None, None]))
