/** The look of the inspect page, light and dark. Colours keep a contrast of at least 4.5 where there is text. */
export const pageStyle = `
:root { color-scheme: light dark; --page: #fcfcfb; --text: #1c1c1a; --quiet: #5b5b57; --line: #dcdcd8; --mark: #1d5fa8; --on-mark: #fff;
  --piece-0: #1d5fa8; --piece-1: #c25a12; --piece-2: #2c7a51; --piece-3: #8a4fa3; --piece-4: #8a8a84; }
@media (prefers-color-scheme: dark) { :root { --page: #161615; --text: #ecece8; --quiet: #a8a8a2; --line: #3a3a37; --mark: #7ab4f0;
  --on-mark: #10100f; --piece-0: #7ab4f0; --piece-1: #f0a060; --piece-2: #6cc495; --piece-3: #c79adf; --piece-4: #8f8f89; } }
body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 64rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 0.6rem; }
.facts { margin: 0.3rem 0 0; }
.path, figcaption, .notes, caption { color: var(--quiet); font-size: 0.9em; }
.path { margin: 0; overflow-wrap: anywhere; }
figure { margin: 0 0 1rem; }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--text); font-family: inherit; }
.cell rect, .bar { fill: var(--mark); }
.cell.strong text { fill: var(--on-mark); }
.grid { stroke: var(--line); }
.piece-0 { fill: var(--piece-0); background: var(--piece-0); }
.piece-1 { fill: var(--piece-1); background: var(--piece-1); }
.piece-2 { fill: var(--piece-2); background: var(--piece-2); }
.piece-3 { fill: var(--piece-3); background: var(--piece-3); }
.piece-4 { fill: var(--piece-4); background: var(--piece-4); }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 0.2rem 1.2rem; padding: 0; margin: 0.5rem 0; }
.swatch { display: inline-block; width: 0.8em; height: 0.8em; margin-right: 0.4em; }
.wide { overflow-x: auto; margin: 0.6rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: 0.2rem 0; }
th, td { text-align: left; font-weight: normal; padding: 0.2rem 0.8rem 0.2rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
thead th { font-weight: 600; }
th.number, td.number { text-align: right; }
summary { cursor: pointer; }
`;
