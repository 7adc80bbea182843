//! Gives back the memory that loading objects has taken: what was freed, and pages of files that only loading has touched.
use std::fs;
use std::ops::Range;
use std::ptr::with_exposed_provenance_mut;

use nix::libc;

/// Gives back memory that was freed, also from below what is still in use, which only glibc keeps that long (malloc_trim(3)),
/// and the pages of the program and of libraries. Those that are used again come back from the page cache.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it has no arguments that could be wrong, and touches only what is free.
    unsafe {
        libc::malloc_trim(0);
    }
    // Without /proc nothing is given back, which harms nobody.
    for Range { start, end } in unchanged(&fs::read_to_string("/proc/self/smaps").unwrap_or_default()) {
        // SAFETY: of a mapping of a file that cannot be written to, and of which no page differs from the file, each page reads
        // the same when it is there again.
        unsafe {
            libc::madvise(with_exposed_provenance_mut(start), end - start, libc::MADV_DONTNEED);
        }
    }
}

/// Where private mappings of files are that cannot be written to and have no pages of their own (proc_pid_smaps(5)): what
/// the dynamic linker has written to, before it took the right away, has such pages.
fn unchanged(smaps: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        if let Some(mapping) = mapping(line) {
            candidate = mapping;
        } else if line.strip_prefix("Anonymous:").is_some_and(|amount| amount.trim() == "0 kB") {
            found.extend(candidate.take());
        }
    }
    found
}

/// The first line of a mapping: where it is, if it is private, not writable, and of a file. None for other lines.
fn mapping(line: &str) -> Option<Option<Range<usize>>> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let range = address(start)?..address(end)?;
    let (access, inode) = (words.next()?, words.nth(2)?);
    let is_one = !access.contains('w') && access.ends_with('p') && inode != "0";
    Some(is_one.then_some(range))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_in_its_file_is_given_back() {
        let smaps = "\
5600-5700 r--p 00000000 fe:00 77     /usr/bin/mptcp-pm
Rss:                  64 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
5700-5800 r-xp 00100000 fe:00 77     /usr/bin/mptcp-pm
Anonymous:             0 kB
5800-5900 r--p 00200000 fe:00 77     /usr/bin/mptcp-pm
Anonymous:             4 kB
5900-5a00 rw-p 00300000 fe:00 77     /usr/bin/mptcp-pm
Anonymous:             0 kB
6000-6100 r-xp 00000000 00:00 0      [vdso]
Anonymous:             0 kB
7000-7100 r--s 00000000 00:0e 12     anon_inode:bpf-map
Anonymous:             0 kB
";
        assert_eq!(unchanged(smaps), [0x5600..0x5700, 0x5700..0x5800]);
        assert!(unchanged("no\nsuch thing\nAnonymous: 0 kB").is_empty());
    }

    #[test]
    fn this_process_goes_on_after_it() {
        give_back_memory();
        let here = fs::read_to_string("/proc/self/smaps").expect("there is one");
        assert!(!unchanged(&here).is_empty());
    }
}
