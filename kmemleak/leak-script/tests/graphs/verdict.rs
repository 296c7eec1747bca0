//! The oracle's verdict: the definitions of the format, each as it is written there, without any thought of speed.
//!
//! `None` is the answer where the format leaves more than one.

use std::collections::{BTreeMap, BTreeSet};

use crate::world::{Pointer, Slot, World};

type Set = BTreeSet<usize>;

/// What a pass found. Objects are numbers.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub leaks: Vec<usize>,
    /// Referenced, or gray; for a scan also what it took for live.
    pub live: Set,
    pub suppressed: Set,
    /// Those of them that match a pattern.
    suppressing: Set,
    /// A scan took some of the unreferenced for live. What is to be said of those beyond that, the format doesn't say.
    excusing: bool,
    /// The format does not say which objects are lost, either.
    pub open: bool,
    pub pointers: Vec<Pointer>,
    /// Each leader with the objects that belong to it.
    pub leaders: BTreeMap<usize, Set>,
    chains: BTreeMap<usize, Vec<Vec<Slot>>>,
}

impl Verdict {
    pub fn of_check(world: &mut World) -> Self {
        let verdict = Self::with(world, &Set::new());
        // Does a scan know what another one reported, and a check found live or suppressed in between?
        let leaks: Set = verdict.leaks.iter().copied().collect();
        let others: Set = world.reported.difference(&leaks).copied().collect();
        world.reported_in_doubt.extend(others);
        world.reported = world.reported.intersection(&leaks).copied().collect();
        verdict
    }

    /// Like a check in which all that is young or has changed is live, but for what the last scan reported.
    pub fn of_scan(world: &mut World) -> Self {
        let began_us = world.now_us;
        let mut excused = Set::new();
        for id in Self::with(world, &Set::new()).unreferenced(world) {
            let contents = world.contents(id);
            let changed = world.objects[id].seen.replace(contents.clone()) != Some(contents);
            let young = began_us - world.objects[id].born_us < world.min_age_us;
            if (changed || young) && !world.reported.contains(&id) {
                excused.insert(id);
            }
        }
        let mut verdict = Self::with(world, &excused);
        // Does a scan look at what it suppresses?
        let unsuppressed =
            |id: &usize| world.objects[*id].seen_in_doubt && !verdict.suppressed.contains(id);
        verdict.open = !world.reported_in_doubt.is_disjoint(&excused)
            || verdict.leaks.iter().chain(&excused).any(unsuppressed);
        let leaks = verdict.leaks.iter().copied().collect();
        let before = &world.reported | &world.reported_in_doubt;
        world.reported_in_doubt = &before & &verdict.suppressed;
        world.reported = leaks;
        for id in verdict.leaks.iter().chain(&excused) {
            world.objects[*id].seen_in_doubt = false;
        }
        for id in &verdict.suppressed {
            world.objects[*id].seen_in_doubt = true;
        }
        verdict
    }

    fn with(world: &World, excused: &Set) -> Self {
        let pointers = world.pointers();
        let mut live: Set = world
            .tracked()
            .filter(|&id| world.objects[id].is_gray())
            .chain(excused.iter().copied())
            .collect();
        spread(world, &pointers, &mut live);
        let lost = |known: &Set| -> Set {
            let tracked = world.tracked();
            tracked
                .filter(|id| !world.objects[*id].is_black() && !known.contains(id))
                .collect()
        };
        let suppressing: Set = lost(&live)
            .into_iter()
            .filter(|&id| {
                let functions = world.objects[id].functions();
                let mut patterns = world.patterns.iter();
                patterns.any(|pattern| functions.iter().any(|name| matches(pattern, name)))
            })
            .collect();
        let mut known = live.union(&suppressing).copied().collect();
        spread(world, &pointers, &mut known);
        let verdict = Self {
            leaks: lost(&known).into_iter().collect(),
            suppressed: known.difference(&live).copied().collect(),
            suppressing,
            excusing: !excused.is_empty(),
            open: false,
            live,
            pointers,
            leaders: BTreeMap::new(),
            chains: BTreeMap::new(),
        };
        Self {
            leaders: verdict.led(world),
            chains: verdict.chained(world),
            ..verdict
        }
    }

    fn unreferenced(&self, world: &World) -> Vec<usize> {
        let tracked = world.tracked();
        tracked
            .filter(|id| !world.objects[*id].is_black() && !self.live.contains(id))
            .collect()
    }

    // Leaders.

