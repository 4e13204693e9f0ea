"""A codec reads and writes the same way everywhere: in another process, in several threads, with any tokenizer,
wherever padding is."""
import json, pickle, re, subprocess, sys, textwrap, threading, warnings
from types import SimpleNamespace

import numpy as np, pandas as pd, pytest, torch
from fastcore.test import expect_fail, test_eq as eq

from lesson8nlp import texts as tx
from lesson8nlp.codec import *
from lesson8nlp.codec import _probe
from lesson8nlp.fasttok import FastTokenizer
from lesson8nlp.numericalizer import Numericalize, make_vocab
from lesson8nlp.tokenizer import *

texts = ["The film wasn't bad; I'd see it AGAIN!!!", 'So so so good, a café &amp; a film.', '',
    'Ein schöner Film, z.B. am Sonntag.', 'one <br /><br /> two', 'GREAT 10/10', 'the film the film']*5
kinds = ['words', 'german', 'characters', 'subwords', 'bpe', 'no rules', 'split']


def make_tok(kind, folder):
    if kind == 'split': return str.split
    if kind in ('subwords', 'bpe'):
        tok = Tokenizer(SubwordTokenizer(vocab_sz=90, model_type='bpe' if kind == 'bpe' else 'unigram',
                                         cache_dir=folder))
        tok.setup(texts)
        return tok
    return dict(words=Tokenizer(), german=Tokenizer(WordTokenizer('de')), characters=Tokenizer(CharTokenizer()),
                **{'no rules': Tokenizer(rules=[])})[kind]


@pytest.fixture(params=kinds)
def codec(request, tmp_path):
    tok = make_tok(request.param, tmp_path/'cache')
    vocab = sorted({t for o in texts for t in (tok(o) if callable(tok) else ())} - set(special_tokens))
    return Codec(tok, vocab[:40] + special_tokens + ['xxfake']*3)


def test_ids_are_those_of_numericalize_one_by_one_and_together(codec):
    num = Numericalize(codec.vocab)
    for t, a, b in zip(texts, codec.encode_all(texts), [codec.encode(t) for t in texts]):
        want = num(list(codec.tok(t)))
        assert a.dtype == b.dtype == torch.int64 and a.tolist() == b.tolist() == want.tolist()
        eq(codec.tokens(t), list(codec.tok(t)))
    eq(codec.encode_all([]), [])
    eq([o.tolist() for o in codec.encode_all(t for t in texts[:2])], [codec.encode(t).tolist() for t in texts[:2]])


def test_another_process_makes_the_same_codec(codec, tmp_path):
    (tmp_path/'m').mkdir()
    config = codec.config(tmp_path/'m')
    (tmp_path/'c.json').write_text(json.dumps(dict(config=config, vocab=codec.vocab, texts=texts)))
    code = (f'''
        import json, warnings
        from pathlib import Path
        from lesson8nlp.codec import Codec
        warnings.simplefilter('error')
        d = json.loads(Path(r"{tmp_path}/c.json").read_text())
        codec = Codec.from_config(d['config'], d['vocab'], r"{tmp_path}/m")
        print(json.dumps([codec.fingerprint(), [o.tolist() for o in codec.encode_all(d['texts'])], '''
             '''[codec.decode(codec.encode(t)) for t in d['texts']]]))''')
    out = subprocess.run([sys.executable, '-W', 'ignore', '-c', textwrap.dedent(code)], capture_output=True, text=True,
                         check=True).stdout
    eq(json.loads(out), [codec.fingerprint(), [o.tolist() for o in codec.encode_all(texts)],
                         [codec.decode(codec.encode(t)) for t in texts]])


def test_codecs_are_equal_by_content(codec, tmp_path):
    again = pickle.loads(pickle.dumps(codec))
    assert (again == codec and hash(again) == hash(codec) and again.fingerprint() == codec.fingerprint()
            and len(again) == len(codec))
    assert codec != Codec(codec.tok, codec.vocab[::-1]) and codec != 3
    assert codec != Codec(Tokenizer(WordTokenizer('fr')), codec.vocab)


