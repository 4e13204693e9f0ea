"""The baseline that every classifier of reviews has to beat: a bag of words. `python benchmarks/baseline.py`

TF-IDF and logistic regression (scikit-learn) on the 25,000 training reviews of IMDB, tested on the 25,000 test reviews,
with words alone and with pairs of words. Rows go to results/baseline.json; nothing is tuned on the test part."""
from common import Clock, real_reviews, results
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from lesson8nlp.core import result_row, save_results
from lesson8nlp.texts import read_text, text_files

command = 'python benchmarks/baseline.py'

def reviews(path, part):
    "Texts and labels (1: positive) of one part, 'train' or 'test'."
    files = [(f, y) for y, k in enumerate(('neg', 'pos')) for f in text_files(path/part/k)]
    return [read_text(f) for f, _ in files], [y for _, y in files]

def bag_of_words(train, test, pairs):
    "Accuracy in percent and seconds, from texts to answers."
    with Clock() as c:
        bag = TfidfVectorizer(min_df=3, sublinear_tf=True, ngram_range=(1, 2 if pairs else 1))
        model = LogisticRegression(C=10, max_iter=1000).fit(bag.fit_transform(train[0]), train[1])
        accuracy = 100*model.score(bag.transform(test[0]), test[1])
    return accuracy, c.s, len(bag.vocabulary_)

def main():
    path = real_reviews()
    train, test = reviews(path, 'train'), reviews(path, 'test')
    rows = []
    for what, pairs in (('words', False), ('words and pairs of words', True)):
        accuracy, s, n = bag_of_words(train, test, pairs)
        rows.append(result_row(f'bag of words, {what}', accuracy, '%', command, kind='baseline', seconds=round(s, 1),
                               n_features=n, n_train=len(train[0]), n_test=len(test[0])))
        print(f'{what:<26}{accuracy:6.2f} %  {s:5.1f} s  {n:,} features')
    save_results(results/'baseline.json', rows)

if __name__ == '__main__': main()
