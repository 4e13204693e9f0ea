"""What a notebook cannot show well about the fast tokenizer: the same tokens as fastai on all reviews, on random and on
nasty texts, with bounded memory."""
import itertools, json, random, subprocess, sys, unicodedata

import numpy as np, pytest
from fastai.text import core as theirs
from hypothesis import HealthCheck, given, settings, strategies as st
from spacy.symbols import ORTH
from spacy.tokenizer import Tokenizer as SpacyTokenizer

from lesson8nlp import fasttok as ft
from lesson8nlp.data import get_imdb, read_text, sample_reviews, text_files
from lesson8nlp.fasttok import *
from lesson8nlp.tokenizer import *

tok = Tokenizer()
fastai_tok = theirs.TokenizeWithRules(tok=theirs.WordTokenizer())
shared = FastTokenizer(tok)  # one for all examples: what it has learned from one text must never show in another

# What the rules and spaCy look for: whole, in halves, and cut by spaces.
html_scraps = ['<br />', '<br', '<br ', 'br />', '/>', '<br/>', '<br  />', '<br\n/>', '<<br />>', '<br />'*2, '<unk>',
    '<unk', 'unk>', '&amp;', '&am', 'amp;', 'p;', '&#39;', '#39;', '#39', '39;', '&#3', '9;', '&#x', '&#x27;', '&lt;',
    '&lt', '&quot;', 'quot;', 'quot', 'nbsp;', '&nbsp;', '&nbsp', '#146;', '#36;', '&eacute;', '&eacute', '&#160;',
    '&#32;', '&#10;', '&#13;', '&#x20;', '&#0;', '&#128;', '&#x85;', '&#8232;', '&NewLine;', '&Tab;', '&ensp;',
    '&emsp;', '&ThickSpace;', '&hairsp', '&zwj;', '&lrm;', '&', '#', ';', '&#', '&amp;nbsp;', '&ampnbsp;', 'amp;nbsp;',
    '&amp;#39;', 'amp;#32;', 'amp;#10;', '&#38;#32;', '\\n', '\\', '\\"', '\\\\n', '\\n\\n', '@-@', '@.@', '@,@',
    ' @-@ ', ' @.@ ', '@-', '-@', '@', '@ .@', '...', '..', '....', '.', ' …', '…']
words = ('a A aa aaa AAA aaaa Aa aA The THE the I x y no No NO no. no, 1 3 33 333 333 1111 11 10 2 É é ß ẞ İ ı Ǆ ǅ ŉ '
    'ﬁ ² ① ½ _ __ ___ '
    'xxmaj xxup xxbos xxeos xxrep xxwrep xxunk xxpad xxfld Xxmaj XXMAJ xxmajor xx maj ha haha hahaha the\u0301 '
    "U.S. U.S U.S.A. isn't can't I'VE don't dont cannot gonna I'm he's 'em 'Tis y'all s' 's n't 'd 'll ' ’s ’ n’t "
    "-- --- - — – “ ” \" `` '' "
    'http://a.bc/d?e=f#g www.x.com a@b.c mailto:x@y.z foo.bar a.b A.B. e.g. i.e. Mr. Mr Mrs. Dr. St. vs. v.s. '
    '$5 $ 50% 5$ 10km 10 km 5 km/h C++ C# F# 9/10 and/or 3-D A-b a-b-c a,b a:b (a) [b] {c} * ** *** ~ ^ | = + '
    '! !! !!! ? ??? ?! , ,, ,,, ;; : :: 👍 👍👍👍 👍🏽 👨‍👩‍👧 e\u0301 o\u0308o\u0308o\u0308 日本語 ไทย').split(' ')
