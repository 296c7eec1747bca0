//! The oracle's types: how a report writes what the call stack of a block says.

/// What has counts beside its value, and how a report writes that.
const COUNTED: [(&str, &str); 3] = [
    ("alloc::sync::ArcInner<", "Arc<"),
    ("alloc::rc::RcInner<", "Rc<"),
    ("alloc::rc::RcBox<", "Rc<"),
];
/// Crates whose types are written without their paths.
const LIBRARIES: [&str; 4] = ["alloc", "core", "std", "hashbrown"];
/// What the format says nothing about: closures, the default allocator, what is not written yet.
const OPEN: [&str; 3] = ["{", "alloc::alloc::Global", "MaybeUninit"];

/// Whether a block of this type counts the references to it.
pub fn is_counted(block_type: &str) -> bool {
    COUNTED
        .iter()
        .any(|(inner, _)| block_type.starts_with(inner))
}

/// The type as reports write it. None where the format leaves it open.
pub fn written(block_type: &str) -> Option<String> {
    if OPEN.iter().any(|open| block_type.contains(open)) {
        return None;
    }
    let mut whole = block_type.to_owned();
    for (inner, handle) in COUNTED {
        if let Some(rest) = block_type.strip_prefix(inner) {
            whole = format!("{handle}{rest}");
        }
    }
    let is_of_path = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | ':');
    let mut shown = String::new();
    let mut path = String::new();
    for letter in whole.chars() {
        if is_of_path(letter) {
            path.push(letter);
            continue;
        }
        shown += last_of_library(&std::mem::take(&mut path));
        shown.push(letter);
    }
    Some(shown + last_of_library(&path))
}

/// The last name of a path, if that is the standard library's.
fn last_of_library(path: &str) -> &str {
    match (path.split_once("::"), path.rsplit_once("::")) {
        (Some((first, _)), Some((_, last))) if LIBRARIES.contains(&first) => last,
        _ => path,
    }
}

/// The function that allocates a block of this type.
pub fn constructor(block_type: &str) -> String {
    format!("alloc::boxed::Box<T>::new<{block_type}>")
}
