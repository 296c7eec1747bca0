//! Pictures of a run: the guest is asked for what they need, and the user sees nothing of that.

mod run;

use std::fs;
use std::path::Path;

use run::{assert_ends, boot, run, stdout};
use serde_json::Value;

#[test]
fn a_run_draws_its_pictures() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pictures");
    fs::create_dir_all(&folder).expect("a folder for a test");
    let path = |name: &str| folder.join(name).display().to_string();
    let files = ["k.html", "k.heapsnapshot", "k.folded", "k.pb.gz"].map(path);
    let [page, heap, folded, profile] = &files;
    let options = [
        "--report",
        page,
        "--heap-snapshot",
        heap,
        "--folded",
        folded,
        "--pprof",
        profile,
    ];
    let commands = "kmemleak mark; leak forgotten-free; leak unlinked-node; kmemleak scan";
    let output = run(boot(&[&options[..], &["-c", commands]].concat()), "");
    assert_ends(&output, 0, "");
    assert!(!stdout(&output).contains("schema"), "{}", stdout(&output));
    let read = |path: &str| fs::read_to_string(path).expect("text");

    let page = read(page);
    let data = page.split_once("id=\"data\">").expect("data").1;
    let data = data.split_once("</script>").expect("its end").0;
    let data: Value = serde_json::from_str(data).expect("JSON");
    assert_eq!(data["summary"]["objects"], 2);
    assert_eq!(
        data["verdict"]["text"],
        "2 leaks (112 B), from 2 call stacks."
    );
    let figure = |name: &str| data["heap"][name].as_u64().expect("a number");
    let lost = |all: &str, live: &str| figure(all) - figure(live);
    assert_eq!(lost("objects", "live_objects"), 2);
    assert_eq!(lost("bytes", "live_bytes"), 112);
    assert_eq!(data["notes"], Value::Array(Vec::new()));

    let heap: Value = serde_json::from_str(&read(heap)).expect("JSON");
    let texts = heap["strings"].as_array().expect("texts");
    let names = [
        "kernel::shell::leak::LIST",
        "kernel::shell::leak::push",
        "(leaked)",
    ];
    for name in names {
        assert!(texts.iter().any(|text| text == name), "no {name}");
    }
    let folded = read(folded);
    let is_lost = |line: &str| {
        line.starts_with("lost;kernel::task::start;")
            && line.ends_with(";kernel::shell::leak::forgotten_free 64")
    };
    assert!(folded.lines().any(is_lost), "{folded}");
    assert_eq!(fs::read(profile).expect("a file")[..2], [0x1f, 0x8b]);
}
