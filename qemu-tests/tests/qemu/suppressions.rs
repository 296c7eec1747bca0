//! What suppressions hide, and from when on.

use qemu_tests::machines::Failure;

use crate::ask::{ask, expect, expect_fields, json};
use crate::leaks::plant;
use crate::shell::{expect_in, shell, shell_with};

crate::tests![
    suppress_hides,
    suppress_the_end_of_a_path,
    suppress_with_a_ceiling,
    suppress_at_boot
];

fn suppress_hides() -> Result<(), Failure> {
    let mut session = shell()?;
    expect(&mut session, "suppress", &["kmemleak: 0 suppressions"])?;
    plant(&mut session, "arc-cycle")?;
    plant(&mut session, "error-path")?;
    let hides =
        "kmemleak: from the next check on, \"kernel::shell::leak::arc_*\" hides what matches";
    expect(
        &mut session,
        "suppress kernel::shell::leak::arc_*",
        &[hides],
    )?;
    let scan = ask(&mut session, "scan")?;
    expect_in(&scan, "\nkmemleak: 2 objects (64 bytes) suppressed\n")?;
    expect_in(&scan, "\nkmemleak: 1 unreferenced object (200 bytes)\n")?;
    let listed = [
        "  kernel::shell::leak::arc_*  2 matched, 2 objects (64 bytes) hidden",
        "kmemleak: 1 suppression",
    ];
    expect(&mut session, "suppress", &listed)?;
    let values = json(&mut session, "suppress --json")?;
    let [one, end] = &values[..] else {
        return Err(format!("not two lines: {values:#?}").into());
    };
    let expected = serde_json::json!({
        "kind": "suppression", "pattern": "kernel::shell::leak::arc_*", "max": null, "matched": 2,
        "suppressed_objects": 2, "suppressed_bytes": 64,
    });
    expect_fields(one, &expected)?;
    expect_fields(
        end,
        &serde_json::json!({"kind": "suppressions", "count": 1}),
    )?;
    let status = ask(&mut session, "status")?;
    expect_in(&status, "\nsuppressions 1, hiding 2 objects (64 bytes)\n")?;
    let none = "kmemleak: no suppression \"arc\"";
    expect(&mut session, "unsuppress arc", &[none])?;
    let gone = "kmemleak: \"kernel::shell::leak::arc_*\" hides nothing any more";
    expect(
        &mut session,
        "unsuppress kernel::shell::leak::arc_*",
        &[gone],
    )?;
    expect(&mut session, "suppress", &["kmemleak: 0 suppressions"])?;
    let scan = ask(&mut session, "scan")?;
    expect_in(&scan, "\nkmemleak: 3 unreferenced objects (264 bytes)\n")
}

/// A function's name, alone or with modules before it; no part of either.
fn suppress_the_end_of_a_path() -> Result<(), Failure> {
    let mut session = shell()?;
    for kind in ["arc-cycle", "error-path", "pages"] {
        plant(&mut session, kind)?;
    }
    ask(&mut session, "scan")?;
    let hides = "kmemleak: \"arc_cycle\" hides 2 of the 4 leaks last reported (64 B) from the next check on";
    expect(&mut session, "suppress arc_cycle", &[hides])?;
    let none = "kmemleak: warning: \"arc_cicle\" matches none of the 4 leaks last reported; did you mean `kernel::shell::leak::arc_cycle`?";
    expect(&mut session, "suppress arc_cicle", &[none])?;
    ask(&mut session, "unsuppress arc_cicle")?;
    for pattern in ["leak::error_path", "eak::pages", "leak"] {
        ask(&mut session, &format!("suppress {pattern}"))?;
    }
    let scan = ask(&mut session, "scan")?;
    expect_in(&scan, "\nkmemleak: 3 objects (264 bytes) suppressed\n")?;
    expect_in(&scan, "\nkmemleak: 1 unreferenced object (16384 bytes)\n")?;
    let listed = [
        "  arc_cycle  2 matched, 2 objects (64 bytes) hidden",
        "  leak::error_path  1 matched, 1 object (200 bytes) hidden",
        "  eak::pages  0 matched, 0 objects (0 bytes) hidden",
        "  leak  0 matched, 0 objects (0 bytes) hidden",
        "kmemleak: 4 suppressions",
    ];
    expect(&mut session, "suppress", &listed)
}

fn suppress_with_a_ceiling() -> Result<(), Failure> {
    let mut session = shell()?;
    ask(&mut session, "suppress *forgotten_free:max=2")?;
    for (planted, hidden, seen) in [(1, 1, 0), (2, 2, 0), (3, 0, 3)] {
        plant(&mut session, "forgotten-free")?;
        let scan = ask(&mut session, "scan")?;
        expect_in(&scan, &format!("\nkmemleak: {seen} unreferenced objects ("))?;
        let over = if hidden == 0 {
            ", over its ceiling"
        } else {
            ""
        };
        let s = if hidden == 1 { "" } else { "s" };
        let listed = format!(
            "  *forgotten_free:max=2  {planted} matched{over}, {hidden} object{s} ({} bytes) hidden",
            64 * hidden
        );
        expect(
            &mut session,
            "suppress",
            &[&listed, "kmemleak: 1 suppression"],
        )?;
    }
    Ok(())
}

fn suppress_at_boot() -> Result<(), Failure> {
    let parameters = "kmemleak.suppress=*arc_cycle:max=4,error_path kmemleak.suppress=leak::pages";
    let mut session = shell_with(parameters)?;
    for kind in ["arc-cycle", "error-path", "pages"] {
        plant(&mut session, kind)?;
    }
    let hidden = [
        "kmemleak: 4 objects (16648 bytes, 16.3 KiB) suppressed",
        "kmemleak: 0 unreferenced objects (0 bytes)",
    ];
    expect(&mut session, "scan", &hidden)?;
    let listed = [
        "  *arc_cycle:max=4  2 matched, 2 objects (64 bytes) hidden",
        "  error_path  1 matched, 1 object (200 bytes) hidden",
        "  leak::pages  1 matched, 1 object (16384 bytes) hidden",
        "kmemleak: 3 suppressions",
    ];
    expect(&mut session, "suppress", &listed)?;
    plant(&mut session, "vmalloc")?;
    let scan = ask(&mut session, "scan")?;
    expect_in(&scan, "\nkmemleak: 1 unreferenced object (12288 bytes)\n")
}
