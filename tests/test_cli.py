"The command `lesson8nlp`, as it is run in a terminal: exit codes, errors in one line, killed and given again."
import csv, inspect, io, json, os, re, signal, subprocess, sys, time, warnings
from importlib.metadata import entry_points

import pytest

from lesson8nlp import cli, ulmfit
from lesson8nlp.cli import _main, _one_line, _option_names, _parser
from lesson8nlp.data import sample_reviews
from lesson8nlp.texts import check_texts, options, read_labelled, read_text, setting, text_files
from lesson8nlp.ulmfit import TextModel

program = [sys.executable, '-W', 'ignore', '-c', 'import sys; from lesson8nlp.cli import _main; sys.exit(_main())']
env = dict(os.environ, OMP_NUM_THREADS='1')


def lesson8nlp(*args, cwd, given='', **more): # in a process of its own
    p = subprocess.run(program + list(args), cwd=cwd, input=given, capture_output=True, text=True, timeout=300,
                       env=env | more)
    return p.returncode, p.stdout, p.stderr


@pytest.fixture
def here(monkeypatch, capsys, tmp_path): # the same in this process, which saves the imports
    monkeypatch.setattr(ulmfit, 'data_root', lambda: tmp_path)  # what is left of a run that failed stays here
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
        for f in text_files(sample_reviews()/'train', folders=[kind])[:60]:
            (path/'texts'/kind/f.name).write_text(read_text(f), encoding='utf-8')
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


def test_a_folder_becomes_a_classifier(place, clas):
    code, out, err = lesson8nlp('predict', '--model', 'clas', given='a fine film\n\nno\u00efve and dull\n', cwd=place)
    rows = [l.split('\t') for l in out.splitlines()]
    assert code == 0 and [r[2] for r in rows] == ['a fine film', '', 'no\u00efve and dull'], err
    assert all(r[0] in ('neg', 'pos') and 0.5 <= float(r[1]) <= 1 for r in rows)


def test_generate_is_repeatable(here, place, lm):
    a, b = (here('generate', 'The film', '--model', 'lm', '--max-tokens', '12', '--seed', '3', cwd=place)
            for _ in range(2))
    assert a == b and a[0] == 0 and a[1].startswith('The film ')


@pytest.fixture(scope='module')
def clas(place, lm):
    code, out, err = lesson8nlp('classify', '--texts', 'texts', '--from', 'lm', '--epochs', '1',
                                '--out', 'clas', cwd=place)
    assert code == 0, err
    return place/'clas'


@pytest.mark.parametrize('args,code,words', [
    ([], 2, 'usage'),
    (['train'], 2, 'invalid choice'),
    (['finetune'], 2, 'required'),
    (['predict', '--model', 'nowhere'], 1, 'nowhere'),
    (['finetune', '--texts', 'nowhere', '--out', 'x'], 1, 'does not exist'),
    (['finetune', '--texts', 'texts', '--from', 'scratch', '--out', 'x', '--size', 'huge'], 1, 'huge'),
    (['finetune', '--texts', 'texts', '--out', '.'], 1, 'the folder that you are in'),
    (['finetune', '--texts', 'texts', '--out', 'texts'], 1, 'not a saved model'),
    (['finetune', '--texts', 'texts', '--from', 'scratch', '--out', 'x', '--epochs', '0'], 1, 'epochs'),
    (['finetune', '--texts', 'texts', '--from', 'scratch', '--out', 'x', '--bs', '-1'], 1, 'bs'),
    (['predict', '--model', 'lm'], 1, 'lesson8nlp classify has written'),
    (['predict', '--model', 'texts.txt'], 1, 'lesson8nlp classify has written'),
    (['generate', 'The', '--model', 'clas'], 1, 'lesson8nlp finetune has written'),
    (['finetune', '--texts', 'texts', '--from', 'clas', '--out', 'x'], 1, 'lesson8nlp finetune has written'),
    (['predict', '--model', 'clas', '--bs', '0'], 1, 'bs is 0'),
    (['predict', '--model', 'clas', '--texts', 'nowhere.csv'], 1, 'does not exist'),
    *((['finetune', '--texts', 'texts', '--from', 'lm', '--out', 'x', k, v], 1, f'{k} needs --from scratch')
      for k, v in (('--tokenizer', 'characters'), ('--lang', 'de'), ('--vocab-size', '500'), ('--size', 'tiny'))),
    (['finetune', '--texts', 'texts', '--from', 'scratch', '--out', 'x', '--lang', 'klingon'], 1, '--lang klingon'),
    (['finetune', '--texts', 'texts', '--from', 'scratch', '--out', 'x',
      '--tokenizer', 'subwords', '--vocab-size', '3'], 1, '--vocab-size 3 is too small'),
    (['finetune', '--texts', 'texts', '--from', 'scratch', '--out', 'x',
      '--tokenizer', 'subwords', '--vocab-size', '20'], 1, '--vocab-size 20 is too small'),
    (['finetune', '--texts', 'texts', '--from', 'scratch', '--out', 'x', *how, '--bs', '5000'], 1, '--bs '),
    (['finetune', '--texts', 'texts', '--from', 'scratch', '--out', 'x', *how, '--lr', '1e30'], 1, '--lr'),
    (['finetune', '--texts', 'texts', '--out', 'texts/'], 1, 'not a saved model'),
    (['finetune', '--texts', 'texts', '--out', 'texts/neg/' + 'FILE'], 1, 'is a file'),
    (['classify', '--texts', 'texts/neg', '--from', 'lm', '--out', 'x'], 1, 'none in the folder of a label'),
], ids=str)
def test_what_is_wrong_is_said(here, place, clas, args, code, words):
    args = [a.replace('FILE', next((place/'texts'/'neg').iterdir()).name) for a in args]
    got, out, err = here(*args, cwd=place)
    assert got == code and words in out + err and 'Traceback' not in err
    if code == 1: assert len([l for l in err.splitlines() if l.startswith('lesson8nlp')]) == 1
    if code == 1:
        assert (not re.search(r'\b(lr|bs|lang|sep|encoding|vocab_sz|tokenizer|text|label)=', err)
                and not re.search(r'\w\(\)|TextModel|dropna|GradientClip', err)), 'advice for Python'
    assert not (place/'x').exists()


def test_a_filter(here, place, clas):
    """A bad byte names its line, and what came before it is answered; a table is answered too; whoever has seen enough
    may leave."""
    lines = [b'a fine film']*70 + [b'caf\xe9'] + [b'dull']*9
    code, out, err = here('predict', '--model', 'clas', given=b'\n'.join(lines) + b'\n', cwd=place)
    assert code == 1 and len(out.splitlines()) == 70 and 'Line 71 of standard input' in err and 'line 71' not in out
    (place/'two.tsv').write_text('label\ttext\nNA\tfine\n01\tdull\n')
    code, out, err = here('predict', '--model', 'clas', '--texts', 'two.tsv', '--format', 'json', '--all', cwd=place)
    rows = [json.loads(l) for l in out.splitlines()]
    assert (code == 0 and [r['text'] for r in rows] == ['fine', 'dull']
            and all(abs(r['p(neg)'] + r['p(pos)'] - 1) < 1e-5 for r in rows)), err
    r = subprocess.run(' '.join(f"'{o}'" for o in program) + ' predict --model clas --bs 1 | head -1', shell=True,
                       cwd=place, input='fine\n'*200, capture_output=True, text=True, timeout=300, env=env)
    assert len(r.stdout.splitlines()) == 1 and 'roken' not in r.stderr and 'Traceback' not in r.stderr, r.stderr