spacy_cases = [':)', ': )', ':-)', ': - )', ':-', '-)', ':-x', ':-x y', '( ^_^ )', '(^_^)', '( ^', '^_^', '^ )', '(-:',
    '(-;', ';)', '; )', ':(', ': (', '<3', '< 3', '</3', '8-)', '8 - )', 'xD', 'XD', ':D', ': D', 'o_O', 'o . O', ':o',
    ': o', ":')", ": ' )", ":'(", '¯\\(ツ)/¯', '¯\\', '(ツ)', '/¯', 'Mr .', 'mr .', 'Mr', 'a.m.', 'p.m.', '10 a.m.',
    '10 am', '10am', '10 a.m', '10a.m.', '12 p.m.', 'a . m .', 'U . S .', 'e . g .', "can 't", "do n't", "I 'm",
    'ca n’t', 'Inc .', 'Jan .', "'cause", "o'clock", "o 'clock", 'Co.', 'Ph.D.', 'Ph . D .', '\\")', '\\n', '\\t', '=)',
    '= )', '(=', ')-:', '>.<', '> . <', '>:(', '> : (', '-_-', '- _ -', '._.', '. _ .', 'V.V', '0_0', '0 _ 0', '(o:',
    '( o :', '[-:', '(>_<)', '( > _ < )', "'", '(*_*)', '(._.)', '^__^', '^___^', '@_@', '@ _ @']
every_case = list(tok.tok.nlp.tokenizer.rules)
spaces = ['  ', '   ', '    ', '\n', '\n\n', ' \n ', '\n ', ' \n', '\n \n', '\t', '\t\t', ' \t ', '\r', '\r\n',
    '\r\n\r\n', '\x0b', '\x0c', '\x1c', '\x1d', '\x1e', '\x1f', '\x85', '\xa0', '\xa0\xa0', ' \xa0 ', '\u1680',
    '\u2000', '\u2003', '\u2007', '\u2028', '\u2029', '\u202f', '\u205f', '\u3000', ' \u3000\n']
marks = ['\x00', '\x00\x00', ' \x00 ', '\n\x00\n', '\x01', '\x02', ' \x02 ', '\x02\x02\x02', '\x03', '\x08', '\x1b',
    '\x7f', '\x80', '\x9f', '\xad', '\u200b', '\u200c', '\u200d', '\u200e', '\u200f', '\u202a', '\u202e', '\u2060',
    '\u2066', '\u2069', '\ufeff', '\ufffe', '\uffff', '\ufffd', '\ufe0f', 'א', 'ع', '▁', '▁▁▁', '\u0300', '\ud7ff',
    '\ue000', '\U000e0041', '\U0010ffff']
repeats = [' '.join(['no']*3), 'no\nno\nno', 'no no\nno', 'no  no  no', 'no no <br />no', 'no no nobody', 'No no no',
    'NO NO NO', 'no no no.', 'no no no no', '333 3', '3 333', 'aaa a a', 'a aaa a', 'a a aaa', '3 333 3', 'xxrep 3 3 3',
    'rep rep 3', '4 44 444 4444', 'x/x x', 'x x x/', 'é é é', 'e\u0301 e\u0301 e\u0301', '_ _ _', '日 日 日', '2 2 2',
    '3 3 3', '3\xa03\xa03', 'a\ta\ta', 'a\x1ca\x1ca', 'a a\u2028a', 'the the the', 'the the then', 'a a ab', 'a aa a a',
    'a a\x00a', '😀 😀 😀', "n't n't n't", '&eacute; é é', 'amp; & &', 'a&nbsp;a&nbsp;a', 'a&#32;a&#10;a',
    'anbsp;anbsp;a', 'a\\na\\na', 'a...a...a', 'xxmaj xxmaj xxmaj', 'A A A', 'AA AA AA', 'I I I', '1 1 1 1', '. . .',
    'a a a, a a a', 'ab ab ab ab']
scraps = html_scraps + words*2 + spacy_cases + marks + repeats
anything = scraps + every_case + spaces*4


def random_text(rng, most=12): # scraps, put together with random white space
    kind, out = rng.random(), []
    # a few scraps, over and over: what repeats
    few = rng.sample(scraps + every_case, rng.randint(1, 4)) if kind < .35 else None
    for _ in range(rng.randint(0, most)):
        w = (rng.choice(few) if few and rng.random() < .8 else
             rng.choice(scraps) if rng.random() < .7 else
             rng.choice(every_case) if rng.random() < .6 else
             chr(rng.choice([rng.randrange(0x250), rng.randrange(0x3100), rng.randrange(0xd800)])))
        if (x := rng.random()) < .05: w = w.upper()
        elif x < .1: w = w.capitalize()
        elif x < .2 and len(w) > 1:
            w = w[:rng.randrange(1, len(w))] if rng.random() < .5 else w[rng.randrange(1, len(w)):]
        elif x < .23: w = w*rng.randint(2, 4)
        out.append(w)
        y = rng.random()
        out.append(' ' if y < .55 else '' if y < .75 else rng.choice(spaces) if y < .95 else '<br />')
    return ''.join(out)


