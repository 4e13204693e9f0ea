"The one door for texts: files, folders and tables as real users have them, and lists that only look like texts."
import bz2, gzip, json, lzma, os, random, subprocess, sys
from pathlib import Path

import numpy as np, pandas as pd, pytest

from lesson8nlp import texts as tx
from lesson8nlp.texts import *


def put(path, content, encoding='utf-8'):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def refuses(match, f, *args, kind=ValueError, **kw):
    with pytest.raises(kind, match=match) as e: f(*args, **kw)
    str(e.value).encode()  # can be printed
    return str(e.value)


# ---- lists

good = ['A film.', '', 'naïve 😀']


class Column: # as pyarrow's: it iterates over scalars, and `to_pylist` gives plain values
    def __init__(self, values): self.values = values
    def __iter__(self): return (object() for _ in self.values)
    def __len__(self): return len(self.values)
    def to_pylist(self): return list(self.values)


lists = {'list': list, 'tuple': tuple, 'generator': lambda o: (t for t in o), 'series': pd.Series,
         'odd index': lambda o: pd.Series(o, index=[7]*len(o)), 'objects': lambda o: np.array(o, dtype=object),
         'fixed width': np.array, 'category': lambda o: pd.Series(o, dtype='category'), 'index': pd.Index,
         'keys': lambda o: dict.fromkeys(o).keys(), 'arrow': Column}


@pytest.mark.parametrize('kind', lists)
def test_whatever_holds_texts(kind):
    for out in (check_texts(lists[kind](good)), list(each_text(lists[kind](good)))):
        assert out == good and all(isinstance(o, str) for o in out)
    assert check_texts(lists[kind](good[:0])) == []


@pytest.mark.parametrize('name', ['polars', 'pyarrow'])
def test_columns_of_other_libraries(name):
    lib = pytest.importorskip(name)
    t = lib.DataFrame({'text': good}) if name == 'polars' else lib.table({'text': good})
    assert check_texts(t['text']) == good
    refuses('text', check_texts, t, kind=TypeError)
    gap = lib.DataFrame({'text': ['a', None]}) if name == 'polars' else lib.table({'text': ['a', None]})
    refuses('Text 1 of 2 is None', check_texts, gap['text'], kind=TypeError)


@pytest.mark.parametrize('wrong, match', [
    ('one', 'single str'), (b'one', 'single bytes'),
    (Path('one.txt'), 'single PosixPath' if os.name == 'posix' else 'single'), (None, 'NoneType'), (3, 'int'),
    (pd.DataFrame({'text': good, 'label': 1}), "DataFrame with text, label.*\\['text'\\]"),
    ({'text': good}, 'dict with text'), ({}, 'dict'), (pd.DataFrame(), 'DataFrame'), ({'a', 'b'}, 'no order')],
    ids=lambda o: type(o).__name__)
def test_what_only_looks_like_texts(wrong, match):
    for f in (check_texts, each_text): refuses(match, f, wrong, kind=TypeError)  # at the call, not at the first text


class Dataset: # as Hugging Face's
    column_names = ['text', 'label']
    def __iter__(self): return iter([dict(text='a', label=0)])


def test_a_dataset_is_no_list_of_texts(): refuses('Dataset with text, label', check_texts, Dataset(), kind=TypeError)


def test_a_column_of_a_split_is_named_where_there_are_several_tables():
    "The advice was a table of one split, which is refused again."
    class DatasetDict(dict): column_names = dict(train=['text', 'label'])
    for splits in (DatasetDict(train=Dataset()), dict(train=pd.DataFrame(dict(label=[1], text=['a'])))):
        m = refuses('with train: pass one column of it', check_texts, splits, kind=TypeError)
        assert m.endswith("['train']['text'].")
    refuses(r"example dataframe\['text'\]", check_texts, pd.DataFrame(dict(label=[1], text=['a'])), kind=TypeError)
    refuses(r'example dict\[1\]', check_texts, {1: ['a']}, kind=TypeError)


def test_the_row_of_a_shuffled_table_is_named():
    for f in (check_texts, lambda o: list(each_text(o))):
        refuses(r'^Text 1( of 3)? \(index 3\) is nan', f, pd.Series(['a', None, 'b'], index=[17, 3, 99]),
                kind=TypeError)
    refuses(r'^Text 0 of 1 \(index x\) is 3 ', check_texts, pd.Series([3], index=['x'], dtype=object), kind=TypeError)


@pytest.mark.parametrize('missing', [None, float('nan'), np.float32('nan'), pd.NA, pd.NaT], ids=repr)
def test_missing_texts_are_named(missing):
    for source in (['a', missing, 'b'], pd.Series(['a', missing, 'b'], dtype=object)):
        assert 'missing' in refuses('^Text 1 of 3 is', check_texts, source, kind=TypeError)
    refuses('^Text 1 is', list, each_text(['a', missing]), kind=TypeError)


@pytest.mark.parametrize('wrong, remedy', [
    (b'bytes', 'decode'), (3, 'str'), (1.5, 'str'), (['a'], 'the string alone'), (('a', 1), r'[o[0] for o'),
    (dict(label=1, text='a'), "[o['text'] for o in texts]"), (dict(body='a'), "[o['body'] for o"),
    (np.array(['a']), 'str')],
    ids=repr)
def test_what_is_no_string_is_named(wrong, remedy):
    assert remedy in refuses('^Text 2 of 3 is', check_texts, ['a', 'b', wrong], kind=TypeError)


def test_half_a_surrogate_pair_is_named():
    for t in ('a \ud83d', '\ude00', 'ok \ud83d ok'):
        assert 'surrogatepass' in refuses('^Text 1 of 2 holds half of a surrogate pair', check_texts, ['ok 😀', t])


def test_paths_are_read(tmp_path):
    f = put(tmp_path/'a.txt', '\ufeffone\r\ntwo')
    assert check_texts([f, 'three']) == ['one\ntwo', 'three']
    refuses('gone', check_texts, [tmp_path/'gone.txt'], kind=FileNotFoundError)


# ---- files

text = 'Zürich: naïve “film” 😀\n\tsecond line\n'


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-32'])
@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'], ids=repr)
def test_one_text_in_many_files(tmp_path, encoding, end):
    f = put(tmp_path/'a.txt', text.replace('\n', end), encoding)
    assert read_text(f) == text and check_texts([f]) == [text]


