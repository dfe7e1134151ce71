//! Proof of the disk that fails on demand, with the SQLite that the gateway ships: what the tests of the ledger stand
//! on must itself be able to fail.
//!
//! This test binary is started once more, under the layer, as the process that writes; then it is killed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rusqlite::Connection;

use crate::support::disk::{Count, Disk, FAIL_ALL, STALL_ALL, STALL_SYNCS, Switch};
use crate::support::eventually;

const STORE: &str = "TOLLGATE_IT_STORE";
const SYNCHRONOUS: &str = "TOLLGATE_IT_SYNCHRONOUS";

/// The other process: writes a row, says so in a file beside, and waits to be killed.
#[test]
#[ignore = "the process that other tests start"]
fn a_process_that_writes_a_row() {
    let Some(store) = std::env::var_os(STORE).map(PathBuf::from) else { return };
    let told = store.with_file_name("../told");
    let written = write(&store, &std::env::var(SYNCHRONOUS).unwrap());
    std::fs::write(&told, written.map_or_else(|e| e.to_string(), |()| "done".to_owned())).unwrap();
    std::thread::park();
}

fn write(store: &Path, synchronous: &str) -> rusqlite::Result<()> {
    let store = Connection::open(store)?;
    store.pragma_update(None, "journal_mode", "wal")?;
    store.pragma_update(None, "synchronous", synchronous)?;
    let written = store.execute_batch("create table if not exists rows (n); insert into rows values (1)");
    // A connection that is closed makes everything durable.
    std::mem::forget(store);
    written
}

/// Of a copy: a connection that closes writes.
fn rows(store: &Path) -> i64 {
    let place = tempfile::tempdir().unwrap();
    for end in ["", "-wal"] {
        let name = format!("test.db{end}");
        let _ = std::fs::copy(store.with_file_name(&name), place.path().join(name));
    }
    let store = Connection::open(place.path().join("test.db")).unwrap();
    store.query_row("select count(*) from rows", [], |row| row.get(0)).unwrap_or(0)
}

/// A folder on the disk, and a process that writes there.
struct Scene {
    place: tempfile::TempDir,
    disk: Disk,
    writer: Option<Child>,
}

impl Scene {
    fn new() -> Scene {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join("state")).unwrap();
        let disk = Disk::under(&place.path().join("state")).with_power();
        Scene { place, disk, writer: None }
    }

    fn store(&self) -> PathBuf {
        self.place.path().join("state/test.db")
    }

    fn writes(&mut self, synchronous: &str) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let name = "ledger::disk::a_process_that_writes_a_row";
        command.args(["--exact", name, "--ignored"]).stdin(Stdio::null()).stdout(Stdio::null());
        command.env(STORE, self.store()).env(SYNCHRONOUS, synchronous);
        self.writer = Some(self.disk.over(&mut command).spawn().unwrap());
    }

    /// What the writer says.
    fn told(&self) -> String {
        let path = self.place.path().join("told");
        eventually("the writer's word", || std::fs::read_to_string(&path).ok().filter(|text| !text.is_empty()))
    }

    fn kill(&mut self) {
        let mut writer = self.writer.take().unwrap();
        writer.kill().unwrap();
        writer.wait().unwrap();
        let _ = std::fs::remove_file(self.place.path().join("told"));
    }

    fn writes_until_told(&mut self, synchronous: &str) -> String {
        self.writes(synchronous);
        let told = self.told();
        self.kill();
        told
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Some(mut writer) = self.writer.take() {
            let _ = writer.kill();
            let _ = writer.wait();
        }
    }
}

#[test]
fn a_row_that_was_synced_survives_the_loss_of_power_and_another_does_not() {
    for (synchronous, left) in [("OFF", 0), ("NORMAL", 0), ("FULL", 1)] {
        let mut scene = Scene::new();
        assert_eq!(scene.writes_until_told(synchronous), "done");
        scene.disk.loses_power();
        assert_eq!(rows(&scene.store()), left, "{synchronous}");
    }
}

#[test]
fn a_row_written_after_the_loss_of_power_is_as_durable_as_before() {
    let mut scene = Scene::new();
    for round in 1..=3 {
        assert_eq!(scene.writes_until_told("FULL"), "done");
        scene.disk.loses_power();
        assert_eq!(rows(&scene.store()), round);
    }
}

#[test]
fn what_a_killed_process_did_not_sync_is_seen_by_the_next_and_still_lost_with_power() {
    let mut scene = Scene::new();
    assert_eq!(scene.writes_until_told("FULL"), "done");
    scene.disk.only("-wal");
    scene.disk.set(Switch::Stall, STALL_SYNCS);
    scene.writes("FULL");
    scene.disk.holds_a_call();
    scene.kill();
    scene.disk.well();
    assert_eq!(rows(&scene.store()), 2, "the page cache outlives the process");
    scene.disk.loses_power();
    assert_eq!(rows(&scene.store()), 1);
}

#[test]
fn a_sync_that_failed_keeps_its_blocks_lost_until_they_are_written_anew() {
    let mut scene = Scene::new();
    assert_eq!(scene.writes_until_told("FULL"), "done");
    let first = rows(&scene.store());
    scene.disk.only("-wal");
    scene.disk.set(Switch::FailSync, FAIL_ALL);
    assert!(scene.writes_until_told("FULL").contains("disk I/O error"));
    assert!(scene.disk.count(Count::Failed) > 0);
    scene.disk.well();
    scene.disk.loses_power();
    assert_eq!(rows(&scene.store()), first);
}

#[test]
fn a_full_disk_refuses_writes_and_has_room_again() {
    let mut scene = Scene::new();
    assert_eq!(scene.writes_until_told("FULL"), "done");
    scene.disk.set(Switch::Full, 1);
    let said = scene.writes_until_told("FULL");
    assert!(said.contains("full"), "{said}");
    assert!(scene.disk.count(Count::Refused) > 0);
    scene.disk.well();
    assert_eq!(scene.writes_until_told("FULL"), "done");
    assert_eq!(rows(&scene.store()), 2);
}

#[test]
fn a_stalled_disk_holds_its_callers_and_lets_them_go_on() {
    let mut scene = Scene::new();
    scene.disk.set(Switch::Stall, STALL_ALL);
    scene.writes("FULL");
    scene.disk.holds_a_call();
    scene.disk.well();
    assert_eq!(scene.told(), "done");
    assert!(scene.disk.count(Count::Syncs) > 0);
    scene.kill();
    scene.disk.set(Switch::Slow, 200);
    let begun = std::time::Instant::now();
    assert_eq!(scene.writes_until_told("FULL"), "done");
    assert!(begun.elapsed().as_millis() >= 200);
}
