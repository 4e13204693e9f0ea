"""On a GPU: training step, classifier, generation and ladder, fastai's mixed precision beside this library.

    python benchmarks/gpu.py                     # all pieces, one after another; results/gpu_*.json
    python benchmarks/gpu.py --piece step        # one piece; none takes more than ten minutes
    python benchmarks/gpu.py --small             # on a processor: a small model, half a minute

A piece has a file of its own, writes each row as soon as it is measured, and keeps the rows of the other kind of
machine. Nothing is fetched from a network. The texts: `--corpus` names the folder of a `Corpus`, the bundle of
`imdb.py`, or a .npz file with `ids` and `offsets`; `--texts` a folder of text files such as IMDB's; without both, a
stream is made up with IMDB's statistics. Its reviews have logarithms of their lengths with mean 5.49 and deviation
0.644, between 12 and 3,426 tokens; its words are drawn one by one with frequencies that fall as 1/(rank + 2.7)**1.2.
Both were fitted to the 75,000 reviews for training. Word order is left out: it costs no time.

step        tokens per second and memory of whole steps in a `Learner`: loader, forward, AR and TAR, backward, optimizer
floor       what no program beats: the matrix rate of the card, and the chain of LSTM steps measured alone
profile     where the time of a step goes; the slowest operators; the decoder with its loss in pieces of several sizes
sync        how often a step makes the processor wait for the card (nothing to measure without one)
same        loss and gradients beside fastai's in fp32; curves of some hundred steps with dropout
classifier  documents per second, training and reading
generate    tokens per second, one text and 64 at once
ladder      LMModel1 to LMModel7 on Human Numbers"""
import argparse, itertools, random, statistics, sys, warnings
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from common import Clock, clear, machine, made_up_words, results, seconds, stand_ins, sync
warnings.filterwarnings('ignore')
stand_ins()  # before everything that imports a tokenizer
import numpy as np, pandas as pd, torch, torch.nn.functional as F
import fastai.callback.fp16 # noqa: F401 (adds to_fp16)
from bundle import Bundle
from fastai.basics import Callback, CancelFitException, DataLoader, DataLoaders, TensorCategory, set_seed
from fastai.text import all as fa
from lesson8nlp import awdlstm, classifier, dataloader, experiments, learner as ours, losses
from lesson8nlp.core import load_results, result_row, save_results
from lesson8nlp.corpus import Corpus
from lesson8nlp.dataloader import LMDataLoader
from lesson8nlp.codec import Codec
from lesson8nlp.generate import generate
from lesson8nlp.texts import text_files

full = dict(vocab_sz=60_000, emb_sz=400, n_hid=1152, n_layers=3, bs=128, seq_len=80, n_docs=75_000, warm=10, steps=40,
            more_bs=(256, 512, 1024, 2048, 4096), chunks=(128, 256, 559, 1024, 2048, 5120), matrix=8192, copy=2**28,
            repeat=10, curve=300, seeds=3, clas_docs=1024, clas_bs=64, clas_seq=72, words=200,
            ladder=(0, 1, 2), epochs=None)
small = dict(vocab_sz=1_000, emb_sz=16, n_hid=24, n_layers=2, bs=4, seq_len=10, n_docs=40, warm=1, steps=3,
             more_bs=(8,), chunks=(8, 40), matrix=128, copy=2**16,
             repeat=3, curve=20, seeds=2, clas_docs=16, clas_bs=8, clas_seq=72, words=10, ladder=(0,), epochs=1)

# ---- rows
def short(x): return None if x is None else float(f'{x:.4g}')

class Rows:
    "The rows of a piece in its file, written one by one; a row replaces the one of its name and kind of machine."
    def __init__(self, piece, a):
        self.a, self.piece, self.names, self.path = a, piece, set(), a.out/f'gpu_{piece}.json'
        self.rows, self.machine = load_results(self.path) if self.path.exists() else [], machine()

    def add(self, what, runs, unit, **more): # the median of `runs` counts
        runs = [short(o) for o in (runs if isinstance(runs, list) else [runs])]
        sizes = {k: self.a.c[k] for k in ('vocab_sz', 'emb_sz', 'n_hid', 'n_layers', 'bs', 'seq_len')}
        row = result_row(what, short(statistics.median(runs)), unit, self.a.command, kind=self.a.kind, piece=self.piece,
                         n_runs=len(runs), runs=runs, spread=[min(runs), max(runs)], sizes=sizes,
                         machine=self.machine, **more)
        self.put([row])
        ratio = f' {more["ratio"]}×' if more.get('ratio') else ''
        print(f'  {what if what not in self.names else "":<58}{row["ours"]:>12,.6g} {unit:<12}{ratio}', flush=True)
        self.names.add(what)
        return row

    def put(self, new):
        keys = {(r['kind'], r['what']) for r in new}
        self.rows = [r for r in self.rows if (r['kind'], r['what']) not in keys] + new
        # what a page calls its machine is that of the first row
        save_results(self.path, sorted(self.rows, key=lambda r: r['kind'] != 'gpu'))

    def done(self): # rows of this kind that this run did not measure go
        self.rows = [r for r in self.rows if r['kind'] != self.a.kind or r['what'] in self.names]
        if self.rows: save_results(self.path, self.rows)