@pytest.mark.parametrize('order', ['le', 'be'])
def test_byte_order_marks_of_both_orders(tmp_path, order):
    for bits in (16, 32):
        f = put(tmp_path/'a.txt', ('\ufeff' + text).encode(f'utf-{bits}-{order}'))
        for encoding in ('utf-8', 'cp1252', f'utf-{bits}'): assert read_text(f, encoding=encoding) == text


def test_the_same_as_fastai_reads(tmp_path): # `tokenize_files` uses Path.read_text with its default newlines
    for i, data in enumerate((b'', b'a', b'a\r\nb\rc\nd\r', b'\r\n\r\n', 'ä\u2028\x0b\x0c\x85b'.encode(), b'a\0b',
                              b' \r\n\ta')):
        f = put(tmp_path/f'{i}.txt', data)
        assert read_text(f) == f.read_text(encoding='utf-8'), data


def test_encodings_are_said(tmp_path):
    f = put(tmp_path/'old.txt', b'first line\nna\xefve')
    m = refuses('old.txt is not utf-8: byte 0xef at position 13, in line 2', read_text, f)
    assert 'encoding' in m and 'cp1252' in m
    assert (read_text(f, 'cp1252') == read_text(f, encoding='latin-1') == 'first line\nnaïve'
            and read_text(f, errors='replace') == 'first line\nna\ufffdve')
    refuses('no encoding', read_text, f, encoding='windoze')
    refuses('strict', read_text, f, errors='ignore')
    refuses('UTF-8|utf-16', read_text, put(tmp_path/'cut.txt', 'film'.encode('utf-16')[:-1]))
    for order in ('le', 'be'):
        assert 'utf-16-le' in refuses('control characters', read_text,
                                      put(tmp_path/'raw.txt', 'English'.encode(f'utf-16-{order}')))
    assert read_text(put(tmp_path/'one.txt', b'a long text with one \0 in it')) == 'a long text with one \0 in it'
    refuses('is a folder', read_text, tmp_path, kind=IsADirectoryError)


def test_large_files_are_read_whole(tmp_path):
    for n in (1 << 20, (1 << 20) + 1, 3 << 20): assert read_text(put(tmp_path/'a.txt', b'x'*n)) == 'x'*n


# ---- folders

def names(files, top): return [f.relative_to(top).as_posix() for f in files]


@pytest.fixture
def top(tmp_path):
    for name in ('pos/2.txt', 'pos/10.txt', 'pos/2020/n.txt', 'neg/a.TXT', 'neg/b.txt', 'README.txt', 'notes.md',
                 'pos/.hidden.txt', '.git/x.txt', 'neg/.DS_Store', 'empty/x.csv'):
        put(tmp_path/'t'/name, name)
    return tmp_path/'t'


real = ['README.txt', 'neg/a.TXT', 'neg/b.txt', 'pos/10.txt', 'pos/2.txt', 'pos/2020/n.txt']


def test_the_files_of_a_folder(top):
    assert names(text_files(top), top) == names(text_files(str(top)), top) == real
    assert (names(text_files(top, 'pos'), top) == names(text_files(top, ['pos']), top) == real[3:]
            and names(text_files(top, ['pos', 'neg', 'pos', '.']), top) == real)
    assert (text_files(top, n=3, seed=1) == text_files(top, n=3, seed=1) != text_files(top, n=3, seed=2)
            and text_files(top, n=6) == text_files(top))
    refuses('7 files were asked for.* has 6', text_files, top, n=7)
    refuses("no folder 'unsup'.*'neg', 'pos'", text_files, top, ['pos', 'unsup'], kind=FileNotFoundError)
    refuses('no folder', text_files, top/'nowhere', kind=FileNotFoundError)
    refuses('No .txt file', text_files, top/'empty')


@pytest.mark.skipif(os.name != 'posix', reason='links')
def test_a_draw_has_a_seed(tmp_path):
    "The usual seed is part of the results that were measured with it, so it may not change."
    for i in range(40): put(tmp_path/'d'/f'{i:02d}.txt', 'x')
    draw = lambda **kw: names(text_files(tmp_path/'d', n=5, **kw), tmp_path/'d')
    assert draw() == draw(seed=42) != draw(seed=0) and draw() == sorted(draw())
    assert draw() == [f'{i:02d}.txt' for i in sorted(random.Random(42).sample(range(40), 5))]


def test_links(top, tmp_path):
    "To parents, to folders beside, to themselves, into nowhere, to folders and files elsewhere: each real text once."
    put(tmp_path/'elsewhere'/'e.txt', 'e'), put(tmp_path/'other'/'o.txt', 'o')
    for name, to in (('neg/up', '..'), ('neg/self', '.'), ('neg/beside', '../pos'), ('pos/root', '/'), ('aaa', 'pos'),
                     ('pos/far', tmp_path/'elsewhere'), ('zzz', tmp_path/'elsewhere'), ('neg/again.txt', 'b.txt'),
                     ('neg/loop', 'loop'), ('neg/loop.txt', 'loop.txt'), ('neg/far.txt', tmp_path/'other'/'o.txt'),
                     ('pos/far.txt', tmp_path/'other'/'o.txt')):
        (top/name).symlink_to(to)
    found = read_labelled(top, label='label')
    assert (names(found.texts, top)
            == ['neg/a.TXT', 'neg/b.txt', 'neg/far.txt', 'neg/loop.txt', *real[3:6], 'zzz/e.txt']
            and found.labels == ['neg']*4 + ['pos']*3 + ['zzz'])
    said = '\n'.join(found.ignored)
    for name in ('links to folders above', 'and 1 more', 'neg/again.txt', 'pos/far.txt', 'README.txt'):
        assert name in said
    refuses('loop.txt', read_text, top/'neg'/'loop.txt', kind=OSError)


@pytest.mark.skipif(os.name != 'posix', reason='links')
def test_a_link_to_the_parent_makes_no_copies(tmp_path): # 4,920 texts of 120 before
    for k in ('pos', 'neg'):
        for i in range(60): put(tmp_path/'t'/k/f'{i}.txt', f'{k} {i}')
    (tmp_path/'t'/'pos'/'all').symlink_to('..')
    assert len(text_files(tmp_path/'t')) == len(read_labelled(tmp_path/'t', label='label').texts) == 120


