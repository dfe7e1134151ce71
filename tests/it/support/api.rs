//! The providers' APIs as a stand-in plays them, which verifies requests by the providers' own libraries.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::client::{Connection, get, post};
use super::python::environment;

/// The stand-in, until it is dropped.
pub struct Apis {
    child: Child,
    pub port: u16,
    /// Our private key, as base64 of PKCS#1 and as PEM of PKCS#8.
    pub bare: String,
    pub pem: String,
    /// Its public key.
    pub public: String,
}

impl Apis {
    pub fn start() -> Apis {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/signers/provider.py");
        let mut command = Command::new(environment("signers"));
        let mut child = command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let hello: Value = serde_json::from_str(&line).expect("the stand-in's first line");
        let text = |name: &str| hello[name].as_str().unwrap().to_owned();
        let port = hello["port"].as_u64().unwrap() as u16;
        Apis { port, bare: text("bare"), pem: text("pem"), public: text("public"), child }
    }

    /// Tells it what to do.
    pub fn told(&self, what: &Value) {
        let answer = Connection::to(self.port).unwrap().ask(&post("/_control", what.to_string())).unwrap();
        assert_eq!(answer.status, 200);
    }

    /// How it takes a call, such as `alipay.create`, from now on.
    pub fn mode(&self, call: &str, mode: &str) {
        self.told(&json!({"mode": {call: mode}}));
    }

    fn log(&self) -> Value {
        Connection::to(self.port).unwrap().ask(&get("/_log")).unwrap().json()
    }

    /// How often it got a call about an order or a refund.
    pub fn count(&self, call: &str, about: &str) -> usize {
        let log = self.log();
        let calls = log["calls"].as_array().unwrap().iter();
        calls.filter(|one| one["name"] == call && one["about"] == about).count()
    }

    /// Fails if a request was not as the provider's library makes it.
    #[track_caller]
    pub fn all_genuine(&self) {
        assert_eq!(self.log()["wrong"], json!([]));
    }
}

impl Drop for Apis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
