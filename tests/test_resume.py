"What a notebook cannot show well about resuming: kills at any moment, damaged checkpoints, several processes."
import json, math, os, pickle, random, shutil, signal, socket, subprocess, sys, textwrap, time
from functools import partial
from pathlib import Path

import numpy as np, pytest, safetensors.torch, torch
from fastai.basics import (Adam, Callback, Categorize, CrossEntropyLossFlat, DataLoaders, Datasets, F, L, Learner,
                           OptimWrapper, SGD, accuracy, nn, ranger, set_seed)
from fastai.callback.core import CancelTrainException, CancelValidException
from fastai.callback.hook import *
from fastai.callback.schedule import *
from fastai.callback.tracker import EarlyStoppingCallback, SaveModelCallback
from fastai.callback.training import GradientAccumulation, GradientClip

import lesson8nlp.core
from lesson8nlp import models as lm, resume, store
from lesson8nlp.awdlstm import *
from lesson8nlp.dataloader import *
from lesson8nlp.codec import Codec
from lesson8nlp.learner import *
from lesson8nlp.losses import *
from lesson8nlp.resume import *
from lesson8nlp.store import *
from small_runs import *


@pytest.fixture(scope='module')
def whole(): return fit(learner())


def run_cut(path, *cuts, make=learner, every=7, **kw): # the fit, called again after each accident
    for i, cut in enumerate(cuts):
        with pytest.raises(Accident):
            fit(make(seed=42 if i == 0 else i), CheckpointCallback(path, every=every, verbose=False), cut, **kw)
    return fit(make(seed=99), CheckpointCallback(path, every=every, verbose=False), **kw)


def assert_same_run(a, b):
    assert same(weights(a), weights(b))
    ra, rb = a.recorder, b.recorder
    assert (ra.values == rb.values and [float(o) for o in ra.losses] == [float(o) for o in rb.losses]
            and ra.lrs == rb.lrs and ra.iters == rb.iters)
    for k in ra.hps: assert np.array_equal(np.array(ra.hps[k], dtype=float), np.array(rb.hps[k], dtype=float))


n_steps = len(loaders().train)


@pytest.mark.parametrize('cuts', [[1], [7], [8], [n_steps-1], [n_steps], [n_steps+1], [2*n_steps],
                                  [3, 9, 9, 10, n_steps+8, 2*n_steps-1]], ids=str)
def test_resumed_is_the_same_run(tmp_path, whole, cuts):
    assert_same_run(run_cut(tmp_path/'c', *map(Cut, cuts)), whole)


@pytest.mark.parametrize('every', [1, n_steps, 10**6, 'epoch'])
def test_any_number_of_steps_between(tmp_path, whole, every):
    assert_same_run(run_cut(tmp_path/'c', Cut(5), CutInValidation(0), Cut(n_steps+3), CutInValidation(1), every=every),
                    whole)
    assert len(list((tmp_path/'c').iterdir())) == 2


@pytest.mark.parametrize('epochs', [2, 3])
def test_the_end_of_every_epoch_is_kept(tmp_path, epochs, capsys):
    """Also that of the last but one; a run that has to do an epoch again ends with the same weights, so only the
    folder shows it."""
    done = (epochs - 1)*n_steps
    with pytest.raises(Accident):
        fit(learner(), CheckpointCallback(tmp_path/'run', every='epoch', verbose=False), Cut(done + 1), epochs=epochs)
    assert (sorted(p.name for p in (tmp_path/'run').iterdir())
            == [f'{i*n_steps:08d}.{i:04d}' for i in range(epochs)][-2:])
    fit(learner(), CheckpointCallback(tmp_path/'run', every='epoch'), epochs=epochs)
    assert f'Resumed after step 0 of {n_steps} of epoch {epochs - 1}.' in capsys.readouterr().out


