"""The small model of the first lesson's page: its file, its Python, and its JavaScript in node. test_docs.py asks the
page itself."""
import json, re, shutil, subprocess
from pathlib import Path

import numpy as np, pytest, torch
import browser_model, widgets
from small_model import Reader, path, piece, pieces, tokens

root = Path(__file__).resolve().parent.parent
plain = [t for _, t in widgets.more_films] + [
    "I don't think it's bad; we can't say that they're wrong, and you won't either.",
    'Mr. Brown (the one with 2 dogs) says: "Cannot be seen..." -- but why?', 'A well-known, 10/10 film!',
    "She's seen it twice; I'd have left.", "It wasn't worth $5 & I'll never see it again."]
odd = ['', ' ', '\n\n', '😀', 'great 👍🏽👍🏽 film', 'a<br />b<br>c< br>', '&amp; &lt;b&gt;',
       '<b>good</b> <script>alert(1)</script>', 'GREAT!!!', 'sooooo goooood', 'don’t can’t ISN’T n\'t \'re',
       'İstanbul ΣΊΣΥΦΟΣ straße café naïve', '東京 映画', 'x_y 1_000 ½ ² ١٢٣', 'no' + '\u0301' + 'n',
       '\x00\x1c\u2028', 'cannot CANNOT cannots', '… ... .... - -- --- “quoted” ‘so’', 'bad '*300,
       'The film was good. '*700, 'z'*50_000, '\ud7ff\U0001f600' + ' awful', 'zebra quagmire flibber']


@pytest.fixture(scope='module')
def reader(): return Reader()


def test_file_is_small_and_says_what_it_can(reader):
    d = reader.d
    assert path.stat().st_size < 150_000
    assert len(reader.words) == browser_model.n_words and len(d['vectors']) == len(reader.words)*len(d['steps'])
    assert d['n_test'] == 2500 and d['accuracy'] > 0.87 and d['after']['10'] < d['after']['100'] < d['accuracy']


def test_words_are_those_of_the_shipped_model(reader):
    vocab = json.loads((root/'lesson8nlp'/'pretrained'/'reviews'/'vocab.json').read_text(encoding='utf-8'))
    assert not {*reader.words} - {*vocab}


def test_ordinary_english_is_cut_as_the_library_cuts_it():
    from lesson8nlp.tokenizer import Tokenizer
    tok = Tokenizer()
    for t in plain: assert tokens(t) == [o for o in tok(t) if not o.startswith('xx')], t


def test_pieces_lie_where_they_are_said_to():
    for t in plain + odd:
        for at, raw, _ in pieces(t): assert t[at:at + len(raw)] == raw


def test_reader_is_the_network_that_was_trained():
    "The rounded weights put back into torch: the same log-odds."
    torch.manual_seed(0)
    words = 'a good bad film . not'.split()
    model = browser_model.SmallModel(torch.randn(len(words), browser_model.width)).eval()
    read = Reader(browser_model.packed(model, words))
    with torch.no_grad():
        np.testing.assert_allclose(read.vectors, model.emb.weight, atol=max(read.d['steps']))
        model.emb.weight.copy_(torch.tensor(read.vectors))
        for p in [*model.rnn.parameters(), *model.head.parameters()]: p.copy_(p.half().float())
        want = model(torch.tensor([[read.words[w] for w in 'not a good film . bad bad'.split()]]))[0]
    np.testing.assert_allclose(read('Not a GOOD film. Bad, bad')[1:], want, atol=1e-5)


def test_what_it_says_is_sensible(reader):
    first, second, both, turn, _ = [reader(t) for _, t in widgets.more_films]
    assert first[-1] > 1 and second[-1] < -1 and both[-1] < 0 < max(both) and turn[-1] > 0 > min(turn)
    assert reader('').tolist() == [0] and reader('zebra'*3).tolist() == [0]


@pytest.mark.skipif(not shutil.which('node'),
                    reason='node is not installed: test_docs.py compares the same in a browser')
def test_javascript_gives_the_same_numbers(reader, tmp_path):
    texts = plain + odd
    source = ('globalThis.window = globalThis; globalThis.document = { readyState: "loading" }; '
              'globalThis.addEventListener = () => {};\n')
    source += ((root/'docs'/'static'/'widgets'/'common.js').read_text(encoding='utf-8')
               + f'lesson8nlp.reviewData = {json.dumps(widgets.review_data())};\n')
    source += (root/'docs'/'static'/'widgets'/'review.js').read_text(encoding='utf-8')
    source += (f'console.log(JSON.stringify({json.dumps(texts)}.map(t => '
               '[lesson8nlp.pieces(t).map(o => o.token), lesson8nlp.readReview(t)])));')
    (tmp_path/'ask.js').write_text(source, encoding='utf-8')
    r = subprocess.run(['node', tmp_path/'ask.js'], capture_output=True, text=True, encoding='utf-8', timeout=120)
    assert r.returncode == 0, r.stderr[-2000:]
    for t, (toks, zs) in zip(texts, json.loads(r.stdout), strict=True):
        assert toks == tokens(t), t[:80]
        np.testing.assert_allclose(zs, reader(t), atol=1e-6, err_msg=t[:80])


def test_page_without_javascript_says_what_would_be_here(reader):
    class Page: doc = 'whole_game'
    h = widgets.review_static(Page)
    said = re.sub(r'<[^>]+>', '', h)
    assert ('With JavaScript you can type a review' in said and f'{100*reader.d["accuracy"]:.1f} %' in said
            and 'wonderful' in said)
    assert h.count('class="w-pos"') > 1 < h.count('class="w-neg"') and 'aria-label="The probability' in h
