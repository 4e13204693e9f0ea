"What a notebook cannot show well about the tokenizer: random text, known answers for every rule, broken models, other processes."
import itertools, json, os, pickle, random, subprocess, sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
from fastai.text import core as theirs
from hypothesis import given, settings, strategies as st

from lesson8nlp import tokenizer as tk
from lesson8nlp.core import data_root
from lesson8nlp.store import fingerprint
from lesson8nlp.data import read_text, sample_reviews, text_files
from lesson8nlp.tokenizer import *

tok = Tokenizer()
fastai_tok = theirs.TokenizeWithRules(tok=theirs.WordTokenizer())
rules = text_rules + [replace_space]

# What the rules look for, whole and in halves, beside all that Unicode has in the way of spaces, marks and cases.
scraps = ('&amp; &am amp; &#39; #39; &#3 &#x &lt &quot; quot; nbsp; &nbsp; #146; #36; \\n \\" \\ <br /> <br <br/> <unk> @.@ @-@ .. ... .... … / # // ## '
          'a A aa aaa AAA Aa aA The THE the xxmaj xxup xxbos xxrep xxwrep xxunk Xxmaj XXMAJ xxmajor no No NO 1 11 111 1. É é ß ẞ İ ı ǅ ŉ ² ① _ __ '
          "U.S. isn't can't I'VE I :-) :) http://a.bc/d?e=f#g a@b.c $5 50% - -- — “ ” ' \" 👍 👍🏽 👨‍👩‍👧 e\u0301").split(' ')
spaces = [' ', '  ', '   ', '\n', '\n\n', ' \n ', '\t', '\r', '\r\n', '\x0b', '\x0c', '\x1c', '\x1d', '\x1e', '\x1f', '\x85', '\xa0', '\u1680', '\u2003', '\u2028', '\u2029', '\u202f', '\u3000']
marks = ['\x00', '\x01', '\x7f', '\u200b', '\u200c', '\u200d', '\u200e', '\u200f', '\u202a', '\u202e', '\u2060', '\u2066', '\ufeff', '\ufffe', '\ufffd', 'א', 'ع', '▁', '\U000e0041']
parts = st.lists(st.one_of(st.sampled_from(scraps), st.sampled_from(spaces), st.sampled_from(marks), st.text(max_size=4)), max_size=14).map(''.join)
repeats = st.lists(st.text('aAb1_. \n', min_size=1, max_size=3).flatmap(lambda s: st.integers(1, 5).map(lambda n: s*n)), max_size=6).map(''.join)
texts = st.one_of(parts, repeats, st.text(max_size=30))
many = settings(max_examples=500, deadline=None, derandomize=True, database=None)


@pytest.mark.parametrize('rule', rules, ids=lambda f: f.__name__)
@many
@given(t=texts)
def test_rule_equals_fastais(rule, t): assert rule(t) == getattr(theirs, rule.__name__)(t)


@many
@given(t=texts, bos=st.booleans(), eos=st.booleans())
def test_lowercase_equals_fastais_with_its_options(t, bos, eos): assert lowercase(t, bos, eos) == theirs.lowercase(t, bos, eos)


@many
@given(t=texts)
def test_tokens_equal_fastais(t): assert tok(t) == list(next(fastai_tok([t])))


@many
@given(t=texts)
def test_words_lose_no_character_but_spaces(t):
    assert ''.join(next(WordTokenizer.__call__(tok.tok, [t]))).replace(' ', '') == t.replace(' ', '')


@many
@given(t=texts)
def test_characters_are_all_there(t): assert ''.join(next(CharTokenizer()([t]))) == t


@many
@given(t=texts)
def test_tokens_survive_a_join_and_a_split(t):
    toks = tok(t)
    assert ' '.join(toks).split(' ') == toks


