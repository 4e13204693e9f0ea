"What notebooks cannot show well about learners: measures and weights from elsewhere."
import json, math, os, pickle, random, shutil, signal, socket, subprocess, sys, textwrap, time
from pathlib import Path

import lesson8nlp.core
import numpy as np, pytest, safetensors.torch, torch
from fastai.basics import Adam, Callback, CrossEntropyLossFlat, DataLoaders, F, L, Learner, Module, OptimWrapper, SGD, accuracy, nn, partial, ranger, set_seed
from fastai.callback.schedule import *
from fastai.callback.tracker import EarlyStoppingCallback, SaveModelCallback
from fastai.callback.training import GradientAccumulation, GradientClip
from fastai.text import learner as fl
from fastai.text.all import AWD_LSTM as FastaiAWD, language_model_learner as fastai_lm_learner

from lesson8nlp import models as lm
from lesson8nlp.awdlstm import *
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
    learn = Learner(DataLoaders([], batches), Fixed(), loss_func=CrossEntropyLossFlat(), metrics=[TokenLoss(), *lm_metrics()])
    with learn.no_bar(): _, loss, acc, ppl, bits = learn.validate()
    nll, keep = F.cross_entropy(x, y).item(), y != -100
    assert loss == pytest.approx(nll, rel=1e-5) and ppl == pytest.approx(math.exp(nll), rel=1e-5) and bits == pytest.approx(nll/math.log(2), rel=1e-5)
    assert acc == pytest.approx((x.argmax(-1) == y)[keep].float().mean().item(), rel=1e-6)


def test_measures_with_no_token_that_counts():
    batches = [(torch.zeros(2, 3, 4), torch.full((2, 3), -100)), (torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.long))]
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
    assert preds.shape[:2] == targs.shape and -preds.gather(-1, targs[..., None]).log().mean().item() == pytest.approx(lazy[0], rel=1e-4)


# ---- weights from elsewhere

@pytest.mark.parametrize('seed', range(6))
def test_match_embeds_is_fastais(seed):
    rng = np.random.default_rng(seed)
    old, new = ([f'w{i}' for i in rng.integers(0, 60, n)] for n in rng.integers(1, 80, 2))
    if seed % 2: old = list(dict.fromkeys(old))
    w = {'0.encoder.weight': torch.randn(len(old), 3)}
    if seed % 3: w |= {'0.encoder_dp.emb.weight': torch.randn(len(old), 3), 'more': torch.ones(1), '1.decoder.weight': torch.randn(len(old), 3), '1.decoder.bias': torch.randn(len(old))}
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
    assert all(torch.equal(a, b) for a, b in zip(weights(ours).values(), weights(theirs).values())) and ours.opt.frozen_idx == 2 and ours.vocab_match.missing == []
    fit(ours, epochs=1)
    ours.save('o', with_opt=False); ours.save_encoder('o_enc')
    theirs.load('o', weights_only=True)
    assert same(weights(ours), weights(theirs))
    learner(seed=2, dls=dls, path=tmp_path).load_encoder('t_enc')
    theirs.load_encoder('o_enc')


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
        with pytest.raises(ValueError, match='not opened'): language_model_learner(loaders(), AWD_LSTM, config=small, pretrained_fnames=names, path=tmp_path)
    with pytest.raises(ValueError, match='not opened'): learner(path=tmp_path).load_encoder('w')
    with pytest.raises(Exception, match='Weights only'): learner(path=tmp_path).load('w')
    assert not touched.exists()


def test_bf16_trains_on_a_cpu():
    learn = fit(learner().to_bf16(), epochs=1)
    assert all(math.isfinite(float(o)) for o in learn.recorder.losses) and all(p.dtype == torch.float32 for p in learn.model.parameters())
    plain, fp16 = fit(learner(), epochs=1), fit(learner().to_fp16(), epochs=1)
    assert same(weights(plain), weights(fp16)) and not same(weights(plain), weights(learn))


