"""Shape collections by name, as sources: ModelNet, LDraw, folders of meshes and of point clouds, and primitives."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inr_factory.errors import UsageError, one_line, require_extra
from inr_factory.generation.geometry.ldraw_parts import read_part
from inr_factory.generation.geometry.mesh import Mesh
from inr_factory.generation.geometry.mesh_files import READERS as MESH_READERS
from inr_factory.generation.geometry.mesh_files import read_mesh
from inr_factory.generation.geometry.point_cloud_files import FIRST_SUFFIXES, checked_points, read_points
from inr_factory.generation.geometry.point_cloud_files import READERS as POINT_READERS
from inr_factory.generation.geometry.primitives import KINDS, VERSION, primitive
from inr_factory.generation.recipe import RECIPE_VERSION, ShapeSource
from inr_factory.generation.signals import Item, Signal, SignalError, Source, file_content
from inr_factory.generation.sources.class_folders import ClassFiles, find_class_files
from inr_factory.generation.sources.folder_listing import file_sizes, readable
from inr_factory.generation.sources.hdf5_point_clouds import BlockRow, find_blocks, list_blocks, read_block_row
from inr_factory.generation.sources.image_collections import default_data_root
from inr_factory.generation.sources.ldraw import LDrawLibrary, find_parts
from inr_factory.generation.sources.sample_cache import SampleCache, cache_key
from inr_factory.generation.sources.shape_sampling import (
    SAMPLING,
    ShapeSamples,
    cloud_samples,
    mesh_samples,
    normalised_shape,
    shape_signal,
)
from inr_factory.inr.regular_files import open_regular
from inr_factory.inr.stable_hash import content_digest, fingerprint, seeded
from inr_factory.storage.passed_over import PassedOver

MODELNET = {"modelnet10": "ModelNet10", "modelnet40": "ModelNet40"}


def open_shapes(config: ShapeSource, data_root: Path | None = None, version: int = RECIPE_VERSION) -> Source:
    """Open the collection that a recipe names. Cheap: files are listed, not read, so that each process opens its own.

    Args:
        config: The `source` of a recipe.
        data_root: Folder of the collection; None is $INR_FACTORY_DATA, else data/.
        version: The version of the recipe.

    Raises:
        UsageError: The files do not exist or have no known layout.
        IntegrityError: A file that lists objects is damaged.
    """
    require_extra("shapes", "igl", "skimage", "trimesh")
    root = Path(os.path.abspath(default_data_root() if data_root is None else data_root.expanduser()))
    SampleCache.near(root).sweep()
    if config.collection == "primitives":
        return PrimitiveShapes(config, root, recipe_version=version)
    if config.collection == "mesh_folder":
        files = find_class_files(root, frozenset(MESH_READERS), "meshes", version, config.table)
        return ShapeFiles(config, root, *files, recipe_version=version)
    if config.collection == "point_folder":
        blocks = find_blocks(root) if root.is_dir() else []
        if blocks and config.table is not None:
            raise UsageError(f"source.table: the HDF5 files in {readable(root)} have labels of their own; leave it out")
        if blocks:
            files, rows = list_blocks(root, blocks, version)
            return ShapeFiles(config, root, *files, blocks=rows, recipe_version=version)
        suffixes = frozenset(POINT_READERS) if version > 1 else FIRST_SUFFIXES
        files = find_class_files(root, suffixes, "point clouds", version, config.table)
        return ShapeFiles(config, root, *files, recipe_version=version)
    if config.collection == "ldraw40":
        found = find_parts(root)
        return ShapeFiles(
            config, root, *found.files, library=found.library, version=found.version, licence=found.licence,
            recipe_version=version,
        )  # fmt: skip
    return _modelnet(config, root, version)


@dataclass(eq=False)
class ShapeFiles:
    """Meshes or clouds in files. An object is named by its path below the data root, a row of an HDF5 file FILE/ROW.
    What is read of a part of a `library` is its file and all that this refers to.

    Samples are computed once for all views and kept in a cache in the data root, see sample_cache.py.
    """

    config: ShapeSource
    root: Path
    classes: tuple[str, ...]
    items: tuple[Item, ...]
    paths: tuple[str, ...]
    passed_over: PassedOver | None = None
    target_units: Mapping[str, str] = field(default_factory=dict)
    relabelled: bool = False
    blocks: tuple[BlockRow, ...] = ()
    library: LDrawLibrary | None = None
    name: str = field(init=False)
    version: str = "folder"
    licence: str = "unknown: your own files"
    in_dim: int = 3
    out_dim: int = 1
    recipe_version: int = RECIPE_VERSION

    def __post_init__(self) -> None:
        self.name = self.config.collection

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over names, labels, splits and sizes of the files; their content is not read."""
        sizes = dict(zip(unique := sorted(set(self.paths)), file_sizes(unique), strict=True))
        files = zip(self.items, self.paths, strict=True)
        lines = (f"{item.object_id}\0{item.label}\0{item.split}\0{sizes[path]}\0" for item, path in files)
        return fingerprint(repr(self.classes), *lines)

    def signal(self, index: int, view: int = 0, matrix: NDArray[np.float64] | None = None) -> Signal:
        """As `Source.signal`; `matrix` (3, 3) changes the shape when it is in the coordinates of the signal."""
        content = self._content(index)
        path, object_id = self.paths[index], self.items[index].object_id

        def compute(config: ShapeSource, view: int | None) -> ShapeSamples:
            shape = self._shape(path, content)
            if isinstance(shape, Mesh):
                return mesh_samples(shape, config, object_id, view, self.recipe_version, matrix)
            return cloud_samples(shape, config, object_id, view, matrix)

        kind = f"{self.config.collection == 'point_folder'} {Path(path).suffix.lower()}"
        written = content if isinstance(content, bytes) else content.tobytes()
        signal = _signal(self.config, self.recipe_version, self.root, object_id, view, written, kind, compute, matrix)
        return replace(with_shape(self, index, signal, matrix), content=content_digest(written))

    def content(self, index: int) -> int:
        """The digest of a file's bytes, or of the bytes of its row. Raises SignalError where they cannot be read."""
        if not self.blocks and self.library is None:
            return file_content(self.paths[index])
        content = self._content(index)
        return content_digest(content if isinstance(content, bytes) else content.tobytes())

    def geometry(self, index: int) -> Mesh | NDArray[np.float64]:
        """The mesh of `items[index]`, or the points (S, 3) of a cloud, in the units of its file. Raises SignalError."""
        return self._shape(self.paths[index], self._content(index))

    def _shape(self, path: str, content: bytes | NDArray[np.float64]) -> Mesh | NDArray[np.float64]:
        if not isinstance(content, bytes):
            return content
        if self.config.collection == "point_folder":
            return read_points(path, content, self.config.max_faces)
        if self.library is not None:
            return read_part(content, self.config.max_faces)
        return read_mesh(path, content, self.config.max_faces)

    def _content(self, index: int) -> bytes | NDArray[np.float64]:
        """The bytes of an object's file, at most max_bytes, or the points of its row."""
        if self.blocks:
            return checked_points(read_block_row(self.blocks[index]), self.config.max_faces)
        if self.library is not None:
            return self.library.gather(self.paths[index], self.config.max_bytes)
        try:
            with open_regular(self.paths[index]) as file:
                size = os.fstat(file.fileno()).st_size
                if size > self.config.max_bytes:
                    raise SignalError(f"{size} bytes, source.max_bytes allows {self.config.max_bytes}")
                return file.read(self.config.max_bytes)
        except OSError as error:
            raise SignalError(f"cannot be read: {error.strerror or one_line(error)}") from error


