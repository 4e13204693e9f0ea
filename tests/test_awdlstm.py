"AWD-LSTM beside fastai's: state, weights, random numbers, sizes in memory, training."
import copy, io, pickle, random, subprocess, sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from fastai.basics import DataLoader, DataLoaders, accuracy
from fastai.text.all import language_model_learner
from fastai.text.models import awdlstm as fa, core as fc
from fastcore.test import expect_fail
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lesson8nlp.awdlstm import *
from lesson8nlp.losses import *
from lesson8nlp.learner import TextLearner, temporal_activation_reg

V, small = 50, dict(awd_lstm_lm_config, emb_sz=12, n_hid=16)
close = lambda a, b, eps=1e-5: torch.allclose(a, b, atol=eps, rtol=eps)


@pytest.fixture(autouse=True)
def _seed(): torch.manual_seed(0)


def seeded(f, seed=7):
    torch.manual_seed(seed)
    return f()


def pair(lazy=False, **kw):
    cfg = dict(small, **kw)
    theirs, ours = fc.get_language_model(fa.AWD_LSTM, V, cfg), get_language_model(AWD_LSTM, V, cfg, lazy=lazy)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


class Largest(TorchDispatchMode):
    "The size of the largest new tensor that any operation makes, forward and backward."
    n = 0
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for o in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(o, torch.Tensor) and not any(
                    isinstance(a, torch.Tensor) and a.untyped_storage().data_ptr() == o.untyped_storage().data_ptr()
                    for a in args):
                self.n = max(self.n, o.numel())
        return out


# ---- the model beside fastai's
@pytest.mark.parametrize('kw', [{}, dict(bidir=True), dict(tie_weights=False), dict(out_bias=False), dict(n_layers=1),
                                dict(weight_p=0., embed_p=0.), dict(pad_token=4)])
def test_same_seed_same_loss_and_gradients(kw):
    ours, theirs = pair(**kw)
    batches = [torch.randint(0, V, (2, bs, sl)) for bs, sl in ((4, 7), (1, 3), (6, 1), (5, 9))]
    def run(m):
        m.train()
        m.reset()
        losses = [F.cross_entropy(m(x)[0].flatten(0, 1), y.flatten()) for x, y in batches]
        sum(losses).backward()  # one graph of several calls: each has its own masks
        return torch.stack(losses).detach(), {n: p.grad for n, p in m.named_parameters()}
    (l1, g1), (l2, g2) = seeded(lambda: run(ours)), seeded(lambda: run(theirs))
    assert close(l1, l2) and set(g1) == set(g2)
    for n in g1: assert close(g1[n], g2[n]), n


def test_random_sizes_of_batches_in_evaluation():
    ours, theirs = pair()
    rng = random.Random(0)
    for m in (ours, theirs): m.eval(); m.reset()
    for _ in range(30):
        if rng.random() < .1: ours.reset(); theirs.reset()
        x = torch.randint(0, V, (rng.randint(1, 6), rng.randint(1, 5)))
        assert close(ours(x)[0], theirs(x)[0])


def test_new_rows_start_from_zeros_and_old_ones_go_on():
    m = AWD_LSTM(V, 12, 16, 2).eval()
    a, b = torch.randint(0, V, (2, 3)), torch.randint(0, V, (5, 3))
    m(a)
    both = m(b)
    m.reset()
    assert close(both[2:], m(b)[2:])
    assert not torch.equal(both[:2], m(b)[:2])


def test_state_is_detached_is_no_weight_and_follows_the_type():
    m = AWD_LSTM(V, 12, 16, 2)
    keys, x = set(m.state_dict()), torch.randint(0, V, (3, 4))
    m(x).sum().backward()
    m(x).sum().backward()  # would fail on a graph that reaches back
    assert set(m.state_dict()) == keys and not any(o.requires_grad for hc in m.hidden for o in hc)
    assert m.double()(x).dtype == torch.float64 and m.float()(x).dtype == torch.float32
    m.half(); m.reset()
    assert m.hidden[0][0].dtype == torch.float16


