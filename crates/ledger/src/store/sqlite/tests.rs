//! What only SQLite does: its files, its lock, its crashes. What both stores do alike is tested from outside.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::rows::{Evidence, Table, Type, Value};
use crate::store::Reader;

struct Place {
    folder: TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("books/ledger.db");
    Place { folder, path }
}

impl Place {
    fn open(&self) -> Sqlite {
        let lock = open::lock(&self.path).unwrap().expect("the lock is free");
        let connection = open::writer(&self.path, true).unwrap();
        let statements = SqliteStatements::new();
        let files = open::Files::now(&self.path).unwrap();
        let copier = Copier::start(&self.path).unwrap();
        let (poisoned, draining, told) = (None, false, false);
        let (copy_at, reset_at) = (COPY_ABOVE, RESET_ABOVE);
        Sqlite { copier, connection, statements, poisoned, copy_at, reset_at, draining, told, files, _lock: lock }
    }

    fn refused(&self) -> String {
        match Sqlite::open(&self.path, true) {
            Err(e) => e.to_string(),
            Ok(_) => panic!("it was opened"),
        }
    }
}

fn evidence(seq: i64, size: usize) -> Changes {
    let (id, key_id) = (Uuid::now_v7(), Uuid::now_v7());
    let row = Evidence { seq, id, channel: "c".into(), key_id, received_at: 1, headers: vec![], body: vec![7; size] };
    let link = Link { seq, rows: vec![], link: vec![1] };
    Changes { rows: vec![row.row()], links: vec![link], ..Changes::default() }
}

fn keep(store: &mut Sqlite, changes: &Changes) {
    store.begin().unwrap();
    store.write(changes).unwrap();
    store.commit().unwrap();
}

fn count(reader: &mut dyn Reader) -> Value {
    reader.select("SELECT COUNT(*) FROM evidence", &[], &[Type::Int]).unwrap().remove(0).remove(0)
}

#[test]
fn the_folder_and_the_file_are_its_owners_only() {
    let place = place();
    let mut store = place.open();
    keep(&mut store, &evidence(1, 10));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(place.path.parent().unwrap()), 0o700);
    for ending in ["", "-wal", "-shm", ".lock"] {
        assert_eq!(mode(&open::beside(&place.path, ending)), 0o600, "{ending}");
    }
}

#[test]
fn a_file_that_is_no_ledger_is_refused_and_not_changed() {
    let place = place();
    fs::create_dir(place.path.parent().unwrap()).unwrap();
    let text = "not a database, but longer than its header would be: ".repeat(40);
    fs::write(&place.path, &text).unwrap();
    assert!(place.refused().contains("not a ledger, nor any database"), "{}", place.refused());
    assert_eq!(fs::read_to_string(&place.path).unwrap(), text);

    fs::remove_file(&place.path).unwrap();
    Connection::open(&place.path).unwrap().execute_batch("CREATE TABLE theirs (a)").unwrap();
    let before = fs::read(&place.path).unwrap();
    assert!(place.refused().contains("not a ledger of tollgate"), "{}", place.refused());
    assert!(SqliteReader::open(&place.path).is_err());
    assert_eq!(fs::read(&place.path).unwrap(), before);
}

#[test]
fn a_newer_ledger_is_refused() {
    let place = place();
    drop(place.open());
    Connection::open(&place.path)
        .unwrap()
        .execute_batch(&format!("PRAGMA user_version = {}", crate::store::schema::VERSION + 1))
        .unwrap();
    assert!(place.refused().contains("newer tollgate"), "{}", place.refused());
}

/// The files as a crash would leave them: copied while they are open.
fn crashed(place: &Place) -> Place {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    for ending in ["", "-wal"] {
        fs::copy(open::beside(&place.path, ending), open::beside(&path, ending)).unwrap();
    }
    Place { folder, path }
}

#[test]
fn after_a_crash_a_reader_sees_what_was_committed_and_leaves_it() {
    let place = place();
    let mut store = place.open();
    keep(&mut store, &evidence(1, 10));
    keep(&mut store, &evidence(2, 10));
    let crashed = crashed(&place);
    let log = open::beside(&crashed.path, "-wal");
    let before = (fs::read(&crashed.path).unwrap(), fs::read(&log).unwrap());
    assert!(!before.1.is_empty());
    for _ in 0..2 {
        assert_eq!(count(&mut *SqliteReader::open(&crashed.path).unwrap()), Value::Int(2));
    }
    assert!((fs::read(&crashed.path).unwrap(), fs::read(&log).unwrap()) == before, "a reader changed something");

    // Whoever writes next first copies the log into the file, and syncs that.
    let mut next = crashed.open();
    assert_eq!(fs::metadata(&log).unwrap().len(), 0);
    assert_eq!(next.heads().unwrap().seq, 2);
    assert!(crashed.folder.path().exists() && place.folder.path().exists());
}