def test_tables_go_the_same_way(here, place, lm):
    "What the reader refuses, the command refuses in one line, before anything is written."
    (place/'bad.csv').write_text('text,label\ngood, very good,pos\nbad film,neg\n')
    code, out, err = here('classify', '--texts', 'bad.csv', '--from', 'lm', '--out', 'no', cwd=place)
    assert (code == 1 and 'line 2: this row has 3 cells, and the header has 2' in err
            and 'Put double quotes around a cell' in err and "--sep ';'" in err and not (place/'no').exists())
    (place/'latin.csv').write_bytes('text,label\ncaf\xe9,pos\n'.encode('cp1252'))
    code, out, err = here('classify', '--texts', 'latin.csv', '--from', 'lm', '--out', 'no', cwd=place)
    assert (code == 1 and 'latin.csv is not utf-8: byte 0xe9' in err and 'in line 2' in err
            and '--encoding cp1252' in err)


def test_answers_as_columns(here, place, clas):
    "A table comes back row by row, cells as they were, with the answers after them; nothing is overwritten."
    ids = ['NA', '01', 'a "b", c', 'two\nlines', '']
    rows = [[i, t, l] for i, t, l in zip(ids, ['fine, very fine', 'dull', 'a\tb', 'one\ntwo', '"quoted"'],
                                         ['pos', '', 'x', 'neg', 'None'])]
    for kind, sep in (('csv', ','), ('tsv', '\t')):
        with open(place/f'some.{kind}', 'w', newline='', encoding='utf-8') as f:
            csv.writer(f, delimiter=sep).writerows([['id', 'review', 'label'], *rows])
        for fmt, out_sep in (('csv', ','), ('tsv', '\t')):
            for bs in '2', '64':
                code, out, err = here('predict', '--model', 'clas', '--texts', f'some.{kind}', '--column', 'review',
                                      '--format', fmt, '--all', '--bs', bs, cwd=place)
                header, *got = csv.reader(io.StringIO(out, newline=''), delimiter=out_sep)
                assert (code == 0 and err == ''
                        and header == ['id', 'review', 'label', 'predicted_label', 'probability', 'p(neg)', 'p(pos)'])
                assert ([r[:3] for r in got] == rows
                        and all(r[3] in ('neg', 'pos') and abs(float(r[5]) + float(r[6]) - 1) < .002
                                and r[4] == max(r[5:]) for r in got))
        code, out, err = here('predict', '--model', 'clas', '--texts', f'some.{kind}', '--column', 'review',
                              '--format', 'json', cwd=place)
        assert ([list(json.loads(l).values())[:3] for l in out.splitlines()] == rows
                and list(json.loads(out.splitlines()[0]))[3:] == ['predicted_label', 'probability'])
        want = TextModel.load(clas).predict([r[1] for r in rows])  # the API gives the same
        assert [json.loads(l)['predicted_label'] for l in out.splitlines()] == list(want.label)
        assert ([json.loads(l)['probability'] for l in out.splitlines()]
                == pytest.approx(list(want.probability), abs=1e-5))


def test_answers_to_lines_and_files(here, place, clas):
    """CSV of lines has a header; files are named; JSON Lines come back as they were, and with a name that stands twice
    a JSON object is refused."""
    code, out, _ = here('predict', '--model', 'clas', '--format', 'csv', given='a, b\n"c"\n', cwd=place)
    assert (code == 0 and [r[0] for r in csv.reader(io.StringIO(out))] == ['text', 'a, b', '"c"']
            and out.startswith('text,label,probability\n'))
    code, out, _ = here('predict', '--model', 'clas', '--texts', 'texts/neg', cwd=place)
    header, *got = csv.reader(io.StringIO(out), delimiter='\t')
    assert (code == 0 and header == ['file', 'label', 'probability']
            and [r[0] for r in got] == [f'texts/neg/{f.name}' for f in text_files(place/'texts'/'neg')])
    (place/'some.jsonl').write_text('{"n": 1, "text": "fine"}\n{"text": "dull", "tags": ["a"]}\n')
    code, out, _ = here('predict', '--model', 'clas', '--texts', 'some.jsonl', '--format', 'json', cwd=place)
    a, b = map(json.loads, out.splitlines())
    assert a['text'] == 'fine' and b['tags'] == ['a'] and b['label'] in ('neg', 'pos')
    (place/'twice.csv').write_text('x,x,text\n1,2,fine\n')
    assert here('predict', '--model', 'clas', '--texts', 'twice.csv', '--format', 'json', cwd=place)[0] == 1
    assert here(
        'predict', '--model', 'clas', '--texts', 'twice.csv', '--format', 'csv', cwd=place
    )[1].splitlines()[1].startswith('1,2,fine,')
    (place/'header.csv').write_text('text,label\n')
    code, out, err = here('predict', '--model', 'clas', '--texts', 'header.csv', cwd=place)
    assert code == 1 and out == '' and 'header and no rows' in err


def test_separators_and_columns_go_the_whole_way(here, place, clas, tmp_path):
    "--sep, --column and Parquet; what stands in another column than `text`; the message's advice works."
    ((tmp_path/'semi.csv').write_text('review;n\ngood, very fine;1\n'),
     (tmp_path/'tabs.txt').write_text('text\tn\nfine\t1\n'))
    code, out, err = here('predict', '--model', 'clas', '--texts', str(tmp_path/'semi.csv'),
                          '--column', 'review', cwd=place)
    assert code == 1 and "line 2: this row has 2 cells, and the header has 1" in err and "Try --sep ';'" in err
    code, out, err = here('predict', '--model', 'clas', '--texts', str(tmp_path/'semi.csv'), '--column', 'review',
                          '--sep', ';', '--format', 'json', cwd=place)
    assert code == 0 and json.loads(out)['review'] == 'good, very fine', err
    for sep in ('\\t', '\t'):
        assert here(
            'predict', '--model', 'clas', '--texts', str(tmp_path/'tabs.txt'), '--sep', sep, cwd=place
        )[1].splitlines()[1].startswith('fine\t1\t')
    pq = pytest.importorskip('pyarrow.parquet')
    import pyarrow
    pq.write_table(pyarrow.table(dict(text=['fine', 'dull\r\nfilm'], n=['NA', '01'])), tmp_path/'t.parquet')
    code, out, err = here('predict', '--model', 'clas', '--texts', str(tmp_path/'t.parquet'),
                          '--format', 'json', cwd=place)
    assert code == 0 and [json.loads(l)['n'] for l in out.splitlines()] == ['NA', '01'], err


@pytest.mark.parametrize('encoding', ['utf-16', 'utf-16-le', 'utf-16-be', 'utf-32', 'utf-8-sig'])
def test_lines_of_windows(here, place, clas, encoding):
    """A line end is no byte there; with a byte order mark nobody has to name the encoding; a lone carriage return is
    white space, as in files."""
    given = 'fine \u010a film\r\ndull\rfilm\r\n\r\n'.encode(encoding)
    marked = encoding in ('utf-16', 'utf-32', 'utf-8-sig')
    for more in ([[]] if marked else []) + [['--encoding', 'utf-8' if encoding == 'utf-8-sig' else encoding]]:
        code, out, err = here('predict', '--model', 'clas', '--format', 'json', *more, given=given, cwd=place)
        rows = [json.loads(l) for l in out.splitlines()]
        assert (code == 0
                and [r['text'].replace('\r', '\n') for r in rows] == ['fine \u010a film', 'dull\nfilm', '']), err
        want = TextModel.load(clas).predict(['fine \u010a film', 'dull\nfilm', ''])
        assert [r['probability'] for r in rows] == pytest.approx(list(want.probability), abs=1e-5)
    code, out, err = here('predict', '--model', 'clas', '--encoding', 'utf-16',
                          given='fine'.encode('utf-16')[:-1], cwd=place)
    assert code == 1 and 'Standard input is not utf-16' in err and out == ''