@pytest.mark.skipif(os.name != 'posix', reason='links')
def test_a_broken_link_is_named_when_it_is_read(top):
    (top/'pos'/'gone.txt').symlink_to('nowhere.txt')
    files = text_files(top)
    assert 'pos/gone.txt' in names(files, top)
    refuses('gone.txt', check_texts, files, kind=FileNotFoundError)


def test_labels_are_the_first_level(top):
    found = read_labelled(top, label='label')
    assert (names(found.texts, top) == real[1:] and found.labels == ['neg', 'neg', 'pos', 'pos', 'pos']
            and all(isinstance(o, Path) for o in found.texts))
    said = '\n'.join(found.ignored)
    for name in ('README.txt', 'notes.md', 'pos/.hidden.txt', '.git', 'neg/.DS_Store', 'empty/x.csv'):
        assert name in said
    assert (read_labelled(top).labels is None and names(read_labelled(top).texts, top) == real
            and 'README' not in '\n'.join(read_labelled(top).ignored))
    refuses('label', read_labelled, top/'neg', label='label')


def test_a_label_without_a_text_is_said(tmp_path):
    for o in ('neg/1.txt', 'pos/1.txt', 'mixed/1.md', '.cache/1.txt'):
        (tmp_path/o).parent.mkdir(exist_ok=True)
        (tmp_path/o).write_text('a film')
    (tmp_path/'neutral').mkdir()
    found = read_labelled(tmp_path, label='x')
    assert found.labels == ['neg', 'pos'] and 'a label without a text: mixed, neutral' in found.ignored
    assert 'label' not in '\n'.join(read_labelled(tmp_path).ignored)


def test_many_ignored_files_are_counted(tmp_path):
    for i in range(40): put(tmp_path/'pos'/f'{i:02}.json', '{}')
    put(tmp_path/'pos'/'a.txt', 'a')
    assert read_labelled(tmp_path, label='x').ignored == [
        'not .txt files: pos/00.json, pos/01.json, pos/02.json, pos/03.json, pos/04.json and 35 more']


@pytest.mark.skipif(sys.platform != 'linux', reason='names of files are bytes')
def test_names_that_are_not_utf8(top):
    bad = Path(os.fsdecode(b'caf\xe9'))
    (put(top/'pos'/bad/'x.txt', 'fine'), put(top/'pos'/os.fsdecode(b'n\xe9.txt'), 'fine too'),
     put(top/'neg'/os.fsdecode(b'\xff.md'), ''))
    found = read_labelled(top, label='label')
    assert {'fine', 'fine too'} < set(check_texts(found.texts)) and set(found.labels) == {'pos', 'neg'}
    '\n'.join(found.ignored).encode()
    put(top/'pos'/os.fsdecode(b'w\xe9.txt'), b'\xff')
    refuses(r'w\\xe9.txt is not utf-8', check_texts, text_files(top))
    put(top/bad/'x.txt', 'fine')
    assert 'rename' in refuses(r'caf\\xe9 is not UTF-8', read_labelled, top, label='label')


@pytest.mark.skipif(os.name != 'posix' or not hasattr(os, 'mkfifo'), reason='POSIX')
def test_what_is_no_file_is_not_opened(top):
    os.mkfifo(top/'pos'/'pipe.txt')
    assert names(text_files(top), top) == real and 'pipe.txt' in '\n'.join(read_labelled(top).ignored)


@pytest.mark.skipif(os.name != 'posix', reason='permissions of POSIX')
def test_what_may_not_be_read_is_named(top):
    code = f"""
import os
from lesson8nlp.texts import *
os.setgroups([]); os.setgid(65534); os.setuid(65534)
for f in (lambda: text_files('shut'), lambda: check_texts(text_files('open'))):
    try: f()
    except PermissionError as e: print('named:', e)
"""
    if os.geteuid(): pytest.skip('needs root to become nobody')
    import tempfile
    with tempfile.TemporaryDirectory() as d:
        os.chmod(d, 0o755)
        put(Path(d)/'shut'/'in'/'a.txt', 'a'), put(Path(d)/'open'/'b.txt', 'b')
        os.chmod(Path(d)/'shut'/'in', 0), os.chmod(Path(d)/'open'/'b.txt', 0)
        r = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], cwd=d, capture_output=True, text=True,
                           env=dict(os.environ, HOME=d))
        assert 'shut/in' in r.stdout and 'open/b.txt' in r.stdout, r


def test_labels_that_look_alike(tmp_path):
    put(tmp_path/'a'/'caf\u00e9'/'1.txt', ''), put(tmp_path/'a'/'cafe\u0301'/'1.txt', '')
    if len(list((tmp_path/'a').iterdir())) == 2: refuses('looks like', read_labelled, tmp_path/'a', label='x')


# ---- tables

def table(tmp_path, content, name='t.csv', **kw): return read_table(put(tmp_path/name, content), label='label', **kw)


def test_a_row_with_another_number_of_cells(tmp_path):
    m = refuses("t.csv, line 2.* 3 cells.* 2: 'text', 'label'", table, tmp_path,
                'text,label\ngood, very good,pos\nbad film,neg\n')
    assert 'double quotes' in m
    refuses('line 4.* 1 cell,', table, tmp_path, 'text,label\n"two\nlines",pos\nno label\n')
    refuses('line 2.* 3 cells', table, tmp_path, 'text,label\na,pos,\nb,neg,\n')  # pandas takes the texts for row names
    refuses("2 more rows", table, tmp_path, 'text,label\na,pos,\nb,neg,\nc,neg,\n')
    assert table(tmp_path, 'text,label,\na,pos,\nb,neg,\n') == (['a', 'b'], ['pos', 'neg'])


@pytest.mark.parametrize('label', ['NA', 'None', 'null', 'nan', 'NaN', 'N/A', '01', '1', '1.0', '1e3', 'True', '-',
                                   'NULL', '0x1', 'inf', ' pos', '2020-01-01'])
@pytest.mark.parametrize('end', ['\n', '\r\n'], ids=repr)
def test_every_cell_is_a_string(tmp_path, label, end):
    content = end.join(['text,label', f'{label},{label}', 'b,0', ''])
    assert table(tmp_path, content) == ([label, 'b'], [label, '0'])
    assert table(tmp_path, content.replace(',', '\t'), 't.tsv') == ([label, 'b'], [label, '0'])


