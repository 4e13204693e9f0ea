"""What a notebook cannot show well about the corpus: kills at any moment, full disks, damaged files, other processes
and clusters."""
import copy, json, multiprocessing, os, pickle, random, signal, subprocess, sys, tempfile, time, warnings
from collections import Counter
from pathlib import Path

import joblib, numpy as np, pandas as pd, pytest

from lesson8nlp import corpus as cp
from lesson8nlp.corpus import *
from lesson8nlp.data import read_text, sample_reviews, text_files
from lesson8nlp.numericalizer import *
from lesson8nlp.texts import check_texts
from lesson8nlp.tokenizer import *

tok = Tokenizer()
files = text_files(sample_reviews())[:600]
texts = [read_text(f) for f in files]
quiet = dict(progress=False)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch): monkeypatch.setattr(cp, 'part_size', 50_000)  # ten or more parts


@pytest.fixture(scope='module')
def whole(tmp_path_factory): # what every way of building the corpus of `texts` must give
    c = Corpus.from_texts(texts, path=tmp_path_factory.mktemp('whole')/'c', n_workers=1, **quiet)
    return c


def content(c): # all that counts, as plain values
    return c.ids.dtype.str, c.ids.tobytes(), c.offsets.tolist(), list(c.vocab), c.counts.tolist()


# of a corpus in a folder: its files by name, with their bytes (a killed run may have left others beside them)
def data_files(path):
    return {f.name: f.read_bytes() for f in (Path(path)/Corpus.open(path).info['data']).iterdir()}


def parts_left(path): return sorted(p.name for p in Path(path).parent.glob(f'.{Path(path).name}.parts/*.npz'))


def left_over(path): # hidden work beside a corpus
    return [p.name for p in Path(path).parent.iterdir() if p.name.startswith(f'.{Path(path).name}')]


def straight(ts, tok=tok, vocab=None, **kw): # the same with the tools of the earlier lessons
    toks = list(tok.pipe(ts))
    vocab = vocab or make_vocab(Counter(w for o in toks for w in o), **kw)
    num = Numericalize(vocab)
    ids = [num(o).tolist() for o in toks]
    return vocab, ids


def assert_straight(c, ts, tok=tok, vocab=None, **kw):
    vocab, ids = straight(ts, tok, vocab, **kw)
    flat = [i for o in ids for i in o]
    assert list(c.vocab) == vocab and c.ids.tolist() == flat and [c[i].tolist() for i in range(len(c))] == ids
    assert (len(c) == len(ts) and c.n_tokens == len(flat)
            and c.offsets.tolist() == np.cumsum([0] + [len(o) for o in ids]).tolist())
    assert c.counts.tolist() == np.bincount(np.array(flat, int), minlength=len(vocab)).tolist()
    assert c.ids.dtype == np.min_scalar_type(len(vocab) - 1) and c.offsets.dtype == c.counts.dtype == np.int64


def test_paths_instead_of_texts_are_told_where_they_belong(tmp_path):
    (tmp_path/'a.txt').write_text('A film.')
    with pytest.raises(TypeError, match='Corpus.from_files takes'):
        Corpus.from_texts([tmp_path/'a.txt'], path=tmp_path/'corpus')


def test_equals_tokenizer_and_numericalize(whole):
    assert_straight(whole, texts)
    assert isinstance(whole.ids, np.memmap) and not whole.ids.flags.writeable and whole.skipped == []
    with pytest.raises((ValueError, TypeError)): whole.ids[0] = 1
    assert whole[-1].tolist() == whole[len(whole)-1].tolist()
    for i in (len(whole), -len(whole)-1):
        with pytest.raises(IndexError, match=str(i)): whole[i]


@pytest.mark.parametrize('kw', [
    dict(min_freq=1), dict(min_freq=1, max_vocab=100), dict(min_freq=2, max_vocab=200), dict(min_freq=10**9),
    dict(vocab=[UNK, 'the', PAD, 'film', '.'])], ids=str)
def test_vocab_and_type_follow_the_arguments(tmp_path, kw):
    c = Corpus.from_texts(texts[:150], path=tmp_path/'c', n_workers=1, **kw, **quiet)
    assert_straight(c, texts[:150], **kw)


def test_smallest_type(tmp_path):
    for n, t in ((255, 'uint8'), (256, 'uint8'), (257, 'uint16'), (65_536, 'uint16'), (65_537, 'uint32')):
        v = [UNK] + [f'w{i}' for i in range(n - 1)]
        c = Corpus.from_texts([f'w{n-2} w0 w{n-1}'], vocab=v, path=tmp_path/f'{n}', n_workers=1, **quiet)
        assert c.ids.dtype == t and c.ids.tolist() == [0, n - 1, 1, 0]


@pytest.mark.parametrize('ts', [[], [''], ['one'], ['', 'a b', ''], ['', ''], ['no no no']], ids=repr)
def test_small_corpora(tmp_path, ts):
    for kw in (dict(n_workers=1), dict(n_workers=2), {}):
        c = Corpus.from_texts(ts, path=tmp_path/f'c{len(kw)}{kw.get("n_workers")}', min_freq=1, **kw, **quiet)
        assert_straight(c, ts, min_freq=1)
        assert_straight(Corpus.open(c.path), ts, min_freq=1)
    c = Corpus.from_texts(iter(ts), path=tmp_path/'i', min_freq=1, **quiet)
    assert_straight(c, ts, min_freq=1)


# ---- the same bytes, wherever the texts come from and whoever does the work

