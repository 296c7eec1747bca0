// Who keeps how much alive: suspects, the treemap, and the dominator tree.

// So many objects of one call site are shown as one row, which unfolds to them.
const TOGETHER = 6;

// What lies above a row or sum: a sum that it is part of, or a row.
const aboveOf = node => node.in || (node.above === null ? null : heap.nodes[node.above]);

// The tree as the page walks it: rows, and below each its rows and sums, most first.
const heap = (function () {
  if (!data.heap) return null;
  const {rows, sums} = data.heap.tree;
  const nodes = rows.map((row, number) => ({...row, number, objects: row.count, below: []}));
  for (const node of nodes) if (node.above !== null) nodes[node.above].below.push(node);
  for (const sum of sums) nodes[sum.above].below.push({...sum, kind: 'sum', above: sum.above, own: 0, below: []});
  // Many objects of one call site below one row come together.
  function together(node) {
    const bySite = new Map();
    for (const child of node.below) {
      const key = child.kind === 'object' || child.kind === 'sum' && child.stack !== null ? child.stack : child;
      if (!bySite.has(key)) bySite.set(key, []);
      bySite.get(key).push(child);
    }
    node.below = [...bySite.values()].flatMap(some => {
      if (some.length < TOGETHER) return some;
      const add = of => some.reduce((sum, child) => sum + of(child), 0);
      const below = some.sort((one, other) => other.retained - one.retained);
      const site = {kind: 'sum', stack: some[0].stack, objects: add(child => child.objects), retained: add(child => child.retained), own: 0, above: node.number, below};
      below.forEach(child => { child.in = site; });
      return [site];
    });
  }
  for (const node of nodes) {
    together(node);
    if (node.own > 0 && node.below.length) node.below.push({kind: 'own', above: node.number, retained: node.own, own: node.own, objects: node.count, stack: node.stack, below: []});
    node.below.sort((one, other) => other.retained - one.retained);
  }
  const isLost = node => node.kind === 'lost' || (node.above !== null && node.above !== undefined && isLostAt(node.above));
  // Without recursion: rows come behind those above them.
  const lost = [];
  nodes.forEach(node => { lost[node.number] = node.kind === 'lost' || (node.above !== null && lost[node.above]); });
  const isLostAt = number => lost[number];
  return {nodes, top: nodes[0], isLost};
})();

const KINDS = {origin: '', group: 'roots', root: 'root', lost: 'lost', object: '', sum: '', own: ''};

function nodeName(node) {
  if (node.kind === 'own') return node.objects > 1 ? 'these ' + counted(node.objects, 'object') : 'itself';
  if (node.kind === 'origin') return 'all objects';
  if (node.name !== null && node.name !== undefined) return node.name;
  if (node.stack === null) return counted(node.objects, 'object') + ' of other call sites';
  const site = siteOf(node.stack);
  if (node.kind === 'sum') return counted(node.objects, 'object') + ' of ' + site;
  return node.objects > 1 ? 'chain of ' + counted(node.objects, 'object') + ' of ' + site : site;
}

function nodeTitle(node) {
  const lines = [nodeName(node), grouped(node.retained) + ' bytes kept alive'];
  if (node.own && node.kind !== 'own') lines.push(grouped(node.own) + ' of them its own');
  if (node.address) lines.push(node.address);
  if (node.stack !== null && node.stack !== undefined && stackOf(node.stack).place) lines.push(stackOf(node.stack).place);
  return lines.join('\n');
}

