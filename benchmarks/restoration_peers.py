# ruff: noqa: E402
"""Restoration of real pictures: certes, deepinv's DDRM and DiffPIR, and the best classical method.

    python benchmarks/restoration_peers.py [--photo-model NAME|PATH] [--only nuclei|photographs]

Eight tasks at three noise levels on 64x64 crops, the same network and 20 network calls for every
diffusion method, K = 16 samples. What is compared: the PSNR and SSIM of the restored picture
(certes' estimate; of deepinv's samples the mean), the feature distance, and the raw coverage of the
minimum-to-maximum interval, nominally 15/17. Classical weights are tuned on pictures that are not
scored: training pictures of nuclei, and the photographs that are left over.

Noise 0 is no denoising task: its lowest level is .02. The feature distance stands in for LPIPS,
whose weights may not be had: the squared distance between what the middle of the network sees in
the restored and in the true picture, over the square of the latter; a network is lenient with its
own kind of mistakes, but the same network made all but the classical pictures. Pixels whose value
noise-free inpainting knows are left out of the coverage; a bound is allowed a rounding error.
Beyond 60 dB a noise-free blur is simply inverted and intervals have no width: such cells count as
any other for the wins, but not in the mean distance of the coverage from nominal.

Every cell is kept in ``results/.cache`` until the code changes, so that the run may be broken off,
or split with ``--only``. Photographs need a model of photographs: without one they are left out.
"""

from __future__ import annotations

from _peers import enter

enter()

import argparse
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import _deepinv
import numpy as np
import torch
from _report import HERE, Report
from classical import METHODS, Measurement, Method, Picture, Weights, classical, tune
from restoration_quality import SIDE, split
from rich.console import Console
from rich.table import Table
from skimage.restoration import denoise_tv_chambolle
from torch import Tensor

import certes
from certes.data.files import write_json
from certes.data.pictures import read_picture
from certes.evaluation.features import model_features
from certes.evaluation.metrics import psnr, ssim
from certes.networks.model import Model
from certes.restoration.degradations import degrade
from certes.restoration.operators import DecomposedOperator

SAMPLES, STEPS, PICTURES, TUNING = 16, 20, 8, 6
NOMINAL = 15 / 17
LEVELS = (0.0, 0.05, 0.1)
LEAST_DENOISING = 0.02
ROUNDING, PERFECT = 1e-4, 60.0
OURS, PEERS, CLASSICAL = "certes", ("deepinv DDRM", "deepinv DiffPIR"), "classical"
SHARED = HERE.parent.parent / "shared" / "data"
GRID = 16  # pixels from crop to crop
SIGMA, MOTION = 2.0, 9  # of the Gaussian, of the length of the motion; pixels


@dataclass(frozen=True)
class Task:
    """One degradation; `kind` is what the classical methods call it."""

    name: str
    kind: str
    operator: DecomposedOperator
    factor: int = 1
    kernel: Tensor | None = None

    def noise(self, level: float) -> float:
        return max(level, LEAST_DENOISING) if self.name == "denoise" else level

    @property
    def known(self) -> Tensor | None:
        """Where pixels are known (inpainting)."""
        return getattr(self.operator, "mask", None)


def tasks(channels: int) -> list[Task]:
    """The eight tasks."""
    shape, ops = (channels, SIDE, SIDE), certes.operators
    line = ops.gaussian_kernel(SIGMA)
    motion = torch.eye(MOTION, dtype=torch.float64) / MOTION
    scattered, box = ops.random_mask(SIDE, SIDE, 0.8, 0), ops.box_mask(SIDE, SIDE, (22, 22, 20, 20))
    return [
        Task("denoise", "denoise", ops.Denoise(shape)),
        Task("inpaint, random 80 %", "inpaint", ops.Inpaint(shape, scattered)),
        Task("inpaint, box", "inpaint", ops.Inpaint(shape, box)),
        Task("super-resolve x2, box", "super-resolve", ops.SuperResolution(shape, 2), 2),
        Task("super-resolve x4, bicubic", "super-resolve",
             ops.SuperResolution(shape, 4, "bicubic"), 4),
        Task("deblur, Gaussian", "deblur", ops.Blur(shape, line), kernel=torch.outer(line, line)),
        Task("deblur, motion", "deblur around", ops.Blur(shape, motion, "circular"), kernel=motion),
        Task("compressed sensing 1/4", "compressed sensing", ops.CompressedSensing(shape, 0.25)),
    ]  # fmt: skip


# --- classical methods of the tasks that classical.py does not know -------------------------------


