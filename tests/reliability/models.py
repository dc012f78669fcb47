"""A tiny model of every kind, untrained, and how long their answers take hardly matters."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from certes.conditional.config import ConditionalConfig
from certes.conditional.model import save_conditional
from certes.conditional.one_pass.model import save_one_pass
from certes.conditional.one_pass.starts import from_pictures
from certes.conditional.presets import PRESETS
from certes.conditional.recipe import Conditional
from certes.conditional.tasks import Denoising
from certes.data.files import write_json
from certes.diffusion.parametrisation import Parametrisation
from certes.diffusion.residuals import ResidualSpectrum
from certes.diffusion.schedules import Cosine, linear_betas
from certes.function_space.autoencoder import DiffusionAutoencoder
from certes.function_space.config import OperatorConfig
from certes.function_space.denoiser import FunctionDenoiser
from certes.function_space.model import save_function_model
from certes.function_space.mollifier import Mollifier
from certes.function_space.presets import operator_keys
from certes.function_space.reading import Reading
from certes.function_space.unmollify import PowerLaw, SpectralFilter
from certes.intervals.bounds import Provenance
from certes.intervals.cards import Calibration
from certes.networks.denoiser import NetworkDenoiser
from certes.networks.export import save_diffusers
from certes.networks.model import RATES, Model, load
from certes.networks.unet import UNet, UNetConfig
from certes.training.rates import measure_rates

from ..apps.helpers import tiny_model

Net = TypeVar("Net", bound=nn.Module)

SIDE = 16
_LEVELS = torch.tensor([0.01, 1.0], dtype=torch.float64)


def make_models(folder: Path) -> dict[str, Path]:
    """Their folders, by kind."""
    torch.manual_seed(0)
    pixels = tiny_model(folder / "pixels", 1, "pixels")
    model = load(pixels, "cpu")
    patches = torch.rand(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    levels = torch.logspace(-2.5, 1, 5, dtype=torch.float64)
    write_json(pixels / RATES, measure_rates(model.denoiser, patches, levels).to_dict())
    card_of(pixels).save(pixels / "cards" / "denoise.json")
    recipe = conditional_recipe()
    denoiser = recipe.build()
    awake(denoiser.net)
    save_conditional(
        folder / "conditional", denoiser, recipe.task, recipe.estimator, {"name": "conditional"}
    )
    tuned = from_pictures(model, Denoising(0.1), 0.1, steps=1, patch=SIDE)
    network = tuned.build()
    awake(network.net)
    save_one_pass(folder / "bounds", network, tuned, {"name": "bounds"})
    save_function_model(folder / "functions", functions(), {"name": "functions"})
    save_diffusers(Model("plain", _plain(), {}, "0"), folder / "diffusers")
    names = ("pixels", "conditional", "bounds", "functions", "diffusers")
    return {name: folder / name for name in names}


def card_of(model: Path) -> Calibration:
    """A card for the model of pixels, denoising at .1 with two samples of one step."""
    made = Provenance(
        load(model, "cpu").hash,
        "denoise",
        noise=0.1,
        sampler="pinned",
        steps=1,
        samples=2,
        alpha=0.5,
    )
    return Calibration(
        alpha=0.5,
        delta=0.1,
        rule="wsr",
        family="scale",
        size=1.25,
        n=20,
        images=20,
        grouped=False,
        seed=0,
        date="2026-01-01",
        version="0.1.0",
        provenance=made,
        sketches=(("0000000000000001",),),
    )


def conditional_recipe() -> Conditional:
    """Of a model that denoises, given noisy pictures."""
    fields: dict[str, Any] = PRESETS["tiny-conditional"].to_dict()
    fields |= {"task": {"kind": "denoise", "noise": 0.1}}
    return Conditional(ConditionalConfig(**fields))


def functions() -> FunctionDenoiser:
    """A denoiser of functions on 16 x 16 training pixels."""
    keys = operator_keys(SIDE, [16, 16], 16, 32, blocks=1, width=8, reach=1)
    net = awake(DiffusionAutoencoder(OperatorConfig(**keys, outputs=2, encoder=(16, 16))))
    gains = [torch.linspace(high, 0.1, 5).expand(2, 5).clone() for high in (0.9, 0.2, 1.0)]
    return FunctionDenoiser(
        net.eval(),
        Reading(Cosine(), Mollifier(0.75), "v", 0.4, scale=0.2),
        unmollify=SpectralFilter(_LEVELS, *gains, PowerLaw(0.01, 3.0, 3.0)),
        spectrum=ResidualSpectrum(_LEVELS, torch.full((2, 1, SIDE, SIDE), 0.1)),
    )


def awake(net: Net) -> Net:
    """With something where training starts from zero, so that answers depend on the question."""
    for weights in net.parameters():
        if not weights.any():
            nn.init.normal_(weights, std=0.05)
    return net


def _plain() -> NetworkDenoiser:
    """What diffusers can express, too."""
    config = UNetConfig(
        sample_size=SIDE,
        in_channels=1,
        out_channels=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=4,
    )
    return NetworkDenoiser(awake(UNet(config)), linear_betas(1000), Parametrisation("noise"))
