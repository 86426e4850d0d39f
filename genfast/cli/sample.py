"""`genfast sample RUN`: images drawn from a trained model."""

from __future__ import annotations

import argparse
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genfast.cli.exit_codes import DISAGREE

if TYPE_CHECKING:
    from genfast.training.distributed import Processes
    from genfast.training.rejection import Choice
    from genfast.training.samples import Drawing

METHODS = ("incremental", "naive")
_FORMS = {".png": "grid", ".npz": "npz", "": "files"}


def run(
    run: Path,
    n: int,
    start: int,
    out: str,
    batch_size: int,
    device: str,
    resume: bool,
    compare: str | None,
    rejection: Choice | None,
    **settings: Any,
) -> int:
    from genfast.training.comparison import RecordedDrawing
    from genfast.training.comparison import compare as compared
    from genfast.training.distributed import Processes
    from genfast.training.sample_files import check_grid
    from genfast.training.samples import Drawing

    for flag, value, least in (("-n", n, 1), ("--start", start, 0), ("--batch-size", batch_size, 1)):
        if value < least:
            raise ValueError(f"{flag}: must be {least} or more, got {value}")
    form = _form(out)
    if resume and form != "files":
        raise ValueError(f"--resume: goes on with a folder of single files only, got --out {out}")
    if compare and resume:
        raise ValueError("--compare: compares the images drawn now; leave out --resume")
    if form == "grid":
        check_grid(n)
    if rejection:
        return _by_rejection(run, rejection, n, out, form, batch_size, device, **settings)
    with Processes.from_environment(device) as processes:
        if compare and processes.world_size > 1:
            raise ValueError(f"--compare: takes one process, got {processes.world_size}")
        kind = RecordedDrawing if compare else Drawing
        drawing = _drawing(kind, run, processes, **settings)
        drawn = _save(form, Path(out), drawing, range(start, start + n), batch_size, resume, processes)
        if processes.is_main:
            there = f" ({n - drawn} of them were there)" if drawn < n else ""
            print(f"{n} samples{there}: {out}")
        if compare and isinstance(drawing, RecordedDrawing):
            comparison = compared(drawing, compare)
            print(comparison.describe())
            return 0 if comparison.agree else DISAGREE
    return 0


def _by_rejection(
    run: Path,
    choice: Choice,
    n: int,
    out: str,
    form: str,
    batch_size: int,
    device: str,
    seed: int,
    best: bool,
    data_dir: str | None,
    **others: Any,
) -> int:
    from genfast.training import BEST, CHECKPOINT, open_run
    from genfast.training.distributed import Processes
    from genfast.training.rejection import save_by_rejection

    if form != "grid":
        raise ValueError(f"--rejection: draws a picture, so --out must end in .png, got {out}")
    moved = {} if data_dir is None else {"data_dir": data_dir}
    model = open_run(run, file=BEST if best else CHECKPOINT, **moved).model
    processes = Processes.alone(device)
    said = save_by_rejection(
        out, model.to(processes.device), choice, n, seed=seed, batch_size=batch_size
    )
    print(f"{said}: {out}")
    return 0


def _form(out: str) -> str:
    """What to write: a folder by its closing slash, by being there or by having no suffix."""
    is_folder = out.endswith("/") or Path(out).is_dir()
    suffix = "" if is_folder else Path(out).suffix.lower()
    if suffix not in _FORMS:
        raise ValueError(f"--out: must end in .png, .npz or (a folder) in /, got {out}")
    return _FORMS[suffix]


def _drawing(
    kind: type[Drawing],
    run: Path,
    processes: Processes,
    best: bool,
    data_dir: str | None,
    given_rows: int | None,
    **settings: Any,
) -> Drawing:
    from genfast.models.adversarial import TranslationModel
    from genfast.training import BEST, CHECKPOINT, open_run

    moved = {} if data_dir is None else {"data_dir": data_dir}
    opened = open_run(run, file=BEST if best else CHECKPOINT, **moved)
    if isinstance(opened.model, TranslationModel):
        settings.update(given=opened.load_data().test, given_rows=given_rows or 0)
    elif given_rows is not None:
        settings.update(given=opened.load_data().test, given_rows=given_rows)
    try:
        return kind(opened.model.to(processes.device), **settings)
    except ValueError as error:  # begins with the name of the setting
        name, _, message = str(error).partition(":")
        if name == "model":
            raise
        raise ValueError(f"--{name.replace('_', '-')}:{message}") from error


def _save(
    form: str,
    out: Path,
    drawing: Drawing,
    numbers: range,
    batch_size: int,
    resume: bool,
    processes: Processes,
) -> int:
    """Draw and write -> how many images were drawn."""
    from genfast.training import sample_files as files

    ranges = [numbers]
    if form == "files":
        ranges = processes.on_main(lambda: files.open_folder(out, drawing, numbers, resume=resume))
    batches = drawing.batches(ranges, batch_size, processes, progress=True)
    if not processes.is_main:
        deque(batches, maxlen=0)  # draws, for the main process to write
    elif form == "files":
        files.save_files(out, drawing, batches)
    else:
        save = files.save_grid if form == "grid" else files.save_npz
        save(out, drawing, numbers, batches)
    return sum(map(len, ranges))


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of the command."""
    parser.set_defaults(command=run)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a training run")
    parser.add_argument("-n", type=int, default=64, help="number of images (64)")
    parser.add_argument("--start", type=int, default=0, help="number of the first image (0)")
    parser.add_argument(
        "--out",
        default="grid.png",
        help=".png: one picture; .npz: an array; FOLDER/: a PNG an image (grid.png)",
    )
    parser.add_argument("--resume", action="store_true", help="draw what the folder --out lacks")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws (0)")
    parser.add_argument("--temperature", type=float, default=1.0, help="below 1: likelier (1.0)")
    parser.add_argument("--label", type=int, help="only this class, for a conditional model")
    parser.add_argument(
        "--given-rows", type=int, metavar="K", help="complete test images from their first K rows"
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        default="incremental",
        help="incremental computes every activation once, naive again for every pixel (incremental)",
    )
    parser.add_argument(
        "--compare",
        choices=METHODS,
        help="draw the images by this method too: prints both times and whether the images agree",
    )
    parser.add_argument(
        "--rejection",
        choices=("accepted", "extremes"),
        help="a GAN's images that its discriminator accepts; or those that it likes most, above those "
        "that it likes least",
    )
    parser.add_argument("--best", action="store_true", help="the weights that early stopping found best")
    parser.add_argument("--data-dir", help="folder of the data, if it has moved")
    parser.add_argument("--batch-size", type=int, default=64, help="images at a time (64)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (auto)")