@pytest.mark.parametrize('content, line, column', [
    ('text,label\na,1\nb,\nc,0\n', 3, 'label'), ('text,label\na,1\n,0\n', 3, 'text'),
    ('text,label\n"a\n\nb",1\n"",0\n', 5, 'text'), ('text,label\n\na,1\nb,\n', 4, 'label')])
def test_only_an_empty_cell_is_missing(tmp_path, content, line, column):
    for name, sep in (('t.csv', ','), ('t.tsv', '\t')):
        assert 'Fill' in refuses(f'{name}, line {line}: the cell of .{column}. is empty', table, tmp_path,
                                 content.replace(',', sep), name)


def test_many_missing_cells_are_counted(tmp_path):
    refuses(r'line 3, 4, 5, 6, 7 and 13 more', table, tmp_path, 'text,label\na,b\n' + 'a,\n'*18)


def test_stray_quotes_in_a_tsv(tmp_path):
    rows = [('"Wow, what a film', 'pos'), ('he said "no"', 'neg'), ('5" disk', 'neg'), ('""', 'pos'),
            ('"quoted"', 'pos'), ('a "" b', 'neg'), ('last', 'neg')]
    body = 'text\tlabel\n' + ''.join(f'{t}\t{l}\n' for t, l in rows if t != '""')
    texts, labels = table(tmp_path, body, 't.tsv')
    assert (texts == ['"Wow, what a film', 'he said "no"', '5" disk', 'quoted', 'a "" b', 'last']
            and labels == ['pos', 'neg', 'neg', 'pos', 'neg', 'neg'])
    assert 'two' in refuses('t.tsv, line 3', table, tmp_path,
                            'text\tlabel\nok\tpos\n"Wow\tpos\nb\tneg\na screen of 5"\tneg\nc\tpos\n', 't.tsv')
    refuses('line 2', table, tmp_path, 'text\tlabel\n"Wow\tpos\nb\n', 't.tsv')
    assert 'two' in refuses('t.csv, line 3', table, tmp_path, 'text,label\nok,pos\n"Wow" he said,pos\nok,neg\n')
    refuses('t.csv, line 3', table, tmp_path, 'text,label\nok,pos\n"Wow,pos\nok,neg\n')
    assert table(tmp_path, 'text,label\nhe said "wow",pos\n') == (['he said "wow"'], ['pos'])


def test_line_ends_inside_and_between_rows(tmp_path):
    for end in ('\n', '\r\n', '\r'):
        assert table(tmp_path, end.join(['text,label', 'a,pos', 'b,neg'])) == (['a', 'b'], ['pos', 'neg'])
        assert table(tmp_path, end.join(['text,label', f'"a{end}c",pos', 'b,neg', '', ''])) == (
            ['a\nc', 'b'], ['pos', 'neg'])
    # a lone carriage return is no row
    assert table(tmp_path, 'text,label\ngood\rfilm,pos\nbad,neg\n') == (['good\nfilm', 'bad'], ['pos', 'neg'])
    assert table(tmp_path, 'text,label\r\na,pos\nb,neg\r\n"c\r\nd",pos') == (['a', 'b', 'c\nd'], ['pos', 'neg', 'pos'])
    assert table(tmp_path, 'text,label\na\u2028b\x0bc\x85d,pos\n')[0] == ['a\u2028b\x0bc\x85d']
    assert table(tmp_path, 'text,label\n\ue000\rx,\ue001\n') == (['\ue000\nx'], ['\ue001'])
    assert table(tmp_path, '\n\ntext,label\n\na,pos\n\n') == (['a'], ['pos'])


@pytest.mark.parametrize('kind', ['CSV', 'TSV'])
@pytest.mark.parametrize('seed', range(5))
def test_what_pandas_writes_comes_back(tmp_path, kind, seed):
    rng = random.Random(seed)
    word = lambda: ''.join(rng.choice(['a', 'é', '"', '""', ',', ';', ' ', '\n', "'", '\\', '😀', 'NA', '0',
                                       '\t' if kind == 'CSV' else '']) for _ in range(rng.randint(1, 12))) or 'x'
    df = pd.DataFrame({'id': range(50), 'text': [word() for _ in range(50)],
                       'label': [rng.choice(['01', 'NA', 'x y']) for _ in range(50)]})
    df.to_csv(tmp_path/f't.{kind}', sep=',' if kind == 'CSV' else '\t', index=False)
    assert read_table(tmp_path/f't.{kind}', label='label') == (list(df.text), list(df.label))


def test_encodings_of_tables(tmp_path):
    csv = 'text,label\nfine,pos\nnaïve,neg\n'
    want = (['fine', 'naïve'], ['pos', 'neg'])
    for encoding in ('utf-8', 'utf-8-sig', 'utf-16'): assert table(tmp_path, csv.encode(encoding)) == want
    m = refuses('t.csv is not utf-8.* line 3', table, tmp_path, csv.encode('cp1252'))
    assert 'encoding' in m and 'cp1252' in m
    assert table(tmp_path, csv.encode('cp1252'), encoding='cp1252') == want
    for wrong in (csv, csv.replace('ï', 'i')):
        assert 'utf-16-le' in refuses('t.csv is not', table, tmp_path, wrong.encode('utf-16-le'))
    assert table(tmp_path, csv.encode('utf-16-le'), encoding='utf-16-le') == want


def test_names_and_separators(tmp_path):
    want = (['a', 'b, c'], ['pos', 'neg'])
    for name, sep in (('t.TSV', '\t'), ('t.tab', '\t'), ('t.Csv', None)):
        assert table(tmp_path, 'text\tlabel\na\tpos\nb, c\tneg\n' if sep else 'text,label\na,pos\n"b, c",neg\n',
                     name) == want
    semi = 'text;label\na;pos\nb, c;neg\n'
    refuses("line 3: .*Try sep=';'", table, tmp_path, semi)
    refuses(r"no column 'label'.*'text;label'.*sep=';'", table, tmp_path, semi.replace(', ', ' '))
    assert (table(tmp_path, semi, sep=';') == table(tmp_path, semi, 't.txt', sep=';')
            == table(tmp_path, semi.replace(';', '\t'), sep='\\t') == want)
    for sep in ('', ';;', '"', '\n'): refuses('sep', table, tmp_path, semi, sep=sep) if sep else None
    refuses('does not look like a table.*folder', table, tmp_path, semi, 't.txt')
    for name in ('t', 't.xlsx', 't.json', 't.zip'): refuses('does not look like a table', table, tmp_path, semi, name)
    refuses('folder', read_table, tmp_path, kind=(IsADirectoryError, ValueError))
    refuses('does not exist', read_labelled, tmp_path/'no.csv', kind=FileNotFoundError)


