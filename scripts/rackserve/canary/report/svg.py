"""A drawing as SVG that stands within a page: colours are the page's variables, so that it follows light, dark and print."""

from html import escape

from rackserve.canary.report.drawing import Bar, Drawing, Line, Words


def svg(drawing: Drawing) -> str:
    parts = [_shape(shape) for shape in drawing.shapes]
    return (
        f'<svg viewBox="0 0 {drawing.width} {drawing.height}" role="img">'
        f"<title>{escape(drawing.title)}</title>{''.join(parts)}</svg>"
    )


def _shape(shape: Line | Bar | Words) -> str:
    colour = f"var(--{shape.role})"
    if isinstance(shape, Line):
        points = " ".join(f"{_short(x)},{_short(y)}" for x, y in shape.points)
        dash = f' stroke-dasharray="{shape.dash:g}"' if shape.dash else ""
        return (
            f'<polyline points="{points}" fill="none" style="stroke:{colour}" stroke-width="{shape.width:g}"'
            f' stroke-linejoin="round"{dash}/>'
        )
    if isinstance(shape, Bar):
        tip = f"<title>{escape(shape.tip)}</title>" if shape.tip else ""
        return (
            f'<rect x="{_short(shape.x)}" y="{_short(shape.y)}" width="{_short(shape.width)}"'
            f' height="{_short(shape.height)}" style="fill:{colour}">{tip}</rect>'
        )
    return (
        f'<text x="{_short(shape.x)}" y="{_short(shape.y)}" style="fill:{colour}" font-size="{shape.size:g}"'
        f' text-anchor="{shape.anchor}">{escape(shape.text)}</text>'
    )


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
