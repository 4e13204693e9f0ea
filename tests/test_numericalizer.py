"What a notebook cannot show well about the numericalizer: random counters, vocabularies and ids."
import pickle
from collections import Counter

import numpy as np, pandas as pd, pytest, torch
from fastai.text import data as theirs
from fastai.text.data import TensorText
from hypothesis import given, settings, strategies as st

from lesson8nlp.numericalizer import *
from lesson8nlp.tokenizer import PAD, UNK, special_tokens

many = settings(max_examples=500, deadline=None, derandomize=True, database=None)
words = st.one_of(st.text(min_size=1, max_size=3),
                  st.sampled_from(special_tokens + ['the', 'film', 'a b', '\n\n', '▁'])).filter(lambda w: w != 'xxfake')
counters = st.one_of(
    st.dictionaries(words, st.integers(0, 6), max_size=40).map(Counter),
    st.integers(0, 90).map(lambda n: Counter({f'w{i}': 3 + i*7 % 5 for i in range(n)})))
specials = st.sampled_from([None, [UNK], [UNK, PAD], [UNK, 'the', PAD], special_tokens[::-1], [UNK, UNK, 'w3']])
real = lambda v: [w for w in v if w != 'xxfake']


@many
@given(count=counters, min_freq=st.integers(0, 6), max_vocab=st.integers(9, 80), special=specials)
def test_vocab_equals_fastais_but_for_its_faults(count, min_freq, max_vocab, special):
    before = count.copy()
    ours, fastais = (f(count, min_freq=min_freq, max_vocab=max_vocab, special_toks=special)
                     for f in (make_vocab, theirs.make_vocab))
    n, fill = len(real(fastais)), -len(real(fastais)) % 8
    assert real(ours) == real(fastais) == ours[:n] and len(ours) <= max_vocab
    if n % 8 == 0: assert ours == fastais[:-8]  # eight too many in fastai
    elif n + fill > max_vocab: assert len(ours) == n and len(fastais) > max_vocab  # fastai goes above the limit
    else: assert ours == fastais and len(ours) % 8 == 0
    assert count == before


def test_equal_counts_keep_the_order_of_first_appearance():
    count = Counter('zebra ape zebra ape yak yak ape'.split())
    assert make_vocab(count, min_freq=2, special_toks=[UNK])[:4] == [UNK, 'ape', 'zebra', 'yak']


def test_a_text_that_holds_special_tokens_or_fakes():
    count = Counter({'xxmaj': 50, 'xxbos': 20, 'film': 9, UNK: 7})
    assert make_vocab(count)[:10] == special_tokens + ['film']
    num = Numericalize()
    num.setup([['xxfake', 'film']*5])
    assert num(['xxfake', 'film']).tolist() == [0, num.vocab.index('film')]


@many
@given(texts=st.lists(st.lists(words, max_size=12), min_size=1, max_size=8).filter(any), min_freq=st.integers(1, 3))
def test_decode_inverts_encode_and_fastai_agrees(texts, min_freq):
    ours, fastais = Numericalize(min_freq=min_freq), theirs.Numericalize(min_freq=min_freq)
    ours.setup(texts), fastais.setup(texts)
    size = len(ours.o2i)
    for t in texts + [['never', 'seen']]:
        ids = ours(t)
        assert type(ids) is TensorText and ids.dtype == torch.int64 and ids.shape == (len(t),)
        assert ids.tolist() == fastais(t).tolist()
        assert list(ours.decode(ids)) == [w if w in ours.vocab else UNK for w in t] == list(fastais.decode(ids))
    assert len(ours.o2i) == size <= len(ours.vocab)


@many
@given(ids=st.lists(st.integers(-3, 19), max_size=10),
       kind=st.sampled_from([list, tuple, torch.tensor, TensorText, np.array, lambda o: np.array(o, dtype=np.int16)]))
def test_decode_gives_words_or_an_error(ids, kind):
    num = Numericalize(make_vocab(Counter({f'w{i}': 5 for i in range(7)})))  # ids 0 to 15
    if kind is tuple: ids = list(ids)  # a Transform takes a tuple apart
    else: ids = kind(ids) if ids or kind in (list,) else torch.tensor([], dtype=torch.int64)
    vals = [int(i) for i in ids]
    if all(0 <= i < 16 for i in vals): assert list(num.decode(ids)) == [num.vocab[i] for i in vals]
    else:
        bad = next(i for i in vals if not 0 <= i < 16)
        with pytest.raises(ValueError, match=f'Id {bad} at position {vals.index(bad)} .* 0 to 15'): num.decode(ids)