any_char = st.one_of(*[st.characters(categories=[c]) for c in sorted(
    {unicodedata.category(chr(i)) for i in range(0x110000)} - {'Cs'})])
scrap = st.sampled_from(anything)
parts = st.lists(st.one_of(scrap, scrap, st.sampled_from(spaces), any_char, st.text(max_size=4)), max_size=14)
texts = st.one_of(
    parts.map(''.join), parts.map(' '.join),
    st.lists(scrap, min_size=1, max_size=3).flatmap(lambda few: st.lists(
        st.one_of(st.sampled_from(few), st.sampled_from([' ', ' ', '\n', '  ', '<br />', '\xa0'])),
        max_size=12)).map(''.join),
    st.randoms(use_true_random=False).map(random_text),
    st.lists(any_char, max_size=12).map(''.join), st.text(max_size=30))
batches = st.lists(texts, min_size=1, max_size=4)


def encoded(fast, texts): # the tokens of each text, by way of ids and lengths
    ids, lens = fast.encode(texts)
    assert (ids.dtype == np.int32 and lens.dtype == np.int64 and ids.ndim == lens.ndim == 1
            and lens.sum() == len(ids) and len(lens) == len(texts))
    words = [fast.tokens[i] for i in ids.tolist()]
    ends = np.cumsum(lens).tolist()
    return [words[b-n:b] for b, n in zip(ends, lens.tolist())]


def fastais(texts): return [list(o) for o in fastai_tok(texts)]


def assert_same(fast, texts, want=None):
    want = fastais(texts) if want is None else want
    for t, a, b in zip(texts, encoded(fast, texts), want, strict=True): assert a == b, f'{t!r}'


def seed_run(seed, n_calls, n_texts=40, fast=None): # random texts through one tokenizer (the shared one, or a new one)
    rng = random.Random(seed)
    for _ in range(n_calls):
        assert_same(fast or shared, [random_text(rng, rng.choice([3, 6, 12, 30])) for _ in range(n_texts)])


def quick_and_thorough(few, many, **kw): # the same test twice: short in every run, long when marked slow
    same = dict(deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck), **kw)
    def deco(f):
        def _(name, n, mark=lambda o: o):
            def test(*args, **kwargs): return f(*args, **kwargs)
            test.__name__ = test.__qualname__ = name
            return mark(settings(max_examples=n, **same)(given(b=batches)(lambda b: f(b))))
        g = sys._getframe(1).f_globals
        g[f.__name__ + '_thoroughly'] = _(f.__name__ + '_thoroughly', many, pytest.mark.slow)
        return _(f.__name__, few)
    return deco


@quick_and_thorough(600, 20_000)
def test_tokens_equal_fastais(b):
    want = fastais(b)
    assert want == [tok(t) for t in b]
    assert_same(shared, b, want)
    assert_same(shared, b[::-1], want[::-1])


@quick_and_thorough(25, 600)
def test_a_new_one_gives_the_same(b):
    want = fastais(b)
    assert_same(FastTokenizer(tok), b, want)
    assert_same(FastTokenizer(tok), [' '.join(b)])


def test_scraps_put_together(): seed_run(0, 60)


@pytest.mark.slow
@pytest.mark.parametrize('seed', range(1, 9))
def test_scraps_put_together_thoroughly(seed):
    seed_run(seed, 2000, 100, FastTokenizer(tok, max_chunks=random.Random(seed).choice([500, 20_000, 800_000])))


@pytest.mark.parametrize('t', [
    '<br  />: )', 'no no no\n<br  /> it', 'no no no <br  />', 'xxbos xxbos XXBOS x\n xxbos\t', 'xxbos xxbos\tz',
    '\0\0 no no no \n', 'é é é  É É É é', 'é é é É É É é', 'a a a b  b b  b', 'a a a\nb b  b'])
def test_where_one_space_less_would_change_a_rule(t): assert_same(FastTokenizer(tok), [t, t])


