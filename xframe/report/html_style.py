"""The style sheet of the HTML report: light and dark, phones, paper."""

__all__ = ["STYLE"]

STYLE = """
:root{color-scheme:light dark;--paper:#fff;--card:#f5f7f9;--ink:#1c2128;--quiet:#57606a;--rule:#d5dbe1;
--good:#12693a;--good-paper:#e2f6e9;--bad:#a8201a;--bad-paper:#fdeae8;--open:#7a5300;--open-paper:#fdf3d3}
@media screen and (prefers-color-scheme:dark){:root{--paper:#12161b;--card:#1a2027;--ink:#e6eaef;--quiet:#a3adb8;
--rule:#333c46;--good:#7ddba0;--good-paper:#12301f;--bad:#ff9d94;--bad-paper:#3d1917;--open:#f0c768;--open-paper:#372b0d}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;overflow-wrap:break-word}
main,footer{max-width:1120px;margin:0 auto;padding:0 16px}
main{padding-top:24px}
footer{padding-top:16px;padding-bottom:32px;color:var(--quiet);font-size:14px}
h1{font-size:26px;line-height:1.25;margin:0 0 16px}
h1:not(:first-child){margin-top:56px;padding-top:24px;border-top:1px solid var(--rule)}
h2{font-size:20px;line-height:1.3;margin:36px 0 12px}
h3,h4,h5,h6{font-size:17px;line-height:1.3;margin:24px 0 8px}
p,ul{max-width:80ch;margin:12px 0}
ul{padding-left:22px}
li{margin:6px 0}
.found{border:1px solid var(--rule);border-left:6px solid var(--quiet);border-radius:6px;background:var(--card);
padding:12px 16px;margin:0 0 20px}
.found p{margin:0;max-width:none}
.found .word{font-size:20px;font-weight:650;margin-bottom:4px}
.equivalent{--one:var(--good);--one-paper:var(--good-paper)}
.different,.error{--one:var(--bad);--one-paper:var(--bad-paper)}
.inconclusive,.partial{--one:var(--open);--one-paper:var(--open-paper)}
.found.equivalent,.found.different,.found.error,.found.inconclusive,.found.partial{background:var(--one-paper);border-color:var(--one)}
.found .word{color:var(--one)}
.scroll{overflow-x:auto;margin:16px 0;border:1px solid var(--rule);border-radius:6px;max-width:max-content}
table{border-collapse:collapse;font-size:14px;line-height:1.4;font-variant-numeric:tabular-nums}
th,td{padding:6px 12px;text-align:left;vertical-align:top;white-space:nowrap}
thead th{background:var(--card);color:var(--quiet);font-weight:600;vertical-align:bottom}
tbody th{font-weight:500}
tbody tr{border-top:1px solid var(--rule)}
.n{text-align:right}
.long{white-space:normal;min-width:26ch}
.is{color:var(--one);font-weight:600}
pre{overflow-x:auto;background:var(--card);border-radius:6px;padding:12px;font:13px/1.3 ui-monospace,"SF Mono",Menlo,Consolas,
"DejaVu Sans Mono",monospace}
figure{margin:20px 0;padding:14px 0 0;border-top:1px solid var(--rule)}
figcaption{max-width:80ch;font-size:14px;color:var(--quiet);margin-bottom:14px}
figcaption b{display:block;color:var(--ink);font-size:15px}
.panels{display:flex;flex-wrap:wrap;gap:24px 28px;align-items:flex-start}
.panels+.panels{margin-top:28px}
.panel{max-width:100%;overflow-x:auto}
.panel svg{display:block}
@media (max-width:480px){main,footer{padding-left:14px;padding-right:14px}h1{font-size:22px}th,td{padding:6px 9px}
.long{white-space:nowrap}.few th,.few td{white-space:normal}.few .long{min-width:16ch}.few .n{white-space:nowrap}}
@page{margin:14mm}
@media print{
body{font-size:10pt}main,footer{max-width:none;padding:0}
.scroll{overflow:visible;border:0;max-width:none}
table{font-size:7.5pt}th,td{padding:2pt 4pt;white-space:normal}.n{white-space:nowrap}.long{min-width:0}
h1,h2,h3,h4{break-after:avoid}
tr,li,.found,.panel,figcaption{break-inside:avoid}
figcaption{break-after:avoid}
thead{display:table-header-group}
.panels{gap:14pt 12pt}.panel{width:calc(50% - 6pt);overflow:visible}.panel svg{width:100%;height:auto}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}
}
"""
