"""Tiles: nothing shows, and nothing changes where a tile knows enough."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from certes.data.pictures import read_picture
from certes.diffusion.covariance import Covariance
from certes.diffusion.denoiser import Denoised, Denoiser
from certes.diffusion.parametrisation import Parametrisation
from certes.diffusion.residuals import ResidualSpectrum
from certes.diffusion.schedules import VP
from certes.diffusion.solvers.state import State
from certes.errors import ModelError
from certes.networks import tiling
from certes.networks.denoiser import NetworkDenoiser
from certes.networks.model import Model
from certes.networks.tiling import TiledDenoiser, fitted
from certes.networks.unet import UNet, UNetConfig
from certes.restoration import restore
from certes.restoration.operators import Denoise, SuperResolution

PICTURES = Path(__file__).parents[1] / "data" / "nuclei-train"
SIGMA = torch.tensor([0.1, 0.3])


class Pointwise(Denoiser):
    """An answer for every pixel from that pixel alone, with a variance."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, ...]] = []

    def __call__(self, x: Tensor, sigma: Tensor) -> Denoised:
        self.sizes.append(tuple(x.shape))
        level = sigma[:, None, None, None]
        return Denoised(x.sin() / (1 + level), x.square() + level)

    def covariance(self, denoised: Denoised, sigma: Tensor) -> Covariance:
        raise NotImplementedError


class Convolution(Pointwise):
    """A random stack of 3x3 filters with zeros beyond the border, so that a border shows."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.weights = [torch.randn(1, 1, 3, 3, generator=generator) for _ in range(layers)]

    def __call__(self, x: Tensor, sigma: Tensor) -> Denoised:
        self.sizes.append(tuple(x.shape))
        for weight in self.weights:
            x = F.conv2d(x, weight / weight.abs().sum(), padding=1)
        return Denoised(x)


def random(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(8, 8), (5, 3), (9, 8), (31, 17), (8, 40)])
@pytest.mark.parametrize("overlap", [0, 2, 7])
def test_weights_sum_to_one(size: tuple[int, int], overlap: int) -> None:
    """A pointwise denoiser cannot tell tiles from the picture, whatever the sizes."""
    denoiser, x = Pointwise(), random(2, 3, *size)
    tiled, whole = TiledDenoiser(denoiser, 8, overlap)(x, SIGMA), denoiser(x, SIGMA)
    torch.testing.assert_close(tiled.mean, whole.mean)
    assert tiled.variance is not None
    torch.testing.assert_close(tiled.variance, whole.variance)
    assert all(max(shape[-2:]) <= 8 for shape in denoiser.sizes[:-1])


def test_no_variance_stays_no_variance() -> None:
    assert TiledDenoiser(Convolution(1), 8, 2)(random(2, 1, 20, 20), SIGMA).variance is None


@pytest.mark.parametrize("tile", [8, 12])
@pytest.mark.parametrize("overlap", [1, 2, 5])
def test_neighbours_overlap_and_reach_the_end(tile: int, overlap: int) -> None:
    for side in range(1, 90):
        starts = tiling.starts(side, tile, overlap)
        assert starts[0] == 0
        assert starts[-1] + tile == max(side, tile)
        steps = [b - a for a, b in pairwise(starts)]
        assert all(0 < step <= tile - overlap for step in steps)
        # No more tiles than are needed.
        assert len(starts) == 1 or (len(starts) - 2) * (tile - overlap) + tile < side


def test_a_local_answer_is_unchanged_where_tiles_see_enough() -> None:
    """A pixel whose surroundings lie in all tiles that judge it: as if there were no tiles."""
    reach, tile = 2, 16
    denoiser, x = Convolution(reach), random(2, 1, 50, 41)
    difference = (TiledDenoiser(denoiser, tile, 6)(x, SIGMA).mean - denoiser(x, SIGMA).mean).abs()
    unsure = torch.zeros(50, 41, dtype=torch.bool)
    for axis, side in enumerate((50, 41)):
        for start in tiling.starts(side, tile, 6):
            if start > 0:
                unsure.index_fill_(axis, torch.arange(start, start + reach), True)
            if start + tile < side:
                unsure.index_fill_(axis, torch.arange(start + tile - reach, start + tile), True)
    assert 0.2 < float(unsure.double().mean()) < 0.8
    assert float(difference[..., ~unsure].max()) < 1e-6
    assert float(difference[..., unsure].max()) > 1e-4


def seam(denoiser: Denoiser, tile: int, overlap: int) -> float:
    """Mean jump across tile borders over the untiled answer's there: 1 where none shows."""
    jumps, plain = 0.0, 0.0
    for path in sorted(PICTURES.glob("*.png")):
        x = read_picture(path).pixels[None, :1, :128, :128]
        with_tiles = TiledDenoiser(denoiser, tile, overlap)(x, SIGMA[:1]).mean
        without = denoiser(x, SIGMA[:1]).mean
        starts = torch.tensor(tiling.starts(x.shape[-1], tile, overlap))
        borders = torch.cat([starts[1:], starts[:-1] + tile])
        jumps += float(with_tiles.diff(dim=-1).abs()[..., borders - 1].mean())
        plain += float(without.diff(dim=-1).abs()[..., borders - 1].mean())
    return jumps / plain