sources = {
    'files': (Corpus.from_files, lambda: files), 'names': (Corpus.from_files, lambda: [str(f) for f in files]),
    'list': (Corpus.from_texts, lambda: texts), 'tuple': (Corpus.from_texts, lambda: tuple(texts)),
    'generator': (Corpus.from_texts, lambda: (t for t in texts)),
    'column': (Corpus.from_texts, lambda: pd.DataFrame({'text': texts}).text),
    'odd index': (Corpus.from_texts, lambda: pd.Series(texts, index=range(len(texts), 0, -1))),
    'array': (Corpus.from_texts, lambda: np.array(texts, dtype=object))}


@pytest.mark.parametrize('source', sources)
@pytest.mark.parametrize('n_workers', [1, 2])
def test_same_bytes_from_everywhere(tmp_path, whole, source, n_workers):
    build, items = sources[source]
    c = build(items(), path=tmp_path/'c', n_workers=n_workers, **quiet)
    assert (content(c) == content(whole) and data_files(c.path) == data_files(whole.path)
            and c.info['key'] == whole.info['key'])
    assert not left_over(c.path)


@pytest.mark.parametrize('size', [1, 7_000, 10**9])
def test_parts_leave_no_trace(tmp_path, whole, monkeypatch, size):
    monkeypatch.setattr(cp, 'part_size', size)
    assert content(Corpus.from_texts(texts, path=tmp_path/'c', n_workers=1, **quiet)) == content(whole)


@pytest.mark.parametrize('backend', ['loky', 'threading'])
def test_same_bytes_by_backends_of_joblib(tmp_path, whole, backend):
    with joblib.parallel_config(backend=backend):
        assert content(Corpus.from_texts(texts, path=tmp_path/'c', n_workers=2, **quiet)) == content(whole)


def test_same_bytes_by_a_dask_cluster(tmp_path, whole):
    from dask.distributed import Client, LocalCluster
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None,
                      local_directory=str(tmp_path/'dask')) as cluster, Client(cluster) as client:
        assert len(client.scheduler_info()['workers']) == 2
        with joblib.parallel_config(backend='dask'):
            a = Corpus.from_files(files, path=tmp_path/'a', n_workers=2, **quiet)
            b = Corpus.from_texts((t for t in texts), path=tmp_path/'b', n_workers=2, **quiet)
    assert content(a) == content(b) == content(whole)


# ---- the cache

def stamp(c): return {f: (f.stat().st_mtime_ns, f.stat().st_ino) for f in Path(c.path).rglob('*')}


def test_the_same_texts_are_not_read_twice(tmp_path, monkeypatch):
    c = Corpus.from_files(files, path=tmp_path/'c', n_workers=1, **quiet)
    before = stamp(c)
    monkeypatch.setattr(cp.FastTokenizer, 'encode', None)  # whoever tokenizes now fails
    for items in (files, [str(f) for f in files]):
        assert content(Corpus.from_files(items, path=tmp_path/'c', n_workers=1, **quiet)) == content(c)
    assert (content(Corpus.from_texts(texts, path=tmp_path/'c', n_workers=1, **quiet)) == content(c)
            and stamp(c) == before)
    assert Corpus.open(tmp_path/'c').info == c.info


def shout(t): return t.upper()


changes = {
    'rule': dict(tok=Tokenizer(rules=text_rules[:-1])), 'other rule': dict(tok=Tokenizer(rules=[shout])),
    'tokenizer': dict(tok=Tokenizer(CharTokenizer())), 'language': dict(tok=Tokenizer(WordTokenizer('de'))),
    'min_freq': dict(min_freq=2), 'max_vocab': dict(max_vocab=100), 'vocab': dict(vocab=[UNK, 'a'])}


@pytest.mark.parametrize('change', changes)
def test_what_changes_the_ids_changes_the_key(tmp_path, change):
    some = texts[:40]
    a = Corpus.from_texts(some, path=tmp_path/'c', n_workers=1, **quiet)
    b = Corpus.from_texts(some, path=tmp_path/'c', n_workers=1, **changes[change], **quiet)
    assert a.info['key'] != b.info['key'] == Corpus.open(tmp_path/'c').info['key'] and not left_over(b.path)
    assert_straight(b, some, **changes[change])
    c = Corpus.from_texts(some, path=tmp_path/'c', n_workers=1, **quiet)
    assert c.info['key'] == a.info['key'] and content(c)[3] == straight(some)[0]


@pytest.mark.parametrize('other', [
    lambda o: o[:-1], lambda o: o[::-1], lambda o: o + [''], lambda o: [*o[:5], o[5] + ' ', *o[6:]],
    lambda o: [o[0] + o[1], *o[2:]], lambda o: ['', *o[1:]]],
    ids=['less', 'order', 'more', 'space', 'joined', 'emptied'])
def test_other_texts_give_another_key(tmp_path, other):
    some = texts[:30]
    a = Corpus.from_texts(some, path=tmp_path/'c', n_workers=1, **quiet)
    b = Corpus.from_texts(other(some), path=tmp_path/'c', n_workers=1, **quiet)
    assert a.info['key'] != b.info['key']
    assert_straight(b, other(some))


def test_a_changed_file_is_noticed(tmp_path):
    fs = [tmp_path/f'{i}.txt' for i in range(20)]
    for f, t in zip(fs, texts): f.write_text(t, encoding='utf-8')
    a = Corpus.from_files(fs, path=tmp_path/'c', n_workers=1, **quiet)
    times = os.stat(fs[3])
    fs[3].write_text(texts[3].swapcase(), encoding='utf-8')  # as long, and of the same age
    os.utime(fs[3], ns=(times.st_atime_ns, times.st_mtime_ns))
    b = Corpus.from_files(fs, path=tmp_path/'c', n_workers=1, **quiet)
    assert a.info['key'] != b.info['key']
    assert_straight(b, [f.read_text(encoding='utf-8') for f in fs])


