"""Text to batches, side by side in one run on one machine: `make bench`, or `python benchmarks/bench.py --quick`.

Every measurement of `measures.py` runs alone in a fresh process. Rows go to text_to_batches.json, the plot to
text_to_batches.png."""
import argparse, json, os, random, subprocess, sys, tempfile, time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from statistics import median

from fastcore.foundation import L

import measures
from common import Clock, real_reviews, results

here = Path(__file__).resolve().parent
command = 'make bench'

# ---- one process
def memory(proc):
    "Bytes of `proc` (a psutil.Process) and all its descendants; what they share counts once where the system can tell."
    import psutil
    total = 0
    for p in [proc] + proc.children(recursive=True):
        try:
            m = p.memory_full_info()
            total += getattr(m, 'pss', m.uss)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess): pass
    return total

def watch(proc, every=0.05):
    "Let `proc` go on from its imports to its end; how far its memory rose, in MB."
    import psutil
    if proc.stdout.readline().strip() != 'ready': return None
    tree = psutil.Process(proc.pid)
    start = peak = memory(tree)
    proc.stdin.write('\n')
    proc.stdin.flush()
    while proc.poll() is None:
        try: peak = max(peak, memory(tree))
        except psutil.NoSuchProcess: break
        time.sleep(every)
    return (peak - start)/1e6

class Bench:
    "The processes of one run, and what they found."
    def __init__(self, work, total, log=print):
        self.work, self.total, self.log, self.found, self.number = Path(work), total, log, {}, count()

    def __call__(self, name, n=0, threads=1, mem=False):
        "Run the measurement `name` on `n` reviews (0: all) in a process of its own, and note the result."
        n = 0 if n >= self.total else n
        args = [sys.executable, str(here/'bench.py'), '--one', name, '--n', str(n), '--work', str(self.work)]
        if name == 'ours_corpus': # a new folder each time; the first is for the others
            args += ['--folder', f'corpus{next(self.number) or ""}']
        env = os.environ | dict(OMP_NUM_THREADS='1', RAYON_NUM_THREADS=str(threads),
                                TOKENIZERS_PARALLELISM='false' if threads == 1 else 'true')
        with tempfile.TemporaryFile('w+') as err:
            pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err)
            proc = subprocess.Popen(args + ['--memory']*mem, env=env, text=True, **pipes)
            peak = watch(proc) if mem else None
            out, _ = proc.communicate()
            err.seek(0)
            if proc.returncode: raise RuntimeError(f'{name} on {n or "all"} reviews failed:\n{err.read()[-2000:]}')
        res = json.loads(out.splitlines()[-1]) | dict(peak=peak)
        self.found.setdefault((name, n, threads, mem), []).append(res)
        took = f'{peak:9.0f} MB' if mem else f'{res["s"]:9.3f} s' if res['s'] else '     done'
        self.log(f'  {name:<20}{n or self.total:>8,} reviews  RAYON_NUM_THREADS={threads} {took}', flush=True)
        return res

    def all(self, name, n=0, threads=1, mem=False):
        "What was found in the runs of this measurement."
        return L(self.found.get((name, 0 if n >= self.total else n, threads, mem), []))

# ---- what is run
def lay_out(path, work, quick):
    """Write the reviews in `path` and the names of their files into the folder `work`, in random order, and return how
    many they are; this warms the page cache."""
    from lesson8nlp.texts import read_text, text_files
    files = text_files(path, 'train' if quick else None)
    random.Random(42).shuffle(files)
    if quick: files = files[:2000]
    with open(work/'reviews.jsonl', 'w', encoding='utf-8') as f:
        f.writelines(json.dumps(read_text(o)) + '\n' for o in files)
    (work/'files.json').write_text(json.dumps([str(o) for o in files]), encoding='utf-8')
    return len(files)

def sizes(total, quick):
    "Numbers of reviews: for fastai, for the peers that need no more, for the fastai loader, and for the growth curve."
    if quick: return 100, 500, 200, [total]
    grow = sorted({n for n in (1000, 3000, 10000, 30000) if n < total} | {total})
    return min(3000, total), min(6000, total), min(3000, total), grow

def few_sizes(total): return sorted({min(n, total) for n in (1000, 3000)}) # of fastai's growth

