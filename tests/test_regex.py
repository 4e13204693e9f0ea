"Searches with an index or a guard find what the plain expressions find, on any expression and with any parser."
import itertools, random, re, warnings
from types import SimpleNamespace

import pytest

from lesson8nlp import regex
from lesson8nlp.fasttok import FastTokenizer, index_tokenizer
from lesson8nlp.regex import guard_search, index_search, letters_never_match, parser_is_known
from lesson8nlp.tokenizer import Tokenizer, WordTokenizer

cached = index_search, guard_search, letters_never_match, parser_is_known


def span(m): return m and m.span()


def forget_all():
    for f in cached: f.cache_clear()


@pytest.fixture
def forgetful(monkeypatch): # what was analyzed before is forgotten, and what is analyzed in the test, afterwards
    forget_all()
    yield monkeypatch
    monkeypatch.undo()
    forget_all()


def assert_finds_the_same(p, flags, strings):
    r, at_start, at_end = (re.compile(o, flags) for o in (p, f'^(?:{p})', f'(?:{p})$'))
    searches = [(o, index_search(o.search, last)) for o in (r, at_start, at_end) for last in (False, True)]
    searches += [(o, guard_search(o.search, None)) for o in (r, at_start, at_end)]
    find = guard_search(r.finditer, ())
    for s in strings:
        for o, f in searches: assert span(f(s)) == span(o.search(s)), (o, s)
        assert [m.span() for m in find(s)] == [m.span() for m in r.finditer(s)], (r, s)
    for o, last in ((at_start, False), (at_end, True)):
        lengths = getattr(index_search(o.search, last), 'lengths', {})
        for s in strings:
            if not s or (n := lengths.get(s[-1 if last else 0])) is None: continue
            m = o.search(s)
            assert (n(s) if callable(n) else n) == (m.end() - m.start() if m else 0), (o, s)
    if letters_never_match(r): assert not any(r.search(s) for s in strings if re.fullmatch('[a-z]*', s)), r


patterns = [r'a|b|cd?', r'^a|^b+c', r'(?<=x)-|\.$', r'a?b|c*', r'[^a]b|(?:c|d)e', r'(?i)ab|k', r'\d+|\w(?=!)|\s',
            r'(?:a|)b|', r'.', r'a{0,2}b|[0-9]{2,}', r'(?!a)b', r'é|ß', r'(a|b)\1', r'ſ|K', r'(?i)s|i']


@pytest.mark.parametrize('p', patterns)
def test_any_expression_may_have_an_index(p):
    flags, p = (re.IGNORECASE, p[4:]) if p.startswith('(?i)') else (0, p)
    assert_finds_the_same(p, flags, [s for n in range(5) for s in map(
        ''.join, itertools.product('abcdeK!1 ſ' if n < 4 else 'abcx.', repeat=n))])


@pytest.mark.parametrize('p, flags', [
    (r'(?i:k)', 0), (r'(?i:K)-?', 0), (r'a(?-i:b)', re.I), (r'^a|^b', re.M), (r'a$|b$', re.M), (r'a.b', re.S),
    (r'(?s:.)b', 0), (r'\w', re.A), (r'(?a:\w)b', 0), (r'(?>a|b)c', 0), (r'a++b', 0), (r'\b-|b', 0), (r'[ab]', 0),
    (r'(a)?(?(1)b|-)', 0)])
def test_flags_of_an_expression_or_a_group_count(p, flags):
    assert_finds_the_same(p, flags, [s for n in range(4) for s in map(
        ''.join, itertools.product('abkKB\n-é', repeat=n))])


def random_pattern(rng, depth=3):
    kind = rng.randrange(14) if depth else rng.randrange(5)
    one = lambda: random_pattern(rng, depth - 1)
    if kind < 3: return rng.choice(['a', 'b', 'k', 'K', '-', r'\.', 'é', 'ſ'])
    if kind == 3: return rng.choice(['[ab]', '[^a]', '[a-k-]', r'[^\w]', r'[\d.]', '.'])
    if kind == 4: return rng.choice([r'\w', r'\s', r'\d', r'\b', '^', '$', r'\A', r'\Z', r'\B'])
    if kind < 7: return one() + one()
    if kind < 9: return f'(?:{one()}|{one()})'
    if kind == 9: return f'(?:{one()}){rng.choice(["?", "*", "+", "{2}", "{0,1}", "+?", "*?", "??", "?+", "++"])}'
    if kind == 10: return f'({one()})'
    if kind == 11: return rng.choice(['(?={})', '(?!{})']).format(one())
    if kind == 12: return rng.choice(['(?<=[-a])', '(?<!k)', '(?<=é)']) + one()
    return rng.choice(['(?i:{})', '(?s:{})', '(?>{})', '(?-i:{})']).format(one())


@pytest.mark.parametrize('n', [150, pytest.param(3000, marks=pytest.mark.slow)])
def test_random_expressions(n):
    rng = random.Random(n)
    for _ in range(n):
        p = '|'.join(random_pattern(rng) for _ in range(rng.randint(1, 4)))
        flags = rng.choice([0, 0, 0, re.I, re.M, re.S, re.A, re.I | re.M])
        strings = {''.join(rng.choices('abkKB-.1\n éſ', k=rng.randint(0, 6))) for _ in range(60)}
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            assert_finds_the_same(p, flags, sorted(strings))


def test_spacys_expressions_do_have_an_index():
    "Without one, tokens would be the same and everything slow: no other test would see it."
    assert parser_is_known()
    tk = WordTokenizer().nlp.tokenizer
    for f, last in ((tk.prefix_search, False), (tk.suffix_search, True)):
        assert sum(n == 0 for n in index_search(f, last).lengths.values()) > 15
    for f, nothing in ((tk.infix_finditer, ()), (tk.url_match, None)): assert guard_search(f, nothing) != f
    for f in (tk.prefix_search, tk.suffix_search, tk.infix_finditer, tk.url_match):
        assert letters_never_match(f.__self__)