def test_padding_is_found_wherever_it_is():
    for at in (0, 1, 3, 5):
        vocab = ['the', 'film', 'xxunk', 'b', 'c']
        vocab.insert(at, 'xxpad')
        c = Codec(str.split, vocab)
        eq(c.pad_id, at)
        eq(c.unk_id, vocab.index('xxunk'))
        eq(c.decode(c.encode('the film b c')), 'the film b c')
        eq(c.decode([at, vocab.index('film'), at]), 'film')
    assert Codec(str.split, ['a']).pad_id is None and Codec(str.split, ['a']).unk_id is None


@pytest.mark.parametrize('kind', ['characters', 'subwords'])
def test_texts_without_spaces_come_back_without_spaces(kind, tmp_path):
    "Pieces were told from words by their spaces, which Chinese does not have."
    zh = ['\u4eca\u5929\u5929\u6c14\u5f88\u597d', '\u660e\u5929\u4e0d\u597d', '\u660e\u5929\u5929\u6c14\u4e0d\u597d']*10
    tok = Tokenizer(CharTokenizer() if kind == 'characters' else SubwordTokenizer(vocab_sz=25, cache_dir=tmp_path),
                    rules=[])
    tok.setup(zh)
    codec = Codec(tok, make_vocab({t: 9 for o in tok.pipe(zh) for t in o}))
    for t in zh[:3]: eq(codec.decode(codec.encode(t)), t), eq(''.join(codec.words(codec.encode(t))), t)


def test_repetitions_are_written_up_to_a_thousand_times():
    for n in (3, 1000, 1001, 10**9): eq(decode(['xxrep', str(n), 'a']), 'a'*min(n, 1000))


def test_fillers_are_never_encoded():
    c = Codec(str.split, ['xxunk', 'a', 'xxfake', 'xxfake'])
    eq(c.encode('a xxfake').tolist(), [1, 0])
    eq(c.decode([1, 2, 3]), 'A')


def test_any_tokenizer_can_encode():
    class Pipe:
        def pipe(self, texts): return (t.split('-') for t in texts)
    vocab = ['xxunk', 'a', 'b']
    for tok, text in ((lambda t: t.split(), 'a b c'), (str.split, 'a b c'), (Pipe(), 'a-b-c'),
                      (re.compile(r'\w').findall, 'a b c')):
        c = Codec(tok, vocab)
        eq(c.encode(text).tolist(), [1, 2, 0])
        eq([o.tolist() for o in c.encode_all([text, text])], [[1, 2, 0]]*2)
    fast = FastTokenizer()
    c = Codec(fast, make_vocab({'film': 3}))
    assert c.tok is fast.tok and c == Codec(Tokenizer(), c.vocab)


def test_functions_are_told_apart():
    vocab = ['xxunk', 'a']
    f, g = lambda t: t.split(), lambda t: list(t)
    assert (Codec(f, vocab) != Codec(g, vocab) and Codec(f, vocab) == Codec(lambda t: t.split(), vocab)
            and Codec(str.split, vocab) != Codec(f, vocab))


def test_the_default_fits_the_vocab():
    assert Codec(None, ['one', 'two']).tok is str.split
    assert Codec(None, make_vocab({})) == Codec(Tokenizer(), make_vocab({}))


def test_from_loaders_of_every_kind():
    vocab = make_vocab({'film': 3})
    eq(Codec.from_dls(SimpleNamespace(vocab=vocab)), Codec(Tokenizer(), vocab))
    eq(Codec.from_dls(SimpleNamespace(vocab=[vocab, ['neg', 'pos']], tok=str.split)), Codec(str.split, vocab))
    eq(Codec.from_dls(SimpleNamespace(vocab=Numericalize(vocab), tok=None, tokenizer=Tokenizer(rules=[]))),
       Codec(Tokenizer(rules=[]), vocab))
    codec = Codec(str.split, vocab)
    assert Codec.from_dls(SimpleNamespace(codec=codec, vocab=['x'], tok=Tokenizer())) is codec
    with expect_fail(ValueError, 'neither a codec nor a vocab'): Codec.from_dls(SimpleNamespace())


