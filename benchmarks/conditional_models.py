r"""CDE, CDiffE, CMDE and VS-CMDE trained alike on real pictures.

    python benchmarks/conditional_models.py [PRESET ...]

Fashion-MNIST (60000 training pictures): line drawing to garment, 4x super-resolution, a square hole
of a quarter; one network shape (.73 million parameters), 6000 steps of 16 pictures, about eight
minutes of one CPU core each, 20 network calls for a picture. Errors of a y that diffuses count by a
twentieth beside x's, or (``-share1``) in full. Judged on test pictures:

- 200 pictures, 16 draws each: PSNR and SSIM of single draws, PSNR of their mean, consistency (PSNR
  of what the operator measures of draw and truth), diversity (standard deviation over draws, grey
  levels of 255), coverage of the raw minimum-to-maximum interval;
- the interval calibrated on 100 of them (alpha = delta = .1), risk and width on the other 100;
- 1000 other pictures, one draw each: Frechet distances of the features of a classifier that was
  trained here, of pictures alone (FD, in place of UFID) and beside their conditions (joint FD).
  Their standard errors are from 40 bootstrap samples of the pictures.

LPIPS and the Inception network need weights that are not to be had offline. With
presets as arguments only these are judged; what was judged before is kept in the cache.
"""

from __future__ import annotations

import json
import sys
from time import perf_counter
from typing import Any

import torch
from _garments import DATA, FULL, RUNS, classifier, config_of, trained
from _report import Report
from jaxtyping import Float
from torch import Tensor

import certes
from certes.conditional.model import ConditionalModel, digest_of
from certes.conditional.policies import Fresh, GivenCondition
from certes.conditional.presets import ESTIMATORS
from certes.conditional.recipe import Conditional
from certes.conditional.sampling import levels_of
from certes.conditional.tasks import Inpainting, Measured
from certes.data.files import write_json
from certes.data.mosaic import mosaic
from certes.data.pictures import Picture, write_picture
from certes.data.sheets import read_sheets
from certes.diffusion.noise import NoiseSource, stream_seeds
from certes.diffusion.process import Process
from certes.diffusion.schedules import EDM
from certes.diffusion.solvers.langevin import by_norms
from certes.diffusion.solvers.predictor_corrector import predictor_corrector
from certes.evaluation.consistency import consistency, summary
from certes.evaluation.distributions import frechet_distance, moments
from certes.evaluation.features import FeatureNetwork
from certes.evaluation.metrics import diversity, over_draws, psnr, ssim
from certes.restoration.operators import Inpaint

TASKS = {
    "edges": (*ESTIMATORS, f"cmde{FULL}", f"vs-cmde{FULL}", f"cdiffe{FULL}"),
    "super-resolve": ("cde", "cmde", f"cmde{FULL}", f"vs-cmde{FULL}", f"cdiffe{FULL}"),
    "inpaint": ("cde", "cmde", f"cmde{FULL}"),
}
DRAWS, JUDGED, CALIBRATED, SEEN, RESAMPLED = 16, 200, 100, 1000, 40
PUBLISHED_STEPS, COMPARED, COMPARED_PRESET = 1000, 64, "edges-cmde"


def pictures() -> Float[Tensor, "n 1 28 28"]:
    """Test pictures in a random order: those to judge, then those to look at."""
    every = read_sheets(DATA, "test").pictures
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(7))
    return every[order[: JUDGED + SEEN]].float() / 255


def model_of(preset: str) -> ConditionalModel:
    """The trained network as users would have it, in float32."""
    recipe = Conditional(config_of(preset))
    denoiser = trained(preset)
    estimator = recipe.estimator.at(recipe.config.steps)
    mark = digest_of(denoiser, recipe.task, estimator)
    return ConditionalModel(preset, denoiser, recipe.task, estimator, 1, {}, mark)


def measured(model: ConditionalModel, x: Tensor) -> Tensor:
    return model.task.measure(x, torch.Generator().manual_seed(11))


def agreement(model: ConditionalModel, y: Tensor, samples: Tensor, x: Tensor) -> float:
    """Consistency of the draws with what was measured, dB."""
    if isinstance(model.task, Inpainting):
        operators = [Inpaint((1, 28, 28), row[0].isfinite()) for row in y]
        rows = [
            consistency(samples[:, i : i + 1], x[i : i + 1], H) for i, H in enumerate(operators)
        ]
        values = torch.cat(rows, dim=1)
    else:
        assert isinstance(model.task, Measured)
        values = consistency(samples, x, model.task.operator((1, 28, 28), torch.Generator()))
    return summary(values).psnr or float("inf")


