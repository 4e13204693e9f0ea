"""Begin every notebook with one hidden cell that installs the package where it is missing, as on Colab and Kaggle.

    python tools/first_cell.py           # add or update the cell in every notebook that imports the package
    python tools/first_cell.py --check   # change nothing, and name the notebooks that lack it

The address comes from pyproject.toml. Where the package is installed, the cell does nothing.
"""
import argparse, ast, json, os, re, sys, tomllib
from pathlib import Path

root = Path(__file__).resolve().parent.parent
cell_id = 'c01ab000'  # one id everywhere, so that the cell is found again and updated in place


def address():
    "What pip installs the package from."
    project = tomllib.loads((root/'pyproject.toml').read_text(encoding='utf-8'))['project']
    return f'git+{project["urls"]["Repository"]}'


def source():
    "The code of the cell: plain Python, so that everything that reads notebooks can read it."
    return f"""#| hide
# Colab and Kaggle start without this package: install it there, and do nothing where it is installed.
try: import lesson8nlp
except ImportError: get_ipython().run_line_magic('pip', 'install -q {address()}')"""


def cell():
    return dict(cell_type='code', execution_count=None, id=cell_id, metadata={}, outputs=[],
                source=source().splitlines(True))


def imports_package(c):
    "Does a code cell import the package?"
    if c['cell_type'] != 'code' or c['id'] == cell_id: return False
    code = re.sub(r'^\s*[%!].*$', '', ''.join(c['source']), flags=re.M)
    try: nodes = list(ast.walk(ast.parse(code)))
    except SyntaxError: return False
    names = [n.module or '' for n in nodes if isinstance(n, ast.ImportFrom)]
    names += [a.name for n in nodes if isinstance(n, ast.Import) for a in n.names]
    return any(n.split('.')[0] == 'lesson8nlp' for n in names)


def with_first_cell(cells):
    "The cells of a notebook with the one that installs before its first code cell, if any of them needs the package."
    rest = [c for c in cells if c['id'] != cell_id]
    if not any(map(imports_package, rest)): return rest
    i = next(i for i, c in enumerate(rest) if c['cell_type'] == 'code')
    return [*rest[:i], cell(), *rest[i:]]


def notebooks(folder=None):
    "Every notebook of the project."
    folder = folder or root/'nbs'
    return [p for p in sorted(folder.rglob('*.ipynb'))
            if not any(o.startswith('.') for o in p.relative_to(folder).parts)]


def update(path, check=False):
    "Put the cell into a notebook; return whether it was missing or old."
    nb = json.loads(path.read_text(encoding='utf-8'))
    cells = with_first_cell(nb['cells'])
    if cells == nb['cells']: return False
    if not check:
        tmp = path.with_name(f'.{path.name}.tmp')
        text = json.dumps(nb | dict(cells=cells), ensure_ascii=False, indent=1, sort_keys=True)
        tmp.write_text(text + '\n', encoding='utf-8', newline='\n')
        os.replace(tmp, path)
    return True


def main():
    ap = argparse.ArgumentParser(description='Begin every notebook with the cell that installs the package.')
    ap.add_argument('notebooks', nargs='*', type=Path, help='default: every notebook in nbs/')
    ap.add_argument('--check', action='store_true', help='change nothing; fail if a notebook lacks the cell')
    args = ap.parse_args()
    changed = [p for p in args.notebooks or notebooks() if update(p, args.check)]
    for p in changed: print(f'{"lacks the cell" if args.check else "written"}: {p}')
    if args.check and changed: sys.exit('Run make export.')


if __name__ == '__main__': main()
