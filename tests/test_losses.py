"The losses for a large vocabulary beside PyTorch's, logits on demand, and the fused optimizer beside fastai's."
import copy, pickle
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fastai.basics import Adam, CrossEntropyLossFlat, accuracy, to_float
from fastai.text.data import TensorText
from fastcore.test import expect_fail
from hypothesis import given, settings, strategies as st
from torch import nn

from lesson8nlp.awdlstm import *
from lesson8nlp.losses import *

V, small = 50, dict(awd_lstm_lm_config, emb_sz=12, n_hid=16)
close = lambda a, b, eps=1e-5: torch.allclose(a, b, atol=eps, rtol=eps)


@pytest.fixture(autouse=True)
def _seed(): torch.manual_seed(0)


# ---- the loss in chunks
@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 20), vocab=st.integers(2, 30), chunk=st.integers(1, 25), smooth=st.sampled_from([0., .1, .5]),
       bias=st.booleans(), reduction=st.sampled_from(['mean', 'sum', 'none']), ignored=st.floats(0, .9),
       scale=st.sampled_from([1., 30.]), seed=st.integers(0, 99))
def test_chunked_cross_entropy_is_cross_entropy(n, vocab, chunk, smooth, bias, reduction, ignored, scale, seed):
    g = torch.Generator().manual_seed(seed)
    h, w, b, y = (torch.randn(n, 6, generator=g), torch.randn(vocab, 6, generator=g)*scale,
                  torch.randn(vocab, generator=g), torch.randint(0, vocab, (n,), generator=g))
    y[torch.rand(n, generator=g) < ignored] = -100
    if (y < 0).all(): y[0] = 0
    up = torch.rand(n, generator=g) if reduction == 'none' else torch.tensor(2.5)
    def run(f):
        ts = [o.double().requires_grad_() for o in ((h, w, b) if bias else (h, w))]
        loss = f(ts[0], ts[1], ts[2] if bias else None)
        (loss*up).sum().backward()
        return [loss.detach(), *(o.grad for o in ts)]
    ours = run(lambda h, w, b: chunked_cross_entropy(h, w, b, y, reduction=reduction, label_smoothing=smooth,
                                                     chunk=chunk))
    plain = run(lambda h, w, b: F.cross_entropy(F.linear(h, w, b), y, reduction=reduction, label_smoothing=smooth))
    for a, e in zip(ours, plain): assert torch.allclose(a, e, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_keeps_the_loss_in_fp32(dtype):
    h, w, b, y = (torch.randn(400, 20, requires_grad=True), (torch.randn(3000, 20)*.1).requires_grad_(),
                  torch.zeros(3000, requires_grad=True), torch.randint(0, 3000, (400,)))
    y[0] = -100
    def run(f):
        loss = f()
        (loss*1024).backward()  # as a scaler does
        grads = [o.grad/1024 for o in (h, w, b)]
        h.grad = w.grad = b.grad = None
        return loss.detach(), grads
    def half():
        with torch.autocast('cpu', dtype=dtype): return chunked_cross_entropy(h, w, b, y, chunk=64)
    (l1, g1), (l2, g2) = run(half), run(lambda: F.cross_entropy(F.linear(h, w, b), y))
    assert l1.dtype == torch.float32 and abs(l1 - l2) < 1e-3*l2
    for a, e in zip(g1, g2):
        assert a.dtype == torch.float32 and (a - e).norm() < .02*e.norm()


def test_extreme_logits_and_nothing_to_count():
    h, w, y = (torch.tensor([[1000.], [-1000.]], requires_grad=True), torch.tensor([[1.], [-1.], [0.]]),
               torch.tensor([1, 1]))
    ours, plain = (chunked_cross_entropy(h, w, None, y, reduction='sum'),
                   F.cross_entropy(F.linear(h, w), y, reduction='sum'))
    assert close(ours, plain) and ours == 2000
    none = torch.full((2,), -100)
    assert chunked_cross_entropy(h, w, None, none).isnan() and F.cross_entropy(F.linear(h, w), none).isnan()
    assert chunked_cross_entropy(h, w, None, none, reduction='sum') == 0
    chunked_cross_entropy(h, w.requires_grad_(), None, none).backward()
    assert h.grad.abs().sum() == 0 and w.grad.abs().sum() == 0, 'a batch of padding must not ruin the weights'


def test_gradients_where_they_are_wanted_and_only_once():
    h, w, b, y = torch.randn(8, 6, requires_grad=True), torch.randn(9, 6), torch.randn(9), torch.randint(0, 9, (8,))
    loss = chunked_cross_entropy(h.view(2, 4, 6).transpose(0, 1), w, b, y.view(2, 4).T, chunk=3)  # not contiguous
    loss.backward(retain_graph=True)
    want = torch.autograd.grad(F.cross_entropy(F.linear(h, w, b), y), h)[0]
    assert close(h.grad, want) and w.grad is None
    with expect_fail(RuntimeError, 'backward only once'): loss.backward()
    with torch.no_grad(): assert not chunked_cross_entropy(h, w, b, y).requires_grad


def test_what_is_no_input_of_the_loss_is_refused():
    h, w = torch.randn(2, 3, 6), torch.randn(9, 6)
    with expect_fail(ValueError, '6 predictions for 5 targets'):
        chunked_cross_entropy(h, w, None, torch.zeros(5).long())
    with expect_fail(ValueError, 'from -1 to 0; this model knows 0 to 8'):
        chunked_cross_entropy(h, w, None, torch.tensor([0]*5 + [-1]))
    with expect_fail(ValueError, "'avg'"): chunked_cross_entropy(h, w, None, torch.zeros(6).long(), reduction='avg')


# ---- logits that are not there yet
def test_lazy_logits_are_logits_for_whoever_asks():
    "Methods, functions, operators and losses that lazy logits do not know get the full logits, gradients included."
    h, w, b, y = (torch.randn(2, 3, 6, requires_grad=True), torch.randn(9, 6), torch.randn(9),
                  torch.randint(0, 9, (2, 3)))
    lazy, full = LazyLogits(h, w, b), F.linear(h, w, b)
    assert to_float(lazy) is lazy and to_float((lazy, torch.ones(1).half()))[0] is lazy
    for f in (lambda x: x.softmax(-1), lambda x: F.softmax(x, -1), lambda x: x.topk(2, dim=-1).indices,
              lambda x: torch.cat([x, x]), lambda x: x.view(-1, 9),
              lambda x: F.cross_entropy(x.view(-1, x.shape[-1]), y.view(-1)), lambda x: torch.topk(x, k=2).values,
              lambda x: x.float().max(), lambda x: 2*x - 1, lambda x: 1 - x/3, lambda x: x == x, lambda x: x > 0,
              lambda x: -x, lambda x: x @ w.new_ones(9, 2), lambda x: torch.ones(3, 3) @ x, lambda x: x//2,
              lambda x: 2//x, lambda x: x % 2, lambda x: 3 % x, lambda x: 2**x, lambda x: torch.ones(9)*x,
              lambda x: torch.where(x > 0, input=x, other=0.), lambda x: x.argmax(), lambda x: x.argmax(1),
              lambda x: x.argmax(-1, keepdim=True), lambda x: x.flatten(), lambda x: x.flatten(1), lambda x: x[..., 1],
              lambda x: x[:, :, 2], lambda x: x[None], lambda x: x[full > 0], lambda x: torch.stack(list(x)),
              lambda x: torch.tensor([x.ndim, x.numel(), x.size(-1), len(x)]), lambda x: accuracy(x, y)):
        assert torch.equal(f(lazy), f(full))
    assert torch.equal(lazy[y > 4].full(), full[y > 4]), 'a mask over positions stays lazy'
    assert lazy.argmax(2).shape == (2, 3) and lazy[0].shape == (3, 9) and lazy[:, -1].argmax(-1).shape == (2,)
    assert all(isinstance(o, LazyLogits) for o in (lazy[0], lazy[:, -1], lazy.flatten(0, 1), copy.copy(lazy),
                                                   pickle.loads(pickle.dumps(LazyLogits(w, w)))))
    g1, g2 = (torch.autograd.grad(F.cross_entropy(x.view(-1, 9), y.view(-1)), h)[0] for x in (lazy, full))
    assert torch.equal(g1, g2)
    with pytest.raises(AttributeError): lazy.no_such_method
    with pytest.raises(TypeError, match=r'change full\(\)'): lazy[:, 0] = 0.
    half = LazyLogits(h.bfloat16(), w, b)  # what a bf16 step leaves
    assert half.full().dtype == torch.float32 and (half.topk(2).values - full.topk(2).values).abs().max() < .1


@pytest.mark.parametrize('bias', [False, True])
def test_lazy_logits_are_asked_before_their_weights_change(bias):
    "A tensor keeps its numbers; lazy logits, their slices and their losses refuse to give others."
    h, w, y = torch.randn(2, 3, 6), nn.Parameter(torch.randn(9, 6)), torch.randint(0, 9, (2, 3))
    b = nn.Parameter(torch.randn(9)) if bias else None
    lazy = LazyLogits(h, w, b)
    last, flat, kept, want = lazy[:, -1], lazy.flatten(0, 1), lazy.clone(), lazy.full()
    again = pickle.loads(pickle.dumps(lazy))
    with torch.no_grad(): (b if bias else w).add_(1)
    for f in (lambda: lazy.full(), lambda: lazy.argmax(-1), lambda: lazy.softmax(-1), lambda: last + 1,
              lambda: flat[0].sum(), lambda: copy.copy(lazy), lambda: ChunkedCrossEntropy()(lazy, y),
              lambda: SampledCrossEntropy(torch.ones(9))(lazy, y)):
        with pytest.raises(RuntimeError, match='weights have changed since.*full_logits'): f()
    assert lazy.shape == (2, 3, 9) and torch.equal(kept.full(), want) and torch.equal(again.full(), want)
    assert isinstance(kept, LazyLogits) and torch.equal(LazyLogits(h, w, b).full(), F.linear(h, w, b))


@pytest.mark.parametrize('opt_func', [fused_adam, partial(fused_adam, decouple_wd=False)])
def test_a_fused_step_counts_as_a_change(opt_func):
    w = nn.Parameter(torch.randn(9, 6))
    lazy, opt = LazyLogits(torch.randn(2, 6), w), opt_func([w], lr=.1)
    lazy.sum().backward()
    opt.step()
    with pytest.raises(RuntimeError, match='weights have changed'): lazy.full()


def test_lazy_logits_made_without_gradients_never_have_any():
    h, w, b, y = *(torch.randn(*s, requires_grad=True) for s in ((2, 3, 6), (9, 6), (9,))), torch.randint(0, 9, (2, 3))
    grad = LazyLogits(h, w, b)
    with torch.no_grad(): lazy, part, copied = LazyLogits(h, w, b), grad[0], copy.copy(grad)
    assert lazy.softmax(-1).numpy().shape == (2, 3, 9) and grad.full().requires_grad
    for o in (lazy.full(), lazy[0].full(), lazy.flatten(0, 1).full(), part.full(), copied.full(), lazy.clone().full(),
              copy.copy(lazy).full(), ChunkedCrossEntropy()(lazy, y), SampledCrossEntropy(torch.ones(9))(lazy, y)):
        assert not o.requires_grad
    with torch.inference_mode(): inner, own = LazyLogits(h + 0, w, b), LazyLogits(h + 0, torch.randn(9, 6))
    assert torch.equal(inner.full(), lazy.full()) and own.full().shape == lazy.shape


def test_lazy_logits_compare_as_tensors():
    "Also those of a model that read fastai's kind of tensor, which knows no other kind."
    h, w = TensorText(torch.randn(2, 3, 6)), torch.randn(9, 6)
    a, b, full = LazyLogits(h, w), LazyLogits(h + 0, w), F.linear(h, w)
    for f in (lambda x, y: x == y, lambda x, y: x != y, lambda x, y: x <= y, lambda x, y: x - y, lambda x, y: x**y):
        want = f(full, full.clone())
        for got in (f(a, b), f(a, full)): assert type(got) is type(want) and torch.equal(got.isnan(), want.isnan())
    assert (a == b).all() and not (a != b).any() and (a == full).all() and (full == a).all()


@pytest.mark.parametrize('grad', [False, True])
def test_a_compiled_decoder_knows_the_versions_of_its_weights(grad):
    m, y = get_language_model(AWD_LSTM, V, small, lazy=True)[1].train(False), torch.randint(0, V, (2, 3))
    f, x = torch.compile(m, backend='aot_eager', fullgraph=True), torch.randn(2, 3, 12)
    for _ in range(3):
        with torch.set_grad_enabled(grad): lazy = f(x)[0]
        assert close(lazy.full(), m.decoder(x)) and lazy.full().requires_grad == grad
        if grad: ChunkedCrossEntropy()(lazy, y).backward()
        with torch.no_grad(): m.decoder.weight.mul_(.9)
        with pytest.raises(RuntimeError, match='weights have changed'): lazy.full()


def test_full_logits_comes_back_also_after_an_error():
    m = get_language_model(AWD_LSTM, V, small, lazy=True)
    with pytest.raises(KeyError):
        with full_logits(m):
            assert isinstance(m(torch.zeros(1, 2).long())[0], torch.Tensor)
            raise KeyError
    assert isinstance(m(torch.zeros(1, 2).long())[0], LazyLogits)
    with full_logits(get_language_model(AWD_LSTM, V, small)) as plain: pass
    assert isinstance(plain(torch.zeros(1, 2).long())[0], torch.Tensor)


def test_the_loss_pickles_and_keeps_its_settings():
    f = pickle.loads(pickle.dumps(ChunkedCrossEntropy(label_smoothing=.1, chunk=3)))
    lazy, y = LazyLogits(torch.randn(2, 3, 6), torch.randn(9, 6)), torch.randint(0, 9, (2, 3))
    assert f.chunk == 3 and close(f(lazy, y), CrossEntropyLossFlat(label_smoothing=.1)(lazy.full(), y))


# ---- the optimizer
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 1))