function heapTree() {
  const all = heap.top.retained;
  const box = el('div', {class: 'tree', role: 'tree', 'aria-label': 'Dominator tree', id: 'dominators'});
  const PAGE = 100;

  function row(node, depth) {
    const opens = node.below.length > 0;
    const place = node.stack !== null && node.stack !== undefined ? stackOf(node.stack).place : '';
    const line = el('div', {class: 'row' + (heap.isLost(node) ? ' lost' : ''), role: 'treeitem', 'aria-level': depth + 1, tabindex: depth ? -1 : 0,
      'aria-expanded': opens ? 'false' : null, 'data-row': node.number, 'data-v': node.retained, title: nodeTitle(node)},
      el('span', {class: 'amount'}, size(node.retained)),
      el('span', {class: 'share'}, el('i', {style: 'width:' + (all ? 100 * node.retained / all : 0).toFixed(1) + '%'}), share(node.retained, all)),
      el('span', {class: 'label', style: 'padding-left:' + Math.min(depth, 40) * 14 + 'px'},
        el('span', {class: 'twist', 'aria-hidden': 'true'}, opens ? '▸' : ''), nodeName(node),
        KINDS[node.kind] ? el('span', {class: 'kind'}, ' (' + KINDS[node.kind] + ')') : null,
        place ? el('span', {class: 'kind'}, ' ' + place) : null));
    line.node = node;
    line.depth = depth;
    return line;
  }

  function close(line) {
    while (line.nextSibling && line.nextSibling.depth > line.depth) line.nextSibling.remove();
    line.setAttribute('aria-expanded', 'false');
    line.querySelector('.twist').textContent = '▸';
  }

  function open(line) {
    line.setAttribute('aria-expanded', 'true');
    line.querySelector('.twist').textContent = '▾';
    some(line, line, 0);
  }

  // Puts the next rows below, and a button for more of them.
  function some(line, last, from) {
    const {node, depth} = line;
    const lines = node.below.slice(from, from + PAGE).map(child => row(child, depth + 1));
    const left = node.below.length - from - lines.length;
    if (left > 0) {
      const more = el('div', {class: 'row'}, '', '', el('button', {onclick: () => { const before = more.previousSibling; more.remove(); some(line, before, from + PAGE); }}, 'Show more (' + grouped(left) + ' left)'));
      more.depth = depth + 1;
      lines.push(more);
    }
    last.after(...lines);
  }

  const toggle = line => line.getAttribute('aria-expanded') === 'true' ? close(line) : line.getAttribute('aria-expanded') && open(line);
  box.addEventListener('click', event => {
    const line = event.target.closest('.row');
    if (line && line.node && !String(getSelection())) { toggle(line); focus(line); }
  });
  function focus(line) {
    box.querySelectorAll('[tabindex="0"]').forEach(other => other.setAttribute('tabindex', '-1'));
    line.setAttribute('tabindex', '0');
    line.focus();
  }
  box.addEventListener('keydown', event => {
    const line = event.target.closest('.row');
    if (!line || !line.node) return;
    const is = line.getAttribute('aria-expanded');
    let to = null;
    if (event.key === 'ArrowDown') to = line.nextSibling;
    else if (event.key === 'ArrowUp') to = line.previousSibling;
    else if (event.key === 'Home') to = box.firstChild;
    else if (event.key === 'End') to = box.lastChild;
    else if (event.key === 'Enter' || event.key === ' ') toggle(line);
    else if (event.key === 'ArrowRight') { if (is === 'false') open(line); else if (is === 'true') to = line.nextSibling; }
    else if (event.key === 'ArrowLeft') {
      if (is === 'true') close(line);
      else { to = line.previousSibling; while (to && to.depth >= line.depth) to = to.previousSibling; }
    } else return;
    event.preventDefault();
    if (to) focus(to.node ? to : to.querySelector('button') || to);
  });

  const top = row(heap.top, 0);
  box.append(top);
  open(top);
  // Down to the roots at once, if there are few.
  for (const line of [...box.querySelectorAll('.row')].slice(1)) {
    if (line.node && line.node.kind === 'group' && line.node.below.length <= 8 && line.node.retained > all / 50) open(line);
  }

  // Opens the tree down to a row and puts the focus there.
  box.show = number => {
    const way = [];
    for (let node = heap.nodes[number]; node; node = aboveOf(node)) way.unshift(node);
    let line = box.firstChild;
    for (const node of way.slice(1)) {
      if (line.getAttribute('aria-expanded') !== 'true') open(line);
      let next;
      while (!(next = [...box.children].find(child => child.node === node))) {
        const more = [...box.querySelectorAll('button')].find(button => button.parentNode.depth === line.depth + 1);
        if (!more) return;
        more.click();
      }
      line = next;
    }
    focus(line);
    line.scrollIntoView({block: 'center'});
  };
  return box;
}

function suspectList(tree) {
  const name = end => end.name !== null ? end.name : siteOf(end.stack);
  const live = data.heap.live_bytes;
  if (data.heap.suspects.length === 0) return el('p', {id: 'no-suspects'}, 'No single root or object keeps more than a tenth of the live memory alive.');
  const link = end => el('button', {class: 'link mono', onclick: () => tree.show(end.row), disabled: end.row === null, title: end.address}, name(end));
  const rows = data.heap.suspects.map(suspect => el('li', {'data-v': suspect.first.retained},
    link(suspect.first), suspect.first.within !== null ? el('span', {class: 'dim'}, ' (' + suspect.first.within + ')') : null, ' keeps ', el('b', {}, size(suspect.first.retained)), ' alive, ', share(suspect.first.retained, live), ' of all live memory',
    suspect.links > 1 ? [', through ' + counted(suspect.links - 1, 'step') + ' down to ', link(suspect.last), suspect.last.retained < suspect.first.retained ? ' (' + size(suspect.last.retained) + ')' : null] : null, '.'));
  return el('ol', {id: 'suspects'}, rows);
}

function heapSection() {
  if (!heap) return;
  const {objects, bytes, live_objects: liveObjects, live_bytes: live} = data.heap;
  const lost = objects - liveObjects;
  const tree = heapTree();
  section('heap', 'Who keeps memory alive',
    el('p', {class: 'dim'}, 'What an object or a root keeps alive is itself, and all objects that only paths through it lead to: without it they would be lost. ' +
      'In the map, each square lies in the square of the object or root that alone keeps it alive. What several keep alive lies beside them.'),
    el('p', {}, counted(liveObjects, 'live object') + ', ' + size(live) + (lost ? '; ' + grouped(lost) + ' that no root leads to, ' + size(bytes - live) : '') + '.'),
    el('h3', {}, 'Look at these first'), suspectList(tree),
    el('h3', {}, 'As a map'), treemap(heap.top, tree),
    el('h3', {}, 'As a tree'), el('p', {class: 'dim'}, 'Arrow keys move, open and close.'), tree);
}
