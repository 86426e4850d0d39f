"""`genfast sample --compare`: two methods on the same images, and what counts as agreement."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from tiny_models import NAMES, tiny
from torch import Tensor

from genfast import cli
from genfast.models.autoregressive import AutoregressiveModel
from genfast.models.autoregressive.agreement import differ_by_rounding
from genfast.sampling import uniforms
from genfast.training.comparison import RecordedDrawing, compare


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare") / "run"
    train = ["train", "gated-pixelcnn", "--channels=4", "--layers=2", "--levels=4", "--conditional"]
    assert cli.main([*train, "--max-steps=2", "--sample-every=0", f"--out={folder}"]) == 0
    return folder


@pytest.mark.parametrize("extra", [[], ["--given-rows=3"], ["--label=2", "--temperature=0.7"]])
def test_compare_prints_times_ratio_and_agreement(run: Path, tmp_path: Path, extra, capsys) -> None:
    out = tmp_path / "grid.png"
    command = ["sample", str(run), "-n", "16", "--method", "incremental", "--compare", "naive"]
    assert cli.main([*command, "--batch-size", "10", "--out", str(out), *extra]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"incremental: \d+\.\d{3} s for 16 images\n", printed)
    assert re.search(r"naive: \d+\.\d{3} s for 16 images\n", printed)
    assert re.search(r"naive takes \d+\.\d\d times as long as incremental\n", printed)
    assert printed.endswith(("the images agree in all 1024 pixels\n", "at a rounding edge\n"))
    assert out.exists()


def test_compare_fails_where_images_differ(run: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    sample = AutoregressiveModel.sample

    def wrong(self, n: int, *, method: str, seed: int, **keywords) -> Tensor:
        return sample(self, n, method=method, seed=seed + (method == "naive"), **keywords)

    monkeypatch.setattr(AutoregressiveModel, "sample", wrong)
    command = ["sample", str(run), "-n", "4", "--compare", "naive", "--out", str(tmp_path / "a.npz")]
    assert cli.main(command) == 1
    found = re.search(r"the images differ: (\d+) of 256 pixels in 4 of 4", capsys.readouterr().out)
    assert found is not None
    assert 20 < int(found[1]) < 256


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--compare", "naive", "--resume", "--out", "folder/"], "--compare: .* leave out --resume"),
        (["--method", "magic"], "argument --method: invalid choice: 'magic'"),
    ],
)
def test_mistakes_are_named(run: Path, arguments: list[str], message: str, capsys) -> None:
    try:
        code = cli.main(["sample", str(run), *arguments])
    except SystemExit as exit:
        code = exit.code
    assert code == 2
    assert re.search(message, capsys.readouterr().err)


def test_the_method_is_passed_on() -> None:
    class Recorder(torch.nn.Module):
        num_classes, image_shape, levels = 0, (1, 2, 2), 2

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.methods: list[str] = []

        def sample(self, n: int, *, method: str, **keywords) -> Tensor:
            self.methods.append(method)
            return torch.zeros(n, 1, 2, 2, dtype=torch.int64)

    model = Recorder()
    RecordedDrawing(model, method="naive").images(range(3))
    RecordedDrawing(model).images(range(3))
    assert model.methods == ["naive", "incremental"]


@pytest.mark.parametrize("name", NAMES)
def test_a_draw_across_an_edge_is_told_from_a_wrong_one(name: str) -> None:
    """Uniforms that are a little off pass as rounding, others do not."""
    model, n = tiny(name, (3, 3, 3), 16).eval(), 60
    numbers, head = torch.arange(n), model.output_head

    def drawn(move: float) -> Tensor:
        x = torch.zeros(n, 3, 3, 3, dtype=torch.int64)
        with torch.no_grad():
            for pixel in range(9):
                row, column = divmod(pixel, 3)
                moved = (uniforms(1, numbers, pixel, head.draws) + move).clamp(0, 1 - 1e-7)
                for colours in head.passes:
                    outputs = model._outputs(x)[:, :, row, column]
                    x[:, colours, row, column] = head.draw(outputs, moved, colours, 1)
        return x

    x, near, far = drawn(0), drawn(5e-4), drawn(0.3)
    assert (x != near).any(), "some uniform should lie near an edge"
    assert differ_by_rounding(model, x, near, numbers, seed=1).all()
    differs = (x != far).flatten(1).any(1)
    assert differs.float().mean() > 0.9
    assert differ_by_rounding(model, x, far, numbers, seed=1)[differs].float().mean() < 0.05


def test_nothing_drawn_is_not_compared() -> None:
    with pytest.raises(ValueError, match="nothing has been drawn"):
        compare(RecordedDrawing(tiny("pixelcnn", (1, 2, 2), 2)), "naive")