@many
@given(vocab=st.lists(words, max_size=12))
def test_vocab_is_taken_or_refused(vocab):
    "Without `xxunk` a vocabulary is taken, as in fastai, until an unknown word comes."
    if vocab and len(set(vocab)) == len(vocab):
        num = Numericalize(vocab)
        assert num(vocab).tolist() == list(range(len(vocab))) == theirs.Numericalize(vocab)(vocab).tolist()
        if UNK in vocab: assert num(['never seen before']).tolist() == [vocab.index(UNK)]
        else:
            with pytest.raises(ValueError, match="'never seen before' is not in the vocab .* has no 'xxunk'"):
                num(['never seen before'])
            assert 'never seen before' not in num.o2i and num(vocab).tolist() == list(range(len(vocab)))
    else:
        with pytest.raises(ValueError, match='empty|more than once'): Numericalize(vocab)


def test_a_vocabulary_of_fastai_is_taken_with_its_fakes():
    v = theirs.make_vocab(Counter({f'w{i}': 5 for i in range(7)}))
    assert v.count('xxfake') == 8
    num = Numericalize(v)
    assert num.vocab == v and num(['xxfake', 'w6']).tolist() == [0, 15] and num.decode([23]) == ['xxfake']


def test_a_million_unknown_words_leave_no_trace():
    num = Numericalize([UNK, 'a'])
    for i in range(0, 1_000_000, 1000): num([f'u{j}' for j in range(i, i + 1000)])
    assert len(num.o2i) == 2
    again = pickle.loads(pickle.dumps(num))
    assert again(['b', 'a']).tolist() == [0, 1] and len(again.o2i) == 2


def test_counts_that_are_there_are_used():
    "fastai's folder tokenizer brings its own counter, and its special tokens."
    class Items(list): counter, special_toks = Counter({'film': 5, 'rare': 1}), [UNK, PAD]
    ours, fastais = Numericalize(), theirs.Numericalize()
    ours.setup(Items()), fastais.setup(Items())
    assert ours.vocab == fastais.vocab == [UNK, PAD, 'film'] + ['xxfake']*5


def test_padding_may_have_any_id():
    v = ['the', UNK, 'film', PAD, 'xxfake']
    num = Numericalize(v)
    assert num([PAD, 'the', 'film', 'zebra', UNK]).tolist() == [3, 0, 2, 1, 1]
    assert list(num.decode([3, 0, 1, 2])) == [PAD, 'the', UNK, 'film'], 'no id is left out'
    without = Numericalize([UNK, 'a', 'b'])  # no padding at all: id 1 is a word
    assert list(without.decode(without(['a', 'b', PAD]))) == ['a', 'b', UNK]
    made = Numericalize(min_freq=1, special_toks=[UNK, 'xxbos', PAD])
    made.setup([['a', 'b']])
    assert made.vocab[:5] == [UNK, 'xxbos', PAD, 'a', 'b'] and list(made.decode(made(['a', PAD]))) == ['a', PAD]


@pytest.mark.parametrize('bad', [pd.DataFrame({'a': ['x'], UNK: ['y']}), {'a': 1, UNK: 0}, {'a', UNK},
                                 Counter(['a', UNK])])
def test_a_table_or_a_dict_is_not_a_list_of_tokens(bad):
    "Python would read each as a list of its keys: ids in the wrong order, or column names for tokens."
    num = Numericalize([UNK, 'a'])
    with pytest.raises(TypeError, match=f'Got a {type(bad).__name__}'): num(bad)
    with pytest.raises(TypeError, match=f'Got a {type(bad).__name__}'): Numericalize(bad)
    with pytest.raises(TypeError, match=f'got a {type(bad).__name__}|is the string'): Numericalize().setup(bad)
    with pytest.raises(TypeError, match='Item 1 of 2'): Numericalize([UNK, 3])
    # a classifier's dls.vocab
    with pytest.raises(TypeError, match='Item 0 of 2'): Numericalize([[UNK, 'a'], ['pos', 'neg']])
    with pytest.raises(TypeError, match='special_toks'): make_vocab(Counter('abc'), special_toks='xxunk')
    assert num(np.array(['a', 'b'])).tolist() == num(pd.Series(['a', 'b'])).tolist() == [1, 0]


def test_special_tokens_come_from_fastais_defaults():
    before = theirs.defaults.text_spec_tok
    theirs.defaults.text_spec_tok = [UNK, 'xxnew']
    try:
        count = Counter({'film': 5, PAD: 9})
        assert make_vocab(count) == theirs.make_vocab(count) == [UNK, 'xxnew', PAD, 'film'] + ['xxfake']*4
        ours, fastais = Numericalize(), theirs.Numericalize()
        ours.setup([['film']*3]), fastais.setup([['film']*3])
        assert ours.vocab == fastais.vocab
    finally: theirs.defaults.text_spec_tok = before


def test_limits_of_the_vocab_are_fastais():
    count = Counter({f'w{i}': n for n in range(2, 6) for i in range(n*20_000, (n + 1)*20_000)})
    ours, fastais = make_vocab(count), theirs.make_vocab(count)
    assert len(ours) == 60_000 and ours == fastais[:60_000]
    assert (real(make_vocab(Counter(a=4, b=3, c=2))) == real(theirs.make_vocab(Counter(a=4, b=3, c=2)))
            == special_tokens + ['a', 'b'])