def test_few_words_and_much_space():
    """Repeated words next to each other, next to the beginning of a text and to halves of a tag, with every kind of
    white space between them."""
    rng, fast = random.Random(3), FastTokenizer(tok)
    words, spaces = (['no', 'no', 'No', 'é', 'xxbos', '<br', '/>', 'no.', '@-@', '\0'],
                     [' ']*4 + ['  ', '\n', '<br />', ' \n ', '\t', '\xa0'])
    some = lambda: ''.join(rng.choice(words[:rng.choice([4, 10])]) + rng.choice(spaces)
                           for _ in range(rng.randint(2, 12)))
    for _ in range(40): assert_same(fast, [some() for _ in range(100)])


def test_pairs_of_scraps():
    "Two scraps, with each kind of nothing and of white space between them: a sample of all pairs."
    rng = random.Random(0)
    ts = [rng.choice(anything) + s + rng.choice(anything)
          for s in ['', ' ', '  ', '\n', '<br />', '\xa0', '\t', '\x1f'] for _ in range(350)]
    assert_same(shared, ts)


@pytest.mark.slow
def test_every_pair_of_scraps():
    every = list(dict.fromkeys(anything))
    for s in ['', ' ', '\n', ' <br />']:
        for a in every: assert_same(shared, [a + s + b for b in every])


def in_contexts(c):
    return [c, f'a{c}b', f'a {c} b', f'A{c} {c}B', f'aaa{c}{c}{c}', f'a{c}a a{c} a', f'no no{c}no no {c}no',
            f':{c}) {c}\n{c}']


def test_characters_of_every_category():
    rng, by = random.Random(0), {}
    for i in range(0x110000): by.setdefault(unicodedata.category(chr(i)), []).append(chr(i))
    del by['Cs']
    assert len(by) == 29
    cs = [c for o in by.values() for c in (rng.sample(o, 20) if len(o) > 20 else o)] + list(map(chr, range(256)))
    assert_same(shared, [t for c in dict.fromkeys(cs) for t in in_contexts(c)])


@pytest.mark.slow
def test_every_character():
    cs = [chr(i) for i in range(0x110000) if unicodedata.category(chr(i)) not in ('Cs', 'Co', 'Cn')]
    for i in range(0, len(cs), 1000):
        assert_same(FastTokenizer(tok) if i % 20_000 == 0 else shared,
                    [t for c in cs[i:i+1000] for t in in_contexts(c)])


def test_short_texts_over_small_alphabets():
    "All strings of up to five characters (or words) over alphabets that the rules care about."
    for alphabet in (['a', 'A', ' ', '\n'], ['a', ' ', '\0', '\xa0'], ['no', ' ', '\n', '3'],
                     ['x', '<br />', ' ', '\t'], [':', ')', ' ', '-'], ['3', '33', '333', ' '], ['@', '-', ' ', 'a'],
                     ['.', '..', ' ', '\u2028']):
        ts = [''.join(o) for n in range(6) for o in itertools.product(alphabet, repeat=n)]
        assert_same(shared, ts)


def test_words_said_three_times_need_not_the_slow_path():
    """The chunks around them are taken as one; across line breaks, where there are very many, and where two of them
    meet, the whole text takes the slow path."""
    fast = FastTokenizer(tok)
    assert_same(fast, ['a very very very bad film', 'No no no', 'ha ha ha ha ha.', 'Tora Tora Tora, and HA HA HA',
                       '(no no no) no no'])
    assert fast.n_slow == 0
    assert_same(fast, ['a very\nvery very bad film', 'ha '*500, 'a\tvery very very', 'a a a b b b'])
    assert fast.n_slow >= 3
    rng = random.Random(3)
    some = ('very Very VERY a b bad. ha HA ha, xxmaj don\'t \'s n\'t :) : ( can\'t \n <br_/> ... "very very. ha-ha '
            '&amp; aaa \t é very\t (very U.S. \1 \u3000 1 cannot').split(' ')
    some = [o.replace('<br_/>', '<br />') for o in some]
    for _ in range(40):
        ts = []
        for _ in range(50):
            pool = rng.sample(some, rng.randint(2, 8))
            ts.append(''.join(rng.choice(pool) + ' '*(rng.random() < .93) for _ in range(rng.randint(3, 60))))
        assert_same(fast, ts, list(tok.pipe(ts)))


# ---- reviews

def reviews(n): # of the 100,000, or else of the made-up ones
    path = get_imdb(download=False)
    return [read_text(f) for f in text_files(path, n=n if path.name == 'imdb' else None)]