#[test]
fn a_reader_with_an_old_view_does_not_keep_the_ledger_from_starting() {
    let place = place();
    let mut store = place.open();
    keep(&mut store, &evidence(1, 10));
    let mut reader = SqliteReader::open(&place.path).unwrap();
    reader.snapshot().unwrap();
    keep(&mut store, &evidence(2, 10));
    drop(store);
    let mut store = place.open();
    keep(&mut store, &evidence(3, 10));
    assert_eq!(count(&mut *reader), Value::Int(1));
    reader.end();
    assert_eq!(count(&mut *reader), Value::Int(3));
}

#[test]
fn a_reader_where_nothing_can_be_written_reads_a_closed_file() {
    let place = place();
    let mut store = place.open();
    keep(&mut store, &evidence(1, 10));
    drop(store);
    assert!(!open::beside(&place.path, "-wal").exists(), "closed cleanly");
    // Whoever runs as root may write anywhere: a folder in the way of the index does the same to everybody.
    let odd = place.path.with_file_name("a b%3F?#.db");
    fs::rename(&place.path, &odd).unwrap();
    fs::create_dir(open::beside(&odd, "-shm")).unwrap();
    let mut reader = SqliteReader::open(&odd).unwrap();
    assert_eq!(count(&mut *reader), Value::Int(1));
}

#[test]
fn the_log_is_copied_when_idle_and_before_a_batch_when_it_is_long() {
    let place = place();
    let mut store = place.open();
    keep(&mut store, &evidence(1, 10));
    let state = |store: &Sqlite| open::checkpoint(&store.connection, "NOOP").unwrap();
    let (log, copied) = state(&store);
    assert!(log > 0 && copied == 0, "{log} {copied}");
    store.idle().unwrap();
    let (log, copied) = state(&store);
    assert_eq!(log, copied);
    let pages = 4096 * (COPY_ABOVE as usize + 10);
    keep(&mut store, &evidence(2, pages));
    let (log, copied) = state(&store);
    assert!(log - copied > COPY_ABOVE, "{log} {copied}");
    store.begin().unwrap();
    store.rollback();
    until_copied(&store);
    assert_eq!(log, copied_now(&store).1, "beside the writer");
    // The next batch takes what came meanwhile, and begins the log anew.
    keep(&mut store, &evidence(3, 10));
    assert!(copied_now(&store).0 < 20, "{:?}", copied_now(&store));
}

fn copied_now(store: &Sqlite) -> (i64, i64) {
    open::checkpoint(&store.connection, "NOOP").unwrap()
}