@pytest.mark.parametrize('one', [True, False], ids=['codec', 'tokenizer'])
def test_threads_share_a_codec(one):
    "One codec, or four codecs that share a `FastTokenizer`, whose dictionaries are emptied all the time."
    vocab = make_vocab({t: 9 for o in Tokenizer().pipe(texts) for t in o})
    fast = FastTokenizer(max_chunks=800_000 if one else 5)
    codecs = [Codec(Tokenizer(), vocab)]*4 if one else [Codec(fast, vocab) for _ in range(4)]
    many = [[f'{t} w{i} {"ab"[j]}{i*j}' for i in range(300) for t in texts[:3]] for j in range(2)]*2
    want = [[o.tolist() for o in Codec(Tokenizer(), vocab).encode_all(m)] for m in many]
    got = [None]*4
    def work(i): got[i] = [o.tolist() for o in codecs[i].encode_all(many[i])]
    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads: t.start()
    for t in threads: t.join()
    eq(got, want)


def test_dictionaries_that_are_emptied_change_no_id():
    vocab = make_vocab({t: 9 for o in Tokenizer().pipe(texts) for t in o})
    codec = Codec(FastTokenizer(max_chunks=5), vocab)
    for _ in range(3):
        for t in texts: eq(codec.encode_all([t])[0].tolist(), codec.encode(t).tolist())


# ---- code of the user's
def shout(t): return t.upper()


def changed_by_hand():
    w = WordTokenizer()
    w.nlp.tokenizer.add_special_case('filmbuff', [{'ORTH': 'film'}, {'ORTH': 'buff'}])
    return Tokenizer(w)


class Mine:
    def __call__(self, t): return t.split()


@pytest.mark.parametrize('make, words', [
    (lambda: Tokenizer(rules=[shout]), 'the rule shout'), (changed_by_hand, 'changed by hand'), (Mine, 'Mine'),
    (lambda: Tokenizer(Mine()), 'Mine inside the Tokenizer'), (lambda: (lambda t: t.split()), 'function'),
    (lambda: Tokenizer(rules=[lambda t: t]), '<lambda>')])
def test_code_of_the_users_is_refused_with_advice_and_given_again(make, words, tmp_path):
    codec = Codec(make(), ['xxunk', 'a'])
    if words.startswith('Mine inside'):
        codec.tok.tok.__class__ = type('Mine', (), dict(__call__=lambda self, ts: (t.split() for t in ts)))
    with pytest.raises(TypeError) as e: codec.config(tmp_path)
    assert words in str(e.value) and 'own_tok=True' in str(e.value)
    config = json.loads(json.dumps(codec.config(tmp_path, own_tok=True)))
    with expect_fail(ValueError, 'pass it again as tok='): Codec.from_config(config, codec.vocab, tmp_path)
    eq(Codec.from_config(config, codec.vocab, tmp_path, tok=codec.tok).vocab, codec.vocab)
    with pytest.warns(UserWarning, match='splits texts differently'):
        Codec.from_config(config, codec.vocab, tmp_path, tok=Tokenizer(CharTokenizer()))


def test_rules_for_tokens_are_kept(tmp_path):
    "`post_rules` were lost on saving, and the tokens differed afterwards wherever the test sentence did not show it."
    tok = Tokenizer(WordTokenizer('de'), rules=[spec_add_spaces], sep='')
    tok.post_rules = [lowercase_all]
    with pytest.raises(TypeError, match='the rule lowercase_all'): Codec(tok, ['xxunk', 'a']).config(tmp_path)
    for rules in ([], [replace_space, fix_html]):
        tok.post_rules = rules
        codec = Codec(tok, ['xxunk', 'a'])
        config = json.loads(json.dumps(codec.config(tmp_path)))
        again = Codec.from_config(config, codec.vocab, tmp_path)
        eq(again.tok.post_rules, rules), eq(again.tok.rules, [spec_add_spaces]), eq(again.tok.sep, '')
        eq(again.tokens('a&amp;b  c'), codec.tokens('a&amp;b  c'))
        assert again == codec
    old = {k: v for k, v in config.items() if k not in ('post_rules', 'sep')}  # a folder that was saved before
    eq(Codec.from_config(old | dict(probe=Tokenizer(WordTokenizer('de'), rules=[spec_add_spaces])(_probe)),
                         codec.vocab, tmp_path).tok.post_rules, Tokenizer().post_rules)


