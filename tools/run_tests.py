"""What `make test` runs, and parts of it on their own.

    python tools/run_tests.py --all          # notebooks, package, site and wheel: make test
    python tools/run_tests.py 02_tokenizer   # one notebook, its answers and its tests: make test NB=02_tokenizer
    python tools/run_tests.py --offline      # what reads reviews, with an empty data folder and without a network
    python tools/run_tests.py --offline --slow  # the same of the long tests: make test-slow-offline
    python tools/run_tests.py --coverage     # notebooks and tests, and how much of the package they run: make coverage
"""
import argparse, ast, difflib, functools, json, os, re, struct, subprocess, sys, tempfile
from pathlib import Path

import first_cell

root = Path(__file__).resolve().parent.parent
# where real reviews come from: a function of `data`, and fastai's URLs.IMDB; made-up ones are always there
sources = {'get_imdb', 'IMDB'}


def defined(node):
    "The names that a top-level statement defines."
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)): return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else []
    return {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)} - {'__all__'}


def readers(source, known):
    """The names in Python code `source` that lead to a name in `known`, directly or through each other; with `known`
    itself."""
    def decorated(n): return min([n.lineno, *(d.lineno for d in getattr(n, 'decorator_list', []))])
    lines, found = source.splitlines(), set(known)
    parts = [(defined(n), set(re.findall(r'\w+', '\n'.join(lines[decorated(n)-1:n.end_lineno]))))
             for n in ast.parse(source).body]
    while more := {n for names, words in parts if words & found for n in names} - found: found |= more
    return found


@functools.cache
def review_readers():
    "The names of the package that lead to a real review."
    found, before = set(sources), set()
    while found != before:
        before = set(found)
        for p in sorted((root/'lesson8nlp').glob('[!_]*.py')): found = readers(p.read_text(encoding='utf-8'), found)
    return found


def runs(cell, skip=('eval: false', 'slow', 'cuda', 'notest')):
    "Is this a code cell that `make test` runs?"
    return (cell['cell_type'] == 'code'
            and not set(re.findall(r'^#\|\s*(.+?)\s*$', ''.join(cell['source']), re.M)) & set(skip))


def notebooks_that_read(names):
    "The notebooks with a cell that `make test` runs and that holds one of `names`."
    for p in first_cell.notebooks():
        cells = json.loads(p.read_text(encoding='utf-8'))['cells']
        if names & {w for c in cells if runs(c) for w in re.findall(r'\w+', ''.join(c['source']))}: yield p


def without_network():
    """Take the network from this process and its children, and say how: on Linux and as root nothing but this machine
    is left."""
    try:
        import ctypes, fcntl, socket
        if ctypes.CDLL(None).unshare(0x40000000): raise OSError('not allowed')  # CLONE_NEWNET
        with socket.socket() as s:
            fcntl.ioctl(s, 0x8914, struct.pack('16sh', b'lo', 0x41))  # SIOCSIFFLAGS: 127.0.0.1 is up
        return 'without a network'
    except (ImportError, AttributeError, OSError):
        nowhere = {k: 'http://127.0.0.1:9' for k in ('http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY')}
        os.environ.update(nowhere, no_proxy='localhost,127.0.0.1', NO_PROXY='localhost,127.0.0.1')
        return 'with proxies that lead nowhere'


def call(*args):
    "Run Python with `args`; its exit status."
    return subprocess.run([sys.executable, *map(str, args)], cwd=root,
                          env=os.environ | dict(OMP_NUM_THREADS='1', PYTHONUNBUFFERED='1')).returncode


def no_notebook(name):
    "End with the names of notebooks that are like this one, or with all names."
    there = [p.stem for p in first_cell.notebooks()]
    sys.exit(f'There is no notebook {name} to test: NB is the name of a file in nbs/ without .ipynb, such as '
             f'{", ".join(difflib.get_close_matches(name, there) or there)}.')


def test_notebooks(paths):
    "Run notebooks as nbdev does, two at a time."
    for name in {p.stem for p in paths} - {p.stem for p in first_cell.notebooks()}: no_notebook(name)
    names = '|'.join(re.escape(p.name) for p in paths)
    return call('-c', f'from nbdev.test import nbdev_test; nbdev_test(file_re={f"^({names})$"!r}, do_print=True)')


