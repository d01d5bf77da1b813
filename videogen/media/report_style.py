"""The style and the one script of the report page."""

CSS = """
:root{color-scheme:light dark;--paper:#f6f7f9;--card:#fff;--ink:#1b1f26;--soft:#5b6470;--line:#e1e4e9;--accent:#2f6fd0;
--pass:#1c7c54;--pass-bg:#e0f4ea;--fail:#b3261e;--fail-bg:#fde7e5;--inconclusive:#8a5a00;--inconclusive-bg:#fdf0d2}
@media(prefers-color-scheme:dark){:root{--paper:#101318;--card:#191d24;--ink:#e7eaee;--soft:#9aa3af;--line:#2b313b;
--accent:#7fb0ff;--pass:#6fd3a4;--pass-bg:#123527;--fail:#ff9b92;--fail-bg:#43191a;--inconclusive:#f2c766;
--inconclusive-bg:#3d2f0c}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1180px;margin:0 auto;padding:36px 24px 64px}
h1{font-size:28px;line-height:1.2;margin:0 0 4px;letter-spacing:-.01em}
h2{font-size:20px;margin:44px 0 14px}
h3{font-size:15px;margin:22px 0 8px}
p{margin:6px 0}
.soft{color:var(--soft)}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:20px 22px;margin:0 0 18px}
.head{display:flex;flex-wrap:wrap;gap:10px;align-items:center}
.head h2{margin:0}
.badge{display:inline-block;border-radius:999px;padding:2px 10px;font-size:13px;font-weight:600;white-space:nowrap;
background:var(--line);color:var(--ink)}
.pass{background:var(--pass-bg);color:var(--pass)}
.fail{background:var(--fail-bg);color:var(--fail)}
.inconclusive{background:var(--inconclusive-bg);color:var(--inconclusive)}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:12px;margin:16px 0 0}
.card>.facts:first-child{margin-top:0}
.facts dt{color:var(--soft);font-size:12.5px}
.facts dd{margin:0;font-weight:600;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:8px 10px;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--soft);font-weight:500;font-size:12.5px;white-space:nowrap}
tr:last-child td{border-bottom:0}
td:first-child{min-width:190px}
td.number{text-align:right;white-space:nowrap}
th.number{text-align:right}
.clips{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(330px,100%),1fr));gap:12px}
.clip{display:flex;gap:14px;margin:0;border:1px solid var(--line);border-radius:10px;padding:10px;
background:var(--paper)}
.clip video{width:144px;height:144px;object-fit:contain;border-radius:6px;background:#000;flex:none}
.clip figcaption{min-width:0;overflow-wrap:anywhere}
.clip .prompt{font-weight:600;line-height:1.35}
.clip .notes{color:var(--soft);font-size:13px;white-space:pre-line}
.chips{display:flex;flex-wrap:wrap;gap:4px;margin:6px 0}
.chips .badge{font-size:12px;padding:1px 8px;font-weight:500;white-space:normal;border-radius:10px}
.charts{display:grid;margin:20px 0 0;grid-template-columns:repeat(auto-fit,minmax(min(340px,100%),1fr));gap:16px;
align-items:start}
.charts svg{width:100%;height:auto;max-width:600px}
nav{margin:14px 0 26px;display:flex;flex-wrap:wrap;gap:6px 16px}
a{color:var(--accent)}
footer{margin-top:40px;color:var(--soft);font-size:13.5px}
footer li{margin:4px 0}
"""

# Only what is on the screen plays, so that a page of two hundred videos stays light; nobody who asked for less
# motion gets any.
SCRIPT = """
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
const watcher = new IntersectionObserver(entries => {
  for (const entry of entries)
    if (entry.isIntersecting && !still) entry.target.play().catch(() => { entry.target.controls = true; });
    else entry.target.pause();
}, {rootMargin: "120px"});
for (const video of document.querySelectorAll("video")) { video.controls = still; watcher.observe(video); }
"""