def steps(m, opt, n, seed):
    g = torch.Generator().manual_seed(seed)
    for i in range(n):
        opt.set_hypers(lr=[1e-2*(i + 1), 1e-3], mom=.7 + .02*i)
        m(torch.randn(16, 5, generator=g)).pow(2).mean().backward()
        opt.step()
        opt.zero_grad()


@pytest.mark.parametrize('first,then', [(Adam, fused_adam), (fused_adam, Adam)])
def test_optimizers_take_over_from_each_other(first, then):
    res = []
    for kinds in ((first, then), (Adam, Adam)):
        m = net()
        groups = [list(m[0].parameters()), list(m[2].parameters())]
        a = kinds[0](groups, lr=1e-2, wd=.1)
        steps(m, a, 3, 1)
        b = kinds[1](groups, lr=1e-2, wd=.1)
        b.load_state_dict(copy.deepcopy(a.state_dict()))
        steps(m, b, 3, 2)
        res.append([p.detach() for p in m.parameters()])
    for p, q in zip(*res): assert close(p, q, 1e-6)


def test_fused_adam_leaves_frozen_weights_and_frees_gradients():
    m = net()
    opt = fused_adam(iter(m.parameters()), lr=.1)
    m(torch.ones(1, 5)).sum().backward()
    opt.step(); opt.zero_grad()
    assert all(p.grad is None for p in m.parameters())
    m[0].requires_grad_(False)
    before = m[0].weight.clone()
    m(torch.ones(1, 5)).sum().backward()
    opt.step()
    assert (torch.equal(m[0].weight, before) and opt.state[m[2].weight]['step'] == 2
            and opt.state[m[0].weight]['step'] == 1)
    opt.clear_state()
    assert 'step' not in opt.state[m[2].weight]
    p = nn.Parameter(torch.zeros(3, device='meta'))
    p.grad = torch.zeros(3, device='meta')
    with expect_fail(TypeError, 'use fastai'): fused_adam([p], lr=.1).step()