def plan(total, quick):
    "What is run, as arguments of `Bench`: first what the others need, then peers and ours by turns, round by round."
    few, some, docs, grow = sizes(total, quick)
    cores = os.cpu_count()
    first = [('ours_corpus',), ('hf_bpe_train', some, cores)]
    first += [('hf_wordlevel_train', n, cores) for n in sorted({*grow, some, total})]
    one = [('fastai_ids', few), ('ours_ids',), ('spacy_ids', some//2), ('hf_wordlevel', some),
           ('hf_wordlevel_offsets', some), ('hf_bpe', some), ('hf_wordlevel', some, cores), ('hf_bpe', some, cores),
           ('ours_cached',), ('fastai_batches', docs), ('ours_batches',), ('limit_batches',)]
    hf = [('hf_wordlevel', n) for n in grow] # which number of reviews suits it best is not known before
    rest = one + hf if quick else one + hf + 2*(one + hf + [('ours_corpus',)])
    rest += [('ours_corpus', n) for n in grow if n < total]
    if not quick: rest += [('fastai_ids', n) for n in few_sizes(total) if n != few]
    mem = [('ours_corpus', n) for n in grow]
    if not quick: mem += [('fastai_ids', few), ('ours_ids', few), ('fastai_batches', docs), ('ours_batches', total)]
    return first, list(dict.fromkeys(rest)) if quick else rest, [(o, n, 1, True) for o, n in mem]

def run_all(b, quick):
    "Run the plan; `quick` runs two processes at a time, so that its figures show only that everything works."
    for calls in plan(b.total, quick):
        with ThreadPoolExecutor(2 if quick else 1) as pool: list(pool.map(lambda o: b(*o), calls))

# ---- from runs to rows
def rates(runs, of='mb', s='s', by=1): return L(runs).map(lambda o: o[of]/by/o[s])
def row(what, value, unit, **more):
    from lesson8nlp.core import result_row
    short = lambda v: [round(x, 4) for x in v] if isinstance(v, list) else round(v, 4) if isinstance(v, float) else v
    return result_row(what, round(value, 4), unit, command, **{k: short(v) for k, v in more.items()})

def rate_rows(b, quick):
    "A row for each, `ratio` times as fast as fastai: text -> ids in MB/s, ids -> batches in million tokens/s."
    few, some, docs, _ = sizes(b.total, quick)
    total, cores = b.total, os.cpu_count()
    words, bpe = 'Hugging Face WordLevel', 'Hugging Face BPE'
    ids = [('fastai', 'fastai_ids', few), ('spaCy alone', 'spacy_ids', some//2),
           (f'{bpe}, 1 thread, encode_batch_fast', 'hf_bpe', some),
           (f'{words}, 1 thread, encode_batch_fast', 'hf_wordlevel', total),
           (f'{words}, 1 thread, encode_batch with offsets', 'hf_wordlevel_offsets', some),
           (f'{bpe}, {cores} threads, encode_batch_fast', 'hf_bpe', some, cores),
           (f'{words}, {cores} threads, encode_batch_fast', 'hf_wordlevel', some, cores),
           ('ours, files to corpus, 2 processes', 'ours_corpus', total), ('ours, cold', 'ours_ids', total),
           ('ours, warm', 'ours_ids', total), ('ours, corpus from its cache', 'ours_cached', total)]
    toks = [('fastai, from tensors', 'fastai_batches', docs), ('ours', 'ours_batches', total),
            ('slices of a tensor', 'limit_batches', total), ('copy in memory', 'limit_batches', total)]
    out = []
    kinds = [('text -> ids', 'MB/s', ids, {}), ('ids -> batches', 'M tokens/s', toks, dict(of='n_tokens', by=1e6))]
    for kind, unit, lines, how in kinds:
        for who, name, n, *threads in lines:
            runs = b.all(name, n, *threads)
            xs = rates(runs, s='warm' if 'warm' in who else 'copy' if 'copy' in who else 's', **how)
            if who.startswith('fastai'): base = median(xs)
            more = dict(peer='fastai', ratio=median(xs)/base, spread=[min(xs), max(xs)], n_runs=len(xs), n_reviews=n)
            out.append(row(f'{kind}: {who}', median(xs), unit, kind=kind, who=who, **more, mb=runs[0].get('mb')))
    return L(out)

def cost_rows(b, quick):
    "How seconds and memory grow with the number of reviews, and the peak memory of each."
    (few, _, _, grow), total = sizes(b.total, quick), b.total
    out = []
    lines = [('ours, files to corpus, 2 processes', 'ours_corpus', grow),
             ('Hugging Face WordLevel, 1 thread', 'hf_wordlevel', grow),
             ('fastai', 'fastai_ids', [few] if quick else few_sizes(total))]
    for who, name, ns in lines:
        for n in ns:
            runs = b.all(name, n).itemgot('s')
            more = dict(kind='growth', who=who, n_reviews=n, n_runs=len(runs))
            out.append(row(f'growth: {who}, {n:,} reviews', median(runs), 's', **more))
    names = dict(ours_corpus='ours, files to corpus, 2 processes', fastai_ids='fastai, text -> ids',
                 ours_ids='ours, text -> ids', fastai_batches='fastai, loader', ours_batches='ours, loader')
    for (name, n, _, mem), runs in b.found.items():
        if not mem: continue
        who, n = names[name], n or b.total
        what = f'peak memory: {who}, {n:,} reviews'
        out.append(row(what, runs[0]['peak'], 'MB', kind='memory', who=who, n_reviews=n))
    return L(out)

def figure(what, xs, unit, at_least, aim, ok, aim_ok=None, peers=(1,), **more):
    "A row of the goal: the median of `xs` over that of `peers`, and the spread of the runs; `ok` and `aim_ok` test it."
    x = median(xs)/median(peers)
    spread = [min(xs)/max(peers), max(xs)/min(peers)]
    said = dict(at_least=at_least, aim=aim, reached=ok(x), aim_reached=aim_ok and aim_ok(x), spread=spread)
    return row(what, x, unit, kind='figure', **said, **more)

def figure_rows(b, quick):
    "The figures of the goal: at least, aim, measured."
    few, some, docs, grow = sizes(b.total, quick)
    cold, loader = rates(b.all('ours_ids')), rates(b.all('ours_batches'), 'n_tokens')
    fastai = rates(b.all('fastai_ids', few))
    hf = {n: rates(b.all('hf_wordlevel', n)) for n in {some, *grow}}
    best = max(hf, key=lambda n: median(hf[n]))
    fastai_dl = rates(b.all('fastai_batches', docs), 'n_tokens')
    copy = rates(b.all('limit_batches'), 'n_tokens', 'copy')
    peaks = [b.all('ours_corpus', n, mem=True)[0]['peak'] for n in grow]
    compared = max((o['n'], o['mismatches']) for (name, *_, mem), runs in b.found.items()
                   if name == 'fastai_ids' and not mem for o in runs)
    bandwidth, under = median(copy)/median(fastai_dl), lambda n: lambda x: x < n
    least = lambda n: lambda x: x >= n
    return L(
        figure('text -> ids, one core, nothing cached, against fastai', cold, '×', '25×', '40×', least(25), least(40),
               fastai, note=f"fastai's rate is that of {few:,} reviews"),
        figure('the same against Hugging Face WordLevel, one thread, the same reviews', cold, '×', '2×', '5×', least(2),
               least(5), hf[b.total], note='encode_batch_fast, which leaves out where each token stands'),
        figure('the same against Hugging Face WordLevel, one thread, where it is fastest', cold, '×', '2×', '5×',
               least(2), least(5), hf[best], note=f'its rate is that of {best:,} reviews, with their smaller vocab'),
        figure('files to a Corpus, 2 processes, cold', b.all('ours_corpus').itemgot('s'), 's', 'under 15 s', '8 s',
               under(15), lambda x: x <= 8, note='page cache warm'),
        figure('opening a built Corpus', b.all('ours_batches').itemgot('open'), 's', 'under 0.1 s', '', under(0.1),
               note='the first time in a process'),
        figure('ids -> batches, a shuffled epoch, against fastai', loader, '×', '100×', f'copy: {bandwidth:,.0f}×',
               least(100), least(bandwidth), fastai_dl, note=f"fastai's rate is that of {docs:,} reviews, tensors"),
        figure('peak memory building it, all processes', peaks[-1:], 'MB', 'under 600 MB', 'flat', under(600),
               under(1.1*peaks[max(0, len(peaks) - 2)]),
               note='; '.join(f'{p:.0f} MB at {n:,}' for n, p in zip(grow, peaks))),
        figure("reviews whose tokens are not fastai's", [compared[1]], '', '0', '0', under(1), under(1),
               note=f'of {compared[0]:,} compared here; make test-slow compares all'))

# ---- what is shown
def show(rows, real, quick):
    "Print the tables: rates, memory and growth, then the goal."
    for kind in ('text -> ids', 'ids -> batches'):
        print(f'\n{kind:<52}{"rate":>10}{"":12}{"× fastai":>9}   spread of the runs, reviews')
        for o in rows:
            if o['kind'] != kind: continue
            low, high = o['spread']
            rate = '  {who:<50}{ours:>10.2f} {unit:<11}{ratio:>9,.1f}   '.format(**o)
            print(rate + f'{low:,.2f} to {high:,.2f} ({o["n_runs"]}), {o["n_reviews"]:,}')
    print('\nSeconds and peak memory above the imports')
    for o in rows:
        if o['kind'] in ('growth', 'memory'): print(f'  {o["what"]:<75}{o["ours"]:>10.2f} {o["unit"]}')
    print(f'\n{"what":<74}{"at least":>14}{"aim":>14}{"measured":>12}')
    for o in rows:
        if o['kind'] != 'figure': continue
        if quick or not real: said = ''
        elif not o['reached']: said = 'NOT REACHED'
        else: said = 'aim reached' if o['aim_reached'] else 'reached' + ', the aim not'*(o['aim_reached'] is False)
        print('{what:<74}{at_least:>14}{aim:>14}{ours:>9,.2f} {unit:<2}'.format(**o), f' {said:<20} {o["note"]}')
    if quick or not real:
        print('The goal is for all of the real IMDB, one process at a time: these figures only show that all runs.')

def plot(rows, path, reviews):
    "Ratios to fastai as bars; seconds and memory over the number of reviews."
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    parts = [['bars', 's'], ['bars', 'MB']]
    fig, ax = plt.subplot_mosaic(parts, figsize=(11, 5), width_ratios=[3, 2], layout='constrained')
    bars = [o for o in rows if 'ratio' in o][::-1]
    shades = ['tab:blue' if 'ours' in o['who'] else 'silver' for o in bars]
    marks = ax['bars'].barh(range(len(bars)), [o['ratio'] - 1 for o in bars], left=1, color=shades)
    ax['bars'].bar_label(marks, [f'{o["ratio"]:,.1f}×' for o in bars], padding=3, fontsize=7)
    ax['bars'].set_yticks(range(len(bars)), [o['what'] for o in bars], fontsize=7)
    ax['bars'].axvline(1, color='black', lw=1)
    ax['bars'].set(xscale='log', xlim=(0.5, 6*max(o['ratio'] for o in bars)),
                   xlabel=f'times as fast as fastai, log scale ({reviews})')
    grown = dict.fromkeys(o['who'] for o in rows if o['kind'] == 'growth')
    colors = dict(zip(grown, ['tab:blue', 'tab:orange', 'black']))
    for who, color in colors.items():
        for unit, kind in (('s', 'growth'), ('MB', 'memory')):
            line = [(o['n_reviews'], o['ours']) for o in rows if o['kind'] == kind and o['who'] == who]
            if line: ax[unit].plot(*zip(*line), 'o-', color=color, label=who)
    ax['s'].set(xscale='log', yscale='log', ylabel='seconds')
    most = max(o['ours'] for o in rows if o['kind'] == 'memory' and o['who'] in colors)
    ax['MB'].set(xscale='log', ylim=(0, 1.2*most), xlabel='reviews', ylabel='peak memory, MB')
    for o in (ax['s'], ax['MB']):
        o.grid(alpha=0.3)
        o.legend(fontsize=7)
    fig.savefig(path, dpi=100)

def main(a):
    "Run everything, keep it and show it."
    from lesson8nlp.core import save_results
    from lesson8nlp.data import get_imdb
    out = Path(a.out) if a.out else results
    of_record = out.resolve() == results.resolve()
    if a.quick and of_record: raise SystemExit('--quick writes no results of record: give another folder, --out DIR.')
    path = real_reviews(or_else=', or give another folder, --out DIR') if of_record else get_imdb(download=False)
    with Clock() as clock, tempfile.TemporaryDirectory() as work:
        real, total = path.name == 'imdb', lay_out(path, Path(work), a.quick)
        b = Bench(work, total)
        run_all(b, a.quick)
    rows = rate_rows(b, a.quick)
    rows = figure_rows(b, a.quick) + rows + cost_rows(b, a.quick)
    name = f'{total:,} reviews of IMDB' if real else f'{total:,} made-up reviews: IMDB is not on this machine'
    how = command if of_record else f'python benchmarks/bench.py{" --quick"*a.quick} --out {out.name}'
    for o in rows:
        o |= dict(reviews=name, command=how)
        if a.quick or not real: # the goal is for all of IMDB
            o |= {k: None for k in ('reached', 'aim_reached') if k in o}
    out.mkdir(parents=True, exist_ok=True)
    save_results(out/'text_to_batches.json', list(rows))
    plot(rows, out/'text_to_batches.png', name)
    print(f'\n{name}; {rows[0]["hardware"]}; {clock.s:.0f} s.')
    show(rows, real, a.quick)

def parse():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--quick', action='store_true', help='2,000 reviews, two processes at a time; needs --out')
    p.add_argument('--out', help='folder for the results; benchmarks/results without it, for the real reviews alone')
    p.add_argument('--one', choices=list(measures.measures),
                   help='run one measurement only, as this program does by itself')
    p.add_argument('--n', type=int, default=0, help='reviews for --one; 0 for all')
    p.add_argument('--work', type=Path, help='folder with the reviews, for --one')
    p.add_argument('--folder', default='corpus', help='name of the corpus that --one ours_corpus builds')
    p.add_argument('--workers', type=int, default=2, help='processes of --one ours_corpus')
    p.add_argument('--memory', action='store_true', help='wait for a line after the imports')
    a = p.parse_args()
    if a.quick and not a.out and not a.one:
        p.error('--quick needs --out DIR, so that it does not replace the results of record')
    return a

if __name__ == '__main__':
    args = parse()
    if args.one: measures.run_one(args)
    else: main(args)