@pytest.mark.parametrize('line_end', ['\n', '\x85'])
def test_lines_of_a_mainframe(here, place, clas, line_end):
    "In EBCDIC a line end is another byte; all lines were one text before."
    given = f'fine film{line_end}dull film{line_end}'.encode('cp037')
    code, out, err = here('predict', '--model', 'clas', '--encoding', 'cp037', given=given, cwd=place)
    assert code == 0 and [l.split('\t')[2] for l in out.splitlines()] == ['fine film', 'dull film'], err
    for other in ('utf-8', 'latin-1'):
        code, out, err = here('predict', '--model', 'clas', '--encoding', other, given=given, cwd=place)
        assert code == 1 and out == '' and ('--encoding cp037' in err or 'is not utf-8' in err), err


@pytest.mark.parametrize('text', ['ok', 'хороший фильм'])
def test_lines_of_utf16_without_a_mark(here, place, clas, text):
    code, out, err = here('predict', '--model', 'clas', given=f'{text}\n{text}\n'.encode('utf-16-le'), cwd=place)
    assert code == 1 and out == '' and 'Line 1 of standard input' in err and '--encoding utf-16-le' in err, err
    code, out, err = here('predict', '--model', 'clas', '--encoding', 'utf-16-le',
                          given=f'{text}\n{text}\n'.encode('utf-16-le'), cwd=place)
    assert code == 0 and [l.split('\t')[2] for l in out.splitlines()] == [text, text]
    warnings.simplefilter('default')
    code, out, err = here('predict', '--model', 'clas', '--encoding', 'utf-16-le', given='fine film\n', cwd=place)
    assert 'valid UTF-8' in err and '--encoding utf-8' in err  # letters of China before, in silence


def test_no_lines_are_a_table_without_rows(here, place, clas):
    assert here(
        'predict', '--model', 'clas', '--format', 'csv', '--all', cwd=place
    )[:2] == (0, 'text,label,probability,p(neg),p(pos)\n')
    for fmt in ('tsv', 'json'): assert here('predict', '--model', 'clas', '--format', fmt, cwd=place)[:2] == (0, '')


@pytest.mark.parametrize('kind, names, of', [
    ('several', ['labels'], [['a', 'b'], ['b']]),
    ('number', ['value'], [2.5, 0.5]),
])
def test_answers_of_other_kinds(here, place, lm, tmp_path, kind, names, of):
    "Several labels for a text, and numbers: as the API has them."
    from lesson8nlp.awdlstm import AWD_LSTM
    from lesson8nlp.classifier import text_classifier_learner
    from lesson8nlp.dataloader import class_dataloaders
    codec = TextModel.load(lm).codec
    dls = class_dataloaders([f'film {i}' for i in range(20)], of*10, codec, bs=8, device='cpu')
    learn = text_classifier_learner(dls, AWD_LSTM, config=dict(emb_sz=4, n_hid=4, n_layers=1), pretrained=False)
    m = TextModel.from_learner(learn)
    m.save(tmp_path/'m')
    want = m.predict(['fine', 'dull'], all_labels=True)
    code, out, err = here('predict', '--model', str(tmp_path/'m'), '--format', 'json', '--all',
                          given='fine\ndull\n', cwd=place)
    rows = [json.loads(l) for l in out.splitlines()]
    assert code == 0 and list(rows[0]) == list(want) == [
        'text', *names, *(['p(a)', 'p(b)'] if kind == 'several' else [])], err
    for k in want:
        assert [r[k] for r in rows] == (
            list(want[k]) if want[k].dtype == object or k == 'text' else pytest.approx(list(want[k]), abs=1e-5))
    assert here(
        'predict', '--model', str(tmp_path/'m'), '--format', 'csv', given='fine\n', cwd=place
    )[1].splitlines()[0] == f'text,{names[0]}'


def test_many_rows_and_fast_answers(here, place, clas, monkeypatch):
    "A table longer than a portion comes back in its order, and --fast computes in half precision."
    import torch
    texts = [f'fine film {i}' + ' dull'*(i % 7) for i in range(120)]
    (place/'many.csv').write_text('text\n' + '\n'.join(texts), encoding='utf-8')
    args = ['predict', '--model', 'clas', '--texts', 'many.csv', '--bs', '2', '--format', 'json', '--all']
    rows = [json.loads(o) for o in here(*args, cwd=place)[1].splitlines()]
    want = TextModel.load(clas).predict(texts, all_labels=True)
    assert [o['text'] for o in rows] == texts
    assert [o['p(pos)'] for o in rows] == pytest.approx(list(want['p(pos)']), abs=1e-5)
    monkeypatch.setattr('lesson8nlp.classifier.fast_dtype', lambda device: torch.bfloat16)  # on every processor
    fast = [json.loads(o)['p(pos)'] for o in here(*args, '--fast', cwd=place)[1].splitlines()]
    assert (fast == pytest.approx(list(want['p(pos)']), abs=.03)
            and fast != pytest.approx(list(want['p(pos)']), abs=1e-6))


def test_encodings_go_the_whole_way(here, place, clas):
    "Lines, files and tables in cp1252: the message names the option, and the option helps."
    data = 'caf\xe9 fine\n'.encode('cp1252')
    ((place/'old').mkdir(exist_ok=True), (place/'old'/'1.txt').write_bytes(data),
     (place/'old.csv').write_bytes(b'text\n' + data))
    for args, given in ((['--texts', 'old'], b''), (['--texts', 'old.csv'], b''), ([], data)):
        code, out, err = here('predict', '--model', 'clas', *args, given=given, cwd=place)
        assert code == 1 and '--encoding cp1252' in err and 'encoding=' not in err, err
        code, out, err = here('predict', '--model', 'clas', *args, '--encoding', 'cp1252', '--format', 'json',
                              given=given, cwd=place)
        assert code == 0 and json.loads(out).get('text', 'caf\xe9 fine') == 'caf\xe9 fine', err
    code, out, err = here('finetune', '--texts', 'old', '--encoding', 'cp1252', '--from', 'lm', '--out', 'x', cwd=place)
    assert 'a language model needs at least 10' in err  # it was read


def test_the_reader_of_a_message_is_at_a_terminal():
    a = _parser().parse_args('finetune --texts t --out o'.split())
    assert setting('encoding', 'cp1252') == "encoding='cp1252'"
    options.update(_option_names(a))
    try:
        for k, v, typed in (('encoding', 'cp1252', '--encoding cp1252'), ('sep', ';', "--sep ';'"),
                            ('text', 'my column', "--column 'my column'"), ('seq_len', 9, '--seq-len 9'),
                            ('device', 'cpu', "device='cpu'")):
            assert setting(k, v) == typed
    finally: options.clear()
    for library, typed in (
        ('Exception occured in `StopOnNaN` when calling event `after_batch`:\n\tThe loss', 'The loss'),
        ('x\n y', 'x y'),
        ("a  b label=1 CharTokenizer()", "a  b label=1 CharTokenizer()"),
        (OSError(13, 'Permission denied', 'm/x.json'), 'm/x.json: Permission denied'),
        (OSError('said'), 'said'),
    ):
        assert _one_line(library) == typed


def test_warnings_are_one_line(here, place, lm):
    warnings.simplefilter('always')  # pytest ignores some; it puts its filters back after each test
    code, out, err = here('generate', 'zyzzyva film', '--model', 'lm', '--max-tokens', '3', '--seed', '1', cwd=place)
    assert (code == 0 and 'zyzzyva' in err and len(err.splitlines()) == 1
            and err.startswith('lesson8nlp generate: ') and '.py' not in err)


def test_an_interrupt(here, place, clas, monkeypatch):
    "A filter promises no checkpoint, and a training does."
    def stop(*args, **kw): raise KeyboardInterrupt
    monkeypatch.setattr(TextModel, 'predict', stop)
    code, out, err = here('predict', '--model', 'clas', given='x\n', cwd=place)
    assert code == 130 and 'Stopped' in err and 'checkpoint' not in err
    monkeypatch.setattr(cli, 'finetune', stop)
    code, out, err = here('finetune', '--texts', 'texts', '--from', 'lm', '--out', 'x', cwd=place)
    assert code == 130 and 'checkpoint' in err


