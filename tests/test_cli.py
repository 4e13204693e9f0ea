"The command `lesson8nlp`, as it is run in a terminal: exit codes, errors in one line, killed and given again."
import io, json, os, signal, subprocess, sys, time
from importlib.metadata import entry_points

import pytest

from lesson8nlp.cli import _main
from lesson8nlp.data import sample_reviews
from lesson8nlp.texts import read_text, text_files
from lesson8nlp.ulmfit import TextModel

program = [sys.executable, '-W', 'ignore', '-c', 'import sys; from lesson8nlp.cli import _main; sys.exit(_main())']
env = dict(os.environ, OMP_NUM_THREADS='1')


def lesson8nlp(*args, cwd, given='', **more): # in a process of its own
    p = subprocess.run(program + list(args), cwd=cwd, input=given, capture_output=True, text=True, timeout=300, env=env | more)
    return p.returncode, p.stdout, p.stderr


@pytest.fixture
def here(monkeypatch, capsys): # the same in this process, which saves the imports
    def run(*args, cwd, given=''):
        monkeypatch.chdir(cwd)
        given = given if isinstance(given, bytes) else given.encode()
        monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO(given)))
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
    code, out, err = lesson8nlp('finetune', '--texts', 'texts', '--from', 'scratch', '--out', 'lm', *how, cwd=place)
    assert code == 0, err
    assert 'Perplexity' in out
    return place/'lm'


def test_the_installed_command_is_this_one():
    found, = entry_points(group='console_scripts', name='lesson8nlp')
    assert found.load().__module__ == 'lesson8nlp.cli'


@pytest.mark.parametrize('verb', ['finetune', 'classify', 'predict', 'generate'])
def test_help_names_every_option(here, verb, tmp_path):
    code, out, _ = here(verb, '--help', cwd=tmp_path)
    assert code == 0 and ('--model' in out or '--from' in out) and 'usage: lesson8nlp ' + verb in out
    options = ' '.join(out.split('options:')[1].split()).split(' --')[1:]
    assert options and all(len(o.split()) > 2 for o in options), 'an option without a word about it'


def test_a_folder_becomes_a_classifier(here, place, lm):
    code, out, err = here('classify', '--texts', 'texts', '--from', 'lm', '--epochs', '1', '--out', 'clas', cwd=place)
    assert code == 0, err
    code, out, err = lesson8nlp('predict', '--model', 'clas', given='a fine film\n\nno\u00efve and dull\n', cwd=place)
    rows = [l.split('\t') for l in out.splitlines()]
    assert code == 0 and [r[2] for r in rows] == ['a fine film', '', 'no\u00efve and dull'], err
    assert all(r[0] in ('neg', 'pos') and 0.5 <= float(r[1]) <= 1 for r in rows)


def test_generate_is_repeatable(here, place, lm):
    a, b = (here('generate', 'The film', '--model', 'lm', '--max-tokens', '12', '--seed', '3', cwd=place) for _ in range(2))
    assert a == b and a[0] == 0 and a[1].startswith('The film ')


@pytest.mark.parametrize('args,code,words', [
    ([], 2, 'usage'), (['train'], 2, 'invalid choice'), (['finetune'], 2, 'required'), (['predict', '--model', 'nowhere'], 1, 'nowhere'),
    (['finetune', '--texts', 'nowhere', '--out', 'x'], 1, 'does not exist'), (['finetune', '--texts', 'texts', '--from', 'scratch', '--out', 'x', '--size', 'huge'], 1, 'huge'),
    (['finetune', '--texts', 'texts', '--out', '.'], 1, 'the folder that you are in'), (['finetune', '--texts', 'texts', '--out', 'texts'], 1, 'not a saved model'),
    (['finetune', '--texts', 'texts', '--from', 'scratch', '--out', 'x', '--epochs', '0'], 1, 'epochs'), (['finetune', '--texts', 'texts', '--from', 'scratch', '--out', 'x', '--bs', '0'], 1, 'bs'),
    (['predict', '--model', 'lm'], 1, 'text_classifier'), (['classify', '--texts', 'texts/neg', '--from', 'lm', '--out', 'x'], 1, 'none in the folder of a label'),
], ids=str)
def test_what_is_wrong_is_said(here, place, lm, args, code, words):
    got, out, err = here(*args, cwd=place)
    assert got == code and words in out + err and 'Traceback' not in err
    if code == 1: assert len([l for l in err.splitlines() if l.startswith('lesson8nlp')]) == 1


