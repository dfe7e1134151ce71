//! Reports on disk: `state_dir/reports/ID.json` and, for reading, `ID.md`.
//!
//! A report can be read from the moment in which it is announced, even if the disk has not written it yet or fails to.
//! The newest [`KEPT`] stay. Files are replaced atomically and synced, the page first: a listed report has its page. Of
//! two reports of one release in one millisecond the second gets `-2` after its id. A file that cannot be read is
//! skipped and logged. Ids also come from outside: an invalid one names no file.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use gray::report::Report;

/// Maximum of reports.
pub const KEPT: usize = 200;
/// Maximum length of an id in bytes.
const ID_MAX: usize = 160;

/// The reports of a `state_dir`.
#[derive(Debug)]
pub struct ReportStore {
    folder: PathBuf,
    /// Held while a report is stored: ids are assigned one after the other.
    writing: Mutex<()>,
    /// Reports that are not on the disk yet. Never locked during disk access.
    announced: Mutex<Vec<Report>>,
}

impl ReportStore {
    /// Opens it, and creates it if absent; removes half-written files of an earlier process.
    pub fn open(state_dir: &Path) -> io::Result<ReportStore> {
        let shelf =
            ReportStore { folder: state_dir.join("reports"), writing: Mutex::default(), announced: Mutex::default() };
        fs::create_dir_all(&shelf.folder)?;
        for torn in shelf.names().iter().filter(|name| name.ends_with(".new")) {
            let _ = fs::remove_file(shelf.folder.join(torn));
        }
        Ok(shelf)
    }

    /// Makes a report readable from now on, without waiting for a disk. If the disk takes none, the oldest are dropped.
    pub fn announce(&self, report: &Report) {
        let mut announced = self.announced.lock();
        if announced.len() >= KEPT {
            announced.remove(0);
        }
        announced.push(report.clone());
    }

    /// Stores a report, under another id if its own is taken, and removes the oldest.
    pub fn keep(&self, mut report: Report) -> io::Result<Report> {
        let _one = self.writing.lock();
        let own = report.id.clone();
        for more in 2.. {
            match self.path(&report.id, "json") {
                None => return Err(io::Error::new(io::ErrorKind::InvalidInput, "a report's id has other letters")),
                Some(path) if path.exists() => report.id = format!("{own}-{more}"),
                Some(_) => break,
            }
        }
        let text = serde_json::to_string_pretty(&report)?;
        self.write(&report.id, "md", &report.markdown())?;
        self.write(&report.id, "json", &text)?;
        self.announced.lock().retain(|waits| waits.id != own);
        self.prune();
        Ok(report)
    }

    /// All of them, newest first.
    pub fn list(&self) -> Vec<Report> {
        // Read first: a report that leaves it meanwhile is on the disk.
        let announced = self.announced.lock().clone();
        let mut ids = self.ids();
        ids.extend(announced.into_iter().map(|report| report.id));
        ids.into_iter().rev().filter_map(|id| self.load(&id)).collect()
    }

    /// One of them; `None` for an invalid id.
    pub fn load(&self, id: &str) -> Option<Report> {
        let announced = self.announced.lock().iter().find(|report| report.id == id).cloned();
        announced.or_else(|| self.read(id))
    }

