"Vocabularies and numericalization against fastai's, on random counts and tokens."
from collections import Counter

import torch
from fastai.text import data as fastai_data
from hypothesis import given, settings
from hypothesis import strategies as st

from lesson8nlp.numericalizer import *
from lesson8nlp.tokenizer import special_tokens

tokens = st.text(min_size=1, max_size=4) | st.sampled_from(special_tokens + ['the', 'film', 'xxmaj'])
counts = st.lists(st.tuples(tokens, st.integers(1, 9)), max_size=60).map(lambda ps: Counter(dict(ps)))
real = lambda vocab: [t for t in vocab if t != 'xxfake']


@settings(max_examples=300, deadline=None)
@given(counts, st.integers(1, 6), st.integers(9, 80))
def test_vocab_is_fastais_without_its_slip(count, min_freq, max_vocab):
    ours, theirs = make_vocab(count, min_freq, max_vocab), fastai_data.make_vocab(count, min_freq, max_vocab)
    assert real(ours) == real(theirs) and ours[:9] == special_tokens
    assert len(ours) <= max_vocab and (len(ours) % 8 == 0 or len(ours) == max_vocab)
    if len(real(theirs)) % 8 and len(theirs) <= max_vocab: assert ours == theirs


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(tokens, min_size=1, max_size=20), min_size=1, max_size=8), st.lists(tokens, max_size=20))
def test_ids_are_fastais_and_decode_inverts_them(docs, new):
    num = Numericalize(min_freq=1)
    num.setup(docs)
    theirs = fastai_data.Numericalize(vocab=list(num.vocab))
    size = len(num.o2i)
    for doc in docs:
        if 'xxfake' not in doc:
            assert num(doc).tolist() == theirs(doc).tolist()
            assert list(num.decode(num(doc))) == doc
    ids = num(new)
    assert ids.dtype == torch.int64 and ids.shape == (len(new),)
    assert list(num.decode(ids)) == [t if t in num.o2i else 'xxunk' for t in new]
    assert len(num.o2i) == size