def test_no_path_means_a_folder_by_content(tmp_path, monkeypatch):
    monkeypatch.setattr(cp, 'data_root', lambda: tmp_path)
    a = Corpus.from_texts(texts[:30], n_workers=1, **quiet)
    b = Corpus.from_texts(texts[:29], n_workers=1, **quiet)
    assert a.path.parent == b.path.parent == tmp_path/'corpus' and a.path != b.path
    before = stamp(a)
    again = Corpus.from_texts(iter(texts[:30]), n_workers=1, **quiet)
    assert again.path == a.path and content(again) == content(a)
    assert (Corpus.from_texts(texts[:30], n_workers=1, **quiet).path == a.path
            and len(list((tmp_path/'corpus').iterdir())) == 2)


def test_nothing_is_pickled(whole):
    names = {f.suffix for f in Path(whole.path).rglob('*') if f.is_file()}
    assert names == {'.json', '.npy'}
    for f in Path(whole.path).rglob('*.npy'): assert not np.load(f, allow_pickle=False).dtype.hasobject
    for f in Path(whole.path).rglob('*.json'): json.loads(f.read_text(encoding='utf-8'))


def test_parts_are_not_pickled(tmp_path):
    with pytest.raises(ValueError, match='nowhere'):
        Corpus.from_files([*files[:100], tmp_path/'nowhere'], path=tmp_path/'c', n_workers=1, **quiet)
    assert parts_left(tmp_path/'c')
    for f in (tmp_path/'.c.parts').iterdir():
        with np.load(f, allow_pickle=False) as z: assert all(not z[k].dtype.hasobject for k in z.files)


# ---- damage

def damage_all(path): # (name, how) of each harm to each file
    return [(f, how) for f in sorted(Path(path).rglob('*')) if f.is_file()
            for how in ('gone', 'empty', 'half', 'one less', 'one more', 'bit', 'first bit', 'last bit', 'zeros')]