def test_headers(tmp_path):
    refuses('t.csv is empty', table, tmp_path, '')
    refuses('t.csv is empty', table, tmp_path, '\n\n')
    refuses('header and no rows', table, tmp_path, 'text,label\n')
    refuses("no column 'label'; it has 'text', 'stars'", table, tmp_path, 'text,stars\na,1\n')
    refuses("2 columns 'label'", table, tmp_path, 'text,label,label\na,1,2\n')
    assert read_table(put(tmp_path/'t.csv', 'x,text,x\n1,a,2\n')) == (['a'], None)
    assert read_table(put(tmp_path/'t.csv', 'text\na\nb, c\n'.replace(', ', ' '))) == (['a', 'b c'], None)
    refuses('line 3.*empty', read_table, put(tmp_path/'t.csv', 'text\na\n\nb\n'))
    assert read_table(put(tmp_path/'t.csv', '"te""xt"\n"a\n\nb"\n'), 'te"xt') == (['a\n\nb'], None)


def test_labels_of_a_table_that_look_alike(tmp_path):
    refuses("t.csv, line 4: the label 'pos ' looks like 'pos' .*line 2", table, tmp_path,
            'text,label\na,pos\nb,neg\nc,pos \n')
    refuses('looks like', table, tmp_path, 'text,label\na,caf\u00e9\nb,cafe\u0301\n')
    refuses("'1' looks like '1.0'", table, tmp_path, '{"text": "a", "label": 1.0}\n{"text": "b", "label": 1}\n',
            't.jsonl')
    assert table(tmp_path, 'text,label\na,1\nb,10\nc,01\n')[1] == ['1', '10', '01']
    assert table(tmp_path, 'text,label\na,v2\nb,v2.0\n')[1] == ['v2', 'v2.0']
    refuses("line 3: the label ' ' is blank", table, tmp_path, 'text,label\na,pos\nb, \n')


def test_huge_cells(tmp_path):
    import csv
    limit, big = csv.field_size_limit(), 'word '*200_000
    assert table(tmp_path, f'text,label\n"{big}",pos\n{big},neg\n') == ([big, big], ['pos', 'neg'])
    refuses('line 2', table, tmp_path, f'text,label\n"{big}\n')
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize('end, pack', [('gz', gzip.compress), ('BZ2', bz2.compress), ('xz', lzma.compress)])
def test_packed_tables(tmp_path, end, pack):
    data = pack('text,label\nnaïve,01\n'.encode())
    assert table(tmp_path, data, f't.csv.{end}') == (['naïve'], ['01'])
    for wrong in (data[:-9], b'text,label\n', b''): refuses('damaged|empty', table, tmp_path, wrong, f't.csv.{end}')
    assert table(tmp_path, pack(b'{"text": "a", "label": "b"}'), f't.jsonl.{end}') == (['a'], ['b'])


def test_json_lines(tmp_path):
    rows = [dict(text='naïve "film"\n\t', label='NA'), dict(label='01', text='None', more=[1, {}]),
            dict(text=2012, label=1), dict(text='x', label=1.5), dict(text='y', label=True)]
    body = '\n\n'.join(json.dumps(o) for o in rows) + '\n'
    want = (['naïve "film"\n\t', 'None', '2012', 'x', 'y'], ['NA', '01', '1', '1.5', 'true'])
    for name, b in (('t.jsonl', body), ('t.NDJSON', body.replace('\n', '\r\n')), ('t.jsonl', body.encode('utf-16'))):
        assert table(tmp_path, b, name) == want
    assert table(tmp_path, '{"text": "a\\r\\nb", "label": 1.50}', 't.jsonl') == (['a\nb'], ['1.50'])
    for wrong, match in ((body + '{"text": "z"}', 'line 10: the cell of .label. is empty'),
                         (body + '{"text": null, "label": 1}', 'line 10.*text'),
                         (body + '{"text": "z", "label": NaN}', 'line 10.*label'),
                         (body + '{"text": "z", "label": ""}', 'line 10'),
                         (body + '{"text": "z"', 'line 10 is not JSON'), (body + '[1]', 'line 10 holds a list'),
                         ('{"text": "a", "text": "b", "label": 1}', 'line 1.*twice'),
                         ('[{"text": "a", "label": "b"}]', 'line 1 holds a list'),
                         ('{"text": ["a"], "label": 1}', 'line 1: the cell of .text. is'),
                         ('{"text": "\\ud83d", "label": 1}', 'line 1.*surrogate'), ('{"words": "a"}', "no column")):
        refuses(match, table, tmp_path, wrong, 't.jsonl')


def test_parquet(tmp_path):
    pa = pytest.importorskip('pyarrow')
    import pyarrow.parquet as pq
    def parquet(texts, labels, **kw):
        pq.write_table(pa.table({'text': texts, 'label': labels}), tmp_path/'t.parquet', **kw)
        return read_table(tmp_path/'t.parquet', label='label')
    assert parquet(['a', 'naïve\r\n'], ['NA', '01']) == (['a', 'naïve\n'], ['NA', '01'])
    assert parquet(['a', 'b'], [0, 1]) == (['a', 'b'], ['0', '1'])
    assert parquet(pa.array(['a', 'b']).dictionary_encode(), [True, False]) == (['a', 'b'], ['true', 'false'])
    # pandas would make 1.0 of the other
    refuses('t.parquet, row 2: the cell of .label. is empty', parquet, ['a', 'b'], [1, None])
    refuses('row 1: the cell of .text. is', parquet, [b'bytes', b'b'], [1, 2])
    refuses('not Parquet', table, tmp_path, b'PAR1 nonsense', 't.parquet')


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    refuses('t.parquet.*pip install pyarrow', table, tmp_path, b'PAR1', 't.parquet', kind=ImportError)


def test_folder_or_table_through_one_door(tmp_path, top):
    put(tmp_path/'t.csv', 'review,stars\na,01\n')
    assert read_labelled(tmp_path/'t.csv', text='review', label='stars') == (['a'], ['01'], [])
    assert read_labelled(str(tmp_path/'t.csv'), text='review') == (['a'], None, [])
    assert read_labelled(top).texts == text_files(top)


