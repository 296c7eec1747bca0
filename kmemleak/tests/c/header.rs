//! The header and the macro, compared as text.

use std::collections::BTreeMap;

const HEADER: &str = include_str!("../../include/kmemleak.h");
const MACRO: &str = include_str!("../../src/front/c_api/export.rs");
const TYPES: &str = include_str!("../../src/front/c_api/mod.rs");

/// Functions by their names: what they return, then their arguments with their names.
type Functions = BTreeMap<String, Vec<String>>;

/// What the header declares.
pub fn declared() -> Functions {
    let code = code_of(HEADER);
    let lines = code
        .lines()
        .filter(|line| !line.starts_with('#') && !line.starts_with("typedef"));
    let code = lines.collect::<Vec<_>>().join(" ");
    let statements = code
        .split([';', '{', '}'])
        .filter_map(|it| it.trim().strip_suffix(')'));
    let functions = statements.map(|statement| {
        let (head, arguments) = statement.split_once('(').expect("a declaration");
        let (returned, name) = head.rsplit_once([' ', '*']).expect("what it returns");
        let arguments = arguments.split(',').map(words).filter(|it| it != "void");
        (
            name.to_owned(),
            [words(returned)].into_iter().chain(arguments).collect(),
        )
    });
    functions.collect()
}

/// What the macro defines, in the words of C.
fn defined() -> Functions {
    let functions = MACRO.split("extern \"C\" fn ").skip(1).map(|rest| {
        let (name, rest) = rest.split_once('(').expect("a name");
        let (arguments, rest) = rest.split_once(')').expect("arguments");
        let returned = rest.split('{').next().expect("a body").trim();
        let returned = returned.strip_prefix("-> ").map_or("void", in_c).to_owned();
        let arguments = arguments
            .split(',')
            .map(str::trim)
            .filter(|it| !it.is_empty());
        let arguments = arguments.map(|argument| {
            let (name, kind) = argument.split_once(": ").expect("a type");
            words(&format!("{} {name}", in_c(kind)))
        });
        (
            name.to_owned(),
            [returned].into_iter().chain(arguments).collect(),
        )
    });
    functions.collect()
}

/// C without its comments.
fn code_of(text: &str) -> String {
    let parts = text.split("/*").map(|part| part.split("*/").last());
    parts.flatten().collect()
}

/// A type of Rust, in the words of C.
fn in_c(kind: &str) -> &str {
    match kind.trim() {
        "*const c_void" => "const void *",
        "*mut c_void" => "void *",
        "*mut *mut c_void" => "void **",
        "*const c_char" => "const char *",
        "*mut CSummary" => "struct kmemleak_summary *",
        "CResult" => "enum kmemleak_result",
        "CWriteFn" => "kmemleak_write_fn",
        "usize" => "size_t",
        "u64" => "uint64_t",
        "c_int" => "int",
        "bool" => "bool",
        other => panic!("`{other}` is no type that C gets"),
    }
}

/// With one blank between words, and between words and stars.
fn words(text: &str) -> String {
    text.replace('*', " * ")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn the_header_declares_what_the_macro_defines() {
    let (declared, defined) = (declared(), defined());
    assert_eq!(
        declared.keys().collect::<Vec<_>>(),
        defined.keys().collect::<Vec<_>>()
    );
    for (name, function) in &declared {
        assert_eq!(function, &defined[name], "{name}");
    }
    assert!(declared.len() > 30, "{declared:?}");
}

#[test]
fn the_summary_has_the_same_fields() {
    let declared = body_of(&code_of(HEADER), "struct kmemleak_summary {");
    let declared: Vec<String> = declared
        .split(';')
        .map(words)
        .filter(|field| !field.is_empty())
        .collect();
    let fields = body_of(TYPES, "pub struct CSummary {");
    let fields = fields
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub ")?.strip_suffix(','));
    let defined: Vec<String> = fields
        .map(|field| {
            let (name, kind) = field.split_once(": ").expect("a type");
            words(&format!("{} {name}", in_c(kind)))
        })
        .collect();
    assert_eq!(declared, defined);
}

#[test]
fn the_results_are_the_same() {
    let declared = body_of(&code_of(HEADER), "enum kmemleak_result {");
    let declared: Vec<String> = declared
        .split(',')
        .map(words)
        .filter(|name| !name.is_empty())
        .collect();
    let variants = body_of(TYPES, "pub enum CResult {");
    let variants = variants
        .lines()
        .filter_map(|line| line.trim().strip_suffix(','));
    let defined: Vec<String> = variants
        .map(|name| format!("KMEMLEAK{}", in_capitals(name)))
        .collect();
    assert_eq!(declared, defined);
}

/// `NoMemory` as `_NO_MEMORY`.
fn in_capitals(name: &str) -> String {
    let letters = name.chars().map(|letter| match letter.is_uppercase() {
        true => format!("_{letter}"),
        false => letter.to_ascii_uppercase().to_string(),
    });
    letters.collect()
}

/// What stands between these words, which end with a brace, and the next closing one.
fn body_of(text: &str, head: &str) -> String {
    let (_, rest) = text.split_once(head).expect("it is there");
    rest.split('}').next().expect("its body").to_owned()
}
