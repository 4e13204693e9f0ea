"What notebooks cannot show well about learners, saved models and checkpoints: kills at any moment, damaged files, several processes."
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

from lesson8nlp import checkpoint as cp, models as lm
from lesson8nlp.awdlstm import *
from lesson8nlp.checkpoint import *
from lesson8nlp.store import fingerprint
from lesson8nlp.dataloader import *
from lesson8nlp.fasttok import FastTokenizer
from lesson8nlp.learner import *
from lesson8nlp.tokenizer import *

vocab = ['xxunk', 'xxpad'] + [f'w{i}' for i in range(30)]
stream = np.random.default_rng(0).integers(2, 32, 4_000).cumsum() % 30 + 2
small = dict(emb_sz=8, n_hid=12, n_layers=2, pad_token=1, bidir=False, output_p=0.1, hidden_p=0.1, input_p=0.2, embed_p=0.1, weight_p=0.2, tie_weights=True, out_bias=True)


def loaders(bs=8, seq_len=10, seed=1, shuffle=True, **kw):
    docs = [stream[i:i+100] for i in range(0, 1_600, 100)]
    return DataLoaders(LMDataLoader(docs, bs=bs, seq_len=seq_len, shuffle=shuffle, seed=seed, vocab=vocab, **kw), LMDataLoader(stream[3_600:], bs=bs, seq_len=seq_len, vocab=vocab), device='cpu')


def learner(seed=42, dls=None, config=small, path='.', **kw):
    set_seed(seed, reproducible=True)
    return language_model_learner(dls or loaders(), AWD_LSTM, config=config, pretrained=False, path=path, **(dict(metrics=TokenAccuracy()) | kw))


def fit(learn, *cbs, epochs=2, lr=1e-2):
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(epochs, lr, wd=0.1, cbs=list(cbs))
    return learn


def weights(learn): return {k: v.clone() for k, v in learn.model.state_dict().items()}
def same(a, b): return all(torch.equal(x, y) for x, y in zip(a.values(), b.values())) and list(a) == list(b)


class Accident(Exception): pass


class Cut(Callback):
    order, run_valid = 100, False
    def __init__(self, n): self.n = n
    def after_batch(self):
        if self.learn.train_iter == self.n: raise Accident('cut')


class CutInValidation(Callback):
    def __init__(self, epoch): self.at_epoch = epoch
    def before_validate(self):
        if self.learn.epoch == self.at_epoch: raise Accident('cut')


@pytest.fixture(scope='module')
def whole(): return fit(learner())


@pytest.fixture(scope='module')
def saved(tmp_path_factory): return save_model(learner(), tmp_path_factory.mktemp('saved')/'m', tok=Tokenizer())


@pytest.fixture
def folder(saved, tmp_path): return Path(shutil.copytree(saved, tmp_path/'m'))


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


# ---- saved models

def reseal(folder): # as a stranger would, who knows the format
    (folder/'manifest.json').unlink()
    cp._seal(folder, 'model')


def change_json(p, **kw): p.write_text(json.dumps(json.loads(p.read_text()) | kw))


def test_saved_model_comes_back(folder):
    a, b = learner(), load_model(folder, 'cpu')
    assert same(weights(a), b.model.state_dict()) and b.vocab == vocab and not b.model.training
    assert b.model[1].decoder.weight is b.model[0].encoder.weight
    assert b.tok('A film, IT was...') == Tokenizer()('A film, IT was...') and '32' in repr(b)
    assert not list(folder.parent.glob('.*'))


files = ['manifest.json', 'weights.safetensors', 'config.json', 'vocab.json']


@pytest.mark.parametrize('name', files)
def test_missing_file(folder, name):
    (folder/name).unlink()
    with pytest.raises(ValueError, match=name): load_model(folder)


@pytest.mark.parametrize('name', files)
@pytest.mark.parametrize('share', [0, 0.5, 0.999])
def test_truncated_file(folder, name, share):
    data = (folder/name).read_bytes()
    (folder/name).write_bytes(data[:min(int(len(data)*share), len(data) - 1)])
    with pytest.raises(ValueError, match='save the model again'): load_model(folder)