@pytest.mark.parametrize('first', [True, False])
def test_a_compiled_model_goes_on_as_a_plain_one(tmp_path, whole, first):
    "Weights have their plain names in a checkpoint, so that either may go on with the other's."
    def make(compiled, seed):
        learn = learner(seed=seed)
        if compiled: learn.model = torch.compile(learn.model, backend='eager')
        return learn
    keep = lambda: CheckpointCallback(tmp_path/'run', every=7, verbose=False)
    with pytest.raises(Accident): fit(make(first, 42), keep(), Cut(9))
    end = plain_model(fit(make(not first, 9), keep()).model).state_dict()
    assert (list(end) == list(weights(whole))
            and all(torch.allclose(end[k], v, atol=1e-4) for k, v in weights(whole).items()))


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
        run_valid, only_watches = False, True
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
        return TextLearner(loaders(var_len=True), lm.LMModel7(len(vocab), 12, 2, 0.3),
                           loss_func=CrossEntropyLossFlat(), opt_func=SGD, metrics=accuracy)
    def go(learn, *cbs):
        with learn.no_bar(), learn.no_logging(): learn.fit(2, 0.1, cbs=list(cbs))
        return learn
    a = go(make())
    with pytest.raises(Accident): go(make(), CheckpointCallback(tmp_path/'c', every=3), Cut(11))
    b = go(make(seed=1), CheckpointCallback(tmp_path/'c', every=3))
    assert same(weights(a), weights(b)) and a.recorder.values == b.recorder.values


@pytest.mark.parametrize('cbs', [
    lambda: [GradientClip(0.1)], lambda: [GradientAccumulation(20)], lambda: [RescaleLR()],
    lambda: [EarlyStoppingCallback(min_delta=10., patience=0)]], ids=['clip', 'accumulation', 'rescale', 'early stop'])
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
    with pytest.raises(Accident):
        fit(make(42), CheckpointCallback(tmp_path/'c', every=4), Cut(2*n_steps+3), epochs=3, lr=3.)
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
    assert (same(weights(a), weights(b))
            and sorted(p.name for p in (tmp_path/'c').iterdir()) == ['stage1', 'stage2', 'stage3'])


def test_validation_alone_leaves_it_alone(tmp_path, whole):
    learn = learner(cbs=CheckpointCallback(tmp_path/'c', every=7))
    with learn.no_bar(): learn.validate(); learn.get_preds()
    assert not (tmp_path/'c').exists()
    fit(learn)
    before = sorted((tmp_path/'c').rglob('*'))
    with learn.no_bar(): learn.validate(); learn.get_preds()
    assert same(weights(learn), weights(whole)) and before == sorted((tmp_path/'c').rglob('*'))


def test_text_loaders_are_resumed_without_a_seed_of_ones_own(tmp_path):
    "`lm_dataloaders` shuffles, and its seed is among its arguments: nothing has to be given that cannot be."
    texts = [' '.join(f'w{i}' for i in stream[k:k+60]) for k in range(0, 3_000, 60)]
    def make(seed=42):
        dls = lm_dataloaders(texts, codec=Codec(str.split, vocab), bs=4, seq_len=8, device='cpu')
        return learner(seed=seed, dls=dls, config=small)
    want = fit(make(), epochs=2)
    with pytest.raises(Accident): fit(make(), CheckpointCallback(tmp_path/'c', every=5), Cut(12), epochs=2)
    assert_same_run(fit(make(seed=3), CheckpointCallback(tmp_path/'c', every=5), epochs=2), want)


def test_a_look_around_leaves_the_run_alone(tmp_path, whole):
    """`summary`, `lr_find`, `validate` and `get_preds` with the callback on the learner, before and between: no
    checkpoint of theirs."""
    learn = learner(cbs=CheckpointCallback(tmp_path/'c', every=7, verbose=False))
    start = weights(learn)
    with learn.no_bar(), learn.no_logging():
        learn.summary(), learn.lr_find(num_it=12, show_plot=False), learn.validate(), learn.get_preds()
    assert not (tmp_path/'c').exists() and same(start, weights(learn))
    learn = learner(cbs=CheckpointCallback(tmp_path/'c', every=7, verbose=False))
    fit(learn)
    names = sorted(p.name for p in (tmp_path/'c').iterdir())
    with learn.no_bar(), learn.no_logging(): learn.lr_find(num_it=12, show_plot=False), learn.summary()
    assert same(weights(learn), weights(whole)) and names == sorted(p.name for p in (tmp_path/'c').iterdir())


