"The wheel, installed where the repository cannot be seen, works in a notebook elsewhere."
import os, subprocess, sys, sysconfig
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

root = Path(__file__).resolve().parent.parent


def run(*args, **kw): return subprocess.run([str(a) for a in args], check=True, capture_output=True, text=True, timeout=600, **kw).stdout


def test_wheel_works_elsewhere(tmp_path):
    env = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    run(sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation', '-w', tmp_path/'dist', root, env=env)
    wheel, = (tmp_path/'dist').glob('lesson8nlp-*.whl')
    run(sys.executable, '-m', 'venv', '--without-pip', tmp_path/'env', env=env)
    py = tmp_path/'env'/('Scripts/python.exe' if os.name == 'nt' else 'bin/python')
    site = Path(run(py, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))', env=env).strip())
    # the dependencies of this environment, as plain folders on the path: its own .pth files, the editable install among them, are not read there
    (site/'deps.pth').write_text('\n'.join({sysconfig.get_path('purelib'), sysconfig.get_path('platlib')}))
    run(sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--no-index', '--target', site, wheel, env=env)
    nb = new_notebook(cells=[new_code_cell(s) for s in (
        'import lesson8nlp, sys\nfrom lesson8nlp.all import *',
        "assert 'env' in lesson8nlp.__file__, lesson8nlp.__file__\nassert not any(p.rstrip('/').endswith('/nbs') for p in sys.path)",
        "tok = Tokenizer()\ntoks = list(tok.pipe(['The film was GREAT!!!', 'A dull film.']))\nnum = Numericalize(min_freq=1)\nnum.setup(toks)",
        "import time; t = time.perf_counter(); lm = TextModel.pretrained(); assert time.perf_counter() - t < 5; assert lm.perplexity('This film was a waste of time.') < 200",
        "print(*toks[0])\nprint(num.decode(num(toks[1])))\nprint(lesson8nlp.__file__)")])
    nbformat.write(nb, tmp_path/'elsewhere.ipynb')
    code = '\n'.join(('import nbformat', 'from nbclient import NotebookClient', f'nb = nbformat.read({str(tmp_path/"elsewhere.ipynb")!r}, as_version=4)',
                      f'NotebookClient(nb, timeout=300, kernel_name="python3", resources={{"metadata": {{"path": {str(tmp_path)!r}}}}}).execute()',
                      'print("".join(o.get("text", "") for c in nb.cells for o in c.outputs if o.get("name") == "stdout"))'))
    out = run(py, '-c', code, cwd=tmp_path, env=env)
    assert 'xxbos xxmaj the film was xxup great xxrep 3 !' in out
    assert str(tmp_path) in out.splitlines()[-2] + out.splitlines()[-1]
