"What notebooks cannot show well about learners: measures and weights from elsewhere."
import json, math, os, pickle, random, shutil, signal, socket, subprocess, sys, textwrap, time
from contextlib import nullcontext
from pathlib import Path

import lesson8nlp.core
import numpy as np, pytest, safetensors.torch, torch
from fastai.basics import Adam, Callback, CrossEntropyLossFlat, DataLoaders, F, L, Learner, Module, OptimWrapper, SGD, \
    accuracy, nn, partial, ranger, set_seed
from fastai.callback.schedule import *
from fastai.callback.tracker import EarlyStoppingCallback, SaveModelCallback, TerminateOnNaNCallback
from fastai.callback.training import GradientAccumulation, GradientClip
from fastai.text import learner as fl
from fastai.text.all import AWD_LSTM as FastaiAWD, Interpretation, Perplexity, \
    language_model_learner as fastai_lm_learner, load_learner, top_k_accuracy

from lesson8nlp import models as lm
from lesson8nlp.awdlstm import *
from lesson8nlp.classifier import get_text_classifier
from lesson8nlp.losses import *
from lesson8nlp.dataloader import *
from lesson8nlp.fasttok import FastTokenizer
from lesson8nlp.learner import *
from lesson8nlp.tokenizer import *
from small_runs import *

# ---- measures

class Fixed(Module):
    def __init__(self): self.w = nn.Parameter(torch.zeros(1))
    def forward(self, x): return x + 0*self.w


@pytest.mark.parametrize('seed', range(8))
def test_measures_are_of_the_stream(seed):
    "However tokens fall into batches, and with padding, every measure is that of all counted tokens in one batch."
    g, rng = torch.Generator().manual_seed(seed), random.Random(seed)
    batches = []
    for _ in range(rng.randint(1, 6)):
        bs, sl = rng.randint(1, 5), rng.randint(1, 9)
        y = torch.randint(0, 7, (bs, sl), generator=g)
        y[torch.rand(bs, sl, generator=g) < 0.3] = -100
        batches.append((torch.randn(bs, sl, 7, generator=g)*3, y))
    x, y = torch.cat([x.flatten(0, 1) for x, _ in batches]), torch.cat([y.flatten() for _, y in batches])
    if (y != -100).sum() == 0: return
    learn = Learner(DataLoaders([], batches), Fixed(), loss_func=CrossEntropyLossFlat(),
                    metrics=[TokenLoss(), *lm_metrics()])
    with learn.no_bar(): _, loss, acc, ppl, bits = learn.validate()
    nll, keep = F.cross_entropy(x, y).item(), y != -100
    assert (loss == pytest.approx(nll, rel=1e-5) and ppl == pytest.approx(math.exp(nll), rel=1e-5)
            and bits == pytest.approx(nll/math.log(2), rel=1e-5))
    assert acc == pytest.approx((x.argmax(-1) == y)[keep].float().mean().item(), rel=1e-6)


def test_measures_with_no_token_that_counts():
    batches = [(torch.zeros(2, 3, 4), torch.full((2, 3), -100)),
               (torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.long))]
    learn = Learner(DataLoaders([], batches), Fixed(), loss_func=CrossEntropyLossFlat(), metrics=lm_metrics())
    with learn.no_bar(): assert list(learn.validate())[1:] == pytest.approx([1., 4., 2.])
    learn = Learner(DataLoaders([], batches[:1]), Fixed(), loss_func=CrossEntropyLossFlat(), metrics=lm_metrics())
    with learn.no_bar(): assert list(learn.validate()[1:]) == [None]*3


def test_lazy_logits_give_the_same_measures():
    learn = learner(metrics=lm_metrics())
    with learn.no_bar(): lazy = learn.validate()
    with full_logits(learn.model), learn.no_bar(): full = learn.validate()
    assert learn.model[1].lazy and list(lazy) == pytest.approx(list(full), rel=1e-5)
    with learn.no_bar(): preds, targs = learn.get_preds()
    assert (preds.shape[:2] == targs.shape
            and -preds.gather(-1, targs[..., None]).log().mean().item() == pytest.approx(lazy[0], rel=1e-4))