def test_the_stages_of_fine_tune(tmp_path):
    "Two fits of one call: cut off in either, the same call ends with the same weights."
    def go(seed, *cbs):
        learn = learner(seed)
        with learn.no_bar(), learn.no_logging(): learn.fine_tune(1, 1e-2, cbs=list(cbs))
        return learn
    want = go(42)
    for k, n in enumerate((5, n_steps - 2)):
        class InStage(Callback):
            run_valid, order, only_watches, fits = False, 100, True, 0
            def before_fit(self): self.fits += 1
            def after_batch(self):
                if self.fits == k + 1 and self.learn.train_iter == n: raise Accident('cut')
        with pytest.raises(Accident):
            go(42 if k == 0 else 8, CheckpointCallback(tmp_path/'c', every=4, verbose=False), InStage())
    assert same(weights(want), weights(go(9, CheckpointCallback(tmp_path/'c', every=4, verbose=False))))


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
    if damage == 'half written':
        shutil.copytree(newest, newest.with_name(f'.{newest.name}.abc'))
        (newest.with_name(f'.{newest.name}.abc')/'manifest.json').unlink()
    assert_same_run(fit(learner(seed=1), CheckpointCallback(tmp_path/'c', every=5)), whole)
    out = capsys.readouterr().out
    assert (f'Resumed after step {10 if damage == "half written" else 5} ' in out
            and ('skipped' in out) == (damage != 'half written'))
    assert len(list((tmp_path/'c').iterdir())) == 2


def test_all_checkpoints_damaged(tmp_path, whole):
    with pytest.raises(Accident): fit(learner(), CheckpointCallback(tmp_path/'c', every=5), Cut(13))
    for p in (tmp_path/'c').iterdir(): (p/'state.json').write_text('{')
    assert_same_run(fit(learner(), CheckpointCallback(tmp_path/'c', every=5)), whole)


changes = {
    'epochs': dict(epochs=3), 'schedule of lr': dict(lr=2e-2), 'parameters': dict(config=small | dict(n_hid=13)),
    'dropout': dict(config=small | dict(input_p=0.3)), 'bs of loader 0': dict(dls=lambda: loaders(bs=4)),
    'seq_len of loader': dict(dls=lambda: loaders(seq_len=9)), 'seed of loader 0': dict(dls=lambda: loaders(seed=2)),
    'alpha of RNNRegularizer': dict(alpha=1.), 'GradientClip': dict(cbs=lambda: GradientClip(1.)),
    'loss': dict(loss_func=CrossEntropyLossFlat), 'optimizer': dict(opt_func=ranger)}


@pytest.mark.parametrize('what', changes)
def test_another_run_is_noticed(tmp_path, what):
    with pytest.raises(Accident): fit(learner(), CheckpointCallback(tmp_path/'c', every=5), Cut(13))
    kw = {k: v() if k in ('dls', 'cbs', 'loss_func') else v for k, v in changes[what].items()}
    fit_kw = {k: kw.pop(k) for k in ('epochs', 'lr') if k in kw}
    before = {p: p.read_bytes() for p in (tmp_path/'c').rglob('*') if p.is_file()}
    learn = learner(**kw)
    w = weights(learn)
    with pytest.raises(ValueError, match=f'c belong to another run.*{what}.*remove this folder.*folder of its own'):
        fit(learn, CheckpointCallback(tmp_path/'c', every=5), **fit_kw)
    assert (same(w, weights(learn))
            and before == {p: p.read_bytes() for p in (tmp_path/'c').rglob('*') if p.is_file()})


def test_at_least_so_many_minutes_between_checkpoints(tmp_path, monkeypatch):
    "A large state takes a second to write, and 200 steps on a GPU take four: a fifth of the time would be lost."
    now, saved = [0.], []
    monkeypatch.setattr(resume.time, 'monotonic', lambda: now[0])
    class Tick(Callback): # ten seconds a step
        order, only_watches = 98, True
        def after_batch(self): now[0] += 10*self.training
    class Seen(Callback):
        order, only_watches = 100, True
        def after_batch(self):
            if self.training and self.learn.checkpoint.last == self.train_iter: saved.append(self.train_iter)
    fit(learner(), CheckpointCallback(tmp_path/'a', every=2, minutes=0.5, verbose=False), Tick(), Seen(), epochs=1)
    every, (n, *_) = saved[:], [len(loaders().train)]
    assert every == list(range(3, n + 1, 3)) and CheckpointCallback(tmp_path, minutes=2).for_stage(1).minutes == 2


def test_wrong_arguments(tmp_path):
    for kw in (dict(every=0), dict(every='step'), dict(every=1.5), dict(keep=0), dict(minutes=-1), dict(minutes='1'),
               dict(minutes=None)):
        with pytest.raises(ValueError): CheckpointCallback(tmp_path, **kw)
    with pytest.raises(ValueError, match='seed'):
        fit(learner(dls=loaders(seed=None)), CheckpointCallback(tmp_path/'c'))
    batches = list(loaders().train)
    with pytest.raises(TypeError, match="every='epoch'"):
        fit(learner(dls=Batches(batches)), CheckpointCallback(tmp_path/'c'))


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


