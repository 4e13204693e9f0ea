"The command `lesson8nlp`, as it is run in a terminal: exit codes, errors in one line, killed and given again."
import io, os, signal, subprocess, sys, time
from importlib.metadata import entry_points

import pytest

from lesson8nlp.checkpoint import load_model
from lesson8nlp.cli import _main
from lesson8nlp.data import read_text, sample_reviews, text_files

program = [sys.executable, '-W', 'ignore', '-c', 'import sys; from lesson8nlp.cli import _main; sys.exit(_main())']
env = dict(os.environ, OMP_NUM_THREADS='1')


def lesson8nlp(*args, cwd, given=''): # in a process of its own
    p = subprocess.run(program + list(args), cwd=cwd, input=given, capture_output=True, text=True, timeout=300, env=env)
    return p.returncode, p.stdout, p.stderr


@pytest.fixture
def here(monkeypatch, capsys): # the same in this process, which saves the imports
    def run(*args, cwd, given=''):
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, 'stdin', io.StringIO(given))
        try: code = _main(list(args))
        except SystemExit as e: code = e.code
        return code, *capsys.readouterr()
    return run


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    path = tmp_path_factory.mktemp('cli')
    for kind in ('neg', 'pos'):
        (path/'texts'/kind).mkdir(parents=True)
        for f in text_files(sample_reviews()/'train', folders=[kind])[:60]: (path/'texts'/kind/f.name).write_text(read_text(f), encoding='utf-8')
    return path


how = '--size tiny --bs 4 --seq-len 20 --epochs 2 --lr 0.01 --min-freq 2'.split()


@pytest.fixture(scope='module')
def lm(place):
    code, out, err = lesson8nlp('finetune', '--texts', 'texts', '--out', 'lm', *how, cwd=place)
    assert code == 0, err
    assert 'Perplexity' in out
    return place/'lm'


def test_the_installed_command_is_this_one():
    found, = entry_points(group='console_scripts', name='lesson8nlp')
    assert found.load().__module__ == 'lesson8nlp.cli'


@pytest.mark.parametrize('verb', ['finetune', 'classify', 'predict', 'generate'])
def test_help_names_every_option(here, verb, tmp_path):
    code, out, _ = here(verb, '--help', cwd=tmp_path)
    assert code == 0 and '--model' in out and 'usage: lesson8nlp ' + verb in out
    assert all(len(l.split(None, 2)) > 2 for l in out.splitlines() if l.startswith('  --')), 'an option without a word about it'


def test_a_folder_becomes_a_classifier(here, place, lm):
    code, out, err = here('classify', '--texts', 'texts', '--model', 'lm', '--out', 'clas', cwd=place)
    assert code == 0, err
    code, out, err = lesson8nlp('predict', '--model', 'clas', given='a fine film\n\nno\u00efve and dull\n', cwd=place)
    rows = [l.split('\t') for l in out.splitlines()]
    assert code == 0 and [r[2] for r in rows] == ['a fine film', '', 'no\u00efve and dull'], err
    assert all(r[0] in ('neg', 'pos') and 0.5 <= float(r[1]) <= 1 for r in rows)
    assert sorted(p.name for p in place.iterdir() if p.name.endswith('.work')) == []


def test_generate_is_repeatable(here, place, lm):
    a, b = (here('generate', 'The film', '--model', 'lm', '--words', '12', '--seed', '3', cwd=place) for _ in range(2))
    assert a == b and a[0] == 0 and a[1].startswith('The film ')


@pytest.mark.parametrize('args,code,words', [
    ([], 0, 'usage'), (['train'], 2, 'there is no'), (['finetune'], 2, 'required'), (['predict', '--model', 'nowhere'], 1, 'nowhere'),
    (['finetune', '--texts', 'nowhere', '--out', 'x'], 1, 'does not exist'), (['finetune', '--texts', 'texts', '--out', 'x', '--size', 'huge'], 2, 'huge'),
    (['predict', '--model', 'lm'], 1, 'text_classifier'), (['classify', '--texts', 'texts/neg', '--model', 'lm', '--out', 'x'], 1, 'two labels'),
], ids=str)
def test_what_is_wrong_is_said(here, place, lm, args, code, words):
    got, out, err = here(*args, cwd=place)
    assert got == code and words in out + err and 'Traceback' not in err
    if code == 1: assert len([l for l in err.splitlines() if l.startswith('lesson8nlp')]) == 1


def test_killed_and_given_again(place, lm):
    "Six epochs, killed after the first checkpoint beyond the start: the same weights as without a kill."
    args = ['finetune', '--texts', 'texts', *how, '--epochs', '6', '--out']
    assert lesson8nlp(*args, 'whole', cwd=place)[0] == 0
    p = subprocess.Popen(program + args + ['cut'], cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env, start_new_session=True)
    run, end = place/'cut.work'/'run', time.time() + 200
    while p.poll() is None and time.time() < end and not (run.exists() and any(o.name[0] != '.' and int(o.name.split('.')[0]) for o in run.iterdir())): time.sleep(.01)
    assert p.poll() is None, 'it ended before it could be killed'
    os.killpg(p.pid, signal.SIGKILL)
    p.wait()
    assert not (place/'cut').exists()
    code, out, err = lesson8nlp(*args, 'cut', cwd=place)
    assert code == 0 and 'cut.work' not in [o.name for o in place.iterdir()], err
    a, b = (load_model(place/o).model.state_dict() for o in ('whole', 'cut'))
    assert all((a[k] == b[k]).all() for k in a) and a.keys() == b.keys()
