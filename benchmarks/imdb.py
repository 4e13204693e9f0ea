"""All of IMDB on one GPU, from raw text to a classifier: a language model that reads forward, one that reads backward, and their classifiers.

    python benchmarks/imdb.py                          # everything; results/imdb_gpu.json
    python benchmarks/imdb.py --until prepare          # texts to ids only: the one stage that needs the texts and spaCy
    python benchmarks/imdb.py --minutes 9              # a slice: stops at a checkpoint in time, exit status 75; the same command goes on
    python benchmarks/imdb.py --set lm.lr=3e-3 --until choose_forward --out build/imdb-slower --bundle build/imdb/bundle
    python benchmarks/imdb.py --tried build/imdb*      # one row for each of these runs; results/imdb_tried.json
    python benchmarks/imdb.py --small                  # the same path with made-up reviews and a tiny model on a processor, half a minute

Stages, each for both directions: `lm` trains on nine tenths of all 100,000 reviews without their labels, as the course page does, and
measures perplexity on the tenth. `choose` trains the classifier on nine tenths of the 25,000 training reviews and looks at the tenth: what
is decided, is decided there, the temperature of the probabilities too. `clas` trains on all 25,000 and reads the test reviews, once.

The folder `--out` has three parts. `bundle`: the ids of all reviews, labels, vocabulary, with checksums. `work`: checkpoints, large, to go on
from within a stage. `travel`: what a fresh machine needs to go on, besides the bundle: results, answers, and the language model that the
classifier is waiting for, 8 bits a weight, in files under 15 MB, together under 60. In half precision it would be 88 MB. The classifier
begins with these weights always, so that nothing depends on whether a machine was changed; what 8 bits cost is measured."""
import argparse, hashlib, json, lzma, math, shutil, sys, time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

here = Path(__file__).resolve().parent
sys.path[:0] = [str(here.parent), str(here)]
import gpu # first: it puts empty modules where spaCy is missing
import numpy as np, torch
from fastai.basics import Callback, CrossEntropyLossFlat, DataLoaders, RandomSplitter, TensorCategory, accuracy, set_seed
from fastai.text.all import SortedDL, TensorText
from scipy.stats import binomtest
from lesson8nlp import awdlstm, checkpoint, classifier, learner as ours
from lesson8nlp.store import atomic_file
from lesson8nlp.core import load_results, result_row, save_results
from lesson8nlp.corpus import Corpus
from lesson8nlp.data import get_imdb, sample_reviews, text_files
from lesson8nlp.dataloader import LMDataLoader
from lesson8nlp.codec import Codec, decode
from lesson8nlp.generate import generate

directions, classes = ('forward', 'backward'), ['neg', 'pos']
stages = ['prepare', *(f'{s}_{d}' for d in directions for s in ('lm', 'choose', 'clas')), 'report']
full = dict(n=None, max_vocab=60_000, seed=42, reserve=60, samples=150, part=14_000_000,
    model=dict(emb_sz=400, n_hid=1152, n_layers=3),
    lm=dict(epochs=16, lr=5e-3, wd=0.01, bs=256, seq_len=80, drop_mult=0.4, alpha=2., beta=1., every='epoch'),
    clas=dict(epochs=1, last_epochs=4, lr=2e-2, factor=2.6, decay=0.5, wd=0.1, bs=128, drop_mult=0.5, max_len=1440, smoothing=0.))
small = full | dict(n=400, max_vocab=1500, reserve=0, samples=40, part=20_000,
    model=dict(emb_sz=32, n_hid=48, n_layers=2),
    lm=full['lm'] | dict(epochs=3, lr=1e-2, bs=32, seq_len=40, drop_mult=0.1, every=50),
    clas=full['clas'] | dict(last_epochs=2, bs=32, drop_mult=0.2))
goals = {'language model, perplexity, forward': (37, 35.3), 'classifier, accuracy, forward': (94.4, 95.0), 'classifier, accuracy, forward and backward': (95.0, 95.7),
         'raw text to classifier, forward': (30, 10)}
