//! Logs and snapshots that are made up, in the format of `kmemleak/FORMATS.md`.

use std::collections::BTreeMap;
use std::fmt::Write;

use kmemleak_report::graph::Graph;
use kmemleak_report::log::{Log, Snapshot};

/// Numbers that look random, the same in each run.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) % bound
    }
}

/// A snapshot that is to be written.
#[derive(Default)]
pub struct Heap {
    /// Bytes, number of the call stack, and whether it is a leak.
    pub nodes: Vec<(u64, u32, bool)>,
    /// Name, and number of the node, which counts from 1.
    pub roots: Vec<(String, u32)>,
    /// From, offset, to, into.
    pub words: Vec<(u32, u64, u32, u64)>,
    /// Call stacks by number, innermost frame first.
    pub stacks: BTreeMap<u32, Vec<String>>,
}

impl Heap {
    pub fn log(&self) -> String {
        let mut out = String::from("> kmemleak snapshot\r\n");
        let quoted = |text: &str| serde_json::to_string(text).expect("text");
        for (number, frames) in &self.stacks {
            let frames: Vec<_> = frames.iter().map(|frame| quoted(frame)).collect();
            let frames = frames.join(",");
            writeln!(out, "{{\"schema\":2,\"kind\":\"stack\",\"crc\":\"{number:08x}\",\"skipped\":0,\"backtrace\":[{frames}]}}").expect("memory");
        }
        for (place, (size, stack, leak)) in self.nodes.iter().enumerate() {
            let address = 0xffff_8880_0000_0000 + place * 0x1000;
            let crc = match self.stacks.contains_key(stack) {
                true => format!("\"{stack:08x}\""),
                false => "null".into(),
            };
            writeln!(out, "{{\"schema\":2,\"kind\":\"node\",\"id\":{},\"address\":\"{address:#018x}\",\"size\":{size},\"birth_us\":{place},\"task\":3,\"comm\":\"init\",\"crc\":{crc},\"leak\":{leak}}}", place + 1).expect("memory");
        }
        for (place, (name, to)) in self.roots.iter().enumerate() {
            let slot = match name.as_str() {
                "not a leak" => "null".into(),
                _ => format!("\"{:#018x}\"", 0xffff_ffff_8010_0000_u64 + 8 * place as u64),
            };
            writeln!(out, "{{\"schema\":2,\"kind\":\"root\",\"name\":{},\"slot\":{slot},\"to\":{to},\"offset\":0}}", quoted(name)).expect("memory");
        }
        let mut by_node: BTreeMap<u32, Vec<_>> = BTreeMap::new();
        for (from, offset, to, into) in &self.words {
            by_node
                .entry(*from)
                .or_default()
                .push(format!("[{offset},{to},{into}]"));
        }
        for (from, words) in &by_node {
            for some in words.chunks(32) {
                writeln!(
                    out,
                    "{{\"schema\":2,\"kind\":\"edges\",\"from\":{from},\"words\":[{}]}}",
                    some.join(",")
                )
                .expect("memory");
            }
        }
        let bytes: u64 = self.nodes.iter().map(|node| node.0).sum();
        writeln!(out, "{{\"schema\":2,\"kind\":\"snapshot\",\"nodes\":{},\"bytes\":{bytes},\"edges\":{},\"roots\":{},\"complete\":true,\"stopped\":true,\"at_us\":7000}}", self.nodes.len(), self.words.len(), self.roots.len()).expect("memory");
        out
    }

    pub fn snapshot(&self) -> Snapshot {
        let log = Log::read(self.log().as_bytes()).expect("memory can be read");
        assert_eq!(log.damaged, 0);
        log.snapshot.expect("a snapshot")
    }

    pub fn graph(&self) -> Graph {
        Graph::new(self.snapshot()).expect("a graph")
    }

    /// Some nodes, roots in several groups, and words between them.
    pub fn random(random: &mut Random, most: u64) -> Self {
        let nodes = 1 + random.below(most);
        let names = [
            ".bss kernel::A+0x8",
            ".bss kernel::A+0x10",
            ".bss kernel::B",
            "cpu 1 kernel::C+0x0",
            "task 3 stack+0x8",
            "not a leak",
        ];
        let node = |random: &mut Random| 1 + random.below(nodes) as u32;
        Self {
            nodes: (0..nodes)
                .map(|_| {
                    (
                        1 + random.below(100),
                        random.below(4) as u32,
                        random.below(2) == 0,
                    )
                })
                .collect(),
            roots: (0..random.below(6))
                .map(|_| (names[random.below(6) as usize].to_owned(), node(random)))
                .collect(),
            words: (0..random.below(2 * nodes + 1))
                .map(|at| (node(random), 8 * at, node(random), 8 * random.below(2)))
                .collect(),
            stacks: (1..4)
                .map(|number| {
                    (
                        number,
                        vec![
                            format!("site{number}+0x1/0x2 (a.rs:{number})"),
                            "main".into(),
                        ],
                    )
                })
                .collect(),
        }
    }
}

