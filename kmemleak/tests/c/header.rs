//! The header and the macro, compared as text.

use std::collections::BTreeMap;

const HEADER: &str = include_str!("../../include/kmemleak.h");
const MACRO: &str = include_str!("../../src/front/c_api/export.rs");

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
    let declared: Vec<String> = code_of(HEADER)
        .split_once("struct kmemleak_summary {")
        .and_then(|(_, rest)| rest.split_once('}'))
        .map(|(body, _)| {
            body.split(';')
                .map(words)
                .filter(|field| !field.is_empty())
                .collect()
        })
        .expect("the summary in C");
    let source = include_str!("../../src/front/c_api/mod.rs");
    let body = source
        .split_once("pub struct CSummary {")
        .and_then(|(_, rest)| rest.split_once('}'));
    let fields = body.expect("the summary in Rust").0.lines();
    let fields = fields.filter_map(|line| line.trim().strip_prefix("pub ")?.strip_suffix(','));
    let defined: Vec<String> = fields
        .map(|field| {
            let (name, kind) = field.split_once(": ").expect("a type");
            words(&format!("{} {name}", in_c(kind)))
        })
        .collect();
    assert_eq!(declared, defined);
}
