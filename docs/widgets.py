"""The widgets' static pictures and their data. A notebook says `<!-- site: NAME -->` where one of them belongs."""
import base64, html, json, math, re
from pathlib import Path

root = Path(__file__).resolve().parent.parent
results = root/'benchmarks'/'results'
note = lambda s: f'<p class="w-note">{s}</p>'


def rows(name):
    path = results/f'{name}.json'
    return json.loads(path.read_text(encoding='utf-8')) if path.exists() else []


def box(name, inner, **data):
    attrs = ''.join(f' data-{k}="{html.escape(str(v))}"' for k, v in data.items())
    return f'<div class="widget" data-widget="{name}"{attrs}>{inner}</div>'


def one_line(s): return re.sub(r'\n\s*\n+', '\n', s)


# the rules ------------------------------------------------------------------------------------------------------------
sentence = "I LOVED this film... It's soooo good, really really really good!<br />A must-see &amp; a joy."
more_sentences = [sentence, "Don't miss Dr. Watson's 2nd U.K. tour, it's $20 :-)",
    'THE END!!! see https://docs.python.org/3/ or mail me@home.org', 'one two two two three  Three THREE']
limits = ('Both steps are calculated in your browser: the rules are written again in JavaScript, and spaCy’s '
          'exceptions and patterns for English are those of the installed version. Tests compare both with Python on '
          'several hundred texts. Not covered: other languages, and tokenizers of your own.')


def rules_static(page):
    from lesson8nlp.tokenizer import Tokenizer, text_rules
    t, steps, api = sentence, [], f'{"../"*page.doc.count("/")}{page.api}.html'
    for r in text_rules:
        new = r(t)
        steps.append((r.__name__, 'nothing to do' if new == t else new.replace('\n', '⏎ '), new == t))
        t = new
    lis = ''.join(f'<li class="{"same" if same else ""}"><a href="{api}#{n}"><code>{n}</code></a>'
                  f'<span class="w-text">{html.escape(s)}</span></li>' for n, s, same in steps)
    toks = ''.join(f'<li class="{"special" if o.startswith("xx") else ""}">{html.escape(o).replace(chr(10), "⏎")}</li>'
                   for o in Tokenizer()(sentence))
    return box('rules', f'<p class="w-title">What each rule does with: {html.escape(sentence)}</p>'
        f'<ol class="w-steps">{lis}</ol>'
        '<p class="w-title" style="margin-top:.8rem">then spaCy splits it into tokens</p>'
        f'<ul class="w-tokens" aria-label="tokens">{toks}</ul>', reference=api, text=sentence, note=limits)


def js_pattern(p):
    "A pattern of Python's re as one for JavaScript with the flag u."
    p = re.sub(r'\(\?u\)', '', p)
    out, i, inside = [], 0, False
    word, digit, space = (r'\p{L}\p{N}_', r'\p{Nd}',
        r'\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000')
    while i < len(p):
        c = p[i]
        if c == '\\':
            n = p[i+1]
            i += 2
            if n == 'U': out.append(f'\\u{{{p[i:i+8].lstrip("0")}}}'); i += 8
            elif n in 'ux': out.append('\\' + n)
            elif n == 'w': out.append(word if inside else f'[{word}]')
            elif n == 'd': out.append(digit)
            elif n == 's': out.append(space if inside else f'[{space}]')
            elif n == 'S' and not inside: out.append(f'[^{space}]')
            elif n in '^$\\.*+?()[]{}|/': out.append('\\' + n)
            elif n == '-': out.append('\\-' if inside else '-')
            elif n.isalnum(): raise ValueError(f'no translation for \\{n} in {p[max(0, i-20):i+5]}')
            else: out.append(n)
            continue
        if c == '[' and not inside: inside = True
        elif c == '[': c = '\\['
        elif c == ']' and inside: inside = False
        elif c == ']' : c = '\\]'
        elif (c in '{}' and not inside and not re.match(r'\{\d+(,\d*)?\}', p[i:])
              and not (c == '}' and re.search(r'\{\d+(,\d*)?$', p[:i]))): c = '\\' + c
        out.append(c)
        i += 1
    return ''.join(out)