def test_equal_on_three_thousand_reviews():
    ts = reviews(3000)
    fast = FastTokenizer(tok)
    assert_same(fast, ts, list(tok.pipe(ts)))
    # the slow path is rare in real reviews; the made-up ones repeat words on purpose
    assert fast.n_texts == len(ts) and (len(ts) < 3000 or fast.n_slow <= len(ts)//200)
    some = random.Random(0).sample(ts, 100)
    assert_same(fast, some)  # fastai itself, and the second time
    assert [o for o in fast.pipe(some[:20])] == fastais(some[:20])


@pytest.mark.slow
def test_equal_on_every_review():
    "All 100,000 and the 2,000 of the sample, against fastai: about ten minutes."
    fast, n = FastTokenizer(tok), 0
    assert_same(fast, [read_text(f) for f in text_files(sample_reviews())])
    path = get_imdb(download=False)
    if path.name != 'imdb': pytest.skip('the real reviews are not on this machine')
    files = text_files(path)
    for i in range(0, len(files), 2000):
        ts = [read_text(f) for f in files[i:i+2000]]
        assert_same(fast, ts)
        n += len(ts)
    assert n == 100_000 and fast.n_slow < n//200


# ---- what is large, and what never ends

million = 10**6
@pytest.mark.parametrize('t', [
    'a'*million, ' '*million, '\n'*million, 'ab'*(million//2 - 10), ' \n'*(million//2), 'a ' + ' '*million + ' b',
    'a' + '\n'*(million - 20) + 'b', '\xa0'*1000 + 'x', 'x\0'*2000, 'no '*20_000, '!'*million, '\0'*million],
    ids=['a', 'spaces', 'breaks', 'ab', 'spaces and breaks', 'a b far away',
         'a b many lines', 'nbsp', 'nul', 'no no no', 'exclamation', 'million nul'])
def test_a_million_of_something(t):
    want = fastais([t, 'and a b'])
    fast = FastTokenizer(tok)
    assert_same(fast, [t, 'and a b'], want)
    assert_same(fast, ['and a b', t], want[::-1])


def test_an_empty_call_and_empty_texts():
    fast = FastTokenizer()
    ids, lens = fast.encode([])
    assert len(ids) == len(lens) == 0 and ids.dtype == np.int32 and lens.dtype == np.int64
    assert_same(fast, ['', '', ' ', '\n', '<br />', '\t \xa0'])
    assert encoded(fast, ['', 'x', '']) == [['xxbos'], ['xxbos', 'x'], ['xxbos']]
    assert list(fast.pipe([])) == []


# how many entries the dictionaries, lists and arrays of a FastTokenizer hold, vocabulary of spaCy included
def sizes(o, seen=None):
    seen = set() if seen is None else seen
    if isinstance(o, (str, bytes, Tokenizer)) or id(o) in seen: return 0
    seen.add(id(o))
    if type(o).__name__ == 'RecentChunks': return 0 # tables of a fixed size
    if isinstance(o, SpacyTokenizer): return len(o.vocab.strings)
    inside = vars(o).values() if type(o).__module__ == 'lesson8nlp.fasttok' else o if isinstance(o, tuple) else ()
    return (len(o) if hasattr(o, '__len__') else 0) + sum(sizes(v, seen) for v in inside)


@pytest.mark.parametrize('calls', [60, pytest.param(1500, marks=pytest.mark.slow)])
def test_memory_is_bounded_on_endless_distinct_chunks(calls):
    fast, seen, rng = FastTokenizer(tok, max_chunks=1000), [], random.Random(0)
    for i in range(calls):
        ts = ([' '.join(f'w{rng.randrange(10**12)}q{j}.' for j in range(50)) for _ in range(8)]
              + ['the same text each time, no no no'])
        assert_same(fast, ts) if i % 10 == 0 else fast.encode(ts)
        seen.append(sizes(fast))
    assert max(seen) < 40_000 and max(seen[-20:]) <= 1.2*max(seen[:40])


def test_seams_known_from_texts_are_bounded():
    "Pairs of tokens that were looked up are forgotten as well."
    fast, rng, seen = FastTokenizer(tok, max_chunks=1000), random.Random(0), []
    for i in range(60):
        fast.encode([' '.join(rng.choice(every_case + [f'x{rng.randrange(10**9)}']) for _ in range(60))
                     for _ in range(10)])
        seen.append(len(fast._memory.seams.known))
    assert 100 < max(seen) < 50_000


def test_forget_changes_no_token():
    fast, rng = FastTokenizer(tok), random.Random(1)
    for _ in range(5):
        assert_same(fast, [random_text(rng) for _ in range(30)])
        fast.forget()
        assert len(fast.tokens) == 0
    for _ in range(4):
        assert_same(small := FastTokenizer(tok, max_chunks=3), [random_text(rng) for _ in range(5)])
        assert_same(small, ['a b c d e', 'no no no'])


# ---- what is no text

@pytest.mark.parametrize('bad', ['\ud800', 'a\udfffb', '\udc00\ud800 x', 'fine '*100 + '\udead'])
@pytest.mark.parametrize('t', [None, Tokenizer(CharTokenizer()), Tokenizer(rules=[])],
                         ids=['words', 'chars', 'no rules'])
def test_half_a_surrogate_pair_is_named(t, bad):
    fast = FastTokenizer(t)
    with pytest.raises(ValueError, match='Text 1 holds half of a surrogate pair'): fast.encode(['good', bad])
    mended = bad.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')
    assert encoded(fast, ['good', mended])[1] == (t or tok)(mended)  # and the tokenizer is as good as before


@pytest.mark.parametrize('bad', [None, float('nan'), 3, b'bytes', ['list']])
def test_what_is_not_a_text_is_named(bad):
    with pytest.raises(TypeError, match='Text 2 is'): shared.encode(['a', 'b', bad])
    assert_same(shared, ['a', 'b'])


@pytest.mark.parametrize('one', ['a text', b'bytes'])
def test_one_text_is_not_many(one):
    with pytest.raises(TypeError, match='put it into a list'): FastTokenizer().encode(one)
    with pytest.raises(TypeError, match='put it into a list'): list(FastTokenizer().pipe(one))


# ---- other tokenizers and rules

def shout(t): return t.upper() + ' !'


def with_case(*cases):
    w = WordTokenizer()
    for c, *out in cases: w.nlp.tokenizer.add_special_case(c, [{ORTH: o} for o in out or [c]])
    return Tokenizer(w)


others = {
    'no rules': lambda: Tokenizer(rules=[]), 'one rule': lambda: Tokenizer(rules=[shout]),
    'lambda': lambda: Tokenizer(rules=text_rules + [lambda t: t.replace('e', ' e')]),
    'other order': lambda: Tokenizer(rules=text_rules[::-1]), 'fewer rules': lambda: Tokenizer(rules=text_rules[1:]),
    'characters': lambda: Tokenizer(CharTokenizer()),
    'characters, no rules': lambda: Tokenizer(CharTokenizer(), rules=[]),
    'German': lambda: Tokenizer(WordTokenizer('de')), 'French': lambda: Tokenizer(WordTokenizer('fr')),
    'no specials': lambda: Tokenizer(WordTokenizer(special_toks=[])),
    'other specials': lambda: Tokenizer(WordTokenizer(special_toks=['xxa', 'no no', 'a/b'])),
    'New York': lambda: with_case(('New York',), ('new york',), ('york times', 'york', ' ', 'times')),
    'smile': lambda: with_case((':-x y',), ('x y z',), ('br a',)),
    'split': lambda: with_case(('aaa', 'a', 'aa'), ('no no', 'no', ' ', 'no'), ('the', 't', 'he')),
    'spaces': lambda: with_case((' ',), ('\n',), ('a\nb',), ('a  b',)),
    'fastai': lambda: Tokenizer(theirs.WordTokenizer()),
    'function': lambda: Tokenizer(lambda ts: (t.split() for t in ts))}
own_scraps = ['new', 'york', 'New', 'York', 'new york', 'times', ':-x', 'y', 'x', 'z', 'x y', ': -x y', 'xxa', 'a/b',
    'a / b', 'br', 'a', 'Über', 'z.B.', 'd.h.', 'z. B.', "l'été", "aujourd'hui", 'qu’il', 'no no', 'the', 'aaa']


def own_texts(rng, n):
    return [' '.join(rng.choice(own_scraps) if rng.random() < .7 else rng.choice(anything)
                     for _ in range(rng.randint(0, 10)))
            if rng.random() < .6 else random_text(rng, 8) for _ in range(n)]


@pytest.mark.parametrize('kind', others)
@pytest.mark.parametrize('n', [150, pytest.param(20_000, marks=pytest.mark.slow)])
def test_other_tokenizers_give_their_own_tokens(kind, n):
    t, rng = others[kind](), random.Random(kind)
    fast = FastTokenizer(t)
    for i in range(0, n, 50):
        ts = own_texts(rng, 50)
        assert_same(fast, ts, list(t.pipe(ts)))


def test_subwords_too(tmp_path):
    s, rng = SubwordTokenizer(vocab_sz=200, cache_dir=tmp_path), random.Random(0)
    s.setup(['the cat sat on the mat', 'dogs & logs é ö']*30)
    for t in (Tokenizer(s), Tokenizer(s, rules=[])):
        ts = own_texts(rng, 200)
        assert_same(FastTokenizer(t), ts, list(t.pipe(ts)))


def test_a_special_case_added_to_a_changed_rule_list():
    t = Tokenizer()
    t.rules = [*text_rules, shout]
    ts = own_texts(random.Random(3), 100)
    assert_same(FastTokenizer(t), ts, list(t.pipe(ts)))


# ---- the regular expressions with an index, and without

hidden = """
import json, re, sys
for m in ('re._parser', 're._compiler', 're._constants'): sys.modules[m] = None # `import re._parser` fails from here on
from lesson8nlp import regex
from lesson8nlp.fasttok import FastTokenizer
from lesson8nlp.numericalizer import *
from lesson8nlp.tokenizer import *
assert regex.parse is None and not regex.parser_is_known()
ts, fast, tok = json.load(sys.stdin), FastTokenizer(), Tokenizer()
tk = tok.tok.nlp.tokenizer
assert regex.index_search(tk.suffix_search, True) == tk.suffix_search and \
regex.guard_search(tk.infix_finditer, ()) == tk.infix_finditer
tokens = list(fast.pipe(ts))
num = Numericalize(min_freq=1)
num.setup(tokens)
assert fast.by_chunk and [[num.vocab[i] for i in num(o)] for o in tokens] == tokens
json.dump([tokens, list(tok.pipe(ts[:100])), fast.n_slow], sys.stdout)
"""


def test_without_the_parser_of_python_the_tokens_are_the_same():
    "Hidden before anything is imported: real reviews and nasty texts, in a process of its own. Only speed is lost."
    rng = random.Random(5)
    ts = reviews(300) + [random_text(rng) for _ in range(400)] + words + html_scraps + repeats
    out = subprocess.run([sys.executable, '-W', 'ignore', '-c', hidden], input=json.dumps(ts), capture_output=True,
                         text=True, encoding='utf-8')
    assert out.returncode == 0, out.stderr
    tokens, by_rules, n_slow = json.loads(out.stdout)
    fast = FastTokenizer(tok)
    want = list(fast.pipe(ts))
    assert tokens == want == fastais(ts) and by_rules == want[:100] and n_slow == fast.n_slow


alphabet = ([chr(i) for i in range(128)] + list('éÉß…“”’—–²½₂°€£¥©®™👍א日ﬀ\xa0\u2028\u200b')
            + ["n't", "'s", '...', '--', 'http://', 'www.', '.com', 'km', '10', '$', '@', 'a', 'B', 'A.', '://'])
strings = st.one_of(st.lists(st.one_of(st.sampled_from(alphabet), any_char), max_size=9).map(''.join), texts)


def span(m): return m and m.span()


@pytest.mark.parametrize('lang', ['en', 'de', 'fr'])
@pytest.mark.parametrize('n', [150, pytest.param(10_000, marks=pytest.mark.slow)])
def test_indexed_expressions_find_what_spacys_find(lang, n):
    tk = WordTokenizer(lang).nlp.tokenizer
    fast = ft.index_tokenizer(tk)
    @settings(max_examples=n, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(s=strings)
    def check(s):
        for s in {s, *s.split()}:
            for name in ('prefix_search', 'suffix_search', 'url_match', 'token_match'):
                a, b = getattr(tk, name), getattr(fast, name)
                assert (a is None) == (b is None)
                if a is not None: assert span(a(s)) == span(b(s)), (name, s)
            assert [m.span() for m in tk.infix_finditer(s)] == [m.span() for m in fast.infix_finditer(s)], s
            assert [t.text for t in tk(s)] == [t.text for t in fast(s)], s
    check()
