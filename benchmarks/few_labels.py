"""How many labels does a classifier need? The experiment of ULMFiT's figure 3, on one machine.

    python benchmarks/few_labels.py --test tune          # on training reviews set aside: to choose settings with
    python benchmarks/few_labels.py --test test          # on the test reviews: once, when all settings are fixed
    python benchmarks/few_labels.py --ways bag --sizes 100 500

Each run trains one classifier on one random draw of labelled training reviews, half of them positive, and is at once
added to its row in benchmarks/results, in few_labels.started until the row has all its draws. With 25,000 labels, where
the ways are close together, a row also says how accurate each draw is on all 25,000 test reviews (`on_all`). Runs that
are there, with the same model, are not repeated: if you stop the command and run it again, it goes on. With another
model, other settings or another `--n-test`, rows that are there would go: the command stops and names them, unless
`--replace` is given."""
import argparse
from functools import cache
from pathlib import Path

import numpy as np
from common import Clock, real_reviews, results, started

from lesson8nlp.core import load_results, result_row, save_results
from lesson8nlp.store import fingerprint, one_at_a_time
from lesson8nlp.texts import read_text, text_files
from lesson8nlp.ulmfit import TextModel, bag_of_words, finetune, train_classifier

root = Path(__file__).resolve().parent.parent
sizes = {50: 5, 100: 5, 200: 5, 500: 5, 1000: 5, 5000: 2, 25000: 2}  # number of labels, and how many draws of them
ways = {'bag': 'bag of words, TF-IDF, words and pairs', 'ratios': 'bag of words, log-count ratios, up to three words',
        'random': 'network from random weights', 'pretrained': 'pretrained network',
        'finetuned': 'pretrained network, fine-tuned'}
others = {'gradual': 'pretrained network, unfrozen group by group'}  # only if you ask for it: to choose settings with
recipes = dict(gradual=dict(gradual=True, factor=2.6, lr=1e-2))  # 2.6: ULMFiT, section 3.2


def from_random(n):
    "Settings for a network that has read nothing; up to 1,000 labels they were chosen on the tuning reviews."
    return dict(lr=2e-3, epochs=10 if n <= 1000 else 5 if n <= 5000 else 3)


def number(f): return int(f.stem.split('_')[0])


