"The laws of LMDataLoader on documents that nobody chose: what nbs/internals/08_dataloader.ipynb shows on examples."
import gc, json, os, pickle, random, subprocess, sys, warnings
from types import SimpleNamespace

import numpy as np, pandas as pd, pytest, torch

warnings.filterwarnings('ignore')
import fastai.text.all as ft
from hypothesis import given, settings, strategies as st
from lesson8nlp.codec import Codec
from lesson8nlp.corpus import Corpus
from lesson8nlp.dataloader import LMDataLoader, RescaleLR, class_dataloaders, class_dl, lm_dataloaders, sharded_dl
from lesson8nlp.numericalizer import Numericalize
from lesson8nlp.tokenizer import CharTokenizer, Tokenizer

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
    assert (x.dtype == y.dtype == torch.int64
            and type(batches[0][0]) is ft.LMTensorText and type(batches[0][1]) is ft.TensorText)
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
    forms = [[np.array(o, dtype=np.uint16) for o in docs], [torch.tensor(o) for o in docs],
             [(torch.tensor(o),) for o in docs], ft.L(docs), flat, torch.from_numpy(flat), flat.tolist(),
             ft.Datasets(docs, [lambda o: torch.tensor(o)])]
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


@pytest.mark.parametrize('data, err', [
    ([], ValueError), ([[1.5, 2]], TypeError), (['a b', 'c'], TypeError), ('a b', TypeError), ([['a']], TypeError),
    ([[[1, 2]], [[3, 4]]], ValueError), (np.zeros((2, 3), int), ValueError), ([[True, False]], TypeError),
    ([np.array([0.])], TypeError), ([None], TypeError)])
def test_not_documents(data, err):
    with pytest.raises(err): LMDataLoader(data, bs=1)


@pytest.mark.parametrize('kw', [
    dict(bs=0), dict(bs=-1), dict(bs=1.5), dict(seq_len=0), dict(seq_len='72'), dict(bs=None)])
def test_sizes(kw):
    with pytest.raises((ValueError, TypeError), match='at least 1'): LMDataLoader(range(100), **kw)


@pytest.mark.parametrize('top, dtype', [(255, np.uint8), (256, np.uint16), (65535, np.uint16), (65536, np.uint32)])
def test_smallest_integer(top, dtype):
    dl = LMDataLoader([[0, top], [top, 1]], bs=1)
    assert dl.docs.ids.dtype == dtype and dl.one_batch()[0].tolist() == [[0, top, top]]
    with pytest.raises(ValueError, match=f'the id {top}, and the vocab has {top}'):
        LMDataLoader([[0, top]], bs=1, vocab=range(top))
    assert LMDataLoader([[0, top]], bs=1, vocab=range(top + 1)).vocab[-1] == top


def test_workers_pickle_and_new():
    docs = make([7, 0, 30, 12, 25], 4)
    dl = LMDataLoader(docs, bs=4, seq_len=3, shuffle=True, seed=5, vocab=[f'w{i}' for i in range(100)])
    ref = list(dl)
    for other in (LMDataLoader(docs, bs=4, seq_len=3, shuffle=True, seed=5, num_workers=2),
                  pickle.loads(pickle.dumps(dl.new())), dl.new()):
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
    dls = ft.DataLoaders(LMDataLoader(docs, bs=4, seq_len=10, shuffle=True, vocab=vocab),
                         LMDataLoader(docs, bs=4, seq_len=10, vocab=vocab), path=tmp_path)
    learn = ft.Learner(dls, torch.nn.Sequential(torch.nn.Embedding(50, 8), torch.nn.Linear(8, 50)),
                       loss_func=ft.CrossEntropyLossFlat())
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


# what the loader has beyond fastai's


def on_disk(docs, path, dtype=np.uint16):
    "A corpus whose ids are a read-only file."
    np.save(path, np.array([t for o in docs for t in o], dtype=dtype))
    return SimpleNamespace(ids=np.load(path, mmap_mode='r'), offsets=np.cumsum([0] + [len(o) for o in docs]))


def tiny(dl, size):
    dl._window_size = size
    return dl


options = st.fixed_dictionaries(dict(shuffle=st.booleans(), backwards=st.booleans(), var_len=st.booleans(),
                                     on_device=st.booleans(), seed=st.integers(0, 99)))


