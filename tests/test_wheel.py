"The wheel and the source archive, installed where the repository cannot be seen, work in a notebook elsewhere."
import ast, os, re, sys, tarfile, tomllib, zipfile

import nbformat, pytest
import first_cell, release, run_notebooks
from nbformat.v4 import new_code_cell, new_notebook

root = release.root
if os.name == 'nt': pytest.skip('environments of links need a right that Windows gives to few', allow_module_level=True)


@pytest.fixture(scope='module')
def archives(tmp_path_factory): return release.build(tmp_path_factory.mktemp('dist'))


@pytest.fixture(scope='module')
def notebook_env(tmp_path_factory):
    "What the library requires, pip, and what runs notebooks; nothing that only developers need, and not the package."
    return release.environment(tmp_path_factory.mktemp('notebooks'), ('pip', 'ipykernel', 'nbclient'))


def run_cells(py, cells, folder, env=None):
    "Run a notebook of these cells with the Python `py`, in `folder`; what it printed."
    nbformat.write(new_notebook(cells=[new_code_cell(s) for s in cells]), folder/'elsewhere.ipynb')
    code = '\n'.join(('import nbformat', 'from nbclient import NotebookClient',
        f'nb = nbformat.read({str(folder/"elsewhere.ipynb")!r}, as_version=4)',
        'NotebookClient(nb, timeout=300, kernel_name="python3", '
            f'resources={{"metadata": {{"path": {str(folder)!r}}}}}).execute()',
        'print("".join(o.get("text", "") for c in nb.cells for o in c.get("outputs", []) '
            'if o.get("name") == "stdout"))'))
    return release.run(py, '-c', code, cwd=folder, env=env or {})


def test_archives_hold_what_they_should(archives):
    sdist, wheel = archives
    assert 'PASSED' in release.run(sys.executable, '-m', 'twine', 'check', '--strict', *archives)
    names = zipfile.ZipFile(wheel).namelist()
    assert {'lesson8nlp/py.typed', 'lesson8nlp/pretrained/reviews/weights.npz'} <= set(names)
    assert not [n for n in names if not n.startswith('lesson8nlp')]
    meta = next(zipfile.ZipFile(wheel).read(n).decode() for n in names if n.endswith('/METADATA'))
    assert 'License-Expression: Apache-2.0' in meta and any(n.endswith('/LICENSE') for n in names)
    for extra in ('dev', 'docs', 'cluster'): assert f'Provides-Extra: {extra}' in meta
    inside = {n.split('/', 1)[1] for n in tarfile.open(sdist).getnames() if '/' in n}
    assert {'LICENSE', 'README.md', 'settings.ini', 'lesson8nlp/py.typed'} <= inside


def test_measured_rows_come_with_the_package(archives):
    "Lessons show them where there is no checkout, on Colab for example."
    sdist, wheel = archives
    rows = {f.name for f in (root/'benchmarks'/'results').glob('*.json')}
    assert rows and rows == {n.removeprefix('lesson8nlp/results/') for n in zipfile.ZipFile(wheel).namelist()
                             if n.startswith('lesson8nlp/results/')}
    assert rows == {n.split('/')[-1] for n in tarfile.open(sdist).getnames() if '/benchmarks/results/' in n}


def test_no_lesson_reads_a_checkout():
    "What only runs beside the repository fails on Colab; slow cells, which measure, may write there."
    for p in sorted((root/'nbs').glob('**/*.ipynb')):
        if p.name == 'index.ipynb' or '.ipynb_checkpoints' in p.parts: continue
        for c in nbformat.read(p, as_version=4).cells:
            if c.cell_type != 'code' or run_notebooks.skipped(c, run_notebooks.skip_flags): continue
            assert not re.search(r'\.\./(benchmarks|lesson8nlp|pyproject)', c.source), f'{p.name}: {c.source:.80}'


def test_source_archive_holds_no_tests(archives):
    "They read notebooks, tools and benchmarks, which it lacks; setuptools would add some of them."
    assert not [n for n in tarfile.open(archives[0]).getnames() if n.split('/')[1:2] == ['tests']]


def test_description_links_to_the_repository(archives):
    "PyPI shows the README without the files beside it: links and pictures have whole addresses."
    sdist, wheel = archives
    with tarfile.open(sdist) as t, zipfile.ZipFile(wheel) as z:
        found = [t.extractfile(n).read().decode() for n in t.getnames() if n.endswith('PKG-INFO')]
        found += [z.read(n).decode() for n in z.namelist() if n.endswith('/METADATA')]
    repo = tomllib.loads((root/'pyproject.toml').read_text(encoding='utf-8'))['project']['urls']['Repository']
    relative = re.compile(r'(!?)\[[^]]*\]\((?![a-z]+:|#)([^)]+)\)')
    links = relative.findall((root/'README.md').read_text(encoding='utf-8'))
    assert len(found) == 3 and len(links) > 40 and any(picture for picture, _ in links)
    for meta in found:
        assert 'Description-Content-Type: text/markdown' in meta and not re.search(r'\]\((?![a-z]+:|#)', meta)
        for picture, to in links: assert f']({repo}/{"raw" if picture else "blob"}/main/{to})' in meta


