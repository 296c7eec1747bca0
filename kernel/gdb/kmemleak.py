"""What gdb shows of the kernel: `p KMEMLEAK` says what the leak detector knows.

`cargo run -- --gdb` prints a command that loads this file. The kernel must have been built with all debug information, as it is
by `--gdb`. The detector's memory is read as it is, without its locks: the machine stands still.
"""

import os
import re
import subprocess
import sys

import gdb

DETECTOR = "kernel::leak::hooks::KMEMLEAK"
DETECTOR_TYPE = re.compile(r"^kmemleak::front::detector::Detector<")

# The page map (`kmemleak/src/objects/page_map/mod.rs`) and the entries of its chunks (`kmemleak/src/objects/chunk.rs`).
PAGE_WORDS = 512
TABLES_BELOW_ROOT = 2
ENTRY_WORDS = 4
STARTS_WORD = 1
INFO_WORD = 3
INFO_SHIFT = 32
SPACING_MASK = 7
RECORDS_SHIFT = 19
# Records (`kmemleak/src/objects/record.rs`).
RECORD_BYTES = 28
FLAGS_OFFSET = 18
ALIAS = 1
# The word that says what is unusual (`kmemleak/src/tracker/mode_word.rs`).
OFF = 1 << 0
GONE = 1 << 1

ALL_ONES = (1 << 64) - 1


def number(value):
    """The number inside of atomics, cells and wrappers of one field."""
    while value.type.strip_typedefs().code == gdb.TYPE_CODE_STRUCT:
        fields = [field for field in value.type.fields() if field.type.sizeof > 0]
        if len(fields) != 1:
            raise gdb.error("%s is no number" % value.type)
        value = value[fields[0]]
    return int(value)


def words(address, count):
    """So many words of the machine's memory."""
    memory = gdb.selected_inferior().read_memory(address, 8 * count).tobytes()
    return [int.from_bytes(memory[at : at + 8], "little") for at in range(0, len(memory), 8)]


def entries(root):
    """The entries of all chunks, as lists of words."""
    tables = [word for word in root if word & 1]
    for _ in range(TABLES_BELOW_ROOT):
        # The word of a table is its address, inverted; one of a run is even.
        found = [words(ALL_ONES - word, PAGE_WORDS) for word in tables]
        tables = [word for table in found for word in table if word & 1]
    for word in tables:
        leaf = words(ALL_ONES - word, PAGE_WORDS)
        for at in range(0, PAGE_WORDS, ENTRY_WORDS):
            yield leaf[at : at + ENTRY_WORDS]


def is_alias(entry, granule):
    """Whether what starts there is a further copy of a per-CPU block."""
    spacing = entry[INFO_WORD] >> INFO_SHIFT & SPACING_MASK
    # Sign-extended, without its lowest three bits.
    records = entry[0] >> RECORDS_SHIFT << 3
    if records >> 47:
        records |= ALL_ONES << 48 & ALL_ONES
    flags = records + (granule >> spacing) * RECORD_BYTES + FLAGS_OFFSET
    memory = gdb.selected_inferior().read_memory(flags, 2).tobytes()
    return int.from_bytes(memory, "little") & ALIAS != 0


def count(root):
    """How many objects are tracked, but for those that start at no multiple of eight."""
    objects = 0
    for entry in entries(root):
        starts = entry[STARTS_WORD]
        granules = [granule for granule in range(64) if starts >> granule & 1]
        objects += sum(not is_alias(entry, granule) for granule in granules)
    return objects


def some(value):
    """What is in a variant `Some`; None if the value is another variant."""
    names = [field.name for field in value.type.fields()]
    if "Some" not in names:
        return None
    content = value["Some"]
    return content[content.type.fields()[0]]


def verdict(summary):
    """A verdict in words."""
    summary = some(summary)
    if summary is None:
        return "no check yet"
    fields = ["objects", "bytes", "suspects", "suspect_bytes", "unrecorded"]
    objects, size, suspects, suspect_size, unrecorded = [int(summary[name]) for name in fields]
    text = "%d unreferenced objects (%d bytes)" % (objects, size)
    if suspects:
        text += ", %d suspects (%d bytes)" % (suspects, suspect_size)
    if unrecorded:
        text += ", %d unrecorded" % unrecorded
    return "the last check found " + text


class Detector:
    """Prints a detector."""

    def __init__(self, value):
        self.value = value

    def to_string(self):
        try:
            return self.text()
        except gdb.MemoryError as error:
            return "its memory cannot be read: %s" % error

    def text(self):
        tracker, checker = self.value["tracker"], self.value["checker"]
        word = number(tracker["word"])
        gone = word & GONE
        parts = ["off, its memory given back" if gone else "off" if word & OFF else "on"]
        if not gone:
            root = tracker["registry"]["map"]["root"]
            root = words(int(root.address), root.type.range()[1] + 1)
            parts.append("%d objects tracked" % count(root))
        parts.append(verdict(checker["findings"]["data"]["value"]["verdict"]["summary"]))
        if number(checker["holder"]):
            parts.append("a check is running, or a report is being read")
        return "; ".join(parts)


def printer(value):
    """The printer of a value, if it is a detector."""
    name = value.type.strip_typedefs().name
    return Detector(value) if name and DETECTOR_TYPE.match(name) else None


class Print(gdb.Command):
    """print EXPRESSION, in which KMEMLEAK is the kernel's detector, wherever the machine has stopped."""

    def __init__(self, name):
        super().__init__(name, gdb.COMMAND_DATA, gdb.COMPLETE_EXPRESSION)

    def invoke(self, argument, from_tty):
        argument = re.sub(r"(?<![\w:$.])KMEMLEAK\b", DETECTOR, argument)
        try:
            # The same as `print`, but that it prints no empty value.
            gdb.execute("call " + argument if argument else "show values", from_tty)
        except gdb.MemoryError as error:
            raise gdb.GdbError("%s; before `kernel::start` nothing of the kernel is there" % error)


def load_rust_printers():
    """The toolchain's own printers, of strings, vectors and the like; without a toolchain there are none."""
    here = os.path.dirname(os.path.abspath(__file__))
    try:
        sysroot = subprocess.run(
            ["rustc", "--print", "sysroot"], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()
        sys.path.insert(0, os.path.join(sysroot, "lib", "rustlib", "etc"))
        import gdb_lookup

        gdb_lookup.register_printers(gdb.current_objfile() or gdb)
    except (OSError, subprocess.CalledProcessError, ImportError, AttributeError) as error:
        print("no printers for the types of the standard library: %s" % error)


gdb.execute("set language rust")
# A detector is larger than what gdb prints without being asked.
gdb.execute("set max-value-size unlimited")
gdb.pretty_printers.append(printer)
for name in ["p", "print"]:
    Print(name)
load_rust_printers()
