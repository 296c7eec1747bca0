//! Marking what tasks reach that can run: see [`task_table`](super::task_table).
//!
//! All workers mark what the roots reach, but for the stacks of tasks that are withheld. Then one of them lets tasks go on, and marks
//! what these reach, until no further one goes on. Interior pointers are followed at once: what lies between is not asked for here.
//!
//! An object that leads to a task has a flag for as long as the question lasts, so that it is no plain one: when the marker comes to
//! scan it, it asks the table ([`is_withheld`](Marker::is_withheld)). Nothing else in the marker is slower.
//!
//! The marks that are left are not those of a pass: [`Tools::unfinished`](super::Tools) says so.

use core::ops::Range;
use core::sync::atomic::Ordering;

use super::task_table::{Awaited, TaskRow, TaskStanding, TaskTable};
use super::words::WordVisitor;
use super::{GivenUp, Marker, PointerPass};
use crate::marker::encoded::MappedPiece;
use crate::marker::roots::range_of;
use crate::marker::window::page_end;
use crate::metadata::hidden::Hidden;
use crate::objects::access::{Access, Stopped};
use crate::objects::object::Object;
use crate::objects::record::flag;
use crate::platform::{Platform, Root, RootCursor, RootKind, WaitsOn};

impl<P: Platform, A: Access> Marker<'_, P, A> {
    /// Whether the words of an object are not to be followed: it is the own block of a task that is withheld, or a list of tasks. Called
    /// for objects that have been reached.
    #[cold]
    #[inline(never)]
    pub(super) fn is_withheld(&self, start: usize) -> bool {
        let tasks = self.tools.tasks;
        tasks.is_some_and(|tasks| tasks.lock().reach(start) == TaskStanding::Withheld)
    }

    /// Whether a root is the stack of a task that is withheld.
    pub(super) fn is_withheld_stack(&self, root: Root) -> bool {
        match (self.tools.tasks, root.kind) {
            (Some(tasks), RootKind::Stack(task)) => tasks.lock().withholds(task),
            _ => false,
        }
    }
}

impl<'a, P: Platform> Marker<'a, P, Stopped> {
    /// Marks all that tasks reach which are not withheld. For all workers.
    pub(crate) fn run_withholding(&mut self) -> Result<(), GivenUp> {
        if self.worker == 0 {
            self.list_tasks();
        }
        self.barrier()?;
        self.begin()?;
        if self.worker == 0 {
            self.keep_running();
        }
        self.barrier()?;
        self.scan_roots()?;
        self.finish()?;
        self.barrier()
    }

