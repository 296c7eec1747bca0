//! The kernel.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod stub {
    use bootloader_api::config::Mapping;
    use bootloader_api::{BootInfo, BootloaderConfig, entry_point};
    use core::fmt::Write;
    use uart_16550::backend::PioBackend;
    use uart_16550::{Config, Uart16550};
    const CONFIG: BootloaderConfig = {
        let mut config = BootloaderConfig::new_default();
        config.kernel_stack_size = 128 * 1024;
        config.mappings.physical_memory = Some(Mapping::FixedAddress(0xffff_8880_0000_0000));
        config
    };
    entry_point!(main, config = &CONFIG);
    struct Serial(Uart16550<PioBackend>);
    impl Write for Serial {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            self.0.send_bytes_exact(text.as_bytes());
            Ok(())
        }
    }
    fn main(info: &'static mut BootInfo) -> ! {
        // SAFETY: the first serial port.
        let mut uart = unsafe { Uart16550::new_port(0x3f8) }.expect("port");
        uart.init(Config::default()).expect("uart");
        let mut serial = Serial(uart);
        let _ = writeln!(serial, "hello: {info:#x?}");
        exit(0x10)
    }
    fn exit(code: u32) -> ! {
        // SAFETY: the exit device.
        unsafe { x86_64::instructions::port::PortWriteOnly::new(0xf4).write(code) };
        loop {}
    }
    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo) -> ! {
        exit(0x11)
    }
    use core::alloc::{GlobalAlloc, Layout};
    struct NoHeap;
    // SAFETY: none.
    unsafe impl GlobalAlloc for NoHeap {
        unsafe fn alloc(&self, _: Layout) -> *mut u8 {
            core::ptr::null_mut()
        }
        unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
    }
    #[global_allocator]
    static NO_HEAP: NoHeap = NoHeap;
}

#[cfg(not(target_os = "none"))]
fn main() {}