def test_many_short_texts_over_a_small_alphabet():
    "Every string of up to six characters over an alphabet that the rules care about."
    for n in range(7):
        for t in map(''.join, itertools.product('aA 1.' if n > 5 else 'aA \n1.', repeat=n)):
            for f in (replace_rep, replace_wrep, replace_all_caps, replace_maj, rm_useless_spaces):
                assert f(t) == getattr(theirs, f.__name__)(t), (f.__name__, t)


known = [ # rule, text, what it must become; the last ones of each rule are left as they are
    (fix_html, 'a<br />b<br /><br />c', 'a\nb\n\nc'), (fix_html, 'I#39;m, he#146;s', "I'm, he's"), (fix_html, '#36;5 nbsp;quot;oquot;', "$5  'o'"), (fix_html, 'x amp; y', 'x & y'),
    (fix_html, 'a\\nb \\"c\\"', 'a\nb "c"'), (fix_html, '3 @.@ 5, x @-@ ray', '3.5, x-ray'), (fix_html, 'well...', 'well …'), (fix_html, '<unk> &lt;3 caf&eacute; &#233;', 'xxunk <3 café é'),
    (fix_html, '&amp; &#39;', "&& &'"), (fix_html, 'AT&T <br> 1..2', 'AT&T <br> 1..2'),
    (replace_rep, 'cccc', ' xxrep 4 c '), (replace_rep, 'so!!!', 'so xxrep 3 ! '), (replace_rep, 'aaaAAA', ' xxrep 3 a  xxrep 3 A '), (replace_rep, '1000000', '1 xxrep 6 0 '), (replace_rep, 'good!!    \n\n\n', 'good!!    \n\n\n'),
    (replace_wrep, 'no no no', ' xxwrep 3 no '), (replace_wrep, 'ha  ha\nha ha!', ' xxwrep 4 ha !'), (replace_wrep, 'x a a a b', 'x xxwrep 3 a  b'), (replace_wrep, 'No no no', 'No no no'), (replace_wrep, 'no no, no', 'no no, no'), (replace_wrep, 'an an another', 'an an another'),
    (spec_add_spaces, 'a/b#c\\d', 'a / b # c \\ d'), (spec_add_spaces, 'a-b|c', 'a-b|c'),
    (rm_useless_spaces, 'a  b   c', 'a b c'), (rm_useless_spaces, 'a\t\tb\n\nc \xa0', 'a\t\tb\n\nc \xa0'),
    (replace_all_caps, 'I AM HERE', 'i xxup am xxup here'), (replace_all_caps, 'R2-D2, 3D U.S.', 'xxup r2-d2, 3D xxup u.s.'), (replace_all_caps, '\nA BIG\n', '\na xxup big\n'), (replace_all_caps, 'McDonald (NOT) ÉCLAIR', 'McDonald (NOT) ÉCLAIR'),
    (replace_maj, 'Hi There, A b', 'xxmaj hi xxmaj there, a b'), (replace_maj, "I've", "xxmaj i've"), (replace_maj, 'iPhone McD "The" Élan', 'iPhone McD "The" Élan'),
    (lowercase, ' Ab C\n', 'xxbos ab c'), (lowercase, '', 'xxbos '),
    (replace_space, ' \n ', '▁\n▁'), (replace_space, 'a\xa0b', 'a\xa0b'),
]


@pytest.mark.parametrize('rule, before, after', known)
def test_rule_gives_the_known_answer(rule, before, after): assert rule(before) == after


def test_every_rule_has_known_answers():
    assert {f for f, *_ in known} == set(rules)
    for f in rules:
        assert any(f(a) != a for g, a, _ in known if g is f), f'{f.__name__}: an example that changes something'
        assert f is lowercase or any(a == b for g, a, b in known if g is f), f'{f.__name__}: an example that must stay'


