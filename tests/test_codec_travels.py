"""A model and its codec, through the real factories: the same answers in another process, wherever padding is in
the vocab."""
import json, multiprocessing, os, subprocess, sys

import numpy as np, pytest, torch

from lesson8nlp.awdlstm import *
from lesson8nlp.classifier import *
from lesson8nlp.codec import *
from lesson8nlp.corpus import Corpus
from lesson8nlp.dataloader import *
from lesson8nlp.learner import *
from lesson8nlp.numericalizer import *
from lesson8nlp.tokenizer import *
from lesson8nlp.ulmfit import *

english = [f"The {a} film wasn't {b}; I'd see it {c} AGAIN!!!"
           for a in ('long', 'old', 'new') for b in ('bad', 'dull', 'good') for c in ('once', 'soon', 'twice')]*2
german = [f'Der {a} Film war z.B. am {b} sehr schön, u.a. die {c}...' for a in ('lange', 'alte', 'neue')
          for b in ('Sonntag', 'Montag', 'Abend') for c in ('Musik', 'Bilder', 'Straße')]*2
kinds = dict(characters=(lambda folder: Tokenizer(CharTokenizer(), rules=[]), english),
             subwords=(lambda folder: Tokenizer(SubwordTokenizer(vocab_sz=80, cache_dir=folder)), english),
             german=(lambda folder: Tokenizer(WordTokenizer('de')), german))
labels, tiny, cpu = ['x', 'y']*27, dict(emb_sz=8, n_hid=8, n_layers=1), dict(device='cpu', valid_pct=0.2)


def trained(learn):
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-2)
    return TextModel.from_learner(learn)


def language_model(dls):
    return trained(language_model_learner(
        dls, AWD_LSTM, config=awd_lstm_lm_config | tiny | dict(pad_token=dls.codec.pad_id),
        pretrained=False, path=None))


def classifier(dls): return trained(text_classifier_learner(dls, AWD_LSTM, config=tiny, pretrained=False, path=None))


def models(kind, folder):
    "One model of each factory; the third reads with the codec of the first."
    make, texts = kinds[kind]
    tok, num = make(folder/'cache'), Numericalize(min_freq=1)
    if hasattr(tok, 'setup'): tok.setup(texts)
    sizes = dict(bs=8, seq_len=12, **cpu)
    lm = language_model(lm_dataloaders(texts, tok=tok, num=num, **sizes))
    corpus = Corpus.from_texts(texts, tok=tok, min_freq=1, path=folder/'corpus', progress=False)
    return dict(lm=lm, corpus=language_model(lm_dataloaders(corpus, **sizes)),
                classes=classifier(class_dataloaders(texts, labels, lm.codec, bs=16, **cpu)))


def answers(m, texts):
    "Plain values: what the codec reads and writes, and what the model says."
    some = texts[:3] + ['Ein völlig neuer Text, unknown: Zyzzyva 10/10', '']
    ids = [o.tolist() for o in m.codec.encode_all(some)]
    res = dict(tokens=[m.codec.tokens(t) for t in some], ids=ids, text=[m.codec.decode(o) for o in ids],
               codec=m.codec.fingerprint(), model=m.fingerprint())
    if m.labels: return res | dict(labels=m.predict(some).label.tolist(), numbers=classify(m, some).flatten().tolist())
    written = [m.generate(t[:20], max_tokens=12, seed=3, details=True, **how)
               for t in texts[:2] for how in ({}, dict(temperature=0), dict(beams=2))]
    return res | dict(written=[[o.text, o.ids] for o in written],
                      numbers=[m.perplexity(some[:4]), *sum([o.log_probs for o in written], [])])


ELSEWHERE = '''
import json, sys, warnings
warnings.simplefilter('error', UserWarning) # that a tokenizer splits texts in another way
from test_codec_travels import *
paths = json.loads(sys.argv[1])
loaded = {k: TextModel.load(p, 'cpu') for k, p in paths.items()}
warnings.simplefilter('ignore')
print(json.dumps({k: answers(m, kinds[k.split()[0]][1]) for k, m in loaded.items()}))
'''


@pytest.fixture(scope='module')
def travellers(tmp_path_factory):
    "Answers of nine models here, and in another process that has loaded them."
    folder, here, paths = tmp_path_factory.mktemp('travel'), {}, {}
    for kind in kinds:
        for factory, m in models(kind, folder/kind).items():
            name = f'{kind} {factory}'
            here[name], paths[name] = answers(m, kinds[kind][1]), str(m.save(folder/name.replace(' ', '_')))
    env = os.environ | dict(PYTHONPATH=os.pathsep.join(p for p in sys.path if p), OMP_NUM_THREADS='1',
                            FASTAI_HOME=str(folder))
    out = subprocess.run([sys.executable, '-P', '-c', ELSEWHERE, json.dumps(paths)], capture_output=True, text=True,
                         env=env, encoding='utf-8')
    assert out.returncode == 0, out.stderr
    return here, json.loads(out.stdout.splitlines()[-1])


