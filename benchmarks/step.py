"""Seconds and peak memory of a training step of a large AWD-LSTM: `language_model_learner`, fastai's and ours.

    python benchmarks/step.py                              # about 50 minutes; replaces results/step.json
    python benchmarks/step.py --quick --out build/bench    # a small model: does everything run?

A contestant is a `Learner` in a process of its own, and they take turns. The clock covers whole steps: forward, loss
with AR and TAR, backward, optimizer; the first two are not counted. The median counts. On a machine that others use
too, the processor time is the steadier of the two. Memory is the highest resident set (VmHWM) from the first step to
the last, minus what was resident when imports were done and the model was built: gradients, Adam's averages and all
that a step needs for a while, but not the weights. All see the same batches, and the losses of fastai's steps and ours
are compared.

A third contestant, `fast`, is ours with `SampledCrossEntropy` and, where the processor has units for it, `to_bf16()`:
what pretraining uses. It and fastai's learner are measured once more with the batch that the course page trains with,
128 rows of 80 tokens. Its steps have another loss, so it has to show that it learns the same: a small model is trained
by fastai's learner (all words, float32) and by `fast`, on the same reviews, as many tokens, three seeds, and the
perplexities on reviews set aside are compared. The rows that are measured wait in step.started until all are there."""
import argparse, json, os, sys
from pathlib import Path
from statistics import median

from common import Clock, end_run, output, real_reviews, results, started

command = 'python benchmarks/step.py'
full = dict(vocab_sz=60_000, bs=16, seq_len=72, emb_sz=400, n_hid=1152, n_layers=3, steps=6, warm=2)
large = full | dict(bs=128, seq_len=80, steps=3, warm=1) # the batch of the course page
small = dict(n_reviews=3_000, max_vocab=10_000, emb_sz=128, n_hid=256, n_layers=1, bs=32, seq_len=64, lr=5e-3, epochs=3)
trial_small = small | dict(n_reviews=200, emb_sz=20, n_hid=30, epochs=1)
trial = dict(vocab_sz=2_000, bs=4, seq_len=20, emb_sz=20, n_hid=30, n_layers=2, steps=4, warm=2)
trial_large = trial | dict(bs=8)
sizes = dict(full=full, large=large, trial=trial, trial_large=trial_large)

# ---- one contestant, in a process of its own
def status(key): # kB, of this process
    return int(next(l for l in Path('/proc/self/status').read_text().splitlines() if l.startswith(key)).split()[1])

def batches(c):
    "Batches of made-up text: ids with the frequencies of words, the same for both."
    import torch
    torch.manual_seed(0)
    p, bs, seq_len = 1/torch.arange(1, c['vocab_sz'] + 1).float(), c['bs'], c['seq_len']
    drawn = [torch.multinomial(p, bs*(seq_len + 1), replacement=True).view(bs, -1) for _ in range(c['steps'])]
    return [tuple(ids.unfold(1, seq_len, 1).unbind(1)) for ids in drawn]

def made_up(c):
    "`DataLoaders` of made-up batches."
    import torch
    from fastai.basics import DataLoader, DataLoaders
    dls = DataLoaders(DataLoader(batches(c), bs=None, num_workers=0), DataLoader([], bs=None), device='cpu')
    dls.vocab, dls.counts = [f'w{i}' for i in range(c['vocab_sz'])], 1e6/torch.arange(1, c['vocab_sz'] + 1)
    torch.manual_seed(1)
    return dls

def learner(who, c, dls, **kw):
    "The `Learner` of `who`."
    import torch
    sizes = {k: c[k] for k in ('emb_sz', 'n_hid', 'n_layers')}
    if who == 'fastai': from fastai.text.all import AWD_LSTM, awd_lstm_lm_config, language_model_learner
    else:
        from lesson8nlp.awdlstm import AWD_LSTM, awd_lstm_lm_config
        from lesson8nlp.learner import fast_dtype, language_model_learner
    kw |= dict(config=awd_lstm_lm_config | sizes, pretrained=False)
    if who != 'fast': return language_model_learner(dls, AWD_LSTM, **kw)
    from lesson8nlp.losses import SampledCrossEntropy
    learn = language_model_learner(dls, AWD_LSTM, loss_func=SampledCrossEntropy(dls.counts), **kw)
    return learn.to_bf16() if fast_dtype('cpu') == torch.bfloat16 else learn

