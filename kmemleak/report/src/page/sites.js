// Call sites: how they have grown over the marks, what they have in use; and the flame graphs.

const CHART_LINES = 8;
const DASHES = ['', '7 3', '2 3', '9 3 2 3', '4 4', '1 4', '12 3', '6 2 1 2'];

function flames() {
  const shown = [['Lost bytes by call stack', data.flames[0]], ['Bytes in use by call stack', data.flames[1]]].filter(flame => flame[1]);
  if (shown.length === 0) return;
  const part = section('flames', 'Flame graphs', el('p', {class: 'dim'},
    'Width is bytes; the outermost function is at the bottom. Click on a function to zoom, search with Ctrl-F inside of the graph.'));
  for (const [title, text] of shown) {
    const height = Number((text.match(/<svg[^>]* height="(\d+)"/) || [0, 400])[1]);
    const frame = el('iframe', {title, height: Math.min(height + 6, 900)});
    // The graph's script measures the frame when it loads, so the frame must be laid out by then.
    new IntersectionObserver((entries, observer) => {
      if (!entries.some(entry => entry.isIntersecting) || frame.clientWidth === 0) return;
      observer.disconnect();
      frame.src = URL.createObjectURL(new Blob([text], {type: 'image/svg+xml'}));
    }, {rootMargin: '300px'}).observe(frame);
    part.append(el('h3', {}, title), frame);
  }
}

const points = site => [...site.history, site.bytes];

function spark(site) {
  const values = points(site);
  if (values.length < 2) return '';
  const most = Math.max(...values, 1);
  const path = values.map((value, at) => (at ? 'L' : 'M') + (2 + 86 * at / (values.length - 1)).toFixed(1) + ' ' + (16 - 14 * value / most).toFixed(1));
  return svg('svg', {class: 'spark', viewBox: '0 0 90 18', role: 'img', 'aria-label': values.map(size).join(', ')}, svg('path', {d: path.join('')}));
}

// Lines of bytes over the marks: each has its own dashes, and its name at the end.
function chart(sites) {
  const marks = Math.max(...sites.map(site => site.history.length));
  const [width, height, left, right, top, bottom] = [1200, 300, 70, 430, 10, 26];
  const most = Math.max(...sites.flatMap(points), 1);
  const x = at => left + (width - left - right) * at / marks;
  const y = value => top + (height - top - bottom) * (1 - value / most);
  const parts = [];
  for (let step = 0; step <= 4; step += 1) {
    const value = most * step / 4;
    parts.push(svg('line', {class: 'axis', x1: left, x2: width - right, y1: y(value), y2: y(value)}),
      svg('text', {class: 'dim', x: left - 6, y: y(value) + 4, 'text-anchor': 'end'}, size(Math.round(value))));
  }
  for (let at = 0; at <= marks; at += 1) {
    parts.push(svg('text', {class: 'dim', x: x(at), y: height - 8, 'text-anchor': 'middle'}, at === marks ? 'now' : 'mark ' + (at + 1)));
  }
  const ends = [];
  const byEnd = sites.map((site, place) => ({site, place})).sort((one, other) => other.site.bytes - one.site.bytes);
  for (const {site, place} of byEnd) {
    const values = points(site);
    const first = marks + 1 - values.length;
    const path = values.map((value, at) => (at ? 'L' : 'M') + x(first + at).toFixed(1) + ' ' + y(value).toFixed(1)).join('');
    const label = Math.max(y(site.bytes) + 4, ends.length ? ends[ends.length - 1] + 13 : 12);
    ends.push(label);
    parts.push(svg('path', {d: path, 'stroke-dasharray': DASHES[place]}),
      svg('line', {class: 'axis', x1: x(marks), x2: x(marks) + 14, y1: y(site.bytes), y2: label - 4}),
      svg('text', {x: x(marks) + 18, y: label}, size(site.bytes) + '  ' + short(siteOf(site.stack), 52)));
  }
  return svg('svg', {class: 'chart', viewBox: '0 0 ' + width + ' ' + Math.max(height, ends[ends.length - 1] + 10), role: 'img', 'aria-label': 'Live bytes of call sites over the marks'}, parts);
}

// The end of a name says more than its beginning.
const short = (text, most) => text.length <= most ? text : '…' + text.slice(1 - most);

function growth() {
  const list = data.sites;
  if (!list || list.sites.length === 0) return;
  const marked = list.sites.some(site => site.growth_bytes !== null);
  const columns = [bytesColumn('Bytes', row => row.bytes), numberColumn('Objects', row => row.objects)];
  if (marked) {
    columns.push(
      {title: 'Growth', num: true, hint: 'Bytes since the last mark', value: row => row.growth_bytes || 0, text: row => signed(row.growth_bytes, size(row.growth_bytes || 0))},
      {title: 'Trend', hint: 'steady: it rose in most intervals between marks; step: one interval has more than half of the rise', value: row => row.trend || '', text: row => row.trend || ''},
      {title: 'Marks', text: spark});
  }
  columns.push(functionColumn, placeColumn);
  const grown = list.sites.filter(site => site.history.length > 0 && site.bytes > Math.min(...site.history));
  grown.sort((one, other) => (other.bytes - other.history[0]) - (one.bytes - one.history[0]));
  const lines = grown.slice(0, CHART_LINES);
  const left = list.total - list.sites.length;
  section('sites', 'Call sites', lines.length ? [el('h3', {}, 'Growth over the marks'),
    el('p', {class: 'dim'}, 'Live bytes of the call sites that have grown most since the first mark: memory that stays reachable, but may never be freed.'), chart(lines)] : null,
    el('h3', {}, 'Live bytes by call stack'),
    table('site-list', columns, list.sites, {sortBy: marked ? 2 : 0, search: row => searchStack(row.stack), detail: row => stackList(row.stack)}),
    left > 0 ? el('p', {class: 'dim'}, 'And ' + counted(left, 'call stack') + ' more.') : null);
}