@given(lengths, sizes, options, st.integers(1, 60))
def test_window_edges(lengths, size, kw, window):
    bs, seq_len = size
    docs = make(lengths, bs)
    dl = tiny(LMDataLoader(docs, bs=bs, seq_len=seq_len, **kw), window)
    for _ in range(2):
        n = len(dl)
        batches, x, y = columns(dl)
        stream = [t for i in dl.order for t in (docs[i][::-1] if kw['backwards'] else docs[i])]
        assert n == len(batches)                                     # known before the epoch
        assert x.flatten().tolist() == stream[:x.numel()] and y.flatten().tolist() == stream[1:x.numel() + 1]
        assert dl.n_left_out == len(stream) - 1 - x.numel() < bs
    for k in reversed(range(dl.n_batches)): dl.batch(k)              # any batch at any time
    if not kw['var_len']: assert_same([dl.batch(k) for k in reversed(range(len(batches)))], batches[::-1])


@given(lengths, sizes, st.integers(0, 99))
def test_backwards_as_fastai(lengths, size, seed):
    bs, seq_len = size
    docs = [torch.tensor(o, dtype=torch.int64) for o in make(lengths, bs)]
    flipped = [ft.reverse_text(o) for o in docs]
    for shuffle in (False, True):
        ours = LMDataLoader(docs, bs=bs, seq_len=seq_len, shuffle=shuffle, backwards=True)
        theirs = ft.LMDataLoader(flipped, bs=bs, seq_len=seq_len, shuffle=shuffle)
        for _ in range(2):
            random.seed(seed); a = list(ours)
            random.seed(seed); b = list(theirs)
            assert_same(a, b)


@given(st.integers(1, 3000), st.integers(1, 90), st.integers(0, 9), st.integers(0, 9))
def test_varied_lengths_cover(n, seq_len, seed, epoch):
    dl = LMDataLoader(range(n + 1), bs=1, seq_len=seq_len, var_len=True, seed=seed)
    dl.epoch = epoch
    count = len(dl)
    batches, x, y = columns(dl)
    widths = [b[0].shape[1] for b in batches]
    assert len(batches) == count and x.flatten().tolist() == list(range(n)) and torch.equal(y, x + 1)
    assert all(w >= min(5, seq_len) for w in widths[:-1]) and max(widths) < seq_len + 40
    again = LMDataLoader(range(n + 1), bs=1, seq_len=seq_len, var_len=True, seed=seed)
    again.epoch = epoch
    assert [b[0].shape[1] for b in again] == widths


def test_varied_lengths_are_distributed_as_in_the_paper():
    dl = LMDataLoader(np.zeros(2_000_001, np.uint8), bs=1, seq_len=72, var_len=True, seed=0)
    widths = np.diff(dl.cuts)[:-1]
    half = widths < 54
    assert 0.04 < half.mean() < 0.06
    assert (abs(widths[~half].mean() - 71.5) < 0.3 and abs(widths[half].mean() - 35.5) < 1
            and 4.8 < widths[~half].std() < 5.2)
    other = LMDataLoader(np.zeros(2_000_001, np.uint8), bs=1, seq_len=72, var_len=True, seed=1)
    assert other.cuts != dl.cuts


@given(lengths, sizes, options, st.integers(1, 4))
def test_shards_partition(lengths, size, kw, world_size):
    bs, seq_len = size
    docs = make(lengths, bs*world_size)
    shards = [LMDataLoader(docs, bs=bs, seq_len=seq_len, rank=r, world_size=world_size, **kw)
              for r in range(world_size)]
    one = LMDataLoader(docs, bs=bs*world_size, seq_len=seq_len, **kw)
    for _ in range(2):
        parts = [list(o) for o in shards]
        assert len({len(o) for o in parts}) == 1                     # nobody waits for a batch that never comes
        assert_same([(torch.cat([x for x, _ in o]), torch.cat([y for _, y in o])) for o in zip(*parts)], one)
        seen = [t for o in parts for x, _ in o for t in x.flatten().tolist()]
        assert len(seen) == len(set(seen)) == sum(map(len, docs)) - 1 - one.n_left_out
    assert {o.n_left_out for o in shards} == {one.n_left_out}


@given(lengths, sizes, options, st.data())
def test_resume_anywhere(lengths, size, kw, data):
    bs, seq_len = size
    docs = make(lengths, bs)
    def fresh(): return LMDataLoader(docs, bs=bs, seq_len=seq_len, **kw)
    undisturbed = fresh()
    epochs = [list(undisturbed) for _ in range(3)]
    stop = data.draw(st.integers(0, len(epochs[0]) + len(epochs[1])))
    stopped, taken = fresh(), 0
    while taken < stop:
        for b in stopped:
            taken += 1
            if taken == stop: break
    resumed = fresh()
    resumed.load_state_dict(json.loads(json.dumps(stopped.state_dict())))
    rest = [b for e in epochs for b in e][stop:]
    got = []
    while len(got) < len(rest): got += list(resumed)
    assert_same(got, rest)