fn until_copied(store: &Sqlite) {
    while store.copier.is_busy() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_log_that_a_view_made_long_is_copied_beside_the_writer() {
    let place = place();
    let mut store = place.open();
    keep(&mut store, &evidence(1, 10));
    let mut reader = SqliteReader::open(&place.path).unwrap();
    reader.snapshot().unwrap();
    let pages = 4096 * (COPY_ABOVE as usize);
    for seq in 2..12 {
        keep(&mut store, &evidence(seq, pages));
        until_copied(&store);
    }
    let (log, copied) = copied_now(&store);
    assert!(log - copied > 9 * COPY_ABOVE, "{log} {copied}");
    reader.end();
    let (mut seq, mut left) = (12, log - copied);
    while copied_now(&store).0 > 1_000 {
        store.begin().unwrap();
        assert!(left <= rest(log) || store.draining, "{left} pages at once");
        store.write(&evidence(seq, 10)).unwrap();
        store.commit().unwrap();
        until_copied(&store);
        let (log, copied) = copied_now(&store);
        (seq, left) = (seq + 1, log - copied);
        assert!(seq < 30, "the log is not used anew: {log} {copied}");
    }
    keep(&mut store, &evidence(100, 10));
    let size = fs::metadata(open::beside(&place.path, "-wal")).unwrap().len();
    assert!(size <= 65 << 20, "{size}");
}

#[test]
fn readers_that_follow_one_another_do_not_keep_the_log_from_being_used_anew() {
    let place = place();
    let mut store = place.open();
    keep(&mut store, &evidence(1, 10));
    let over = std::sync::atomic::AtomicBool::new(false);
    let longest = std::thread::scope(|scope| {
        let readers = || {
            let mut reader = SqliteReader::open(&place.path).unwrap();
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                reader.snapshot().unwrap();
                std::thread::sleep(Duration::from_millis(5));
                reader.end();
                reader.pause();
            }
        };
        scope.spawn(readers);
        let mut longest = 0;
        for seq in 2..400 {
            keep(&mut store, &evidence(seq, 4096 * 100));
            std::thread::sleep(Duration::from_millis(8));
            longest = longest.max(copied_now(&store).0);
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        longest
    });
    assert!(longest < 2 * RESET_ABOVE, "{longest} of 40,000 pages");
}

#[test]
fn keys_are_erased_beside_readers_and_the_writer_goes_on() {
    let place = place();
    let mut store = place.open();
    let wrapped = Uuid::now_v7().to_string().into_bytes();
    let (id, by, purpose, day) = (Uuid::now_v7(), "k".into(), "data".into(), "2026-11-21".into());
    let wrap = Wrap { id, by, purpose, day, wrapped: wrapped.clone(), created_at: 1 };
    keep(&mut store, &Changes { wraps: vec![wrap], ..evidence(1, 10) });
    let over = std::sync::atomic::AtomicBool::new(false);
    let ordering = std::sync::atomic::Ordering::Relaxed;
    let (erased, longest) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut reader = SqliteReader::open(&place.path).unwrap();
            let mut view = Duration::from_millis(1_500);
            while !over.load(ordering) {
                reader.snapshot().unwrap();
                std::thread::sleep(view);
                reader.end();
                reader.pause();
                view = Duration::from_millis(20);
            }
        });
        let writer = scope.spawn(|| {
            let (mut seq, mut longest) = (2, Duration::ZERO);
            while !over.load(ordering) {
                let began = std::time::Instant::now();
                keep(&mut store, &evidence(seq, 4096 * 100));
                (seq, longest) = (seq + 1, longest.max(began.elapsed()));
                std::thread::sleep(Duration::from_millis(2));
            }
            longest
        });
        std::thread::sleep(Duration::from_millis(200));
        let erased = erase(&place.path, crate::store::erase::Which::Day("2026-11-21"));
        over.store(true, ordering);
        (erased.unwrap(), writer.join().unwrap())
    });
    assert_eq!((erased.wraps, erased.rest), (1, None));
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    for ending in ["", "-wal"] {
        let bytes = fs::read(open::beside(&place.path, ending)).unwrap();
        assert!(!bytes.windows(wrapped.len()).any(|part| part == wrapped), "{ending}");
    }
}

#[test]
fn a_copier_that_failed_poisons_the_writer() {
    let place = place();
    let mut store = place.open();
    keep(&mut store, &evidence(1, 10));
    store.begin().unwrap();
    store.write(&evidence(2, 10)).unwrap();
    store.copier.fail("disk I/O error");
    assert!(matches!(store.commit(), Err(StoreError::Poisoned(_))));
    assert!(matches!(store.begin(), Err(StoreError::Poisoned(_))), "for ever");
}

#[test]
fn a_full_disk_takes_the_whole_batch_and_says_so() {
    let place = place();
    let mut store = place.open();
    keep(&mut store, &evidence(1, 10));
    let pages: i64 = store.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    let set = |store: &Sqlite, pages: i64| {
        let sql = format!("PRAGMA max_page_count = {pages}");
        store.connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap();
    };
    set(&store, pages + 5);
    store.begin().unwrap();
    store.savepoint().unwrap();
    store.write(&evidence(2, 10)).unwrap();
    store.release(true).unwrap();
    store.savepoint().unwrap();
    assert!(matches!(store.write(&evidence(3, 100_000)), Err(StoreError::Full(_))));
    // SQLite has taken it all back, the first callback too: nothing may look kept.
    let ended = store.release(false).and_then(|()| store.savepoint()).and_then(|()| store.commit());
    if store.connection.is_autocommit() {
        assert!(matches!(ended, Err(StoreError::Full(_))), "{ended:?}");
        assert!(matches!(store.write(&evidence(3, 10)), Err(StoreError::Full(_))));
    }
    store.rollback();
    set(&store, 1_000_000);
    keep(&mut store, &evidence(9, 100_000));
    assert_eq!(store.heads().unwrap().seq, 9);
}