# ---- expressions of a tokenizer of one's own

@pytest.mark.parametrize('name, p, flags', [
    ('prefix_search', r'\$|xx', 0), ('prefix_search', r'^-|b', 0), ('suffix_search', r'\.|ab', 0),
    ('suffix_search', r'a$|b\b', 0), ('suffix_search', r'(?i:K)$|a$', 0), ('prefix_search', r'^(?i:K)|^\(', 0),
    ('suffix_search', r'a$|\.$', re.M), ('infix_finditer', r'(?i:K)|-', 0)])
def test_tokens_with_unusual_expressions(name, p, flags):
    w = WordTokenizer()
    tk = w.nlp.tokenizer
    setattr(tk, name, getattr(re.compile(p, flags), name.split('_')[-1]))
    t, rng = Tokenizer(w), random.Random(0)
    ts = [' '.join(''.join(rng.choices(['a', 'b', 'k', 'x', 'xx', '$', '.', '-', '(', 'ab', 'film'],
                                       k=rng.randint(1, 5))) for _ in range(4)) for _ in range(200)]
    assert list(FastTokenizer(t).pipe(ts)) == list(t.pipe(ts))


# ---- a Python whose parser has changed

def changed(f): # a parser that gives another tree: `f` of the list of items, at every level
    usual = regex.parse
    def walk(o):
        if isinstance(o, regex.SubPattern): o.data = f([(op, walk(arg)) for op, arg in o.data])
        elif isinstance(o, (tuple, list)): return type(o)(map(walk, o))
        return o
    return lambda *a: walk(usual(*a))


def new_argument(name, f): return lambda items: [(op, f(arg) if str(op) == name else arg) for op, arg in items]
def renamed(**names): return {n: getattr(regex.K, names.get(n, n), None) for n in dir(regex.K)}
def fails(*a): raise RuntimeError('this is not how it is called any more')


changes = {
    'no parser': lambda: dict(parse=None), 'another call': lambda: dict(parse=fails),
    'no constants': lambda: dict(K=SimpleNamespace()),
    'no way to compile': lambda: dict(compile_parsed=fails), 'another class': lambda: dict(SubPattern=fails),
    'backwards': lambda: dict(parse=changed(lambda items: items[::-1])),
    'nothing in it': lambda: dict(parse=changed(lambda items: [])),
    'characters for numbers': lambda: dict(parse=changed(new_argument('LITERAL', chr))),
    'another character': lambda: dict(parse=changed(new_argument('LITERAL', lambda c: c + 1))),
    'a choice the other way round': lambda: dict(parse=changed(new_argument('BRANCH', lambda a: a[::-1]))),
    'a choice without its last': lambda: dict(parse=changed(new_argument('BRANCH', lambda a: (a[0], a[1][:-1])))),
    'a group the other way round': lambda: dict(parse=changed(new_argument('SUBPATTERN', lambda a: a[::-1]))),
    'a repeat from one': lambda: dict(parse=changed(new_argument('MAX_REPEAT', lambda a: (a[0] + 1, *a[1:])))),
    'a repeat the other way round': lambda: dict(parse=changed(new_argument('MAX_REPEAT', lambda a: a[::-1]))),
    'a lazy repeat from one': lambda: dict(parse=changed(new_argument('MIN_REPEAT', lambda a: (a[0] + 1, *a[1:])))),
    'a new name': lambda: dict(K=SimpleNamespace(**{k: v for k, v in renamed().items() if k != 'SUBPATTERN'}))}
texts = ['The film (which I liked) was "fine"...', "don't 5km 10% well-known,and a.b www.film.com/x e.g. :) : )",
         'no no no\nlines  and é-ü “quotes”', 'A.B.C. $5 #1 (a/b) x* *y', '']


@pytest.mark.parametrize('change', changes)
def test_a_changed_parser_is_noticed_and_no_token_changes(change, forgetful):
    for k, v in changes[change]().items(): forgetful.setattr(regex, k, v)
    assert not parser_is_known()
    tk = WordTokenizer().nlp.tokenizer
    assert (index_tokenizer(tk).suffix_search == tk.suffix_search
            and index_tokenizer(tk).infix_finditer == tk.infix_finditer)
    fast, tok = FastTokenizer(), Tokenizer()
    assert list(fast.pipe(texts)) == list(tok.pipe(texts)) and fast.n_slow < len(texts)


def test_no_exchange_of_operations_changes_a_token(forgetful):
    "Two operations change their names: the check notices, or it does not matter."
    used = 'LITERAL NOT_LITERAL IN ANY SUBPATTERN MAX_REPEAT MIN_REPEAT BRANCH AT ASSERT ASSERT_NOT'.split()
    want, noticed = list(Tokenizer().pipe(texts)), 0
    for a, b in itertools.combinations(used, 2):
        forget_all()
        forgetful.setattr(regex, 'K', SimpleNamespace(**renamed(**{a: b, b: a})))
        noticed += not parser_is_known()
        tokens = list(FastTokenizer().pipe(texts))
        forgetful.undo()
        assert tokens == want, (a, b)
    assert noticed > 40


def test_an_error_in_the_middle_leaves_the_search_as_it_is(forgetful):
    tk = WordTokenizer().nlp.tokenizer
    assert parser_is_known()
    forgetful.setattr(regex.Alternatives, 'edge', fails)
    assert index_search(tk.suffix_search, True) == tk.suffix_search