@pytest.mark.parametrize('num_workers', [0, 2])
def test_resume_counts_what_was_handed_out(num_workers):
    kw = dict(bs=4, seq_len=7, shuffle=True, seed=3, num_workers=num_workers)
    docs = make([90]*20, 4)
    dl = LMDataLoader(docs, **kw)
    ref = list(LMDataLoader(docs, **kw | dict(num_workers=0)))
    it = iter(dl)
    for _ in range(5): next(it)
    assert (dl.state_dict()['epoch'], dl.state_dict()['batch']) == (0, 5)
    other = LMDataLoader(docs, **kw)
    other.load_state_dict(dl.state_dict())
    other.one_batch()                                                # a look does not move the place
    assert_same(list(other), ref[5:])
    del it


def test_a_look_draws_no_random_numbers():
    "Without a seed the order comes from Python's: a look at a batch gave the next epochs another one."
    docs = make([90]*30, 4)
    first = lambda: LMDataLoader(docs, bs=4, seq_len=30, shuffle=True)
    random.seed(0)
    want = [b for dl in [first()] for _ in range(2) for b in dl]
    random.seed(0)
    dl, got = first(), []
    look = dl.one_batch()
    for _ in range(2):
        for b in dl: got.append(b); dl.one_batch()
    assert_same(got, want)
    assert torch.equal(look[0], got[0][0])


@pytest.mark.parametrize('kw', [dict(), dict(var_len=True), dict(shuffle=True), dict(num_workers=2),
                                dict(shuffle=True, after_item=ft.noop)],
                         ids='plain lengths shuffled workers items'.split())
def test_a_look_within_a_pass_leaves_the_pass_alone(kw):
    "It laid out the next epoch: with lengths that vary, or another order, the running pass went on in that one."
    kw = dict(bs=4, seq_len=30, seed=42) | kw
    docs = make([90]*30, 4)
    dl, want = LMDataLoader(docs, **kw), LMDataLoader(docs, **kw)
    for _ in range(2):
        got = []
        for b in dl:
            got.append(b)
            dl.one_batch()
        assert_same(got, list(want))
        assert dl.state_dict() == want.state_dict() and len(dl) == len(want)


@pytest.mark.parametrize('again', [False, True])
@pytest.mark.parametrize('kw', [dict(), dict(after_item=ft.noop)], ids=['batches', 'items'])
def test_an_abandoned_iterator_leaves_the_next_pass_alone(kw, again):
    "Also if the next pass is the same epoch again."
    kw |= dict(bs=4, seq_len=30, var_len=True, seed=42)
    dl, want = LMDataLoader(range(2001), **kw), LMDataLoader(range(2001), **kw)
    it = iter(dl)
    next(it)
    if again: dl.epoch = 0
    else: want.epoch = 1
    it2 = iter(dl)
    got = [next(it2), next(it2)]
    del it
    gc.collect()
    got += it2
    assert torch.cat([x for x, _ in got], 1).flatten().tolist() == list(range(2000))
    assert_same(got, want)
    assert len(dl) == len(want), 'the next epoch is planned'


@pytest.mark.parametrize('change', [
    dict(bs=5), dict(seq_len=8), dict(seed=4), dict(shuffle=False), dict(backwards=True), dict(var_len=True),
    dict(docs=range(19)), dict(docs=range(19, -1, -1)), dict(world_size=2)])
def test_state_of_another_loader_is_refused(change):
    kw = dict(bs=4, seq_len=7, shuffle=True, seed=3)
    state = LMDataLoader(make([90]*20, 4), **kw).state_dict()
    LMDataLoader(make([90]*20, 4), **kw).load_state_dict(state)
    with pytest.raises(ValueError, match='belongs to another loader: .* was .* and is'):
        LMDataLoader(make([90]*20, 4), **kw | change).load_state_dict(state)
    with pytest.raises(ValueError, match='corpus was'):
        LMDataLoader([[t + 1 for t in o] for o in make([90]*20, 4)], **kw).load_state_dict(state)


@given(lengths, sizes, options, st.data())
def test_chosen_documents(lengths, size, kw, data):
    bs, seq_len = size
    docs = make(lengths, bs)
    chosen = data.draw(st.permutations(range(len(docs))))
    chosen = chosen[:data.draw(st.integers(1, len(docs)))]
    total = sum(len(docs[i]) for i in chosen)
    if total <= bs:
        with pytest.raises(ValueError, match=f'has {total} tokens'):
            LMDataLoader(docs, bs=bs, seq_len=seq_len, docs=chosen, **kw)
        return
    view, copy = (LMDataLoader(docs, bs=bs, seq_len=seq_len, docs=chosen, **kw),
                  LMDataLoader([docs[i] for i in chosen], bs=bs, seq_len=seq_len, **kw))
    assert (view.docs.total, view.n_left_out, len(view)) == (total, copy.n_left_out, len(copy))
    for _ in range(2): assert_same(view, copy)
    assert_same(view.new(docs=range(len(docs)), shuffle=False, var_len=False),
                LMDataLoader(docs, bs=bs, seq_len=seq_len, backwards=kw['backwards']))


