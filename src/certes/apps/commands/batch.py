"""certes batch."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from certes.apps import options
from certes.apps.console import number, say, show_json, show_table
from certes.apps.extras import need

Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        show_default=False,
        help="Processes; default: one for each GPU, or else for each CPU core.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        show_default=False,
        help="A Ray cluster that runs (or auto); default: one is started here, for this run.",
    ),
]
BatchSize = Annotated[
    int,
    typer.Option(
        "--batch-size",
        min=1,
        help="Pictures that a worker is handed at once. Those of one size share network calls, "
        "where task and noise are the same for all. Results do not depend on it.",
    ),
]


def batch(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            show_default=False,
            help="A folder, a glob in quotes, or a URI of either, as s3://bucket/cells.",
        ),
    ],
    out: Annotated[
        str,
        typer.Argument(
            metavar="OUTPUT", show_default=False, help="A folder or a URI for the results."
        ),
    ],
    task: options.AskedTask = None,
    model: options.Model = "nuclei",
    noise: options.NoiseOrAuto = None,
    factor: options.Factor = None,
    kernel: options.Kernel = None,
    mask: options.Mask = None,
    quality: options.Quality = None,
    samples: options.Samples = 16,
    steps: options.Steps = 20,
    alpha: options.Alpha = 0.1,
    sampler: options.Sampler = None,
    policy: options.Policy = None,
    colours: options.Colours = None,
    calibration: options.Card = None,
    truth: options.Truth = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    workers: Workers = None,
    batch_size: BatchSize = 4,
    address: Address = None,
    as_json: options.Json = False,
) -> None:
    """Restore many pictures on many workers, with an interval for every pixel.

    Options and results are those of certes restore, without one report for all: what became of
    each picture is a row of OUTPUT/manifest.parquet (status, seconds, interval width, coverage and
    PSNR where --truth is given, error). A picture that cannot be restored is recorded and skipped.

    A run that was killed goes on when it is started again: nothing that is done is done again, and
    nothing is lost. Files that have changed, and pictures that failed, are tried again.
    """
    need("batch", "ray", "pyarrow", "fsspec")
    from certes.apps.batch.job import Job
    from certes.apps.jobs.batch import Scale, restore_many

    asked = options.Asked(task, factor, kernel, mask, quality=quality, noise=noise)
    sampling = options.SamplingOptions(
        model, samples, steps, alpha, seed, sampler, device, colours, policy
    )
    job = Job(asked, sampling, calibration, truth, out)
    summary = restore_many(source, job, Scale(workers, batch_size, address))
    if as_json:
        show_json(summary)
    else:
        _show(summary)
    if summary["failed"]:
        raise typer.Exit(2)


def _show(summary: dict[str, Any]) -> None:
    columns = ("pictures", "done before", "failed", "PSNR, dB", "coverage", "mean width")
    row = (
        str(summary["pictures"]),
        str(summary["done_before"]),
        str(len(summary["failed"])),
        number(summary["psnr"], 2),
        number(summary["coverage"]),
        number(summary["mean_width"]),
    )
    show_table(columns, [row], words=0)
    say(f"What became of each picture is in {summary['manifest']}")
