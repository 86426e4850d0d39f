"""HTML pages of one file, which look the same everywhere; reading one fetches nothing."""

from __future__ import annotations

from html import escape
from string import Template

_PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; --soft: #6b7280; --line: #d1d5db; --box: #f3f4f6; --bad: #b91c1c; }
@media (prefers-color-scheme: dark) {
  :root { --soft: #9ca3af; --line: #374151; --box: #1f2937; --bad: #f87171; }
}
body { font: 16px/1.5 system-ui, sans-serif; max-width: ${width}rem; margin: 0 auto; padding: 1.25rem; }
h1 { line-height: 1.2; margin-bottom: .25rem; }
.soft { color: var(--soft); font-size: .9rem; }
$style</style>
</head>
<body>
<h1>$title</h1>
$body</body>
</html>
""")


def html_page(title: str, body: str, *, style: str, width: int) -> str:
    """A page with `title` as its heading and `body` below it, as HTML.

    `style` is CSS of its own; it may use the colours --soft, --line, --box and --bad, which suit light
    and dark screens. `width` is the most that lines take, in rem.

    >>> page = html_page("A & B", "<p>text</p>", style="", width=46)
    >>> page.count("<title>A &amp; B</title>")
    1
    """
    return _PAGE.substitute(title=escape(title), body=body, style=style, width=width)
