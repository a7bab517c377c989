"""`evaluate` and `predict`: measure a trained reader of a set, and apply it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inr_factory.cli import terminal
from inr_factory.cli import training_options as options
from inr_factory.cli.certificate_table import print_certificate
from inr_factory.cli.shared_messages import optional_pictures
from inr_factory.cli.shared_options import DatasetFolder, Json, fetch_dataset_option
from inr_factory.reporting.number_format import format_count

if TYPE_CHECKING:
    from inr_factory.learning.training.metrics import EvaluationReport
    from inr_factory.learning.training.prediction_report import PredictionReport, ValuePredictionReport
    from inr_factory.learning.training.trained_run import TrainedRun
    from inr_factory.learning.training.value_metrics import ValueReport


def evaluate(
    run: options.Runs,
    dataset: Annotated[
        Path | None,
        typer.Option(
            help="another set of the same INRs; else the one it was trained on",
            show_default=False,
            parser=str,
            callback=fetch_dataset_option,
            metavar="DATASET",
        ),
    ] = None,
    split: options.Split = "test",
    views: Annotated[
        int, typer.Option(help="measure the first N views of each object, and their averaged prediction", min=1)
    ] = 1,
    device: options.Device = "auto",
    certify: Annotated[
        bool, typer.Option("--certify", help="instead measure what the run is invariant to, on the first view")
    ] = False,
    picture: Annotated[
        Path | None, typer.Option(help="draw confusion and calibration into this PNG", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure a trained classifier: accuracy, loss, accuracy a class and the confusion matrix; of other targets their figures.

    Several runs of the same classes are measured as one, by the mean of their probabilities.
    """
    if certify:
        print_certificate(run, dataset, split, device, as_json)
        return
    from inr_factory.learning.training.metrics import EvaluationReport
    from inr_factory.learning.training.trained_run import evaluate as evaluate_runs
    from inr_factory.learning.training.trained_run import open_run
    from inr_factory.reporting.figures import check_png

    check_png(picture)
    report = evaluate_runs(run, dataset, split, views, device)
    note_missing(report)
    if as_json:
        runs = {"run": str(run[0])} if len(run) == 1 else {"runs": list(map(str, run))}
        classes = {"classes": list(report.classes)} if isinstance(report, EvaluationReport) else {}
        terminal.print_json({**runs, "split": split, **classes, **report.metrics()})
    elif isinstance(report, EvaluationReport):
        _print_evaluation(report)
    else:
        _print_values(report)
    if picture is not None:
        with optional_pictures():
            draw_report(report, picture, open_run(run[0]), dataset, device)
            terminal.log_info(f"picture in {picture}")


def note_missing(report: "EvaluationReport | ValueReport | PredictionReport | ValuePredictionReport") -> None:
    if report.incomplete:
        terminal.log_info(
            f"missing: {format_count(report.incomplete, 'shard')} of these INRs; the result is of the others"
        )


def _print_evaluation(report: "EvaluationReport") -> None:
    terminal.print_result(
        f"{report.split} accuracy {report.percent}, loss {report.loss:.4f}, calibration error "
        f"{report.calibration_error:.3f}, of {report.count:,} INRs"
    )
    if report.object_accuracy is not None:
        terminal.print_result(
            f"accuracy {report.object_percent} of {report.objects:,} objects, each by the mean prediction of its views"
        )
    terminal.print_result("")
    rows = []
    for row in report.most_confused():
        mistaken = "{} ({})".format(*row["mistaken_for"]) if row["mistaken_for"] else "-"
        share = "-" if row["accuracy"] is None else f"{row['accuracy']:.1%}"
        rows.append((row["class"], row["count"], share, mistaken))
    terminal.print_table(["class", "INRs", "accuracy", "most often mistaken for"], rows)


def _print_values(report: "ValueReport") -> None:
    terminal.print_result(f"{report.split} {report.headline}, loss {report.loss:.4f}, of {report.count:,} INRs")
    figure = "R²" if report.mean_average_precision is None else "average precision"
    if report.object_score is not None:
        terminal.print_result(
            f"{figure} {report.object_score:.4f} of {report.objects:,} objects, each by the mean prediction of its views"
        )
    if len(report.outputs) > 1:
        rows = [
            (name, "-" if score is None else f"{score:.4f}")
            for name, score in zip(report.outputs, report.per_output, strict=True)
        ]
        terminal.print_result("")
        terminal.print_table([report.target, figure], rows)


def predict(
    run: options.Run,
    dataset: DatasetFolder,
    split: options.Split = "test",
    views: options.FirstViews = None,
    per_object: Annotated[
        bool, typer.Option("--per-object", help="average the views of each object: one row an object")
    ] = False,
    device: options.Device = "auto",
    out: Annotated[
        Path | None, typer.Option(help="CSV to write; else the table goes to stdout", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Predict the class of each INR of all views: a CSV of object, view, class, predicted class and its probability.

    A run of another target gives its values. Where the set has the truth, the accuracy or R² follows, on stderr or with --out
    on stdout.
    """
    from inr_factory.learning.training.trained_run import open_run

    report = open_run(run).predict(dataset, split, views, device)
    report = report.per_object() if per_object else report
    note_missing(report)
    table = report.to_csv(out)
    accuracy = report.score
    if as_json:
        predictions = list(report.rows())
        terminal.print_json({
            "run": str(run), "split": split, "out": out and str(out), **report.figures(),
            "predictions": predictions,
        })  # fmt: skip
    elif out is None:
        terminal.print_exact(table)
        if accuracy:
            terminal.log_info(accuracy)
    else:
        terminal.print_result(
            f"{out}: {len(report):,} {'objects' if per_object else 'INRs'}{accuracy and f', {accuracy}'}"
        )


def draw_report(
    report: "EvaluationReport | ValueReport", path: Path, run: "TrainedRun", dataset: Path | None, device: str
) -> None:
    from inr_factory.learning.training.prediction_report import ValuePredictionReport
    from inr_factory.learning.training.value_metrics import ValueReport
    from inr_factory.reporting.plots import draw_evaluation
    from inr_factory.reporting.value_plots import draw_values

    heading = f"{report.dataset}, split {report.split}: {report.headline} of {report.count:,} INRs"
    if isinstance(report, ValueReport):
        predicted = run.predict(dataset or run.dataset, report.split, 1, device)
        assert isinstance(predicted, ValuePredictionReport), "the run predicts values"
        assert predicted.true is not None, "they were evaluated"
        draw_values(predicted.true, predicted.predicted, report, path, heading)
    else:
        draw_evaluation(report.confusion, report.classes, report.calibration, path, heading)
