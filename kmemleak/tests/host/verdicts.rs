//! One verdict after another: what has been reported, what is new since the mark, what is hidden, what is cleared.
//! Random histories of a few blocks, each held by a word of its own or lost, against a model of flags and sets.

use std::collections::BTreeSet;

use kmemleak_emulated::Stop;

use crate::lab::{Lab, many};

#[derive(Clone, Copy, Debug)]
struct One {
    start: usize,
    birth_us: u64,
    held: bool,
    gray: bool,
    told: bool,
    /// A pass has seen it unreferenced.
    seen: bool,
    site: usize,
}

type Name = (usize, u64);

impl One {
    fn name(&self) -> Name {
        (self.start, self.birth_us)
    }
}

const SITES: [&str; 2] = ["probe", "open"];

struct History {
    lab: Lab,
    slots: [Option<One>; 12],
    hidden: [bool; 2],
    /// The last verdict, whatever became of its objects since.
    leaks: Vec<Name>,
    suppressed: Vec<Name>,
    marked: BTreeSet<Name>,
    /// Told of and referenced again, which is not said yet.
    revived: Vec<usize>,
    stop: Stop,
    /// The last verdict is the background scan's. What it is not sure of may be among what is hidden, or not.
    scanned: bool,
    now_us: u64,
}

impl History {
    fn new(stop: Stop) -> Self {
        let lab = Lab::new();
        lab.machine.set_stop(stop);
        lab.detector.set_min_age_us(0);
        Self {
            lab,
            slots: [None; 12],
            hidden: [false; 2],
            leaks: Vec::new(),
            suppressed: Vec::new(),
            marked: BTreeSet::new(),
            revived: Vec::new(),
            stop,
            scanned: false,
            now_us: 0,
        }
    }

    fn step(&mut self, action: usize, slot: usize) {
        match action {
            0..3 => self.allocate(slot),
            3..7 => self.turn(slot),
            7 => self.free(slot),
            8 => self.toggle(slot % 2),
            9 => self.clear(),
            10 => {
                assert_eq!(self.lab.detector.mark(), Ok(()));
                self.marked = self.leaks.iter().copied().collect();
            }
            11 => {
                // Questions change nothing.
                for one in self.slots.into_iter().flatten() {
                    let _ = self.lab.detector.path(one.start, &mut |_| ());
                    let _ = self.lab.detector.holders(one.start, &mut |_| ());
                }
            }
            12 => {
                self.judge();
                self.lab.say("scan");
                for one in self.slots.iter_mut().flatten() {
                    one.told |= self.leaks.contains(&one.name());
                }
            }
            13 => self.wait(),
            _ => {
                let new = self.judge();
                let summary = self.lab.detector.check().expect("on");
                assert_eq!(summary.listed(), self.leaks.len());
                assert_eq!(summary.unreported_objects, new);
                assert_eq!(summary.suppressed_objects, self.suppressed.len());
            }
        }
        self.compare();
    }

    fn allocate(&mut self, slot: usize) {
        if self.slots[slot].is_some() {
            return;
        }
        let site = slot % 2;
        self.lab.machine.call_from(&[SITES[site]]);
        let start = self.lab.block(32);
        self.now_us += 1;
        self.slots[slot] = Some(One {
            start,
            birth_us: self.now_us,
            held: false,
            gray: false,
            told: false,
            seen: false,
            site,
        });
    }

    fn turn(&mut self, slot: usize) {
        if let Some(one) = &mut self.slots[slot] {
            one.held = !one.held;
            self.lab.hold(slot, if one.held { one.start } else { 0 });
        }
    }

    fn free(&mut self, slot: usize) {
        if let Some(one) = self.slots[slot].take() {
            self.lab.hold(slot, 0);
            self.lab.free(one.start);
        }
    }

    fn toggle(&mut self, site: usize) {
        if self.hidden[site] {
            assert_eq!(self.lab.detector.unsuppress(SITES[site]), Ok(true));
        } else {
            assert_eq!(self.lab.detector.suppress(SITES[site]), Ok(()));
        }
        self.hidden[site] = !self.hidden[site];
    }

