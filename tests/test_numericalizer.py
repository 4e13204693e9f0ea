"What a notebook cannot show well about the numericalizer: random counters, vocabularies and ids."
import pickle
from collections import Counter

import numpy as np, pytest, torch
from fastai.text import data as theirs
from fastai.text.data import TensorText
from hypothesis import given, settings, strategies as st

from lesson8nlp.numericalizer import *
from lesson8nlp.tokenizer import PAD, UNK, special_tokens

many = settings(max_examples=500, deadline=None, derandomize=True, database=None)
words = st.one_of(st.text(min_size=1, max_size=3), st.sampled_from(special_tokens + ['the', 'film', 'a b', '\n\n', '▁'])).filter(lambda w: w != 'xxfake')
counters = st.one_of(
    st.dictionaries(words, st.integers(0, 6), max_size=40).map(Counter),
    st.integers(0, 90).map(lambda n: Counter({f'w{i}': 3 + i*7 % 5 for i in range(n)})))
specials = st.sampled_from([None, [UNK], [UNK, PAD], [UNK, 'the', PAD], special_tokens[::-1], [UNK, UNK, 'w3']])
real = lambda v: [w for w in v if w != 'xxfake']


@many
@given(count=counters, min_freq=st.integers(0, 6), max_vocab=st.integers(9, 80), special=specials)
def test_vocab_equals_fastais_but_for_its_faults(count, min_freq, max_vocab, special):
    before = count.copy()
    ours, fastais = (f(count, min_freq=min_freq, max_vocab=max_vocab, special_toks=special) for f in (make_vocab, theirs.make_vocab))
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
@given(ids=st.lists(st.integers(-3, 19), max_size=10), kind=st.sampled_from([list, tuple, torch.tensor, TensorText, np.array, lambda o: np.array(o, dtype=np.int16)]))
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
            with pytest.raises(ValueError, match="'never seen before' is not in the vocabulary .* has no 'xxunk'"):
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