@pytest.mark.slow
@pytest.mark.skipif(os.name != 'posix', reason='SIGINT')
def test_ctrl_c_while_a_classifier_is_trained(place, lm):
    "As in a terminal: the exit code of an interrupt, a promise in one line, and the same command keeps it."
    args, home = (['classify', '--texts', 'texts', '--from', 'lm', '--epochs', '9', '--out', 'interrupted'],
                  dict(FASTAI_HOME=str(place/'home_c')))
    p, end = subprocess.Popen(
        program + args, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env | home,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell may ignore it in the background
    ), time.time() + 200
    runs = place/'home_c'/'data'/'runs'
    while (p.poll() is None and time.time() < end
           and not any(int(o.name.split('.')[0]) for o in runs.glob('*/[0-9]*'))):
        time.sleep(.01)
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=200)
    assert (p.returncode == 130
            and 'Stopped. Run the same command again, and it continues from the last checkpoint.' in err
            and 'Traceback' not in err), err
    assert not (place/'interrupted').exists()
    code, out, err = lesson8nlp(*args, cwd=place, **home)
    assert code == 0 and 'Resumed after step' in out and not any(runs.glob('[!.]*')), (out, err)
    assert lesson8nlp(*args[:-1], 'undisturbed', cwd=place, **home)[0] == 0
    assert TextModel.load(place/'interrupted').fingerprint() == TextModel.load(place/'undisturbed').fingerprint()


def test_a_classifier_from_random_weights(here, place):
    "With a vocab of its own texts, in the size that was asked for, and in a language without spaces."
    code, out, err = here('classify', '--texts', 'texts', '--from', 'scratch', '--size', 'tiny', '--epochs', '1',
                          '--out', 'scratch_clas', cwd=place)
    assert code == 0, err
    m = TextModel.load(place/'scratch_clas')
    assert m.kind == 'text_classifier' and m.config['n_hid'] == 64 and len(m.codec.vocab) < 5_000
    code, out, err = here('classify', '--texts', 'texts', '--size', 'tiny', '--out', 'x', cwd=place)
    assert code == 1 and '--size needs --from scratch' in err and not (place/'x').exists()
    (place/'zh0.csv').write_text('text,label\n' + ''.join(f'{t},{"no" if chr(0x4e0d) in t else "yes"}\n' for t in zh),
                                 encoding='utf-8')
    code, out, err = here('classify', '--texts', 'zh0.csv', '--from', 'scratch', '--out', 'x', cwd=place)
    assert code == 1 and '--tokenizer characters' in err
    code, out, err = here('classify', '--texts', 'zh0.csv', '--from', 'scratch', '--tokenizer', 'characters',
                          '--size', 'tiny', '--epochs', '1', '--bs', '4', '--out', 'zh0', cwd=place)
    assert code == 0, err
    assert TextModel.load(place/'zh0').codec.encode(zh[0]).numel() == len(zh[0])  # a token for each character


def test_commands_start_from_the_model_that_ships(here, place):
    "Without --from, both begin with the reviews' model and keep its vocab."
    rows = ''.join(f'A {w} film about a man and his dog.,{l}\n' for w, l in (('good', 'pos'), ('dull', 'neg'))*30)
    (place/'short.csv').write_text('text,label\n' + rows, encoding='utf-8')
    for verb in ('classify', 'finetune'):
        code, out, err = here(verb, '--texts', 'short.csv', '--epochs', '1', '--out', f'short_{verb}', cwd=place)
        assert code == 0, err
        assert TextModel.load(place/f'short_{verb}').codec.vocab[:100] == TextModel.pretrained('cpu').codec.vocab[:100]


zh = ['\u4eca\u5929\u5929\u6c14\u5f88\u597d', '\u660e\u5929\u5929\u6c14\u4e0d\u597d',
      '\u4eca\u5929\u5f88\u597d', '\u660e\u5929\u5f88\u597d']*10


def test_a_language_without_spaces(here, place, lm):
    "Refused before the training with what to type; then the whole way with it, and the tokenizer comes along."
    (place/'zh.csv').write_text('text,label\n' + ''.join(f'{t},{"no" if chr(0x4e0d) in t else "yes"}\n' for t in zh),
                                encoding='utf-8')
    for start in (['--from', 'lm'], ['--from', 'scratch']):
        code, out, err = here('finetune', '--texts', 'zh.csv', *start, '--out', 'x', '--min-freq', '100', cwd=place)
        assert (code == 1 and '--tokenizer characters' in err and '--from scratch' in err
                and not (place/'x').exists()), err
    for kind in ('characters', 'subwords'):
        code, out, err = here('finetune', '--texts', 'zh.csv', '--from', 'scratch', '--tokenizer', kind, '--lang', 'zh',
                              '--vocab-size', '30', '--out', f'zh_{kind}', *how[:2], '--bs', '2', '--seq-len', '5',
                              '--min-freq', '1', cwd=place)
        assert code == 0, err
        code, out, err = here('classify', '--texts', 'zh.csv', '--from', f'zh_{kind}', '--epochs', '1', '--bs', '4',
                              '--out', f'zh_clas_{kind}', cwd=place)
        assert code == 0, err
        m = TextModel.load(place/f'zh_clas_{kind}')
        code, out, err = here('finetune', '--texts', 'zh.csv', '--from', f'zh_{kind}', '--epochs', '1', '--bs', '2',
                              '--seq-len', '5', '--out', 'zh_more', cwd=place)
        # it goes on with its own tokens
        assert code == 0 and TextModel.load(place/'zh_more').codec.tokens(zh[0]) == m.codec.tokens(zh[0]), err
        assert 1 < len(m.codec.tokens(zh[0])) and m.codec.unk_id not in m.codec.encode(zh[0]).tolist()
        code, out, err = here('predict', '--model', f'zh_clas_{kind}', given=f'{zh[0]}\n\n{zh[1]}\n', cwd=place)
        # an empty line has no characters, and is answered all the same
        assert code == 0 and [l.split('\t')[2] for l in out.splitlines()] == [zh[0], '', zh[1]], err
        code, out, err = here('predict', '--model', f'zh_clas_{kind}', given=zh[1] + '\n', cwd=place)
        assert code == 0 and out.split('\t')[0] in ('no', 'yes') and zh[1] in out


odd = {'crlf.csv': b'text,label\r\n"one\r\ntwo",NA\r\nthree,None\r\n',
       'mark.csv': b'\xef\xbb\xbftext,label\nfine,01\ndull,1\n',
       'UPPER.TSV': b'text\tlabel\nsay "no" to it\tnan\n"\tnull\n',
       'return.csv': b'text,label\n"a\rb",1\nc,0\n',
       'wide.csv': 'text,label\nnaïve,é\n'.encode('utf-16'),
       'lines.jsonl': b'{"text": "1.50", "label": 1.50}\n{"text": "b", "label": true}\n'}


@pytest.mark.parametrize('name', [*odd, 'folder'])
def test_texts_come_in_as_through_the_api(here, place, lm, tmp_path, monkeypatch, name):
    """What `classify` is called with: the same texts and labels that read_labelled gives, for tables and folders that
    readers stumble over."""
    where = tmp_path/name
    if name != 'folder': where.write_bytes(odd[name])
    else:
        for f, data in {'pos/2020/n.txt': b'\xef\xbb\xbfa\r\nb', 'pos/a.txt': b'one', 'neg/b.TXT': b'two',
                        'README.txt': b'read me', 'neg/notes.md': b'x'}.items():
            (where/f).parent.mkdir(parents=True, exist_ok=True), (where/f).write_bytes(data)
        (where/'pos'/'up').symlink_to(where)
    got = []
    def train_classifier(texts, labels, lm=None, **kw): got.append((texts, labels)); raise ValueError('captured')
    monkeypatch.setattr(cli, 'train_classifier', train_classifier)
    code, out, err = here('classify', '--texts', str(where), '--from', str(lm), '--out', 'x', cwd=place)
    assert code == 1 and 'captured' in err, err
    want = read_labelled(where, label='label')
    assert got == [(check_texts(want.texts), want.labels)]
    texts, labels = got[0]
    assert all(isinstance(o, str) for o in texts + labels) and not any('\r' in t or '\ufeff' in t for t in texts)
    if name == 'folder':
        assert (labels == ['neg', 'pos', 'pos'] and texts == ['two', 'a\nb', 'one']
                and all(o in err for o in ('README.txt', 'notes.md', 'up')))
    else:
        assert labels == {'crlf.csv': ['NA', 'None'], 'mark.csv': ['01', '1'], 'UPPER.TSV': ['nan', 'null'],
                          'return.csv': ['1', '0'], 'wide.csv': ['é'], 'lines.jsonl': ['1.50', 'true']}[name]


