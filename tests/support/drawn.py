"""What a picture shows: its texts and where they are."""

from contextlib import contextmanager
from itertools import combinations


class Drawn:
    """Texts (text, box in pixels) of a saved figure, and the box of its page."""

    def __init__(self):
        self.texts, self.page, self.figure = [], None, None

    @property
    def words(self):
        return [text for text, _ in self.texts]

    def overlaps(self):
        """Pairs of texts that cover each other by more than a pixel."""
        return [
            (one, other)
            for (one, a), (other, b) in combinations(self.texts, 2)
            if min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1
        ]

    def cut(self):
        """Texts that are not on the page as a whole."""
        page = self.page
        return [
            text for text, box in self.texts if box.x0 < 0 or box.y0 < 0 or box.x1 > page.x1 + 1 or box.y1 > page.y1 + 1
        ]


@contextmanager
def saved_picture():
    """What the figure shows that is saved within the block."""
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    drawn, save, draw, latest = Drawn(), Figure.savefig, Text.draw, {}

    def record(text, renderer):  # only what is drawn: an axis has ticks beyond its ends, too
        draw(text, renderer)
        if text.get_visible() and text.get_text().strip():
            latest[text] = (text.get_text(), text.get_window_extent(renderer))

    def record_all(figure, *arguments, **options):
        latest.clear()
        save(figure, *arguments, **options)
        drawn.texts, drawn.page, drawn.figure = list(latest.values()), figure.bbox, figure

    Figure.savefig, Text.draw = record_all, record
    try:
        yield drawn
    finally:
        Figure.savefig, Text.draw = save, draw