@dataclass(frozen=True, kw_only=True)
class Sensed(Measurement):
    """A measurement by any operator; `y` is the smallest picture that explains it."""

    operator: DecomposedOperator


def zero_filled(m: Measurement) -> Picture:
    return m.y


def left_alone(x: Picture, m: Measurement, w: Weights) -> Picture:
    return x


def total_variation(x: Picture, m: Measurement, w: Weights) -> Picture:
    """Least squares plus total variation, by accelerated proximal gradients (s = 1: step 1)."""
    assert isinstance(m, Sensed)
    H, before, momentum, t = m.operator, x, x, 1.0
    for _ in range(60):
        seen = H.pinv(H(torch.from_numpy(momentum)[None, None]))[0, 0].numpy()
        after = denoise_tv_chambolle(momentum + m.y - seen, weight=w[0], max_num_iter=30)
        faster = (1 + (1 + 4 * t**2) ** 0.5) / 2
        momentum = after + (t - 1) / faster * (after - before)
        before, t = after, faster
    return before


def around(m: Measurement) -> Picture:
    """A periodic picture with a border for methods that cut one off."""
    return np.pad(m.y, 16, mode="wrap")


METHODS["compressed sensing"] = {
    "zero-filled": Method(zero_filled, left_alone, [()]),
    "total variation": Method(
        zero_filled, total_variation, [(w,) for w in (0.001, 0.003, 0.01, 0.03, 0.1, 0.2)]
    ),
}
METHODS["deblur around"] = {
    name: Method(around, method.finish, method.grid) for name, method in METHODS["deblur"].items()
}


def as_numpy(task: Task, y: Tensor, noise: float, channel: int) -> Measurement:
    """One channel of a measurement for the classical methods."""
    known = None if task.known is None else task.known[channel].numpy()
    kernel = None if task.kernel is None else task.kernel.numpy()
    if task.kind == "compressed sensing":
        operator = certes.operators.CompressedSensing((1, SIDE, SIDE), 0.25)
        picture = operator.pinv(y[None, channel : channel + 1].double())[0, 0].numpy()
        return Sensed(task.kind, picture, noise, operator=operator)
    return Measurement(task.kind, y[channel].double().numpy(), noise, known, task.factor, kernel)


# --- answers and scores ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Answers:
    """What a method made of a batch of measurements.

    Args:
        name: the method.
        restored: (b, c, h, w).
        bounds: lower and upper, of methods that have any.
    """

    name: str
    restored: Tensor
    bounds: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class Score:
    """Means over the pictures; `features` is a distance; coverage is None without bounds."""

    name: str
    psnr: float
    ssim: float
    features: float
    coverage: float | None

    def __str__(self) -> str:
        shown = f"{self.psnr:.2f} / {self.ssim:.3f} / {self.features:.4f}"
        return shown if self.coverage is None else f"{shown} / {self.coverage:.3f}"

    @property
    def astray(self) -> float:
        """How far the coverage is from the nominal one."""
        return 1.0 if self.coverage is None else abs(self.coverage - NOMINAL)


Cell = dict[str, Score]


def best_classical(task: Task, noise: float, train: Tensor, x: Tensor, y: Tensor) -> Answers:
    """The method of highest mean PSNR on the scored pictures; weights from other ones."""
    seen = degrade(train, task.operator, noise, seed=1)
    channels = range(x.shape[1])
    weights = tune(
        [as_numpy(task, row, noise, c) for row in seen for c in channels],
        [picture[c].double().numpy() for picture in train for c in channels],
    )
    restored: dict[str, list[Tensor]] = {}
    for row in y:
        parts = [classical(as_numpy(task, row, noise, c), weights) for c in channels]
        for name in parts[0]:
            planes = [torch.from_numpy(part[name]).float() for part in parts]
            restored.setdefault(name, []).append(torch.stack(planes))
    stacks = {name: torch.stack(pictures) for name, pictures in restored.items()}
    winner = max(stacks, key=lambda name: float(psnr(stacks[name], x).mean()))
    return Answers(winner, stacks[winner])


def ours(task: Task, noise: float, y: Tensor, model: Model, steps: int) -> Answers:
    posterior = certes.restore(
        y, task.operator, model, noise=noise, samples=SAMPLES, steps=steps, batch_size=len(y)
    )
    bounds = posterior.bounds(0.1)
    return Answers(OURS, posterior.estimate, (bounds.lower, bounds.upper))


