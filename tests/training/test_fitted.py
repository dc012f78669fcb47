"""A model folder remembers its pictures; they are refused where new ones are wanted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from certes.data.bundled import bundled_pictures
from certes.data.tensors import write_tensors
from certes.errors import CalibrationError, ModelError
from certes.networks.model import bundled_models, folder_of
from certes.training.fitted import FITTED, Fitted, check_unseen

PICTURES = bundled_pictures()
REAL = [picture.pixels for picture in PICTURES]
NAMES = [picture.name for picture in PICTURES]


def test_seen_pictures_are_named_and_refused() -> None:
    fitted = Fitted.to(REAL[:2], selected=REAL[2:3])
    check_unseen(fitted, REAL[3:], NAMES[3:])
    with pytest.raises(CalibrationError) as caught:
        check_unseen(fitted, [p[:, 30:190, 30:190] for p in REAL], NAMES)
    said = str(caught.value)
    assert f"of 8 pictures, 2 served to train the model ({NAMES[0]}, {NAMES[1]})" in said
    assert f"1 served to choose the model ({NAMES[2]})" in said
    assert not any(name in said for name in NAMES[3:])
    assert "\n" not in said


def test_many_names_are_cut_short() -> None:
    fitted = Fitted.to(REAL)
    complaint = fitted.complaint(REAL, NAMES)
    assert complaint is not None
    assert f"8 served to train the model ({', '.join(NAMES[:5])}, and 3 more)" in complaint


def test_the_file_keeps_everything(tmp_path: Path) -> None:
    fitted = Fitted.to(REAL[:2], selected=REAL[2:3])
    fitted.save(tmp_path)
    again = Fitted.load(tmp_path)
    assert again is not None
    assert again.complaint(REAL, NAMES) == fitted.complaint(REAL, NAMES)
    assert again.trained.bound == fitted.trained.bound
    assert (again.trained.numbers == fitted.trained.numbers).all()
    assert [p.name for p in tmp_path.iterdir()] == [FITTED]


def test_a_model_that_goes_on_from_another_knows_the_pictures_of_both() -> None:
    both = Fitted.to(REAL[:1]) | Fitted.to(REAL[1:2], selected=REAL[2:3])
    assert [both.trained.knows(p) for p in REAL[:4]] == [True, True, False, False]
    assert [both.selected.knows(p) for p in REAL[:4]] == [False, False, True, False]
    alone = Fitted.to(REAL[:1])
    assert (alone | None) is alone


def test_a_model_without_the_file_knows_nothing_that_we_know(tmp_path: Path) -> None:
    assert Fitted.load(tmp_path) is None


@pytest.mark.parametrize(
    "tensors",
    [
        {"trained": torch.zeros(3).long()},
        {name: torch.zeros(2) for name in ("trained", "selected", "bounds")},
        {name: torch.zeros(2, 2).long() for name in ("trained", "selected", "bounds")},
        None,
    ],
)
def test_a_damaged_file_is_one_clear_line(
    tmp_path: Path, tensors: dict[str, torch.Tensor] | None
) -> None:
    if tensors is None:
        (tmp_path / FITTED).write_bytes(b"\xff" * 40)
    else:
        write_tensors(tmp_path / FITTED, tensors)
    with pytest.raises(ModelError, match=FITTED) as caught:
        Fitted.load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", bundled_models())
def test_bundled_models_say_what_they_know(name: str) -> None:
    """The bundled pictures are no training pictures of any of them."""
    fitted = Fitted.load(folder_of(name))
    assert fitted is not None
    assert len(fitted.trained.numbers) > 100_000
    assert (folder_of(name) / FITTED).stat().st_size < 1.2e6
    check_unseen(fitted, REAL, NAMES)


TRAINED = Path(__file__).parents[1] / "data/nuclei-train"


def test_the_nuclei_model_knows_its_training_pictures() -> None:
    from certes.data.patches import load_folder

    fitted = Fitted.load(folder_of("nuclei"))
    assert fitted is not None
    pictures = load_folder(TRAINED)
    assert all(fitted.trained.knows(picture) for picture in pictures)