def _signal(
    config: ShapeSource,
    version: int,
    root: Path,
    object_id: str,
    view: int,
    content: bytes,
    kind: str,
    compute: Callable[[ShapeSource, int | None], ShapeSamples],
    matrix: NDArray[np.float64] | None,
) -> Signal:
    """The signal of the samples of this content, from the cache or computed and saved there."""
    drawn = view if config.views_resample else None
    settings = config.model_dump(mode="json", include=set(SAMPLING)) | {
        "kind": kind, "signed": config.signed, "object_id": object_id, "view": drawn,
    } | ({"version": version, "reading": 2} if version > 1 else {}) | ({"measure": True} if config.measure else {}) | ({"curvature": config.curvature} if config.curvature else {}) | ({} if matrix is None else {"matrix": matrix.tolist()})  # fmt: skip
    key, cache = cache_key(content, settings), SampleCache.near(root)
    if (cached := cache.load(key)) is not None:
        return shape_signal(ShapeSamples(*cached), config, version)
    samples = compute(config, drawn)
    cache.save(key, samples.arrays, samples.facts)
    return shape_signal(samples, config, version)


def with_shape(
    source: "ShapeFiles | PrimitiveShapes", index: int, signal: Signal, matrix: NDArray[np.float64] | None = None
) -> Signal:
    """A signal whose truth makes the shape itself, read again when it is measured; as it is in version 1."""
    if source.recipe_version == 1 or signal.truth is None:
        return signal
    return replace(signal, truth=replace(signal.truth, shape=partial(_shape, source, index, signal.facts, matrix)))


