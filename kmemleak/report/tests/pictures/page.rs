//! The page, loaded by Chromium: no error comes, and its numbers are those of the log.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use kmemleak_report::graph::Graph;
use kmemleak_report::log::Log;
use kmemleak_report::page;

use crate::made::{Heap, kernel};

fn page(log: &str) -> String {
    let log = Log::read(log.as_bytes()).expect("memory can be read");
    let mut out = Vec::new();
    page::write(&log, "made <up> & \"quoted\"", &mut out).expect("memory takes all");
    String::from_utf8(out).expect("text")
}

#[test]
fn text_of_the_log_is_no_markup() {
    let page = page(&kernel(100).whole_log());
    assert!(page.contains("<title>made &lt;up&gt; &amp; &quot;quoted&quot; - kmemleak</title>"));
    assert!(!page.contains("<img"), "a name of a function is markup");
    // Only the two scripts of the page end.
    assert_eq!(page.matches("</script>").count(), 2);
    // The browser may load nothing: an error of that would be on the console.
    assert!(page.contains("content=\"default-src 'none';"));
}

#[test]
fn the_page_of_half_a_million_objects_is_small() {
    let page = page(&kernel(500_000).whole_log());
    let bytes = page.len();
    assert!(bytes < 10 << 20, "{bytes} bytes");
}

/// The browser, if it is installed.
fn chromium() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let folders: Vec<_> = env::split_paths(&env::var_os("PATH")?).collect();
    let files = folders
        .iter()
        .flat_map(|folder| names.map(|name| folder.join(name)));
    files.into_iter().find(|file| file.is_file())
}

/// What the page has become in the browser, and what was written to the console.
fn loaded(chromium: &Path, name: &str, page: &str) -> (String, String) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = folder.join(name);
    fs::write(&file, page).expect("a file");
    let output = Command::new(chromium)
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--window-size=1400,6000",
            "--disable-dev-shm-usage",
            "--enable-logging=stderr",
            "--virtual-time-budget=20000",
            "--dump-dom",
        ])
        .arg(format!(
            "--user-data-dir={}",
            folder.join(format!("{name}.profile")).display()
        ))
        .arg(format!("file://{}", file.display()))
        .output()
        .expect("it starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    let console = errors.lines().filter(|line| line.contains("CONSOLE"));
    let console = console.collect::<Vec<_>>().join("\n");
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        console,
    )
}

/// The number in the element of this key.
fn figure(dom: &str, key: &str) -> u64 {
    let at = dom
        .find(&format!("data-key=\"{key}\""))
        .unwrap_or_else(|| panic!("no {key} in {}", &dom[..dom.len().min(3000)]));
    let rest = &dom[at..];
    let value = rest.split_once("data-v=\"").expect("a value").1;
    value
        .split_once('"')
        .expect("an end")
        .0
        .parse()
        .expect("a number")
}

/// The sum of a column of numbers: the `place`th of each row of a table.
fn column(dom: &str, table: &str, place: usize) -> (usize, u64) {
    let table = dom
        .split_once(&format!("id=\"{table}\""))
        .expect("a table")
        .1;
    let table = table.split_once("</table>").expect("its end").0;
    let rows: Vec<_> = table.split("<tr class=\"row\"").skip(1).collect();
    let numbers = rows.iter().map(|row| {
        let value = row.split("data-v=\"").nth(place + 1).expect("a number");
        value
            .split_once('"')
            .expect("an end")
            .0
            .parse::<u64>()
            .expect("a number")
    });
    (rows.len(), numbers.sum())
}