def run_one(who, c):
    "Train `who` for a few steps and print what it took as a line of JSON."
    import torch
    from fastai.basics import Callback
    learn = learner(who, c, made_up(c), lr=1e-3)
    class Watch(Callback):
        order = 1000
        def before_train(self):
            torch.manual_seed(2)
            self.times, self.cpu, self.losses = [], [], []
            self.clock = Clock()
        def after_batch(self):
            self.times.append(self.clock.stop())
            self.cpu.append(self.clock.cpu)
            self.clock.start()
            self.losses.append(self.learn.loss.item())
        def after_train(self): self.peak = status('VmHWM')
    watch = Watch()
    base = status('VmRSS')
    Path('/proc/self/clear_refs').write_text('5') # the highest resident set starts from here
    with learn.no_bar(), learn.no_logging(): learn.fit(1, cbs=watch)
    secs, cpu = median(watch.times[c['warm']:]), median(watch.cpu[c['warm']:])
    print(json.dumps(dict(s=secs, cpu_s=cpu, mb=(watch.peak - base)/1024, base=base/1024, losses=watch.losses)))

# ---- do they learn the same?
def perplexity(who, c, seed):
    "Of the small model, on reviews set aside."
    import numpy as np
    from fastai.text.all import Perplexity, set_seed
    from lesson8nlp.data import get_imdb
    from lesson8nlp.dataloader import lm_dataloaders
    from lesson8nlp.numericalizer import Numericalize
    from lesson8nlp.texts import read_text, text_files
    kw = dict(num=Numericalize(max_vocab=c['max_vocab']), bs=c['bs'], seq_len=c['seq_len'], seed=seed, device='cpu')
    files = text_files(get_imdb(download=False)/'train', n=c['n_reviews'])
    dls = lm_dataloaders([read_text(f) for f in files], **kw)
    docs = dls.train.docs
    dls.counts = np.bincount(np.concatenate([docs[i] for i in range(len(docs))]), minlength=len(dls.vocab))
    set_seed(seed)
    learn = learner(who, c, dls, metrics=Perplexity(), drop_mult=0.1)
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(c['epochs'], c['lr'])
    return learn.recorder.values[-1][-1]

# ---- all of them, by turns
def run(who, threads, size):
    "Start a process for `who` with one of `sizes`, and return what it measured."
    env = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
    args = [sys.executable, __file__, '--one', who, '--size', size]
    return json.loads(output(args, f'{who} with the sizes {size!r}', env=env, timeout=1_200).splitlines()[-1])

def same_losses(ours, theirs):
    "The largest difference between the losses of our steps and fastai's; an error if it is more than rounding."
    pairs = [(x, y) for a, b in zip(ours, theirs) for x, y in zip(a['losses'], b['losses'])]
    if any(abs(x - y) > 1e-4*abs(y) for x, y in pairs):
        raise SystemExit(f'The losses of ours and fastai differ: {pairs}')
    return max(abs(x - y) for x, y in pairs)

def kinds_of(runs, large):
    "What rows there are: whose runs, what was measured, its key and unit, what to reach, and more to say."
    fast, said = [o['fast'] for o in runs], 'a fast training step: sampled loss, half precision'
    if large:
        return [(fast, f'{said}, 128 rows of 80 tokens', 's', 's', 3, {}),
                (fast, 'processor time of that step', 'cpu_s', 'CPU s', None, {}),
                (fast, 'peak memory of that step', 'mb', 'MB', None, {})]
    ours = [o['ours'] for o in runs]
    exact = dict(loss_difference=same_losses(ours, [o['fastai'] for o in runs]))
    return [(ours, 'a training step', 's', 's', 1.3, exact),
            (ours, 'processor time of a training step', 'cpu_s', 'CPU s', None, exact),
            (ours, 'peak memory of a training step', 'mb', 'MB', 2, exact),
            (fast, said, 's', 's', None, {})]

