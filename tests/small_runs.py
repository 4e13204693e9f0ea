"A small language model, fits that are interrupted, and what the tests of learners, models and checkpoints share."
import numpy as np, torch
from fastai.basics import Callback, DataLoaders, set_seed
from fastai.callback.schedule import *

from lesson8nlp.awdlstm import *
from lesson8nlp.dataloader import *
from lesson8nlp.learner import *

vocab = ['xxunk', 'xxpad'] + [f'w{i}' for i in range(30)]
stream = np.random.default_rng(0).integers(2, 32, 4_000).cumsum() % 30 + 2
small = dict(emb_sz=8, n_hid=12, n_layers=2, pad_token=1, bidir=False, output_p=0.1, hidden_p=0.1, input_p=0.2,
    embed_p=0.1, weight_p=0.2, tie_weights=True, out_bias=True)


def loaders(bs=8, seq_len=10, seed=1, shuffle=True, **kw):
    docs = [stream[i:i+100] for i in range(0, 1_600, 100)]
    return DataLoaders(LMDataLoader(docs, bs=bs, seq_len=seq_len, shuffle=shuffle, seed=seed, vocab=vocab, **kw),
                       LMDataLoader(stream[3_600:], bs=bs, seq_len=seq_len, vocab=vocab), device='cpu')


def learner(seed=42, dls=None, config=small, path='.', **kw):
    set_seed(seed, reproducible=True)
    return language_model_learner(dls or loaders(), AWD_LSTM, config=config, pretrained=False, path=path,
                                  **(dict(metrics=TokenAccuracy()) | kw))


def fit(learn, *cbs, epochs=2, lr=1e-2):
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(epochs, lr, wd=0.1, cbs=list(cbs))
    return learn


def weights(learn): return {k: v.clone() for k, v in learn.model.state_dict().items()}
def same(a, b): return all(torch.equal(x, y) for x, y in zip(a.values(), b.values())) and list(a) == list(b)


class Accident(Exception): pass


class Cut(Callback):
    order, run_valid, only_watches = 100, False, True
    def __init__(self, n): self.n = n
    def after_batch(self):
        if self.learn.train_iter == self.n: raise Accident('cut')


class CutInValidation(Callback):
    only_watches = True
    def __init__(self, epoch): self.at_epoch = epoch
    def before_validate(self):
        if self.learn.epoch == self.at_epoch: raise Accident('cut')
