//! What the kernel has in hugepages.

use std::fs;
use std::path::Path;

const SYSFS: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";

/// Bytes of the hugepages counted here.
pub(super) const HUGEPAGE_MB: u64 = 2;

/// The free 2 MB hugepages of the machine; zero when the kernel has none or does not say.
pub fn free_hugepages() -> u64 {
    read_count(Path::new(SYSFS))
}

fn read_count(path: &Path) -> u64 {
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_or_odd_files_count_as_none() {
        let path = std::env::temp_dir().join(format!("hugepages-{}", std::process::id()));
        assert_eq!(read_count(&path), 0);
        fs::write(&path, "17\n").unwrap();
        assert_eq!(read_count(&path), 17);
        fs::write(&path, "many").unwrap();
        assert_eq!(read_count(&path), 0);
        fs::remove_file(&path).unwrap();
    }
}
