"""The baseline that every classifier of reviews has to beat: a bag of words. `python benchmarks/baseline.py`

The library's `bag_of_words`, trained on the 25,000 training reviews of IMDB and tested on the 25,000 test reviews, in
three ways. Rows go to results/baseline.json; nothing is tuned on the test part."""
import numpy as np
from common import Clock, real_reviews, results

from lesson8nlp.core import result_row, save_results
from lesson8nlp.texts import read_text, text_files
from lesson8nlp.ulmfit import bag_of_words

ways = {'words': dict(n_words=1), 'words and pairs of words': {},
        'log-count ratios, up to three words': dict(n_words=3, weigh='ratios')}

def reviews(path, part):
    "Texts and labels of one part, 'train' or 'test'."
    files = text_files(path/part, folders=['neg', 'pos'])
    return [read_text(f) for f in files], [f.parent.name for f in files]

def main():
    path, rows = real_reviews(), []
    train, (texts, labels) = reviews(path, 'train'), reviews(path, 'test')
    for what, how in ways.items():
        with Clock() as c: found = bag_of_words(*train, texts, **how)
        rows.append(result_row(f'bag of words, {what}', 100*float(np.mean(found == np.array(labels))), '%',
                               'python benchmarks/baseline.py', kind='baseline', seconds=round(c.s, 1),
                               n_train=len(train[0]), n_test=len(texts)))
        print(f'{what:<38}{rows[-1]["ours"]:6.2f} %  {c.s:5.1f} s')
    save_results(results/'baseline.json', rows)

if __name__ == '__main__': main()