@pytest.mark.parametrize('content, name, words', [
    ('text,label\n', 'a.csv', 'header and no rows'),
    ('', 'a.csv', 'is empty'),
    ('text,label\ngood\n', 'a.txt', "--sep ,"),
    ('review,label\ngood,x\n', 'a.csv', '--column review'),
    ('text,stars\ngood,x\n', 'a.csv', '--label stars'),
    ('text,label\ngood,\n', 'a.csv', "line 2: the cell of 'label' is empty"),
    ('text,label\na,pos\nb,pos \n', 'a.csv', 'Write them alike'),
    ('text,label\na,x\nb,x\n', 'a.csv', 'at least two labels'),
], ids=str)
def test_tables_that_are_refused(here, place, lm, tmp_path, content, name, words):
    (tmp_path/name).write_text(content)
    code, out, err = here('classify', '--texts', str(tmp_path/name), '--from', str(lm), '--out', 'x', cwd=place)
    assert code == 1 and words in err and len(err.splitlines()) == 1 and not (place/'x').exists(), err


def test_folders_go_the_whole_way(here, place, lm, tmp_path):
    """A name that is not UTF-8, a file in another encoding, a label without texts: said with what to do, before the
    training."""
    for kind in ('neg', 'pos'):
        (tmp_path/'t'/kind).mkdir(parents=True)
        for i in range(3): (tmp_path/'t'/kind/f'{i}.txt').write_text(f'{kind} {i}')
    (tmp_path/'t'/'pos'/'9.txt').write_bytes(b'caf\xe9')
    code, out, err = here('classify', '--texts', str(tmp_path/'t'), '--from', str(lm), '--out', 'x', cwd=place)
    assert code == 1 and '9.txt is not utf-8' in err and '--encoding cp1252' in err and len(err.splitlines()) == 1
    code, out, err = here('classify', '--texts', str(tmp_path/'t'), '--from', str(lm), '--out', 'x',
                          '--encoding', 'cp1252', cwd=place)
    assert code == 1 and 'a classifier needs at least 20' in err
    if sys.platform == 'linux':
        (tmp_path/'t'/os.fsdecode(b'caf\xe9')).mkdir(), (tmp_path/'t'/os.fsdecode(b'caf\xe9')/'1.txt').write_text('x')
        code, out, err = here('classify', '--texts', str(tmp_path/'t'), '--from', str(lm), '--out', 'x',
                              '--encoding', 'cp1252', cwd=place)
        assert code == 1 and r'caf\xe9 is not UTF-8, so it cannot be a label: rename it' in err
    assert not (place/'x').exists()


@pytest.mark.parametrize('out, words', [
    ('FILE/m', 'is a file, so no folder can be made in it'),
    ('pipe', 'is a file; a model is saved as a folder'),
    ('app', 'holds main.py, not part of a saved model'),
    ('lm', 'holds a language_model, which a text_classifier would replace'),
    ('texts/', 'not a saved model'),
    ('.', 'the folder that you are in'),
    ('..', 'the folder that you are in'),
])
def test_where_no_classifier_can_go(here, place, lm, monkeypatch, out, words):
    "Before the training, and nothing that was there is touched: not the language model that it starts from either."
    monkeypatch.setattr(cli, 'train_classifier', None)  # whoever trains fails
    ((place/'app').mkdir(exist_ok=True), (place/'app'/'manifest.json').write_text('{}'),
     (place/'app'/'main.py').write_text('mine'))
    if out == 'pipe' and not hasattr(os, 'mkfifo'): pytest.skip('POSIX')
    if out == 'pipe' and not (place/'pipe').exists(): os.mkfifo(place/'pipe')
    (place/'FILE').write_text('x')
    before = sorted((p, p.lstat().st_mtime_ns, p.lstat().st_ino) for p in place.rglob('*'))
    code, got, err = here('classify', '--texts', 'texts', '--from', 'lm', '--out', out, cwd=place)
    assert code == 1 and words in err and len(err.splitlines()) == 1, err
    assert before == sorted((p, p.lstat().st_mtime_ns, p.lstat().st_ino) for p in place.rglob('*'))


@pytest.mark.parametrize('out', ['empty', 'new/', 'a/b/c', '~/m'])
def test_where_a_model_can_go(here, place, lm, monkeypatch, tmp_path, out):
    "An empty folder, one with a slash, folders that are not there yet, the home; and again in the same place."
    monkeypatch.setenv('HOME', str(tmp_path)), monkeypatch.setenv('USERPROFILE', str(tmp_path))
    (tmp_path/'empty').mkdir()
    saved = TextModel.load(lm)
    monkeypatch.setattr(cli, 'finetune', lambda texts, lm=None, out=None: saved.save(out))
    for _ in range(2):
        code, got, err = here('finetune', '--texts', str(place/'texts'), '--from', str(lm), '--out', out, cwd=tmp_path)
        assert code == 0, err
    path = tmp_path/'m' if out == '~/m' else tmp_path/out
    assert TextModel.load(path).fingerprint() == TextModel.load(lm).fingerprint() and not (tmp_path/'~').exists()


@pytest.mark.parametrize('option, words', [
    ('--seed=-1', 'seed is -1'),
    ('--seed=99999999999999999999', 'seed is 99999999999999999999'),
    ('--lr=0', 'lr is 0.0'),
    ('--lr=nan', 'lr is nan'),
    ('--bs=1', 'bs is 1; it must be a whole number, at least 2'),
    ('--epochs=-2', 'epochs is -2'),
])
def test_settings_of_classify(here, place, lm, option, words):
    code, out, err = here('classify', '--texts', 'texts', '--from', 'lm', '--out', 'x', option, cwd=place)
    assert code == 1 and words in err and out == '' and len(err.splitlines()) == 1 and not (place/'x').exists()


@pytest.mark.parametrize('verb', ['finetune', 'classify'])
def test_a_loss_that_is_no_number_is_no_success(here, place, lm, verb):
    more = ['--bs', '4', '--seq-len', '20'] if verb == 'finetune' else []
    code, out, err = here(verb, '--texts', 'texts', '--from', 'lm', '--epochs', '1', '--lr', '1e30', *more,
                          '--out', 'x', cwd=place)
    assert code == 1 and 'The loss is' in err and 'lower learning rate with --lr' in err and not (place/'x').exists()


