"""Search of a data set: the neighbours of an INR or of an image file, or how well features retrieve; also as a page."""

import os
from pathlib import Path
from typing import overload

import numpy as np
import torch

from inr_factory.errors import UsageError, shorten
from inr_factory.generation.fit_image import fit_image
from inr_factory.inr.arguments import check_flags, check_hooks, check_whole
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.regular_files import as_path
from inr_factory.learning.alignment.aligned_dataset import find_inr
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.data.image_size import image_size
from inr_factory.learning.training.feature_kinds import OnBatch, Run
from inr_factory.learning.training.search import Gallery, RetrievalReport, SearchReport, Sought, measure_retrieval
from inr_factory.storage.fetch_dataset import fetch_dataset
from inr_factory.storage.locations import RemoteLocation

EXAMPLES = 10  # queries on the page of a retrieval

Dataset = str | os.PathLike[str] | RemoteLocation


@overload
def search(
    run: Run, dataset: Dataset, query: str | Path | INRBatch, *, k: int = ..., split: str = ...,
    gallery: str | None = ..., views: int | None = ..., same_object: bool = ..., page: str | Path | None = ...,
    device: str = ..., on_batch: OnBatch | None = ...,
) -> SearchReport: ...  # fmt: skip
@overload
def search(
    run: Run, dataset: Dataset, query: None = None, *, k: int = ..., split: str = ..., gallery: str | None = ...,
    views: int | None = ..., same_object: bool = ..., page: str | Path | None = ..., device: str = ...,
    on_batch: OnBatch | None = ...,
) -> RetrievalReport: ...  # fmt: skip
def search(
    run: Run,
    dataset: Dataset,
    query: str | Path | INRBatch | None = None,
    *,
    k: int = 10,
    split: str = "test",
    gallery: str | None = None,
    views: int | None = None,
    same_object: bool = False,
    page: str | Path | None = None,
    device: str = "auto",
    on_batch: OnBatch | None = None,
) -> SearchReport | RetrievalReport:
    """Find the INRs nearest to a query, or measure retrieval with all of a split: what the command `search` does.

    INRs are compared by the cosine similarity of their features less the mean of the gallery. Weights, aligned or not, are
    also divided by their standard deviations over it. The features of the gallery are held in memory.

    Args:
        run: As for `embed`: a run, a checkpoint, or "weights", "aligned" or "renders".
        dataset: Folder or URL of the set that is searched.
        query: An object of any split, by its name (view 0) or NAME@VIEW; an image file, which is fitted as the set was; or an
            INR of the same spec. Without it, every INR of the split is a query, and the report has scores.
        k: Number of neighbours.
        split: "train", "val" or "test": what is searched, and where all queries come from.
        gallery: Another split that is searched.
        views: The first views of each object; by default all.
        same_object: Also find other views of the query's object, which are left out otherwise.
        page: HTML file to write: the query, or some of them, and their neighbours.
        device: "auto", "cpu", "cuda" or "cuda:N".
        on_batch: Called after each batch of features with the number of INRs that are done, and of all.

    Returns:
        The neighbours of the query, a SearchReport; without one a RetrievalReport: mAP@k, mAP of all neighbours and
        precision at 1, of classes and of other views of an object, for a random order, weights, aligned weights, renders
        and the run.

    Raises:
        UsageError: There is no such run, object or file, the INRs have another spec, or the split is empty.
        IntegrityError: A checkpoint or shard is damaged.
    """
    check_whole(1, k=k)
    check_flags(same_object=same_object)
    check_hooks(on_batch=on_batch)
    page = None if page is None else as_path(page, "a page")
    root = fetch_dataset(dataset)
    searched = INRDataset(root, split if gallery is None else gallery, views=views)
    report: SearchReport | RetrievalReport
    if query is None:
        if same_object:
            raise UsageError("same_object is for a query; scores have a column for other views of an object")
        queries = searched if gallery in (None, split) else INRDataset(root, split, views=views)
        report = measure_retrieval(run, queries, searched, k, EXAMPLES if page else 0, device, on_batch)
    else:
        inr, sought = _query(searched, query, device)
        report = Gallery.of(run, searched, device, on_batch).search(inr, sought, k, same_object)
    if page is not None:
        from inr_factory.reporting.html.neighbours import write_neighbours  # its extra is not always installed

        write_neighbours(page, searched, report)
    return report


def _query(data: INRDataset, query: str | Path | INRBatch, device: str) -> tuple[INRBatch, Sought]:
    """The INR (N = 1) of a query, and what is known of it."""
    if isinstance(query, INRBatch):
        if len(query) != 1 or query.spec != data.spec:
            raise UsageError(f"a query is one INR {data.spec}, got {query}")
        return query, ("INR", "", 0)
    if not isinstance(query, str | Path):
        raise UsageError(f"a query is the name of an object, an image file or an INR, got {shorten(query)}")
    file = as_path(query, "a query")
    try:
        if isinstance(query, Path):
            raise UsageError("a Path is one of an image file")
        shard, row = find_inr(data.root, data.manifest, query)
    except UsageError as error:
        if not file.is_file():
            raise UsageError(f"there is no image file {file}, and {error}") from None
        if (size := image_size(data)) is None:
            raise UsageError(f"{data.root} does not say the height and width of images, so none is fitted") from None
        return fit_image(file, data.manifest, size, device), (str(file), "", 0)
    label = int(shard.column("label")[row])
    name = data.classes[label] if 0 <= label < data.num_classes else ""
    inr = INRBatch.from_flat(shard.spec, torch.from_numpy(np.array(shard.column("weights")[row : row + 1])))
    return inr, (shard.object_ids[row], name, int(shard.column("view")[row]))