@pytest.mark.parametrize('name', files)
def test_one_flipped_bit(folder, name):
    data, rng = (folder/name).read_bytes(), random.Random(name)
    for _ in range(25):
        i, bit = rng.randrange(len(data)), rng.randrange(8)
        (folder/name).write_bytes(data[:i] + bytes([data[i] ^ 1 << bit]) + data[i+1:])
        with pytest.raises(ValueError): load_model(folder)
    (folder/name).write_bytes(data)
    load_model(folder)


def test_later_version(folder):
    change_json(folder/'manifest.json', version=2)
    with pytest.raises(ValueError, match='version 2.*update'): load_model(folder)


def test_vocab_of_another_size(folder):
    (folder/'vocab.json').write_text(json.dumps(vocab[:-1]))
    reseal(folder)
    with pytest.raises(ValueError, match='31 entries.*32'): load_model(folder)
    with pytest.raises(ValueError, match='31 entries.*32'): save_model(learner(), folder, vocab=vocab[:-1])


@pytest.mark.parametrize('name,data', [('optimizer.pkl', b''), ('model.pth', b'x'), ('notes.txt', pickle.dumps([1])), ('weights.safetensors', pickle.dumps({'a': 1})), ('vocab.json', pickle.dumps(vocab))])
def test_pickles_in_the_folder(folder, name, data):
    for again in (False, True):
        (folder/name).write_bytes(data)
        if again: reseal(folder)
        with pytest.raises(ValueError, match=f'{name}.*pickle'): load_model(folder)


def test_torch_file_in_place_of_weights(folder):
    torch.save(learner().model.state_dict(), folder/'weights.safetensors')
    reseal(folder)
    with pytest.raises(ValueError, match='pickle'): load_model(folder)
    torch.save({}, folder.parent/'model.pth')
    with pytest.raises(ValueError, match='is a file'): load_model(folder.parent/'model.pth')


def test_other_files_beside_are_left_alone(folder):
    (folder/'README.md').write_text('trained by me')
    load_model(folder)


@pytest.mark.parametrize('change', ['weights', 'json', 'architecture', 'key', 'kind', 'outside', 'rules', 'empty'])
def test_wrong_content_with_right_checksums(folder, change):
    "Whoever writes a new manifest gets a sentence all the same."
    config = folder/'config.json'
    if change == 'weights': safetensors.torch.save_file({'a': torch.ones(2)}, folder/'weights.safetensors')
    if change == 'json': config.write_text('{')
    if change == 'architecture': change_json(config, architecture='transformer')
    if change == 'key': change_json(config, model=dict(vocab_sz=32))
    if change == 'rules': change_json(config, tokenizer=dict(rules=['exec'], inner=dict(kind='WordTokenizer'), probe=[]))
    if change == 'empty': (folder/'weights.safetensors').write_bytes(b'')
    reseal(folder)
    if change in ('kind', 'outside'):
        m = json.loads((folder/'manifest.json').read_text())
        m.pop('sha256')
        if change == 'kind': m['kind'] = 'checkpoint'
        else: m['files']['../secret'] = dict(bytes=1, sha256='')
        (folder.parent/'secret').write_text('x')
        (folder/'manifest.json').write_text(json.dumps(m | dict(sha256=fingerprint(m))))
    with pytest.raises(ValueError): load_model(folder)


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match='save_model wrote'): load_model(tmp_path/'m')
    (tmp_path/'mine').mkdir()
    (tmp_path/'mine'/'thesis.txt').write_text('years of work')
    with pytest.raises(FileExistsError, match='another path'): save_model(learner(), tmp_path/'mine')
    with pytest.raises(ValueError, match='no manifest'): load_model(tmp_path/'mine')
    assert (tmp_path/'mine'/'thesis.txt').read_text() == 'years of work'


def test_needs_a_vocab_and_a_known_model(tmp_path):
    with pytest.raises(ValueError, match='needs the vocab'): save_model(learner().model, tmp_path/'m')
    with pytest.raises(TypeError, match='register_architecture'): save_model(nn.Linear(2, 2), tmp_path/'m', vocab=vocab)
    with pytest.raises(TypeError, match='plain values'): save_model(learner(), tmp_path/'m', labels=object())
    assert not list(tmp_path.iterdir())


