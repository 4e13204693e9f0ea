"Laws of the models that look back: no look ahead, reading in pieces, rows apart, and the errors for wrong arguments."
import copy

import pytest
import torch
import torch.nn.functional as F
from fastcore.test import expect_fail
from fastai.basics import Learner, CrossEntropyLossFlat, accuracy, set_seed
from fastai.callback.rnn import rnn_cbs

from lesson8nlp.beyond import *
from lesson8nlp.experiments import stream_dls
from lesson8nlp.generate import state_axes, take_rows
from lesson8nlp.models import *

V, N = 20, 16
lstm = lambda: LMModel7(V, N, 2, 0.4)
tfm = lambda: TransformerLM(V, N, 2, 0.1, heads=2, window=8)
make = dict(cache=lambda: ContinuousCache(lstm(), window=8, theta=2., lam=.4),
            pointer=lambda: PointerSentinel(lstm(), N, window=8), attention=lambda: AttentionLSTM(lstm(), N, window=8),
            transformer=tfm, both=lambda: PointerSentinel(tfm(), N, window=8),
            cached=lambda: ContinuousCache(tfm(), window=5, theta=1.))
every = pytest.mark.parametrize('k', make)


@pytest.fixture(autouse=True)
def _seed(): torch.manual_seed(0)


def model(k): return make[k]().eval()
def batch(bs=4, sl=12): return torch.randint(0, V, (bs, sl))
def said(m, x): return m(x)[0]


@every
@pytest.mark.parametrize('at', [1, 6, 11])
def test_no_model_sees_a_token_before_it_predicts_it(k, at):
    m, x = model(k), batch()
    said(m, batch())
    state = copy.deepcopy(m)
    y = x.clone()
    y[:, at:] = (y[:, at:] + 7) % V
    a, b = said(m, x), said(state, y)
    assert torch.equal(a[:, :at], b[:, :at])
    assert not torch.isclose(a[:, at:], b[:, at:]).all(-1).any()


@every
def test_in_training_too_no_gradient_flows_from_the_future(k):
    m, x = make[k]().train(), batch(2, 10)
    emb = next(o for o in m.modules() if isinstance(o, torch.nn.Embedding))
    seen = {}
    def note(_, inp, out):
        out.retain_grad()
        seen['e'] = out
    emb.register_forward_hook(note)
    said(m, x)[:, 4].logsumexp(-1).sum().backward() if k == 'transformer' else said(m, x)[:, 4, 3].sum().backward()
    g = seen['e'].grad.abs().sum(-1)
    assert (g[:, 5:] == 0).all() and (g[:, 4] > 0).all()


@every
def test_pieces_are_one_long_text(k):
    m, x = model(k), batch(4, 40)
    whole = said(m, x)
    m.reset()
    parts = torch.cat([said(m, o) for o in x.split((16, 1, 7, 16), dim=1)], dim=1)
    assert torch.allclose(whole, parts, atol=1e-5)


@every
def test_reset_and_new_rows_begin_anew(k):
    m, x = model(k), batch()
    fresh = said(m, x)
    assert not torch.allclose(said(m, x), fresh)
    m.reset()
    assert m.h is None
    assert torch.equal(said(m, x), fresh)
    said(m, batch(3)); said(m, batch(1, 1))
    assert torch.equal(said(m, x), fresh)


@every
def test_rows_do_not_meet(k):
    m, x = model(k), batch(3)
    said(m, x)
    a, twin = said(m, x), model(k)
    twin.load_state_dict(m.state_dict())
    y = x.clone()
    y[1] = (y[1] + 3) % V
    said(twin, y)
    b = said(twin, y)
    assert torch.allclose(a[[0, 2]], b[[0, 2]], atol=1e-6) and not torch.allclose(a[1], b[1])
    m.reset()
    alone = said(m, x[1:2]); alone = said(m, x[1:2])
    assert torch.allclose(a[1:2], alone, atol=1e-5)


@every
def test_the_state_has_no_history(k):
    m, x = make[k]().train(), batch()
    for _ in range(3):
        F.cross_entropy(said(m, x).flatten(0, 1), x.flatten()).backward()
        for h in (m.h if isinstance(m.h, tuple) else (m.h,)): assert not h.requires_grad
    assert all(p.grad is None or p.grad.isfinite().all() for p in m.parameters())