def lowercase_all(t): return t.lower()


def test_a_folder_from_elsewhere_says_what_is_wrong(tmp_path):
    codec = Codec(Tokenizer(), ['xxunk', 'a'])
    config = codec.config(tmp_path)
    with expect_fail(ValueError, 'does not know all of them'):
        Codec.from_config(config | dict(rules=['fix_everything']), codec.vocab, tmp_path)
    with expect_fail(ValueError, 'Tokenizer3000'):
        Codec.from_config(config | dict(inner=dict(kind='Tokenizer3000')), codec.vocab, tmp_path)
    with pytest.warns(UserWarning, match="'xxbos' was 'changed'"):
        Codec.from_config(config | dict(probe=['changed']), codec.vocab, tmp_path)
    sub = Codec(make_tok('subwords', tmp_path/'cache'), special_tokens)
    config = sub.config(tmp_path)
    (tmp_path/'subwords.model').unlink()
    with expect_fail(FileNotFoundError, 'no model file'): Codec.from_config(config, sub.vocab, tmp_path)


@pytest.mark.parametrize('vocab, words', [
    (None, 'list of tokens'), ('abc', 'list of tokens'), ([], 'is empty'), (['a', 'b', 'a'], "'a' more than once"),
    (['a', 3], 'every token must be a string')], ids=str)
def test_a_vocab_that_is_none_is_refused(vocab, words):
    with expect_fail((TypeError, ValueError), words): Codec(None, vocab)


def test_what_is_no_text_is_refused():
    c = Codec(None, ['xxunk', 'a'])
    for bad in (None, 3, ['a'], float('nan')):
        with expect_fail(TypeError): c.encode(bad)
        with expect_fail(TypeError): Codec(Tokenizer(), ['xxunk', 'a']).encode(bad)
    for bad in ('a', b'a'):
        with expect_fail(TypeError, 'use encode'): c.encode_all(bad)
    with expect_fail(TypeError, 'Tokenizer(tok)'): Codec(WordTokenizer(), ['xxunk', 'a']).encode('a b')
    with expect_fail(ValueError, "does not know ['b', 'c']"): Codec(str.split, ['a']).encode('a b c b')
    with expect_fail(ValueError, "does not know ['b', 'c']"):
        Codec(SimpleNamespace(pipe=lambda ts: (t.split() for t in ts)), ['a']).encode_all(['a a', 'a b c b'])
    for bad in ([1.5], [[0]], [2], [-1]):
        with expect_fail(ValueError): c.decode(bad)
    eq(c.decode([]), '')
    eq(c.decode(np.array([1, 0])), c.decode(torch.tensor([1, 0])))


def test_a_vocab_of_texts_of_one_token_is_not_empty_in_silence():
    from lesson8nlp.ulmfit import make_codec
    for texts, kind in (([f'film{i}' for i in range(40)], 'words'), (['film']*40, 'words'),
                        (['今天天气很好']*5, 'words')):
        with pytest.raises(ValueError, match=f"No token of these {len(texts)} texts occurs min_freq=1000000 times.*"
                                             "tokenizer='characters'"):
            make_codec(texts, kind, min_freq=10**6)
    assert 'film' in make_codec(['film']*40).vocab


@pytest.mark.parametrize('tok', [Tokenizer(), str.split], ids=['words', 'split'])
@pytest.mark.parametrize('what', [pd.DataFrame(dict(text=['a', 'b'], label=[0, 1])), dict(text=['a', 'b'])],
                         ids=['table', 'dict'])
def test_a_table_is_no_list_of_texts(tok, what):
    "A function as tokenizer was given the names of the columns, and read them as two texts."
    with expect_fail(TypeError, 'with text'): Codec(tok, ['xxunk', 'text', 'label']).encode_all(what)


def test_a_tokenizer_that_gives_no_strings_is_refused():
    "spaCy's pipe gives its own tokens, and every one of them was unknown."
    import spacy
    nlp = spacy.blank('en')
    c = Codec(nlp, ['xxunk', 'a', 'film'])
    for call in (lambda: c.encode('a film'), lambda: c.encode_all(['a film'])):
        with expect_fail(TypeError, 'expected a list of strings'): call()
    assert Codec(lambda t: [o.text for o in nlp(t)], ['xxunk', 'a', 'film']).encode('a film').tolist() == [1, 2]


