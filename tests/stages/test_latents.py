import numpy as np
import pytest
import torch

from ovsr_gpu import LatentConfig
from ovsr_gpu.stages.latents import svd_latents


def features(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(12, 20, generator=generator) * torch.logspace(0, -2, 12)[:, None]
    return (torch.randn(3, 6, 9, 12, generator=generator) @ mixing + 5).permute(0, 3, 1, 2)  # [3, 20, 6, 9]


@pytest.mark.parametrize("driver", ["gram", "svd"])
@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("rank", [1, 5, 12])
def test_against_numpy_in_float64(scaled, rank, driver):
    batch = features(0)
    latents = svd_latents(batch, LatentConfig(rank=rank, scaled=scaled, driver=driver))
    assert latents.aspect == 20 / 54
    for b in range(3):
        pixels = batch[b].double().flatten(1).T.numpy()
        u, sigma, _ = np.linalg.svd(pixels - pixels.mean(0), full_matrices=False)
        np.testing.assert_allclose(latents.singular_values[b], sigma, rtol=1e-4, atol=1e-4)
        z = u[:, :rank] * (sigma[:rank] if scaled else 1)
        found = latents.components[b].double().numpy()
        np.testing.assert_allclose(found @ found.T, z @ z.T, atol=1e-4 * np.abs(z @ z.T).max())


def test_rank_is_at_most_what_the_features_have():
    assert svd_latents(features(1)[:, :, :2, :3], LatentConfig(rank=16)).components.shape == (3, 6, 6)


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("driver", ["gram", "svd"])
def test_no_variance(driver, scaled):
    latents = svd_latents(torch.full((2, 4, 3, 3), 2.5), LatentConfig(rank=2, driver=driver, scaled=scaled))
    assert latents.singular_values.abs().max() < 1e-5
    assert latents.components.isfinite().all()


def test_an_image_does_not_depend_on_its_batch():
    batch = features(2)
    together = svd_latents(batch, LatentConfig(rank=4))
    for b in range(3):
        alone = svd_latents(batch[b : b + 1], LatentConfig(rank=4))
        assert torch.equal(together.components[b], alone.components[0])
        assert torch.equal(together.singular_values[b], alone.singular_values[0])


def test_unknown_driver():
    with pytest.raises(ValueError, match=r"latents\.driver must be one of 'gram', 'svd'; got 'qr'"):
        LatentConfig(driver="qr")