class Keeper(Callback):
    "Keep the predictions of each step, and what they said before it."
    order = 10
    def before_fit(self): self.kept, self.then = [], []
    def after_loss(self):
        if self.training:
            self.kept.append(self.pred)
            self.then.append(self.pred.softmax(-1).detach())


def of_torch(params, lr, **kwargs): return OptimWrapper(params, torch.optim.AdamW, lr=lr)


@pytest.mark.parametrize('opt_func', [fused_adam, Adam, SGD, ranger, of_torch])
def test_predictions_that_a_callback_keeps_are_those_of_their_step(opt_func):
    "or an error, and within `full_logits` as with fastai; every optimizer is noticed."
    learn = learner(opt_func=opt_func, cbs=Keeper())
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-2)
    assert learn.keeper.kept
    for o in learn.keeper.kept:
        with pytest.raises(RuntimeError, match='weights have changed'): o.softmax(-1)
    with learn.no_bar(), learn.no_logging(), full_logits(learn.model): learn.fit(1, 1e-2)
    for a, b in zip(learn.keeper.kept, learn.keeper.then): assert torch.equal(a.softmax(-1), b)


@pytest.mark.parametrize('opt_func', [fused_adam, Adam])
@pytest.mark.parametrize('cbs', [None, partial(GradientAccumulation, 8)])
def test_train_metrics_are_of_the_weights_before_the_step(opt_func, cbs):
    "fastai's `Recorder` asks for them after it."
    values = []
    for full in (False, True):
        learn = learner(opt_func=opt_func, metrics=[TokenAccuracy(), accuracy, Perplexity()], cbs=cbs and cbs())
        learn.recorder.train_metrics = True
        with learn.no_bar(), learn.no_logging(), full_logits(learn.model) if full else nullcontext():
            learn.fit(2, 5e-2)
        values.append(list(learn.recorder.values[-1]))
    assert values[0] == pytest.approx(values[1], rel=1e-4)


# ---- weights from elsewhere

@pytest.mark.parametrize('seed', range(6))
def test_match_embeds_is_fastais(seed):
    rng = np.random.default_rng(seed)
    old, new = ([f'w{i}' for i in rng.integers(0, 60, n)] for n in rng.integers(1, 80, 2))
    if seed % 2: old = list(dict.fromkeys(old))
    w = {'0.encoder.weight': torch.randn(len(old), 3)}
    if seed % 3:
        w |= {'0.encoder_dp.emb.weight': torch.randn(len(old), 3), 'more': torch.ones(1),
              '1.decoder.weight': torch.randn(len(old), 3), '1.decoder.bias': torch.randn(len(old))}
    a, b = match_embeds(dict(w), old, new), fl.match_embeds(dict(w), old, new)
    assert list(a) == list(b) and all(torch.equal(a[k], b[k]) for k in a)
    r = match_report(old, new)
    assert r.missing == [o for o in new if o not in set(old)] and r.found + len(r.missing) == len(new)


def test_weights_of_fastai_and_back(tmp_path):
    "A model that fastai has saved is loaded, whole and as an encoder, and the other way round."
    dls = loaders()
    theirs = fastai_lm_learner(dls, FastaiAWD, config=small, pretrained=False, path=tmp_path)
    theirs.save('t'); theirs.save_encoder('t_enc')
    (tmp_path/'models'/'t.pkl').write_bytes(pickle.dumps(vocab))
    ours = learner(seed=1, dls=dls, path=tmp_path, pretrained_fnames=None)
    ours.load('t')
    assert same(weights(ours), weights(theirs))
    ours = language_model_learner(dls, AWD_LSTM, config=small, pretrained_fnames=['t', 't'], path=tmp_path)
    assert (all(torch.equal(a, b) for a, b in zip(weights(ours).values(), weights(theirs).values()))
            and ours.opt.frozen_idx == 2 and ours.vocab_match.missing == [])
    fit(ours, epochs=1)
    ours.save('o', with_opt=False); ours.save_encoder('o_enc')
    theirs.load('o', weights_only=True)
    assert same(weights(ours), weights(theirs))
    learner(seed=2, dls=dls, path=tmp_path).load_encoder('t_enc')
    theirs.load_encoder('o_enc')