def test_wheel_works_elsewhere(archives, tmp_path):
    py, _ = release.environment(tmp_path, ('pip', 'ipykernel', 'nbclient'))
    release.install(py, archives[1])
    out = run_cells(py, (
        'import lesson8nlp, sys\nfrom lesson8nlp.all import *',
        "assert 'env' in lesson8nlp.__file__, lesson8nlp.__file__\n"
        "assert not any(p.rstrip('/').endswith('/nbs') for p in sys.path)",
        "tok = Tokenizer()\ntoks = list(tok.pipe(['The film was GREAT!!!', 'A dull film.']))\n"
        "num = Numericalize(min_freq=1)\nnum.setup(toks)",
        "from lesson8nlp.core import measured\nfrom lesson8nlp.experiments import *\n"
        "assert measured('baseline') and len(ladder_rows()) > 7 and few_labels_rows()",
        "lm = TextModel.pretrained(); assert lm.perplexity('This film was a waste of time.') < 200",
        "print(*toks[0])\nprint(num.decode(num(toks[1])))\nprint(lesson8nlp.__file__)"), tmp_path)
    assert 'xxbos xxmaj the film was xxup great xxrep 3 !' in out
    assert str(tmp_path) in out.splitlines()[-2] + out.splitlines()[-1]


def test_source_archive_installs(archives, tmp_path):
    py, _ = release.environment(tmp_path, ('pip', 'setuptools', 'wheel'))
    release.install(py, archives[0])
    assert 'TextModel(language_model' in release.run(py, '-c', release.smoke, cwd=tmp_path)


def test_library_needs_no_package_of_the_developers(archives, tmp_path):
    "Every module imports, and the command line says what it can do, with what the wheel requires and nothing else."
    py, site = release.environment(tmp_path, ('pip',))
    release.install(py, archives[1])
    here = {p.name for p in site.iterdir()}
    assert not here & {'nbdev', 'pytest', 'ruff', 'sphinx', 'dask', 'distributed', 'hypothesis', 'mypy'}
    modules = sorted(p.stem for p in (root/'lesson8nlp').glob('*.py') if not p.stem.startswith('_'))
    release.run(py, '-c', '; '.join(f'import lesson8nlp.{m}' for m in modules), cwd=tmp_path)
    assert 'classify' in release.run(py.parent/'lesson8nlp', '--help', cwd=tmp_path)


def test_a_lesson_installs_the_package_where_it_is_missing(archives, notebook_env, tmp_path):
    "As on Colab, but offline: the address in the first cell is replaced by the wheel, and pip may ask no index."
    py, site = notebook_env
    with pytest.raises(RuntimeError, match="No module named 'lesson8nlp'"):
        release.run(py, '-c', 'import lesson8nlp', cwd=tmp_path)
    nb = nbformat.read(root/'nbs'/'03_numericalizer.ipynb', as_version=4)
    cells = [c.source for c in nb.cells
             if c.cell_type == 'code' and not run_notebooks.skipped(c, run_notebooks.skip_flags)]
    assert cells[0] == first_cell.source()
    cells[0] = cells[0].replace(first_cell.address(), archives[1].as_posix())
    env = dict(PIP_NO_INDEX='1', PIP_FIND_LINKS='', PIP_CONFIG_FILE=os.devnull, FASTAI_HOME=str(tmp_path/'fastai'),
               MPLBACKEND='agg')
    out = run_cells(py, [*cells, 'import lesson8nlp; print(lesson8nlp.__file__)'], tmp_path, env)
    assert (site/'lesson8nlp'/'py.typed').exists() and str(site) in out
    before = (site/'lesson8nlp'/'__init__.py').stat().st_mtime_ns
    run_cells(py, [first_cell.source().replace(first_cell.address(), 'no-such-package')], tmp_path, env)
    assert (site/'lesson8nlp'/'__init__.py').stat().st_mtime_ns == before, 'where the package is, nothing is installed'


def test_lessons_import_what_the_library_brings():
    "A lesson on Colab has the library, what it requires, and Jupyter; no package of the developers."
    there = {f.parts[0].split('.')[0] for d in release.closure([*release.library_needs(), 'ipykernel']).values()
             for f in d.files or [] if f.parts}
    there |= sys.stdlib_module_names | {'lesson8nlp'}
    for p in sorted((root/'nbs').glob('[0-9]*.ipynb')):
        for c in nbformat.read(p, as_version=4).cells:
            if c.cell_type != 'code' or run_notebooks.skipped(c, run_notebooks.skip_flags): continue
            code = re.sub(r'^\s*[%!].*$', '', c.source, flags=re.M)
            for n in ast.walk(ast.parse(code)):
                names = ([a.name for a in n.names] if isinstance(n, ast.Import) else
                         [n.module] if isinstance(n, ast.ImportFrom) and not n.level else [])
                for m in names: assert m.split('.')[0] in there, f'{p.name} imports {m}'
