//! The scripts of a folder.

use std::path::PathBuf;

/// All scripts of a folder beside this package's, by name.
pub fn scripts(folder: &str) -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(folder);
    let mut scripts: Vec<(String, String)> = std::fs::read_dir(folder)
        .expect("the folder of scripts")
        .map(|entry| entry.expect("an entry of it").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "leak"))
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy();
            let text = std::fs::read_to_string(&path).expect("a script");
            (name.into_owned(), text)
        })
        .collect();
    scripts.sort();
    scripts
}
