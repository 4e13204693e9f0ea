"Laws of state, shape and causality that hold for every model, and the errors for what is no input."
import copy

import pytest
import torch
import torch.nn.functional as F
from fastcore.test import expect_fail
from torch import nn

from lesson8nlp.models import *

V = 30
make = {1: lambda: LMModel1(V, 16), 2: lambda: LMModel2(V, 16), 3: lambda: LMModel3(V, 16), 4: lambda: LMModel4(V, 16),
        5: lambda: LMModel5(V, 16, 2), 6: lambda: LMModel6(V, 16, 2), 7: lambda: LMModel7(V, 16, 2, 0.4)}
every, stateful, sequence = list(make), [3, 4, 5, 6, 7], [4, 5, 6, 7]
logits = lambda o: o[0] if isinstance(o, tuple) else o


@pytest.fixture(autouse=True)
def _seed(): torch.manual_seed(0)


def model(k): return make[k]().eval()
def batch(bs=4, sl=3): return torch.randint(0, V, (bs, sl))


@pytest.mark.parametrize('k', every)
@pytest.mark.parametrize('sizes', [(1,), (4, 2, 4), (5, 1)])
def test_any_batch_size_in_any_order(k, sizes):
    m = model(k)
    for bs in sizes:
        x = batch(bs)
        out = logits(m(x))
        assert out.shape == ((bs, V) if k < 4 else (bs, 3, V))


@pytest.mark.parametrize('k', stateful)
def test_a_changed_batch_size_starts_from_zeros(k):
    m, x = model(k), batch(4)
    fresh = logits(m(x))
    m(batch(2))
    assert torch.equal(logits(m(x)), fresh)


@pytest.mark.parametrize('k', sequence)
def test_two_batches_are_one_long_one(k):
    "The state carries everything over: reading in pieces gives what reading at once gives."
    m, x = model(k), batch(4, 12)
    whole = logits(m(x))
    m.reset()
    parts = torch.cat([logits(m(x[:, a:b])) for a, b in ((0, 5), (5, 6), (6, 12))], dim=1)
    assert torch.allclose(whole, parts, atol=1e-6)


@pytest.mark.parametrize('k', stateful)
def test_the_state_lasts_is_detached_and_resets(k):
    m, x = model(k), batch()
    first, second = logits(m(x)), logits(m(x))
    assert not torch.allclose(first, second)
    for h in (m.h if isinstance(m.h, tuple) else (m.h,)): assert not h.requires_grad
    second.sum().backward()  # would fail on a graph that reaches back into the batch before, freed or not
    m.zero_grad()
    logits(m(x)).sum().backward()
    m.reset()
    assert torch.equal(logits(m(x)), first) and m.h is not None
    m.reset()
    assert m.h is None


@pytest.mark.parametrize('k', stateful)
def test_the_state_is_not_part_of_the_weights(k):
    m = model(k)
    keys = set(m.state_dict())
    m(batch())
    assert set(m.state_dict()) == keys
    twin = model(k)
    twin.load_state_dict(m.state_dict())
    m.reset()
    x = batch()
    assert torch.equal(logits(m(x)), logits(twin(x)))


@pytest.mark.parametrize('k', sequence)
def test_no_model_sees_a_token_before_it_predicts_it(k):
    m, x = model(k), batch(3, 10)
    a = logits(m(x))
    m.reset()
    y = x.clone()
    y[:, 6:] = (y[:, 6:] + 7) % V
    b = logits(m(y))
    assert torch.equal(a[:, :6], b[:, :6]) and not torch.equal(a[:, 6:], b[:, 6:])


def test_the_first_two_models_are_the_same():
    one, two, x = model(1), model(2), batch(64)
    two.load_state_dict(one.state_dict())
    assert torch.equal(one(x), two(x))
    for m in (one, two): F.cross_entropy(m(x), batch(64, 1)[:, 0] * 0 + 3).backward()
    for p, q in zip(one.parameters(), two.parameters()): assert torch.allclose(p.grad, q.grad, atol=1e-7)


@pytest.mark.parametrize('move', [lambda m: m, copy.deepcopy, lambda m: m.double(), lambda m: m.to('cpu')])
def test_tied_weights_stay_one_object(move):
    m = move(model(7))
    assert m.h_o.weight is m.i_h.weight
    assert sum(p.numel() for p in m.parameters()) == sum(p.numel() for p in model(6).parameters()) - V*16
    m.load_state_dict(m.state_dict())
    assert m.h_o.weight is m.i_h.weight


@pytest.mark.parametrize('k', stateful)
def test_the_state_follows_the_dtype_of_the_weights(k):
    "Converted in the middle of a text, a model goes on with the same state."
    m, x = model(k), batch()
    m(x)
    twin = copy.deepcopy(m)
    want = logits(twin(x))
    out = logits(m.double()(x))
    assert out.dtype == torch.float64 and torch.allclose(out.float(), want, atol=1e-5)
    assert logits(m.float()(x)).dtype == torch.float32


