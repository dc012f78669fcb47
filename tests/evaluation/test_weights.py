"""The weights of Inception come from a file of the user's, and say whose scores they make."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor

from certes.errors import InputError, ModelError
from certes.evaluation import weights
from certes.evaluation.features import to_bytes
from certes.evaluation.inception import Inception
from certes.evaluation.weights import inception_features, is_script, script_features

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


class Detector(torch.nn.Module):
    """The signature of the archive that has the Inception network inside."""

    def forward(self, img: Tensor, return_features: bool = False) -> Tensor:
        sums = img.float().mean(dim=(2, 3))
        return sums if return_features else sums.softmax(dim=1)


class Means(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


def archive(path: Path, network: torch.nn.Module) -> Path:
    torch.jit.script(network).save(str(path))
    return path


def test_without_a_file_the_error_says_where_to_get_it() -> None:
    with pytest.raises(
        InputError, match=r"pt_inception-2015-12-05-6726825d\.pth \(https://.*--weights"
    ):
        inception_features(None, "cpu")
    with pytest.raises(ModelError, match="nowhere is no file"):
        inception_features("nowhere", "cpu")


def test_a_file_of_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net = Inception().eval()
    path = tmp_path / "mine.pth"
    torch.save(net.state_dict(), path)
    grey = torch.rand(2, 1, 16, 16)
    network = inception_features(path, "cpu")
    assert (network.name, network.published) == ("Inception with the weights of mine.pth", False)
    seen = network(grey)
    with torch.no_grad():
        pooled, maps, logits = net(to_bytes(grey).float().expand(-1, 3, -1, -1))
    torch.testing.assert_close(seen.vectors, pooled)
    torch.testing.assert_close(seen.logits, logits)
    torch.testing.assert_close(seen.spatial, maps[:, :7].flatten(1))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(weights, "PUBLISHED", {digest: ("mine.pth", "here")})
    assert inception_features(path, "cpu").published
    assert inception_features(path, "cpu").name == "Inception"
    path.unlink()  # as large as the real file


def test_files_that_hold_something_else(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match="holds another network than Inception"):
        inception_features(tmp_path / "other.pth", "cpu")
    (tmp_path / "noise.pth").write_bytes(b"no weights at all" * 50)
    with pytest.raises(ModelError, match="damaged or holds no weights"):
        inception_features(tmp_path / "noise.pth", "cpu")
    with pytest.raises(ModelError, match="no TorchScript archive"):
        script_features(tmp_path / "other.pth", "cpu")


def test_an_archive_sees_bytes_and_is_asked_for_features(tmp_path: Path) -> None:
    path = archive(tmp_path / "detector.pt", Detector())
    assert is_script(path)
    grey = torch.rand(2, 1, 8, 8)
    seen = inception_features(path, "cpu")(grey)
    expected = to_bytes(grey).float().mean(dim=(2, 3)).expand(-1, 3)
    torch.testing.assert_close(seen.vectors, expected)
    assert (seen.spatial, seen.logits) == (None, None)


def test_an_archive_of_any_network_sees_pictures_as_they_are(tmp_path: Path) -> None:
    path = archive(tmp_path / "means.pt", Means())
    grey = torch.rand(2, 1, 8, 8)
    network = script_features(path, "cpu")
    assert (network.name, network.published) == ("means.pt", False)
    torch.testing.assert_close(network(grey).vectors, grey.mean(dim=(2, 3)).expand(-1, 3))
    with pytest.raises(ModelError, match="does not know return_features"):
        inception_features(path, "cpu")


def test_a_truncated_archive(tmp_path: Path) -> None:
    path = archive(tmp_path / "means.pt", Means())
    import zipfile

    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(tmp_path / "half.pt", "w") as half:
        for name in whole.namelist():
            if name.endswith(("constants.pkl", "version")):
                half.writestr(name, whole.read(name))
    with pytest.raises(ModelError, match=r"half\.pt is damaged"):
        script_features(tmp_path / "half.pt", "cpu")