# ---- texts
def made_up(c, seed=0):
    "ids and offsets of `n_docs` documents with the lengths and the word frequencies of IMDB."
    rng = np.random.default_rng(seed)
    lens = np.exp(rng.normal(5.492, 0.644, c['n_docs'])).round().clip(12, 3426).astype(np.int64)
    p = 1/(np.arange(c['vocab_sz'] - 9) + 3.7)**1.2
    ids = 9 + np.searchsorted(np.cumsum(p)/p.sum(), rng.random(lens.sum())).clip(max=len(p) - 1)
    offsets = np.concatenate([[0], lens.cumsum()])
    ids[offsets[:-1]] = 2 # xxbos
    return ids.astype(np.uint16 if c['vocab_sz'] <= 2**16 else np.uint32), offsets

def read_texts(a):
    "The stream as `.ids`, `.offsets`, `.lens`, and where it comes from. A larger vocab makes the model larger."
    c = a.c
    if a.corpus and a.corpus.endswith('.npz'):
        with np.load(a.corpus, allow_pickle=False) as z: ids, offsets = z['ids'], z['offsets']
        said = 'a ready corpus'
    elif a.corpus and (Path(a.corpus)/'ids.xz').is_file():
        b = Bundle(a.corpus)
        ids, offsets, said = b.ids, b.offsets, 'the bundle of imdb.py'
    elif a.corpus or a.texts:
        if a.texts and sys.modules['spacy'].__version__ == 'missing':
            raise SystemExit('--texts needs spaCy to tokenize: install it, or give a --corpus, which needs none.')
        if a.corpus: corpus = Corpus.open(a.corpus)
        else: corpus = Corpus.from_files(text_files(a.texts), max_vocab=c['vocab_sz'], progress=False)
        ids, offsets, said = corpus.ids, corpus.offsets, 'a ready corpus' if a.corpus else 'a folder of texts'
    else: (ids, offsets), said = made_up(c), "made up with IMDB's statistics"
    c['vocab_sz'] = max(c['vocab_sz'], int(ids.max()) + 1)
    need = max((c['bs'], *c['more_bs']))*c['seq_len']
    if len(ids) <= need:
        raise SystemExit(f'The texts have {len(ids):,} tokens; the largest batch alone has {need:,}: give more, '
                         'or leave --corpus and --texts out.')
    said = f'{len(offsets) - 1:,} documents, {len(ids):,} tokens, {said}'
    return SimpleNamespace(ids=ids, offsets=offsets, lens=np.diff(offsets), said=said)

def words(c):
    "A vocab: fastai's special tokens, then made-up words."
    special = fa.defaults.text_spec_tok
    return [*special, *made_up_words(c['vocab_sz'] - len(special))]

def loaders(who, text, c, bs, device, seed=42):
    "`DataLoaders` over the shuffled stream, with the loader of `who`."
    if who == 'ours': dl = LMDataLoader(text, bs=bs, seq_len=c['seq_len'], shuffle=True, seed=seed)
    else:
        random.seed(seed)
        spans = zip(text.offsets[:-1], text.offsets[1:])
        docs = [(fa.LMTensorText(torch.from_numpy(text.ids[i:j].astype(np.int64))),) for i, j in spans]
        dl = fa.LMDataLoader(docs, lens=text.lens.tolist(), bs=bs, seq_len=c['seq_len'], shuffle=True)
    dls = DataLoaders(dl, DataLoader([], bs=None), device=device)
    dls.vocab = words(c)
    return dls

# ---- learners
def dims(c): return {k: c[k] for k in ('emb_sz', 'n_hid', 'n_layers')}

def lm_learner(who, prec, text, a, loader=None, bs=None, chunk=None, drop_mult=1., seed=1):
    "The language model `Learner` of `who` in precision `prec`, from weights that `seed` gives."
    c = a.c
    dls = loaders(loader or who, text, c, bs or c['bs'], a.device, seed=41 + seed)
    torch.manual_seed(seed)
    kw = dict(drop_mult=drop_mult, pretrained=False, lr=1e-3)
    if who == 'fastai':
        learn = fa.language_model_learner(dls, fa.AWD_LSTM, config=fa.awd_lstm_lm_config | dims(c), **kw)
    else:
        loss, config = awdlstm.ChunkedCrossEntropy(chunk=chunk), awdlstm.awd_lstm_lm_config | dims(c)
        learn = ours.language_model_learner(dls, awdlstm.AWD_LSTM, config=config, loss_func=loss, **kw)
    return learn if prec == 'fp32' else getattr(learn, f'to_{prec}')()

def held(peak=False): # bytes on the card
    if not torch.cuda.is_available(): return 0
    return torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()

class Window(Callback):
    "Calls `start` after `warm` steps and `stop` after `steps` more, which ends the fit."
    order = 1000
    def __init__(self, warm, steps, start, stop):
        self.warm, self.steps, self.start, self.stop, self.n = warm, steps, start, stop, 0
    def after_batch(self):
        self.n += 1
        if self.n == self.warm: self.start()
        if self.n == self.warm + self.steps: self.stop(); raise CancelFitException()