def theirs(task: Task, noise: float, y: Tensor, model: Model, steps: int, name: str) -> Answers:
    peer = _deepinv.peers(steps)[name]
    samples = peer.draw(y, task.operator, model, noise, SAMPLES)
    samples = samples.nan_to_num(0.5).clamp(0, 1)  # grey, should one diverge
    return Answers(name, samples.mean(dim=0), (samples.amin(dim=0), samples.amax(dim=0)))


def scored(task: Task, noise: float, x: Tensor, answers: Answers, model: Model) -> Score:
    features = model_features(model)
    seen, wanted = features(answers.restored).spatial, features(x).spatial
    assert seen is not None
    assert wanted is not None
    distance = (seen - wanted).square().sum(dim=1) / wanted.square().sum(dim=1)
    return Score(
        answers.name,
        float(psnr(answers.restored, x).mean()),
        float(ssim(answers.restored, x).mean()),
        float(distance.mean()),
        covered(task, noise, x, answers),
    )


def covered(task: Task, noise: float, x: Tensor, answers: Answers) -> float | None:
    """Share of the pixels that the measurement leaves open whose truth is within the bounds."""
    if answers.bounds is None:
        return None
    lower, upper = answers.bounds
    hits = (lower - ROUNDING <= x) & (x <= upper + ROUNDING)
    if noise == 0 and task.known is not None:
        hits = hits[~task.known.expand_as(hits)]
    return float(hits.float().mean())


def cell(task: Task, noise: float, data: Data, model: Model, steps: int) -> Cell:
    """All methods on one task at one noise level."""
    x = data.scored
    y = degrade(x, task.operator, noise, seed=0)
    answers = {OURS: ours(task, noise, y, model, steps)}
    answers |= {name: theirs(task, noise, y, model, steps, name) for name in PEERS}
    answers[CLASSICAL] = best_classical(task, noise, data.tuning, x, y)
    return {name: scored(task, noise, x, answer, model) for name, answer in answers.items()}


# --- pictures -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Data:
    """Crops to be scored, and others for the classical weights."""

    name: str
    scored: Tensor
    tuning: Tensor


def crops(paths: list[Path], channels: int) -> Tensor:
    """The busiest 64x64 crop of each picture, grey (the mean of its colours) or in colour."""
    return torch.stack([busiest(read_picture(path).pixels, channels) for path in paths])


def busiest(picture: Tensor, channels: int) -> Tensor:
    """The crop of largest standard deviation, on a grid of 16 pixels."""
    grey = picture.mean(dim=0, keepdim=True)
    windows = grey[0].unfold(0, SIDE, GRID).unfold(1, SIDE, GRID)
    row, column = divmod(int(windows.std(dim=(2, 3)).argmax()), windows.shape[1])
    top, left = GRID * row, GRID * column
    chosen = grey if channels == 1 else picture.expand(channels, -1, -1)
    return chosen[:, top : top + SIDE, left : left + SIDE]


