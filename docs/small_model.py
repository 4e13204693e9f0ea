"""The small model that reads a review word by word in the lesson "The whole game": docs/browser_model.py trains it.

This is the Python that docs/static/widgets/review.js is tested against: the same pieces of text, the same numbers."""
import base64, json, re
from pathlib import Path

import numpy as np

path = Path(__file__).resolve().parent/'review_model.json'

# A simpler rule than spaCy's: words, numbers and signs; contractions are cut where spaCy cuts them: did|n't, it|'s.
_end = r'(?!\w)'
piece = '|'.join([
    r'<br ?/?>',                                                                             # no word: skipped
    r"(?:(?![\d_])\w)+?(?=[nN]['’][tT]" + _end + ')', r"[nN]['’][tT]" + _end,                # did|n't
    r'[cC][aA][nN](?=[nN][oO][tT]' + _end + ')',                                             # can|not
    r"['’](?:[sSdDmM]|[rR][eE]|[vV][eE]|[lL][lL])" + _end,                                   # 's, 're
    r'(?:(?![\d_])\w)+', r'\d+', r'\.{3}|…', r'-{2,}', r'[.,!?;:()/*$%&"\'“”‘’-]'])
_piece = re.compile(piece)
_same = {'...': '…', '“': '"', '”': '"', '‘': "'"}


def pieces(text):
    "For each piece: where it begins, its letters, and the token that stands for it."
    for m in _piece.finditer(text):
        if m[0][0] != '<': yield m.start(), m[0], _same.get(m[0], m[0].lower().replace('’', "'"))


def tokens(text): return [t for *_, t in pieces(text)]


signs = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'


class Reader:
    "A GRU with few units and a table of word vectors in 6 bits a number: one sign of base64 each."
    def __init__(self, d=None):
        self.d = d = d or json.loads(path.read_text(encoding='utf-8'))
        self.words = {w: i for i, w in enumerate(d['words'].split(' '))}
        steps = np.array([signs.index(c) for c in d['vectors']], dtype=np.float64).reshape(len(self.words), -1)
        self.vectors = (steps - 32)*np.array(d['steps'])
        flat, at = np.frombuffer(base64.b64decode(d['weights']), dtype='<f2').astype(np.float64), 0
        for name, shape in d['params']:
            n = int(np.prod(shape))
            setattr(self, name, flat[at:at+n].reshape(shape))
            at += n

    def known(self, text): return [self.words[t] for t in tokens(text) if t in self.words]

    def __call__(self, text):
        "The log-odds that the review is positive: before the first word, and after each word that the model knows."
        H, sig = self.w_hh.shape[1], lambda x: 1/(1 + np.exp(-x))
        h, mean, top, zs = np.zeros(H), np.zeros(H), np.full(H, -1.), [0.]
        for k, i in enumerate(self.known(text)):
            a, b = self.w_ih @ self.vectors[i] + self.b_ih, self.w_hh @ h + self.b_hh
            r, u = sig(a[:H] + b[:H]), sig(a[H:2*H] + b[H:2*H])
            h = (1 - u)*np.tanh(a[2*H:] + r*b[2*H:]) + u*h
            mean, top = mean + (h - mean)/(k + 1), np.maximum(top, h)
            zs.append(float(self.head @ np.concatenate([h, mean, top]) + self.bias[0]))
        return np.array(zs)
