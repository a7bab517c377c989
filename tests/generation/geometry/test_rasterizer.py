"""Shading: pictures show what is nearest, where it is, lit from where the light is."""

import numpy as np
import pytest

from inr_factory.generation.geometry import rasterizer as shading
from inr_factory.generation.geometry.mesh import Mesh
from inr_factory.generation.geometry.primitives import KINDS, primitive
from inr_factory.generation.geometry.rasterizer import CAMERAS, Camera, shade_mesh, shade_points

ALONG_Y = Camera("along y", -90, 0)  # x to the right, z up, the eye at -y
SIDE = 40


def sphere(radius=1.0, center=(0, 0, 0)):
    mesh = KINDS["sphere"](lambda low, high: high)
    return Mesh(mesh.vertices * radius + center, mesh.faces)


def together(*meshes):
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)]),
    )


def covered(image):
    return (image < 1).any(axis=2)


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: camera.name)
def test_a_sphere_is_a_disc_from_everywhere(camera):
    image = shade_mesh(sphere(), camera, SIDE, reach=1.5)

    places = (np.indices((SIDE, SIDE)) + 0.5 - SIDE / 2) / (SIDE / 2) * 1.5
    away = np.hypot(*places)
    pixel = 2 * 1.5 / SIDE
    assert covered(image)[away < 1 - pixel].all()
    assert not covered(image)[away > 1 + pixel].any()
    assert (image.shape, image.dtype) == ((SIDE, SIDE, 3), np.float32)
    assert image.min() >= 0
    assert image.max() <= 1


