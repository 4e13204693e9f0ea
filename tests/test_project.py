"The notebooks are clean, in order and in step with the package; the configuration says everything once."
import ast, base64, configparser, functools, importlib, json, os, re, shutil, subprocess, sys, tomllib, types
from pathlib import Path

import pytest
import adapter, first_cell, lock, mutate, readme, run_notebooks, run_tests

root = Path(__file__).resolve().parent.parent
notebooks = sorted((root/'nbs').rglob('*.ipynb'))
notebooks = [p for p in notebooks if not p.name.startswith('.') and '.ipynb_checkpoints' not in p.parts]
lessons = [p for p in notebooks if re.match(r'\d\d', p.name) and p.parent.name in ('nbs', 'internals')]
modules = sorted(p.stem for p in (root/'lesson8nlp').glob('*.py') if not p.stem.startswith('_'))
name = lambda p: p.relative_to(root/'nbs').as_posix()


def cells(p, kind=None):
    return [c for c in json.loads(p.read_text(encoding='utf-8'))['cells'] if kind in (None, c['cell_type'])]

def src(c): return ''.join(c['source'])

def headings(p):
    return [l.lstrip('# ').strip() for c in cells(p, 'markdown') for l in src(c).splitlines() if re.match(r'## ', l)]


def test_there_are_lessons(): assert len(lessons) >= 8 and len(modules) >= 8


def test_a_lesson_can_be_read_in_25_minutes():
    assert not {p.rel: p.minutes() for p in adapter.pages() if p.group == 'course' and p.minutes() > 25}


@pytest.mark.parametrize('p', notebooks, ids=name)
def test_notebook_is_clean(p, tmp_path):
    marked = [src(c) for c in cells(p) if re.match(r'`?(<{7}|={7}|>{7})', src(c))]
    assert not marked, (
        f'{p.name}: a merge left both versions of a cell; keep one, and delete the cells {", ".join(marked)}')
    q = tmp_path/p.name
    shutil.copy(p, q)
    from fastcore.nbio import read_nb, write_nb
    from nbdev.clean import clean_nb
    nb = read_nb(q)
    clean_nb(nb)
    write_nb(nb, q)
    same = json.loads(q.read_text(encoding='utf-8')) == json.loads(p.read_text(encoding='utf-8'))
    assert same, f'{p.name}: run .venv/bin/nbdev-clean'
    assert p.stat().st_size < 300_000
    ids = [c['id'] for c in cells(p)]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize('p', notebooks, ids=name)
def test_outputs_are_worth_keeping(p):
    code = cells(p, 'code')
    for c in code:
        for o in c['outputs']:
            assert o['output_type'] != 'error', src(c)
            assert o.get('name') != 'stderr', src(c)
            txt = json.dumps(o.get('text', [])) + json.dumps(
                {k: v for k, v in o.get('data', {}).items() if k.startswith('text/')})
            assert not (m := re.search(r'/(root|work|tmp|home|Users)/[\w.]+', txt)), f'a path of one machine: {m[0]}'
            assert '<progress' not in txt and 'jupyter.widget' not in txt, src(c)
    assert not code or any(c['outputs'] for c in code), 'executed notebooks are committed'


@pytest.mark.parametrize('p', notebooks, ids=name)
def test_links_lead_somewhere(p):
    for c in cells(p, 'markdown'):
        for to in re.findall(r'\]\(([^)\s]+)\)', src(c)):
            if re.match(r'https?://|#', to): continue
            assert (p.parent/to.split('#')[0]).exists(), f'{to} in: {src(c)[:80]}'


@pytest.mark.parametrize('p', lessons, ids=name)
def test_lesson_opens_and_closes(p):
    first, second = src(cells(p)[0]), src(cells(p)[1])
    assert re.match(r'# \S.*\n\n> \S', first), 'title and subtitle'
    assert 'You will learn' in second and '| Time |' in second and '| Next |' in second
    for h in ('Summary', 'Questionnaire', 'Exercises', 'Further reading'): assert h in headings(p), h
    assert (root/'nbs'/'answers'/f'answers_{p.name}').exists()
    after = [src(c) for c in cells(p)[[src(c).strip() for c in cells(p)].index('## Exercises'):]
             if c['cell_type'] == 'code']
    ex = [s for s in after if '#| eval: false' in s]
    assert len(ex) >= 3 or p.name == '16_all.ipynb', 'at least three exercises'
    for s in ex: assert '...' in s and re.search(r'test_|assert', s), f'an exercise checks itself:\n{s}'