def test_weights_go_both_ways_after_training_too():
    ours, theirs = pair()
    for m in (ours, theirs):
        m.train()
        m(torch.randint(0, V, (2, 3)))[0].sum().backward()
        with torch.no_grad(): m[0].rnns[0].weight_hh_l0_raw.add_(.5)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    ours.load_state_dict(theirs.state_dict())
    ours.eval(); theirs.eval(); ours.reset(); theirs.reset()
    x = torch.randint(0, V, (2, 3))
    assert close(ours(x)[0], theirs(x)[0])
    assert ours[1].decoder.weight is ours[0].encoder.weight is ours[0].encoder_dp.emb.weight


def test_parts_have_fastais_names_and_order():
    "A checkpoint knows its run by the dropouts in the order of the parts, so the order must stay."
    ours, theirs = pair()
    assert [n for n, _ in ours.named_modules()] == [n for n, _ in theirs.named_modules()]


def test_old_files_with_the_dropped_weights_load_and_broken_ones_do_not():
    ours, theirs = pair()
    sd = theirs.state_dict()
    old = dict(sd) | {f'0.rnns.{i}.module.weight_hh_l0': torch.zeros_like(sd[f'0.rnns.{i}.weight_hh_l0_raw'])
                      for i in range(3)}
    buf = io.BytesIO()
    torch.save(old, buf); buf.seek(0)
    ours.load_state_dict(torch.load(buf, weights_only=True))
    assert torch.equal(ours[0].rnns[1].weight_hh_l0_raw, sd['0.rnns.1.weight_hh_l0_raw'])
    assert len(old) == len(sd) + 3, 'the dict that was given stays as it was'
    old.pop('0.rnns.1.weight_hh_l0_raw')
    with expect_fail(RuntimeError, 'weight_hh_l0_raw'): ours.load_state_dict(old)


def test_copies_and_pickles_after_training():
    m, _ = pair()
    x = torch.randint(0, V, (2, 3))
    m.train()
    m(x)[0].sum().backward()
    m.eval(); m.reset()
    want = m(x)[0]
    for twin in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        twin.reset()
        assert torch.equal(twin(x)[0], want)
        assert twin[1].decoder.weight is twin[0].encoder.weight and list(twin.state_dict()) == list(m.state_dict())
        with torch.no_grad(): twin[0].rnns[0].weight_hh_l0_raw.zero_()
        twin.reset()
        assert not torch.equal(twin(x)[0], want), 'a copy uses its own weights'
    m.reset()
    assert torch.equal(m(x)[0], want)


def test_fastai_takes_our_encoder():
    cfg = {k: v for k, v in small.items() if k not in ('tie_weights', 'out_bias')}
    m = fc.get_text_classifier(AWD_LSTM, V, 2, config=cfg)
    theirs = fc.get_text_classifier(fa.AWD_LSTM, V, 2, config=cfg)
    m.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(m.state_dict())
    x = torch.randint(2, V, (3, 20))
    x[1:, 15:], x[2:, 4:] = 1, 1
    assert close(seeded(lambda: m.train()(x)[0]), seeded(lambda: theirs.train()(x)[0]))


# ---- nothing larger than it has to be
def test_embedding_dropout_makes_no_matrix_forward():
    emb, words = nn.Embedding(1000, 20), torch.randint(0, 1000, (4, 5))
    with Largest() as ours: EmbeddingDropout(emb, .5)(words)
    with Largest() as theirs: fa.EmbeddingDropout(emb, .5)(words)
    assert ours.n == 1000 and theirs.n == 20_000


def test_evaluation_copies_no_weights():
    m = WeightDropout(nn.LSTM(40, 60, batch_first=True), .5).eval()
    with torch.no_grad(), Largest() as big: m(torch.randn(1, 1, 40))
    assert big.n < 60*4*60
    m(torch.randn(1, 1, 40))
    assert m.module.weight_hh_l0.data_ptr() == m.weight_hh_l0_raw.data_ptr()