class Reviews:
    "Labelled reviews to draw from, and those to be tested on."
    def __init__(self, test, n_test):
        path = real_reviews()
        train = text_files(path/'train')
        self.aside = [f for f in train if number(f) >= 11_250]  # the shipped model has not read them
        self.pool = train if test == 'test' else [f for f in train if number(f) < 11_250]
        self.whole = text_files(path/'test') if test == 'test' else self.aside
        self.test = self.sample(self.whole, n_test, seed=0) if n_test < len(self.whole) else self.whole

    def sample(self, files, n, seed):
        "`n` of `files`, half of them positive."
        rng = np.random.default_rng([n, seed])
        of = {k: [f for f in files if f.parent.name == k] for k in ('neg', 'pos')}
        return [of[k][i] for k in of for i in rng.permutation(len(of[k]))[:n//2]]


def texts_of(files): return [read_text(f) for f in files], [f.parent.name for f in files]


def answers(way, n, train, test, seed, lm):
    "A label for each text of `test`, by a classifier that has learned from `train`, which has `n` labels."
    if way == 'bag': return bag_of_words(*train, test, n_words=2)
    if way == 'ratios': return bag_of_words(*train, test, n_words=3, weigh='ratios')
    start, how = (lm.untrained(), from_random(n)) if way == 'random' else (lm, recipes.get(way, {}))
    clf = train_classifier(*train, start, valid=[0, len(train[0]) - 1], seed=seed, verbose=False, **how)
    return clf.predict(test, bs=64, fast=True).label.to_numpy()


def run(way, n, seed, reviews, lm):
    "Train one classifier and test it: accuracy in percent, seconds, and with all labels the accuracy on all reviews."
    drawn = reviews.sample(reviews.pool, n, seed)
    if way not in ('bag', 'ratios') and n < len(reviews.pool):  # two to set aside
        rest = sorted({*reviews.pool} - {*drawn})
        drawn = [rest[0], *drawn, rest[-1]]
    files = reviews.whole if n == max(sizes) else reviews.test
    train, test = texts_of(drawn), texts_of(files)
    with Clock() as c: right = answers(way, n, train, test[0], seed, lm) == np.array(test[1])
    same = np.isin([str(f) for f in files], [str(f) for f in reviews.test])  # as with fewer labels
    more = [100*float(right.mean())] if n == max(sizes) else []
    return 100*float(right[same].mean()), c.s, *more


@cache  # the weights of `lm` stay as they are, and to read them takes time
def start_of(way, n, lm):
    "A key of what a classifier starts from, and of settings that are not the library's; None for a bag of words."
    if way in ('bag', 'ratios'): return None
    how = fingerprint(lm.config, lm.codec.fingerprint(), from_random(n)) if way == 'random' else lm.fingerprint()
    return fingerprint(how, recipes[way])[:12] if way in recipes else how[:12]


def all_rows(path): return [r for p in (path, started(path)) if p.exists() for r in load_results(p)]


def belongs(r, test, n_test, lm):
    "Is the row `r` of this test, and of what starts from this model?"
    return (r['tested_on'], r['n_test'], r['start']) == (test, n_test, start_of(r['way'], r['n_labels'], lm))


def measured(path, test, n_test, lm):
    "The rows of this test, and of what starts from this model; some may lack draws."
    rows = sorted(all_rows(path), key=lambda r: len(r['seeds']))
    return {(r['way'], r['n_labels']): r for r in rows if belongs(r, test, n_test, lm)}


def check_rows(path, test, n_test, lm, replace):
    "Stop if the first draw would drop rows of another test or model, unless they are to be replaced."
    gone = [r for r in all_rows(path) if not belongs(r, test, n_test, lm)]
    if not gone: return
    said = f'{len(gone)} rows of another model, or of another number of test reviews, '
    if replace: return print(f'{said}go from {path.name}.', flush=True)
    names = '\n'.join(f'  {r["what"]}: {r["n_test"]:,} test reviews, model {r["start"]}' for r in gone)
    raise SystemExit(f'{said}would go from {path.name}:\n{names}\nThis run has {n_test:,} test reviews and model '
                     f'{start_of("pretrained", 0, lm)}. Run it with what these rows have, or add --replace if they may '
                     'go.')


def row_of(way, n, draws, on_all, minutes, test, n_test, lm):
    "The row of results for one way and number of labels: `draws` and `on_all` have the accuracies of each seed."
    seeds = sorted(draws)
    each = [draws[s] for s in seeds]
    sd = round(float(np.std(each, ddof=1)), 2) if len(each) > 1 else None
    more = dict(on_all=[on_all.get(s) for s in seeds]) if on_all else {}
    return result_row(f'{(ways | others)[way]}, {n} labels', round(float(np.mean(each)), 2), '%',
        f'python benchmarks/few_labels.py --test {test}', way=way, n_labels=n, sd=sd, tested_on=test, n_test=n_test,
        start=start_of(way, n, lm), seeds=seeds, each=each, minutes=round(minutes, 1), **more)


def add_draw(path, way, n, seed, accuracy, seconds, test, n_test, lm, on_all=None):
    "Put the draw `seed` into its row, and keep all rows in the order of `ways` and `sizes`."
    with one_at_a_time(path):  # another process may measure other draws
        rows = measured(path, test, n_test, lm)
        old = rows.get((way, n), dict(minutes=0., seeds=[]))
        each = old.get('each', [old['ours']] if 'ours' in old else [])  # an older row has only its mean
        draws = dict(zip(old['seeds'], each)) | {seed: round(accuracy, 2)}
        on_all = {} if on_all is None else {seed: round(on_all, 2)}
        on_all = dict(zip(old['seeds'], old.get('on_all', []))) | on_all
        rows[way, n] = row_of(way, n, draws, on_all, old['minutes'] + seconds/60, test, n_test, lm)
        rows = [rows[k] for k in sorted(rows, key=lambda k: ([*ways, *others].index(k[0]), k[1]))]
        shown = load_results(path) if path.exists() else []  # a row stays until another one has more draws
        whole = [r for r in rows if len(r['seeds']) == sizes[r['n_labels']] or r in shown]
        save_results(path, whole)
        if begun := [r for r in rows if r not in whole]: save_results(started(path), begun)
        else: started(path).unlink(missing_ok=True)


def fine_tuned(reviews, lm, work):
    "The language model `lm` after it has read the reviews of the pool, saved in the folder `work`."
    out = work/'finetuned'
    if out.is_dir(): return TextModel.load(out)
    work.mkdir(parents=True, exist_ok=True)
    read = [f for f in reviews.pool if number(f) % 100 != 7]  # the others measure perplexity
    return finetune(texts_of(read)[0], lm, epochs=1, path=work/'lm', out=out)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--test', choices=('tune', 'test'), default='tune')
    ap.add_argument('--n-test', type=int, default=5_000, help='at most so many test reviews, the same ones for all')
    ap.add_argument('--replace', action='store_true', help='rows of another model or another --n-test may go')
    ap.add_argument('--ways', nargs='+', choices=ways | others, default=list(ways))
    ap.add_argument('--sizes', nargs='+', type=int, choices=sizes, default=list(sizes))
    a = ap.parse_args()
    reviews, lm = Reviews(a.test, a.n_test), TextModel.pretrained()
    work = root/'build'/'few_labels'/f'{a.test}_{lm.fingerprint()[:12]}'
    out = results/('few_labels.json' if a.test == 'test' else 'few_labels_tune.json')
    check_rows(out, a.test, len(reviews.test), lm, a.replace)
    for n in a.sizes:
        for way in a.ways:
            row = measured(out, a.test, len(reviews.test), lm).get((way, n), dict(seeds=[]))
            for seed in sorted({*range(sizes[n])} - {*row['seeds']}):
                start = fine_tuned(reviews, lm, work) if way == 'finetuned' else lm
                accuracy, seconds, *more = run(way, n, seed, reviews, start)
                add_draw(out, way, n, seed, accuracy, seconds, a.test, len(reviews.test), lm, *more)
                print(f'{(ways | others)[way]:<50}{n:>6} labels, draw {seed}: {accuracy:.1f} %', flush=True)


if __name__ == '__main__': main()