def test_no_seam_shows_on_real_pictures() -> None:
    network = Convolution(4)
    assert seam(network, 32, 8) == pytest.approx(1, abs=0.05)
    # Negative control: tiles side by side.
    assert seam(network, 32, 0) > 1.5


def model(channels: int = 1, attention: bool = False, spectrum: bool = True) -> Model:
    """A small network with random weights, trained on 8x8 pictures, so to speak."""
    torch.manual_seed(0)
    config = UNetConfig(
        sample_size=8,
        in_channels=channels,
        out_channels=2 * channels,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        add_attention=attention,
    )
    net = UNet(config).eval()
    nn.init.normal_(net.conv_out.weight, std=0.05)
    levels, spectra = torch.tensor([0.01, 1.0]), torch.full((2, channels, 8, 8), 0.01)
    measured = ResidualSpectrum(levels, spectra) if spectrum else None
    denoiser = NetworkDenoiser(net, VP(), Parametrisation("v"), spectrum=measured)
    return Model("small", denoiser, {}, "digest")


def test_only_what_is_too_large_is_tiled(monkeypatch: pytest.MonkeyPatch) -> None:
    convolutional, attentive, exact = model(), model(attention=True), Pointwise()
    for prior in (convolutional, exact):
        assert fitted(prior, (1, 512, 8)) is prior
    assert fitted(attentive, (1, 8, 8)) is attentive
    tiled = fitted(attentive, (1, 9, 8))
    assert isinstance(tiled, TiledDenoiser)
    assert (tiled.tile, tiled.overlap) == (8, 2)
    monkeypatch.setattr(tiling, "_LARGEST", 16**2)
    assert fitted(convolutional, (1, 16, 16)) is convolutional
    tiled = fitted(convolutional, (1, 16, 17))
    assert isinstance(tiled, TiledDenoiser)
    assert tiled.tile == 16
    assert fitted(exact, (1, 64, 64)) is exact


def test_pictures_larger_than_a_tile_are_restored_whole() -> None:
    """The operator is not tiled: without noise the measurement is reproduced across tiles."""
    prior, H = model(attention=True), SuperResolution((1, 20, 12), 2)
    y, states = H(random(2, 1, 20, 12)), list[State]()
    posterior = restore(y, H, prior, noise=0.0, samples=2, steps=5, callback=states.append)
    assert posterior.samples.shape == (2, 2, 1, 20, 12)
    # Before samples are cut to [0, 1], which those of a random network need.
    assert float((H(states[-1].x) - y.repeat(2, 1, 1, 1)).abs().max()) < 1e-3
    provenance = posterior.provenance
    assert provenance is not None
    assert provenance.model == "digest"


def test_a_model_without_residuals_says_what_to_do() -> None:
    prior, H = model(spectrum=False), SuperResolution((1, 8, 8), 2)
    y = H(random(1, 1, 8, 8))
    with pytest.raises(ModelError, match="sampler='ddrm'"):
        restore(y, H, prior, noise=0.05, samples=1, steps=3)
    posterior = restore(y, H, prior, noise=0.05, samples=1, steps=3, sampler="ddrm")
    assert posterior.samples.shape == (1, 1, 1, 8, 8)


def test_a_model_of_other_channels_is_refused() -> None:
    with pytest.raises(ModelError, match="channel"):
        restore(random(1, 2, 8, 8), Denoise((2, 8, 8)), model(), noise=0.1, samples=1, steps=2)