def test_memory_mapped(tmp_path):
    docs = make([30, 0, 700, 5, 90, 250], 8)
    corpus = on_disk(docs, tmp_path/'ids.npy')
    before = (tmp_path/'ids.npy').read_bytes()
    assert not corpus.ids.flags.writeable
    for kw in (dict(), dict(shuffle=True, seed=1), dict(backwards=True), dict(docs=[4, 2]), dict(on_device=True)):
        dl = tiny(LMDataLoader(corpus, bs=8, seq_len=9, **kw), 100)
        ref = list(LMDataLoader(docs, bs=8, seq_len=9, **kw))
        assert_same(dl, ref)
        if not kw: assert np.shares_memory(dl._window.tokens, corpus.ids)
        for x, y in dl: x.zero_(); y.fill_(7)
        assert np.shares_memory(dl.docs.ids, corpus.ids)
        dl.epoch = 0
        sent = pickle.dumps(dl)
        dl.epoch = 0
        assert_same(pickle.loads(sent), ref)
    assert (tmp_path/'ids.npy').read_bytes() == before


def test_a_pickle_does_not_hold_the_stream(tmp_path):
    np.save(tmp_path/'ids.npy', np.arange(10**6) % 60000)
    corpus = SimpleNamespace(ids=np.load(tmp_path/'ids.npy', mmap_mode='r'), offsets=[0, 10**6])
    dl = LMDataLoader(corpus)
    list(zip(range(2), dl))
    assert len(pickle.dumps(dl)) < 20_000
    part = SimpleNamespace(ids=corpus.ids[1000:5000], offsets=[0, 4000])
    assert_same(pickle.loads(pickle.dumps(LMDataLoader(part))), LMDataLoader(part))


@pytest.mark.parametrize('kw', [dict(shuffle=True), dict(var_len=True, seed=1), dict(backwards=True)])
def test_shuffled_epoch_needs_no_second_stream(tmp_path, kw):
    "The memory that an epoch takes stays under that of the window, with a stream many times as large."
    import tracemalloc
    np.save(tmp_path/'ids.npy', np.zeros(4_000_000, np.uint16))
    corpus = SimpleNamespace(ids=np.load(tmp_path/'ids.npy', mmap_mode='r'), offsets=np.arange(0, 4_000_001, 4000))
    dl = tiny(LMDataLoader(corpus, **kw), 100_000)
    tracemalloc.start()
    for _ in dl: pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000 < corpus.ids.nbytes


@pytest.mark.parametrize('dtype, top', [(np.uint8, 255), (np.uint16, 65535), (np.uint32, 2**32 - 1),
                                        (np.int32, 2**31 - 1), (np.int64, 2**40), ('>u2', 65535)])
