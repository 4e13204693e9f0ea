"""All of IMDB on one GPU, from raw text to classifiers: language models that read forward and backward come first.

    python benchmarks/imdb.py                   # everything; results/imdb_gpu.json
    python benchmarks/imdb.py --until prepare   # texts to ids only: the one stage that needs the texts and spaCy
    python benchmarks/imdb.py --minutes 9       # a slice: stops in time at a checkpoint, status 75; repeat it to go on
    python benchmarks/imdb.py --set lm.lr=3e-3 --until choose_forward --out build/imdb-slower --bundle build/imdb/bundle
    python benchmarks/imdb.py --tried build/imdb*   # one row for each of these runs; results/imdb_tried.json
    python benchmarks/imdb.py --small           # the same path with made-up reviews, half a minute on a CPU

Stages, each for both directions: `lm` trains on nine tenths of all 100,000 reviews without their labels, as the course
page does, and measures perplexity on the tenth. `choose` trains the classifier on nine tenths of the 25,000 training
reviews and looks at the tenth: everything is decided there, the temperature of the probabilities too. `clas` trains on
all 25,000 and reads the test reviews, once.

The folder `--out` has three parts. `bundle`: the ids of all reviews, labels, vocab, with checksums. `work`:
checkpoints, large, to go on from within a stage. `travel`: what a fresh machine needs to go on, besides the bundle:
results, answers, and the language model that the classifier is waiting for, with 8 bits for each weight, in files under
15 MB, together under 60. In half precision it would be 88 MB. The classifier always starts from these weights, so that
nothing depends on whether the machine changed; what 8 bits cost is measured.

The recipe is the library's: `pretrain`, on a GPU with AR and TAR, and `train_classifier` with `gradual=True`, which
unfreezes group by group as the paper does. This program adds the sizes, the slices and the report."""
import argparse, json, math, shutil, sys
from functools import partial
from pathlib import Path

from common import Clock, clear, machine, stand_ins
stand_ins()  # before everything that imports a tokenizer
import numpy as np, torch
from bundle import Bundle, classes, load_from_parts, parts, read_json, save_in_parts
from fastai.basics import Callback
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, f1_score, log_loss

from lesson8nlp.classifier import classify, saliency
from lesson8nlp.codec import Codec, decode
from lesson8nlp.core import result_row, save_results
from lesson8nlp.data import get_imdb, sample_reviews
from lesson8nlp.resume import CheckpointCallback
from lesson8nlp.store import atomic_file
from lesson8nlp.texts import text_files
from lesson8nlp.ulmfit import TextModel, pretrain, train_classifier

here, directions = Path(__file__).resolve().parent, ('forward', 'backward')
stages = ['prepare', *(f'{s}_{d}' for d in directions for s in ('lm', 'choose', 'clas')), 'report']
full = dict(n=None, max_vocab=60_000, seed=42, reserve=60, samples=150, part=14_000_000,
    model=dict(emb_sz=400, n_hid=1152, n_layers=3),
    lm=dict(epochs=16, lr=5e-3, bs=256, seq_len=80, drop_mult=0.4),
    clas=dict(epochs=4, lr=2e-2, factor=2.6, bs=128, drop_mult=0.5, max_len=1440))
small = full | dict(n=400, max_vocab=1500, reserve=0, samples=40, part=20_000,
    model=dict(emb_sz=32, n_hid=48, n_layers=2),
    lm=full['lm'] | dict(epochs=3, lr=1e-2, bs=32, seq_len=40, drop_mult=0.1),
    clas=full['clas'] | dict(epochs=2, bs=32, drop_mult=0.2))
perplexity, whole = 'language model, perplexity, forward', 'raw text to classifier, forward'
forward, both = 'classifier, accuracy, forward', 'classifier, accuracy, forward and backward'
goals = {perplexity: (37, 35.3), forward: (94.4, 95.0), both: (95.0, 95.7), whole: (30, 10)}
page = {perplexity: (35.80, 'course page; 35.37 in the book'), forward: (94.31, 'book'), both: (95.1, 'book'),
        whole: (240, 'course page, about')}

class TimeUp(Exception): pass

# ---- files
def write_json(path, o):
    with atomic_file(path) as f: json.dump(o, f, ensure_ascii=False)

