"The laws of LMDataLoader on documents that nobody chose: what nbs/05_dataloader.ipynb shows on examples."
import pickle, random, warnings

import numpy as np, pytest, torch

warnings.filterwarnings('ignore')
import fastai.text.all as ft
from hypothesis import given, settings, strategies as st
from lesson8nlp.dataloader import LMDataLoader

settings.register_profile('here', deadline=None, max_examples=60, derandomize=True)
settings.load_profile('here')

lengths = st.lists(st.integers(0, 25), min_size=1, max_size=12)
sizes = st.tuples(st.integers(1, 9), st.integers(1, 12))


def make(lengths, bs):
    "Documents of these lengths whose tokens are all different, with enough of them for `bs` rows."
    lengths = lengths + [max(0, bs + 1 - sum(lengths))]
    ends = np.cumsum(lengths).tolist()
    return [list(range(e - n, e)) for n, e in zip(lengths, ends)]


def columns(dl):
    batches = list(dl)
    return batches, torch.cat([x for x, y in batches], 1), torch.cat([y for x, y in batches], 1)


def assert_same(a, b):
    a, b = list(a), list(b)
    assert len(a) == len(b)
    for (x0, y0), (x1, y1) in zip(a, b):
        assert x0.shape == x1.shape and torch.equal(x0.as_subclass(torch.Tensor), x1.as_subclass(torch.Tensor))
        assert torch.equal(y0.as_subclass(torch.Tensor), y1.as_subclass(torch.Tensor))


