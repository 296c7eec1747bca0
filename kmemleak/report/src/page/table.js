// A table that is sorted by clicking on its heads, whose rows unfold, and that shows some hundred rows first.

const FIRST_ROWS = 200;

// A column: {title, value(row), text(row), num, class, hint}. `value` is what it is sorted by, and what stands in `data-v`.
function table(id, columns, rows, options) {
  const {detail, sortBy, search} = options;
  let order = {column: sortBy, down: true};
  let shown = FIRST_ROWS;
  let needle = '';
  const body = el('tbody');
  const more = el('button', {onclick: () => { shown *= 5; draw(); }});
  const status = el('span', {class: 'dim', role: 'status'});

  const heads = columns.map((column, place) => el('th', {class: column.num ? 'num' : null, scope: 'col', title: column.hint},
    column.value ? el('button', {onclick: () => sort(place)}, column.title) : column.title));

  function sort(place) {
    order = {column: place, down: order.column === place ? !order.down : Boolean(columns[place].num)};
    draw();
  }

  function matching() {
    if (!needle) return rows;
    return rows.filter(row => search(row).toLowerCase().includes(needle));
  }

  function draw() {
    const value = columns[order.column].value;
    const sorted = [...matching()].sort((one, other) => {
      const [a, b] = [value(one), value(other)];
      const way = a < b ? -1 : a > b ? 1 : 0;
      return order.down ? -way : way;
    });
    heads.forEach((head, place) => head.setAttribute('aria-sort', place !== order.column ? 'none' : order.down ? 'descending' : 'ascending'));
    body.replaceChildren(...sorted.slice(0, shown).flatMap(line));
    more.hidden = sorted.length <= shown;
    more.textContent = 'Show more (' + grouped(sorted.length) + ' rows in all)';
    status.textContent = needle ? counted(sorted.length, 'row') + ' of ' + grouped(rows.length) : '';
  }

  function line(row) {
    const cells = columns.map(column => el('td', {
      class: [column.num ? 'num' : '', column.class || ''].join(' ').trim() || null,
      'data-v': column.num && column.value ? column.value(row) : null,
      title: column.exact ? column.exact(row) : null,
    }, column.text(row)));
    const tr = el('tr', {class: 'row'}, cells);
    if (!detail) return [tr];
    const fold = el('button', {class: 'fold', 'aria-expanded': 'false', 'aria-label': 'Details'});
    let below = null;
    const toggle = () => {
      const opens = !below;
      if (opens) {
        below = el('tr', {class: 'detail'}, el('td', {colspan: columns.length + 1}, detail(row)));
        tr.after(below);
      } else {
        below.remove();
        below = null;
      }
      fold.setAttribute('aria-expanded', String(opens));
    };
    fold.addEventListener('click', event => { event.stopPropagation(); toggle(); });
    tr.addEventListener('click', event => {
      // A click that selects text is none.
      if (!String(getSelection()) && !event.target.closest('button, a')) toggle();
    });
    tr.prepend(el('td', {}, fold));
    return [tr];
  }

  const fields = [];
  if (search && rows.length > 5) {
    fields.push(el('input', {type: 'search', placeholder: 'Filter by function or file', 'aria-label': 'Filter by function or file',
      oninput: event => { needle = event.target.value.toLowerCase(); shown = FIRST_ROWS; draw(); }}), status);
  }
  draw();
  const head = el('tr', {}, detail ? el('th', {'aria-label': 'Details'}) : null, heads);
  return el('div', {}, fields.length ? el('div', {class: 'bar'}, fields) : null,
    el('div', {class: 'wide'}, el('table', {id}, el('thead', {}, head), body)), more);
}

const searchStack = number => stackOf(number).frames.map(frame => frame.name + ' ' + frame.place).join('\n');

// Columns that several tables have.
const functionColumn = {title: 'Function', class: 'fn', value: row => siteOf(row.stack), text: row => siteOf(row.stack)};
const placeColumn = {title: 'Place', class: 'fn dim', value: row => stackOf(row.stack).place, text: row => stackOf(row.stack).place};
const bytesColumn = (title, of, hint) => ({title, num: true, hint, value: of, text: row => size(of(row)), exact: row => grouped(of(row)) + ' bytes'});
const numberColumn = (title, of, hint) => ({title, num: true, hint, value: of, text: row => grouped(of(row))});
