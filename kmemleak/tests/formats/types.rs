//! The types of blocks, wherever a report names blocks.

use crate::lab::Lab;

/// A frame of `user` into which a constructor was inlined.
fn frame(constructor: &str, user: &str) -> String {
    format!("{constructor}\n{user} (kernel/src/{user}.rs:7)")
}

fn arc_of(value: &str, user: &str) -> String {
    frame(
        &format!(
            "alloc::boxed::Box<T>::new<alloc::sync::ArcInner<{value}>>\nalloc::sync::Arc<T>::new<{value}>"
        ),
        user,
    )
}

fn box_of(value: &str, user: &str) -> String {
    frame(&format!("alloc::boxed::Box<T>::new<{value}>"), user)
}

fn block(lab: &Lab, frame: &str, size: usize) -> usize {
    lab.machine.call_from(&[frame, "main"]);
    lab.block(size)
}

/// Two Arcs that own each other, of which the first also owns a box; a list of two in a root; a block without a type.
fn lab() -> (Lab, [usize; 6]) {
    let lab = Lab::new();
    let partner = arc_of("kernel::Partner", "pair");
    let (one, other) = (block(&lab, &partner, 32), block(&lab, &partner, 32));
    let owned = block(&lab, &box_of("[u8; 24]", "pair"), 24);
    let node = box_of("kernel::list::Node<kernel::net::Packet>", "push");
    let (first, second) = (block(&lab, &node, 48), block(&lab, &node, 48));
    let pages = block(&lab, "frames", 64);
    lab.machine.write(one + 16, other);
    lab.machine.write(one + 24, owned);
    lab.machine.write(other + 16, one);
    lab.hold(3, first);
    lab.machine.write(first, second);
    lab.machine.write(second + 8, pages);
    lab.machine.advance_us(2000);
    (lab, [one, other, owned, first, second, pages])
}

#[test]
fn a_table_has_a_column_of_types() {
    let (lab, _) = lab();
    let table = "    \
    #    count     bytes     owned  oldest type         allocated by                 at
   #1        1      32 B      56 B    2 ms Arc<Partner> pair                         kernel/src/pair.rs:7
kmemleak: 1 leader (32 bytes) from 1 call stack; it owns 2 objects (56 bytes) from 1 more call stack
kmemleak: 3 unreferenced objects (88 bytes)
next: kmemleak show #1
";
    assert_eq!(lab.say("scan"), table);
}

#[test]
fn a_cycle_is_shown_as_one() {
    let (lab, [one, other, owned, ..]) = lab();
    lab.say("scan");
    let shown = lab.say("show #1");
    let lines = [
        "  owns 2 objects (56 bytes)\n  in a cycle: Arc<Partner> -> Arc<Partner> -> (back)\n",
        "  type Arc<kernel::Partner>\n  backtrace (crc ",
        "    # address                bytes     owned     age type         task\n",
        " [u8; 24]     ",
    ];
    for line in lines {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
    let json = lab.say("report --json");
    let cycle = format!(
        ",\"cycle\":[{{\"address\":\"{one:#018x}\",\"type\":\"Arc<kernel::Partner>\"}},{{\"address\":\"{other:#018x}\",\"type\":\"Arc<kernel::Partner>\"}}]"
    );
    assert!(json.contains(&cycle), "{json}");
    // Without the pointer back there is none.
    lab.machine.write(other + 16, owned);
    lab.say("scan");
    let shown = lab.say("scan --full");
    assert!(!shown.contains("in a cycle"), "{shown}");
    assert!(lab.say("scan --json").contains(",\"cycle\":null"));
}

#[test]
fn a_pointer_to_itself_is_no_cycle() {
    let lab = Lab::new();
    let alone = block(&lab, "alone", 64);
    let owned = block(&lab, "owned", 64);
    lab.machine.write(alone, alone);
    lab.machine.write(alone + 8, owned);
    lab.machine.write(owned, owned);
    let shown = lab.say("scan --full");
    assert!(shown.contains("  owns 1 object (64 bytes)\n"), "{shown}");
    assert!(!shown.contains("in a cycle"), "{shown}");
}

/// The shortest way back is shown, and of a long one the beginning; one that was freed in part is only named.
#[test]
fn long_cycles_are_counted() {
    let lab = Lab::new();
    let ring: Vec<_> = (0..12)
        .map(|number| block(&lab, &box_of(&format!("kernel::T{number}"), "ring"), 64))
        .collect();
    for (number, &start) in ring.iter().enumerate() {
        lab.machine
            .write(start + 8, ring[(number + 1) % ring.len()] + 1);
    }
    let line = |lab: &Lab| {
        let shown = lab.say("report --full");
        let line = shown.lines().find(|line| line.contains("in a cycle"));
        line.unwrap_or_default().to_owned()
    };
    lab.say("scan");
    assert_eq!(
        line(&lab),
        "  in a cycle: T0 -> T1 -> T2 -> T3 -> T4 -> T5 -> T6 -> T7 -> ... 4 more -> (back)"
    );
    lab.machine.write(ring[2] + 16, ring[0]);
    assert_eq!(line(&lab), "  in a cycle: T0 -> T1 -> T2 -> (back)");
    lab.free(ring[1]);
    assert_eq!(line(&lab), "  in a cycle");
    assert!(lab.say("report --json").contains(",\"cycle\":[]"));
}

#[test]
fn what_is_alive_of_each_type() {
    let (lab, _) = lab();
    let types = "    \
    #    count     bytes  sites type
   #1        2      96 B      1 kernel::list::Node<kernel::net::Packet>
   #2        2      64 B      1 Arc<kernel::Partner>
   #3        1      64 B      1 (no type)
   #4        1      24 B      1 [u8; 24]
kmemleak: 3 types, by bytes; 5 of 6 objects have one
";
    assert_eq!(lab.say("types"), types);
    lab.say("mark");
    block(&lab, &arc_of("kernel::Partner", "elsewhere"), 32);
    let types = "    \
    #    count     bytes     growth  objects  sites type
   #5        3      96 B      +32 B       +1      2 Arc<kernel::Partner>
kmemleak: 3 types, by growth; 6 of 7 objects have one
";
    assert_eq!(lab.say("types 1"), types);
    assert_eq!(
        lab.say("types 1 --by count --json"),
        "\
{\"schema\":2,\"kind\":\"type\",\"handle\":2,\"type\":\"Arc<kernel::Partner>\",\"sites\":2,\"bytes\":96,\"objects\":3,\"growth_bytes\":32,\"growth_objects\":1}
{\"schema\":2,\"kind\":\"types\",\"shown\":1,\"total\":3,\"by\":\"count\",\"objects\":7,\"typed_objects\":6}
"
    );
}

#[test]
fn a_way_is_a_line_of_types() {
    let (lab, [.., first, second, pages]) = lab();
    let way = lab.say(&format!("path {pages:x}"));
    let line = format!("kmemleak: bss 3 -> Node<Packet> -> Node<Packet> -> {pages:#018x}\n");
    assert!(way.contains(&line), "{way}");
    let step = format!(
        "object {first:#018x} (size 48)+0x0, Node<Packet> from push (kernel/src/push.rs:7)\n"
    );
    assert!(way.contains(&step), "{way}");
    let held = lab.say(&format!("holders {second:x}"));
    assert!(held.contains(&step), "{held}");
    // Where no type is known, the line would say nothing new.
    let plain = Lab::new();
    let held = plain.block(64);
    plain.hold(0, held);
    let way = plain.say(&format!("path {held:x}"));
    assert_eq!(way.matches("kmemleak: ").count(), 1, "{way}");
}