# where a child finds this file
beside = os.pathsep.join([str(Path(__file__).parent), os.environ.get('PYTHONPATH', '')])

killed = textwrap.dedent('''
    import os, random, signal, sys, time
    import torch
    torch.set_num_threads(1)
    from test_resume import *
    folder, n, seed = Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    rng = random.Random(seed)

    class Slow(Callback):  # so that there is time to die in
        def after_batch(self): time.sleep(0.02)

    def child(path):
        if pid := os.fork(): return pid
        try:
            learn = fit(learner(), CheckpointCallback(path, every=3, verbose=False), Slow())
            safetensors.torch.save_file({k: v.clone() for k, v in weights(learn).items()}, f'{path}.safetensors')
            (Path(f'{path}.json')).write_text(json.dumps([[list(o) for o in learn.recorder.values], '''
                         '''[float(o) for o in learn.recorder.losses]]))
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
    r = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', killed, str(Path(__file__).parent), str(tmp_path), str(n), str(seed)],
        capture_output=True, text=True, timeout=300,
        env=os.environ | dict(OMP_NUM_THREADS='1', PYTHONPATH=beside))
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
    import torch
    torch.set_num_threads(1)
    from test_resume import *
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
        two = DataLoaders(*(sharded_dl(o) if n > 1 else o for o in (LMDataLoader(docs, shuffle=True, seed=1, **kw), '''
                      '''LMDataLoader(stream[3_600:], **kw))), device='cpu')
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
    (out/f'{n}-{rank}.json').write_text(json.dumps(dict(losses=losses, '''
                      '''valid=[list(o)[1:] for o in learn.recorder.values], '''
                      '''weights=[v.double().sum().item() for v in learn.model.state_dict().values()])))
    if torch.distributed.is_initialized(): torch.distributed.destroy_process_group()
''')


def launch(tmp_path, mode, n=2):
    script, env = tmp_path/'two.py', os.environ | dict(OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='', PYTHONPATH=beside)
    script.write_text(two)
    r = subprocess.run([sys.executable, '-W', 'ignore', '-m', 'torch.distributed.run', '--standalone',
                        '--nproc_per_node', str(n), str(script), str(Path(__file__).parent), str(tmp_path), mode],
                       capture_output=True, text=True, timeout=240, env=env)
    assert r.returncode == 0, r.stderr[-3000:]
    return [json.loads((tmp_path/f'{n}-{rank}.json').read_text()) for rank in range(n)]


def test_two_processes_are_one_with_twice_the_batch(tmp_path):
    "gloo on the CPU, dropout off: the same losses, the same measures, the same weights."
    a, b = launch(tmp_path, 'equal')
    one, losses = learner(config=small | {k: 0. for k in small if k.endswith('_p')}, metrics=lm_metrics()), []
    fit(one, Callback(after_loss=lambda self: losses.append(self.learn.loss.item()) if self.training else None))
    assert ([(x + y)/2 for x, y in zip(a['losses'], b['losses'])] == pytest.approx(losses, abs=1e-5)
            and a['losses'] != b['losses'])
    for x, y in zip(one.recorder.values, a['valid']): assert y == pytest.approx(list(x)[1:], abs=2e-5)
    assert a['weights'] == b['weights'] and a['weights'] == pytest.approx(
        [v.double().sum().item() for v in one.model.state_dict().values()], abs=1e-3)


@pytest.mark.slow
def test_two_processes_resume(tmp_path):
    "Each with rows, dropout and a hidden state of its own: the same weights as without an accident."
    a, b = launch(tmp_path, 'resume')
    assert (a['weights'] == b['weights']
            and sorted(p.name for p in (tmp_path/'c').iterdir()) == ['rank0of2', 'rank1of2'])


def class_learner(labels='ab'*20, text='w1 w2', bptt=72*20, **kw):
    from lesson8nlp.classifier import text_classifier_learner
    texts = [f'w{i % 7} w{i % 5} w{i % 3}' for i in range(39)] + [text]
    dls = class_dataloaders(texts, list(labels), Codec(str.split, vocab), bs=8, device='cpu', **kw)
    set_seed(1)
    return text_classifier_learner(dls, AWD_LSTM, config=dict(emb_sz=8, n_hid=12, n_layers=1), pretrained=False,
                                   max_len=bptt)


