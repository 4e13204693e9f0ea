"""Minutes from an installed package to the first answer of a classifier with 200 labels, beside a bag of words.

    python benchmarks/first_answer.py    # some minutes; writes results/first_answer.json

What somebody does right after the installation: a new process imports the library, reads 200 labelled reviews, calls
`train_classifier` with nothing but texts and labels, saves the model and asks it for one answer. Everything is in the
clock, also the start of Python and what `train_classifier` does to compare itself with a bag of words."""
import sys, tempfile
from statistics import median

from common import output, real_reviews, results, seconds

from lesson8nlp.core import hardware, result_row, save_results
from lesson8nlp.ulmfit import TextModel

program = '''
import sys
from lesson8nlp.all import *
files, out = text_files(sys.argv[1], n=200, seed=int(sys.argv[3])), sys.argv[2]
clf = train_classifier(check_texts(files), [f.parent.name for f in files], path=out + '/run', verbose=False)
clf.save(out + '/model')
print(clf.predict('One of the best films of the year.').label[0], clf.info['accuracy'])
'''


def once(seed, path):
    "Train and answer in a new process; what it printed."
    with tempfile.TemporaryDirectory() as tmp:
        args = [sys.executable, '-W', 'ignore', '-c', program, str(path/'train'), tmp, str(seed)]
        return output(args, f'The answer of the classifier with seed {seed}').splitlines()[-1]


def main():
    path = real_reviews()
    load = median(seconds(lambda: TextModel.pretrained('cpu'), rounds=5, warm=1))
    print(f'The model that ships is loaded in {load:.2f} s, the median of five.', flush=True)
    said, runs = [], []
    for seed in range(3):
        runs += seconds(lambda: said.append(once(seed, path)))
        print(f'{hardware()}: {runs[-1]/60:.2f} minutes; it says {said[-1]}', flush=True)
    minutes = median(runs)/60
    save_results(results/'first_answer.json', [
        result_row('minutes from an installed package to the first answer, 200 labels', round(minutes, 2), 'min',
                   'python benchmarks/first_answer.py', at_least=3, reached=minutes <= 3, seeds=[0, 1, 2],
                   runs=[round(s/60, 2) for s in runs], said=said),
        result_row('loading the model that ships, median of five', round(load, 2), 's',
                   'python benchmarks/first_answer.py', at_least=1, reached=load < 1)])


if __name__ == '__main__': main()