@pytest.mark.parametrize('error', [NotImplementedError, torch.OutOfMemoryError, RuntimeError])
def test_only_a_missing_fused_step_is_replaced(monkeypatch, error):
    "Other errors come through, and the next step is a fused one."
    def fail(*args, **kwargs): raise error('no step')
    w, want = (nn.Parameter(torch.ones(3)) for _ in range(2))
    opts = [fused_adam([p], lr=.1) for p in (w, want)]
    for p in (w, want): p.pow(2).sum().backward()
    missing = error is NotImplementedError
    with monkeypatch.context() as m:
        m.setattr(torch, '_fused_adamw_', fail)
        if missing: opts[0].step()
        else:
            with pytest.raises(error, match='no step'): opts[0].step()
    assert opts[0].fused == (not missing)
    if not missing: opts[0].step()
    opts[1].step()
    assert close(w, want, 1e-6) and opts[0].state[w]['step'] == 1


# ---- a sample of the words
def test_sampled_loss_is_the_softmax_over_the_words_of_the_batch():
    "In fp32 against a calculation by hand, in double precision; gradients too."
    counts = np.arange(40)**2
    h, w, b, y = (torch.randn(3, 50, 6).double().requires_grad_(), torch.randn(40, 6).double().requires_grad_(),
                  torch.randn(40).double().requires_grad_(), torch.randint(0, 25, (3, 50)))
    ours = SampledCrossEntropy(counts)(LazyLogits(h, w, b), y)
    words, p = y.unique(), torch.tensor((counts + 1)/(counts + 1).sum())
    scores = F.linear(h, w, b) - (1 - (1 - p)**150).log()
    by_hand = F.cross_entropy(scores[..., words].flatten(0, 1), torch.searchsorted(words, y).flatten())
    assert close(ours, by_hand, 1e-6)
    for a, e in zip(torch.autograd.grad(ours, (h, w, b)), torch.autograd.grad(by_hand, (h, w, b))):
        assert close(a, e, 1e-6)