@pytest.mark.parametrize('texts', [
    ['วันนี้อากาศดีมาก', 'พรุ่งนี้ฝนตก ไม่ดี'],
    ['今日は天気がいいです。明日も晴れます。', 'この映画はつまらない。'],
    ['今天天气很好', '明天天气不好'],
], ids=['Thai', 'Japanese', 'Chinese'])
def test_scripts_without_spaces_by_every_verb(here, place, lm, clas, texts):
    """Training is refused with what to type, also where a classifier would start from an English model; answers come
    with a warning."""
    (place/'other.csv').write_text('text,label\n' + ''.join(f'{t},{"ab"[i % 2]}\n' for i, t in enumerate(texts*20)),
                                   encoding='utf-8')
    for args in (['finetune', '--from', 'scratch'], ['finetune', '--from', 'scratch', '--min-freq', '1'],
                 ['finetune', '--from', 'lm', '--min-freq', '1'], ['classify', '--from', 'lm']):
        code, out, err = here(args[0], '--texts', 'other.csv', *args[1:], '--out', 'x', cwd=place)
        assert (code == 1 and 'finetune --from scratch), with --tokenizer characters' in err
                and not re.search(r'\w=', err) and not (place/'x').exists()), (args, err)
    warnings.simplefilter('always')
    code, out, err = here('predict', '--model', 'clas', given='\n'.join(texts*2), cwd=place)
    assert (code == 0 and len(out.splitlines()) == 4
            and 'unknown to the vocab' in err and len(err.splitlines()) == 1), err


def test_classify_given_again_with_another_start(here, place, lm, tmp_path, monkeypatch):
    """A classifier was cut off; the same command goes on, one with another language model of the same size begins, and
    prints no 'Resumed'."""
    TextModel.load(lm).untrained(seed=3).save(tmp_path/'other')
    class Killed(Exception): pass
    class Cut(ulmfit.CheckpointCallback):
        def after_epoch(self):
            super().after_epoch()
            raise Killed('killed')
    args = lambda start: ['classify', '--texts', 'texts', '--from', str(start), '--epochs', '2',
                          '--out', str(tmp_path/'c')]
    with monkeypatch.context() as m:
        m.setattr(ulmfit, 'CheckpointCallback', Cut)
        with pytest.raises(Killed): here(*args(lm), cwd=place)
    assert 'Resumed' not in here(*args(tmp_path/'other'), cwd=place)[1]
    b = TextModel.load(tmp_path/'c').fingerprint()
    assert 'Resumed' in here(*args(lm), cwd=place)[1]
    assert TextModel.load(tmp_path/'c').fingerprint() != b


def test_the_command_is_quiet(place, clas):
    "No warning of an import reaches the terminal; the default filters are on, as in a shell."
    run = [sys.executable, *program[3:]]
    p = subprocess.run(run + ['predict', '--model', 'clas'], cwd=place, input='a fine film\n', capture_output=True,
                       text=True, timeout=300, env=env)
    assert p.returncode == 0 and p.stderr == '', p.stderr


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='/dev/full')
def test_a_full_disk_is_said(place, clas):
    with open('/dev/full', 'w') as full:
        p = subprocess.run(program + ['predict', '--model', 'clas'], cwd=place, input='a fine film\n', stdout=full,
                           stderr=subprocess.PIPE, text=True, timeout=300, env=env)
    assert p.returncode == 1 and 'No space left' in p.stderr and len(p.stderr.splitlines()) == 1, p.stderr


def test_killed_and_given_again(place, lm):
    "Six epochs, killed after the first checkpoint beyond the start: the same weights as without a kill."
    args = ['finetune', '--texts', 'texts', '--from', 'scratch', *how, '--epochs', '6', '--out']
    home = dict(FASTAI_HOME=str(place/'home'))
    assert lesson8nlp(*args, 'whole', cwd=place, **home)[0] == 0
    p = subprocess.Popen(program + args + ['cut'], cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                         env=env | home, start_new_session=True)
    runs, end = place/'home'/'data'/'runs', time.time() + 200
    while (p.poll() is None and time.time() < end
           and not any(int(o.name.split('.')[0]) for o in runs.glob('*/[0-9]*'))):
        time.sleep(.01)
    assert p.poll() is None, 'it ended before it could be killed'
    os.killpg(p.pid, signal.SIGKILL)
    p.wait()
    assert not (place/'cut').exists()
    code, out, err = lesson8nlp(*args, 'cut', cwd=place, **home)
    assert code == 0 and 'Resumed' in out and not list(runs.glob('[!.]*')), err
    a, b = (TextModel.load(place/o).model.state_dict() for o in ('whole', 'cut'))
    assert all((a[k] == b[k]).all() for k in a) and a.keys() == b.keys()


def test_the_version_and_the_help(here, tmp_path):
    from lesson8nlp import __version__
    assert here('--version', cwd=tmp_path)[:2] == (0, f'lesson8nlp {__version__}\n')
    code, out, err = here(cwd=tmp_path)
    assert code == 2 and 'lesson8nlp finetune --texts my_texts' in err and '--version' in err and 'required' not in err


@pytest.mark.parametrize('args', [
    ['classify', '--texts', '', '--from', 'lm', '--out', 'x'],
    ['classify', '--texts', 'texts', '--from', '', '--out', 'x'],
    ['finetune', '--texts', 'texts', '--out', ''],
    ['predict', '--model', ''],
    ['predict', '--model', 'clas', '--texts', ''],
    ['generate', 'The', '--model', ' '],
], ids=str)
def test_a_variable_that_is_not_set(here, place, clas, args):
    "--texts \"$TEXTS\" read the folder that one was in."
    flag = args[[not o.strip() for o in args].index(True) - 1]
    code, out, err = here(*args, cwd=place)
    assert code == 1 and out == '' and err == f'lesson8nlp {args[0]}: {flag} is empty.\n' and not (place/'x').exists()


def test_the_root_is_no_place_for_a_model(here, place, lm):
    code, out, err = here('classify', '--texts', 'texts', '--from', 'lm', '--out', os.path.abspath(os.sep), cwd=place)
    assert (code == 1 and len(err.splitlines()) == 1
            and ('the folder that you are in' in err or 'Nothing can be written' in err)), err


def test_a_spreadsheet(here, place, lm, clas):
    (place/'t.xlsx').write_bytes(b'PK\3\4')
    for args in (['classify', '--from', 'lm', '--out', 'x'], ['finetune', '--out', 'x'],
                 ['predict', '--model', 'clas']):
        code, out, err = here(args[0], '--texts', 't.xlsx', *args[1:], cwd=place)
        assert (code == 1 and 'Save the spreadsheet as CSV' in err and 'pandas.read_excel' in err
                and len(err.splitlines()) == 1 and not (place/'x').exists())


def test_options_of_a_table_need_one(here, place, clas):
    "`predict --column review < reviews.csv` classified the header and whole lines."
    for option in (['--column', 'review'], ['--sep', ';']):
        code, out, err = here('predict', '--model', 'clas', *option, given='review;n\nfine;1\n', cwd=place)
        assert code == 1 and out == '' and 'they need --texts' in err


def test_answers_to_answers_keep_every_column(here, place, clas, tmp_path):
    "What `predict` wrote is given to it again: no two columns of one name, and nothing is overwritten."
    (tmp_path/'0.csv').write_text('text,label,predicted_label\nfine,a,mine\n')
    for i in range(2):
        code, out, err = here('predict', '--model', 'clas', '--texts', str(tmp_path/f'{i}.csv'),
                              '--format', 'csv', cwd=place)
        header, row = csv.reader(io.StringIO(out))
        assert code == 0 and len(set(header)) == len(header) and row[1:3] == ['a', 'mine'], out
        assert header[:4] == ['text', 'label', 'predicted_label', 'predicted_predicted_label']
        (tmp_path/f'{i+1}.csv').write_text(out)
    code, out, err = here('predict', '--model', 'clas', '--texts', str(tmp_path/'0.csv'), '--format', 'json', cwd=place)
    assert list(json.loads(out).values())[:3] == ['fine', 'a', 'mine'] and len(json.loads(out)) == 5


def test_a_prompt_that_is_no_text(here, place, lm):
    code, out, err = here('generate', 'The \udcff', '--model', 'lm', cwd=place)
    assert code == 1 and 'half of a surrogate pair' in err and 't.encode' not in err