def test_tokenizers(tmp_path):
    texts = ['A good film, a very good one.', "I didn't LIKE it at all!!!"]*20
    sub = SubwordTokenizer(vocab_sz=60, cache_dir=tmp_path/'sp')
    sub.setup(texts)
    for i, tok in enumerate([None, Tokenizer(), Tokenizer(rules=[lowercase, replace_rep]), Tokenizer(WordTokenizer('de')), Tokenizer(CharTokenizer(), rules=[]), Tokenizer(sub), FastTokenizer(Tokenizer())]):
        back = load_model(save_model(learner(), tmp_path/f'm{i}', tok=tok)).tok
        if tok is None: assert back is None; continue
        tok = tok.tok if isinstance(tok, FastTokenizer) else tok
        for t in texts[:2] + ['Etwas anderes: z.B. 3 %']: assert list(back(t)) == list(tok(t))
    assert (tmp_path/'m5'/'subwords.model').exists()
    shutil.rmtree(tmp_path/'sp')
    assert list(load_model(tmp_path/'m5').tok(texts[0])) == list(Tokenizer(sub)(texts[0]))
    changed = WordTokenizer()
    changed.nlp.tokenizer.add_special_case('filmnoir', [{65: 'film'}, {65: 'noir'}])
    for tok, error in ((Tokenizer(rules=[lambda t: t]), ValueError), (Tokenizer(changed), ValueError), (object(), TypeError), (Tokenizer(lambda ts: [t.split() for t in ts]), TypeError)):
        with pytest.raises(error, match='tok=None'): save_model(learner(), tmp_path/'n', tok=tok)
    assert not (tmp_path/'n').exists()


def test_another_spacy_is_noticed(folder):
    config = json.loads((folder/'config.json').read_text())
    config['tokenizer']['probe'][3] = 'other'
    (folder/'config.json').write_text(json.dumps(config))
    reseal(folder)
    with pytest.warns(UserWarning, match='cuts texts otherwise'): load_model(folder)


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
@pytest.mark.parametrize('where', ['os.rename 1', 'os.rename 2', 'os.rename 3', 'shutil.rmtree 3', 'safetensors.torch.save_file 1', 'json.dumps 3'])
def test_killed_while_saving_over_a_model(saved, tmp_path, where):
    "Whenever the process dies, a whole model is there: the old one or the new one."
    path = shutil.copytree(saved, tmp_path/'m')
    learn = learner(seed=5)
    if pid := os.fork(): assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    else: # the child
        name, n = where.split()
        mod, f = name.rsplit('.', 1)
        mod, count = {'os': os, 'shutil': shutil, 'json': json, 'safetensors.torch': safetensors.torch}[mod], [0]
        real = getattr(mod, f)
        def deadly(*args, **kw):
            count[0] += 1
            if count[0] == int(n): os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kw)
        setattr(mod, f, deadly)
        try: save_model(learn, path)
        finally: os._exit(0)
    now = load_model(path, 'cpu').model.state_dict()
    assert same(now, weights(learn)) or same(now, weights(learner()))
    save_model(learn, path)
    assert same(load_model(path, 'cpu').model.state_dict(), weights(learn)) and [p.name for p in tmp_path.iterdir()] == ['m']


# ---- checkpoints

def run_cut(path, *cuts, make=learner, every=7, **kw): # the fit, called again after each accident
    for i, cut in enumerate(cuts):
        with pytest.raises(Accident): fit(make(seed=42 if i == 0 else i), CheckpointCallback(path, every=every, verbose=False), cut, **kw)
    return fit(make(seed=99), CheckpointCallback(path, every=every, verbose=False), **kw)


def assert_same_run(a, b):
    assert same(weights(a), weights(b))
    ra, rb = a.recorder, b.recorder
    assert ra.values == rb.values and [float(o) for o in ra.losses] == [float(o) for o in rb.losses] and ra.lrs == rb.lrs and ra.iters == rb.iters
    for k in ra.hps: assert np.array_equal(np.array(ra.hps[k], dtype=float), np.array(rb.hps[k], dtype=float))