#[test]
fn once_poisoned_nothing_touches_the_file_again() {
    let place = place();
    let mut store = place.open();
    keep(&mut store, &evidence(1, 10));
    store.begin().unwrap();
    store.write(&evidence(2, 10)).unwrap();
    let log = open::beside(&place.path, "-wal");
    let before = (fs::read(&place.path).unwrap(), fs::read(&log).unwrap());
    assert!(store.heed::<()>(Err(StoreError::Poisoned("disk I/O error".into()))).is_err());
    let poisoned =
        |answer: Result<(), StoreError>| assert!(matches!(answer, Err(StoreError::Poisoned(_))), "{answer:?}");
    poisoned(store.commit());
    poisoned(store.begin());
    poisoned(store.savepoint());
    poisoned(store.release(false));
    poisoned(store.write(&evidence(3, 10)));
    poisoned(store.load(&Wanted::default()).map(drop));
    poisoned(store.heads().map(drop));
    poisoned(store.wraps().map(drop));
    poisoned(store.events(&[]).map(drop));
    poisoned(store.idle());
    store.rollback();
    drop(store);
    assert!((fs::read(&place.path).unwrap(), fs::read(&log).unwrap()) == before, "the file was touched");
    assert_eq!(place.open().heads().unwrap().seq, 1);
}

#[test]
fn every_question_is_answered_by_an_index() {
    let place = place();
    let store = place.open();
    let plan = |sql: &str| {
        let mut statement = store.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let count = statement.parameter_count();
        let values = rusqlite::params_from_iter((0..count).map(|_| "1"));
        let steps = statement.query_map(values, |row| row.get::<_, String>(3)).unwrap();
        steps.map(Result::unwrap).collect::<Vec<_>>().join("; ")
    };
    let SqliteStatements { by_key, by_number, by_trade, waiting, order_by_trade, order_by_id, event, update, .. } =
        &store.statements;
    assert!(plan(by_key).contains("INDEX transactions_meaning"), "{}", plan(by_key));
    assert!(plan(by_trade).contains("INDEX transactions_trade"), "{}", plan(by_trade));
    assert!(plan(waiting).contains("INDEX transactions_waits"), "{}", plan(waiting));
    assert!(plan(order_by_trade).contains("INDEX orders_trade"), "{}", plan(order_by_trade));
    let number = "SELECT id FROM transactions WHERE channel_txn_no = ?1";
    for sql in [number, by_number] {
        assert!(plan(sql).contains("INDEX transactions_number"), "{}", plan(sql));
    }
    for sql in [order_by_id, event, &update[sql::place(Table::Order)], &update[sql::place(Table::Outgoing)]] {
        assert!(plan(sql).starts_with("SEARCH") && !plan(sql).contains("SCAN"), "{}", plan(sql));
    }
    assert!(plan(&update[sql::place(Table::Outgoing)]).starts_with("SEARCH outbox"));
}

#[test]
fn nothing_is_written_to_a_file_that_was_taken_away() {
    for name in ["ledger.db", "ledger.db.lock"] {
        let place = place();
        let mut store = place.open();
        store.begin().unwrap();
        store.rollback();
        std::fs::rename(place.path.with_file_name(name), place.path.with_file_name("elsewhere")).unwrap();
        assert!(matches!(store.begin(), Err(StoreError::Poisoned(why)) if why.contains(name)));
        assert!(matches!(store.idle(), Err(StoreError::Poisoned(_))), "for ever");
    }
}

#[test]
fn indexes_of_a_large_file_are_made_when_there_is_time() {
    let place = place();
    let mut store = place.open();
    let Changes { rows, links, .. } = evidence(1_000_000, 10);
    keep(&mut store, &Changes { rows, links, ..Changes::default() });
    drop(store);
    Connection::open(&place.path).unwrap().execute_batch("DROP INDEX events_merchant").unwrap();
    let told = Sqlite::open(&place.path, false).map(drop);
    assert!(
        matches!(&told, Err(StoreError::Full(why)) if why.contains("1 indexes are missing over 1000000 rows")),
        "{told:?}"
    );
    assert!(Sqlite::open(&place.path, true).unwrap().is_some());
    assert!(Sqlite::open(&place.path, false).unwrap().is_some(), "they are there");
}
