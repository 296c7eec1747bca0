//! What is read out of a serial log.

use std::io::Write;

use kmemleak_report::log::Log;
use kmemleak_report::records::{Address, Crc, Rank, Word};

const GROUP: &str = r#"{"schema":2,"kind":"group","objects":2,"bytes":128,"leaders":2,"leader_bytes":128,"owned_objects":0,"owned_bytes":0,"oldest_age_us":57,"newest_age_us":56,"crc":"460eb92f","skipped":1,"backtrace":["alloc::f","net::open+0x1/0x2 (net.rs:7)"],"later":[{}]}"#;
const OBJECT: &str = r#"{"schema":2,"kind":"object","address":"0xffff888000471400","size":64,"birth_us":5,"task":6,"comm":"le\"ak","cpu":0,"interrupt":false,"age_us":57,"rank":"leader","leader":null,"owned_objects":0,"owned_bytes":0,"suspect":false,"reported":false,"freed":false,"dump":"6b6b","crc":"460eb92f","skipped":0,"backtrace":["net::open"]}"#;
const SUMMARY: &str = r#"{"schema":2,"kind":"summary","how":"stopped","passes":1,"reason":null,"objects":1,"bytes":64,"leaders":null}"#;
const SITE: &str = r#"{"schema":2,"kind":"site","bytes":10,"objects":1,"growth_bytes":-5,"growth_objects":null,"history":[1,2],"trend":"steady","crc":"00000001","skipped":0,"backtrace":[]}"#;
const SITES: &str = r#"{"schema":2,"kind":"sites","shown":1,"total":1,"by":"bytes","complete":true,"no_call_stacks":null}"#;
const SNAPSHOT: &str = r#"{"schema":2,"kind":"stack","crc":"0123abcd","skipped":0,"backtrace":["f","g"]}
{"schema":2,"kind":"node","id":1,"address":"0x0000000000001000","size":64,"birth_us":5,"task":3,"comm":"x","crc":"0123abcd","leak":false}
{"schema":2,"kind":"node","id":2,"address":"0x0000000000002000","size":32,"birth_us":5,"task":3,"comm":"x","crc":null,"leak":true}
{"schema":2,"kind":"root","name":".bss X+0x8","slot":"0x0000000000000100","to":1,"offset":0}
{"schema":2,"kind":"root","name":"not a leak","slot":null,"to":1,"offset":0}
{"schema":2,"kind":"edges","from":1,"words":[[8,2,16]]}
{"schema":2,"kind":"snapshot","nodes":2,"bytes":96,"edges":1,"roots":2,"complete":true,"stopped":true,"at_us":9}"#;

fn log(text: &str) -> Log {
    Log::read(text.as_bytes()).expect("memory can be read")
}

#[test]
fn records_stand_among_anything() {
    let log = log(&format!(
        "boot\r\n\x1b[2K\r> {GROUP}\r\n[    1.5] {OBJECT}  \nfn main() {{}}\n> kmemleak scan --json\n\r\x1b[K{SUMMARY}"
    ));
    let report = log.report.expect("a report");
    let group = &report.groups[0];
    assert_eq!(
        (group.objects, group.leader_bytes, group.newest_age_us),
        (2, 128, 56)
    );
    assert_eq!(group.stack.crc, Some(Crc(0x460e_b92f)));
    assert_eq!(group.stack.shown(), ["net::open+0x1/0x2 (net.rs:7)"]);
    let object = &report.objects[0];
    assert_eq!(object.address, Address(0xffff_8880_0047_1400));
    assert_eq!(
        (object.comm.as_str(), object.rank),
        ("le\"ak", Some(Rank::Leader))
    );
    assert_eq!(
        (object.leader, object.dump.as_deref()),
        (None, Some("6b6b"))
    );
    assert_eq!((report.summary.bytes, report.summary.leaders), (64, None));
    assert_eq!((log.records, log.damaged, log.cut), (3, 0, 0));
}

#[test]
fn damage_is_counted_and_unknown_kinds_are_not() {
    let cut = &OBJECT[..200];
    let wrong = OBJECT.replace("\"size\":64", "\"size\":\"large\"");
    let other = SUMMARY.replace("\"schema\":2", "\"schema\":3");
    let torn = "{\"schema\":";
    let unknown = r#"{"schema":2,"kind":"weather","rain":true}"#;
    let log = log(&format!(
        "{cut}\n{wrong}\n{other}\n{torn}\n{unknown}\n{SUMMARY} and more\n{SUMMARY}{SUMMARY}\n"
    ));
    assert_eq!((log.damaged, log.other_schema, log.records), (5, 1, 1));
    assert_eq!(log.report, None);
}

#[test]
fn the_last_whole_answer_counts() {
    let later = SUMMARY.replace("64", "65");
    let text = format!(
        "{GROUP}\n{OBJECT}\n{SUMMARY}\n{GROUP}\n{OBJECT}\n{GROUP}\n{GROUP}\n{later}\n{OBJECT}\n{SITE}\n{SITES}\n{OBJECT}"
    );
    let log = log(&text);
    let report = log.report.expect("a report");
    assert_eq!(
        (
            report.groups.len(),
            report.objects.len(),
            report.summary.bytes
        ),
        (2, 0, 65)
    );
    let sites = log.sites.expect("call sites");
    let site = &sites.sites[0];
    assert_eq!((site.growth_bytes, site.growth_objects), (Some(-5), None));
    assert_eq!(
        (site.history.as_slice(), site.trend.as_deref()),
        ([1, 2].as_slice(), Some("steady"))
    );
    assert!(sites.end.complete);
    assert_eq!(log.cut, 3);
}

#[test]
fn an_error_ends_an_answer() {
    let error = r#"{"schema":2,"kind":"error","error":"no check so far"}"#;
    let log = log(&format!("{GROUP}\n{error}\n{SUMMARY}\n"));
    assert_eq!(log.errors, ["no check so far"]);
    assert!(log.report.expect("a report").groups.is_empty());
}

#[test]
fn a_snapshot_is_read_in_pieces_of_any_size() {
    for size in 1..=97 {
        let mut log = Log::default();
        for piece in SNAPSHOT.as_bytes().chunks(size) {
            log.write_all(piece).expect("memory takes all");
        }
        log.finish();
        let snapshot = log.snapshot.expect("a snapshot");
        assert_eq!(snapshot.stacks[0].shown(), ["f", "g"]);
        assert_eq!(
            (snapshot.nodes[0].crc, snapshot.nodes[1].crc),
            (Some(Crc(0x0123_abcd)), None)
        );
        assert!(snapshot.nodes[1].leak);
        assert_eq!(snapshot.roots[0].slot, Some(Address(0x100)));
        assert_eq!(
            (snapshot.roots[1].slot, &*snapshot.roots[1].name),
            (None, "not a leak")
        );
        assert_eq!(
            snapshot.edges[0].words,
            [Word {
                offset: 8,
                to: 2,
                into: 16
            }]
        );
        assert_eq!((snapshot.end.edges, snapshot.end.at_us), (1, 9));
    }
}