def as_text_model(learn, words=vocab): # the language model of a learner
    from lesson8nlp.codec import Codec
    from lesson8nlp.ulmfit import TextModel
    learn.dls.codec = Codec(str.split, words)
    return TextModel.from_learner(learn)


def test_the_encoder_of_a_language_model(tmp_path):
    "Of a TextModel, and of the folder that it was saved in; a file of the learner with that name comes first."
    lm, want = as_text_model(learner(seed=1)), {k: v.clone() for k, v in learner(seed=1).model[0].state_dict().items()}
    folder = lm.save(tmp_path/'lm')
    for file in (lm, folder, str(folder)):
        ours = learner(seed=2, path=tmp_path).load_encoder(file)
        assert same(ours.model[0].state_dict(), want) and ours.opt.frozen_idx == 2 and list(ours.loaded) == ['encoder']
        assert ours.model[1].decoder.weight is ours.model[0].encoder.weight
    learner(seed=3, path=tmp_path).save_encoder(folder)
    assert not same(learner(path=tmp_path).load_encoder(folder).model[0].state_dict(), want)
    with pytest.raises(FileNotFoundError, match='neither.pth'): learner(path=tmp_path).load_encoder('neither')


def test_an_encoder_that_does_not_fit_is_refused(tmp_path):
    from lesson8nlp.ulmfit import TextModel
    lm, learn = as_text_model(learner()), learner(seed=2, path=tmp_path)
    before = weights(learn)
    head = get_text_classifier(AWD_LSTM, len(vocab), 2, config={k: small[k] for k in ('emb_sz', 'n_hid', 'n_layers')})
    clf = TextModel(head, lm.codec)
    for file, kind, why in (
        (as_text_model(learner(config=small | dict(n_hid=16))), ValueError, 'n_hid=16.*n_hid=12.*config'),
        (as_text_model(learner(), vocab[:2] + vocab[:1:-1]), ValueError, 'stand for other words'),
        (clf, TypeError, 'needs a language_model'), (clf.save(tmp_path/'c'), TypeError, 'needs a language_model'),
        (lm.save(tmp_path/'small', compact=True), ValueError, 'compact=True.*TextModel.load')):
        with pytest.raises(kind, match=why): learn.load_encoder(file)
    (tmp_path/'small'/'vocab.json').write_text('[]')
    with pytest.raises(ValueError, match='truncated or altered'): learn.load_encoder(tmp_path/'small')
    assert same(weights(learn), before)


def test_one_epoch_of_fastai():
    "The same start, dropout and data: the same losses."
    res = []
    for make, arch in ((fastai_lm_learner, FastaiAWD), (language_model_learner, AWD_LSTM)):
        set_seed(3, reproducible=True)
        learn = make(loaders(), arch, config=small, pretrained=False)
        res.append([float(o) for o in fit(learn, epochs=1).recorder.losses])
    assert res[0] == pytest.approx(res[1], abs=1e-4)


def test_files_that_run_code_are_not_opened(tmp_path):
    touched = tmp_path/'touched'
    class Bad:
        def __reduce__(self): return os.system, (f'touch {touched}',)
    (tmp_path/'models').mkdir()
    torch.save(Bad(), tmp_path/'models'/'w.pth'); torch.save(learner().model.state_dict(), tmp_path/'models'/'good.pth')
    for n, o in dict(w=Bad(), good=['a', Bad()]).items(): (tmp_path/'models'/f'{n}.pkl').write_bytes(pickle.dumps(o))
    for names in (['w', 'good'], ['good', 'good'], ['good', 'w']):
        with pytest.raises(ValueError, match='not opened'):
            language_model_learner(loaders(), AWD_LSTM, config=small, pretrained_fnames=names, path=tmp_path)
    with pytest.raises(ValueError, match='not opened'): learner(path=tmp_path).load_encoder('w')
    with pytest.raises(Exception, match='Weights only'): learner(path=tmp_path).load('w')
    assert not touched.exists()