def test_evaluation_sees_changes_through_data_and_lets_gradients_through():
    m, ref, x = (WeightDropout(nn.LSTM(4, 6, batch_first=True), .5).eval(), nn.LSTM(4, 6, batch_first=True),
                 torch.randn(2, 3, 4))
    m(x)
    m.weight_hh_l0_raw.data.mul_(3.)  # as fastai's optimizers do, unseen by version counters
    for n in ('weight_ih_l0', 'bias_ih_l0', 'bias_hh_l0'): getattr(ref, n).data.copy_(getattr(m.module, n))
    ref.weight_hh_l0.data.copy_(m.weight_hh_l0_raw)
    assert close(m(x)[0], ref(x)[0])
    m(x)[0].sum().backward(); ref(x)[0].sum().backward()
    assert close(m.weight_hh_l0_raw.grad, ref.weight_hh_l0.grad)


def test_weight_dropout_of_several_weights_and_after_an_error():
    torch.manual_seed(1)
    rnn = nn.LSTM(4, 6, 2, batch_first=True)
    names = ['weight_hh_l0', 'weight_hh_l1']
    ours, theirs = WeightDropout(copy.deepcopy(rnn), .5, names), fa.WeightDropout(rnn, .5, names)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x = torch.randn(2, 3, 4)
    assert torch.equal(seeded(lambda: ours(x)[0]), seeded(lambda: theirs(x)[0]))
    with pytest.raises(RuntimeError): ours(torch.randn(2, 3, 5))
    ours.eval(); theirs.eval()
    assert close(ours(x)[0], theirs(x)[0])


@pytest.mark.parametrize('train', [True, False])
def test_the_whole_logits_never_exist(train):
    vocab, n = 12_000, 4*20
    m = get_language_model(AWD_LSTM, vocab, small, lazy=True)
    x, y = torch.randint(0, vocab, (2, 4, 20))
    with torch.set_grad_enabled(train), Largest() as big:
        logits = m.train(train)(x)[0]
        loss = ChunkedCrossEntropy(chunk=7)(logits, y)
        if train: loss.backward()
    assert big.n <= (vocab*12 if train else 7*vocab), (
        'in training the gradient of the embedding, else a piece of the logits')
    assert 7*vocab < vocab*12 < n*vocab
    import lesson8nlp.losses as mod
    with pytest.MonkeyPatch.context() as mp, Largest() as big:
        mp.setattr(mod, 'chunk_size', lambda w: 5)
        best = logits.argmax(-1)
    assert big.n <= 5*vocab and torch.equal(best, logits.full().argmax(-1))


# ---- training
def loaders(n=6, bs=4, sl=9):
    g = torch.Generator().manual_seed(3)
    data = lambda: [tuple(torch.randint(0, V, (2, bs, sl), generator=g)) for _ in range(n)]
    dls = DataLoaders(DataLoader(data(), bs=None), DataLoader(data(), bs=None), device='cpu')
    dls.vocab = [str(i) for i in range(V)]
    return dls


def our_learner(dls=None, **kw):
    return TextLearner(dls or loaders(), get_language_model(AWD_LSTM, V, small, lazy=True),
        loss_func=ChunkedCrossEntropy(chunk=10), opt_func=fused_adam, splitter=awd_lstm_lm_split, **kw)