def test_one(name):
    "A notebook, its answers, and the tests of the module that it exports."
    found = [p for p in first_cell.notebooks() if p.stem == name and name[0] != '_']  # nbdev leaves out _drafts
    if not found: no_notebook(name)
    exported = re.search(r'#\| (?:default_exp|export) (\w+)', found[0].read_text(encoding='utf-8'))
    about = [exported[1]] if exported else []
    about.append(re.sub(r'^[0-9]+[a-z]?_', '', name))  # the lesson 02_tokenizer exports `rules`
    tests = next((t for m in about if (t := root/'tests'/f'test_{m}.py').exists()), None)
    failed = call('-m', 'pytest', 'tests/test_project.py', '-k', f'{name} or package_is')
    failed = test_notebooks([*found, *(root/'nbs').rglob(f'answers_{name}.ipynb')]) or failed
    return (call('-m', 'pytest', '-m', 'not slow', tests) if tests else 0) or failed


def test_files(*args):
    """Run test files, one for each core at a time; all tests of a file stay in one process, which builds its fixtures
    once."""
    return call('-m', 'pytest', '-n', 'logical', '--maxprocesses', '4', '--dist', 'loadfile', *args)


def test_all():
    "First what takes a minute and finds most mistakes; then every notebook and every test, whatever failed before."
    lint = subprocess.Popen([sys.executable, 'tools/lint.py'], cwd=root, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, encoding='utf-8')
    failed = call('-m', 'pytest', 'tests/test_project.py')
    print(lint.communicate()[0], end='', flush=True)
    if failed or lint.returncode: return 1
    failed = ['notebooks (the list is above)'] if test_notebooks(first_cell.notebooks()) else []
    if test_files('-m', 'not slow', '--ignore', 'tests/test_project.py'): failed.append('tests')
    if failed: print(f'Failed: {" and ".join(failed)}', flush=True)
    return bool(failed)


def test_offline(slow=False):
    """Everything that reads reviews (or the slow tests that do), as it is on a machine that has none and cannot fetch
    them."""
    if (root/'build'/'docs'/'index.html').exists(): os.environ['DOCS_BUILT'] = '1'  # reviews do not change the site
    how, notebooks = without_network(), [] if slow else list(notebooks_that_read(review_readers()))
    with tempfile.TemporaryDirectory() as home:
        os.environ['FASTAI_HOME'] = home
        print(f'No reviews, {how}: {len(notebooks)} notebooks, and the {"slow "*slow}tests that read reviews',
              flush=True)
        failed = bool(notebooks) and test_notebooks(notebooks)
        return test_files('-m', f'reviews and {"" if slow else "not "}slow',
                          '--ignore', 'tests/test_docs.py') or failed  # the site shows saved outputs


def test_coverage(name=None):
    """Run all notebooks and the fast tests (or one notebook and its tests), and print the part of the package that
    they ran."""
    (root/'build'/'coverage').mkdir(parents=True, exist_ok=True)
    for old in (root/'build'/'coverage').iterdir(): old.unlink()
    os.environ['COVERAGE_PROCESS_START'] = str(root/'pyproject.toml')
    if name: failed = call('-m', 'coverage', 'run', __file__, name)
    else:
        failed = call('-m', 'coverage', 'run', '-m', 'pytest', '-m', 'not slow', '--ignore', 'tests/test_docs.py')
        failed = test_notebooks(first_cell.notebooks()) or failed
    call('-m', 'coverage', 'combine', '--quiet')
    call('-m', 'coverage', 'report', '--skip-covered')
    return failed


def main():
    ap = argparse.ArgumentParser(description='What `make test` runs, and parts of it on their own.')
    ap.add_argument('notebook', nargs='?', help='the name of a notebook, such as 02_tokenizer')
    ap.add_argument('--all', action='store_true', help='everything but the slow tests')
    ap.add_argument('--offline', action='store_true',
                    help='what reads reviews, with an empty data folder and without a network')
    ap.add_argument('--slow', action='store_true', help='with --offline: only the slow tests')
    ap.add_argument('--coverage', action='store_true',
                    help='how much of the package the notebooks and tests run (or the notebook and its tests)')
    args = ap.parse_args()
    if args.coverage: sys.exit(test_coverage(args.notebook))
    if bool(args.notebook) + args.all + args.offline != 1: ap.error('give the name of a notebook, --all or --offline')
    if args.slow and not args.offline: ap.error('--slow goes with --offline; all slow tests run under make test-slow')
    sys.exit(test_all() if args.all else test_offline(args.slow) if args.offline else test_one(args.notebook))


if __name__ == '__main__': main()
