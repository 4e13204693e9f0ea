// Small repairs that a page needs when it is read from a file, or with the keyboard.
(() => {
  // Summaries in the search results are fetched from the pages, which a browser refuses to do for files.
  if (location.protocol === 'file:' && typeof DOCUMENTATION_OPTIONS !== 'undefined')
    DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
  // What can be scrolled sideways can be reached with the keyboard.
  const reach = () => document.querySelectorAll(
    '.bd-content pre, .cell_output, .pst-scrollable-table-container, .example-table, .w-scroll, dt.sig, div.math, ' +
    'mjx-container').forEach(e => {
    const wide = e.scrollWidth > e.clientWidth + 1;
    if (wide && !e.hasAttribute('tabindex')) {
      e.tabIndex = 0;
      if (!e.hasAttribute('role') && e.tagName !== 'DT') {
        e.setAttribute('role', 'group');
        e.setAttribute('aria-label', 'scrolls sideways');
      }
    }
  });
  // A text in one long line is wrapped, and a picture of several panels keeps its size on a phone.
  const fit = () => {
    document.querySelectorAll('.cell_output pre').forEach(e =>
      e.classList.toggle('long-lines', e.textContent.split('\n').some(line => line.length > 110)));
    document.querySelectorAll('.cell_output img').forEach(e =>
      e.classList.toggle('wide-picture', e.naturalWidth > 630));
  };
  addEventListener('load', () => { fit(); reach(); window.MathJax?.startup?.promise?.then(reach); });
  addEventListener('resize', reach);
})();