@pytest.mark.parametrize('k', stateful)
def test_the_graph_does_not_reach_back(k):
    "The gradient of a batch is that of a fresh graph with the same numbers as its state."
    m, x, y = model(k), batch(), batch()
    m(x)
    twin = copy.deepcopy(m)  # deepcopy needs a state without history
    logits(m(y)).pow(2).sum().backward()
    logits(twin(y)).pow(2).sum().backward()
    for p, q in zip(m.parameters(), twin.parameters()): assert torch.equal(p.grad, q.grad)


def test_a_stateful_module_needs_no_embedding():
    class Cell(StatefulModule):
        def __init__(self): self.rnn = nn.GRU(4, 4, batch_first=True)
        def forward(self, x):
            out, h = self.rnn(x, self.start(x))
            self.keep(h)
            return out
    m, x = Cell(), torch.randn(2, 3, 4)
    a, b = m(x), m(x)
    assert not torch.allclose(a, b) and not m.h.requires_grad


@pytest.mark.parametrize('k', every)
def test_what_is_no_input_is_refused(k):
    m = model(k)
    with expect_fail(TypeError, 'float32'): m(torch.rand(4, 3))
    with expect_fail(TypeError, 'list'): m([[1, 2, 3]])
    with expect_fail(ValueError, '(3,)'): m(torch.tensor([1, 2, 3]))
    with expect_fail(ValueError, 'from 0 to 30; this model knows 0 to 29'): m(torch.tensor([[0, 1, 30]]))
    with expect_fail(ValueError, 'from -1 to 2'): m(torch.tensor([[0, -1, 2]]))
    for shape in ((0, 3), (4, 0)):
        with expect_fail(ValueError, str(shape)): m(torch.zeros(shape, dtype=torch.int64))
    with expect_fail(ValueError, 'at least one row'): m(torch.zeros(0, 3, dtype=torch.int64))
    if k == 1:
        with expect_fail(ValueError, 'got (64, 4)'): m(torch.zeros(64, 4, dtype=torch.int64))
    if k > 2: assert m.h is None, 'a refused input leaves no state'


def test_model7_returns_what_its_callbacks_need():
    m = make[7]().train()
    out, raw, dropped = m(batch(8, 5))
    assert raw.shape == dropped.shape == (8, 5, 16) and out.shape == (8, 5, V)
    assert (dropped == 0).float().mean() > 0.2 and not (raw == 0).any()
    m.eval()
    out, raw, dropped = m(batch(8, 5))
    assert torch.equal(raw, dropped)


@pytest.mark.parametrize('p', [0., 0.1, 0.5, 0.9])
def test_dropout_has_the_distribution_of_torchs(p):
    x = torch.ones(400, 400)
    a, b = Dropout(p)(x), nn.Dropout(p)(x)
    assert set(a.unique().tolist()) <= {0., torch.tensor(1/(1-p)).item()}
    assert abs(a.mean() - 1) < 0.03 and abs(a.std() - b.std()) < 0.03*max(1, b.std())
    g = torch.ones(400, 400, requires_grad=True)
    out = Dropout(p)(g)
    out.sum().backward()
    assert torch.allclose(g.grad, out.detach())


def test_dropout_at_its_ends():
    assert torch.equal(Dropout(1.)(torch.ones(5)), torch.zeros(5))
    assert torch.equal(Dropout(0.9).eval()(torch.ones(5)), torch.ones(5))
    x = torch.ones(5, requires_grad=True)
    Dropout(1.)(x).sum().backward()
    assert torch.equal(x.grad, torch.zeros(5))
    for p in (-.1, 1.1, float('nan')):
        with expect_fail(ValueError, 'between 0 and 1'): Dropout(p)


@pytest.mark.parametrize('k', every)
def test_the_config_builds_the_model_again(k):
    m = model(k)
    twin = type(m)(**m.config).eval()
    twin.load_state_dict(m.state_dict())
    x = batch()
    assert torch.equal(logits(twin(x)), logits(m(x)))
    assert set(m.config) == {'vocab_sz', 'n_hidden'} | ({'n_layers'} if k > 4 else set()) | ({'p'} if k == 7 else set())


def test_the_config_is_what_the_model_is_now():
    m = make[7]()
    m.drop.p = 0.1
    assert m.config == dict(vocab_sz=V, n_hidden=16, n_layers=2, p=0.1)


def test_networks_alone():
    "models and beyond import no dataset, no learner and no table."
    import subprocess, sys
    code = ("import sys, lesson8nlp.beyond; "
            "print(sorted(m for m in sys.modules if m.startswith('lesson8nlp.')), 'fastai.learner' in sys.modules)")
    out = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True,
                         check=True).stdout
    assert out.split('\n')[0] == "['lesson8nlp.beyond', 'lesson8nlp.models'] False", out
