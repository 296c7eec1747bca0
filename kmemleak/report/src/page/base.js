'use strict';
// What all parts of the page use. Text of the log is only ever set as text, never as markup.

const data = JSON.parse(document.getElementById('data').textContent);
const SVG = 'http://www.w3.org/2000/svg';

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? '' : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}
const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

const grouped = number => String(number).replace(/\B(?=(\d{3})+(?!\d))/g, '\u202f');
const counted = (number, one) => grouped(number) + ' ' + one + (number === 1 ? '' : 's');

// Bytes as people read them: 128 B, 1.5 KiB.
function size(bytes) {
  const sign = bytes < 0 ? '−' : '';
  let value = Math.abs(bytes);
  if (value < 1024) return sign + value + ' B';
  let unit = -1;
  while (value >= 1023.95 && unit < 3) { value /= 1024; unit += 1; }
  return sign + value.toFixed(1) + ' ' + ['KiB', 'MiB', 'GiB', 'TiB'][unit];
}
const signed = (number, text) => (number > 0 ? '+' : '') + text;

// Microseconds as people read them: 57 ms, 3.2 s, 4 min, 2.5 h.
function span(us) {
  if (us < 1000) return us + ' µs';
  if (us < 1e6) return (us / 1e3).toFixed(us < 1e4 ? 1 : 0) + ' ms';
  if (us < 6e7) return (us / 1e6).toFixed(us < 1e7 ? 1 : 0) + ' s';
  if (us < 36e8) return (us / 6e7).toFixed(0) + ' min';
  return (us / 36e8).toFixed(1) + ' h';
}

function share(part, all) {
  const percent = all > 0 ? 100 * part / all : 0;
  return (percent >= 10 || percent === 0 ? percent.toFixed(0) : percent.toFixed(1)) + ' %';
}

const stackOf = number => data.stacks[number];
const siteOf = number => stackOf(number).function;

// Lists the functions of a call stack, innermost first.
function stackList(number) {
  const stack = stackOf(number);
  if (stack.frames.length === 0) return el('p', {class: 'dim'}, 'No call stack was recorded.');
  const frames = stack.frames.map(frame => el('li', {},
    frame.name, frame.inlined ? el('span', {class: 'place'}, ' [inlined]') : null,
    frame.place ? el('span', {class: 'place'}, ' ' + frame.place) : null));
  const skipped = stack.skipped ? ', ' + counted(stack.skipped, 'frame') + ' of the allocator left out' : '';
  return el('div', {}, el('p', {class: 'dim'}, 'Call stack ' + (stack.crc || '') + ', innermost first' + skipped + ':'),
    el('ol', {class: 'stack mono'}, frames));
}

// A part of the page, with its link at the top.
function section(id, title, ...children) {
  document.getElementById('sections').append(el('a', {href: '#' + id}, title));
  const part = el('section', {id}, el('h2', {}, title), children);
  document.getElementById('main').append(part);
  return part;
}

(function () {
  document.getElementById('title').textContent = data.title;
  document.getElementById('verdict').className = data.verdict.kind;
  for (const doubt of [...data.verdict.doubts, ...data.notes]) {
    document.getElementById('doubts').append(el('li', {}, doubt));
  }
  const figures = document.getElementById('figures');
  const figure = (key, name, value, text, title) =>
    figures.append(el('div', {title}, el('dt', {}, name), el('dd', {'data-key': key, 'data-v': value}, text)));
  const sum = data.summary;
  if (sum) {
    const [objects, bytes] = sum.suspects ? [sum.suspects, sum.suspect_bytes] : [sum.objects, sum.bytes];
    figure('lost', sum.suspects ? 'suspects' : 'leaks', objects, grouped(objects));
    figure('lost-bytes', 'bytes lost', bytes, size(bytes), grouped(bytes) + ' bytes');
    if (sum.groups !== null) figure('groups', 'call stacks', sum.groups, grouped(sum.groups));
    if (sum.leaders !== null) figure('leaders', 'leaders', sum.leaders, grouped(sum.leaders), 'Leaks that no other leak points to: each stands for what was lost with it');
    figure('tracked', 'objects tracked', sum.tracked, grouped(sum.tracked));
    if (sum.suppressed_objects) figure('suppressed', 'suppressed', sum.suppressed_objects, grouped(sum.suppressed_objects));
  }
  if (data.heap) {
    figure('live-objects', 'alive', data.heap.live_objects, counted(data.heap.live_objects, 'object'));
    figure('live-bytes', 'bytes alive', data.heap.live_bytes, size(data.heap.live_bytes), grouped(data.heap.live_bytes) + ' bytes, in the snapshot');
  }
  if (sum) figure('took', 'check took', sum.took_us, span(sum.took_us) + (sum.cpus > 1 ? ' on ' + sum.cpus + ' CPUs' : ''));
})();