def test_a_filter(here, place, lm):
    "A bad byte names its line, and what came before it is answered; a table is answered too; whoever has seen enough may leave."
    if not (place/'clas').exists(): here('classify', '--texts', 'texts', '--from', 'lm', '--epochs', '1', '--out', 'clas', cwd=place)
    lines = [b'a fine film']*70 + [b'caf\xe9'] + [b'dull']*9
    code, out, err = here('predict', '--model', 'clas', given=b'\n'.join(lines) + b'\n', cwd=place)
    assert code == 1 and len(out.splitlines()) == 70 and 'Line 71 of standard input' in err and 'line 71' not in out
    (place/'two.tsv').write_text('label\ttext\nNA\tfine\n01\tdull\n')
    code, out, err = here('predict', '--model', 'clas', '--texts', 'two.tsv', '--format', 'json', '--all', cwd=place)
    rows = [json.loads(l) for l in out.splitlines()]
    assert code == 0 and [r['text'] for r in rows] == ['fine', 'dull'] and all(abs(r['p(neg)'] + r['p(pos)'] - 1) < 1e-5 for r in rows), err
    r = subprocess.run(' '.join(f"'{o}'" for o in program) + ' predict --model clas --bs 1 | head -1', shell=True, cwd=place, input='fine\n'*200, capture_output=True, text=True, timeout=300, env=env)
    assert len(r.stdout.splitlines()) == 1 and 'roken' not in r.stderr and 'Traceback' not in r.stderr, r.stderr


def test_tables_go_the_same_way(here, place, lm):
    "What the reader refuses, the command refuses in one line, before anything is written."
    (place/'bad.csv').write_text('text,label\ngood, very good,pos\nbad film,neg\n')
    code, out, err = here('classify', '--texts', 'bad.csv', '--from', 'lm', '--out', 'no', cwd=place)
    assert code == 1 and 'line 2' in err and not (place/'no').exists()
    (place/'latin.csv').write_bytes('text,label\ncaf\xe9,pos\n'.encode('cp1252'))
    code, out, err = here('classify', '--texts', 'latin.csv', '--from', 'lm', '--out', 'no', cwd=place)
    assert code == 1 and 'encoding' in err


def test_killed_and_given_again(place, lm):
    "Six epochs, killed after the first checkpoint beyond the start: the same weights as without a kill."
    args = ['finetune', '--texts', 'texts', '--from', 'scratch', *how, '--epochs', '6', '--out']
    home = dict(FASTAI_HOME=str(place/'home'))
    assert lesson8nlp(*args, 'whole', cwd=place, **home)[0] == 0
    p = subprocess.Popen(program + args + ['cut'], cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env | home, start_new_session=True)
    runs, end = place/'home'/'data'/'runs', time.time() + 200
    while p.poll() is None and time.time() < end and not any(int(o.name.split('.')[0]) for o in runs.glob('*/[0-9]*')): time.sleep(.01)
    assert p.poll() is None, 'it ended before it could be killed'
    os.killpg(p.pid, signal.SIGKILL)
    p.wait()
    assert not (place/'cut').exists()
    code, out, err = lesson8nlp(*args, 'cut', cwd=place, **home)
    assert code == 0 and 'Resumed' in out and not list(runs.iterdir()), err
    a, b = (TextModel.load(place/o).model.state_dict() for o in ('whole', 'cut'))
    assert all((a[k] == b[k]).all() for k in a) and a.keys() == b.keys()