def run(learn, warm, steps, start, stop, cbs=(), seed=2):
    "Train for `warm` and `steps` steps, however many epochs that takes."
    torch.manual_seed(seed)
    window = Window(warm, steps, start, stop)
    epochs = 1 + (warm + steps)//max(len(learn.dls.train), 1)
    with learn.no_bar(), learn.no_logging(): learn.fit(epochs, cbs=[*cbs, window])
    if window.n < warm + steps: raise RuntimeError(f'The fit ended after {window.n} of {warm + steps} steps.')

def timed(make, warm, steps):
    "Seconds of a step, and peak memory of the card in GB with all that the learner holds; `make` makes the learner."
    clear()
    base, t, clock = held(), [], Clock()
    def tick():
        t.append(clock.stop())
        if len(t) == 1 and torch.cuda.is_available(): torch.cuda.reset_peak_memory_stats()
    learn, seen = make(), []
    def stop(): tick(); seen.append(float(learn.loss))
    run(learn, warm, steps, tick, stop)
    gb, loss = (held(peak=True) - base)/2**30 if torch.cuda.is_available() else None, seen[0]
    if not np.isfinite(loss):
        raise RuntimeError(f'The loss is {loss} after {warm + steps} steps: what was timed is no training.')
    return (t[1] - t[0])/steps, gb

def too_large(e): # did the card run out of memory?
    return isinstance(e, torch.OutOfMemoryError) or 'out of memory' in str(e).lower()

# ---- step
contestants = {'fastai fp16': ('fastai', 'fp16', None), 'fastai fp16, loader of ours': ('fastai', 'fp16', 'ours'),
               'ours fp16': ('ours', 'fp16', None), 'ours bf16': ('ours', 'bf16', None)}

class Steps:
    "Training steps of the contestants: `runs[name, bs]` has the seconds and the memory of each round."
    def __init__(self, a, rows): self.a, self.rows, self.runs = a, rows, defaultdict(list)

    def run(self, name, bs):
        "One round more."
        who, prec, loader = contestants[name]
        make = lambda: lm_learner(who, prec, self.a.text, self.a, loader, bs)
        self.runs[name, bs].append(timed(make, self.a.c['warm'], self.a.c['steps']))

    def tokens(self, *of): return [of[1]*self.a.c['seq_len']/s for s, _ in self.runs[of]]
    def rate(self, *of): return statistics.median(self.tokens(*of))
    def gb(self, *of): return None if self.runs[of][0][1] is None else short(max(gb for _, gb in self.runs[of]))

    def add(self, name, bs, **more):
        "A row, beside fastai with the usual batch."
        of, peer = (name, bs), ('fastai fp16', self.a.c['bs'])
        less = self.gb(*peer)/self.gb(*of) if self.gb(*of) else None
        ms = statistics.median(s for s, _ in self.runs[of])*1000
        self.rows.add(f'training step, {name}, bs {bs}', self.tokens(*of), 'tokens/s', who=name, batch=bs,
                      ms=short(ms), gb=self.gb(*of), ratio=round(self.rate(*of)/self.rate(*peer), 2),
                      memory_ratio=less and round(less, 2), peer=peer[0], peer_batch=peer[1], text=self.a.text.said,
                      **more)

    def fastest(self, name, gain=0.):
        "The batch with most tokens a second; larger ones are tried until there is no room, or less than `gain` times."
        done = [self.a.c['bs']]
        for bs in self.a.c['more_bs']:
            try:
                for _ in range(self.a.rounds): self.run(name, bs)
            except RuntimeError as e:
                if not too_large(e): raise
                print(f'  {name}, bs {bs}: no room')
                break
            self.add(name, bs)
            done.append(bs)
            if self.rate(name, bs) < gain*self.rate(name, done[-2]): break
        return max(done, key=lambda bs: self.rate(name, bs))

def step(a, rows):
    "By turns, and every other time in the other order; then larger batches, ours until they no longer help."
    steps, bs = Steps(a, rows), a.c['bs']
    for i in range(a.rounds):
        for name in list(contestants)[::1 if i % 2 == 0 else -1]: steps.run(name, bs)
        for name in contestants:
            steps.add(name, bs, **(dict(at_least=2, memory_at_least=2) if name.startswith('ours') else {}))
    best = max((n for n in contestants if n.startswith('ours')), key=lambda n: steps.rate(n, bs))
    of = best, steps.fastest(best, gain=1.03)
    peer = 'fastai fp16', steps.fastest('fastai fp16')
    rows.add('the largest batch that helps', steps.tokens(*of), 'tokens/s', who=best, batch=of[1], gb=steps.gb(*of),
             at_least=4, peer=peer[0], peer_batch=peer[1], peer_value=short(steps.rate(*peer)),
             ratio=round(steps.rate(*of)/steps.rate(*peer), 2))

# ---- floor
def operations(c):
    "Multiplications and additions for each token of a step: LSTM layers, and decoder (backward counts twice)."
    sz = [c['emb_sz']] + [c['n_hid']]*(c['n_layers'] - 1) + [c['emb_sz']]
    return 3*sum(2*4*o*(i + o) for i, o in zip(sz, sz[1:])), 3*2*c['emb_sz']*c['vocab_sz']