    /// Makes the table.
    fn list_tasks(&mut self) {
        let (tools, access) = (self.tools, self.access);
        let Some(tasks) = tools.tasks else {
            return;
        };
        let (platform, registry) = (tools.platform, tools.registry);
        let block_at =
            |at| registry.block_containing(access, at, |object: Object<'_>, _| object.start);
        let mut table = tasks.lock();
        table.clear();
        let mut cursor = RootCursor::default();
        while let Some(list) = platform.next_task_list(&mut cursor) {
            table.add_list(block_at(list.start), &list, &tools.meta);
        }
        let mut cursor = RootCursor::default();
        while let Some(task) = platform.next_task(&mut cursor) {
            table.count(&task);
            let Some(wait) = task.wait else {
                continue;
            };
            let awaited = match wait.on {
                WaitsOn::Task(task) => Awaited::EndOf(task),
                WaitsOn::Address(at) => match block_at(at) {
                    Some(start) => Awaited::At {
                        address: Hidden::new(at),
                        object: Hidden::new(start),
                    },
                    // Memory that no block holds: anybody can reach it.
                    None => continue,
                },
            };
            let block = task.block.and_then(block_at);
            let block = block.map_or(Hidden::NONE, Hidden::new);
            table.add(TaskRow::new(&task, wait, awaited, block), &tools.meta);
        }
        table.sort();
        let mut cursor = RootCursor::default();
        while let Some(root) = platform.next_root(&mut cursor) {
            if let RootKind::Stack(task) = root.kind {
                table.add_stack(task, &range_of(root), &tools.meta);
            }
        }
        table.sort();
        table.each_object(&mut |start, flagged| {
            registry.starting_at(access, start, |object| {
                *flagged = !object.record.has(flag::NOTES);
                object.set(flag::NOTES);
            });
        });
    }

    /// Lets those tasks go on whose object is alive already, and keeps what belongs to tasks that can run.
    fn keep_running(&mut self) {
        let (tools, access) = (self.tools, self.access);
        let Some(tasks) = tools.tasks else {
            return;
        };
        let is_alive = |start| {
            let alive =
                |object: Object<'_>| object.mark.is_set() || object.record.has(flag::REACHED);
            tools.registry.starting_at(access, start, alive) == Some(true)
        };
        let rows = tasks.lock().len();
        for number in 0..rows {
            let mut table = tasks.lock();
            let Some(&row) = table.row(number) else {
                continue;
            };
            let can_end = row.ended().is_some_and(|task| !table.withholds(task));
            if can_end || row.object().is_some_and(|object| is_alive(object.get())) {
                table.let_go_on(number as u32);
            }
        }
        // Their stacks are read with the other roots.
        while let Some(row) = self.next_ready() {
            self.keep_block(&row);
        }
        self.keep_others();
    }

    /// Keeps what belongs to tasks that are in no row, or whose stacks are roots.
    fn keep_others(&mut self) {
        let platform = self.tools.platform;
        let mut cursor = RootCursor::default();
        while let Some(state) = platform.next_task(&mut cursor) {
            let goes_on =
                state.wait.is_none() || self.with_tasks(|table| table.row_of(state.task)).is_none();
            if let Some(at) = state.block.filter(|_| goes_on) {
                self.keep_containing(at);
            }
        }
        let mut cursor = RootCursor::default();
        while let Some(root) = platform.next_root(&mut cursor) {
            if matches!(root.kind, RootKind::Stack(_)) && !self.is_withheld_stack(root) {
                self.keep_containing(root.start);
            }
        }
    }

    /// Lets tasks go on, and marks what they reach, until none of those that are left is reached. For one worker.
    pub(crate) fn let_go_on(&mut self) -> Result<(), GivenUp> {
        self.pointers = PointerPass::Interiors;
        while let Some(row) = self.next_ready() {
            self.keep_block(&row);
            self.follow_stacks(row.task)?;
            self.drain()?;
        }
        Ok(())
    }

    fn with_tasks<R>(&self, work: impl FnOnce(&mut TaskTable) -> Option<R>) -> Option<R> {
        work(&mut self.tools.tasks?.lock())
    }

    fn next_ready(&self) -> Option<TaskRow> {
        self.with_tasks(|table| {
            let number = table.take_ready()?;
            table.row(number as usize).copied()
        })
    }

    /// Keeps the own block of a task that goes on.
    fn keep_block(&mut self, row: &TaskRow) {
        if row.block == Hidden::NONE {
            return;
        }
        let (access, registry) = (self.access, self.tools.registry);
        registry.starting_at(access, row.block.get(), |object| {
            let new = self.keep(object);
            if !new && row.block_reached {
                // It was passed over.
                self.enqueue(object);
            }
        });
    }

    /// Keeps the object that an address lies in.
    fn keep_containing(&mut self, at: usize) {
        let (access, registry) = (self.access, self.tools.registry);
        registry.block_containing(access, at, |object, _| {
            self.keep(object);
        });
    }

    /// Follows the words of the stacks of a task that goes on.
    fn follow_stacks(&mut self, task: u32) -> Result<(), GivenUp> {
        let mut number = 0;
        while let Some(live) = self.with_tasks(|table| table.stack(task, number)) {
            self.keep_containing(live.start);
            // What lies there entirely is read with it.
            self.each_start_in(live.clone(), &mut |marker, object| {
                marker.keep(object);
            });
            self.each_page_of(live, &mut |marker, piece| {
                marker.scan_piece(piece);
            })?;
            number += 1;
        }
        Ok(())
    }

    /// Shows each word of the stacks of a task that may be an address in an object.
    pub(crate) fn each_word_of_stacks(
        &mut self,
        task: u32,
        look: WordVisitor<'_, Self>,
    ) -> Result<(), GivenUp> {
        let mut number = 0;
        while let Some(live) = self.with_tasks(|table| table.stack(task, number)) {
            self.each_page_of(live, &mut |marker, piece| {
                marker.show_piece(piece, look);
            })?;
            number += 1;
        }
        Ok(())
    }

    /// Whether an object is a list of tasks.
    pub(crate) fn is_task_list(&self, start: usize) -> bool {
        self.with_tasks(|table| table.is_list(start).then_some(()))
            .is_some()
    }

    fn each_page_of(
        &mut self,
        live: Range<usize>,
        work: &mut dyn FnMut(&mut Self, &MappedPiece),
    ) -> Result<(), GivenUp> {
        let Range { start: mut at, end } = live;
        while at < end {
            let next = page_end(at).min(end);
            // SAFETY: a part of a root, which can be read as long as the world is stopped.
            work(self, &unsafe { MappedPiece::of_words(at, next) });
            self.flush_full();
            self.pause()?;
            at = next;
        }
        Ok(())
    }

    /// Takes back the flags that the question has set, whether it has an answer or not. For one worker, when all have ended.
    pub(crate) fn forget_tasks(&mut self) {
        let (access, registry) = (self.access, self.tools.registry);
        if let Some(tasks) = self.tools.tasks {
            tasks.lock().each_object(&mut |start, flagged| {
                if core::mem::take(flagged) {
                    registry.starting_at(access, start, |object| object.record.clear(flag::NOTES));
                }
            });
        }
        self.tools.unfinished.store(true, Ordering::Relaxed);
    }
}