@pytest.mark.parametrize(
    ("light", "bright"),
    [
        ((-1, 0, 0.3), np.s_[:, : SIDE // 2]),
        ((1, 0, 0.3), np.s_[:, SIDE // 2 :]),
        ((0, 1, 0.3), np.s_[: SIDE // 2]),
        ((0, -1, 0.3), np.s_[SIDE // 2 :]),
    ],
)
def test_a_sphere_is_bright_where_the_light_comes_from(light, bright):
    image = shade_mesh(sphere(), CAMERAS[0], SIDE, reach=1.5, light=light)

    lit = np.zeros((SIDE, SIDE), bool)
    lit[bright] = True
    seen = covered(image)
    assert image[seen & lit].mean() > 1.2 * image[seen & ~lit].mean()


def test_both_sides_of_a_triangle_are_lit_alike():
    mesh = sphere()

    inside_out = Mesh(mesh.vertices, mesh.faces[:, ::-1])

    assert np.allclose(
        shade_mesh(inside_out, CAMERAS[0], SIDE, reach=1.5), shade_mesh(mesh, CAMERAS[0], SIDE, reach=1.5), atol=1e-6
    )


def test_what_is_behind_is_hidden():
    front, behind = sphere(1.0, (0, -1.5, 0)), sphere(0.5, (0, 1.5, 0))
    alone = shade_mesh(front, ALONG_Y, SIDE, reach=3)

    assert np.array_equal(shade_mesh(together(front, behind), ALONG_Y, SIDE, reach=3), alone)
    assert np.array_equal(shade_mesh(together(behind, front), ALONG_Y, SIDE, reach=3), alone)
    from_behind = Camera("from behind", 90, 0)
    hidden = shade_mesh(front, from_behind, SIDE, reach=3)
    assert not np.array_equal(shade_mesh(together(front, behind), from_behind, SIDE, reach=3), hidden)


def test_x_goes_to_the_right_and_z_upwards():
    image = shade_mesh(sphere(0.2, (0.6, 0, 0.3)), ALONG_Y, SIDE, reach=1)

    rows, columns = np.nonzero(covered(image))
    assert columns.mean() + 0.5 == pytest.approx(SIDE * 0.8, abs=0.5)
    assert rows.mean() + 0.5 == pytest.approx(SIDE * 0.35, abs=0.5)


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: camera.name)
def test_axes_of_a_camera_are_a_right_handed_frame(camera):
    assert np.allclose(camera.axes @ camera.axes.T, np.eye(3))
    assert np.linalg.det(camera.axes) == pytest.approx(1)


def test_a_picture_depends_neither_on_the_order_of_triangles_nor_on_how_many_are_drawn_at_once(monkeypatch):
    mesh = primitive("star", np.random.default_rng(0))
    picture = shade_mesh(mesh, CAMERAS[0], SIDE, reach=1.5)

    turned = Mesh(mesh.vertices, np.random.default_rng(1).permutation(mesh.faces))
    assert np.array_equal(shade_mesh(turned, CAMERAS[0], SIDE, reach=1.5), picture)
    monkeypatch.setattr(shading, "MAX_FRAGMENTS", 500)
    assert np.array_equal(shade_mesh(mesh, CAMERAS[0], SIDE, reach=1.5), picture)


def test_triangles_cover_the_pixels_whose_middles_they_hold():
    rng = np.random.default_rng(0)
    corners = rng.uniform(-5, 25, (50, 3, 3))

    faces, pixels, depths = shading._covered(corners, 20)

    found = {(int(face), int(pixel)): depth for face, pixel, depth in zip(faces, pixels, depths, strict=True)}
    expected = {}
    for face, triangle in enumerate(corners):
        for pixel in range(400):
            place = np.array([pixel % 20 + 0.5, pixel // 20 + 0.5, 1])
            shares = np.linalg.solve(np.vstack([triangle[:, :2].T, np.ones(3)]), place)
            if (shares >= 0).all():
                expected[face, pixel] = shares @ triangle[:, 2]
    assert len(expected) > 500
    assert found == pytest.approx(expected)


def test_what_lies_outside_the_frame_does_not_come_in_at_the_other_side():
    image = shade_mesh(sphere(1.0, (1, 0, 0)), ALONG_Y, SIDE, reach=1)
    dots = shade_points(np.array([[1.0, 0, 0], [0, 0, -1.0]]), ALONG_Y, SIDE, reach=1, radius=0.2)

    assert covered(image)[SIDE // 2, -1]
    assert not covered(image)[:, : SIDE // 2 - 1].any()
    assert not covered(dots)[:, : SIDE // 2 - 5].any()
    assert not covered(dots)[: SIDE // 2 - 5].any()


def test_triangles_without_area_or_seen_on_their_edge_draw_no_more_than_a_line():
    vertices = np.array([[-1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]], np.float64)

    image = shade_mesh(Mesh(vertices, np.array([[0, 1, 2], [0, 0, 1], [3, 3, 3]])), ALONG_Y, SIDE, reach=1.5)

    assert np.isfinite(image).all()
    assert covered(image).sum(axis=0).max() <= 2


def test_nothing_is_a_white_picture():
    assert (shade_mesh(Mesh(np.empty((0, 3)), np.empty((0, 3), np.int64)), CAMERAS[0], SIDE, reach=1) == 1).all()
    assert (shade_points(np.empty((0, 3)), CAMERAS[0], SIDE, reach=1) == 1).all()


def test_a_point_is_a_ball_that_hides_what_is_behind_it():
    near, far = np.array([[0, -1.0, 0]]), np.array([[0, 1.0, 0]])
    ball = shade_points(near, ALONG_Y, SIDE, reach=1.5, radius=0.6)

    assert covered(ball).sum() == pytest.approx(np.pi * (0.6 / 1.5 * SIDE / 2) ** 2, rel=0.15)
    assert np.array_equal(shade_points(np.concatenate([far, near]), ALONG_Y, SIDE, reach=1.5, radius=0.6), ball)
    side_by_side = np.concatenate([far + np.array([0.2, 0, 0]), near])
    assert covered(shade_points(side_by_side, ALONG_Y, SIDE, reach=1.5, radius=0.6)).sum() > covered(ball).sum()
    monochrome = shade_points(near, ALONG_Y, SIDE, reach=1.5, radius=0.6, light=(-1, 0, 0.2))[..., 0]
    assert monochrome[SIDE // 2, SIDE // 2 - 6] > monochrome[SIDE // 2, SIDE // 2 + 5]


def test_a_large_cloud_is_drawn_by_some_of_its_points(monkeypatch):
    cloud = np.random.default_rng(0).uniform(-1, 1, (1000, 3))
    monkeypatch.setattr(shading, "MAX_DOTS", 100)

    assert np.array_equal(
        shade_points(cloud, ALONG_Y, SIDE, reach=2, radius=0.1),
        shade_points(cloud[::10], ALONG_Y, SIDE, reach=2, radius=0.1),
    )
