// The seven models: a switch between accuracy and loss, and the figures of the model that is pointed at.
(() => {
  const { el, start } = lesson8nlp;
  function draw(box) {
    const rows = [...box.querySelectorAll('.w-bar')],
      say = el('p', { class: 'w-note', 'aria-live': 'polite' }, 'Point at a model for its figures.'),
      head = box.querySelector('.w-title'), note = box.querySelector('.w-note');
    const show = (what, unit, max) => {
      head.textContent = box.dataset[what];
      box.classList.toggle('w-loss', what === 'loss');
      for (const r of rows) {
        const v = +r.dataset[what];
        r.querySelector('.w-fill').style.width = `${100 * v / max}%`;
        r.querySelector('.w-value').textContent = what === 'loss' ? v.toFixed(2) : v.toFixed(1);
      }
      buttons.forEach(b => b.setAttribute('aria-pressed', String(b.dataset.what === what)));
    };
    const most = Math.max(...rows.map(r => +r.dataset.loss)) * 1.05;
    const buttons = [['accuracy', 100], ['loss', most]].map(([w, m]) => el('button',
      { type: 'button', 'data-what': w, 'aria-pressed': 'false', onclick: () => show(w, '', m) }, w));
    const point = r => () => {
      say.textContent = r.dataset.say;
      rows.forEach(o => o.classList.toggle('w-on', o === r));
    };
    rows.forEach(r => {
      r.tabIndex = 0;
      r.setAttribute('role', 'button');
      r.addEventListener('mouseenter', point(r));
      r.addEventListener('focus', point(r));
      r.addEventListener('click', point(r));
    });
    head.after(el('p', { class: 'w-switch' }, ...buttons.flatMap(b => [b, ' '])));
    note.before(say);
    show('accuracy', '%', 100);
  }
  start('ladder', draw);
})();
