"""The gallery's page: one HTML file beside the folders of its exhibits; reading it fetches nothing."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from string import Template
from typing import Any

from genfast.gallery.exhibit import PICTURE, Exhibit

_PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>genfast gallery</title>
<style>
:root { color-scheme: light dark; --soft: #6b7280; --line: #d1d5db; --box: #f3f4f6; --bad: #b91c1c; }
@media (prefers-color-scheme: dark) {
  :root { --soft: #9ca3af; --line: #374151; --box: #1f2937; --bad: #f87171; }
}
body { font: 16px/1.5 system-ui, sans-serif; max-width: 78rem; margin: 0 auto; padding: 1.25rem; }
h1 { line-height: 1.2; margin-bottom: .25rem; }
h2 { font-size: 1.1rem; margin: 0; overflow-wrap: anywhere; }
.soft { color: var(--soft); font-size: .9rem; }
.wall { display: grid; gap: 1.25rem; }
.wall { grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr)); }
article { border: 1px solid var(--line); border-radius: .6rem; padding: 1rem; min-width: 0; }
article p { margin: .5rem 0 0; overflow-wrap: anywhere; }
img { width: 100%; max-height: 26rem; object-fit: contain; margin-top: .75rem; }
.figure { background: var(--box); border-radius: .4rem; padding: .5rem .75rem; }
.failed { color: var(--bad); font-weight: 600; }
</style>
</head>
<body>
<h1>genfast gallery</h1>
<p class="soft">Made by <code>genfast demo --all</code>: every picture was made and every figure measured
then, from nothing. $summary</p>
<main class="wall">
$exhibits
</main>
</body>
</html>
""")


def render(shown: Sequence[tuple[Exhibit, dict[str, Any]]]) -> str:
    """The page as HTML, from exhibits and their findings as JSON values (with `seconds`)."""
    held = sum(finding["passed"] for _, finding in shown)
    seconds = sum(finding["seconds"] for _, finding in shown)
    summary = f"{held} of {len(shown)} checks hold; {seconds / 60:.0f} minutes in all."
    return _PAGE.substitute(
        summary=summary, exhibits="\n".join(_article(exhibit, finding) for exhibit, finding in shown)
    )


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
