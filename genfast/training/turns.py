"""Work that several processes do in turn, its results in the order that one process would give."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from genfast.data.extras import require
from genfast.training.distributed import Processes

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_turn(
    items: Iterable[Item], work: Callable[[Item], Result], processes: Processes | None = None
) -> Iterator[Result]:
    """`work(item)` for each of `items`, item k done by process k mod world size.

    The main process gets all results, in the order of the items; the others, which must go through
    the iterator as well, get none. The results of one round are held at a time, whatever the number
    of items.

    >>> list(in_turn([1, 2, 3], lambda x: x * x))
    [1, 4, 9]
    """
    if processes is None or processes.world_size == 1:
        yield from map(work, items)
        return
    remaining = iter(items)
    while part := list(islice(remaining, processes.world_size)):
        # A list of none or one: in the last round there may be less items than processes.
        mine = [work(item) for item in part[processes.rank : processes.rank + 1]]
        gathered = processes.gather(mine)
        if gathered is not None:
            yield from (result for results in gathered for result in results)


def image_bar(total: int, what: str, shown: bool) -> Any:
    """A progress bar over images, with images/s; only where standard error is a terminal."""
    return require("tqdm").tqdm(
        total=total, desc=what, unit=" images", dynamic_ncols=True, disable=None if shown else True
    )
