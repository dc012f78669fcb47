"""The U-Net against diffusers' on shared random weights, and what diffusers cannot express."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from certes.errors import ModelError
from certes.networks import UNet, UNetConfig
from certes.networks.unet import GroupNorm, channels_last, initialise

BASE: dict[str, Any] = {
    "sample_size": 16,
    "in_channels": 2,
    "out_channels": 3,
    "block_out_channels": [16, 32],
    "down_block_types": ["DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D"],
    "layers_per_block": 2,
    "norm_num_groups": 8,
    "add_attention": False,
}
ATTENTION = {
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "add_attention": True,
}
DDPM = {"downsample_padding": 0, "flip_sin_to_cos": False, "freq_shift": 1, "norm_eps": 1e-6}
BY_RESNET = {
    "down_block_types": ["ResnetDownsampleBlock2D", "AttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"],
    "block_out_channels": [16, 32, 32],
    "downsample_type": "resnet",
    "upsample_type": "resnet",
    "add_attention": True,
}

CONFIGS: dict[str, dict[str, Any]] = {
    "convolutional": {},
    "as DDPM, without attention": DDPM,
    "as DDPM, one head": {**ATTENTION, **DDPM, "attention_head_dim": None},
    "attention in the middle only": {"add_attention": True, "attention_head_dim": 16},
    "several heads": {**ATTENTION, "attention_head_dim": 8},
    "resnets that resample": BY_RESNET,
    "scale and shift": {**ATTENTION, "resnet_time_scale_shift": "scale_shift"},
    "ADM": {**BY_RESNET, "resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 4},
    "one layer, three levels": {
        "block_out_channels": [16, 24, 32],
        "down_block_types": ["DownBlock2D"] * 3,
        "up_block_types": ["UpBlock2D"] * 3,
        "layers_per_block": 1,
    },
    "embedding of its own width": {"time_embedding_dim": 40},
}


def inputs(dtype: torch.dtype, channels: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, channels, 16, 16, generator=generator, dtype=dtype)
    return x, torch.tensor([0.0, 37.0, 999.0])


@torch.no_grad()
def randomise(net: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(5)
    for value in net.parameters():
        spread = value[0].numel() ** -0.5 if value.ndim > 1 else 0.3
        value.copy_(torch.randn(value.shape, generator=generator) * spread)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_equals_diffusers(name: str) -> None:
    diffusers = pytest.importorskip("diffusers", reason="diffusers is the oracle of this test")
    config = BASE | CONFIGS[name]
    theirs = diffusers.UNet2DModel(**config).eval()
    randomise(theirs)
    ours = UNet(UNetConfig.from_dict(dict(theirs.config))).eval()
    ours.load_state_dict(theirs.state_dict())
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        x, t = inputs(dtype)
        expected = theirs.to(dtype)(x, t).sample
        assert expected.std() > 0.1
        torch.testing.assert_close(ours.to(dtype)(x, t), expected, rtol=tolerance, atol=tolerance)


@torch.no_grad()
def test_every_weight_matters() -> None:
    """The comparison above would not notice a weight that neither network uses."""
    net = UNet(UNetConfig.from_dict(BASE | ATTENTION | {"attention_head_dim": 8})).double()
    randomise(net)
    x, t = inputs(torch.float64)
    before = net(x, t)
    for name, value in net.named_parameters():
        kept = value.clone()
        value.add_(0.1 * torch.randn_like(value))
        if not name.endswith("to_k.bias"):  # the same for every key: softmax does not see it
            assert not torch.allclose(net(x, t), before, rtol=1e-9, atol=1e-9), name
        value.copy_(kept)


@torch.no_grad()
def test_stem_is_pixel_unshuffle_and_shuffle() -> None:
    stemmed = UNet(UNetConfig.from_dict(BASE | {"stem": 2, "in_channels": 1, "out_channels": 1}))
    plain = UNet(UNetConfig.from_dict(BASE | {"in_channels": 4, "out_channels": 4}))
    randomise(stemmed)
    plain.load_state_dict(stemmed.state_dict())
    x, t = inputs(torch.float32, channels=1)
    corners = torch.cat([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], dim=1)
    answer = stemmed(x, t)
    assert answer.shape == x.shape
    assert stemmed.config.multiple == 2 * plain.config.multiple
    for k, corner in enumerate(plain(corners, t).unbind(1)):
        torch.testing.assert_close(answer[:, 0, k // 2 :: 2, k % 2 :: 2], corner)


@torch.no_grad()
def test_heads_may_differ_between_levels() -> None:
    def answer(heads: Any) -> torch.Tensor:
        config = BASE | ATTENTION | {"attention_head_dim": heads}
        config["down_block_types"] = ["AttnDownBlock2D"] * 2
        net = UNet(UNetConfig.from_dict(config))
        randomise(net)
        return net(*inputs(torch.float32))

    torch.testing.assert_close(answer([8, 8]), answer(8))
    torch.testing.assert_close(answer([16, 32]), answer(None))
    assert not torch.allclose(answer([16, 8]), answer(8))
    assert not torch.allclose(answer([16, 8]), answer(None))


@torch.no_grad()
def test_sinusoids_may_have_a_width_of_their_own() -> None:
    net = UNet(UNetConfig.from_dict(BASE | {"time_proj_dim": 24}))
    assert net.time_embedding.linear_1.weight.shape == (64, 24)
    assert net(*inputs(torch.float32)).shape == (3, 3, 16, 16)


@pytest.mark.parametrize("head_dim", [8, None])
def test_compiles_as_one_graph(head_dim: int | None) -> None:
    net = UNet(UNetConfig.from_dict(BASE | ATTENTION | {"attention_head_dim": head_dim})).eval()
    x, t = inputs(torch.float32)
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, t), net(x, t))


@torch.no_grad()
def test_memory_layout_does_not_change_the_answer() -> None:
    net = UNet(UNetConfig.from_dict(BASE | ATTENTION)).double().eval()
    x, t = inputs(torch.float64)
    expected = net(x, t)
    answer = channels_last(net)(x.contiguous(memory_format=torch.channels_last), t)
    assert net.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(answer, expected)


def test_initialisation_is_that_of_ddpm() -> None:
    """Branches end in zero, so a block starts as its shortcut and the network as zero."""
    net = UNet(UNetConfig.from_dict(BASE | ATTENTION))
    initialise(net)
    assert not net(*inputs(torch.float32)).any()
    weight = net.conv_in.weight
    bound = (6 / (weight[0].numel() + weight[:, 0].numel())) ** 0.5  # uniform, mean of the fans
    assert 0.95 * bound < weight.abs().max() <= bound
    assert not any(value.any() for name, value in net.named_parameters() if "conv2" in name)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"act_fn": "gelu"}, "act_fn"),
        ({"class_embed_type": "timestep"}, "class_embed_type"),
        ({"time_embedding_type": "fourier"}, "time_embedding_type"),
        ({"mid_block_scale_factor": 1.4}, "mid_block_scale_factor"),
        ({"resnet_time_scale_shift": "spatial"}, "resnet_time_scale_shift"),
        ({"down_block_types": ["SkipDownBlock2D", "DownBlock2D"]}, "SkipDownBlock2D"),
        ({"block_out_channels": [16, 32, 64]}, "block_out_channels"),
        ({"norm_num_groups": 5}, "num_groups"),
        ({"block_out_channels": "wide", "norm_num_groups": 1}, "block_out_channels"),
        ({"add_attention": True, "attention_head_dim": 7}, "attention_head_dim"),
    ],
)
def test_refuses_what_it_would_get_wrong(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelError, match=named) as caught:
        UNet(UNetConfig.from_dict(BASE | change))
    assert "\n" not in str(caught.value)


def test_config_survives_json() -> None:
    config = UNetConfig.from_dict(BASE | {"stem": 2, "attention_head_dim": [8, 16]})
    assert UNetConfig.from_dict(config.to_dict()) == config
    assert "stem" not in UNetConfig.from_dict(BASE).to_dict()
    assert UNetConfig.from_dict(BASE | {"sample_size": [16, 24]}).sample_size == 16
    assert UNetConfig().differences() == {}


@pytest.mark.parametrize("side", [4, 40])  # fewer pixels than torch calls many, and more
@pytest.mark.parametrize("learning", [False, True])
def test_group_norm_in_bfloat16_is_that_of_its_inputs(side: int, learning: bool) -> None:
    torch.manual_seed(0)
    norm = GroupNorm(4, 8)
    for value in norm.parameters():
        torch.nn.init.normal_(value)
    norm.bfloat16()
    exact = torch.nn.GroupNorm(4, 8).double()
    exact.load_state_dict(norm.state_dict())
    x = torch.randn(2, 8, side, side).bfloat16().contiguous(memory_format=torch.channels_last)
    x.requires_grad_(learning)
    x_exact = x.detach().double().requires_grad_(learning)
    answer, expected = norm(x), exact(x_exact)
    assert answer.dtype == torch.bfloat16
    torch.testing.assert_close(answer.double(), expected, rtol=2**-7, atol=2**-8)
    if learning:
        slope = torch.randn(x.shape).bfloat16()
        answer.backward(slope)
        expected.backward(slope.double())
        torch.testing.assert_close(x.grad.double(), x_exact.grad, rtol=2**-6, atol=2**-6)
        torch.testing.assert_close(
            norm.weight.grad.double(), exact.weight.grad, rtol=2**-6, atol=2**-3
        )


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
def test_group_norm_does_not_know_its_batch_mates() -> None:
    x = torch.randn(5, 64, 48, 48, generator=torch.Generator().manual_seed(0))
    x = x.bfloat16().contiguous(memory_format=torch.channels_last)

    def alike(norm: torch.nn.GroupNorm) -> bool:
        with torch.no_grad():
            whole = norm.bfloat16()(x)
            return all(torch.equal(norm(x[:count]), whole[:count]) for count in (1, 2, 3, 4))

    assert alike(GroupNorm(4, 64))
    assert not alike(torch.nn.GroupNorm(4, 64))  # with torch's own, the same test fails