@given(lengths, sizes)
def test_laws(lengths, size):
    bs, seq_len = size
    docs = make(lengths, bs)
    total = sum(map(len, docs))
    dl = LMDataLoader(docs, bs=bs, seq_len=seq_len)
    batches, x, y = columns(dl)
    used = (total - 1)//bs*bs
    assert x.dtype == y.dtype == torch.int64 and type(batches[0][0]) is ft.LMTensorText and type(batches[0][1]) is ft.TensorText
    assert x.shape == y.shape == (bs, used//bs)
    assert x.flatten().tolist() == list(range(used))                 # every usable token once; rows read on
    assert torch.equal(y, x + 1)                                     # targets: one place further on
    assert dl.n_left_out == total - 1 - used < bs
    assert len(dl) == len(batches) == -(-x.shape[1]//seq_len)
    assert all(b[0].shape == (bs, seq_len) for b in batches[:-1])
    assert batches[-1][0].shape == (bs, dl.last_len) and 1 <= dl.last_len <= seq_len


@given(lengths, sizes, st.integers(0, 2**32 - 1))
def test_shuffled(lengths, size, seed):
    bs, seq_len = size
    docs = make(lengths, bs)
    dl = LMDataLoader(docs, bs=bs, seq_len=seq_len, shuffle=True, seed=seed)
    for epoch in range(2):
        assert dl.epoch == epoch
        _, x, y = columns(dl)
        assert sorted(dl.order.tolist()) == list(range(len(docs)))   # documents are permuted
        stream = [t for i in dl.order for t in docs[i]]              # and whole
        assert x.flatten().tolist() == stream[:x.numel()]
        assert y.flatten().tolist() == stream[1:x.numel() + 1]
    again = LMDataLoader(docs, bs=bs, seq_len=seq_len, shuffle=True, seed=seed)
    again.epoch = 1
    assert torch.equal(columns(again)[1], x)


@given(lengths, sizes)
def test_fastai_same_order(lengths, size):
    bs, seq_len = size
    docs = [torch.tensor(o, dtype=torch.int64) for o in make(lengths, bs)]
    assert_same(LMDataLoader(docs, bs=bs, seq_len=seq_len), ft.LMDataLoader(docs, bs=bs, seq_len=seq_len))


@given(lengths, sizes, st.integers(0, 2**32 - 1))
def test_fastai_shuffled(lengths, size, seed):
    bs, seq_len = size
    docs = [torch.tensor(o, dtype=torch.int64) for o in make(lengths, bs)]
    ours, theirs = (cls(docs, bs=bs, seq_len=seq_len, shuffle=True) for cls in (LMDataLoader, ft.LMDataLoader))
    for _ in range(2):  # the second epoch shuffles what the first one left
        random.seed(seed); a = list(ours)
        random.seed(seed); b = list(theirs)
        assert_same(a, b)


@given(lengths, sizes, st.randoms(use_true_random=False))
def test_fastai_any_permutation(lengths, size, rng):
    bs, seq_len = size
    docs = [torch.tensor(o, dtype=torch.int64) for o in make(lengths, bs)]
    order = list(range(len(docs)))
    rng.shuffle(order)
    ours, theirs = (cls(docs, bs=bs, seq_len=seq_len) for cls in (LMDataLoader, ft.LMDataLoader))
    ours.set_order(order)
    for o in (theirs.items, theirs.lens): o.reindex(order)
    theirs.make_chunks()
    assert_same(ours, theirs)


@given(lengths, sizes)
def test_every_form_of_documents(lengths, size):
    bs, seq_len = size
    docs = make(lengths, bs)
    ref = list(LMDataLoader(docs, bs=bs, seq_len=seq_len))
    flat = np.array([t for o in docs for t in o])
    forms = [[np.array(o, dtype=np.uint16) for o in docs], [torch.tensor(o) for o in docs], [(torch.tensor(o),) for o in docs],
             ft.L(docs), flat, torch.from_numpy(flat), flat.tolist(), ft.Datasets(docs, [lambda o: torch.tensor(o)])]
    for f in forms: assert_same(LMDataLoader(f, bs=bs, seq_len=seq_len), ref)


@given(lengths, sizes)
def test_items_are_rows_of_batches(lengths, size):
    bs, seq_len = size
    docs = make(lengths, bs)
    dl = LMDataLoader(docs, bs=bs, seq_len=seq_len)
    assert_same(dl, LMDataLoader(docs, bs=bs, seq_len=seq_len, after_item=ft.noop))  # the way through items
    batches = list(dl)
    for i in range(dl.n):
        x, y = dl.create_item(i)
        assert torch.equal(x, batches[i//bs][0][i % bs]) and torch.equal(y, batches[i//bs][1][i % bs])


@given(lengths, st.integers(1, 9))
def test_too_small_says_so(lengths, bs):
    docs, total = [list(range(n)) for n in lengths], sum(lengths)
    if total > bs: assert len(LMDataLoader(docs, bs=bs)) >= 1
    else:
        with pytest.raises(ValueError, match=rf'(?s){total} tokens.*bs={bs}.*{bs + 1}'): LMDataLoader(docs, bs=bs)
        if total > 1: assert len(LMDataLoader(docs, bs=total - 1)) == 1  # the advice is good


@given(st.lists(st.lists(st.integers(-3, 3), max_size=5), min_size=1, max_size=5))
def test_negative_ids(docs):
    bad = [i for i, o in enumerate(docs) if o and min(o) < 0]
    if bad:
        with pytest.raises(ValueError, match=f'Document {bad[0]} holds the id'): LMDataLoader(docs, bs=1)
    elif sum(map(len, docs)) > 1: assert len(LMDataLoader(docs, bs=1)) == 1


@pytest.mark.parametrize('data, err', [([], ValueError), ([[1.5, 2]], TypeError), (['a b', 'c'], TypeError), ('a b', TypeError), ([['a']], TypeError),
    ([[[1, 2]], [[3, 4]]], ValueError), (np.zeros((2, 3), int), ValueError), ([[True, False]], TypeError), ([np.array([0.])], TypeError), ([None], TypeError)])
def test_not_documents(data, err):
    with pytest.raises(err): LMDataLoader(data, bs=1)


@pytest.mark.parametrize('kw', [dict(bs=0), dict(bs=-1), dict(bs=1.5), dict(seq_len=0), dict(seq_len='72'), dict(bs=None)])
def test_sizes(kw):
    with pytest.raises((ValueError, TypeError), match='at least 1'): LMDataLoader(range(100), **kw)


@pytest.mark.parametrize('top, dtype', [(255, np.uint8), (256, np.uint16), (65535, np.uint16), (65536, np.uint32)])
def test_smallest_integer(top, dtype):
    dl = LMDataLoader([[0, top], [top, 1]], bs=1)
    assert dl.docs.ids.dtype == dtype and dl.one_batch()[0].tolist() == [[0, top, top]]
    with pytest.raises(ValueError, match=f'the id {top}, and the vocab has {top}'): LMDataLoader([[0, top]], bs=1, vocab=range(top))
    assert LMDataLoader([[0, top]], bs=1, vocab=range(top + 1)).vocab[-1] == top


def test_workers_pickle_and_new():
    docs = make([7, 0, 30, 12, 25], 4)
    dl = LMDataLoader(docs, bs=4, seq_len=3, shuffle=True, seed=5, vocab=[f'w{i}' for i in range(100)])
    ref = list(dl)
    for other in (LMDataLoader(docs, bs=4, seq_len=3, shuffle=True, seed=5, num_workers=2), pickle.loads(pickle.dumps(dl.new())), dl.new()):
        assert_same(other, ref)
    new = dl.new(vocab=[f'v{i}' for i in range(100)], bs=2, shuffle=False)
    assert new.vocab[3] == 'v3' and dl.vocab[3] == 'w3' and new.bs == 2 and new.one_batch()[0][0].tolist() == [0, 1, 2]


def test_mutating_a_batch_leaves_the_data_alone():
    dl = LMDataLoader(range(40), bs=3, seq_len=5)
    x, y = dl.one_batch()
    x.zero_(); y.zero_()
    assert dl.one_batch()[0][0].tolist() == [0, 1, 2, 3, 4]


def test_learner_export(tmp_path):
    vocab = [f'w{i}' for i in range(50)]
    rng = np.random.default_rng(0)
    docs = [rng.integers(0, 50, size=60) for _ in range(8)]
    dls = ft.DataLoaders(LMDataLoader(docs, bs=4, seq_len=10, shuffle=True, vocab=vocab), LMDataLoader(docs, bs=4, seq_len=10, vocab=vocab), path=tmp_path)
    learn = ft.Learner(dls, torch.nn.Sequential(torch.nn.Embedding(50, 8), torch.nn.Linear(8, 50)), loss_func=ft.CrossEntropyLossFlat())
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
        learn.export('model.pkl')
        assert learn.dls.vocab == vocab and len(learn.dls.train) > 0
        preds, targs = learn.get_preds(reorder=False, concat_dim=1)  # as LMLearner does
    assert preds.shape == (4, 119, 50) and targs.shape == (4, 119)
    assert torch.isfinite(torch.tensor(learn.recorder.values[-1])).all()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        back = ft.load_learner(tmp_path/'model.pkl')
    assert len(back.dls.train) == 0 and back.dls.vocab == vocab
