//! The functions, for one static. `include/kmemleak.h` declares the same functions, and says what each does.

/// Defines the functions that `include/kmemleak.h` declares, for this static [`Detector`](crate::Detector): once in a kernel.
/// See [`c_api`](crate::c_api).
#[macro_export]
macro_rules! export_c_api {
    ($detector:path) => {
        const _: () = {
            use ::core::ffi::{c_char, c_int, c_void};
            use $crate::AllocOptions;
            use $crate::c_api::{self, CResult, CSummary, CWriteFn, CWriter};

            #[unsafe(no_mangle)]
            extern "C" fn kmemleak_alloc(start: *const c_void, size: usize, min_count: c_int) {
                let options = AllocOptions::new().min_count(min_count);
                $detector.alloc(start.expose_provenance(), size, options);
            }

            #[unsafe(no_mangle)]
            extern "C" fn kmemleak_free(start: *const c_void) {
                $detector.free(start.addr());
            }

            #[unsafe(no_mangle)]
            extern "C" fn kmemleak_refused_free(address: *const c_void) {
                $detector.refused_free(address.addr());
            }

            #[unsafe(no_mangle)]
            extern "C" fn kmemleak_free_part(start: *const c_void, len: usize) {
                $detector.free_part(start.addr(), len);
            }

            #[unsafe(no_mangle)]
            extern "C" fn kmemleak_alloc_percpu(handle: *const c_void, size: usize) {
                $detector.alloc_percpu(handle.expose_provenance(), size);
            }

            #[unsafe(no_mangle)]
            extern "C" fn kmemleak_free_percpu(handle: *const c_void) {
                $detector.free_percpu(handle.addr());
            }

            #[unsafe(no_mangle)]
            extern "C" fn kmemleak_ignore_percpu(handle: *const c_void) {
                $detector.ignore_percpu(handle.addr());
            }

            #[unsafe(no_mangle)]
            extern "C" fn kmemleak_vmalloc(start: *const c_void, size: usize, area: *const c_void) {
                $detector.vmalloc(start.expose_provenance(), size, area.addr());
            }

            #[unsafe(no_mangle)]
            extern "C" fn kmemleak_alloc_phys(start: u64, size: usize) {
                $detector.alloc_phys(start as usize, size);
            }

            #[unsafe(no_mangle)]
            extern "C" fn kmemleak_free_part_phys(start: u64, len: usize) {
                $detector.free_part_phys(start as usize, len);
            }

            #[unsafe(no_mangle)]
            extern "C" fn kmemleak_ignore_phys(start: u64) {
                $detector.ignore_phys(start as usize);
            }

            #[unsafe(no_mangle)]
            extern "C" fn kmemleak_not_leak(start: *const c_void) {
                $detector.not_leak(start.addr());
            }

            #[unsafe(no_mangle)]
            extern "C" fn kmemleak_ignore(start: *const c_void) {
                $detector.ignore(start.addr());
            }

            #[unsafe(no_mangle)]
            extern "C" fn kmemleak_no_scan(start: *const c_void) {
                $detector.no_scan(start.addr());
            }

            #[unsafe(no_mangle)]
            extern "C" fn kmemleak_scan_area(start: *const c_void, len: usize) {
                $detector.scan_area(start.addr(), len);
            }

            #[unsafe(no_mangle)]
            extern "C" fn kmemleak_transient_leak(start: *const c_void) {
                $detector.transient_leak(start.addr());
            }

            #[unsafe(no_mangle)]
            extern "C" fn kmemleak_update_trace(start: *const c_void) {
                $detector.update_trace(start.addr());
            }

            #[unsafe(no_mangle)]
            extern "C" fn kmemleak_region_add(start: *const c_void, len: usize) -> bool {
                $detector.region_add(start.expose_provenance(), len)
            }

            #[unsafe(no_mangle)]
            extern "C" fn kmemleak_region_remove(start: *const c_void) {
                $detector.region_remove(start.addr());
            }

            #[unsafe(no_mangle)]
            extern "C" fn kmemleak_exclude(start: *const c_void, len: usize) -> bool {
                $detector.exclude(start.addr(), len)
            }

            #[unsafe(no_mangle)]
            extern "C" fn kmemleak_include(start: *const c_void) -> bool {
                $detector.include(start.addr())
            }

            #[unsafe(no_mangle)]
            extern "C" fn kmemleak_disabled_begin() {
                $detector.disabled_begin();
            }

            #[unsafe(no_mangle)]
            extern "C" fn kmemleak_disabled_end() {
                $detector.disabled_end();
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn kmemleak_erase(variable: *mut *mut c_void) {
                // SAFETY: the caller's promise.
                unsafe { $detector.erase(variable.cast()) };
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn kmemleak_add_metadata(memory: *mut c_void, len: usize) -> usize {
                // SAFETY: the caller's promise.
                let memory = unsafe { c_api::lent(memory, len) };
                $detector.add_metadata(memory)
            }

            #[unsafe(no_mangle)]
            extern "C" fn kmemleak_is_on() -> bool {
                $detector.is_on()
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn kmemleak_check(summary: *mut CSummary) -> CResult {
                let verdict = $detector.check();
                // SAFETY: the caller's promise.
                unsafe { c_api::answer(verdict, summary) }
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn kmemleak_scan(summary: *mut CSummary) -> CResult {
                let verdict = $detector.scan();
                // SAFETY: the caller's promise.
                unsafe { c_api::answer(verdict, summary) }
            }

            #[unsafe(no_mangle)]
            extern "C" fn kmemleak_mark() -> CResult {
                $detector.mark().into()
            }

            #[unsafe(no_mangle)]
            extern "C" fn kmemleak_unmark() -> CResult {
                $detector.unmark().into()
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn kmemleak_report(write: CWriteFn, cookie: *mut c_void) {
                // SAFETY: the caller's promise.
                let mut out = unsafe { CWriter::new(write, cookie) };
                // This writer has no errors.
                let _ = $detector.report(&mut out);
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn kmemleak_command(
                line: *const c_char,
                write: CWriteFn,
                cookie: *mut c_void,
            ) -> bool {
                // SAFETY: the caller's promise.
                let mut out = unsafe { CWriter::new(write, cookie) };
                // SAFETY: the caller's promise.
                let line = unsafe { c_api::string(line) };
                line.is_some_and(|line| $detector.command(line, &mut out).is_ok())
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn kmemleak_boot_parameter(word: *const c_char) -> bool {
                // SAFETY: the caller's promise.
                let word = unsafe { c_api::string(word) };
                word.is_some_and(|word| $detector.boot_parameter(word).is_ok())
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn kmemleak_background_step(
                write: CWriteFn,
                cookie: *mut c_void,
            ) -> u64 {
                // SAFETY: the caller's promise.
                let mut log = unsafe { CWriter::new(write, cookie) };
                c_api::background_step(&$detector, &mut log)
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn kmemleak_drain_warnings(write: CWriteFn, cookie: *mut c_void) {
                // SAFETY: the caller's promise.
                let mut out = unsafe { CWriter::new(write, cookie) };
                $detector.drain_warnings(&mut out);
            }
        };
    };
}
