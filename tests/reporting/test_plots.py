"""Plots: texts are whole, the best epoch and chance are marked, and no name of a class spoils a picture."""

import numpy as np
import pytest
from support.drawn import saved_picture

from inr_factory.reporting import plots
from inr_factory.reporting.figures import REMEDY
from inr_factory.reporting.palette import COLORS

NAMES = ("cat", "T-shirt/top", "a_very_long_name_of_a_class_that_nobody_can_read", "$x^{$", "\x1b[31mred", "Käse")
HEADING = "digits, split test: accuracy 91.2% of 1,000 INRs"


def history(epochs):
    return [
        {
            "epoch": epoch, "train_loss": 2 / (epoch + 1), "val_loss": 2.2 / (epoch + 1), "lr": 1e-3,
            "val_accuracy": 0.9 - 0.1 * abs(epoch - epochs // 2),
        }
        for epoch in range(epochs)
    ]  # fmt: skip


def evaluated(count, path, names=NAMES):
    confusion = np.diag(np.full(count, 9)) + np.eye(count, k=1, dtype=int)
    bins = [(confidence, confidence, 10) for confidence in np.linspace(0.3, 0.97, 8)]
    with saved_picture() as drawn:
        plots.draw_evaluation(confusion.tolist(), [names[at % len(names)] for at in range(count)], bins, path, HEADING)
    return drawn


@pytest.mark.parametrize("count", [2, 10, 30, 300])
def test_a_confusion_matrix_of_few_and_many_classes_has_whole_names(tmp_path, count):
    drawn = evaluated(count, tmp_path / "a.png")

    assert drawn.overlaps() == []
    assert drawn.cut() == []
    assert {"true class", "predicted class", "share of the INRs of a true class, %", "accuracy, %"} <= set(drawn.words)
    assert ("the 50 of 300 classes with most errors" in " ".join(" ".join(drawn.words).split())) == (count == 300)
    assert "$x^{$" in drawn.words or count == 2


def test_cells_have_numbers_where_they_can_be_read(tmp_path):
    assert {"90", "10"} <= set(evaluated(10, tmp_path / "a.png").words)
    assert "90" not in evaluated(30, tmp_path / "a.png").words


def test_classes_without_a_font_are_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr("inr_factory.reporting.figures._drawable", lambda: frozenset(map(chr, range(32, 127))))
    drawn = evaluated(6, tmp_path / "a.png")

    assert "class 5" in drawn.words
    assert "cat" in drawn.words
    assert REMEDY in drawn.words
    assert drawn.overlaps() == []


@pytest.mark.parametrize("epochs", [1, 7, 300])
def test_curves_mark_the_best_epoch_and_chance(tmp_path, epochs):
    with saved_picture() as drawn:
        plots.draw_training(history(epochs), tmp_path / "a.png", "digits: training", chance=0.1)

    assert f"best: epoch {epochs // 2 + 1}, 90.0 %" in drawn.words
    assert "chance: 10.0 %" in drawn.words
    assert drawn.overlaps() == []
    loss, accuracy, _ = drawn.figure.axes
    stars = [line for axis in (loss, accuracy) for line in axis.lines if line.get_marker() == "*"]
    assert [star.get_xdata()[0] for star in stars] == [epochs // 2 + 1] * 2
    assert stars[0].get_ydata()[0] == pytest.approx(2.2 / (epochs // 2 + 1))
    assert stars[1].get_ydata()[0] == pytest.approx(90)


def test_without_chance_there_is_no_line_of_it(tmp_path):
    with saved_picture() as drawn:
        plots.draw_training(history(3), tmp_path / "a.png", "digits: training")
    assert not [word for word in drawn.words if "chance" in word]


@pytest.mark.parametrize("count", [1, 40])
def test_a_map_of_features_names_its_classes(tmp_path, count):
    labels = np.arange(3 * count) % count
    positions = np.random.default_rng(0).normal(size=(len(labels), 2))
    names = [f"class {number} with a name" for number in range(count)]
    with saved_picture() as drawn:
        plots.draw_pretraining(history(4), positions, labels.tolist(), names, tmp_path / "a.png", HEADING, 1 / count)

    assert f"features: a point is one of {3 * count} INRs" in drawn.words
    assert len([word for word in drawn.words if word in names]) == min(count, 21)
    assert ("19 more classes" in drawn.words) == (count == 40)
    assert drawn.overlaps() == []
    assert drawn.cut() == []


@pytest.mark.parametrize("many", [False, True])
def test_bars_have_whole_names_and_readable_numbers(tmp_path, many):
    values = {"a loader": 250_000.0 if many else 30.0, "x" * 90: 20.0, "$y$": 3.0 if many else 10.0}
    with saved_picture() as drawn:
        plots.draw_bars({"load, INRs/s\n60,000 INRs": values}, tmp_path / "a.png", "inr-factory benchmark load")

    assert drawn.overlaps() == []
    assert drawn.cut() == []
    assert "20" in drawn.words
    assert not [word for word in drawn.words if "mathdefault" in word]


def test_a_table_says_what_its_bars_and_lines_are(tmp_path):
    rows = [
        ("dws:set_layer=deepsets, views 4, mixup:match=permutation, no canonical", 41.0, 2.0, 50.0),
        ("mlp", 9.0, 0.0, None),
    ]
    with saved_picture() as drawn:
        plots.draw_table(rows, tmp_path / "a.png", "sweep")

    assert {"published", "test accuracy, %; lines: standard deviation over seeds", "mlp"} <= set(drawn.words)
    assert drawn.overlaps() == []
    assert drawn.cut() == []


def test_labels_of_points_do_not_cover_each_other(tmp_path):
    series = [
        plots.Series(f"adam {at}", ((9.0, 60.0 + at / 9, 1.0), (90.0, 61.0, 1.0)), ("30", "all")) for at in range(12)
    ]
    with saved_picture() as drawn:
        plots.draw_trade(series, tmp_path / "a.png", "accuracy and cost", "ms an INR", "optimizer")

    axis = drawn.figure.axes[0]
    assert 2 <= len(axis.texts) < 24
    assert drawn.overlaps() == []
    assert len({line.get_color() for line in axis.lines}) == len(COLORS)


def test_spreads_name_their_sets(tmp_path):
    spreads = {"A: digits": ((0.1, 0.2, 0.3), (0.01, 0.1, 0.2)), "B: $x": ((0.3, 0.1), (0.1, 0.2))}
    with saved_picture() as drawn:
        plots.draw_spreads(spreads, tmp_path / "a.png", "standard deviation")

    assert {*spreads, "weights", "biases", "layer 2"} <= set(drawn.words)
    assert drawn.overlaps() == []