@pytest.mark.parametrize('what,other', [
    ('content of loader', dict(labels='ba'*20)), ('content of loader', dict(labels='bb' + 'ab'*19)),
    ('content of loader', dict(text='w1 w3')), ('content of loader', dict(seed=7)),
    ('content of loader', dict(backwards=True)), ('vocab', dict(classes=['b', 'a'])),
    ('seq_len and bptt', dict(bptt=5))], ids=str)
def test_a_classifier_on_other_data_is_another_run(tmp_path, what, other):
    "Loaders of documents hold `Datasets`, whose texts and labels were left out of the identity."
    go = lambda learn, *cbs: fit(learn, CheckpointCallback(tmp_path, every='epoch', verbose=False), *cbs)
    with pytest.raises(Accident): go(class_learner(), Cut(6))
    with pytest.raises(ValueError, match=f'another run: .*{what}'): go(class_learner(**other))
    assert same(weights(go(class_learner())), weights(fit(class_learner())))


@pytest.mark.parametrize('n, first', [(1, 1), (2, 3), (3, 3), (5, 5), (7, 8), (9, 10)])
def test_a_classifier_resumes_within_an_epoch(tmp_path, n, first):
    "An epoch has five steps: cut after step `n`, within the first, at its end, and within the second."
    keep = lambda: CheckpointCallback(tmp_path, every=2, verbose=False)
    with pytest.raises(Accident): fit(class_learner(), keep(), Cut(n))
    steps = []
    class Seen(Callback):
        run_valid, only_watches = False, True
        def after_batch(self):
            steps.append(self.train_iter)
    whole, again = fit(class_learner()), fit(class_learner(), keep(), Seen())
    assert same(weights(again), weights(whole)) and again.recorder.values == whole.recorder.values
    assert steps == list(range(first, 11))


class Look(Callback):
    "Takes a batch of the training loader while the loader is in use."
    only_watches = True
    def after_batch(self):
        if self.training: next(iter(self.learn.dls.train))


@pytest.mark.parametrize('cb', [Look, partial(GradientAccumulation, 20)], ids=['a look', 'gradients add up'])
def test_a_callback_of_a_classifier_that_resumes_within_an_epoch(tmp_path, cb):
    "One looks at other batches within the pass; with the other, gradients wait for the next batch when it is cut."
    keep = lambda: CheckpointCallback(tmp_path, every=2, verbose=False)
    with pytest.raises(Accident): fit(class_learner(), keep(), cb(), Cut(7))
    whole, again = fit(class_learner(), cb()), fit(class_learner(), keep(), cb())
    assert same(weights(again), weights(whole)) and again.recorder.values == whole.recorder.values


def test_a_place_that_was_loaded_is_kept(tmp_path):
    "Saved again before the first batch; whoever asks for the order of another pass takes nothing from it."
    dl, again = (class_learner().dls.train for _ in range(2))
    for i, _ in enumerate(dl):
        if i == 1: state = dl.state_dict()
    again.load_state_dict(state)
    again.get_idxs()
    assert again.state_dict() == state and len(list(again)) == len(dl) - 2 and len(list(again)) == len(dl)


def test_a_late_callback_sees_no_epoch_that_is_skipped(tmp_path):
    seen = []
    class Late(Callback):
        order, only_watches = 120, True
        def before_epoch(self): seen.append(('before', self.epoch))
        def after_epoch(self): seen.append(('after', self.epoch))
        def after_fit(self): seen.append('end')
    keep = lambda: CheckpointCallback(tmp_path, every=2, verbose=False)
    with pytest.raises(Accident): fit(class_learner(), keep(), Cut(12), epochs=3)
    fit(class_learner(), keep(), Late(), epochs=3)
    assert seen[-3:] == [('before', 2), ('after', 2), 'end'] and ('after', 0) not in seen and ('after', 1) not in seen


@pytest.mark.parametrize('what,a,b', [
    ('loss', ChunkedCrossEntropy(), ChunkedCrossEntropy(label_smoothing=0.1)),
    ('loss', CrossEntropyLossFlat(), CrossEntropyLossFlat(weight=torch.arange(1., 33))),
    ('loss', SampledCrossEntropy(np.ones(32)), SampledCrossEntropy(np.arange(32)))], ids=lambda o: type(o).__name__)
