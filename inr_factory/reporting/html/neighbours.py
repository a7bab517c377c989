"""Neighbours: the page of queries, each with the INRs that are nearest to it.

Shape letters: N INRs.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from inr_factory.errors import UsageError
from inr_factory.generation.geometry.mesh import Mesh
from inr_factory.generation.geometry.rasterizer import CAMERAS, shade_mesh
from inr_factory.inr.batch import INRBatch
from inr_factory.learning.data.dataset import INRDataset
from inr_factory.learning.data.image_size import image_size
from inr_factory.learning.training.search import RetrievalReport, SearchReport
from inr_factory.reporting.html.png_data_uri import image_uri
from inr_factory.reporting.html.renderings import smaller
from inr_factory.reporting.html.template import open_template
from inr_factory.reporting.palette import COLORS
from inr_factory.reporting.shape_gallery import COLORS as SOLIDS
from inr_factory.reporting.shape_gallery import field_of
from inr_factory.storage.atomic_files import make_folder, write_atomically
from inr_factory.storage.shards import ShardReader

RESOLUTION, SIDE = 40, 128  # points along each side of the cube of a surface, and pixels of its picture


def write_neighbours(path: Path, data: INRDataset, report: SearchReport | RetrievalReport) -> None:
    """Write one HTML file with the pictures of queries and of their neighbours among the INRs of `data`.

    Raises UsageError for INRs that are neither images of one or three values nor surfaces.
    """
    spec = data.spec
    if (spec.in_dim, spec.out_dim) not in ((2, 1), (2, 3), (3, 1)):
        raise UsageError(f"a page shows images and surfaces, got INRs {spec}; leave --page out")
    measured = report if isinstance(report, RetrievalReport) else None
    searches = report.examples if isinstance(report, RetrievalReport) else (report,)
    page = open_template("neighbours.html.jinja").render(
        name=data.manifest.name, spec=spec, split=data.split, searched=len(data),
        features=searches[0].features,
        rows=[_row(data, search) for search in searches], measured=measured, palette=COLORS,
    )  # fmt: skip
    make_folder(path.parent)
    write_atomically(path, page.encode())


def _row(data: INRDataset, search: SearchReport) -> dict[str, Any]:
    """A query and its neighbours, each with the URI of its picture; `right` says whether the class is the query's."""
    uris = _pictures(data, INRBatch.cat([search.inr, search.inrs]))
    known = search.class_name
    return {
        "query": search,
        "uri": uris[0],
        "neighbours": [
            {"uri": uri, "is": one, "right": None if not known else one.class_name == known}
            for one, uri in zip(search.neighbours, uris[1:], strict=True)
        ],
    }


@torch.no_grad()
def _pictures(data: INRDataset, inrs: INRBatch) -> list[str]:
    if data.spec.in_dim == 2:
        return [image_uri(smaller(image.numpy())) for image in inrs.images(*(image_size(data) or (28, 28)))]
    return [_surface(inr, data) for inr in inrs]


def _surface(inr: INRBatch, data: INRDataset) -> str:
    """The surface of one shape from one direction, all to the same scale."""
    from inr_factory.generation.geometry.level_set import extract_surface  # needs an extra that images do without

    entry = next(entry for entry in data.manifest.shards if entry.split == data.split and entry.rows)
    vertices, faces = extract_surface(inr, RESOLUTION, field=field_of(ShardReader(data.root, entry, check=False)))
    mesh = Mesh(vertices.numpy().astype(np.float64), faces.numpy())
    return image_uri(shade_mesh(mesh, CAMERAS[0], SIDE, 1.0, SOLIDS["INR"]))