def test_labels_belong_to_texts_by_position():
    df = pd.DataFrame(dict(text=['a', 'b', 'c'], label=['x', 'y', 'x']))
    mixed = df.sample(frac=1, random_state=3)
    assert (tx.labels_for(df.text, df.label)
            == tx.labels_for(df.text.tolist(), mixed.label.sort_index()) == ['x', 'y', 'x'])
    assert (tx.labels_for(mixed.text, mixed.label) == mixed.label.tolist()
            and tx.labels_for(mixed.text, df.label.tolist()) == ['x', 'y', 'x'])
    refuses('different indexes.*one table', tx.labels_for, mixed.text, df.label)
    for wrong in ('xyx', dict(a='x'), {'x', 'y'}, df):
        refuses('Expected a list of labels|labels has shape.*"Your own texts"', tx.labels_for, df.text, wrong,
                kind=TypeError)


def test_threads_read_huge_cells(tmp_path):
    "The csv module has one limit for the whole process; whoever ended first lowered it for the others."
    import csv, threading
    limit, files, got = csv.field_size_limit(), [
        put(tmp_path/f'{i}.csv', 'text,label\n' + ('a,b\n'*(200 if i % 2 else 20_000)) + f'"{"word "*60_000}",pos\n')
        for i in range(6)], []
    def read(f): got.append(len(read_table(f, label='label')[0][-1]))
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=read, args=(f,)) for f in files]
        for t in threads: t.start()
        for t in threads: t.join()
    finally: sys.setswitchinterval(before)
    assert got == [300_000]*6 and csv.field_size_limit() == limit


# ---- what else real tables and folders bring

def test_tables_put_together(tmp_path):
    "`cat a.csv b.csv` repeats the header, with or without a mark: its name would become a label."
    for mark in ('', '\ufeff'):
        refuses('line 4 is the header again', table, tmp_path, f'text,label\na,pos\n\n{mark}text,label\nb,neg\n')
    refuses('line 3 is the header again', table, tmp_path, 'text\tlabel\na\tpos\ntext\tlabel\n', 't.tsv')
    # one column: a text may be that word
    assert read_table(put(tmp_path/'one.csv', 'text\na\ntext\n')) == (['a', 'text'], None)
    assert table(tmp_path, '\ufeff\ufefftext,label\na,pos\n') == (['a'], ['pos'])


def test_line_ends_written_twice(tmp_path):
    for head in ('text,label\r\r\n', 'text,label\n'):
        assert table(tmp_path, head + 'a,pos\r\r\n"b\r\r\nc",neg\r\r\n') == (['a', 'b\nc'], ['pos', 'neg'])
    assert read_text(put(tmp_path/'t.txt', 'a\r\r\nb')) == 'a\nb'


def test_a_line_for_excel(tmp_path):
    for first in ('sep=;', '"sep=;"'):
        assert table(tmp_path, f'{first}\r\ntext;label\r\na, b;pos\r\n') == (['a, b'], ['pos'])
    refuses("line 4: the cell of 'label' is empty", table, tmp_path, 'sep=|\ntext|label\na|b\nc|\n')
    assert table(tmp_path, 'sep=\t\ntext\tlabel\n5" a\tb\n') == (['5" a'], ['b'])


@pytest.mark.parametrize('other', ['pos\u200b', '\ufeffpos', 'p\xados', ' pos\xa0'], ids=ascii)
def test_labels_that_differ_by_what_nobody_sees(tmp_path, other):
    refuses("line 3: the label .* looks like 'pos'", table, tmp_path, f'text,label\na,pos\nb,{other}\n')


def test_spaces_and_capitals_in_labels(tmp_path):
    refuses('looks like', table, tmp_path, 'text,label\na,very good\nb,very  good\n')
    with pytest.warns(UserWarning, match="line 3: the label 'Pos' differs from 'pos' .* only in capitals"):
        assert table(tmp_path, 'text,label\na,pos\nb,Pos\n')[1] == ['pos', 'Pos']


def test_files_that_are_no_tables(tmp_path):
    for name, words in (('t.xlsx', 'as CSV.*pandas.read_excel'), ('t.XLS', 'as CSV'), ('t.ods', 'as CSV'),
                        ('t.json', r'as \.jsonl.*pandas.read_json'), ('t.csv.zip', 'Unpack')):
        refuses(words, table, tmp_path, b'PK\3\4', name)
    for data, words in ((b'PK\3\4\x14\0\xfa', 'spreadsheet.* or another zip archive'),
                        (gzip.compress(b'text,label\na,b\n'), 'packed with gzip'), (b'PAR1\x15', 'Parquet'),
                        (b'%PDF-1.4\xe2', 'a PDF')):
        for name in ('t.csv', 't.tsv', 't.jsonl'):
            refuses(f'{name} is .*{words}.*, not plain text', table, tmp_path, data, name)


@pytest.mark.parametrize('data,words', [
    (br'{\rtf1\ansi{\fonttbl\f0 Times;}\f0 A good film.\par}', 'document in RTF'), (b'%PDF-1.4\nA film', 'a PDF'),
    (b'PK\3\4 A film', 'document of Word'), (b'\xd0\xcf\x11\xe0', 'old Office'), (b'%!PS-Adobe-3.0\n', 'PostScript')])
def test_documents_that_are_called_txt(tmp_path, data, words):
    refuses(f't.txt is .*{words}.*, not plain text: export it as text', read_text, put(tmp_path/'t.txt', data))
    refuses(f'1.txt is .*{words}', check_texts, [put(tmp_path/'d'/'1.txt', data)])
    assert read_text(put(tmp_path/'t.txt', 'PAR1 and %PDF are {rtf}')) == 'PAR1 and %PDF are {rtf}'


@pytest.mark.parametrize('text', ['ok', 'fine film\n', 'хороший фильм\n', 'a'])
def test_letters_that_come_out_as_control_characters(tmp_path, text):
    "UTF-16 without a mark is valid UTF-8 more often than not; also one word, and letters that are not Latin."
    for encoding in ('utf-16-le', 'utf-16-be'):
        refuses("full of control characters.*encoding='utf-16-le'", read_text, put(tmp_path/'t.txt', text, encoding))
        assert read_text(tmp_path/'t.txt', encoding) == text
    assert (read_text(put(tmp_path/'t.txt', 'a\0b and more')) == 'a\0b and more'
            and read_text(put(tmp_path/'t.txt', '')) == '')