/// Functions of a made kernel, with the bytes of what each allocates.
const SITES: [(&str, &str, u64); 10] = [
    (
        "kernel::net::socket::Socket::open",
        "kernel/src/net/socket.rs:88",
        512,
    ),
    (
        "kernel::net::buffer::Packet::with_capacity",
        "kernel/src/net/buffer.rs:41",
        2048,
    ),
    (
        "kernel::fs::inode::Inode::read",
        "kernel/src/fs/inode.rs:120",
        256,
    ),
    (
        "kernel::fs::dentry::Cache::insert",
        "kernel/src/fs/dentry.rs:77",
        96,
    ),
    (
        "alloc::collections::btree::map::BTreeMap<u64, [u8; 4]>::insert",
        "kernel/src/fs/dentry.rs:79",
        192,
    ),
    (
        "kernel::task::Task::new",
        "kernel/src/task/mod.rs:203",
        1024,
    ),
    (
        "kernel::task::Stack::map",
        "kernel/src/task/stack.rs:31",
        16384,
    ),
    (
        "kernel::driver::virtio::Queue::new",
        "kernel/src/driver/virtio.rs:64",
        4096,
    ),
    ("<img src=x onerror=alert(1)>", "</script>.rs:1", 64),
    (
        "kernel::shell::history::push",
        "kernel/src/shell/history.rs:19",
        48,
    ),
];

/// A heap as a kernel has it, of about so many objects: a large cache, lists, tasks; some objects are lost.
pub fn kernel(objects: u32) -> Heap {
    let mut heap = Heap::default();
    for (number, (function, place, _)) in (1..).zip(SITES) {
        let frames = [
            format!(
                "{function}+0x1c/0x67 ({place}), inlined <alloc::boxed::Box<T>>::new (library/alloc/src/boxed.rs:9)"
            ),
            "kernel::syscall::dispatch+0x90/0x210 (kernel/src/syscall.rs:55)".into(),
            "kernel::task::start+0x13e/0x168 (kernel/src/task/mod.rs:287)".into(),
        ];
        heap.stacks.insert(number, frames.into());
    }
    let mut random = Random(99);
    let mut add = |site: u32, leak: bool| {
        heap.nodes.push((SITES[site as usize - 1].2, site, leak));
        heap.nodes.len() as u32
    };
    let (mut roots, mut words) = (Vec::new(), Vec::new());
    // The cache of names: a table, and in it chains of entries with an inode each.
    let cache = add(5, false);
    roots.push((".bss kernel::fs::dentry::CACHE+0x10".to_owned(), cache));
    for entry in 0..objects / 4 {
        let (name, inode) = (add(4, false), add(3, false));
        words.extend([(cache, 8 * u64::from(entry), name, 0), (name, 0, inode, 0)]);
    }
    // Sockets in a list that a variable begins, with packets; the tasks, which the CPUs know as well.
    let mut before = add(1, false);
    roots.push((".bss kernel::net::socket::ALL+0x8".to_owned(), before));
    for _ in 0..objects / 10 {
        let (socket, packet) = (add(1, false), add(2, false));
        words.extend([
            (before, 0, socket, 0),
            (socket, 8, before, 0),
            (socket, 16, packet, 8 * random.below(2)),
        ]);
        before = socket;
    }
    for task in 1..=objects / 50 {
        let (of, stack) = (add(6, false), add(7, false));
        roots.push((
            format!("cpu {} kernel::task::RUN_QUEUE+{:#x}", task % 4, 8 * task),
            of,
        ));
        words.push((of, 24, stack, 0));
        roots.push((
            format!("task {task} \"worker\" stack+0x48"),
            before - random.below(4) as u32,
        ));
    }
    let queue = add(8, false);
    roots.push(("not a leak".into(), queue));
    // Lost: lists, cycles, and single ones of three call sites.
    for lost in 0..(objects / 20).max(3) {
        let (leader, owned) = (add(1 + lost % 3, true), add(9, true));
        words.extend([
            (leader, 0, owned, 0),
            (owned, 0, leader, 0),
            (owned, 8, cache, 0),
        ]);
    }
    heap.roots = roots;
    heap.words = words;
    heap
}

