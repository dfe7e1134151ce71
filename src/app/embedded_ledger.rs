//! The process's embedded ledger: opened, served, closed for a new process, and opened again if that one fails.
//!
//! Its store has one writer, so an upgrade closes it here before the new process opens it. Its socket stays open all
//! the time: callbacks wait in the socket's queue until they are accepted. Once the process ends it stays closed, even
//! if an upgrade under way would open it.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::notify::{Message, Notifier};
use crate::upgrade::sockets::Sockets;
use base::clock;
use config::model;
use ledger::journal::Standing;
use ledger::metrics::LedgerSeries;
use ledger::monitor::Tell;
use ledger::monitor::alarms::Alarm;
use ledger::service::{Ledger, Outside};

/// Sends the ledger's alarms to every receiver.
pub fn tell(notifier: Arc<Notifier>) -> Tell {
    Arc::new(move |alarm| {
        let time = |ms: i64| clock::rfc3339(u64::try_from(ms).unwrap_or_default());
        let Alarm { kind, text, since_ms, at_ms } = alarm;
        notifier.send(Message::of_alarm(kind.label(), kind.severity(), &text, &time(at_ms), &time(since_ms)));
    })
}

/// The ledger's place in the process.
pub struct Books {
    sockets: Arc<Sockets>,
    notifier: Arc<Notifier>,
    series: Arc<LedgerSeries>,
    state: Mutex<BooksState>,
}

struct BooksState {
    config: model::ledger::Ledger,
    running: Option<Ledger>,
    ended: bool,
}

impl Books {
    /// Opens it; it accepts connections from [`Books::serve`] on.
    pub fn open(
        config: &model::ledger::Ledger,
        sockets: Arc<Sockets>,
        notifier: Arc<Notifier>,
    ) -> Result<Books, String> {
        let state = BooksState { config: config.clone(), running: None, ended: false };
        let books = Books { sockets, notifier, series: Arc::default(), state: Mutex::new(state) };
        books.state.lock().running = Some(books.ledger(config, false)?);
        Ok(books)
    }

    fn ledger(&self, config: &model::ledger::Ledger, stays: bool) -> Result<Ledger, String> {
        // The proxy goes on without it.
        let failed = Box::new(|_: &str| {});
        let outside = Outside { tell: tell(self.notifier.clone()), series: self.series.clone(), failed, stays };
        Ledger::open(config, outside, |address| self.sockets.listen(address))
    }

    /// Its metrics.
    pub fn metrics(&self) -> prometheus::Registry {
        self.series.registry()
    }

    /// Accepts connections.
    pub fn serve(&self) -> Result<(), String> {
        self.state.lock().running.as_ref().map_or(Ok(()), Ledger::serve)
    }

    /// Whether another process writes the books, or none does yet.
    pub fn stands_by(&self) -> bool {
        self.standing() == Standing::Standby
    }

    /// Whether the store failed.
    pub fn has_failed(&self) -> bool {
        self.standing() == Standing::Failed
    }

    fn standing(&self) -> Standing {
        self.state.lock().running.as_ref().map_or(Standing::Standby, Ledger::standing)
    }

    /// Whether another program prevents this process from migrating the books of an older build.
    pub fn is_held(&self) -> bool {
        self.state.lock().running.as_ref().is_some_and(Ledger::is_held)
    }

    /// Applies the settings that may change while it runs.
    pub fn follow(&self, config: &model::ledger::Ledger) {
        let mut state = self.state.lock();
        state.config = config.clone();
        state.running.iter().for_each(|ledger| ledger.follow(config));
    }

    /// Stops it: accepted callbacks are answered, the books are anchored, the store is free. Blocks; not for a
    /// runtime's thread.
    pub fn close(&self) {
        if let Some(ledger) = self.state.lock().running.take() {
            ledger.stop();
        }
    }

    /// Opens it again, and serves. If the store cannot be opened any more, callbacks get a 503: no other process
    /// accepts what waits in the socket's queue.
    pub fn open_again(&self) -> Result<(), String> {
        let mut state = self.state.lock();
        if state.ended || state.running.is_some() {
            return Ok(());
        }
        let (ledger, opened) = match self.ledger(&state.config, false) {
            Ok(ledger) => (ledger, Ok(())),
            Err(why) => (self.ledger(&state.config, true)?, Err(why)),
        };
        ledger.serve()?;
        state.running = Some(ledger);
        opened
    }

    /// Closes it for good.
    pub fn end(&self) {
        self.state.lock().ended = true;
        self.close();
    }
}
