"""Conditional models of garments: trained once, kept, and used by several benchmarks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor, nn

from certes.conditional.config import ConditionalConfig
from certes.conditional.presets import PRESETS
from certes.conditional.recipe import Conditional
from certes.data.patches import PatchDataset
from certes.data.sheets import read_sheets
from certes.data.tensors import write_tensors
from certes.evaluation.features import FeatureNetwork, custom_features
from certes.networks.conditional import ConditionalNetworkDenoiser
from certes.networks.files import read_tensors
from certes.training.loop import Run

DATA = Path(__file__).parents[2] / "shared" / "data" / "fashion_mnist"
RUNS = Path(__file__).parent / "results" / ".cache" / "conditional"


FULL = "-share1"
"""Ends the name of a preset whose errors of y count in full."""


def config_of(name: str) -> ConditionalConfig:
    """A preset by name, or with the ending :data:`FULL`."""
    config = PRESETS[name.removesuffix(FULL)]
    if not name.endswith(FULL):
        return config
    return replace(config, estimator={k: v for k, v in config.estimator.items() if k != "y_share"})


def trained(preset: str, data: Path = DATA) -> ConditionalNetworkDenoiser:
    """The network of a preset, trained on the 60000 training pictures of Fashion-MNIST.

    A run that was stopped goes on where it was; a finished one is only read.
    """
    pictures = read_sheets(data, "train").pictures
    config = config_of(preset)
    config = replace(config, sample_every=config.steps)
    patches = PatchDataset(list(pictures), config.patch, config.busy, symmetries=config.symmetries)
    run = Run(Conditional(config), patches, RUNS / preset, resume=True)
    return run.averaged() if run.step == config.steps else run.train()


class Classifier(nn.Module):
    """What kind of garment it is; its features judge pictures as Inception's do."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(1, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(24, 48, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(48, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()),
            *(nn.Linear(256, 64), nn.ReLU()),
        )
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def classifier(epochs: int = 2, batch: int = 64) -> FeatureNetwork:
    """The features of a classifier of the training pictures, trained once and kept."""
    path, net = RUNS / "classifier.safetensors", _initialised()
    if path.is_file():
        net.load_state_dict(read_tensors(path))
    else:
        _train(net, epochs, batch)
        write_tensors(path, net.state_dict())
    pictures, labels = read_sheets(DATA, "test")
    with torch.no_grad():
        right = (net(pictures[:2000].float() / 255).argmax(1) == labels[:2000]).float().mean()
    print(f"classifier: {float(right):.3f} of 2000 test garments recognised", flush=True)
    return custom_features("garment classifier", net.features, channels=1)


def _initialised() -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Classifier().eval()


def _train(net: Classifier, epochs: int, batch: int) -> None:
    pictures, labels = read_sheets(DATA, "train")
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(epochs):
        order = torch.randperm(len(labels), generator=generator).split(batch)
        for rows in track(order, "classifier"):
            loss = F.cross_entropy(net(pictures[rows].float() / 255), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