def test_whole_tokenizer_gives_the_known_answer():
    t = "I LOVED it!!! So so so good...<br /> <br />The U.S. cut isn#39;t 9/10  &lt;3 xxmaj"
    assert tok(t) == ('xxbos i xxup loved it xxrep 3 ! xxmaj so so so good … \n▁\n xxmaj the xxup u.s . cut is n\'t 9 / 10 <3 xxmaj').split(' ')
    assert ' '.join(tok('A1 aaa aaa aaa a / b')) == 'xxbos xxup a1 xxrep 3 a xxrep 3 a xxrep 3 a a / b'  # the order of the rules decides
    assert tok('') == ['xxbos'] and tok(' \n\t') == ['xxbos']
    assert Tokenizer(rules=[])('') == [] and list(tok.pipe([])) == []


def real_reviews(n):
    path = data_root()/'imdb'
    return [read_text(f) for f in text_files(path, n=n)] if (path/'unsup').is_dir() else []


def same_tokens(ts): # how many tokens; an error at the first difference
    ts, n = list(ts), 0
    for t, a, b in zip(ts, tok.pipe(ts), fastai_tok(ts), strict=True):
        assert a == list(b), t
        n += len(a)
    return n


def test_equal_on_the_sample_and_some_real_reviews(): assert same_tokens(real_reviews(700) + [read_text(f) for f in text_files(sample_reviews())]) > 200_000


@pytest.mark.slow
def test_equal_on_every_review():
    "All 100,000 and the 2,000 of the sample; about fifteen minutes."
    assert same_tokens(read_text(f) for f in text_files(sample_reviews())) > 200_000
    path = data_root()/'imdb'
    if not (path/'unsup').is_dir(): pytest.skip('the real reviews are not on this machine')
    files = text_files(path)
    for i in range(0, len(files), 5000): same_tokens(map(read_text, files[i:i+5000]))


@pytest.mark.parametrize('bad', ['\ud800', 'a\udfffb', '\udc00\ud800 x'])
@pytest.mark.parametrize('t', [tok, Tokenizer(CharTokenizer()), Tokenizer(rules=[])], ids=['words', 'chars', 'no rules'])
def test_half_a_surrogate_pair_is_named(t, bad):
    with pytest.raises(ValueError, match='Text 1 holds half of a surrogate pair'): list(t.pipe(['good', bad]))
    mended = bad.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')  # as the message says
    assert t(mended)


@pytest.mark.parametrize('bad', [None, float('nan'), 3, b'bytes', ['list']])
def test_what_is_not_a_text_is_named(bad):
    with pytest.raises(TypeError, match='Text 2 is'): list(tok.pipe(['a', 'b', bad]))
    with pytest.raises(TypeError, match='Expected one text'): tok(bad)


def test_pipe_reads_one_text_at_a_time():
    read = []
    def source():
        for i in itertools.count():
            read.append(i)
            yield f'text {i}'
    out = tok.pipe(source())
    assert read == []
    for i in range(5):
        assert next(out) == ['xxbos', 'text', str(i)]
        assert len(read) == i + 1


def test_pipe_reads_files(tmp_path):
    (tmp_path/'a.txt').write_text('Été', encoding='utf-8')
    assert list(tok.pipe([tmp_path/'a.txt', 'b'])) == [['xxbos', 'Été'.lower()], ['xxbos', 'b']] and tok(tmp_path/'a.txt') == ['xxbos', 'été']
    (tmp_path/'b.txt').write_bytes(b'\xff\xfe')
    with pytest.raises(ValueError, match='b.txt'): tok(tmp_path/'b.txt')


corpus = ['the cat sat on the mat', 'the dog sat on the log', 'cats and dogs\nand mats & logs', 'é ö 👍 xxmaj the', '']*20 + [read_text(f) for f in text_files(sample_reviews(), n=60)]


@pytest.fixture(scope='module')
def sub(tmp_path_factory):
    s = SubwordTokenizer(vocab_sz=200, cache_dir=tmp_path_factory.mktemp('spm'))
    s.setup(corpus)
    return s


