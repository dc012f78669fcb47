"""What feature networks are shown and what they answer."""

from __future__ import annotations

import pytest
import torch

from certes.errors import InputError, ModelError
from certes.evaluation.features import (
    Features,
    custom_features,
    flattened,
    model_features,
    of_maps,
    to_bytes,
    with_channels,
)
from certes.networks.model import load


def test_grey_is_repeated_and_colours_are_not_dropped() -> None:
    grey = torch.rand(2, 1, 4, 4)
    assert torch.equal(with_channels(grey, 3), torch.cat([grey] * 3, dim=1))
    assert torch.equal(with_channels(grey[0], 3), torch.cat([grey[0]] * 3))
    assert with_channels(grey, 1) is not None
    with pytest.raises(InputError, match="3 channels for a feature network of 1"):
        with_channels(torch.rand(2, 3, 4, 4), 1)


def test_bytes_are_the_nearest_grey_level() -> None:
    """Files of 8 bits come back exactly, which truncation would not do."""
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(to_bytes(levels.float() / 255), levels)
    for off in (0.4, -0.4):
        assert torch.equal(to_bytes((levels.float() + off) / 255), levels)
    assert to_bytes(torch.full((1, 1, 1, 1), 1.2)).item() == 255


def test_spatial_features_of_inception_maps_are_those_of_sfid() -> None:
    maps = torch.rand(2, 192, 17, 17)
    assert torch.equal(flattened(maps), maps[:, :7].flatten(1))
    assert flattened(maps).shape == (2, 2023)


@pytest.mark.parametrize(
    ("shape", "kept"), [((3, 4, 4), 48), ((500, 4, 4), 2048), ((9, 40, 17), 2023), ((64, 1, 1), 64)]
)
def test_spatial_features_have_at_most_2048_numbers(shape: tuple[int, int, int], kept: int) -> None:
    assert flattened(torch.rand(2, *shape)).shape == (2, kept)


def test_spatial_features_know_where_and_vectors_do_not() -> None:
    maps = torch.rand(2, 5, 6, 6)
    here, there = of_maps(maps), of_maps(maps.roll(1, dims=3))
    torch.testing.assert_close(here.vectors, there.vectors)
    assert here.spatial is not None
    assert there.spatial is not None
    assert not torch.allclose(here.spatial, there.spatial)


def test_custom_networks_answer_vectors_or_maps() -> None:
    pictures = torch.rand(2, 1, 8, 8)
    vectors = custom_features("means", lambda x: x.mean(dim=(2, 3)))(pictures)
    assert (vectors.vectors.shape, vectors.spatial, vectors.logits) == ((2, 3), None, None)
    maps = custom_features("pixels", lambda x: x)(pictures)
    assert isinstance(maps, Features)
    torch.testing.assert_close(maps.vectors, vectors.vectors)
    assert maps.spatial is not None
    assert not custom_features("pixels", lambda x: x).published
    with pytest.raises(ModelError, match=r"features sum: answered \(2, 3, 8\) to 2 pictures"):
        custom_features("sum", lambda x: x.sum(dim=3))(pictures)


def test_features_of_a_model() -> None:
    """Those of the coarsest level at hand, one picture at a time as in a batch, hooks removed."""
    model = load("nuclei", "cpu", dtype=torch.float32)
    network = model_features(model)
    pictures = torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    together = network(pictures)
    assert (network.name, network.channels) == ("nuclei mid-block", 1)
    assert together.vectors.shape == (3, 192)
    assert together.spatial is not None
    assert together.spatial.shape == (3, 2048 // 16 * 16)
    alone = torch.cat([network(picture[None]).vectors for picture in pictures])
    torch.testing.assert_close(together.vectors, alone, rtol=1e-4, atol=1e-4)
    assert not model.denoiser.net.mid_block._forward_hooks


def test_features_of_a_level_of_a_model() -> None:
    model = load("nuclei", "cpu", dtype=torch.float32)
    finest = model_features(model, level=0)
    assert finest.name == "nuclei level 0"
    assert finest(torch.rand(2, 1, 32, 32)).vectors.shape == (2, 64)
    with pytest.raises(ModelError, match="level: 3, the network has 0 to 2"):
        model_features(model, level=3)
