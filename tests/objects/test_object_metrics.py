"""FG-ARI, ARI and mIoU against hand values and a brute-force count of pairs."""

import itertools

import pytest
import torch

from smerf.objects.training.metrics import (
    adjusted_rand,
    contingency,
    foreground_ari,
    mean_iou,
    segmentation_scores,
)


def rand_by_pairs(a, b):
    """Count pairs of points one by one: the definition of Hubert and Arabie."""
    both = first = second = 0
    pairs = list(itertools.combinations(range(len(a)), 2))
    for i, j in pairs:
        both += a[i] == a[j] and b[i] == b[j]
        first += a[i] == a[j]
        second += b[i] == b[j]
    expected = first * second / len(pairs)
    return (both - expected) / ((first + second) / 2 - expected)


@pytest.mark.parametrize("seed", range(5))
def test_ari_is_what_counting_pairs_gives(seed):
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randint(n, (40,), generator=generator) for n in (3, 4))
    assert adjusted_rand(a, b) == pytest.approx(rand_by_pairs(a.tolist(), b.tolist()), abs=1e-12)
    kept = a > 0
    expected = rand_by_pairs(a[kept].tolist(), b[kept].tolist())
    assert foreground_ari(a, b) == pytest.approx(expected, abs=1e-12)


# Labels, and what scikit-learn 1.9.1 gives for them, with every point and with those of true label above 0:
#     pairs = list(zip(truth, predicted))
#     sklearn.metrics.adjusted_rand_score(*zip(*pairs))
#     sklearn.metrics.adjusted_rand_score(*zip(*[pair for pair in pairs if pair[0] > 0]))
GOLDEN = [
    ([0, 0, 1, 2], [0, 0, 1, 1], 0.5714285714285714, 0.0),
    ([0, 0, 1, 1], [0, 1, 0, 1], -0.5, 0.0),
    ([0, 0, 0, 1, 1, 1, 2, 2, 2, 2], [1, 1, 0, 0, 0, 3, 2, 2, 2, 3], 0.3644067796610169, 0.38235294117647056),
    ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], 1.0, 1.0),
    ([0, 1, 2, 3, 4], [0, 0, 0, 0, 0], 0.0, 0.0),
    ([i * i % 7 for i in range(100)], [i % 5 for i in range(100)], -0.03254405061370282, -0.03049070986183897),
    ([i // 20 for i in range(100)], [i // 15 for i in range(100)], 0.5790349417637272, 0.560840024706609),
    ([i // 256 for i in range(4096)], [(i + 37) // 300 for i in range(4096)], 0.6712343927861781, 0.6504205727439633),
]  # fmt: skip


@pytest.mark.parametrize(("truth", "predicted", "ari", "foreground"), GOLDEN)
def test_values_of_scikit_learn(truth, predicted, ari, foreground):
    truth, predicted = torch.tensor(truth), torch.tensor(predicted)
    assert adjusted_rand(truth, predicted) == pytest.approx(ari, abs=1e-12)
    assert foreground_ari(truth, predicted) == pytest.approx(foreground, abs=1e-12)


def test_equal_and_renamed_partitions_score_one():
    truth = torch.tensor([0, 1, 1, 2, 2, 3, 0, 3])
    assert adjusted_rand(truth, truth) == 1.0
    assert foreground_ari(truth, torch.tensor([5, 0, 0, 7, 7, 2, 1, 2])) == 1.0


def test_one_slot_for_everything_scores_zero_and_chance_near_zero():
    truth = torch.tensor([0, 0, 1, 1, 2, 2])
    assert foreground_ari(truth, torch.zeros(6, dtype=torch.long)) == 0.0
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(5, (20_000,), generator=generator) for _ in range(2))
    assert abs(adjusted_rand(a, b)) < 0.01


def test_edges():
    one = torch.ones(4, dtype=torch.long)
    assert foreground_ari(one, one) == 1.0
    assert foreground_ari(torch.zeros(4, dtype=torch.long), one) is None
    assert foreground_ari(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1])) is None
    assert mean_iou(torch.zeros(4, dtype=torch.long), one) is None
    with pytest.raises(ValueError, match="one shape"):
        contingency(one, one[:2])


def test_background_may_be_split_in_fg_ari_but_not_in_ari():
    truth = torch.tensor([0] * 8 + [1] * 4 + [2] * 4)
    predicted = torch.tensor([0] * 4 + [3] * 4 + [1] * 4 + [2] * 4)
    assert foreground_ari(truth, predicted) == 1.0 and adjusted_rand(truth, predicted) < 0.9


def test_an_object_must_keep_its_slot_from_view_to_view():
    view = torch.tensor([[1, 1, 2, 2]])
    same, swapped = torch.tensor([[0, 0, 1, 1]]), torch.tensor([[1, 1, 0, 0]])
    truth = torch.stack([view, view], 1)
    assert segmentation_scores(truth, torch.stack([same, same], 1))["fg_ari"] == 1.0
    assert segmentation_scores(truth, torch.stack([same, swapped], 1))["fg_ari"] < 0.5


def test_overlap_is_matched_one_to_one():
    truth = torch.tensor([0, 0, 1, 1, 1, 1, 2, 2])
    predicted = torch.tensor([0, 0, 1, 1, 1, 2, 2, 2])
    assert mean_iou(truth, predicted) == pytest.approx((3 / 4 + 2 / 3) / 2)
    assert mean_iou(truth, torch.zeros(8, dtype=torch.long)) == pytest.approx((4 / 8) / 2)