@many
@given(t=texts)
def test_subwords_take_any_text(sub, t):
    toks = Tokenizer(sub, rules=[])(t)
    assert all(isinstance(o, str) and ' ' not in o for o in toks)


@pytest.mark.parametrize('line', ['one\r\ntwo', 'tab\there', 'nul\x00here', ' spaces  ', 'x'*4192, '▁low', '\u2028sep\x85', '\x0b\x1c'])
def test_training_equals_fastais_on_odd_lines(tmp_path, line):
    ts = corpus + [line]*3
    ours, fastais = SubwordTokenizer(vocab_sz=200, cache_dir=tmp_path/'a'), theirs.SubwordTokenizer(vocab_sz=200, cache_dir=tmp_path/'b')
    ours.setup(ts), fastais.setup(ts)
    assert ours.pieces == [fastais.tok.IdToPiece(i) for i in range(fastais.tok.GetPieceSize())]
    assert [next(ours([t])) for t in ts] == [next(fastais([t])) for t in ts]


def test_models_have_files_of_their_own(tmp_path):
    a, b, c = (SubwordTokenizer(vocab_sz=n, cache_dir=tmp_path) for n in (200, 220, 200))
    for o in (a, b, c): o.setup(corpus)
    assert a.sp_model == c.sp_model != b.sp_model and a.config() == c.config() != b.config()
    assert len(list(tmp_path.glob('*.model'))) == 2 and len(list(tmp_path.iterdir())) == 4  # two notes, nothing half-written
    for o in (a, b): assert SubwordTokenizer(sp_model=o.sp_model).pieces == o.pieces
    before = a.pieces
    assert a.setup(['other texts'])['sp_model'] == a.sp_model and a.pieces == before


def test_every_cut_of_a_model_file_is_noticed(sub, tmp_path):
    data = sub.sp_model.read_bytes()
    rng = random.Random(0)
    for n in [0, 1, len(data)-1, *rng.sample(range(len(data)), 60)]:
        (tmp_path/sub.sp_model.name).write_bytes(data[:n])
        with pytest.raises(ValueError, match='damaged'): SubwordTokenizer(sp_model=tmp_path/sub.sp_model.name)


def run(code): return subprocess.run([sys.executable, '-W', 'ignore', '-c', code], env=dict(os.environ, PYTHONHASHSEED=str(random.randrange(1000))), capture_output=True, text=True, check=True).stdout.strip()


def test_config_is_the_same_in_another_process():
    code = 'from lesson8nlp.tokenizer import Tokenizer; import json; print(json.dumps(Tokenizer().config()))'
    assert json.loads(run(code)) == tok.config() == json.loads(json.dumps(tok.config()))


def test_a_changed_pattern_changes_the_config(monkeypatch):
    "A rule that keeps its name and its code, and uses another regular expression, is another rule."
    before = tok.config()
    monkeypatch.setattr(tk, '_re_rep', tk.re.compile(r'(\S)\1\1\1+'))
    after = tok.config()
    assert [a[0] for a, b in zip(before['rules'], after['rules']) if a != b] == ['replace_rep']
    monkeypatch.undo()
    monkeypatch.setattr(tk, '_html_scraps', tk._html_scraps[:-1])
    assert [a[0] for a, b in zip(before['rules'], tok.config()['rules']) if a != b] == ['fix_html']
    assert before != after and fingerprint(before) != fingerprint(after)


def _tokenize(t, text): return t(text)


def test_tokenizers_go_to_other_processes(sub):
    text = "It isn't GOOD: the cat sat"
    with ProcessPoolExecutor(1, mp_context=get_context('spawn')) as ex:
        for t in (tok, Tokenizer(sub), Tokenizer(CharTokenizer())):
            assert ex.submit(_tokenize, t, text).result(timeout=60) == t(text)
            assert pickle.loads(pickle.dumps(t)).config() == t.config()
