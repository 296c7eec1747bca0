//! What names mean: the objects of a script, live and gone.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::hidden::Hidden;
use crate::machine::Machine;
use crate::statement::{Allocator, Name, Place, Slot, Target};

const WORD: usize = size_of::<usize>();

/// A kind of place, of which there are many by number.
type Numbered = fn(usize) -> Place;

/// A block that a script named.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) name: String,
    /// Its address, or its handle.
    pub(crate) start: Hidden,
    pub(crate) size: usize,
    pub(crate) align: usize,
    pub(crate) min_count: i32,
    pub(crate) from: Allocator,
    /// The call stack that allocated it.
    pub(crate) site: String,
    pub(crate) live: bool,
}

/// All of them, each name once.
#[derive(Default)]
pub(crate) struct Names {
    objects: Vec<Object>,
}

impl Names {
    /// The object of this name, live or not.
    pub(crate) fn get(&self, name: Name<'_>) -> Result<&Object, String> {
        let found = self.objects.iter().find(|object| object.name == name);
        found.ok_or_else(|| format!("nothing was ever named {name}"))
    }

    /// The object of this name, while it is live.
    pub(crate) fn live(&self, name: Name<'_>) -> Result<&Object, String> {
        let object = self.get(name)?;
        if object.live {
            Ok(object)
        } else {
            Err(format!("{name} is not live"))
        }
    }

    /// Whether the name can be given to a new object.
    pub(crate) fn is_free(&self, name: Name<'_>) -> Result<(), String> {
        match self.live(name) {
            Ok(_) => Err(format!("{name} is live")),
            Err(_) => Ok(()),
        }
    }

    /// The name means this from now on.
    pub(crate) fn set(&mut self, object: Object) {
        match self.objects.iter_mut().find(|old| old.name == object.name) {
            Some(old) => *old = object,
            None => self.objects.push(object),
        }
    }

    /// The object of this name is gone.
    pub(crate) fn kill(&mut self, name: Name<'_>) {
        let objects = self.objects.iter_mut();
        objects
            .filter(|object| object.name == name)
            .for_each(|object| object.live = false);
    }

    /// The object of this name has this label from now on.
    pub(crate) fn set_site(&mut self, name: Name<'_>, site: &str) {
        let objects = self.objects.iter_mut();
        objects
            .filter(|object| object.name == name)
            .for_each(|object| object.site = site.into());
    }

    /// The live objects.
    pub(crate) fn all_live(&self) -> impl Iterator<Item = &Object> {
        self.objects.iter().filter(|object| object.live)
    }

    /// The live object that starts here.
    pub(crate) fn at(&self, start: Hidden) -> Option<&Object> {
        self.all_live().find(|object| object.start == start)
    }

    /// What a target is. The caller stores it and keeps no copy.
    pub(crate) fn value(&self, target: Target<'_>) -> Result<Hidden, String> {
        Ok(Hidden::new(match target {
            Target::At(name, offset) => self.get(name)?.start.get().wrapping_add_signed(offset),
            Target::End(name) => {
                let object = self.get(name)?;
                object.start.get() + object.size
            }
            Target::Hidden(name) => !self.get(name)?.start.get(),
            Target::Number(number) => number,
        }))
    }

    /// Where a slot lies.
    pub(crate) fn place(&self, slot: Slot<'_>, machine: &dyn Machine) -> Result<Hidden, String> {
        let word = match slot {
            Slot::Place(place) => return Ok(Hidden::new(machine.address(place))),
            Slot::Word(word) => word,
        };
        let object = self.live(word.name)?;
        let end = word.offset.checked_add(WORD);
        if end.is_none_or(|end| end > object.size) {
            let (name, size) = (word.name, object.size);
            return Err(format!("{name}+{} is past its {size} bytes", word.offset));
        }
        let start = match (object.from, word.cpu) {
            (Allocator::Percpu, Some(cpu)) => machine.percpu_copy(object.start.get(), cpu),
            (Allocator::Percpu, None) => return Err(format!("{} has a copy a cpu", word.name)),
            (_, Some(_)) => return Err(format!("{} is no percpu object", word.name)),
            (_, None) => object.start.get(),
        };
        Ok(Hidden::new(start + word.offset))
    }

    /// The slot that lies here, as a script would write it.
    pub(crate) fn describe(&self, address: Hidden, machine: &dyn Machine) -> Option<String> {
        let address = address.get();
        let within = |start: usize, size: usize| {
            let offset = address.wrapping_sub(start);
            (offset < size).then_some(offset)
        };
        for object in self.all_live() {
            let start = object.start.get();
            if object.from != Allocator::Percpu {
                if let Some(offset) = within(start, object.size) {
                    return Some(format!("{}+{offset}", object.name));
                }
                continue;
            }
            for cpu in 0..machine.cpus() {
                let copy = machine.percpu_copy(start, cpu);
                if let Some(offset) = within(copy, object.size) {
                    return Some(format!("{}[{cpu}]+{offset}", object.name));
                }
            }
        }
        let rows: [(&str, Numbered); 6] = [
            ("data", Place::Data),
            ("bss", Place::Bss),
            ("page", Place::Page),
            ("stack", Place::Stack),
            ("dead", Place::Dead),
            ("reg", Place::Register),
        ];
        for word in 0..64 {
            for (name, place) in rows {
                if machine.address(place(word)) == address {
                    return Some(format!("{name} {word}"));
                }
            }
            for cpu in 0..machine.cpus() {
                if machine.address(Place::PerCpu(cpu, word)) == address {
                    return Some(format!("percpu {cpu} {word}"));
                }
            }
            for region in 0..4 {
                if machine.address(Place::Region(region, word)) == address {
                    return Some(format!("region {region} {word}"));
                }
            }
        }
        None
    }
}
