"""Quality: what a shard says of INRs of shapes is true of INRs whose shape is known."""

import dataclasses
import math
from functools import partial

import numpy as np
import pytest
import torch
from skimage.measure import marching_cubes
from support.shapes import inrs_with_surfaces

from inr_factory.errors import ResourceError
from inr_factory.generation.fitting import shape_quality
from inr_factory.generation.fitting.shape_quality import measure_quality
from inr_factory.generation.geometry import level_set, surface_metrics
from inr_factory.generation.geometry.distances import mean_distances
from inr_factory.generation.geometry.level_set import LEVELS, extract_surface, field_grid, is_inside
from inr_factory.generation.geometry.mesh import Mesh
from inr_factory.generation.geometry.surface_metrics import iou, mean_distance_error
from inr_factory.generation.signals import Signal, SignalError, Truth
from inr_factory.inr.batch import INRBatch
from inr_factory.inr.pixel_grid import pixel_grid
from inr_factory.inr.spec import SirenSpec

SIZE = 0.5


def octahedra(sizes, sign=1.0):
    """INRs of sign * (|x| + |y| + |z| - size), in ReLUs; divided by sqrt(3) it is a distance near the faces."""
    spec = SirenSpec(3, 1, hidden_dim=6, num_hidden=1, activation="relu", start="linear")
    count, scale = len(sizes), sign / math.sqrt(3)
    slopes = torch.cat([torch.eye(3), -torch.eye(3)]).expand(count, 6, 3)
    last = (torch.full((count, 1, 6), scale), -scale * torch.tensor(sizes)[:, None])
    return INRBatch(spec, (slopes, last[0]), (torch.zeros(count, 6), last[1]))


def signal(field, clamp=0.1):
    """An octahedron of SIZE in a field of its own, with a truth that a perfect INR agrees with."""
    generator = torch.Generator().manual_seed(0)
    coords = 1.4 * torch.rand(20_000, 3, generator=generator) - 0.7
    distance = (coords.abs().sum(dim=1, keepdim=True) - SIZE) / math.sqrt(3)
    targets = distance.clamp(-clamp, clamp) if field == "sdf" else (distance < 0).float()
    corners = torch.rand(3000, 3, generator=generator)
    signs = 2 * torch.randint(2, (3000, 3), generator=generator) - 1
    surface = SIZE * corners / corners.sum(dim=1, keepdim=True) * signs
    peak = 2 * clamp if field == "sdf" else 1.0
    return Signal(coords, targets, peak=peak, field=field, truth=Truth(coords, targets, surface))


@pytest.mark.parametrize(("field", "sign"), [("sdf", 1.0), ("occupancy", -1.0)])
def test_a_perfect_inr_measures_as_perfect_and_a_larger_one_does_not(field, sign):
    quality = measure_quality(octahedra([SIZE, SIZE + 0.1], sign), [signal(field)] * 2)

    assert quality["iou"][0] == 1
    assert quality["iou"][1] == pytest.approx((SIZE / (SIZE + 0.1)) ** 3, abs=0.05)
    assert quality["chamfer"][0] < 0.015
    assert quality["chamfer"][1] == pytest.approx(0.1 / math.sqrt(3), abs=0.015)
    if field == "sdf":
        assert quality["distance_error"][0] < 1e-6
        assert 0.005 < quality["distance_error"][1] < 0.1 / math.sqrt(3)
    else:
        assert math.isnan(quality["distance_error"][0])


def as_before(inr, signal):
    """The qualities as they were computed first: the whole grid by torch, distances of all pairs."""
    values, grid, level = inr(signal.truth.coords)[0], field_grid(inr, 64)[0].numpy(), LEVELS[signal.field]
    vertices = marching_cubes(grid, level, gradient_direction="descent")[0]
    vertices = torch.from_numpy(np.ascontiguousarray(vertices, np.float32)) * (2 / 63) - 1
    pairs = torch.cdist(vertices, signal.truth.surface, compute_mode="donot_use_mm_for_euclid_dist")
    inside = [is_inside(part[:, 0], signal.field) for part in (values, signal.truth.targets)]
    clamp = signal.peak / 2
    return [
        float(iou(*inside)),
        float(mean_distance_error(values[:, 0], signal.truth.targets[:, 0], clamp)),
        float(pairs.amin(dim=1).mean() + pairs.amin(dim=0).mean()) / 2,
    ]


def test_inrs_measured_together_have_the_bits_of_each_measured_as_before():
    inrs = inrs_with_surfaces()
    signals = [signal("sdf")] * 3

    quality = measure_quality(inrs, signals, version=1)

    before = np.array([as_before(inr, one) for inr, one in zip(inrs, signals, strict=True)])
    assert np.isfinite(before).all()
    np.testing.assert_array_equal(np.stack(list(quality.values()), axis=1), before)


