//! The configuration that the demo serves and pushes, as an operator would write it.

use std::net::SocketAddr;

/// The names of the backends, in the order of their servers.
pub const BACKENDS: [&str; 3] = ["b1", "b2", "b3"];

/// What a configuration of the demo may differ in.
#[derive(Clone)]
pub struct Conf {
    /// The gateway's listener.
    pub gateway: SocketAddr,
    /// Its admin listener.
    pub admin: SocketAddr,
    /// The backends.
    pub servers: [SocketAddr; 3],
    /// Their weights.
    pub weights: [u32; 3],
    /// Routes beside those of the load, each a path of its own.
    pub routes: Vec<String>,
    /// Whether a key is misspelt.
    pub typo: bool,
}

impl Conf {
    /// The text of the file.
    pub fn text(&self) -> String {
        let address = if self.typo { "adress" } else { "address" };
        let servers: String = (self.servers.iter().zip(self.weights).enumerate())
            .map(|(n, (server, weight))| {
                let key = if n == 1 { address } else { "address" };
                format!("  {{ {key} = \"{server}\", weight = {weight} }},  # {}\n", BACKENDS[n])
            })
            .collect();
        let routes: String = (self.routes.iter())
            .map(|name| format!("\n[route.{name}]\npaths = [\"/{name}/*\"]\nupstream = \"shop\"\n"))
            .collect();
        format!(
            r#"[[listener]]
address = "{gateway}"

[admin]
address = "{admin}"

[log]
access = "./access.log"

[upstream.shop]
servers = [
{servers}]
health = {{ path = "/health", interval = "200ms" }}
outlier = {{ consecutive_failures = 5, eject_for = "1s" }}
timeout = {{ connect = "1s", first_byte = "3s" }}
retry = {{ attempts = 3, on = ["connect", "reset", "timeout", 503] }}

[route.orders]
paths = ["/orders/*"]
upstream = "shop"

[route.users]
paths = ["/users/*"]
upstream = "shop"
add_prefix = "/internal"

[route.basket]
paths = ["/basket/*"]
upstream = "shop"
response_headers = {{ remove = ["server"] }}
{routes}"#,
            gateway = self.gateway,
            admin = self.admin,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(conf: &Conf) -> usize {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gateway.toml");
        std::fs::write(&file, conf.text()).unwrap();
        crate::config::load(&file).map_or_else(|findings| findings.len(), |_| 0)
    }

    #[test]
    fn it_loads_and_a_typo_is_found() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let mut conf = Conf {
            gateway: address(8080),
            admin: address(9900),
            servers: [address(9001), address(9002), address(9003)],
            weights: [2, 1, 1],
            routes: vec!["offers".into(), "push-1".into()],
            typo: false,
        };
        assert_eq!(findings(&conf), 0);
        conf.typo = true;
        assert!(findings(&conf) > 0);
    }
}