def thinned(things: list[Path], count: int) -> list[Path]:
    """`count` of them, evenly."""
    return things[:: max(1, len(things) // count)][:count]


def nuclei(folder: Path, count: int) -> Data:
    """Held-out test pictures: those on which no calibration card was made."""
    paths = sorted((folder / "nuclei/test/images").glob("*.png"))
    _, held = split([path.stem for path in paths])
    train = sorted((folder / "nuclei/train/images").glob("*.png"))
    return Data(
        "nuclei",
        crops(thinned([paths[i] for i in held], count), 1),
        crops(thinned(train, TUNING), 1),
    )


def photographs(folder: Path, count: int, channels: int) -> Data:
    """Every other photograph is scored; classical weights come from the rest."""
    paths = sorted((folder / "demo24_cc0").glob("*.png"))
    score, tuning = paths[::2], paths[1::2]
    return Data(
        "photographs",
        crops(thinned(score, count), channels),
        crops(thinned(tuning, TUNING), channels),
    )


# --- the run --------------------------------------------------------------------------------------


def code() -> str:
    """A digest of all that decides a cell's numbers, taken before the first one is made."""
    sources = [HERE / name for name in ("_deepinv.py", "classical.py", Path(__file__).name)]
    package = Path(certes.__file__).parent
    for room in ("diffusion", "networks", "intervals", "restoration"):
        sources += sorted((package / room).rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


class Cache:
    """Finished cells, for as long as the code that made them and the settings stay the same."""

    def __init__(self, *settings: object) -> None:
        digest = hashlib.sha256(repr(settings).encode()).hexdigest()[:12]
        self.folder = HERE / "results" / ".cache" / f"restoration_peers-{digest}"
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder.parent / ".gitignore").write_text("*\n")

    def read(self, key: str) -> Cell | None:
        path = self.folder / f"{key}.json"
        if not path.is_file():
            return None
        return {name: Score(**score) for name, score in json.loads(path.read_text()).items()}

    def write(self, key: str, value: Cell) -> None:
        write_json(self.folder / f"{key}.json", {n: asdict(score) for n, score in value.items()})


def cells(
    data: Data, level: float, model: Model, steps: int, cache: Cache
) -> Iterator[tuple[Task, Cell]]:
    for task in tasks(model.channels):
        key = re.sub(r"[^\w.]+", "-", f"{data.name} {level} {task.name}")
        found = cache.read(key)
        if found is None:
            start = perf_counter()
            found = cell(task, task.noise(level), data, model, steps)
            print(f"{data.name}, {task.name}, {level}: {perf_counter() - start:.0f} s", flush=True)
            cache.write(key, found)
        yield task, found


def claim(report: Report, data: Data, level: float, rows: list[tuple[Task, Cell]]) -> None:
    """One claim for each task, and how many of them hold."""
    clearest = nearest = 0
    wanted = "highest PSNR, coverage nearest to .882"
    for task, found in rows:
        best = max(score.psnr for name, score in found.items() if name != OURS)
        lead = found[OURS].psnr - best
        honest = all(found[OURS].astray <= found[name].astray for name in PEERS)
        clearest, nearest = clearest + (lead >= 0), nearest + honest
        beside = "; ".join(f"{score.name} {score}" for n, score in found.items() if n != OURS)
        report.claim(
            f"{data.name}, noise {task.noise(level)}, {task.name}: "
            f"PSNR / SSIM / feature distance / coverage ({beside})",
            str(found[OURS]),
            wanted,
            lead >= 0 and honest,
        )
    for count, what in ((clearest, "the highest PSNR"), (nearest, "the coverage nearest to .882")):
        text = f"{data.name}, noise {level}: tasks in which certes has {what}"
        report.claim(text, count, f"at least 7 of {len(rows)}", count >= len(rows) - 1)


def claim_honesty(report: Report, data: Data, found: list[Cell]) -> None:
    """How far raw coverage is from nominal, over all cells in which intervals have a width."""
    open_ones = [cell for cell in found if cell[OURS].psnr < PERFECT]
    astray = {
        name: sum(cell[name].astray for cell in open_ones) / len(open_ones)
        for name in (OURS, *PEERS)
    }
    beside = ", ".join(f"{name} {astray[name]:.3f}" for name in PEERS)
    report.claim(
        f"{data.name}: mean distance of the raw coverage from nominal, all tasks and levels "
        f"({beside})",
        round(astray[OURS], 3), "the smallest", astray[OURS] < min(astray[n] for n in PEERS),
    )  # fmt: skip


def show(data: Data, level: float, rows: list[tuple[Task, Cell]]) -> None:
    title = f"{data.name}, noise {level}: PSNR / SSIM / feature distance / coverage"
    table = Table("task", OURS, *PEERS, CLASSICAL, title=title)
    for task, found in rows:
        shown = [str(found[name]) for name in (OURS, *PEERS)]
        table.add_row(task.name, *shown, f"{found[CLASSICAL]} ({found[CLASSICAL].name})")
    Console(width=160).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description="certes, deepinv and classical methods")
    parser.add_argument("--data", type=Path, default=SHARED, help="holds nuclei/, demo24_cc0/")
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--photo-model", help="without one, photographs are left out")
    parser.add_argument("--only", choices=("nuclei", "photographs"), help="no results file then")
    parser.add_argument("--pictures", type=int, default=PICTURES, help="of each kind")
    parser.add_argument("--steps", type=int, default=STEPS, help="network calls")
    arguments = parser.parse_args()
    report, digest = Report("restoration_peers"), code()
    for kind, source in (("nuclei", arguments.model), ("photographs", arguments.photo_model)):
        if source is None or arguments.only not in (None, kind):
            continue
        model, count = certes.load(source), arguments.pictures
        chosen = (
            nuclei(arguments.data, count)
            if kind == "nuclei"
            else photographs(arguments.data, count, model.channels)
        )
        cache = Cache(digest, model.hash, count, arguments.steps, SAMPLES, TUNING)
        every: list[Cell] = []
        for level in LEVELS:
            rows = list(cells(chosen, level, model, arguments.steps, cache))
            show(chosen, level, rows)
            claim(report, chosen, level, rows)
            every += [found for _, found in rows]
        claim_honesty(report, chosen, every)
    if arguments.only is None:
        report.save()


if __name__ == "__main__":
    main()