def rules_data():
    from lesson8nlp.tokenizer import WordTokenizer
    t = WordTokenizer().nlp.tokenizer
    pattern = lambda f: js_pattern(f.__self__.pattern)
    special = {k: [v[65] if 65 in v else v['ORTH'] for v in toks] for k, toks in t.rules.items()}
    phrases = [k for k in t.rules if t.find_prefix(k) or t.find_infix(k) or t.find_suffix(k) or ' ' in k]
    return dict(special=special, phrases=phrases, prefix=pattern(t.prefix_search), suffix=pattern(t.suffix_search),
                infix=pattern(t.infix_finditer), url=pattern(t.url_match), examples=more_sentences)


# the batches ----------------------------------------------------------------------------------------------------------
story = ('xxbos we read a long text as one stream of words . the stream is cut into rows , and each row is read from '
         'left to right , a few words at a time . '
         'xxbos when the next batch comes , every row goes on exactly where it stopped , so that the state of the '
         'model still fits . '
         'xxbos only the very first batch has no past , and the last words have no word after them to guess .').split()


def batches_static(page, bs=6, seq_len=5):
    n = (len(story) - 1)//bs
    grid = lambda rs, now: ('<div class="w-scroll"><table class="w-grid"><tbody>' + ''.join(
        f'<tr><th scope="row">row {i}</th>' + ''.join(
            f'<td class="{"now" if now and j < seq_len else ""}">{t}</td>' for j, t in enumerate(r)) + '</tr>'
        for i, r in enumerate(rs)) + '</tbody></table></div>')
    at = lambda k: [story[i*n+k:i*n+k+seq_len] for i in range(bs)]
    return box('batches', f'<p class="w-title">The stream of {len(story)} tokens as {bs} rows; the first batch is '
        'marked</p>' + grid([story[i*n:(i+1)*n] for i in range(bs)], True)
        + f'<div class="w-pair"><div><p class="w-title">inputs x</p>{grid(at(0), False)}</div>'
        f'<div><p class="w-title">targets y: one token later</p>{grid(at(1), False)}</div></div>',
        stream=' '.join(story))


# the state of an LSTM -------------------------------------------------------------------------------------------------
def state_model(): return json.loads((root/'docs'/'state_model.json').read_text(encoding='utf-8'))


def read_state(tokens, d=None):
    "The hidden states (tokens, units) and the probabilities of the next token, with numpy."
    import numpy as np
    d = d or state_model()
    flat, p, at = np.frombuffer(base64.b64decode(d['weights']), dtype=np.float16).astype(np.float64), {}, 0
    for name, shape in d['params']:
        p[name], at = flat[at:at+int(np.prod(shape))].reshape(shape), at + int(np.prod(shape))
    H, sig, h, c, hs, ps = d['n_hidden'], lambda x: 1/(1+np.exp(-x)), 0, 0, [], []
    h = c = np.zeros(H)
    for t in tokens:
        g = (p['rnn.weight_ih_l0'] @ p['i_h.weight'][d['vocab'].index(t)] + p['rnn.weight_hh_l0'] @ h
             + p['rnn.bias_ih_l0'] + p['rnn.bias_hh_l0'])
        i, f, n, o = g.reshape(4, H)
        c = sig(f)*c + sig(i)*np.tanh(n)
        h = sig(o)*np.tanh(c)
        z = np.exp((z := p['h_o.weight'] @ h + p['h_o.bias']) - z.max())
        hs.append(h); ps.append(z/z.sum())
    return np.array(hs), np.array(ps)


numbers = 'nine hundred ninety eight . nine hundred ninety nine . one thousand .'