def test_bf16_trains_on_a_cpu():
    learn = fit(learner().to_bf16(), epochs=1)
    assert (all(math.isfinite(float(o)) for o in learn.recorder.losses)
            and all(p.dtype == torch.float32 for p in learn.model.parameters()))
    plain, fp16 = fit(learner(), epochs=1), fit(learner().to_fp16(), epochs=1)
    assert same(weights(plain), weights(fp16)) and not same(weights(plain), weights(learn))


# ---- what a user of fastai does

class ReadsPred(Callback):
    "A callback that was written for tensors."
    order = -10
    def after_loss(self):
        self.seen = [self.pred.softmax(-1).shape[-1], (2*self.pred).max().item(), self.pred.argmax(dim=-1).shape]


def their_cross_entropy(p, y): return F.cross_entropy(p.view(-1, p.shape[-1]), y.view(-1))


@pytest.mark.parametrize('prepare', [lambda l: l, TextLearner.to_bf16], ids=['fp32', 'bf16'])
def test_foreign_metrics_and_callbacks(prepare):
    learn = prepare(learner(metrics=[top_k_accuracy, Perplexity(), their_cross_entropy, accuracy, TokenAccuracy()],
                            cbs=ReadsPred()))
    fit(learn, epochs=1)
    loss, topk, ppl, ce, acc, token_acc = learn.recorder.values[-1][1:]
    assert (ce == pytest.approx(loss, rel=.05) and math.exp(loss) == pytest.approx(ppl, rel=.1) and topk > acc
            and acc == pytest.approx(token_acc, abs=.02))
    assert learn.reads_pred.seen[0] == len(vocab)


def test_everyday_calls(tmp_path, capsys):
    learn = learner(path=tmp_path)
    with learn.no_bar(), learn.no_logging():
        assert 'Total params' in learn.summary()
        assert 0 < learn.lr_find(show_plot=False).valley < 10
        learn.fine_tune(1, 1e-2)
        learn.fit_flat_cos(1, 1e-2, cbs=[SaveModelCallback(), EarlyStoppingCallback(), GradientAccumulation(8),
                                         TerminateOnNaNCallback()])
        before = learn.validate()
        preds, targs, losses = learn.get_preds(with_loss=True)
        x, p, y, decoded, _ = learn.get_preds(with_input=True, with_decoded=True, with_loss=True)
        learn.show_results(max_n=2)
        Interpretation.from_learner(learn)
        learn.export('whole.pkl')
        again = load_learner(tmp_path/'whole.pkl')
    assert (preds.shape == (*targs.shape, len(vocab)) and torch.equal(decoded, preds.argmax(-1))
            and torch.equal(p, preds))
    assert losses.mean().item() == pytest.approx(-preds.gather(-1, targs[..., None]).log().mean().item(), rel=.02)
    assert same(weights(again), weights(learn)) and len(before) == 2


def test_three_outputs_may_come_as_a_list():
    class Lists(Module):
        def __init__(self): self.m = lm.LMModel7(len(vocab), 12, 2, 0.3)
        def reset(self): self.m.reset()
        def forward(self, x):
            logits, raw, out = self.m(x)
            return [logits, [raw], [out]]
    a = fit(TextLearner(loaders(), Lists(), loss_func=CrossEntropyLossFlat()), epochs=1)
    assert all(math.isfinite(float(o)) for o in a.recorder.losses) and a.rnn.raw_out.ndim == 3
    class Two(Lists):
        def forward(self, x): return super().forward(x)[:2]
    with pytest.raises(TypeError, match='a list of 2'):
        fit(TextLearner(loaders(), Two(), loss_func=CrossEntropyLossFlat()))


