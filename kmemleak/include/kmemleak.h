/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * kmemleak for C code of a kernel.
 *
 * The kernel defines these functions in Rust, once, for its detector:
 *
 *         kmemleak::export_c_api!(KMEMLEAK);
 *
 * A function kmemleak_x does what the method x of Detector does; the crate's
 * documentation says more.
 *
 * Contexts: "any" is any context but a non-maskable interrupt, on several CPUs
 * at once, from the first instruction on, with no lock of the allocator held.
 * Such functions never sleep, print, allocate or panic. "Task" is a task, with
 * no lock held. Sizes and lengths are in bytes.
 */
#ifndef KMEMLEAK_H
#define KMEMLEAK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * What allocators tell: any context.
 *
 * An allocator calls kmemleak_alloc when a block has left all free lists, and
 * kmemleak_free before it returns to one. Addresses may be wrong: what can be
 * no block is refused, and kmemleak_drain_warnings tells of it.
 */

/*
 * A block was handed out. min_count is the number of references that must be
 * found: 1; 2 if the allocator's own scanned bookkeeping points to the block as
 * well; 0 if it is no leak whatever is found; -1 if it is not scanned either.
 */
void kmemleak_alloc(const void *start, size_t size, int min_count);

/* The block is given back. The detector does not read it any more. */
void kmemleak_free(const void *start);

/* An allocator has refused to free this address: a warning says who asked. */
void kmemleak_refused_free(const void *address);

/* A part of a block is given back; the rest stays known. */
void kmemleak_free_part(const void *start, size_t len);

/* A per-CPU block: size is that of one copy, and the handle names all copies. */
void kmemleak_alloc_percpu(const void *handle, size_t size);
void kmemleak_free_percpu(const void *handle);

/* The per-CPU block is neither scanned nor reported. */
void kmemleak_ignore_percpu(const void *handle);

/*
 * A block of virtually contiguous memory, which the object at area describes:
 * it needs two references, one of them from there. Free it by kmemleak_free.
 */
void kmemleak_vmalloc(const void *start, size_t size, const void *area);

/* Physical memory, by physical addresses: scanned, never reported. */
void kmemleak_alloc_phys(uint64_t start, size_t size);
void kmemleak_free_part_phys(uint64_t start, size_t len);

/* The block of physical memory is not scanned any more. */
void kmemleak_ignore_phys(uint64_t start);

/*
 * What is known of a block besides: any context.
 */

/* The block is no leak, even if nothing points to it. It is scanned. */
void kmemleak_not_leak(const void *start);

/* The block is neither scanned nor reported. */
void kmemleak_ignore(const void *start);

/* The block holds no pointers: it is reported, but not scanned. */
void kmemleak_no_scan(const void *start);

/* Of the block in which start lies, only such areas are scanned. */
void kmemleak_scan_area(const void *start, size_t len);

/* The block is unreachable for a while, between two lists for example. */
void kmemleak_transient_leak(const void *start);

/* The block now belongs to the caller: its call stack is the present one. */
void kmemleak_update_trace(const void *start);

/*
 * Roots: any context. False if there is no memory to note it, or no memory can
 * lie there.
 */

/* The bytes are a root, until kmemleak_region_remove: they must stay readable. */
bool kmemleak_region_add(const void *start, size_t len);
void kmemleak_region_remove(const void *start);

/* The bytes are in no root, until kmemleak_include. */
bool kmemleak_exclude(const void *start, size_t len);

/* Takes the last exclusion back that begins here; false if there is none. */
bool kmemleak_include(const void *start);

/*
 * What the running task allocates in between is no leak. They nest. Context:
 * task; a lock may be held.
 */
void kmemleak_disabled_begin(void);
void kmemleak_disabled_end(void);

/*
 * Writes NULL to a variable that is to keep nothing alive, in such a way that
 * the compiler does not leave it out. The variable can be written to. Any
 * context.
 */
void kmemleak_erase(void **variable);

/*
 * Lends the detector memory for its records, for ever: nothing else uses these
 * bytes, which are initialized. Returns how many of them are used, since they are
 * in whole pages of 4096 bytes; 0 for NULL. Any context.
 */
size_t kmemleak_add_metadata(void *memory, size_t len);

/* Whether blocks are recorded: a cheap way out. Any context. */
bool kmemleak_is_on(void);

/*
 * Questions: task context.
 */

/* Whether something was done, and if not, why. */
enum kmemleak_result {
	KMEMLEAK_DONE,
	/* The detector is off, and can't be switched on again. */
	KMEMLEAK_OFF,
	/* The task was asked to stop. */
	KMEMLEAK_STOPPED,
	/* It was called from a function that the detector calls. */
	KMEMLEAK_NESTED,
	/* There was no memory for it. */
	KMEMLEAK_NO_MEMORY,
	/* There is no mark to measure from. */
	KMEMLEAK_NO_MARK,
};

/* A verdict in figures. */
struct kmemleak_summary {
	/* Leaks, and their bytes. */
	uint64_t objects;
	uint64_t bytes;
	/* The same where it is not certain that they are leaks. */
	uint64_t suspects;
	uint64_t suspect_bytes;
	/* Of all these, those that have not been reported. */
	uint64_t unreported_objects;
	/* What could not be recorded for lack of memory. */
	uint64_t unrecorded;
	/* Objects that were tracked. */
	uint64_t tracked;
	/* How long it took, and for how long the world was stopped. */
	uint64_t took_us;
	uint64_t stopped_us;
};

/*
 * Writes a piece of text of len bytes, which no zero ends. It may allocate, but
 * what it asks the detector is refused. NULL drops the text.
 */
typedef void (*kmemleak_write_fn)(void *cookie, const char *text, size_t len);

/*
 * Looks for leaks now, with the world stopped if the kernel can stop it. What
 * was found is written to summary, unless that is NULL or it was not done.
 */
enum kmemleak_result kmemleak_check(struct kmemleak_summary *summary);

/* Looks for suspects while other code runs: one pass of the background scan. */
enum kmemleak_result kmemleak_scan(struct kmemleak_summary *summary);

/* Remembers what the last verdict lists and what is alive; forgets it. */
enum kmemleak_result kmemleak_mark(void);
enum kmemleak_result kmemleak_unmark(void);

/* Writes the last verdict as text. */
void kmemleak_report(kmemleak_write_fn write, void *cookie);

/*
 * Runs a command, such as "scan" or "report --json", and writes the answer;
 * "help" lists the commands. False if the command was not done: the line is
 * NULL, not UTF-8, or not a command; or the answer says why. Leaks found are no
 * failure.
 */
bool kmemleak_command(const char *line, kmemleak_write_fn write, void *cookie);

/*
 * Takes a boot parameter, such as "kmemleak.scan=600"; false if there is none
 * of that name, or not with that value. Also before there are tasks.
 */
bool kmemleak_boot_parameter(const char *word);

/*
 * Scans if a scan is due, and writes what is new: for a task that calls it
 * again after the returned number of microseconds, or earlier; UINT64_MAX while
 * the background scan is switched off.
 */
uint64_t kmemleak_background_step(kmemleak_write_fn write, void *cookie);

/* Writes the warnings that have come up since the last time. */
void kmemleak_drain_warnings(kmemleak_write_fn write, void *cookie);

#ifdef __cplusplus
}
#endif

#endif /* KMEMLEAK_H */
