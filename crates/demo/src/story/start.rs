//! The beginning: backends, a configuration, a gateway and a load, which then run well for a while.

use std::fs::File;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use super::{LIMIT, Story, Visitor, ms, shares};
use crate::admin::Admin;
use crate::book::Book;
use crate::client;
use crate::conf::{BACKENDS, Conf, Releases, SHOP};
use crate::door::Door;
use crate::load::{CONNECTIONS, Load, RATE, USERS};
use crate::payment::Secrets;
use crate::stage::{Folder, Ports, Process, Tollgate, until};
use crate::tell::{Tell, thousands};
use base::clock;

impl<'a> Story<'a> {
    /// Starts everything.
    pub(super) async fn begin(tell: &'a Tell, tollgate: Tollgate) -> Result<Story<'a>, String> {
        tell.act("Three backends, a gateway, a load");
        let folder = Folder::new()?;
        let (ports, [gateway, admin, ledger, merchant, servers @ ..]) = Ports::reserve::<{ 4 + BACKENDS.len() }>()?;
        let (weights, releases) = ([1; SHOP], Releases::None);
        let (routes, typo) = (vec![], false);
        let conf = Conf { gateway, admin, ledger, merchant, servers, weights, routes, typo, releases };
        let secrets = Secrets::draw()?;
        secrets.write(folder.path())?;
        let door = Door::new(gateway, secrets.identity.certificate.clone())?;
        let backends = (0..SHOP).map(|n| start_backend(&conf, n)).collect::<Result<Vec<_>, _>>()?;
        for (n, process) in backends.iter().enumerate() {
            is_well(&conf, n).await?;
            tell.say(format_args!("backend {}   {}   pid {}", BACKENDS[n], servers[n], process.id()));
        }
        let file = folder.at("gateway.toml");
        std::fs::write(&file, conf.text()).map_err(|e| format!("{}: {e}", file.display()))?;
        tell.say(format_args!("{}:", file.display()));
        tell.quote(&conf.serving());
        tell.say("and what it says of apps and of payments, which come in acts 3 and 12");

        let begun = clock::now();
        let log = folder.at("gateway.log");
        let messages = File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
        let mut process = tollgate.serve(&["run"], &file, messages.into())?;
        let ready = async || match process.ended() {
            Some(status) => Some(Err(format!("the gateway ended at once ({status})"))),
            None => Admin(admin).is_ready().await.then_some(Ok(())),
        };
        let waited = until("the gateway to be ready", LIMIT, ready).await;
        waited.and_then(|ready| ready).map_err(|why| {
            format!("{why}; it said:\n{}", std::fs::read_to_string(&log).unwrap_or_default().trim_end())
        })?;
        let after = ms(clock::now().since(begun));
        tell.say(format_args!("gateway      {gateway}   pid {}   ready after {after}, admin on {admin}", process.id()));

        let book = Arc::new(Book::default());
        let phase = book.begin("all three serve");
        let load = Some(Load::start(door.clone(), book.clone()));
        tell.say(format_args!(
            "load         {CONNECTIONS} kept connections of HTTP/2 over TLS, {} requests a second of {} users",
            thousands(RATE.into()),
            thousands(USERS.into())
        ));
        let visitor = Visitor { door, connection: None, answers: 0 };
        let (admin, promises, gateway) = (Admin(admin), vec![], process);
        Ok(Story {
            tell,
            tollgate,
            load,
            visitor,
            gateway,
            backends,
            conf,
            secrets,
            admin,
            book,
            phase,
            promises,
            folder,
            _ports: ports,
        })
    }

    pub(super) async fn all_serve(&mut self) -> Result<(), String> {
        self.tell.act("All three serve");
        tokio::time::sleep(Duration::from_secs(4)).await;
        let counts = self.turn("the front door").await?;
        self.tell.say(format_args!("shares of the answers: {}", shares(&counts)));
        let even = BACKENDS[..SHOP].iter().all(|name| (28.0..=39.0).contains(&counts.percent(name)));
        self.promise(even, "each of three equal backends answers a third");
        Ok(())
    }
}

/// Starts a backend at its address.
pub(super) fn start_backend(conf: &Conf, n: usize) -> Result<Process, String> {
    let address = conf.servers[n].to_string();
    Process::part(&["backend", BACKENDS[n], &address], Stdio::null(), Stdio::inherit())
}

/// Waits until a backend answers.
pub(super) async fn is_well(conf: &Conf, n: usize) -> Result<(), String> {
    let well = async || client::once(conf.servers[n], "GET", "/health").await.is_ok().then_some(());
    until(&format!("backend {} to answer on {}", BACKENDS[n], conf.servers[n]), LIMIT, well).await
}