def test_a_loss_with_other_settings_is_another_run(tmp_path, what, a, b):
    go = lambda loss, *cbs: fit(learner(loss_func=loss), CheckpointCallback(tmp_path, every=2, verbose=False), *cbs)
    with pytest.raises(Accident): go(a, Cut(3))
    with pytest.raises(ValueError, match=f'another run: {what} was'): go(b)
    go(a)


def test_a_frozen_weight_or_another_order_of_words_is_another_run(tmp_path):
    go = lambda learn, *cbs: fit(learn, CheckpointCallback(tmp_path, every=2, verbose=False), *cbs)
    with pytest.raises(Accident): go(learner(), Cut(3))
    frozen, other = learner(), learner()
    frozen.model[1].decoder.bias.requires_grad_(False)
    other.dls.vocab = vocab[:5] + [vocab[6], vocab[5]] + vocab[7:]
    for learn, what in ((frozen, 'parameters'), (other, 'vocab')):
        with pytest.raises(ValueError, match=f'another run: {what} was'): go(learn)


# ---- what else decides a result

def file_learner(folder, swapped=False):
    "Loaders over paths, whose labels a function reads off them; `swapped`: the other way round."
    for k in ('neg', 'pos'):
        (folder/k).mkdir(parents=True, exist_ok=True)
        for i in range(20):
            if not (folder/k/f'{i}.txt').exists(): (folder/k/f'{i}.txt').write_text(f'{i % 7} {i % 5} {i % 3}')
    def read(p): return torch.tensor([float(o) for o in p.read_text().split()])
    def label(p): return dict(neg='pos', pos='neg')[p.parent.name] if swapped else p.parent.name
    ds = Datasets(sorted(folder.rglob('*.txt')), [[read], [label, Categorize()]])
    return Learner(DataLoaders.from_dsets(ds, ds, bs=8, device='cpu'), nn.Linear(3, 2),
                   loss_func=CrossEntropyLossFlat())


@pytest.mark.parametrize('change', ['labels', 'a file'])
def test_loaders_over_files_are_known_by_labels_and_content(tmp_path, change):
    "With the labels of a function, the paths say nothing of them: all labels swapped was the same run."
    go = lambda swapped, *cbs: fit(file_learner(tmp_path/'data', swapped),
                                   CheckpointCallback(tmp_path/'c', every='epoch', verbose=False), *cbs)
    with pytest.raises(Accident): go(False, Cut(6))
    if change == 'a file': (tmp_path/'data'/'neg'/'3.txt').write_text('3 3 1')  # of the same size
    with pytest.raises(ValueError, match='another run: content of loader 0 was'): go(change == 'labels')
    if change == 'a file': (tmp_path/'data'/'neg'/'3.txt').write_text('3 3 0')
    go(False)


@pytest.mark.parametrize('what', ['encoder', 'model'])
def test_other_weights_to_start_from_are_another_run(tmp_path, what):
    "An encoder, or a whole model, of another file; weights that the finder of learning rates loads do not count."
    for name, seed in (('a', 1), ('b', 2)):
        other = learner(seed, path=tmp_path)
        other.save_encoder(name) if what == 'encoder' else other.save(name)
    def go(name, *cbs, seed=42):
        learn = learner(seed, path=tmp_path)
        learn.load_encoder(name) if what == 'encoder' else learn.load(name)
        with learn.no_bar(), learn.no_logging(): learn.lr_find(num_it=3, show_plot=False)
        return fit(learn, CheckpointCallback(tmp_path/'c', every=5, verbose=False), *cbs)
    with pytest.raises(Accident): go('a', Cut(9))
    with pytest.raises(ValueError, match=f'another run: loaded {what} was'): go('b')
    assert same(weights(go('a', seed=7)), weights(go('a', seed=8)))


class Scale(Callback):
    run_valid = False
    def __init__(self, scale): self.scale = scale
    def before_step(self):
        for p in self.model.parameters():
            if p.grad is not None: p.grad *= self.scale


class Watch(Callback):
    only_watches = True
    def after_batch(self): pass


@pytest.mark.parametrize('a, b, what', [
    ([], [RescaleLR], 'callback RescaleLR was None and is on'),
    ([partial(Scale, 2.)], [partial(Scale, 3.)], 'scale of Scale was 2.0 and is 3.0'),
    ([partial(Scale, 2.)], [], 'callback Scale was on and is None'),
    ([partial(Scale, 2.)], [partial(Scale, 2.)]*2, 'callback Scale 2 was None'),
    ([partial(EarlyStoppingCallback, patience=1)], [partial(EarlyStoppingCallback, patience=9)],
     'patience of EarlyStoppingCallback'),
    ([], [Watch], None), ([Watch, partial(Scale, 1.)], [partial(Scale, 1.)], None)], ids=range(7))