def rows_of(runs, threads, c, rounds, cmd, large=False):
    "Rows of seconds and of memory: `ratio` times as fast, or as small, as fastai."
    from lesson8nlp.core import result_row
    rows, case, theirs = [], f'{threads} thread' + 's'*(threads > 1), [o['fastai'] for o in runs]
    common = dict(case=case, who='fastai language_model_learner(AWD_LSTM)', n_runs=rounds, sizes=c)
    for some, what, key, unit, aim, more in kinds_of(runs, large):
        a, b = median(o[key] for o in some), median(o[key] for o in theirs)
        ratios = sorted(y[key]/x[key] for x, y in zip(some, theirs))
        rate = dict(per_s=round(1/a, 3), peer_per_s=round(1/b, 3)) if unit == 's' else dict(per_s=None, peer_per_s=None)
        reached = None if cmd != command or aim is None else b/a >= aim
        spread = [round(ratios[0], 2), round(ratios[-1], 2)]
        rows.append(result_row(f'{what}, {case}', round(a, 3), unit, cmd, peer=round(b, 3), ratio=round(b/a, 2),
                               spread=spread, at_least=aim, reached=reached, **rate, **common, **more))
    return rows

def perplexity_row(found, c, cmd):
    "What the small model reached, by fastai's learner and by the fast one."
    from lesson8nlp.core import result_row
    ours, theirs = (sum(found[who])/len(found[who]) for who in ('fast', 'fastai'))
    said = 'perplexity of a small model after equal tokens: sampled loss, half precision'
    each = {who: [round(x, 2) for x in xs] for who, xs in found.items()}
    return result_row(said, round(ours, 2), 'perplexity', cmd, peer=round(theirs, 2), ratio=round(ours/theirs, 3),
                      who='fastai language_model_learner(AWD_LSTM), all words, float32', each=each, seeds=[0, 1, 2],
                      sizes=c, at_least=None, spread=None)

def rounds_of(size, threads, n):
    "What `n` rounds measured, a dict of contestants for each: by turns, and every other time the other one first."
    runs, all_of = [], ('fastai', 'fast') if size.endswith('large') else ('fastai', 'ours', 'fast')
    for i in range(n):
        runs.append({who: run(who, threads, size) for who in all_of[::1 if i % 2 == 0 else -1]})
        said = ', '.join(f'{w} {o["s"]:.2f} s and {o["mb"]:,.0f} MB' for w, o in sorted(runs[-1].items()))
        print(f'{threads} thread(s), {sizes[size]["bs"]} rows, round {i + 1}: {said}', flush=True)
    return runs

def main(a):
    from lesson8nlp.core import save_results
    if not a.quick: real_reviews(or_else=', or add --quick --out DIR')
    out = Path(a.out) if a.out else results
    cmd = f'{command} --quick --out {out.name}' if a.quick else command
    rows, path, c = [], out/'step.json', trial_small if a.quick else small
    out.mkdir(parents=True, exist_ok=True)
    for threads in a.threads:
        for size in ('trial', 'trial_large') if a.quick else ('full', 'large'):
            runs = rounds_of(size, threads, a.rounds)
            rows += rows_of(runs, threads, sizes[size], a.rounds, cmd, size.endswith('large'))
            save_results(started(path), rows)
    found = {who: [perplexity(who, c, seed) for seed in range(3)] for who in ('fast', 'fastai')}
    rows.append(perplexity_row(found, c, cmd))
    end_run(path, rows)
    for o in rows:
        aim = f', at least {o["at_least"]}×' if o['at_least'] else ''
        spread = f' (runs {o["spread"][0]} to {o["spread"][1]}{aim})' if o['spread'] else ''
        print('{what}: {ours:,.2f} {unit}, fastai {peer:,.2f}, {ratio:.2f}×'.format(**o) + spread)

def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--quick', action='store_true', help='a small model, one round; needs --out')
    p.add_argument('--out', help='folder for the results; benchmarks/results without it')
    p.add_argument('--rounds', type=int, default=0, help='how often the two take turns; 3, or 1 with --quick')
    p.add_argument('--threads', type=int, nargs='+', default=[1], help='numbers of threads to measure with; [1]')
    p.add_argument('--one', choices=['fastai', 'ours', 'fast'], help='one contestant, as this program does by itself')
    p.add_argument('--size', choices=sizes, default='full', help='with --one')
    a = p.parse_args()
    a.rounds = a.rounds or (1 if a.quick else 3)
    if a.quick and not a.one and (not a.out or Path(a.out).resolve() == results.resolve()):
        p.error('--quick writes no results of record: give another folder, --out DIR')
    return a

if __name__ == '__main__':
    args = parse()
    if args.one: run_one(args.one, sizes[args.size])
    else: main(args)
