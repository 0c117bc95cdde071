"""How the page looks: on a screen by day and by night, and on paper."""

from rackserve.canary.report.colours import DARK, LIGHT


def _variables(colours: dict[str, str]) -> str:
    return "".join(f"--{role}:{colour};" for role, colour in colours.items())


STYLE = (
    f":root{{color-scheme:light dark;{_variables(dict(LIGHT))}}}"
    f"@media screen and (prefers-color-scheme:dark){{:root{{{_variables(dict(DARK))}}}}}"
    """
*{box-sizing:border-box}
body{margin:0 auto;max-width:1020px;padding:28px 24px 60px;background:var(--ground);color:var(--text);
 font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
h1{font-size:1.5rem;line-height:1.25;margin:0 0 .2em}
h2{font-size:1.12rem;margin:2.2em 0 .6em;padding-bottom:.25em;border-bottom:1px solid var(--grid)}
p{margin:.4em 0}
.quiet{color:var(--quiet)}
.verdict{margin:1.2em 0;padding:.9em 1.1em;border:1px solid var(--grid);border-left-width:6px;border-radius:6px;background:var(--phase)}
.verdict strong{font-size:1.12rem;display:block}
.good{color:var(--good)} .bad{color:var(--bad)} .doubt{color:var(--doubt)}
.verdict.good,.verdict.bad,.verdict.doubt{border-left-color:currentColor}
.verdict p{color:var(--text)}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.25em 1.4em;margin:1em 0}
dt{color:var(--quiet)} dd{margin:0;overflow-wrap:anywhere}
figure{margin:1.2em 0;break-inside:avoid}
svg{display:block;width:100%;height:auto;font-family:inherit}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;vertical-align:top;padding:.35em .8em .35em 0;border-bottom:1px solid var(--grid);overflow-wrap:break-word}
th{color:var(--quiet);font-weight:600}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums}
td.number{white-space:nowrap}
td.time{white-space:nowrap;font-variant-numeric:tabular-nums}
td.name{white-space:nowrap}
td.word{white-space:nowrap;font-weight:600}
tr{break-inside:avoid}
ul{padding-left:1.2em}
@page{margin:14mm}
@media print{body{max-width:none;padding:0;font-size:10.5pt} h2{break-after:avoid} .wide{overflow:visible}
 table{font-size:8.5pt} td.number{white-space:normal}
 *{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""
)
