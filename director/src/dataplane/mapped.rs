//! Arrays of the data plane, memory-mapped: reading and writing an element costs no system call.

use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use director_ebpf::abi::{Backend, FlowCold, FlowSet, Service, SlotLine};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A map's element: plain words.
///
/// # Safety
/// Every bit pattern is a value, there is no padding, and the size is a multiple of 8 bytes.
pub unsafe trait Element: Copy {}

// SAFETY: integers and byte arrays only; sizes and absence of padding are asserted in the ABI.
unsafe impl Element for Service {}
// SAFETY: as above.
unsafe impl Element for Backend {}
// SAFETY: as above.
unsafe impl Element for FlowSet {}
// SAFETY: as above.
unsafe impl Element for FlowCold {}
// SAFETY: as above.
unsafe impl Element for SlotLine {}
// SAFETY: one word.
unsafe impl Element for u64 {}

/// A `BPF_F_MMAPABLE` array. The program reads and writes it at the same time, so every access here is one of single words.
pub struct Mapped<T> {
    start: NonNull<AtomicU64>,
    len: usize,
    of: PhantomData<T>,
}

// SAFETY: the mapping is shared memory that lives until drop; all access goes through atomics.
unsafe impl<T: Element> Send for Mapped<T> {}
// SAFETY: as above.
unsafe impl<T: Element> Sync for Mapped<T> {}

impl<T: Element> Mapped<T> {
    /// Words of an element.
    const WORDS: usize = size_of::<T>() / 8;

    /// Maps an array of `len` elements.
    ///
    /// # Errors
    /// What mmap(2) answers: the map is no `BPF_F_MMAPABLE` array, or memory is short.
    pub fn new(map: impl AsFd, len: usize) -> std::io::Result<Self> {
        let bytes = len * size_of::<T>();
        // SAFETY: a new mapping at an address of the kernel's choosing; the kernel checks it against the map's size.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                map.as_fd(),
                0,
            )?
        };
        let start = NonNull::new(start.cast()).ok_or_else(|| std::io::Error::other("mmap gave address 0"))?;
        Ok(Mapped { start, len, of: PhantomData })
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// One word of an element.
    ///
    /// # Panics
    /// If it lies outside.
    pub fn word(&self, index: usize, word: usize) -> &AtomicU64 {
        assert!(index < self.len && word < Self::WORDS, "element {index} word {word} of {}", self.len);
        // SAFETY: inside the mapping by the assertion, aligned since a mapping starts at a page.
        unsafe { self.start.add(index * Self::WORDS + word).as_ref() }
    }

    /// An element, word by word: while the program writes it, words may be of different times.
    pub fn get(&self, index: usize) -> T {
        let mut value = std::mem::MaybeUninit::<T>::uninit();
        for word in 0..Self::WORDS {
            let bits = self.word(index, word).load(Ordering::Acquire);
            // SAFETY: `word` is inside the value; `Element` allows any bits and has no padding.
            unsafe { value.as_mut_ptr().cast::<u64>().add(word).write_unaligned(bits) };
        }
        // SAFETY: all words are written.
        unsafe { value.assume_init() }
    }

    /// Writes an element word by word, the word `last` at the end. Words that do not change are not touched.
    pub fn set(&self, index: usize, value: &T, last: usize) {
        for word in (0..Self::WORDS).filter(|word| *word != last).chain([last]) {
            // SAFETY: `word` is inside the value, which has no padding.
            let bits = unsafe { std::ptr::from_ref(value).cast::<u64>().add(word).read_unaligned() };
            let place = self.word(index, word);
            if place.load(Ordering::Relaxed) != bits {
                place.store(bits, Ordering::Release);
            }
        }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: our own mapping, and no reference to it outlives `self`.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len * size_of::<T>()) };
    }
}
