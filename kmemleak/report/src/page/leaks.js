// What is lost: by call stack, then one by one with what holds it.

(function () {
  const leaks = data.leaks;
  if (!leaks) return;
  const suspects = data.verdict.kind === 'suspects';
  if (leaks.groups.length === 0) {
    section('leaks', 'Leaks', el('p', {}, data.verdict.kind === 'clean' ? 'No leaks.' : 'The report lists no objects.'));
    return;
  }
  const listedAt = new Map(leaks.objects.map((object, place) => [object.address, place]));
  const intro = (suspects ? 'Objects to which no pointer was found' : 'Objects to which no pointer leads any more') +
    ', by the call stack that allocated them. A leader is a leak that no other leak points to; it owns what was lost with it.';

  // From where the way to an object comes: roots and lost groups by name, objects by call site.
  function way(steps) {
    return steps.flatMap((step, place) => [place ? ' → ' : '',
      step.name !== null ? el('span', {class: 'dim'}, step.name) : el('span', {title: step.address}, siteOf(step.stack))]);
  }

  function seen(object) {
    const seen = object.seen;
    if (!seen) return null;
    const holders = seen.holders.map(holder => el('li', {class: 'mono'},
      holder.address + '+0x' + holder.offset.toString(16), holder.into ? ' points to +0x' + holder.into.toString(16) : '',
      ' ', el('span', {class: 'dim'}, siteOf(holder.stack)),
      listedAt.has(holder.address) ? el('span', {class: 'dim'}, ' (lost as well)') : null));
    const more = seen.words - seen.holders.length;
    return el('div', {},
      seen.retained > object.size ? el('p', {}, 'Lost with it: ' + size(seen.retained - object.size) + '.') : null,
      seen.words ? el('p', {}, 'Words that point to it: ' + grouped(seen.words)) : el('p', {}, 'No word points to it.'),
      el('ul', {}, holders, more > 0 ? el('li', {class: 'dim'}, 'and ' + grouped(more) + ' more') : null),
      seen.way.length > 2 || seen.is_live ? el('p', {class: 'way mono'}, seen.is_live ? el('b', {}, 'A root led to it when the snapshot was taken: ') : null, way(seen.way)) : null);
  }

  function dump(object) {
    if (object.freed) return el('p', {class: 'dim'}, 'Freed since the check.');
    if (!object.dump) return null;
    const bytes = object.dump.match(/../g);
    const lines = [];
    for (let at = 0; at < bytes.length; at += 16) {
      const some = bytes.slice(at, at + 16);
      const text = some.map(byte => parseInt(byte, 16)).map(code => code >= 32 && code < 127 ? String.fromCharCode(code) : '.').join('');
      lines.push(some.join(' ').padEnd(48) + text);
    }
    return el('pre', {class: 'dump'}, lines.join('\n'));
  }

  function objects(group) {
    const rows = group.listed.map(place => leaks.objects[place]);
    if (rows.length === 0) return el('p', {class: 'dim'}, 'Its objects are not listed: each was lost with a leader of another call stack.');
    const columns = [
      {title: 'Address', class: 'mono', value: row => row.address, text: row => row.address},
      bytesColumn('Size', row => row.size),
      {title: 'Age', num: true, value: row => row.age_us, text: row => span(row.age_us)},
      {title: 'Task', value: row => row.comm, text: row => row.comm + ' (' + row.task + '), CPU ' + row.cpu},
      {title: 'Rank', value: row => row.rank, text: row => row.rank === 'owned' ? 'owned by ' + row.leader : row.rank},
      bytesColumn('Owns', row => row.owned_bytes || 0),
    ];
    const more = group.objects - rows.length;
    return el('div', {}, table(null, columns, rows, {sortBy: 5, detail: row => el('div', {}, dump(row), seen(row))}),
      more > 0 ? el('p', {class: 'dim'}, 'And ' + counted(more, 'object') + ' more of this call stack, not listed here.') : null);
  }

  const columns = [
    numberColumn('Objects', row => row.objects),
    bytesColumn('Bytes', row => row.bytes),
    bytesColumn('Owned', row => row.owned_bytes, 'Bytes of what its leaders own, also what other call stacks allocated'),
    {title: 'Oldest', num: true, value: row => row.oldest_us, text: row => span(row.oldest_us)},
    functionColumn, placeColumn,
  ];
  section('leaks', suspects ? 'Suspects' : 'Leaks', el('p', {class: 'dim'}, intro),
    table('leak-groups', columns, leaks.groups, {
      sortBy: 1, search: row => searchStack(row.stack),
      detail: row => el('div', {}, stackList(row.stack), objects(row)),
    }));
})();