def lstm_chain(c, bs, dtype, device):
    "A function: forward and backward through the LSTM layers, nothing else."
    sz = [c['emb_sz']] + [c['n_hid']]*(c['n_layers'] - 1) + [c['emb_sz']]
    rnns = [torch.nn.LSTM(i, o, batch_first=True, device=device, dtype=dtype) for i, o in zip(sz, sz[1:])]
    x = torch.randn(bs, c['seq_len'], c['emb_sz'], device=device, dtype=dtype, requires_grad=True)
    g = torch.randn(bs, c['seq_len'], c['emb_sz'], device=device, dtype=dtype)
    def go():
        h = x
        for r in rnns: h = r(h)[0]
        h.backward(g)
        for r in rnns: r.zero_grad(set_to_none=True)
        x.grad = None
    return go

def floor(a, rows):
    "The matrix rate, the rate of copies, and from them and the LSTM layers alone the time that a step cannot go below."
    c, dev = a.c, a.device
    lstm, dec = operations(c)
    src = torch.randn(c['copy'], device=dev)
    dst = torch.empty_like(src)
    s = seconds(partial(dst.copy_, src), a.rounds, c['repeat'], warm=2)
    rows.add('copy in memory, bytes read and written', [2*src.numel()*4/o/1e9 for o in s], 'GB/s')
    del src, dst
    for prec in (['fp16', 'bf16'] if a.kind == 'gpu' else ['fp32', 'bf16']):
        dtype = dict(fp16=torch.float16, bf16=torch.bfloat16, fp32=torch.float32)[prec]
        m = c['matrix']
        x, y = (torch.randn(m, m, device=dev, dtype=dtype) for _ in range(2))
        rate = [2*m**3/o for o in seconds(lambda: x @ y, a.rounds, c['repeat'], warm=2)]
        rows.add(f'matrix product {m}×{m}×{m}, {prec}', [o/1e12 for o in rate], 'TFLOP/s', prec=prec)
        for bs in (c['bs'], *c['more_bs']):
            n = bs*c['seq_len']
            try: chain = seconds(lstm_chain(c, bs, dtype, dev), a.rounds, c['repeat'], warm=2)
            except RuntimeError as e:
                if not too_large(e): raise
                break
            ideal = n*dec/statistics.median(rate)
            alone = n*lstm/statistics.median(rate)
            rows.add(f'LSTM layers alone, {prec}, bs {bs}', [1000*o for o in chain], 'ms', prec=prec, batch=bs,
                     at_matrix_rate_ms=short(1000*alone),
                     text='forward and backward, nothing dropped, weights in one piece')
            ms = 1000*statistics.median(chain)
            rows.add(f'floor of a step, {prec}, bs {bs}', [n/(o + ideal) for o in chain], 'tokens/s', prec=prec,
                     batch=bs, chain_ms=short(ms), decoder_ms=short(1000*ideal), ms=short(ms + 1000*ideal),
                     operations=lstm + dec)
            clear()

# ---- profile
class Marks:
    "Splits the time of a step: `at(name)` ends the part before and begins `name`; on a card in its own time."
    def __init__(self): self.marks, self.on, self.clock = [], False, Clock()
    def at(self, name):
        if not self.on: return
        if torch.cuda.is_available():
            e = torch.cuda.Event(enable_timing=True)
            e.record()
        else: e = self.clock.stop()
        self.marks.append((name, e))

    def parts(self): # ms of each part, a dict for each step
        sync()
        out = []
        for (name, s), (_, e) in zip(self.marks, self.marks[1:]):
            if name == 'loader': out.append(defaultdict(float))
            if out: out[-1][name] += s.elapsed_time(e) if torch.cuda.is_available() else 1000*(e - s)
        return out

class _Mark(torch.autograd.Function): # the same tensor; the clock is told when it comes by, and when its gradient does
    @staticmethod
    def forward(ctx, x, clock, there, back):
        ctx.clock, ctx.back = clock, back
        clock.at(there)
        return x.view_as(x)
    @staticmethod
    def backward(ctx, g):
        ctx.clock.at(ctx.back)
        return g, None, None, None

def mark(x, clock, there, back):
    if x.requires_grad: return _Mark.apply(x, clock, there, back)
    clock.at(there)
    return x

def watch(model, clock):
    "Marks before and behind the parts of a language model, fastai's or ours: they have the same names."
    enc, other = model[0], 'between the parts'
    def before(m, args, name): return mark(args[0], clock, f'{name}, forward', other), *args[1:]
    def behind(m, args, out, name):
        first, *more = out if isinstance(out, tuple) else (out,)
        first = mark(first, clock, other, f'{name}, backward')
        return (first, *more) if more else first
    named = [(enc.encoder_dp, 'embedding'), (enc.input_dp, 'dropout of activations'),
             *((o, f'LSTM {i + 1}') for i, o in enumerate(enc.rnns)),
             *((o, 'dropout of activations') for o in enc.hidden_dps)]
    for m, name in named:
        m.register_forward_pre_hook(partial(before, name=name))
        m.register_forward_hook(partial(behind, name=name))
    model[1].register_forward_pre_hook(partial(before, name='decoder and loss'))