@every
def test_the_state_is_not_part_of_the_weights(k):
    m = model(k)
    keys = set(m.state_dict())
    said(m, batch())
    assert set(m.state_dict()) == keys


@pytest.mark.parametrize('k', ['cache', 'pointer', 'both', 'cached'])
def test_probabilities_sum_to_one(k):
    m = model(k)
    for _ in range(3): out = said(m, batch())
    assert torch.allclose(out.exp().sum(-1), torch.ones(4, 12), atol=1e-5)
    assert torch.allclose(out.log_softmax(-1), out, atol=1e-5)


@every
@pytest.mark.parametrize('window', [1, 2, 100])
def test_any_window(k, window):
    m = model(k)
    for o in m.modules():
        if hasattr(o, 'window'): o.window = window
    x = batch(2, 30)
    whole = said(m, x)
    m.reset()
    parts = torch.cat([said(m, o) for o in x.split(7, dim=1)], dim=1)
    assert whole.isfinite().all() and torch.allclose(whole, parts, atol=1e-5)


def test_a_window_is_kept_to():
    "What lies further back than the window has no influence on the vote; a frozen state shows it."
    class Fixed(torch.nn.Module):
        p = torch.nn.Parameter(torch.ones(1))
        def reset(self): pass
        def forward(self, x): return torch.zeros(*x.shape, V), torch.ones(*x.shape, 3), torch.ones(*x.shape, 3)
    m = ContinuousCache(Fixed(), window=4, theta=0., lam=.5)
    m.register_parameter('p', Fixed.p)
    x = torch.tensor([[7, 1, 2, 3, 4, 5]])
    p = torch.cat([said(m, x[:, :3]), said(m, x[:, 3:])], 1).exp()
    assert p[0, 3, 7] > .1 > p[0, 4, 7]
    assert torch.allclose(p[0, 5, [2, 3, 4, 5]], torch.full((4,), .5/V + .125), atol=1e-5)


def test_no_cache_is_the_model_itself():
    m = lstm().eval()
    x = batch()
    plain = m(x)[0].log_softmax(-1)
    assert torch.allclose(said(ContinuousCache(m, lam=0.).eval(), x) if m.reset() is None else None, plain, atol=1e-5)


def test_attention_is_torchs():
    for heads, sl, past, window in ((1, 5, 0, 3), (2, 7, 4, 100), (4, 1, 9, 4)):
        q, k, v = torch.randn(3, heads, sl, 8), torch.randn(3, heads, past + sl, 8), torch.randn(3, heads, past + sl, 8)
        may = causal_window(sl, past, window)
        assert torch.allclose(attention(q, k, v, may), F.scaled_dot_product_attention(q, k, v, attn_mask=may),
                              atol=1e-6)
        assert torch.allclose(attention_weights(q, k, may).sum(-1), torch.ones(3, heads, sl), atol=1e-6)


def test_rotary_scores_depend_on_the_distance_only():
    q, k = torch.randn(2, 6, 8, dtype=torch.float64)
    at = lambda s: rotary(q, torch.arange(6) + s) @ rotary(k, torch.arange(6) + s).T
    assert torch.allclose(at(0), at(50), atol=1e-8)
    assert torch.allclose(rotary(q, torch.zeros(6)), q) and not torch.allclose(rotary(q, torch.arange(6))[1:], q[1:])
    assert torch.allclose(rotary(q, torch.arange(6)).norm(dim=-1), q.norm(dim=-1))


@every
def test_the_learner_trains_it(k):
    "fastai's contract: three outputs, reset by name, trained weights change."
    set_seed(0)
    dls = stream_dls(torch.arange(1200) % V, bs=8)
    m = make[k]()
    before = copy.deepcopy(m.state_dict())
    learn = Learner(dls, m, loss_func=CrossEntropyLossFlat(), metrics=accuracy, cbs=rnn_cbs(2, 1))
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-2)
    assert any(not torch.equal(a, b) for a, b in zip(before.values(), m.state_dict().values()))
    assert m.h is None
    with learn.no_bar(): p, t = learn.get_preds(reorder=False)
    assert p.shape == (*t.shape, V)


