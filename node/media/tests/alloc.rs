//! The counting allocator, installed.

use std::alloc::System;
use std::hint::black_box;

use pipemesh_node_media::alloc::{Counting, allocations};

#[global_allocator]
static ALLOCATOR: Counting<System> = Counting(System);

#[test]
fn a_thread_counts_what_it_allocates_itself() {
    let before = allocations();
    let mut list = black_box(Vec::<u64>::with_capacity(4));
    assert_eq!(allocations() - before, 1);
    list.extend([1, 2, 3, 4]);
    assert_eq!(allocations() - before, 1, "there was room");
    list.push(5);
    assert_eq!(allocations() - before, 2, "to grow counts");
    drop(black_box(list));
    assert_eq!(allocations() - before, 2, "to free does not");

    let (ready, wait) = std::sync::mpsc::sync_channel(1);
    let other = std::thread::spawn(move || {
        drop(black_box(vec![0u8; 100]));
        ready.send(allocations()).unwrap();
    });
    let elsewhere = wait.recv().unwrap();
    other.join().unwrap();
    assert!(elsewhere > 0);
}