impl Heap {
    /// A whole log: a report of what is lost, the call sites with their growth, and the snapshot.
    pub fn whole_log(&self) -> String {
        let quoted = |text: &str| serde_json::to_string(text).expect("text");
        let stack = |number: &u32| {
            let frames = self.stacks.get(number).into_iter().flatten();
            let frames: Vec<_> = frames.map(|frame| quoted(frame)).collect();
            format!(
                "\"crc\":\"{number:08x}\",\"skipped\":0,\"backtrace\":[{}]",
                frames.join(",")
            )
        };
        let mut out = String::from("kernel 0.1, 4 cpus\r\n> kmemleak scan --json\r\n");
        let (mut all, mut sums) = ((0, 0), BTreeMap::new());
        let mut objects = String::new();
        for (place, (size, number, leak)) in self.nodes.iter().enumerate().filter(|node| node.1.2) {
            assert!(leak);
            let sum: &mut (u64, u64) = sums.entry(*number).or_default();
            *sum = (sum.0 + 1, sum.1 + size);
            all = (all.0 + 1, all.1 + size);
            let rank = if *number == 9 { "owned" } else { "leader" };
            let at = |place: usize| {
                format!(
                    "\"{:#018x}\"",
                    0xffff_8880_0000_0000_u64 + place as u64 * 0x1000
                )
            };
            let leader = if rank == "owned" {
                at(place - 1)
            } else {
                "null".into()
            };
            let owned = if rank == "owned" { 0 } else { 64 };
            writeln!(objects, "{{\"schema\":2,\"kind\":\"object\",\"address\":{},\"size\":{size},\"birth_us\":{place},\"task\":6,\"comm\":\"leak\",\"cpu\":1,\"interrupt\":false,\"age_us\":{},\"rank\":\"{rank}\",\"leader\":{leader},\"owned_objects\":{},\"owned_bytes\":{owned},\"suspect\":false,\"reported\":false,\"freed\":false,\"dump\":\"6b6b6b6b48656c6c6f2c20776f726c6421002e2e\",{}}}", at(place), 9_000_000 - place, u64::from(owned > 0), stack(number)).expect("memory");
        }
        for (number, (objects, bytes)) in &sums {
            let (leaders, owned) = if *number == 9 {
                (0, 0)
            } else {
                (*objects, *objects)
            };
            writeln!(out, "{{\"schema\":2,\"kind\":\"group\",\"objects\":{objects},\"bytes\":{bytes},\"leaders\":{leaders},\"leader_bytes\":0,\"owned_objects\":{owned},\"owned_bytes\":{},\"oldest_age_us\":9000000,\"newest_age_us\":570,{}}}", owned * 64, stack(number)).expect("memory");
        }
        out.push_str(&objects);
        writeln!(out, "{{\"schema\":2,\"kind\":\"summary\",\"how\":\"stopped\",\"passes\":1,\"reason\":null,\"settled\":true,\"objects\":{},\"bytes\":{},\"suspects\":0,\"suspect_bytes\":0,\"leaders\":{},\"leader_bytes\":0,\"groups\":{},\"tracked\":{},\"stacks\":true,\"took_us\":51545,\"stopped_us\":49163,\"cpus\":4}}", all.0, all.1, all.0 / 2, sums.len(), self.nodes.len()).expect("memory");
        let mut sites: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for (size, number, _) in &self.nodes {
            let site = sites.entry(*number).or_default();
            *site = (site.0 + 1, site.1 + size);
        }
        for (number, (objects, bytes)) in &sites {
            let history: Vec<_> = (0..5)
                .map(|mark| (bytes * (10 + u64::from(*number) % 3 * mark) / 20).to_string())
                .collect();
            let trend = if number % 3 == 1 {
                "\"steady\""
            } else {
                "null"
            };
            writeln!(out, "{{\"schema\":2,\"kind\":\"site\",\"bytes\":{bytes},\"objects\":{objects},\"growth_bytes\":{},\"growth_objects\":1,\"history\":[{}],\"trend\":{trend},{}}}", bytes / 3, history.join(","), stack(number)).expect("memory");
        }
        writeln!(out, "{{\"schema\":2,\"kind\":\"sites\",\"shown\":{0},\"total\":{0},\"by\":\"bytes\",\"complete\":true,\"no_call_stacks\":null}}", sites.len()).expect("memory");
        out + &self.log()
    }
}