def test_bytes_of_a_mainframe(tmp_path):
    p = put(tmp_path/'t.txt', 'fine film', 'cp037')
    assert read_text(p, 'cp037') == 'fine film'
    refuses('cp037', read_text, p, 'latin-1')
    for wide in ('cp037', 'utf-16-le'):
        with pytest.warns(UserWarning, match=f'read as {wide}, and it is valid UTF-8'):
            assert read_text(put(tmp_path/'t.txt', 'fine film.'), wide) != 'fine film.'


def test_the_column_that_was_meant(tmp_path):
    refuses("label='Label'", table, tmp_path, 'id,text,Label,n\n1,a,b,2\n')
    refuses("label=' label'", table, tmp_path, 'text, label,n\na,b,2\n')
    assert 'Name the right' not in refuses('a name of its own', table, tmp_path, 'text,label,label\na,1,2\n')
    refuses('write one above the rows', table, tmp_path, 'good film,pos\nbad film,neg\n')


def test_utf8_that_is_read_as_something_else(tmp_path):
    for encoding in ('latin-1', 'cp1252'):
        with pytest.warns(UserWarning, match=f"read as {encoding}, and it is valid UTF-8.*encoding='utf-8'"):
            assert read_text(put(tmp_path/'t.txt', 'café'), encoding) == 'cafÃ©'
    import warnings
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert read_text(put(tmp_path/'t.txt', 'café', 'cp1252'), 'cp1252') == 'café'
        for encoding in ('utf-8', 'UTF8', 'utf-8-sig'):
            assert read_text(put(tmp_path/'t.txt', 'café'), encoding) == 'café'
        for encoding in ('ascii', 'cp1252'):
            assert read_text(put(tmp_path/'t.txt', 'cafe'), encoding) == 'cafe'
        assert (read_text(put(tmp_path/'t.txt', 'café', 'utf-16'), 'cp1252')
                == read_text(put(tmp_path/'t.txt', 'café', 'utf-8-sig'), 'utf-8') == 'café')
    for text, encoding in (('хороший фильм', 'cp1251'), ('Grüße', 'latin-1')): # too short to tell them apart
        refuses(r"encoding='cp1252' \(Western Europe\), cp1251 \(Cyrillic\)", read_text,
                put(tmp_path/'t.txt', text, encoding))
    refuses(r"encoding='cp1251' \(Cyrillic\), gb18030", read_text, put(tmp_path/'t.txt', b'\xe4\x81')) # no cp1252
    refuses(r"encoding='cp1252'\.", read_text, put(tmp_path/'t.txt', 'a naïve film', 'cp1252'))


def test_parts_of_a_data_set_are_no_labels(tmp_path):
    for f in ('train/pos/1.txt', 'train/neg/2.txt', 'test/pos/3.txt'): put(tmp_path/'d'/f, 'x')
    refuses('parts of a dataset, not labels: give one of them, for example .*train', read_labelled, tmp_path/'d',
            label='x')
    assert (len(read_labelled(tmp_path/'d').texts) == 3
            and read_labelled(tmp_path/'d'/'train', label='x').labels == ['neg', 'pos'])
    # what they are called may be what they are about
    for f in ('train/1.txt', 'test/2.txt'): put(tmp_path/'e'/f, 'x')
    assert read_labelled(tmp_path/'e', label='x').labels == ['test', 'train']


def test_what_a_folder_has_instead(tmp_path):
    put(tmp_path/'out.csv'/'part-0.csv', 'text,label\na,b\n')
    refuses('Ignored, not .txt files: part-0.csv', read_labelled, tmp_path/'out.csv', label='label')


def test_where_there_is_no_path(tmp_path, monkeypatch):
    put(tmp_path/'a.txt', 'not asked for'), monkeypatch.chdir(tmp_path)
    for empty in ('', ' '): refuses('path of the texts is empty', read_labelled, empty)
    for wrong in (pd.DataFrame(dict(text=good)), good, None):
        refuses('Expected the path of a folder or a table', read_labelled, wrong, kind=TypeError)
    refuses('-1 files were asked for', text_files, tmp_path, n=-1)


# ---- readers agree, and say what they cannot read

def test_encodings_that_no_file_has(tmp_path):
    "idna, punycode and undefined are text encodings of Python, but not of files."
    f = put(tmp_path/'a.txt', 'film')
    for encoding in ('idna', 'punycode', 'undefined', 'base64', 'rot13', 'windoze'):
        refuses(f"no encoding '{encoding}' for texts", read_text, f, encoding)
        refuses(f"no encoding '{encoding}' for texts", read_table, put(tmp_path/'t.csv', 'text\na\n'),
                encoding=encoding)
    for encoding in ('UTF8', 'latin-1', 'cp037', 'utf-16', 'mac_roman'):
        assert read_text(put(tmp_path/'b.txt', 'fine film.', encoding), encoding) == 'fine film.'


@pytest.mark.skipif(os.name != 'posix', reason='links')
def test_a_file_that_cannot_be_read_is_named_in_words(tmp_path):
    ((tmp_path/'gone.txt').symlink_to('nowhere.txt'), (tmp_path/'gone.csv').symlink_to('nowhere.csv'),
     (tmp_path/'round.txt').symlink_to('round.txt'))
    for name, why in (('gone.txt', 'it is a link to a file that is not there'), ('round.txt', 'Too many'),
                      ('none.txt', 'No such file')):
        assert 'Errno' not in refuses(f'{name} cannot be read: {why}', read_text, tmp_path/name, kind=OSError)
    refuses('gone.csv does not exist', read_table, tmp_path/'gone.csv', kind=FileNotFoundError)


def test_quotes_in_a_tsv_of_one_column(tmp_path):
    "A quote that was never closed took the lines after it into its text."
    tsv = lambda body: read_table(put(tmp_path/'t.tsv', 'text\n' + body))[0]
    assert tsv('"Wow, what a film\nb\nsaid "no"\n') == ['"Wow, what a film', 'b', 'said "no"']
    assert tsv('"Wow"\n"a ""b"""\nb\n') == ['Wow', 'a "b"', 'b']
    assert '.csv' in refuses('t.tsv, line 2: a cell begins with a quote, and it is not clear where it ends', tsv,
                             '"Wow\nb\na screen of 5"\n')
    assert read_table(put(tmp_path/'t.csv', 'text\n"a\nb"\nc\n'))[0] == ['a\nb', 'c']
    assert table(tmp_path, 'sep=\t\ntext\tlabel\n"Wow\tb\n5" a\tc\n') == (['"Wow', '5" a'], ['b', 'c'])
    refuses('empty below', table, tmp_path, 'sep=;\n')