def test_sampled_loss_drops_the_targets_to_ignore():
    "As if they were not in the batch; a batch of nothing else and an unknown id end as in the exact loss."
    h, w, b, y = (torch.randn(3, 50, 6, requires_grad=True), torch.randn(140, 6, requires_grad=True),
                  torch.randn(140, requires_grad=True), torch.randint(0, 25, (3, 50)))
    y[0, ::3] = y[2] = -100
    keep, loss = y >= 0, SampledCrossEntropy(np.arange(140)**2)
    ours, without = loss(LazyLogits(h, w, b), y), loss(LazyLogits(h[keep], w, b), y[keep])
    assert torch.equal(ours, without)
    grads = torch.autograd.grad(ours, (h, w, b))
    assert grads[0][~keep].abs().sum() == 0 and grads[0][keep].abs().sum() > 0
    for a, e in zip(grads, torch.autograd.grad(without, (h, w, b))): assert torch.equal(a, e)
    for f in (loss, ChunkedCrossEntropy()):
        nothing = f(LazyLogits(h, w, b), torch.full_like(y, -100))
        assert nothing.isnan() and all((g == 0).all() for g in torch.autograd.grad(nothing, (h, w, b)))
        for bad in (140, -1):
            y[0, 1] = bad
            with expect_fail(ValueError, 'this model knows 0 to 139'): f(LazyLogits(h, w, b), y)
        with expect_fail(ValueError, '150 predictions for 50 targets'): f(LazyLogits(h, w, b), y[0])


def test_argmax_of_the_scores_after_one_position():
    m = get_language_model(AWD_LSTM, V, small, lazy=True).eval()
    out = m(torch.randint(0, V, (2, 5)))[0]
    for one in (out[0, -1], out[1, 2]):
        for dim in (-1, 0, None): assert one.argmax(dim) == one.full().argmax(dim)


def test_a_chunk_of_logits_takes_at_most_128_mb_and_not_less_than_it_can():
    from lesson8nlp.losses import chunk_size
    for vocab in (100, 1000, 60_000, 2**25, 2**26):
        n = chunk_size(range(vocab))
        assert n == 1 or 4*n*vocab <= 2**27 < 4*(n + 1)*vocab
    assert chunk_size(range(2**25)) == chunk_size(range(2**26)) == 1