    /// For each leaked object those that can be reached from it, by chains of scanned words in leaked ones.
    pub fn reach(&self) -> BTreeMap<usize, Set> {
        let mut reach: BTreeMap<usize, Set> =
            self.leaks.iter().map(|&id| (id, Set::new())).collect();
        loop {
            let before = reach.clone();
            for pointer in &self.pointers {
                let Some(from) = pointer.from else { continue };
                if pointer.scanned && before.contains_key(&from) && before.contains_key(&pointer.to)
                {
                    let further = reach[&pointer.to].clone();
                    let set = reach.get_mut(&from).expect("it was there before");
                    set.insert(pointer.to);
                    set.extend(further);
                }
            }
            if reach == before {
                return reach;
            }
        }
    }

    fn led(&self, world: &World) -> BTreeMap<usize, Set> {
        let reach = self.reach();
        let order = |id: &usize| (world.objects[*id].order, *id);
        let leaders: Vec<usize> = self
            .leaks
            .iter()
            .copied()
            .filter(|leader| {
                // All from which it is reached it reaches in turn, and it came before them.
                let mut others = self.leaks.iter().filter(|other| *other != leader);
                others.all(|other| {
                    !reach[other].contains(leader)
                        || reach[leader].contains(other) && order(leader) < order(other)
                })
            })
            .collect();
        let mut owned: BTreeMap<usize, Set> = leaders.iter().map(|&id| (id, Set::new())).collect();
        for id in self.leaks.iter().filter(|id| !leaders.contains(id)) {
            let reaching = leaders.iter().filter(|leader| reach[leader].contains(id));
            let first = *reaching
                .min_by_key(|leader| order(leader))
                .expect("all that is leaked is reached from a leader");
            owned.get_mut(&first).expect("a leader").insert(*id);
        }
        owned
    }

    /// The shortest cycle of scanned words in which a leader lies, from the leader on; empty if there is none. None where two are as
    /// short.
    pub fn cycle(&self, world: &World, leader: usize) -> Option<Vec<usize>> {
        if !self.leaders.contains_key(&leader) {
            return Some(Vec::new());
        }
        let reach = self.reach();
        if !reach[&leader].contains(&leader) {
            return Some(Vec::new());
        }
        // Which way a search takes through what is scanned in part, the format doesn't say.
        let on_a_cycle = |id: &&usize| reach[&leader].contains(*id) && reach[*id].contains(&leader);
        let mut ring = self.leaks.iter().filter(on_a_cycle);
        if !ring.all(|&id| world.objects[id].is_scanned_as_a_whole()) {
            return None;
        }
        let links: BTreeSet<(usize, usize)> = (self.pointers.iter())
            .filter(|pointer| pointer.scanned)
            .filter_map(|pointer| Some((pointer.from?, pointer.to)))
            .filter(|(from, to)| reach.contains_key(from) && reach.contains_key(to))
            .collect();
        // The shortest ways to what was not seen before, of which more than two are no news.
        let (mut ways, mut seen) = (vec![vec![leader]], Set::from([leader]));
        loop {
            let end = |way: &[usize]| way[way.len() - 1];
            let back = ways
                .iter()
                .filter(|way| links.contains(&(end(way), leader)));
            match back.collect::<Vec<_>>()[..] {
                [] => {}
                [cycle] => return Some(cycle.clone()),
                _ => return None,
            }
            let mut longer: BTreeMap<usize, Vec<Vec<usize>>> = BTreeMap::new();
            for way in &ways {
                let next = links.iter().filter(|link| link.0 == end(way));
                for to in next.map(|link| link.1).filter(|to| !seen.contains(to)) {
                    let all = longer.entry(to).or_default();
                    all.push([way.as_slice(), &[to]].concat());
                    all.truncate(2);
                }
            }
            seen.extend(longer.keys());
            ways = longer.into_values().flatten().collect();
        }
    }

    // Live ones.

    /// Those to which no chain of start pointers leads.
    pub fn interior(&self, world: &World) -> Option<Set> {
        let gray = |id: &usize| world.objects[*id].is_gray();
        let grays: Set = self.live.iter().copied().filter(gray).collect();
        let by_start = self.by_start(&grays, &self.live);
        let interior: Set = self.live.difference(&by_start).copied().collect();
        // Are black objects live?
        let black_by_middle = self.pointers.iter().any(|pointer| {
            let held = pointer.from.is_none_or(|from| self.live.contains(&from));
            held && pointer.scanned
                && world.objects[pointer.to].is_black()
                && !self.is_start(pointer.to, &by_start)
        });
        // Are suppressed ones?
        let roots = grays.union(&self.suppressing).copied().collect();
        let all = self.live.union(&self.suppressed).copied().collect();
        let by_start = self.by_start(&roots, &all);
        let with_suppressed: Set = all.difference(&by_start).copied().collect();
        (!self.excusing && !black_by_middle && interior == with_suppressed).then_some(interior)
    }

