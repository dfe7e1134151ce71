//! The source of a configuration, as text: one file, or every `*.toml` directly in a folder, in name order.
//!
//! An unreadable file is a finding, and all files are tried before giving up. Only regular files are read (symbolic
//! links are followed, so mounted config maps work): a pipe or a device could block or never end. Files that the
//! configuration names (tokens, certificates) are read by `check`, not here.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::finding::{Finding, Place};

/// The most bytes of all files together; offsets into them then always fit 32 bits.
pub const MAX_BYTES: u64 = 64 << 20;

/// The text of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The folder where relative paths start.
    pub root: PathBuf,
    /// The files, in the order in which they are merged; never empty.
    pub files: Vec<SourceFile>,
}

/// A file of a [`Source`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Its path, as findings name it.
    pub path: Arc<str>,
    /// Its content.
    pub text: Arc<str>,
}

impl Source {
    /// Reads the file or folder of `-c`.
    pub fn read(path: &Path) -> Result<Source, Vec<Finding>> {
        let metadata = fs::metadata(path).map_err(|error| vec![unreadable(path, &error)])?;
        if metadata.is_dir() {
            return Self::read_files(path.to_owned(), toml_files(path)?);
        }
        let root = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self::read_files(root.to_owned(), vec![path.to_owned()])
    }

    /// A source from memory: the root for relative paths, then path and text of each file in merge order.
    pub fn from_parts(root: PathBuf, files: Vec<(String, String)>) -> Source {
        let files = files.into_iter().map(|(path, text)| SourceFile { path: path.into(), text: text.into() });
        Source { root, files: files.collect() }
    }

    fn read_files(root: PathBuf, paths: Vec<PathBuf>) -> Result<Source, Vec<Finding>> {
        let (mut files, mut findings, mut left) = (Vec::new(), Vec::new(), MAX_BYTES);
        for path in paths {
            match read_file(&path, left) {
                Ok(file) => {
                    left -= file.text.len() as u64;
                    files.push(file);
                }
                Err(finding) => findings.push(finding),
            }
        }
        if findings.is_empty() { Ok(Source { root, files }) } else { Err(findings) }
    }
}

fn toml_files(folder: &Path) -> Result<Vec<PathBuf>, Vec<Finding>> {
    let entries = fs::read_dir(folder).map_err(|error| vec![unreadable(folder, &error)])?;
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| vec![unreadable(folder, &error)])?;
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if name.ends_with(b".toml") && !name.starts_with(b".") {
            paths.push(entry.path());
        }
    }
    if paths.is_empty() {
        let hint = "put a file such as `tollgate.toml` into the folder, or name a file with `-c`";
        return Err(vec![whole(folder, "the folder holds no `*.toml` file", hint)]);
    }
    paths.sort();
    Ok(paths)
}

fn read_file(path: &Path, left: u64) -> Result<SourceFile, Finding> {
    let metadata = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if !metadata.is_file() {
        return Err(whole(path, "this is not a regular file", "only regular files, or links to them, are read"));
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|error| unreadable(path, &error))?;
    // The length in the metadata may have changed, so the read itself is limited.
    file.take(left + 1).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 > left {
        let message = format!("the configuration is larger than {} MiB", MAX_BYTES >> 20);
        return Err(whole(path, message, "take long lists out of the configuration, or remove files from its folder"));
    }
    let text = String::from_utf8(bytes).map_err(|error| not_utf8(path, &error))?;
    Ok(SourceFile { path: path.display().to_string().into(), text: text.into() })
}

fn not_utf8(path: &Path, error: &std::string::FromUtf8Error) -> Finding {
    let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
    let line_start = valid.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let text = String::from_utf8_lossy(&valid[line_start..]);
    let place = Place {
        file: path.display().to_string().into(),
        line: 1 + valid.iter().filter(|&&byte| byte == b'\n').count(),
        column: 1 + text.chars().count(),
        text: text.chars().take(120).collect::<String>().into(),
    };
    place.finding("the text is not UTF-8 from here on", "save the file as UTF-8")
}

fn unreadable(path: &Path, error: &std::io::Error) -> Finding {
    let hint = match error.kind() {
        std::io::ErrorKind::NotFound => "check the path; `-c` names a file or a folder with `*.toml` files",
        std::io::ErrorKind::PermissionDenied => "let the user that runs tollgate read it",
        _ => "see that the file can be read",
    };
    whole(path, format!("cannot be read: {error}"), hint)
}

fn whole(path: &Path, message: impl Into<String>, hint: &str) -> Finding {
    Place::file(path.display().to_string()).finding(message, hint)
}