class Home(AWD_LSTM): pass


def test_an_architecture_of_ones_own_without_a_url(monkeypatch):
    from fastai.text.models.core import _model_meta
    meta = {k: v for k, v in _model_meta[AWD_LSTM].items() if not k.startswith('url')}
    monkeypatch.setitem(_model_meta, Home, meta)
    fit(language_model_learner(loaders(), Home, config=small, pretrained=False), epochs=1)
    with pytest.warns(UserWarning, match='no pretrained weights for Home'):
        learn = language_model_learner(loaders(), Home, config=small)
    assert isinstance(learn.model[0], Home)


@pytest.mark.parametrize('opt_func', [fused_adam, Adam])
def test_pretrained_from_what_save_wrote(tmp_path, opt_func):
    "Weights and the optimizer's state in one file, as `learn.save` writes them."
    learn = fit(learner(path=tmp_path, opt_func=opt_func), epochs=1)
    learn.save('both')
    (tmp_path/'models'/'both.pkl').write_bytes(pickle.dumps(vocab))
    again = language_model_learner(loaders(), AWD_LSTM, config=small, pretrained_fnames=['both', 'both'], path=tmp_path)
    assert same(weights(again), weights(learn))
    other = learner(seed=3, path=tmp_path, opt_func=opt_func)
    steps = lambda l: [s.get('step') for s in l.opt.state_dict()['state']]
    assert (steps(other.load('both', with_opt=True)) == steps(learn)
            and steps(learner(path=tmp_path).load('both', with_opt=False)) == [None]*len(steps(learn)))
    whole = (tmp_path/'models'/'both.pth').read_bytes()
    (tmp_path/'models'/'both.pth').write_bytes(whole[:len(whole)//2])
    with pytest.raises(ValueError, match='both.pth is damaged'):
        language_model_learner(loaders(), AWD_LSTM, config=small, pretrained_fnames=['both', 'both'], path=tmp_path)


@pytest.mark.parametrize('opt_func', [fused_adam, Adam])
def test_load_with_opt(tmp_path, opt_func):
    "True restores the optimizer's state as saved, False leaves it out, and the default is fastai's."
    def state(learn):
        return [{k: torch.as_tensor(v).clone() for k, v in s.items()} for s in learn.opt.state_dict()['state']]
    def equal(a, b):
        return len(a) == len(b) and all(list(s) == list(t) and all(torch.equal(s[k], t[k]) for k in s)
                                        for s, t in zip(a, b))
    learn = fit(learner(path=tmp_path, opt_func=opt_func), epochs=1)
    learn.save('o')
    saved = state(learn)
    assert (isinstance(learn, SafeLearner) and any(saved)
            and all(torch.isfinite(v).all() for s in saved for v in s.values()))
    for kw in (dict(with_opt=True), dict(with_opt=False), {}):
        again = learner(seed=3, path=tmp_path, opt_func=opt_func)
        again.create_opt()
        empty = state(again)
        again.load('o', **kw)
        assert same(weights(again), weights(learn)) and not equal(saved, empty)
        assert equal(state(again), empty if kw.get('with_opt') is False else saved), kw
    theirs = fastai_lm_learner(loaders(), FastaiAWD, config=small, pretrained=False, path=tmp_path, opt_func=Adam)
    fit(theirs, epochs=1).save('t')
    for make, arch in ((fastai_lm_learner, FastaiAWD), (language_model_learner, AWD_LSTM)):
        again = make(loaders(), arch, config=small, pretrained=False, path=tmp_path, opt_func=Adam)
        assert equal(state(again.load('t')), state(theirs)), make.__module__


def test_load_says_that_a_file_has_no_optimizer(tmp_path):
    learn = fit(learner(path=tmp_path), epochs=1)
    learn.save('without', with_opt=False)
    with pytest.warns(UserWarning, match='optimizer'): learn.load('without', with_opt=True)


@pytest.mark.parametrize('in_place', [False, True])
def test_a_compiled_model_is_trained_and_saved_under_its_plain_names(tmp_path, in_place):
    plain, learn = learner(), learner(path=tmp_path)
    if in_place: learn.model.compile(backend='eager')
    else: learn.model = torch.compile(learn.model, backend='eager')
    for l in (plain, learn):
        set_seed(5, reproducible=True)
        fit(l, epochs=1)
    learn.save('c'); learn.save_encoder('c_enc')
    saved = torch.load(tmp_path/'models'/'c.pth', weights_only=False)['model']
    assert list(saved) == list(plain.model.state_dict())
    for (n, a), b in zip(saved.items(), plain.model.state_dict().values()): assert torch.allclose(a, b, atol=1e-4), n
    other = learner(seed=4, path=tmp_path).load('c')
    assert same(weights(other), saved)
    other.load_encoder('c_enc'); learn.load('c'); learn.load_encoder('c_enc')
    assert (plain_model(learn.model) is plain_model(torch.nn.DataParallel(learn.model))
            and len(learn.opt.param_lists) == 3)


# ---- a fit that goes wrong

def test_a_loss_that_is_no_number_stops_the_fit():
    learn = learner()
    with pytest.raises(ValueError, match=r'The loss is (nan|inf) at step \d+ of epoch 0, and the weights are ruined '
                                         r'\(first in .*lower learning rate') as e:
        fit(learn, lr=1e35)
    assert learn.train_iter < 5


@pytest.mark.parametrize('patience,n_bad,stops', [(20, 3, False), (3, 3, True), (3, 2, False)])
def test_a_loss_that_recovers_does_not(patience, n_bad, stops):
    "Steps whose loss is not finite while the weights stay finite, as the scaler of fp16 makes them."
    class Overflow(Callback):
        run_valid = False
        def after_loss(self):
            if 2 <= self.train_iter < 2 + n_bad:
                self.learn.loss = torch.tensor(math.inf)
                self.learn.loss_grad = self.learn.loss_grad*0
    learn = learner(cbs=Overflow())
    learn.stop_on_na_n.patience = patience
    if stops:
        with pytest.raises(ValueError, match='has been so for 3 steps'): fit(learn, epochs=1)
    else: assert fit(learn, epochs=1).recorder.values


def test_a_ruined_fit_is_not_stored_as_finished(tmp_path):
    from lesson8nlp.resume import CheckpointCallback
    class Ruin(Callback):
        def before_batch(self):
            if self.training and self.train_iter == 9: next(self.model.parameters()).data.fill_(math.nan)
    done = []
    class End(Callback):
        def after_fit(self): done.append(1)
    with pytest.raises(ValueError, match='The loss is nan'):
        fit(learner(), Ruin(), End(), CheckpointCallback(tmp_path/'c', every=1, verbose=False))
    names = sorted(p.name for p in (tmp_path/'c').iterdir())
    assert not done and names and not any('end' in n for n in names) and names[-1].startswith('00000009')


def test_the_learning_rate_finder_may_explode():
    learn = learner()
    with learn.no_bar(), learn.no_logging():
        learn.lr_find(start_lr=1e-3, end_lr=1e30, num_it=40, stop_div=False, show_plot=False, suggest_funcs=[])
    assert all(torch.isfinite(p).all() for p in learn.model.parameters())


class Interrupt(Callback):
    order = 11 # after MixedPrecision has begun
    def __init__(self, event, error): setattr(self, event, self.stop); self.error = error
    def stop(self): raise self.error()


@pytest.mark.parametrize('where', ['in the model', 'before_batch', 'after_pred', 'before_backward', 'in validation'])
def test_an_interrupt_leaves_no_autocast(where, monkeypatch):
    learn, cbs = learner().to_bf16(), []
    if where in ('in the model', 'in validation'):
        forward = type(learn.model[1]).forward
        def interrupted(self, x):
            if where == 'in the model' or not self.training: raise KeyboardInterrupt
            return forward(self, x)
        monkeypatch.setattr(type(learn.model[1]), 'forward', interrupted)
    else: cbs = [Interrupt(where, KeyboardInterrupt)]
    with pytest.raises(KeyboardInterrupt): fit(learn, *cbs, epochs=1)
    assert not torch.is_autocast_enabled('cpu') and (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    monkeypatch.undo()
    fit(learn, epochs=1)
    assert not torch.is_autocast_enabled('cpu')


@pytest.mark.parametrize('where', ['fit', 'validate'])
def test_an_interrupt_of_a_plain_learner_leaves_no_autocast(where, monkeypatch):
    "The callback itself sees to it, whatever learner it is put on; what is added to the learner goes after the fit."
    learn = Learner(loaders(), lm.LMModel7(len(vocab), 12, 2, 0.3), loss_func=CrossEntropyLossFlat(),
                    cbs=[*rnn_cbs(), MixedPrecision('bf16')])
    fit(learn, epochs=1)
    assert 'one_batch' not in vars(learn)
    monkeypatch.setattr(learn.model, 'forward', lambda x: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt), learn.no_bar(), learn.no_logging():
        learn.fit(1) if where == 'fit' else learn.validate()
    assert not torch.is_autocast_enabled('cpu')
    monkeypatch.undo()
    fit(learn, epochs=1)
    assert not torch.is_autocast_enabled('cpu') and 'one_batch' not in vars(learn)


@pytest.mark.parametrize('words', [['xxunk', 'w0', 'xxpad'] + [f'w{i}' for i in range(1, 30)],
                                   [f'w{i}' for i in range(32)]], ids=['pad is 2', 'no pad'])
def test_only_padding_gets_no_gradient(words):
    "The configuration says 1; the vocab of the data decides, and the word with the id 1 learns."
    dls = DataLoaders(*(LMDataLoader(stream, bs=8, seq_len=10, vocab=words) for _ in range(2)), device='cpu')
    dls.vocab = words
    for config in (small, None):
        learn = language_model_learner(dls, AWD_LSTM, config=config, pretrained=False, path='.')
        assert learn.model[0].encoder.padding_idx == learn.model[0].pad_token == (2 if 'xxpad' in words else None)
    assert small['pad_token'] == 1 and awd_lstm_lm_config['pad_token'] == 1
    learn = language_model_learner(dls, AWD_LSTM, config=small | dict(tie_weights=False), pretrained=False, path='.')
    learn.model.eval()(torch.arange(32)[None])[0].full().sum().backward()
    empty = (learn.model[0].encoder.weight.grad == 0).all(1).nonzero().flatten().tolist()
    assert empty == [2]*('xxpad' in words)


def test_a_classifier_needs_padding():
    dls = loaders()
    dls.vocab, dls.c = [[f'w{i}' for i in range(8)], ['a', 'b']], 2
    from lesson8nlp.classifier import text_classifier_learner
    with pytest.raises(ValueError, match='The vocab has no xxpad, but batches of documents need padding: '
                                         'add it to the vocab'):
        text_classifier_learner(dls, AWD_LSTM, config=dict(emb_sz=8, n_hid=12, n_layers=1), pretrained=False)


@pytest.mark.parametrize('kind', [Learner, TextLearner])
def test_a_batch_that_is_cancelled_leaves_no_autocast(kind):
    from fastai.basics import CancelBatchException
    learn = kind(loaders(), lm.LMModel7(len(vocab), 12, 2, 0.3), loss_func=CrossEntropyLossFlat(),
                 cbs=[*(rnn_cbs() if kind is Learner else []), MixedPrecision('bf16')])
    fit(learn, Interrupt('after_pred', CancelBatchException), epochs=1)
    assert not torch.is_autocast_enabled('cpu')


# ---- what the machine can do

@pytest.mark.parametrize('units,want', [
    (dict(avx512_bf16=True), torch.bfloat16), (dict(amx_bf16=True), torch.bfloat16),
    (dict(avx512_bf16=False, avx2=True), torch.float32), ({}, torch.float32)])
def test_fast_dtype_asks_torch(monkeypatch, units, want):
    monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: units)
    assert fast_dtype('cpu') == want and fast_dtype('mps') == torch.float32
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation=True: including_emulation)
    assert fast_dtype('cuda') == torch.float16
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation=True: True)
    assert fast_dtype(torch.device('cuda:0')) == torch.bfloat16


