"""Panels are drawn for every kind of picture; they show what they are given."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from certes.errors import InputError
from certes.evaluation import panels
from certes.evaluation.panels import Scene, restoration_panel
from certes.intervals.bounds import Bounds


def bounds_around(x: torch.Tensor, half_width: float) -> Bounds:
    return Bounds((x - half_width)[None], x[None], (x + half_width)[None])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("known", [True, False])
def test_panel_is_a_png_with_room_for_all_rows(tmp_path: Path, channels: int, known: bool) -> None:
    x = torch.rand(channels, 24, 40)
    degraded = x[:, ::4, ::4]
    restoration_panel(
        tmp_path / "a.png",
        degraded,
        bounds_around(x, 0.1),
        title="a",
        truth=x if known else None,
        nominal=0.9,
    )
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"
        assert min(image.size) > 600
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_missing_pixels_are_coloured_and_shared_white_is_used() -> None:
    x = torch.full((1, 16, 16), 0.25)
    degraded = x.clone()
    degraded[0, 0, 0] = float("nan")
    scene = Scene(degraded, x, x, x, None)
    shown: dict[str, torch.Tensor] = {}

    class Axis:
        def imshow(self, colours, **_kwargs) -> None:
            shown["picture"] = torch.from_numpy(colours)

    panels._show(Axis(), degraded, scene, None)
    assert scene.white == pytest.approx(0.25)
    assert (shown["picture"][1:, 1:] == 1).all()
    assert (shown["picture"][0, 0] * 255).round().tolist() == [0x27, 0x49, 0x6D]


def test_bright_pictures_are_not_stretched() -> None:
    x = torch.linspace(0, 0.95, 256).reshape(1, 16, 16)
    assert Scene(x, x, x, x, None).white == 1


def test_detail_lies_where_the_structure_is() -> None:
    x = torch.zeros(1, 64, 96)
    x[0, 40:50, 70:80] = torch.rand(10, 10)
    box = panels._detail_box(x)
    assert box.side == 16
    assert box.top <= 40
    assert box.top + box.side >= 50
    assert box.left <= 72
    assert box.left + box.side >= 78
    assert 40 <= box.top + box.row < 50


def test_inside_counts_the_ends() -> None:
    truth = torch.tensor([0.1, 0.2, 0.5, 0.81]).reshape(1, 2, 2)
    scene = Scene(truth, truth * 0 + 0.2, truth * 0 + 0.5, truth * 0 + 0.8, truth)
    assert scene.inside.flatten().tolist() == [False, True, True, False]


def test_misses_know_their_side() -> None:
    """Grey: above, inside, below; of colours the side of most channels."""
    truth = torch.tensor([0.9, 0.5, 0.1]).reshape(1, 1, 3)
    half = torch.full_like(truth, 0.5)
    grey = Scene(truth, half - 0.2, half, half + 0.2, truth)
    assert grey.misses.tolist() == [[1, 0, -1]]
    assert ((grey.misses != 0) == ~grey.inside[0]).all()
    values = [[0.9, 0.9, 0.1, 0.5], [0.9, 0.1, 0.1, 0.5], [0.1, 0.5, 0.5, 0.5]]
    colours = torch.tensor(values).reshape(3, 1, 4)
    middle = torch.full_like(colours, 0.5)
    scene = Scene(colours, middle - 0.2, middle, middle + 0.2, colours)
    assert scene.misses.tolist() == [[1, 1, -1, 0]]


def test_legend_says_when_there_is_no_guarantee() -> None:
    x = torch.rand(1, 16, 16)
    scene = Scene(x, x, x, x, None)
    assert "carry no guarantee" in panels._legend(scene, None, line=150)
    assert panels._legend(scene, "It holds.", line=150).endswith("It holds.")


def test_wrong_shapes(tmp_path: Path) -> None:
    x = torch.rand(1, 16, 16)
    two = Bounds(torch.zeros(2, 1, 16, 16), torch.zeros(2, 1, 16, 16), torch.ones(2, 1, 16, 16))
    with pytest.raises(InputError, match="2 pictures, wanted 1"):
        restoration_panel(tmp_path / "a.png", x, two, title="a")
    with pytest.raises(InputError, match=r"truth: shape \(1, 8, 8\)"):
        restoration_panel(
            tmp_path / "a.png", x, bounds_around(x, 0.1), title="a", truth=x[:, :8, :8]
        )
    assert list(tmp_path.iterdir()) == []
