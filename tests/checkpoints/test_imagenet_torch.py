"""ImageNet weights of torchvision and timm: the libraries' own features come out.

Needs the extra `torch`, and a process into which nothing has loaded TensorFlow: run it by itself,
`make test ARGS=tests/checkpoints/test_imagenet_torch.py`.
"""

from __future__ import annotations

import sys

import numpy as np
import pytest
from backbone_features import IMAGES, own_features

from rt1_jax.checkpoints import imagenet
from rt1_jax.checkpoints.native import CheckpointError

INSTALL = "not installed: pip install '.[torch]'"


@pytest.fixture
def torch():
    """PyTorch; the test is skipped where it is not installed or cannot be used."""
    if "tensorflow" in sys.modules and "torchvision" not in sys.modules:
        pytest.skip("importing torchvision after TensorFlow crashes: run this file by itself")
    return pytest.importorskip("torch", reason=INSTALL)


def randomize(torch, model):
    generator = torch.Generator().manual_seed(0)
    for name, value in model.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith(("running_mean", "bias")):
            value.normal_(0, 0.1, generator=generator)
    return model.eval()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_torchvision(torch, tmp_path, suffix):
    torchvision = pytest.importorskip("torchvision", reason=INSTALL)
    model = randomize(torch, torchvision.models.efficientnet_b3(weights=None, num_classes=5))
    path = tmp_path / f"b3{suffix}"
    if suffix == ".pth":
        torch.save(model.state_dict(), path)
    else:
        pytest.importorskip("safetensors.torch", reason=INSTALL).save_file(model.state_dict(), path)
    backbone = imagenet.read_imagenet(path)
    assert backbone.source == "torchvision"
    with torch.no_grad():
        features = model.features(torch.from_numpy(IMAGES.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(
        own_features(backbone), features.numpy().transpose(0, 2, 3, 1), atol=2e-4
    )


@pytest.mark.parametrize(
    ("name", "source"), [("efficientnet_b3", "timm"), ("tf_efficientnet_b3", "timm_tf")]
)
def test_timm(torch, tmp_path, name, source):
    timm = pytest.importorskip("timm", reason=INSTALL)
    model = randomize(torch, timm.create_model(name, pretrained=False, num_classes=5))
    path = tmp_path / "b3.pth"
    torch.save(model.state_dict(), path)
    backbone = imagenet.read_imagenet(path, source)
    with torch.no_grad():
        features = model.forward_features(torch.from_numpy(IMAGES.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(
        own_features(backbone), features.numpy().transpose(0, 2, 3, 1), atol=2e-4
    )


def test_a_pickle_that_runs_code_is_refused(torch, tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save({"conv_stem.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match="cannot be read"):
        imagenet.read_imagenet(tmp_path / "evil.pth")