@every
def test_the_state_can_be_sorted_as_beam_search_does(k):
    m, x = model(k), batch(3)
    axes = state_axes(m)
    said(m, x)
    take_rows(m, torch.tensor([2, 0]), axes)
    got = said(m, x[[2, 0]])
    m.reset()
    said(m, x[[2, 0]])
    assert torch.allclose(got, said(m, x[[2, 0]]), atol=1e-5)


def test_a_pointer_learns_to_copy_what_no_weight_knows():
    "Each row repeats four random tokens: they cannot be learned, only copied."
    set_seed(0)
    text = torch.randint(0, V, (60, 8, 4)).repeat(1, 1, 8)  # batches of 8 rows, 32 tokens
    m = PointerSentinel(LMModel7(V, 32, 1, 0.), 32, window=8)
    opt = torch.optim.Adam(m.parameters(), 1e-2)
    for x in text[:50].repeat(3, 1, 1):
        m.reset()
        loss = F.cross_entropy(said(m, x[:, :-1]).flatten(0, 1), x[:, 1:].flatten())
        opt.zero_grad(); loss.backward(); opt.step()
    m.eval()
    acc = []
    for x in text[50:]:
        m.reset()
        acc.append((said(m, x[:, :-1]).argmax(-1) == x[:, 1:])[:, 12:].float().mean())
    assert torch.stack(acc).mean() > .5 > 5/V


def test_wrong_arguments_are_explained():
    for bad in (0, -1, 2.5, '8'):
        with expect_fail(ValueError, 'whole number, at least 1'): ContinuousCache(lstm(), window=bad)
        with expect_fail(ValueError, 'whole number, at least 1'): PointerSentinel(lstm(), N, window=bad)
        with expect_fail(ValueError, 'whole number, at least 1'): TransformerLM(V, N, 2, 0.1, window=bad)
    for bad in (-.1, 1., 2): 
        with expect_fail(ValueError, 'got'): ContinuousCache(lstm(), lam=bad)
    for bad in (-1, float('nan')):
        with expect_fail(ValueError, f'theta is {bad}'): ContinuousCache(lstm(), theta=bad)
    with expect_fail(ValueError, 'LMModel6 returns a Tensor'): ContinuousCache(LMModel6(V, N, 2))(batch())
    with expect_fail(ValueError, 'n_hidden'): PointerSentinel(lstm(), N + 1)(batch())
    with expect_fail(ValueError, 'heads'): TransformerLM(V, N, 2, 0.1, heads=3)
    with expect_fail(ValueError, 'even'): rotary(torch.zeros(2, 3), torch.arange(2))
    with expect_fail(ValueError, 'causal_window'): causal_window(0, 1, 1)
    with expect_fail(ValueError, 'copy_probs'):
        copy_probs(torch.zeros(1, 2, 3), torch.zeros(1, 2, dtype=torch.int64), V)


@every
def test_wrong_ids_are_explained_and_change_nothing(k):
    m, x = model(k), batch()
    said(m, x)
    twin = copy.deepcopy(m)
    with expect_fail(TypeError, 'int64'): m(x.float())
    with expect_fail(ValueError, '(bs, sl)'): m(x[0])
    with expect_fail(ValueError, 'another vocab'): m(x + V)
    assert torch.equal(said(m, x), said(twin, x))


def test_the_config_of_the_transformer_builds_it_again():
    m = TransformerLM(V, N, 3, 0.2, heads=4, window=5).eval()
    twin = TransformerLM(**m.config).eval()
    twin.load_state_dict(m.state_dict())
    x = batch()
    assert m.config == dict(vocab_sz=V, n_hidden=N, n_layers=3, p=0.2, heads=4, window=5)
    assert torch.equal(said(m, x), said(twin, x))


@pytest.mark.parametrize('window', [1, 3, 8, 30])
def test_the_memory_is_as_long_as_the_window(window):
    "n tokens are remembered, and one state more: before each of them, and after the last."
    m, read = PointerSentinel(lstm(), N, window=window).eval(), 0
    for sl in (5, 1, 12):
        said(m, batch(2, sl))
        read += sl
        n = min(window - 1, read)
        assert m.seen.shape == (2, n) and m.h.shape == (2, n + 1, N)
