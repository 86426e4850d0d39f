"""Pictures of what a trained GAN's discriminator accepts: the command, and the order of the extremes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genfast.cli import main
from genfast.models import DCGAN
from genfast.training.rejection import extremes


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "gan"
    command = "train gan --data digits --hidden 32 --max-steps 30 --batch-size 64 --device cpu --out"
    assert main([*command.split(), str(run)]) == 0
    return run


def test_the_extremes_are_those_of_all_proposals() -> None:
    torch.manual_seed(0)
    model = DCGAN((1, 8, 8), levels=17, width=4, latent_dim=6).train()
    highest, lowest = extremes(model, 3, batch_size=37)
    assert model.training
    model.eval()
    with torch.no_grad():
        logits = model.logits(model.generate(model.latents(300)))
        best, worst = logits.sort(descending=True).values[:3], logits.sort().values[:3]
        assert torch.allclose(model.logits(highest), best, atol=1e-5)
        assert torch.allclose(model.logits(lowest), worst, atol=1e-5)


@pytest.mark.parametrize("choice", ["accepted", "extremes"])
def test_the_command(
    trained: Path, tmp_path: Path, choice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = []
    for seed in ("0", "0", "1"):
        out = tmp_path / f"{len(pictures)}.png"
        command = ["sample", str(trained), "-n", "16", "--rejection", choice, "--seed", seed]
        assert main([*command, "--out", str(out), "--device", "cpu"]) == 0
        pictures.append(np.asarray(Image.open(out)))
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])
    said = capsys.readouterr().out
    assert {"accepted": "of the proposals", "extremes": "most and least"}[choice] in said


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--rejection", "extremes", "-n", "3"], "-n: must be even"),
        (["--rejection", "accepted", "--out", "x.npz"], "--rejection: draws a picture"),
    ],
)
def test_what_is_refused(
    trained: Path, flags: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", str(trained), "--device", "cpu", *flags]) != 0
    assert says in capsys.readouterr().err