def test_every_callback_that_does_more_than_watch_counts(tmp_path, a, b, what):
    "With the settings that its constructor was given; only four kinds counted."
    go = lambda kinds, *cbs: fit(learner(), CheckpointCallback(tmp_path, every=5, verbose=False),
                                 *[f() for f in kinds], *cbs)
    with pytest.raises(Accident): go(a, Cut(9))
    if what is None: return go(b)
    with pytest.raises(ValueError, match=f'another run: .*{what}' + '.*only_watches = True'*('callback' in what)): go(b)
    go(a)


@pytest.mark.parametrize('a, b', [
    (Adam, partial(Adam, decouple_wd=False)), (fused_adam, partial(fused_adam, decouple_wd=False)),
    (fused_adam, Adam), (partial(SGD, mom=.9), partial(SGD, mom=.9, decouple_wd=False)),
    *[(partial(OptimWrapper, opt=torch.optim.AdamW), partial(OptimWrapper, opt=o))
      for o in (torch.optim.Adam, partial(torch.optim.AdamW, amsgrad=True))]], ids=range(6))
def test_an_optimizer_with_other_arguments_is_another_run(tmp_path, a, b):
    go = lambda opt_func, *cbs: fit(learner(opt_func=opt_func),
                                    CheckpointCallback(tmp_path, every=5, verbose=False), *cbs)
    with pytest.raises(Accident): go(a, Cut(9))
    with pytest.raises(ValueError, match='another run: optimizer was'): go(b)
    go(a)


def test_the_random_numbers_of_apples_gpu_are_part_of_the_state(monkeypatch):
    state = [torch.arange(4, dtype=torch.uint8)]
    monkeypatch.setattr(torch.backends.mps, 'is_available', lambda: True)
    monkeypatch.setattr(torch.mps, 'get_rng_state', lambda: state[0].clone())
    monkeypatch.setattr(torch.mps, 'set_rng_state', lambda s: state.__setitem__(0, s))
    before = resume.rng_state()
    state[0] += 1
    resume.set_rng_state(before)
    assert state[0].tolist() == [0, 1, 2, 3]


def test_how_often_and_how_many_checkpoints_without_a_word(tmp_path):
    cb, steps = CheckpointCallback(tmp_path/'run', verbose=False), []
    save = cb._save
    cb._save = lambda epoch, it, **kw: (steps.append(cb.learn.train_iter), save(epoch, it, **kw))
    fit(learn := learner(dls=loaders(bs=4, seq_len=2)), cb, epochs=1)
    assert sorted({*steps}) == [0, 100, len(learn.dls.train)] and len(list((tmp_path/'run').iterdir())) == 2


def test_damaged_checkpoints_make_room(tmp_path, whole):
    "They had the names of later steps: what was saved after them was removed at once, until the run had passed them."
    with pytest.raises(Accident): fit(learner(), CheckpointCallback(tmp_path/'c', every=2), Cut(15))
    for p in (tmp_path/'c').iterdir(): (p/'state.json').write_text('{')
    with pytest.raises(Accident): fit(learner(), CheckpointCallback(tmp_path/'c', every=2), Cut(9))
    assert sorted(p.name for p in (tmp_path/'c').iterdir()) == ['00000006.0000', '00000008.0000']
    assert_same_run(fit(learner(), CheckpointCallback(tmp_path/'c', every=2)), whole)


class Limit(Callback): # ends each epoch, or each validation, early
    def __init__(self, train=None, valid=None): self.train, self.valid = train, valid
    def after_batch(self):
        if self.training and self.iter + 1 == self.train: raise CancelTrainException
        if not self.training and self.iter + 1 == self.valid: raise CancelValidException


@pytest.mark.parametrize('limit', [dict(train=10), dict(valid=2), dict(train=9, valid=1)], ids=str)
def test_epochs_that_are_ended_early_resume_as_well(tmp_path, limit):
    "The position in the data was that of the batch at which they ended."
    again = lambda *cbs, seed=42: fit(learner(seed=seed), Limit(**limit), *cbs, epochs=3)
    first = again()
    n = limit.get('train', n_steps)
    with pytest.raises(Accident): again(CheckpointCallback(tmp_path/'c', every=7), Cut(n + 1))
    with pytest.raises(Accident): again(CheckpointCallback(tmp_path/'c', every=7), Cut(2*n - 2), seed=1)
    assert_same_run(again(CheckpointCallback(tmp_path/'c', every=7), seed=2), first)


