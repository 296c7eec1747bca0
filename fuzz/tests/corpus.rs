//! All inputs of `corpus/`, each of which a fuzzer found worth keeping: because it reaches code that others do not, or because it
//! failed once.

use std::fs;
use std::path::Path;

/// Feeds all inputs of a target.
fn feed(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let mut count = 0;
    for entry in fs::read_dir(&folder).expect("each target has inputs") {
        let path = entry.expect("it can be read").path();
        // The last one that is shown has failed.
        println!("{}", path.display());
        run(&fs::read(&path).expect("it can be read"));
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}

macro_rules! targets {
    ($($target:ident)*) => {$(
        #[test]
        fn $target() {
            feed(stringify!($target), kmemleak_fuzz::$target::run);
        }
    )*};
}

targets!(callbacks commands editor images loading logs patterns scripts);
