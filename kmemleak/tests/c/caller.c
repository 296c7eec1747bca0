/* Tells the detector of its blocks, loses one, and prints the report. Compiled by caller.rs. */

#include <kmemleak.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "line %d: not so: %s\n", __LINE__, #condition); \
			exit(1); \
		} \
	} while (0)

/* As a caller that was written for another kernel passes flags. */
#define kmemleak_alloc(start, size, min_count, flags) \
	(kmemleak_alloc)(start, size, min_count)

/* The roots: one lies in .bss, one in .data. */
static void *held;
static void *also_held = &held;

static char written[65536];

/* What the detector's records lie in. */
static char lent[64 * 4096];

static void write_text(void *cookie, const char *text, size_t len)
{
	size_t *used = cookie;

	CHECK(*used + len < sizeof(written));
	memcpy(written + *used, text, len);
	*used += len;
}

static void print_layout(void)
{
	printf("%d %d %d %d %d %d\n", KMEMLEAK_DONE, KMEMLEAK_OFF, KMEMLEAK_STOPPED,
	       KMEMLEAK_NESTED, KMEMLEAK_NO_MEMORY, KMEMLEAK_NO_MARK);
#define OFFSET(field) (int)offsetof(struct kmemleak_summary, field)
	printf("%d %d %d %d %d %d %d %d %d\n", OFFSET(objects), OFFSET(bytes),
	       OFFSET(suspects), OFFSET(suspect_bytes), OFFSET(unreported_objects),
	       OFFSET(unrecorded), OFFSET(tracked), OFFSET(took_us), OFFSET(stopped_us));
	printf("%d %d\n\n", (int)sizeof(enum kmemleak_result),
	       (int)sizeof(struct kmemleak_summary));
}

static void *new_block(size_t size)
{
	void *block = calloc(1, size);

	CHECK(block != NULL);
	kmemleak_alloc(block, size, 1, 0);
	return block;
}

static void free_block(void *block)
{
	kmemleak_free(block);
	free(block);
}

static uint64_t leaks(void)
{
	struct kmemleak_summary summary;

	CHECK(kmemleak_check(&summary) == KMEMLEAK_DONE);
	CHECK(summary.suspects == 0 && summary.unrecorded == 0);
	return summary.objects;
}

int main(void)
{
	size_t used = 0;

	print_layout();
	CHECK(kmemleak_is_on());
	CHECK(kmemleak_add_metadata(NULL, 4096) == 0);
	CHECK(kmemleak_add_metadata(lent, sizeof(lent)) >= 63 * 4096);

	held = new_block(64);
	also_held = new_block(32);
	CHECK(leaks() == 0);

	/* What the other one points to is alive, where that is scanned. */
	*(void **)also_held = held;
	kmemleak_erase(&held);
	CHECK(held == NULL && leaks() == 0);
	kmemleak_no_scan(also_held);
	CHECK(leaks() == 1);
	free_block(also_held);
	also_held = NULL;
	CHECK(leaks() == 1);

	/* A block that is no leak, one that is gone, and a root that was excluded. */
	kmemleak_disabled_begin();
	new_block(16);
	kmemleak_disabled_end();
	kmemleak_not_leak(new_block(16));
	held = new_block(16);
	CHECK(leaks() == 1);
	CHECK(kmemleak_exclude(&held, sizeof(held)));
	CHECK(leaks() == 2);
	CHECK(kmemleak_include(&held) && !kmemleak_include(&held));
	CHECK(leaks() == 1);

	CHECK(kmemleak_boot_parameter("kmemleak.verbose=on"));
	CHECK(!kmemleak_boot_parameter("kmemleak.verbose=maybe"));
	CHECK(!kmemleak_boot_parameter(NULL) && !kmemleak_boot_parameter("\xff"));
	CHECK(!kmemleak_command(NULL, write_text, &used) && used == 0);
	CHECK(kmemleak_command("status", write_text, &used) && used > 0);
	CHECK(!kmemleak_command("statsu", write_text, &used));
	used = 0;
	kmemleak_free(&used);
	kmemleak_drain_warnings(write_text, &used);
	CHECK(used > 0);

	CHECK(kmemleak_mark() == KMEMLEAK_DONE && kmemleak_unmark() == KMEMLEAK_DONE);
	CHECK(kmemleak_check(NULL) == KMEMLEAK_DONE);
	kmemleak_report(NULL, NULL);
	used = 0;
	kmemleak_report(write_text, &used);
	printf("%.*s", (int)used, written);

	CHECK(kmemleak_boot_parameter("kmemleak=off"));
	CHECK(!kmemleak_is_on() && kmemleak_check(NULL) == KMEMLEAK_OFF);
	CHECK(kmemleak_background_step(write_text, &used) == UINT64_MAX);
	return 0;
}