class StopAt(Callback):
    def __init__(self, n): self.n = n
    def before_batch(self):
        if self.training and self.iter >= self.n: raise CancelTrainException


class Noise(Callback):
    def before_batch(self):
        with torch.no_grad(): self.learn.model[1].decoder.bias += .01*torch.rand(1)


class Draws(Callback): # random numbers for purposes of its own
    def before_epoch(self): torch.rand(1)
    def before_train(self): torch.rand(1)


@pytest.mark.parametrize('every', [7, 'epoch'])
@pytest.mark.parametrize('cb', [partial(StopAt, 10), Noise, Draws], ids=['step', 'noise', 'draws'])
def test_callbacks_see_the_restored_step_and_random_numbers(tmp_path, cb, every):
    "Before a batch, the step was counted from 0, and the random numbers were those of the new process."
    again = lambda *cbs, seed=42: fit(learner(seed=seed), cb(), *cbs, epochs=3)
    checkpoint = lambda: CheckpointCallback(tmp_path/'c', every=every, verbose=False)
    first = again()
    for i, n in enumerate((9, 13, 22)):
        with pytest.raises(Accident): again(checkpoint(), Cut(n), seed=42 + i)
    assert_same_run(last := again(checkpoint(), seed=2), first)
    assert len(last.cbs) == len(first.cbs)


def test_a_fit_that_failed_leaves_the_next_one_alone(tmp_path, whole):
    learn = learner()
    with pytest.raises(Accident): fit(learner(), CheckpointCallback(tmp_path/'c', verbose=False), Cut(5))
    with pytest.raises(Accident): fit(learn, CheckpointCallback(tmp_path/'c', every=2, verbose=False), Cut(9))
    seen = []
    class See(Callback):
        def after_batch(self): seen.append(self.learn.iter)
    fit(learn, See(), epochs=1)
    assert seen[:3] == [0, 1, 2]
    other = learner()
    other.add_cb(resume.CheckpointPosition(CheckpointCallback(tmp_path/'c')))
    assert_same_run(fit(other, CheckpointCallback(tmp_path/'d', verbose=False)), whole)


class LoaderOfOthers: # of somebody else: it knows its position, and calls the number of the pass something else
    def __init__(self, dl): self.dl, self.n_inp = dl, 1
    def __iter__(self): return iter(self.dl)
    def __len__(self): return len(self.dl)
    def to(self, device): return self
    def load_state_dict(self, s): self.dl.load_state_dict(s)
    def state_dict(self): return self.dl.state_dict()


def test_a_loader_with_a_state_and_without_an_epoch(tmp_path, whole):
    make = lambda seed=42: learner(seed=seed, dls=Both(*map(LoaderOfOthers, loaders().loaders)))
    assert_same_run(run_cut(tmp_path/'c', Cut(9), make=make), whole)


class Both(DataLoaders):
    def __init__(self, *dls): self.loaders, self.device, self.vocab = list(dls), torch.device('cpu'), vocab


@pytest.mark.parametrize('wrap', ['AttentionLSTM', 'PointerSentinel', 'ContinuousCache'])
def test_models_with_a_memory_resume(tmp_path, wrap):
    "What they had seen was not in the checkpoint."
    from lesson8nlp import beyond
    def make(seed=42):
        set_seed(seed, reproducible=True)
        inner = lm.LMModel7(len(vocab), 16, 1, .1)
        model = getattr(beyond, wrap)(inner, *[16]*(wrap != 'ContinuousCache'), window=8)
        return TextLearner(loaders(), model, loss_func=CrossEntropyLossFlat())
    assert_same_run(run_cut(tmp_path/'c', Cut(9), make=make), fit(make()))


def test_a_schedule_that_differs_only_between_its_ends_is_another_run():
    from fastai.callback.schedule import ParamScheduler, combined_cos
    from lesson8nlp.resume import schedule_identity
    found = []
    for pct in (.25, .25, .5):
        learn = learner()
        learn.create_opt()
        learn.add_cb(ParamScheduler(dict(lr=combined_cos(pct, .1, 1., .01))))
        found.append(schedule_identity(learn))
    a, b, c = found
    assert a == b != c and all(a['schedule of lr'][i] == c['schedule of lr'][i] for i in (0, -1))
