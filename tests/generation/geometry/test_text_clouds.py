"""Text clouds: every layout gives the same points; numbers that could be read in two ways are refused."""

import numpy as np
import pytest

from inr_factory.generation.geometry.point_cloud_files import read_points
from inr_factory.generation.signals import SignalError

POINTS = np.round(np.random.default_rng(0).uniform(-1, 1, (40, 3)), 4)
COLOURS = np.random.default_rng(1).integers(0, 256, (40, 3))
SIGNED = np.random.default_rng(2).uniform(-1, 1, (40, 1))


def text(rows, between=" ", start="", end="\n"):
    return (start + "\n".join(between.join(f"{value:g}" for value in row) for row in np.hstack(rows)) + end).encode()


def comma(between):
    lines = [between.join(f"{value:.4f}".replace(".", ",") for value in row) for row in POINTS]
    return ("\n".join(lines) + "\n").encode()


def pcd(data, body, points=40, fields="x y z rgb", size="4 4 4 4", types="F F F U"):
    return (
        f"# .PCD v0.7\nVERSION 0.7\nFIELDS {fields}\nSIZE {size}\nTYPE {types}\nCOUNT 1 1 1 1\nWIDTH {points}\n"
        f"HEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {points}\nDATA {data}\n"
    ).encode() + body


ROWS = np.empty(40, [("points", "<f4", 3), ("rgb", "<u4")])
ROWS["points"], ROWS["rgb"] = POINTS, 7
REVERSED = POINTS[:, ::-1]

