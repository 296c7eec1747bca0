//! What the name of a root's word says: which group of roots it is in, and in which variable or stack of it.

/// The group of what is declared to be no leak.
pub(crate) const NOT_A_LEAK: &str = "not a leak";

/// The group of a root's word, and the variable, stack or the like in that group, without the offset of the word.
pub(crate) fn group_of(name: &str) -> (&str, &str) {
    let holder = without_offset(name);
    let (first, rest) = holder.split_once(' ').unwrap_or((holder, ""));
    match first {
        _ if holder == NOT_A_LEAK => (NOT_A_LEAK, ""),
        "cpu" => match rest.split_once(' ') {
            Some((number, variable)) => (&holder[..first.len() + 1 + number.len()], variable),
            None => (holder, holder),
        },
        "task" => {
            let task = holder
                .split_once(" register ")
                .map_or(holder, |split| split.0);
            ("task stacks", task.strip_suffix(" stack").unwrap_or(task))
        }
        "frame" | "frames" => ("page frames", holder),
        "region" => ("regions", holder),
        "section" => ("sections", holder),
        section if section.starts_with('.') => {
            (section, if rest.is_empty() { holder } else { rest })
        }
        _ => ("other roots", holder),
    }
}

fn without_offset(name: &str) -> &str {
    let Some((before, digits)) = name.rsplit_once("+0x") else {
        return name;
    };
    match digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        true => before.trim_end_matches([',', ' ']),
        false => name,
    }
}

#[cfg(test)]
mod tests {
    use super::group_of;

    #[test]
    fn roots_are_put_in_groups() {
        for (name, group, holder) in [
            (
                ".bss kernel::shell::leak::LIST+0x8",
                ".bss",
                "kernel::shell::leak::LIST",
            ),
            (".data+0x80", ".data", ".data"),
            (
                "cpu 3 kernel::task::CURRENT+0x0",
                "cpu 3",
                "kernel::task::CURRENT",
            ),
            ("cpu 0 registers+0x18", "cpu 0", "registers"),
            ("cpu 12 per-cpu area+0x18", "cpu 12", "per-cpu area"),
            ("task 4 stack+0x40", "task stacks", "task 4"),
            ("task 4 \"sh\" stack+0x40", "task stacks", "task 4 \"sh\""),
            ("task 4 \"sh\" register rbx", "task stacks", "task 4 \"sh\""),
            (
                "frames from 0x10 on, +0x20",
                "page frames",
                "frames from 0x10 on",
            ),
            ("frame 0x12 owner", "page frames", "frame 0x12 owner"),
            (
                "region 0x0000000000001000+0x8",
                "regions",
                "region 0x0000000000001000",
            ),
            (
                "section 0x0000000000001000+0x8",
                "sections",
                "section 0x0000000000001000",
            ),
            ("not a leak", "not a leak", ""),
            ("init_task", "other roots", "init_task"),
            ("Ünïcode", "other roots", "Ünïcode"),
            ("cpu", "cpu", "cpu"),
            ("", "other roots", ""),
        ] {
            assert_eq!(group_of(name), (group, holder), "{name}");
        }
    }
}