n_steps = len(loaders().train)


@pytest.mark.parametrize('cuts', [[1], [7], [8], [n_steps-1], [n_steps], [n_steps+1], [2*n_steps], [3, 9, 9, 10, n_steps+8, 2*n_steps-1]], ids=str)
def test_resumed_is_the_same_run(tmp_path, whole, cuts):
    assert_same_run(run_cut(tmp_path/'c', *map(Cut, cuts)), whole)


@pytest.mark.parametrize('every', [1, n_steps, 10**6, 'epoch'])
def test_any_number_of_steps_between(tmp_path, whole, every):
    assert_same_run(run_cut(tmp_path/'c', Cut(5), CutInValidation(0), Cut(n_steps+3), CutInValidation(1), every=every), whole)
    assert len(list((tmp_path/'c').iterdir())) == 2


def test_finished_is_not_repeated(tmp_path, whole, capsys):
    first = fit(learner(), CheckpointCallback(tmp_path/'c', every=7))
    assert_same_run(first, whole)
    again = fit(learner(seed=3), CheckpointCallback(tmp_path/'c', every=7), Cut(1))
    assert_same_run(again, whole)
    assert 'finished' in capsys.readouterr().out
    assert len(list((tmp_path/'c').iterdir())) == 2


def test_same_session(tmp_path, whole):
    "The cell that calls fit is run again with the learner that was cut off, gradients and all."
    learn = learner()
    class Half(Callback):
        run_valid = False
        def before_step(self):
            if self.learn.train_iter == 10: raise Accident('cut')
    with pytest.raises(Accident): fit(learn, CheckpointCallback(tmp_path/'c', every=4), Half())
    assert_same_run(fit(learn, CheckpointCallback(tmp_path/'c', every=4)), whole)


def test_same_session_with_varied_lengths(tmp_path):
    "The number of batches changes from epoch to epoch; the learner that was cut off in the second one goes on."
    make = lambda seed=42: learner(seed, dls=loaders(var_len=True))
    a, b = fit(make(), epochs=3), make()
    n = len(b.dls.train)
    for k in (n+3, n+9):
        with pytest.raises(Accident): fit(b, CheckpointCallback(tmp_path/'c', every=4), Cut(k), epochs=3)
    assert_same_run(a, fit(b, CheckpointCallback(tmp_path/'c', every=4), epochs=3))


def test_plain_fit_and_ladder_models(tmp_path):
    def make(seed=42):
        set_seed(seed, reproducible=True)
        return TextLearner(loaders(var_len=True), lm.LMModel7(len(vocab), 12, 2, 0.3), loss_func=CrossEntropyLossFlat(), opt_func=SGD, metrics=accuracy)
    def go(learn, *cbs):
        with learn.no_bar(), learn.no_logging(): learn.fit(2, 0.1, cbs=list(cbs))
        return learn
    a = go(make())
    with pytest.raises(Accident): go(make(), CheckpointCallback(tmp_path/'c', every=3), Cut(11))
    b = go(make(seed=1), CheckpointCallback(tmp_path/'c', every=3))
    assert same(weights(a), weights(b)) and a.recorder.values == b.recorder.values


@pytest.mark.parametrize('cbs', [lambda: [GradientClip(0.1)], lambda: [GradientAccumulation(20)], lambda: [RescaleLR()], lambda: [EarlyStoppingCallback(min_delta=10., patience=0)]], ids=['clip', 'accumulation', 'rescale', 'early stop'])
def test_with_other_callbacks(tmp_path, cbs):
    make = lambda seed: learner(seed=seed, cbs=cbs())
    a = fit(make(42), epochs=3)
    with pytest.raises(Accident): fit(make(42), CheckpointCallback(tmp_path/'c', every=4), Cut(n_steps+3), epochs=3)
    b = fit(make(1), CheckpointCallback(tmp_path/'c', every=4), epochs=3)
    assert same(weights(a), weights(b)) and a.recorder.values == b.recorder.values
    c = fit(make(2), CheckpointCallback(tmp_path/'c', every=4), epochs=3)
    assert same(weights(a), weights(c)) and a.recorder.values == c.recorder.values


