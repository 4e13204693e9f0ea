"""Write README.md from nbs/index.ipynb. With a path as argument, write there instead."""
import re, sys
from pathlib import Path

import nbformat

root = Path(__file__).resolve().parent.parent


def block(out):
    "An output as markdown: markdown as it is, text indented as in a notebook page."
    data = out.get('data', {})
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
            parts += [b for o in c.outputs if (b := block(o))]
    return '\n\n'.join(parts) + '\n'


if __name__ == '__main__':
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else root/'README.md'
    out.write_text(readme(nbformat.read(root/'nbs'/'index.ipynb', as_version=4)), encoding='utf-8', newline='\n')