page = {'language model, perplexity, forward': (35.80, 'course page; 35.37 in the book'), 'classifier, accuracy, forward': (94.31, 'book'),
        'classifier, accuracy, forward and backward': (95.1, 'book'), 'raw text to classifier, forward': (240, 'course page, about')}

class TimeUp(Exception): pass

# ---- files
def sha(path): return hashlib.sha256(path.read_bytes()).hexdigest()

def write_json(path, o):
    with atomic_file(path) as f: json.dump(o, f, ensure_ascii=False, indent=None if isinstance(o, list) else 1)

def read_json(path): return json.loads(path.read_text(encoding='utf-8'))

def write_arrays(path, **arrays):
    with atomic_file(path, 'wb') as f: np.savez_compressed(f, **arrays)

def read_arrays(path):
    with np.load(path, allow_pickle=False) as z: return dict(z)

class Bundle:
    "The ids of all reviews in a few files: which part of IMDB a review belongs to, its label, the vocabulary. What has been altered is not opened."
    def __init__(self, path):
        self.path = path = Path(path)
        if not (path/'info.json').is_file(): raise FileNotFoundError(f'There is no bundle in {path.name}: make it with --until prepare where the texts are.')
        self.info = read_json(path/'info.json')
        for name, h in self.info['files'].items():
            if not (path/name).is_file(): raise ValueError(f'The bundle lacks {name}: copy the whole folder, or make it again with --until prepare.')
            if sha(path/name) != h: raise ValueError(f'{name} of the bundle is not as it was written: copy it again, or make it again with --until prepare.')
        meta = read_arrays(path/'reviews.npz')
        self.offsets, self.part, self.labels = meta['offsets'], meta['part'], meta['labels']
        self.ids = np.frombuffer(lzma.decompress((path/'ids.xz').read_bytes()), self.info['dtype'])
        self.vocab = read_json(path/'vocab.json')

    def numbers(self, part): return np.flatnonzero(self.part == self.info['parts'].index(part))
    def docs(self, numbers): return [self.ids[self.offsets[i]:self.offsets[i+1]] for i in numbers]

    @classmethod
    def make(cls, path, texts, c):
        "From the folder `texts`, which has the parts of IMDB: `train` and `test` with `neg` and `pos`, and `unsup`."
        began, parts = time.perf_counter(), ['train', 'test', 'unsup']
        files = [f for p in parts for f in text_files(texts/p)] if c['n'] is None else [f for p in parts for k in (classes if p != 'unsup' else [None])
                 for f in text_files(texts/p, folders=k, n=c['n']//(2 if k else 1), seed=c['seed'])]
        if c['n'] is None and len(files) != 100_000: raise SystemExit(f'The whole path needs the 100,000 reviews of IMDB, and {texts.name} has {len(files):,}: install them, or add --small.')
        corpus = Corpus.from_files(files, max_vocab=c['max_vocab'], progress=sys.stderr.isatty())
        took = time.perf_counter() - began
        where = [f.relative_to(texts).parts for f in files]
        path.mkdir(parents=True, exist_ok=True)
        with atomic_file(path/'ids.xz', 'wb') as f: f.write(lzma.compress(np.ascontiguousarray(corpus.ids).tobytes(), preset=6))
        write_arrays(path/'reviews.npz', offsets=np.asarray(corpus.offsets), part=np.array([parts.index(w[0]) for w in where], np.uint8),
                     labels=np.array([classes.index(w[1]) if w[0] != 'unsup' else 255 for w in where], np.uint8))
        write_json(path/'vocab.json', list(corpus.vocab))
        names = ['ids.xz', 'reviews.npz', 'vocab.json']
        write_json(path/'info.json', dict(parts=parts, dtype=str(corpus.ids.dtype), n_docs=len(corpus), n_tokens=len(corpus.ids), n_vocab=len(corpus.vocab), seconds=round(took, 1),
                                          machine=gpu.machine(), files={n: sha(path/n) for n in names}))
        return cls(path)

# ---- a model in 8 bits
def to_8_bits(state):
    "Matrices as int8 with a scale for each row, everything else as it is; names of tied weights point to the first."
    weights, tied = checkpoint._unique(state)
    out = {}
    for k, w in weights.items():
        w = w.float().cpu()
        if w.ndim != 2: out[k] = w.numpy(); continue
        scale = w.abs().amax(1, keepdim=True).clamp(min=1e-12)/127
        out[k], out[f'{k}:scale'] = (w/scale).round().to(torch.int8).numpy(), scale.numpy()
    return out, tied

def from_8_bits(arrays, tied):
    weights = {k: torch.from_numpy(w)*torch.from_numpy(arrays[f'{k}:scale']) if f'{k}:scale' in arrays else torch.from_numpy(w) for k, w in arrays.items() if not k.endswith(':scale')}
    return weights | {k: weights[v] for k, v in tied.items()}

def save_8_bits(folder, state, part):
    "One stream of bytes, compressed, cut into files of at most `part` bytes; `weights.json` is written last and holds their checksums."
    arrays, tied = to_8_bits(state)
    data = lzma.compress(b''.join(a.tobytes() for a in arrays.values()), preset=1)
    names = []
    for i in range(0, len(data), part):
        names.append(f'weights-{i//part}.bin')
        with atomic_file(folder/names[-1], 'wb') as f: f.write(data[i:i+part])
    write_json(folder/'weights.json', dict(tied=tied, arrays={k: [str(a.dtype), list(a.shape)] for k, a in arrays.items()}, files={n: sha(folder/n) for n in names}))

def load_8_bits(folder):
    info = read_json(folder/'weights.json')
    if wrong := [n for n, h in info['files'].items() if not (folder/n).is_file() or sha(folder/n) != h]:
        raise ValueError(f'{", ".join(wrong)} in {folder.name} are missing or altered: copy them again, or remove {folder.name} to train the language model again.')
    data, arrays, at = lzma.decompress(b''.join((folder/n).read_bytes() for n in info['files'])), {}, 0
    for k, (dtype, shape) in info['arrays'].items():
        n = math.prod(shape)
        arrays[k] = np.frombuffer(data, dtype, n, at).reshape(shape).copy()
        at += arrays[k].nbytes
    return from_8_bits(arrays, info['tied'])

# ---- a run and its slices
class Slice(Callback):
    "Says what comes out of each epoch, and ends the slice after the last checkpoint that is made in time."
    order = checkpoint.CheckpointCallback.order + 1
    def __init__(self, run): self.run_ = run
    def before_fit(self): self.last = self.learn.train_iter
    def after_batch(self): self._look()
    def after_epoch(self):
        if self.learn.recorder.values: print('   ', self.learn.epoch, ' '.join(f'{n} {v:.4g}' for n, v in zip(self.learn.recorder.metric_names[1:], self.learn.recorder.values[-1])), f'{self.run_.minutes():.1f} min', flush=True)
        self._look()
    def after_fit(self): self._look()
    def _look(self):
        if self.learn.checkpoint.last == self.last: return
        self.last = self.learn.checkpoint.last
        self.run_.moved()

class Run:
    "Settings, folders and clocks of a run; a stage that is done has a file in `travel`, and is not repeated."
    def __init__(self, a):
        self.a, self.c, self.out = a, a.c, a.out
        self.work, self.travel = self.out/'work', self.out/'travel'
        self.device = 'cuda' if torch.cuda.is_available() else 'cpu'
        self.began, self.step, self.longest, self.progress = time.perf_counter(), time.perf_counter(), 0., False
        f = self.travel/'settings.json'
        if f.exists() and (wrong := differences(read_json(f), self.c)): raise SystemExit(f'{self.out.name} belongs to another run: {"; ".join(wrong)}. Give the settings that it was begun with, or another --out.')
        write_json(f, self.c)

    def minutes(self): return (time.perf_counter() - self.began)/60
    def left(self): return math.inf if self.a.minutes is None else self.a.minutes*60 - (time.perf_counter() - self.began)

    def moved(self): # a checkpoint was written
        now = time.perf_counter()
        self.longest, self.step, self.progress = max(self.longest, now - self.step), now, True
        if self.left() < 1.2*self.longest: raise TimeUp('time is up')

    def need(self, seconds): # what comes next cannot be interrupted
        if self.progress and self.left() < seconds: raise TimeUp('time is up')

    def done(self, stage): return (self.travel/f'{stage}.json').exists()
    def result(self, stage): return read_json(self.travel/f'{stage}.json')

    def clock(self, stage): # seconds and memory of the slices before this one
        f = self.travel/f'{stage}.clock.json'
        return read_json(f) if f.exists() else dict(seconds=0., gb=0., slices=0)

    def stage(self, stage, f):
        "Run `f`, add up its time, keep its result."
        before, began = self.clock(stage), time.perf_counter()
        if self.device == 'cuda': torch.cuda.reset_peak_memory_stats()
        def spent():
            gb = torch.cuda.max_memory_allocated()/2**30 if self.device == 'cuda' else 0.
            return dict(seconds=round(before['seconds'] + time.perf_counter() - began, 2), gb=round(max(before['gb'], gb), 2), slices=before['slices'] + 1)
        try: result = f()
        except TimeUp: write_json(self.travel/f'{stage}.clock.json', spent()); raise
        write_json(self.travel/f'{stage}.json', result | spent())
        self.progress = True
        gpu.clear()

    def tidy(self): # what nobody waits for any more: clocks and checkpoints of stages that are done, language models with a classifier
        for s in filter(self.done, stages[1:]):
            (self.travel/f'{s}.clock.json').unlink(missing_ok=True)
            shutil.rmtree(self.work/s, ignore_errors=True)
            if s.startswith('clas'): shutil.rmtree(self.travel/s.replace('clas', 'lm'), ignore_errors=True)

def differences(was, now, name=''):
    return [o for k in was | now for o in (differences(was[k], now[k], f'{name}{k}.') if isinstance(was.get(k), dict) and isinstance(now.get(k), dict) else
            [f'{name}{k} was {was.get(k)} and is {now.get(k)}'] if was.get(k) != now.get(k) else [])]

def fit(run, learn, stage, name, **kwargs):
    "Call the method `name` of the learner with checkpoints and a clock."
    cbs = [checkpoint.CheckpointCallback(run.work/stage, every=run.c['lm']['every'] if stage.startswith('lm') else 'epoch'), Slice(run)]
    with learn.no_bar(), learn.no_logging(): getattr(learn, name)(cbs=cbs, **kwargs)

def half(run, learn): return learn.to_bf16() if run.device == 'cuda' else learn

# ---- language model
def lm_learner(run, b, back):
    c, k = run.c, run.c['lm']
    train, valid = RandomSplitter(0.1, seed=c['seed'])(range(len(b.offsets) - 1))
    set_seed(c['seed'])
    data = SimpleNamespace(ids=b.ids, offsets=b.offsets, vocab=b.vocab)
    dl = partial(LMDataLoader, data, bs=k['bs'], seq_len=k['seq_len'], backwards=back)
    dls = DataLoaders(dl(docs=np.array(list(train)), shuffle=True, seed=c['seed']), dl(docs=np.array(list(valid))), device=run.device)
    dls.vocab = b.vocab
    return half(run, ours.language_model_learner(dls, awdlstm.AWD_LSTM, config=awdlstm.awd_lstm_lm_config | c['model'], drop_mult=k['drop_mult'], pretrained=False, alpha=k['alpha'],
        beta=k['beta'], metrics=[ours.TokenAccuracy(), ours.TokenPerplexity()], path=run.work))

prompts, temperatures = ('xxbos xxmaj this film is', 'xxbos xxmaj i did not expect'), (0.5, 0.7, 1.0)

def train_lm(run, b, back):
    "One cycle over all reviews but a tenth; perplexity on the tenth, with all bits and with 8; samples."
    k, stage = run.c['lm'], 'lm_' + directions[back]
    learn = lm_learner(run, b, back)
    fit(run, learn, stage, 'fit_one_cycle', n_epoch=k['epochs'], lr_max=k['lr'], wd=k['wd'])
    run.need(run.c['reserve'])
    rec = learn.recorder
    values, losses = [list(map(float, o)) for o in rec.values], np.array([float(o) for o in rec.losses])
    save_8_bits(run.travel/stage, learn.model.state_dict(), run.c['part'])
    learn.model.load_state_dict(load_8_bits(run.travel/stage))
    with learn.no_bar(): again = learn.validate()
    text = lambda p, t: generate(learn.model, p, run.c['samples'], temperature=t, seed=run.c['seed'], codec=Codec(str.split, b.vocab))
    thin = max(1, len(losses)//500)
    smooth = losses[:len(losses)//thin*thin].reshape(-1, thin).mean(1)
    return dict(perplexity=values[-1][-1], accuracy=values[-1][-2], perplexity_8_bits=float(again[2]), n_valid_tokens=int(learn.dls.valid.docs.total), epochs=[dict(zip(('train', 'valid', 'accuracy', 'perplexity'), v)) for v in values],
        losses=smooth.round(4).tolist(), steps_a_loss=thin, lrs=[float(f'{o:.3g}') for o in np.array(rec.lrs)[::thin]][:len(smooth)], samples=[] if back else [dict(prompt=p, temperature=t, text=text(p, t)) for p in prompts for t in temperatures])

# ---- classifier
def doc_dl(run, docs, labels, back, shuffle=False):
    "Batches of documents of similar length, padded on the right."
    ids = [TensorText(torch.from_numpy(o.astype(np.int64))) for o in docs]
    items = list(zip([o.flip(0) for o in ids] if back else ids, [TensorCategory(int(o)) for o in labels]))
    return SortedDL(items, res=[len(o) for o in ids], bs=run.c['clas']['bs'], shuffle=shuffle, before_batch=partial(classifier._pad_right, pad_idx=1), device=run.device)

@torch.no_grad()
def answers(run, model, docs, back):
    "Probabilities of the classes, (n, 2) float32, in the order of `docs`."
    dl = doc_dl(run, docs, [0]*len(docs), back)
    order = dl.get_idxs()
    model.eval()
    with torch.autocast(run.device, torch.bfloat16, enabled=run.device == 'cuda'):
        out = torch.cat([model(x.as_subclass(torch.Tensor))[0].float().softmax(-1).cpu() for x, _ in dl.new(get_idxs=lambda: order)])
    return out[np.argsort(order)].numpy()

def clas_learner(run, b, back, train, valid):
    c, k, y = run.c, run.c['clas'], b.labels
    set_seed(c['seed']) # a loader draws the seed of its order when it is made
    dls = DataLoaders(doc_dl(run, b.docs(train), y[train], back, shuffle=True), doc_dl(run, b.docs(valid), y[valid], back))
    dls.vocab, dls.c = [b.vocab, classes], 2
    learn = classifier.text_classifier_learner(dls, awdlstm.AWD_LSTM, config=awdlstm.awd_lstm_clas_config | c['model'], pretrained=False, drop_mult=k['drop_mult'], max_len=k['max_len'],
        loss_func=CrossEntropyLossFlat(label_smoothing=k['smoothing']), metrics=accuracy, path=run.work)
    state = load_8_bits(run.travel/f'lm_{directions[back]}')
    learn.model[0].module.load_state_dict({n[2:]: w for n, w in state.items() if n.startswith('0.')})
    return half(run, learn)

def train_clas(run, b, back, train, valid, stage):
    k = run.c['clas']
    learn = clas_learner(run, b, back, train, valid)
    table = learn.gradual_schedule(k['lr'], k['epochs'], k['last_epochs'], k['factor'], k['decay'])
    fit(run, learn, stage, 'fit_gradual', lr=k['lr'], epochs=k['epochs'], last_epochs=k['last_epochs'], factor=k['factor'], decay=k['decay'], wd=k['wd'], show=False)
    return learn, json.loads(table.to_json(orient='records'))

def holdout(run, b): # numbers of the training reviews: nine tenths, and a tenth with as many of each kind
    train = b.numbers('train')
    rng = np.random.default_rng(run.c['seed'])
    aside = np.concatenate([rng.permutation(train[b.labels[train] == y])[:len(train)//20] for y in range(2)])
    return np.setdiff1d(train, aside), np.sort(aside)

def temper(p, T): # the same as dividing the logits by T
    q = np.log(p.clip(1e-9))/T
    q = np.exp(q - q.max(1, keepdims=True))
    return q/q.sum(1, keepdims=True)

def log_loss(p, y): return float(-np.log(p[np.arange(len(y)), y].clip(1e-9)).mean())

def choose(run, b, back):
    "What would be decided: accuracy on a tenth of the training reviews, and the temperature that makes the probabilities honest there."
    train, valid = holdout(run, b)
    learn, table = train_clas(run, b, back, train, valid, f'choose_{directions[back]}')
    run.need(run.c['reserve'])
    p, y = answers(run, learn.model, b.docs(valid), back), b.labels[valid]
    temps = np.arange(10, 81)/20
    T = float(temps[np.argmin([log_loss(temper(p, t), y) for t in temps])])
    return dict(accuracy=100*float((p.argmax(1) == y).mean()), log_loss=log_loss(p, y), log_loss_tempered=log_loss(temper(p, T), y), temperature=T, n=len(y), schedule=table)

class Spaces: # cuts a text where its tokens were put together
    def pipe(self, texts): return (t.split(' ') for t in texts)

def clas(run, b, back):
    "The classifier on all training reviews (the accuracy shown is that of some which it reads); then, for the only time, the test reviews."
    stage, train, test = f'clas_{directions[back]}', b.numbers('train'), b.numbers('test')
    learn, table = train_clas(run, b, back, train, holdout(run, b)[1], stage)
    run.need(run.c['reserve'])
    checkpoint.save_model(learn.model, run.out/f'classifier_{directions[back]}', vocab=b.vocab, labels=classes, backwards=back)
    p, y = answers(run, learn.model, b.docs(test), back), b.labels[test]
    write_arrays(run.travel/f'{stage}.npz', p=p)
    order = np.argsort(np.diff(b.offsets)[test], kind='stable')[len(test)//10:]
    right = p[order, y[order]] > 0.5
    picks = [order[right == ok][0] for ok in (True, False) if (right == ok).any()] # a short review that was understood, and one that was not
    return dict(words=[moved_by(learn.model, b, test[i], back) for i in picks], schedule=table)

def moved_by(model, b, i, back): # the tokens of review `i` with what each contributed
    s = classifier.saliency(model, ' '.join(b.vocab[o] for o in b.docs([i])[0]), Codec(Spaces(), b.vocab), classes, back)
    return dict(label=classes[b.labels[i]], answer=s.answer, p=round(float(s.p), 4), tokens=list(s.tokens), scores=[float(f'{o:.3g}') for o in s.scores])

# ---- report
def ece(p, y, bins=10):
    sure, right = p.max(1), p.argmax(1) == y
    parts = np.array_split(np.argsort(sure, kind='stable'), bins)
    curve = [[float(sure[i].mean()), float(right[i].mean())] for i in parts]
    return float(np.mean([abs(s - r) for s, r in curve])), curve

def measured(p, y):
    answer = p.argmax(1)
    right = answer == y
    ci = binomtest(int(right.sum()), len(y)).proportion_ci(method='wilson')
    tp, fp, fn = (int(((answer == i) & (y == j)).sum()) for i, j in ((1, 1), (1, 0), (0, 1)))
    err, curve = ece(p, y)
    return dict(accuracy=100*float(right.mean()), low=round(100*ci.low, 2), high=round(100*ci.high, 2), f1=round(2*tp/max(2*tp + fp + fn, 1), 4), log_loss=round(log_loss(p, y), 4),
                ece=round(err, 4), reliability=curve, confusion=[[int(((y == i) & (answer == j)).sum()) for j in range(2)] for i in range(2)])

def mistakes(p, y, b, test, n=10):
    wrong = np.flatnonzero(p.argmax(1) != y)
    text = lambda i: decode([b.vocab[o] for o in b.docs([test[i]])[0][:40]])
    return [dict(review=int(i), label=classes[y[i]], answer=classes[p[i].argmax()], p=round(float(p[i].max()), 4), text=text(i) + ' ...') for i in wrong[np.argsort(-p.max(1)[wrong], kind='stable')[:n]]]

def report(run, b):
    "The rows of the table, with everything that the tutorial shows of them."
    a, test = run.a, b.numbers('test')
    y, res, prefix = b.labels[test].astype(int), {s: run.result(s) for s in stages[1:-1]}, 'Made-up reviews, ' if a.small else 'IMDB, '
    rows, kind = [], 'gpu' if run.device == 'cuda' else 'cpu'
    def add(what, x, unit, **more):
        if not a.small and what in goals:
            least, aim = goals[what]
            reach = (lambda g: x >= g) if unit == '%' else (lambda g: x <= g)
            more |= dict(at_least=least, aim=aim, reached=bool(reach(least)), peer_value=page[what][0], peer=page[what][1])
        rows.append(result_row(prefix + what, float(f'{x:.5g}'), unit, a.command, kind=kind, small=a.small, seeds=[run.c['seed']], machine=gpu.machine(), **more))
    for d in directions:
        o = res[f'lm_{d}']
        add(f'language model, perplexity, {d}', o['perplexity'], 'perplexity', **{k: o[k] for k in o if k not in ('perplexity', 'seconds', 'gb', 'slices')}, settings=run.c['lm'] | run.c['model'])
    ps = {d: temper(read_arrays(run.travel/f'clas_{d}.npz')['p'].astype(np.float64), res[f'choose_{d}']['temperature']) for d in directions}
    ps['forward and backward'] = sum(ps.values())/2
    for name, p in ps.items():
        m = measured(p, y)
        more = dict(words=res[f'clas_{name}']['words'], temperature=res[f'choose_{name}']['temperature'], schedule=res[f'clas_{name}']['schedule'], settings=run.c['clas']) if name in directions else dict(mistakes=mistakes(p, y, b, test))
        add(f'classifier, accuracy, {name}', m.pop('accuracy'), '%', n_test=len(y), **m, **more)
    for d in directions:
        o = res[f'choose_{d}']
        add(f'classifier, accuracy on a tenth of the training reviews, {d}', o['accuracy'], '%', **{k: o[k] for k in ('n', 'log_loss', 'log_loss_tempered', 'temperature')})
    took = {s: res[s]['seconds']/60 for s in res}
    add('raw text to classifier, forward', b.info['seconds']/60 + took['lm_forward'] + took['clas_forward'], 'min', note='corpus, language model, classifier on all training reviews with its answers; not the choices before')
    add('corpus, 100,000 reviews' if not a.small else 'corpus', b.info['seconds']/60, 'min', where=b.info['machine'])
    for s in res: add(f'stage {s}', took[s], 'min', gb=res[s]['gb'], slices=res[s]['slices'])
    save_results(a.results/('imdb_small.json' if a.small else 'imdb_gpu.json'), rows)
    for r in rows: print(f'  {r["what"]:<70}{r["ours"]:>10.5g} {r["unit"]}' + (f'   at least {r["at_least"]}: {"reached" if r["reached"] else "not reached"}' if 'at_least' in r else ''))
    return dict(n_rows=len(rows))

def tried(a):
    "One row for each run whose forward classifier was looked at on the training reviews that were set aside."
    rows = []
    for out in map(Path, a.tried):
        t = out/'travel'
        if not (t/'choose_forward.json').exists(): print(f'{out.name}: choose_forward is not done'); continue
        lm, ch, c = (read_json(t/f'{n}.json') for n in ('lm_forward', 'choose_forward', 'settings'))
        rows.append(result_row(f'tried: {"; ".join(differences(full, c)) or "the settings of the final run"}', round(ch['accuracy'], 2), '%', a.command, kind='tried', perplexity=round(lm['perplexity'], 2),
                               minutes=round((lm['seconds'] + ch['seconds'])/60, 1), log_loss=round(ch['log_loss'], 4), machine=gpu.machine()))
    if not rows: raise SystemExit('None of these folders holds a run that is that far.')
    save_results(a.results/'imdb_tried.json', rows)
    for r in rows: print(f'{r["ours"]:.2f} %  perplexity {r["perplexity"]:.2f}  {r["minutes"]:.0f} min  {r["what"]}')

# ---- all of it
def main(argv=None):
    a = parse(argv)
    if a.tried: return tried(a)
    run = Run(a)
    print(gpu.machine(), flush=True)
    try: go(run, a)
    except TimeUp:
        print(f'Time is up after {run.minutes():.1f} minutes; everything is kept: give the same command again to go on.', flush=True)
        return 75
    return 0

def go(run, a):
    bundle = a.bundle or run.out/'bundle'
    if not (bundle/'info.json').is_file(): b = Bundle.make(bundle, a.texts or (sample_reviews() if a.small else get_imdb()), run.c)
    else: b = Bundle(bundle)
    print(f'{b.info["n_docs"]:,} reviews, {b.info["n_tokens"]:,} tokens, {b.info["n_vocab"]:,} entries in the vocabulary', flush=True)
    todo = {f'{s}_{d}': partial(f, run, b, d == 'backward') for d in directions for s, f in (('lm', train_lm), ('choose', choose), ('clas', clas))} | dict(report=partial(report, run, b))
    for stage in stages[1:stages.index(a.until) + 1]:
        run.tidy()
        if stage != 'report' and run.done(stage): continue
        print(f'{stage}: {" ".join(todo[stage].func.__doc__.split())}', flush=True)
        run.stage(stage, todo[stage])
        print(f'  {run.result(stage)["seconds"]/60:.1f} min', flush=True)

def parse(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--small', action='store_true', help='a tiny model and 1,200 made-up reviews: does everything run?')
    p.add_argument('--out', type=Path, help='folder of the run; build/imdb without it')
    p.add_argument('--bundle', type=Path, help='folder of the ids, if it is another than OUT/bundle')
    p.add_argument('--texts', type=Path, help='folder with train, test and unsup; by default IMDB where fastai keeps it, and made-up reviews with --small')
    p.add_argument('--minutes', type=float, help='end this slice at a checkpoint before that many minutes are over')
    p.add_argument('--until', choices=stages, default='report', help='the last stage to run')
    p.add_argument('--set', action='append', default=[], metavar='lm.lr=3e-3', help='another setting than the usual')
    p.add_argument('--tried', nargs='+', metavar='OUT', help='compare these runs by what they reached on training reviews set aside')
    p.add_argument('--results', type=Path, default=here/'results', help='folder for the rows')
    a = p.parse_args(argv)
    a.c = json.loads(json.dumps(small if a.small else full))
    for o in a.set:
        name, eq, value = o.partition('=')
        *path, key = name.split('.')
        at = a.c
        for k in path: at = at.get(k, {}) if isinstance(at, dict) else {}
        if not eq or not isinstance(at, dict) or key not in at or isinstance(at[key], dict):
            names = [f'{k}.{q}' if isinstance(v, dict) else k for k, v in a.c.items() for q in (v if isinstance(v, dict) else [''])]
            p.error(f'--set {o}: it is NAME=VALUE with one of {", ".join(names)}')
        try: at[key] = json.loads(value)
        except ValueError: p.error(f'--set {o}: {value!r} is neither a number nor a quoted string')
    a.out = a.out or here.parent/'build'/('imdb_small' if a.small else 'imdb')
    if not a.small and a.until != 'prepare' and not a.tried and not torch.cuda.is_available(): p.error('there is no GPU here, and the full sizes would take days on a processor: add --small, or --until prepare')
    a.command = 'python benchmarks/imdb.py' + ' --small'*a.small + ''.join(f' --set {o}' for o in a.set)
    return a

if __name__ == '__main__': sys.exit(main())