def test_best_model_is_kept_through_an_accident(tmp_path):
    def make(seed): return learner(seed=seed, path=tmp_path, cbs=SaveModelCallback(monitor='valid_loss', fname='best'))
    a = fit(make(42), epochs=3, lr=3.)  # so large that it gets worse
    best = a.recorder.values
    with pytest.raises(Accident): fit(make(42), CheckpointCallback(tmp_path/'c', every=4), Cut(2*n_steps+3), epochs=3, lr=3.)
    b = fit(make(1), CheckpointCallback(tmp_path/'c', every=4), epochs=3, lr=3.)
    assert b.recorder.values == best and same(weights(a), weights(b))


def test_train_metrics(tmp_path):
    def make(seed=42):
        learn = learner(seed=seed, metrics=accuracy_for_train())
        learn.recorder.train_metrics = True
        return learn
    assert_same_run(run_cut(tmp_path/'c', Cut(n_steps-3), make=make), fit(make()))


def accuracy_for_train(): return [TokenAccuracy(), TokenPerplexity()]


def test_optimizer_of_torch(tmp_path):
    make = lambda seed=42: learner(seed=seed, opt_func=partial(OptimWrapper, opt=torch.optim.AdamW))
    assert_same_run(run_cut(tmp_path/'c', Cut(9), Cut(n_steps+2), make=make), fit(make()))


def test_optimizers_of_fastai(tmp_path):
    for name, f in dict(adam=Adam, ranger=ranger).items():
        make = lambda seed=42: learner(seed=seed, opt_func=f)
        assert_same_run(run_cut(tmp_path/name, Cut(9), Cut(n_steps+2), make=make), fit(make()))


def test_bf16(tmp_path):
    make = lambda seed=42: learner(seed=seed).to_bf16()
    assert_same_run(run_cut(tmp_path/'c', Cut(9), make=make), fit(make()))


class Scaled(MixedPrecision):
    "A GradScaler at work, on a CPU too; its scale doubles every few steps."
    def before_fit(self):
        super().before_fit()
        self.learn.scaler = torch.amp.GradScaler('cpu', init_scale=2., growth_interval=5)


def test_grad_scaler(tmp_path):
    scales = []
    class Look(Callback):
        def after_step(self): scales.append(self.learn.scaler.get_scale())
    def make(seed=42): return learner(seed=seed, cbs=Scaled('bf16'))
    a = fit(make(), Look())
    once, scales[:] = scales[:], []
    with pytest.raises(Accident): fit(make(), CheckpointCallback(tmp_path/'c', every=4), Look(), Cut(n_steps+5))
    n = len(scales)
    b = fit(make(seed=1), CheckpointCallback(tmp_path/'c', every=4), Look())
    assert_same_run(a, b)
    assert len(set(once)) > 5 and scales[:n] == once[:n] and scales[n:] == once[-len(scales[n:]):]


def test_frozen_layers_and_stages(tmp_path):
    def go(seed, *cbs):
        learn = learner(seed)
        with learn.no_bar(), learn.no_logging(): learn.fit_gradual(1e-2, cbs=cbs)
        return learn
    a = go(42)
    for i, n in enumerate((5, n_steps-1)):
        with pytest.raises(Accident): go(42 if i == 0 else i, CheckpointCallback(tmp_path/'c', every=4), Cut(n))
    b = go(7, CheckpointCallback(tmp_path/'c', every=4))
    assert same(weights(a), weights(b)) and sorted(p.name for p in (tmp_path/'c').iterdir()) == ['stage1', 'stage2', 'stage3']


def test_validation_alone_leaves_it_alone(tmp_path, whole):
    learn = learner(cbs=CheckpointCallback(tmp_path/'c', every=7))
    with learn.no_bar(): learn.validate(); learn.get_preds()
    assert not (tmp_path/'c').exists()
    fit(learn)
    before = sorted((tmp_path/'c').rglob('*'))
    with learn.no_bar(): learn.validate(); learn.get_preds()
    assert same(weights(learn), weights(whole)) and before == sorted((tmp_path/'c').rglob('*'))


