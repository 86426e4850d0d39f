"""Counter-based uniforms and drawing from logits."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from genfast.sampling import categorical, philox4x32, uniforms


@pytest.mark.parametrize(
    ("counter", "seed", "words"),
    [  # the known answers published with the generator
        ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (
            (0xFFFFFFFF,) * 4,
            0xFFFFFFFFFFFFFFFF,
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            0x299F31D0A4093822,
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers(counter, seed, words):
    drawn = philox4x32(tuple(torch.tensor(c) for c in counter), seed)
    assert tuple(int(w) for w in drawn) == words


def test_uniforms_are_uniform_and_independent():
    u = uniforms(11, torch.arange(200_000), pixel=3, draws=6)
    assert u.min() > 0
    assert u.max() < 1
    for column in u.T:
        assert stats.kstest(column[:20_000].numpy(), "uniform").pvalue > 1e-4
    assert (torch.corrcoef(u.T) - torch.eye(6)).abs().max() < 0.01


def test_the_largest_word_stays_below_one():
    top = (torch.tensor([(0xFFFFFFFF >> 9)]).float() + 0.5) * 2.0**-23
    assert top.item() < 1


def test_every_part_of_the_key_counts():
    images = torch.tensor([0, 1, 2**32, 2**40])
    base = uniforms(1, images, 5, 5)
    assert base.unique().numel() == base.numel()
    for other in (
        uniforms(2, images, 5, 5),
        uniforms(1, images, 6, 5),
        uniforms(1 + 2**32, images, 5, 5),
    ):
        assert not torch.isin(other, base).any()
    assert torch.equal(uniforms(1, images, 5, 2), base[:, :2])
    assert torch.equal(uniforms(1, images, 5, 5, dtype=torch.float64).float(), base)


def test_categorical_inverts_the_cumulative_distribution():
    probabilities = torch.tensor([0.1, 0.0, 0.6, 0.3])
    logits = probabilities.log()
    u = torch.tensor([0.05, 0.2, 0.69, 0.71, 0.999])
    assert categorical(logits.expand(5, 4), u).tolist() == [0, 2, 2, 3, 3]
    assert categorical(logits.expand(5, 4) + 100, u).tolist() == [0, 2, 2, 3, 3]


def test_categorical_never_draws_an_impossible_level():
    logits = torch.tensor([float("-inf"), 0.0, float("-inf")])
    u = torch.tensor([1e-7, 0.5, 1 - 2.0**-24])
    assert categorical(logits.expand(3, 3), u).tolist() == [1, 1, 1]
