// The dominator tree as a map: areas are bytes. A click or Enter goes into a square, Escape or the names above it go out again.

const MAP = {width: 1400, height: 460, levels: 4, least: 5, head: 15};

// Squarified: rows of squares as near to squares as they get (Bruls, Huizing, van Wijk, "Squarified treemaps", 2000).
function squarify(nodes, area) {
  const all = nodes.reduce((sum, node) => sum + node.retained, 0);
  const placed = [];
  if (all <= 0 || area.w <= 0 || area.h <= 0) return placed;
  const scale = area.w * area.h / all;
  let {x, y, w, h} = area;
  let at = 0;
  while (at < nodes.length) {
    const side = Math.min(w, h);
    let [sum, end, worst] = [0, at, Infinity];
    while (end < nodes.length) {
      const next = sum + nodes[end].retained * scale;
      if (next <= 0) break;
      const most = nodes[at].retained * scale;
      const least = nodes[end].retained * scale;
      const ratio = Math.max(side * side * most / (next * next), least > 0 ? next * next / (side * side * least) : Infinity);
      if (ratio > worst) break;
      [sum, worst, end] = [next, ratio, end + 1];
    }
    if (end === at) break;
    const thick = sum / side;
    let along = 0;
    for (; at < end; at += 1) {
      const long = nodes[at].retained * scale / thick;
      placed.push(w >= h ? {node: nodes[at], x, y: y + along, w: thick, h: long} : {node: nodes[at], x: x + along, y, w: long, h: thick});
      along += long;
    }
    if (w >= h) { x += thick; w -= thick; } else { y += thick; h -= thick; }
  }
  return placed;
}

function treemap(top, tree) {
  const picture = svg('svg', {viewBox: '0 0 ' + MAP.width + ' ' + MAP.height, preserveAspectRatio: 'none', role: 'group', 'aria-label': 'Map of the heap'});
  const trail = el('div', {class: 'bar', 'aria-label': 'Where in the tree the map is'});
  let current = top;

  function label(node, x, y, w, h) {
    const text = size(node.retained) + '  ' + nodeName(node);
    const letters = Math.floor((w - 6) / 6.4);
    if (letters < 4 || h < 12) return null;
    return svg('text', {x: x + 3, y: y + 11.5}, text.length <= letters ? text : text.slice(0, letters - 1) + '…');
  }

  // A square, and what lies in it.
  function draw({node, x, y, w, h}, depth) {
    if (w < MAP.least && h < MAP.least || w < 1 || h < 1) return null;
    const opens = node.below.length > 0 && node !== current;
    const kind = heap.isLost(node) ? 'lost' : node.kind === 'own' || node.kind === 'sum' && !node.below.length ? node.kind : 'd' + Math.min(depth, 3);
    const below = [];
    if (depth < MAP.levels && w > 24 && h > 30) {
      for (const part of squarify(node.below, {x: x + 2, y: y + MAP.head, w: w - 4, h: h - MAP.head - 2})) below.push(draw(part, depth + 1));
    }
    return svg('g', {class: kind + (opens ? ' zoom' : ''), tabindex: opens && depth <= 2 ? 0 : null, role: opens ? 'button' : null, 'aria-label': opens ? nodeTitle(node) : null,
      onclick: opens ? event => { event.stopPropagation(); go(node); } : null,
      onkeydown: opens ? event => { if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); event.stopPropagation(); go(node); } } : null},
      svg('title', {}, nodeTitle(node)), svg('rect', {x, y, width: w, height: h}), label(node, x, y, w, h), below);
  }

  function go(node) {
    current = node;
    picture.replaceChildren(draw({node, x: 0, y: 0, w: MAP.width, h: MAP.height}, 0));
    const way = [];
    for (let above = node; above; above = aboveOf(above)) way.unshift(above);
    const parts = way.length > 12 ? [...way.slice(0, 6), null, ...way.slice(-5)] : way;
    trail.replaceChildren(...parts.map(part => part === null ? el('span', {}, '…') :
      el('button', {onclick: () => go(part), disabled: part === node, title: nodeTitle(part)}, short(nodeName(part), 40))),
    node === top || node.number === undefined ? '' : el('button', {class: 'link', onclick: () => tree.show(node.number)}, 'show in the tree'));
  }

  picture.addEventListener('keydown', event => {
    if (event.key === 'Escape' && aboveOf(current)) go(aboveOf(current));
  });
  // Letters keep their shape: the map is drawn as wide as it is.
  const box = el('div', {class: 'treemap', id: 'map'}, trail, picture);
  new ResizeObserver(entries => {
    const width = Math.round(entries[0].contentRect.width);
    if (width > 0 && width !== MAP.width) {
      MAP.width = width;
      picture.setAttribute('viewBox', '0 0 ' + width + ' ' + MAP.height);
      go(current);
    }
  }).observe(box);
  go(top);
  return box;
}

heapSection();
flames();
growth();