@pytest.mark.parametrize('factory', ['lm', 'corpus', 'classes'])
@pytest.mark.parametrize('kind', kinds)
def test_a_model_answers_alike_in_another_process(travellers, kind, factory):
    here, there = (dict(o[f'{kind} {factory}']) for o in travellers)
    assert np.isfinite(here['numbers']).all() and here.pop('numbers') == pytest.approx(there.pop('numbers'), abs=1e-6)
    assert here == there


@pytest.fixture(scope='module')
def tokens(): return list(dict.fromkeys([UNK, BOS, TK_UP, *(t for o in Tokenizer().pipe(english) for t in o)]))


@pytest.mark.parametrize('at', [0, 2, 'last'])
def test_padding_changes_no_answer_wherever_it_is_in_the_vocab(tokens, at):
    at = len(tokens) if at == 'last' else at
    vocab = tokens[:at] + [PAD] + tokens[at:]
    lm = language_model(lm_dataloaders(english, num=Numericalize(vocab), bs=8, seq_len=12, **cpu))
    docs = [' '.join(english[i:i + 1 + i % 4]) for i in range(len(english))]
    dls = class_dataloaders(docs, labels, lm.codec, bs=16, **cpu)
    clf, texts = classifier(dls), ['Good', english[0], f'{english[1]} {english[2]}', f'{vocab[1]} film']
    assert lm.codec.pad_id == clf.codec.pad_id == at
    n = np.array([len(o) - 1 for o in lm.codec.encode_all(texts)])
    alone = np.log([lm.perplexity(t) for t in texts])
    assert np.log(lm.perplexity(texts)) == pytest.approx(alone @ n/n.sum(), abs=1e-5)
    assert (classify(clf, texts).numpy()
            == pytest.approx(np.concatenate([classify(clf, [t]).numpy() for t in texts]), abs=1e-6))
    x = dls.valid.one_batch()[0].as_subclass(torch.Tensor)
    rows = [o[o != at] for o in x]
    assert ((x == at).any()
            and {tuple(o.tolist()) for o in rows} <= {tuple(o.tolist()) for o in lm.codec.encode_all(docs)})
    with torch.no_grad():
        torch.testing.assert_close(clf.model(x)[0], torch.cat([clf.model(o[None])[0] for o in rows]),
                                   atol=1e-5, rtol=1e-5)


def all_answers(clf):
    return [clf.predict(english)[['label', 'probability']].values.tolist(), classify(clf, english).tolist(),
            clf.codec.fingerprint()]


def work(path, clf, queue): queue.put([all_answers(m) for m in (TextModel.load(path, 'cpu'), clf)])


def test_answers_in_a_process_of_a_web_server(tmp_path):
    "A spawned one, which loads the model or gets it; daemonic, as those of a pool are: it may not start others."
    clf = classifier(class_dataloaders(english, labels, make_codec(english, min_freq=1), bs=16, **cpu))
    path, context, (want, probs, key) = clf.save(tmp_path/'m'), multiprocessing.get_context('spawn'), all_answers(clf)
    queue = context.Queue()
    p = context.Process(target=work, args=(path, clf, queue), daemon=True)
    p.start()
    for found, theirs, codec in queue.get(timeout=100):
        assert [a for a, _ in found] == [a for a, _ in want] and codec == key
        assert (np.array(theirs) == pytest.approx(np.array(probs), abs=1e-6)
                and [b for _, b in found] == pytest.approx([b for _, b in want], abs=1e-6))
    p.join(20)
    assert p.exitcode == 0


def test_our_tokenizer_inside_fastais(tmp_path):
    "fastai's loaders put a Tokenizer of theirs around the one they get; the model could not be saved."
    import fastai.text.all as fa, pandas as pd
    df = pd.DataFrame(dict(text=english, lab=labels))
    dls = fa.TextDataLoaders.from_df(df, text_col='text', label_col='lab', bs=8, device='cpu', tok_tfm=Tokenizer())
    m = classifier(dls)
    again = TextModel.load(m.save(tmp_path/'m'), 'cpu')
    assert again.labels == ['x', 'y'] and again.fingerprint() == m.fingerprint()
    ids = {tuple(o.tolist()) for o, _ in dls.train_ds} | {tuple(o.tolist()) for o, _ in dls.valid_ds}
    assert {tuple(again.codec.encode(t).tolist()) for t in english} == ids  # as in training
