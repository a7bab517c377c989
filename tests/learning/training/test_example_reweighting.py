"""Reweighting: examples whose losses stay high count less, and nothing else changes."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from inr_factory.errors import UsageError
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec
from inr_factory.learning.models.classifier import build_classifier
from inr_factory.learning.training.example_reweighting import (
    ExampleWeights,
    MultiplicativeReweighting,
    losses_of,
    parse_reweighting,
)

SPEC = SirenSpec(2, 1, hidden_dim=4)


def test_weights_are_the_softmax_of_summed_losses_times_their_number():
    examples = ExampleWeights(MultiplicativeReweighting(eta=0.5), 4)
    examples.add(torch.tensor([0.0, 1.0, 2.0, 3.0]))
    examples.add(torch.tensor([0.0, 0.0, 0.0, 3.0]))

    weights = examples.option.weights(examples.losses_M)

    expected = np.exp(-0.5 * np.array([0, 1, 2, 6]))
    torch.testing.assert_close(weights, torch.from_numpy(4 * expected / expected.sum()))


def test_the_mean_loss_of_weighed_targets_is_the_weighted_mean_of_losses(generator):
    logits = torch.randn(5, 3, generator=generator)
    targets = torch.rand(5, 3, generator=generator).softmax(1)
    examples = ExampleWeights(MultiplicativeReweighting(eta=1.0), 9)
    examples.add(torch.rand(9, generator=generator))
    rows = np.array([8, 0, 3, 4, 1])

    found = F.cross_entropy(logits, examples.weigh(targets, rows))

    w = examples.option.weights(examples.losses_M)[torch.from_numpy(rows)].float()
    losses = F.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(found, (w * losses).sum() / w.sum())
    assert not torch.allclose(found, losses.mean())


def test_without_losses_all_count_alike(generator):
    targets = torch.rand(3, 2, generator=generator)
    fresh = ExampleWeights(MultiplicativeReweighting(), 3)
    torch.testing.assert_close(fresh.weigh(targets, np.arange(3)), targets)


def test_a_cap_bounds_the_largest():
    weights = MultiplicativeReweighting(eta=1, cap=1.5).weights(torch.tensor([0.0, 9.0, 9.0]))
    assert float(weights.max()) == 1.5


def test_losses_are_those_of_evaluation_in_order():
    model = build_classifier("dws", SPEC, 3, hidden_dim=4, dropout=0.5).train()
    inrs, targets = initialize(SPEC, range(5)), F.one_hot(torch.arange(5) % 3, 3).float()

    found = losses_of(
        model, [(inrs.select(slice(0, 3)), targets[:3]), (inrs.select(slice(3, 5)), targets[3:])], model.device
    )

    assert model.training
    torch.testing.assert_close(found, F.cross_entropy(model.eval()(inrs), targets, reduction="none"), atol=1e-6, rtol=0)


def test_it_is_written_as_it_is_read():
    assert str(parse_reweighting("mr:eta=0.1")) == "mr:eta=0.1,cap=0.0"
    with pytest.raises(UsageError, match="eta must be a number"):
        parse_reweighting("mr:eta=-1")