def test_every_dtype_on_device(dtype, top):
    corpus = SimpleNamespace(ids=np.array([0, top, 1, top//2 + 1, 7], dtype=dtype), offsets=[0, 2, 5])
    for kw in (dict(), dict(shuffle=True, seed=0), dict(backwards=True)):
        assert_same(LMDataLoader(corpus, bs=2, seq_len=2, on_device=True, **kw),
                    LMDataLoader(corpus, bs=2, seq_len=2, on_device=False, **kw))


class Steps(ft.Callback):
    order = 5
    def before_fit(self): self.lrs = []
    def before_step(self): self.lrs.append((self.opt.hypers[0]['lr'], self.xb[0].shape[1]))
    def after_batch(self):
        if self.training: self.after = self.opt.hypers[0]['lr']


class Cancel(ft.Callback):
    order = 6
    def before_step(self): raise ft.CancelStepException


@pytest.mark.parametrize('opt', [ft.Adam, lambda p, lr: ft.OptimWrapper(p, torch.optim.SGD, lr=lr)])
@pytest.mark.parametrize('cbs', [[], [Cancel]])
def test_rescaled_learning_rate(opt, cbs):
    docs = np.random.default_rng(0).integers(0, 20, size=6000)
    dls = ft.DataLoaders(LMDataLoader(docs, bs=4, seq_len=20, var_len=True, seed=1),
                         LMDataLoader(docs, bs=4, seq_len=20))
    model = torch.nn.Sequential(torch.nn.Embedding(20, 8), torch.nn.Linear(8, 20))
    learn = ft.Learner(dls, model, loss_func=ft.CrossEntropyLossFlat(), opt_func=opt,
                       cbs=[RescaleLR(), Steps()] + [c() for c in cbs])
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(2, 1e-2)
    epochs = [LMDataLoader(docs, bs=4, seq_len=20, var_len=True, seed=1) for _ in range(2)]
    epochs[1].epoch = 1
    lrs, lens = np.array(learn.steps.lrs).T
    asked = np.array(learn.recorder.lrs)
    assert len(set(lens)) > 5 and np.allclose(lrs, asked*lens/20)
    assert learn.steps.after == asked[-1]                            # and back again
    assert len(asked) == sum(len(fresh.cuts) - 1 for fresh in epochs)


def test_rescaled_learning_rate_with_accumulated_gradients():
    "A batch that takes no step gives the learning rate back, too."
    docs = np.random.default_rng(0).integers(0, 20, size=6000)
    dls = ft.DataLoaders(LMDataLoader(docs, bs=4, seq_len=20, var_len=True, seed=1),
                         LMDataLoader(docs, bs=4, seq_len=20))
    model = torch.nn.Sequential(torch.nn.Embedding(20, 8), torch.nn.Linear(8, 20))
    learn = ft.Learner(dls, model, loss_func=ft.CrossEntropyLossFlat(),
                       cbs=[RescaleLR(), Steps(), ft.GradientAccumulation(8)])  # a step for two batches of four rows
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-2)
    lrs, lens = np.array(learn.steps.lrs).T
    assert len(set(lens)) > 5 and np.allclose(lrs, 1e-2*lens/20)
    assert np.allclose(learn.recorder.lrs, 1e-2) and learn.steps.after == 1e-2


PROCESS = '''
import sys, pickle, warnings
warnings.filterwarnings('ignore')
import torch, torch.distributed as dist, numpy as np
from lesson8nlp.dataloader import LMDataLoader
torch.set_num_threads(1)
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
docs = [np.arange(e, e + n) for e, n in zip(range(0, 4000, 100), [100]*40)]
dl = LMDataLoader(docs, bs=4, seq_len=11, shuffle=True, seed=5, var_len=True, \
rank=dist.get_rank(), world_size=dist.get_world_size())
for epoch in range(2):
    for x, y in dl:
        both = [torch.empty(2, *x.shape, dtype=torch.int64) for _ in range(2)]
        dist.all_gather(both, torch.stack([x.as_subclass(torch.Tensor), y.as_subclass(torch.Tensor)]))
        if rank == 0:
            with open(f'{folder}/batches', 'ab') as f: pickle.dump(torch.cat(both, 1).numpy(), f)
dist.barrier()
dist.destroy_process_group()
'''


def test_two_real_processes(tmp_path):
    "All the processes' rows, gathered with torch.distributed at every batch, are the batches of one process."
    (tmp_path/'process.py').write_text(PROCESS)
    env = os.environ | dict(OMP_NUM_THREADS='1')
    runs = [subprocess.Popen([sys.executable, tmp_path/'process.py', str(r), str(tmp_path)], env=env,
                             stderr=subprocess.PIPE, text=True) for r in range(2)]
    try: errors = [r.communicate(timeout=120)[1] for r in runs]
    finally: [r.kill() for r in runs]
    assert [r.returncode for r in runs] == [0, 0], errors
    docs = [np.arange(e, e + 100) for e in range(0, 4000, 100)]
    one = LMDataLoader(docs, bs=8, seq_len=11, shuffle=True, seed=5, var_len=True)
    with open(tmp_path/'batches', 'rb') as f:
        for x, y in list(one) + list(one): assert np.array_equal(pickle.load(f), torch.stack([x, y]).numpy())
        assert not f.read()


def test_distributed_trainer_leaves_shards_alone():
    pytest.importorskip('accelerate')
    from fastai.distributed import DistributedDL, DistributedTrainer
    dl = LMDataLoader(range(100), bs=4, seq_len=5, rank=1, world_size=2)
    sharded = sharded_dl(dl)
    assert isinstance(sharded, DistributedDL) and DistributedTrainer._wrap_dl(None, sharded) is sharded
    assert len(sharded) == len(dl) and sharded.bs == 4 and sharded.seq_len == 5
    assert_same(sharded, dl)
    docs = np.random.default_rng(0).integers(0, 20, size=2000)
    dls = ft.DataLoaders(*[sharded_dl(LMDataLoader(docs, bs=4, seq_len=20, rank=0, world_size=2)) for _ in range(2)])
    learn = ft.Learner(dls, torch.nn.Sequential(torch.nn.Embedding(20, 8), torch.nn.Linear(8, 20)),
                       loss_func=ft.CrossEntropyLossFlat(), cbs=RescaleLR())
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(1, 1e-2)
    assert np.isfinite(learn.recorder.values[-1]).all()


def test_device_is_chosen_by_room(monkeypatch):
    "'auto' asks how much memory of a GPU is free; no GPU is needed to see that it does."
    dl = LMDataLoader(range(1000), bs=4)
    assert not dl._stays_on_device()
    dl.to('cpu')
    assert not dl._stays_on_device() and not dl._pins()
    dl.to('cuda')
    # 1,000 ids of two bytes, and a quarter of what is free
    for free, stays in [(8001, True), (8000, False), (100, False)]:
        monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda device: (free, 10**9))
        assert dl._stays_on_device() is stays
    assert dl._pins()
    dl.on_device = False
    assert not dl._stays_on_device()


# texts in, loaders out

words_tok = Tokenizer(rules=[])
vocab = ['xxunk', 'good', 'xxpad', 'film', 'bad', 'xxbos']          # padding is not id 1
codec = Codec(words_tok, vocab)


def reviews(n):
    return ([('good film ' if i % 2 else 'bad film ')*(1 + i*7 % 5) for i in range(n)],
            ['pos' if i % 2 else 'neg' for i in range(n)])


@given(st.integers(1, 40), st.integers(1, 12), st.booleans())
def test_every_document_once_and_none_alone(n, bs, shuffle):
    texts, _ = reviews(n)
    dl = class_dl(texts, list(map(str, range(n))), codec, [str(i) for i in range(n)], bs=bs, shuffle=shuffle,
                  device='cpu')
    batches = list(dl)
    assert sorted(i for _, y in batches for i in y.tolist()) == list(range(n)) and len(dl) == len(batches)
    if bs > 1 and n > 1: assert min(len(x) for x, _ in batches) > 1
    for x, y in batches:
        for row, i in zip(x, y.tolist()): assert row[row != 2].tolist() == codec.encode(texts[i]).tolist()


def test_class_dl_with_workers():
    texts, labels = reviews(33)
    dl = class_dl(texts, labels, codec, bs=8, num_workers=2, device='cpu')
    assert sorted(len(x) for x, _ in dl) == [8, 8, 8, 9] and len(dl) == 4


@pytest.mark.parametrize('texts, labels, y, loss', [
    (['good', 'bad', 'film'], ['x', 'z', 'x'], [0, 1, 0], 'CrossEntropyLoss'),
    (['good', 'bad'], np.array([3, 2]), [1, 0], 'CrossEntropyLoss'),
    (['good', 'bad'], [['x'], ['x', 'z']], [[1, 0], [1, 1]], 'BCEWithLogitsLoss'),
    (['good', 'bad'], [[], ('z',)], [[0], [1]], 'BCEWithLogitsLoss'),
    (['good', 'bad'], [0.5, 2.], [0.5, 2.], 'MSELoss'),
    (['good', 'bad'], torch.tensor([0.5, 2.]), [0.5, 2.], 'MSELoss')])
def test_kinds_of_labels(texts, labels, y, loss):
    dl = class_dl(texts, labels, codec, device='cpu')
    assert dl.one_batch()[1].tolist() == y and type(dl.loss_func.func).__name__ == loss


@pytest.mark.parametrize('labels, err, words', [
    (['x'], ValueError, 'one label for each'), (['x', None], ValueError, 'Label 1 of 2 is missing'),
    (['x', float('nan')], ValueError, 'Label 1'), (np.eye(2), TypeError, 'a list of names, as the page')])
def test_labels_that_are_none(labels, err, words):
    with pytest.raises(err, match=words): class_dl(['good', 'bad'], labels, codec)


@pytest.mark.parametrize('labels, err, words', [
    (dict(a=1, b=2), TypeError, 'list of labels'), ('xy', TypeError, 'single str'), ({'x', 'y'}, TypeError, 'no order'),
    (['x', ['y']], TypeError, 'Label 0 of 2 is .x., and others are lists'),
    ([1, 'x'], TypeError, r'several types .int, str.*map\(str'),
    ([.5, float('inf')], ValueError, 'Label 1 of 2 is inf')])
def test_labels_that_would_be_read_wrongly(labels, err, words):
    "The keys of a dict, the letters of a string, a set in any order, a name cut into letters."
    for f in (lambda: class_dl(['good', 'bad'], labels, codec),
              lambda: class_dataloaders(['good', 'bad'], labels, codec)):
        with pytest.raises(err, match=words): f()


def test_labels_of_another_order():
    df = pd.DataFrame(dict(text=['good', 'bad', 'film'], label=['x', 'y', 'x']))
    with pytest.raises(ValueError, match='different indexes'): class_dl(df.text[::-1], df.label, codec)
    assert (class_dl(df.text[::-1], df.label[::-1], codec, device='cpu', bs=3).one_batch()[1].tolist()
            == class_dl(df.text[::-1].tolist(), ['x', 'y', 'x'], codec, device='cpu', bs=3).one_batch()[1].tolist())


@pytest.mark.parametrize('kw, words', [
    (dict(classes='xy'), 'list of the names'), (dict(classes=['x', 'y', 'x']), 'each name once'),
    (dict(bs=0), 'bs is 0'), (dict(bs=1.5), 'bs is 1.5')])
def test_settings_of_class_dl(kw, words):
    with pytest.raises((ValueError, TypeError), match=words): class_dl(['good', 'bad'], ['x', 'y'], codec, **kw)


@pytest.mark.parametrize('kw, words', [
    (dict(seed=-1), 'seed is -1'), (dict(seed=1.5), 'seed is 1.5'),
    (dict(valid_pct='0.1'), "valid_pct is '0.1'"), (dict(valid_pct=float('nan')), 'valid_pct is nan')])
def test_settings_of_class_dataloaders(kw, words):
    with pytest.raises(ValueError, match=words): class_dataloaders(*reviews(40), codec, **kw)


def test_a_corpus_and_a_codec_of_another_vocab(tmp_path):
    "The ids of the corpus would stand for other words of the codec."
    texts, _ = reviews(60)
    corpus = Corpus.from_texts(texts, tok=words_tok, min_freq=1, path=tmp_path/'corpus', progress=False)
    with pytest.raises(ValueError, match='not that of the corpus'):
        lm_dataloaders(corpus, codec=Codec(words_tok, list(corpus.vocab)[::-1]), bs=4, seq_len=5)
    assert lm_dataloaders(corpus, codec=corpus.codec, bs=4, seq_len=5, device='cpu').codec is corpus.codec


@pytest.mark.parametrize('texts', ['good', dict(text=['good']), pd.DataFrame(dict(text=['good']))])
def test_texts_that_are_none(texts):
    for f in (lambda: class_dl(texts, None, codec), lambda: class_dataloaders(texts, ['x'], codec),
              lambda: lm_dataloaders(texts)):
        with pytest.raises(TypeError, match='list of texts'): f()


def test_a_text_without_tokens_and_a_vocab_without_padding():
    empty = Codec(str.split, ['xxunk', 'xxpad', 'good'])
    with pytest.raises(ValueError, match='Text 1 of 2 has no tokens'): class_dl(['good', ''], None, empty)
    with pytest.raises(ValueError, match='Text 5 of 20 has no tokens'):
        class_dataloaders(['good']*5 + [''] + ['bad']*14, ['a', 'b']*10, empty, bs=4)
    with pytest.raises(ValueError, match='no xxpad'): class_dl(['good'], None, Codec(str.split, ['xxunk', 'good']))


@given(st.lists(st.sampled_from('abc'), min_size=4, max_size=60), st.sampled_from([.1, .3, .5]), st.integers(0, 9))
def test_split_isstratified_split(groups, valid_pct, seed):
    from lesson8nlp.dataloader import stratified_split
    groups = np.array([ord(o) for o in groups])
    train, valid = stratified_split(groups, valid_pct, seed)
    assert sorted([*train, *valid]) == list(range(len(groups))) and set(groups) == set(groups[train])
    n_valid = max(1, int(valid_pct*len(groups)))
    for g in set(groups.tolist()):
        wanted = (groups == g).sum()*n_valid/len(groups)
        assert (groups[valid] == g).sum() in (0, int(wanted), int(np.ceil(wanted)))
    assert all(np.array_equal(a, b) for a, b in zip(stratified_split(groups, valid_pct, seed), (train, valid)))


def test_every_factory_has_the_codec(tmp_path):
    texts, labels = reviews(60)
    chars = Tokenizer(CharTokenizer(), rules=[])
    lm = lm_dataloaders(texts, tok=chars, num=Numericalize(min_freq=1), bs=4, seq_len=5, device='cpu')
    assert lm.codec.tokens('good') == chars('good') and lm.vocab == lm.codec.vocab
    corpus = Corpus.from_texts(texts, tok=words_tok, min_freq=1, path=tmp_path/'corpus', progress=False)
    of_corpus = lm_dataloaders(corpus, tok=words_tok, bs=4, seq_len=5, device='cpu')
    clas = class_dataloaders(texts, labels, lm.codec, bs=8, device='cpu')
    assert clas.codec is lm.codec and clas.c == 2 and list(clas.vocab[1]) == ['neg', 'pos']
    for dls in (lm, of_corpus, clas):
        assert Codec.from_dls(dls.new_empty()) is dls.codec and pickle.loads(pickle.dumps(dls.train)).codec == dls.codec
    assert (len(of_corpus.train.docs) + len(of_corpus.valid.docs) == 60
            and of_corpus.codec.tokens('good') == words_tok('good'))


def test_no_epoch_has_the_order_of_another():
    dl, orders = LMDataLoader([[i]*5 for i in range(20)], bs=2, seq_len=5, shuffle=True, seed=3), []
    for _ in range(6):
        list(dl)
        orders.append(tuple(dl.order))
    assert len({*orders, tuple(range(20))}) == 7


def test_lm_dataloaders_can_be_taken_up_again():
    texts, _ = reviews(60)
    a, b = (lm_dataloaders(texts, codec=codec, bs=4, seq_len=5, device='cpu').train for _ in range(2))
    it = iter(a)
    for _ in range(3): next(it)
    b.load_state_dict(json.loads(json.dumps(a.state_dict())))
    assert_same(it, b)


def test_tables_outside_jupyter_are_text(capsys):
    texts, labels = reviews(40)
    lm_dataloaders(texts, codec=codec, bs=4, seq_len=5, device='cpu').show_batch(max_n=2)
    class_dataloaders(texts, labels, codec, device='cpu').show_batch(max_n=2)
    shown = capsys.readouterr().out
    assert 'HTML' not in shown and 'good' in shown and 'text_' in shown and 'category' in shown and 'xxpad' not in shown


STARTED = '''
import warnings; warnings.filterwarnings('ignore')
import multiprocessing as mp, pickle, sys, torch
from lesson8nlp.all import *

def make(num_workers=0): return class_dl(['good film', 'bad', 'good']*3, ['x', 'y', 'x']*3, \
Codec(Tokenizer(rules=[]), ['xxunk', 'good', 'xxpad', 'bad', 'film', 'xxbos']), bs=4, device='cpu', \
num_workers=num_workers)
def rows(dl): return [[x.tolist(), y.tolist()] for x, y in dl]
def work(dl, q): q.put([rows(dl), rows(make())])

if __name__ == '__main__':
    mp.set_start_method(sys.argv[1])
    torch.multiprocessing.set_start_method(sys.argv[1], force=True)
    q = mp.Queue()
    p = mp.Process(target=work, args=(make(), q), daemon=True)  # a daemonic process may have no children
    p.start()
    assert q.get(timeout=200) == [rows(make())]*2
    p.join()
    assert rows(make(num_workers=1)) == rows(make())
'''


@pytest.mark.slow
@pytest.mark.parametrize('method', ['spawn', 'forkserver', 'fork'])
def test_every_way_to_start_a_process(tmp_path, method):
    (tmp_path/'started.py').write_text(STARTED)
    out = subprocess.run([sys.executable, tmp_path/'started.py', method], env=os.environ | dict(OMP_NUM_THREADS='1'),
                         stderr=subprocess.PIPE, text=True, timeout=300)
    assert out.returncode == 0, out.stderr


def test_one_other_token_is_another_corpus():
    "Only 1,024 ids of all were compared: with more tokens, most changes were not seen."
    ids = np.arange(200_000) % 50
    other = ids.copy()
    other[777] += 1
    state = LMDataLoader(ids, bs=4).state_dict()
    LMDataLoader(ids.astype(np.uint8), bs=4).load_state_dict(state)  # the same ids in another type
    with pytest.raises(ValueError, match='another loader: corpus was'): LMDataLoader(other, bs=4).load_state_dict(state)


@pytest.mark.parametrize('num_workers', [0, 1, 2, 3])
@pytest.mark.parametrize('n, bs, want', [(17, 8, [8, 9]), (25, 8, [8, 8, 9]), (9, 8, [9]), (33, 8, [8, 8, 8, 9]),
                                         (18, 8, [8, 8, 2]), (16, 8, [8, 8])])
def test_no_document_is_alone_whoever_reads_it(n, bs, want, num_workers):
    "Three workers made batches of 8, 8 and 1 of 17 texts; training stops at a batch of one."
    codec = Codec(str.split, ['xxunk', 'xxpad', *map(str, range(40))])
    for shuffle in (False, True):
        dl = class_dl([f'{i} ' + 'xxunk '*(i % 5) for i in range(n)], ['a', 'b']*(n//2) + ['a']*(n % 2), codec, bs=bs,
                      shuffle=shuffle, num_workers=num_workers, device='cpu')
        got = [x for x, _ in dl]
        assert sorted(map(len, got)) == sorted(want) and len(dl) == len(want)
        assert sorted(int(i) for x in got for i in x[:, 0]) == list(range(2, n + 2))


def test_batches_of_one_are_refused_before_training():
    texts, labels = reviews(20)
    codec = lm_dataloaders(texts, bs=2, seq_len=5, device='cpu').codec
    for bs in (1, np.int64(1)):
        with pytest.raises(ValueError, match='bs is 1; batch normalization needs at least two.*take bs=2'):
            class_dataloaders(texts, labels, codec, bs=bs)
    assert len(class_dl(texts, labels, codec, bs=1, device='cpu')) == 20  # to look at, and for answers