def test_measuring_as_on_a_gpu_agrees_with_measuring_one_by_one(monkeypatch):
    inrs = inrs_with_surfaces()
    signals = [signal("sdf"), dataclasses.replace(signal("sdf"), truth=None), signal("occupancy")]
    expected = measure_quality(inrs, signals)
    for module in (level_set, surface_metrics):
        monkeypatch.setattr(module, "batches_inrs", lambda device: True)
    monkeypatch.setattr(level_set, "extract_surface", None)
    monkeypatch.setattr(shape_quality, "batches_inrs", lambda device: True)
    sampled = measure_quality(inrs, signals, "cpu")
    monkeypatch.setattr(shape_quality, "GPU_SAMPLE", 1)

    quality = measure_quality(inrs, signals, "cpu")

    assert np.isnan(sampled["chamfer"]).tolist() == [False, True, True], "one in ten, the first included"
    assert np.isfinite(sampled["iou"]).tolist() == [True, False, True]
    assert np.isnan([column[1] for column in quality.values()]).all()
    for name, column in quality.items():
        np.testing.assert_allclose(column, expected[name], rtol=1e-4, err_msg=name)


CORNERS = SIZE * np.concatenate([np.eye(3), -np.eye(3)])
FACES = np.array([[0, 1, 2], [1, 3, 2], [3, 4, 2], [4, 0, 2], [1, 0, 5], [3, 1, 5], [4, 3, 5], [0, 4, 5]])


def test_chamfer_has_no_floor_of_its_own_sampling():
    """The true surface scores the error of its grid, not the distance between samples: 0.0103 in version 1."""
    sampled = signal("sdf")
    exact = dataclasses.replace(sampled, truth=dataclasses.replace(sampled.truth, shape=partial(Mesh, CORNERS, FACES)))
    inrs = octahedra([SIZE, SIZE + 0.1])

    distances = measure_quality(inrs, [exact] * 2)["chamfer"]
    before = measure_quality(inrs, [exact] * 2, version=1)["chamfer"]

    assert before[0] > 0.005
    assert distances[0] < 0.001
    assert distances[1] == pytest.approx(0.1 / math.sqrt(3), rel=0.03)
    surface = Mesh(*(part.numpy() for part in extract_surface(inrs[1], 64)))
    picture = mean_distances(
        Mesh(surface.vertices.astype(np.float64), surface.faces), exact.truth.shape(), 20_000, np.random.default_rng(0)
    )
    assert distances[1] == pytest.approx(np.mean(picture), rel=0.02)


def test_points_stand_for_a_shape_that_is_a_cloud():
    sampled = signal("sdf")
    cloud = sampled.truth.surface.double().numpy()
    given = dataclasses.replace(sampled, truth=dataclasses.replace(sampled.truth, shape=lambda: cloud))
    inrs = octahedra([SIZE])

    assert measure_quality(inrs, [given])["chamfer"] == measure_quality(inrs, [sampled])["chamfer"]


def test_a_shape_that_is_gone_when_it_is_measured_is_no_fault_of_its_inr():
    def gone():
        raise SignalError("cannot be read: No such file or directory")

    lost = signal("sdf")
    lost = dataclasses.replace(lost, truth=dataclasses.replace(lost.truth, shape=gone))

    with pytest.raises(ResourceError, match="put its file back"):
        measure_quality(octahedra([SIZE]), [lost])


def test_an_inr_without_a_surface_has_no_chamfer_distance():
    quality = measure_quality(octahedra([-0.5]), [signal("sdf")])
    assert quality["iou"][0] == 0
    assert math.isnan(quality["chamfer"][0])


def test_images_have_no_such_columns():
    image = Signal(pixel_grid(2, 2), torch.zeros(4, 1))
    assert measure_quality(octahedra([0.5]), [image]) == {}


def exact(field="sdf", mesh=None):
    sampled = signal(field)
    shape = partial(Mesh, CORNERS, FACES) if mesh is None else mesh
    return dataclasses.replace(sampled, truth=dataclasses.replace(sampled.truth, shape=shape))


