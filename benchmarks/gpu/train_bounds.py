"""Bounds in one pass on one GPU, at any size, in as many calls as it takes: the table of methods.

    python benchmarks/gpu/train_bounds.py --preset nuclei-super-resolve --side 128 --width 3 \
        --prior nuclei --data nuclei/train/images --test nuclei/test/images --out runs

Each call goes on where the last one stopped, until its minutes are up: first the conditional model
of the preset, at another size and with a network ``--width`` times as wide, then bounds that start
from it (N-Conffusion), from bounds that it samples (DM_SBA), from nothing (ADM_UQ) and from a model
of pictures (G-Conffusion, with ``--prior``). What is finished is calibrated on one half of the test
pictures and judged on the other: risk, width, network calls, seconds (`OUT/table.json`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from _speed import print_table, record, train

import certes
from certes.apps.training_data import read_task_patches
from certes.conditional.config import ConditionalConfig
from certes.conditional.model import load_conditional
from certes.conditional.one_pass.levels import best_level
from certes.conditional.one_pass.model import load_one_pass, save_one_pass
from certes.conditional.one_pass.recipe import OnePass
from certes.conditional.one_pass.sampled import sample_bounds_of
from certes.conditional.one_pass.starts import from_conditional, from_nothing, from_pictures
from certes.conditional.presets import PRESETS
from certes.conditional.publish import publish_conditional
from certes.conditional.recipe import Conditional
from certes.conditional.tasks import Inpainting
from certes.data.files import write_json
from certes.data.patches import PatchDataset
from certes.intervals.bounds import Bounds
from certes.networks.model import CARD, load
from certes.training.loop import Run
from certes.training.recipe import Recipe

DRAWS = 32
FRESH = 2**31


class Budget:
    """The minutes of a call."""

    def __init__(self, minutes: float) -> None:
        self.end = perf_counter() + 60 * minutes

    @property
    def left(self) -> float:
        """Minutes that are left."""
        return max(0.0, (self.end - perf_counter()) / 60)

    def finish(self, recipe: Recipe[Any], data: Any, out: Path) -> Any:
        """The trained network; None where the minutes did not suffice."""
        run = Run(recipe, data, out, resume=True)
        if run.step < recipe.config.steps and self.left > 0:
            calls = record(out / "speed.json", train(run, self.left))
            print_table(calls, recipe.config.batch, self.left)
        return run.averaged() if run.step == recipe.config.steps else None


def main() -> None:
    arguments = parse()
    budget, config = Budget(arguments.minutes), configured(arguments)
    task, channels = config.made_task(), config.blocks()[0].channels
    data = read_task_patches(config, task, channels, arguments.data, None)
    folder = arguments.out / arguments.preset
    if not (folder / "model" / CARD).is_file():
        denoiser = budget.finish(Conditional(config), data, folder)
        if denoiser is None:
            print("the conditional model is not finished: call again")
            return
        card = {"name": folder.name}
        publish_conditional(Conditional(config), denoiser, data, folder / "model", card)
    for name, recipe in recipes(arguments, config, data, folder):
        out = folder.with_name(f"{folder.name}-{name}")
        learned: Any = data
        if name == "dm-sba":
            sampled = load_conditional(folder / "model")
            learned = sample_bounds_of(sampled, data, arguments.sampled, out / "s.safetensors")
        network = budget.finish(recipe, learned, out)
        if network is not None:
            save_one_pass(out / "model", network, recipe, {"name": out.name})
    write_json(arguments.out / "table.json", table(arguments, config, folder))


def configured(arguments: argparse.Namespace) -> ConditionalConfig:
    """The preset, at another size."""
    config = PRESETS[arguments.preset]
    widths = [arguments.width * w for w in config.network["block_out_channels"]]
    network = config.network | {"block_out_channels": widths, "sample_size": arguments.side}
    return replace(
        config,
        network=network,
        patch=arguments.side,
        steps=arguments.steps,
        batch=arguments.batch,
        sample_every=arguments.steps,
        compile=arguments.compile,
        checkpoint_every=min(500, arguments.steps),
    )


def recipes(
    arguments: argparse.Namespace, config: ConditionalConfig, data: PatchDataset, folder: Path
) -> list[tuple[str, OnePass]]:
    """How each method learns."""
    settings: dict[str, Any] = {
        "steps": arguments.learning,
        "batch": arguments.batch,
        "patch": arguments.side,
        "symmetries": config.symmetries,
        "learning_rate": 3e-4,
        "warmup": 50,
        "compile": arguments.compile,
        "checkpoint_every": min(500, arguments.learning),
        "sample_every": arguments.learning,
    }
    model = load_conditional(folder / "model", dtype=torch.float32)
    found = [
        ("n-conffusion", from_conditional(model, **settings)),
        ("dm-sba", from_conditional(model, "sampled", **settings)),
        ("adm-uq", from_nothing(config, **{**settings, "learning_rate": 1e-3})),
    ]
    if arguments.prior is not None:
        prior, task = load(arguments.prior, dtype=torch.float32), config.made_task()
        level, _ = best_level(prior, task, data.batch(FRESH, 32, 0))
        found.append(("g-conffusion", from_pictures(prior, task, level, **settings)))
    return found


def table(
    arguments: argparse.Namespace, config: ConditionalConfig, folder: Path
) -> dict[str, dict[str, float]]:
    """Risk and width of all that is finished, on pictures that nothing was calibrated on."""
    task, channels = config.made_task(), config.blocks()[0].channels
    whole = replace(config, busy=1.0, symmetries="none")
    pictures = read_task_patches(whole, task, channels, arguments.test, None)
    x = pictures.batch(0, 2 * arguments.pictures, seed=0)
    y = task.measure(x, torch.Generator().manual_seed(11))
    counted = ~y.isfinite() if isinstance(task, Inpainting) else None
    model = load_conditional(folder / "model")

    def sampled(some: torch.Tensor) -> Bounds:
        posterior = certes.restore(some, model=model, samples=DRAWS, keep_samples=False)
        return posterior.bounds(0.1)

    answers: dict[str, Callable[[torch.Tensor], Bounds]] = {"dm-sb": sampled}
    for place in sorted(folder.parent.glob(f"{folder.name}-*/model")):
        answers[place.parent.name.removeprefix(f"{folder.name}-")] = load_one_pass(place)
    rows: dict[str, dict[str, float]] = {}
    for name, answer in answers.items():
        start = perf_counter()
        bounds = answer(y)
        seconds = (perf_counter() - start) / len(y)
        rows[name] = judged(bounds, x, counted) | {"seconds": seconds}
        print(name, rows[name], flush=True)
    return rows


def judged(bounds: Bounds, x: torch.Tensor, counted: torch.Tensor | None) -> dict[str, float]:
    """Calibrated on the first half, judged on the second."""
    half = len(x) // 2
    first, second = slice(None, half), slice(half, None)
    parts = [
        Bounds(bounds.lower[rows], bounds.estimate[rows], bounds.upper[rows])
        for rows in (first, second)
    ]
    masks = [None if counted is None else counted[rows] for rows in (first, second)]
    card = certes.calibrate(parts[0], x[first], alpha=0.1, delta=0.1, counted=masks[0])
    scores = certes.evaluate(card(parts[1]), x[second], counted=masks[1])
    return {"risk": scores["risk"], "width": scores["width"], "lambda": card.size}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--preset", choices=sorted(PRESETS), required=True)
    parser.add_argument("--prior", help="a model of pictures for G-Conffusion")
    parser.add_argument("--data", type=Path, required=True, help="folder of training pictures")
    parser.add_argument("--test", type=Path, required=True, help="folder of held-out pictures")
    parser.add_argument("--out", type=Path, required=True, help="checkpoints, logs, models")
    parser.add_argument("--side", type=int, default=128, help="of the patches, pixels")
    parser.add_argument("--width", type=int, default=3, help="times as wide a network")
    parser.add_argument("--steps", type=int, default=20000, help="of the conditional model")
    parser.add_argument("--learning", type=int, default=4000, help="steps of learning bounds")
    parser.add_argument("--sampled", type=int, default=2048, help="patches that DM_SBA samples")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--pictures", type=int, default=200, help="to calibrate on, and to judge")
    parser.add_argument("--minutes", type=float, default=9.0, help="of training in this call")
    parser.add_argument("--compile", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
