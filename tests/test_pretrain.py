"""The training of the model that ships, on a small scale."""
import importlib.util
from pathlib import Path

import pytest, torch

from lesson8nlp.corpus import Corpus
from lesson8nlp.data import get_imdb
from lesson8nlp.texts import read_text, text_files
from lesson8nlp.ulmfit import TextModel

root = Path(__file__).resolve().parent.parent


@pytest.fixture
def pretrain(monkeypatch):
    spec = importlib.util.spec_from_file_location('pretrain', root/'tools'/'pretrain.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, 'shape', dict(emb_sz=8, n_hid=8, n_layers=1))
    monkeypatch.setattr(module, 'how', module.how | dict(bs=4, seq_len=8))
    return module


@pytest.fixture
def texts(): return [read_text(f) for f in text_files(get_imdb(), folders=['train'])[:14]]


def test_a_stage_follows_its_schedule_to_the_end_and_stops(pretrain, texts, tmp_path):
    corpus = Corpus.from_texts(texts[:10], max_vocab=300, path=tmp_path/'corpus')
    valid = Corpus.from_texts(texts[10:], vocab=list(corpus.vocab), path=tmp_path/'aside')
    per_epoch = len(pretrain.loaders(corpus, valid, tmp_path, 1).train)
    steps = per_epoch + per_epoch//2  # it ends within the second epoch
    stage = dict(tokens=steps*4*8 + 5, drop_mult=0., decay=0.5, seed=1)
    learn, seconds = pretrain.run_stage(corpus, valid, stage, None, tmp_path/'run_1')
    rates = learn.recorder.lrs
    assert len(rates) == steps and seconds > 0
    assert rates[0] == pytest.approx(pretrain.how['lr']/500) and max(rates) == pretrain.how['lr']
    assert rates[-1] == pytest.approx(pretrain.how['lr']/(steps*0.5), rel=0.05)  # one step before zero
    first, last = (float(torch.stack(learn.recorder.losses[s]).mean()) for s in (slice(20), slice(-20, None)))
    assert last < first - 0.3

    start = {k: v.clone() for k, v in learn.model.state_dict().items()}
    again, _ = pretrain.run_stage(corpus, valid, stage | dict(tokens=20*4*8), start, tmp_path/'run_2')
    assert float(torch.stack(again.recorder.losses[:10]).mean()) < first - 0.2  # it went on from there


def test_the_model_that_ships_has_what_pretrain_says(pretrain):
    lm = TextModel.pretrained()
    assert {k: lm.config[k] for k in ('emb_sz', 'n_hid', 'n_layers')} == dict(emb_sz=400, n_hid=600, n_layers=2)
    assert len(lm.codec.vocab) == pretrain.how['vocab_size']
    assert lm.info['tokens'] == pytest.approx(sum(o['tokens'] for o in pretrain.stages), rel=0.02)
