//! The configuration that the demo serves and pushes, written as an operator would write it.

use std::net::SocketAddr;

use crate::payment::FEE_PERCENT;

/// The names of the backends, in the order of their servers.
pub const BACKENDS: [&str; 5] = ["b1", "b2", "b3", "c1", "c2"];
/// The number of backends, from the first one, that serve the shop.
pub const SHOP: usize = 3;
/// The backend of the shop's second version.
pub const C1: usize = 3;
/// The backend of the shop's third version.
pub const C2: usize = 4;

/// Requests a second that an app may send under `/partners`.
pub const PARTNER_RATE: u32 = 20;
/// Requests of these that may come at once.
pub const PARTNER_BURST: u32 = 10;

/// The release in the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Releases {
    /// Nothing.
    #[default]
    None,
    /// The second version, from the shop's backends.
    V2,
    /// The third version, from the second one.
    V3,
}

/// The variable parts of the demo's configuration.
#[derive(Clone)]
pub struct Conf {
    /// The gateway's listener.
    pub gateway: SocketAddr,
    /// Its admin listener.
    pub admin: SocketAddr,
    /// The ledger's listener.
    pub ledger: SocketAddr,
    /// The merchant that receives events of payments.
    pub merchant: SocketAddr,
    /// The backends.
    pub servers: [SocketAddr; BACKENDS.len()],
    /// The weights of the shop's backends.
    pub weights: [u32; SHOP],
    /// Routes besides those of the load, each with a path of its own.
    pub routes: Vec<String>,
    /// Whether a key is misspelt.
    pub typo: bool,
    /// The release, if any.
    pub releases: Releases,
}

impl Conf {
    /// The text of the file.
    pub fn text(&self) -> String {
        self.serving() + &self.front_door() + &self.books()
    }

    /// The part of the file with listeners, upstreams and routes.
    pub fn serving(&self) -> String {
        format!(
            r#"[[listener]]
address = "{gateway}"
tls = {{ certificates = [{{ cert = "secrets/gateway.crt", key = "secrets/gateway.key" }}] }}

[admin]
address = "{admin}"

[log]
access = "./access.log"
{upstreams}
[route.orders]
paths = ["/orders/*"]
upstream = "{main}"

[route.users]
paths = ["/users/*"]
upstream = "{main}"
add_prefix = "/internal"

[route.basket]
paths = ["/basket/*"]
upstream = "{main}"
response_headers = {{ remove = ["server"] }}
{routes}{release}"#,
            gateway = self.gateway,
            admin = self.admin,
            upstreams = self.upstreams(),
            main = self.main(),
            routes = self.more_routes(),
            release = self.release(),
        )
    }

    /// The part of the file with callers and their limits.
    pub fn front_door(&self) -> String {
        format!(
            r#"
[route.partners]
paths = ["/partners/*"]
upstream = "{main}"
auth = ["keys"]

[auth.keys]
kind = "api_key"

[app.acme]
keys = [{{ id = "k1", secret_file = "secrets/acme.key" }}]
limits = ["partner"]

[app.globex]
status = "suspended"
keys = [{{ id = "k1", secret_file = "secrets/globex.key" }}]

[limit.partner]
key = ["app"]
rate = "{PARTNER_RATE}/s"
burst = {PARTNER_BURST}
"#,
            main = self.main(),
        )
    }

    /// The part of the file with the ledger.
    pub fn books(&self) -> String {
        format!(
            r#"
[route.pay]
paths = ["/pay/*"]
strip_prefix = "/pay"
ledger = true

[ledger]
address = "{ledger}"
embedded = false
encryption_key_files = ["secrets/ledger.key"]
token_file = "secrets/ledger.token"
delivery_backoff = ["200ms", "500ms", "1s", "2s", "5s"]

[ledger.channel.card]
provider = "stripe"
merchant = "shop"
fee = {{ percent = {FEE_PERCENT} }}
secret_files = ["secrets/card.whsec"]

[ledger.channel.transfer]
provider = "standardwebhooks"
merchant = "shop"
secret_files = ["secrets/transfer.whsec"]

[ledger.channel.wallet]
provider = "hmac"
merchant = "shop"
header = "x-signature"
secret_files = ["secrets/wallet.key"]

[ledger.merchant.shop]
url = "http://{merchant}/payments"
secret_file = "secrets/shop.whsec"
allow_private = true
"#,
            ledger = self.ledger,
            merchant = self.merchant,
        )
    }