    fn read(&self, id: &str) -> Option<Report> {
        let path = self.path(id, "json")?;
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
            Err(e) => {
                log::error!("{}: unreadable, passed over: {e}", path.display());
                return None;
            }
        };
        serde_json::from_slice(&bytes)
            .inspect_err(|e| log::error!("{}: unreadable, passed over: {e}", path.display()))
            .ok()
    }

    /// Its page, as Markdown.
    pub fn page(&self, id: &str) -> Option<String> {
        fs::read_to_string(self.path(id, "md")?).ok()
    }

    /// Ids of all reports, oldest first.
    fn ids(&self) -> BTreeSet<String> {
        self.names().iter().filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    fn prune(&self) {
        let ids = self.ids();
        for old in ids.iter().take(ids.len().saturating_sub(KEPT)) {
            for ending in ["json", "md"] {
                if let Some(path) = self.path(old, ending) {
                    let _ = fs::remove_file(path);
                }
            }
        }
    }

    /// The file of a report; `None` for an invalid id, so that no path leads elsewhere.
    fn path(&self, id: &str, ending: &str) -> Option<PathBuf> {
        let letters = id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
        let is_id = letters && !id.starts_with('.') && (1..=ID_MAX).contains(&id.len());
        is_id.then(|| self.folder.join(format!("{id}.{ending}")))
    }

    /// Replaces a file: it is the old one or the new one, whatever happens.
    fn write(&self, id: &str, ending: &str, text: &str) -> io::Result<()> {
        // The folder may have been removed.
        fs::create_dir_all(&self.folder)?;
        let temporary = self.folder.join(format!("{id}.{ending}.new"));
        let mut file = fs::File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, self.folder.join(format!("{id}.{ending}")))?;
        fs::File::open(&self.folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::facts;
    use super::*;

    fn report(n: usize) -> Report {
        let mut facts = facts();
        facts.at = format!("2026-11-21T15:{:02}:{:02}.000Z", n / 60, n % 60);
        Report::new(facts)
    }

    #[test]
    fn the_newest_reports_are_kept_with_their_pages() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = ReportStore::open(folder.path()).unwrap();
        (0..KEPT + 3).for_each(|n| drop(shelf.keep(report(n)).unwrap()));
        let all = shelf.list();
        assert_eq!(all.len(), KEPT);
        assert_eq!(all[0].id, report(KEPT + 2).id, "newest first");
        assert_eq!(all[KEPT - 1].id, report(3).id);
        assert_eq!(shelf.page(&all[0].id).unwrap(), report(KEPT + 2).markdown());
        assert_eq!(shelf.load(&all[0].id).unwrap().facts.places, report(0).facts.places);
        assert_eq!(shelf.names().len(), 2 * KEPT, "nothing else is left in the folder");
    }

    #[test]
    fn an_announced_report_is_read_at_once_and_listed_once() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = ReportStore::open(folder.path()).unwrap();
        let old = shelf.keep(report(1)).unwrap();
        let new = report(2);
        shelf.announce(&new);
        for kept in [false, true] {
            if kept {
                shelf.keep(new.clone()).unwrap();
            }
            assert_eq!(shelf.load(&new.id).map(|report| report.verdict), Some(new.verdict.clone()));
            let listed: Vec<String> = shelf.list().into_iter().map(|report| report.id).collect();
            assert_eq!(listed, [&*new.id, &*old.id]);
        }
        assert!(shelf.announced.lock().is_empty());
    }

    #[test]
    fn two_reports_of_one_moment_have_two_ids() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = ReportStore::open(folder.path()).unwrap();
        let ids: Vec<String> = (0..3).map(|_| shelf.keep(report(1)).unwrap().id).collect();
        assert_eq!(ids[1..], [format!("{}-2", ids[0]), format!("{}-3", ids[0])]);
        let listed: Vec<String> = shelf.list().into_iter().map(|report| report.id).collect();
        assert_eq!(listed, [&ids[2], &ids[1], &ids[0]].map(Clone::clone));
        assert!(shelf.page(&ids[2]).unwrap().contains(&format!("Report `{}`", ids[2])));
    }

    #[test]
    fn what_is_no_id_names_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = ReportStore::open(folder.path()).unwrap();
        let kept = shelf.keep(report(1)).unwrap();
        fs::write(folder.path().join("secret.json"), serde_json::to_string(&kept).unwrap()).unwrap();
        for id in ["../secret", "..", ".", "", "a/b", "a\\b", "a\0", &"x".repeat(161)] {
            assert_eq!(shelf.load(id), None, "{id:?}");
            assert_eq!(shelf.page(id), None, "{id:?}");
        }
        let mut foreign = report(2);
        foreign.id = "../secret".into();
        assert!(shelf.keep(foreign).is_err());
    }

    #[test]
    fn torn_files_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = ReportStore::open(folder.path()).unwrap();
        let kept = shelf.keep(report(1)).unwrap();
        fs::write(folder.path().join("reports/20270101T000000.000Z-x.json"), "{ torn").unwrap();
        fs::write(folder.path().join("reports/20270101T000000.000Z-y.json.new"), "{").unwrap();
        let shelf = ReportStore::open(folder.path()).unwrap();
        assert_eq!(shelf.list().into_iter().map(|report| report.id).collect::<Vec<_>>(), [kept.id]);
        assert!(!shelf.names().iter().any(|name| name.ends_with(".new")), "half written files go at the start");
    }
}