@pytest.mark.parametrize('damage', ['truncate', 'flip', 'remove', 'pickle', 'manifest', 'half written'])
def test_damaged_newest_checkpoint(tmp_path, whole, capsys, damage):
    with pytest.raises(Accident): fit(learner(), CheckpointCallback(tmp_path/'c', every=5), Cut(13))
    newest = sorted((tmp_path/'c').iterdir())[-1]
    f = newest/'state.safetensors'
    data = f.read_bytes()
    if damage == 'truncate': f.write_bytes(data[:-7])
    if damage == 'flip': f.write_bytes(data[:500] + bytes([data[500] ^ 4]) + data[501:])
    if damage == 'remove': (newest/'state.json').unlink()
    if damage == 'pickle': f.write_bytes(pickle.dumps(1))
    if damage == 'manifest': (newest/'manifest.json').write_text('')
    if damage == 'half written': shutil.copytree(newest, newest.with_name(f'.{newest.name}.abc')); (newest.with_name(f'.{newest.name}.abc')/'manifest.json').unlink()
    assert_same_run(fit(learner(seed=1), CheckpointCallback(tmp_path/'c', every=5)), whole)
    out = capsys.readouterr().out
    assert f'Resumed after step {10 if damage == "half written" else 5} ' in out and ('passed over' in out) == (damage != 'half written')
    assert len(list((tmp_path/'c').iterdir())) == 2


def test_all_checkpoints_damaged(tmp_path, whole):
    with pytest.raises(Accident): fit(learner(), CheckpointCallback(tmp_path/'c', every=5), Cut(13))
    for p in (tmp_path/'c').iterdir(): (p/'state.json').write_text('{')
    assert_same_run(fit(learner(), CheckpointCallback(tmp_path/'c', every=5)), whole)


changes = {
    'epochs': dict(epochs=3), 'schedule of lr': dict(lr=2e-2), 'parameters': dict(config=small | dict(n_hid=13)), 'dropout': dict(config=small | dict(input_p=0.3)),
    'bs of loader 0': dict(dls=lambda: loaders(bs=4)), 'seq_len of loader': dict(dls=lambda: loaders(seq_len=9)), 'seed of loader 0': dict(dls=lambda: loaders(seed=2)),
    'alpha of RNNRegularizer': dict(alpha=1.), 'GradientClip': dict(cbs=lambda: GradientClip(1.)), 'loss': dict(loss_func=CrossEntropyLossFlat), 'optimizer': dict(opt_func=ranger)}


@pytest.mark.parametrize('what', changes)
def test_another_run_is_noticed(tmp_path, what):
    with pytest.raises(Accident): fit(learner(), CheckpointCallback(tmp_path/'c', every=5), Cut(13))
    kw = {k: v() if k in ('dls', 'cbs', 'loss_func') else v for k, v in changes[what].items()}
    fit_kw = {k: kw.pop(k) for k in ('epochs', 'lr') if k in kw}
    before = {p: p.read_bytes() for p in (tmp_path/'c').rglob('*') if p.is_file()}
    learn = learner(**kw)
    w = weights(learn)
    with pytest.raises(ValueError, match=f'another run.*{what}.*folder of its own'): fit(learn, CheckpointCallback(tmp_path/'c', every=5), **fit_kw)
    assert same(w, weights(learn)) and before == {p: p.read_bytes() for p in (tmp_path/'c').rglob('*') if p.is_file()}


def test_wrong_arguments(tmp_path):
    for kw in (dict(every=0), dict(every='step'), dict(every=1.5), dict(keep=0)):
        with pytest.raises(ValueError): CheckpointCallback(tmp_path, **kw)
    with pytest.raises(ValueError, match='seed'): fit(learner(dls=loaders(seed=None)), CheckpointCallback(tmp_path/'c'))
    batches = list(loaders().train)
    with pytest.raises(TypeError, match="every='epoch'"): fit(learner(dls=Batches(batches)), CheckpointCallback(tmp_path/'c'))


class Batches(DataLoaders):
    def __init__(self, batches): super().__init__(batches, batches, device='cpu')
    vocab = vocab