# D19 and its siblings.
READ = {
    "names.csv": text([POINTS], ",", "x,y,z\n"),
    "index of pandas.csv": text([np.arange(40)[:, None], POINTS], ",", ",x,y,z\n"),
    "row numbers of R.csv": text([np.arange(40)[:, None] + 1, POINTS], ";", '"";"x";"y";"z"\n'),
    "normals first.csv": text([-POINTS, POINTS], ",", "normal x,normal y,normal z,x,y,z\n"),
    "more columns than names.txt": text([POINTS, COLOURS], " ", "# x y z rgb\n"),
    "names of two words.txt": text([POINTS, SIGNED], " ", "//X Y Z Scalar field\n"),
    "quoted names with units.csv": text([POINTS], ";", '"X [m]";"Y [m]";"Z [m]"\n'),
    "columns by name.csv": text([np.arange(40)[:, None], REVERSED], ",", "id,z,y,x\n"),
    "names in a comment.txt": text([np.arange(40)[:, None], REVERSED], " ", "# id z y x\n"),
    "colours.csv": text([POINTS, COLOURS], ",", "x,y,z,r,g,b\n"),
    "empty last column.csv": text([POINTS], ",").replace(b"\n", b",\n"),
    "count.pts": text([POINTS, COLOURS[:, :1], COLOURS], " ", "40\n"),
    "no count.pts": text([POINTS]),
    "intensity.asc": text([POINTS, COLOURS[:, :1]]),
    "comments.asc": text([POINTS], "\t", "// made by a scanner\n"),
    "normals.xyzn": text([POINTS, -POINTS]),
    "colours.xyzrgb": text([POINTS, COLOURS]),
    "intensity of Leica.pts": text([POINTS, 16 * COLOURS[:, :1] - 2048], " ", "40\n"),
    "homogeneous.txt": text([POINTS, np.ones((40, 1))]),
    "words behind.txt": text([POINTS]).replace(b"\n", b" chair\n"),
    "mark.csv": b"\xef\xbb\xbf" + text([POINTS], ","),
    "utf-16.txt": text([POINTS]).decode().encode("utf-16"),
    "old Macintosh.xyz": text([POINTS]).replace(b"\n", b"\r"),
    "text.pcd": pcd("ascii", text([POINTS, COLOURS[:, :1]])),
    "binary.pcd": pcd("binary", ROWS.tobytes()),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_text_clouds_give_their_points(name):
    points = read_points(name, READ[name], 40)

    assert points.dtype == np.float64
    np.testing.assert_allclose(points, POINTS, atol=1e-7 if name == "binary.pcd" else 0)


# D08 and its siblings.
REFUSED = {
    "decimal commas between blanks.txt": (comma(" "), "comma inside a number"),
    "decimal commas between tabs.csv": (comma("\t"), "comma inside a number"),
    "decimal commas between semicolons.csv": (comma(";"), "comma inside a number"),
    "decimal commas between commas.csv": (comma(","), "comma inside a number"),
    "quoted decimal commas.csv": (b'"0,86","0,34","0,1"\n' * 40, "comma inside a number|three numbers"),
    "thousands.xyz": (b"1,234.5 2,345.6 3,456.7\n" * 40, "comma inside a number"),
    "missing.csv": (b"1,,3,4\n" * 40, "three numbers"),
    "underscores.txt": (b"1_0 2 3\n" * 40, "three numbers"),
    "hexadecimal.txt": (b"0x1 0x2 0x3\n" * 40, "three numbers"),
    "cut.xyz": (text([POINTS, COLOURS])[:-9], "its line 40 of points has . values, its first has 6"),
    "count.pts": (text([POINTS], " ", "41\n"), "claims 41 points, 40 lines follow"),
    "molecule.xyz": (b"3\nwater\nO 0 0 0.1\nH 0 0.7 -0.4\n", "a header has to name x, y and z"),
    "two scans.pts": (text([POINTS], " ", "40\n") * 2, "claims 40 points, 81 lines follow"),
    "row names of R.txt": (text([np.arange(40)[:, None], POINTS], " ", "x y z\n"), "counts the rows"),
    "shuffled row names of R.txt": (text([7 * np.arange(40)[:, None] % 40, POINTS], " ", "x y z\n"), "counts the rows"),
    "digit.csv": (text([np.ones((28, 28))], ","), r"shape \(28, 28\)"),
    "transposed.csv": (text([POINTS.T], ","), r"shape \(3, 40\), .* transposed, as \(40, 3\)"),
    "count and more.pts": (text([POINTS], " ", "40 3 1\n"), "begins with 40, which is how many lines follow"),
    "grid.asc": (b"ncols 3\nnrows 2\ncellsize 1\n1 2 3\n4 5 6\n", "a header has to name x, y and z"),
    "names.csv": (text([POINTS], ",", "a,b,c\n"), "a header has to name x, y and z"),
    "distances.csv": (text([POINTS, SIGNED], ",", "x,y,z,sdf\n"), "values called sdf"),
    "values.csv": (text([POINTS, SIGNED], ",", "x,y,z,value\n"), "values called value"),
    "distances.pcd": (pcd("ascii", text([POINTS, SIGNED]), fields="x y z tsdf"), "values called tsdf"),
    "distances.txt": (text([POINTS, SIGNED]), "fourth column has both signs"),
    "numbered.txt": (text([np.arange(40)[:, None], POINTS]), "first column counts the rows"),
    "few.csv": (b"1,2,3\n", "1 different points, expected 8 at least"),
    "only names.csv": (b"x,y,z\n", "no points"),
    "padded.txt": (text([POINTS]) + b"0 0 0\n" * 3, r"3 of its 43 points are \(0, 0, 0\)"),
    "no mark.txt": (("0 1 2\n" * 40).encode("utf-16-le"), "not text"),
    "short.pcd": (pcd("ascii", b"1 2 3 4\n"), "claims 40 points, 1 lines follow"),
    "cut.pcd": (pcd("binary", ROWS.tobytes()[:-1]), "640 bytes, 639 follow"),
    "packed.pcd": (pcd("binary_compressed", bytes(900)), "binary_compressed, which is not read"),
    "plane.pcd": (pcd("ascii", text([POINTS, SIGNED]), fields="u v w a"), "expected x, y and z"),
    "claims.pcd": (pcd("binary", ROWS.tobytes(), points=10**15), "claims 1000000000000000 points"),
    "sizes.pcd": (pcd("binary", ROWS.tobytes(), size="4 4 4"), "cannot be read"),
    "no.pcd": (b"nothing", "no PCD header"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_numbers_that_are_no_points_are_refused_with_the_reason(name):
    content, reason = REFUSED[name]

    with pytest.raises(SignalError, match=reason) as caught:
        read_points(name, content, 1000)

    assert "\n" not in str(caught.value)