    fn clear(&mut self) {
        self.lab.say("clear");
        for one in self.slots.iter_mut().flatten() {
            if self.leaks.contains(&one.name()) {
                (one.gray, one.told) = (true, false);
            }
            one.told &= !self.suppressed.contains(&one.name());
        }
        self.leaks.clear();
        self.suppressed.clear();
    }

    /// The background scan comes.
    fn wait(&mut self) {
        self.lab.say("scan=1");
        self.lab.machine.advance_us(1_000_000);
        self.now_us += 1_000_000;
        let mut log = String::new();
        self.lab.detector.background_step(&mut log);
        // One that it sees for the first time is taken for referenced.
        let new = self.judge_those(|one| std::mem::replace(&mut one.seen, true) || one.told);
        self.scanned = true;
        let mut lines: Vec<&str> = log.lines().collect();
        if new > 0 {
            let plural = if new == 1 { "" } else { "s" };
            let what = match self.stop {
                Stop::Works => "unreferenced",
                _ => "suspected",
            };
            let head = format!("kmemleak: {new} new {what} object{plural} (");
            assert!(lines.remove(0).starts_with(&head), "{log}");
        }
        for one in self.slots.iter_mut().flatten() {
            one.told |= self.leaks.contains(&one.name());
        }
        let again =
            |start: usize| format!("kmemleak: object {start:#018x} (size 32) is referenced again");
        let mut expected: Vec<String> = self.revived.drain(..).map(again).collect();
        expected.sort_unstable();
        lines.sort_unstable();
        assert_eq!(lines, expected);
    }

    /// What a check now finds; how many of them have not been reported.
    fn judge(&mut self) -> usize {
        self.scanned = false;
        if self.stop == Stop::Unsupported {
            for one in self.slots.iter_mut().flatten() {
                one.seen |= !one.held && !one.gray;
            }
        }
        self.judge_those(|_| true)
    }

    /// As above, of what is not taken for referenced.
    fn judge_those(&mut self, mut sure: impl FnMut(&mut One) -> bool) -> usize {
        let before = std::mem::take(&mut self.leaks);
        let mut all: Vec<&mut One> = self.slots.iter_mut().flatten().collect();
        all.sort_by_key(|one| one.birth_us);
        (self.leaks, self.suppressed) = (Vec::new(), Vec::new());
        let mut new = 0;
        for one in all {
            if one.held || one.gray {
                if one.told && before.contains(&one.name()) {
                    self.revived.push(one.start);
                }
                one.told = false;
            } else if !sure(one) {
                // Perhaps the next time.
            } else if self.hidden[one.site] {
                self.suppressed.push(one.name());
            } else {
                new += usize::from(!one.told);
                self.leaks.push(one.name());
            }
        }
        new
    }

    fn compare(&self) {
        let there = |name: &Name| self.slots.iter().flatten().any(|one| one.name() == *name);
        let starts = |names: &[Name], but: &BTreeSet<Name>| -> Vec<usize> {
            let named = names
                .iter()
                .filter(|name| there(name) && !but.contains(name));
            named.map(|name| name.0).collect()
        };
        let detector = &self.lab.detector;
        let none = BTreeSet::new();
        assert_eq!(self.lab.listed(), starts(&self.leaks, &none));
        let mut found = Vec::new();
        detector
            .for_each_suppressed(&mut |object| found.push(object.start))
            .expect("asked from outside");
        let sure = starts(&self.suppressed, &none);
        if self.scanned {
            assert!(sure.iter().all(|start| found.contains(start)));
        } else {
            assert_eq!(found, sure);
        }
        found.clear();
        detector
            .for_each_new(&mut |object| found.push(object.start))
            .expect("asked from outside");
        assert_eq!(found, starts(&self.leaks, &self.marked));
    }
}

fn histories(stop: Stop, count: usize) {
    for seed in 0..count as u64 {
        let mut number = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut below = |limit: usize| {
            number ^= number << 13;
            number ^= number >> 7;
            number ^= number << 17;
            (number >> 11) as usize % limit
        };
        let mut history = History::new(stop);
        for _ in 0..80 {
            history.step(below(17), below(12));
        }
    }
}

#[test]
fn in_a_stopped_world() {
    histories(Stop::Works, many(60));
}

#[test]
fn beside_what_runs() {
    histories(Stop::Unsupported, many(20));
}
