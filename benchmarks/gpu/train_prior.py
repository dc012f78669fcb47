"""Train a prior on one GPU, in as many calls as it takes; record its speed and its likelihood.

    python benchmarks/gpu/train_prior.py --data nuclei/train/images --out run
    python benchmarks/gpu/train_prior.py --preset photo --out run --data bsds500/t* \
        --source "BSDS500, train and test" --licence "research use; weights with that note"
    python benchmarks/gpu/train_prior.py --preset cifar10-fast --steps 40000 --out run \
        --data cifar10/train-0*.webp --test cifar10/test-0*.webp --sheet 32

Each call goes on from the last one's checkpoint until its minutes are up, then measures the
network, exports what there is as a model folder (`OUT/model`, bfloat16) and, given held-out
pictures, finds their bits per dimension with the exported weights. The learning rate decays to zero
at `--steps`, which therefore must stay the same from call to call; a first call of few minutes, in
a folder of its own, says how many fit. `OUT/speed.json` has an entry for each call, `OUT/bits.json`
the bound of the last one.

Pictures are files and folders; with `--sheet SIDE` files are sheets of pictures of that side.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from _bits import measure_bits, print_bits
from _speed import print_table, record, train

from certes.data.files import write_json
from certes.data.patches import PatchDataset, load_folder
from certes.data.pictures import read_picture
from certes.data.sheets import read_sheet
from certes.training.config import TrainingConfig
from certes.training.loop import Run
from certes.training.presets import PRESETS, load_config
from certes.training.publish import publish
from certes.training.unconditional import Unconditional

# Transfers take files up to 16 MiB.
PIECE = 15 * 2**20
NUCLEI = "BBBC038 (2018 Data Science Bowl), stage 1, train"


def main() -> None:
    arguments = parse()
    config = configured(arguments)
    grey = config.unet().in_channels == 1
    data = PatchDataset(
        load(arguments.data, arguments.sheet, grey), config.patch, config.busy,
        symmetries=config.symmetries,
    )  # fmt: skip
    run = Run(Unconditional(config), data, arguments.out, resume=True)
    parameters = sum(value.numel() for value in run.denoiser.net.parameters())
    print(f"{config.steps} steps of {config.batch} patches, {parameters / 1e6:.1f} M parameters")
    calls = record(arguments.out / "speed.json", train(run, arguments.minutes))
    print_table(calls, config.batch, arguments.minutes)
    denoiser, model = run.averaged(), arguments.out / "model"
    publish(denoiser, data, model, card(arguments, config, run.step, len(data)))
    if arguments.test:
        held_out = load(arguments.test, arguments.sheet, grey)[: arguments.test_pictures]
        bounds = measure_bits(denoiser, held_out, arguments.levels, arguments.test_batch)
        print_bits(bounds, len(held_out))
        found = {name: bound.to_dict() for name, bound in bounds.items()}
        settings = {"step": run.step, "pictures": len(held_out), "levels": arguments.levels}
        write_json(arguments.out / "bits.json", settings | {"bounds": found})
    if arguments.pieces:
        pack(arguments.out, arguments.pieces)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="training pictures")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint, logs, model")
    parser.add_argument("--sheet", type=int, help="files are sheets of pictures of this side")
    parser.add_argument("--minutes", type=float, default=9.0, help="of training in this call")
    parser.add_argument("--preset", default="nuclei-large", help="its name, or a JSON file")
    parser.add_argument("--steps", type=int, help="in all; the preset's if not given")
    parser.add_argument("--batch", type=int, help="the preset's if not given")
    parser.add_argument("--source", default=NUCLEI, help="of the training pictures, for the card")
    parser.add_argument("--licence", default="CC0 1.0", help="theirs, for the card")
    parser.add_argument("--test", type=Path, nargs="+", help="held-out pictures, of the patch size")
    parser.add_argument("--test-pictures", type=int, default=2000, help="how many of them")
    parser.add_argument("--test-batch", type=int, default=500, help="how many at once")
    parser.add_argument("--levels", type=int, help="steps of the bound for each; all if not given")
    parser.add_argument("--pieces", type=Path, help="also copy the results here, in small files")
    return parser.parse_args()


def configured(arguments: argparse.Namespace) -> TrainingConfig:
    config = load_config(arguments.preset)
    return replace(
        config, steps=arguments.steps or config.steps, batch=arguments.batch or config.batch
    )


def load(paths: list[Path], sheet: int | None, grey: bool) -> list[Tensor]:
    """(C, H, W) uint8 pictures of files and folders, the latter in grey if asked."""
    files = list(chain.from_iterable([p] if p.is_file() else sorted(p.iterdir()) for p in paths))
    if sheet:
        return [picture for path in files for picture in read_sheet(path, sheet)]
    if [path for path in paths if path.is_dir()] == paths:
        return [picture for path in paths for picture in load_folder(path, grey=grey)]
    return [(read_picture(path).pixels * 255).round().to(torch.uint8) for path in files]


def card(
    arguments: argparse.Namespace, config: TrainingConfig, step: int, pictures: int
) -> dict[str, object]:
    name = arguments.preset if arguments.preset in PRESETS else Path(arguments.preset).stem
    return {
        "name": name,
        "training_data": f"{arguments.source}: {pictures} pictures",
        "pictures": pictures,
        "licence": arguments.licence,
        "preset": name,
        "steps": step,
        "training": config.to_dict(),
    }


def pack(out: Path, pieces: Path) -> None:
    """Copy the model, the numbers and the last samples; large files as NAME.00, NAME.01, ..."""
    pieces.mkdir(parents=True, exist_ok=True)
    samples = sorted(out.glob("samples-*.png"), key=lambda path: path.stat().st_mtime)[-1:]
    numbers = [path for path in (out / "speed.json", out / "bits.json") if path.exists()]
    for path in [*sorted((out / "model").iterdir()), *numbers, *samples]:
        content = path.read_bytes()
        if len(content) <= PIECE:
            shutil.copy(path, pieces / path.name)
            continue
        for index, start in enumerate(range(0, len(content), PIECE)):
            (pieces / f"{path.name}.{index:02d}").write_bytes(content[start : start + PIECE])
        print(f"join with: cat {path.name}.* > {path.name}")


if __name__ == "__main__":
    main()
