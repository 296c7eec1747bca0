//! The findings, shown to callers, whose code runs meanwhile.

use crate::checker::claim::{Claim, NotDone};
use crate::platform::Platform;
use crate::verdict::call_sites::{Site, SiteOrder};
use crate::verdict::groups::Group;
use crate::verdict::iter::{InteriorOnly, Unreferenced, each_interior};
use crate::verdict::leak_list::Named;
use crate::verdict::suppress::Suppression;

impl<P: Platform> Claim<'_, P> {
    /// An object of the verdict with its number in the list, if it is still there.
    fn unreferenced(&self, named: &Named, index: Option<usize>) -> Option<Unreferenced> {
        let (tracker, list) = (self.tracker(), &self.verdict().list);
        let there = named.is_there(tracker);
        there.then(|| Unreferenced::of(tracker, list, named, index))
    }

    /// Shows each object of the verdict that is still there.
    pub(crate) fn show_unreferenced(
        &self,
        look: &mut dyn FnMut(Unreferenced),
    ) -> Result<(), NotDone> {
        let _outside = self.outside();
        self.verdict()
            .list
            .each(self.tracker(), &mut |named, index| {
                self.unreferenced(named, index).map(&mut *look);
            });
        Ok(())
    }

    /// Shows each object that suppressions hide, if it is still there.
    pub(crate) fn show_suppressed(
        &self,
        look: &mut dyn FnMut(Unreferenced),
    ) -> Result<(), NotDone> {
        let _outside = self.outside();
        self.verdict().list.each_suppressed(&mut |named| {
            self.unreferenced(named, None).map(&mut *look);
        });
        Ok(())
    }

    /// Shows each object of the verdict that is not remembered, if it is still there.
    pub(crate) fn show_new(&self, look: &mut dyn FnMut(Unreferenced)) -> Result<(), NotDone> {
        let _outside = self.outside();
        self.each_new(&mut |named, index| {
            self.unreferenced(named, index).map(&mut *look);
        });
        Ok(())
    }

    /// Shows each object that is alive through interior pointers only.
    pub(crate) fn show_interior(
        &mut self,
        look: &mut dyn FnMut(InteriorOnly),
    ) -> Result<(), NotDone> {
        self.finish_marks()?;
        let _outside = self.outside();
        each_interior(self.tracker(), &mut |_, object| look(object));
        Ok(())
    }

    /// Shows the groups, with their call stacks.
    pub(crate) fn show_groups(
        &self,
        look: &mut dyn FnMut(&Group, &[usize]),
    ) -> Result<(), NotDone> {
        let groups = &self.verdict().groups;
        if groups.incomplete {
            return Err(NotDone::NoMemory);
        }
        let (_outside, depot) = (self.outside(), self.tracker().depot());
        groups.each(&mut |group, stack_id| look(group, depot.get(stack_id).as_slice()));
        Ok(())
    }

    /// Shows each call site.
    pub(crate) fn show_sites(
        &mut self,
        order: SiteOrder,
        look: &mut dyn FnMut(Site<'_>),
    ) -> Result<(), NotDone> {
        let order = self.site_order(Some(order))?;
        let _outside = self.outside();
        let all = self.find_sites(order);
        self.each_site(&mut |site, _| look(site));
        match all {
            true => Ok(()),
            false => Err(NotDone::NoMemory),
        }
    }

    /// Shows each suppression.
    pub(crate) fn show_suppressions(
        &mut self,
        look: &mut dyn FnMut(Suppression<'_>),
    ) -> Result<(), NotDone> {
        let _outside = self.outside();
        self.each_suppression(look);
        Ok(())
    }
}
