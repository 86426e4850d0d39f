"""The gallery's page: one HTML file beside the folders of its exhibits."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from string import Template
from typing import Any

from genfast.gallery.exhibit import PICTURE, Exhibit
from genfast.training.html import html_page

_STYLE = """\
h2 { font-size: 1.1rem; margin: 0; overflow-wrap: anywhere; }
.wall { display: grid; gap: 1.25rem; }
.wall { grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr)); }
article { border: 1px solid var(--line); border-radius: .6rem; padding: 1rem; min-width: 0; }
article p { margin: .5rem 0 0; overflow-wrap: anywhere; }
img { width: 100%; max-height: 26rem; object-fit: contain; margin-top: .75rem; }
.figure { background: var(--box); border-radius: .4rem; padding: .5rem .75rem; }
.failed { color: var(--bad); font-weight: 600; }
"""

_BODY = Template("""\
<p class="soft">Made by <code>genfast demo --all</code>: every picture was made and every figure measured
then, from nothing. $summary</p>
<main class="wall">
$exhibits
</main>
""")


def render(shown: Sequence[tuple[Exhibit, dict[str, Any]]]) -> str:
    """The page as HTML, from exhibits and their findings as JSON values (with `seconds`)."""
    held = sum(finding["passed"] for _, finding in shown)
    seconds = sum(finding["seconds"] for _, finding in shown)
    summary = f"{held} of {len(shown)} checks hold; {seconds / 60:.0f} minutes in all."
    body = _BODY.substitute(
        summary=summary, exhibits="\n".join(_article(exhibit, finding) for exhibit, finding in shown)
    )
    return html_page("genfast gallery", body, style=_STYLE, width=78)


def _article(exhibit: Exhibit, finding: dict[str, Any]) -> str:
    verdict = "Holds" if finding["passed"] else '<span class="failed">Does not hold</span>'
    picture = f"{escape(exhibit.key)}/{PICTURE}"
    return f"""\
<article id="{escape(exhibit.key)}">
<h2>{escape(exhibit.title)}</h2>
<p class="soft">{escape(exhibit.source)}</p>
<a href="{picture}"><img src="{picture}" alt="{escape(finding["caption"])}"></a>
<p class="soft">{escape(finding["caption"])}</p>
<p class="figure">{escape(finding["figure"])}</p>
<p>{verdict}: {escape(finding["check"])}</p>
<p class="soft">{finding["seconds"]:.0f} s</p>
</article>"""
