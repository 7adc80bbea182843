//! The rule on unsafe code: it stays where everybody looks for it.
use super::{File, Finding, rust_paths};

/// The eBPF programs, the C function that is loaded into other programs, and the daemon's system calls without a safe
/// wrapper.
const ALLOWED: [&str; 4] = ["mptcp-ebpf", "mptcp-preload", "mptcp-pm/src/bpf/sys.rs", "mptcp-pm/src/bpf/sys"];

/// The word `unsafe` is only in the files that may have it, not even under an `allow` elsewhere.
pub fn is_where_it_belongs(file: &File) -> Vec<Finding> {
    if !file.is_rust() || ALLOWED.iter().any(|allowed| file.path.starts_with(allowed)) {
        return Vec::new();
    }
    let what = "unsafe code belongs into mptcp-pm/src/bpf/sys, mptcp-ebpf or mptcp-preload: move it, or find a safe wrapper";
    match rust_paths::read(&file.text) {
        Ok(paths) => {
            let found = paths.iter().filter(|path| path.segments == ["unsafe"]);
            found.map(|path| file.finding(path.line, what)).collect()
        }
        Err(error) => vec![file.finding(1, format!("reading the file: {error}: mend its syntax"))],
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::lines, *};

    const CODE: &str =
        "//! \"unsafe\" is a word here.\nfn f() {\n    unsafe { g() }\n}\nunsafe impl T for U {}\n";

    #[test]
    fn unsafe_elsewhere_is_found() {
        assert_eq!(lines(is_where_it_belongs, "mptcp-pm/src/daemon.rs", CODE), [3, 5]);
        assert_eq!(lines(is_where_it_belongs, "mptcp-common/src/lib.rs", CODE), [3, 5]);
        assert!(lines(is_where_it_belongs, "mptcp-pm/src/bpf/sys.rs", CODE).is_empty());
        assert!(lines(is_where_it_belongs, "mptcp-pm/src/bpf/sys/program.rs", CODE).is_empty());
        assert!(lines(is_where_it_belongs, "mptcp-ebpf/src/kernel.rs", CODE).is_empty());
        assert!(lines(is_where_it_belongs, "a.rs", "// unsafe\nconst A: &str = \"unsafe\";\n").is_empty());
    }
}