    /// What chains of start pointers reach within a set, from the roots and from some objects.
    fn by_start(&self, from: &Set, within: &Set) -> Set {
        let mut reached = from.clone();
        loop {
            let before = reached.len();
            let more: Vec<usize> = within
                .iter()
                .copied()
                .filter(|&id| self.is_start(id, &reached))
                .collect();
            reached.extend(more);
            if reached.len() == before {
                return reached;
            }
        }
    }

    /// Whether a start pointer in a root or in one of these leads there.
    fn is_start(&self, to: usize, from: &Set) -> bool {
        self.pointers.iter().any(|pointer| {
            pointer.to == to
                && pointer.at_start
                && pointer.scanned
                && pointer.from.is_none_or(|id| from.contains(&id))
        })
    }

    pub fn suppressed(&self, world: &World) -> Option<Set> {
        // Is a black object that one of them points to?
        let open = self.pointers.iter().any(|pointer| {
            pointer
                .from
                .is_some_and(|from| self.suppressed.contains(&from))
                && pointer.scanned
                && world.objects[pointer.to].is_black()
        });
        (!self.excusing && !open).then(|| self.suppressed.clone())
    }

    /// Every word that points into it.
    pub fn holders(&self, id: usize) -> Vec<Slot> {
        let pointers = self.pointers.iter().filter(|pointer| pointer.to == id);
        pointers.map(|pointer| pointer.slot).collect()
    }

    /// The shortest chain from a root, if there is only one and it is neither gray nor black.
    pub fn path(&self, id: usize) -> Option<&[Slot]> {
        match self.chains.get(&id)?.as_slice() {
            [chain] if !chain.is_empty() && !self.excusing => Some(chain),
            _ => None,
        }
    }

    /// The shortest chains from roots to each live object, of which more than two are no news.
    fn chained(&self, world: &World) -> BTreeMap<usize, Vec<Vec<Slot>>> {
        let gray = self.live.iter().filter(|id| world.objects[**id].is_gray());
        let mut chains: BTreeMap<usize, Vec<Vec<Slot>>> =
            gray.map(|&id| (id, vec![Vec::new()])).collect();
        let root = [Vec::new()];
        for length in 0.. {
            let mut longer: BTreeMap<usize, Vec<Vec<Slot>>> = BTreeMap::new();
            for pointer in &self.pointers {
                let to = pointer.to;
                if !pointer.scanned || chains.contains_key(&to) || !self.live.contains(&to) {
                    continue;
                }
                // A chain begins in a root or in a gray object.
                let before = match pointer.from {
                    None if length == 0 => &root[..],
                    None => continue,
                    Some(from) => match chains.get(&from) {
                        Some(before) if before[0].len() == length => before.as_slice(),
                        _ => continue,
                    },
                };
                let all = longer.entry(to).or_default();
                for chain in before {
                    all.push([chain.as_slice(), &[pointer.slot]].concat());
                }
                all.truncate(2);
            }
            if longer.is_empty() {
                break;
            }
            chains.extend(longer);
        }
        chains
    }
}

/// Adds what as many words as it wants point into, of roots and of those that are there already.
pub fn spread(world: &World, pointers: &[Pointer], live: &mut Set) {
    loop {
        let before = live.len();
        let more: Vec<usize> = world
            .tracked()
            .filter(|&id| !world.objects[id].is_black() && !live.contains(&id))
            .filter(|&id| {
                let counted = pointers.iter().filter(|pointer| {
                    pointer.to == id
                        && pointer.scanned
                        && pointer.from.is_none_or(|from| live.contains(&from))
                });
                counted.count() as i64 >= world.objects[id].min_count
            })
            .collect();
        live.extend(more);
        if live.len() == before {
            return;
        }
    }
}

/// Whether a pattern matches a whole label, or all of it behind one of its `::`.
pub fn matches(pattern: &str, label: &str) -> bool {
    let behind = label
        .match_indices("::")
        .map(|(at, parts)| at + parts.len());
    behind
        .chain([0])
        .any(|from| matches_all(pattern, &label[from..]))
}

fn matches_all(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => text.strip_prefix(head).is_some_and(|rest| {
            (0..=rest.len()).any(|skipped| matches_all(tail, &rest[skipped..]))
        }),
    }
}
