"""Train conditional models on one GPU, in as many calls as it takes; record their speed and scores.

    python benchmarks/gpu/train_conditional.py --presets edges2shoes-cde edges2shoes-cmde \
        --data edges2shoes/train --test edges2shoes/val --out runs
    python benchmarks/gpu/train_conditional.py --presets labels-cde labels-cdiffe labels-cmde \
        --data nuclei/train/images --conditions nuclei/train/labels --out runs \
        --test nuclei/test/images --test-conditions nuclei/test/labels --steps 40000 --batch 128

Each call goes on from the last one's checkpoints, preset after preset, until its minutes are up:
then every network is exported as it is (`OUT/PRESET/model`, bfloat16) and judged on held-out
patches: PSNR and SSIM of single draws, diversity, raw coverage of K = 16 draws, seconds a picture.
`OUT/PRESET/speed.json` has an entry for each call, `OUT/table.json` the scores of the last one. The
learning rate decays to zero at `--steps`, which must stay the same from call to call.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from _speed import print_table, record, train

import certes
from certes.apps.training_data import read_patches
from certes.conditional.model import load_conditional
from certes.conditional.presets import PRESETS
from certes.conditional.publish import publish_conditional
from certes.conditional.recipe import Conditional
from certes.data.files import write_json
from certes.evaluation.metrics import diversity, over_draws, psnr, ssim
from certes.training.loop import Run

DRAWS = 16


def main() -> None:
    arguments = parse()
    minutes, table = arguments.minutes / len(arguments.presets), dict[str, Any]()
    for name in arguments.presets:
        recipe = configured(name, arguments)
        data = read_patches(recipe.config, arguments.data, arguments.conditions)
        out = arguments.out / name
        run = Run(recipe, data, out, resume=True)
        calls = record(out / "speed.json", train(run, minutes))
        print_table(calls, recipe.config.batch, minutes)
        card = {
            "name": name,
            "training_data": arguments.source,
            "licence": arguments.licence,
            "preset": name,
            "steps": run.step,
            "training": recipe.config.to_dict(),
        }
        publish_conditional(recipe, run.averaged(), data, out / "model", card)
        table[name] = judge(recipe, out / "model", arguments) | {"step": run.step}
        print(name, table[name], flush=True)
    write_json(arguments.out / "table.json", table)


def configured(name: str, arguments: argparse.Namespace) -> Conditional:
    config = PRESETS[name]
    steps, batch = arguments.steps or config.steps, arguments.batch or config.batch
    return Conditional(replace(config, steps=steps, batch=batch, sample_every=steps))


def judge(recipe: Conditional, folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Scores on patches of the held-out pictures, the same for every preset of a task."""
    held_out = read_patches(recipe.config, arguments.test, arguments.test_conditions)
    patches = held_out.batch(0, arguments.pictures, seed=0)
    generator = torch.Generator().manual_seed(0)
    x, y = recipe.task.split(patches, recipe.x.channels, generator)
    model = load_conditional(folder)
    start = perf_counter()
    posterior = certes.restore(y, model=model, samples=DRAWS)
    seconds = (perf_counter() - start) / len(x) / DRAWS
    bounds, samples = posterior.bounds(0.1), posterior.samples
    return {
        "psnr": float(over_draws(psnr, samples, x).mean()),
        "ssim": float(over_draws(ssim, samples, x).mean()),
        "diversity": float(diversity(samples).mean()),
        "coverage": float(bounds.contains(x).double().mean()),
        "width": float(bounds.width.double().mean()),
        "seconds": seconds,
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--presets", nargs="+", choices=sorted(PRESETS), required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of training pictures")
    parser.add_argument("--conditions", type=Path, help="their conditions, if not made from them")
    parser.add_argument("--test", type=Path, required=True, help="folder of held-out pictures")
    parser.add_argument("--test-conditions", type=Path, help="theirs")
    parser.add_argument("--pictures", type=int, default=256, help="held-out patches to judge on")
    parser.add_argument("--out", type=Path, required=True, help="checkpoints, logs, models")
    parser.add_argument("--minutes", type=float, default=9.0, help="of training in this call")
    parser.add_argument("--steps", type=int, help="in all; the preset's if not given")
    parser.add_argument("--batch", type=int, help="the preset's if not given")
    parser.add_argument("--source", default="unknown", help="of the training pictures")
    parser.add_argument("--licence", default="unknown", help="theirs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