def state_static(page):
    d = state_model()
    toks = numbers.split()
    hs, _ = read_state(toks, d)
    w, r, H = 46, 9, d['n_hidden']
    cell = lambda i, j, v: (f'<rect x="{8+j*w}" y="{i*r}" width="{w-3}" height="{r-1}" '
        f'fill="{"#b45309" if v > 0 else "#0b5d78"}" fill-opacity="{min(1, abs(v)):.2f}"/>')
    words = ''.join(f'<text x="{8+j*w+w/2-1}" y="{H*r+16}" font-size="11" text-anchor="end" '
                    f'transform="rotate(-32 {8+j*w+w/2} {H*r+14})">{t}</text>' for j, t in enumerate(toks))
    svg = (f'<svg viewBox="0 0 {len(toks)*w+16} {H*r+44}" role="img" '
           f'aria-label="Hidden state of {H} units after each word of: {numbers}" style="max-width:{len(toks)*w+16}px">'
           + ''.join(cell(i, j, v) for j, h in enumerate(hs) for i, v in enumerate(h)) + words + '</svg>')
    said = ('One column a word, one row a unit of the hidden state: orange is positive, blue negative, pale near zero. '
        f'The model is LMModel6 with {H} units in one layer, trained on Human Numbers by docs/train_lstm.py '
        f'(seed {d["seed"]}, validation accuracy {100*d["accuracy"]:.1f} %); '
        f'its {sum(a*(b if b else 1) for a, b in [(s + [1])[:2] for _, s in d["params"]]):,} weights are part '
        'of this page.')
    return box('state', f'<p class="w-title">The state of an LSTM as it reads</p><div class="w-scroll">{svg}</div>'
               + note(said), text=numbers, note=said)


# the classifier -------------------------------------------------------------------------------------------------------
film = ('The film looks beautiful and the actors are wonderful. But I did not like it at all: the story is dull, the '
        'ending makes no sense, and I was bored.')
more_films = [('A good one', 'I went with my brother last night. We both loved it. The story is simple, but the actors '
        'are wonderful, and the last scene is one of the best that I have seen for years.'),
    ('A bad one', 'I really wanted to like this film. But nothing happens for the first hour, the dialogue is awful, '
        'and by the end I did not care who had done it. What a waste of a good cast.'),
    ('Both', film),
    ('A turn', 'It has a terrible title and it begins slowly. Give it ten minutes! It is one of the funniest films of '
        'the year.'),
    ('A riddle', 'I could not look away.')]


def review_static(page):
    from small_model import Reader, pieces
    reader = Reader()
    zs, out, end, k = reader(film), [], 0, 0
    for at, raw, token in pieces(film):
        out.append(html.escape(film[end:at]))
        end, by = at + len(raw), None
        if token in reader.words: by, k = zs[k+1] - zs[k], k + 1
        kind = 'w-unknown' if by is None else '' if abs(by) < 0.15 else 'w-pos' if by > 0 else 'w-neg'
        out.append(f'<span class="{kind}" style="--by:{round(min(1, abs(by or 0)/2)*45)}%">{html.escape(raw)}</span>')
    ps = [1/(1 + math.exp(-z)) for z in zs]
    points = ' '.join(f'{100*i/(len(ps)-1):.2f},{100-100*p:.2f}' for i, p in enumerate(ps))
    curve = ('<svg viewBox="0 0 100 100" preserveAspectRatio="none" role="img" '
             'aria-label="The probability that the review is positive, '
             f'after each of {len(ps)-1} words: from {100*ps[0]:.0f} % to {100*ps[-1]:.0f} %">'
             '<line class="w-half" x1="0" x2="100" y1="50" y2="50"></line>'
             f'<polyline class="w-line" points="{points}"></polyline></svg>')
    d = reader.d
    said = (f'A small model, made from the one that comes with this package: {len(reader.words):,} of its words, '
            f'{len(d["steps"])} numbers for each instead of 400, and one recurrent layer of {reader.w_hh.shape[1]} '
            f'units, trained further on {d["n_train"]:,} labelled reviews. It classifies {100*d["accuracy"]:.1f} % of '
            f'{d["n_test"]:,} training reviews correctly that neither model has read; from their first 20 words alone, '
            f'{100*d["after"]["20"]:.1f} %. It runs in this page and sends nothing anywhere.')
    key = ('Blue with a line speaks for a positive review, orange with a broken line for a negative one; words with a '
           'dotted line are not in the vocab. ')
    return box('review', '<p class="w-title">A review, and the probability that it is positive, word by word</p>'
        f'<div class="w-curve"><span>positive</span>{curve}<span>negative</span></div>'
        f'<p class="w-read">{"".join(out)}</p>'
        + note(f'After the last word: {100*ps[-1]:.0f} % positive. '
               'With JavaScript you can type a review of your own here. ' + key)
        + note(said), text=film, note=key + said)


def review_data():
    from small_model import Reader, piece
    d = Reader().d
    return ({k: d[k] for k in ('words', 'steps', 'vectors', 'params', 'weights')}
            | dict(piece=js_pattern(piece), examples=more_films))