def test_importing_leaves_the_warning_filters_alone():
    code = ('import warnings, lesson8nlp.core, lesson8nlp.learner, lesson8nlp.all\n'
            'assert not [f for f in warnings.filters if f[1] and "torch.jit.script" in f[1].pattern]')
    r = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert r.returncode == 0 and 'torch.jit.script' not in r.stderr, r.stderr


def test_rates_of_gradual_unfreezing_are_those_of_the_paper():
    "Howard and Ruder 2018, section 3.2: each layer has the rate of the one above it, divided by 2.6."
    last = learner().gradual_schedule(1.)['learning rates'].iloc[-1]
    # half from stage to stage
    assert (len(last) == 3 and [b/a for a, b in zip(last, last[1:])] == pytest.approx([2.6]*2)
            and last[-1] == 0.25)


def test_what_is_shown_before_gradual_unfreezing_is_what_is_done():
    "Both have the same settings by themselves: one epoch for each stage, and two for the last."
    from inspect import signature
    a, b = ({k: p.default for k, p in signature(f).parameters.items() if k in 'epochs last_epochs factor decay'.split()}
            for f in (SafeLearner.gradual_schedule, SafeLearner.fit_gradual))
    assert a == b == dict(epochs=1, last_epochs=2, factor=2.6, decay=0.5)