def test_training_is_fastais_training():
    "The whole Learner, AR, TAR, unfreezing, weight decay and a schedule: the same weights after 12 steps."
    theirs = language_model_learner(loaders(), fa.AWD_LSTM, config=small, pretrained=False, metrics=accuracy)
    ours = our_learner(metrics=accuracy)
    ours.model.load_state_dict(theirs.model.state_dict())
    def fit(learn):
        with learn.no_bar(), learn.no_logging():
            learn.freeze()
            learn.fit(1, 1e-3, wd=.1)
            learn.unfreeze()
            learn.fit_one_cycle(1, slice(1e-4, 1e-3))
        return learn.recorder.values[-1]
    a, b = seeded(lambda: fit(ours)), seeded(lambda: fit(theirs))
    assert close(torch.tensor(a), torch.tensor(b), 1e-4)
    for (n, p), q in zip(ours.model.named_parameters(), theirs.model.parameters()): assert close(p, q, 2e-5), n


def test_tar_of_one_time_step_is_zero():
    "The mean of no differences would be NaN, and one step with it would ruin all weights; fastai's TAR is NaN there."
    assert temporal_activation_reg(torch.randn(4, 1, 12)) == 0 and temporal_activation_reg(torch.randn(1, 2, 12)) > 0
    learn = our_learner(loaders(sl=1))
    before = learn.model[0].rnns[0].weight_hh_l0_raw.detach().clone()
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-2)
    assert all(p.isfinite().all() for p in learn.model.parameters())
    assert not torch.equal(learn.model[0].rnns[0].weight_hh_l0_raw, before)


def test_predictions_and_their_losses():
    learn = our_learner()
    with learn.no_bar(), full_logits(learn.model):
        preds, targs, losses = learn.get_preds(with_loss=True, concat_dim=0, reorder=False)
    assert preds.shape == (24, 9, V) and close(preds.sum(-1), torch.ones(24, 9))
    with learn.no_bar(), learn.no_logging(): assert close(losses.mean(), torch.tensor(learn.validate()[0]))


def test_fastais_learner_takes_our_encoder():
    learn = language_model_learner(loaders(), AWD_LSTM, config=small, pretrained=False)
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-2)
    assert isinstance(learn.model[0], AWD_LSTM) and len(learn.opt.param_lists) == 4


# ---- other devices, export and compilation
class OtherDevice(TorchDispatchMode):
    "A device without double precision and without a fused optimizer step, as far as a CPU can stand in for one."
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if '_fused_adam' in str(func): raise NotImplementedError(f'Could not run {func} on this device')
        out = func(*args, **(kwargs or {}))
        for o in [*args, *(kwargs or {}).values(), *(out if isinstance(out, (tuple, list)) else [out])]:
            if getattr(o, 'dtype', o) is torch.float64: raise TypeError(f'{func}: this device has no float64')
        return out


@pytest.mark.parametrize('loss_func', [ChunkedCrossEntropy(chunk=10), SampledCrossEntropy(torch.arange(V))],
                         ids=['chunked', 'sampled'])
def test_training_without_double_precision_and_fused_steps(loss_func):
    from lesson8nlp.learner import lm_metrics
    def make():
        torch.manual_seed(1)
        model = get_language_model(AWD_LSTM, V, small, lazy=True)
        return TextLearner(loaders(), model, loss_func=loss_func, opt_func=fused_adam, splitter=awd_lstm_lm_split,
                           metrics=lm_metrics())
    def fit(learn):
        with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-2, wd=.1)
        return learn
    with OtherDevice(): there = seeded(lambda: fit(make()))
    here = seeded(lambda: fit(make()))
    assert not there.opt.fused and here.opt.fused
    for (n, p), q in zip(there.model.named_parameters(), here.model.named_parameters()): assert close(p, q[1], 1e-5), n
    assert close(torch.tensor(there.recorder.values[-1]), torch.tensor(here.recorder.values[-1]), 1e-4)


@pytest.mark.parametrize('lazy', [False, True])
@pytest.mark.parametrize('strict', [False, True])
def test_models_can_be_exported(lazy, strict):
    "`torch.export` gives a program with the model's logits, and leaves a model that works."
    m, x = get_language_model(AWD_LSTM, V, small, lazy=lazy).eval(), torch.randint(0, V, (2, 7))
    want = m(x)[0]
    want = want.full() if lazy else want
    m.reset()
    assert close(torch.export.export(m, (x,), strict=strict).module()(x)[0], want)
    m.reset()
    again = m(x)[0]
    assert close(again.full() if lazy else again, want)
    with expect_fail(ValueError, 'knows 0 to'): m(torch.full((1, 2), V))