class Bell(Callback):
    "Tells the clock at an event of the Learner."
    def __init__(self, clock, event, name, order, back=None):
        self.clock, self.part, self.order, self.back = clock, name, order, back
        self.bell = event
        setattr(self, event, self.ring)
    def ring(self):
        if self.back is None: self.clock.at(self.part)
        else: # a clone, since what comes is added in place
            self.learn.loss_grad = mark(self.learn.loss_grad, self.clock, self.part, self.back).clone()

def bells(clock): # two callbacks stand around the one that adds AR and TAR
    reg = ours.RNNRegularizer.order
    return [Bell(clock, 'before_batch', 'Learner', -1000),
            Bell(clock, 'after_loss', 'AR and TAR, forward', reg - .5, 'decoder and loss, backward'),
            Bell(clock, 'after_loss', 'Learner', reg + .5),
            Bell(clock, 'before_backward', 'AR and TAR, backward', 1000),
            Bell(clock, 'after_backward', 'optimizer', -1000), Bell(clock, 'after_batch', 'Learner', -1000),
            Bell(clock, 'after_batch', 'loader', 990)]

def parts_of(name, a):
    "ms of each part in each of some steps."
    who, prec, loader = contestants[name]
    clear()
    clock, learn = Marks(), lm_learner(who, prec, a.text, a, loader)
    watch(learn.model, clock)
    def start(): clock.on = True; clock.at('loader')
    run(learn, a.c['warm'], a.c['steps'], start, lambda: setattr(clock, 'on', False), bells(clock))
    return clock.parts()

def operators_of(name, a, top=15):
    "ms and calls in a step of the slowest operators (on a card: kernels), and the fraction of the time when any ran."
    who, prec, loader = contestants[name]
    clear()
    learn, n = lm_learner(who, prec, a.text, a, loader), min(a.c['steps'], 10)
    on_card, kinds = torch.cuda.is_available(), torch.profiler.ProfilerActivity
    prof, clock = torch.profiler.profile(activities=[kinds.CPU, *[kinds.CUDA]*on_card]), Clock()
    def start(): sync(); prof.start(); clock.start()
    def stop(): clock.stop(); prof.stop()
    run(learn, a.c['warm'], n, start, stop)
    took = lambda e: e.self_device_time_total if on_card else e.self_cpu_time_total
    kernel = lambda e: e.device_type == torch.autograd.DeviceType.CUDA and not e.is_user_annotation
    events = [e for e in prof.key_averages() if took(e) > 0 and (kernel(e) or not on_card)]
    total = sum(map(took, events))/1000/n
    most = sorted(events, key=took, reverse=True)[:top]
    return total, 1000*clock.s/n, [[e.key[:90], short(took(e)/1000/n), round(e.count/n, 2)] for e in most]

def profile(a, rows):
    "The parts of a step, then the operators, then the decoder with its loss in pieces of several sizes."
    c = a.c
    for name in ('fastai fp16', 'ours fp16', 'ours bf16'):
        steps = parts_of(name, a)
        for part in dict.fromkeys(itertools.chain.from_iterable(steps)):
            rows.add(f'{part}: {name}', [s.get(part, 0.) for s in steps], 'ms', who=name, part=part)
        rows.add(f'a whole step, with marks: {name}', [sum(s.values()) for s in steps], 'ms', who=name, part='all')
    for name in ('fastai fp16', 'ours fp16', 'ours bf16'):
        busy, wall, top = operators_of(name, a)
        rows.add(f'operators at work: {name}', busy, 'ms', who=name, wall_ms=short(wall), share=round(busy/wall, 3),
                 operators=top)
    h = torch.randn(c['bs']*c['seq_len'], c['emb_sz'], device=a.device, requires_grad=True)
    w = torch.empty(c['vocab_sz'], c['emb_sz'], device=a.device).uniform_(-.1, .1).requires_grad_()
    b = torch.zeros(c['vocab_sz'], device=a.device, requires_grad=True)
    y = torch.randint(c['vocab_sz'], (len(h),), device=a.device)
    def whole(h): return F.cross_entropy(F.linear(h, w, b).float(), y)
    def pieces(chunk, h): return losses.chunked_cross_entropy(h, w, b, y, chunk=chunk)
    def compiled(chunk, h): # softmax and slope in as few passes over the logits as torch can make of them
        with mock.patch.object(losses, 'loss_and_slope', one_kernel): return pieces(chunk, h)
    ours_in = {f'ours, pieces of {n}': partial(pieces, n) for n in c['chunks']}
    if a.kind == 'gpu':
        one_kernel = torch.compile(losses.loss_and_slope, dynamic=False)
        ours_in |= {f'ours, pieces of {n}, compiled': partial(compiled, n) for n in c['chunks']}
    for name, f in ({'torch, in one piece': whole} | ours_in).items():
        def go():
            with torch.autocast(a.device, torch.bfloat16): loss = f(h)
            loss.backward()
            h.grad = w.grad = b.grad = None
        clear()
        base = held()
        if torch.cuda.is_available(): torch.cuda.reset_peak_memory_stats()
        s = seconds(go, a.rounds, c['repeat'], warm=2)
        gb = short((held(True) - base)/2**30) if a.kind == 'gpu' else None
        rows.add(f'decoder and loss alone, bf16: {name}', [1000*o for o in s], 'ms', gb=gb)