def test_fscore_counts_what_lies_within_a_hundredth_of_the_side_and_normals_compare_directions():
    sizes = [
        SIZE,
        SIZE + 0.9 * shape_quality.THRESHOLD * math.sqrt(3),
        SIZE + 1.2 * shape_quality.THRESHOLD * math.sqrt(3),
    ]
    inrs = octahedra(sizes)

    quality = measure_quality(inrs, [exact()] * 3)

    assert quality["fscore"][0] == 1
    assert 0.9 < quality["fscore"][1] <= 1
    assert quality["fscore"][2] < 0.1
    assert quality["normals"].min() > 0.98
    assert quality["chamfer"][0] < 1e-4, "points lie on the level set, not on triangles near it"
    box = Mesh(
        np.array([[x, y, z] for x in (-0.3, 0.3) for y in (-0.3, 0.3) for z in (-0.3, 0.3)]), np.array([[0, 1, 3]])
    )
    assert measure_quality(octahedra([SIZE]), [exact(mesh=lambda: box)])["normals"] < 0.65, "60 degrees to all sides"


def test_points_lie_on_a_surface_that_bends_and_not_on_its_triangles():
    """The INR 1.5 - cos(3 x) - cos(3 y) - cos(3 z) is compared with its own surface, from a grid of 151³."""
    spec = SirenSpec(3, 1, hidden_dim=3, num_hidden=1, omega_0=3.0, output_bias=0.0)
    weights, biases = (
        (torch.eye(3)[None], -torch.ones(1, 1, 3)),
        (torch.full((1, 3), math.pi / 6), torch.tensor([[1.5]])),
    )
    inr = INRBatch(spec, weights, biases)
    fine = Mesh(*(part.numpy() for part in extract_surface(inr, 151)))
    rounded = exact(mesh=lambda: Mesh(fine.vertices.astype(np.float64), fine.faces))
    rounded = dataclasses.replace(
        rounded, truth=dataclasses.replace(rounded.truth, surface=torch.from_numpy(fine.vertices))
    )

    quality = measure_quality(inr, [rounded])

    assert quality["chamfer"] < 6e-5
    assert quality["normals"] > 0.9995
    assert measure_quality(inr, [rounded], version=2)["chamfer"] > 1e-4


def test_the_shell_of_an_unsigned_distance_is_measured_from_where_it_lies():
    """Half of a perfect shell: outside of the octahedron. Its distance from the shape is its level."""
    unsigned = dataclasses.replace(exact(), field="udf", peak=0.1)

    quality = measure_quality(octahedra([SIZE]), [unsigned])

    assert quality["chamfer"] < 0.002
    assert quality["fscore"] == 1
    before = measure_quality(octahedra([SIZE]), [unsigned], version=2)
    assert before["chamfer"] == pytest.approx(LEVELS["udf"], abs=0.003)


def test_earlier_versions_have_their_columns():
    for version in (1, 2):
        assert list(measure_quality(octahedra([SIZE]), [exact()], version=version)) == [
            "iou",
            "distance_error",
            "chamfer",
        ]
    assert list(measure_quality(octahedra([SIZE]), [exact()])) == list(shape_quality.QUALITIES)


def test_later_views_have_no_surfaces_measured_from_version_4_on():
    inrs, both = octahedra([SIZE]), [exact()]
    first, later, before = (
        measure_quality(inrs, both, view=view, version=version) for view, version in ((0, 4), (1, 4), (1, 3))
    )
    assert first == before
    assert {name: column[0] for name, column in later.items() if np.isfinite(column)} == {
        name: first[name][0] for name in ("iou", "distance_error")
    }


def test_clouds_have_no_normals_and_no_surface_has_an_fscore_of_0():
    cloud = measure_quality(octahedra([SIZE]), [signal("sdf")])
    assert math.isnan(cloud["normals"][0])
    assert 0.8 < cloud["fscore"][0] < 1, "points between those of the cloud are up to 0.03 away"
    without = measure_quality(octahedra([-0.5]), [exact()])
    assert without["fscore"][0] == 0
    assert math.isnan(without["normals"][0])


def test_the_value_of_a_root_is_squared_before_its_distance_is_measured():
    spec = SirenSpec(3, 1, hidden_dim=4, num_hidden=1, output_bias=0.0)
    constant = INRBatch.from_flat(spec, torch.zeros(1, spec.num_parameters))
    constant.biases[-1].fill_(0.2)  # a distance of 0.04 everywhere
    coords = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    distance = torch.linspace(0, 0.1, 200)[:, None]
    found = {
        field: measure_quality(
            constant, [Signal(coords, targets, peak=peak, field=field, truth=Truth(coords, targets, coords))]
        )
        for field, targets, peak in (("root_udf", distance.sqrt(), 0.1**0.5), ("udf", distance, 0.1))
    }

    assert found["root_udf"]["distance_error"][0] == pytest.approx(float((distance - 0.04).abs().mean()), rel=1e-4)
    assert found["udf"]["distance_error"][0] == pytest.approx(float((distance - 0.1).abs().mean()), rel=1e-4)
    assert found["root_udf"]["fscore"][0] == 0
    assert math.isnan(found["root_udf"]["iou"][0])
