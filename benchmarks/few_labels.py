"""How many labels does a classifier need? The experiment of ULMFiT's figure 3, on one machine.

    python benchmarks/few_labels.py --test tune          # on training reviews set aside: to choose settings with
    python benchmarks/few_labels.py --test test          # on the test reviews: once, when all settings are fixed
    python benchmarks/few_labels.py --ways bag --sizes 100 500

Each run trains one classifier on one random draw of labelled training reviews, half of them positive. Runs that are in
build/few_labels already are not repeated, so a command that was stopped goes on when it is given again; nor are those
of the rows in benchmarks/results that were measured with the same model."""
import argparse, json
from pathlib import Path

import numpy as np
from common import Clock, results

from lesson8nlp.core import load_results, result_row, save_results
from lesson8nlp.data import get_imdb
from lesson8nlp.store import atomic_file, fingerprint
from lesson8nlp.texts import read_text, text_files
from lesson8nlp.ulmfit import TextModel, bag_of_words, finetune, train_classifier

root = Path(__file__).resolve().parent.parent
sizes = {50: 5, 100: 5, 200: 5, 500: 5, 1000: 5, 5000: 2, 25000: 1}  # number of labels, and how many draws of them
ways = {'bag': 'bag of words, TF-IDF, words and pairs', 'ratios': 'bag of words, log-count ratios, up to three words',
        'random': 'network from random weights', 'pretrained': 'pretrained network',
        'finetuned': 'pretrained network, fine-tuned'}
from_random = dict(lr=2e-3, epochs=10)  # chosen on the tuning reviews; the others take the library's settings


def number(f): return int(f.stem.split('_')[0])


class Reviews:
    "Labelled reviews to draw from, and those to be tested on."
    def __init__(self, test, n_test):
        path = get_imdb(download=False)
        if path.name != 'imdb': raise SystemExit('This experiment needs the real reviews of IMDB.')
        train = text_files(path/'train')
        self.aside = [f for f in train if number(f) >= 11_250]  # the shipped model has not read them
        self.pool = train if test == 'test' else [f for f in train if number(f) < 11_250]
        self.test = text_files(path/'test') if test == 'test' else self.aside
        if n_test < len(self.test): self.test = self.sample(self.test, n_test, seed=0)

    def sample(self, files, n, seed):
        "`n` of `files`, half of them positive."
        rng = np.random.default_rng([n, seed])
        of = {k: [f for f in files if f.parent.name == k] for k in ('neg', 'pos')}
        return [of[k][i] for k in of for i in rng.permutation(len(of[k]))[:n//2]]


def texts_of(files): return [read_text(f) for f in files], [f.parent.name for f in files]


def answers(way, train, test, seed, lm):
    "A label for each text of `test`, by a classifier that has learned from `train`."
    if way == 'bag': return bag_of_words(*train, test, n_words=2)
    if way == 'ratios': return bag_of_words(*train, test, n_words=3, weigh='ratios')
    start, how = (lm.untrained(), from_random) if way == 'random' else (lm, {})
    clf = train_classifier(*train, start, valid=[0, len(train[0]) - 1], seed=seed, verbose=False, **how)
    return clf.predict(test, bs=64, fast=True).label.to_numpy()


def run(way, n, seed, reviews, lm):
    "Train one classifier and test it: a dict with its accuracy in percent."
    drawn = reviews.sample(reviews.pool, n, seed)
    if way in ('random', 'pretrained', 'finetuned') and n < len(reviews.pool):  # two to set aside
        rest = sorted({*reviews.pool} - {*drawn})
        drawn = [rest[0], *drawn, rest[-1]]
    train, test = texts_of(drawn), texts_of(reviews.test)
    with Clock() as c: found = answers(way, train, test[0], seed, lm)
    return dict(way=way, n=n, seed=seed, accuracy=100*float(np.mean(found == np.array(test[1]))), seconds=round(c.s, 1))


def start_of(way, lm):
    "A key of what a classifier starts from; None for those that start from nothing."
    if way in ('bag', 'ratios'): return None
    return (fingerprint(lm.config, lm.codec.fingerprint(), from_random) if way == 'random' else lm.fingerprint())[:12]


def measured(path, test, n_test, lm):
    "The rows that need no other run: of this test, and of what starts from this model."
    rows = load_results(path) if path.exists() else []
    return [r for r in rows if (r['tested_on'], r['n_test']) == (test, n_test) and r['start'] == start_of(r['way'], lm)
            and len(r['seeds']) == sizes[r['n_labels']]]


def summary(runs, test, n_test, lm):
    "A row of results for each way and number of labels."
    rows = []
    for way, name in ways.items():
        for n in sizes:
            found = [r for r in runs if r['way'] == way and r['n'] == n]
            if not found: continue
            acc = [r['accuracy'] for r in found]
            sd = round(float(np.std(acc, ddof=1)), 2) if len(acc) > 1 else None
            rows.append(result_row(f'{name}, {n} labels', round(float(np.mean(acc)), 2), '%',
                f'python benchmarks/few_labels.py --test {test}', way=way, n_labels=n, sd=sd, tested_on=test,
                n_test=n_test, start=start_of(way, lm), seeds=[r['seed'] for r in found],
                minutes=round(sum(r['seconds'] for r in found)/60, 1)))
    return rows


def merged(old, new):
    "Rows that were kept and new ones, in the order of `ways` and `sizes`."
    rows = {(r['way'], r['n_labels']): r for r in [*old, *new]}
    return [rows[k] for k in sorted(rows, key=lambda k: ([*ways].index(k[0]), k[1]))]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--test', choices=('tune', 'test'), default='tune')
    ap.add_argument('--n-test', type=int, default=5_000, help='at most so many test reviews, the same ones for all')
    ap.add_argument('--ways', nargs='+', choices=ways, default=list(ways))
    ap.add_argument('--sizes', nargs='+', type=int, choices=sizes, default=list(sizes))
    a = ap.parse_args()
    reviews, lm = Reviews(a.test, a.n_test), TextModel.pretrained()
    work = root/'build'/'few_labels'/f'{a.test}_{len(reviews.test)}_{lm.fingerprint()[:12]}'
    work.mkdir(parents=True, exist_ok=True)
    out = results/('few_labels.json' if a.test == 'test' else 'few_labels_tune.json')
    old, tuned = measured(out, a.test, len(reviews.test), lm), None
    for n in a.sizes:
        for way in a.ways:
            if any((r['way'], r['n_labels']) == (way, n) for r in old): continue
            for seed in range(sizes[n]):
                done = work/f'{way}_{n}_{seed}.json'
                if done.exists(): continue
                if way == 'finetuned' and tuned is None:
                    read = [f for f in reviews.pool if number(f) % 100 != 7]  # the others measure perplexity
                    tuned = finetune(texts_of(read)[0], lm, epochs=1, path=work/'lm')
                found = run(way, n, seed, reviews, tuned if way == 'finetuned' else lm)
                with atomic_file(done) as f: json.dump(found, f)
                print(f'{ways[way]:<50}{n:>6} labels, draw {seed}: {found["accuracy"]:.1f} %', flush=True)
            runs = [json.loads((work/f'{way}_{n}_{seed}.json').read_text(encoding='utf-8')) for seed in range(sizes[n])]
            old = merged(old, summary(runs, a.test, len(reviews.test), lm))
            save_results(out, old)


if __name__ == '__main__': main()
