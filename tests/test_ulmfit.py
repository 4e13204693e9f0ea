"What a notebook cannot show well about saved models and the main calls: damaged folders, kills while saving, other processes."
import json, os, pickle, shutil, signal, subprocess, sys
from pathlib import Path

import numpy as np, pandas as pd, pytest, safetensors.torch, torch
from fastai.basics import nn

from lesson8nlp import ulmfit
from lesson8nlp.awdlstm import *
from lesson8nlp.codec import *
from lesson8nlp.data import *
from lesson8nlp.fasttok import FastTokenizer
from lesson8nlp.learner import *
from lesson8nlp.store import *
from lesson8nlp.texts import *
from lesson8nlp.tokenizer import *
from lesson8nlp.ulmfit import *
from small_runs import *


def save_model(learn, path, tok=None, **info):
    if tok is not None: learn.dls.codec = Codec(tok, vocab)
    return TextModel.from_learner(learn, **info).save(path)


def load_model(path, device='cpu'): return TextModel.load(path, device)


@pytest.fixture(scope='module')
def saved(tmp_path_factory): return save_model(learner(), tmp_path_factory.mktemp('saved')/'m', tok=Tokenizer())


@pytest.fixture
def folder(saved, tmp_path): return Path(shutil.copytree(saved, tmp_path/'m'))


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

