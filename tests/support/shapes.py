"""Solids with known distances, sources of their files, and INRs with surfaces."""

import numpy as np
import torch

from inr_factory.generation.geometry.level_set import field_grid
from inr_factory.generation.geometry.mesh import Mesh
from inr_factory.generation.geometry.primitives import KINDS
from inr_factory.generation.recipe import ShapeSource
from inr_factory.generation.sources.shape_collections import open_shapes
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.initialization import initialize
from inr_factory.inr.spec import SirenSpec
from support.paths import DATASETS

FEW = {"num_points": 400, "num_truth": 200, "num_surface": 50}


def sphere():
    """Unit sphere of 20,480 triangles: an icosahedron cut finer five times."""
    mesh = KINDS["icosahedron"](lambda low, high: 1.0)
    vertices, faces = mesh.vertices / np.linalg.norm(mesh.vertices, axis=1, keepdims=True), mesh.faces
    for _ in range(5):
        corners = vertices[faces]
        middles = (corners + np.roll(corners, -1, axis=1)) / 2
        a, b, c = corners.transpose(1, 0, 2)
        ab, bc, ca = middles.transpose(1, 0, 2)
        parts = np.stack([np.stack(part, axis=1) for part in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])
        vertices, places = np.unique(parts.reshape(-1, 3).round(9), axis=0, return_inverse=True)
        vertices, faces = vertices / np.linalg.norm(vertices, axis=1, keepdims=True), places.reshape(-1, 3)
    return Mesh(vertices, faces.astype(np.int64))


def box():
    return KINDS["box"](lambda low, high: high)


def torus():
    """Around the z axis, radii 1 and 0.4, 192 by 96 corners."""
    turn, roll = np.meshgrid(*(2 * np.pi * np.arange(count) / count for count in (192, 96)), indexing="ij")
    reach = 1 + 0.4 * np.cos(roll)
    vertices = np.stack([reach * np.cos(turn), reach * np.sin(turn), 0.4 * np.sin(roll)], axis=-1)
    row, column = np.indices((192, 96))
    a, b = row * 96 + column, (row + 1) % 192 * 96 + column
    c, d = (row + 1) % 192 * 96 + (column + 1) % 96, row * 96 + (column + 1) % 96
    faces = np.concatenate([np.stack(corners, axis=-1).reshape(-1, 3) for corners in ((a, b, c), (a, c, d))])
    return Mesh(vertices.reshape(-1, 3), faces.astype(np.int64))


def sphere_distance(points):
    return np.linalg.norm(points, axis=1) - 1


def box_distance(points):
    away = np.abs(points) - 0.5
    return np.linalg.norm(np.maximum(away, 0), axis=1) + np.minimum(away.max(axis=1), 0)


def torus_distance(points):
    return np.hypot(np.linalg.norm(points[:, :2], axis=1) - 1, points[:, 2]) - 0.4


SOLIDS = {"sphere": (sphere, sphere_distance), "box": (box, box_distance), "torus": (torus, torus_distance)}


def write_off(path, mesh):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [" ".join(map(repr, vertex)) for vertex in mesh.vertices.tolist()]
    rows += [f"3 {a} {b} {c}" for a, b, c in mesh.faces.tolist()]
    path.write_text(f"OFF\n{len(mesh.vertices)} {len(mesh.faces)} 0\n" + "\n".join(rows) + "\n")
    return path


def source_of(root, mesh, name="a/1.off", collection="mesh_folder", **settings):
    write_off(root / name, mesh)
    return open_shapes(ShapeSource(collection=collection, **(FEW | settings)), root)


def same(one, other):
    return (
        torch.equal(one.coords, other.coords)
        and torch.equal(one.targets, other.targets)
        and torch.equal(one.truth.targets, other.truth.targets)
        and torch.equal(one.truth.surface, other.truth.surface)
        and one.facts == other.facts
    )


def twins():
    mesh = sphere()
    return Mesh(mesh.vertices, np.concatenate([mesh.faces, mesh.faces[:, ::-1]]))


def real(name, collection="mesh_folder", **settings):
    return open_shapes(ShapeSource(collection=collection, **(FEW | settings)), DATASETS / name)


def inrs_with_surfaces(hidden_dim=16):
    """Three INRs of three coordinates, whose values have the mean 0."""
    inrs = initialize(SirenSpec(3, 1, hidden_dim, num_hidden=2, omega_0=10.0, output_bias=0.0), range(3))
    means = field_grid(inrs, 8).flatten(1).mean(dim=1, keepdim=True)
    return INRBatch(inrs.spec, inrs.weights, (*inrs.biases[:-1], inrs.biases[-1] - means))
