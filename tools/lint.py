"Look for mistakes in notebooks and code, for spelling, and for types: `make lint`. With --fast without the types."
import subprocess, sys
from importlib.util import find_spec
from pathlib import Path

root = Path(__file__).resolve().parent.parent
steps = {'ruff': ['check', '--quiet', '--output-format', 'concise', '.'], 'codespell_lib': [],
         'mypy': ['--no-error-summary']}


def lint(fast=False):
    "The names of the steps that found something; each prints what it found."
    if lacks := [m for m in steps if find_spec(m) is None]:
        sys.exit(f'{", ".join(lacks)} not installed: make install, or pip install -e ".[dev]".')
    todo = {m: args for m, args in steps.items() if not (fast and m == 'mypy')}
    return [m for m, args in todo.items() if subprocess.run([sys.executable, '-m', m, *args], cwd=root).returncode]


if __name__ == '__main__':
    if wrong := lint('--fast' in sys.argv):
        sys.exit(f'Found by: {", ".join(wrong)}. A word that is right goes into tools/words.txt.')
    print('ruff, codespell' + ('' if '--fast' in sys.argv else ', mypy') + ': nothing found')