# ---- sync
class SyncCounter(Callback):
    "Counts what makes the processor wait for the card in the steps after the first `warm`, and where."
    order = 999
    def __init__(self, warm): self.warm, self.n, self.places, self.log = warm, 0, Counter(), None
    def after_batch(self):
        self.n += 1
        if self.n == self.warm: self._begin()
    def _begin(self):
        self.catch = warnings.catch_warnings(record=True)
        self.log = self.catch.__enter__()
        warnings.simplefilter('always')
        torch.cuda.set_sync_debug_mode('warn')
    def end(self):
        torch.cuda.set_sync_debug_mode('default')
        waits = [w for w in self.log if 'synchronizing' in str(w.message)]
        self.places.update(f'{"/".join(Path(w.filename).parts[-2:])}:{w.lineno}' for w in waits)
        self.catch.__exit__(None, None, None)

def sync_piece(a, rows):
    "Waits of the processor in a step, as torch's sync debug mode sees them; it misses what libraries do on their own."
    if a.kind != 'gpu': return print('  left out: a processor alone has nobody to wait for')
    c = a.c
    for name in contestants:
        who, prec, loader = contestants[name]
        clear()
        learn, count = lm_learner(who, prec, a.text, a, loader), SyncCounter(c['warm'])
        run(learn, c['warm'], 10, lambda: None, count.end, [count])
        n = sum(count.places.values())/10
        goal = dict(at_most=0, reached=n == 0) if who == 'ours' else dict(at_most=None, reached=None)
        rows.add(f'waits for the card in a step: {name}', n, 'waits', who=name,
                 places=count.places.most_common(), **goal)

# ---- same
class Grab(Callback):
    "Keeps loss and gradients of the first step, and ends the fit before the weights change."
    order = 5 # before the scaler has its turn
    def before_batch(self): # fastai's WeightDropout cannot train with p=0: torch returns the parameter itself
        for r in self.learn.model[0].rnns: r.training = r.weight_p > 0
    def before_step(self):
        scaler = getattr(self.learn, 'scaler', None)
        scale = scaler.get_scale() if scaler is not None and scaler.is_enabled() else 1.
        self.loss_value = self.learn.loss.detach().double().item()
        named = self.learn.model.named_parameters()
        self.grads = {n: (p.grad.double()/scale).cpu() for n, p in named if p.grad is not None}
        raise CancelFitException()

def grab(learn):
    keep = Grab()
    torch.manual_seed(3)
    with learn.no_bar(), learn.no_logging(): learn.fit(1, cbs=keep)
    return keep.loss_value, keep.grads

def distance(g, ref):
    "How far gradients are from others: ‖g − ref‖/‖ref‖ of all together, and of the worst weight."
    if g.keys() != ref.keys(): raise RuntimeError(f'Gradients for other weights: {sorted(set(g) ^ set(ref))}')
    each = {n: float((g[n] - ref[n]).norm()/ref[n].norm().clamp(min=1e-30)) for n in ref}
    far, size = (sum(float(o.norm())**2 for o in d)**.5 for d in ([g[n] - ref[n] for n in ref], ref.values()))
    return far/size, max(each.items(), key=lambda o: o[1])

def curves(name, a, seed, weights):
    "The losses of `curve` steps with dropout, on the same batches and from the same weights for all."
    who, prec, _ = contestants[name]
    clear()
    learn = lm_learner(who, prec, a.text, a, loader='ours', seed=seed)
    learn.model.load_state_dict(weights)
    kept = []
    class Keep(Callback):
        def after_loss(self): kept.append(self.learn.loss.detach().clone())
    run(learn, 0, a.c['curve'], lambda: None, lambda: None, [Keep()], seed=100 + seed)
    return torch.stack([o.as_subclass(torch.Tensor).float() for o in kept]).cpu().numpy()