# the seven models -----------------------------------------------------------------------------------------------------
def ladder_static(page):
    rs = rows('ladder')
    if not rs: return ''
    def bar(r):
        said = (f'{r["what"]}: accuracy {r["ours"]:.1f} % ± {r["sd"]:.1f} over {len(r["seeds"])} seeds, '
            f'validation loss {r["valid_loss"]:.2f}, {r["params"]:,} parameters, {r["seconds"]:.0f} s. '
            f'The original lesson shows {r["page"]} %, the book {r["book"]} %.')
        dots = (f'<span class="w-dot" style="left:{r["page"]}%"></span>'
            f'<span class="w-dot w-book" style="left:{r["book"]}%"></span>'
            f'<span class="w-sd" style="left:{r["ours"]-r["sd"]:.1f}%;width:{2*r["sd"]:.1f}%"></span>'
            '<span class="w-guess" style="left:15.17%"></span>')
        return (f'<div class="w-bar" title="{html.escape(said)}" data-say="{html.escape(said)}" '
            f'data-accuracy="{r["ours"]}" data-loss="{r["valid_loss"]}"><span>{r["what"]}</span>'
            f'<span class="w-track"><span class="w-fill" style="width:{r["ours"]}%"></span>{dots}</span>'
            f'<span class="w-value">{r["ours"]:.1f}</span></div>')
    n = len(rs[0]['seeds'])
    key = (f'Mean of {n} seeds, line: ± one standard deviation. <span class="w-dot w-key"></span>original lesson '
           '<span class="w-dot w-book w-key"></span>book, one run each. Dotted: always the most common token, 15.2 %. '
           f'{html.escape(rs[0]["hardware"])}, {rs[0]["date"]}.')
    return box('ladder', '<p class="w-title">Accuracy on Human Numbers, %</p><div class="w-bars">'
               + ''.join(bar(r) for r in rs) + '</div>' + note(key),
               accuracy='Accuracy on Human Numbers, %', loss='Loss on Human Numbers, lower is better')


# the front page -------------------------------------------------------------------------------------------------------
doors = [(None, 'The course', 'an ordered path, step by step'),
    ('api/index', 'The library', 'every name, with examples'),
    ('results', 'Results', 'beside the published figures'),
    ('benchmarks', 'Benchmarks', 'speed beside the peers'),
    ('howto', 'How to', 'your texts, Colab, resume …'),
    ('glossary', 'Glossary', 'the terms of the field'),
    ('exercises', 'Exercises', 'with hidden answers'),
    ('index', 'In order', 'all lessons, with times')]


def doors_static(pages):
    first = lambda group: next(p.doc for p in pages if p.group == group)
    to = lambda d: first(d or 'course') if d in (None, 'howto') else d
    hash_of = {'index': '#the-lessons'}
    return '<ul class="doors">' + ''.join(
        f'<li><a href="{to(d)}.html{hash_of.get(d, "")}"><strong>{t}</strong>{s}</a></li>'
        for d, t, s in doors) + '</ul>'


def front_static(pages):
    "What a newcomer sees below the figure of few labels: the seven models, and the doors."
    said = ('<p>The course starts small: seven language models read the numbers in English words and predict the next '
        'word. Here is how often each of them is right, on numbers that it has never seen:</p>')
    return f'{said}<div class="hero">{ladder_static(None)}{doors_static(pages)}</div>'


def marks(pages, times):
    "{name: function of a page that gives the static picture}"
    return {k: (lambda f: lambda page: one_line(f(page)))(f) for k, f in dict(
        rules=rules_static, batches=batches_static, state=state_static, review=review_static, ladder=ladder_static,
        front=lambda page: front_static(pages)).items()}


def data(folder):
    "What the scripts need, written anew from the installed versions."
    to = folder/'widgets'
    to.mkdir(parents=True, exist_ok=True)
    for name, d in dict(rules=rules_data(), state=state_model(), review=review_data()).items():
        new = f'lesson8nlp.{name}Data = {json.dumps(d, ensure_ascii=True, separators=(",", ":"))};\n'
        path = to/f'{name}_data.js'
        if not path.exists() or path.read_text(encoding='utf-8') != new:
            path.write_text(new, encoding='utf-8', newline='\n')