def distances(
    look: FeatureNetwork, shown: Tensor, real: Tensor, drawn: Tensor
) -> dict[str, tuple[float, float]]:
    """Frechet distances and their standard errors."""
    features = [look(part).vectors.double() for part in (real, drawn, shown[:, :1].clamp(0, 1))]
    pairs = {
        "fd": (features[0], features[1]),
        "joint": tuple(torch.cat([features[2], part], dim=1) for part in features[:2]),
    }
    generator = torch.Generator().manual_seed(3)
    resamples = torch.randint(len(real), (RESAMPLED, len(real)), generator=generator)

    def distance(a: Tensor, b: Tensor) -> float:
        one, two = moments(a), moments(b)
        return frechet_distance(one.mean, one.covariance, two.mean, two.covariance)

    return {
        name: (
            distance(a, b),
            float(torch.tensor([distance(a[i], b[i]) for i in resamples]).std()),
        )
        for name, (a, b) in pairs.items()
    }


def judge(preset: str, x: Tensor, look: FeatureNetwork) -> dict[str, Any]:
    model = model_of(preset)
    truth, others = x[:JUDGED], x[JUDGED:]
    y = measured(model, truth)
    start = perf_counter()
    posterior = certes.restore(y, model=model, samples=DRAWS)
    seconds = (perf_counter() - start) / JUDGED / DRAWS
    bounds = posterior.bounds(0.1)
    part, rest = slice(None, CALIBRATED), slice(CALIBRATED, None)
    card = certes.calibrate(posterior_part(bounds, part), truth[part], alpha=0.1, delta=0.1)
    interval = card(posterior_part(bounds, rest))
    conditions = measured(model, others)
    drawn = certes.restore(conditions, model=model, samples=1).samples[0]
    samples = posterior.samples
    return {
        "psnr": float(over_draws(psnr, samples, truth).mean()),
        "psnr_mean": float(psnr(posterior.mean, truth).mean()),
        "ssim": float(over_draws(ssim, samples, truth).mean()),
        "consistency": agreement(model, y, samples, truth),
        "diversity": float(diversity(samples).mean()),
        "coverage": float(bounds.contains(truth).double().mean()),
        "risk": float(1 - interval.contains(truth[rest]).double().mean()),
        "width": float(interval.width.double().mean()),
        "raw_width": float(bounds.width.double().mean()),
        "seconds": seconds,
        **distances(look, model.task.shown(conditions), others, drawn),
        "shown": panel(model, y, samples, truth),
    }


def posterior_part(bounds: certes.Bounds, rows: slice) -> certes.Bounds:
    return certes.Bounds(
        bounds.lower[rows], bounds.estimate[rows], bounds.upper[rows], bounds.provenance
    )


def panel(model: ConditionalModel, y: Tensor, samples: Tensor, truth: Tensor) -> str:
    """Twelve conditions, two draws of each and the truths, for a person to look at."""
    rows = [model.task.shown(y[:12])[:, :1], samples[0, :12], samples[1, :12], truth[:12]]
    return sheet(model.name, torch.cat(rows))


def sheet(name: str, pictures: Tensor) -> str:
    """Rows of twelve, enlarged."""
    grid = mosaic(pictures.clamp(0, 1), columns=12)
    grid = grid.repeat_interleave(3, dim=1).repeat_interleave(3, dim=2)
    write_picture(RUNS / f"{name}.png", grid, Picture(name, grid, None, "uint8"))
    return f"{name}.png"


def kept(preset: str, x: Tensor, look: FeatureNetwork) -> dict[str, Any]:
    """Judged now, or before."""
    path = RUNS / f"{preset}.json"
    if not path.is_file():
        write_json(path, judge(preset, x, look))
    return json.loads(path.read_text())


def against_published(x: Tensor) -> dict[str, Any]:
    """The same network: 1000 steps of the published predictor-corrector, and the default."""
    path = RUNS / f"published-{COMPARED_PRESET}.json"
    if path.is_file():
        return json.loads(path.read_text()) | {"stochastic": stochastic(x)}
    model = model_of(COMPARED_PRESET)
    truth = x[:COMPARED]
    y = measured(model, truth)
    start = perf_counter()
    default = certes.restore(y, model=model, samples=1, seed=1).samples[0]
    between = perf_counter()
    published = predicted_and_corrected(model, model.task.shown(y))
    scores = {
        name: {"psnr": float(psnr(made, truth).mean()), "ssim": float(ssim(made, truth).mean())}
        for name, made in (("default", default), ("published", published))
    }
    scores["times"] = {"ratio": (perf_counter() - between) / (between - start)}
    write_json(path, scores)
    rows = torch.cat([y[:12, :1], default[:12], published[:12], truth[:12]])
    sheet(f"published-{COMPARED_PRESET}", rows)
    return scores | {"stochastic": stochastic(x)}