def test_twenty_steps_may_be_lost_to_a_scaler():
    "The scaler of fp16 begins at 2**16, and halves until nothing overflows."
    assert StopOnNaN().patience == learner().stop_on_na_n.patience == 20


def test_validation_does_not_go_on_with_the_state_of_training():
    learn, resets = learner(), []
    reset = learn.model.reset
    learn.model.reset = lambda: (resets.append(learn.model.training), reset())
    fit(learn, epochs=2)
    # before training, before validation, after the fit; the first one is fastai's own
    assert resets[1:] == [True, False]*2 + [False]


@pytest.mark.parametrize('words', [[1, 2], 7, {'a': 1}, 'abc', [['a', 1], ['neg', 'pos']], [['a'], 3]], ids=str)
@pytest.mark.parametrize('ext', ['json', 'pkl'])
def test_a_vocab_file_holds_words_only(tmp_path, words, ext):
    from lesson8nlp.training import _read_vocab
    (tmp_path/f'v.{ext}').write_bytes(json.dumps(words).encode() if ext == 'json' else pickle.dumps(words))
    if words == [['a'], 3]: assert _read_vocab(tmp_path/f'v.{ext}') == ['a']  # of a classifier: words, and more
    else:
        with pytest.raises(ValueError, match='holds other things besides words'): _read_vocab(tmp_path/f'v.{ext}')


def test_weights_of_another_size_change_nothing(tmp_path):
    "The first ones were copied before the last shape was looked at."
    learn = learner(path=tmp_path)
    before, other = weights(learn), dict(learn.model.state_dict())
    other = {k: v + 1 for k, v in other.items()}
    name = next(k for k in other if 'rnns.1' in k)
    other[name] = other[name][:-1]
    (tmp_path/'models').mkdir()
    torch.save(other, tmp_path/'models'/'o.pth')
    (tmp_path/'models'/'v.json').write_text(json.dumps(vocab))
    with pytest.raises(ValueError, match='give the config'):
        learn.load_pretrained(tmp_path/'models'/'o.pth', tmp_path/'models'/'v.json')
    assert same(weights(learn), before)
