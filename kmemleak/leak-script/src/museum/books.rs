//! What a counter of outstanding blocks knows of a story: allocations and frees, by call site, and nothing of pointers.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::parse::Script;
use crate::statement::Statement;

/// A site's blocks that are allocated and not freed.
#[derive(Default)]
pub(super) struct Total {
    blocks: usize,
    bytes: usize,
    /// Bytes at the last mark.
    marked: usize,
}

impl Total {
    /// Bytes that it has grown by since the mark.
    pub(super) fn growth(&self) -> i64 {
        self.bytes as i64 - self.marked as i64
    }
}

/// What a counter of outstanding blocks knows: allocations and frees, and nothing of pointers.
#[derive(Default)]
pub(super) struct Books {
    /// Site and bytes of each live block, by its name.
    blocks: BTreeMap<String, (String, usize)>,
    pub(super) by_site: BTreeMap<String, Total>,
    pub(super) has_mark: bool,
}

impl Books {
    pub(super) fn keep(story: &str) -> Result<Self, String> {
        let script = Script::parse(story).map_err(|failure| failure.to_string())?;
        let mut books = Self::default();
        for line in &script.lines {
            match line.statement {
                Statement::Alloc {
                    name, size, site, ..
                } => books.set(name, site, size),
                Statement::Free(name) => drop(books.remove(name)),
                Statement::Realloc(name, size) => {
                    if let Some((site, _)) = books.remove(name) {
                        books.set(name, &site, size);
                    }
                }
                Statement::FreePart(name, offset, len) => books.cut(name, offset, len),
                Statement::Mark => {
                    books.has_mark = true;
                    let sites = books.by_site.values_mut();
                    sites.for_each(|total| total.marked = total.bytes);
                }
                _ => {}
            }
        }
        Ok(books)
    }

    fn set(&mut self, name: &str, site: &str, size: usize) {
        self.blocks.insert(name.into(), (site.into(), size));
        let total = self.by_site.entry(site.into()).or_default();
        total.blocks += 1;
        total.bytes += size;
    }

    fn remove(&mut self, name: &str) -> Option<(String, usize)> {
        let (site, size) = self.blocks.remove(name)?;
        let total = self.by_site.entry(site.clone()).or_default();
        total.blocks -= 1;
        total.bytes -= size;
        Some((site, size))
    }

    fn cut(&mut self, name: &str, offset: usize, len: usize) {
        let Some((site, size)) = self.remove(name) else {
            return;
        };
        let behind = size.saturating_sub(offset + len);
        if offset > 0 {
            self.set(name, &site, offset);
        }
        if behind > 0 {
            self.set(&format!("{name}.tail"), &site, behind);
        }
    }

    /// The sites of these objects.
    pub(super) fn sites(&self, names: &[&str]) -> Vec<&str> {
        let sites = names.iter().filter_map(|name| self.blocks.get(*name));
        let mut sites: Vec<&str> = sites.map(|(site, _)| site.as_str()).collect();
        sites.sort_unstable();
        sites.dedup();
        sites
    }

    /// How much is lost.
    pub(super) fn sum(&self, lost: &[&str]) -> String {
        let blocks: Vec<_> = lost
            .iter()
            .filter_map(|name| self.blocks.get(*name))
            .collect();
        if blocks.is_empty() {
            return "nothing".into();
        }
        let bytes: usize = blocks.iter().map(|(_, size)| size).sum();
        format!("{}, {bytes} bytes", plural(blocks.len(), "block"))
    }

    /// What counting says.
    pub(super) fn outstanding(&self, lost: &[&str]) -> String {
        let sites = self.sites(lost);
        let totals = sites.iter().map(|site| &self.by_site[*site]);
        if self.has_mark {
            let more: i64 = totals.map(Total::growth).sum();
            return format!("{more:+} bytes since the mark, as `sites` says");
        }
        if sites.is_empty() {
            return format!("{}, none of them lost", plural(self.blocks.len(), "block"));
        }
        let all: usize = totals.map(|total| total.blocks).sum();
        let lost = lost.iter().filter(|name| self.blocks.contains_key(**name));
        let lost = lost.count();
        let what = match lost == all {
            true if all == 1 => "not that it is lost".into(),
            true => "not that all are lost".into(),
            false if lost == 1 => "not which one is lost".into(),
            false => format!("not which {lost} are lost"),
        };
        let at = if sites.len() == 1 {
            "this site"
        } else {
            "these sites"
        };
        format!("{} at {at}, {what}", plural(all, "block"))
    }
}

pub(super) fn plural(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}