def stochastic(x: Tensor) -> dict[str, float]:
    """The same pictures by the solver that forgives a network's errors, 20 calls."""
    model, truth = model_of(COMPARED_PRESET), x[:COMPARED]
    made = certes.restore(
        measured(model, truth), model=model, samples=1, seed=1, sampler="dpm_solver_2m_sde"
    ).samples[0]
    return {"psnr": float(psnr(made, truth).mean()), "ssim": float(ssim(made, truth).mean())}


def predicted_and_corrected(
    model: ConditionalModel, y: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b 1 28 28"]:
    """The authors' sampler, with norms of each picture alone."""
    noise = NoiseSource(stream_seeds(1, [f"published {i}" for i in range(len(y))]))
    grid = levels_of(model.estimator, PUBLISHED_STEPS)
    given = GivenCondition(model, Fresh(y, model.estimator.y_level, noise))
    x = 0.5 + float(grid[0]) * noise.normal((1, 28, 28))
    states = predictor_corrector(Process(EDM()), given, grid, x, noise, snr=0.15, scale=by_norms)
    for state in states:
        x = state.x
    return x.clamp(0, 1)


def show(task: str, rows: dict[str, dict[str, Any]]) -> None:
    print(f"\n{task}")
    print(
        "| estimator | PSNR, draw | PSNR, mean | SSIM | FD | joint FD | consistency, dB "
        "| diversity | raw coverage | risk with card | width | ms a picture |"
    )
    print("|---" * 12 + "|")
    for name, row in rows.items():
        print(
            f"| {name} | {row['psnr']:.2f} | {row['psnr_mean']:.2f} | {row['ssim']:.3f} "
            f"| {row['fd'][0]:.2f} ± {row['fd'][1]:.2f} "
            f"| {row['joint'][0]:.2f} ± {row['joint'][1]:.2f} | {row['consistency']:.2f} "
            f"| {row['diversity']:.1f} | {row['coverage']:.3f} | {row['risk']:.3f} "
            f"| {row['width']:.3f} | {1000 * row['seconds']:.0f} |"
        )


def claims(report: Report, task: str, rows: dict[str, dict[str, Any]]) -> None:
    cmde, cde = rows["cmde"], rows["cde"]
    slack = 2 * (cmde["fd"][1] ** 2 + cde["fd"][1] ** 2) ** 0.5
    report.claim(
        f"{task}: FD of CMDE over CDE's ({cde['fd'][0]:.2f}), two standard errors allowed",
        round(cmde["fd"][0] - cde["fd"][0], 3),
        f"at most {slack:.3f}",
        cmde["fd"][0] - cde["fd"][0] <= slack,
    )
    for name, row in rows.items():
        report.claim(
            f"{task}, {name}: risk of the calibrated interval on 100 other pictures "
            f"(mean width {row['width']:.3f}; raw coverage {row['coverage']:.3f}, nominal .882)",
            round(row["risk"], 4),
            "at most .1",
            row["risk"] <= 0.1,
        )
    if task == "edges":
        worse = rows["cdiffe"]
        for key, better in (("fd", -1), ("joint", -1), ("psnr", 1)):
            a, b = (r[key][0] if key != "psnr" else r[key] for r in (cmde, worse))
            report.claim(
                f"edges: {key} of CMDE, CDiffE's is {b:.2f}",
                round(a, 3),
                "better",
                better * (a - b) > 0,
            )


def claim_speed(report: Report, scores: dict[str, Any]) -> None:
    default, published = scores["default"], scores["published"]
    calls = 2 * PUBLISHED_STEPS / 20
    report.claim(
        f"network calls of the published predictor-corrector ({PUBLISHED_STEPS} steps) over the "
        f"default's 20 (time: {scores['times']['ratio']:.0f} times)",
        calls,
        "at least 50",
        calls >= 50,
    )
    for key, slack in (("psnr", 0.1), ("ssim", 0.01)):
        report.claim(
            f"{key} of one draw with the default, {COMPARED} pictures, "
            f"published {published[key]:.3f} (20 calls of dpm_solver_2m_sde: "
            f"{scores['stochastic'][key]:.3f})",
            round(default[key], 3),
            f"at least {published[key] - slack:.3f}",
            default[key] >= published[key] - slack,
        )


def main() -> None:
    x, look = pictures(), classifier()
    if sys.argv[1:]:
        for preset in sys.argv[1:]:
            kept(preset, x, look)
            print("judged", preset, flush=True)
        return
    report = Report("conditional_models")
    for task, names in TASKS.items():
        rows = {name: kept(f"{task}-{name}", x, look) for name in names}
        show(task, rows)
        claims(report, task, rows)
    claim_speed(report, against_published(x))
    report.save()


if __name__ == "__main__":
    main()