def _shape(
    source: "ShapeFiles | PrimitiveShapes",
    index: int,
    facts: Mapping[str, int | float],
    matrix: NDArray[np.float64] | None,
) -> Mesh | NDArray[np.float64]:
    return normalised_shape(source.geometry(index), facts, matrix)


@dataclass(eq=False)
class PrimitiveShapes:
    """`per_class` random objects of each kind of primitive. Needs no files; `root` is for the cache, if it exists."""

    config: ShapeSource
    root: Path
    name: str = "primitives"
    version: str = VERSION
    licence: str = "none: made by this program"
    in_dim: int = 3
    out_dim: int = 1
    recipe_version: int = RECIPE_VERSION

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(sorted(KINDS))

    @cached_property
    def items(self) -> tuple[Item, ...]:
        return tuple(
            Item(f"{name}/{number:05d}", label, None)
            for label, name in enumerate(self.classes)
            for number in range(self.config.per_class)
        )

    @property
    def fingerprint(self) -> str:
        """16 hex digits over kinds, numbers and version of the shapes."""
        facts = (self.version, self.classes, self.config.per_class)
        return fingerprint(repr(facts))

    def signal(self, index: int, view: int = 0, matrix: NDArray[np.float64] | None = None) -> Signal:
        """As `ShapeFiles.signal`."""
        object_id = self.items[index].object_id

        def compute(config: ShapeSource, view: int | None) -> ShapeSamples:
            return mesh_samples(self.geometry(index), config, object_id, view, self.recipe_version, matrix)

        version = self.version.encode()
        signal = _signal(
            self.config, self.recipe_version, self.root, object_id, view, version, "primitive", compute, matrix
        )
        return with_shape(self, index, signal, matrix)

    def geometry(self, index: int) -> Mesh:
        """The mesh of `items[index]`."""
        object_id = self.items[index].object_id
        return primitive(object_id.partition("/")[0], seeded("primitive", object_id))


def _modelnet(config: ShapeSource, root: Path, version: int) -> ShapeFiles:
    """The official tree below the data root, or the data root itself if it has the name of the collection."""
    title = MODELNET[config.collection]
    candidates = [root / title, *([root] if root.name == title else [])]
    folder = next((candidate for candidate in candidates if candidate.is_dir()), None)
    if folder is None:
        raise UsageError(
            f"no folder {readable(candidates[0])}: fetch https://modelnet.cs.princeton.edu/{title}.zip (academic use "
            f"only) and unpack it into {readable(root)}, or let --data-root or $INR_FACTORY_DATA name the folder that has "
            f"{title} in it"
        )
    files = find_class_files(folder, frozenset({".off"}), "meshes", version)
    _check_modelnet(files, folder, title)
    return ShapeFiles(
        config,
        root,
        *files,
        version=f"{title} official OFF files",
        licence="academic research only, see its page",
        recipe_version=version,
    )


def _check_modelnet(files: ClassFiles, folder: Path, title: str) -> None:
    """Refuse a tree without the official splits. The number of objects is free, so that users can take a subset."""
    if any(item.split is None for item in files.items):
        raise UsageError(
            f"{readable(folder)} is not laid out as {title} is, CLASS/train/*.off and CLASS/test/*.off; "
            "for another layout use collection mesh_folder"
        )