def same(a, rows):
    "Dropout off: loss and gradients from the same weights, AR and TAR included. Dropout on: curves."
    base = lm_learner('fastai', 'fp32', a.text, a, 'ours', drop_mult=0.)
    weights = {k: v.cpu().clone() for k, v in base.model.state_dict().items()}
    loss_ref, ref = grab(base)
    del base
    for prec in ('fp32', 'fp16', 'bf16'):
        got = {}
        for who in ('fastai', 'ours'):
            clear()
            learn = lm_learner(who, prec, a.text, a, 'ours', drop_mult=0.)
            learn.model.load_state_dict(weights)
            got[who] = grab(learn)
            del learn
        (mine, (worst, far)), (theirs, _) = (distance(got[who][1], ref) for who in ('ours', 'fastai'))
        limit = max(1.5*theirs, dict(fp32=1e-4, fp16=2e-3, bf16=1e-2)[prec]) # or what rounding to that type does
        rows.add(f'gradients in {prec}: distance from fastai in fp32', mine, 'relative', prec=prec, peer='fastai',
                 peer_value=short(theirs), at_most=short(limit), reached=mine <= limit, worst=[worst, short(far)],
                 loss=got['ours'][0], peer_loss=got['fastai'][0], loss_fp32=loss_ref,
                 between=short(distance(got['ours'][1], got['fastai'][1])[0]))
    names, last = ['fastai fp16', 'ours fp16', 'ours bf16'], max(1, a.c['curve']//6)
    found = {n: [] for n in names}
    for seed in range(1, a.c['seeds'] + 1):
        base = lm_learner('fastai', 'fp32', a.text, a, 'ours', seed=seed)
        weights = {k: v.cpu().clone() for k, v in base.model.state_dict().items()}
        for n in names: found[n].append(curves(n, a, seed, weights))
    mean = {n: np.mean(o, 0) for n, o in found.items()}
    for n in names:
        apart = float(np.abs(mean[n] - mean['fastai fp16']).mean())
        seeds = float(np.mean([np.abs(x - y).mean() for x, y in itertools.combinations(found['fastai fp16'], 2)]))
        rows.add(f'loss at the end of {a.c["curve"]} steps: {n}', [float(o[-last:].mean()) for o in found[n]],
                 'nats a token', who=n, peer='fastai fp16', apart=short(apart), seeds_apart=short(seeds),
                 seeds=list(range(1, a.c['seeds'] + 1)), curves=[[round(float(v), 4) for v in o] for o in found[n]])

# ---- classifier
def clas_learner(who, prec, a, n_docs):
    "The classifier `Learner` of `who`, on the first documents in its own kind of batch, long ones first."
    c, t = a.c, a.text
    spans = zip(t.offsets[:n_docs], t.offsets[1:n_docs + 1])
    items = [(fa.TensorText(torch.from_numpy(t.ids[i:j].astype(np.int64))), TensorCategory(k % 2))
             for k, (i, j) in enumerate(spans)]
    if who == 'fastai': pad = fa.Pad_Chunk(seq_len=c['clas_seq'], decode=False)
    else: pad = dataloader.PadRight(1)
    dl = fa.SortedDL(items, res=[len(o[0]) for o in items], bs=c['clas_bs'], before_batch=pad, device=a.device)
    dls = DataLoaders(dl, DataLoader([], bs=None), device=a.device)
    dls.vocab, dls.c = fa.L(words(c), ['neg', 'pos']), 2
    torch.manual_seed(1)
    kw = dict(seq_len=c['clas_seq'], pretrained=False, drop_mult=.5, lr=1e-3)
    if who == 'fastai':
        config, loss = fa.awd_lstm_clas_config | dims(c), fa.CrossEntropyLossFlat()
        learn = fa.text_classifier_learner(dls, fa.AWD_LSTM, config=config, loss_func=loss, **kw)
    else:
        config = awdlstm.awd_lstm_clas_config | dims(c)
        learn = classifier.text_classifier_learner(dls, awdlstm.AWD_LSTM, config=config, **kw)
    return getattr(learn, f'to_{prec}')()

def classify(a, rows):
    "A pass over all batches to warm up and one in the clock; reading is timed in the same way."
    c, got = a.c, defaultdict(list)
    n = min(c['clas_docs'], len(a.text.lens))
    names = ['fastai fp16', 'ours fp16', 'ours bf16']
    def read(learn, dtype):
        learn.model.eval()
        with torch.no_grad(), torch.autocast(a.device, dtype, enabled=a.kind == 'gpu' or dtype == torch.bfloat16):
            for b in learn.dls.train: out = learn.model(b[0])[0]
        return out
    for i in range(a.rounds):
        for name in names[::1 if i % 2 == 0 else -1]:
            who, prec, _ = contestants[name]
            made, n_batches = [], -(-n//c['clas_bs'])
            s, gb = timed(lambda: made.append(clas_learner(who, prec, a, n)) or made[0], n_batches, n_batches)
            r, = seconds(lambda: read(made[0], torch.float16 if prec == 'fp16' else torch.bfloat16), warm=2)
            got[name].append((n/(s*n_batches), n/r, gb))
            made.clear()
        for name in names:
            for k, what in enumerate(('training', 'reading')):
                runs, peer = [o[k] for o in got[name]], statistics.median(o[k] for o in got['fastai fp16'])
                rows.add(f'classifier, {what}: {name}', runs, 'documents/s', who=name, part=what, peer='fastai fp16',
                         ratio=round(statistics.median(runs)/peer, 2), n_docs=n,
                         **(dict(gb=short(got[name][0][2])) if k == 0 else {}))

# ---- generate
def predictor(a):
    "fastai's learner with an untrained model, whose `predict` cuts a prompt at its spaces."
    c, vocab = a.c, words(a.c)
    df = pd.DataFrame({'text': [' '.join(random.choices(vocab[9:], k=100)) for _ in range(20)]})
    texts = fa.TextBlock.from_df('text', is_lm=True, vocab=vocab, tok=fa.BaseTokenizer(), n_workers=0)
    block = fa.DataBlock(texts, get_x=fa.ColReader('text'), splitter=fa.RandomSplitter(.2, seed=42))
    dls = block.dataloaders(df, bs=2, seq_len=20, device=torch.device(a.device))
    learn = fa.language_model_learner(dls, fa.AWD_LSTM, config=fa.awd_lstm_lm_config | dims(c), pretrained=False)
    learn.model.to(a.device)
    return learn

def write(a, rows):
    "Continuations of three words, drawn from the whole vocab; fastai writes one text at a time, in fp32."
    c = a.c
    set_seed(42)
    learn = predictor(a)
    model = awdlstm.get_language_model(awdlstm.AWD_LSTM, len(learn.dls.vocab), awdlstm.awd_lstm_lm_config | dims(c))
    model.load_state_dict(learn.model.state_dict())
    model.to(a.device)
    prompt = ' '.join(learn.dls.vocab[9:12])
    def mine(n, bf16=False):
        with torch.autocast(a.device, torch.bfloat16, enabled=bf16):
            generate(model, prompt, c['words'], n=n, stop=[], seed=42, codec=Codec(str.split, learn.dls.vocab))
    theirs = seconds(lambda: learn.predict(prompt, c['words'], no_bar=True), a.rounds, warm=2)
    peer = c['words']/statistics.median(theirs)
    rows.add('writing, fastai predict, one text', [c['words']/s for s in theirs], 'tokens/s', who='fastai', batch=1,
             words=c['words'])
    for n, bf16 in itertools.product((1, 64), (False, True)):
        s = seconds(lambda: mine(n, bf16), a.rounds, warm=2)
        runs = [n*c['words']/o for o in s]
        rows.add(f'writing, ours {"bf16" if bf16 else "fp32"}, {n} at once', runs, 'tokens/s', who='ours', batch=n,
                 words=c['words'], peer='fastai predict, one text', ratio=round(statistics.median(runs)/peer, 2))

# ---- ladder
def ladder(a, rows):
    "The lesson's recipes on this machine; on a card they are small, and mostly wait."
    for k, r in experiments.ladder_recipes.items():
        epochs = a.c['epochs'] or r['epochs']
        runs = [experiments.train_ladder(k, seed, epochs=epochs, device=a.device)[1] for seed in a.c['ladder']]
        rows.add(f'LMModel{k} on Human Numbers', [o['seconds'] for o in runs], 's', model=k, epochs=epochs,
                 seeds=list(a.c['ladder']), accuracy=round(statistics.mean(o['accuracy'] for o in runs), 2))

# ---- all of them
pieces = dict(step=step, floor=floor, profile=profile, sync=sync_piece, same=same, classifier=classify, generate=write,
              ladder=ladder)

def main(argv=None):
    a = parse(argv)
    a.out.mkdir(parents=True, exist_ok=True)
    if a.kind == 'gpu': # fp32 is to be fp32
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    a.text = read_texts(a)
    print(f'{machine()}\n{a.text.said}', flush=True)
    broken = []
    for p in a.piece or pieces:
        print(f'{p}: {" ".join(pieces[p].__doc__.split())}', flush=True)
        clock, rows, a.command = Clock(), None, f'python benchmarks/gpu.py --piece {p}' + ' --small'*a.small
        try:
            rows = Rows(p, a)
            pieces[p](a, rows)
            rows.done()
        except Exception as e: # the other pieces run, and the exit status tells
            broken.append(p)
            print(f'  {p} broke: {type(e).__name__}: {e}', flush=True)
            if a.piece and len(a.piece) == 1: raise
        clear()
        print(f'  {clock.stop():.0f} s', flush=True)
    if broken: raise SystemExit(f'Not finished: {", ".join(broken)}. What was measured before is kept.')

def parse(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--piece', choices=list(pieces), action='append',
                   help='run this piece only; may be given several times')
    p.add_argument('--small', action='store_true', help='a small model: does everything run?')
    p.add_argument('--corpus', help='folder of a Corpus, the bundle of imdb.py, or a .npz file with ids and offsets')
    p.add_argument('--texts', help='folder of text files')
    p.add_argument('--rounds', type=int, default=3, help='runs of each contestant, 3 without it')
    p.add_argument('--out', help='folder for the results; benchmarks/results without it')
    a = p.parse_args(argv)
    a.device = 'cuda' if torch.cuda.is_available() else 'cpu'
    a.kind, a.c = 'gpu' if a.device == 'cuda' else 'cpu', dict(small if a.small else full)
    if a.rounds < 1: p.error(f'--rounds is {a.rounds}; it is at least 1')
    if a.corpus and a.texts: p.error('give --corpus or --texts, not both')
    if a.kind == 'cpu' and not a.small:
        p.error('there is no GPU here, and the full sizes would take hours on a processor: add --small')
    of_record = not a.out or Path(a.out).resolve() == results.resolve()
    if a.kind == 'gpu' and a.small and of_record:
        p.error('--small on a GPU measures nothing worth keeping: give another folder, --out DIR')
    a.out = results if of_record else Path(a.out)
    return a

if __name__ == '__main__': main()