@pytest.mark.parametrize('p', lessons, ids=name)
def test_answers_hold_the_same_checks(p):
    "Every check of an exercise stands in the answers too, where it runs."
    answers = '\n'.join(src(c) for c in cells(root/'nbs'/'answers'/f'answers_{p.name}', 'code')
                        if 'eval: false' not in src(c))
    for c in cells(p, 'code'):
        if '#| eval: false' not in src(c): continue
        for l in src(c).splitlines():
            if re.match(r'(test_|assert )', l): assert l.strip() in answers, l


def test_package_is_what_the_notebooks_export(tmp_path):
    "Export from a copy, and find the same files."
    for d in ('nbs', 'lesson8nlp'):
        shutil.copytree(root/d, tmp_path/d, ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints'))
    for f in ('pyproject.toml', 'settings.ini', 'setup.py'): shutil.copy(root/f, tmp_path/f)
    for f in (tmp_path/'lesson8nlp').glob('*.py'):
        if f.name != '__init__.py': f.unlink()
    subprocess.run([sys.executable, '-c', 'import nbdev; nbdev.nbdev_export()'], cwd=tmp_path, check=True, timeout=120)
    for d, e in ((root, tmp_path), (tmp_path, root)):
        for f in (d/'lesson8nlp').glob('*.py'):
            assert (e/'lesson8nlp'/f.name).exists(), f'{f.name} is only in one of the two'
            if f.name != '__init__.py':
                assert f.read_text(encoding='utf-8') == (e/'lesson8nlp'/f.name).read_text(encoding='utf-8'), (
                    f'{f.name}: run make export')


def test_readme_is_what_the_index_says(tmp_path):
    subprocess.run([sys.executable, root/'tools'/'readme.py', tmp_path/'README.md'], check=True)
    assert (tmp_path/'README.md').read_text(encoding='utf-8') == (root/'README.md').read_text(encoding='utf-8'), (
        'run make export')
    for p in (tmp_path/'benchmarks').rglob('*.png'):
        assert p.read_bytes() == (root/p.relative_to(tmp_path)).read_bytes(), 'run make export'


def test_readme_shows_a_figure_with_its_description():
    "GitHub shows no pictures that are part of a page: they are files beside the results."
    from nbformat.v4 import new_code_cell, new_notebook, new_output
    png, code = (base64.b64encode(b'a picture').decode(),
                 '#| echo: false\n#| label: fig-few-labels\n#| fig-alt: "Curves."\ndraw()')
    nb = new_notebook(cells=[
        new_code_cell(code, outputs=[new_output('display_data', {'image/png': png, 'text/plain': '<Figure>'})]),
        new_code_cell(code)])
    assert '![Curves.](benchmarks/results/few_labels.png)' in readme.readme(nb) and '<Figure>' not in readme.readme(nb)
    assert (readme.figures(nb) == {'benchmarks/results/few_labels.png': b'a picture'}
            and readme.figures(new_notebook(cells=nb.cells[1:])) == {})


def imported(p):
    for node in ast.walk(ast.parse(p.read_text(encoding='utf-8'))):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                yield from [node.module] if node.module else [a.name for a in node.names if not a.name.startswith('__')]
            elif (node.module or '').startswith('lesson8nlp.'): yield node.module.split('.')[1]
            elif node.module == 'lesson8nlp': yield from (a.name for a in node.names)
        if isinstance(node, ast.Import):
            yield from (a.name.split('.')[1] for a in node.names if a.name.startswith('lesson8nlp.'))


@pytest.mark.parametrize('m', modules)
def test_data_flows_one_way(m):
    "`module_order` in lesson8nlp.all is the one list of modules; it may name some that are not written yet."
    from lesson8nlp.all import module_order as order
    assert m in order, f'put {m} into module_order, in the notebook of `all`'
    for o in imported(root/'lesson8nlp'/f'{m}.py'): assert order.index(o) < order.index(m), f'{m} imports {o}'


@pytest.mark.parametrize('m', [m for m in modules if m != 'all'])
def test_public_names_are_documented(m):
    mod = importlib.import_module(f'lesson8nlp.{m}')
    for n in mod.__all__:
        o = getattr(mod, n)
        if callable(o) and getattr(o, '__module__', '') == mod.__name__:
            doc = o.__doc__
            assert doc and '\n' not in doc.strip(), f'{m}.{n} needs a docstring of one line'


def test_all_brings_every_public_name_that_is_no_part_of_another():
    every = importlib.import_module('lesson8nlp.all')
    public = [m for m in every.module_order if m in modules and m not in every._internals]
    assert set(imported(root/'lesson8nlp'/'all.py')) == set(public), (
        'star imports and module_order name the same modules')
    assert len(set(every.module_order)) == len(every.module_order) and set(every._internals) < set(every.module_order)
    for m in public:
        for n in importlib.import_module(f'lesson8nlp.{m}').__all__:
            assert (n in every.__all__) != (n in every._parts) and hasattr(every, n), (
                f'{m}.{n}: in lesson8nlp.all, or one of its _parts')


def test_configuration_says_everything_once():
    toml = tomllib.loads((root/'pyproject.toml').read_text(encoding='utf-8'))
    ini = configparser.ConfigParser(delimiters=['='])
    ini.read(root/'settings.ini', encoding='utf-8')
    assert ini['DEFAULT']['lib_name'] == toml['project']['name'] == toml['tool']['nbdev']['lib_name'] == 'lesson8nlp'
    static, dynamic = set(toml['project']) - {'dynamic'}, set(toml['project']['dynamic'])
    assert not static & dynamic
    from importlib.metadata import distribution
    import lesson8nlp
    dist = distribution('lesson8nlp')
    assert dist.version == lesson8nlp.__version__
    assert any(r.startswith('fastai') for r in dist.requires)
    assert any(e.group == 'nbdev' and e.value == 'lesson8nlp._modidx:d' for e in dist.entry_points)


def test_constraints_are_pins_and_nothing_else():
    lines = (root/'constraints.txt').read_text(encoding='utf-8').split()
    assert all(re.fullmatch(r'[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+', l) for l in lines), 'name==version only: no addresses'
    pinned = {re.sub(r'[-_.]+', '-', l.split('==')[0]).lower() for l in lines}
    for r in lock.requirements(): assert re.split(r'[<>=!]', r)[0].lower() in pinned, f'{r} is not pinned'


def test_runner_runs_the_course_and_the_internals():
    assert sorted(run_notebooks.lessons()) == lessons and run_notebooks.lessons()[0].parent.name == 'nbs'


@pytest.mark.parametrize('p', lessons, ids=name)
def test_the_head_says_the_time_that_was_measured(p):
    times = {r['what']: r['ours'] for r in
             json.loads((root/'benchmarks'/'results'/'lessons.json').read_text(encoding='utf-8'))}
    head = '\n'.join(map(src, cells(p)[:3]))
    assert '| Time |' in head and run_notebooks.with_time(head, times[p.stem]) == head, (
        f'run tools/run_notebooks.py --save --times {p.stem}')
    assert set(times) == {q.stem for q in lessons}


def test_runner_and_nbdev_skip_the_same_cells():
    assert run_notebooks.skip_flags == set(
        tomllib.loads((root/'pyproject.toml').read_text(encoding='utf-8'))['tool']['nbdev']['tst_flags'].split())


def test_runner_reports_a_failing_lesson(tmp_path):
    "A lesson that fails is named, the others still run, and the exit status says so."
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook
    for n, s in {'bad': '1/0', 'good': '6*7'}.items():
        nbformat.write(new_notebook(cells=[new_code_cell(s), new_code_cell('#| slow\n1/0')]), tmp_path/f'{n}.ipynb')
    r = subprocess.run([sys.executable, root/'tools'/'run_notebooks.py', tmp_path/'bad.ipynb', tmp_path/'good.ipynb',
                        '--out', tmp_path/'out'], capture_output=True, text=True)
    assert r.returncode != 0 and 'Failed: bad.ipynb' in r.stderr and 'ZeroDivisionError' in r.stdout
    assert "'42'" in str(nbformat.read(tmp_path/'out'/'good.ipynb', as_version=4).cells[0].outputs)


def test_runner_goes_on_when_a_kernel_dies(tmp_path, monkeypatch, capsys):
    "The lesson whose process ends has failed; the others still run, and their times are kept."
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook
    for n, s in {'bad': 'import os; os._exit(1)', 'good': '6*7'}.items():
        nbformat.write(new_notebook(cells=[new_code_cell('1'), new_code_cell(s)]), tmp_path/f'{n}.ipynb')
    kept = {}
    monkeypatch.setattr(run_notebooks, 'save_times', kept.update)
    monkeypatch.setattr(sys, 'argv', ['run_notebooks.py', '--times', '--out', str(tmp_path/'out'),
                                      *(str(tmp_path/f'{n}.ipynb') for n in ('bad', 'good'))])
    with pytest.raises(SystemExit, match='Failed: bad.ipynb'): run_notebooks.main()
    out = capsys.readouterr().out
    assert 'Kernel died in cell 2 of 2' in out and 'os._exit(1)' in out and '1 of 2 notebooks ran' in out
    assert list(kept) == ['good']
    assert "'42'" in str(nbformat.read(tmp_path/'out'/'good.ipynb', as_version=4).cells[1].outputs)


def test_readers_of_reviews_are_found():
    "By what they call, through fixtures, variables and code in strings; what reads none is left alone."
    source = """
from lesson8nlp.data import get_imdb, sample_reviews
files = sorted(get_imdb().rglob('*.txt'))
def helper(): return files[:10]
@pytest.fixture
def folder(): return helper()
def test_a(folder): pass
def test_b(): run('from lesson8nlp.data import *; get_imdb()')
@pytest.mark.parametrize('f', files)
def test_c(f): pass
def test_d(): sample_reviews()
"""
    found = run_tests.readers(source, run_tests.sources)
    assert found - run_tests.sources == {'files', 'helper', 'folder', 'test_a', 'test_b', 'test_c'}
    read = [p.name for p in run_tests.notebooks_that_read(run_tests.review_readers())]
    assert '01_data.ipynb' in read and '01_store.ipynb' not in read and len(read) > 8


@pytest.mark.parametrize('workers', ([], ['-n', '2', '--dist', 'loadfile']), ids=('one process', 'two processes'))
def test_a_reader_that_is_not_seen_is_reported(tmp_path, workers):
    for f in ('conftest.py', 'test_sneaky.py'):
        code = (root/'tests'/f).read_text(encoding='utf-8') if f == 'conftest.py' else f"""
import os, pathlib
def test_plain(): pass
def test_sneaky(): os.listdir(pathlib.Path({str(tmp_path)!r})/'data'/'imdb')
"""
        (tmp_path/f).write_text(code, encoding='utf-8')
    (tmp_path/'data'/'imdb').mkdir(parents=True)
    env = os.environ | dict(PYTHONPATH=os.pathsep.join([str(root/'tools'), os.environ.get('PYTHONPATH', '')]))
    r = subprocess.run([sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', *workers, tmp_path],
                       cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert (r.returncode == 1 and 'test_sneaky.py::test_sneaky read reviews' in r.stdout
            and 'test_plain read' not in r.stdout), r.stdout


def test_without_a_network_only_this_machine_answers():
    code = """
import http.server, threading, urllib.request, run_tests
print(run_tests.without_network())
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(urllib.request.urlopen(f'http://127.0.0.1:{server.server_port}/', timeout=10).status)
try: urllib.request.urlopen('http://192.0.2.1/', timeout=30)
except OSError as e: print(type(e).__name__)
"""
    env = os.environ | dict(PYTHONPATH=str(root/'tools'))
    out = subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True, timeout=60,
                         check=True).stdout.split('\n')
    assert out[0].startswith('with') and out[1:3] == ['200', 'URLError']


@pytest.mark.parametrize('lint, notebooks, tests, says', [
    (0, 0, 0, ''), (0, 1, 0, 'Failed: notebooks (the list is above)'), (0, 0, 1, 'Failed: tests'),
    (0, 1, 1, 'Failed: notebooks (the list is above) and tests'), (1, 0, 0, 'a word is wrong')])
def test_whatever_fails_is_shown_and_fails_all(monkeypatch, capsys, lint, notebooks, tests, says):
    "A notebook that fails does not keep the tests from running; a mistake that lint finds keeps both."
    ran = []
    monkeypatch.setattr(run_tests, 'call', lambda *args: ran.append(args) or (tests if '-n' in args else 0))
    monkeypatch.setattr(run_tests, 'test_notebooks', lambda paths: ran.append(paths) or notebooks)
    monkeypatch.setattr(run_tests.subprocess, 'Popen', lambda *args, **kw: types.SimpleNamespace(
        communicate=lambda: ('a word is wrong\n'*lint, None), returncode=lint))
    assert bool(run_tests.test_all()) == any((lint, notebooks, tests))
    assert capsys.readouterr().out.strip() == says and len(ran) == (1 if lint else 3)


@pytest.mark.parametrize('slow, marks', [(False, 'reviews and not slow'), (True, 'reviews and slow')])
def test_what_runs_without_reviews(monkeypatch, slow, marks):
    "Notebooks and fast tests, or the slow tests, with an empty data folder."
    ran = []
    for k in ('FASTAI_HOME', 'DOCS_BUILT'): monkeypatch.setenv(k, '')
    monkeypatch.setattr(run_tests, 'without_network', lambda: 'without a network')
    monkeypatch.setattr(run_tests, 'test_notebooks', lambda paths: ran.append(len(paths)))
    monkeypatch.setattr(run_tests, 'test_files',
                        lambda *args: ran.append((args[1], os.listdir(os.environ['FASTAI_HOME']))))
    run_tests.test_offline(slow)
    assert ran[-1] == (marks, []) and len(ran) == 2 - slow
    r = subprocess.run([sys.executable, root/'tools'/'run_tests.py', '--slow', '02_tokenizer'], capture_output=True,
                       text=True, timeout=60)
    assert r.returncode == 2 and '--offline' in r.stderr


def test_one_notebook_that_does_not_exist():
    r = subprocess.run([sys.executable, root/'tools'/'run_tests.py', '99_nothing'], capture_output=True, text=True,
                       timeout=60)
    assert r.returncode == 1 and 'no notebook 99_nothing' in r.stderr


@pytest.mark.parametrize('wrong, says', [
    ('02_tokeniser', ', such as 02_tokenizer'), ('02_tokenizer-checkpoint', ', such as 02_tokenizer'),
    ('*', f'{lessons[0].stem}, '), ('_x', f'{lessons[0].stem}, ')])
def test_a_name_of_no_notebook_is_an_error(wrong, says, monkeypatch):
    "nbdev finds nothing to test then, and calls that a success."
    monkeypatch.setattr(run_tests, 'call', lambda *args: 0)
    with pytest.raises(SystemExit, match=re.escape(says)): run_tests.test_one(wrong)
    with pytest.raises(SystemExit, match=f'no notebook {re.escape(wrong)}'):
        run_tests.test_notebooks([lessons[0], root/'nbs'/f'{wrong}.ipynb'])
    assert run_tests.test_notebooks([lessons[0]]) == 0


def imports_of(p):
    "The top-level names that a file imports, wherever in it."
    for node in ast.walk(ast.parse(p.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import): yield from (a.name.split('.')[0] for a in node.names)
        if isinstance(node, ast.ImportFrom) and not node.level: yield node.module.split('.')[0]


@pytest.mark.parametrize('folder', ('benchmarks', 'docs', 'tools'))
def test_imports_go_in_no_circle(folder):
    files = {p.stem: p for p in (root/folder).glob('*.py')}
    def above(name, path=()):
        assert name not in path, f'{" -> ".join(path)} -> {name}'
        for o in set(imports_of(files[name])) & set(files): above(o, (*path, name))
    for name in files: above(name)


@pytest.mark.parametrize('folder', ('benchmarks', 'docs', 'tests', 'tools'))
def test_nothing_changes_the_path_of_imports(folder):
    "pyproject.toml says where pytest finds what it imports, and a program finds what is beside it."
    for p in (root/folder).glob('*.py'):
        found = re.search(r'^.*sys\.path(\.insert|\.append|\[[^]]*\] *\+?=).*$', p.read_text(encoding='utf-8'), re.M)
        assert not found, f'{p.name}: {found[0]}'


@pytest.mark.parametrize('p', notebooks, ids=name)
def test_no_line_of_code_is_longer_than_a_window(p):
    "120 characters, also in the package, which is made from it; ruff says it of the other files."
    code = [l for c in cells(p) if c['cell_type'] == 'code' for l in src(c).splitlines()]
    assert not [l for l in code if len(l) > 120 and not l.startswith('#|')]  # nbdev reads a directive from one line


def test_the_first_line_of_a_module_fits_a_window():
    "nbdev makes it from the subtitle of the page, where no line is too long."
    first = {p.name: p.read_text(encoding='utf-8').partition('\n')[0] for p in (root/'lesson8nlp').glob('*.py')}
    assert not [n for n, l in first.items() if len(l) > 120]


@pytest.mark.parametrize('p', sorted((root/'benchmarks').glob('*.py')), ids=lambda p: p.name)
def test_benchmarks_use_the_checksums_of_the_store(p):
    assert 'hashlib' not in p.read_text(encoding='utf-8')


def test_lock_writes_pins_only():
    report = dict(install=[dict(metadata=dict(name=n, version=v)) for n, v in (
        ('torch', '2.15.0+cpu'), ('nvidia-cublas', '13.0'), ('Babel', '2.1'))])
    assert lock.pins(report) == ['Babel==2.1', 'torch==2.15.0']
    assert {'fastai==2.8.*', 'torch==2.6.*', 'spacy==3.8.*', 'nbdev==3.3.*'} <= set(lock.oldest())


@pytest.mark.parametrize('p', notebooks, ids=name)
def test_notebook_installs_the_package_where_it_is_missing(p):
    "On Colab and Kaggle it is. `make export` writes the cell."
    assert not first_cell.update(p, check=True), 'run make export'


def test_the_first_cell_is_hidden_and_written_once(tmp_path):
    code = lambda s, id: dict(cell_type='code', execution_count=None, id=id, metadata={}, outputs=[], source=[s])
    old = code('pip install something old', first_cell.cell_id)
    nb = dict(cells=[dict(cell_type='markdown', id='0a', metadata={}, source=['# T']),
                     code('from lesson8nlp.core import *', '0b'), old], metadata={}, nbformat=4, nbformat_minor=5)
    p = tmp_path/'a.ipynb'
    p.write_text(json.dumps(nb), encoding='utf-8')
    assert first_cell.update(p, check=True) and first_cell.update(p) and not first_cell.update(p)
    assert [c['id'] for c in cells(p)] == ['0a', first_cell.cell_id, '0b']
    new = src(cells(p)[1])
    assert new.startswith('#| hide') and first_cell.address() in new
    ast.parse(new)
    assert first_cell.with_first_cell([code('1 + 1', '0c')]) == [code('1 + 1', '0c')]


def texts_of_project():
    "Every text of the project with its path, as git lists them."
    files = subprocess.run(['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'], cwd=root,
                           stdout=subprocess.PIPE, text=True, check=True).stdout.split('\0')
    for f in filter(None, files):
        if (root/f).is_file() and Path(f).suffix not in ('.npz', '.png') and f != 'LICENSE':
            yield f, (root/f).read_text(encoding='utf-8')


def test_texts_are_not_looked_for_in_vain(monkeypatch, tmp_path):
    "Where git refuses to list the files, nothing would be checked."
    monkeypatch.setenv('GIT_DIR', str(tmp_path/'nowhere'))
    with pytest.raises(subprocess.CalledProcessError): list(texts_of_project())


def test_the_address_stands_in_one_place():
    "pyproject.toml has it; the notebooks' first cell and nbdev's links in the package are written from there."
    if not (root/'.git').exists(): pytest.skip('not a clone')
    urls = tomllib.loads((root/'pyproject.toml').read_text(encoding='utf-8'))['project']['urls'].values()
    hosts = [u.split('://')[1].rstrip('/') for u in urls]
    for f, text in texts_of_project():
        if f == 'pyproject.toml' or (f.startswith('lesson8nlp/') and f.endswith('.py')): continue
        if f.endswith('.ipynb'):
            text = '\n'.join(src(c) for c in json.loads(text)['cells'] if c['id'] != first_cell.cell_id)
        for h in hosts: assert h not in text, f'{f} holds the address {h}'


def test_what_a_project_has():
    for f in ('LICENSE', 'CONTRIBUTING.md', 'CHANGELOG.md', 'CITATION.cff', 'CODE_OF_CONDUCT.md', 'SECURITY.md',
              'lesson8nlp/py.typed', '.gitattributes', '.pre-commit-config.yaml', '.devcontainer/devcontainer.json',
              '.github/PULL_REQUEST_TEMPLATE.md', '.github/dependabot.yml'):
        assert (root/f).exists(), f
    assert 'Apache License' in (root/'LICENSE').read_text(encoding='utf-8')[:100]
    import yaml
    for p in [*(root/'.github').rglob('*.y*ml'), root/'.pre-commit-config.yaml', root/'CITATION.cff']:
        yaml.safe_load(p.read_text(encoding='utf-8'))
    json.loads((root/'.devcontainer'/'devcontainer.json').read_text(encoding='utf-8'))
    targets = set(re.findall(r'^([\w-]+):', (root/'Makefile').read_text(encoding='utf-8'), re.M))
    said = re.findall(r'make ([a-z][\w-]+)', ''.join(
        (root/f).read_text(encoding='utf-8') for f in ('CONTRIBUTING.md', '.pre-commit-config.yaml')))
    assert set(said) <= targets, set(said) - targets
    for f in ('CONTRIBUTING.md', 'CODE_OF_CONDUCT.md', 'SECURITY.md', 'CHANGELOG.md'):
        for to in re.findall(r'\]\(([^)\s]+)\)', (root/f).read_text(encoding='utf-8')):
            assert re.match('https?://', to) or (root/to).exists(), to


@functools.cache
def checked_words():
    "All words of the tests, and of the cells that check something."
    sources = [p.read_text(encoding='utf-8') for p in (root/'tests').glob('test_*.py') if p.name != 'test_project.py']
    sources += [src(c) for p in notebooks for c in cells(p, 'code') if 'eval: false' not in src(c)
                and re.search(r'\btest_\w+\(|\bassert\b|expect_fail', src(c))]
    return {w for s in sources for w in re.findall(r'\w+', s)}


@pytest.mark.parametrize('m', [m for m in modules if m != 'all'])
def test_public_names_are_checked(m):
    "Each name that a module exports stands in a test, or in a cell of a notebook that checks something."
    lacks = [n for n in importlib.import_module(f'lesson8nlp.{m}').__all__ if n not in checked_words()]
    assert not lacks, f'in no check: {lacks}'


def test_mutants_are_valid_and_different():
    "`make mutate` changes one condition or one default; the code stays Python and becomes another."
    drawn = mutate.draw(60, seed=1)
    assert drawn == mutate.draw(60, seed=1) and len({m for m, _ in drawn}) > 5
    for m, mutant in drawn:
        source = (root/'lesson8nlp'/f'{m}.py').read_text(encoding='utf-8')
        changed = mutate.apply(source, mutant)
        ast.parse(changed)
        assert sum(a != b for a, b in zip(source.split('\n'), changed.split('\n'))) == 1
    assert [x[3] for x in mutate.mutants('def f(a=1, b=True, c=None): return a < 2 != b')] == ['2', 'False']
    assert [x[3] for x in mutate.mutants('x = a <= 1')] == ['<']