def test_loader_without_a_place(tmp_path):
    "A shuffled loader of fastai: resumed at the end of an epoch, it is the same run."
    def make(seed=42):
        set_seed(seed, reproducible=True)
        xy = [(torch.tensor(stream[i:i+10]), torch.tensor(stream[i+1:i+11])) for i in range(0, 1_000, 10)]
        dls = DataLoaders.from_dsets(xy, xy[:20], bs=8, device='cpu')
        dls.vocab = vocab
        return language_model_learner(dls, AWD_LSTM, config=small, pretrained=False)
    a = fit(make(), epochs=3)
    with pytest.raises(Accident): fit(make(), CheckpointCallback(tmp_path/'c', every='epoch'), Cut(30), epochs=3)
    assert same(weights(a), weights(fit(make(seed=1), CheckpointCallback(tmp_path/'c', every='epoch'), epochs=3)))


killed = textwrap.dedent('''
    import os, random, signal, sys, time
    sys.path.insert(0, sys.argv[1])
    import torch
    torch.set_num_threads(1)
    from test_learner import *
    folder, n, seed = Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    rng = random.Random(seed)

    class Slow(Callback):  # so that there is time to die in
        def after_batch(self): time.sleep(0.02)

    def child(path):
        if pid := os.fork(): return pid
        try:
            learn = fit(learner(), CheckpointCallback(path, every=3, verbose=False), Slow())
            safetensors.torch.save_file(cp._unique(learn.model.state_dict())[0], f'{path}.safetensors')
            (Path(f'{path}.json')).write_text(json.dumps([[list(o) for o in learn.recorder.values], [float(o) for o in learn.recorder.losses]]))
        finally: os._exit(0)

    begin = time.time()
    os.waitpid(child(folder/'whole'), 0)
    took, kills, pid = time.time() - begin, 0, child(folder/'killed')
    while kills < n:
        time.sleep(rng.uniform(0.02, took*1.6/n))
        try: os.kill(pid, signal.SIGKILL)
        except ProcessLookupError: pass
        if not os.WIFSIGNALED(os.waitpid(pid, 0)[1]): break  # it was faster
        kills += 1
        pid = child(folder/'killed')
    else: os.waitpid(pid, 0)
    print(kills)
''')


def kill_often(tmp_path, n, seed):
    r = subprocess.run([sys.executable, '-W', 'ignore', '-c', killed, str(Path(__file__).parent), str(tmp_path), str(n), str(seed)], capture_output=True, text=True, timeout=300, env=os.environ | dict(OMP_NUM_THREADS='1'))
    assert r.returncode == 0, r.stderr[-3000:]
    a, b = (safetensors.torch.load_file(tmp_path/f'{o}.safetensors') for o in ('whole', 'killed'))
    assert same(a, b) and (tmp_path/'whole.json').read_text() == (tmp_path/'killed.json').read_text()
    return int(r.stdout.split()[-1])


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
def test_killed_at_random_moments(tmp_path):
    "SIGKILL at random moments, 6 times and more: the same weights, bit for bit."
    total = 0
    for seed in range(4):
        (tmp_path/str(seed)).mkdir()
        total += kill_often(tmp_path/str(seed), 6, seed)
        if total >= 6: break
    assert total >= 6


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
def test_killed_many_times(tmp_path):
    total = 0
    for seed in range(10, 30):
        (tmp_path/str(seed)).mkdir()
        total += kill_often(tmp_path/str(seed), 10, seed)
        if total >= 40: break
    assert total >= 20


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
@pytest.mark.parametrize('where', ['os.rename 3', 'shutil.rmtree 4', 'safetensors.torch.save_file 3', 'os.rename 5'])
def test_killed_while_writing_a_checkpoint(tmp_path, whole, where):
    name, n = where.split()
    mod, f = name.rsplit('.', 1)
    mod = {'os': os, 'shutil': shutil, 'safetensors.torch': safetensors.torch}[mod]
    if pid := os.fork(): assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    else:
        real, count = getattr(mod, f), [0]
        def deadly(*args, **kw):
            count[0] += 1
            if count[0] == int(n): os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kw)
        setattr(mod, f, deadly)
        try: fit(learner(), CheckpointCallback(tmp_path/'c', every=5, verbose=False))
        finally: os._exit(0)
    assert_same_run(fit(learner(seed=1), CheckpointCallback(tmp_path/'c', every=5)), whole)
    assert len(list((tmp_path/'c').iterdir())) == 2


