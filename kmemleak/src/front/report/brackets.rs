//! Brackets in the names of functions and types.

/// Where the bracket closes that was opened before this text.
pub(super) fn end_of_argument(text: &str) -> Option<usize> {
    let mut depth = 0;
    at_depth(text, &mut depth).find_map(|(at, depth)| (depth < 0).then_some(at))
}

/// Divides `Type as Trait`.
pub(super) fn split_as(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0;
    let at = at_depth(text, &mut depth)
        .find_map(|(at, depth)| (depth == 0 && text[at..].starts_with(" as ")).then_some(at))?;
    Some((&text[..at], &text[at + " as ".len()..]))
}

/// Each character's place, with how many brackets are open behind it. The arrow of a function's type is no bracket.
pub(super) fn at_depth<'a>(
    text: &'a str,
    depth: &'a mut i32,
) -> impl Iterator<Item = (usize, i32)> + 'a {
    let mut before = ' ';
    text.char_indices().map(move |(at, letter)| {
        match letter {
            '<' | '(' | '[' => *depth += 1,
            '>' if before == '-' => {}
            '>' | ')' | ']' => *depth -= 1,
            _ => {}
        }
        before = letter;
        (at, *depth)
    })
}

/// The first of the arguments that commas part, without blanks around it.
pub(super) fn first_argument(arguments: &str) -> &str {
    let mut depth = 0;
    let end = at_depth(arguments, &mut depth)
        .find_map(|(at, depth)| (depth == 0 && arguments[at..].starts_with(',')).then_some(at));
    arguments[..end.unwrap_or(arguments.len())].trim()
}

/// Divides `path<arguments>` or `path::<arguments>`; the second part is `None` where the text does not end with arguments.
pub(super) fn split_arguments(text: &str) -> (&str, Option<&str>) {
    let (mut depth, mut opens) = (0, None);
    for (at, depth) in at_depth(text, &mut depth) {
        if depth == 1 && text[at..].starts_with('<') {
            opens = Some(at);
        }
    }
    match (opens, text.strip_suffix('>')) {
        (Some(opens @ 1..), Some(inside)) if depth == 0 => {
            let path = &text[..opens];
            let path = path.strip_suffix("::").unwrap_or(path);
            (path, inside.get(opens + 1..))
        }
        _ => (text, None),
    }
}
