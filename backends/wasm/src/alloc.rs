//! Memory for the C++ code. A block is [padding | its size and alignment | the bytes that C++ sees].
use std::alloc::{alloc, alloc_zeroed, dealloc, Layout};
use std::ptr::null_mut;

unsafe fn allocate(size: usize, align: usize, from: unsafe fn(Layout) -> *mut u8) -> *mut u8 {
    let align = align.max(16);
    let Some(total) = size.checked_add(align) else { return null_mut() };
    let Ok(layout) = Layout::from_size_align(total, align) else { return null_mut() };
    let block = from(layout);
    if block.is_null() {
        return block;
    }
    let bytes = block.add(align);
    bytes.cast::<[u32; 2]>().sub(1).write([total as u32, align as u32]);
    bytes
}

#[no_mangle]
pub unsafe extern "C" fn shiftadd_rust_alloc(size: usize, align: usize) -> *mut u8 {
    allocate(size, align, alloc)
}

#[no_mangle]
pub unsafe extern "C" fn shiftadd_rust_alloc_zeroed(size: usize, align: usize) -> *mut u8 {
    allocate(size, align, alloc_zeroed)
}

#[no_mangle]
pub unsafe extern "C" fn shiftadd_rust_free(bytes: *mut u8) {
    if bytes.is_null() {
        return;
    }
    let [total, align] = bytes.cast::<[u32; 2]>().sub(1).read().map(|value| value as usize);
    dealloc(bytes.sub(align), Layout::from_size_align_unchecked(total, align));
}
