// A small network reads a review word by word, here in the page. tests/test_docs.py compares it with
// docs/small_model.py.
(() => {
  const { el, slider, halves, start } = lesson8nlp, d = lesson8nlp.reviewData, most = 1000;
  const words = new Map(d.words.split(' ').map((w, i) => [w, i])), width = d.steps.length;
  const signs = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/',
    sign = new Map([...signs].map((c, i) => [c, i - 32]));
  const vector = i => d.steps.map((s, k) => s * sign.get(d.vectors[i * width + k]));
  const p = {}, flat = halves(d.weights), same = new Map([['...', '…'], ['“', '"'], ['”', '"'], ['‘', "'"]]);
  let from = 0;
  for (const [name, shape] of d.params) {
    const n = shape.reduce((a, b) => a * b);
    p[name] = flat.subarray(from, from + n);
    from += n;
  }
  const H = p.b_ih.length / 3, sigmoid = x => 1 / (1 + Math.exp(-x));
  const times = (m, v, bias) => Array.from(bias, (s, i) => {
    for (let j = 0; j < v.length; j++) s += m[i * v.length + j] * v[j];
    return s;
  });

  function pieces(text) {   // -> where each piece is, the token that stands for it, and its row in the table of vectors
    const found = [];
    for (const m of text.matchAll(new RegExp(d.piece, 'gu'))) {
      if (m[0][0] === '<') continue;
      const token = same.get(m[0]) ?? m[0].toLowerCase().replaceAll('’', "'");
      found.push({ at: m.index, text: m[0], token, row: words.get(token) });
    }
    return found;
  }
  function read(rows) {   // -> the log-odds that the review is positive: before the first word, and after each one
    let h = Array(H).fill(0), mean = h, top = Array(H).fill(-1);
    const zs = [0];
    rows.forEach((row, k) => {
      const a = times(p.w_ih, vector(row), p.b_ih), b = times(p.w_hh, h, p.b_hh);
      h = h.map((v, i) => {
        const r = sigmoid(a[i] + b[i]), u = sigmoid(a[H + i] + b[H + i]);
        return (1 - u) * Math.tanh(a[2 * H + i] + r * b[2 * H + i]) + u * v;
      });
      mean = mean.map((v, i) => v + (h[i] - v) / (k + 1));
      top = top.map((v, i) => Math.max(v, h[i]));
      zs.push(times(p.head, [...h, ...mean, ...top], p.bias)[0]);
    });
    return zs;
  }
  const readReview = text => read(pieces(text).map(o => o.row).filter(r => r !== undefined));
  Object.assign(lesson8nlp, { pieces, readReview });

  const percent = z => `${Math.round(100 * sigmoid(z))} %`;
  function word(text, moved) {   // colour and line say the same: for positive whole, for negative broken
    const side = Math.abs(moved) < 0.15 ? '' : moved > 0 ? 'w-pos' : 'w-neg';
    return el('span',
      { class: side, style: side && `--by:${Math.round(Math.min(1, Math.abs(moved) / 2) * 45)}%` }, text);
  }
  function coloured(text, found, zs) {   // the text as it was typed; what lies between the pieces stays as it is
    const out = [];
    let end = 0, k = 0;
    for (const o of found) {
      if (o.at > end) out.push(text.slice(end, o.at));
      out.push(o.row === undefined ? el('span', { class: 'w-unknown' }, o.text) : word(o.text, zs[k + 1] - zs[k++]));
      end = o.at + o.text.length;
    }
    return [...out, text.slice(end)];
  }
  function strongest(read, zs, side) {   // the three words that moved it most to one side, each once
    const by = new Map();
    read.forEach((o, k) => {
      const m = side * (zs[k + 1] - zs[k]);
      if (m >= 0.15 && m > (by.get(o.token) ?? 0)) by.set(o.token, m);
    });
    return [...by].sort((a, b) => b[1] - a[1]).slice(0, 3).map(([w]) => w).join(', ') || 'nothing';
  }
  function draw(box) {
    const line = el('svg:polyline', { class: 'w-line' }), now = el('svg:line', { class: 'w-now', y1: 0, y2: 100 });
    const curve = el('svg:svg', { viewBox: '0 0 100 100', preserveAspectRatio: 'none', role: 'img' },
      el('svg:line', { class: 'w-half', x1: 0, x2: 100, y1: 50, y2: 50 }), line, now);
    const answer = el('p', { class: 'w-answer', 'aria-live': 'polite' }), shown = el('p', { class: 'w-read' }),
      why = el('p', { class: 'w-note' });
    const input = el('textarea', { rows: 4, 'aria-label': 'A film review, for the model to read', spellcheck: 'false',
      oninput: () => update(input.value) });
    let zs = [0], known = [], spans = [], last = '';
    const step = slider('after word', 0, 0, 0, k => pick(k)), range = step.querySelector('input');
    function pick(k) {
      step.querySelector('output').textContent = range.value = k;
      spans.forEach((s, i) => s.classList.toggle('w-here', i === k - 1));
      now.setAttribute('x1', 100 * k / (zs.length - 1 || 1)); now.setAttribute('x2', 100 * k / (zs.length - 1 || 1));
      answer.replaceChildren(el('strong', {}, `${percent(zs[k])} positive`), k ?
        ` after “${last.slice(known[Math.max(0, k - 4)].at, known[k - 1].at + known[k - 1].text.length)}”` :
        ' before the first word');
    }
    function update(text) {
      const all = pieces(last = text);
      let n = 0;
      const found = all.filter(o => o.row === undefined ? n < most : ++n <= most);
      known = found.filter(o => o.row !== undefined);
      zs = read(known.map(o => o.row));
      const missing = [...new Set(found.filter(o => o.row === undefined).map(o => o.token))];
      shown.replaceChildren(...coloured(
        n > most ? text.slice(0, known.at(-1).at + known.at(-1).text.length) : text, found, zs));
      spans = [...shown.querySelectorAll('span:not(.w-unknown)')];
      line.setAttribute('points', zs.map((z, k) =>
        `${(100 * k / (zs.length - 1 || 1)).toFixed(2)},${(100 - 100 * sigmoid(z)).toFixed(2)}`).join(' '));
      curve.setAttribute('aria-label', 'The probability that the review is positive, after each of ' +
        `${known.length} words: from ${percent(zs[0])} to ${percent(zs.at(-1))}`);
      why.textContent =
        `Most for positive: ${strongest(known, zs, 1)}. Most for negative: ${strongest(known, zs, -1)}.` +
        (missing.length ? ' Not in its vocab, so skipped: ' +
          `${missing.slice(0, 8).join(', ')}${missing.length > 8 ? ' …' : ''}.` : '') +
        (n > most ? ` It reads the first ${most} words.` : '');
      range.max = known.length;
      pick(known.length);
    }
    curve.addEventListener('pointermove', e => {
      const r = curve.getBoundingClientRect();
      pick(Math.round(Math.max(0, Math.min(1, (e.clientX - r.left) / r.width)) * (zs.length - 1)));
    });
    const examples = d.examples.map(([name, t]) => el('button',
      { type: 'button', onclick: () => { input.value = t; update(t); } }, name));
    box.replaceChildren(
      el('p', { class: 'w-title' }, 'Type a review, and watch the answer move word by word'), input,
      el('p', { class: 'w-examples' }, ...examples.flatMap(b => [b, ' '])), answer,
      el('div', { class: 'w-curve' }, el('span', {}, 'positive'), curve, el('span', {}, 'negative')),
      step, shown, why, el('p', { class: 'w-note' }, box.dataset.note));
    input.value = box.dataset.text;
    update(input.value);
  }
  start('review', draw);
})();
