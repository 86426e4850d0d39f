"""Progress bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int], object]


@contextmanager
def progress_of(progress: bool | Advance, n: int) -> Iterator[Advance]:
    """What to call with every advance towards n: the function given, or a bar if True."""
    if callable(progress):
        yield progress
    elif not progress:
        yield lambda _: None
    else:
        try:
            from tqdm.auto import tqdm
        except ImportError as error:
            raise ImportError('a progress bar needs tqdm: pip install "genfast[train]"') from error
        with tqdm(total=n, unit="sample") as bar:
            yield bar.update