def test_the_ids_of_one_text_hold_no_others():
    ids = Codec(None, ['xxunk', 'a', 'film']).encode_all(['a film '*200]*300)
    assert len(pickle.dumps(ids[:2])) < 30_000


def test_a_function_as_tokenizer_gets_checked_texts(tmp_path):
    (tmp_path/'b.txt').write_text('one')
    c = Codec(str.split, ['xxunk', 'one'])
    assert c.encode_all([tmp_path/'b.txt'])[0].tolist() == [1]
    with expect_fail(TypeError, 'Text 1'): c.encode_all(['one', None])


def test_a_long_text_is_decoded_in_a_moment():
    "Each article was looked at with all of the text before it: the time grew with the square, here to many minutes."
    tokens = 'xxbos xxmaj this is a film with a plot and a cast xxrep 3 a .'.split()
    c = Codec(None, ['xxunk', *dict.fromkeys(tokens)])
    assert len(c.decode([c.o2i[t] for t in tokens]*20_000)) > 500_000


# ---- texts that a codec can hardly read

def advice(codec, texts, **how):
    with pytest.raises(ValueError) as e: check_readable(codec.encode_all(texts), codec, **how)
    return str(e.value)


def test_unknown_words_are_learned_by_reading_first(monkeypatch):
    "Tweets were refused with the advice to train a new model, in Thai."
    tweets = ['thx @JetBlue ✈️ #flight https://t.co/x9y']*20
    make = lambda: Codec(Tokenizer(), special_tokens + ['thx', 'film'])
    m = advice(make(), tweets)
    order = ('read your texts first: finetune(texts, lm)', 'Replace names, addresses', 'If it has read them, replace',
             'a new one (pretrain)')
    assert [o in m for o in order] == [True, False, True, True] and 'lang=' not in m
    assert m.index(order[0]) < m.index(order[2]) < m.index(order[3])
    assert [o in advice(make(), tweets, order=True) for o in order] == [False, True, False, True]
    for k in ('tokenizer', 'lang', 'min_freq'): monkeypatch.setitem(tx.options, k, f'--{k}')
    m = advice(make(), tweets)
    assert 'first: lesson8nlp finetune, and then --from' in m and 'pretrain' not in m and 'texts, lm' not in m


@pytest.mark.parametrize('text, lang', [
    ('วันนี้อากาศดีมาก', 'th'), ('この映画はつまらない', 'ja'), ('今天天气很好', 'zh'), ('мой заказ ещё не пришёл', 'ru'),
    ('Meine Bestellung kam nicht an', '')])
def test_another_script_names_a_language(text, lang):
    m = advice(Codec(Tokenizer(), special_tokens + ['film']), [text]*20)
    assert (f"lang='{lang}'" in m) == bool(lang) and ('lang=' in m) == bool(lang) and ('first' in m) == (not lang), m


def test_a_classifier_may_read_single_words():
    codec = Codec(Tokenizer(), special_tokens + ['great', 'dull'])
    check_readable(codec.encode_all(['great', 'dull']*20), codec)
    assert 'nothing can be learned from their order' in advice(codec, ['great', 'dull']*20, order=True)
    letters = Codec(Tokenizer(CharTokenizer(), rules=[]), special_tokens + ['好', '不', ' '])
    check_readable(letters.encode_all(['好', '不']*20), letters) # no token begins these texts


@pytest.mark.parametrize('tok', [Tokenizer(), Tokenizer(CharTokenizer(), rules=[])], ids=['words', 'characters'])
def test_some_empty_texts_are_said(tok):
    codec = Codec(tok, special_tokens + [*'a film▁\n\t', 'film'])
    with pytest.warns(UserWarning, match='^4 of 10 texts are empty: remove them'):
        check_readable(codec.encode_all(['', '  ', '\n', '\t \n'] + ['a film']*6), codec)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        check_readable(codec.encode_all(['a film']*6), codec)