def write_arrays(path, **arrays):
    with atomic_file(path, 'wb') as f: np.savez_compressed(f, **arrays)

def read_arrays(path):
    with np.load(path, allow_pickle=False) as z: return dict(z)

def review_files(texts, c):
    "The reviews in `texts`, a folder laid out like IMDB: all, or `n` of each part with equally many of each label."
    if c['n'] is None:
        files = [f for p in parts for f in text_files(texts/p)]
        if len(files) == 100_000: return files
        raise SystemExit(f'The whole path needs the 100,000 reviews of IMDB, and {texts.name} has {len(files):,}: '
                         'install them, or add --small.')
    folders = [(p, k) for p in parts for k in (classes if p != 'unsup' else [None])]
    return [f for p, k in folders for f in text_files(texts/p, folders=k, n=c['n']//(2 if k else 1), seed=c['seed'])]

# ---- a run and its slices
class Slice(Callback):
    "Says what comes out of each epoch, notes how it went, and ends the slice after the last checkpoint made in time."
    order, only_watches = CheckpointCallback.order + 1, True
    def __init__(self, run, note, plan=None): self.run_, self.note, self.plan = run, note, plan
    def before_fit(self): self.last = self.learn.checkpoint.last
    def after_batch(self): self._look()
    def after_epoch(self):
        rec = self.learn.recorder
        if rec.values:
            said = ' '.join(f'{n} {v:.4g}' for n, v in zip(rec.metric_names[1:], rec.values[-1]))
            print('   ', self.learn.epoch, said, f'{self.run_.minutes():.1f} min', flush=True)
        self._look()
    def after_fit(self):
        write_json(self.note, training_notes(self.learn, self.plan))
        self._look()
    def _look(self):
        if self.learn.checkpoint.last == self.last: return
        self.last = self.learn.checkpoint.last
        self.run_.moved()

def training_notes(learn, plan):
    "Losses and rates of a fit that is over, thinned out, the table of its epochs, and the stages of a gradual `plan`."
    rec = learn.recorder
    losses, thin = np.array([float(o) for o in rec.losses]), max(1, len(rec.losses)//500)
    smooth = losses[:len(losses)//thin*thin].reshape(-1, thin).mean(1)
    stages = json.loads(learn.gradual_schedule(**plan).to_json(orient='records')) if plan else None
    return dict(values=[list(map(float, o)) for o in rec.values], losses=smooth.round(4).tolist(), steps_a_loss=thin,
                lrs=[float(f'{o:.3g}') for o in np.array(rec.lrs)[::thin]][:len(smooth)], schedule=stages)

class Run:
    "Settings, folders and clocks of a run; a stage that is done has a file in `travel`, and is not repeated."
    def __init__(self, a):
        self.a, self.c, self.out = a, a.c, a.out
        self.work, self.travel = self.out/'work', self.out/'travel'
        self.device = 'cuda' if torch.cuda.is_available() else 'cpu'
        self.whole, self.step, self.longest, self.progress = Clock(), Clock(), 0., False
        f = self.travel/'settings.json'
        if f.exists() and (wrong := differences(read_json(f), self.c)):
            raise SystemExit(f'{self.out.name} belongs to another run: {"; ".join(wrong)}. '
                             'Give the settings that it was begun with, or another --out.')

    def minutes(self): return self.whole.stop()/60
    def left(self): return math.inf if self.a.minutes is None else 60*(self.a.minutes - self.minutes())

    def moved(self): # a checkpoint was written
        self.longest, self.progress = max(self.longest, self.step.stop()), True
        self.step.start()
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
        before, clock = self.clock(stage), Clock()
        if self.device == 'cuda': torch.cuda.reset_peak_memory_stats()
        def spent():
            gb = torch.cuda.max_memory_allocated()/2**30 if self.device == 'cuda' else 0.
            took = round(before['seconds'] + clock.stop(), 2)
            return dict(seconds=took, gb=round(max(before['gb'], gb), 2), slices=before['slices'] + 1)
        try: result = f()
        except TimeUp: write_json(self.travel/f'{stage}.clock.json', spent()); raise
        write_json(self.travel/f'{stage}.json', result | spent())
        self.progress = True
        clear()

    def tidy(self):
        "Remove clocks and checkpoints of stages that are done, and language models that have their classifier."
        for s in filter(self.done, stages[1:]):
            (self.travel/f'{s}.clock.json').unlink(missing_ok=True)
            shutil.rmtree(self.work/s, ignore_errors=True)
            if s.startswith('clas'): shutil.rmtree(self.travel/s.replace('clas', 'lm'), ignore_errors=True)

def differences(was, now, name=''):
    "Settings that are not the same in both, in words."
    found = []
    for k in was | now:
        a, b = was.get(k), now.get(k)
        if isinstance(a, dict) and isinstance(b, dict): found += differences(a, b, f'{name}{k}.')
        elif a != b: found.append(f'{name}{k} was {a} and is {b}')
    return found

def trained(run, stage, f, *args, **how):
    "The model of the library's `f`, and how its training went; from the slice before, if it was finished there."
    at = run.work/stage
    at.mkdir(parents=True, exist_ok=True)
    plan = dict(lr=how['lr'], last_epochs=how['epochs'], factor=how['factor']) if how.get('gradual') else None
    if not (at/'model').is_dir():
        model = f(*args, **how, seed=run.c['seed'], path=at/'checkpoints', device=run.device, verbose=False,
                  cbs=Slice(run, at/'notes.json', plan))
        model.save(at/'model', own_tok=True)
    run.need(run.c['reserve'])
    return TextModel.load(at/'model', run.device, Spaces()), read_json(at/'notes.json')

# ---- language model
prompts, temperatures = ('xxbos xxmaj this film is', 'xxbos xxmaj i did not expect'), (0.5, 0.7, 1.0)

def train_lm(run, b, back):
    "One cycle over all reviews but a tenth; perplexity on the tenth, with all bits and with 8; samples."
    stage, aside = 'lm_' + directions[back], np.random.default_rng(run.c['seed']).permutation(len(b))[:len(b)//10]
    lm, notes = trained(run, stage, pretrain, b, codec_of(b), run.c['model'], valid=sorted(aside.tolist()),
                        backwards=back, **run.c['lm'])
    save_in_parts(run.travel/stage, lm, run.c['part'])
    exact, rounded = (m.perplexity(texts_of(b, aside)) for m in (lm, rounded_lm(run, back)))
    text = lambda p, t: lm.generate(p, max_tokens=run.c['samples'], temperature=t, seed=run.c['seed'])
    samples = [] if back else [dict(prompt=p, temperature=t, text=text(p, t)) for p in prompts for t in temperatures]
    values = notes.pop('values')
    epochs = [dict(zip(('train', 'valid', 'accuracy', 'perplexity'), v)) for v in values]
    return notes | dict(perplexity=epochs[-1]['perplexity'], accuracy=epochs[-1]['accuracy'], by_review=exact,
                        by_review_8_bits=rounded, n_valid=len(aside), epochs=epochs, samples=samples)

# ---- classifier
class Spaces: # splits a text where its tokens were joined
    def pipe(self, texts): return (t.split(' ') for t in texts)
    def __call__(self, text): return text.split(' ')

def codec_of(b): return Codec(Spaces(), b.vocab)
def texts_of(b, numbers): return [' '.join(b.vocab[o] for o in ids) for ids in b.docs(numbers)]

def rounded_lm(run, back): # the language model as it travels
    return load_from_parts(run.travel/f'lm_{directions[back]}', run.device, Spaces())

def answers(clf, b, numbers):
    "Probabilities of the classes, (n, 2) float32, in the order of `numbers`."
    return classify(clf, texts_of(b, numbers), bs=128).numpy()

def train_clas(run, b, back, train, valid, stage):
    "The classifier on the reviews `train`, which looks at `valid`, and the plan of its unfreezing."
    numbers = np.concatenate([train, valid])
    labels, aside = [classes[i] for i in b.labels[numbers]], list(range(len(train), len(numbers)))
    clf, notes = trained(run, stage, train_classifier, texts_of(b, numbers), labels, rounded_lm(run, back), valid=aside,
                         gradual=True, **run.c['clas'])
    return clf, notes['schedule']

def holdout(run, b): # numbers of the training reviews: nine tenths, and a tenth with as many of each kind
    train = b.numbers('train')
    rng = np.random.default_rng(run.c['seed'])
    aside = np.concatenate([rng.permutation(train[b.labels[train] == y])[:len(train)//20] for y in range(2)])
    return np.setdiff1d(train, aside), np.sort(aside)

def temper(p, T): return softmax(np.log(p.clip(1e-9))/T, axis=1) # the same as dividing the logits by T

def choose(run, b, back):
    "Accuracy on a tenth of the training reviews, and the temperature that calibrates the probabilities there."
    train, valid = holdout(run, b)
    clf, table = train_clas(run, b, back, train, valid, f'choose_{directions[back]}')
    p, y = answers(clf, b, valid), b.labels[valid]
    temps = np.arange(10, 81)/20
    T = float(temps[np.argmin([log_loss(y, temper(p, t), labels=[0, 1]) for t in temps])])
    before, after = (float(log_loss(y, o, labels=[0, 1])) for o in (p, temper(p, T)))
    return dict(accuracy=100*float((p.argmax(1) == y).mean()), log_loss=before, log_loss_tempered=after, temperature=T,
                n=len(y), schedule=table)

def clas(run, b, back):
    "The classifier on all training reviews but one of each label, which the library wants to look at; then the test."
    stage, train, test = f'clas_{directions[back]}', b.numbers('train'), b.numbers('test')
    aside = [train[b.labels[train] == y][0] for y in range(2)]
    clf, table = train_clas(run, b, back, np.setdiff1d(train, aside), aside, stage)
    clf.save(run.out/f'classifier_{directions[back]}', own_tok=True)
    p, y = answers(clf, b, test), b.labels[test]
    write_arrays(run.travel/f'{stage}.npz', p=p)
    order = np.argsort(np.diff(b.offsets)[test], kind='stable')[len(test)//10:]
    right = p[order, y[order]] > 0.5
    picks = [order[right == ok][0] for ok in (True, False) if (right == ok).any()] # short ones: one right, one wrong
    return dict(words=[moved_by(clf, b, test[i]) for i in picks], schedule=table)

def moved_by(clf, b, i): # the tokens of review `i` with what each contributed
    s = saliency(clf, texts_of(b, [i])[0])
    return dict(label=classes[b.labels[i]], answer=s.answer, p=round(float(s.p), 4), tokens=list(s.tokens),
                scores=[float(f'{o:.3g}') for o in s.scores])

# ---- report
def measured(p, y):
    "Accuracy with its interval of 95 % (Wilson), F1, log loss, and how honest the probabilities are, in ten bins."
    answer, sure = p.argmax(1), p.max(1)
    right = answer == y
    ci = binomtest(int(right.sum()), len(y)).proportion_ci(method='wilson')
    true, said = calibration_curve(right, sure, n_bins=10, strategy='quantile')
    return dict(accuracy=100*float(right.mean()), low=round(100*ci.low, 2), high=round(100*ci.high, 2),
                f1=round(float(f1_score(y, answer)), 4), log_loss=round(float(log_loss(y, p, labels=[0, 1])), 4),
                ece=round(float(np.abs(said - true).mean()), 4), reliability=np.stack([said, true], 1).tolist(),
                confusion=confusion_matrix(y, answer, labels=[0, 1]).tolist())

def mistakes(p, y, b, test, n=10):
    "The `n` wrong answers of which the classifier was most sure."
    wrong = np.flatnonzero(p.argmax(1) != y)
    text = lambda i: decode([b.vocab[o] for o in b.docs([test[i]])[0][:40]])
    return [dict(review=int(i), label=classes[y[i]], answer=classes[p[i].argmax()], p=round(float(p[i].max()), 4),
                 text=text(i) + ' ...') for i in wrong[np.argsort(-p.max(1)[wrong], kind='stable')[:n]]]

class Report:
    "The rows of the table, with everything that the tutorial shows of them."
    def __init__(self, run, b):
        self.run, self.b, self.rows = run, b, []
        self.res = {s: run.result(s) for s in stages[1:-1]}
        self.prefix = 'Made-up reviews, ' if run.a.small else 'IMDB, '
        self.common = dict(kind='gpu' if run.device == 'cuda' else 'cpu', small=run.a.small, seeds=[run.c['seed']],
                           machine=machine())

    def add(self, what, x, unit, **more):
        if not self.run.a.small and what in goals:
            least, aim = goals[what]
            reached = x >= least if unit == '%' else x <= least
            more |= dict(at_least=least, aim=aim, reached=bool(reached), peer_value=page[what][0], peer=page[what][1])
        row = result_row(self.prefix + what, float(f'{x:.5g}'), unit, self.run.a.command, **self.common, **more)
        self.rows.append(row)

    def language_models(self):
        for d in directions:
            o = self.res[f'lm_{d}']
            more = {k: o[k] for k in o if k not in ('perplexity', 'seconds', 'gb', 'slices', 'schedule')}
            settings = self.run.c['lm'] | self.run.c['model']
            self.add(f'language model, perplexity, {d}', o['perplexity'], 'perplexity', **more, settings=settings)

    def classifiers(self):
        test, res = self.b.numbers('test'), self.res
        y, ps = self.b.labels[test].astype(int), {}
        for d in directions:
            p = read_arrays(self.run.travel/f'clas_{d}.npz')['p'].astype(np.float64)
            ps[d] = temper(p, res[f'choose_{d}']['temperature'])
        ps['forward and backward'] = sum(ps.values())/2
        for name, p in ps.items():
            m = measured(p, y)
            if name not in directions: more = dict(mistakes=mistakes(p, y, self.b, test))
            else: more = dict(words=res[f'clas_{name}']['words'], temperature=res[f'choose_{name}']['temperature'],
                              schedule=res[f'clas_{name}']['schedule'], settings=self.run.c['clas'])
            self.add(f'classifier, accuracy, {name}', m.pop('accuracy'), '%', n_test=len(y), **m, **more)
        for d in directions:
            o = res[f'choose_{d}']
            more = {k: o[k] for k in ('n', 'log_loss', 'log_loss_tempered', 'temperature')}
            self.add(f'classifier, accuracy on a tenth of the training reviews, {d}', o['accuracy'], '%', **more)

    def times(self):
        info, took = self.b.info, {s: o['seconds']/60 for s, o in self.res.items()}
        note = 'corpus, language model, classifier on all training reviews with its answers; not the choices before'
        self.add(whole, info['seconds']/60 + took['lm_forward'] + took['clas_forward'], 'min', note=note)
        name = 'corpus' if self.run.a.small else 'corpus, 100,000 reviews'
        self.add(name, info['seconds']/60, 'min', where=info['machine'])
        for s, o in self.res.items(): self.add(f'stage {s}', took[s], 'min', gb=o['gb'], slices=o['slices'])

def report(run, b):
    "The rows of results."
    r = Report(run, b)
    r.language_models(), r.classifiers(), r.times()
    save_results(run.a.results/('imdb_small.json' if run.a.small else 'imdb_gpu.json'), r.rows)
    for o in r.rows:
        goal = f'   at least {o["at_least"]}: {"reached" if o["reached"] else "not reached"}' if 'at_least' in o else ''
        print(f'  {o["what"]:<70}{o["ours"]:>10.5g} {o["unit"]}{goal}')
    return dict(n_rows=len(r.rows))

def tried(a):
    "One row for each run whose forward classifier was looked at on the training reviews that were set aside."
    rows = []
    for out in map(Path, a.tried):
        t = out/'travel'
        if not (t/'choose_forward.json').exists(): print(f'{out.name}: choose_forward is not done'); continue
        lm, ch, c = (read_json(t/f'{n}.json') for n in ('lm_forward', 'choose_forward', 'settings'))
        what = "; ".join(differences(full, c)) or "the settings of the final run"
        more = dict(perplexity=round(lm['perplexity'], 2), minutes=round((lm['seconds'] + ch['seconds'])/60, 1),
                    log_loss=round(ch['log_loss'], 4), machine=machine())
        rows.append(result_row(f'tried: {what}', round(ch['accuracy'], 2), '%', a.command, kind='tried', **more))
    if not rows: raise SystemExit('None of these folders holds a run that is that far.')
    save_results(a.results/'imdb_tried.json', rows)
    for r in rows: print(f'{r["ours"]:.2f} %  perplexity {r["perplexity"]:.2f}  {r["minutes"]:.0f} min  {r["what"]}')

# ---- all of it
def main(argv=None):
    a = parse(argv)
    if a.tried: return tried(a)
    run = Run(a)
    print(machine(), flush=True)
    try: go(run, a)
    except TimeUp:
        print(f'Time is up after {run.minutes():.1f} minutes, and all is kept: the same command goes on.', flush=True)
        return 75
    return 0

def go(run, a):
    bundle = a.bundle or run.out/'bundle'
    if (bundle/'manifest.json').is_file(): b = Bundle(bundle)
    else:
        texts = a.texts or (sample_reviews() if a.small else get_imdb())
        b = Bundle.make(bundle, review_files(texts, run.c), texts, run.c['n'], run.c['max_vocab'])
    made = {k: b.info.get(k, 'not noted') for k in ('n', 'max_vocab')}
    if wrong := differences(made, {k: run.c[k] for k in made}):
        raise SystemExit(f'The bundle {bundle.name} was made with other settings: {"; ".join(wrong)}. '
                         'Give the settings that it was made with, or another --bundle.')
    write_json(run.travel/'settings.json', run.c)
    print('{n_docs:,} reviews, {n_tokens:,} tokens, {n_vocab:,} entries in the vocab'.format(**b.info), flush=True)
    kinds = dict(lm=train_lm, choose=choose, clas=clas)
    todo = {f'{s}_{d}': partial(f, run, b, d == 'backward') for d in directions for s, f in kinds.items()}
    todo['report'] = partial(report, run, b)
    for stage in stages[1:stages.index(a.until) + 1]:
        run.tidy()
        if stage != 'report' and run.done(stage): continue
        print(f'{stage}: {" ".join(todo[stage].func.__doc__.split())}', flush=True)
        run.stage(stage, todo[stage])
        print(f'  {run.result(stage)["seconds"]/60:.1f} min', flush=True)

def set_option(p, c, o):
    "Put what `--set` says, such as lm.lr=3e-3, into the settings `c`."
    name, eq, value = o.partition('=')
    *path, key = name.split('.')
    at = c
    for k in path: at = at.get(k, {}) if isinstance(at, dict) else {}
    if not eq or not isinstance(at, dict) or key not in at or isinstance(at[key], dict):
        names = [n for k, v in c.items() for n in ([f'{k}.{q}' for q in v] if isinstance(v, dict) else [k])]
        p.error(f'--set {o}: it is NAME=VALUE with one of {", ".join(names)}')
    try: at[key] = json.loads(value)
    except ValueError: p.error(f'--set {o}: {value!r} is neither a number nor a quoted string')

def parse(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--small', action='store_true', help='a tiny model and 1,200 made-up reviews: does everything run?')
    p.add_argument('--out', type=Path, help='folder of the run; build/imdb without it')
    p.add_argument('--bundle', type=Path, help='folder of the ids, if it is another than OUT/bundle')
    p.add_argument('--texts', type=Path,
                   help="folder with train, test and unsup; without it fastai's IMDB, or made-up reviews with --small")
    p.add_argument('--minutes', type=float, help='end this slice at a checkpoint before that many minutes are over')
    p.add_argument('--until', choices=stages, default='report', help='the last stage to run')
    p.add_argument('--set', action='append', default=[], metavar='lm.lr=3e-3', help='another setting than the usual')
    p.add_argument('--tried', nargs='+', metavar='OUT',
                   help='compare these runs by what they reached on training reviews set aside')
    p.add_argument('--results', type=Path, default=here/'results', help='folder for the rows')
    a = p.parse_args(argv)
    a.c = json.loads(json.dumps(small if a.small else full))
    for o in a.set: set_option(p, a.c, o)
    a.out = a.out or here.parent/'build'/('imdb_small' if a.small else 'imdb')
    if not (a.small or a.until == 'prepare' or a.tried or torch.cuda.is_available()):
        p.error('there is no GPU here, and the full sizes would take days without one: add --small, or --until prepare')
    a.command = 'python benchmarks/imdb.py' + ' --small'*a.small + ''.join(f' --set {o}' for o in a.set)
    return a

if __name__ == '__main__': sys.exit(main())