def test_utf8_lines_in_another_encoding_are_said_once(here, place, clas):
    warnings.simplefilter('default')
    code, out, err = here('predict', '--model', 'clas', '--encoding', 'cp1252', given='fine café\n'*20, cwd=place)
    assert code == 0 and err.count('valid UTF-8') == 1 and '--encoding utf-8' in err, err


# ---- nothing is lost, and nothing is changed, on the way in and out

def test_users_own_words_stay_as_they_are(here, place, lm, clas, tmp_path):
    "A path that looked like an argument, or held two spaces, came back in other words."
    d = tmp_path/"label=1  x seq_len='9'"
    d.mkdir()
    (d/'t.csv').write_text('text,label\na,pos\nb,\n')
    for args in (['classify', '--from', str(lm), '--out', 'x'], ['predict', '--model', str(clas), '--column', 'label']):
        code, out, err = here(args[0], '--texts', str(d/'t.csv'), *args[1:], cwd=place)
        assert code == 1 and f"{d}/t.csv, line 3: the cell of 'label' is empty" in err, err
    code, out, err = here('predict', '--model', str(d), cwd=place)
    assert (code == 1 and f'{d} holds no model' in err and 'lesson8nlp finetune or classify has written' in err
            and 'TextModel' not in err and options == {}), err
    code, out, err = here('predict', '--model', str(d/'none'), cwd=place)
    assert code == 1 and f'There is no folder {d}/none' in err


def test_advice_is_about_options_that_there_are(here, place, lm, tmp_path):
    (tmp_path/'t.csv').write_text('text,label\n' + ''.join(f'a good film {i},{"abcdefgh"[i % 8]}\n' for i in range(24)))
    code, out, err = here('classify', '--texts', str(tmp_path/'t.csv'), '--from', str(lm), '--out', 'x', cwd=place)
    assert (code == 1 and 'valid' not in err and 'fraction' not in err
            and '24 texts are too few to set a part of each label aside' in err
            and 'give more texts of each label' in err), err
    with pytest.raises(ValueError, match='valid=0.1 sets no text of 24 aside.*take a larger fraction'):
        ulmfit.split_by_class([str(i) for i in range(24)], [*'abcdefgh']*3, .1, 1)


@pytest.mark.parametrize('encoding', ['idna', 'punycode', 'undefined', 'base64', 'windoze'])
def test_an_encoding_is_checked_first(here, place, lm, clas, encoding):
    (place/'enc.csv').write_text('text,label\na,b\n')
    for args in (
        ['predict', '--model', 'clas'],
        ['predict', '--model', 'clas', '--texts', 'texts'],
        ['predict', '--model', 'clas', '--texts', 'enc.csv'],
        ['classify', '--texts', 'texts', '--from', 'lm', '--out', 'x'],
        ['finetune', '--texts', 'enc.csv', '--out', 'x'],
    ):
        code, out, err = here(*args, '--encoding', encoding, given='fine\n', cwd=place)
        assert (code == 1 and out == '' and f'There is no encoding {encoding!r}' in err
                and len(err.splitlines()) == 1), err


@pytest.mark.skipif(os.name != 'posix', reason='links')
def test_a_folder_with_files_that_cannot_be_read(here, place, clas, tmp_path):
    "The good ones are answered, the bad ones named, and what is no text is said; the exit code is 1."
    d = tmp_path/'d'
    (d/'sub').mkdir(parents=True)
    for i in range(3): (d/f'{i}.txt').write_text('a fine film')
    (d/'1b.txt').symlink_to('nowhere.txt'), (d/'notes.md').write_text('x'), (d/'sub'/'9.txt').write_bytes(b'caf\xe9')
    for fmt in ('tsv', 'csv', 'json'):
        code, out, err = here('predict', '--model', 'clas', '--texts', str(d), '--format', fmt, '--bs', '1', cwd=place)
        assert code == 1 and [
            o for o in '0.txt 1.txt 2.txt 1b.txt sub/9.txt'.split() if str(d/o) in out
        ] == ['0.txt', '1.txt', '2.txt'], out
        assert ('1b.txt cannot be read: it is a link to a file that is not there' in err
                and '9.txt is not utf-8' in err and 'Ignored, not .txt files: notes.md' in err
                and 'Errno' not in err and len(err.splitlines()) == 3), err
    (d/'1b.txt').unlink(), (d/'sub'/'9.txt').unlink()
    assert here('predict', '--model', 'clas', '--texts', str(d), cwd=place)[0] == 0
    for f in d.glob('*.txt'): f.unlink()
    (d/'gone.txt').symlink_to('nowhere.txt')
    code, out, err = here('predict', '--model', 'clas', '--texts', str(d), '--format', 'csv', cwd=place)
    assert code == 1 and out == '' and 'gone.txt cannot be read' in err
    code, out, err = here('finetune', '--from', 'lm', '--texts', str(d), '--out', 'x', cwd=place)
    assert code == 1 and 'gone.txt cannot be read' in err and 'Errno' not in err and not (place/'x').exists()


def test_a_file_that_may_not_be_read(here, place, clas, tmp_path, monkeypatch):
    "Without permission, which root always has: the system's answer is put in its place."
    from pathlib import Path
    for i in range(3): (tmp_path/f'{i}.txt').write_text('a fine film')
    usual = Path.read_bytes
    def shut(self):
        if self.name == '1.txt': raise PermissionError(13, 'Permission denied', str(self))
        return usual(self)
    monkeypatch.setattr(Path, 'read_bytes', shut)
    code, out, err = here('predict', '--model', 'clas', '--texts', str(tmp_path), cwd=place)
    assert (code == 1 and len(out.splitlines()) == 3
            and f'{tmp_path/"1.txt"} cannot be read: Permission denied.' in err and len(err.splitlines()) == 1)


@pytest.mark.parametrize('line', ['%PDF-1.4', '%!PS', '{\\rtf is a format'])
def test_lines_are_no_documents(here, place, clas, line):
    for given in ([line, 'fine'], ['fine', line, 'dull']):
        code, out, err = here('predict', '--model', 'clas', given='\n'.join(given), cwd=place)
        assert (code == 0 and [l.split('\t', 2)[2] for l in out.splitlines()] == given
                and 'not plain text' not in err), err


def test_closed_streams(place, clas):
    line = ' '.join(f"'{o}'" for o in program) + ' predict --model clas'
    run = lambda redirect: subprocess.run(line + redirect, shell=True, cwd=place, input='fine\n', capture_output=True,
                                          text=True, timeout=300, env=env)
    for redirect, name in (('<&-', 'Standard input'), ('>&-', 'Standard output')):
        p = run(redirect)
        assert (p.returncode == 1 and f'lesson8nlp predict: {name} is closed' in p.stderr
                and len(p.stderr.splitlines()) == 1 and p.stdout == ''), p
    p = run(' --texts nowhere 2>&-')
    assert p.returncode == 1 and p.stdout == ''


@pytest.mark.skipif(os.name != 'posix', reason='POSIX')
def test_whoever_reads_may_leave(place, clas):
    "`| head -1` is no error: the exit code is 0, and nothing is said."
    line = ' '.join(f"'{o}'" for o in program)
    for verb in ('predict --model clas --bs 1', 'predict --model clas --bs 1 --format csv --texts many_lines.csv'):
        (place/'many_lines.csv').write_text('text\n' + 'fine\n'*500)
        p = subprocess.run(['bash', '-c', f'{line} {verb} | head -1 >/dev/null; echo ${{PIPESTATUS[0]}}'], cwd=place,
                           input='fine\n'*500, capture_output=True, text=True, timeout=300, env=env)
        assert p.stdout == '0\n' and p.stderr == '', p


@pytest.mark.skipif(os.name != 'posix', reason='signals')
def test_an_interrupt_while_modules_are_imported(tmp_path):
    "A module that takes its time stands for torch."
    (tmp_path/'pandas.py').write_text('import time; print("importing", flush=True); time.sleep(60)')
    p = subprocess.Popen(program + ['predict', '--model', 'm'], cwd=tmp_path, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True,
                         env=env | dict(PYTHONPATH=os.pathsep.join([str(tmp_path), os.getcwd(), *sys.path])))
    assert p.stdout.readline() == 'importing\n'
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=60)
    assert p.returncode == 130 and err == '\nStopped.\n', err