# ---- errors
@pytest.mark.parametrize('p', [-.1, 1., 1.5, float('nan')])
def test_probabilities(p):
    for f in (lambda: RNNDropout(p), lambda: EmbeddingDropout(nn.Embedding(3, 2), p),
              lambda: WeightDropout(nn.LSTM(2, 2), p), lambda: LinearDecoder(3, 2, p),
              lambda: dropout_mask(torch.ones(1), (2,), p),
              *[lambda k=k: AWD_LSTM(V, 4, 4, 1, **{k: p}) for k in ('hidden_p', 'input_p', 'embed_p', 'weight_p')]):
        with expect_fail(ValueError, 'below 1'): f()


def test_sizes_and_ids():
    for kw, words in ((dict(n_layers=0), 'n_layers is 0'), (dict(emb_sz=0), 'emb_sz is 0'),
                      (dict(vocab_sz=0), 'vocab_sz is 0'), (dict(n_hid=-3), 'n_hid is -3'),
                      (dict(n_hid=5, bidir=True), 'must be even'), (dict(pad_token=V), f'0 to {V - 1}')):
        with expect_fail(ValueError, words): AWD_LSTM(**(dict(vocab_sz=V, emb_sz=4, n_hid=4, n_layers=2) | kw))
    m = AWD_LSTM(V, 4, 4, 1)
    for x, e, words in ((torch.tensor([[V]]), ValueError, f'from {V} to {V}'),
                        (torch.tensor([[-1]]), ValueError, 'from -1'),
                        (torch.tensor([1, 2]), ValueError, '(2,)'), (torch.rand(1, 2), TypeError, 'float32')):
        with expect_fail(e, words): m(x)
    assert m(torch.rand(2, 3, 4), from_embeds=True).shape == (2, 3, 4)
    with expect_fail(ValueError, 'weight_xx'): WeightDropout(nn.LSTM(2, 2), .1, 'weight_xx')


# ---- with a GPU, and the benchmark
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_on_a_gpu():
    ours, theirs = pair(lazy=True)
    ours.cuda(); theirs.cuda()
    for rnn in ours[0].rnns:
        assert len({p.untyped_storage().data_ptr() for p in rnn.parameters()}) == 1, 'one piece of memory for cuDNN'
    x, y = torch.randint(0, V, (2, 4, 9), device='cuda')
    def run(m, loss_func):
        m.train(); m.reset()
        loss = loss_func(m(x)[0].flatten(0, 1), y.flatten())
        loss.backward()
        return loss.detach()
    assert close(seeded(lambda: run(ours, ChunkedCrossEntropy(chunk=7))), seeded(lambda: run(theirs, F.cross_entropy)))
    for p, q in zip(ours.parameters(), theirs.parameters()): assert close(p.grad, q.grad, 1e-4)
    import warnings
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        ours.eval()(x)


@pytest.mark.slow
def test_the_benchmark_of_a_step_runs(tmp_path):
    here = Path(__file__).resolve().parent.parent
    r = subprocess.run([sys.executable, here/'benchmarks'/'step.py', '--quick', '--out', tmp_path], capture_output=True,
                       text=True)
    assert r.returncode == 0 and 'a training step, 1 thread' in r.stdout, r.stderr
    r = subprocess.run([sys.executable, here/'benchmarks'/'step.py', '--quick'], capture_output=True, text=True)
    assert r.returncode == 2 and '--out' in r.stderr


def test_dropout_without_a_config_is_fastais():
    assert (awd_lstm_lm_config, awd_lstm_clas_config) == (fa.awd_lstm_lm_config, fa.awd_lstm_clas_config)
