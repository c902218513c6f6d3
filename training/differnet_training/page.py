"""A report's page: sections with a template each, as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader
from markupsafe import Markup


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Args:
        template: Name of its template, `templates/report/TEMPLATE.html.j2`.
        values: What the template shows, by name.
    """

    template: str
    values: Mapping[str, object]


def render(title: str, sections: Sequence[Section]) -> str:
    """Returns the page's HTML.

    Args:
        title: Shown as the heading and in the browser's tab.
        sections: From top to bottom.
    """
    environment = Environment(
        loader=PackageLoader("differnet_training"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    rendered = [
        Markup(environment.get_template(f"report/{one.template}.html.j2").render(**one.values))  # noqa: S704 - the templates escape what they show
        for one in sections
    ]
    style = Markup(environment.get_template("report/style.css").render())  # noqa: S704 - our own file
    return environment.get_template("report.html.j2").render(
        title=title, style=style, sections=rendered
    )
