"""Nearest neighbours in Euclidean distance: FAISS behind one small interface, and torch by brute force.

FAISS is imported after torch and only here: imported first it has made GPU results much worse, and
crashed (facebookresearch/faiss #2126, #3401). Vectors are centred, since FAISS expands squares (#297).
The GPU part was never run on a GPU.
"""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: Scratch memory of FAISS on a GPU; its default is 1.5 GiB beside torch's allocator.
_GPU_BYTES = 256 * 2**20


class NeighbourIndex:
    """Rows of vectors (N, D), searched for the k nearest to queries; rows can be replaced.

    Args:
        kind: "flat" or "ivf" (FAISS), "torch".
        device: where vectors and queries are. FAISS searches on this GPU if it sees one, else on CPUs.

    Raises:
        ModuleNotFoundError: FAISS is asked for and not installed.

    >>> index = NeighbourIndex("torch", torch.device("cpu"))
    >>> index.build(torch.tensor([[0.0], [5.0], [7.0]]))
    >>> index.search(torch.tensor([[6.2]]), k=2)[1]
    tensor([[2, 1]])
    """

    def __init__(self, kind: str, device: torch.device) -> None:
        self.kind, self.device = kind, device
        self._faiss: Any = None if kind == "torch" else _import_faiss()
        self._on_gpu = bool(
            self._faiss and device.type == "cuda" and getattr(self._faiss, "get_num_gpus", int)() > 0
        )
        if self._on_gpu and kind == "ivf":
            raise ValueError("index: 'ivf' is searched on CPUs only; take 'flat' on a GPU")
        self._index: Any = None
        self._count = 0
        #: What vectors are centred by, (D,): their mean when they were built.
        self.centre = torch.zeros(0)

    def build(
        self, vectors: Tensor, centre: Tensor | None = None, centroids: Tensor | None = None
    ) -> None:
        """Take these vectors (N, D), fp32, for all there were.

        With the `centre` and, of the kind "ivf", the `centroids` of an earlier `build` whose vectors
        were replaced by these, searches give what they would give there.
        """
        self._count, dims = vectors.shape
        if centre is None:
            centre = vectors.mean(0) if self._count else vectors.new_zeros(dims)
        self.centre = centre
        centred = vectors - centre
        if self.kind == "torch" or self._on_gpu:
            self._vectors = centred
        if self._on_gpu:
            self._index = self._gpu_flat(dims)
            self._index.add(centred)
        elif self.kind != "torch":
            self._index = self._faiss.IndexFlatL2(dims)
            if self.kind == "ivf":
                self._index = self._inverted_lists(self._index, _array(centred), centroids)
            self._index.add(_array(centred))
            if self.kind == "ivf":
                self._index.make_direct_map()

    @property
    def centroids(self) -> Tensor | None:
        """Of the kind "ivf" the centres of its lists (L, D), relative to the mean; else None."""
        if self.kind != "ivf" or self._index is None:
            return None
        flat = self._faiss.downcast_index(self._index.quantizer)
        return torch.from_numpy(flat.reconstruct_n(0, flat.ntotal))

    def replace(self, rows: Tensor, vectors: Tensor) -> None:
        """Set the vectors at `rows` (n,) int64 to `vectors` (n, D)."""
        if not len(rows):
            return
        centred = vectors - self.centre
        if self.kind == "torch" or self._on_gpu:
            self._vectors[rows] = centred
        if self._on_gpu:
            self._index.reset()
            self._index.add(self._vectors)
        elif self.kind == "flat":
            shape = self._count, len(self.centre)
            stored = self._faiss.rev_swig_ptr(self._index.get_xb(), shape[0] * shape[1])
            stored.reshape(shape)[rows.cpu().numpy()] = _array(centred)
        elif self.kind == "ivf":
            self._index.update_vectors(rows.cpu().numpy(), _array(centred))

    def search(self, queries: Tensor, k: int, within: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The k nearest rows of each query: squared distances (B, k) and rows (B, k), nearest first.

        `within` (M,) int64 are the rows to search, all unless given. Where there are less than k, the
        distance is inf and the row -1.
        """
        centred = queries - self.centre
        there = self._count if within is None else len(within)
        found = min(k, there)
        distances = queries.new_full((len(queries), k), torch.inf)
        rows = torch.full((len(queries), k), -1, dtype=torch.int64, device=queries.device)
        if found and len(queries):
            near, at = self._search(centred, found, within)
            distances[:, :found], rows[:, :found] = near, at
        return distances, rows

    def _search(self, queries: Tensor, k: int, within: Tensor | None) -> tuple[Tensor, Tensor]:
        if self.kind == "torch" or (self._on_gpu and within is not None):
            return _brute_force(queries, self._vectors, k, within)
        if self._on_gpu:
            near, at = self._index.search(queries.contiguous(), k)
            return near, at
        # FAISS has threads of its own: as many as torch.
        self._faiss.omp_set_num_threads(torch.get_num_threads())
        near, at = self._index.search(_array(queries), k, params=self._parameters(within))
        distances, rows = (torch.from_numpy(values).to(self.device) for values in (near, at))
        return distances.where(rows >= 0, torch.inf), rows

    def _parameters(self, within: Tensor | None) -> Any:
        given = {}
        if within is not None:
            searched = np.zeros(self._count, dtype=bool)
            searched[within.cpu().numpy()] = True
            self._searched = np.packbits(searched, bitorder="little")  # FAISS does not keep it alive
            given["sel"] = self._faiss.IDSelectorBitmap(self._searched)
        if self.kind == "ivf":
            return self._faiss.SearchParametersIVF(nprobe=self._probes, **given)
        return self._faiss.SearchParameters(**given) if given else None

    def _inverted_lists(
        self, coarse: Any, vectors: np.ndarray[Any, Any], centroids: Tensor | None
    ) -> Any:
        """About sqrt(N) lists, of which a search looks into one in eight (at least eight)."""
        count, dims = vectors.shape
        lists = max(1, min(round(count**0.5), count // 39)) if centroids is None else len(centroids)
        self._probes = min(lists, max(8, lists // 8))
        index = self._faiss.IndexIVFFlat(coarse, dims, lists)
        if centroids is None:
            index.train(vectors)
        else:
            coarse.add(_array(centroids))
            index.is_trained = True
        self._coarse = coarse  # FAISS does not keep it alive
        return index

    def _gpu_flat(self, dims: int) -> Any:
        faiss = self._faiss
        importlib.import_module("faiss.contrib.torch_utils")  # search and add then take CUDA tensors

        self._resources = faiss.StandardGpuResources()
        self._resources.setTempMemory(_GPU_BYTES)
        # On the stream of this very device: torch's current device may be another one.
        stream = torch.cuda.current_stream(self.device).cuda_stream
        number = self.device.index or 0
        self._resources.setDefaultStream(number, stream)
        settings = faiss.GpuIndexFlatConfig()
        settings.device = number
        return faiss.GpuIndexFlatL2(self._resources, dims, settings)


def _import_faiss() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of the types that SWIG makes
            import faiss
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'faiss is not installed: pip install "genfast[faiss]", or search by brute force with '
            "index='torch'",
            name="faiss",
        ) from error
    return faiss


def _array(vectors: Tensor) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(vectors.detach().cpu().numpy(), dtype=np.float32)


def _brute_force(
    queries: Tensor, vectors: Tensor, k: int, within: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Through a matrix of queries x vectors, in parts of at most 64 MB."""
    searched = vectors if within is None else vectors[within]
    norms = searched.square().sum(1)
    parts = []
    for part in queries.split(max(1, 2**24 // max(1, len(searched)))):
        distances = torch.addmm(norms, part, searched.T, alpha=-2) + part.square().sum(1, keepdim=True)
        parts.append(distances.clamp_(min=0).topk(k, largest=False))
    near = torch.cat([part.values for part in parts])
    rows = torch.cat([part.indices for part in parts])
    return near, rows if within is None else within[rows]