def test_cells_of_json_lines_keep_their_types(here, place, clas, tmp_path):
    row = dict(text='fine', n=1, x=2.5, yes=True, no=None, tags=['a', 1], of=dict(k=1.0), s='01', half='\ud83d')
    (tmp_path/'t.jsonl').write_text(json.dumps(row) + '\n')
    args = ['predict', '--model', 'clas', '--texts', str(tmp_path/'t.jsonl'), '--format']
    code, out, err = here(*args, 'json', cwd=place)
    got = json.loads(out)
    assert code == 0 and {k: got[k] for k in row} == row and all(type(got[k]) is type(row[k]) for k in row), err
    for fmt, sep in (('csv', ','), ('tsv', '\t')):
        code, out, err = here(*args, fmt, cwd=place)
        header, cells = csv.reader(io.StringIO(out), delimiter=sep)
        assert dict(zip(header, cells[:9])) == dict(text='fine', n='1', x='2.5', yes='true', no='', tags='["a", 1]',
                                                    of='{"k": 1.0}', s='01', half='\\ud83d')


def test_a_parquet_with_other_values(here, place, clas, tmp_path):
    pa, pq = pytest.importorskip('pyarrow'), pytest.importorskip('pyarrow.parquet')
    import datetime
    pq.write_table(pa.table(dict(text=['fine'], day=[datetime.date(2020, 1, 2)], x=[float('nan')])),
                   tmp_path/'t.parquet')
    args = ['predict', '--model', 'clas', '--texts', str(tmp_path/'t.parquet'), '--format']
    code, out, err = here(*args, 'json', cwd=place)
    assert code == 0 and list(json.loads(out).values())[:3] == ['fine', '2020-01-02', None]
    assert here(*args, 'csv', cwd=place)[1].splitlines()[1].startswith('fine,2020-01-02,,')


@pytest.mark.parametrize('label', ['good\tfilm', 'good\nfilm'])
def test_labels_that_would_break_the_lines(here, place, clas, tmp_path, label):
    m = TextModel.load(clas)
    TextModel(m.model, m.codec, ['bad', label]).save(tmp_path/'m')
    code, out, err = here('predict', '--model', str(tmp_path/'m'), given='fine\n', cwd=place)
    assert (code == 1 and out == '' and f'The label {label!r} holds a tab or a line break' in err
            and '--format csv' in err)
    for fmt, sep in (('csv', ','), ('tsv', '\t')):
        (tmp_path/'t.csv').write_text('text\nfine\rfilm\n')
        code, out, err = here('predict', '--model', str(tmp_path/'m'), '--texts', str(tmp_path/'t.csv'),
                              '--format', fmt, cwd=place)
        header, row = csv.reader(io.StringIO(out, newline=''), delimiter=sep)
        assert code == 0 and row[0] == 'fine\rfilm' and row[1] in ('bad', label)
    assert json.loads(here(
        'predict', '--model', str(tmp_path/'m'), '--format', 'json', given='fine\n', cwd=place
    )[1])['label'] in ('bad', label)


def test_texts_that_the_model_cannot_read_are_counted(here, place, clas):
    "One among many gave no warning; the command says it once for all portions."
    texts = ['a fine film and a dull one']*64 + [zh[0]] + ['a dull film']*10 + [zh[1], '']
    with pytest.warns(UserWarning, match='Most words of 2 of 77 texts are unknown to the vocab'):
        TextModel.load(clas).predict(texts)
    warnings.simplefilter('default')
    code, out, err = here('predict', '--model', 'clas', '--bs', '8', given='\n'.join(texts) + '\n', cwd=place)
    assert (code == 0 and len(out.splitlines()) == 77
            and 'Most words of 2 of 77 texts are unknown to the vocab' in err and len(err.splitlines()) == 1), err
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        TextModel.load(clas).predict(['a fine film', '', 'dull'])


@pytest.mark.parametrize('start, f', [('scratch', 'pretrain'), ('reviews', 'finetune')])
def test_finetune_has_the_learning_rate_that_its_start_needs(start, f, monkeypatch, tmp_path):
    (tmp_path/'t.csv').write_text('text\n' + 'a fine film\n'*9)
    given = {}
    def stand_in(*args, lr=None, **kwargs): given['lr'] = lr
    stand_in.__signature__ = inspect.signature(getattr(cli, f))
    monkeypatch.setattr(cli, f, stand_in)
    how = ['finetune', '--texts', str(tmp_path/'t.csv'), '--out', str(tmp_path/'lm'), '--from', start]
    assert cli._main(how) == 0 and given == dict(lr=None)  # its own default
    assert cli._main([*how, '--lr', '0.1']) == 0 and given == dict(lr=0.1)


def test_a_language_that_the_model_does_not_know_is_said(monkeypatch, capsys):
    "11 % of the distinct words were known, which says as little as the 17 % of English texts full of names."
    codec = ulmfit.make_codec(['the order is late, the order is here']*9)
    english, german = ['the order is late, zyzzyva'], ['Die Bestellung kam noch nicht an.']
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        ulmfit.tell_known(codec, english, show=True)
    assert 'model knows: 80.0%; each counted once, 6 of 7 words found' in capsys.readouterr().out
    with pytest.warns(UserWarning, match=r"only 0% of the running.*make_codec\(texts, lang='de'\)"):
        ulmfit.tell_known(codec, german, show=False)
    monkeypatch.setitem(options, 'lang', '--lang')
    with pytest.warns(UserWarning, match='lesson8nlp finetune --from scratch --lang de'):
        ulmfit.tell_known(codec, german, show=False)
    assert capsys.readouterr().out == ''


def test_no_bars_in_a_file(here, place, lm, tmp_path, capsys):
    "A log held 11 KB of bars; and a perplexity of 10,000 ran into the next column."
    before = list(cli.defaults.callbacks)
    code, out, err = here('classify', '--texts', 'texts', '--from', 'lm', '--epochs', '1', '--out', str(tmp_path/'c'),
                          cwd=place)
    assert code == 0 and cli.defaults.callbacks == before and not set('\r█') & set(out + err), out
    assert [re.split('  +', l)[0] for l in out.splitlines()[2:4]] == ['epoch', '0']
    table = cli.EpochTable()
    table.logger_before = print
    table.write_row([0, 18494.024186, 14.174772, '00:00'])
    assert re.split('  +', capsys.readouterr().out) == ['0', '18494.024186', '14.174772', '00:00\n']


def test_generated_texts_are_separated(here, place, lm):
    code, out, _ = here('generate', 'The film', '--model', 'lm', '--n', '2', '--max-tokens', '6', '--seed', '3',
                        cwd=place)
    assert code == 0 and [o.startswith('The film') for o in out.split('\n---\n')] == [True, True]


def test_single_words_and_unknown_words_by_classify(here, place, lm, tmp_path):
    "One-word texts were refused since they have no order; tweets, with the advice to take another language."
    table, args = tmp_path/'t.csv', ['--from', 'lm', '--epochs', '1', '--out', str(tmp_path/'c')]
    table.write_text('text,label\n' + 'film,5\na,1\n'*15 + '" ",5\n')
    warnings.simplefilter('always')
    code, out, err = here('classify', '--texts', str(table), *args, cwd=place)
    assert code == 0 and '1 of 31 texts are empty' in err, err
    table.write_text('text,label\n' + ''.join(f'@q{i} zyx{i} #wv{i},{i % 2}\n' for i in range(30)))
    code, out, err = here('classify', '--texts', str(table), *args, cwd=place)
    assert code == 1 and 'first: lesson8nlp finetune, and then --from' in err and '--lang' not in err, err