    /// The upstream of the routes.
    fn main(&self) -> &'static str {
        if self.releases == Releases::V3 { "v2" } else { "shop" }
    }

    fn upstreams(&self) -> String {
        match self.releases {
            Releases::None => self.shop(),
            Releases::V2 => self.shop() + &self.version("v2", C1),
            Releases::V3 => self.version("v2", C1) + &self.version("v3", C2),
        }
    }

    fn shop(&self) -> String {
        let address = if self.typo { "adress" } else { "address" };
        let servers: String = (self.servers.iter().zip(self.weights).enumerate())
            .map(|(n, (server, weight))| {
                let key = if n == 1 { address } else { "address" };
                format!("  {{ {key} = \"{server}\", weight = {weight} }},  # {}\n", BACKENDS[n])
            })
            .collect();
        upstream("shop", &format!("[\n{servers}]"))
    }

    fn version(&self, name: &str, backend: usize) -> String {
        upstream(name, &format!("[\"{}\"]  # {}", self.servers[backend], BACKENDS[backend]))
    }

    fn more_routes(&self) -> String {
        let route =
            |name: &String| format!("\n[route.{name}]\npaths = [\"/{name}/*\"]\nupstream = \"{}\"\n", self.main());
        self.routes.iter().map(route).collect()
    }

    /// The part of the file with the release; empty if there is none.
    pub fn release(&self) -> String {
        let (name, steps) = match self.releases {
            Releases::None => return String::new(),
            Releases::V2 => ("v2", [(5, "1s"), (25, "1s"), (100, "1s")].as_slice()),
            Releases::V3 => ("v3", [(10, "1m"), (100, "1m")].as_slice()),
        };
        let step = |(percent, hold): &(u32, &str)| format!("{{ percent = {percent}, hold = \"{hold}\" }}");
        let steps: Vec<String> = steps.iter().map(step).collect();
        format!(
            r#"
[release.{name}]
routes = ["orders", "users", "basket"]
canary = "{name}"
user = ["header:x-user-id"]
steps = [{}]
judge = {{ min_users = 10 }}
"#,
            steps.join(", ")
        )
    }
}

fn upstream(name: &str, servers: &str) -> String {
    format!(
        r#"
[upstream.{name}]
servers = {servers}
health = {{ path = "/health", interval = "200ms" }}
outlier = {{ consecutive_failures = 5, eject_for = "1s" }}
timeout = {{ connect = "1s", first_byte = "3s" }}
retry = {{ attempts = 3, on = ["connect", "reset", "timeout", 503] }}
"#
    )
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::payment::Secrets;
    use base::finding::Finding;
    use config::{self, model};

    fn load(conf: &Conf, secrets: &Secrets) -> Result<model::Config, Vec<Finding>> {
        let folder = tempfile::tempdir().unwrap();
        secrets.write(folder.path()).unwrap();
        let file = folder.path().join("gateway.toml");
        std::fs::write(&file, conf.text()).unwrap();
        config::load(&file).map(|loaded| loaded.config)
    }

    fn conf() -> Conf {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Conf {
            gateway: address(8080),
            admin: address(9900),
            ledger: address(9700),
            merchant: address(9100),
            servers: [9001, 9002, 9003, 9004, 9005].map(address),
            weights: [2, 1, 1],
            routes: vec!["offers".into(), "push-1".into()],
            typo: false,
            releases: Releases::None,
        }
    }

    /// The file's meaning, with these secrets.
    pub fn loaded(secrets: &Secrets) -> model::Config {
        load(&conf(), secrets).unwrap()
    }

    #[test]
    fn it_loads_and_a_typo_is_found() {
        let (mut conf, secrets) = (conf(), Secrets::draw().unwrap());
        for releases in [Releases::None, Releases::V2, Releases::V3] {
            conf.releases = releases;
            assert_eq!(load(&conf, &secrets).err(), None, "{releases:?}");
        }
        (conf.typo, conf.releases) = (true, Releases::None);
        assert!(load(&conf, &secrets).is_err());
    }
}
