//! The file of the running executable, as it is on the disk now.
//!
//! If a package replaced the file, `/proc/self/exe` says `… (deleted)`, and the file that has the name now is meant. A
//! deployment may switch a symbolic link instead: so the name by which the process was started counts, if it named this
//! very executable at the start; otherwise the path that the kernel knows. A name without a slash was found in `PATH`,
//! which is searched again at the start only.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const ITSELF: &str = "/proc/self/exe";
const DELETED: &[u8] = b" (deleted)";

/// The running executable's path, links not resolved; call it at the start.
pub fn at_start() -> Option<PathBuf> {
    let itself = fs::metadata(ITSELF).ok();
    let is_it = |path: &Path| {
        let (Some(itself), Ok(found)) = (&itself, fs::metadata(path)) else { return false };
        (found.dev(), found.ino()) == (itself.dev(), itself.ino())
    };
    let name = std::env::args_os().next().map(PathBuf::from);
    let called = name.and_then(|name| {
        if name.as_os_str().as_bytes().contains(&b'/') {
            return std::path::absolute(name).ok();
        }
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|folder| folder.join(&name)).find(|path| is_it(path))
    });
    let of_kernel = || fs::read_link(ITSELF).ok().map(|path| if is_it(&path) { path } else { undeleted(&path) });
    called.filter(|path| is_it(path)).or_else(of_kernel)
}

/// The path without the kernel's suffix.
fn undeleted(path: &Path) -> PathBuf {
    let bytes = path.as_os_str().as_bytes();
    let bytes = bytes.strip_suffix(DELETED).unwrap_or(bytes);
    PathBuf::from(OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remark_of_the_kernel_is_no_part_of_the_path() {
        assert_eq!(undeleted(Path::new("/usr/bin/tollgate (deleted)")), Path::new("/usr/bin/tollgate"));
        assert_eq!(undeleted(Path::new("/usr/bin/tollgate")), Path::new("/usr/bin/tollgate"));
    }

    #[test]
    fn the_executable_of_the_tests_is_found() {
        let found = at_start().unwrap();
        assert!(found.is_absolute());
        assert_eq!(fs::metadata(found).unwrap().ino(), fs::metadata(ITSELF).unwrap().ino());
    }
}
