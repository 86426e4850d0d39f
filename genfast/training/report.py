"""The page that `genfast demo` leaves: one HTML file beside its pictures, made from measurements.

Every figure on it comes from the two dictionaries given.
"""

from __future__ import annotations

from html import escape
from string import Template
from typing import Any

from genfast.training.html import html_page

_STYLE = """\
h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); padding-bottom: .25rem; }
figcaption { color: var(--soft); font-size: .9rem; }
.figures { display: grid; gap: .75rem; }
.figures { grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); }
.figures div { background: var(--box); border-radius: .5rem; padding: .75rem 1rem; }
.figures b { display: block; font-size: 1.5rem; line-height: 1.3; }
figure { margin: 1.25rem 0; }
img { max-width: 100%; height: auto; }
.pixels { image-rendering: pixelated; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); }
td.n, th.n { text-align: right; white-space: nowrap; }
code { background: var(--box); padding: .1rem .3rem; overflow-wrap: anywhere; }
"""

_BODY = Template("""\
<p class="soft">Made on $made by <code>genfast demo</code>; every figure was measured then.</p>
<p>A Gated PixelCNN was trained from nothing on the handwritten digits of scikit-learn
($train images of 8&times;8 pixels, 17 grey levels), given the digit's class.</p>
<div class="figures">$tiles</div>
<p>$verdict</p>

<h2>Drawn by the model</h2>
<figure><img class="pixels" src="samples.png" alt="sampled digits, a row for each of 0 to 9">
<figcaption>Samples, a row for each digit, temperature 1, not selected.</figcaption></figure>
<figure><img class="pixels" src="real.png" alt="real digits, a row for each of 0 to 9">
<figcaption>Real test images, for comparison.</figcaption></figure>
<figure><img class="pixels" src="completions.png" alt="completed digits">
<figcaption>Completions. First row: test images. Second row: the half that the model is given, with
the class. Below: different ways in which it goes on.</figcaption></figure>

<h2>Training</h2>
<figure><img src="curve.png" alt="bits per dimension over training">
<figcaption>$steps steps ($epochs epochs), $parameters parameters, $seconds seconds of training,
$rate images/s.</figcaption></figure>

<h2>Speed of the operations on this machine</h2>
$benchmarks

<h2>Machine</h2>
<div class="scroll"><table>$environment</table></div>
""")


def render(figures: dict[str, Any], benchmarks: dict[str, Any]) -> str:
    """The page as HTML, from the demo's figures and a benchmark result file's content."""
    test, plain, by_class = (
        figures[name] for name in ("test", "independent_pixels", "independent_pixels_by_class")
    )
    tiles = [
        (f"{test['bits_per_dim']:.3f}", "bits/dim on the test set"),
        (f"{plain['bits_per_dim']:.3f}", "bits/dim of independent pixels"),
        (f"{figures['improvement']:.0%}", "fewer bits than independent pixels"),
        (f"{figures['training_seconds']:.0f} s", "of training"),
    ]
    comparison = "below" if figures["passed"] else "not below"
    verdict = (
        f"Test set: {test['bits_per_dim']:.4f} &plusmn; {test['standard_error']:.4f} bits/dim "
        f"(standard error, {test['count']} images), {test['nats']:.1f} nats an image. Independent "
        f"pixels need {plain['bits_per_dim']:.4f}; independent pixels that know the class, as this "
        f"model does, {by_class['bits_per_dim']:.4f}. The demo asks for at least "
        f"{figures['required_improvement']:.0%} fewer bits than independent pixels: the result is "
        f"{comparison} that mark."
    )
    body = _BODY.substitute(
        made=escape(figures["made"]),
        train=figures["train_images"],
        tiles="".join(f"<div><b>{value}</b>{label}</div>" for value, label in tiles),
        verdict=verdict,
        steps=figures["steps"],
        epochs=f"{figures['epochs']:g}",
        parameters=f"{figures['parameters']:,}",
        seconds=f"{figures['training_seconds']:.0f}",
        rate=f"{figures['images_per_second']:.0f}",
        benchmarks=_benchmarks(benchmarks),
        environment="".join(
            f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>"
            for name, value in figures["environment"].items()
        ),
    )
    return html_page("genfast demo", body, style=_STYLE, width=46)


def _benchmarks(result: dict[str, Any]) -> str:
    rows = result["rows"]
    names = list(dict.fromkeys(name for row in rows for name in row["baseline"]))
    head = "".join(f'<th class="n">{escape(name)}</th>' for name in names)
    body = "".join(_benchmark_row(row, names) for row in rows)
    return f"""\
<figure><img src="benchmarks.png" alt="times of the operations against PyTorch"></figure>
<p>Times of genfast in microseconds (median); beside them how many times as long the others took
on the same input. Below 1 the other one was faster.</p>
<div class="scroll"><table>
<tr><th>operation</th><th>case</th><th class="n">genfast, &micro;s</th>{head}</tr>
{body}
</table></div>
<p class="soft">A quick measurement; all of it is in
<a href="benchmarks.json">benchmarks.json</a>.</p>"""


def _benchmark_row(row: dict[str, Any], names: list[str]) -> str:
    shape = "&times;".join(str(size) for size in row["shape"])
    case = f"{escape(row['variant'])}, {shape}, {escape(row['dtype'])}, {escape(row['direction'])}"
    time = row["median_us"]
    ratios = "".join(
        f'<td class="n">{row["baseline"][name] / time:.2f}&times;</td>'
        if row["baseline"].get(name) is not None
        else '<td class="n">&ndash;</td>'
        for name in names
    )
    return (
        f"<tr><td>{escape(row['op'])}</td><td>{case}</td>"
        f'<td class="n">{time:,.{0 if time >= 100 else 1}f}</td>{ratios}</tr>'
    )