#[test]
fn it_loads_and_its_numbers_are_those_of_the_log() {
    let Some(chromium) = chromium() else {
        println!("skipped: chromium is not installed");
        return;
    };
    for objects in [10, 2_000, 60_000] {
        let text = kernel(objects).whole_log();
        let log = Log::read(text.as_bytes()).expect("memory can be read");
        let (dom, console) = loaded(&chromium, &format!("page-{objects}.html"), &page(&text));
        assert_eq!(console, "", "of {objects} objects");
        let report = log.report.expect("a report");
        let sites = log.sites.expect("call sites");
        let graph = Graph::new(log.snapshot.expect("a snapshot")).expect("a graph");
        assert_eq!(figure(&dom, "lost"), report.summary.objects);
        assert_eq!(figure(&dom, "lost-bytes"), report.summary.bytes);
        assert_eq!(figure(&dom, "tracked"), report.summary.tracked);
        assert_eq!(figure(&dom, "live-bytes"), graph.live_bytes());
        assert_eq!(
            column(&dom, "leak-groups", 0),
            (report.groups.len(), report.summary.objects)
        );
        assert_eq!(
            column(&dom, "leak-groups", 1),
            (report.groups.len(), report.summary.bytes)
        );
        let bytes: u64 = sites.sites.iter().map(|site| site.bytes).sum();
        assert_eq!(column(&dom, "site-list", 0), (sites.sites.len(), bytes));
        let all = format!("data-row=\"0\" data-v=\"{}\"", graph.retained(0));
        assert!(dom.contains(&all), "{all}");
        assert!(dom.contains("keeps <b>"), "no suspect");
        assert!(
            !dom.contains("[object "),
            "what is no text is shown as text"
        );
        assert!(
            dom.contains("✓") || dom.contains("call stacks."),
            "no verdict"
        );
    }
}

/// Uses all that can be used: folds, heads of tables, squares of the map, the tree, links to it, the filter. What comes of it
/// stands in the page's title.
const USE: &str = r#"<script>
const all = (selector, of) => [...(of || document).querySelectorAll(selector)];
const key = (element, name) => element.dispatchEvent(new KeyboardEvent('keydown', {key: name, bubbles: true}));
all('#leak-groups th button').forEach(button => { button.click(); button.click(); });
all('#leak-groups button.fold').forEach(button => button.click());
all('#leak-groups tr.detail button.fold').forEach(button => button.click());
const addresses = all('#leak-groups td.mono').length;
const zoomed = [];
for (let depth = 0; depth < 4; depth += 1) {
  const square = all('#map g.zoom')[0];
  if (!square) break;
  depth % 2 ? key(square, 'Enter') : square.dispatchEvent(new MouseEvent('click', {bubbles: true}));
  zoomed.push(all('#map .bar button').length);
}
key(all('#map svg')[0], 'Escape');
all('#suspects button').forEach(button => button.click());
const tree = document.getElementById('dominators');
const first = tree.firstChild;
key(first, 'ArrowLeft');
const closed = tree.children.length;
key(first, 'ArrowRight');
key(first, 'ArrowDown');
const selected = document.activeElement.getAttribute('aria-level');
const field = all('#sites input')[0];
field.value = 'inode.rs';
field.dispatchEvent(new Event('input'));
document.title = [addresses, zoomed.join('+'), closed, selected, all('#site-list tbody tr').length].join(' ');
</script>"#;

#[test]
fn all_that_can_be_used_works() {
    let Some(chromium) = chromium() else {
        println!("skipped: chromium is not installed");
        return;
    };
    let page = page(&kernel(2_000).whole_log()).replace("</body>", &format!("{USE}</body>"));
    let (dom, console) = loaded(&chromium, "page-used.html", &page);
    assert_eq!(console, "");
    let title = dom.split_once("<title>").expect("a title").1;
    // 200 objects; above the map are two buttons after a step to a sum, and four after one to an object, with a link to the
    // tree; the tree that was closed is one row; the row below the first is of level 2; one call site matches the filter.
    assert_eq!(
        title.split_once("</title>").expect("its end").0,
        "200 2+4 1 2 1"
    );
    assert!(dom.contains("Words that point to it: 1") && dom.contains("(lost as well)"));
    assert!(dom.contains("Call stack 00000002, innermost first"));
    assert!(dom.contains("Hello, world"), "no dump");
}

#[test]
fn a_log_with_less_loads_as_well() {
    let Some(chromium) = chromium() else {
        println!("skipped: chromium is not installed");
        return;
    };
    let summary = "{\"schema\":2,\"kind\":\"summary\",\"how\":\"stopped\",\"settled\":true,\"stacks\":true}\n";
    let heap = Heap {
        nodes: vec![(64, 0, false)],
        ..Heap::default()
    };
    for (name, log, verdict) in [
        ("empty", String::new(), "The log has no report"),
        ("clean", summary.into(), "No leaks"),
        ("lost", heap.log(), "The log has no report"),
    ] {
        let (dom, console) = loaded(&chromium, &format!("page-{name}.html"), &page(&log));
        assert_eq!(console, "", "{name}");
        assert!(dom.contains(verdict), "{name}: {dom}");
    }
}
