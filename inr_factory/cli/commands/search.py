"""`search`: the INRs nearest to a query, or how well features retrieve, on stdout and as a page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inr_factory.cli import terminal
from inr_factory.cli import training_options as options
from inr_factory.cli.progress_bars import RowProgress
from inr_factory.cli.shared_options import DatasetFolder, Json
from inr_factory.reporting.number_format import format_count

if TYPE_CHECKING:
    from inr_factory.learning.training.retrieval import Scores
    from inr_factory.learning.training.search import RetrievalReport, SearchReport


def search(
    run: options.Features,
    dataset: DatasetFolder,
    query: Annotated[
        str | None,
        typer.Argument(
            help="object, as NAME or NAME@VIEW, or an image file; else scores of all INRs as queries",
            show_default=False,
            metavar="[QUERY]",
        ),
    ] = None,
    k: Annotated[int, typer.Option(help="number of neighbours", min=1)] = 10,
    split: options.Split = "test",
    gallery: Annotated[
        str | None, typer.Option(help="search this split; else that of --split", show_default=False)
    ] = None,
    views: options.FirstViews = None,
    same_object: Annotated[
        bool, typer.Option("--same-object", help="also find other views of the query's object")
    ] = False,
    page: Annotated[
        Path | None, typer.Option(help="HTML file of pictures to write, of queries and neighbours", show_default=False)
    ] = None,
    device: options.Device = "auto",
    as_json: Json = False,
) -> None:
    """Find the INRs nearest to an object or an image, by the features of a run; without QUERY, measure retrieval."""
    from inr_factory.learning.training.search import RetrievalReport
    from inr_factory.reporting.search_dataset import search as search_dataset

    with RowProgress(f"search {gallery or split}") as progress:
        report = search_dataset(
            run, dataset, query, k=k, split=split, gallery=gallery, views=views, same_object=same_object, page=page,
            device=device, on_batch=progress,
        )  # fmt: skip
    if report.incomplete:
        terminal.log_info(
            f"missing: {format_count(report.incomplete, 'shard')} of these INRs; the result is of the others"
        )
    if as_json:
        terminal.print_json({"run": run, "page": page and str(page), **report.to_fields()})
        return
    if isinstance(report, RetrievalReport):
        _print_scores(report)
    else:
        _print_neighbours(report)
    if page is not None:
        terminal.print_result(f"page: {page}")


def _print_neighbours(report: "SearchReport") -> None:
    known = f", {report.class_name}, view {report.view}" if report.class_name else ""
    terminal.print_result(
        f"{report.query}{known}: nearest of {report.searched:,} INRs of {report.split} by {report.features}"
    )
    rows = [(one.object_id, one.view, one.class_name or "-", f"{one.similarity:.3f}") for one in report.neighbours]
    terminal.print_table(["object", "view", "class", "similarity"], rows)


def _print_scores(report: "RetrievalReport") -> None:
    searched = f"{report.searched:,} of {report.gallery}" if report.gallery != report.split else "each other"
    terminal.print_result(f"{report.queries:,} INRs of {report.split}, searched among {searched}")
    columns = [
        "features",
        f"mAP@{report.k}",
        "mAP, all",
        "precision@1",
        f"other views, mAP@{report.k}",
        "what they are",
    ]
    rows = [(row.name, *_cells(row.by_class), _cells(row.by_object)[0], row.features) for row in report.rows]
    terminal.print_table(columns, rows)


def _cells(scores: "Scores | None") -> tuple[str, str, str]:
    if scores is None:
        return "-", "-", "-"
    return f"{scores.map_k:.1%}", f"{scores.map_all:.1%}", f"{scores.first:.1%}"