def harm(f, how, rng):
    b = bytearray(f.read_bytes())
    if how == 'gone': return f.unlink()
    if 'bit' in how:
        b[0 if how == 'first bit' else
          len(b) - 1 if how == 'last bit' else rng.randrange(len(b))] ^= 1 << rng.randrange(8)
    f.write_bytes({'empty': b'', 'half': b[:len(b)//2], 'one less': b[:-1], 'one more': b + b'x',
                   'zeros': bytes(len(b))}.get(how, b))


def test_every_damage_is_noticed_and_mended(tmp_path):
    some, rng = texts[:25], random.Random(0)
    good = Corpus.from_texts(some, path=tmp_path/'c', n_workers=1, **quiet)
    want, whole_files = content(good), data_files(good.path)
    del good
    for f, how in damage_all(tmp_path/'c'):
        f = next((tmp_path/'c').rglob(f.name))  # the folder of the data may have got another name
        harm(f, how, rng)
        with pytest.raises((ValueError, FileNotFoundError), match=f'{f.name}.*(?s:.*)(from_files|from_texts)'):
            Corpus.open(tmp_path/'c')
        assert content(Corpus.from_texts(some, path=tmp_path/'c', n_workers=1, **quiet)) == want, (f.name, how)
        assert data_files(tmp_path/'c') == whole_files and not left_over(tmp_path/'c')


def test_no_corpus_is_said(tmp_path):
    for p in (tmp_path, tmp_path/'nowhere'):
        with pytest.raises(FileNotFoundError, match='no corpus'): Corpus.open(p)


@pytest.mark.parametrize('how', ['empty', 'half', 'one less', 'bit', 'zeros', 'first bit', 'gone'])
def test_damaged_parts_are_done_again(tmp_path, whole, how):
    "A run stopped by an unreadable file leaves its parts; these are damaged before the next run."
    rng, fs = random.Random(how), [tmp_path/f'{i}.txt' for i in range(len(texts))]
    for f, t in zip(fs, texts): f.write_text(t, encoding='utf-8')
    fs[-1].unlink()
    with pytest.raises(ValueError, match=fs[-1].name): Corpus.from_files(fs, path=tmp_path/'c', n_workers=1, **quiet)
    fs[-1].write_text(texts[-1], encoding='utf-8')
    left = sorted((tmp_path/'.c.parts').glob('*.npz'))
    assert len(left) >= 5
    for f in left:
        harm(f, how, rng)
    c = Corpus.from_files(fs, path=tmp_path/'c', n_workers=1, **quiet)
    # the part without the last file is of another corpus
    assert content(c) == content(whole) and len(parts_left(c.path)) <= 1


# ---- files that cannot be read, and what is no text

@pytest.fixture
def mixed(tmp_path): # files good and bad
    d = tmp_path/'in'
    d.mkdir()
    fs = [d/f'{i}.txt' for i in range(8)]
    for i, f in enumerate(fs): f.write_text(f'text number {i} is good', encoding='utf-8')
    fs[1].write_bytes('caf\u00e9 noir'.encode('latin-1'))
    fs[3].unlink(), fs[3].mkdir()
    fs[4].unlink(), fs[4].symlink_to(d/'nowhere')
    fs[6].unlink()
    return fs, [1, 3, 4, 6]


@pytest.mark.parametrize('n_workers', [1, 2])
def test_unreadable_files_are_all_named(tmp_path, mixed, n_workers):
    fs, bad = mixed
    with pytest.raises(ValueError) as e: Corpus.from_files(fs, path=tmp_path/'c', n_workers=n_workers, **quiet)
    for i, f in enumerate(fs): assert (str(f) in str(e.value)) == (i in bad)
    assert 'skip' in str(e.value) and 'replace' in str(e.value) and 'UTF-8' in str(e.value)
    assert not (tmp_path/'c').exists() and parts_left(tmp_path/'c')


@pytest.mark.parametrize('errors', ['skip', 'replace'])
def test_unreadable_files_are_skipped_or_replaced(tmp_path, mixed, errors):
    fs, bad = mixed
    with pytest.warns(UserWarning, match='1.txt'):
        c = Corpus.from_files(fs, path=tmp_path/'c', n_workers=1, errors=errors, min_freq=1, **quiet)
    assert [Path(n).name for n, _ in c.skipped] == [fs[i].name for i in bad] and all(why for _, why in c.skipped)
    good = {i: f'text number {i} is good' for i in range(8) if i not in bad}
    if errors == 'replace': good |= {1: 'caf\ufffd noir', 3: '', 4: '', 6: ''}
    assert_straight(c, [good[i] for i in sorted(good)], min_freq=1)
    assert Corpus.open(tmp_path/'c').skipped == c.skipped
    assert Corpus.from_files(fs, path=tmp_path/'c', n_workers=1, errors=errors, min_freq=1, **quiet).info == c.info
    fs[6].write_text('it is back', encoding='utf-8')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        d = Corpus.from_files(fs, path=tmp_path/'c', n_workers=1, errors=errors, min_freq=1, **quiet)
    assert d.info['key'] != c.info['key'] and len(d.skipped) == 3 and 'back' in d.vocab


def test_a_text_that_changes_while_it_is_read(tmp_path, monkeypatch):
    "A file that vanishes after its size was asked for."
    fs = [tmp_path/f'{i}.txt' for i in range(5)]
    for f in fs: f.write_text('here I am', encoding='utf-8')
    asked = cp.PartReader.size
    def vanish(self, f):
        n = asked(self, f)
        fs[2].unlink(missing_ok=True)
        return n
    monkeypatch.setattr(cp.PartReader, 'size', vanish)
    with pytest.raises(ValueError, match='2.txt'): Corpus.from_files(fs, path=tmp_path/'c', n_workers=1, **quiet)
    assert not (tmp_path/'c').exists()


@pytest.mark.parametrize('missing', [None, float('nan'), pd.NA, 3, b'bytes'], ids=repr)
def test_a_column_with_a_missing_text(tmp_path, missing):
    # Arrow, where it is installed, has no half pairs
    col = pd.Series(['a good one', missing, 'and another', 'half \ud800 pair'], dtype=object)
    with pytest.raises(TypeError, match='(?s)text 1.*text 3'):
        Corpus.from_texts(col, path=tmp_path/'c', n_workers=1, **quiet)
    with pytest.warns(UserWarning, match='text 1'):
        s = Corpus.from_texts(col, path=tmp_path/'s', n_workers=1, errors='skip', min_freq=1, **quiet)
    with pytest.warns(UserWarning, match='text 1'):
        r = Corpus.from_texts(col, path=tmp_path/'r', n_workers=1, errors='replace', min_freq=1, **quiet)
    assert [n for n, _ in s.skipped] == [n for n, _ in r.skipped] == [1, 3]
    assert_straight(s, ['a good one', 'and another'], min_freq=1)
    assert_straight(r, ['a good one', '', 'and another', 'half \ufffd pair'], min_freq=1)


@pytest.mark.parametrize('bad', [None, float('nan'), pd.NA, 3, b'bytes', 'half \ud800 pair'], ids=ascii)
def test_what_is_no_text_is_said_in_the_words_of_check_texts(tmp_path, bad):
    with pytest.raises((TypeError, ValueError)) as e: check_texts(['fine', bad])
    fault, remedy = str(e.value).removeprefix('Text 1 of 2 ').split('. ', 1)
    for source in (list, iter):
        with pytest.raises(e.type) as e2:
            Corpus.from_texts(source(['fine', bad]), path=tmp_path/'c', n_workers=1, **quiet)
        assert e2.type is e.type and fault in str(e2.value) and remedy.rstrip('.') in str(e2.value)
        assert 'UTF-8' not in str(e2.value)


@pytest.mark.parametrize('bad', ['a text', b'bytes'])
def test_one_text_is_not_many(tmp_path, bad):
    for f in (Corpus.from_texts, Corpus.from_files):
        with pytest.raises(TypeError, match='single|one'): f(bad, path=tmp_path/'c')
    with pytest.raises(ValueError, match='errors.*raise.*skip.*replace'):
        Corpus.from_texts(['a'], errors='ignore', path=tmp_path/'c')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'], ids=repr)
def test_files_of_every_system_give_the_same_corpus(tmp_path, encoding, end):
    """Line ends and byte order marks leave no trace: the ids are those of `read_text`, so of the classifier and of
    fastai."""
    ts = ['A fine film.\n\nOf 1999.\n', 'naïve\ncafé']
    fs = [tmp_path/f'{i}.txt' for i in range(2)]
    for f, t in zip(fs, ts): f.write_bytes(t.replace('\n', end).encode(encoding))
    assert [read_text(f) for f in fs] == ts
    assert_straight(Corpus.from_files(fs, path=tmp_path/'c', n_workers=1, min_freq=1, **quiet), ts, min_freq=1)


def test_other_encodings_are_said(tmp_path):
    f = tmp_path/'old.txt'
    f.write_bytes('un café noir'.encode('cp1252'))
    with pytest.raises(ValueError, match='old.txt is not utf-8: byte 0xe9 at position 6, in line 1.*(?s:.*)encoding'):
        Corpus.from_files([f], path=tmp_path/'c', n_workers=1, **quiet)
    assert_straight(Corpus.from_files([f], path=tmp_path/'c', n_workers=1, min_freq=1, encoding='cp1252', **quiet),
                    ['un café noir'], min_freq=1)
    with pytest.raises(ValueError, match='no encoding'):
        Corpus.from_files([f], path=tmp_path/'d', encoding='windoze', **quiet)
    f.write_bytes('plain English'.encode('utf-16-le'))
    with pytest.raises(ValueError, match='old.txt.*control characters'):
        Corpus.from_files([f], path=tmp_path/'d', n_workers=1, **quiet)
    with pytest.warns(UserWarning, match='control characters'):
        assert len(Corpus.from_files([f], path=tmp_path/'d', n_workers=1, errors='skip', **quiet)) == 0


def test_tables_and_dicts_are_no_texts(tmp_path):
    for f, wrong in ((Corpus.from_texts, pd.DataFrame({'text': ['a']})), (Corpus.from_texts, {'text': ['a']}),
                     (Corpus.from_files, pd.DataFrame({'file': ['a']})), (Corpus.from_files, {'a': 1}),
                     (Corpus.from_texts, 3), (Corpus.from_files, None)):
        with pytest.raises(TypeError, match='Expected a list of (texts|files)'): f(wrong, path=tmp_path/'c')
    assert not list(tmp_path.iterdir())


class Arrow: # a column of Arrow: it iterates over scalars
    def __init__(self, ts): self.ts = ts
    def __iter__(self): return (object() for _ in self.ts)
    def __len__(self): return len(self.ts)
    def to_pylist(self): return self.ts


def test_columns_of_arrow(tmp_path):
    assert_straight(Corpus.from_texts(Arrow(texts[:20]), path=tmp_path/'c', n_workers=1, **quiet), texts[:20])


def test_a_file_in_the_place_of_the_folder_is_noticed_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(cp.FastTokenizer, 'encode', None)
    (tmp_path/'f').write_text('mine')
    with pytest.raises(OSError, match='f: take a folder .*it is a file'):
        Corpus.from_texts(['a'], path=tmp_path/'f', n_workers=1, **quiet)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['f']


# ---- the codec

codecs = {'words': lambda: None, 'German': lambda: Tokenizer(WordTokenizer('de')),
          'characters': lambda: Tokenizer(CharTokenizer()), 'few rules': lambda: Tokenizer(rules=[lowercase])}


@pytest.mark.parametrize('kind', [*codecs, 'subwords'])
def test_an_opened_corpus_knows_its_codec(tmp_path, kind):
    if kind == 'subwords':
        sub = SubwordTokenizer(vocab_sz=200, cache_dir=tmp_path/'spm')
        sub.setup(texts[:40])
        t = Tokenizer(sub)
    else: t = codecs[kind]()
    built = Corpus.from_texts(texts[:20], tok=t, path=tmp_path/'c', n_workers=1, min_freq=1, **quiet)
    for c in (built, Corpus.open(tmp_path/'c'), pickle.loads(pickle.dumps(built))):
        assert (c.codec.vocab == list(c.vocab)
                and [o.tolist() for o in c.codec.encode_all(texts[:20])] == [c[i].tolist() for i in range(20)])
    assert Corpus.open(tmp_path/'c').codec == built.codec


def test_a_tokenizer_with_code_of_its_owner_is_asked_for(tmp_path):
    t = Tokenizer(rules=[shout])
    built = Corpus.from_texts(texts[:5], tok=t, path=tmp_path/'c', n_workers=1, min_freq=1, **quiet)
    with pytest.raises(ValueError, match='tok='): Corpus.open(tmp_path/'c').codec
    assert (Corpus.open(tmp_path/'c', tok=t).codec.encode(texts[2]).tolist() == built.codec.encode(texts[2]).tolist()
            == built[2].tolist())


def test_opening_without_checksums_reads_only_names_and_sizes(tmp_path, whole, monkeypatch):
    monkeypatch.setattr('lesson8nlp.store.file_checksum', None)  # whoever reads for a checksum now fails
    assert (content(Corpus.open(whole.path, verify=False)) == content(whole)
            == content(pickle.loads(pickle.dumps(whole))))
    with pytest.raises(TypeError): Corpus.open(whole.path)


def test_an_iterator_that_fails_leaves_the_old_corpus(tmp_path):
    c = Corpus.from_texts(texts[:50], path=tmp_path/'c', n_workers=1, **quiet)
    before = stamp(c)
    def source():
        yield from texts
        raise RuntimeError('the source broke')
    for n in (1, 2):
        with pytest.raises(RuntimeError, match='the source broke'):
            Corpus.from_texts(source(), path=tmp_path/'c', n_workers=n, **quiet)
    assert stamp(c) == before and content(Corpus.open(tmp_path/'c')) == content(c)


# ---- kills

head = '''
import os, resource, sys, time, threading
os.environ['OMP_NUM_THREADS'] = '1'
from lesson8nlp import corpus as cp
from lesson8nlp.corpus import Corpus
from lesson8nlp.data import sample_reviews, text_files
cp.part_size = 50_000
files = text_files(sample_reviews())[:600]
'''


def start(code, **kw):
    return subprocess.Popen([sys.executable, '-W', 'ignore', '-c', head + code], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, start_new_session=True, **kw)


def finish(p, timeout=120):
    try: out, err = p.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(p.pid, signal.SIGKILL)
        raise
    return p.returncode, out, err


build = '''
slow = cp.save_part
def save(f, part): # slower, so that the kill comes between parts as often as within one; and the parts are counted
    slow(f, part)
    print('part', flush=True)
    time.sleep(.02)
cp.save_part = save
print('ready', flush=True)
go = sys.stdin.readline()
c = Corpus.from_files(files, path={path!r}, n_workers={n}, progress=False)
print('done', flush=True)
'''


# a build that is killed `delay` seconds after so many parts; how many it had done, was it finished
def kill_run(path, delay, n_workers=1, after=0):
    p = start(build.format(path=str(path), n=n_workers), stdin=subprocess.PIPE)
    try:
        assert p.stdout.readline() == 'ready\n', p.stderr.read()
        p.stdin.write('go\n'), p.stdin.flush()
        seen = [p.stdout.readline().strip() for _ in range(after)]
        time.sleep(delay)
    finally: os.killpg(p.pid, signal.SIGKILL)
    out = seen + p.stdout.read().splitlines()
    p.wait()
    return out.count('part'), 'done' in out


def kill_often(tmp_path, whole, n, seed, monkeypatch):
    rng, went_on, during, encode = random.Random(seed), 0, 0, cp.FastTokenizer.encode
    p = start(build.format(path=str(tmp_path/'timed'), n=1), stdin=subprocess.PIPE)
    assert p.stdout.readline() == 'ready\n'
    p.stdin.write('go\n'), p.stdin.flush()
    n_parts = sum(l == 'part\n' for l in iter(p.stdout.readline, 'done\n') if l or pytest.fail(p.stderr.read()))
    assert finish(p)[0] == 0 and n_parts >= 8
    for k in range(n):
        path = tmp_path/f'c{k}'
        n_workers = 2 if k % 4 == 3 else 1
        # counted in parts: a busy machine is slower
        _, ended = kill_run(path, rng.uniform(0, .1), n_workers, after=rng.randrange(n_parts + 1))
        left, calls = parts_left(path), []
        during += not ended
        # it is there as a whole, or not at all
        if (path/'corpus.json').exists(): assert content(Corpus.open(path)) == content(whole)
        else:
            with pytest.raises(FileNotFoundError): Corpus.open(path)
        with monkeypatch.context() as m:
            m.setattr(cp.FastTokenizer, 'encode', lambda self, ts: (calls.append(1), encode(self, ts))[1])
            there = (path/'corpus.json').exists()
            c = Corpus.from_files(files, path=path, n_workers=1, **quiet)
        assert content(c) == content(whole) and data_files(path) == data_files(whole.path)
        assert len(calls) == (0 if there else n_parts - len(left)), 'what was done is not done again'
        went_on += 0 < len(calls) < n_parts
        assert there or not parts_left(path)  # a kill after the corpus was in place may leave parts behind
    return went_on, during


def test_a_killed_build_goes_on(tmp_path, whole, monkeypatch):
    went_on, during = kill_often(tmp_path, whole, 4, 0, monkeypatch)
    assert during >= 1


@pytest.mark.slow
@pytest.mark.parametrize('seed', range(3))
def test_many_killed_builds_go_on(tmp_path, whole, monkeypatch, seed):
    went_on, during = kill_often(tmp_path, whole, 14, seed + 1, monkeypatch)
    assert went_on >= 3 and during >= 6


@pytest.mark.slow
def test_killed_again_and_again(tmp_path, whole):
    "The same build, killed until it comes through."
    rng, done, ended = random.Random(5), [], False
    for k in range(3):
        n, ended = kill_run(tmp_path/'c', rng.uniform(.05, .3))
        done.append(n)
        if ended: break
    c = Corpus.from_files(files, path=tmp_path/'c', n_workers=1, **quiet)
    assert content(c) == content(whole)


def test_a_killed_worker_is_an_error_and_not_a_hang(tmp_path, whole):
    p = start('''
import psutil
def kill():
    while not (kids := psutil.Process().children()): time.sleep(.001)
    time.sleep(.05)
    for k in kids[:1]: k.kill()
slow = cp.FastTokenizer.encode
def encode(self, ts):
    time.sleep(.1)
    return slow(self, ts)
cp.FastTokenizer.encode = encode
threading.Thread(target=kill, daemon=True).start()
Corpus.from_files(files, path=%r, n_workers=2, progress=False)
''' % str(tmp_path/'c'))
    code, out, err = finish(p, timeout=60)
    assert code != 0 and 'terminated' in err.splitlines()[-1], err
    assert not (tmp_path/'c'/'corpus.json').exists()
    assert content(Corpus.from_files(files, path=tmp_path/'c', n_workers=2, **quiet)) == content(whole)


# ---- the disk

# bytes that a file may have: the parts do not fit, or ids.npy does not
@pytest.mark.parametrize('limits', [(60_000,), pytest.param((1000, 20_000, 150_000), marks=pytest.mark.slow)], ids=str)
def test_full_disk_leaves_the_old_corpus(tmp_path, whole, limits):
    old = Corpus.from_texts(texts[:30], path=tmp_path/'c', n_workers=1, **quiet)
    before, want = stamp(old), content(old)
    for limit in limits:
        p = start(f'''
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try: Corpus.from_files(files, path={str(tmp_path/'c')!r}, n_workers={2 if limit == 20_000 else 1}, progress=False)
except OSError as e: print('clear:', e)
''')
        code, out, err = finish(p)
        assert code == 0 and 'clear:' in out and str(tmp_path) in out and 'room' in out, (limit, out, err)
        assert stamp(old) == before and content(Corpus.open(tmp_path/'c')) == want
    assert content(Corpus.from_files(files, path=tmp_path/'c', n_workers=1, **quiet)) == content(whole)


@pytest.mark.skipif(os.name != 'posix', reason='permissions of POSIX')
def test_a_folder_without_permission():
    with tempfile.TemporaryDirectory() as d:
        os.chmod(d, 0o777)
        shut = Path(d)/'shut'
        shut.mkdir(mode=0o555)
        code = """
try: Corpus.from_texts(['a b c'], path=%r, n_workers=1, progress=False)
except OSError as e: print('clear:', e)
""" % str(shut/'c')
        user = "\nos.setgroups([]); os.setgid(65534); os.setuid(65534)\n" if os.geteuid() == 0 else ''
        rc, out, err = finish(start(user + code, env=dict(os.environ, FASTAI_HOME=f'{d}/home')))
        assert rc == 0 and 'clear:' in out and str(shut) in out, (out, err)
        assert not list(shut.iterdir())


def test_a_path_under_a_regular_file(tmp_path):
    (tmp_path/'f').write_text('I am a file')
    for p in (tmp_path/'f', tmp_path/'f'/'c'):
        with pytest.raises(OSError, match=str(tmp_path/'f')): Corpus.from_texts(['a b'], path=p, n_workers=1, **quiet)
    assert (tmp_path/'f').read_text() == 'I am a file'


def test_other_files_in_the_folder_stay(tmp_path):
    (tmp_path/'c').mkdir(), (tmp_path/'c'/'notes').mkdir(), (tmp_path/'c'/'notes.txt').write_text('mine')
    Corpus.from_texts(texts[:20], path=tmp_path/'c', n_workers=1, **quiet)
    Corpus.from_texts(texts[:10], path=tmp_path/'c', n_workers=1, **quiet)
    assert (tmp_path/'c'/'notes.txt').read_text() == 'mine' and (tmp_path/'c'/'notes').is_dir()


# ---- two at once

def both(tmp_path, codes):
    ps = [start("\nprint('ready', flush=True); sys.stdin.readline()\n" + c, stdin=subprocess.PIPE) for c in codes]
    for p in ps: assert p.stdout.readline() == 'ready\n', p.stderr.read()
    for p in ps: p.stdin.write('go\n'), p.stdin.flush()
    return [finish(p) for p in ps]


@pytest.mark.parametrize('rounds', [2, pytest.param(15, marks=pytest.mark.slow)])
def test_two_builds_of_the_same_corpus(tmp_path, whole, rounds):
    code = f'''
for k in range({rounds}):
    c = Corpus.from_files(files, path=%r + str(k), n_workers=1, progress=False)
    print(c.n_tokens, c.info['key'], flush=True)
''' % str(tmp_path/'c')
    for rc, out, err in both(tmp_path, [code, code]):
        assert rc == 0, err
        assert out.splitlines() == [f"{whole.n_tokens} {whole.info['key']}"]*rounds
    for k in range(rounds): assert content(Corpus.open(tmp_path/f'c{k}')) == content(whole)


@pytest.mark.slow
def test_two_corpora_in_one_folder(tmp_path):
    "Two processes give the same path to different texts: the last one stays, whole."
    codes = [f"c = Corpus.from_files(files[:{n}], path={str(tmp_path/'c')!r}, n_workers=1, progress=False); "
             f"assert len(c) == {n}" for n in (300, 250)]
    for rc, out, err in both(tmp_path, codes): assert rc == 0, err
    c = Corpus.open(tmp_path/'c')
    assert_straight(c, texts[:len(c)])
    assert len(c) in (300, 250)


def test_a_reader_keeps_its_corpus_while_another_replaces_it(tmp_path):
    a = Corpus.from_texts(texts[:60], path=tmp_path/'c', n_workers=1, **quiet)
    want = content(a)
    b = Corpus.from_texts(texts[60:90], path=tmp_path/'c', n_workers=1, **quiet)
    assert content(a) == want != content(b)


# ---- memory

memory = '''
import psutil
def source(n):
    for i in range(n):
        for f in files: yield f'{i} ' + f.read_text(encoding='utf-8')
def peak(n):
    me, top, on = psutil.Process(), [0], [True]
    def watch():
        while on[0]: top[0] = max(top[0], me.memory_info().rss); time.sleep(.005)
    t = threading.Thread(target=watch); t.start()
    Corpus.from_texts(source(n), path=%r + str(n), n_workers=1, progress=False)
    on[0] = False; t.join()
    return top[0] >> 20
cp.part_size = 400_000
peak(3)
print(*[peak(n) for n in %s])
'''


@pytest.mark.parametrize('sizes', [(4, 12), pytest.param((20, 200), marks=pytest.mark.slow)], ids=str)
def test_memory_does_not_grow_with_the_corpus(tmp_path, sizes):
    code, out, err = finish(start(memory % (str(tmp_path/'c'), sizes)), timeout=600)
    assert code == 0, err
    a, b = map(int, out.split())
    assert b < a + 40, f'{a} MB for {sizes[0]}, {b} MB for {sizes[1]} times the texts'


def test_files_are_read_as_by_read_text(tmp_path):
    "errors='replace' kept the byte order mark, and read UTF-16 with an odd byte as UTF-8."
    from lesson8nlp.texts import read_text
    data = [b'\xef\xbb\xbfa fine caf\xe9\r\nfilm', 'ein Café'.encode('utf-16') + b'x',
            b'\xff\xfe\xfa\xfb\xfe\xff\0\xd8', b'caf\xe9 noir', b'\xef\xbb\xbffine']
    for i, d in enumerate(data): (tmp_path/f'{i}.txt').write_bytes(d)
    fs, reader = [tmp_path/f'{i}.txt' for i in range(len(data))], cp.PartReader(True, 'replace')
    assert [reader.read(f)[0] for f in fs] == [read_text(f, errors='replace') for f in fs]
    assert (reader.read(fs[0])[0] == 'a fine caf\ufffd\nfilm' and reader.read(fs[1])[0] == 'ein Café\ufffd'
            and [bool(reader.read(f)[1]) for f in fs] == [True]*4 + [False])
    (tmp_path/'9.txt').write_bytes(b'%PDF-1.4 \xff')
    assert reader.read(tmp_path/'9.txt') == (None, 'is a PDF, not plain text: export it as text, or as CSV if it is a '
                                                   'table, or give it the right name.')
    for encoding in ('idna', 'undefined', 'windoze'):
        with pytest.raises(ValueError, match=f"no encoding '{encoding}'"):
            Corpus.from_files(fs, encoding=encoding, path=tmp_path/'c', **quiet)


def build_alone(path, queue):
    try: queue.put(content(Corpus.from_texts(texts, path=path, **quiet)))
    except BaseException as e: queue.put(repr(e))


@pytest.mark.skipif(sys.platform != 'linux', reason='forks; elsewhere joblib starts the processes')
def test_a_daemonic_process_builds_alone(whole, tmp_path):
    "As those of a web server or of a pool: it may not start others."
    context = multiprocessing.get_context('fork')
    queue = context.Queue()
    p = context.Process(target=build_alone, args=(tmp_path/'c', queue), daemon=True)
    p.start()
    assert queue.get(timeout=60) == content(whole)
    p.join()


def test_a_vocab_without_unk_and_a_tokenizer_without_pipe(tmp_path):
    plain = Tokenizer(rules=[])
    with pytest.raises(ValueError, match="has no xxunk and does not know bad: add xxunk"):
        Corpus.from_texts(['a film', 'a bad film'], plain, vocab=['a', 'film'], path=tmp_path/'c', **quiet)
    c = Corpus.from_texts(['a film'], plain, vocab=['a', 'film'], path=tmp_path/'d', **quiet)
    assert c[0].tolist() == [0, 1]
    with pytest.raises(TypeError, match='takes a Tokenizer'):
        Corpus.from_texts(['a'], str.split, path=tmp_path/'e', **quiet)


def shout(t): return t.upper()

def test_a_copy_of_a_corpus_keeps_its_tokenizer(tmp_path):
    c = Corpus.from_texts(['a film', 'a bad film'], Tokenizer(rules=[shout]), min_freq=1, path=tmp_path/'c', **quiet)
    for again in (copy.copy(c), pickle.loads(pickle.dumps(c))):
        assert again.codec.encode('a film').tolist() == c[0].tolist()


def test_a_corpus_travels_without_its_tokenizer(tmp_path, monkeypatch):
    "Every tokenizer went along, 148 kB of it, and one that cannot be pickled kept the corpus from being sent."
    usual = Corpus.from_texts(['a film', 'a bad film'], min_freq=1, path=tmp_path/'c', **quiet)
    assert len(pickle.dumps(usual)) < 1000 and pickle.loads(pickle.dumps(usual)).codec == usual.codec
    own = Corpus.from_texts(['a film'], Tokenizer(rules=[lambda t: t.upper()]), min_freq=1, path=tmp_path/'d', **quiet)
    again = pickle.loads(pickle.dumps(own))
    assert again[0].tolist() == own[0].tolist()
    with pytest.raises(ValueError, match='tok='): again.codec


def test_what_killed_runs_have_left_goes_after_a_day(tmp_path):
    "Before that, it may belong to a run of another process."
    Corpus.from_texts(texts[:5], path=tmp_path/'c', n_workers=1, **quiet)
    left = [tmp_path/'c'/f'{hours:016x}-00000000' for hours in (23, 25)]
    for p, hours in zip(left, (23, 25)):
        p.mkdir()
        os.utime(p, (time.time() - 3600*hours,)*2)
    Corpus.from_texts(texts[:6], path=tmp_path/'c', n_workers=1, **quiet)
    assert [p.exists() for p in left] == [True, False]


def test_a_report_names_twenty_and_counts_the_others(tmp_path):
    for n, more in ((20, False), (25, True)):
        with pytest.raises(TypeError) as e: Corpus.from_texts([None]*n, path=tmp_path/'c', n_workers=1, **quiet)
        assert 'text 19 is None' in str(e.value) and 'text 20 ' not in str(e.value)
        assert ('and 5 more' in str(e.value)) == ('\n  and ' in str(e.value)) == more


def test_a_small_corpus_needs_no_other_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(cp, 'part_size', 10)
    for n, want in ((2, 1), (3, None)):
        b = cp.CorpusBuilder(['ten letter']*n, cp.PartReader(False), cp.CorpusSettings(), tmp_path/'c')
        assert len(b.parts) == n and b.n_workers == want
    assert cp.CorpusBuilder(['ten letter']*3, cp.PartReader(False), cp.CorpusSettings(), tmp_path/'c', 2).n_workers == 2
