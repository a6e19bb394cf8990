//! Memory of a call. Each call is of a new instance, whose memory goes with it: what is freed need not be found again, so
//! that taking memory is adding to a number. The memory that an instance begins with is used before it is asked for
//! more, which costs the host more than the call itself.

use core::alloc::{GlobalAlloc, Layout};
use core::arch::wasm32::{memory_grow, memory_size};
use core::cell::Cell;
use core::ptr;

const PAGE: usize = 65_536;
/// Asked for at once, at least, in pages.
const LEAST: usize = 4;

unsafe extern "C" {
    /// Where the linker's own data ends.
    static __heap_base: u8;
}

struct Rising {
    /// The first free byte; 0 before anything was taken.
    next: Cell<usize>,
    /// The first byte that is not there.
    end: Cell<usize>,
}

// There are no threads in a policy.
unsafe impl Sync for Rising {}

#[global_allocator]
static MEMORY: Rising = Rising { next: Cell::new(0), end: Cell::new(0) };

impl Rising {
    /// Makes room up to `end`; says whether there is.
    fn reach(&self, end: usize) -> bool {
        if end <= self.end.get() {
            return true;
        }
        let lacking = (end - self.end.get()).div_ceil(PAGE);
        let most = lacking.max(LEAST);
        // Where there is no room for more than what is needed, that may do.
        let taken = [most, lacking].into_iter().find(|pages| memory_grow(0, *pages) != usize::MAX);
        taken.is_some_and(|pages| {
            self.end.set(self.end.get() + pages * PAGE);
            true
        })
    }
}

unsafe impl GlobalAlloc for Rising {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if self.end.get() == 0 {
            self.next.set(&raw const __heap_base as usize);
            self.end.set(memory_size(0) * PAGE);
        }
        let start = self.next.get().next_multiple_of(layout.align());
        match start.checked_add(layout.size()) {
            Some(end) if self.reach(end) => {
                self.next.set(end);
                start as *mut u8
            }
            _ => ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // The last one can be had again.
        if block as usize + layout.size() == self.next.get() {
            self.next.set(block as usize);
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The last one grows and shrinks where it is.
        if block as usize + layout.size() == self.next.get() {
            return match (block as usize).checked_add(size) {
                Some(end) if self.reach(end) => {
                    self.next.set(end);
                    block
                }
                _ => ptr::null_mut(),
            };
        }
        if size <= layout.size() {
            return block;
        }
        // The alignment is one that was taken before.
        let new = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !new.is_null() {
            unsafe { ptr::copy_nonoverlapping(block, new, layout.size()) };
        }
        new
    }
}