# ---- several processes

two = textwrap.dedent('''
    import sys
    sys.path.insert(0, sys.argv[1])
    import torch
    torch.set_num_threads(1)
    from test_learner import *
    from fastai.distributed import *
    from fastai.torch_core import num_distrib, rank_distrib
    out, mode = Path(sys.argv[2]), sys.argv[3]
    rank, n = rank_distrib(), max(num_distrib(), 1)

    class Losses(Callback):
        run_valid = False
        def before_fit(self): self.log = []
        def after_loss(self): self.log.append(self.learn.loss.item())

    def dls():
        docs = [stream[i:i+100] for i in range(0, 1_600, 100)]
        kw = dict(bs=8//n, seq_len=10, rank=rank, world_size=n, vocab=vocab)
        two = DataLoaders(*(sharded_dl(o) if n > 1 else o for o in (LMDataLoader(docs, shuffle=True, seed=1, **kw), LMDataLoader(stream[3_600:], **kw))), device='cpu')
        two.vocab = vocab
        return two

    config = small | {k: 0. for k in small if k.endswith('_p')} if mode == 'equal' else small
    def run(*cbs, seed=42):
        learn, log = learner(seed=seed, dls=dls(), config=config, metrics=lm_metrics()), Losses()
        with learn.distrib_ctx(sync_bn=False, cpu=True): fit(learn, *cbs, log)
        return learn, log.log

    if mode == 'equal': learn, losses = run()
    else:
        learn, losses = run()
        try: run(CheckpointCallback(out/'c', every=5), Cut(13))
        except Accident: pass
        again, _ = run(CheckpointCallback(out/'c', every=5), seed=1)
        assert same(weights(again), weights(learn)), 'resumed is another run'
        assert again.recorder.values == learn.recorder.values
    (out/f'{n}-{rank}.json').write_text(json.dumps(dict(losses=losses, valid=[list(o)[1:] for o in learn.recorder.values], weights=[v.double().sum().item() for v in learn.model.state_dict().values()])))
    if torch.distributed.is_initialized(): torch.distributed.destroy_process_group()
''')


def launch(tmp_path, mode, n=2):
    script, env = tmp_path/'two.py', os.environ | dict(OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')
    script.write_text(two)
    r = subprocess.run([sys.executable, '-W', 'ignore', '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', str(n), str(script), str(Path(__file__).parent), str(tmp_path), mode], capture_output=True, text=True, timeout=240, env=env)
    assert r.returncode == 0, r.stderr[-3000:]
    return [json.loads((tmp_path/f'{n}-{rank}.json').read_text()) for rank in range(n)]


def test_two_processes_are_one_with_twice_the_batch(tmp_path):
    "gloo on the CPU, dropout off: the same losses, the same measures, the same weights."
    a, b = launch(tmp_path, 'equal')
    one, losses = learner(config=small | {k: 0. for k in small if k.endswith('_p')}, metrics=lm_metrics()), []
    fit(one, Callback(after_loss=lambda self: losses.append(self.learn.loss.item()) if self.training else None))
    assert [(x + y)/2 for x, y in zip(a['losses'], b['losses'])] == pytest.approx(losses, abs=1e-5) and a['losses'] != b['losses']
    for x, y in zip(one.recorder.values, a['valid']): assert y == pytest.approx(list(x)[1:], abs=2e-5)
    assert a['weights'] == b['weights'] and a['weights'] == pytest.approx([v.double().sum().item() for v in one.model.state_dict().values()], abs=1e-3)


@pytest.mark.slow
def test_two_processes_resume(tmp_path):
    "Each with rows, dropout and a hidden state of its own: the same weights as without an accident."
    a, b = launch(tmp_path, 'resume')
    assert a['weights'] == b['weights'] and sorted(p.name for p in (tmp_path/'c').iterdir()) == ['rank0of2', 'rank1of2']
