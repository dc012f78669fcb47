"""Train models of functions on one GPU, in as many calls as it takes; record speed and scores.

    python benchmarks/gpu/train_functions.py --presets nuclei-functions-large --out runs \
        --data nuclei/train/images --test nuclei/test/images --sides 128 256 1024

Each call goes on from the last one's checkpoints, preset after preset, until its minutes are up:
then every network is exported as it is (`OUT/PRESET/model`, bfloat16) with its filter, spectrum and
discretisation certificate, and draws the same functions at every resolution of `--sides`: seconds a
picture, and the Frechet distance (features of the bundled model `nuclei`, no FID) to held-out crops
at the training resolution. `OUT/PRESET/speed.json` has an entry for each call, `OUT/table.json` the
scores of the last one. The learning rate decays to zero at `--steps`, which must stay the same from
call to call.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1]))

from _functions import averaged, distance
from _speed import print_table, record, train

from certes.apps.training_data import read_patches
from certes.data.files import write_json
from certes.data.patches import PatchDataset
from certes.function_space.model import load_function_model
from certes.function_space.presets import PRESETS
from certes.function_space.publish import publish_functions
from certes.function_space.recipe import FunctionRecipe
from certes.function_space.sampling import sample_functions
from certes.training.loop import Run
from certes.training.times import Drawn


def main() -> None:
    arguments = parse()
    minutes, table = arguments.minutes / len(arguments.presets), dict[str, Any]()
    for name in arguments.presets:
        recipe = configured(name, arguments)
        data = read_patches(recipe.config, arguments.data, None)
        out = arguments.out / name
        run = Run(recipe, data, out, resume=True)
        calls = record(out / "speed.json", train(run, minutes, flops(recipe, data)))
        print_table(calls, recipe.config.batch, minutes)
        card = {
            "name": name,
            "training_data": arguments.source,
            "licence": arguments.licence,
            "preset": name,
            "steps": run.step,
            "training": recipe.config.to_dict(),
        }
        publish_functions(run.averaged(), data, out / "model", card)
        table[name] = judge(recipe, out / "model", arguments) | {"step": run.step}
        print(name, table[name], flush=True)
    write_json(arguments.out / "table.json", table)


def configured(name: str, arguments: argparse.Namespace) -> FunctionRecipe:
    config = PRESETS[name]
    steps, batch = arguments.steps or config.steps, arguments.batch or config.batch
    return FunctionRecipe(replace(config, steps=steps, batch=batch, sample_every=steps))


def flops(recipe: FunctionRecipe, data: PatchDataset) -> int:
    """Operations for one patch, forward and backward."""
    drawn = Drawn(torch.full((1,), 0.5, dtype=torch.float64), torch.ones(1))
    denoiser, generator = recipe.build(), torch.Generator().manual_seed(0)
    noisy = recipe.noisy(denoiser, data.batch(0, 1, 0), drawn, generator, 0)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        denoiser.net(noisy.x_t, noisy.conditioning)
    return 3 * counter.get_total_flops()


def judge(
    recipe: FunctionRecipe, folder: Path, arguments: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Of the same functions, side by side."""
    model, size = load_function_model(folder), recipe.config.patch
    held_out = read_patches(recipe.config, arguments.test, None)
    real = held_out.batch(0, arguments.pictures, seed=5)
    scores: dict[str, dict[str, float]] = {}
    for side in arguments.sides:
        start = perf_counter()
        drawn = sample_functions(model, (side, side), size / side, arguments.pictures)
        seconds = (perf_counter() - start) / arguments.pictures
        found = distance(averaged(drawn.cpu(), size), real)
        scores[str(side)] = {"seconds": seconds, **vars(found)}
    return scores


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--presets", nargs="+", choices=sorted(PRESETS), required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of training pictures")
    parser.add_argument("--test", type=Path, required=True, help="folder of held-out pictures")
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128], help="drawn, pixels")
    parser.add_argument("--pictures", type=int, default=256, help="drawn at each side")
    parser.add_argument("--out", type=Path, required=True, help="checkpoints, logs, models")
    parser.add_argument("--minutes", type=float, default=9.0, help="of training in this call")
    parser.add_argument("--steps", type=int, help="in all; the preset's if not given")
    parser.add_argument("--batch", type=int, help="the preset's if not given")
    parser.add_argument("--source", default="unknown", help="of the training pictures")
    parser.add_argument("--licence", default="unknown", help="theirs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
