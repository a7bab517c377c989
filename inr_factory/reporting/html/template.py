"""Templates: the pages' Jinja templates, which escape whatever comes from a set."""

from pathlib import Path

from inr_factory.errors import needs_extra, printable
from inr_factory.reporting.html import svg_charts as charts

with needs_extra("report"):
    import jinja2


def open_template(name: str) -> jinja2.Template:
    """A template of this folder. Text of others is printable and escaped; an unknown name in it is an error."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.finalize = lambda value: printable(value) if type(value) is str else value
    environment.filters |= {"digits": charts.digits, "count": "{:,}".format, "percent": "{:.1%}".format}
    return environment.get_template(name)
