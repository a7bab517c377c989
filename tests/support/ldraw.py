"""A small LDraw library: a cube and a stud as primitives, and parts that use them."""

from pathlib import Path

# The cube from -1 to 1, its quads counter-clockwise from outside. y points down, which changes nothing about that.
CUBE = """0 Box
0 Name: box.dat
0 BFC CERTIFY CCW
2 24 1 1 1 -1 1 1
4 16 -1 -1 -1 -1 1 -1 1 1 -1 1 -1 -1
4 16 -1 -1 1 1 -1 1 1 1 1 -1 1 1
4 16 -1 -1 -1 1 -1 -1 1 -1 1 -1 -1 1
4 16 -1 1 -1 -1 1 1 1 1 1 1 1 -1
4 16 -1 -1 -1 -1 -1 1 -1 1 1 -1 1 -1
4 16 1 -1 -1 1 1 -1 1 1 1 1 -1 1
5 24 1 1 1 -1 1 1 0 0 0 1 1 1
"""
IDENTITY = "1 0 0 0 1 0 0 0 1"
FILES = {
    "p/box.dat": CUBE,
    # A tetrahedron on the plane y = 0 that reaches up to y = -4.
    "p/stud.dat": """0 Stud
0 BFC CERTIFY CW
3 16 -4 0 -4 0 -4 0 4 0 -4
3 16 4 0 -4 0 -4 0 0 0 4
3 16 0 0 4 0 -4 0 -4 0 -4
3 16 -4 0 -4 4 0 -4 0 0 4
""",
    "parts/s/3024s01.dat": "0 ~Plate body\n0 BFC CERTIFY CCW\n1 16 0 4 0 10 0 0 0 4 0 0 0 10 Box.dat\n",
}


def part(
    description,
    body,
    author="A. Author [aa]",
    licence="Redistributable under CCAL version 2.0 : see CAreadme.txt",
    more="",
):
    """The text of a part; an empty licence or author leaves its line out."""
    head = [
        f"0 {description}",
        "0 Name: x.dat",
        f"0 Author: {author}" if author else "",
        "0 !LDRAW_ORG Part UPDATE 2004-03",
    ]
    head += [f"0 !LICENSE {licence}" if licence else "", "0 BFC CERTIFY CCW", more]
    return "\r\n".join([*head, "", body, ""])


PLATE = f"1 16 0 0 0 {IDENTITY} s\\3024S01.DAT\r\n1 16 0 0 0 {IDENTITY} STUD.dat"
FILES |= {
    "parts/3024.dat": part("Plate  1 x  1", PLATE),
    "parts/3024b.dat": part("Plate 1 x 1 with Groove", PLATE, author="Zoë Ünal"),
    "parts/3005.dat": part("Brick 1 x 1", f"1 4 0 0 0 {IDENTITY} 3024.dat"),
    "parts/3626.dat": part("Minifig Cap", PLATE, more="0 !CATEGORY Minifig Headwear"),
    "parts/u9001.dat": part("| Plate of Another Maker", PLATE),
    "parts/3024p01.dat": part("Plate 1 x 1 with Red Pattern", PLATE),
    "parts/3006.dat": part("~Moved to 3024", f"1 16 0 0 0 {IDENTITY} 3024.dat"),
    "parts/3007.dat": part("=Plate 1 x 1", PLATE),
    "parts/3008.dat": part("Sticker 1 x 1", PLATE),
    "parts/3009.dat": part("Brick 1 x 6", PLATE, licence="Not redistributable : see NonCAreadme.txt"),
    "parts/3010.dat": part("Brick 1 x 4", PLATE, author=""),
}  # fmt: skip


def write_library(root: Path, files=FILES) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, newline="")
    return root
