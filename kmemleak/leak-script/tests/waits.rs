//! Random scripts with tasks that wait, on one to four CPUs, against an oracle that knows only the rules of `FORMAT.md`: many questions of few
//! objects, beside the graphs of `graphs`, which have all else as well.

use std::collections::BTreeSet;
use std::fmt::Write;

use leak_script::host::{self, Outcome};

/// A generator of numbers (xorshift64*, Marsaglia).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
    }

    fn is_one_of(&mut self, sides: usize) -> bool {
        self.roll(sides) == 0
    }
}

/// Words of an object, of the stack, and of the section that is used.
const WORDS: usize = 4;

/// What a task waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaits {
    Object(usize),
    Place,
    End(Task),
}

/// A task: the parked one, or an object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    Parked,
    Object(usize),
}

impl Task {
    fn name(self) -> String {
        match self {
            Self::Parked => "parked".into(),
            Self::Object(number) => format!("O{number}"),
        }
    }
}

/// Where a word is.
#[derive(Clone, Copy)]
enum Slot {
    Bss(usize),
    Stack(usize),
    Word(usize, usize),
}

#[derive(Clone)]
struct Object {
    size: usize,
    min_count: usize,
    words: [Option<usize>; WORDS],
    is_list: bool,
}

/// A world, as the rules know it.
struct World {
    objects: Vec<Object>,
    bss: [Option<usize>; WORDS],
    stack: [Option<usize>; WORDS],
    waits: Vec<(Task, Awaits)>,
}

impl World {
    fn wait_of(&self, task: Task) -> Option<Awaits> {
        let found = self.waits.iter().find(|(one, _)| *one == task);
        found.map(|(_, awaits)| *awaits)
    }

    /// The objects that are alive while these tasks are withheld.
    fn alive(&self, withheld: &BTreeSet<Task>) -> BTreeSet<usize> {
        let mut alive: BTreeSet<usize> = BTreeSet::new();
        loop {
            let mut counts = vec![0; self.objects.len()];
            let mut count = |words: &[Option<usize>], not: Option<usize>| {
                let words = words.iter().flatten();
                words
                    .filter(|&&to| Some(to) != not)
                    .for_each(|&to| counts[to] += 1);
            };
            count(&self.bss, None);
            if !withheld.contains(&Task::Parked) {
                count(&self.stack, None);
            }
            for &number in &alive {
                let object = &self.objects[number];
                if !object.is_list && !withheld.contains(&Task::Object(number)) {
                    count(&object.words, Some(number));
                }
            }
            let goes_on = |number: usize| {
                let task = Task::Object(number);
                self.wait_of(task).is_some() && !withheld.contains(&task)
            };
            let enough = |number: &usize| {
                counts[*number] >= self.objects[*number].min_count || goes_on(*number)
            };
            let next: BTreeSet<usize> = (0..self.objects.len()).filter(enough).collect();
            if next == alive {
                return alive;
            }
            alive = next;
        }
    }

    /// The tasks that are lost, and what is alive without them.
    fn lost(&self) -> (BTreeSet<Task>, BTreeSet<usize>) {
        let mut withheld: BTreeSet<Task> = self.waits.iter().map(|(task, _)| *task).collect();
        loop {
            let alive = self.alive(&withheld);
            let goes_on = |task: &Task| match self.wait_of(*task) {
                None | Some(Awaits::Place) => true,
                Some(Awaits::Object(object)) => alive.contains(&object),
                Some(Awaits::End(other)) => !withheld.contains(&other),
            };
            let left: BTreeSet<Task> = withheld
                .iter()
                .copied()
                .filter(|task| !goes_on(task))
                .collect();
            if left == withheld {
                return (withheld, alive);
            }
            withheld = left;
        }
    }

    /// What a lost task reaches, beyond its own object.
    fn reached(
        &self,
        task: Task,
        lost: &BTreeSet<Task>,
        alive: &BTreeSet<usize>,
    ) -> BTreeSet<usize> {
        let words = |number: usize| match &self.objects[number] {
            object if object.is_list => Vec::new(),
            object => object.words.iter().flatten().copied().collect::<Vec<_>>(),
        };
        let mut left = match task {
            Task::Parked => self.stack.iter().flatten().copied().collect(),
            Task::Object(number) => words(number),
        };
        let mut reached = BTreeSet::new();
        while let Some(number) = left.pop() {
            let crossed = alive.contains(&number) || lost.contains(&Task::Object(number));
            if !crossed && reached.insert(number) {
                left.extend(words(number));
            }
        }
        reached
    }

