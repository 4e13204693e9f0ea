// A stream of tokens cut into batches, by the arithmetic of LMDataLoader.
(() => {
  const { el, slider, start } = lesson8nlp;
  function plan(total, bs, seqLen) {
    const rowLen = Math.floor((total - 1) / bs), n = Math.ceil(rowLen / seqLen);
    return { rowLen, n, lost: Math.max(0, total - 1 - rowLen * bs), lastLen: n ? rowLen - (n - 1) * seqLen : 0 };
  }
  function batch(stream, bs, seqLen, k) {
    const { rowLen } = plan(stream.length, bs, seqLen), x = [], y = [];
    for (let r = 0; r < bs; r++) {
      const a = r * rowLen + k * seqLen, b = r * rowLen + Math.min((k + 1) * seqLen, rowLen);
      x.push(stream.slice(a, b)); y.push(stream.slice(a + 1, b + 1));
    }
    return { x, y };
  }
  Object.assign(lesson8nlp, { plan, batch });
  const grid = (rows, label, mark) => el('div', { class: 'w-scroll' },
    el('table', { class: 'w-grid', 'aria-label': label }, el('tbody', {}, rows.map((r, i) =>
      el('tr', {}, el('th', { scope: 'row' }, `row ${i}`),
        r.map((t, j) => el('td', { class: mark && mark(i, j) ? 'now' : null }, t)))))));
  function draw(box) {
    const stream = box.dataset.stream.split(' '), state = { bs: 6, seqLen: 5, k: 0 };
    const out = el('div', {}), say = el('p', { class: 'w-note', 'aria-live': 'polite' });
    const which = slider('batch', 0, 0, 10, v => { state.k = v; update(); }),
      range = which.querySelector('input'), shown = which.querySelector('output');
    function update() {
      const p = plan(stream.length, state.bs, state.seqLen);
      range.max = p.n - 1;
      state.k = Math.min(state.k, p.n - 1);
      range.value = state.k; shown.textContent = `${state.k + 1} of ${p.n}`;
      const rows = Array.from({ length: state.bs }, (_, r) => stream.slice(r * p.rowLen, (r + 1) * p.rowLen));
      const { x, y } = batch(stream, state.bs, state.seqLen, state.k);
      out.replaceChildren(
        el('p', { class: 'w-title' }, `The stream of ${stream.length} tokens as ${state.bs} rows`),
        grid(rows, 'the stream in rows', (i, j) => Math.floor(j / state.seqLen) === state.k),
        el('div', { class: 'w-pair' },
          el('div', {}, el('p', { class: 'w-title' }, 'inputs x'), grid(x, 'inputs')),
          el('div', {}, el('p', { class: 'w-title' }, 'targets y: one token later'), grid(y, 'targets'))));
      say.textContent = `${state.bs} rows of ${p.rowLen} tokens; ${p.n} batches, the last one ${p.lastLen} wide; ` +
        `${p.lost} token${p.lost === 1 ? '' : 's'} at the end left out. ` +
        'Row i of the next batch goes on where row i of this one stops.';
    }
    box.replaceChildren(
      el('div', {},
        slider('batch size (bs)', 6, 1, 10, v => { state.bs = v; update(); }),
        slider('sequence length (seq_len)', 5, 1, 15, v => { state.seqLen = v; update(); }),
        which),
      out, say);
    update();
  }
  start('batches', draw);
})();
