//! What a running job takes of the machine: memory of this process, bytes of its folders.

use std::path::Path;

/// The bytes of all files below a folder, without those that vanish meanwhile.
pub fn bytes_below(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let kind = entry.file_type().ok()?;
            Some(if kind.is_dir() {
                bytes_below(&entry.path())
            } else {
                entry.metadata().map_or(0, |metadata| metadata.len())
            })
        })
        .sum()
}

/// Resident bytes of this process; 0 where there is no `/proc`.
pub fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
    kilobytes.map_or(0, |kilobytes: u64| kilobytes << 10)
}
