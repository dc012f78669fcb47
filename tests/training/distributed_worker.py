"""One of several processes that train together: runs jobs and says what became of them.

    torchrun --nproc_per_node 2 distributed_worker.py JOBS.json PICTURES

Each job is {"out", "kind", "config", "upto", "variant"}; every process writes its losses and what
it was asked for into OUT-RANK.json. A variant is a deliberately broken training.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from certes.conditional.config import ConditionalConfig
from certes.conditional.recipe import Conditional
from certes.data.patches import EVERY, PatchDataset, load_folder
from certes.function_space import latent_recipe
from certes.function_space.latent_recipe import learn_codes, second_stage
from certes.function_space.recipe import FunctionRecipe
from certes.function_space.training_config import FunctionConfig
from certes.training import weights
from certes.training.adam import Adam
from certes.training.config import TrainingConfig
from certes.training.loop import Run
from certes.training.unconditional import Unconditional

STEPS = 12  # of the second stage

KINDS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "pictures": lambda config: Unconditional(TrainingConfig(**config)),
    "conditional": lambda config: Conditional(ConditionalConfig(**config)),
    "functions": lambda config: FunctionRecipe(FunctionConfig(**config)),
}


class Watched:
    """Batches that note how many patches they were asked to cut."""

    def __init__(self, data: PatchDataset, unsharded: bool) -> None:
        self.data, self.unsharded, self.cut = data, unsharded, list[int]()

    def batch(self, step: int, batch_size: int, seed: int, share: slice = EVERY) -> Tensor:
        """As asked; or, broken, what the first process is to have."""
        if self.unsharded:
            share = slice(0, share.stop, share.step)
        patches = self.data.batch(step, batch_size, seed, share)
        self.cut.append(len(patches))
        return patches


def losses(job: dict[str, Any], pictures: str) -> dict[str, Any]:
    """Run a job."""
    recipe, variant = KINDS[job["kind"]](job["config"]), job.get("variant")
    data = PatchDataset(load_folder(pictures), recipe.config.patch)
    watched = Watched(data, unsharded=variant == "unsharded data")
    whole = weights.mean_of_all
    if variant == "weights of each share":
        weights.mean_of_all = lambda values: values
    # Nobody but the first writes; the folder of another must stay as it was.
    rank = int(os.environ.get("RANK", "0"))
    out = Path(job["out"]) if rank == 0 or job.get("shared") else Path(f"{job['out']}-other")
    run = Run(recipe, watched, out, resume=job.get("shared", False))
    if variant == "optimiser of other weights":
        run.optimiser = Adam([p.detach().clone() for p in run.net.parameters()], 1e-3)
    curve = [float(loss) for loss in islice(run.steps(), job.get("upto"))]
    weights.mean_of_all = whole
    return {
        "losses": curve,
        "cut": max(watched.cut[:3]),
        "processes": run.accelerator.num_processes,
        "dropout": torch.initial_seed(),
        "wrote": sorted(path.name for path in out.glob("*")) if out.is_dir() else [],
    }


def codes(job: dict[str, Any], pictures: str) -> dict[str, Any]:
    """The second stage of a model of functions, whose first is but begun."""
    config = FunctionConfig(**job["config"])
    coding = second_stage(config)
    assert coding is not None
    data = PatchDataset(load_folder(pictures), config.patch)
    functions = FunctionRecipe(config).build()
    latent_recipe.CODED_PATCHES = 16
    prior = learn_codes(replace(coding, steps=STEPS), functions, data, Path(job["out"]), False)
    return {"weights": prior.net.project.weight[:4].flatten().tolist()}


def main() -> None:
    """Run all jobs, in order."""
    jobs, rank = json.loads(Path(sys.argv[1]).read_text()), os.environ.get("RANK", "0")
    for job in jobs:
        run = codes if job["kind"] == "codes" else losses
        answer = run(job, sys.argv[2])
        Path(f"{job['out']}-{rank}.json").write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
