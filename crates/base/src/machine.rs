//! The resources of the machine that the process may use.
//!
//! They are read once: values derived from them at start must not differ at the next reload of an unchanged file.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use rustix::process::{Resource, getrlimit, setrlimit};

/// The memory assumed where the kernel reports none.
const MEMORY_UNKNOWN: u64 = 1 << 30;

/// Files and sockets that may be open at once; to be called after the limit was raised.
pub fn open_files() -> usize {
    static FILES: OnceLock<usize> = OnceLock::new();
    *FILES.get_or_init(|| {
        let most = u64::from(u32::MAX);
        getrlimit(Resource::Nofile).current.unwrap_or(most).min(most) as usize
    })
}

/// Raises the limit of open files to the machine's maximum: a gateway needs two sockets a request.
pub fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(e) = setrlimit(Resource::Nofile, limit) {
        log::warn!("the limit of open files could not be raised: {e}");
    }
}

/// Bytes of memory: the machine's, or the limit of its control group.
pub fn memory() -> u64 {
    static MEMORY: OnceLock<u64> = OnceLock::new();
    *MEMORY.get_or_init(|| {
        let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let group = of_group(&groups, |file| fs::read_to_string(Path::new("/sys/fs/cgroup").join(file)).ok());
        machine.into_iter().chain(group).min().unwrap_or(MEMORY_UNKNOWN)
    })
}

/// `MemTotal` of `/proc/meminfo`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// The least memory limit of the process's control groups, from its own up to the root.
fn of_group(groups: &str, read: impl Fn(&str) -> Option<String>) -> Option<u64> {
    let (mut own, mut file) = (groups.lines().find_map(|line| line.strip_prefix("0::/")), "memory.max");
    let mut root = String::new();
    if let Some(group) = groups.lines().find_map(|line| line.split_once(":memory:/")) {
        (own, file, root) = (Some(group.1), "memory.limit_in_bytes", "memory/".to_owned());
    }
    let own = own?;
    let ends = own.match_indices('/').map(|(at, _)| at).chain([0, own.len()]);
    // Within a container the path may be that of the machine; then the root is the container's own.
    let limit = |end: usize| {
        let folder = if end == 0 { root.clone() } else { format!("{root}{}/", &own[..end]) };
        read(&format!("{folder}{file}"))?.trim().parse::<u64>().ok()
    };
    ends.filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_that_of_the_machine_or_of_the_narrowest_group() {
        assert_eq!(total("MemFree: 1 kB\nMemTotal:       2048 kB\n"), Some(2 << 20));
        assert_eq!(total("nothing"), None);
        let files = |file: &str| {
            let text = match file {
                "memory.max" => "900",
                "a/memory.max" => "500\n",
                "a/b/memory.max" => "max\n",
                "memory/c/memory.limit_in_bytes" => "700",
                _ => return None,
            };
            Some(text.to_owned())
        };
        assert_eq!(of_group("0::/a/b\n", files), Some(500));
        assert_eq!(of_group("0::/\n", files), Some(900));
        assert_eq!(of_group("1:cpu:/c\n2:memory:/c\n", files), Some(700));
        assert_eq!(of_group("", files), None);
        assert!(memory() > 1 << 20 && open_files() > 10);
    }
}
