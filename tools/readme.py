"""Write README.md from nbs/index.ipynb. With a path as argument, write there instead."""
import base64, re, sys
from pathlib import Path

import nbformat

root = Path(__file__).resolve().parent.parent


def figures(nb):
    """{path from the root: bytes} of the figures of cells that have a `#| label: fig-...`; they stand beside the
    results."""
    found = {}
    for c in nb.cells:
        if not (label := re.search(r'^#\|\s*label: fig-(\S+)', c.source, re.M)): continue
        for o in c.get('outputs', []):
            if png := o.get('data', {}).get('image/png'):
                found[f'benchmarks/results/{label[1].replace("-", "_")}.png'] = base64.b64decode(png)
    return found


def block(out, cell):
    "An output as markdown: markdown as it is, a figure with its description, text indented as in a notebook page."
    data = out.get('data', {})
    if 'image/png' in data:
        label, alt = (re.search(rf'^#\|\s*{k}: (.+)', cell.source, re.M) for k in ('label', 'fig-alt'))
        return f'![{alt[1].strip(chr(34))}](benchmarks/results/{label[1].removeprefix("fig-").replace("-", "_")}.png)'
    if 'text/markdown' in data: return from_root(''.join(data['text/markdown']).strip())
    txt = ''.join(data.get('text/plain', out.get('text', ''))).rstrip()
    return '\n'.join(f'    {l}'.rstrip() for l in txt.splitlines())


def from_root(md):
    "Links that start in nbs/ made to start beside the README."
    return re.sub(r'\]\((?!http|#|\.\.)([^)]+)\)', r'](nbs/\1)', md).replace('](../', '](')


def readme(nb):
    parts = ['<!-- Written by tools/readme.py from nbs/index.ipynb: change that. -->']
    for c in nb.cells:
        if re.search(r'^#\|\s*(hide|default_exp|export)', c.source, re.M): continue
        if c.cell_type == 'markdown': parts.append(from_root(c.source))
        elif c.cell_type == 'code':
            if not re.search(r'^#\|\s*echo: false', c.source, re.M): parts.append(f'```python\n{c.source}\n```')
            parts += [b for o in c.outputs if (b := block(o, c))]
    return '\n\n'.join(parts) + '\n'


if __name__ == '__main__':
    out, nb = (Path(sys.argv[1]) if len(sys.argv) > 1 else root/'README.md',
               nbformat.read(root/'nbs'/'index.ipynb', as_version=4))
    out.write_text(readme(nb), encoding='utf-8', newline='\n')
    for name, png in figures(nb).items():
        (out.parent/name).parent.mkdir(parents=True, exist_ok=True)
        (out.parent/name).write_bytes(png)