    /// What the detector must say.
    fn expect(&self, script: &mut String) {
        let (lost, alive) = self.lost();
        let names: Vec<String> = lost.iter().map(|task| task.name()).collect();
        let names = match names.is_empty() {
            true => "none".into(),
            false => names.join(" "),
        };
        writeln!(script, "expect lost {names}").expect("a string");
        let reached: Vec<(Task, BTreeSet<usize>)> = lost
            .iter()
            .map(|&task| (task, self.reached(task, &lost, &alive)))
            .collect();
        for (task, own) in &reached {
            let by_others = |number: &usize| {
                reached
                    .iter()
                    .filter(|(_, set)| set.contains(number))
                    .count()
                    > 1
            };
            let mut only: Vec<usize> = own.iter().copied().filter(|one| !by_others(one)).collect();
            if let Task::Object(number) = task {
                only.push(*number);
            }
            let bytes: usize = only.iter().map(|&number| self.objects[number].size).sum();
            let (name, blocks) = (task.name(), only.len());
            writeln!(script, "expect retains {name} {bytes} {blocks}").expect("a string");
        }
    }
}

fn store(world: &mut World, script: &mut String, dice: &mut Dice) {
    let objects = world.objects.len();
    let slot = match dice.roll(5) {
        0 => Slot::Bss(dice.roll(WORDS)),
        1 => Slot::Stack(dice.roll(WORDS)),
        _ => Slot::Word(dice.roll(objects), dice.roll(WORDS)),
    };
    let target = (!dice.is_one_of(4)).then(|| dice.roll(objects));
    let (place, word) = match slot {
        Slot::Bss(word) => (format!("bss {word}"), &mut world.bss[word]),
        Slot::Stack(word) => (format!("stack {word}"), &mut world.stack[word]),
        Slot::Word(object, word) => (
            format!("O{object}+{}", word * 8),
            &mut world.objects[object].words[word],
        ),
    };
    *word = target;
    // Anywhere in the object is as good as its start.
    match target {
        Some(object) if dice.is_one_of(3) => writeln!(script, "{place} = O{object}+17"),
        Some(object) => writeln!(script, "{place} = O{object}"),
        None => writeln!(script, "{place} = 0"),
    }
    .expect("a string");
}

fn any_task(world: &World, dice: &mut Dice) -> Task {
    match dice.is_one_of(4) {
        true => Task::Parked,
        false => Task::Object(dice.roll(world.objects.len())),
    }
}

fn wait(world: &mut World, script: &mut String, dice: &mut Dice) {
    let task = any_task(world, dice);
    let name = match task {
        Task::Parked => String::new(),
        Task::Object(_) => task.name() + " ",
    };
    world.waits.retain(|(one, _)| *one != task);
    let (awaits, on) = match dice.roll(8) {
        0 => {
            writeln!(script, "woken {name}").expect("a string");
            return;
        }
        1 => (Awaits::Place, "data 3".into()),
        2 | 3 => {
            let other = any_task(world, dice);
            (Awaits::End(other), format!("end {}", other.name()))
        }
        _ => {
            let object = dice.roll(world.objects.len());
            (Awaits::Object(object), format!("O{object}+8"))
        }
    };
    world.waits.push((task, awaits));
    writeln!(script, "blocked {name}on {on}").expect("a string");
}

/// A random script.
fn script(seed: u64) -> String {
    let mut dice = Dice(seed);
    let mut script = format!("# seed {seed:#x}\n");
    let mut world = World {
        objects: Vec::new(),
        bss: [None; WORDS],
        stack: [None; WORDS],
        waits: Vec::new(),
    };
    for number in 0..2 + dice.roll(9) {
        let (size, min_count) = (32 + 8 * dice.roll(20), [1, 1, 1, 1, 2, 0][dice.roll(6)]);
        writeln!(script, "alloc O{number} {size} min_count={min_count}").expect("a string");
        world.objects.push(Object {
            size,
            min_count,
            words: [None; WORDS],
            is_list: false,
        });
    }
    for _ in 0..6 {
        for _ in 0..1 + dice.roll(8) {
            store(&mut world, &mut script, &mut dice);
        }
        for _ in 0..dice.roll(4) {
            wait(&mut world, &mut script, &mut dice);
        }
        if dice.is_one_of(12) {
            let list = dice.roll(world.objects.len());
            world.objects[list].is_list = true;
            writeln!(script, "task_list O{list}").expect("a string");
        }
        world.expect(&mut script);
    }
    script
}

#[test]
fn random_scripts_of_tasks_that_wait_hold() {
    let (mut lost, mut retaining) = (0, 0);
    for seed in 1..=60_u64 {
        let text = script(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        lost += text
            .lines()
            .filter(|line| line.starts_with("expect lost O"))
            .count();
        retaining += text
            .lines()
            .filter(|line| line.starts_with("expect retains "))
            .count();
        match host::run(&text, 1 + (seed % 4) as u32) {
            Outcome::Passed => {}
            other => panic!("{other:?} of\n{text}"),
        }
    }
    assert!(
        lost > 50 && retaining > 100,
        "{lost} lost, {retaining} retain"
    );
}