@pytest.mark.parametrize('text', [
    'text,label\ra,pos\rb,neg\n', 'text,label\na,pos\rb,neg\rc,pos\r', 'text,label\ra,pos\nb,neg\r',
    'sep=,\rtext,label\ra,pos\rb,neg\n'], ids=repr)
def test_rows_that_end_in_carriage_returns(tmp_path, text):
    "A single line feed among them made one row of all the others."
    want = ['a', 'b', 'c'][:text.count('pos') + text.count('neg')]
    assert table(tmp_path, text)[0] == want
    one = text.replace('sep=,\r', '').replace(',label', '').replace(',pos', '').replace(',neg', '')
    assert read_table(put(tmp_path/'one.csv', one))[0] == want


def test_a_number_and_a_string_are_two_labels(tmp_path):
    rows = lambda *labels: ''.join(f'{{"text": "a", "label": {o}}}\n' for o in labels)
    for a, b in (('1', '"1"'), ('true', '"true"'), ('1.50', '"1.50"')):
        refuses(f't.jsonl, line 2: the label .* looks like .*line 1.*alike', table, tmp_path, rows(a, b), 't.jsonl')
    assert (table(tmp_path, rows('1', '2', '1.50', 'true'), 't.jsonl')[1] == ['1', '2', '1.50', 'true']
            and table(tmp_path, rows('"1"', '"2"'), 't.jsonl')[1] == ['1', '2'])
    cells = tx.Table.read(
        put(tmp_path/'n.jsonl', '{"text": "a", "n": 1, "x": 2.50, "l": [1, 2.5], "b": false}')).rows[0]
    assert cells[1:] == [1, 2.5, [1, 2.5], False] and [tx.cell_text(o) for o in cells[1:3]] == ['1', '2.50']


@pytest.mark.parametrize('row', ['a, "pos"', ' "a",pos', 'a,  ""', ' "good, bad"',
                                 'x\ny, "pos"'.replace('x\ny', '"x\ny"')], ids=repr)
def test_a_blank_before_a_quote(tmp_path, row):
    "The quotes stayed in the text or the label, and a comma between them made two cells."
    refuses('t.csv, line 3: a cell begins with a blank and a quote. Remove the blank', table, tmp_path,
            f'text,label\nb,c\n{row}\nd,e\n')
    if row != ' "good, bad"':
        refuses('t.tsv, line 3: a cell begins with a blank', table, tmp_path,
                f'text\tlabel\nb\tc\n{row}\nd\te\n'.replace(',', '\t'), 't.tsv')


def test_a_blank_before_a_quote_that_is_text(tmp_path):
    rows = [(' "Wow" he said', 'x'), (' "pos"', 'y'), ('a, "', 'z'), (' "', ' "w"'), ('"a" "b"', 'v'),
            ('said "no", "never"', 'u')]
    for name, sep in (('t.csv', ','), ('t.tsv', '\t')):
        pd.DataFrame(rows, columns=['text', 'label']).to_csv(tmp_path/name, index=False, sep=sep)
        assert read_table(tmp_path/name, label='label') == tuple(map(list, zip(*rows)))
    assert table(tmp_path, 'text\tlabel\n "Wow" he said\tx\n', 't.tsv')[0] == [' "Wow" he said']


def test_a_table_with_another_separator_than_its_name_says(tmp_path):
    for text in ('text,label\n"good, fine",pos\n', '"text","label"\n"good","pos"\n', 'text,label\n"a\tb",pos\n'):
        refuses("sep=','", table, tmp_path, text, 't.tsv')
    for text in ('text;label\n"good";"pos"\n', '"text";"label"\n"good";"pos"\n'):
        refuses("sep=';'", table, tmp_path, text)
    assert table(tmp_path, '"text","label"\n"good","pos"\n', 't.tsv', sep=',') == (['good'], ['pos'])


def test_messages_name_arguments_in_the_words_of_their_reader(tmp_path, monkeypatch):
    f = put(tmp_path/'a  sep=1.csv', 'text;label\ngood, fine;pos\n')
    assert "Try sep=';'" in refuses('2 cells', read_table, f)
    monkeypatch.setitem(tx.options, 'sep', '--sep')
    m = refuses('2 cells', read_table, f)
    assert "Try --sep ';'" in m and 'a  sep=1.csv' in m
    assert (tx.setting('sep', '\t') == "--sep '\\t'" and tx.setting('label', 'a b') == "label='a b'"
            and tx.for_reader('a', 'b') == 'b')


def test_labels_of_other_libraries_are_plain_values():
    import torch
    from lesson8nlp.texts import labels_for
    for labels in (torch.tensor([1, 0]), list(torch.tensor([1, 0])), list(np.array([1, 0])), np.array([1, 0])):
        found = labels_for(['a', 'b'], labels)
        assert found == [1, 0] and {*map(type, found)} == {int}


def test_line_ends_of_every_system():
    from lesson8nlp.texts import newlines
    assert newlines('a\r\nb\rc\r\r\nd\r\r\re\nf\r') == 'a\nb\nc\nd\n\n\ne\nf\n'
    assert len(newlines('\r'*300_000 + 'x')) == 300_001  # took a minute


def test_an_encoding_that_is_none_is_said(tmp_path):
    refuses('no encoding None', read_text, put(tmp_path/'a.txt', 'a'), None)


def test_what_a_wrong_encoding_is_guessed_from():
    "Few letters outside ASCII are accents, many another alphabet; many zeros UTF-16; many control characters no text."
    from lesson8nlp.texts import decode_text, is_garbled
    for data, guess in ((b'abcdefg\xe9\xe9\xff', 'utf-16-le|cp1251'), (b'abcdefgh\xe9\xff', 'cp1252'),
                        (b'\xff\xe9ab\0\0\0\0\0\0', 'utf-16-le'), (b'\xff\xe9abcdefg\0\0\0', 'cp1252')):
        with pytest.raises(ValueError, match=guess): decode_text(data)
    assert not is_garbled('\x01'*35 + 'a'*65) and is_garbled('\x01'*36 + 'a'*64)
